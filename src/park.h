/* park.h - one thread waits, another wakes it: one word, one futex call, nothing lost.
 *
 * A wake before the wait is kept as a token, so there is no window between looking and
 * sleeping.  The waker may touch nothing of the park after its exchange but the address. */
#ifndef BGMQI_PARK_H
#define BGMQI_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct park {
    _Atomic uint32_t word; /* PARK_* in park.c; zero-initialised is ready */
};

/* The longest a thread sleeps that waits for one of several things, before it looks again. */
#define PARK_MAX_NS INT64_C(1000000000)

/* Sleeps until woken or TIMEOUT_NS (capped at PARK_MAX_NS) is over; true: woken.  One waiter at
 * a time. */
bool bgmqi_park_wait(struct park *p, int64_t timeout_ns);
/* Sleeps until woken, however long that is.  For many threads that each wait for one thing only. */
void bgmqi_park_rest(struct park *p);
/* Wakes the waiter, or lets the next wait return at once. */
void bgmqi_park_wake(struct park *p);

#endif
