/* park.c - parking on a futex (see park.h).  Any thread; touches no lock. */
#include "park.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PARK_EMPTY, PARK_TOKEN, PARK_WAITING };

bool bgmqi_park_wait(struct park *p, int64_t timeout_ns)
{
    uint32_t seen = PARK_EMPTY;
    if (!atomic_compare_exchange_strong(&p->word, &seen, PARK_WAITING)) {
        atomic_store(&p->word, PARK_EMPTY); /* a token was there: only we take it */
        return true;
    }
    if (timeout_ns > PARK_MAX_NS)
        timeout_ns = PARK_MAX_NS;
    if (timeout_ns > 0) {
        struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                             .tv_nsec = (long)(timeout_ns % 1000000000)};
        /* Early returns (a signal, a stale wake) are told apart by the word below. */
        syscall(SYS_futex, &p->word, FUTEX_WAIT_PRIVATE, PARK_WAITING, &t, NULL, 0);
    }
    return atomic_exchange(&p->word, PARK_EMPTY) == PARK_TOKEN;
}

void bgmqi_park_wake(struct park *p)
{
    if (atomic_exchange(&p->word, PARK_TOKEN) == PARK_WAITING)
        syscall(SYS_futex, &p->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
