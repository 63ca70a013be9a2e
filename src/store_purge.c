/* store_purge.c - has the log begin anew, so that it holds no bytes of what is gone.
 *
 * The journal's thread, between batches.  The file itself holds none when the store was opened with
 * erase: SQLite then overwrites what it deletes.  The log keeps old pages until they are written
 * over; once all of it is in the file, and nobody reads it, the next commit cuts it short.  It must
 * never take the one for the other: a log that went on has what is gone. */
#include "err.h"
#include "store_sqlite.h"

/* Pages that W has written in all its commits. */
static int written(const struct sqlite_store *s)
{
    int n = 0, most;
    sqlite3_db_status(s->w, SQLITE_DBSTATUS_CACHE_WRITE, &n, &most, 0);
    return n;
}

/* A commit that has the log begin anew, and cut to its own length; EBUSY: it did not, as somebody
 * reads the newest state, or has written to the log since the check-point.  Then the log has pages
 * that are not of this commit. */
static int begin_log_anew(struct sqlite_store *s)
{
    enum stage stage = STAGE_BEGIN;
    int64_t mark; /* another one each time, or there may be nothing to write */
    int before = written(s);
    sqlite3_randomness(sizeof(mark), &mark);
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_FULL);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        sqlite3_bind_text(s->q[Q_META_SET], 1, "purged", -1, SQLITE_STATIC);
        sqlite3_bind_int64(s->q[Q_META_SET], 2, mark & INT64_MAX);
        rc = bgmqi_store_sqlite_run(s, Q_META_SET);
    }
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(s);
    }
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_err(s, bgmqi_store_sqlite_fail(s, rc, stage, NULL));
    return s->logged && s->wal_pages == written(s) - before ? 0 : BGMQ_EBUSY;
}

int bgmqi_store_purge(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    int err = bgmqi_store_upkeep_checkpoint(store, 1);
    if (err)
        return err > 0 ? BGMQ_EBUSY : err; /* somebody reads an old state */
    int rc = sqlite3_exec(s->w, "PRAGMA main.journal_size_limit = 0", NULL, NULL, NULL);
    err = rc == SQLITE_OK ? begin_log_anew(s) : bgmqi_store_sqlite_read_failed(s, rc);
    rc = sqlite3_exec(s->w, "PRAGMA main.journal_size_limit = " STORE_LOG_LIMIT, NULL,
                      NULL, NULL);
    return rc == SQLITE_OK || err ? err : bgmqi_store_sqlite_read_failed(s, rc);
}
