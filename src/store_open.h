/* store_open.h - from a path to two connections that are safe to use. */
#ifndef BGMQI_STORE_OPEN_H
#define BGMQI_STORE_OPEN_H

#include "store_sqlite.h"

/* Sets S->path, S->w and S->c: the file checked or created, its tables there, both
 * connections set up.  The errors of bgmq_open; what was opened is closed by the caller,
 * as on success. */
int bgmqi_store_open_file(struct sqlite_store *s, const struct store_options *options,
                          struct bgmq_error *error);

/* Sets S->path and S->w to one more connection to the database at PATH, which an owner has made;
 * it changes nothing by being there: makes no file, copies no log.  S is cleared but for that, and
 * S->patience_ms is how long it waits for a lock.  ENOENT: no database, or none of this version's
 * tables yet; errors of bgmq_open.  What was opened is closed by the caller:
 * bgmqi_store_open_leave. */
int bgmqi_store_open_visit(struct sqlite_store *s, const char *path,
                           struct bgmq_error *error);
/* Closes S->w and frees S->path. */
void bgmqi_store_open_leave(struct sqlite_store *s);

/* False: the file, or its log, has been removed or replaced since.  Two calls of lstat. */
bool bgmqi_store_open_is_same(const struct sqlite_store *s);

/* True: the SQLite in use has the fault that a check-point by a connection that holds no write lock
 * may lose what another commits meanwhile. */
bool bgmqi_store_open_loses_data(void);
/* True: it has the fault that a transaction whose cache has spilled, and which then takes something
 * back (a savepoint, a statement that fails), is not found again after a crash, nor is any later
 * one, whoever made it. */
bool bgmqi_store_open_loses_spilled(void);

/* Closes a connection and forgets it; NULL is allowed. */
void bgmqi_store_open_close(sqlite3 **db);

/* Ends the transaction that is open on DB, if one is.  Left open it would keep everybody from
 * writing, so that while memory is short it waits and tries again. */
void bgmqi_store_open_roll_back(sqlite3 *db);

#endif
