/* samples.c - see samples.h.  Called on one thread. */
#include "samples.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/harness.h"

static long taken[SAMPLE_KINDS][SAMPLES_MOST];
static size_t n;

void samples_begin(void)
{
    memset(taken, 1, sizeof(taken));
    n = 0;
}

void samples_take(void)
{
    if (samples_full())
        return;
    struct mallinfo2 heap = mallinfo2();
    taken[SAMPLE_KIB][n] = harness_resident_bytes() / 1024;
    taken[SAMPLE_HEAP_KIB][n] = (long)((heap.uordblks + heap.hblkhd) / 1024);
    taken[SAMPLE_FDS][n] = harness_count_fds();
    taken[SAMPLE_THREADS][n] = harness_count_threads();
    n++;
}

bool samples_full(void)
{
    return n == SAMPLES_MOST;
}

int samples_by_number(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

long samples_middle(enum sample kind, size_t quarter)
{
    static long some[SAMPLES_MOST];
    size_t from = n * quarter / 4, to = n * (quarter + 1) / 4;
    ck_assert_uint_gt(to, from);
    memcpy(some, taken[kind] + from, (to - from) * sizeof(some[0]));
    qsort(some, to - from, sizeof(some[0]), samples_by_number);
    return some[(to - from) / 2];
}

long samples_more(enum sample kind)
{
    return samples_middle(kind, 3) - samples_middle(kind, 1);
}
