/* guard.c - fixed scenarios of which callgrind counts the instructions (see guard.py).
 *
 * guard SCENARIO FILE runs one, with its database in FILE, and prints how many operations were
 * counted; guard list names them.  Without callgrind it does the same and nothing is counted.
 *
 * The counts have to be the same in each run.  So counting is switched on and off on the thread
 * that does the work and counts that thread alone, the clock stands still, the hashes have a fixed
 * seed, and whatever the threads might do in another order is ordered: the worker is held in its
 * handler while others are counted; what it is counted for has been published before; and the
 * journal writes when it is asked to, and not by the time. */
#include <bgmq.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <valgrind/callgrind.h>

#include "journal.h"
#include "service.h"

enum {
    WARM =
        200, /* operations before the counted ones: memory and tables have grown by then */
    OPS = 2000,
    ALL = 1 + WARM + OPS + 1, /* the first holds the worker, the last ends the count */
    SYNCED = 200,             /* operations with a commit each */
    GROUP = 100,
    BODY = 100,
    SLOWER = 30 /* rounds of the loop that has to be noticed */
};
#define DAY_MS       86400000
#define PATIENCE_NS  INT64_C(60000000000)
#define STANDS_AT_MS INT64_C(1893456000000) /* 2030-01-01 */

static const char *file;
static const char body[BODY] = "{\"a\":\"message\"}";
static unsigned counted;

static struct bgmq *mq;
static sem_t held, go, over;
static unsigned calls_expected; /* set before the worker is let go */
static unsigned count_from = UINT32_MAX, count_calls; /* likewise: its calls that count */
static unsigned calls; /* of the handler; the worker's own */

/* ---- what stands still --------------------------------------------------------------- */

/* In place of libc's: the seed of each map. */
ssize_t getrandom(void *ret, size_t len, unsigned flags)
{
    (void)flags;
    memset(ret, 7, len);
    return (ssize_t)len;
}

static int64_t wall_ms(void *ctx)
{
    (void)ctx;
    return STANDS_AT_MS;
}

static int64_t mono_ns(void *ctx)
{
    (void)ctx;
    return INT64_C(1000000000);
}

static const struct clock still = {
    .wall_ms = wall_ms, .mono_ns = mono_ns, .rough_ms = wall_ms};

static void check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "guard: failed: %s\n", what);
    exit(1);
}

/* From here to count_off this thread counts, and no other does. */
static inline void count_on(void)
{
    CALLGRIND_TOGGLE_COLLECT;
}

static inline void count_off(unsigned ops)
{
    CALLGRIND_TOGGLE_COLLECT;
    counted = ops;
}

/* ---- the worker ---------------------------------------------------------------------- */

/* The first call holds the worker until it is let go. */
static void note_call(void)
{
    unsigned n = calls++;
    if (n == 0) {
        sem_post(&held);
        check(sem_wait(&go) == 0, "wait");
    }
    if (n == count_from)
        count_on();
    if (count_calls && n == count_from + count_calls)
        count_off(count_calls);
    if (calls == calls_expected)
        sem_post(&over);
}

static int succeed(struct bgmq_job *job, void *ctx)
{
    (void)job;
    (void)ctx;
    note_call();
    return BGMQ_DONE;
}

/* At the first attempt, but for that of the message that held the worker. */
static int fail_once(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    note_call();
    return bgmq_job_attempt(job) > 1 || calls == 1
               ? BGMQ_DONE
               : bgmq_job_fail(job, BGMQ_RETRY, "Busy", "try again");
}

static int answer(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    note_call();
    return bgmq_job_respond(job, "Answer", body, BODY) ? BGMQ_PERMANENT : BGMQ_DONE;
}

static int save_cursors(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    note_call();
    for (uint64_t i = 0; calls == 2 && i < WARM + OPS; i++) {
        if (i == WARM)
            count_on();
        check(bgmq_job_save_cursor(job, &i, sizeof(i), BGMQ_BEHIND) == 0, "save");
    }
    if (calls == 2)
        count_off(OPS);
    return BGMQ_DONE;
}

/* ---- the writer of the journal -------------------------------------------------------- */

/* On its thread, the next three. */
static void writer_nothing(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
}

static void writer_on(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
    count_on();
}

static void writer_off(void *ctx, struct store *s)
{
    (void)s;
    count_off(*(const unsigned *)ctx);
}

/* Runs FN on the writer's thread, when all that was added before is written. */
static void on_writer(bgmqi_journal_fn *fn, unsigned ops)
{
    check(bgmqi_journal_run(mq->journal, fn, &ops, PATIENCE_NS) == 0, "journal");
}

/* ---- the service ----------------------------------------------------------------------- */

/* Opens a service with one worker, which is held in its handler. */
static void open_held(bgmq_handler_fn *handler, enum bgmq_durability level)
{
    struct bgmq_error error = {""};
    struct bgmq_options options = {
        .database = level == BGMQ_MEMORY ? NULL : file,
        .durability = level,
        .flush_interval_ms = DAY_MS,
        .flush_batch = 1000000,
    };
    struct bgmq_type_options type = {
        .backoff = BGMQ_BACKOFF_NONE, .max_attempts = 2, .window = 100000};
    if (bgmqi_service_open(&mq, &options, &still, &error)) {
        fprintf(stderr, "guard: %s\n", error.text);
        exit(1);
    }
    check(bgmq_register(mq, "Guard", handler, NULL, &type) == 0, "register");
    check(bgmq_start(mq) == 0, "start");
    check(bgmq_publish(mq, "Guard", body, BODY, NULL, NULL) == 0, "first publish");
    check(sem_wait(&held) == 0, "wait");
    if (mq->journal)
        on_writer(writer_nothing, 0); /* what opening gave it to do is done */
}

/* Lets the worker go, until its handler has been called CALLS times. */
static void run_all(unsigned expected)
{
    calls_expected = expected;
    sem_post(&go);
    check(sem_wait(&over) == 0, "wait");
}

static void close_all(void)
{
    check(bgmq_stop(mq, 60000) == 0, "stop");
    check(calls == calls_expected, "each message was handled");
    bgmq_free(mq);
}

/* ---- publishing ---------------------------------------------------------------------- */

static void publish(unsigned n, const struct bgmq_message_options *options)
{
    for (unsigned i = 0; i < n; i++)
        check(bgmq_publish(mq, "Guard", body, BODY, options, NULL) == 0, "publish");
}

static void count_publish(enum bgmq_durability level)
{
    open_held(succeed, level);
    publish(WARM, NULL);
    count_on();
    publish(OPS, NULL);
    count_off(OPS);
    run_all(1 + WARM + OPS);
    close_all();
}

static void publish_memory(void)
{
    count_publish(BGMQ_MEMORY);
}

static void publish_behind(void)
{
    count_publish(BGMQ_BEHIND);
}

/* No scenario of the library: shows that a loop of this size is noticed. */
static void publish_slower(void)
{
    open_held(succeed, BGMQ_MEMORY);
    publish(WARM, NULL);
    count_on();
    for (unsigned i = 0; i < OPS; i++) {
        publish(1, NULL);
        for (volatile unsigned round = 0; round < SLOWER;)
            round = round + 1;
    }
    count_off(OPS);
    run_all(1 + WARM + OPS);
    close_all();
}

static void publish_options(void)
{
    static char keys[WARM + OPS][16];
    static const char *const meta[] = {"tenant", "17", "origin", "web", NULL};
    for (unsigned i = 0; i < WARM + OPS; i++)
        snprintf(keys[i], sizeof(keys[i]), "key-%u", i);
    open_held(succeed, BGMQ_MEMORY);
    for (unsigned i = 0; i < WARM + OPS; i++) {
        if (i == WARM)
            count_on();
        publish(1,
                &(struct bgmq_message_options){
                    .priority = 5, .unique_key = keys[i], .tag = "a tag", .meta = meta});
    }
    count_off(OPS);
    run_all(1 + WARM + OPS);
    close_all();
}

static void publish_many(void)
{
    struct bgmq_item items[GROUP];
    for (unsigned i = 0; i < GROUP; i++)
        items[i] = (struct bgmq_item){.type = "Guard", .body = body, .len = BODY};
    open_held(succeed, BGMQ_MEMORY);
    for (unsigned i = 0; i < WARM + OPS; i += GROUP) {
        if (i == WARM)
            count_on();
        check(bgmq_publish_many(mq, items, GROUP, NULL) == 0, "publish many");
    }
    count_off(OPS);
    run_all(1 + WARM + OPS);
    close_all();
}

/* ---- taking and settling ------------------------------------------------------------- */

/* Counts the worker from one call of HANDLER to the next: settle, take, call. */
static void count_worker(bgmq_handler_fn *handler, enum bgmq_durability level,
                         const struct bgmq_message_options *options, unsigned attempts)
{
    count_from = 1 + WARM;
    count_calls = OPS;
    open_held(handler, level);
    publish(ALL - 1, options);
    if (mq->journal)
        on_writer(writer_nothing, 0); /* all have their rows */
    run_all(1 + (ALL - 1) * attempts);
    close_all();
}

static void settle_memory(void)
{
    count_worker(succeed, BGMQ_MEMORY, NULL, 1);
}

static void settle_behind(void)
{
    count_worker(succeed, BGMQ_BEHIND, NULL, 1);
}

static void settle_failed(void)
{
    count_worker(fail_once, BGMQ_MEMORY, NULL, 2);
}

static void settle_reply(void)
{
    count_worker(answer, BGMQ_MEMORY,
                 &(struct bgmq_message_options){.reply_to = "answers"}, 1);
}

static void cursor(void)
{
    open_held(save_cursors, BGMQ_BEHIND);
    publish(1, NULL);
    run_all(2);
    close_all();
}

/* Published to, got from and acknowledged in a custom queue. */
static void queue(void)
{
    open_held(succeed, BGMQ_MEMORY);
    for (unsigned i = 0; i < WARM + OPS; i++) {
        struct bgmq_message *m;
        if (i == WARM)
            count_on();
        check(bgmq_publish_to(mq, "custom", body, BODY, NULL, NULL) == 0, "publish to");
        check(bgmq_get(mq, "custom", 0, &m) == 0, "get");
        check(bgmq_ack(m) == 0, "ack");
        bgmq_message_free(m);
    }
    count_off(OPS);
    run_all(1);
    close_all();
}

/* ---- the journal --------------------------------------------------------------------- */

/* Rows of new messages, all in one batch. */
static void journal_insert(void)
{
    open_held(succeed, BGMQ_BEHIND);
    publish(WARM, NULL);
    on_writer(writer_on, 0);
    publish(OPS, NULL);
    on_writer(writer_off, OPS);
    run_all(1 + WARM + OPS);
    close_all();
}

/* The ends of messages that have a row, all in one batch. */
static void journal_end(void)
{
    open_held(succeed, BGMQ_BEHIND);
    publish(OPS, NULL);
    on_writer(writer_on, 0);
    run_all(1 + OPS);
    check(bgmq_stop(mq, 60000) == 0, "stop");
    on_writer(writer_off, OPS);
    close_all();
}

/* A commit for each message: one publisher who waits for it. */
static void journal_commit(void)
{
    open_held(succeed, BGMQ_COMMIT);
    publish(WARM, NULL);
    on_writer(writer_on, 0);
    publish(SYNCED, NULL);
    on_writer(writer_off, SYNCED);
    run_all(1 + WARM + SYNCED);
    close_all();
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"publish", publish_memory},
    {"publish-options", publish_options},
    {"publish-many", publish_many},
    {"publish-behind", publish_behind},
    {"settle", settle_memory},
    {"settle-failed", settle_failed},
    {"settle-reply", settle_reply},
    {"settle-behind", settle_behind},
    {"queue", queue},
    {"cursor", cursor},
    {"journal-insert", journal_insert},
    {"journal-end", journal_end},
    {"journal-commit", journal_commit},
    {"publish-slower", publish_slower},
};

static void list(void)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
        if (scenarios[i].run != publish_slower)
            puts(scenarios[i].name);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list();
        return 0;
    }
    check(argc == 3, "guard SCENARIO FILE, or guard list");
    file = argv[2];
    sem_init(&held, 0, 0);
    sem_init(&go, 0, 0);
    sem_init(&over, 0, 0);
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
        if (strcmp(argv[1], scenarios[i].name) == 0) {
            scenarios[i].run();
            check(counted > 0, "something was counted");
            printf("%u\n", counted);
            return 0;
        }
    check(0, "no such scenario");
    return 1;
}
