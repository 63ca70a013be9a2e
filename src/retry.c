/* retry.c - the delays of the back-off policies, and a generator for their jitter.
 *
 * Called by the worker that settles a failed attempt, with no lock held because CALLBACK
 * runs code of the application.  Pure otherwise: time and randomness are arguments. */
#include "retry.h"

#include <assert.h>

#include "lock.h"

static int64_t clamp(int64_t delay_ms)
{
    if (delay_ms < 0)
        return 0;
    return delay_ms < BGMQI_RETRY_DELAY_MAX ? delay_ms : BGMQI_RETRY_DELAY_MAX;
}

/* min(max, base * 2^(failed - 1)), by division so that nothing overflows. */
static int64_t ceiling(int64_t base, int64_t max, unsigned failed)
{
    unsigned shift = failed > 0 ? failed - 1 : 0;
    if (base == 0)
        return 0;
    /* base <= max < 2^42 from here on: 42 doublings exceed any max. */
    if (shift >= 42 || base > max >> shift)
        return max;
    return base << shift;
}

int64_t bgmqi_retry_delay(const struct retry_policy *p, unsigned failed_attempts,
                          uint64_t random64)
{
    switch (p->kind) {
    case BGMQ_BACKOFF_EXPONENTIAL: {
        int64_t top = ceiling(clamp(p->base_ms), clamp(p->max_ms), failed_attempts);
        /* top < 2^42, so the remainder favours no value by more than one in 2^22. */
        return (int64_t)(random64 % ((uint64_t)top + 1));
    }
    case BGMQ_BACKOFF_FIXED:
        return clamp(p->base_ms);
    case BGMQ_BACKOFF_CALLBACK:
        assert(p->fn);
        lock_assert_none();
        return clamp(p->fn(failed_attempts, p->ctx));
    case BGMQ_BACKOFF_TABLE: {
        unsigned at = failed_attempts > 0 ? failed_attempts - 1 : 0;
        assert(p->table_len > 0);
        return p->table[at < p->table_len ? at : p->table_len - 1];
    }
    case BGMQ_BACKOFF_NONE:
        break;
    }
    return 0;
}

/* A Weyl sequence through the finaliser of splitmix64: every state is a good one. */
uint64_t bgmqi_random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
