/* store_prune.c - what has become too old: rows of the history, errors, keys held for a period.
 *
 * Called by the journal, on its thread: while a batch is written, and now and then between
 * batches.  It must never delete without a bound: one transaction takes a thousand rows of each
 * kind, and says whether there is more. */
#include "store_sqlite.h"

enum { CHUNK = 1000 };

/* 1 or 0: whether Q, bound already, has a row; a code of SQLite, in *RC. */
static bool has_row(struct sqlite_store *s, enum statement q, int *rc)
{
    *rc = sqlite3_step(s->q[q]);
    bool found = *rc == SQLITE_ROW && sqlite3_column_int64(s->q[q], 0);
    sqlite3_reset(s->q[q]);
    *rc = *rc == SQLITE_ROW || *rc == SQLITE_DONE ? SQLITE_OK : *rc;
    return found;
}

int bgmqi_store_prune_look(struct sqlite_store *s)
{
    sqlite3_stmt *q = s->q[Q_HISTORY_BOUNDS];
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        s->history_first = sqlite3_column_int64(q, 0);
        s->history_last = sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int bgmqi_store_prune_history(struct sqlite_store *s, int64_t first, int64_t last)
{
    /* Most files have no errors noted: then their rows are not asked for one by one. */
    sqlite3_stmt *any = s->q[Q_KEPT_ANY];
    int rc = sqlite3_step(any);
    bool errors = rc == SQLITE_ROW && sqlite3_column_int(any, 1);
    sqlite3_reset(any);
    if (rc != SQLITE_ROW)
        return rc;
    enum statement doing[] = {Q_ERROR_PRUNE, Q_HISTORY_PRUNE};
    rc = SQLITE_OK;
    for (int i = errors ? 0 : 1; rc == SQLITE_OK && i < 2; i++) {
        sqlite3_bind_int64(s->q[doing[i]], 1, first);
        sqlite3_bind_int64(s->q[doing[i]], 2, last);
        rc = bgmqi_store_sqlite_run(s, doing[i]);
    }
    return rc;
}

/* The row up to which the history is too old or too long, at most a chunk; 0: none. */
static int find_old(struct sqlite_store *s, int64_t now_ms, int64_t *last)
{
    int64_t first = s->history_first, rows = s->history_last - first + 1;
    *last = 0;
    if (rows <= 0)
        return SQLITE_OK;
    int64_t surplus =
        (uint64_t)rows > s->history_keep ? rows - (int64_t)s->history_keep : 0;
    int64_t n = rows < CHUNK ? rows : CHUNK, by_age = 0;
    if (s->history_max_age_ms > 0) {
        sqlite3_stmt *q = s->q[Q_HISTORY_AGED];
        sqlite3_bind_int64(q, 1, first);
        sqlite3_bind_int64(q, 2, first + n - 1);
        sqlite3_bind_int64(q, 3, now_ms - s->history_max_age_ms);
        int rc = sqlite3_step(q);
        by_age = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) - first : n;
        sqlite3_reset(q);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return rc;
    }
    if (surplus < n)
        n = surplus;
    if (by_age > n)
        n = by_age;
    *last = n ? first + n - 1 : 0;
    return SQLITE_OK;
}

/* Within the transaction; rows up to LAST (0: none), and KEYS. */
static int prune(struct sqlite_store *s, int64_t last, bool keys, int64_t now_ms)
{
    int rc = last ? bgmqi_store_prune_history(s, s->history_first, last) : SQLITE_OK;
    if (rc == SQLITE_OK && keys) {
        sqlite3_bind_int64(s->q[Q_UNIQUE_PRUNE], 1, now_ms);
        rc = bgmqi_store_sqlite_run(s, Q_UNIQUE_PRUNE);
    }
    return rc;
}

int bgmqi_store_prune_upkeep(struct store *store, int64_t now_ms)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    int64_t last = 0;
    int rc =
        bgmqi_store_prune_look(s); /* transactions of the application add rows, too */
    if (rc == SQLITE_OK)
        rc = find_old(s, now_ms, &last);
    bool keys = false;
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(s->q[Q_UNIQUE_EXPIRED], 1, now_ms);
        keys = has_row(s, Q_UNIQUE_EXPIRED, &rc);
    }
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_read_failed(s, rc);
    if (!last && !keys)
        return 0;
    enum stage stage = STAGE_BEGIN;
    rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_NORMAL);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        rc = prune(s, last, keys, now_ms);
    }
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(s);
    }
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_err(s, bgmqi_store_sqlite_fail(s, rc, stage, NULL));
    if (last)
        s->history_first = last + 1;
    return 1; /* the next call finds out, and is cheap when there is no more */
}
