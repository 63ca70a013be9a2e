/* mixer_tx.c - the application's transactions in the mixer: a thread that publishes in them, and
 * handlers that end in them with one effect.  Connections are taken from a small store, one for
 * each thread at a time. */
#include "mixer_impl.h"
#include "mixer_sql.h"

#include <bgmq_sqlite.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- connections ---------------------------------------------------------------- */

sqlite3 *mixer_connect(struct mixer *x)
{
    sqlite3 *db = NULL;
    pthread_mutex_lock(&x->lock);
    if (x->idle > 0)
        db = x->connections[--x->idle];
    pthread_mutex_unlock(&x->lock);
    if (!db && (sql_open(x->db, &db) || bgmq_sqlite_prepare(x->mq, db)))
        abort();
    return db;
}

void mixer_disconnect(struct mixer *x, sqlite3 *db)
{
    if (!sqlite3_get_autocommit(db))
        abort(); /* a transaction was left open */
    pthread_mutex_lock(&x->lock);
    int keep = x->idle < CONNECTIONS;
    if (keep)
        x->connections[x->idle++] = db;
    pthread_mutex_unlock(&x->lock);
    if (!keep)
        sqlite3_close(db);
}

/* ---- publishing ----------------------------------------------------------------- */

enum { TOGETHER = 4 };

/* What one transaction published. */
struct together {
    char keys[TOGETHER][KEY_SIZE];
    uint64_t ids[TOGETHER];
    size_t n;
};

struct publisher {
    struct part *part;
    struct mixer *x;
    sqlite3 *db;
    struct together all;
};

static uint64_t below(struct publisher *p, uint64_t n)
{
    return (next_random(&p->part->random) >> 7) % n;
}

/* They were never there. */
static void forget(struct publisher *p, size_t from)
{
    while (p->all.n > from)
        history_write(p->x->history, "N %s", p->all.keys[--p->all.n]);
}

/* Publishes one message in the transaction that is open. */
static int publish_one(struct publisher *p)
{
    static const char letters[] = "xtk";
    static const char *const types[] = {"Plain", "Tx", "Keyed"};
    uint64_t kind = below(p, 3);
    char *key = p->all.keys[p->all.n], body[CARGO_MAX], unique[16];
    const char *meta[3];
    struct bgmq_message_options options = {.priority = (int)below(p, 3)};
    struct bgmq_receipt receipt = {0};
    snprintf(key, KEY_SIZE, "%c%ld.%d.%ld", letters[kind], p->x->round, p->part->number,
             p->part->n++);
    mixer_load(key, meta, &options);
    if (below(p, 3) == 0)
        options.delay_ms = 1 + (int64_t)below(p, 30);
    int64_t due = options.delay_ms ? wall_ms() + options.delay_ms : 0;
    history_write(p->x->history, "T %s tx %" PRId64, key, due);
    if (kind == 2) {
        snprintf(unique, sizeof(unique), "u%d", (int)below(p, 5));
        options.unique_key = unique;
        history_write(p->x->history, "Q %s %s u 0 %" PRId64 " 0", key, unique, wall_ms());
    }
    if (letters[kind] != 'k' && below(p, 6) == 0) {
        int64_t id = 0; /* by SQL, as a trigger of the application would */
        int err = sql_inbox(p->db, types[kind], key, due, &id);
        receipt.id = (uint64_t)id;
        if (err) {
            history_write(p->x->history, "N %s", key);
            return err;
        }
    } else {
        int err = bgmq_publish_tx(p->x->mq, p->db, types[kind], body,
                                  cargo_make(key, body), &options, &receipt);
        if (err || receipt.duplicate)
            history_write(p->x->history, "N %s", key);
        if (err && err != BGMQ_EBUSY && err != BGMQ_EDRAINING)
            history_write(p->x->history, "E %s %s", key, bgmq_errname(err));
        if (err || receipt.duplicate)
            return err;
    }
    p->all.ids[p->all.n++] = receipt.id;
    return kind == 2 ? 0
                     : sql_name(p->db, "INSERT INTO main.booked(name) VALUES(?1)", key);
}

/* The same, in a savepoint that is released or rolled back. */
static int publish_saved(struct publisher *p)
{
    size_t before = p->all.n;
    int err = sql_run(p->db, "SAVEPOINT s");
    if (!err)
        err = publish_one(p);
    if (err || below(p, 2))
        return err ? err : sql_run(p->db, "RELEASE s");
    forget(p, before);
    return sql_run(p->db, "ROLLBACK TO s; RELEASE s");
}

static void publish_together(struct publisher *p)
{
    p->all.n = 0;
    int err = sql_run(p->db, "BEGIN IMMEDIATE");
    for (uint64_t n = 1 + below(p, TOGETHER); n > 0 && !err; n--)
        err = below(p, 4) ? publish_one(p) : publish_saved(p);
    if (err || below(p, 5) == 0) {
        forget(p, 0);
        sql_run(p->db, "ROLLBACK");
        return;
    }
    if (sql_run(p->db, "COMMIT")) {
        sql_run(p->db, "ROLLBACK");
        return;
    }
    int64_t now = wall_ms();
    for (size_t i = 0; i < p->all.n; i++)
        history_write(p->x->history, "A %s %" PRIu64 " %" PRId64, p->all.keys[i],
                      p->all.ids[i], now);
}

void *mixer_publish_tx(void *arg)
{
    struct publisher p = {.part = arg, .x = ((struct part *)arg)->x};
    p.db = mixer_connect(p.x);
    while (p.part->n < p.x->publishes / 2) {
        publish_together(&p);
        poll(NULL, 0, (int)below(&p, 4)); /* the others want the write lock too */
    }
    mixer_disconnect(p.x, p.db);
    return NULL;
}

/* ---- handling ------------------------------------------------------------------- */

struct turn {
    struct mixer *x;
    char key[KEY_SIZE];
    int follow, give_up;
};

/* What the handler does in its transaction. */
static int act(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    struct turn *t = ctx;
    char follower[KEY_SIZE + 2], body[CARGO_MAX];
    const char *meta[3];
    struct bgmq_message_options options = {0};
    if (sql_effect(db, "INSERT INTO main.effect(name, id, run) VALUES(?1, ?2, ?3)",
                   t->key, bgmq_job_id(job), bgmq_job_attempt(job)))
        return BGMQ_RETRY;
    if (t->follow) {
        snprintf(follower, sizeof(follower), "n-%s", t->key);
        mixer_load(follower, meta, &options);
        history_write(t->x->history, "T %s tx 0", follower);
        if (bgmq_publish_tx(t->x->mq, db, "Sink", body, cargo_make(follower, body),
                            &options, NULL))
            return BGMQ_RETRY;
    }
    return t->give_up ? BGMQ_RETRY : BGMQ_DONE;
}

/* As bgmq_job_transaction, by hand; after the call that ends the message it may still give up. */
static int act_by_hand(struct bgmq_job *job, sqlite3 *db, struct turn *t)
{
    int give_up = t->give_up;
    t->give_up = 0;
    if (sql_run(db, "BEGIN IMMEDIATE"))
        return BGMQ_RETRY;
    int verdict = act(job, db, t);
    if (verdict == BGMQ_DONE && bgmq_job_complete_tx(job, db))
        verdict = BGMQ_RETRY;
    if (verdict == BGMQ_DONE && !give_up && sql_run(db, "COMMIT") == SQLITE_OK)
        return BGMQ_DONE;
    if (!sqlite3_get_autocommit(db))
        sql_run(db, "ROLLBACK");
    return BGMQ_RETRY;
}

/* The failure, and what the application notes of it, commit together. */
static int fail_in_transaction(struct bgmq_job *job, sqlite3 *db, struct turn *t,
                               enum bgmq_verdict verdict)
{
    mixer_fail(t->x, job, t->key, verdict);
    int err = sql_run(db, "BEGIN IMMEDIATE");
    if (!err)
        err = sql_effect(db, "INSERT INTO main.failed(name, id, run) VALUES(?1, ?2, ?3)",
                         t->key, bgmq_job_id(job), bgmq_job_attempt(job));
    if (!err)
        err = bgmq_job_fail_tx(job, db, verdict, "Mixed", "in a transaction");
    if (!err)
        err = sql_run(db, "COMMIT");
    if (err && !sqlite3_get_autocommit(db))
        sql_run(db, "ROLLBACK");
    return verdict;
}

static int in_transaction(struct bgmq_job *job, struct turn *t, uint64_t way)
{
    struct mixer *x = t->x;
    sqlite3 *db = mixer_connect(x);
    int verdict, told = 0;
    int first = bgmq_job_attempt(job) == 1;
    t->give_up = first && (way % 4 == 1 || way % 4 == 2);
    if (way == 15 || (way == 14 && first)) {
        verdict =
            fail_in_transaction(job, db, t, way == 15 ? BGMQ_PERMANENT : BGMQ_RETRY);
        told = 1;
    } else if (way & 1) {
        verdict = act_by_hand(job, db, t);
    } else {
        verdict = bgmq_job_transaction(job, db, act, t);
    }
    mixer_disconnect(x, db);
    if (verdict == BGMQ_DONE)
        history_write(x->history, "Z %s %" PRIu64, t->key, bgmq_job_id(job));
    else if (!told)
        mixer_fail(x, job, t->key, verdict);
    return verdict;
}

int mixer_handle_tx(struct bgmq_job *job, void *ctx)
{
    struct turn t = {.x = ctx, .follow = 1};
    mixer_begin(ctx, job, t.key);
    return in_transaction(job, &t, cargo_hash(t.key) >> 8 & 15);
}

int mixer_handle_sink(struct bgmq_job *job, void *ctx)
{
    struct turn t = {.x = ctx, .follow = 0};
    mixer_begin(ctx, job, t.key);
    return in_transaction(job, &t, cargo_hash(t.key) >> 8 & 3);
}
