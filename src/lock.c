/* lock.c - a lock that is held by another (see lock.h).  Any thread. */
#include "lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 64 };

#ifndef NDEBUG
THREAD_LOCAL uint32_t bgmqi_lock_ranks;
#endif

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void bgmqi_lock_wait(struct lock *l)
{
    for (int i = 0; i < SPINS; i++) {
        uint32_t seen = atomic_load_explicit(&l->word, memory_order_relaxed);
        if (seen == LOCK_AWAITED)
            break; /* those who sleep come first */
        if (seen == LOCK_FREE &&
            atomic_compare_exchange_weak_explicit(
                &l->word, &seen, LOCK_HELD, memory_order_acquire, memory_order_relaxed))
            return;
        relax();
    }
    /* Who has slept cannot know whether others do, and takes it as awaited: its drop wakes one more
     * than needed, at times. */
    while (atomic_exchange_explicit(&l->word, LOCK_AWAITED, memory_order_acquire) !=
           LOCK_FREE)
        syscall(SYS_futex, &l->word, FUTEX_WAIT_PRIVATE, LOCK_AWAITED, NULL, NULL, 0);
}

void bgmqi_lock_wake(struct lock *l)
{
    syscall(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
