/* store_schema.c - looks whether a database is ours, and has its tables made.
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
#include "store_sqlite.h"
#include "store_tables.h"

#define APPLICATION_ID 1111969105 /* 0x42474D51, "BGMQ" */
#define TEXT_OF(x)     #x
#define TEXT(x)        TEXT_OF(x)

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
    char words[128];
    int err = BGMQ_EOPEN;
    if ((rc & 0xff) == SQLITE_NOTADB)
        err = BGMQ_ENOTDB;
    else if ((rc & 0xff) == SQLITE_CORRUPT)
        err = BGMQ_ECORRUPT;
    else if (bgmqi_store_sqlite_no_memory(rc) ||
             (db && bgmqi_store_sqlite_no_memory(sqlite3_extended_errcode(db))))
        err = BGMQ_ENOMEM;
    else if (rc == SQLITE_CANTOPEN_SYMLINK)
        err = BGMQ_EUNSAFE;
    return bgmqi_err_set(
        error, err, "%s: %s: %s%s%s (%d)", path, doing, why, has_errno ? ", " : "",
        has_errno ? strerror_r(system_errno, words, sizeof(words)) : "", rc);
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

/* Inside the transaction. */
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
        int err = rc == SQLITE_OK ? check_version(version, path, error) : 0;
        if (err)
            return err;
        if (rc == SQLITE_OK)
            rc = bgmqi_store_tables_migrate(db, version);
        if (rc == SQLITE_ERROR) /* the tables of its version are not there */
            return bgmqi_err_set(error, BGMQ_ESCHEMA, "%s: its tables: %s", path,
                                 sqlite3_errmsg(db));
        return rc == SQLITE_OK
                   ? 0
                   : bgmqi_store_schema_error(db, rc, path,
                                              "bringing its tables up to date", error);
    }
    if (rc == SQLITE_OK && mark)
        rc = sqlite3_exec(db, "PRAGMA main.application_id = " TEXT(APPLICATION_ID), NULL,
                          NULL, NULL);
    if (rc == SQLITE_OK)
        rc = bgmqi_store_tables_make(db);
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
    if (err == 0)
        err = bgmqi_store_tables_check(db, path, error);
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
