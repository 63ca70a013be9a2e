/* scheduler.c - see scheduler.h.  All state but a thread's TURN belongs to the thread that runs. */
#include "scheduler.h"

#include "turns.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    THREADS = 64,
    CHANGES = 4, /* places at which PCT takes the priority away, at most */
    LOW = 1000,  /* below it: of threads that have lost theirs */
    PATIENCE =
        20000, /* steps of one thread without a pause, then others get their turn */
    STEPS_MAX = 3000000,
    SLACK_NS = 20000
};
#define MS INT64_C(1000000)

static const char *const waits[] = {
    "nothing", "a mutex", "a condition", "a futex", "the end of a thread",
    "time",    "a value"};

static struct {
    const struct scene *scene;
    uint64_t seed, random, digest;
    struct thread threads[THREADS];
    unsigned n;
    struct thread *current;
    uint64_t step, alone; /* ALONE: steps since the last change of threads */
    uint64_t from;        /* where the steps of interest begin */
    uint64_t change[CHANGES];
    unsigned n_changes, changed;
    unsigned walk;        /* not 0: a walk at random, that turns once in so many steps */
    bool quiet, intended; /* nobody is disturbed now; that will change */
    bool hasty;
    long lowest;
    int64_t now_ns;
    void (*on_fault)(const char *);
} w;

_Thread_local struct thread *turns_self;

/* ---- faults ---------------------------------------------------------------------------- */

static void show(char *text, size_t size)
{
    size_t len = 0;
    for (unsigned i = 0; i < w.n && len < size; i++) {
        const struct thread *t = &w.threads[i];
        len += (size_t)snprintf(text + len, size - len, "\n  thread %u %s%s%s%s",
                                t->number, t->name, t == w.current ? " (runs)" : "",
                                t->ended ? " has ended" : " waits for ",
                                t->ended ? "" : waits[t->waits]);
    }
}

void schedule_fault(const char *format, ...)
{
    char what[512], threads[2048] = "", text[3072];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    show(threads, sizeof(threads));
    snprintf(text, sizeof(text),
             "%s: %s (seed %llu, step %llu, %.3f ms)%s\n"
             "replay: ./tests/faults/run schedule --seed %llu",
             w.scene->name, what, (unsigned long long)w.seed, (unsigned long long)w.step,
             (double)w.now_ns / 1e6, threads, (unsigned long long)w.seed);
    turns_self = NULL; /* what follows is nobody's turn */
    if (w.on_fault)
        w.on_fault(text);
    fprintf(stderr, "%s\n", text);
    ck_abort_msg("%s", text);
    abort();
}

void schedule_on_fault(void (*fn)(const char *))
{
    w.on_fault = fn;
}

/* ---- who runs -------------------------------------------------------------------------- */

/* xorshift64* (Vigna). */
static uint64_t draw(void)
{
    w.random ^= w.random >> 12;
    w.random ^= w.random << 25;
    w.random ^= w.random >> 27;
    return w.random * UINT64_C(2685821657736338717);
}

unsigned schedule_random(unsigned n)
{
    return (unsigned)((draw() >> 33) % n);
}

static bool can_run(const struct thread *t)
{
    return !t->ended && t->waits == NOTHING;
}

static struct thread *highest(void)
{
    struct thread *best = NULL;
    for (unsigned i = 0; i < w.n; i++) {
        struct thread *t = &w.threads[i];
        if (can_run(t) && (!best || t->priority > best->priority))
            best = t;
    }
    return best;
}

static struct thread *anyone(void)
{
    struct thread *ready[THREADS];
    unsigned n = 0;
    for (unsigned i = 0; i < w.n; i++)
        if (can_run(&w.threads[i]))
            ready[n++] = &w.threads[i];
    return n ? ready[schedule_random(n)] : NULL;
}

static void hand_over(struct thread *next)
{
    w.digest = (w.digest ^ next->number ^ w.step << 8) * UINT64_C(1099511628211);
    w.current = next;
    w.alone = 0;
    atomic_store(&next->turn, 1);
    turns_futex(&next->turn, FUTEX_WAKE_PRIVATE, 1);
}

static void await_turn(struct thread *t)
{
    while (!atomic_exchange(&t->turn, 0))
        turns_futex(&t->turn, FUTEX_WAIT_PRIVATE, 0);
}

static void run(struct thread *next)
{
    struct thread *me = turns_self;
    if (next == me)
        return;
    int before = errno;
    hand_over(next);
    await_turn(me);
    errno = before;
}

static void wake(struct thread *t)
{
    t->waits = NOTHING;
}

/* Somebody waits for a value that is there by now. */
static struct thread *satisfied(void)
{
    for (unsigned i = 0; i < w.n; i++) {
        struct thread *t = &w.threads[i];
        if (!t->ended && t->waits == VALUE &&
            __atomic_load_n((const long *)t->on, __ATOMIC_SEQ_CST) >= t->want)
            return t;
    }
    return NULL;
}

/* The first whose wait ends by itself. */
static struct thread *first_late(void)
{
    struct thread *first = NULL;
    for (unsigned i = 0; i < w.n; i++) {
        struct thread *t = &w.threads[i];
        if (!t->ended && t->waits != NOTHING && t->until_ns != FOREVER &&
            (!first || t->until_ns < first->until_ns))
            first = t;
    }
    return first;
}

static void end_wait(struct thread *t)
{
    if (t->until_ns > w.now_ns)
        w.now_ns = t->until_ns;
    t->late = true;
    wake(t);
}

/* To the end of T's wait, or also of those that end at about the same time: none is woken at the
 * very instant it asked for. */
static void leap(struct thread *t)
{
    int64_t until_ns = t->until_ns + (schedule_random(2) ? SLACK_NS : 0);
    end_wait(t);
    int64_t may_ms = w.scene->may_take_ms ? w.scene->may_take_ms : 1;
    if (!w.hasty && w.now_ns > may_ms * MS)
        schedule_fault(
            "a wake was lost: nobody can run before thread %u %s looks by itself",
            t->number, t->name);
    while ((t = first_late()) != NULL && t->until_ns <= until_ns)
        end_wait(t);
}

/* Who goes on, the caller being one that waits or has ended. */
static struct thread *next_of_all(void)
{
    struct thread *t = w.walk ? anyone() : highest();
    if (t && !(w.hasty && schedule_random(16) == 0 && first_late()))
        return t;
    if (!t && (t = satisfied()) != NULL) {
        wake(t);
        return t;
    }
    struct thread *late = first_late();
    if (!late)
        schedule_fault("deadlock: nobody can ever run again");
    leap(late);
    return t ? late : w.walk ? anyone() : highest();
}

/* After somebody was woken, or the caller has lost its priority. */
void turns_look(void)
{
    struct thread *next = w.quiet ? turns_self : w.walk ? NULL : highest();
    if (w.walk)
        next = schedule_random(w.walk) ? turns_self : anyone();
    run(next);
}

void schedule_point(void)
{
    if (!turns_self)
        return;
    if (++w.step > STEPS_MAX)
        schedule_fault("it does not end");
    bool turn = ++w.alone > PATIENCE;
    if (w.walk && !turn) {
        if (!w.quiet)
            turns_look();
        return;
    }
    if (!w.quiet && w.changed < w.n_changes && w.step - w.from >= w.change[w.changed]) {
        w.changed++;
        turn = true;
    }
    if (turn) {
        turns_self->priority = --w.lowest;
        w.alone = 0;
        run(w.walk ? anyone() : highest());
    }
}

/* True: woken; false: it is late. */
bool turns_wait(enum wait what, const void *on, long want, int64_t until_ns)
{
    struct thread *me = turns_self;
    me->on = on;
    me->want = want;
    me->until_ns = until_ns;
    me->late = false;
    me->waits = what;
    run(next_of_all());
    return !me->late;
}

/* Wakes up to N of those that wait for WHAT at ON, in no order; returns how many. */
int turns_wake(enum wait what, const void *on, int n)
{
    int woken = 0;
    unsigned first = w.n ? schedule_random(w.n) : 0;
    for (unsigned i = 0; i < w.n && woken < n; i++) {
        struct thread *t = &w.threads[(first + i) % w.n];
        if (!t->ended && t->waits == what && t->on == on) {
            wake(t);
            woken++;
        }
    }
    return woken;
}

struct thread *turns_enlist(const char *name)
{
    if (w.n == THREADS)
        schedule_fault("too many threads");
    struct thread *t = &w.threads[w.n];
    *t = (struct thread){.number = w.n++, .waits = NOTHING, .until_ns = FOREVER};
    /* Any place among those that are there. */
    t->priority = LOW + (long)schedule_random(1000000) * 64 + t->number;
    snprintf(t->name, sizeof(t->name), "%s", name);
    return t;
}

struct thread *turns_find(pthread_t id)
{
    struct thread *last = NULL;
    for (unsigned i = 0; i < w.n; i++)
        if (w.threads[i].fn && pthread_equal(w.threads[i].id, id))
            last = &w.threads[i];
    return last;
}

void turns_begin(struct thread *t)
{
    await_turn(t);
    turns_self = t;
}

void turns_end(struct thread *t)
{
    t->ended = true;
    turns_wake(JOIN, t, INT_MAX);
    turns_self = NULL;
    hand_over(next_of_all());
}

int64_t turns_now(int64_t creep_ns)
{
    return w.now_ns += creep_ns;
}

bool turns_disturb(void)
{
    return !w.quiet && schedule_random(64) == 0;
}

/* ---- schedules ------------------------------------------------------------------------- */

void schedule_until(const long *n, long want)
{
    while (__atomic_load_n(n, __ATOMIC_SEQ_CST) < want)
        turns_wait(VALUE, n, want, FOREVER);
}

bool schedule_is_hasty(void)
{
    return w.hasty;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What the seed says about the way threads are chosen. */
static void plan(uint64_t length)
{
    for (int i = 0; i < 4; i++)
        draw(); /* like seeds begin alike */
    w.hasty = w.scene->hasty && schedule_random(4) == 0;
    if (schedule_random(4) == 0)
        w.walk = 1U << (1 + schedule_random(5));
    w.n_changes = w.walk ? 0 : 2 + schedule_random(CHANGES - 1);
    for (unsigned i = 0; i < w.n_changes; i++)
        w.change[i] = 1 + draw() % (length + length / 4);
    qsort(w.change, w.n_changes, sizeof(w.change[0]), by_size);
}

/* LENGTH: steps that are expected; 0: nobody is disturbed.  Returns how many there were. */
static uint64_t play(const struct scene *s, uint64_t seed, uint64_t length)
{
    void (*on_fault)(const char *) = w.on_fault;
    memset(&w, 0, sizeof(w));
    w.on_fault = on_fault;
    w.scene = s;
    w.seed = seed;
    w.random = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
    w.lowest = LOW;
    w.quiet = true;
    w.intended = length > 0;
    if (length)
        plan(length);
    w.current = turns_self = turns_enlist("first");
    turns_self->id = pthread_self();
    s->play();
    for (unsigned i = 1; i < w.n; i++)
        if (!w.threads[i].ended)
            schedule_fault("thread %u %s is left", i, w.threads[i].name);
    turns_self = NULL;
    return w.step - w.from;
}

void schedule_from_here(void)
{
    w.from = w.step;
    w.quiet = !w.intended;
}

/* Undisturbed, S is so long. */
static uint64_t length_of(const struct scene *s)
{
    static const struct scene *last;
    static uint64_t length;
    if (s != last)
        length = play(s, 0, 0);
    last = s;
    return length ? length : 1;
}

/* The threads of a schedule take turns: on one processor that is a third as dear. */
static void settle_down(void)
{
    cpu_set_t here;
    int cpu = sched_getcpu();
    CPU_ZERO(&here);
    if (cpu >= 0) {
        CPU_SET((size_t)cpu, &here);
        sched_setaffinity(0, sizeof(here), &here);
    }
}

uint64_t schedule_play(const struct scene *s, uint64_t seed)
{
    uint64_t length = length_of(s);
    play(s, seed, length);
    return w.digest;
}

/* An assertion of the library, or worse: the seed is said, and it goes on as it would have. */
static void say_seed(int number)
{
    dprintf(
        STDERR_FILENO,
        "%s: signal %d at step %llu\nreplay: ./tests/faults/run schedule --seed %llu\n",
        w.scene->name, number, (unsigned long long)w.step, (unsigned long long)w.seed);
    signal(number, SIG_DFL);
    raise(number);
}

void schedule_explore(const struct scene *s, uint64_t seed, unsigned n)
{
    signal(SIGABRT, say_seed);
    signal(SIGSEGV, say_seed);
    settle_down();
    for (unsigned i = 0; i < n; i++)
        schedule_play(s, seed + i);
}
