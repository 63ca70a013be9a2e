/* victim.c - the process that is killed: two threads publish, workers handle, and everything is
 * written down before it is done.  The crash tests run it as a process of its own; all its
 * threads but the first two belong to the library. */
#include "victim.h"

#include "cargo.h"
#include "loop.h"

#include <bgmq.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PUBLISHES = 400, BATCH_MAX = 120 };

struct victim {
    struct bgmq *mq;
    int history;
    long round;
    uint64_t seed;
    long end; /* says which start ends the process, and how: loop_end_if_due */
    _Atomic long starts;
};

struct publisher {
    struct victim *v;
    int number;
    uint64_t random;
    long n;
};

/* ---- handling ------------------------------------------------------------------- */

static void respond(struct victim *v, struct bgmq_job *job, const char *key)
{
    char response[KEY_SIZE + 2], body[CARGO_MAX];
    snprintf(response, sizeof(response), "R-%s", key);
    size_t len = cargo_make(response, body);
    history_write(v->history, "T %s response 0", response);
    if (bgmq_job_respond(job, "Plain", body, len))
        abort();
}

/* The one handler: what it does depends on the type. */
static int handle(struct bgmq_job *job, void *ctx)
{
    struct victim *v = ctx;
    char key[KEY_SIZE];
    uint64_t id = bgmq_job_id(job);
    size_t len = 0;
    const char *body = bgmq_job_body(job, &len);
    int good = cargo_read(body, len, key);
    history_write(v->history, "S %s %" PRIu64 " %u %" PRId64, key, id,
                  bgmq_job_attempt(job), wall_ms());
    if (!good)
        history_write(v->history, "B %s %" PRIu64, key, id);
    loop_end_if_due(v->end, atomic_fetch_add(&v->starts, 1) + 1);
    if (id % 16 == 0)
        poll(NULL, 0, 3); /* work that takes its time, to be killed in the middle of it */
    if (!strcmp(bgmq_job_type(job), "Flaky") && bgmq_job_attempt(job) == 1) {
        history_write(v->history, "F %s %" PRIu64, key, id);
        return bgmq_job_fail(job, BGMQ_RETRY, "Flaky", "the first time");
    }
    if (!strcmp(bgmq_job_type(job), "Chain"))
        respond(v, job, key);
    history_write(v->history, "D %s %" PRIu64, key, id);
    return BGMQ_DONE;
}

/* ---- publishing ----------------------------------------------------------------- */

static enum bgmq_durability level_of(const struct publisher *p)
{
    return p->number ? BGMQ_DISK : BGMQ_COMMIT;
}

static void tell(struct publisher *p, const char *key, int err, uint64_t id)
{
    if (err)
        history_write(p->v->history, "E %s %s", key, bgmq_errname(err));
    else
        history_write(p->v->history, "A %s %" PRIu64, key, id);
}

static void publish_batch(struct publisher *p)
{
    static _Thread_local char keys[BATCH_MAX][KEY_SIZE], bodies[BATCH_MAX][CARGO_MAX];
    struct bgmq_item items[BATCH_MAX];
    struct bgmq_receipt receipts[BATCH_MAX];
    int n = 2 + (int)(next_random(&p->random) >> 9) % (BATCH_MAX - 1);
    struct bgmq_message_options options = {.durability = level_of(p)};
    for (int i = 0; i < n; i++) {
        snprintf(keys[i], KEY_SIZE, "b%ld.%d.%ld.%d", p->v->round, p->number, p->n, i);
        items[i] = (struct bgmq_item){.type = "Plain",
                                      .body = bodies[i],
                                      .len = cargo_make(keys[i], bodies[i]),
                                      .options = &options};
        history_write(p->v->history, "T %s batch 0", keys[i]);
    }
    int err = bgmq_publish_many(p->v->mq, items, (size_t)n, receipts);
    for (int i = 0; i < n; i++)
        tell(p, keys[i], err, err ? 0 : receipts[i].id);
}

static void publish_one(struct publisher *p)
{
    static const char *const types[] = {"Plain", "Flaky", "Chain"};
    static const char letters[] = "pfc";
    uint64_t random = next_random(&p->random);
    int type = (int)(random % 3);
    char key[KEY_SIZE], body[CARGO_MAX];
    snprintf(key, sizeof(key), "r%ld.%d.%c%ld", p->v->round, p->number, letters[type],
             p->n);
    size_t len = cargo_make(key, body);
    struct bgmq_message_options options = {.durability = level_of(p)};
    if (random >> 8 & 1)
        options.priority = 1 + (int)((random >> 16) % 9);
    if ((random >> 9 & 7) == 0)
        options.delay_ms = 1 + (int64_t)(random >> 24) % 8;
    history_write(p->v->history, "T %s %d %" PRId64, key, (int)options.durability,
                  options.delay_ms ? wall_ms() + options.delay_ms : 0);
    struct bgmq_receipt receipt = {0};
    int err = bgmq_publish(p->v->mq, types[type], body, len, &options, &receipt);
    tell(p, key, err, receipt.id);
}

static void *publish_all(void *arg)
{
    struct publisher *p = arg;
    for (p->n = 0; p->n < PUBLISHES; p->n++) {
        if (next_random(&p->random) % 5 == 0)
            publish_batch(p);
        else
            publish_one(p);
    }
    return NULL;
}

/* ---- the two lives -------------------------------------------------------------- */

static int register_types(struct victim *v)
{
    static const char *const types[] = {"Plain", "Flaky", "Chain"};
    struct bgmq_type_options options = {
        .threads = 2,
        .max_attempts = 50,
        .backoff = BGMQ_BACKOFF_FIXED,
        .backoff_base_ms = 1,
        .window = 1 + (unsigned)(v->seed % 60),
    };
    int err = 0;
    for (int i = 0; i < 3 && !err; i++)
        err = bgmq_register(v->mq, types[i], handle, v, &options);
    return err;
}

static int work(struct victim *v)
{
    struct publisher publishers[2];
    pthread_t threads[2];
    if (bgmq_start(v->mq) || write(LOOP_READY_FD, "!", 1) != 1)
        return 11;
    for (int i = 0; i < 2; i++) {
        publishers[i] =
            (struct publisher){.v = v, .number = i, .random = v->seed * 2 + (unsigned)i};
        if (pthread_create(&threads[i], NULL, publish_all, &publishers[i]))
            return 12;
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    poll(NULL, 0, -1);
    return 13;
}

static int tell_dead(struct victim *v, const char *queue)
{
    struct bgmq_message *m;
    int err;
    while ((err = bgmq_get(v->mq, queue, 0, &m)) == 0) {
        size_t len = 0;
        const char *body = bgmq_message_body(m, &len);
        history_write(v->history, "X %.*s %" PRIu64, (int)strcspn(body, "|"), body,
                      bgmq_message_id(m));
        bgmq_ack(m);
        bgmq_message_free(m);
    }
    return err == BGMQ_ETIMEOUT ? 0 : 21;
}

/* Messages not at their end.  Chain before Plain, since one becomes the other. */
static int64_t left(struct bgmq *mq)
{
    static const char *const types[] = {"Chain", "Flaky", "Plain"};
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        struct bgmq_collection c;
        if (bgmq_type_collection(mq, types[i], &c))
            return -1;
        n += (int64_t)(c.inq + c.priorityq + c.delayed + c.running);
    }
    return n;
}

/* Ends when nothing is left; says when it is getting on, so that the parent's patience is for one
 * that does not. */
static int drain(struct victim *v)
{
    if (bgmq_start(v->mq) || write(LOOP_READY_FD, "!", 1) != 1)
        return 11;
    int64_t n, before = INT64_MAX;
    while ((n = left(v->mq)) > 0 || bgmq_flush(v->mq) || (n = left(v->mq)) > 0) {
        if (n < before - 100 && write(LOOP_READY_FD, ".", 1) != 1)
            return 12;
        if (n < before - 100)
            before = n;
        poll(NULL, 0, 2);
    }
    if (n < 0)
        return 22;
    int err = tell_dead(v, "mq:Plain.dlq");
    err = err ? err : tell_dead(v, "mq:Flaky.dlq");
    err = err ? err : tell_dead(v, "mq:Chain.dlq");
    if (err)
        return err;
    if (bgmq_close(v->mq))
        return 23;
    bgmq_free(v->mq);
    return 0;
}

int victim_main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    struct victim v = {
        .round = strtol(argv[2], NULL, 10),
        .seed = strtoull(argv[3], NULL, 10),
        .end = strtol(argv[4], NULL, 10),
    };
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    v.history = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (v.history < 0)
        return 3;
    history_write(v.history, "O %ld %s", v.round, argv[5]);
    struct bgmq_options options = {.database = argv[0], .boot_breaker = 1000};
    struct bgmq_error error = {""};
    int err = bgmq_open(&v.mq, &options, &error);
    if (err || register_types(&v)) {
        fprintf(stderr, "victim: %s: %s\n", bgmq_errname(err), error.text);
        return 4;
    }
    return strcmp(argv[5], VICTIM_DRAIN) ? work(&v) : drain(&v);
}
