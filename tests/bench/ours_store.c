/* ours_store.c - the scenarios with a database: the life cycle at each durability, what a
 * database full of messages costs, cursors.  See ours.h. */
#include "ours.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Leaves N messages in the database, due in DELAY ms, and dies with it open.  tests/bench/run
 * copies what is left to where lifecycle and backlog begin. */
void fill(const struct args *a)
{
    enum { GROUP = 1000 };
    static char body[BODY];
    static struct bgmq_item items[GROUP];
    uint64_t n = (uint64_t)bench_number(a, "n");
    struct bgmq_message_options later = {.delay_ms = bench_number(a, "delay")};
    for (int i = 0; i < GROUP; i++)
        items[i] = (struct bgmq_item){
            .type = "bench", .body = body, .len = BODY, .options = &later};
    open_service(&(struct bgmq_options){.database = bench_text(a, "db"),
                                        .durability = BGMQ_BEHIND},
                 read_body, NULL, 1);
    for (uint64_t i = 0; i < n; i += GROUP) {
        int err = bgmq_publish_many(mq, items, n - i < GROUP ? n - i : GROUP, NULL);
        bench_check(err == 0, bgmq_errname(err));
    }
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
    _exit(0);
}

/* From the first publish until as many jobs have run and their ends are in the database, which
 * may hold others from before. */
void lifecycle(const struct args *a)
{
    unsigned producers = (unsigned)bench_number(a, "producers");
    int disk = strcmp(bench_text(a, "level"), "disk") == 0;
    per_thread = (uint64_t)bench_number(a, "n") / producers;
    alloc_times(per_thread * producers);
    struct bgmq_options options = {
        .database = bench_text(a, "db"),
        .durability = disk ? BGMQ_DISK : BGMQ_BEHIND,
        .max_bytes = (size_t)4 << 30,
        .history_keep = 100 * 1000 * 1000, /* the peer throws no row away either */
    };
    struct bgmq_type_options type = {
        .threads = (unsigned)bench_number(a, "workers"),
        .window = (unsigned)bench_number(a, "window"),
        .history = bench_number(a, "history") ? BGMQ_HISTORY_ALL : BGMQ_HISTORY_OFF,
    };
    open_service(&options, read_body, &type, (unsigned)bench_number(a, "types"));
    start_service();
    int64_t begin = bench_now();
    bench_threads(producers, disk ? publish_timed : publish_all, NULL);
    bench_tally_wait(per_thread * producers);
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
    bench_result_rate(per_thread * producers, begin);
    if (disk)
        bench_result_times(times, per_thread * producers);
    struct bgmq_counters counters;
    bench_check(bgmq_service_counters(mq, &counters) == 0, "bgmq_counters");
    bench_result("commits", (double)counters.commits);
    int err = bgmq_stop(mq, 60000);
    bench_check(err == 0, bgmq_errname(err));
    bench_result("done", (double)bench_tally_sum());
}

/* From the opening of a database with N waiting messages until the first is at its handler and,
 * where ALL is asked for, until all are done. */
void backlog(const struct args *a)
{
    int64_t begin = bench_now();
    open_service(&(struct bgmq_options){.database = bench_text(a, "db")}, read_body, NULL,
                 1);
    start_service();
    bench_tally_wait(1);
    bench_result("first", (double)(bench_now() - begin) / 1e6);
    uint64_t n = (uint64_t)bench_number(a, "n");
    if (bench_number(a, "all")) {
        bench_tally_wait(n);
        bench_result_rate(n, begin);
    }
    struct rusage usage;
    bench_check(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
    bench_result("resident", (double)usage.ru_maxrss / 1024);
}

/* One handler that saves its cursor for each of N items, while the journal writes. */
static int save_cursors(struct bgmq_job *job, void *ctx)
{
    uint64_t n = *(const uint64_t *)ctx;
    char cursor[BODY] = "";
    int64_t begin = bench_now();
    for (uint64_t i = 0; i < n; i++) {
        memcpy(cursor, &i, sizeof(i));
        int err = bgmq_job_save_cursor(job, cursor, sizeof(cursor), BGMQ_BEHIND);
        bench_check(err == 0, bgmq_errname(err));
    }
    bench_result_rate(n, begin);
    bench_tally(0);
    return BGMQ_DONE;
}

void cursor(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    struct bgmq_options options = {.database = bench_text(a, "db")};
    int err = bgmq_open(&mq, &options, NULL);
    if (!err)
        err = bgmq_register(mq, "bench", save_cursors, &n, NULL);
    if (!err)
        err = bgmq_start(mq);
    bench_check(err == 0, bgmq_errname(err));
    char body[BODY] = "";
    publish(body);
    bench_tally_wait(1);
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
}
