/* tx_signal.c - the virtual table bgmq_signal (see tx_signal.h).
 *
 * SQLite calls everything here, on the thread that uses the connection and with its mutex held:
 * nothing may wait, log, or use SQL.  xCommit comes when the commit is visible to everybody,
 * xRollbackTo(n) when all since the opening of savepoint n is undone; each savepoint that is
 * opened, also the one of a single statement, is numbered by its depth. */
#include "tx_signal.h"

#include <stdlib.h>

struct signal_table {
    sqlite3_vtab base;
    struct tx_conn *conn;
};

/* ---- the list ---------------------------------------------------------------------- */

void bgmqi_tx_signal_add(struct tx_conn *c, struct tx_item *item)
{
    item->next = NULL;
    item->level = c->depth;
    *c->last = item;
    c->last = &item->next;
}

/* Undoes the items above LEVEL. */
static void undo(struct tx_conn *c, int level)
{
    struct tx_item *gone = NULL, **end = &gone;
    c->last = &c->items;
    for (struct tx_item *i = c->items, *next; i; i = next) {
        next = i->next;
        struct tx_item ***tail = i->level > level ? &end : &c->last;
        **tail = i;
        *tail = &i->next;
    }
    *end = NULL;
    *c->last = NULL;
    if (!gone)
        return;
    struct bgmq *mq = bgmqi_tx_hub_enter(c->hub);
    for (struct tx_item *next; gone; gone = next) {
        next = gone->next;
        gone->undone(gone, mq);
    }
    if (mq)
        bgmqi_tx_hub_leave(c->hub);
}

static void deliver(struct tx_conn *c)
{
    struct tx_item *items = c->items;
    bool rung = c->rung;
    c->items = NULL;
    c->last = &c->items;
    c->rung = false;
    if (!items && !rung)
        return;
    struct bgmq *mq = bgmqi_tx_hub_enter(c->hub);
    for (struct tx_item *next; items; items = next) {
        next = items->next;
        items->committed(items, mq);
    }
    if (mq && rung && mq->inbox_ring)
        mq->inbox_ring(mq);
    if (mq)
        bgmqi_tx_hub_leave(c->hub);
}

/* ---- the transaction --------------------------------------------------------------- */

static struct tx_conn *conn_of(sqlite3_vtab *table)
{
    return ((struct signal_table *)table)->conn;
}

static int on_begin(sqlite3_vtab *table)
{
    struct tx_conn *c = conn_of(table);
    c->joined = true;
    c->depth = 0;
    return SQLITE_OK;
}

/* The last moment at which a commit may be refused: one over several files is whole in each of
 * them only. */
static int on_sync(sqlite3_vtab *table)
{
    struct tx_conn *c = conn_of(table);
    const char *name;
    if (!c->items)
        return SQLITE_OK;
    for (int i = 2; (name = sqlite3_db_name(c->db, i)) != NULL; i++) {
        if (sqlite3_txn_state(c->db, name) != SQLITE_TXN_WRITE)
            continue;
        sqlite3_free(table->zErrMsg);
        table->zErrMsg = sqlite3_mprintf(
            "bgmq: the attached database %s takes part in the transaction", name);
        return SQLITE_CONSTRAINT_VTAB;
    }
    return SQLITE_OK;
}

static int on_commit(sqlite3_vtab *table)
{
    struct tx_conn *c = conn_of(table);
    c->joined = false;
    deliver(c);
    return SQLITE_OK;
}

static int on_rollback(sqlite3_vtab *table)
{
    struct tx_conn *c = conn_of(table);
    c->joined = false;
    c->rung = false;
    undo(c, -1);
    return SQLITE_OK;
}

static int on_savepoint(sqlite3_vtab *table, int n)
{
    conn_of(table)->depth = n + 1;
    return SQLITE_OK;
}

static int on_release(sqlite3_vtab *table, int n)
{
    struct tx_conn *c = conn_of(table);
    c->depth = n;
    for (struct tx_item *i = c->items; i; i = i->next)
        if (i->level > n)
            i->level = n;
    return SQLITE_OK;
}

static int on_rollback_to(sqlite3_vtab *table, int n)
{
    struct tx_conn *c = conn_of(table);
    c->depth = n + 1;
    undo(c, n);
    return SQLITE_OK;
}

/* ---- the table --------------------------------------------------------------------- */

static int on_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                      sqlite3_vtab **ret, char **text)
{
    int rc = sqlite3_declare_vtab(db, "CREATE TABLE signal(inbox)");
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS); /* it may be used in triggers */
    struct signal_table *t = sqlite3_malloc64(sizeof(*t));
    if (!t)
        return SQLITE_NOMEM;
    *t = (struct signal_table){.conn = aux};
    *ret = &t->base;
    return SQLITE_OK;
}

static int on_disconnect(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

static int on_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    info->estimatedRows = 0;
    return SQLITE_OK;
}

static int on_open(sqlite3_vtab *table, sqlite3_vtab_cursor **ret)
{
    *ret = sqlite3_malloc64(sizeof(**ret));
    if (!*ret)
        return SQLITE_NOMEM;
    **ret = (sqlite3_vtab_cursor){.pVtab = table};
    return SQLITE_OK;
}

static int on_close(sqlite3_vtab_cursor *cursor)
{
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int on_filter(sqlite3_vtab_cursor *cursor, int number, const char *text, int argc,
                     sqlite3_value **argv)
{
    return SQLITE_OK;
}

static int on_next(sqlite3_vtab_cursor *cursor)
{
    return SQLITE_OK;
}

static int on_eof(sqlite3_vtab_cursor *cursor)
{
    return 1; /* it has no rows, ever */
}

static int on_column(sqlite3_vtab_cursor *cursor, sqlite3_context *ret, int column)
{
    return SQLITE_OK;
}

static int on_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *ret)
{
    *ret = 0;
    return SQLITE_OK;
}

static int on_update(sqlite3_vtab *table, int argc, sqlite3_value **argv,
                     sqlite3_int64 *ret)
{
    if (argc != 3)
        return SQLITE_READONLY;
    if (sqlite3_value_int(argv[2]))
        conn_of(table)->rung = true;
    *ret = 0;
    return SQLITE_OK;
}

static const sqlite3_module module = {
    .iVersion = 2,
    .xConnect = on_connect,
    .xBestIndex = on_best_index,
    .xDisconnect = on_disconnect,
    .xOpen = on_open,
    .xClose = on_close,
    .xFilter = on_filter,
    .xNext = on_next,
    .xEof = on_eof,
    .xColumn = on_column,
    .xRowid = on_rowid,
    .xUpdate = on_update,
    .xBegin = on_begin, /* without it there would be no xCommit */
    .xSync = on_sync,
    .xCommit = on_commit,
    .xRollback = on_rollback,
    .xSavepoint = on_savepoint,
    .xRelease = on_release,
    .xRollbackTo = on_rollback_to,
};

/* The connection is closed, or another service has taken our place. */
static void conn_free(void *conn)
{
    struct tx_conn *c = conn;
    undo(c, -1);
    bgmqi_tx_hub_remove(c->hub, c);
    bgmqi_tx_hub_unref(c->hub);
    free(c);
}

int bgmqi_tx_signal_conn(struct tx_hub *h, sqlite3 *db, struct tx_conn **ret)
{
    struct tx_conn *c = bgmqi_tx_hub_find(h, db);
    if (c) {
        *ret = c;
        return 0;
    }
    if (!(c = calloc(1, sizeof(*c))))
        return BGMQ_ENOMEM;
    c->db = db;
    c->hub = bgmqi_tx_hub_ref(h);
    c->last = &c->items;
    bgmqi_tx_hub_add(h, c);
    /* After a failure SQLite has called conn_free. */
    int rc = sqlite3_create_module_v2(db, "bgmq_signal", &module, c, conn_free);
    if (rc != SQLITE_OK)
        return rc == SQLITE_NOMEM ? BGMQ_ENOMEM : BGMQ_ESTORE;
    *ret = c;
    return 0;
}

/* Made anew each time: statements that SQLite has compiled for a service that is gone are then
 * compiled again. */
int bgmqi_tx_signal_inbox(sqlite3 *db)
{
    return sqlite3_exec(
        db,
        "DROP TRIGGER IF EXISTS temp.bgmq_inbox_signal;"
        "CREATE TEMP TRIGGER bgmq_inbox_signal AFTER INSERT ON main.bgmq_inbox"
        " BEGIN INSERT INTO bgmq_signal(inbox) VALUES(1); END",
        NULL, NULL, NULL);
}

int bgmqi_tx_signal_join(struct tx_conn *c)
{
    int rc = c->joined ? SQLITE_OK
                       : sqlite3_exec(c->db, "INSERT INTO main.bgmq_signal VALUES(0)",
                                      NULL, NULL, NULL);
    return rc == SQLITE_OK && !c->joined ? SQLITE_ERROR : rc;
}
