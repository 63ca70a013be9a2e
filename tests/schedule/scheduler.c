/* scheduler.c - see scheduler.h.  All state but a thread's TURN belongs to the thread that runs. */
#include "scheduler.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS = 64,
    CHANGES = 4, /* places at which PCT takes the priority away, at most */
    LOW = 1000,  /* below it: of threads that have lost theirs */
    PATIENCE =
        20000, /* steps of one thread without a pause, then others get their turn */
    STEPS_MAX = 3000000,
    CREEP_NS = 100 /* a look at the clock */
};
/* The linker's names for what is wrapped, and for what it is wrapped in. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define FOREVER INT64_MAX
#define MS      INT64_C(1000000)

enum wait { NOTHING, MUTEX, CONDITION, FUTEX, JOIN, SLEEP, VALUE };
static const char *const waits[] = {
    "nothing", "a mutex", "a condition", "a futex", "the end of a thread",
    "time",    "a value"};

struct thread {
    _Atomic uint32_t turn; /* 1: it is to run */
    pthread_t id;
    unsigned number;
    char name[16];
    long priority;
    bool ended;
    enum wait waits; /* NOTHING: it can run */
    const void *on;
    long want; /* VALUE */
    int64_t until_ns;
    bool late; /* its wait ended by time */
    void *(*fn)(void *);
    void *arg;
};

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

static _Thread_local struct thread *self; /* NULL: not in a schedule */

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __real_pthread_join(pthread_t, void **);
int __real_pthread_mutex_lock(pthread_mutex_t *);
int __real_pthread_mutex_unlock(pthread_mutex_t *);
int __real_pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *);
int __real_pthread_cond_timedwait(pthread_cond_t *, pthread_mutex_t *,
                                  const struct timespec *);
int __real_pthread_cond_signal(pthread_cond_t *);
int __real_pthread_cond_broadcast(pthread_cond_t *);
int __real_pthread_setname_np(pthread_t, const char *);
long __real_syscall(long, ...);
int __real_clock_gettime(clockid_t, struct timespec *);
int __real_nanosleep(const struct timespec *, struct timespec *);
int __real_poll(struct pollfd *, nfds_t, int);

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
    self = NULL; /* what follows is nobody's turn */
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
    __real_syscall(SYS_futex, &next->turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void await_turn(struct thread *t)
{
    while (!atomic_exchange(&t->turn, 0))
        __real_syscall(SYS_futex, &t->turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void run(struct thread *next)
{
    struct thread *me = self;
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

static void leap(struct thread *t)
{
    if (t->until_ns > w.now_ns)
        w.now_ns = t->until_ns;
    int64_t may_ms = w.scene->may_take_ms ? w.scene->may_take_ms : 1;
    if (!w.hasty && w.now_ns > may_ms * MS)
        schedule_fault(
            "a wake was lost: nobody can run before thread %u %s looks by itself",
            t->number, t->name);
    t->late = true;
    wake(t);
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
    if (!(t = first_late()))
        schedule_fault("deadlock: nobody can ever run again");
    leap(t);
    return t;
}

/* After somebody was woken, or the caller has lost its priority. */
static void look_around(void)
{
    struct thread *next = w.quiet ? self : w.walk ? NULL : highest();
    if (w.walk)
        next = schedule_random(w.walk) ? self : anyone();
    run(next);
}

void schedule_point(void)
{
    if (!self)
        return;
    if (++w.step > STEPS_MAX)
        schedule_fault("it does not end");
    bool turn = ++w.alone > PATIENCE;
    if (w.walk && !turn) {
        if (!w.quiet)
            look_around();
        return;
    }
    if (!w.quiet && w.changed < w.n_changes && w.step - w.from >= w.change[w.changed]) {
        w.changed++;
        turn = true;
    }
    if (turn) {
        self->priority = --w.lowest;
        w.alone = 0;
        run(w.walk ? anyone() : highest());
    }
}

/* True: woken; false: it is late. */
static bool wait_for(enum wait what, const void *on, long want, int64_t until_ns)
{
    struct thread *me = self;
    me->on = on;
    me->want = want;
    me->until_ns = until_ns;
    me->late = false;
    me->waits = what;
    run(next_of_all());
    return !me->late;
}

/* Wakes up to N of those that wait for WHAT at ON, in no order; returns how many. */
static int wake_some(enum wait what, const void *on, int n)
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

/* ---- threads --------------------------------------------------------------------------- */

static struct thread *enlist(const char *name)
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

static void ended(void *arg)
{
    struct thread *t = arg;
    t->ended = true;
    wake_some(JOIN, t, INT_MAX);
    self = NULL;
    hand_over(next_of_all());
}

static void *begin(void *arg)
{
    struct thread *t = arg;
    void *result;
    await_turn(t);
    self = t;
    pthread_cleanup_push(ended, t);
    result = t->fn(t->arg);
    pthread_cleanup_pop(1);
    return result;
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    if (!self)
        return __real_pthread_create(ret, attr, fn, arg);
    struct thread *t = enlist("?");
    t->fn = fn;
    t->arg = arg;
    int err = __real_pthread_create(&t->id, attr, begin, t);
    if (err)
        schedule_fault("no thread: %s", strerror(err));
    *ret = t->id;
    schedule_point();
    look_around();
    return 0;
}

int __wrap_pthread_setname_np(pthread_t id, const char *name)
{
    for (unsigned i = 0; self && i < w.n; i++)
        if (!w.threads[i].ended && pthread_equal(w.threads[i].id, id)) {
            snprintf(w.threads[i].name, sizeof(w.threads[i].name), "%s", name);
            return 0;
        }
    return __real_pthread_setname_np(id, name);
}

int __wrap_pthread_join(pthread_t id, void **ret)
{
    struct thread *t = NULL;
    schedule_point();
    /* The last of that id: it may be used again. */
    for (unsigned i = 0; self && i < w.n; i++)
        if (w.threads[i].fn && pthread_equal(w.threads[i].id, id))
            t = &w.threads[i];
    while (t && !t->ended)
        wait_for(JOIN, t, 0, FOREVER);
    return __real_pthread_join(id, ret);
}

/* ---- mutexes and conditions ------------------------------------------------------------ */

static int lock_again(pthread_mutex_t *m)
{
    int err;
    while ((err = pthread_mutex_trylock(m)) == EBUSY)
        wait_for(MUTEX, m, 0, FOREVER);
    return err;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    if (!self)
        return __real_pthread_mutex_lock(m);
    schedule_point();
    return lock_again(m);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    schedule_point();
    int err = __real_pthread_mutex_unlock(m);
    if (self && wake_some(MUTEX, m, INT_MAX))
        look_around();
    return err;
}

static int wait_on(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
    schedule_point();
    __real_pthread_mutex_unlock(m);
    wake_some(MUTEX, m, INT_MAX);
    bool woken = wait_for(CONDITION, c, 0, until_ns);
    int err = lock_again(m);
    return err ? err : woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return self ? wait_on(c, m, FOREVER) : __real_pthread_cond_wait(c, m);
}

/* All conditions here go by the monotonic clock. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until)
{
    if (!self)
        return __real_pthread_cond_timedwait(c, m, until);
    return wait_on(c, m, until->tv_sec * INT64_C(1000000000) + until->tv_nsec);
}

static int change(pthread_cond_t *c, int n)
{
    schedule_point();
    if (wake_some(CONDITION, c, n))
        look_around();
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    return self ? change(c, 1) : __real_pthread_cond_signal(c);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    return self ? change(c, INT_MAX) : __real_pthread_cond_broadcast(c);
}

/* ---- futexes --------------------------------------------------------------------------- */

static long futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *t)
{
    int64_t until_ns =
        t ? w.now_ns + t->tv_sec * INT64_C(1000000000) + t->tv_nsec : FOREVER;
    schedule_point();
    if (atomic_load(word) != value) {
        errno = EAGAIN;
        return -1;
    }
    if (!w.quiet && schedule_random(64) == 0) {
        errno = EINTR; /* a signal may end any wait */
        return -1;
    }
    if (wait_for(FUTEX, word, 0, until_ns))
        return 0;
    errno = ETIMEDOUT;
    return -1;
}

long __wrap_syscall(long number, ...)
{
    va_list args;
    long a[6];
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    int what = (int)a[1] & FUTEX_CMD_MASK;
    if (!self || number != SYS_futex || (what != FUTEX_WAIT && what != FUTEX_WAKE))
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (what == FUTEX_WAIT)
        return futex_wait((_Atomic uint32_t *)a[0], (uint32_t)a[2],
                          (const struct timespec *)a[3]);
    schedule_point();
    int woken = wake_some(FUTEX, (const void *)a[0], (int)a[2]);
    if (woken)
        look_around();
    return woken;
}

/* ---- time ------------------------------------------------------------------------------ */

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (!self)
        return __real_clock_gettime(clock, ret);
    int64_t ns = w.now_ns += CREEP_NS;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        ns += INT64_C(1700000000000000000);
    *ret = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return 0;
}

static void sleep_ns(int64_t ns)
{
    schedule_point();
    wait_for(SLEEP, NULL, 0, w.now_ns + ns);
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
    if (!self)
        return __real_nanosleep(t, left);
    sleep_ns(t->tv_sec * INT64_C(1000000000) + t->tv_nsec);
    return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    if (!self || n)
        return __real_poll(fds, n, timeout_ms);
    sleep_ns(timeout_ms * MS);
    return 0;
}

/* ---- schedules ------------------------------------------------------------------------- */

void schedule_until(const long *n, long want)
{
    while (__atomic_load_n(n, __ATOMIC_SEQ_CST) < want)
        wait_for(VALUE, n, want, FOREVER);
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
    w.current = self = enlist("first");
    self->id = pthread_self();
    s->play();
    for (unsigned i = 1; i < w.n; i++)
        if (!w.threads[i].ended)
            schedule_fault("thread %u %s is left", i, w.threads[i].name);
    self = NULL;
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

void schedule_explore(const struct scene *s, uint64_t seed, unsigned n)
{
    settle_down();
    for (unsigned i = 0; i < n; i++)
        schedule_play(s, seed + i);
}
