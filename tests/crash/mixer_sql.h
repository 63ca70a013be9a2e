/* mixer_sql.h - the application's side of the mixer: its tables, in the file of the queue, and
 * connections of its own. */
#ifndef BGMQ_TEST_MIXER_SQL_H
#define BGMQ_TEST_MIXER_SQL_H

#include <sqlite3.h>
#include <stdint.h>

/* A connection that waits for locks, to a database that is there. */
int sql_open(const char *path, sqlite3 **ret);
/* Makes the tables of the application: what was booked, what took effect, what failed. */
int sql_make_tables(sqlite3 *db);
int sql_run(sqlite3 *db, const char *sql);
/* Runs SQL with KEY as ?1. */
int sql_name(sqlite3 *db, const char *sql, const char *key);
/* The same with ID and RUN as ?2 and ?3. */
int sql_effect(sqlite3 *db, const char *sql, const char *key, uint64_t id, unsigned run);
/* Writes KEY to the inbox, due at DUE (0: at once); its id to *RET. */
int sql_inbox(sqlite3 *db, const char *type, const char *key, int64_t due, int64_t *ret);

#endif
