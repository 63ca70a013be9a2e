/* store_row.h - rows of the backlog on their way out of the store. */
#ifndef BGMQI_STORE_ROW_H
#define BGMQI_STORE_ROW_H

#include "store_sqlite.h"

/* One call of load or search.  The caller sets the first four. */
struct row_walk {
    struct sqlite_store *s;
    size_t max_bytes;
    store_row_fn *fn;
    void *ctx;
    bool progress, errors; /* there are rows of bgmq_progress, bgmq_error */
    bool full;             /* the next row would be too many bytes */
    size_t bytes;
    int n, result; /* rows handed out; what FN said, or a row that could not be read */
};

/* A code of SQLite, as walk. */
int bgmqi_store_row_begin(struct row_walk *w);
/* Hands out the rows of Q, at most LIMIT, and resets it.  SQLITE_OK, also when W is full or has a
 * result; or a code of SQLite. */
int bgmqi_store_row_walk(struct row_walk *w, sqlite3_stmt *q, size_t limit);
/* What load returns, after RC. */
int bgmqi_store_row_end(const struct row_walk *w, int rc);

#endif
