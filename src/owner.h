/* owner.h - one owning process a database. */
#ifndef BGMQI_OWNER_H
#define BGMQI_OWNER_H

#include <bgmq.h>

struct owner;

/* Becomes the owner of the database at PATH, by a lock on PATH-lock that the kernel gives back
 * when this process dies.  EOWNED: another process has it, ERROR names its pid.  EEXIST: this
 * process has it.  EOPEN, ENOMEM. */
int bgmqi_owner_take(struct owner **ret, const char *path, struct bgmq_error *error);
/* NULL is allowed. */
void bgmqi_owner_release(struct owner *o);
/* Releases O, and takes the lock file away when it was made for O: the open came to nothing. */
void bgmqi_owner_forget(struct owner *o);

#endif
