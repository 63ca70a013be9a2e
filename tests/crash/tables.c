/* tables.c - asks a database (see tables.h).  Called by tests, on their thread, when no other
 * process has it open. */
#include "tables.h"

#include "../harness/harness.h"
#include "oracle.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

sqlite3 *tables_open(const char *path)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    return db;
}

static sqlite3_stmt *ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *query;
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &query, NULL) == SQLITE_OK, "%s: %s",
                  sql, sqlite3_errmsg(db));
    return query;
}

void tables_expect(sqlite3 *db, const char *sql, const char *want)
{
    sqlite3_stmt *query = ask(db, sql);
    ck_assert_int_eq(sqlite3_step(query), SQLITE_ROW);
    const char *answer = (const char *)sqlite3_column_text(query, 0);
    ck_assert_msg(answer && !strcmp(answer, want), "%s: %s", sql, answer);
    sqlite3_finalize(query);
}

long tables_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *query = ask(db, sql);
    ck_assert_int_eq(sqlite3_step(query), SQLITE_ROW);
    long number = (long)sqlite3_column_int64(query, 0);
    sqlite3_finalize(query);
    return number;
}

void tables_tell(sqlite3 *db, const char *sql, char letter, const char *path)
{
    sqlite3_stmt *query = ask(db, sql);
    int history = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    ck_assert_int_ge(history, 0);
    while (sqlite3_step(query) == SQLITE_ROW)
        history_write(history, "%c %s", letter,
                      (const char *)sqlite3_column_text(query, 0));
    ck_assert_int_eq(sqlite3_finalize(query), SQLITE_OK);
    close(history);
}
