/* tx.c - publishing in the application's transaction: bgmq_sqlite_prepare, bgmq_publish_tx.
 *
 * The thread that uses the application's connection.  The row is written in its transaction; the
 * message itself is made, charged and given its id before, and waits as an item of the signal
 * table for the commit, when everything that could fail has been done. */
#include "tx.h"

#include <stdlib.h>

#include "publish.h"
#include "store_open.h"
#include "store_site.h"
#include "tx_sql.h"

/* Pages of a cache that no transaction fills. */
#define NEVER_SPILLS 1073741823

/* What SQL, a PRAGMA, says of DB: pages; 0 also after an error, with a code of SQLite in *RC. */
static int pages_of(sqlite3 *db, const char *sql, int *rc)
{
    sqlite3_stmt *q = NULL;
    *rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    int pages =
        *rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int(q, 0) : 0;
    sqlite3_finalize(q);
    return pages;
}

/* 1: DB check-pointed by itself, and does not any more.  (A wal_hook of the application's own is in
 * the same place, and stays.) */
static unsigned stop_checkpoints(sqlite3 *db, int *rc)
{
    if (!bgmqi_store_open_loses_data() ||
        pages_of(db, "PRAGMA main.wal_autocheckpoint", rc) == 0)
        return 0;
    *rc = sqlite3_wal_autocheckpoint(db, 0);
    return 1;
}

/* 2: DB's cache spilled when it was full, and does not any more.  A size is obeyed at once; OFF
 * would be noted only, in a transaction. */
static unsigned stop_spilling(sqlite3 *db, int *rc)
{
    if (*rc != SQLITE_OK || !bgmqi_store_open_loses_spilled())
        return 0;
    int pages = pages_of(db, "PRAGMA main.cache_spill", rc);
    if (pages == 0 || pages >= NEVER_SPILLS)
        return 0;
    *rc = sqlite3_exec(db, "PRAGMA main.cache_spill = 1073741823", NULL, NULL, NULL);
    return 2;
}

/* What is deleted through DB, as by bgmq_job_complete_tx, is overwritten as by us.  Also within a
 * transaction. */
static int erase_too(sqlite3 *db)
{
    return sqlite3_exec(db, "PRAGMA main.secure_delete = ON", NULL, NULL, NULL);
}

/* Sees to it, once, that nobody loses anything by what C's connection does by itself, and that it
 * leaves nothing behind that is to be erased. */
static int quieten(struct bgmq *mq, struct tx_conn *c, enum bgmq_level level)
{
    static const char *const what[] = {
        "", "automatic check-points", "overflows of the cache",
        "automatic check-points and overflows of the cache"};
    int rc = SQLITE_OK;
    if (c->quiet)
        return 0;
    unsigned did = stop_checkpoints(c->db, &rc);
    did |= stop_spilling(c->db, &rc);
    if (rc == SQLITE_OK && mq->config.erase)
        rc = erase_too(c->db);
    c->quiet = rc == SQLITE_OK;
    if (did && c->quiet)
        bgmqi_log(&mq->config.log, level,
                  "%s of a connection of the application are off now: SQLite %s may lose "
                  "data by them%s",
                  what[did], sqlite3_libversion(),
                  level == BGMQ_LOG_WARNING ? "; bgmq_sqlite_prepare comes first" : "");
    return bgmqi_tx_sql_err(rc);
}

static int conn_of(struct bgmq *mq, sqlite3 *db, struct tx_conn **ret)
{
    int err = mq->hub && db ? bgmqi_tx_sql_check(mq->hub, db) : BGMQ_EINVAL;
    return err ? err : bgmqi_tx_signal_conn(mq->hub, db, ret);
}

int bgmqi_tx_conn(struct bgmq *mq, sqlite3 *db, struct tx_conn **ret)
{
    int err = conn_of(mq, db, ret);
    return err ? err : quieten(mq, *ret, BGMQ_LOG_WARNING); /* nobody had prepared it */
}

int bgmq_sqlite_prepare(struct bgmq *mq, struct sqlite3 *db)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    struct tx_conn *c;
    if (mq->hub && db && !bgmqi_tx_hub_find(mq->hub, db))
        bgmqi_store_site_look_again(&mq->config.log); /* DB may be of another one */
    if (db && !sqlite3_get_autocommit(db))
        return BGMQ_EINVAL;
    err = conn_of(mq, db, &c);
    if (!err)
        err = bgmqi_tx_sql_err(bgmqi_tx_signal_inbox(db));
    return err ? err : quieten(mq, c, BGMQ_LOG_INFO);
}

/* ---- one message ------------------------------------------------------------------- */

/* A message whose row is in an open transaction. */
struct expected {
    struct tx_item item;
    struct type *type;
    struct message *m;
    struct journal_entry *entry;
};

static void expected_free(struct expected *x)
{
    if (!x)
        return;
    bgmqi_message_unref(x->m);
    bgmqi_journal_entry_free(x->entry);
    free(x);
}

static void undone(struct tx_item *item, struct bgmq *mq)
{
    struct expected *x = (struct expected *)item;
    if (mq)
        bgmqi_type_forget(x->type, x->m);
    expected_free(x);
}

/* A service that is closed, or has lost its store, finds the row when it is opened anew. */
static void committed(struct tx_item *item, struct bgmq *mq)
{
    struct expected *x = (struct expected *)item;
    if (!mq || bgmqi_journal_failed(mq->journal)) {
        undone(item, mq);
        return;
    }
    bgmqi_type_adopt(x->type, x->m, x->entry);
    free(x);
}

/* Takes M, in any case.  ENOMEM; errors of bgmqi_type_expect. */
static int expect(struct type *t, struct message *m, struct expected **ret)
{
    struct expected *x = calloc(1, sizeof(*x));
    struct journal_entry *e = bgmqi_journal_entry_new();
    int err = x && e ? bgmqi_type_expect(t, m) : BGMQ_ENOMEM;
    if (err) {
        bgmqi_journal_entry_free(e);
        bgmqi_message_unref(m);
        free(x);
        return err;
    }
    *x = (struct expected){.item = {.committed = committed, .undone = undone},
                           .type = t,
                           .m = m,
                           .entry = e};
    *ret = x;
    return 0;
}

/* Writes the row; *OWNER, not 0: nothing was written, that message has the key. */
static int write_row(struct tx_conn *c, const struct expected *x, uint64_t *owner)
{
    const struct message *m = x->m;
    uint32_t type = bgmqi_type_number(x->type);
    struct store_op op = {.lane = LANE_DELAYED,
                          .type = type,
                          .id = m->id,
                          .seq = m->seq,
                          .key = message_due_ms(m),
                          .at_ms = m->created_ms,
                          .msg = x->m};
    int rc = bgmqi_tx_signal_join(c);
    if (rc == SQLITE_OK)
        rc = bgmqi_tx_sql_type(c->db, type, bgmqi_type_name(x->type));
    if (rc == SQLITE_OK)
        rc = bgmqi_tx_sql_key(c->db, &op, owner);
    if (rc == SQLITE_OK && !*owner)
        rc = bgmqi_tx_sql_insert(c->db, &op, m->row == ROW_BACKLOG);
    return bgmqi_tx_sql_err(rc);
}

static int publish(struct bgmq *mq, struct tx_conn *c, const struct publication *p,
                   struct bgmq_receipt *ret)
{
    struct address a;
    struct message *m;
    struct expected *x;
    uint64_t owner = 0;
    int err =
        bgmqi_registry_valid(p->type) ? bgmqi_publish_make(mq, p, &a, &m) : BGMQ_EINVAL;
    if (err)
        return err;
    m->level = BGMQ_COMMIT;
    err = expect(a.type, m, &x);
    if (err)
        return err;
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(c->db);
    err = write_row(c, x, &owner);
    sqlite3_set_last_insert_rowid(c->db, rowid);
    bool refused = owner && p->options && p->options->on_conflict == BGMQ_CONFLICT_REFUSE;
    if (!err && refused)
        err = BGMQ_EEXIST;
    if (!err) {
        ret->id = owner ? owner : m->id;
        ret->duplicate = owner != 0;
        ret->level = BGMQ_COMMIT;
    }
    if (err || owner)
        undone(&x->item, mq);
    else
        bgmqi_tx_signal_add(c, &x->item);
    return err;
}

int bgmqi_tx_publish(struct bgmq *mq, sqlite3 *db, const struct publication *p,
                     struct bgmq_receipt *receipt)
{
    struct tx_conn *c;
    struct bgmq_receipt r = {.id = 0};
    if (!db || sqlite3_get_autocommit(db) ||
        (p->options && p->options->on_conflict == BGMQ_CONFLICT_REPLACE))
        return BGMQ_EINVAL;
    int err = bgmqi_tx_conn(mq, db, &c);
    if (!err && bgmqi_journal_failed(mq->journal))
        err = BGMQ_ESTORE;
    if (!err)
        err = publish(mq, c, p, &r);
    if (!err && receipt)
        *receipt = r;
    return err;
}

int bgmq_publish_tx(struct bgmq *mq, struct sqlite3 *db, const char *type,
                    const void *body, size_t len,
                    const struct bgmq_message_options *options,
                    struct bgmq_receipt *receipt)
{
    int err = bgmqi_handle_enter(mq);
    struct publication p = {.type = type, .body = body, .len = len, .options = options};
    return err ? err : bgmqi_tx_publish(mq, db, &p, receipt);
}
