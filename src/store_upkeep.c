/* store_upkeep.c - what a store needs beside its rows: numbers for messages, and
 * check-points.
 *
 * Called by the journal, on its thread, between batches.  It must never check-point but
 * under W's write lock (see store_open.c for why), and never wait for that lock: whoever
 * holds it will let go, and the next batch tries again. */
#include "err.h"
#include "store_check.h"
#include "store_open.h"
#include "store_sqlite.h"

enum { CHECKPOINT_PAGES = 1000 };

/* ---- ids --------------------------------------------------------------------------- */

static int reserve(struct sqlite_store *s, uint64_t n, int64_t *first)
{
    sqlite3_stmt *q = s->q[Q_IDS_RESERVE];
    sqlite3_bind_int64(q, 1, (int64_t)n);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        *first = sqlite3_column_int64(q, 0);
        rc = sqlite3_step(q);
    } else if (rc == SQLITE_DONE) {
        rc = SQLITE_CORRUPT; /* the row is made with the table */
    }
    sqlite3_reset(q);
    if (rc == SQLITE_DONE && (*first < 1 || *first > INT64_MAX - (int64_t)n))
        return SQLITE_CORRUPT;
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Synced, or a loss of power would have the ids given again. */
int bgmqi_store_upkeep_reserve_ids(struct store *store, uint64_t n, uint64_t *first)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    if (n > INT64_MAX / 2)
        return BGMQ_EINVAL;
    int64_t got = 0;
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_FULL);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        rc = reserve(s, n, &got);
    }
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(s);
    }
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_failed(s, rc, stage);
    *first = (uint64_t)got;
    return 0;
}

int bgmqi_store_upkeep_leave(struct store *store, uint64_t next)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    s->patience_ms = OPEN_PATIENCE_MS;
    if (next < 1 || next > INT64_MAX)
        return BGMQ_EINVAL;
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_FULL);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        sqlite3_bind_int64(s->q[Q_IDS_RETURN], 1, (int64_t)next);
        rc = bgmqi_store_sqlite_run(s, Q_IDS_RETURN);
    }
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(s->q[Q_META_SET], 1, "clean", -1, SQLITE_STATIC);
        sqlite3_bind_int(s->q[Q_META_SET], 2, 1);
        rc = bgmqi_store_sqlite_run(s, Q_META_SET);
    }
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(s);
    }
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_err(s, bgmqi_store_sqlite_fail(s, rc, stage, NULL));
    return 0;
}

/* ---- check-points ------------------------------------------------------------------ */

static int count_pages(void *ctx, sqlite3 *db, const char *name, int pages)
{
    (void)db, (void)name;
    struct sqlite_store *s = ctx;
    s->stranger |= s->log_used && pages < s->wal_pages;
    s->wal_pages = pages;
    s->log_used = s->logged = true;
    return SQLITE_OK;
}

/* Under W's write lock nobody can commit, so nobody can restart the log under C's hands.
 */
int bgmqi_store_upkeep_checkpoint(struct store *store, int force)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    if (bgmqi_store_upkeep_log_bytes(store) > s->log_hard / 2)
        bgmqi_store_check_give_up(s); /* better no check than no publishing */
    if (!force && (!s->log_used || s->wal_pages < s->checkpoint_at))
        return s->log_held;
    unsigned patience = s->patience_ms;
    s->patience_ms = 0;
    int rc = bgmqi_store_sqlite_run(s, Q_BEGIN);
    s->patience_ms = patience;
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_err(s,
                                      bgmqi_store_sqlite_fail(s, rc, STAGE_BEGIN, NULL));
    int pages = 0, done = 0;
    rc =
        sqlite3_wal_checkpoint_v2(s->c, "main", SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
    int undone = bgmqi_store_sqlite_run(s, Q_ROLLBACK);
    if (undone != SQLITE_OK)
        return bgmqi_store_sqlite_err(
            s, bgmqi_store_sqlite_fail(s, undone, STAGE_BODY, NULL));
    if (rc == SQLITE_OK) {
        s->log_used = done < pages; /* a reader of an old state holds the rest back */
        s->checkpoint_at = CHECKPOINT_PAGES + (s->log_used ? pages : 0);
        s->log_held = s->log_used ? 1 + done : 0;
        return s->log_held;
    }
    s->checkpoint_at = s->wal_pages + CHECKPOINT_PAGES;
    return bgmqi_store_sqlite_checkpoint_failed(s, rc);
}

int bgmqi_store_upkeep_look(struct store *store, struct bgmq_error *text)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    struct bgmq_error damage = {.text = ""};
    if (!s->dead && !bgmqi_store_open_is_same(s))
        bgmqi_store_sqlite_fail(s, SQLITE_READONLY_DBMOVED, STAGE_BEGIN, NULL);
    if (!s->dead && bgmqi_store_check_found(s, &damage))
        bgmqi_store_sqlite_damaged(s, damage.text);
    if (s->dead) {
        bgmqi_err_set(text, 0, "%s", s->why_dead.text);
        return s->dead_err;
    }
    if (bgmqi_store_check_given_up(s, text))
        return 1;
    if (!s->stranger || s->stranger_told || !bgmqi_store_open_loses_data())
        return 0;
    s->stranger_told = true;
    bgmqi_err_set(
        text, 0,
        "another connection check-points by itself, and SQLite %s may lose data "
        "by that: set PRAGMA wal_autocheckpoint = 0 on it, or have "
        "bgmq_sqlite_prepare do it: %s",
        sqlite3_libversion(), s->path);
    return 1;
}

bool bgmqi_store_upkeep_checks(struct store *store)
{
    return bgmqi_store_check_runs((struct sqlite_store *)store);
}

/* Once all of the log is in the file, the next commit begins it anew, if no reader is in it. */
uint64_t bgmqi_store_upkeep_log_bytes(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    return s->log_used ? (uint64_t)s->wal_pages * s->page_size : 0;
}

void bgmqi_store_upkeep_begin(struct sqlite_store *s)
{
    s->checkpoint_at = CHECKPOINT_PAGES;
    s->log_used = true; /* what an earlier process left */
    sqlite3_wal_hook(s->w, count_pages, s);
}
