/* retry.h - how long a failed message waits before its next attempt.  Pure. */
#ifndef BGMQI_RETRY_H
#define BGMQI_RETRY_H

#include <bgmq.h>

/* 100 years: no wait is longer. */
#define BGMQI_RETRY_DELAY_MAX INT64_C(3155760000000)

enum { RETRY_TABLE_MAX = 32 };

struct retry_policy {
    enum bgmq_backoff kind;
    int64_t base_ms, max_ms;
    bgmq_backoff_fn *fn; /* CALLBACK only */
    void *ctx;
    unsigned table_len;              /* TABLE only: 1..RETRY_TABLE_MAX */
    unsigned table[RETRY_TABLE_MAX]; /* milliseconds */
};

/* Delay in milliseconds, 0 .. BGMQI_RETRY_DELAY_MAX, after FAILED_ATTEMPTS >= 1 have
 * failed.  RANDOM64 is used by EXPONENTIAL only.  CALLBACK calls user code: hold no lock.
 */
int64_t bgmqi_retry_delay(const struct retry_policy *p, unsigned failed_attempts,
                          uint64_t random64);

/* The next of a sequence of well-mixed numbers; any start will do.  Not for secrets.  The
 * state belongs to one thread, or to the caller's lock. */
uint64_t bgmqi_random_next(uint64_t *state);

#endif
