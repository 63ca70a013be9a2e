/* lock.h - locks that know in debug builds whether they are held.
 *
 * The lock order, from the first taken to the last.  No thread takes a lock that stands
 * before one it holds, and none holds two of one kind, unless the line says so:
 *
 *   service.life       start, stop, close, resize: one at a time
 *   service.pending    one bgmq_retry_pending at a time
 *   service.idle       who waits for the last handler
 *   type.operating     one operation on the resting messages of a type at a time
 *   registry.lock      names -> types and custom queues
 *   type.lock          queues, counters, journal entries of one type; custom_queue.lock
 *   worker.lock        one worker's claimed and finished messages (under its type.lock)
 *   progress.lock      what a handler has kept of its work
 *   journal.lock       the queue of the journal
 *   agenda.lock        what the ticker has to look at, and when
 *   memory depot       (mem.c), taken by any allocation of a message
 *
 * No user code, no log callback, no SQL and no wait happens under any of them but
 * service.pending and type.operating, which wait for the journal. */
#ifndef BGMQI_LOCK_H
#define BGMQI_LOCK_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

/* A word: free, held, or held and waited for on a futex.  To take and to drop one that nobody
 * contends for are an atomic operation each, inline; a mutex of libc costs twice that, and messages
 * pass through several.  After Drepper, "Futexes Are Tricky" (2011), mutex 2, with a short spin in
 * front: locks are held for less than a system call takes. */
struct LOCK_ATTR(capability("mutex")) lock {
    _Atomic uint32_t word;
#ifndef NDEBUG
    _Atomic(pthread_t)
        owner; /* while HELD; to see what is taken twice or dropped by others */
#endif
};
enum { LOCK_FREE, LOCK_HELD, LOCK_AWAITED };

/* lock.c: what is contended. */
void bgmqi_lock_wait(struct lock *l);
void bgmqi_lock_wake(struct lock *l);

#if defined(__SANITIZE_THREAD__)
#define LOCK_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LOCK_TSAN 1
#endif
#endif
#ifdef LOCK_TSAN
/* So that it sees a mutex, and the order in which they are taken. */
#include <sanitizer/tsan_interface.h>
#define LOCK_TELL(what, ...) __tsan_mutex_##what(__VA_ARGS__)
#else
#define LOCK_TELL(what, ...) ((void)0)
#endif

static inline void lock_init(struct lock *l)
{
    atomic_init(&l->word, LOCK_FREE);
#ifndef NDEBUG
    atomic_init(&l->owner, (pthread_t)0);
#endif
    LOCK_TELL(create, l, __tsan_mutex_not_static);
}

static inline void lock_fini(struct lock *l)
{
    assert(atomic_load_explicit(&l->word, memory_order_relaxed) == LOCK_FREE);
    LOCK_TELL(destroy, l, 0);
    (void)l;
}

/* Only the owner can find itself there. */
static inline bool lock_is_mine(struct lock *l)
{
#ifndef NDEBUG
    return atomic_load_explicit(&l->word, memory_order_relaxed) != LOCK_FREE &&
           pthread_equal(atomic_load_explicit(&l->owner, memory_order_relaxed),
                         pthread_self());
#else
    (void)l;
    return false;
#endif
}

static inline void lock_take(struct lock *l) LOCK_ATTR(acquire_capability(*l))
    LOCK_ATTR(no_thread_safety_analysis)
{
    uint32_t seen = LOCK_FREE;
    assert(!lock_is_mine(l));
    LOCK_TELL(pre_lock, l, 0);
    if (!atomic_compare_exchange_strong_explicit(
            &l->word, &seen, LOCK_HELD, memory_order_acquire, memory_order_relaxed))
        bgmqi_lock_wait(l);
    LOCK_TELL(post_lock, l, 0, 0);
#ifndef NDEBUG
    atomic_store_explicit(&l->owner, pthread_self(), memory_order_relaxed);
#endif
}

static inline void lock_drop(struct lock *l) LOCK_ATTR(release_capability(*l))
    LOCK_ATTR(no_thread_safety_analysis)
{
#ifndef NDEBUG
    assert(lock_is_mine(l));
    atomic_store_explicit(&l->owner, (pthread_t)0, memory_order_relaxed);
#endif
    LOCK_TELL(pre_unlock, l, 0);
    if (atomic_exchange_explicit(&l->word, LOCK_FREE, memory_order_release) ==
        LOCK_AWAITED)
        bgmqi_lock_wake(l);
    LOCK_TELL(post_unlock, l, 0);
}

/* Aborts a debug build when the caller does not hold L. */
static inline void lock_assert_held(struct lock *l) LOCK_ATTR(assert_capability(*l))
    LOCK_ATTR(no_thread_safety_analysis)
{
    assert(lock_is_mine(l));
    (void)l;
}

#endif
