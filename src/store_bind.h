/* store_bind.h - messages and changes as parameters of statements, from number AT on. */
#ifndef BGMQI_STORE_BIND_H
#define BGMQI_STORE_BIND_H

#include <sqlite3.h>

#include "store.h"

/* What the functions below bind, in this order. */
#define JOB_COLUMNS                                                                      \
    "id, type, seq, priority, attempt, max_attempts, run, crashes, flags, created, "     \
    "crc, body"
#define EXT_COLUMNS                                                                      \
    "reply_to, reply_id, tag, traceparent, unique_key, body_type, meta, channel, "       \
    "expires, timeout, unique_scope, unique_until"
#define PLACE_COLUMNS "lane, key, error_code, error_text, error_at"
#define HISTORY_COLUMNS                                                                  \
    "id, type, outcome, priority, attempts, created, finished, error_code, error_text, " \
    "started, crashes, tag, unique_key, result, body"
#define JOB_VALUES     "?,?,?,?,?,?,?,?,?,?,?,?"
#define EXT_VALUES     "?,?,?,?,?,?,?,?,?,?,?,?"
#define HISTORY_VALUES "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?"

/* A statement and, by number of parameter, what its values were bound to last: SQLite keeps them
 * from run to run, and most rows of a batch have most of them in common.  BOUND may be NULL:
 * all is bound anew. */
struct bound {
    int64_t value;
    uint8_t kind; /* enum in store_bind.c; zero-initialised is not known */
};
struct params {
    sqlite3_stmt *q;
    struct bound *bound;
};

/* NULL binds NULL.  TEXT is lent until the statement has run, as all else here. */
void bgmqi_store_bind_text(sqlite3_stmt *q, int at, const char *text);
/* The JOB_PARAMS columns of JOB_COLUMNS. */
void bgmqi_store_bind_job(struct params p, int at, const struct store_op *op);
/* The EXT_PARAMS columns of EXT_COLUMNS; EXT may be NULL.  SQLITE_OK or SQLITE_NOMEM. */
int bgmqi_store_bind_ext(struct params p, int at, const struct message_ext *ext);
/* One value. */
void bgmqi_store_bind_int(struct params p, int at, int64_t value);
/* error_code, error_text, error_at; F may be NULL. */
void bgmqi_store_bind_failure(struct params p, int at, const struct failure *f);
/* The HISTORY_PARAMS columns of a row of the history.  SQLITE_OK or SQLITE_NOMEM. */
int bgmqi_store_bind_history(struct params p, int at, const struct store_op *op);

#endif
