/* test_powerloss.c - the power goes at every change that the library, and the application beside
 * it, make of the disk.  T4 of the fault programme.
 *
 * A scenario of the whole library is recorded once.  Then the disk is rebuilt as it may be at each
 * instant, and opened as the next owner would: what was promised by then has to be there. */
#include "ledger.h"

#include "../harness/harness.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handle.h"
#include "journal.h"

#define OK(call) ck_assert_int_eq((call), BGMQ_OK)

/* ---- the scenario -------------------------------------------------------------------- */

static struct {
    struct recording recording;
    struct ledger ledger;
    struct bgmq *mq;
    sqlite3 *app, *worker; /* connections of the application's, and of its handler */
    int mercy;             /* handlers fail nothing any more */
    unsigned groups, made;
} s;

static size_t now(void)
{
    return recorder_now(&s.recording);
}

/* The first letter of a body says what its handler does. */
static int handle(struct bgmq_job *job, void *ctx);

static int finish(struct bgmq_job *job, struct sqlite3 *db, void *ctx)
{
    (void)ctx;
    char sql[80];
    snprintf(sql, sizeof(sql), "INSERT INTO finish VALUES(%llu)",
             (unsigned long long)bgmq_job_id(job));
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? BGMQ_DONE : BGMQ_RETRY;
}

static int handle(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    switch (*(const char *)bgmq_job_body(job, NULL)) {
    case 'f':
        return s.mercy ? BGMQ_DONE : bgmq_job_fail(job, BGMQ_RETRY, "Again", "failed");
    case 'b':
        return s.mercy ? BGMQ_DONE : bgmq_job_fail(job, BGMQ_PERMANENT, "Bad", "failed");
    case 't':
        return bgmq_job_transaction(job, s.worker, finish, NULL);
    default:
        return BGMQ_DONE;
    }
}

static void sql(sqlite3 *db, const char *text)
{
    int rc = sqlite3_exec(db, text, NULL, NULL, NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", text, sqlite3_errmsg(db));
}

static sqlite3 *connect_app(void)
{
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(s.recording.path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    sql(db, "CREATE TABLE IF NOT EXISTS effect(id INTEGER PRIMARY KEY);"
            "CREATE TABLE IF NOT EXISTS finish(id INTEGER PRIMARY KEY)");
    return db;
}

static void open_service(void)
{
    struct bgmq_options options = {
        .database = s.recording.path, .share_database = 1, .boot_breaker = 1000};
    struct bgmq_error error = {.text = ""};
    int err = bgmq_open(&s.mq, &options, &error);
    ck_assert_msg(err == 0, "%s", error.text);
    s.app = connect_app();
    s.worker = connect_app();
    OK(bgmq_sqlite_prepare(s.mq, s.app));
}

static void close_service(void)
{
    sqlite3_close(s.app);
    sqlite3_close(s.worker);
    OK(bgmq_close(s.mq));
    bgmq_free(s.mq);
}

static const char *new_body(char letter)
{
    static char body[64];
    snprintf(body, sizeof(body), "%c:%u", letter, ++s.made);
    return body;
}

/* DISK promises it, and all that was committed before; the others promise nothing of a loss of
 * power by themselves. */
static void publish(char letter, struct bgmq_message_options options)
{
    const char *body = new_body(letter);
    struct bgmq_receipt receipt;
    size_t from = now();
    OK(bgmq_publish(s.mq, "T", body, strlen(body), &options, &receipt));
    struct promise *p = ledger_add(&s.ledger, receipt.id, body);
    p->finish = letter == 't';
    ledger_step(p, from, LEDGER_NEVER, WAITING);
    if (options.durability == BGMQ_DEFAULT)
        ledger_keep(&s.ledger, now());
}

static void publish_many(enum bgmq_durability durability)
{
    enum { N = 4 };
    struct bgmq_message_options options = {.durability = durability};
    struct bgmq_item items[N];
    struct bgmq_receipt receipts[N];
    char bodies[N][64];
    for (int i = 0; i < N; i++) {
        snprintf(bodies[i], sizeof(bodies[i]), "%s", new_body('o'));
        items[i] = (struct bgmq_item){"T", bodies[i], strlen(bodies[i]), &options};
    }
    size_t from = now();
    OK(bgmq_publish_many(s.mq, items, N, receipts));
    s.groups++;
    for (int i = 0; i < N; i++) {
        struct promise *p = ledger_add(&s.ledger, receipts[i].id, bodies[i]);
        p->group = s.groups;
        ledger_step(p, from, LEDGER_NEVER, WAITING);
    }
}

/* In the application's transaction, with a row of its own; COMMIT 0: that is undone. */
static void publish_tx(int commit)
{
    const char *body = new_body(commit ? 'o' : 'x');
    struct bgmq_receipt receipt;
    char text[80];
    sql(s.app, "BEGIN IMMEDIATE");
    size_t from = now();
    OK(bgmq_publish_tx(s.mq, s.app, "T", body, strlen(body), NULL, &receipt));
    snprintf(text, sizeof(text), "INSERT INTO effect VALUES(%llu)",
             (unsigned long long)receipt.id);
    sql(s.app, text);
    sql(s.app, commit ? "COMMIT" : "ROLLBACK");
    struct promise *p = ledger_add(&s.ledger, receipt.id, body);
    p->effect = 1;
    if (commit)
        ledger_step(p, from, now(), WAITING);
}

static void publish_sql(void)
{
    const char *body = new_body('o');
    char text[128];
    snprintf(text, sizeof(text), "INSERT INTO bgmq_inbox(type, body) VALUES('T', '%s')",
             body);
    size_t from = now();
    sql(s.app, text);
    uint64_t id = (uint64_t)sqlite3_last_insert_rowid(s.app);
    ledger_step(ledger_add(&s.ledger, id, body), from, now(), WAITING);
}

static void publish_all(void)
{
    struct bgmq_message_options committed = {.durability = BGMQ_COMMIT};
    struct bgmq_message_options behind = {.durability = BGMQ_BEHIND};
    publish('o', (struct bgmq_message_options){.priority = 0});
    publish('f', (struct bgmq_message_options){.priority = 3, .tag = "tag"});
    publish('t', (struct bgmq_message_options){.unique_key = "key"});
    publish('o', committed);
    publish_many(BGMQ_COMMIT);
    publish('t', committed);
    publish_tx(1);
    publish_tx(0);
    publish('o', behind);
    publish('b', behind);
    publish_sql();
    publish('o', committed);
    publish('d', (struct bgmq_message_options){.delay_ms = 3600000});
    publish_many(BGMQ_DISK);
    ledger_keep(&s.ledger, now());
    publish('o', behind);
    OK(bgmq_flush(s.mq));
    ledger_keep(&s.ledger, now());
}

/* Every message that is not delayed, and is at FROM, goes on to where its letter says. */
static void note_steps(size_t from, enum whereabouts was)
{
    for (size_t i = 0; i < s.ledger.n; i++) {
        struct promise *p = &s.ledger.all[i];
        enum whereabouts is = p->n ? p->steps[p->n - 1].place : NOWHERE;
        int fails = !s.mercy && (p->body[0] == 'f' || p->body[0] == 'b');
        if (is != was || p->body[0] == 'd')
            continue;
        if (was == DEAD)
            ledger_step(p, from, LEDGER_NEVER, WAITING);
        ledger_step(p, from, LEDGER_NEVER, fails ? DEAD : DONE);
    }
}

static int nothing_waits(void)
{
    struct bgmq_collection c;
    struct bgmq_counters counters;
    OK(bgmq_type_collection(s.mq, "T", &c));
    OK(bgmq_service_counters(s.mq, &counters));
    return c.inq + c.priorityq + c.running == 0 && counters.journal_waiting == 0;
}

static void register_and_start(void)
{
    struct bgmq_type_options options = {.max_attempts = 2,
                                        .backoff = BGMQ_BACKOFF_NONE,
                                        .history = BGMQ_HISTORY_ALL,
                                        .history_body = 1};
    OK(bgmq_register(s.mq, "T", handle, NULL, &options));
    OK(bgmq_start(s.mq));
}

static void handle_all(void)
{
    s.mercy = 0;
    size_t from = now();
    register_and_start();
    WAIT_UNTIL(nothing_waits());
    OK(bgmq_stop(s.mq, 0));
    note_steps(from, WAITING);
    OK(bgmq_flush(s.mq));
    ledger_keep(&s.ledger, now());
}

static void retry_dead(void)
{
    s.mercy = 1;
    size_t from = now();
    OK(bgmq_start(s.mq));
    ck_assert_int_ge(bgmq_retry(s.mq, "T", NULL), 0);
    WAIT_UNTIL(nothing_waits());
    OK(bgmq_stop(s.mq, 0));
    note_steps(from, WAITING);
    note_steps(from, DEAD);
    OK(bgmq_flush(s.mq));
    ledger_keep(&s.ledger, now());
}

static void checkpoint(void *ctx, struct store *store)
{
    *(int *)ctx = store->ops->checkpoint(store, 1);
}

/* Opens, lives ROUNDS rounds, each with a close in the middle, and closes. */
static void live(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int checked = -1;
        open_service();
        publish_all();
        if (i % 2 == 0) {
            OK(bgmqi_journal_run(s.mq->journal, checkpoint, &checked, INT64_MAX / 4));
            ck_assert_int_ge(checked, 0);
        }
        if (i % 3 == 0) {
            close_service();
            open_service();
        }
        handle_all();
        publish_all();
        retry_dead();
        close_service();
    }
    open_service();
    publish_all(); /* what is there at the end */
    close_service();
}

static void record(int rounds, int lies)
{
    recorder_begin(&s.recording, harness_path("power.db"), lies);
    live(rounds);
    recorder_end();
}

static void forget(void)
{
    recording_fini(&s.recording);
    ledger_fini(&s.ledger);
}

/* ---- the judgement ------------------------------------------------------------------- */

static uint64_t seed, chance;
static struct verdict verdict;

/* Disks that were judged, by their checksum and by what was promised then. */
static struct {
    uint64_t *sums;
    size_t n, cap;
} judged;

/* 1 when SUM is new. */
static int is_new(uint64_t sum)
{
    if (judged.n * 2 >= judged.cap) {
        uint64_t *old = judged.sums;
        size_t cap = judged.cap;
        judged.cap = cap ? cap * 2 : 4096;
        judged.sums = calloc(judged.cap, sizeof(uint64_t));
        ck_assert_ptr_nonnull(judged.sums);
        judged.n = 0;
        for (size_t i = 0; i < cap; i++)
            if (old[i])
                is_new(old[i]);
        free(old);
    }
    sum |= 1;
    size_t i = (sum >> 8) & (judged.cap - 1);
    for (; judged.sums[i]; i = (i + 1) & (judged.cap - 1))
        if (judged.sums[i] == sum)
            return 0;
    judged.sums[i] = sum;
    judged.n++;
    return 1;
}

/* Judges what is left of D by LOSS, as at change PROMISED of the ledger.  1: nobody had seen it. */
static int judge(const struct disk *d, enum disk_loss loss, size_t promised)
{
    char what[160];
    const char *path = harness_path("after.db");
    uint64_t sum = disk_write(d, loss, &chance, path);
    if (!is_new(sum ^ ledger_state(&s.ledger, promised)))
        return 0;
    snprintf(what, sizeof(what),
             "change %zu of %zu, loss %d, promises of %zu"
             " (replay: ./tests/faults/run powerloss --seed %llu)",
             d->at, d->recording->n, loss, promised, (unsigned long long)seed);
    ledger_judge(&s.ledger, promised, path, what, &verdict);
    return 1;
}

/* The power goes a second time, anywhere in the recovery from the first. */
static void judge_recovery(const struct disk *d)
{
    const char *path = harness_path("again.db");
    struct recording r;
    struct disk second;
    size_t promised = d->at;
    disk_write(d, DISK_KEEPS_SOME, &chance, path);
    recorder_begin(&r, path, 0);
    ledger_judge(&s.ledger, promised, path, "before a second loss", &verdict);
    recorder_end();
    disk_init(&second, &r);
    for (size_t n = 0; n <= r.n; n++) {
        disk_advance(&second, n);
        judge(&second, DISK_KEEPS_LEAST, promised);
        judge(&second, DISK_KEEPS_SOME, promised);
    }
    disk_fini(&second);
    recording_fini(&r);
}

/* Judges TIMES disks at every change, or at one of EVERY, picked at random. */
static void judge_all(unsigned every, int times, unsigned recoveries)
{
    struct disk d;
    disk_init(&d, &s.recording);
    for (size_t n = 0; n <= s.recording.n; n++) {
        if (every > 1 && random_next(&chance) % every != 0)
            continue;
        disk_advance(&d, n);
        judge(&d, DISK_KEEPS_ALL, n);
        if (disk_open_changes(&d) == 0)
            continue; /* there is nothing to lose */
        judge(&d, DISK_KEEPS_LEAST, n);
        for (int i = 0; i < times; i++)
            judge(&d, DISK_KEEPS_SOME, n);
        if (recoveries && random_next(&chance) % recoveries == 0)
            judge_recovery(&d);
    }
    disk_fini(&d);
}

static void begin(void)
{
    seed = chance = harness_seed(1);
    recorder_install();
}

static void end(void)
{
    free(judged.sums);
    forget();
    recorder_remove();
}

static void expect_clean(const char *name)
{
    harness_figure(name, verdict.states);
    harness_figure("lost", verdict.lost + verdict.back);
    harness_figure("corrupt", verdict.corrupt);
    harness_figure("half", verdict.half + verdict.mangled + verdict.phantom);
    ck_assert_msg(verdict_is_clean(&verdict),
                  "lost %ld, back %ld, phantom %ld, half %ld, mangled %ld, corrupt %ld"
                  " of %ld: %s",
                  verdict.lost, verdict.back, verdict.phantom, verdict.half,
                  verdict.mangled, verdict.corrupt, verdict.states, verdict.text);
}

START_TEST(what_was_promised_is_there_whenever_the_power_goes)
{
    begin();
    record(3, 0);
    printf("# %zu changes, %zu messages\n", s.recording.n, s.ledger.n);
    if (harness_full())
        for (long target = 100000; verdict.states < target;)
            judge_all(1, 12, 50);
    else
        judge_all(3 * harness_scale(), 2, 400);
    expect_clean("states");
    end();
}
END_TEST

/* The same on a disk that says it has synced, and has not: the judge has to see that. */
START_TEST(a_disk_that_lies_is_found_out)
{
    begin();
    record(1, 1);
    judge_all(10 * harness_scale(), 2, 0);
    printf("# %ld states on a disk that lies: lost %ld, corrupt %ld\n", verdict.states,
           verdict.lost, verdict.corrupt);
    ck_assert_int_gt(verdict.lost + verdict.corrupt, 0);
    end();
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("powerloss");
    TCase *tc = harness_case(suite, "power");
    tcase_set_timeout(tc, harness_full() ? 3000 : 120);
    tcase_add_test(tc, what_was_promised_is_there_whenever_the_power_goes);
    tcase_add_test(tc, a_disk_that_lies_is_found_out);
    return suite;
}

int main(void)
{
    /* Memory is disk enough: what it loses is decided here. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return harness_run(suite());
}
