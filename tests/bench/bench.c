/* bench.c - the parts that the bench programs share.  See bench.h.  The tally is any
 * thread's, the rest belongs to the main thread.  It must cost both sides the same. */
#include "bench.h"

#include <poll.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 16384 };

/* One cache line a thread, so that counting disturbs nobody. */
struct slot {
    alignas(64) _Atomic uint64_t done;
    uint64_t read;
};
static struct slot slots[SLOTS];
static _Atomic unsigned slots_used;
static _Thread_local struct slot *mine;

const char *bench_text(const struct args *a, const char *name)
{
    size_t len = strlen(name);
    for (int i = 1; i < a->argc; i++)
        if (strncmp(a->argv[i], name, len) == 0 && a->argv[i][len] == '=')
            return a->argv[i] + len + 1;
    fprintf(stderr, "%s: no argument %s=\n", a->argv[0], name);
    exit(1);
}

long bench_number(const struct args *a, const char *name)
{
    return strtol(bench_text(a, name), NULL, 10);
}

void bench_check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "failed: %s\n", what);
    exit(1);
}

int64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void bench_pause(int64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = ns % 1000000000};
    ppoll(NULL, 0, &t, NULL);
}

void bench_settle(void)
{
    enum { PAUSE = 20000000, QUIET = 500000 };
    int64_t deadline = bench_now() + INT64_C(5000000000), used = 0, before;
    do {
        before = used;
        bench_pause(PAUSE);
        struct timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        used = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    } while (used - before > QUIET && bench_now() < deadline);
}

uint64_t bench_read(const void *body, size_t len)
{
    const char *p = body;
    uint64_t sum = len;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        sum += word;
    }
    while (len-- > 0)
        sum += (unsigned char)*p++;
    return sum;
}

void bench_tally(uint64_t read)
{
    if (!mine) {
        unsigned number = atomic_fetch_add(&slots_used, 1);
        bench_check(number < SLOTS, "too many threads");
        mine = &slots[number];
    }
    mine->read += read;
    uint64_t done = atomic_load_explicit(&mine->done, memory_order_relaxed);
    atomic_store_explicit(&mine->done, done + 1, memory_order_release);
}

uint64_t bench_tally_sum(void)
{
    uint64_t done = 0;
    unsigned used = atomic_load(&slots_used);
    for (unsigned i = 0; i < used; i++)
        done += atomic_load_explicit(&slots[i].done, memory_order_acquire);
    return done;
}

void bench_tally_wait(uint64_t n)
{
    int64_t deadline = bench_now() + INT64_C(600000000000);
    while (bench_tally_sum() < n) {
        bench_check(bench_now() < deadline, "jobs done within ten minutes");
        bench_pause(200000);
    }
}

void bench_result(const char *key, double value)
{
    printf("%s %.9g\n", key, value);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void bench_result_times(int64_t *ns, size_t n)
{
    qsort(ns, n, sizeof(*ns), by_value);
    bench_result("p50", (double)ns[n / 2] / 1e3);
    bench_result("p99", (double)ns[n - 1 - n / 100] / 1e3);
}

void bench_result_rate(uint64_t n, int64_t begin)
{
    bench_result("rate", (double)n * 1e9 / (double)(bench_now() - begin));
}

double bench_resident(void)
{
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    bench_check(f && fscanf(f, "%ld %ld", &total, &resident) == 2, "/proc/self/statm");
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

struct thread {
    pthread_t id;
    pthread_barrier_t *start;
    bench_thread_fn *fn;
    void *ctx;
    unsigned number;
};

static void *run_thread(void *arg)
{
    struct thread *t = arg;
    pthread_barrier_wait(t->start);
    t->fn(t->ctx, t->number);
    return NULL;
}

static void *run_worker(void *arg)
{
    struct thread t = *(struct thread *)arg;
    free(arg);
    t.fn(t.ctx, t.number);
    return NULL;
}

void bench_threads(unsigned count, bench_thread_fn *fn, void *ctx)
{
    pthread_barrier_t start;
    struct thread *threads = calloc(count, sizeof(*threads));
    bench_check(threads && pthread_barrier_init(&start, NULL, count) == 0, "threads");
    for (unsigned i = 0; i < count; i++) {
        threads[i] = (struct thread){.start = &start, .fn = fn, .ctx = ctx, .number = i};
        bench_check(pthread_create(&threads[i].id, NULL, run_thread, &threads[i]) == 0,
                    "pthread_create");
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i].id, NULL);
    pthread_barrier_destroy(&start);
    free(threads);
}

void bench_workers(unsigned count, bench_thread_fn *fn, void *ctx)
{
    for (unsigned i = 0; i < count; i++) {
        struct thread *t = calloc(1, sizeof(*t));
        bench_check(t != NULL, "memory");
        *t = (struct thread){.fn = fn, .ctx = ctx, .number = i};
        pthread_t id;
        bench_check(pthread_create(&id, NULL, run_worker, t) == 0 &&
                        pthread_detach(id) == 0,
                    "pthread_create");
    }
}
