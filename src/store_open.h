/* store_open.h - from a path to two connections that are safe to use. */
#ifndef BGMQI_STORE_OPEN_H
#define BGMQI_STORE_OPEN_H

#include "store_sqlite.h"

/* Sets S->path, S->w and S->c: the file checked or created, its tables there, both
 * connections set up.  The errors of bgmq_open; what was opened is closed by the caller,
 * as on success. */
int bgmqi_store_open_file(struct sqlite_store *s, const struct store_options *options,
                          struct bgmq_error *error);

/* False: the file, or its log, has been removed or replaced since.  Two calls of lstat. */
bool bgmqi_store_open_is_same(const struct sqlite_store *s);

/* Closes a connection and forgets it; NULL is allowed. */
void bgmqi_store_open_close(sqlite3 **db);

#endif
