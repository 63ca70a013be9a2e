/* store_check.h - whether a database whose last owner died is sound. */
#ifndef BGMQI_STORE_CHECK_H
#define BGMQI_STORE_CHECK_H

#include "store_sqlite.h"

/* Looks at the whole file when nobody has closed it, unless it has AT_ONCE bytes or more: *LATER.
 * S->w is open, and its tables are ours.  ECORRUPT, with what is damaged in ERROR; ENOMEM, EOPEN:
 * it could not be read; nothing is changed. */
int bgmqi_store_check_now(struct sqlite_store *s, uint64_t at_once, bool *later,
                          struct bgmq_error *error);
/* Does so on a thread of its own, beside the service.  S is set up. */
int bgmqi_store_check_beside(struct sqlite_store *s, struct bgmq_error *error);
/* 0; or ECORRUPT once the thread has found damage, which is in WHY. */
int bgmqi_store_check_found(struct sqlite_store *s, struct bgmq_error *why);
/* True while the thread reads: one state of the database, so that the log cannot begin anew. */
bool bgmqi_store_check_runs(const struct sqlite_store *s);
/* Has the thread end, soon, and find nothing.  To be called again while it runs. */
void bgmqi_store_check_give_up(struct sqlite_store *s);
/* 1, once, after that or when it could not read, with words for the log in TEXT; else 0. */
int bgmqi_store_check_given_up(struct sqlite_store *s, struct bgmq_error *text);
/* Ends the thread, wherever it is.  No-op when there is none. */
void bgmqi_store_check_end(struct sqlite_store *s);

#endif
