/* mixer_sql.c - the application's own SQL (see mixer_sql.h).  Called on the thread that uses the
 * connection; knows the library's inbox, and else nothing of it. */
#include "mixer_sql.h"

#include "cargo.h"
#include "mixer_impl.h"

#include <stdio.h>

int sql_open(const char *path, sqlite3 **ret)
{
    int rc = sqlite3_open_v2(path, ret, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(*ret, 20000);
        /* SQLite may lose commits by its check-points (README); the owner makes them. */
        sqlite3_wal_autocheckpoint(*ret, 0);
    } else {
        sqlite3_close(*ret);
        *ret = NULL;
    }
    return rc;
}

int sql_run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

int sql_make_tables(sqlite3 *db)
{
    /* No key keeps two rows of one name apart: a second effect would show. */
    return sql_run(
        db, "CREATE TABLE IF NOT EXISTS booked(name TEXT);"
            "CREATE TABLE IF NOT EXISTS effect(name TEXT, id INTEGER, run INTEGER);"
            "CREATE TABLE IF NOT EXISTS failed(name TEXT, id INTEGER, run INTEGER);");
}

static int finish(sqlite3_stmt *q, int rc)
{
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    sqlite3_finalize(q);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sql_name(sqlite3 *db, const char *sql, const char *key)
{
    return sql_effect(db, sql, key, 0, 0);
}

int sql_effect(sqlite3 *db, const char *sql, const char *key, uint64_t id, unsigned run)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && sqlite3_bind_parameter_count(q) == 3) {
        sqlite3_bind_int64(q, 2, (sqlite3_int64)id);
        rc = sqlite3_bind_int64(q, 3, run);
    }
    return finish(q, rc);
}

int sql_inbox(sqlite3 *db, const char *type, const char *key, int64_t due, int64_t *ret)
{
    char body[CARGO_MAX], json[KEY_SIZE + 16];
    const char *meta[3];
    struct bgmq_message_options options = {0};
    size_t len = cargo_make(key, body);
    mixer_load(key, meta, &options);
    snprintf(json, sizeof(json), "{\"key\":\"%s\"}", key);
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(
        db,
        "INSERT INTO bgmq_inbox(type, body, run_at, tag, meta, traceparent)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        -1, &q, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(q, 1, type, -1, SQLITE_STATIC);
        sqlite3_bind_blob(q, 2, body, (int)len, SQLITE_STATIC);
        if (due)
            sqlite3_bind_int64(q, 3, due);
        sqlite3_bind_text(q, 4, options.tag, -1, SQLITE_STATIC);
        sqlite3_bind_text(q, 5, options.meta ? json : NULL, -1, SQLITE_STATIC);
        sqlite3_bind_text(q, 6, options.traceparent, -1, SQLITE_STATIC);
    }
    rc = finish(q, rc);
    *ret = sqlite3_last_insert_rowid(db);
    return rc;
}
