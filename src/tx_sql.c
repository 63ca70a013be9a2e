/* tx_sql.c - our SQL on a connection of the application's (see tx_sql.h).
 *
 * The thread that uses the connection.  Every table is named with its schema, so that a TEMP
 * table of that name is not taken for ours; every statement is finalized before the call returns,
 * so that none keeps the application's COMMIT or close from working; nothing waits or tries
 * again; hooks, pragmas and the last rowid stay the application's (the caller restores that). */
#include "tx_sql.h"

#include <assert.h>

#include "store_bind.h"

/* One statement; RC is the first that was not SQLITE_OK. */
struct sql {
    sqlite3_stmt *q;
    int rc;
};

static struct sql sql_of(sqlite3 *db, const char *text)
{
    struct sql s = {.rc = SQLITE_OK};
    lock_assert_none();
    s.rc = sqlite3_prepare_v2(db, text, -1, &s.q, NULL);
    return s;
}

/* Runs S, which yields no row, unless it has failed already, and finalizes it. */
static int sql_run(struct sql *s)
{
    if (s->rc == SQLITE_OK) {
        int rc = sqlite3_step(s->q);
        s->rc = rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
    }
    sqlite3_finalize(s->q);
    s->q = NULL;
    return s->rc;
}

/* ---- is it our file ---------------------------------------------------------------- */

int bgmqi_tx_sql_check(struct tx_hub *h, sqlite3 *db)
{
    const char *name;
    if (!bgmqi_tx_hub_is_file(h, sqlite3_db_filename(db, "main")))
        return BGMQ_EOTHERFILE;
    if (sqlite3_db_readonly(db, "main") == 1)
        return BGMQ_EREADONLY;
    for (int i = 2; (name = sqlite3_db_name(db, i)) != NULL; i++)
        if (sqlite3_txn_state(db, name) == SQLITE_TXN_WRITE)
            return BGMQ_EOTHERFILE;
    return 0;
}

int bgmqi_tx_sql_err(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
        return 0;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return BGMQ_EBUSY;
    case SQLITE_FULL:
        return BGMQ_EFULL;
    case SQLITE_NOMEM:
        return BGMQ_ENOMEM;
    case SQLITE_READONLY:
        return BGMQ_EREADONLY;
    default:
        return BGMQ_ESTORE;
    }
}

/* ---- rows -------------------------------------------------------------------------- */

int bgmqi_tx_sql_type(sqlite3 *db, uint32_t number, const char *name)
{
    struct sql s = sql_of(db, "INSERT INTO main.bgmq_type(id, name) VALUES(?1, ?2)"
                              " ON CONFLICT DO NOTHING");
    if (s.rc == SQLITE_OK) {
        sqlite3_bind_int64(s.q, 1, number);
        bgmqi_store_bind_text(s.q, 2, name);
    }
    return sql_run(&s);
}

static void bind_key(struct sql *s, const struct store_op *op)
{
    if (s->rc != SQLITE_OK)
        return;
    const struct message_ext *x = message_ext(op->msg);
    assert(x);
    sqlite3_bind_int64(s->q, 1, op->type);
    bgmqi_store_bind_text(s->q, 2, x->unique_key);
    sqlite3_bind_int64(s->q, 3, (int64_t)op->id);
    if (sqlite3_bind_parameter_count(s->q) < 4)
        return;
    sqlite3_bind_int(s->q, 4, x->unique);
    if (x->unique == BGMQ_UNIQUE_PERIOD)
        sqlite3_bind_int64(s->q, 5, x->unique_until_ms);
    else
        sqlite3_bind_null(s->q, 5);
}

/* The rules are those of store_keys.c. */
int bgmqi_tx_sql_key(sqlite3 *db, const struct store_op *op, uint64_t *owner)
{
    *owner = 0;
    if (!message_unique_key(op->msg))
        return SQLITE_OK;
    struct sql s = sql_of(db, "INSERT INTO main.bgmq_unique(type, key, id, scope, until)"
                              " VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING");
    bind_key(&s, op);
    int rc = sql_run(&s);
    if (rc != SQLITE_OK || sqlite3_changes64(db) == 1)
        return rc;
    s = sql_of(db, "SELECT u.id FROM main.bgmq_unique u"
                   " WHERE u.type = ?1 AND u.key = ?2 AND"
                   " CASE WHEN u.scope = 3 THEN u.until > ?3"
                   " WHEN EXISTS(SELECT 1 FROM main.bgmq_job j WHERE j.id = u.id) THEN 1"
                   " ELSE EXISTS(SELECT 1 FROM main.bgmq_backlog b WHERE b.id = u.id"
                   "  AND (b.lane <> 3 OR u.scope = 2)) END");
    bind_key(&s, op);
    if (s.rc == SQLITE_OK)
        sqlite3_bind_int64(s.q, 3, op->at_ms);
    if (s.rc == SQLITE_OK && (rc = sqlite3_step(s.q)) == SQLITE_ROW)
        *owner = (uint64_t)sqlite3_column_int64(s.q, 0);
    rc = s.rc != SQLITE_OK                       ? s.rc
         : rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK
                                                 : rc;
    sqlite3_finalize(s.q);
    if (rc != SQLITE_OK || *owner)
        return rc;
    s = sql_of(db, "UPDATE main.bgmq_unique SET id = ?3, scope = ?4, until = ?5"
                   " WHERE type = ?1 AND key = ?2");
    bind_key(&s, op);
    return sql_run(&s);
}

/* A message without ext, which most are, into JOB.  The text is compiled each time, as no statement
 * may stay with a connection of the application's; half the columns are half of that. */
static int insert_plain(sqlite3 *db, const struct store_op *op)
{
    struct sql s =
        sql_of(db, "INSERT INTO main.bgmq_job(" JOB_COLUMNS ") VALUES(" JOB_VALUES ")");
    if (s.rc == SQLITE_OK)
        bgmqi_store_bind_job((struct params){.q = s.q}, 1, op);
    return sql_run(&s);
}

int bgmqi_tx_sql_insert(sqlite3 *db, const struct store_op *op, bool backlog)
{
    if (!backlog && !message_ext(op->msg))
        return insert_plain(db, op);
    struct sql s =
        sql_of(db, backlog ? "INSERT INTO main.bgmq_backlog(" JOB_COLUMNS ", " EXT_COLUMNS
                             ", " PLACE_COLUMNS ") VALUES(" JOB_VALUES ", " EXT_VALUES
                             ", ?,?,?,?,?)"
                           : "INSERT INTO main.bgmq_job(" JOB_COLUMNS ", " EXT_COLUMNS
                             ") VALUES(" JOB_VALUES ", " EXT_VALUES ")");
    if (s.rc == SQLITE_OK) {
        struct params p = {.q = s.q};
        bgmqi_store_bind_job(p, 1, op);
        s.rc = bgmqi_store_bind_ext(p, 13, message_ext(op->msg));
    }
    if (s.rc == SQLITE_OK && backlog) {
        sqlite3_bind_int(s.q, 25, op->lane);
        sqlite3_bind_int64(s.q, 26, op->key);
        bgmqi_store_bind_failure((struct params){.q = s.q}, 27, op->failure);
    }
    return sql_run(&s);
}

/* Runs TEXT with the message's id as its parameter. */
static int run_on_id(sqlite3 *db, const char *text, const struct store_op *op)
{
    struct sql s = sql_of(db, text);
    if (s.rc == SQLITE_OK)
        sqlite3_bind_int64(s.q, 1, (int64_t)op->id);
    return sql_run(&s);
}

int bgmqi_tx_sql_remove(sqlite3 *db, const struct store_op *op, bool *found)
{
    *found = false;
    int rc = run_on_id(db, "DELETE FROM main.bgmq_job WHERE id = ?1", op);
    if (rc == SQLITE_OK && !(*found = sqlite3_changes64(db) != 0)) {
        rc = run_on_id(db, "DELETE FROM main.bgmq_backlog WHERE id = ?1", op);
        *found = rc == SQLITE_OK && sqlite3_changes64(db) != 0;
    }
    return rc;
}

static int drop_key(sqlite3 *db, const struct store_op *op)
{
    const struct message_ext *x = message_ext(op->msg);
    if (!x || !x->unique_key || x->unique == BGMQ_UNIQUE_PERIOD ||
        (op->lane == LANE_DLQ && x->unique == BGMQ_UNIQUE_DONE))
        return SQLITE_OK;
    struct sql s = sql_of(
        db, "DELETE FROM main.bgmq_unique WHERE type = ?1 AND key = ?2 AND id = ?3");
    bind_key(&s, op);
    return sql_run(&s);
}

static int add_history(sqlite3 *db, const struct store_op *op)
{
    struct sql s = sql_of(db, "INSERT INTO main.bgmq_history(" HISTORY_COLUMNS
                              ") VALUES(" HISTORY_VALUES ")");
    if (s.rc == SQLITE_OK)
        s.rc = bgmqi_store_bind_history((struct params){.q = s.q}, 1, op);
    return sql_run(&s);
}

int bgmqi_tx_sql_end(sqlite3 *db, const struct store_op *op)
{
    int rc = drop_key(db, op);
    if (rc == SQLITE_OK && op->history != OUTCOME_NONE)
        rc = add_history(db, op);
    if (rc != SQLITE_OK || !(op->flags & OP_KEPT))
        return rc;
    rc = run_on_id(db, "DELETE FROM main.bgmq_progress WHERE id = ?1", op);
    if (rc == SQLITE_OK) /* the history shows the errors of those it names */
        rc = run_on_id(db,
                       "DELETE FROM main.bgmq_error WHERE id = ?1 AND NOT EXISTS"
                       "(SELECT 1 FROM main.bgmq_history h WHERE h.id = ?1)",
                       op);
    return rc;
}

int bgmqi_tx_sql_error(sqlite3 *db, const struct store_op *op)
{
    struct sql s = sql_of(db, "INSERT OR REPLACE INTO main.bgmq_error"
                              "(id, run, attempt, at, code, text) VALUES(?,?,?,?,?,?)");
    if (s.rc == SQLITE_OK) {
        sqlite3_bind_int64(s.q, 1, (int64_t)op->id);
        sqlite3_bind_int64(s.q, 2, op->run);
        sqlite3_bind_int(s.q, 3, op->attempt);
        sqlite3_bind_int64(s.q, 4, op->failure->at_ms);
        bgmqi_store_bind_text(s.q, 5, op->failure->code);
        bgmqi_store_bind_text(s.q, 6, op->failure->text);
    }
    return sql_run(&s);
}

int bgmqi_tx_sql_cursor(sqlite3 *db, uint64_t id, const void *bytes, size_t len)
{
    struct sql s = sql_of(db, "INSERT INTO main.bgmq_progress(id, cursor, number, text)"
                              " VALUES(?1, ?2, 0, NULL)"
                              " ON CONFLICT(id) DO UPDATE SET cursor = excluded.cursor");
    if (s.rc == SQLITE_OK) {
        sqlite3_bind_int64(s.q, 1, (int64_t)id);
        if (bytes)
            sqlite3_bind_blob64(s.q, 2, bytes, len, SQLITE_STATIC);
    }
    return sql_run(&s);
}
