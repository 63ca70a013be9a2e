/* timing.c - the histogram of handler times (see timing.h).  Any thread; the owner locks. */
#include "timing.h"

#include <stdbool.h>

/* Below EIGHT microseconds each has a bucket; above, the three bits behind the first choose. */
enum { BITS = 3, EIGHT = 1 << BITS };

static unsigned bucket_of(uint64_t us)
{
    if (us < EIGHT)
        return (unsigned)us;
    unsigned power = 63 - (unsigned)__builtin_clzll(us);
    uint64_t i =
        (uint64_t)EIGHT * (power - BITS + 1) + ((us >> (power - BITS)) & (EIGHT - 1));
    return i < TIMING_BUCKETS ? (unsigned)i : TIMING_BUCKETS - 1;
}

/* The first microsecond beyond bucket I. */
static uint64_t end_of(unsigned i)
{
    if (i < EIGHT)
        return i + 1;
    unsigned power = i / EIGHT - 1;
    return (uint64_t)(EIGHT + i % EIGHT + 1) << power;
}

void bgmqi_timing_add(struct timing *t, int64_t ns)
{
    ns = ns > 0 ? ns : 0;
    t->n++;
    t->sum_ns += ns;
    t->most_ns = ns > t->most_ns ? ns : t->most_ns;
    t->buckets[bucket_of((uint64_t)ns / 1000)]++;
}

void bgmqi_timing_move(struct timing *to, struct timing *from)
{
    if (from->n == 0)
        return;
    to->n += from->n;
    to->sum_ns += from->sum_ns;
    to->most_ns = from->most_ns > to->most_ns ? from->most_ns : to->most_ns;
    for (unsigned i = 0; i < TIMING_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
    *from = (struct timing){.n = 0};
}

int64_t bgmqi_timing_mean_ns(const struct timing *t)
{
    return t->n ? t->sum_ns / (int64_t)t->n : 0;
}

int64_t bgmqi_timing_percentile_ns(const struct timing *t, unsigned percent)
{
    uint64_t wanted = t->n / 100 * percent + (t->n % 100 * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; t->n && i < TIMING_BUCKETS; i++) {
        seen += t->buckets[i];
        if (seen < wanted)
            continue;
        int64_t ns = (int64_t)end_of(i) * 1000;
        bool last = i == TIMING_BUCKETS - 1; /* it has no end */
        return !last && ns < t->most_ns ? ns : t->most_ns;
    }
    return t->most_ns;
}
