/* store_site.h - what a database file stands on, and who else may get at it. */
#ifndef BGMQI_STORE_SITE_H
#define BGMQI_STORE_SITE_H

#include "log.h"
#include "store.h"

/* PATH is absolute, and need not be there yet.  EUNSAFE: it lies on a file system over a network,
 * whose locks and shared memory SQLite cannot rely on.  What is only doubtful is a warning to LOG,
 * which may be NULL: a file system in user space, a folder that others may write, a second
 * SQLite. */
int bgmqi_store_site_check(const char *path, const struct log *log,
                           struct bgmq_error *error);
/* Warns when another SQLite than ours is in this process: each drops the locks of the other. */
void bgmqi_store_site_look_for_twin(const struct log *log);
/* Likewise, but only when something was loaded since the last look, and none was ever found.  Cheap
 * enough for each connection. */
void bgmqi_store_site_look_again(const struct log *log);

#endif
