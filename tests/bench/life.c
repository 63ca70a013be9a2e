/* life.c - the durable scenario of every server.  See life.h.  Connections are made before the
 * clock starts. */
#include "life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct life *peer;
static void **publishers, **workers; /* connections */
static uint64_t per_thread;
static int64_t *times; /* of each publish */

static void publish_all(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY];
    memset(body, 'a' + (int)(number % 26), sizeof(body));
    int64_t *mine = times + number * per_thread;
    for (uint64_t i = 0; i < per_thread; i++) {
        int64_t begin = bench_now();
        peer->publish(publishers[number], body);
        mine[i] = bench_now() - begin;
    }
}

static void work_all(void *ctx, unsigned number)
{
    (void)ctx;
    for (;;)
        bench_tally(peer->work(workers[number]));
}

static void **connect_all(const struct args *a, unsigned n, int is_worker)
{
    void **all = calloc(n, sizeof(*all));
    bench_check(all != NULL, "memory");
    for (unsigned i = 0; i < n; i++)
        all[i] = peer->connect(bench_text(a, "address"), i, is_worker);
    return all;
}

int bench_life(int argc, char **argv, const struct life *side)
{
    struct args a = {.argc = argc, .argv = argv};
    unsigned producers = (unsigned)bench_number(&a, "producers");
    unsigned consumers = (unsigned)bench_number(&a, "workers");
    peer = side;
    per_thread = (uint64_t)bench_number(&a, "n") / producers;
    times = calloc(per_thread * producers, sizeof(*times));
    bench_check(times != NULL, "memory");
    publishers = connect_all(&a, producers, 0);
    workers = connect_all(&a, consumers, 1);
    bench_workers(consumers, work_all, NULL);
    int64_t begin = bench_now();
    bench_threads(producers, publish_all, NULL);
    bench_tally_wait(per_thread * producers);
    bench_result_rate(per_thread * producers, begin);
    bench_result_times(times, per_thread * producers);
    bench_check(bench_tally_sum() == per_thread * producers, "each job once");
    /* The workers wait for jobs that never come: they end with the process. */
    fflush(stdout);
    _Exit(0);
}
