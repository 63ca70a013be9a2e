/* lock.h - mutexes that know in debug builds whether they are held.
 *
 * The lock order, from the first taken to the last.  No thread takes a lock that stands
 * before one it holds, and none holds two of one kind, unless the line says so:
 *
 *   service.life       start, stop, close, resize: one at a time
 *   service.pending    one bgmq_retry_pending at a time
 *   service.idle_lock  who waits for the last handler
 *   type.operating     one operation on the resting messages of a type at a time
 *   registry.lock      names -> types and custom queues
 *   type.lock          queues, counters, journal entries of one type; custom_queue.lock
 *   worker.lock        one worker's claimed and finished messages (under its type.lock)
 *   progress.lock      what a handler has kept of its work
 *   journal.lock       the queue of the journal
 *   memory depot       (mem.c), taken by any allocation of a message
 *
 * No user code, no log callback, no SQL and no wait happens under any of them but
 * service.pending and type.operating, which wait for the journal. */
#ifndef BGMQI_LOCK_H
#define BGMQI_LOCK_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>

#if defined(__clang__)
#define LOCK_ATTR(x) __attribute__((x))
#else
#define LOCK_ATTR(x)
#endif
#define REQUIRES(l) LOCK_ATTR(requires_capability(l))
#define GUARDED     LOCK_ATTR(guarded_var)

/* pthread calls made here fail only through misuse: a failure is a bug in this library. */
#define PTHREAD_OK(call)                                                                 \
    do {                                                                                 \
        int r_ = (call);                                                                 \
        assert(r_ == 0);                                                                 \
        (void)r_;                                                                        \
    } while (0)

/* A variable of each thread, found without a call.  glibc keeps some room for such variables of
 * libraries that are loaded late; ours are a few words. */
#ifdef __GLIBC__
#define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL _Thread_local
#endif

/* Put between fields that different threads write and read: keeps them out of one cache line.
 * Padding and not alignment, because calloc() promises none. */
#define CACHE_GAP(name) char name[64]

struct LOCK_ATTR(capability("mutex")) lock {
    pthread_mutex_t m;
};

static inline void lock_init(struct lock *l)
{
    pthread_mutexattr_t attr;
    PTHREAD_OK(pthread_mutexattr_init(&attr));
#ifndef NDEBUG
    PTHREAD_OK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK));
#elif defined(__GLIBC__)
    /* Locks are held for less than a system call takes: a short spin beats a sleep. */
    PTHREAD_OK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP));
#endif
    PTHREAD_OK(pthread_mutex_init(&l->m, &attr));
    PTHREAD_OK(pthread_mutexattr_destroy(&attr));
}

static inline void lock_fini(struct lock *l)
{
    PTHREAD_OK(pthread_mutex_destroy(&l->m));
}

static inline void lock_take(struct lock *l) LOCK_ATTR(acquire_capability(*l))
    LOCK_ATTR(no_thread_safety_analysis)
{
    PTHREAD_OK(pthread_mutex_lock(&l->m));
}

static inline void lock_drop(struct lock *l) LOCK_ATTR(release_capability(*l))
    LOCK_ATTR(no_thread_safety_analysis)
{
    PTHREAD_OK(pthread_mutex_unlock(&l->m));
}

/* Aborts a debug build when the caller does not hold L: a second lock by its owner is EDEADLK. */
static inline void lock_assert_held(struct lock *l) LOCK_ATTR(assert_capability(*l))
    LOCK_ATTR(no_thread_safety_analysis)
{
    assert(pthread_mutex_lock(&l->m) == EDEADLK);
    (void)l;
}

#endif
