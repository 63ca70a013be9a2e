/* store_backup.h - a copy of a database that is in use. */
#ifndef BGMQI_STORE_BACKUP_H
#define BGMQI_STORE_BACKUP_H

#include "store.h"

/* The absolute path of the database of STORE, to free(); NULL: out of memory.  On the thread of
 * the store. */
char *bgmqi_store_backup_source(const struct store *store);
/* Copies the database FROM, as it is at one instant, into the new file TO.  Any thread.  The errors
 * of bgmq_backup; on failure no file is left. */
int bgmqi_store_backup_copy(const char *from, const char *to, struct bgmq_error *error);

#endif
