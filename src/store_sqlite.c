/* store_sqlite.c - the SQLite store: its transactions and their failures, open and close.
 *
 * One thread at a time: the opener's, then the journal's.  It must never retry what it
 * cannot know the outcome of: after a failed commit, or damage, the store is dead and
 * says so to every later call. */
#include "store_sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "store_batch.h"
#include "store_check.h"
#include "store_open.h"
#include "store_schema.h"

enum { HISTORY_KEEP = 100000, LOG_HARD = 512 << 20 };

int bgmqi_store_sqlite_run(struct sqlite_store *s, enum statement q)
{
    int rc = sqlite3_step(s->q[q]);
    sqlite3_reset(s->q[q]);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* ---- transactions and their failures ----------------------------------------------- */

int bgmqi_store_sqlite_begin(struct sqlite_store *s, enum store_sync sync)
{
    if (s->sync != (int)sync) {
        int rc =
            sqlite3_exec(s->w,
                         sync == STORE_SYNC_FULL ? "PRAGMA main.synchronous = FULL"
                                                 : "PRAGMA main.synchronous = NORMAL",
                         NULL, NULL, NULL);
        if (rc != SQLITE_OK)
            return rc;
        s->sync = (int)sync;
    }
    return bgmqi_store_sqlite_run(s, Q_BEGIN);
}

/* A commit without a change writes nothing and syncs nothing, not even what was committed
 * before it without a sync. */
static int sync_log(struct sqlite_store *s)
{
    sqlite3_file *log = NULL;
    int rc = sqlite3_file_control(s->w, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (rc == SQLITE_OK && log && log->pMethods)
        rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    return rc;
}

int bgmqi_store_sqlite_commit(struct sqlite_store *s)
{
    s->logged = false;
    int rc = bgmqi_store_sqlite_run(s, Q_COMMIT);
    if (rc == SQLITE_OK && s->sync == STORE_SYNC_FULL && s->unsynced && !s->logged)
        rc = sync_log(s);
    /* What went into a file that is not there any more is not safe, whatever SQLite says. */
    if (rc == SQLITE_OK && !bgmqi_store_open_is_same(s))
        rc = SQLITE_READONLY_DBMOVED;
    if (rc == SQLITE_OK && (s->logged || s->sync == STORE_SYNC_FULL))
        s->unsynced = s->sync != STORE_SYNC_FULL;
    return rc;
}

bool bgmqi_store_sqlite_no_room(sqlite3 *db, int rc, bool log)
{
    if (rc != SQLITE_IOERR_WRITE)
        return false;
    sqlite3_file *file = NULL;
    int which = log ? SQLITE_FCNTL_JOURNAL_POINTER : SQLITE_FCNTL_FILE_POINTER;
    if (sqlite3_file_control(db, "main", which, &file) != SQLITE_OK || !file ||
        !file->pMethods)
        return false;
    int e = 0;
    file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &e);
    return e == ENOSPC || e == EDQUOT || e == EFBIG;
}

bool bgmqi_store_sqlite_no_memory(int rc)
{
    return (rc & 0xff) == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM;
}

static int classify(int rc, enum stage stage)
{
    if (bgmqi_store_sqlite_no_memory(rc))
        rc = SQLITE_NOMEM;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return STORE_FAIL_BUSY;
    case SQLITE_FULL:
        return STORE_FAIL_FULL;
    case SQLITE_NOMEM:
        /* During a commit the log may have been written already. */
        return stage == STAGE_COMMIT ? STORE_FAIL_DEAD : STORE_FAIL_FULL;
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return STORE_FAIL_DEAD;
    default:
        return stage == STAGE_COMMIT ? STORE_FAIL_DEAD : STORE_FAIL_OP;
    }
}

static void die(struct sqlite_store *s, const char *doing, int rc, const char *why)
{
    if (s->dead)
        return;
    bool damaged = (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
    s->dead = true;
    s->dead_err = damaged ? BGMQ_ECORRUPT : BGMQ_ESTORE;
    bgmqi_err_set(&s->why_dead, 0, "%s: %s: %s (%d)%s", s->path, doing, why, rc,
                  damaged ? STORE_RECIPE : "");
}

void bgmqi_store_sqlite_damaged(struct sqlite_store *s, const char *why)
{
    die(s, "checking it", SQLITE_CORRUPT, why);
}

int bgmqi_store_sqlite_fail(struct sqlite_store *s, int rc, enum stage stage,
                            struct bgmq_error *text)
{
    static const char *const doing[] = {"beginning", "writing", "committing"};
    int failure = bgmqi_store_sqlite_no_room(s->w, rc, true) ? STORE_FAIL_FULL
                                                             : classify(rc, stage);
    char why[160] = "the file, or its log, has been removed or replaced";
    if (rc != SQLITE_READONLY_DBMOVED)
        snprintf(why, sizeof(why), "%s",
                 sqlite3_errcode(s->w) != SQLITE_OK ? sqlite3_errmsg(s->w)
                                                    : sqlite3_errstr(rc));
    bgmqi_err_set(text, 0, "%s: %s: %s (%d)", s->path, doing[stage], why, rc);
    if (failure == STORE_FAIL_DEAD) {
        die(s, doing[stage], rc, why);
        bgmqi_err_set(text, 0, "%s", s->why_dead.text);
    }
    if (!sqlite3_get_autocommit(s->w)) {
        int undone = bgmqi_store_sqlite_run(s, Q_ROLLBACK);
        if (!sqlite3_get_autocommit(s->w)) {
            die(s, "rolling back", undone, sqlite3_errstr(undone));
            failure = STORE_FAIL_DEAD;
        }
    }
    return failure;
}

int bgmqi_store_sqlite_checkpoint_failed(struct sqlite_store *s, int rc)
{
    /* Without memory nothing is written yet, and the log has it all. */
    int failure =
        bgmqi_store_sqlite_no_memory(rc) || bgmqi_store_sqlite_no_room(s->c, rc, false)
            ? STORE_FAIL_FULL
            : classify(rc, STAGE_COMMIT);
    if (failure == STORE_FAIL_DEAD)
        die(s, "check-pointing", rc, sqlite3_errmsg(s->c));
    return bgmqi_store_sqlite_err(s, failure);
}

int bgmqi_store_sqlite_err(const struct sqlite_store *s, int failure)
{
    switch (failure) {
    case STORE_FAIL_NONE:
        return 0;
    case STORE_FAIL_BUSY:
        return BGMQ_EBUSY;
    case STORE_FAIL_FULL:
        return BGMQ_EFULL;
    default:
        return s->dead ? s->dead_err : BGMQ_ESTORE;
    }
}

int bgmqi_store_sqlite_failed(struct sqlite_store *s, int rc, enum stage stage)
{
    int failure = bgmqi_store_sqlite_fail(s, rc, stage, NULL);
    return bgmqi_store_sqlite_no_memory(rc) ? BGMQ_ENOMEM
                                            : bgmqi_store_sqlite_err(s, failure);
}

int bgmqi_store_sqlite_code(int rc)
{
    if (bgmqi_store_sqlite_no_memory(rc))
        return BGMQ_ENOMEM;
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
        return 0;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return BGMQ_EBUSY;
    case SQLITE_FULL:
        return BGMQ_EFULL;
    case SQLITE_CONSTRAINT:
        return BGMQ_EINVAL; /* the table's own checks */
    case SQLITE_TOOBIG:
        return BGMQ_ETOOBIG;
    case SQLITE_READONLY:
        return BGMQ_EREADONLY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return BGMQ_ECORRUPT;
    default:
        return BGMQ_ESTORE;
    }
}

int bgmqi_store_sqlite_read_failed(struct sqlite_store *s, int rc)
{
    if (bgmqi_store_sqlite_no_memory(rc))
        return BGMQ_ENOMEM;
    return bgmqi_store_sqlite_err(s, bgmqi_store_sqlite_fail(s, rc, STAGE_BODY, NULL));
}

/* ---- open and close ---------------------------------------------------------------- */

static void store_free(struct sqlite_store *s)
{
    bgmqi_store_check_end(s);
    for (int q = 0; q < STATEMENTS; q++) {
        sqlite3_finalize(s->q[q]);
        free(s->bound[q]);
    }
    bgmqi_store_open_close(&s->c);
    bgmqi_store_open_close(&s->w);
    bgmqi_store_batch_free_room(s);
    free(s->saved);
    free(s->path);
    free(s);
}

static void store_close(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    bgmqi_store_upkeep_checkpoint(store, 1);
    store_free(s);
}

static int open_all(struct sqlite_store *s, const struct store_options *options,
                    struct bgmq_error *error)
{
    int err = bgmqi_store_open_file(s, options, error);
    if (err)
        return err;
    int rc = bgmqi_store_statement_prepare(s);
    if (rc == SQLITE_OK)
        rc = bgmqi_store_prune_look(s);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(s->w, rc, s->path, "its tables", error);
    bgmqi_store_upkeep_begin(s);
    return 0;
}

void bgmqi_store_sqlite_want(struct store *store, _Atomic uint32_t *wanted)
{
    ((struct sqlite_store *)store)->wanted = wanted;
}

int bgmqi_store_sqlite_open(struct store **ret, const struct store_options *options,
                            struct bgmq_error *error)
{
    static const struct store_ops ops = {
        .apply = bgmqi_store_write_apply,
        .load = bgmqi_store_load_rows,
        .types = bgmqi_store_load_types,
        .recover = bgmqi_store_recover_all,
        .reserve_ids = bgmqi_store_upkeep_reserve_ids,
        .leave = bgmqi_store_upkeep_leave,
        .search = bgmqi_store_search_rows,
        .ended = bgmqi_store_search_ended,
        .errors = bgmqi_store_search_errors,
        .inbox = bgmqi_store_inbox_rows,
        .upkeep = bgmqi_store_prune_upkeep,
        .log_bytes = bgmqi_store_upkeep_log_bytes,
        .checks = bgmqi_store_upkeep_checks,
        .purge = bgmqi_store_purge,
        .look = bgmqi_store_upkeep_look,
        .checkpoint = bgmqi_store_upkeep_checkpoint,
        .close = store_close,
    };
    struct sqlite_store *s = calloc(1, sizeof(*s));
    if (!s)
        return BGMQ_ENOMEM;
    s->base.ops = &ops;
    s->history_keep = options->history_keep ? options->history_keep : HISTORY_KEEP;
    s->history_max_age_ms = options->history_max_age_ms;
    s->max_body = options->max_body;
    s->log_hard = options->log_hard_bytes ? options->log_hard_bytes : LOG_HARD;
    s->sync = -1;
    int err = open_all(s, options, error);
    if (err) {
        store_free(s);
        return err;
    }
    *ret = &s->base;
    return 0;
}
