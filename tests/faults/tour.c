/* tour.c - a tour through the library (see tour.h).  The test's thread, and the library's workers
 * for the handler. */
#include "tour.h"

#include "../../src/handle.h"

#include <bgmq_sqlite.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS INT64_C(1000000)

enum { PUBLISHED = 20, TRIES = 60 };

static struct tour *touring; /* for the handler */

/* Set by tour_clean: handlers ask for it, too. */
static char path[600];

void tour_clean(void)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal", "-flight"};
    snprintf(path, sizeof(path), "%s", harness_path("tour.db"));
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        char name[620];
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        unlink(name);
    }
}

static void step(struct tour *t, const char *where)
{
    snprintf(t->where, sizeof(t->where), "%s", where);
}

/* Fails the test unless ERR is 0, a count, or one of those that a call may end with when the disk
 * is at fault; notes the latter. */
static int bear(struct tour *t, int err)
{
    static const int known[] = {BGMQ_EFULL,  BGMQ_EBUSY,    BGMQ_EUNCERTAIN,
                                BGMQ_ESTORE, BGMQ_ECORRUPT, BGMQ_EOTHERFILE};
    const int n = sizeof(known) / sizeof(known[0]);
    if (err >= 0)
        return err;
    int i = 0;
    while (i < n && known[i] != err)
        i++;
    ck_assert_msg(i < n, "%s: %s", t->where, bgmq_errname(err));
    t->hurt = 1;
    return err;
}

static int state_of(struct tour *t)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(t->mq, &c), 0);
    t->failed |= c.store_state == JOURNAL_FAILED;
    return c.store_state;
}

/* Nothing more is to be had while the fault lasts. */
static int is_over(struct tour *t)
{
    int state = state_of(t);
    return state == JOURNAL_FAILED || (t->persistent && state != JOURNAL_GOOD);
}

/* ---- the application's connection ------------------------------------------------------ */

static int say(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static sqlite3 *connect(void)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(db, 10000);
    if (rc == SQLITE_OK)
        rc = say(db, "CREATE TABLE IF NOT EXISTS effect(n INTEGER)");
    if (rc == SQLITE_OK)
        return db;
    sqlite3_close(db);
    return NULL;
}

static int leave_effect(sqlite3 *db, int n)
{
    char sql[64];
    snprintf(sql, sizeof(sql), "INSERT INTO effect(n) VALUES(%d)", n);
    return say(db, sql);
}

static int with_effect(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    (void)job;
    return leave_effect(db, *(int *)ctx) == SQLITE_OK ? BGMQ_DONE : BGMQ_RETRY;
}

/* ---- handlers -------------------------------------------------------------------------- */

static int number_of(const void *body)
{
    int n = atoi(body);
    ck_assert_msg(n >= 0 && n < touring->n, "a body that nobody sent: %s",
                  (const char *)body);
    return n;
}

static int handle(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    int n = number_of(bgmq_job_body(job, NULL));
    struct entry *e = &touring->entries[n];
    int runs = ++e->runs;
    if (e->errand == ERRAND_RETRY)
        return runs > 1 ? BGMQ_DONE : BGMQ_RETRY;
    if (e->errand == ERRAND_DEAD)
        return runs > 1 ? BGMQ_DONE : BGMQ_PERMANENT;
    if (e->errand != ERRAND_TX)
        return BGMQ_DONE;
    sqlite3 *db = connect();
    int verdict = db ? bgmq_job_transaction(job, db, with_effect, &n) : BGMQ_RETRY;
    sqlite3_close(db);
    return verdict;
}

/* ---- steps ------------------------------------------------------------------------------ */

static struct entry *next(struct tour *t, enum errand errand)
{
    ck_assert_int_lt(t->n, TOUR_MOST);
    struct entry *e = &t->entries[t->n++];
    e->errand = errand;
    return e;
}

static void note(struct tour *t, struct entry *e, int err)
{
    bear(t, err);
    e->told = err == 0 ? TOLD_YES : err == BGMQ_EUNCERTAIN ? TOLD_UNCERTAIN : TOLD_NO;
}

static int publish(struct tour *t, const char *type, enum errand errand,
                   struct bgmq_message_options options)
{
    char body[16];
    struct entry *e = next(t, errand);
    int len = snprintf(body, sizeof(body), "%d", (int)(e - t->entries));
    e->behind = options.durability == BGMQ_BEHIND;
    int err = bgmq_publish(t->mq, type, body, (size_t)len, &options, NULL);
    note(t, e, err);
    return err;
}

static void ignore_log(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)level;
    ck_assert(text[0] != '\0');
}

static int open_service(struct tour *t)
{
    unsigned patience_ms = t->patient ? 30000 : 60 * harness_scale();
    struct bgmq_options options = {.database = path,
                                   .publish_timeout_ms = patience_ms,
                                   .flush_interval_ms = 1,
                                   .log = getenv("HARNESS_LOG") ? NULL : ignore_log};
    struct bgmq_error error = {""};
    int err = bgmq_open(&t->mq, &options, &error);
    if (err) {
        t->mq = NULL;
        t->hurt = 1;
        ck_assert_msg(error.text[0] != '\0', "an error without words");
        ck_assert_msg(err == BGMQ_EOPEN || err == BGMQ_ENOTDB || err == BGMQ_ECORRUPT ||
                          err == BGMQ_ESTORE || err == BGMQ_ESCHEMA,
                      "%s: %s %s", t->where, bgmq_errname(err), error.text);
        return err;
    }
    t->opened = 1;
    err = bgmq_register(t->mq, "T", handle, NULL,
                        &(struct bgmq_type_options){.max_attempts = TRIES,
                                                    .backoff = BGMQ_BACKOFF_FIXED,
                                                    .backoff_base_ms = 1,
                                                    .history = BGMQ_HISTORY_ALL});
    ck_assert_int_eq(err, 0);
    bear(t, bgmq_start(t->mq));
    return 0;
}

static void publish_all(struct tour *t)
{
    static const enum bgmq_durability levels[] = {BGMQ_DISK, BGMQ_COMMIT, BGMQ_BEHIND};
    for (int i = 0; i < PUBLISHED && !is_over(t); i++) {
        char key[16];
        snprintf(key, sizeof(key), "key %d", i);
        struct bgmq_message_options options = {.durability = levels[i % 3],
                                               .priority = i % 4 == 1,
                                               .delay_ms = i % 7 == 3,
                                               .unique_key = i % 5 == 2 ? key : NULL};
        publish(t, "T", (enum errand)(i % ERRAND_TAKEN), options);
    }
}

/* With an effect in the same transaction: both are there or neither is. */
static void publish_in_transaction(struct tour *t)
{
    struct entry *e = next(t, ERRAND_DONE);
    int n = (int)(e - t->entries), rc = SQLITE_ERROR, err = BGMQ_ESTORE;
    char body[16];
    int len = snprintf(body, sizeof(body), "%d", n);
    sqlite3 *db = connect();
    e->in_tx = 1;
    e->told = TOLD_NO;
    if (db)
        rc = say(db, "BEGIN IMMEDIATE");
    if (rc == SQLITE_OK)
        rc = leave_effect(db, n);
    if (rc == SQLITE_OK) {
        err = bear(t, bgmq_publish_tx(t->mq, db, "T", body, (size_t)len, NULL, NULL));
        rc = err == 0 ? say(db, "COMMIT") : SQLITE_ABORT;
        e->told = rc == SQLITE_OK ? TOLD_YES : err == 0 ? TOLD_UNCERTAIN : TOLD_NO;
    }
    if (db && !sqlite3_get_autocommit(db))
        say(db, "ROLLBACK");
    t->hurt |= rc != SQLITE_OK;
    sqlite3_close(db);
}

/* All that was accepted has ended, but for what nobody handles and what is dead. */
static int is_idle(struct tour *t)
{
    struct bgmq_collection c;
    struct bgmq_counters all;
    ck_assert_int_eq(bgmq_type_collection(t->mq, "T", &c), 0);
    ck_assert_int_eq(bgmq_service_counters(t->mq, &all), 0);
    return c.inq + c.priorityq + c.delayed + c.running + all.journal_waiting == 0;
}

static void settle(struct tour *t)
{
    WAIT_UNTIL(is_over(t) || is_idle(t));
}

/* What has no handler is taken by hand: ended, put into the dlq, or let go. */
static void take_by_hand(struct tour *t)
{
    for (int i = 0; i < 3 && !is_over(t); i++)
        publish(t, "G", ERRAND_TAKEN, (struct bgmq_message_options){0});
    for (int i = 0; i < 3 && !is_over(t); i++) {
        struct bgmq_message *m = NULL;
        int err = bgmq_get(t->mq, "mq:G.inq", 1, &m);
        if (err != 0) {
            ck_assert_msg(err == BGMQ_ETIMEOUT || err == BGMQ_ENOENT, "get: %s",
                          bgmq_errname(err));
            break;
        }
        if (i == 0) {
            t->entries[number_of(bgmq_message_body(m, NULL))].runs++;
            bear(t, bgmq_ack(m));
        } else if (i == 1) {
            bear(t, bgmq_nak(m, 0));
        }
        bgmq_message_free(m);
    }
}

/* None of T is dead after it. */
static void retry_dead(struct tour *t)
{
    bear(t, bgmq_retry(t->mq, "T", NULL));
}

static void check_point(void *ctx, struct store *s)
{
    (void)ctx;
    s->ops->checkpoint(s, 1);
}

static void close_service(struct tour *t)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(t->mq, &c), 0);
    t->failed |= c.store_state != JOURNAL_GOOD || c.journal_waiting != 0;
    ck_assert_int_eq(bgmq_close(t->mq), 0);
    bgmq_free(t->mq);
    t->mq = NULL;
}

void tour_run(struct tour *t)
{
    static const struct {
        const char *name;
        void (*go)(struct tour *t);
    } steps[] = {{"publish", publish_all},
                 {"publish in a transaction", publish_in_transaction},
                 {"take by hand", take_by_hand},
                 {"settle", settle},
                 {"retry", retry_dead},
                 {"settle again", settle}};
    touring = t;
    step(t, "open");
    if (open_service(t) != 0)
        return;
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps) && !is_over(t); i++) {
        step(t, steps[i].name);
        steps[i].go(t);
    }
    step(t, "check-point");
    if (!is_over(t))
        bear(t, bgmqi_journal_run(t->mq->journal, check_point, NULL,
                                  60 * harness_scale() * MS));
    step(t, "close");
    if (t->persistent && state_of(t) == JOURNAL_RETRYING)
        return; /* a close has patience with a disk that is full */
    close_service(t);
    step(t, "open again");
    open_service(t);
}

/* ---- the verdict -------------------------------------------------------------------------- */

static long ask(const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix"),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
    long n = (long)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

static long effects_of(int n)
{
    char sql[80];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM effect WHERE n = %d", n);
    return ask(sql);
}

/* A store that has failed says so to everybody until it is opened anew. */
static void reopen(struct tour *t)
{
    if (t->mq)
        bgmq_flush(t->mq); /* by then it knows */
    if (t->mq && state_of(t) == JOURNAL_FAILED) {
        char *json = NULL;
        ck_assert_int_eq(publish(t, "T", ERRAND_DONE, (struct bgmq_message_options){0}),
                         BGMQ_ESTORE);
        ck_assert_int_eq(bgmq_flush(t->mq), BGMQ_ESTORE);
        ck_assert_int_eq(bgmq_start(t->mq), BGMQ_ESTORE);
        ck_assert_int_eq(bgmq_status_json(t->mq, &json), 0);
        ck_assert_ptr_nonnull(strstr(json, "\"store\":\"failed\""));
        free(json);
        close_service(t);
    }
    if (!t->mq) {
        t->hurt = 0;
        int err = open_service(t);
        ck_assert_msg(err == 0 && !t->hurt, "it does not open: %s", bgmq_errname(err));
    }
}

/* What nobody handled is handled, what is dead tries again. */
static void finish(struct tour *t)
{
    WAIT_UNTIL(bgmq_flush(t->mq) == 0);
    WAIT_UNTIL(publish(t, "T", ERRAND_DONE, (struct bgmq_message_options){0}) == 0);
    ck_assert_int_eq(bgmq_register(t->mq, "G", handle, NULL, NULL), 0);
    for (int i = 0; i < 2; i++) {
        WAIT_UNTIL(is_idle(t));
        WAIT_UNTIL(bgmq_retry(t->mq, "T", NULL) >= 0);
        WAIT_UNTIL(bgmq_retry(t->mq, "G", NULL) >= 0);
    }
    ck_assert_int_eq(bgmq_drain(t->mq, 10000 * harness_scale()), 0);
    WAIT_UNTIL(is_idle(t));
    ck_assert_int_eq(state_of(t), JOURNAL_GOOD);
    ck_assert_int_eq(bgmq_close(t->mq), 0);
    bgmq_free(t->mq);
    t->mq = NULL;
}

static int sum_of_runs(const struct entry *e)
{
    return e->errand == ERRAND_RETRY || e->errand == ERRAND_DEAD ? 2 : 1;
}

static void judge_entry(const struct tour *t, int n, const char *what)
{
    const struct entry *e = &t->entries[n];
    long effects = e->in_tx || e->errand == ERRAND_TX ? effects_of(n) : -1;
    int must = e->told == TOLD_YES && !(e->behind && t->failed);
    ck_assert_msg(e->told != TOLD_NO || e->runs == 0, "%s: %d was refused, and ran", what,
                  n);
    ck_assert_msg(!must || e->runs >= sum_of_runs(e), "%s: %d was accepted: %d runs",
                  what, n, e->runs);
    if (e->in_tx)
        ck_assert_msg(effects == (e->runs > 0), "%s: %d: %ld effects, %d runs", what, n,
                      effects, e->runs);
    if (e->errand == ERRAND_TX)
        ck_assert_msg(effects == 1 || (!must && effects == 0),
                      "%s: %d: %ld effects of %d runs", what, n, effects, e->runs);
    else if (!t->failed)
        ck_assert_msg(e->runs <= sum_of_runs(e), "%s: %d ran %d times", what, n, e->runs);
}

void tour_judge(struct tour *t, const char *what)
{
    reopen(t);
    finish(t);
    ck_assert_msg(ask("SELECT count(*) = 1 AND max(integrity_check) = 'ok'"
                      " FROM pragma_integrity_check"),
                  "%s: the database is damaged", what);
    ck_assert_msg(ask("SELECT (SELECT count(*) FROM bgmq_job)"
                      " + (SELECT count(*) FROM bgmq_backlog)") == 0,
                  "%s: something is left", what);
    sqlite3_close(connect()); /* makes the table of effects, where no step came so far */
    for (int n = 0; n < t->n; n++)
        if (t->entries[n].told != TOLD_NOTHING)
            judge_entry(t, n, what);
}
