/* store_batch.c - gathers rows of a batch into few statements.
 *
 * Called by store_write.c, on the journal's thread.  Rows that stand alone (no unique key) wait
 * here: inserts for a statement of MANY_ROWS rows, deletes for runs of consecutive ids.
 * Gathering changes the order in which rows are written, never the outcome: whoever writes a
 * row that is not gathered has the gathered ones written first.  A gathered statement cannot
 * say which of its rows was guilty or missing; the batch is then done again without. */
#include "store_batch.h"

#include <stdlib.h>

/* How many of N gathered rows go with the next statement, and which of the three that is. */
static size_t take_rows(size_t n, enum statement one, enum statement *ret)
{
    size_t rows = n >= MANY_ROWS ? MANY_ROWS : n >= SOME_ROWS ? SOME_ROWS : 1;
    *ret = (enum statement)(one + (rows > 1) + (rows == MANY_ROWS));
    return rows;
}

static int flush_inserts(struct batch *b)
{
    size_t n = b->n_inserts;
    int rc = SQLITE_OK;
    b->n_inserts = 0;
    for (size_t i = 0, rows; rc == SQLITE_OK && i < n; i += rows) {
        enum statement q;
        rows = take_rows(n - i, Q_JOB_INSERT, &q);
        for (size_t r = 0; r < rows; r++)
            bgmqi_store_bind_job(store_params(b->s, q), 1 + (int)r * JOB_PARAMS,
                                 b->inserts[i + r]);
        rc = bgmqi_store_sqlite_run(b->s, q);
    }
    return rc;
}

int bgmqi_store_batch_flush_history(struct batch *b)
{
    size_t n = b->n_history;
    int rc = SQLITE_OK;
    b->n_history = 0;
    for (size_t i = 0, rows; rc == SQLITE_OK && i < n; i += rows) {
        enum statement q;
        rows = take_rows(n - i, Q_HISTORY_INSERT, &q);
        for (size_t r = 0; rc == SQLITE_OK && r < rows; r++)
            rc = bgmqi_store_bind_history(store_params(b->s, q),
                                          1 + (int)r * HISTORY_PARAMS, b->history[i + r]);
        if (rc == SQLITE_OK)
            rc = bgmqi_store_sqlite_run(b->s, q);
    }
    if (rc == SQLITE_OK && n)
        b->history_last = sqlite3_last_insert_rowid(b->s->w);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Each run of consecutive ids is one statement, which thus names no id that was not
 * gathered; an id gathered twice stands in two runs, and the second one misses it. */
static int flush_deletes(struct batch *b, enum batch_table table)
{
    uint64_t *ids = b->s->room->deletes[table];
    size_t n = b->n_deletes[table];
    if (b->unsorted[table])
        qsort(ids, n, sizeof(*ids), by_id);
    b->n_deletes[table] = 0;
    b->unsorted[table] = false;
    enum statement q = table == JOB ? Q_JOB_DELETE_RUN : Q_BACKLOG_DELETE_RUN;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && ids[end] == ids[end - 1] + 1;)
            end++;
        sqlite3_bind_int64(b->s->q[q], 1, (int64_t)ids[i]);
        sqlite3_bind_int64(b->s->q[q], 2, (int64_t)ids[end - 1]);
        int rc = bgmqi_store_sqlite_run(b->s, q);
        if (rc != SQLITE_OK)
            return rc;
        if (sqlite3_changes64(b->s->w) != (int64_t)(end - i))
            return NOT_ALL_THERE;
    }
    return SQLITE_OK;
}

int bgmqi_store_batch_flush(struct batch *b)
{
    int rc = flush_inserts(b);
    if (rc == SQLITE_OK)
        rc = flush_deletes(b, JOB);
    if (rc == SQLITE_OK)
        rc = flush_deletes(b, BACKLOG);
    return rc;
}

int bgmqi_store_batch_insert(struct batch *b, const struct store_op *op)
{
    b->inserts[b->n_inserts++] = op;
    return b->n_inserts < MANY_ROWS && b->gather ? SQLITE_OK : flush_inserts(b);
}

int bgmqi_store_batch_delete(struct batch *b, const struct store_op *op,
                             enum batch_table table)
{
    uint64_t *ids = b->s->room->deletes[table];
    size_t n = b->n_deletes[table]++;
    ids[n] = op->id;
    b->unsorted[table] |= n > 0 && ids[n - 1] > op->id;
    return SQLITE_OK;
}

int bgmqi_store_batch_history(struct batch *b, const struct store_op *op)
{
    if (op->history == OUTCOME_NONE)
        return SQLITE_OK;
    b->history[b->n_history++] = op;
    if (b->n_history < MANY_ROWS && b->gather)
        return SQLITE_OK;
    return bgmqi_store_batch_flush_history(b);
}

int bgmqi_store_batch_prune(struct batch *b)
{
    struct sqlite_store *s = b->s;
    uint64_t rows = (uint64_t)(b->history_last - b->history_first + 1);
    if (b->history_last < b->history_first || rows <= s->history_keep)
        return SQLITE_OK;
    uint64_t most = 256 + 2 * b->n, n = rows - s->history_keep;
    int64_t last = b->history_first + (int64_t)(n < most ? n : most) - 1;
    int rc = bgmqi_store_prune_history(s, b->history_first, last);
    b->history_first = last + 1;
    return rc;
}

bool bgmqi_store_batch_make_room(struct sqlite_store *s, size_t n)
{
    if (n <= s->room_ops && s->room)
        return true;
    bgmqi_store_batch_free_room(s);
    struct batch_room *room = s->room = calloc(1, sizeof(*room));
    if (!room)
        return false;
    size_t ops = n < 256 ? 256 : n;
    room->duplicates = calloc(ops, sizeof(*room->duplicates));
    room->deletes[JOB] = calloc(ops, sizeof(*room->deletes[JOB]));
    room->deletes[BACKLOG] = calloc(ops, sizeof(*room->deletes[BACKLOG]));
    if (!room->duplicates || !room->deletes[JOB] || !room->deletes[BACKLOG]) {
        bgmqi_store_batch_free_room(s);
        return false;
    }
    s->room_ops = ops;
    return true;
}

void bgmqi_store_batch_free_room(struct sqlite_store *s)
{
    if (!s->room)
        return;
    free(s->room->duplicates);
    free(s->room->deletes[JOB]);
    free(s->room->deletes[BACKLOG]);
    free(s->room);
    s->room = NULL;
    s->room_ops = 0;
}
