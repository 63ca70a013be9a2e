/* meet.c - in place of the calls by which threads meet (see scheduler.h): within a schedule they
 * are said to the scheduler, outside they are what they were.
 *
 * A mutex is really taken, but never waited for. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "scheduler.h"
#include "turns.h"

/* The linker's names for what is wrapped, and for what it is wrapped in. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define MS INT64_C(1000000)

enum { CREEP_NS = 100 /* a look at the clock */ };

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

long turns_futex(_Atomic uint32_t *word, int what, uint32_t value)
{
    return __real_syscall(SYS_futex, word, what, value, NULL, NULL, 0);
}

/* ---- threads --------------------------------------------------------------------------- */

static void ended(void *arg)
{
    turns_end(arg);
}

static void *begin(void *arg)
{
    struct thread *t = arg;
    void *result;
    turns_begin(t);
    pthread_cleanup_push(ended, t);
    result = t->fn(t->arg);
    pthread_cleanup_pop(1);
    return result;
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    if (!turns_self)
        return __real_pthread_create(ret, attr, fn, arg);
    struct thread *t = turns_enlist("?");
    t->fn = fn;
    t->arg = arg;
    int err = __real_pthread_create(&t->id, attr, begin, t);
    if (err)
        schedule_fault("no thread: %s", strerror(err));
    *ret = t->id;
    schedule_point();
    turns_look();
    return 0;
}

int __wrap_pthread_setname_np(pthread_t id, const char *name)
{
    struct thread *t = turns_self ? turns_find(id) : NULL;
    if (!t)
        return __real_pthread_setname_np(id, name);
    snprintf(t->name, sizeof(t->name), "%s", name);
    return 0;
}

int __wrap_pthread_join(pthread_t id, void **ret)
{
    schedule_point();
    struct thread *t = turns_self ? turns_find(id) : NULL;
    while (t && !t->ended)
        turns_wait(JOIN, t, 0, FOREVER);
    return __real_pthread_join(id, ret);
}

/* ---- mutexes and conditions ------------------------------------------------------------ */

static int lock_again(pthread_mutex_t *m)
{
    int err;
    while ((err = pthread_mutex_trylock(m)) == EBUSY)
        turns_wait(MUTEX, m, 0, FOREVER);
    return err;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    if (!turns_self)
        return __real_pthread_mutex_lock(m);
    schedule_point();
    return lock_again(m);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    schedule_point();
    int err = __real_pthread_mutex_unlock(m);
    if (turns_self && turns_wake(MUTEX, m, INT_MAX))
        turns_look();
    return err;
}

static int wait_on(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
    schedule_point();
    __real_pthread_mutex_unlock(m);
    turns_wake(MUTEX, m, INT_MAX);
    bool woken = turns_wait(CONDITION, c, 0, until_ns);
    int err = lock_again(m);
    return err ? err : woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return turns_self ? wait_on(c, m, FOREVER) : __real_pthread_cond_wait(c, m);
}

/* All conditions here go by the monotonic clock. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *until)
{
    if (!turns_self)
        return __real_pthread_cond_timedwait(c, m, until);
    return wait_on(c, m, until->tv_sec * INT64_C(1000000000) + until->tv_nsec);
}

static int change(pthread_cond_t *c, int n)
{
    schedule_point();
    if (turns_wake(CONDITION, c, n))
        turns_look();
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    return turns_self ? change(c, 1) : __real_pthread_cond_signal(c);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    return turns_self ? change(c, INT_MAX) : __real_pthread_cond_broadcast(c);
}

/* ---- futexes --------------------------------------------------------------------------- */

static long futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *t)
{
    int64_t until_ns =
        t ? turns_now(0) + t->tv_sec * INT64_C(1000000000) + t->tv_nsec : FOREVER;
    schedule_point();
    if (atomic_load(word) != value) {
        errno = EAGAIN;
        return -1;
    }
    if (turns_disturb()) {
        errno = EINTR; /* a signal may end any wait */
        return -1;
    }
    if (turns_wait(FUTEX, word, 0, until_ns))
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
    if (!turns_self || number != SYS_futex || (what != FUTEX_WAIT && what != FUTEX_WAKE))
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (what == FUTEX_WAIT)
        return futex_wait((_Atomic uint32_t *)a[0], (uint32_t)a[2],
                          (const struct timespec *)a[3]);
    schedule_point();
    int woken = turns_wake(FUTEX, (const void *)a[0], (int)a[2]);
    if (woken)
        turns_look();
    return woken;
}

/* ---- time ------------------------------------------------------------------------------ */

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (!turns_self)
        return __real_clock_gettime(clock, ret);
    int64_t ns = turns_now(CREEP_NS);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        ns += INT64_C(1700000000000000000);
    *ret = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return 0;
}

static void sleep_ns(int64_t ns)
{
    schedule_point();
    turns_wait(SLEEP, NULL, 0, turns_now(0) + ns);
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
    if (!turns_self)
        return __real_nanosleep(t, left);
    sleep_ns(t->tv_sec * INT64_C(1000000000) + t->tv_nsec);
    return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    if (!turns_self || n)
        return __real_poll(fds, n, timeout_ms);
    sleep_ns(timeout_ms * MS);
    return 0;
}
