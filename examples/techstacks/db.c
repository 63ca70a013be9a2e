/*
 * db.c - the application's own database: one connection that threads take in turn.
 *
 * Called by the HTTP threads and by the workers.  One connection behind a mutex, not one
 * a thread, because every statement here is short, so that a second connection would only
 * wait in SQLite instead of here; because a transaction of several statements then needs
 * no retry on "busy"; and because SQLite before 3.51.3 can lose commits when one
 * connection check-points while another writes, which one connection alone cannot do. For
 * the same reason the file belongs to this process while it runs: look at it with other
 * programs when the server is down.  Mails are never sent while the connection is taken.
 */
#include "db.h"

#include "say.h"
#include "schema.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct db {
    pthread_mutex_t lock;
    /* protected by lock */
    sqlite3 *sq;
};

static int fail(sqlite3 *sq, const char *what)
{
    int code = sqlite3_extended_errcode(sq);
    if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
        return DB_EXISTS;
    if (code == SQLITE_CONSTRAINT_FOREIGNKEY)
        return DB_NOREF;
    say("database: %s (%d) in: %s", sqlite3_errmsg(sq), code, what);
    return DB_ERROR;
}

static int execute(sqlite3 *sq, const char *sql)
{
    return sqlite3_exec(sq, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(sq, sql);
}

/* Pages never spill into the log before the commit: versions before 3.50.2 may lose what
 * was committed after a statement failed in a transaction that had spilled. */
static int configure(sqlite3 *sq)
{
    static const char settings[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                   "PRAGMA cache_spill=OFF; PRAGMA foreign_keys=ON;"
                                   "PRAGMA trusted_schema=OFF";
    sqlite3_extended_result_codes(sq, 1);
    sqlite3_busy_timeout(sq, 5000);
    sqlite3_db_config(sq, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return execute(sq, settings) ? DB_ERROR : schema_prepare(sq);
}

int db_open(struct db **ret, const char *path)
{
    struct db *db = calloc(1, sizeof(*db));
    if (!db) {
        say("out of memory");
        return -1;
    }
    pthread_mutex_init(&db->lock, NULL);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &db->sq, flags, NULL) != SQLITE_OK) {
        say("%s: %s", path, db->sq ? sqlite3_errmsg(db->sq) : "out of memory");
        goto fail;
    }
    if (configure(db->sq))
        goto fail;
    *ret = db;
    return 0;
fail:
    db_close(db);
    return -1;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    sqlite3_close(db->sq);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

sqlite3 *db_take(struct db *db)
{
    pthread_mutex_lock(&db->lock);
    return db->sq;
}

void db_drop(struct db *db)
{
    pthread_mutex_unlock(&db->lock);
}

int db_begin(sqlite3 *sq)
{
    return execute(sq, "BEGIN IMMEDIATE");
}

int64_t db_end(sqlite3 *sq, int64_t result)
{
    if (result >= 0 && execute(sq, "COMMIT") == 0)
        return result;
    if (!sqlite3_get_autocommit(sq))
        execute(sq, "ROLLBACK");
    return result < 0 ? result : DB_ERROR;
}

/* ---- statements -------------------------------------------------------------------- */

static sqlite3_stmt *prepare(sqlite3 *sq, const char *sql, const char *format,
                             va_list args)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(sq, sql, -1, &statement, NULL) != SQLITE_OK)
        return NULL;
    int rc = SQLITE_OK;
    for (int i = 1; *format && rc == SQLITE_OK; i++, format++) {
        if (*format == 'i')
            rc = sqlite3_bind_int64(statement, i, va_arg(args, int64_t));
        else /* lent: the statement ends before the call that got the string returns */
            rc = sqlite3_bind_text(statement, i, va_arg(args, const char *), -1,
                                   SQLITE_STATIC);
    }
    if (rc == SQLITE_OK)
        return statement;
    sqlite3_finalize(statement);
    return NULL;
}

static int run(sqlite3 *sq, const char *sql, const char *format, va_list args)
{
    sqlite3_stmt *statement = prepare(sq, sql, format, args);
    if (!statement)
        return fail(sq, sql);
    int rc = sqlite3_step(statement);
    int result = rc == SQLITE_DONE ? 0 : fail(sq, sql);
    sqlite3_finalize(statement);
    return result;
}

int db_change(sqlite3 *sq, const char *sql, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int result = run(sq, sql, format, args);
    va_end(args);
    return result ? result : sqlite3_changes(sq);
}

int64_t db_insert(sqlite3 *sq, const char *sql, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int result = run(sq, sql, format, args);
    va_end(args);
    return result ? result : sqlite3_last_insert_rowid(sq);
}

static json_t *value(sqlite3_stmt *statement, int column)
{
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
        return json_integer(sqlite3_column_int64(statement, column));
    case SQLITE_TEXT:
        return json_string((const char *)sqlite3_column_text(statement, column));
    default:
        return json_null();
    }
}

/* NULL: out of memory, or text in the database that is not UTF-8. */
static json_t *row(sqlite3_stmt *statement)
{
    json_t *object = json_object();
    for (int i = 0; object && i < sqlite3_column_count(statement); i++) {
        if (json_object_set_new(object, sqlite3_column_name(statement, i),
                                value(statement, i)) == 0)
            continue;
        json_decref(object);
        return NULL;
    }
    return object;
}

static int collect(sqlite3 *sq, json_t **ret, size_t max, const char *sql,
                   const char *format, va_list args)
{
    sqlite3_stmt *statement = prepare(sq, sql, format, args);
    if (!statement)
        return fail(sq, sql);
    json_t *rows = json_array();
    int rc = SQLITE_DONE, ok = rows != NULL;
    while (ok && json_array_size(rows) < max &&
           (rc = sqlite3_step(statement)) == SQLITE_ROW)
        ok = json_array_append_new(rows, row(statement)) == 0;
    int result = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : fail(sq, sql);
    sqlite3_finalize(statement);
    if (!ok || result) {
        json_decref(rows);
        return result ? result : DB_ERROR;
    }
    *ret = rows;
    return 0;
}

int db_rows(sqlite3 *sq, json_t **ret, const char *sql, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int result = collect(sq, ret, SIZE_MAX, sql, format, args);
    va_end(args);
    return result;
}

int db_row(sqlite3 *sq, json_t **ret, const char *sql, const char *format, ...)
{
    json_t *rows;
    va_list args;
    va_start(args, format);
    int result = collect(sq, &rows, 1, sql, format, args);
    va_end(args);
    if (result)
        return result;
    json_t *first = json_array_get(rows, 0);
    if (first)
        *ret = json_incref(first);
    json_decref(rows);
    return first != NULL;
}

const char *row_text(const json_t *row_, const char *column)
{
    const char *text = json_string_value(json_object_get(row_, column));
    return text ? text : "";
}

int64_t row_number(const json_t *row_, const char *column)
{
    return json_integer_value(json_object_get(row_, column));
}
