/* ours.c - the bench scenarios on bgmq, by its public header only.  tests/bench/run
 * starts it: ours SCENARIO name=value...  Must do what a user would do, with no tuning of
 * its own. */
#include "ours.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bgmq *mq;
uint64_t per_thread;
int64_t *times;
const struct bgmq_options in_memory = {
    .durability = BGMQ_MEMORY,
    .max_bytes = (size_t)4 << 30,
};

/* Names of all types, where messages are spread over them; else one. */
static char (*names)[24];
static unsigned names_used = 1;
static unsigned types_used;

int read_body(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    bench_tally(bench_read(body, len));
    return BGMQ_DONE;
}

int note_wake(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    int64_t now = bench_now(), stamp[2];
    memcpy(stamp, bgmq_job_body(job, NULL), sizeof(stamp));
    times[stamp[1]] = now - stamp[0];
    bench_tally(0);
    return BGMQ_DONE;
}

void open_service(const struct bgmq_options *options, bgmq_handler_fn *handler,
                  const struct bgmq_type_options *type, unsigned types)
{
    struct bgmq_error error = {""};
    if (bgmq_open(&mq, options, &error)) {
        fprintf(stderr, "bgmq_open: %s\n", error.text);
        exit(1);
    }
    types_used = types;
    names = calloc(types, sizeof(*names));
    bench_check(names != NULL, "memory");
    for (unsigned i = 0; i < types; i++) {
        snprintf(names[i], sizeof(names[i]), i ? "bench%u" : "bench", i);
        int err = bgmq_register(mq, names[i], handler, NULL, type);
        bench_check(err == 0, bgmq_errname(err));
    }
}

void start_service(void)
{
    int err = bgmq_start(mq);
    bench_check(err == 0, bgmq_errname(err));
    /* Some scenarios begin with messages that run from here on: those have one type. */
    if (types_used > 1)
        bench_settle();
}

void alloc_times(uint64_t n)
{
    times = calloc(n, sizeof(*times));
    bench_check(times != NULL, "memory");
}

static void publish_as(const char *type, const void *body)
{
    int err = bgmq_publish(mq, type, body, BODY, NULL, NULL);
    bench_check(err == 0, bgmq_errname(err));
}

void publish(const void *body)
{
    publish_as("bench", body);
}

void publish_all(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY] = {(char)number};
    unsigned next = 0;
    for (uint64_t i = 0; i < per_thread; i++) {
        publish_as(names[next], body);
        next = next + 1 < names_used ? next + 1 : 0;
    }
}

void publish_timed(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY] = {(char)number};
    int64_t *mine = times + number * per_thread;
    for (uint64_t i = 0; i < per_thread; i++) {
        int64_t begin = bench_now();
        publish(body);
        mine[i] = bench_now() - begin;
    }
}

/* TYPES are registered; with SPREAD the messages go to each in turn, else to one. */
static void dispatch(const struct args *a)
{
    unsigned producers = (unsigned)bench_number(a, "producers");
    unsigned types = (unsigned)bench_number(a, "types");
    per_thread = (uint64_t)bench_number(a, "n") / producers;
    open_service(
        &in_memory, read_body,
        &(struct bgmq_type_options){.threads = (unsigned)bench_number(a, "workers")},
        types);
    if (bench_number(a, "spread"))
        names_used = types;
    start_service();
    int64_t begin = bench_now();
    bench_threads(producers, publish_all, NULL);
    bench_tally_wait(per_thread * producers);
    bench_result_rate(per_thread * producers, begin);
}

static void wake(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    alloc_times(n);
    open_service(&in_memory, note_wake, NULL, (unsigned)bench_number(a, "types"));
    start_service();
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(1000000);
        char body[BODY] = "";
        int64_t stamp[2] = {bench_now(), (int64_t)i};
        memcpy(body, stamp, sizeof(stamp));
        publish(body);
        bench_tally_wait(i + 1);
    }
    bench_result_times(times, n);
}

static void memory(const struct args *a)
{
    per_thread = (uint64_t)bench_number(a, "n");
    open_service(&in_memory, read_body, NULL, 1);
    char body[BODY] = "";
    publish(body);
    double before = bench_resident();
    publish_all(NULL, 0);
    bench_result("bytes", (bench_resident() - before) / (double)per_thread - BODY);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        scenario_fn *run;
    } scenarios[] = {
        {"dispatch", dispatch}, {"wake", wake},       {"memory", memory},
        {"fill", fill},         {"backlog", backlog}, {"lifecycle", lifecycle},
        {"cursor", cursor},     {"tx", tx},           {"tx-cost", tx_cost},
        {"admin", admin},       {"idle", idle},
    };
    struct args a = {.argc = argc, .argv = argv};
    for (size_t i = 0; argc > 1 && i < sizeof(scenarios) / sizeof(*scenarios); i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0)
            continue;
        scenarios[i].run(&a);
        bgmq_free(mq);
        return 0;
    }
    fprintf(stderr, "%s: no such scenario\n", argv[0]);
    return 1;
}
