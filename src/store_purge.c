/* store_purge.c - has the log begin anew, so that it holds no bytes of what is gone.
 *
 * The journal's thread, between batches.  The file itself holds none when the store was opened with
 * erase: SQLite then overwrites what it deletes.  The log keeps old pages until they are written
 * over; once all of it is in the file, and nobody reads it, the next commit cuts it short. */
#include "err.h"
#include "store_sqlite.h"

enum { FEW_PAGES = 16 }; /* of one commit that writes one row */

/* A commit that has the log begin anew, and cut to its own length. */
static int begin_log_anew(struct sqlite_store *s)
{
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_FULL);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        sqlite3_bind_text(s->q[Q_META_SET], 1, "purged", -1, SQLITE_STATIC);
        sqlite3_bind_int64(s->q[Q_META_SET], 2, sqlite3_total_changes64(s->w));
        rc = bgmqi_store_sqlite_run(s, Q_META_SET);
    }
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(s);
    }
    return rc == SQLITE_OK
               ? 0
               : bgmqi_store_sqlite_err(s, bgmqi_store_sqlite_fail(s, rc, stage, NULL));
}

int bgmqi_store_purge(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    int err = bgmqi_store_upkeep_checkpoint(store, 1);
    if (err)
        return err > 0 ? BGMQ_EBUSY : err; /* somebody reads an old state */
    int rc = sqlite3_exec(s->w, "PRAGMA main.journal_size_limit = 0", NULL, NULL, NULL);
    err = rc == SQLITE_OK ? begin_log_anew(s) : bgmqi_store_sqlite_read_failed(s, rc);
    if (!err && s->wal_pages > FEW_PAGES)
        err = BGMQ_EBUSY; /* somebody reads the newest state: the log goes on */
    rc = sqlite3_exec(s->w, "PRAGMA main.journal_size_limit = " STORE_LOG_LIMIT, NULL,
                      NULL, NULL);
    return rc == SQLITE_OK || err ? err : bgmqi_store_sqlite_read_failed(s, rc);
}
