/* owner.h - one owning process a database. */
#ifndef BGMQI_OWNER_H
#define BGMQI_OWNER_H

#include <bgmq.h>
#include <stdbool.h>

struct owner;

/* Becomes the owner of the database at PATH, by a lock on PATH-lock that the kernel gives back
 * when this process dies.  EOWNED: another process has it, ERROR names its pid.  EEXIST: this
 * process has it.  EOPEN, ENOMEM. */
int bgmqi_owner_take(struct owner **ret, const char *path, struct bgmq_error *error);
/* Likewise, but while another process has it, tries again for WAIT_MS: a stand-by.  EOWNED after
 * that, EEXIST at once. */
int bgmqi_owner_wait(struct owner **ret, const char *path, unsigned wait_ms,
                     struct bgmq_error *error);
/* True when a process of which this one is a fork owned the database at PATH at that moment: what
 * SQLite keeps of the file in this process's memory is then not its own. */
bool bgmqi_owner_inherited(const char *path);
/* NULL is allowed. */
void bgmqi_owner_release(struct owner *o);
/* Releases O, and takes the lock file away when it was made for O: the open came to nothing. */
void bgmqi_owner_forget(struct owner *o);

#endif
