/* store_schema.h - the tables in the database: whose it is, and how they get there. */
#ifndef BGMQI_STORE_SCHEMA_H
#define BGMQI_STORE_SCHEMA_H

#include <bgmq.h>
#include <sqlite3.h>

/* What a database is to us. */
enum schema_state {
    SCHEMA_EMPTY,      /* nobody's yet: no table, no mark */
    SCHEMA_OURS,       /* our tables are in it */
    SCHEMA_FOREIGN,    /* others' tables only: usable when they agree to share */
    SCHEMA_MARKED,     /* another application's mark and none of our tables; likewise */
    SCHEMA_MARKED_OURS /* another application's mark, and our tables */
};

/* Reads only.  The enum schema_state; EVERSION: newer than this library; ENOTDB; EOPEN.
 */
int bgmqi_store_schema_look(sqlite3 *db, const char *path, struct bgmq_error *error);

/* Makes the tables, or brings them up to date, in one transaction.  MARK: a file that gets its
 * tables now is ours alone, and gets our application id.  EVERSION, ESCHEMA, ECORRUPT, EOPEN. */
int bgmqi_store_schema_make(sqlite3 *db, const char *path, int mark,
                            struct bgmq_error *error);

/* The error for the SQLite result RC on PATH; its text says what was being done. */
int bgmqi_store_schema_error(sqlite3 *db, int rc, const char *path, const char *doing,
                             struct bgmq_error *error);

#endif
