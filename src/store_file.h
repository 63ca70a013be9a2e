/* store_file.h - the database file from outside: its name, whether it is safe, whether it is still
 * the one it was. */
#ifndef BGMQI_STORE_FILE_H
#define BGMQI_STORE_FILE_H

#include <limits.h>

#include "store_sqlite.h"

/* FOLDER gets the real name of PATH's folder, FULL that and the last part of PATH.  Returns the
 * length of FULL, of which no more is there than fits; 0: PATH has no last part; -1: errno says
 * why there is no such folder. */
int bgmqi_store_file_locate(const char *path, char folder[PATH_MAX], char full[PATH_MAX]);

/* *RET becomes the full name of the database at PATH: free() it.  EINVAL, EOPEN, ENOMEM. */
int bgmqi_store_file_find(char **ret, const char *path, struct bgmq_error *error);

/* The file at PATH, a full name, is safe to use, as are its log and the like; made when there is
 * none.  The errors of bgmq_open. */
int bgmqi_store_file_check(const char *path, const struct log *log,
                           struct bgmq_error *error);
/* Likewise, but none is made.  ENOENT, too. */
int bgmqi_store_file_check_there(const char *path, struct bgmq_error *error);

/* Which file the one at PATH is, END added to that. */
void bgmqi_store_file_identify(const char *path, const char *end,
                               struct file_identity *ret);
bool bgmqi_store_file_same(const struct file_identity *a, const struct file_identity *b);

#endif
