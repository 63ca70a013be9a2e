/* db.h - the application's own database: one connection that threads take in turn.
 *
 * SQL text is always a constant; values are bound by a format, one letter each: i is an
 * int64_t (cast what is not), s a string or NULL. */
#ifndef TECHSTACKS_DB_H
#define TECHSTACKS_DB_H

#include <jansson.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

/* SQL for the time now, as 2025-01-31T12:00:00.000Z. */
#define NOW "strftime('%Y-%m-%dT%H:%M:%fZ','now')"

enum db_err {
    DB_ERROR = -1,  /* the database failed; it has been said on stderr */
    DB_EXISTS = -2, /* a row with this key is there already */
    DB_NOREF = -3   /* it names a row that is not there */
};

struct db;

/* Opens or creates the file PATH.  Returns 0, or -1 with the reason on stderr. */
int db_open(struct db **ret, const char *path);
/* NULL is allowed. */
void db_close(struct db *db);

/* Takes the connection for this thread; nothing slow may be done until it is dropped. */
sqlite3 *db_take(struct db *db);
void db_drop(struct db *db);

/* 0 or an enum db_err. */
int db_begin(sqlite3 *sq);
/* Commits when RESULT >= 0, else rolls back.  Returns RESULT, or DB_ERROR when it could
 * not be committed. */
int64_t db_end(sqlite3 *sq, int64_t result);

/* Runs a statement without rows.  Returns how many rows it changed, or an enum db_err. */
int db_change(sqlite3 *sq, const char *sql, const char *format, ...);
/* Likewise; returns the id of the new row. */
int64_t db_insert(sqlite3 *sq, const char *sql, const char *format, ...);
/* *RET gets all rows as an array of objects by column name, to be given back. */
int db_rows(sqlite3 *sq, json_t **ret, const char *sql, const char *format, ...);
/* *RET gets the first row.  Returns 1, 0 when there is none, or an enum db_err. */
int db_row(sqlite3 *sq, json_t **ret, const char *sql, const char *format, ...);

/* Of a row: the text in COLUMN, "" when there is none; the number, 0 when there is none.
 */
const char *row_text(const json_t *row, const char *column);
int64_t row_number(const json_t *row, const char *column);

#endif
