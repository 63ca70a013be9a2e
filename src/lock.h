/* lock.h - locks that know in debug builds whether they are held, and in which order.
 *
 * Each lock has a rank (enum lock_rank).  A debug build aborts when a thread takes a lock that
 * stands before one it holds, or two of one rank; and when it calls a handler, another function of
 * the application's or SQLite with any held.  Not known here are the mutexes of owner.c and
 * guest.c, around lists of what this process has open, and those of http_reaper.c and
 * http_throttle.c: nothing is taken under them. */
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

/* The lock order, from the first taken to the last. */
enum lock_rank {
    RANK_LIFE,    /* service.life: start, stop, close, resize: one at a time */
    RANK_PENDING, /* service.pending: one bgmq_retry_pending at a time */
    RANK_KIT,     /* the test kit's: who waits for the last of its threads */
    RANK_IDLE,    /* service.idle: who waits for the last handler */
    RANK_OPERATING, /* type.operating: one operation on the resting messages of a type at a time */
    RANK_REGISTRY, /* names -> types and custom queues */
    RANK_QUEUE, /* type.lock: queues, counters, journal entries of a type; custom.lock */
    RANK_DESK,  /* a worker's claimed and finished messages */
    RANK_PROGRESS, /* what a handler has kept of its work */
    RANK_HUB,      /* the connections of a service */
    RANK_FLIGHT,   /* which rings of the flight file are taken */
    RANK_JOURNAL,  /* the queue of the journal */
    RANK_AGENDA,   /* what the ticker has to look at, and when */
    RANK_DEPOT,    /* mem.c: any allocation of a message may take it */
    RANK_FORK,     /* who uses SQLite, and who forks */
    RANKS
};
/* Under these a thread may wait: they are held for as long as an operation takes. */
enum { RANKS_PATIENT = 1 << RANK_PENDING | 1 << RANK_OPERATING };

#ifndef NDEBUG
extern THREAD_LOCAL uint32_t bgmqi_lock_ranks; /* a bit for each that the thread holds */
#endif

static inline void lock_rank_take(enum lock_rank rank)
{
#ifndef NDEBUG
    assert(bgmqi_lock_ranks >> rank == 0);
    bgmqi_lock_ranks |= UINT32_C(1) << rank;
#endif
    (void)rank;
}

static inline void lock_rank_drop(enum lock_rank rank)
{
#ifndef NDEBUG
    bgmqi_lock_ranks &= ~(UINT32_C(1) << rank);
#endif
    (void)rank;
}

/* Abort a debug build when the caller holds a lock; the second: but those it may wait under. */
static inline void lock_assert_none(void)
{
#ifndef NDEBUG
    assert(bgmqi_lock_ranks == 0);
#endif
}

static inline void lock_assert_may_wait(void)
{
#ifndef NDEBUG
    assert((bgmqi_lock_ranks & ~(uint32_t)RANKS_PATIENT) == 0);
#endif
}

/* A word: free, held, or held and waited for on a futex.  To take and to drop one that nobody
 * contends for are an atomic operation each, inline; a mutex of libc costs twice that, and messages
 * pass through several.  After Drepper, "Futexes Are Tricky" (2011), mutex 2, with a short spin in
 * front: locks are held for less than a system call takes. */
struct LOCK_ATTR(capability("mutex")) lock {
    _Atomic uint32_t word;
#ifndef NDEBUG
    _Atomic(pthread_t)
        owner; /* while HELD; to see what is taken twice or dropped by others */
    uint8_t rank;
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

static inline void lock_init(struct lock *l, enum lock_rank rank)
{
    atomic_init(&l->word, LOCK_FREE);
#ifndef NDEBUG
    atomic_init(&l->owner, (pthread_t)0);
    l->rank = (uint8_t)rank;
#endif
    (void)rank;
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
#ifndef NDEBUG
    assert(!lock_is_mine(l));
    lock_rank_take((enum lock_rank)l->rank);
#endif
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
    lock_rank_drop((enum lock_rank)l->rank);
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
