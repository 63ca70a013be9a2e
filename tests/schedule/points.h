/* points.h - put before everything in a build of the library for the scheduler (scheduler.h): each
 * atomic operation of it is a place where another thread may go on.
 *
 * What the operations do stays the same, but for their order, which is always the one of the
 * program: weaker ones are not explored. */
#ifndef BGMQ_TEST_POINTS_H
#define BGMQ_TEST_POINTS_H

#include <stdatomic.h>

void schedule_point(void);

#undef atomic_load_explicit
#undef atomic_load
#undef atomic_store_explicit
#undef atomic_store
#undef atomic_exchange_explicit
#undef atomic_exchange
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak_explicit
#undef atomic_compare_exchange_weak
#undef atomic_fetch_add_explicit
#undef atomic_fetch_add
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_or_explicit
#undef atomic_fetch_or
#undef atomic_fetch_and_explicit
#undef atomic_fetch_and

#if defined(__clang__)
#define POINT_SEQ          __ATOMIC_SEQ_CST
#define atomic_load(p)     (schedule_point(), __c11_atomic_load((p), POINT_SEQ))
#define atomic_store(p, v) (schedule_point(), __c11_atomic_store((p), (v), POINT_SEQ))
#define atomic_exchange(p, v)                                                            \
    (schedule_point(), __c11_atomic_exchange((p), (v), POINT_SEQ))
#define atomic_compare_exchange_strong(p, e, v)                                          \
    (schedule_point(),                                                                   \
     __c11_atomic_compare_exchange_strong((p), (e), (v), POINT_SEQ, POINT_SEQ))
#else
#define POINT_SEQ __ATOMIC_SEQ_CST
#define atomic_load(p)                                                                   \
    __extension__({                                                                      \
        __auto_type from_ = (p);                                                         \
        __typeof__((void)0, *from_) got_;                                                \
        schedule_point();                                                                \
        __atomic_load(from_, &got_, POINT_SEQ);                                          \
        got_;                                                                            \
    })
#define atomic_store(p, v)                                                               \
    __extension__({                                                                      \
        __auto_type p_ = (p);                                                            \
        __typeof__((void)0, *p_) v_ = (v);                                               \
        schedule_point();                                                                \
        __atomic_store(p_, &v_, POINT_SEQ);                                              \
    })
#define atomic_exchange(p, v)                                                            \
    __extension__({                                                                      \
        __auto_type p_ = (p);                                                            \
        __typeof__((void)0, *p_) v_ = (v), before_;                                      \
        schedule_point();                                                                \
        __atomic_exchange(p_, &v_, &before_, POINT_SEQ);                                 \
        before_;                                                                         \
    })
#define atomic_compare_exchange_strong(p, e, v)                                          \
    __extension__({                                                                      \
        __auto_type p_ = (p);                                                            \
        __typeof__((void)0, *p_) v_ = (v);                                               \
        schedule_point();                                                                \
        __atomic_compare_exchange(p_, (e), &v_, 0, POINT_SEQ, POINT_SEQ);                \
    })
#endif
#define atomic_fetch_add(p, v) (schedule_point(), POINT_FETCH(add)((p), (v), POINT_SEQ))
#define atomic_fetch_sub(p, v) (schedule_point(), POINT_FETCH(sub)((p), (v), POINT_SEQ))
#define atomic_fetch_or(p, v)  (schedule_point(), POINT_FETCH(or)((p), (v), POINT_SEQ))
#define atomic_fetch_and(p, v) (schedule_point(), POINT_FETCH(and)((p), (v), POINT_SEQ))
#if defined(__clang__)
#define POINT_FETCH(what) __c11_atomic_fetch_##what
#else
#define POINT_FETCH(what) __atomic_fetch_##what
#endif

#define atomic_load_explicit(p, order)        atomic_load(p)
#define atomic_store_explicit(p, v, order)    atomic_store(p, v)
#define atomic_exchange_explicit(p, v, order) atomic_exchange(p, v)
#define atomic_compare_exchange_strong_explicit(p, e, v, good, bad)                      \
    atomic_compare_exchange_strong(p, e, v)
#define atomic_compare_exchange_weak(p, e, v) atomic_compare_exchange_strong(p, e, v)
#define atomic_compare_exchange_weak_explicit(p, e, v, good, bad)                        \
    atomic_compare_exchange_strong(p, e, v)
#define atomic_fetch_add_explicit(p, v, order) atomic_fetch_add(p, v)
#define atomic_fetch_sub_explicit(p, v, order) atomic_fetch_sub(p, v)
#define atomic_fetch_or_explicit(p, v, order)  atomic_fetch_or(p, v)
#define atomic_fetch_and_explicit(p, v, order) atomic_fetch_and(p, v)

#endif
