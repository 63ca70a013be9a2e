/* sim_world.c - fibers, time and chance (see sim.h).
 *
 * One thread.  The world's own context picks who goes on; a fiber runs until it waits or hands
 * over.  Time stands while somebody can run, but for some microseconds a slice, and else jumps to
 * when the first one is to be woken.  Variables that are each thread's own in the library are
 * swapped with the fibers. */
#include "sim.h"

#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if HARNESS_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum { FIBERS = 96, STACK = HARNESS_ASAN ? 512 * 1024 : 128 * 1024, LOCALS_MAX = 512 };

#define BEGIN_NS INT64_C(1000000000000)
#define BEGIN_MS INT64_C(1900000000000)

enum fiber_state { UNUSED, READY, WAITING, ENDED };

struct sim_fiber {
    enum fiber_state state;
    unsigned process;
    const void *object; /* waits for this */
    int64_t until_ns;
    void *(*fn)(void *);
    void *arg;
    ucontext_t context;
    char *stack; /* kept for the next one */
    void *fake;  /* AddressSanitizer's */
    char locals[LOCALS_MAX];
};

static struct sim_fiber fibers[FIBERS];
static struct sim_fiber *current;
static ucontext_t world;
static uint64_t seed, numbers, steps_begun;
static int64_t now_ns, wall_ahead_ms;
static int tracing;
uint64_t sim_steps;
struct sim_weather sim_weather;

/* ---- chance ------------------------------------------------------------------------- */

unsigned sim_below(unsigned n)
{
    numbers ^= numbers << 13;
    numbers ^= numbers >> 7;
    numbers ^= numbers << 17;
    return (unsigned)((numbers >> 20) % n);
}

uint64_t sim_seed(void)
{
    return seed;
}

void sim_say(const char *format, ...)
{
    va_list args;
    if (!tracing)
        return;
    printf("# %8llu %lld.%06lld %d/%-2d ", (unsigned long long)(sim_steps - steps_begun),
           (long long)((now_ns - BEGIN_NS) / SIM_MS), (long long)(now_ns % SIM_MS),
           current ? (int)current->process : -1, current ? (int)(current - fibers) : -1);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void sim_fail(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    sim_memory_off();
    ck_abort_msg(
        "seed %llu, step %llu: %s; replay: ./tests/faults/run simulate --seed %llu",
        (unsigned long long)seed, (unsigned long long)(sim_steps - steps_begun), text,
        (unsigned long long)seed);
    abort();
}

/* ---- time --------------------------------------------------------------------------- */

int64_t sim_mono_ns(void)
{
    return now_ns;
}

int64_t sim_wall_ms(void)
{
    return wall_ahead_ms + now_ns / SIM_MS;
}

void sim_set_wall(int64_t ms)
{
    wall_ahead_ms = ms - now_ns / SIM_MS;
}

/* ---- what each thread has for itself ------------------------------------------------- */

static char *locals; /* of the program; where this thread has them */
static size_t locals_size;
static char first_locals[LOCALS_MAX];

/* The program comes first, then its libraries. */
static int find_locals(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            locals = info->dlpi_tls_data;
            locals_size = info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

/* ---- fibers ------------------------------------------------------------------------- */

struct sim_fiber *sim_current(void)
{
    return current;
}

unsigned sim_process(void)
{
    return current->process;
}

/* From the world to F, and back when F hands over. */
static void go(struct sim_fiber *f)
{
    current = f;
    memcpy(locals, f->locals, locals_size);
#if HARNESS_ASAN
    void *fake;
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
#endif
    swapcontext(&world, &f->context);
#if HARNESS_ASAN
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    memcpy(f->locals, locals, locals_size);
    memcpy(locals, first_locals, locals_size);
    current = NULL;
}

#if HARNESS_ASAN
static const void *world_stack;
static size_t world_stack_size;
#endif

static void hand_over(void)
{
    struct sim_fiber *f = current;
#if HARNESS_ASAN
    __sanitizer_start_switch_fiber(f->state == ENDED ? NULL : &f->fake, world_stack,
                                   world_stack_size);
#endif
    swapcontext(&f->context, &world);
#if HARNESS_ASAN
    __sanitizer_finish_switch_fiber(f->fake, NULL, NULL);
#endif
}

static void life(void)
{
    struct sim_fiber *f = current;
#if HARNESS_ASAN
    __sanitizer_finish_switch_fiber(NULL, &world_stack, &world_stack_size);
#endif
    f->fn(f->arg);
    f->state = ENDED;
    sim_wake(f);
    hand_over();
}

/* Its context is to begin with life(), on a stack of its own. */
static void prepare(struct sim_fiber *f)
{
    if (!f->stack)
        f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED || getcontext(&f->context) != 0)
        sim_fail("no stack for a fiber");
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, life, 0);
}

struct sim_fiber *sim_start(unsigned process, void *(*fn)(void *), void *arg)
{
    struct sim_fiber *f = fibers;
    while (f < fibers + FIBERS && f->state != UNUSED)
        f++;
    if (f == fibers + FIBERS)
        return NULL;
    prepare(f);
    f->process = process;
    f->fn = fn;
    f->arg = arg;
    f->object = NULL;
    f->fake = NULL;
    f->state = READY;
    memcpy(f->locals, first_locals, locals_size);
    return f;
}

void sim_wait(const void *object, int64_t until_ns)
{
    current->object = object;
    current->until_ns = until_ns;
    current->state = WAITING;
    hand_over();
}

void sim_wake(const void *object)
{
    for (struct sim_fiber *f = fibers; f < fibers + FIBERS; f++)
        if (f->state == WAITING && f->object == object)
            f->state = READY;
}

void sim_yield(void)
{
    current->state = READY;
    hand_over();
}

void sim_maybe_yield(void)
{
    if (current && sim_weather.yield_in && sim_below(sim_weather.yield_in) == 0)
        sim_yield();
}

void sim_sleep(int64_t ms)
{
    for (int64_t until_ns = now_ns + ms * SIM_MS; now_ns < until_ns;)
        sim_wait(NULL, until_ns);
}

void sim_join(struct sim_fiber *f)
{
    while (f->state != ENDED)
        sim_wait(f, INT64_MAX);
    f->state = UNUSED;
}

/* Who can go on, one of them; NULL: nobody, and *NEXT_NS is when the first one is to be woken. */
static struct sim_fiber *pick(int64_t *next_ns)
{
    struct sim_fiber *can[FIBERS], *sleepers[FIBERS];
    unsigned n = 0, n_sleepers = 0;
    *next_ns = INT64_MAX;
    for (struct sim_fiber *f = fibers; f < fibers + FIBERS; f++) {
        if (f->state == READY || (f->state == WAITING && f->until_ns <= now_ns)) {
            can[n++] = f;
        } else if (f->state == WAITING) {
            sleepers[n_sleepers++] = f;
            if (f->until_ns < *next_ns)
                *next_ns = f->until_ns;
        }
    }
    if (n_sleepers && sim_weather.spurious_in && sim_below(sim_weather.spurious_in) == 0)
        return sleepers[sim_below(n_sleepers)];
    return n ? can[n > 1 ? sim_below(n) : 0] : NULL;
}

static bool anybody(void)
{
    for (struct sim_fiber *f = fibers; f < fibers + FIBERS; f++)
        if (f->state == READY || f->state == WAITING)
            return true;
    return false;
}

bool sim_step(void)
{
    int64_t next_ns;
    struct sim_fiber *f = pick(&next_ns);
    if (!f && next_ns == INT64_MAX) {
        if (anybody())
            sim_fail("deadlock: all wait for each other");
        return false;
    }
    if (!f) {
        now_ns = next_ns;
        return true;
    }
    now_ns += sim_below(20000);
    sim_steps++;
    f->state = READY;
    f->object = NULL;
    go(f);
    return true;
}

void sim_kill(unsigned process)
{
    for (struct sim_fiber *f = fibers; f < fibers + FIBERS; f++)
        if (f->state != UNUSED && f->process == process)
            f->state = UNUSED;
    sim_memory_drop(process);
}

void sim_expect_clean(unsigned process)
{
    if (sim_memory_blocks(process))
        sim_fail("process %u has left %zu blocks of memory behind", process,
                 sim_memory_blocks(process));
}

void sim_begin(uint64_t of)
{
    if (!locals) {
        dl_iterate_phdr(find_locals, NULL);
        if (locals_size > LOCALS_MAX)
            sim_fail("%zu bytes of thread-local variables", locals_size);
        memcpy(first_locals, locals, locals_size);
        tracing = getenv("BGMQ_TRACE") != NULL;
    }
    for (unsigned p = 0; p < SIM_PROCESSES; p++)
        sim_kill(p);
    seed = of;
    steps_begun = sim_steps;
    numbers = UINT64_C(0x9e3779b97f4a7c15) * (of + 1);
    for (int i = 0; i < 8; i++)
        sim_below(2);
    now_ns = BEGIN_NS;
    sim_set_wall(BEGIN_MS);
    sim_weather = (struct sim_weather){0};
}
