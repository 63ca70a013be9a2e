/* bench.h - what the bench programs share: arguments, time, a tally of jobs done,
 * results.
 *
 * Each program runs one scenario of one side and prints "key value" lines;
 * tests/bench/run starts them in turn and compares.  A failure of any call ends the
 * program with status 1. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BODY = 100 }; /* bytes of every message */

struct args {
    int argc;
    char **argv;
};

/* The value of NAME=value among the arguments; a missing one ends the program. */
long bench_number(const struct args *a, const char *name);
const char *bench_text(const struct args *a, const char *name);

/* Ends the program unless OK. */
void bench_check(int ok, const char *what);

/* Monotonic nanoseconds. */
int64_t bench_now(void);
/* Waits on the kernel's timer. */
void bench_pause(int64_t ns);

/* Waits until this process has nothing to do, so that the start of many threads is over; five
 * seconds at most, as it may never be quiet. */
void bench_settle(void);

/* What every handler does with a body: reads all of it. */
uint64_t bench_read(const void *body, size_t len);

/* The calling thread has done one more job. */
void bench_tally(uint64_t read);
/* What all threads together have done. */
uint64_t bench_tally_sum(void);
/* Waits until that is N. */
void bench_tally_wait(uint64_t n);

/* Prints one result. */
void bench_result(const char *key, double value);
/* Sorts N times in ns and prints their p50 and p99 in microseconds. */
void bench_result_times(int64_t *ns, size_t n);
/* Prints the rate of N since the time BEGIN. */
void bench_result_rate(uint64_t n, int64_t begin);
/* Resident bytes of this process. */
double bench_resident(void);

/* Runs COUNT threads of FN, each with its number from 0, and waits for their ends. */
typedef void bench_thread_fn(void *ctx, unsigned number);
void bench_threads(unsigned count, bench_thread_fn *fn, void *ctx);
/* Starts COUNT threads of FN that nobody waits for: the end of the program is theirs. */
void bench_workers(unsigned count, bench_thread_fn *fn, void *ctx);

#ifdef __cplusplus
}
#endif

#endif
