/* life.c - see life.h.  On the thread of the test, but for the handler. */
#include "life.h"

#include "../harness/harness.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "handle.h"
#include "journal.h"

#define OK(call) ck_assert_int_eq((call), BGMQ_OK)

struct life life;

static size_t now(void)
{
    return recorder_now(&life.recording);
}

static int finish(struct bgmq_job *job, struct sqlite3 *db, void *ctx)
{
    (void)ctx;
    char sql[80];
    snprintf(sql, sizeof(sql), "INSERT INTO finish VALUES(%llu)",
             (unsigned long long)bgmq_job_id(job));
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? BGMQ_DONE : BGMQ_RETRY;
}

/* The first letter of a body says what its handler does. */
static int handle(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    switch (*(const char *)bgmq_job_body(job, NULL)) {
    case 'f':
        return life.mercy ? BGMQ_DONE : bgmq_job_fail(job, BGMQ_RETRY, "Again", "failed");
    case 'b':
        return life.mercy ? BGMQ_DONE
                          : bgmq_job_fail(job, BGMQ_PERMANENT, "Bad", "failed");
    case 't':
        return bgmq_job_transaction(job, life.worker, finish, NULL);
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
    ck_assert_int_eq(sqlite3_open(life.recording.path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    sql(db, "CREATE TABLE IF NOT EXISTS effect(id INTEGER PRIMARY KEY);"
            "CREATE TABLE IF NOT EXISTS finish(id INTEGER PRIMARY KEY)");
    return db;
}

void life_open(void)
{
    struct bgmq_options options = {
        .database = life.recording.path, .share_database = 1, .boot_breaker = 1000};
    struct bgmq_error error = {.text = ""};
    int err = bgmq_open(&life.mq, &options, &error);
    ck_assert_msg(err == 0, "%s", error.text);
    life.app = connect_app();
    life.worker = connect_app();
    OK(bgmq_sqlite_prepare(life.mq, life.app));
    OK(bgmq_sqlite_prepare(life.mq, life.worker));
}

void life_close(void)
{
    sqlite3_close(life.app);
    sqlite3_close(life.worker);
    OK(bgmq_close(life.mq));
    bgmq_free(life.mq);
}

static const char *new_body(char letter)
{
    static char body[64];
    snprintf(body, sizeof(body), "%c:%u", letter, ++life.made);
    return body;
}

/* DISK promises it, and all that was committed before; the others promise nothing of a loss of
 * power by themselves. */
static void publish(char letter, struct bgmq_message_options options)
{
    const char *body = new_body(letter);
    struct bgmq_receipt receipt;
    size_t from = now();
    OK(bgmq_publish(life.mq, "T", body, strlen(body), &options, &receipt));
    struct promise *p = ledger_add(&life.ledger, receipt.id, body);
    p->finish = letter == 't';
    ledger_step(p, from, LEDGER_NEVER, WAITING);
    if (options.durability == BGMQ_DEFAULT || life.too_much)
        ledger_keep(&life.ledger, now());
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
    OK(bgmq_publish_many(life.mq, items, N, receipts));
    life.groups++;
    for (int i = 0; i < N; i++) {
        struct promise *p = ledger_add(&life.ledger, receipts[i].id, bodies[i]);
        p->group = life.groups;
        ledger_step(p, from, LEDGER_NEVER, WAITING);
    }
}

/* In the application's transaction, with a row of its own; COMMIT 0: that is undone. */
static void publish_tx(int commit)
{
    const char *body = new_body(commit ? 'o' : 'x');
    struct bgmq_receipt receipt;
    char text[80];
    sql(life.app, "BEGIN IMMEDIATE");
    size_t from = now();
    OK(bgmq_publish_tx(life.mq, life.app, "T", body, strlen(body), NULL, &receipt));
    snprintf(text, sizeof(text), "INSERT INTO effect VALUES(%llu)",
             (unsigned long long)receipt.id);
    sql(life.app, text);
    sql(life.app, commit ? "COMMIT" : "ROLLBACK");
    struct promise *p = ledger_add(&life.ledger, receipt.id, body);
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
    sql(life.app, text);
    uint64_t id = (uint64_t)sqlite3_last_insert_rowid(life.app);
    ledger_step(ledger_add(&life.ledger, id, body), from, now(), WAITING);
}

void life_publish(void)
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
    ledger_keep(&life.ledger, now());
    publish('o', behind);
    OK(bgmq_flush(life.mq));
    ledger_keep(&life.ledger, now());
}

/* Every message that is not delayed, and is at FROM, goes on to where its letter says. */
static void note_steps(size_t from, enum whereabouts was)
{
    for (size_t i = 0; i < life.ledger.n; i++) {
        struct promise *p = &life.ledger.all[i];
        enum whereabouts is = p->n ? p->steps[p->n - 1].place : NOWHERE;
        int fails = !life.mercy && (p->body[0] == 'f' || p->body[0] == 'b');
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
    OK(bgmq_type_collection(life.mq, "T", &c));
    OK(bgmq_service_counters(life.mq, &counters));
    return c.inq + c.priorityq + c.running == 0 && counters.journal_waiting == 0;
}

static void register_and_start(void)
{
    struct bgmq_type_options options = {.max_attempts = 2,
                                        .backoff = BGMQ_BACKOFF_NONE,
                                        .history = BGMQ_HISTORY_ALL,
                                        .history_body = 1};
    OK(bgmq_register(life.mq, "T", handle, NULL, &options));
    OK(bgmq_start(life.mq));
}

static void handle_all(void)
{
    life.mercy = 0;
    size_t from = now();
    register_and_start();
    WAIT_UNTIL(nothing_waits());
    OK(bgmq_stop(life.mq, 0));
    note_steps(from, WAITING);
    OK(bgmq_flush(life.mq));
    ledger_keep(&life.ledger, now());
}

static void retry_dead(void)
{
    life.mercy = 1;
    size_t from = now();
    OK(bgmq_start(life.mq));
    ck_assert_int_ge(bgmq_retry(life.mq, "T", NULL), 0);
    WAIT_UNTIL(nothing_waits());
    OK(bgmq_stop(life.mq, 0));
    note_steps(from, WAITING);
    note_steps(from, DEAD);
    OK(bgmq_flush(life.mq));
    ledger_keep(&life.ledger, now());
}

static void checkpoint(void *ctx, struct store *store)
{
    *(int *)ctx = store->ops->checkpoint(store, 1);
}

void life_live(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int checked = -1;
        life_open();
        life_publish();
        if (i % 2 == 0) {
            OK(bgmqi_journal_run(life.mq->journal, checkpoint, &checked, INT64_MAX / 4));
            ck_assert_int_ge(checked, 0);
        }
        if (i % 3 == 0) {
            life_close();
            life_open();
        }
        handle_all();
        life_publish();
        retry_dead();
        life_close();
    }
    life_open();
    life_publish(); /* what is there at the end */
    life_close();
}
