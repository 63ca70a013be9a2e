/* store_load.c - reads the backlog: rows of a lane in their order, and the types.
 *
 * Called by the opener and by the journal's thread, outside any transaction.  What stands in a
 * row is not trusted: see store_row.c. */
#include "store_row.h"

int bgmqi_store_load_rows(struct store *store, uint32_t type, enum lane lane, int64_t key,
                          uint64_t seq, size_t limit, size_t max_bytes, store_row_fn *fn,
                          void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    if (limit > INT32_MAX)
        limit = INT32_MAX;
    sqlite3_stmt *q = s->q[Q_LOAD];
    sqlite3_bind_int64(q, 1, type);
    sqlite3_bind_int(q, 2, (int)lane);
    sqlite3_bind_int64(q, 3, key);
    sqlite3_bind_int64(q, 4, (int64_t)seq);
    sqlite3_bind_int64(q, 5, (int64_t)limit);
    struct row_walk walk = {.s = s, .max_bytes = max_bytes, .fn = fn, .ctx = ctx};
    int rc = bgmqi_store_row_begin(&walk);
    if (rc == SQLITE_OK)
        rc = bgmqi_store_row_walk(&walk, q, SIZE_MAX);
    return bgmqi_store_row_end(&walk, rc);
}

int bgmqi_store_load_types(struct store *store, store_type_fn *fn, void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    sqlite3_stmt *q = s->q[Q_TYPES];
    int n = 0, result = 0, rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        uint64_t counts[LANES];
        for (int lane = 0; lane < LANES; lane++)
            counts[lane] = (uint64_t)sqlite3_column_int64(q, 2 + lane);
        const char *name = (const char *)sqlite3_column_text(q, 1);
        if (name)
            result = fn(ctx, (uint32_t)sqlite3_column_int64(q, 0), name, counts);
        else /* else somebody has made it NULL */
            result = sqlite3_errcode(s->w) == SQLITE_NOMEM ? BGMQ_ENOMEM : BGMQ_ECORRUPT;
        if (result != 0)
            break;
        n++;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return bgmqi_store_sqlite_read_failed(s, rc);
    return result ? result : n;
}
