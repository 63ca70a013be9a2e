/* samples.h - what the process holds, looked at again and again. */
#ifndef BGMQ_TEST_SAMPLES_H
#define BGMQ_TEST_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

enum sample { SAMPLE_KIB, SAMPLE_HEAP_KIB, SAMPLE_FDS, SAMPLE_THREADS, SAMPLE_KINDS };
enum { SAMPLES_MOST = 1 << 16 };

/* Forgets all; the room for them is there from now on. */
void samples_begin(void);
/* Takes one of each kind. */
void samples_take(void);
/* True: what came after the last one was not looked at. */
bool samples_full(void);
/* The middle one in a QUARTER of the time, 0 to 3. */
long samples_middle(enum sample kind, size_t quarter);
/* By how much the last quarter has more than the second: what comes and goes does so in each. */
long samples_more(enum sample kind);
/* For qsort, of longs. */
int samples_by_number(const void *a, const void *b);

#endif
