/* drive.c - the in-memory scenarios, the same for every peer.  See drive.h.  The handler
 * runs on the peer's workers, the rest on the main thread and its producers. */
#include "drive.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct drive *peer;
static uint64_t per_thread;
static int64_t *times; /* of each wake */
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
/* Set once, before the peer is opened. */
static void (*handle)(const void *body);

void bench_drive_handle(const void *body)
{
    handle(body);
}

static void read_body(const void *body)
{
    bench_tally(bench_read(body, BODY));
}

/* The body begins with the time of its push and the place for the answer. */
static void note_wake(const void *body)
{
    int64_t now = bench_now(), stamp[2];
    memcpy(stamp, body, sizeof(stamp));
    times[stamp[1]] = now - stamp[0];
    bench_tally(0);
}

/* Keeps the only worker busy, so that what is pushed has to wait. */
static void wait_held(const void *body)
{
    (void)body;
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
}

static void push_all(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY] = {(char)number};
    for (uint64_t i = 0; i < per_thread; i++)
        peer->push(body);
}

static void dispatch(const struct args *a)
{
    unsigned producers = (unsigned)bench_number(a, "producers");
    per_thread = (uint64_t)bench_number(a, "n") / producers;
    handle = read_body;
    peer->open((unsigned)bench_number(a, "workers"));
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
    handle = note_wake;
    peer->open(1);
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(1000000);
        char body[BODY] = "";
        int64_t stamp[2] = {bench_now(), (int64_t)i};
        memcpy(body, stamp, sizeof(stamp));
        peer->push(body);
        bench_tally_wait(i + 1);
    }
    bench_result_times(times, n);
}

static void memory(const struct args *a)
{
    per_thread = (uint64_t)bench_number(a, "n");
    handle = wait_held;
    peer->open(1);
    char body[BODY] = "";
    pthread_mutex_lock(&held);
    peer->push(body);
    double before = bench_resident();
    push_all(NULL, 0);
    bench_result("bytes", (bench_resident() - before) / (double)per_thread - BODY);
}

int bench_drive(int argc, char **argv, const struct drive *side)
{
    struct args a = {.argc = argc, .argv = argv};
    const char *scenario = argc > 1 ? argv[1] : "";
    peer = side;
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
    /* The workers of most peers wait for ever: they end with the process. */
    fflush(stdout);
    _Exit(0);
}
