/* app.c - the application's connections (see app.h). */
#include "app.h"

#include <string.h>

void app_sql_at(sqlite3 *db, const char *sql, int rc, const char *file, int line)
{
    int got = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (got != rc && sqlite3_extended_errcode(db) != rc)
        _ck_assert_failed(file, line, "sql", "%s: %d %s", sql, got, sqlite3_errmsg(db));
}

sqlite3 *app_open_at(const char *path, int flags)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, flags, NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", path, sqlite3_errstr(rc));
    return db;
}

sqlite3 *app_open(void)
{
    sqlite3 *db = app_open_at(flow_database(), SQLITE_OPEN_READWRITE);
    sqlite3_busy_timeout(db, (int)flow_patience());
    app_sql(db, "CREATE TABLE IF NOT EXISTS effect(id INTEGER, n INTEGER);"
                "PRAGMA synchronous = NORMAL");
    return db;
}

void app_close(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

long app_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    rc = sqlite3_step(q);
    ck_assert_msg(rc == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    long value = (long)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return value;
}

uint64_t app_publish_with(struct bgmq *mq, sqlite3 *db, const char *type,
                          const char *text, struct bgmq_message_options options)
{
    struct bgmq_receipt r = {0};
    OK(bgmq_publish_tx(mq, db, type, text, strlen(text), &options, &r));
    ck_assert_uint_ne(r.id, 0);
    return r.id;
}

uint64_t app_publish(struct bgmq *mq, sqlite3 *db, const char *type, const char *text)
{
    return app_publish_with(mq, db, type, text, MESSAGE(0));
}
