/* test_simulate.c - the deterministic simulator: a seed is one world, in which a service is opened,
 * used, killed and opened again while its disk fails, its clock is set and its wakes are lost;
 * then the weather turns calm, and everything that was accepted has to end.
 *
 * T3 of the fault programme.  BGMQ_SEED runs one seed (BGMQ_SEEDS: so many from there on), and
 * BGMQ_TRACE tells what happens in it. */
#include "life.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { QUICK_SEEDS = 2500, CHECKED_SEEDS = 500, FULL_SEEDS = 20000, SECONDS_A_SEED = 30 };
#define FULL_STEPS UINT64_C(20000000)

/* ---- what goes wrong ---------------------------------------------------------------- */

static unsigned seldom(unsigned one_in)
{
    return sim_chance(1, 3) ? one_in : 0;
}

static void bad_weather(void)
{
    static const unsigned yields[] = {0, 200, 50, 10, 4};
    sim_weather.yield_in = yields[sim_below(5)];
    sim_weather.lose_wake_in = seldom(50);
    sim_weather.spurious_in = seldom(40);
    disk_faults = (struct disk_faults){.busy_in = seldom(20),
                                       .full_in = seldom(40),
                                       .refuse_in = seldom(200),
                                       .dead_in = seldom(150),
                                       .slow_in = seldom(30),
                                       .read_in = seldom(60),
                                       .ids_in = seldom(40),
                                       .open_in = seldom(12),
                                       .gone_in = seldom(400)};
}

static void good_weather(void)
{
    sim_weather = (struct sim_weather){.yield_in = sim_weather.yield_in};
    disk_faults = (struct disk_faults){0};
    disk_busy_until_ns = 0;
}

/* ---- lives -------------------------------------------------------------------------- */

static struct life lives[SIM_PROCESSES];

static void kill_life(struct life *l)
{
    sim_say("process %u is killed", l->process);
    sim_kill(l->process);
    notes_life.died = true;
    disk_disown(l->process);
    if (!l->plan.durable)
        notes_next_life();
    l->over = l->killed = true;
}

static void begin_life(struct plan plan, unsigned process)
{
    plan.clients = 1 + sim_below(3);
    plan.operations = 10 + sim_below(60);
    plan.closes = sim_chance(1, 2);
    life_begin(&lives[process], process, &plan);
}

/* Runs L until it is over, or for STEPS: then it is killed.  Meanwhile (STANDBY) or afterwards
 * another process begins the next life. */
static void run_life(struct life *l, uint64_t steps, bool standby,
                     const struct plan *next)
{
    uint64_t last = steps < UINT64_MAX ? sim_steps + steps : UINT64_MAX;
    bool begun = next == NULL;
    while (!l->over && sim_step()) {
        if (standby && l->opened && !begun) {
            begin_life(*next, !l->process);
            begun = true;
        }
        if (sim_steps >= last && !l->over)
            kill_life(l);
    }
    if (!l->killed)
        sim_expect_clean(l->process);
    if (!l->plan.durable && !l->killed)
        notes_next_life();
    if (!begun)
        begin_life(*next, !l->process);
}

/* What is due in ten years is due now. */
static void wait_for_all(void)
{
    int64_t latest = sim_wall_ms();
    for (unsigned i = 0; i < notes_n; i++)
        if (!notes[i].gone && notes[i].due_ms > latest)
            latest = notes[i].due_ms;
    for (size_t i = 0; i < disk.n_rows; i++)
        if (disk.rows[i].lane == LANE_DELAYED && disk.rows[i].key > latest)
            latest = disk.rows[i].key;
    notes_jump();
    sim_set_wall(latest);
}

static void run_seed(uint64_t seed)
{
    sim_begin(seed);
    disk_format();
    notes_reset();
    struct plan plan = {
        .durable = sim_chance(5, 6),
        .notes_max = NOTES,
        .threads = 1 + sim_below(3),
        .window = 2 + sim_below(15),
        .interval_ms = 1 + sim_below(40),
        .jumps_in = seldom(25),
    };
    plan.standby_ms = plan.durable ? 1000000000 : 0;
    unsigned n = 1 + sim_below(3), process = 0;
    bad_weather();
    begin_life(plan, process);
    for (; n; n--, process = !process) {
        struct life *l = &lives[process];
        run_life(l, l->plan.closes ? UINT64_MAX : 50 + sim_below(900),
                 plan.durable && sim_chance(1, 3), n > 1 ? &plan : NULL);
    }
    good_weather();
    wait_for_all();
    plan.calm = plan.closes = true;
    plan.jumps_in = plan.notes_max = 0;
    life_begin(&lives[process], process, &plan);
    run_life(&lives[process], UINT64_MAX, false, NULL);
    sim_begin(seed);
}

/* ---- the test ----------------------------------------------------------------------- */

static uint64_t present;

/* What the library asserts, or touches, ends the program: say how to see it again. */
static void say_seed(int signal)
{
    char text[128];
    int len = snprintf(text, sizeof(text),
                       "# signal %d; replay: ./tests/faults/run simulate --seed %llu\n",
                       signal, (unsigned long long)present);
    if (write(STDOUT_FILENO, text, (size_t)len) < 0)
        _exit(2);
    raise(signal);
}

static void watch_signals(void)
{
    static const int all[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM};
    struct sigaction act = {.sa_handler = say_seed, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        sigaction(all[i], &act, NULL);
}

START_TEST(whatever_goes_wrong_what_was_accepted_ends_once)
{
    uint64_t chosen = harness_seed(0), seeds = 0;
    const char *some = getenv("BGMQ_SEEDS");
    uint64_t most = some                  ? strtoul(some, NULL, 10)
                    : getenv("BGMQ_SEED") ? 1
                    : harness_full()      ? FULL_SEEDS
                    : HARNESS_ASAN        ? CHECKED_SEEDS
                                          : QUICK_SEEDS;
    int64_t begun = harness_now();
    if (HARNESS_TSAN)
        HARNESS_SKIP("one thread: there is nothing to see");
    watch_signals();
    disk_left = notes_next_life;
    sim_memory_on();
    while (seeds < most ||
           (harness_full() && most == FULL_SEEDS && sim_steps < FULL_STEPS)) {
        present = chosen + seeds++;
        alarm(SECONDS_A_SEED * harness_scale());
        run_seed(present);
    }
    alarm(0);
    sim_memory_off();
    int64_t ms = (harness_now() - begun) / 1000000;
    harness_figure("seeds", (long long)seeds);
    harness_figure("steps", (long long)sim_steps);
    printf("# %lld steps a second\n", (long long)sim_steps * 1000 / (ms ? ms : 1));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("simulate");
    TCase *tc = tcase_create("simulate");
    tcase_add_test(tc, whatever_goes_wrong_what_was_accepted_ends_once);
    tcase_set_timeout(tc, 36000);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
