/* store_schema.c - looks whether a database is ours, and makes its tables.
 *
 * Called by store_open.c, on the thread that opens the service, before any statement is
 * prepared.  It must never change a database that it has not found to be ours or empty,
 * or shared with us: every look comes before the first write, and all writes are one
 * transaction, so that a process that dies in the middle leaves either no table or all of
 * them. */
#include "store_schema.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "err.h"

#define SCHEMA_VERSION 2
#define APPLICATION_ID 1111969105 /* 0x42474D51, "BGMQ" */
#define TEXT_OF(x)     #x
#define TEXT(x)        TEXT_OF(x)

/* Times are milliseconds since 1970 UTC.  A message is in bgmq_job while it is in the
 * memory of the process that owns the file, and in bgmq_backlog while it waits in the
 * file only, is delayed, or dead; at open everything in bgmq_job moves to bgmq_backlog.
 * Whoever is not the owner writes to bgmq_inbox alone, and reads the views. */
static const char tables[] =
    "CREATE TABLE main.bgmq_meta("
    " key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;"
    "INSERT INTO main.bgmq_meta(key, value) VALUES('schema', " TEXT(
        SCHEMA_VERSION) "), ('next_id', 1);"
                        "CREATE TABLE main.bgmq_type("
                        " id INTEGER PRIMARY KEY,"
                        " name TEXT NOT NULL UNIQUE) STRICT;" /* a channel of a type: type@channel */
                        "CREATE TABLE main.bgmq_job("
                        " id INTEGER PRIMARY KEY,"
                        " type INTEGER NOT NULL," /* bgmq_type.id */
                        " seq INTEGER NOT NULL,"  /* order of acceptance */
                        " priority INTEGER NOT NULL,"
                        " attempt INTEGER NOT NULL,"      /* starts that count */
                        " max_attempts INTEGER NOT NULL," /* 0: the type's */
                        " run INTEGER NOT NULL,"          /* starts in all lives */
                        " crashes INTEGER NOT NULL," /* starts that ended with the process */
                        " flags INTEGER NOT NULL,"
                        " created INTEGER NOT NULL,"
                        " reply_to TEXT, reply_id INTEGER, tag TEXT, traceparent TEXT, "
                        "unique_key TEXT,"
                        " body_type TEXT, meta TEXT," /* a JSON object of strings */
                        " crc INTEGER NOT NULL,"      /* CRC-32C of body */
                        " body BLOB NOT NULL,"
                        " channel TEXT, expires INTEGER, timeout INTEGER,"
                        " unique_scope INTEGER, unique_until INTEGER) STRICT;"
                        "CREATE TABLE main.bgmq_backlog("
                        " id INTEGER PRIMARY KEY,"
                        " type INTEGER NOT NULL,"
                        " lane INTEGER NOT NULL," /* 0 inq, 1 priorityq, 2 delayed, 3 dlq */
                        " key INTEGER NOT NULL," /* 0, -priority, time when due, 0 */
                        " seq INTEGER NOT NULL,"
                        " priority INTEGER NOT NULL,"
                        " attempt INTEGER NOT NULL,"
                        " max_attempts INTEGER NOT NULL,"
                        " run INTEGER NOT NULL,"
                        " crashes INTEGER NOT NULL,"
                        " flags INTEGER NOT NULL,"
                        " created INTEGER NOT NULL,"
                        " error_code TEXT, error_text TEXT, error_at INTEGER," /* of the last failed attempt */
                        " reply_to TEXT, reply_id INTEGER, tag TEXT, traceparent TEXT, "
                        "unique_key TEXT,"
                        " body_type TEXT, meta TEXT,"
                        " crc INTEGER NOT NULL,"
                        " body BLOB NOT NULL,"
                        " channel TEXT, expires INTEGER, timeout INTEGER,"
                        " unique_scope INTEGER, unique_until INTEGER) STRICT;"
                        "CREATE INDEX main.bgmq_backlog_order ON bgmq_backlog(type, "
                        "lane, key, seq);"
                        "CREATE TABLE main.bgmq_unique("
                        " type INTEGER NOT NULL,"
                        " key TEXT NOT NULL,"
                        " id INTEGER NOT NULL," /* the message that has the key */
                        " scope INTEGER NOT NULL DEFAULT 0," /* enum bgmq_unique */
                        " until INTEGER,"                    /* with a period: its end */
                        " PRIMARY KEY(type, key)) STRICT, WITHOUT ROWID;"
                        "CREATE TABLE main.bgmq_history("
                        " seq INTEGER PRIMARY KEY," /* order of ending */
                        " id INTEGER NOT NULL,"
                        " type INTEGER NOT NULL,"
                        " outcome TEXT NOT NULL," /* done, dead, discarded */
                        " priority INTEGER NOT NULL,"
                        " attempts INTEGER NOT NULL,"
                        " created INTEGER NOT NULL,"
                        " finished INTEGER NOT NULL,"
                        " error_code TEXT, error_text TEXT,"
                        " started INTEGER," /* of the last attempt */
                        " crashes INTEGER, tag TEXT, unique_key TEXT, result BLOB, body "
                        "BLOB) STRICT;";

/* What version 2 added. */
static const char later_tables[] =
    "CREATE INDEX main.bgmq_backlog_expires ON bgmq_backlog(type, expires)"
    " WHERE expires IS NOT NULL;"
    "CREATE INDEX main.bgmq_unique_until ON bgmq_unique(until) WHERE until IS NOT NULL;"
    /* What handlers keep between attempts. */
    "CREATE TABLE main.bgmq_progress("
    " id INTEGER PRIMARY KEY, cursor BLOB, number INTEGER, text TEXT) STRICT;"
    /* Each failed attempt of a message; run is the number of the start. */
    "CREATE TABLE main.bgmq_error("
    " id INTEGER NOT NULL, run INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " at INTEGER NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL,"
    " PRIMARY KEY(id, run)) STRICT, WITHOUT ROWID;"
    /* Messages of other processes, and of plain SQL: the owner takes them over.  Their ids begin
     * at 2^52, where the owner's never come. */
    "CREATE TABLE main.bgmq_inbox("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " type TEXT NOT NULL CHECK(length(type) BETWEEN 1 AND 200"
    "  AND type NOT GLOB '*[^A-Za-z0-9_.-]*'),"
    " body ANY NOT NULL CHECK(typeof(body) IN ('blob', 'text')),"
    " priority INTEGER NOT NULL DEFAULT 0 CHECK(priority BETWEEN 0 AND 32767),"
    " run_at INTEGER," /* milliseconds since 1970; NULL: at once */
    " expires INTEGER, unique_key TEXT, unique_scope INTEGER NOT NULL DEFAULT 0"
    "  CHECK(unique_scope BETWEEN 0 AND 3), unique_period INTEGER,"
    " reply_to TEXT, reply_id INTEGER, tag TEXT, traceparent TEXT,"
    " meta TEXT, channel TEXT,"
    " max_attempts INTEGER NOT NULL DEFAULT 0 CHECK(max_attempts BETWEEN 0 AND 1000),"
    " timeout INTEGER CHECK(timeout IS NULL OR timeout >= 0),"
    " created INTEGER NOT NULL DEFAULT"
    "  (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),"
    " refused TEXT) STRICT;" /* why the owner could not take it over */
    "CREATE INDEX main.bgmq_history_id ON bgmq_history(id);"
    "INSERT INTO main.sqlite_sequence(name, seq) VALUES('bgmq_inbox', 4503599627370495);";

/* The number that SQL yields in its first row and column; MISSING when there is no row.
 */
static int number(sqlite3 *db, const char *sql, int64_t missing, int64_t *ret)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(q, 0);
    else if (rc == SQLITE_DONE)
        *ret = missing;
    sqlite3_finalize(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int bgmqi_store_schema_error(sqlite3 *db, int rc, const char *path, const char *doing,
                             struct bgmq_error *error)
{
    const char *why =
        db && sqlite3_errcode(db) != SQLITE_OK ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    int system_errno = db ? sqlite3_system_errno(db) : 0;
    bool has_errno =
        system_errno && ((rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_IOERR);
    int err = BGMQ_EOPEN;
    if ((rc & 0xff) == SQLITE_NOTADB)
        err = BGMQ_ENOTDB;
    else if ((rc & 0xff) == SQLITE_NOMEM ||
             (db && (sqlite3_errcode(db) & 0xff) == SQLITE_NOMEM))
        err = BGMQ_ENOMEM;
    else if (rc == SQLITE_CANTOPEN_SYMLINK)
        err = BGMQ_EUNSAFE;
    return bgmqi_err_set(error, err, "%s: %s: %s%s%s (%d)", path, doing, why,
                         has_errno ? ", " : "", has_errno ? strerror(system_errno) : "",
                         rc);
}

static int read_version(sqlite3 *db, int64_t *ret)
{
    /* A value that is no number is no version of ours. */
    return number(db,
                  "SELECT CASE typeof(value) WHEN 'integer' THEN value END"
                  " FROM main.bgmq_meta WHERE key = 'schema'",
                  0, ret);
}

static int check_version(int64_t version, const char *path, struct bgmq_error *error)
{
    if (version > SCHEMA_VERSION)
        return bgmqi_err_set(error, BGMQ_EVERSION,
                             "%s: has tables of version %lld, this library knows %d",
                             path, (long long)version, SCHEMA_VERSION);
    if (version < 1)
        return bgmqi_err_set(error, BGMQ_EOPEN, "%s: bgmq_meta names no version", path);
    return 0;
}

int bgmqi_store_schema_look(sqlite3 *db, const char *path, struct bgmq_error *error)
{
    int64_t mark = 0, ours = 0, all = 0, version = 0;
    int rc = number(db, "PRAGMA main.application_id", 0, &mark);
    if (rc == SQLITE_OK)
        rc = number(db,
                    "SELECT count(*) FROM main.sqlite_schema"
                    " WHERE type = 'table' AND name = 'bgmq_meta'",
                    0, &ours);
    if (rc == SQLITE_OK)
        rc = number(db, "SELECT count(*) FROM main.sqlite_schema", 0, &all);
    if (rc == SQLITE_OK && ours)
        rc = read_version(db, &version);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(db, rc, path, "looking whose it is", error);
    if (ours) {
        int err = check_version(version, path, error);
        if (err)
            return err;
        return mark == 0 || mark == APPLICATION_ID ? SCHEMA_OURS : SCHEMA_MARKED_OURS;
    }
    if (mark == APPLICATION_ID)
        return SCHEMA_EMPTY;
    if (mark != 0)
        return SCHEMA_MARKED;
    return all ? SCHEMA_FOREIGN : SCHEMA_EMPTY;
}

/* Inside the transaction.  Where later versions bring older tables up to date. */
static int make(sqlite3 *db, const char *path, int mark, struct bgmq_error *error)
{
    int64_t ours = 0, version = 0;
    int rc = number(db,
                    "SELECT count(*) FROM main.sqlite_schema"
                    " WHERE type = 'table' AND name = 'bgmq_meta'",
                    0, &ours);
    if (rc == SQLITE_OK && ours) {
        /* Somebody was faster than we, or the tables were there before. */
        rc = read_version(db, &version);
        return rc == SQLITE_OK
                   ? check_version(version, path, error)
                   : bgmqi_store_schema_error(db, rc, path, "reading the version", error);
    }
    if (rc == SQLITE_OK && mark)
        rc = sqlite3_exec(db, "PRAGMA main.application_id = " TEXT(APPLICATION_ID), NULL,
                          NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, tables, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, later_tables, NULL, NULL, NULL);
    return rc == SQLITE_OK
               ? 0
               : bgmqi_store_schema_error(db, rc, path, "making the tables", error);
}

/* Ids are never given twice, also when somebody wrote rows by hand. */
static int raise_next_id(sqlite3 *db)
{
    return sqlite3_exec(
        db,
        "UPDATE main.bgmq_meta SET value = 1 + max("
        "  coalesce((SELECT max(id) FROM main.bgmq_job WHERE id < 1 << 52), 0),"
        "  coalesce((SELECT max(id) FROM main.bgmq_backlog WHERE id < 1 << 52), 0))"
        " WHERE key = 'next_id' AND value <= max("
        "  coalesce((SELECT max(id) FROM main.bgmq_job WHERE id < 1 << 52), 0),"
        "  coalesce((SELECT max(id) FROM main.bgmq_backlog WHERE id < 1 << 52), 0))",
        NULL, NULL, NULL);
}

int bgmqi_store_schema_make(sqlite3 *db, const char *path, int mark,
                            struct bgmq_error *error)
{
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(db, rc, path, "taking the write lock", error);
    int err = make(db, path, mark, error);
    if (err == 0) {
        rc = raise_next_id(db);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
        if (rc != SQLITE_OK)
            err = bgmqi_store_schema_error(db, rc, path, "writing the tables", error);
    }
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return err;
}
