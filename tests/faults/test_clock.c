/* test_clock.c - the wall clock is set while a service runs: by a clock of the test's, and for a
 * process of its own by libfaketime.
 *
 * T14 of the fault programme.  What is due goes by the wall clock, and nothing else does:
 * time-outs, stuck handlers and waits are measured by the other one, which nobody sets.
 *
 * Figures: how often the clock was set, the seconds in which a service was left alone with it, and
 * the processor's time it took then (5 % are allowed). */
#include "../harness/harness.h"

#include "service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define THEN_MS INT64_C(1900000000000)
#define HOUR_MS INT64_C(3600000)
#define YEAR_MS INT64_C(31557600000)

static struct fake_clock fake;
static struct harness_log logged;
static struct bgmq *mq;

static void ok(int err)
{
    ck_assert_msg(err >= 0, "%s", bgmq_errname(err));
}

/* DURABLE: with a database. */
static void open_service(int durable, const struct clock *clock)
{
    struct bgmq_error error = {""};
    harness_log_init(&logged);
    struct bgmq_options o = {.database = durable ? harness_path("clock.db") : NULL,
                             .log = harness_log_keep,
                             .log_ctx = &logged};
    int err = bgmqi_service_open(&mq, &o, clock, &error);
    ck_assert_msg(err == 0, "%s", error.text);
    ok(bgmq_start(mq));
}

static void close_service(void)
{
    ok(bgmq_close(mq));
    bgmq_free(mq);
    harness_log_fini(&logged);
}

static struct clock counting;
static _Atomic long looks;

static int64_t count_wall(void *ctx)
{
    atomic_fetch_add(&looks, 1);
    return fake.clock.wall_ms(fake.clock.ctx);
}

/* The service has looked at the clock again and again. */
static void let_it_turn(void)
{
    long before = atomic_load(&looks);
    bgmqi_service_poke(mq);
    WAIT_UNTIL(atomic_load(&looks) >= before + 3);
}

/* ---- handlers ----------------------------------------------------------------------- */

static long jumps; /* so often the clock was set */

static struct counter runs;
static char order[256]; /* bodies, as they ran */
static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;

static int note(struct bgmq_job *job, void *ctx)
{
    pthread_mutex_lock(&order_lock);
    strncat(order, bgmq_job_body(job, NULL), sizeof(order) - strlen(order) - 1);
    pthread_mutex_unlock(&order_lock);
    counter_add(&runs, 1);
    return BGMQ_DONE;
}

static int nothing(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

static void begin(int durable, int64_t wall_ms)
{
    fake_clock_init(&fake, wall_ms);
    counter_init(&runs);
    order[0] = '\0';
    open_service(durable, &fake.clock);
    ok(bgmq_register(mq, "T", note, NULL, NULL));
    ok(bgmq_register(mq, "Look", nothing, NULL, NULL));
}

static void end(void)
{
    harness_figure("jumps", jumps);
    close_service();
    counter_fini(&runs);
    fake_clock_fini(&fake);
}

static void publish(const char *body, struct bgmq_message_options o)
{
    ok(bgmq_publish(mq, "T", body, strlen(body), &o, NULL));
}

static void jump(int64_t ms)
{
    fake_clock_set_wall(&fake, ms);
    jumps++;
}

/* Somebody sets the clock, and the service looks at it at once, not just within a second. */
static void set_wall(int64_t ms)
{
    jump(ms);
    bgmqi_service_poke(mq);
}

static uint64_t processed(const char *type)
{
    struct bgmq_stats s;
    ok(bgmq_type_stats(mq, type, &s));
    return s.processed;
}

/* When it returns, the service has looked at the present time: a message that is due now, and came
 * after all others, has been handled. */
static void let_it_look(void)
{
    uint64_t n = processed("Look");
    ok(bgmq_publish(mq, "Look", "", 0, &(struct bgmq_message_options){.delay_ms = 1},
                    NULL));
    fake_clock_advance(&fake, 1);
    bgmqi_service_poke(mq);
    WAIT_UNTIL(processed("Look") > n);
}

static struct bgmq_collection collection(void)
{
    struct bgmq_collection c;
    ok(bgmq_type_collection(mq, "T", &c));
    return c;
}

static void expect_ran(const char *bodies)
{
    pthread_mutex_lock(&order_lock);
    ck_assert_str_eq(order, bodies);
    pthread_mutex_unlock(&order_lock);
}

/* ---- due times ---------------------------------------------------------------------- */

static const int64_t places[] = {
    THEN_MS + HOUR_MS,
    THEN_MS - HOUR_MS,
    THEN_MS + 10 * YEAR_MS,
    THEN_MS - 10 * YEAR_MS,
    0,
    -86400000,
    INT64_C(2147483647000),
    INT64_C(2147483648000),
    INT64_C(1) << 62,
    THEN_MS,
};
enum { PLACES = sizeof(places) / sizeof(*places) };

/* P7.  It runs when the clock says so, wherever that stands; and says so in the log. */
START_TEST(wherever_the_clock_is_set_delays_go_by_it)
{
    int64_t place_ms = places[_i % PLACES];
    begin(_i >= PLACES, THEN_MS);
    let_it_look();
    let_it_look(); /* it looks for jumps at the end of a turn: that of the first is over */
    set_wall(place_ms);
    let_it_look();
    int64_t now_ms = fake_clock_wall(&fake);
    publish("b", (struct bgmq_message_options){.delay_ms = 2000});
    publish("a", (struct bgmq_message_options){.delay_ms = 1000});
    set_wall(now_ms + 998);
    let_it_look();
    expect_ran("");
    set_wall(now_ms + 1000);
    counter_wait(&runs, 1);
    let_it_look();
    expect_ran("a");
    set_wall(now_ms + 2000);
    counter_wait(&runs, 2);
    expect_ran("ab");
    ck_assert_int_eq(harness_log_has(&logged, "the wall clock jumped by"),
                     place_ms != THEN_MS);
    end();
}
END_TEST

/* P7.  A clock that goes back and forth makes due what it passes, once. */
START_TEST(back_and_forth_runs_nothing_early_and_nothing_twice)
{
    begin(_i, THEN_MS);
    publish("d", (struct bgmq_message_options){.run_at_ms = THEN_MS + 20 * YEAR_MS});
    publish("c", (struct bgmq_message_options){.run_at_ms = THEN_MS + 10 * YEAR_MS});
    publish("b", (struct bgmq_message_options){.run_at_ms = THEN_MS + 2 * HOUR_MS});
    publish("a", (struct bgmq_message_options){.run_at_ms = THEN_MS + HOUR_MS / 2});
    jump(THEN_MS - 10 * YEAR_MS);
    let_it_look();
    expect_ran("");
    jump(THEN_MS + HOUR_MS);
    let_it_look();
    counter_wait(&runs, 1);
    let_it_look();
    expect_ran("a");
    for (int i = 0; i < 5; i++) {
        jump(i % 2 ? THEN_MS + HOUR_MS : THEN_MS - YEAR_MS);
        let_it_look();
    }
    expect_ran("a");
    jump(THEN_MS + 11 * YEAR_MS);
    let_it_look();
    counter_wait(&runs, 3);
    let_it_look();
    expect_ran("abc");
    ck_assert_uint_eq(collection().delayed, 1);
    jump(INT64_C(1) << 62);
    let_it_look();
    counter_wait(&runs, 4);
    let_it_look();
    expect_ran("abcd");
    end();
}
END_TEST

/* ---- expiry ------------------------------------------------------------------------- */

static void begin_counting(int durable, int64_t wall_ms)
{
    fake_clock_init(&fake, wall_ms);
    counting = fake.clock;
    counting.wall_ms = count_wall;
    counter_init(&runs);
    order[0] = '\0';
    open_service(durable, &counting);
}

/* P7.  At 0, 1970-01-01 00:00:00.000, those that say when they expire do, and nobody else. */
START_TEST(at_the_first_moment_of_1970_only_what_says_so_expires)
{
    begin_counting(_i, -1000);
    ok(bgmq_register(mq, "T", note, NULL, NULL));
    ok(bgmq_pause(mq, "T"));
    publish("stays", (struct bgmq_message_options){.priority = 0});
    publish("goes", (struct bgmq_message_options){.expire_ms = 500});
    publish("later", (struct bgmq_message_options){.delay_ms = 60000});
    for (int64_t ms = 0; ms <= 1; ms++) {
        set_wall(ms);
        let_it_turn();
    }
    WAIT_UNTIL(collection().dlq == 1);
    ck_assert_uint_eq(collection().expired, 1);
    ck_assert_uint_eq(collection().inq, 1);
    ck_assert_uint_eq(collection().delayed, 1);
    ok(bgmq_resume(mq, "T"));
    counter_wait(&runs, 1);
    expect_ran("stays");
    end();
}
END_TEST

/* P7.  With more than memory holds, what was published before 1970 comes back whole. */
START_TEST(what_expires_before_1970_is_not_damaged_in_the_database)
{
    enum { MANY = 40 };
    begin_counting(1, -86400000);
    ok(bgmq_register(mq, "T", note, NULL, &(struct bgmq_type_options){.window = 2}));
    ok(bgmq_pause(mq, "T"));
    for (int i = 0; i < MANY; i++)
        publish("x", (struct bgmq_message_options){.expire_ms = 3600000});
    ok(bgmq_resume(mq, "T"));
    counter_wait(&runs, MANY);
    ck_assert_uint_eq(collection().dlq, 0);
    end();
}
END_TEST

/* ---- what does not go by the wall clock ------------------------------------------------ */

static struct gate hold, held;

static int wait_inside(struct bgmq_job *job, void *ctx)
{
    gate_open(&held);
    gate_wait(&hold);
    counter_set(ctx, bgmq_job_cancelled(job));
    return BGMQ_DONE;
}

/* P7, P8.  A time-out is neither brought near nor put off, however the clock is set. */
START_TEST(time_outs_do_not_care_about_the_wall_clock)
{
    struct counter cancelled;
    struct bgmq_run run;
    counter_init(&cancelled);
    begin(_i, THEN_MS);
    gate_init(&hold);
    gate_init(&held);
    ok(bgmq_register(
        mq, "Slow", wait_inside, &cancelled,
        &(struct bgmq_type_options){.timeout_ms = 60000, .stuck_ms = 3600000}));
    ok(bgmq_publish(mq, "Slow", "", 0, NULL, NULL));
    gate_wait(&held);
    for (int i = 0; i < PLACES; i++) {
        set_wall(places[i]);
        let_it_look();
        ck_assert_int_eq(bgmq_runs(mq, &run, 1), 1);
        ck_assert_int_eq(run.cancelled, 0);
        ck_assert_int_lt(run.running_ms, 1000);
    }
    fake_clock_set_mono(&fake, fake_clock_mono(&fake) + INT64_C(61000000000));
    let_it_look();
    WAIT_UNTIL(bgmq_runs(mq, &run, 1) == 1 && run.cancelled);
    ck_assert_int_ge(run.running_ms, 60000);
    gate_open(&hold);
    WAIT_UNTIL(processed("Slow") == 1);
    ck_assert_int_eq(counter_value(&cancelled), 1);
    gate_fini(&hold);
    gate_fini(&held);
    counter_fini(&cancelled);
    end();
}
END_TEST

/* ---- no busy loop ------------------------------------------------------------------- */

static double cpu_of(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Of all threads but the one that waits. */
static double cpu_seconds(void)
{
    return cpu_of(RUSAGE_SELF) - cpu_of(RUSAGE_THREAD);
}

/* The service is left alone for that long: what it does then is what is measured. */
static double cpu_of_rest(int seconds)
{
    double before = cpu_seconds();
    int64_t until = harness_now() + seconds * INT64_C(1000000000);
    WAIT_UNTIL(harness_now() >= until);
    double used = cpu_seconds() - before;
    harness_figure("rest_s", seconds);
    harness_figure("cpu_us", (long long)(used * 1e6 / harness_scale()));
    return used;
}

/* P7.  Wherever the clock stands, a service with delayed messages looks at it a few times a second
 * and no more. */
START_TEST(a_clock_that_was_set_makes_nobody_busy)
{
    begin_counting(1, THEN_MS);
    ok(bgmq_register(mq, "T", note, NULL, NULL));
    ok(bgmq_register(mq, "Look", nothing, NULL, NULL));
    publish("a", (struct bgmq_message_options){.delay_ms = HOUR_MS});
    publish("b", (struct bgmq_message_options){.delay_ms = 30 * YEAR_MS,
                                               .expire_ms = 40 * YEAR_MS});
    jump(_i < PLACES ? places[_i] : INT64_MAX / 2);
    let_it_look();
    atomic_store(&looks, 0);
    double used = cpu_of_rest(1);
    long n = atomic_load(&looks);
    ck_assert_msg(n < 50, "%ld looks at the clock in a second", n);
    ck_assert_msg(used < 0.05 * harness_scale(), "%.3f s of processor in a second", used);
    end();
}
END_TEST

/* ---- a process whose clock is libfaketime's -------------------------------------------- */

#define FAKETIME "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

/* What the child does: the file says by how much its wall clock is ahead. */

static const char *shift_file;

static void shift(const char *by)
{
    harness_write_file(shift_file, by, strlen(by));
    jumps++;
}

static int64_t ran_ns;
static struct counter ran, slow_cancelled;

static int note_time(struct bgmq_job *job, void *ctx)
{
    ran_ns = harness_now();
    counter_add(&ran, 1);
    return BGMQ_DONE;
}

static int linger(struct bgmq_job *job, void *ctx)
{
    gate_open(&held);
    gate_wait(&hold);
    counter_set(&slow_cancelled, 1 + bgmq_job_cancelled(job));
    return BGMQ_DONE;
}

static void publish_in(int64_t ms)
{
    ok(bgmq_publish(mq, "T", "x", 1, &(struct bgmq_message_options){.delay_ms = ms},
                    NULL));
}

/* P7, P8: to the service a suspend is such a leap. */
START_TEST(the_clock_of_a_process_leaps)
{
    shift_file = getenv("FAKETIME_TIMESTAMP_FILE");
    if (!shift_file)
        HARNESS_SKIP("runs in a process of the next test");
    counter_init(&ran);
    counter_init(&slow_cancelled);
    gate_init(&hold);
    gate_init(&held);
    open_service(1, &bgmqi_clock_system);
    ok(bgmq_register(mq, "T", note_time, NULL, NULL));
    ok(bgmq_register(mq, "Slow", linger, NULL,
                     &(struct bgmq_type_options){.timeout_ms = 600000}));
    ok(bgmq_publish(mq, "Slow", "", 0, NULL, NULL));
    gate_wait(&held);

    publish_in(HOUR_MS);
    publish_in(9 * YEAR_MS);
    int64_t leapt_ns = harness_now();
    shift("+3700"); /* seconds */
    counter_wait(&ran, 1);
    ck_assert_msg(ran_ns - leapt_ns < INT64_C(1500000000), "%lld ms after the leap",
                  (long long)((ran_ns - leapt_ns) / 1000000));
    shift("-3700");
    publish_in(HOUR_MS / 2);
    double used = cpu_of_rest(2);
    ck_assert_msg(used < 0.1, "%.3f s of processor in two seconds", used);
    ck_assert_int_eq(counter_value(&ran), 1);
    leapt_ns = harness_now();
    shift("+315576000"); /* ten years */
    counter_wait(&ran, 3);
    ck_assert_int_lt(ran_ns - leapt_ns, INT64_C(1500000000));
    shift("-315576000");
    WAIT_UNTIL(harness_log_has(&logged, "the wall clock jumped by -6311"));
    ck_assert(harness_log_has(&logged, "the wall clock jumped by +3"));
    /* The attempt that has run all the while has 600 seconds still. */
    struct bgmq_run run;
    ck_assert_int_eq(bgmq_runs(mq, &run, 1), 1);
    ck_assert_int_eq(run.cancelled, 0);
    ck_assert_int_lt(run.running_ms, 60000);
    gate_open(&hold);
    counter_wait(&slow_cancelled, 1);
    ck_assert_int_eq(counter_value(&slow_cancelled), 1);
    WAIT_UNTIL(processed("Slow") == 1);
    harness_figure("jumps", jumps);
    close_service();
}
END_TEST

static void become_child(const char *file)
{
    char path[512];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    ck_assert_int_gt(len, 0);
    path[len] = '\0';
    setenv("LD_PRELOAD", FAKETIME, 1);
    setenv("FAKETIME_TIMESTAMP_FILE", file, 1);
    setenv("FAKETIME_NO_CACHE", "1", 1);
    setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    setenv("FAKETIME_FORCE_MONOTONIC_FIX", "0",
           1); /* of a libc that is older than ours */
    setenv("CK_RUN_CASE", "faketime", 1);
    setenv("CK_TAP_LOG_FILE_NAME", harness_path("child.tap"), 1);
    execl(path, path, (char *)NULL);
    _exit(127);
}

/* P7, P8. */
START_TEST(a_real_service_bears_a_clock_that_leaps)
{
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the sanitizer has to be the first library");
    if (access(FAKETIME, R_OK) != 0)
        HARNESS_SKIP("libfaketime is not installed");
    const char *file = harness_path("shift");
    harness_write_file(file, "+0", 2);
    pid_t pid = fork();
    if (pid == 0)
        become_child(file);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    char *tap;
    harness_read_file(harness_path("child.tap"), &tap);
    ck_assert_msg(status == 0, "status %d: %s", status, tap);
    ck_assert_msg(strstr(tap, "ok 1 - ") && !strstr(tap, "SKIP") &&
                      !strstr(tap, "not ok"),
                  "%s", tap);
    free(tap);
}
END_TEST

/* ---- */

static Suite *suite(void)
{
    Suite *s = suite_create("clock");
    TCase *set = harness_case(s, "set");
    tcase_add_loop_test(set, wherever_the_clock_is_set_delays_go_by_it, 0, 2 * PLACES);
    tcase_add_loop_test(set, back_and_forth_runs_nothing_early_and_nothing_twice, 0, 2);
    tcase_add_loop_test(set, at_the_first_moment_of_1970_only_what_says_so_expires, 0, 2);
    tcase_add_test(set, what_expires_before_1970_is_not_damaged_in_the_database);
    tcase_add_loop_test(set, time_outs_do_not_care_about_the_wall_clock, 0, 2);
    TCase *busy = harness_case(s, "busy");
    tcase_add_loop_test(busy, a_clock_that_was_set_makes_nobody_busy,
                        harness_full() ? 0 : PLACES - 2, PLACES + 1);
    TCase *leaps = tcase_create("faketime");
    tcase_set_timeout(leaps, 60);
    tcase_add_test(leaps, the_clock_of_a_process_leaps);
    suite_add_tcase(s, leaps);
    TCase *process = tcase_create("process");
    tcase_set_timeout(process, 90);
    tcase_add_test(process, a_real_service_bears_a_clock_that_leaps);
    suite_add_tcase(s, process);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
