/* store_tables.h - what we have in a database: tables, indexes, views. */
#ifndef BGMQI_STORE_TABLES_H
#define BGMQI_STORE_TABLES_H

#include <bgmq.h>
#include <sqlite3.h>

#include <stdint.h>

enum { SCHEMA_VERSION = 2 };

/* Within a transaction.  Makes everything in a database that has nothing of ours. */
int bgmqi_store_tables_make(sqlite3 *db);
/* Within a transaction.  Brings tables of the version FROM up to date. */
int bgmqi_store_tables_migrate(sqlite3 *db, int64_t from);
/* Whether everything is there as made or migrated, and nothing was added to it.  ESCHEMA names
 * what is not; EOPEN, ENOMEM. */
int bgmqi_store_tables_check(sqlite3 *db, const char *path, struct bgmq_error *error);

#endif
