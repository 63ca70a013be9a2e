/* peer_glib.c - the in-memory scenarios on GLib's GThreadPool: the same body copied, read
 * by the handler and freed there.  tests/bench/run starts it: peer_glib SCENARIO
 * name=value... */
#include "bench.h"

#include <glib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static GThreadPool *pool;
static uint64_t per_thread;
static int64_t *times;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static void read_body(gpointer data, gpointer ctx)
{
    (void)ctx;
    bench_tally(bench_read(data, BODY));
    free(data);
}

static void note_wake(gpointer data, gpointer ctx)
{
    (void)ctx;
    int64_t now = bench_now(), stamp[2];
    memcpy(stamp, data, sizeof(stamp));
    times[stamp[1]] = now - stamp[0];
    free(data);
    bench_tally(0);
}

/* Keeps the only worker busy, so that what is pushed has to wait. */
static void wait_held(gpointer data, gpointer ctx)
{
    (void)ctx;
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    free(data);
}

static void open_pool(GFunc handler, int workers)
{
    /* Exclusive: its threads are there from the start, as ours are. */
    pool = g_thread_pool_new(handler, NULL, workers, TRUE, NULL);
    bench_check(pool != NULL, "g_thread_pool_new");
}

static void push(const void *body)
{
    void *copy = malloc(BODY);
    bench_check(copy != NULL, "malloc");
    memcpy(copy, body, BODY);
    bench_check(g_thread_pool_push(pool, copy, NULL), "g_thread_pool_push");
}

static void push_all(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY] = {(char)number};
    for (uint64_t i = 0; i < per_thread; i++)
        push(body);
}

static void dispatch(const struct args *a)
{
    unsigned producers = (unsigned)bench_number(a, "producers");
    per_thread = (uint64_t)bench_number(a, "n") / producers;
    open_pool(read_body, (int)bench_number(a, "workers"));
    int64_t begin = bench_now();
    bench_threads(producers, push_all, NULL);
    bench_tally_wait(per_thread * producers);
    bench_result_rate(per_thread * producers, begin);
}

static void wake(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    times = calloc(n, sizeof(*times));
    bench_check(times != NULL, "memory");
    open_pool(note_wake, 1);
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(1000000);
        char body[BODY] = "";
        int64_t stamp[2] = {bench_now(), (int64_t)i};
        memcpy(body, stamp, sizeof(stamp));
        push(body);
        bench_tally_wait(i + 1);
    }
    bench_result_times(times, n);
}

static void memory(const struct args *a)
{
    per_thread = (uint64_t)bench_number(a, "n");
    open_pool(wait_held, 1);
    char body[BODY] = "";
    pthread_mutex_lock(&held);
    push(body);
    double before = bench_resident();
    push_all(NULL, 0);
    bench_result("bytes", (bench_resident() - before) / (double)per_thread - BODY);
    pthread_mutex_unlock(&held);
}

int main(int argc, char **argv)
{
    struct args a = {.argc = argc, .argv = argv};
    const char *scenario = argc > 1 ? argv[1] : "";
    if (strcmp(scenario, "dispatch") == 0) {
        dispatch(&a);
    } else if (strcmp(scenario, "wake") == 0) {
        wake(&a);
    } else if (strcmp(scenario, "memory") == 0) {
        memory(&a);
    } else {
        fprintf(stderr, "%s: no such scenario\n", argv[0]);
        return 1;
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    return 0;
}
