/* store_sqlite.c - the SQLite store: its statements, transactions, ids and check-points.
 *
 * One thread at a time: the opener's, then the journal's.  It must never retry what it
 * cannot know the outcome of: after a failed commit, or damage, the store is dead and
 * says so to every later call.  SQL text is constant, values are bound, every table is
 * named with its schema, so that no table of the application can take our place. */
#include "store_sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "err.h"
#include "store_batch.h"
#include "store_open.h"

enum {
    APPLY_PATIENCE_MS = 100, /* the journal tries again, and knows when to give up */
    HISTORY_KEEP = 100000
};

/* A statement that fails rolls its whole transaction back (OR ROLLBACK, and no statement
 * journal): a partial rollback inside a transaction is what some SQLites get wrong. */
#define JOB_COLUMNS                                                                      \
    "id, type, seq, priority, attempt, max_attempts, run, crashes, flags, created, "     \
    "crc, body"
#define EXT_COLUMNS   "reply_to, reply_id, tag, traceparent, unique_key, body_type, meta"
#define PLACE_COLUMNS "lane, key, error_code, error_text, error_at"
#define JOB_ROW       "(?,?,?,?,?,?,?,?,?,?,?,?)"
#define HISTORY_ROW   "(?,?,?,?,?,?,?,?,?)"
#define JOB_INSERT    "INSERT OR ROLLBACK INTO main.bgmq_job(" JOB_COLUMNS ") VALUES" JOB_ROW
#define HISTORY_INSERT                                                                   \
    "INSERT OR ROLLBACK INTO main.bgmq_history(id, type, outcome, priority, attempts,"   \
    " created, finished, error_code, error_text) VALUES" HISTORY_ROW

static const char *const texts[STATEMENTS] = {
    [Q_BEGIN] = "BEGIN IMMEDIATE",
    [Q_COMMIT] = "COMMIT",
    [Q_ROLLBACK] = "ROLLBACK",
    [Q_JOB_INSERT] = JOB_INSERT,
    [Q_JOB_INSERT_EXT] =
        "INSERT OR ROLLBACK INTO main.bgmq_job(" JOB_COLUMNS ", " EXT_COLUMNS
        ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?, ?,?,?,?,?,?,?)",
    [Q_JOB_DELETE] = "DELETE FROM main.bgmq_job WHERE id = ?1",
    [Q_JOB_DELETE_RUN] = "DELETE FROM main.bgmq_job WHERE id BETWEEN ?1 AND ?2",
    [Q_BACKLOG_INSERT] =
        "INSERT OR ROLLBACK INTO main.bgmq_backlog(" JOB_COLUMNS ", " EXT_COLUMNS
        ", " PLACE_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?, ?,?,?,?,?,?,?, ?,?,?,?,?)",
    [Q_BACKLOG_UPDATE] =
        "UPDATE OR ROLLBACK main.bgmq_backlog SET seq = ?2, attempt = ?3, run = ?4,"
        " crashes = ?5, lane = ?6, key = ?7, error_code = ?8, error_text = ?9, error_at "
        "= ?10"
        " WHERE id = ?1",
    [Q_BACKLOG_DELETE] = "DELETE FROM main.bgmq_backlog WHERE id = ?1",
    [Q_BACKLOG_DELETE_RUN] = "DELETE FROM main.bgmq_backlog WHERE id BETWEEN ?1 AND ?2",
    [Q_UNIQUE_TAKE] = "INSERT INTO main.bgmq_unique(type, key, id) VALUES(?1, ?2, ?3)"
                      " ON CONFLICT DO NOTHING",
    /* The holder, when it is unfinished. */
    [Q_UNIQUE_OWNER] =
        "SELECT u.id FROM main.bgmq_unique u WHERE u.type = ?1 AND u.key = ?2"
        " AND (EXISTS(SELECT 1 FROM main.bgmq_job j WHERE j.id = u.id)"
        " OR EXISTS(SELECT 1 FROM main.bgmq_backlog b WHERE b.id = u.id AND b.lane <> "
        "3))",
    [Q_UNIQUE_GIVE] = "UPDATE OR ROLLBACK main.bgmq_unique SET id = ?3"
                      " WHERE type = ?1 AND key = ?2",
    [Q_UNIQUE_DROP] =
        "DELETE FROM main.bgmq_unique WHERE type = ?1 AND key = ?2 AND id = ?3",
    [Q_TYPE_INSERT] = "INSERT INTO main.bgmq_type(id, name) VALUES(?1, ?2)"
                      " ON CONFLICT DO NOTHING",
    [Q_HISTORY_INSERT] = HISTORY_INSERT,
    [Q_HISTORY_PRUNE] = "DELETE FROM main.bgmq_history WHERE seq BETWEEN ?1 AND ?2",
    [Q_LOAD] = "SELECT " JOB_COLUMNS ", " EXT_COLUMNS ", " PLACE_COLUMNS
               " FROM main.bgmq_backlog INDEXED BY bgmq_backlog_order"
               " WHERE type = ?1 AND lane = ?2 AND (key, seq) >= (?3, ?4)"
               " ORDER BY key, seq LIMIT ?5",
    [Q_TYPES] =
        "SELECT id, name,"
        " (SELECT count(*) FROM main.bgmq_backlog WHERE type = t.id AND lane = 0),"
        " (SELECT count(*) FROM main.bgmq_backlog WHERE type = t.id AND lane = 1),"
        " (SELECT count(*) FROM main.bgmq_backlog WHERE type = t.id AND lane = 2),"
        " (SELECT count(*) FROM main.bgmq_backlog WHERE type = t.id AND lane = 3)"
        " FROM main.bgmq_type t ORDER BY id",
    [Q_IDS_RESERVE] = "UPDATE OR ROLLBACK main.bgmq_meta SET value = value + ?1"
                      " WHERE key = 'next_id' RETURNING value - ?1",
    [Q_IDS_RETURN] = "UPDATE OR ROLLBACK main.bgmq_meta SET value = ?1"
                     " WHERE key = 'next_id' AND value > ?1",
    [Q_CHARGE_JOB] =
        "UPDATE OR ROLLBACK main.bgmq_job SET crashes = min(crashes + ?3, 255),"
        " attempt = max(attempt, ?2), run = max(run, attempt, ?2) WHERE id = ?1",
    [Q_CHARGE_BACKLOG] =
        "UPDATE OR ROLLBACK main.bgmq_backlog SET crashes = min(crashes + ?3, 255),"
        " attempt = max(attempt, ?2), run = max(run, attempt, ?2)"
        " WHERE id = ?1 AND lane <> 3",
    [Q_RECOVER_SCAN] = "SELECT id, length(body) FROM main.bgmq_job ORDER BY id",
    [Q_RECOVER_MOVE] =
        "INSERT OR ROLLBACK INTO main.bgmq_backlog(" JOB_COLUMNS ", " EXT_COLUMNS
        ", lane, key) SELECT " JOB_COLUMNS ", " EXT_COLUMNS ", priority > 0,"
        " CASE WHEN priority > 0 THEN -priority ELSE 0 END"
        " FROM main.bgmq_job WHERE id <= ?1 ORDER BY id",
    [Q_RECOVER_CLEAR] = "DELETE FROM main.bgmq_job WHERE id <= ?1",
    [Q_META_GET] = "SELECT value FROM main.bgmq_meta WHERE key = ?1",
    [Q_META_SET] = "INSERT INTO main.bgmq_meta(key, value) VALUES(?1, ?2)"
                   " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    [Q_UNFINISHED] = "SELECT count(*) FROM main.bgmq_backlog WHERE lane <> 3",
};

/* ---- statements -------------------------------------------------------------------- */

static int prepare_text(struct sqlite_store *s, enum statement q, const char *text)
{
    return sqlite3_prepare_v3(s->w, text, -1, SQLITE_PREPARE_PERSISTENT, &s->q[q], NULL);
}

/* FIRST has one row of values, and gets MANY_ROWS - 1 more of ROW. */
static int prepare_many(struct sqlite_store *s, enum statement q, const char *first,
                        const char *row)
{
    char text[2048];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s", first);
    for (int i = 1; i < MANY_ROWS; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, ",%s", row);
    return prepare_text(s, q, text);
}

static int prepare(struct sqlite_store *s)
{
    int rc = prepare_many(s, Q_JOB_INSERT_MANY, JOB_INSERT, JOB_ROW);
    if (rc == SQLITE_OK)
        rc = prepare_many(s, Q_HISTORY_INSERT_MANY, HISTORY_INSERT, HISTORY_ROW);
    for (enum statement q = 0; rc == SQLITE_OK && q < STATEMENTS; q++)
        if (texts[q])
            rc = prepare_text(s, q, texts[q]);
    return rc;
}

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

/* Whether the disk only lacked room for a write that SQLite calls an I/O error.  W writes the
 * log only, C the file only. */
static bool no_room(sqlite3 *db, int rc, bool log)
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

static int classify(int rc, enum stage stage)
{
    if (rc == SQLITE_IOERR_NOMEM)
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
    s->dead = true;
    bgmqi_err_set(&s->why_dead, 0, "%s: %s: %s (%d)", s->path, doing, why, rc);
}

int bgmqi_store_sqlite_fail(struct sqlite_store *s, int rc, enum stage stage,
                            struct bgmq_error *text)
{
    static const char *const doing[] = {"beginning", "writing", "committing"};
    int failure = no_room(s->w, rc, true) ? STORE_FAIL_FULL : classify(rc, stage);
    char why[160] = "the file, or its log, has been removed or replaced";
    if (rc != SQLITE_READONLY_DBMOVED)
        snprintf(why, sizeof(why), "%s",
                 sqlite3_errcode(s->w) != SQLITE_OK ? sqlite3_errmsg(s->w)
                                                    : sqlite3_errstr(rc));
    bgmqi_err_set(text, 0, "%s: %s: %s (%d)", s->path, doing[stage], why, rc);
    if (failure == STORE_FAIL_DEAD)
        die(s, doing[stage], rc, why);
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
    int failure = no_room(s->c, rc, false) ? STORE_FAIL_FULL : classify(rc, STAGE_COMMIT);
    if (failure == STORE_FAIL_DEAD)
        die(s, "check-pointing", rc, sqlite3_errmsg(s->c));
    return bgmqi_store_sqlite_err(failure);
}

int bgmqi_store_sqlite_err(int failure)
{
    switch (failure) {
    case STORE_FAIL_NONE:
        return 0;
    case STORE_FAIL_BUSY:
        return BGMQ_EBUSY;
    case STORE_FAIL_FULL:
        return BGMQ_EFULL;
    default:
        return BGMQ_ESTORE;
    }
}

int bgmqi_store_sqlite_read_failed(struct sqlite_store *s, int rc)
{
    if ((rc & 0xff) == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM)
        return BGMQ_ENOMEM;
    return bgmqi_store_sqlite_err(bgmqi_store_sqlite_fail(s, rc, STAGE_BODY, NULL));
}

/* ---- open and close ---------------------------------------------------------------- */

static void store_free(struct sqlite_store *s)
{
    for (int q = 0; q < STATEMENTS; q++)
        sqlite3_finalize(s->q[q]);
    bgmqi_store_open_close(&s->c);
    bgmqi_store_open_close(&s->w);
    bgmqi_store_batch_free_room(s);
    free(s->meta);
    free(s->path);
    free(s);
}

static void store_close(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    bgmqi_store_upkeep_checkpoint(store, 1);
    store_free(s);
}

/* Where the history begins and ends, so that pruning needs no look. */
static int find_history(struct sqlite_store *s)
{
    sqlite3_stmt *q = NULL;
    int rc =
        sqlite3_prepare_v2(s->w,
                           "SELECT coalesce((SELECT min(seq) FROM main.bgmq_history), 1),"
                           " coalesce((SELECT max(seq) FROM main.bgmq_history), 0)",
                           -1, &q, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        s->history_first = sqlite3_column_int64(q, 0);
        s->history_last = sqlite3_column_int64(q, 1);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(q);
    return rc;
}

static int open_all(struct sqlite_store *s, const struct store_options *options,
                    struct bgmq_error *error)
{
    int err = bgmqi_store_open_file(s, options, error);
    if (err)
        return err;
    int rc = prepare(s);
    if (rc == SQLITE_OK)
        rc = find_history(s);
    if (rc != SQLITE_OK) {
        bgmqi_err_set(error, 0, "%s: its tables: %s (%d)", s->path, sqlite3_errmsg(s->w),
                      rc);
        return (rc & 0xff) == SQLITE_NOMEM ? BGMQ_ENOMEM : BGMQ_EOPEN;
    }
    bgmqi_store_upkeep_begin(s);
    s->patience_ms = APPLY_PATIENCE_MS;
    return 0;
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
        .checkpoint = bgmqi_store_upkeep_checkpoint,
        .close = store_close,
    };
    struct sqlite_store *s = calloc(1, sizeof(*s));
    if (!s)
        return BGMQ_ENOMEM;
    s->base.ops = &ops;
    s->history_keep = options->history_keep ? options->history_keep : HISTORY_KEEP;
    s->sync = -1;
    int err = open_all(s, options, error);
    if (err) {
        store_free(s);
        return err;
    }
    *ret = &s->base;
    return 0;
}
