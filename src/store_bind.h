/* store_bind.h - messages and changes as parameters of statements, from number AT on. */
#ifndef BGMQI_STORE_BIND_H
#define BGMQI_STORE_BIND_H

#include <sqlite3.h>

#include "store.h"

/* NULL binds NULL.  TEXT is lent until the statement has run, as all else here. */
void bgmqi_store_bind_text(sqlite3_stmt *q, int at, const char *text);
/* The JOB_PARAMS columns of JOB_COLUMNS. */
void bgmqi_store_bind_job(sqlite3_stmt *q, int at, const struct store_op *op);
/* The EXT_PARAMS columns of EXT_COLUMNS; EXT may be NULL.  SQLITE_OK or SQLITE_NOMEM. */
int bgmqi_store_bind_ext(sqlite3_stmt *q, int at, const struct message_ext *ext);
/* error_code, error_text, error_at; F may be NULL. */
void bgmqi_store_bind_failure(sqlite3_stmt *q, int at, const struct failure *f);
/* The HISTORY_PARAMS columns of a row of the history.  SQLITE_OK or SQLITE_NOMEM. */
int bgmqi_store_bind_history(sqlite3_stmt *q, int at, const struct store_op *op);

#endif
