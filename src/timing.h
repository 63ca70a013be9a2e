/* timing.h - how long handlers took: a histogram of fixed size.  Pure; the owner locks.
 *
 * Log-linear: eight buckets to each power of two of microseconds, so a quantile is right to an
 * eighth whatever its size.  To add costs a division and three additions. */
#ifndef BGMQI_TIMING_H
#define BGMQI_TIMING_H

#include <stdint.h>

enum { TIMING_BUCKETS = 280 }; /* up to 19 hours */

/* Zero-initialised is empty. */
struct timing {
    uint64_t n;
    int64_t sum_ns, most_ns;
    uint32_t buckets[TIMING_BUCKETS];
};

void bgmqi_timing_add(struct timing *t, int64_t ns);
/* Adds all of FROM to TO, and empties FROM. */
void bgmqi_timing_move(struct timing *to, struct timing *from);
int64_t bgmqi_timing_mean_ns(const struct timing *t); /* 0: empty */
/* The least time that PERCENT of all did not exceed, rounded up to the end of its bucket, and never
 * above the greatest; 0: empty. */
int64_t bgmqi_timing_percentile_ns(const struct timing *t, unsigned percent);

#endif
