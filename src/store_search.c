/* store_search.c - rows by what is in them, and what is known of one message's past.
 *
 * Called on the journal's thread, outside any transaction.  A search has two ways: by an index,
 * which finds few rows among many, and through the table in order of id, from where the last
 * search ended, which finds many; it must never sort many rows again and again. */
#include <stdlib.h>
#include <string.h>

#include "store_bind.h"
#include "store_row.h"

/* What the index finds at most; with more, reading the table from AFTER_ID on is no worse. */
enum { FEW = 20000 };

/* ---- search ------------------------------------------------------------------------ */

struct ids {
    int64_t *at;
    size_t n;
};

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static unsigned lanes_of(const struct store_search *what)
{
    return what->lanes ? what->lanes : (1u << LANES) - 1;
}

/* The ids that Q, bound but for ?3 and ?4, finds, in order.  More than FEW: none, and true. */
static bool find_ids(struct sqlite_store *s, enum statement which, uint64_t after,
                     struct ids *ret, int *rc)
{
    sqlite3_stmt *q = s->q[which];
    sqlite3_bind_int64(q, 3, (int64_t)after);
    sqlite3_bind_int64(q, 4, FEW + 1);
    while ((*rc = sqlite3_step(q)) == SQLITE_ROW && ret->n < FEW)
        ret->at[ret->n++] = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    bool many = *rc == SQLITE_ROW;
    *rc = *rc == SQLITE_ROW || *rc == SQLITE_DONE ? SQLITE_OK : *rc;
    qsort(ret->at, ret->n, sizeof(*ret->at), by_number);
    return many;
}

/* True: the rows of WHAT are among those in RET. */
static bool find_few(struct sqlite_store *s, const struct store_search *what,
                     struct ids *ret, int *rc)
{
    *rc = SQLITE_OK;
    if (!what->type)
        return false;
    enum statement q = what->expired_ms ? Q_SEARCH_EXPIRED : Q_SEARCH_LANES;
    ret->at = malloc(FEW * sizeof(*ret->at));
    if (!ret->at) {
        *rc = SQLITE_NOMEM;
        return false;
    }
    sqlite3_bind_int64(s->q[q], 1, what->type);
    sqlite3_bind_int64(s->q[q], 2, what->expired_ms ? what->expired_ms : lanes_of(what));
    return !find_ids(s, q, what->after_id, ret, rc) && *rc == SQLITE_OK;
}

/* Rows FIRST .. LAST as far as WHAT names them. */
static int walk_range(struct row_walk *w, const struct store_search *what, int64_t first,
                      int64_t last)
{
    sqlite3_stmt *q = w->s->q[Q_SEARCH];
    sqlite3_bind_int64(q, 1, first);
    sqlite3_bind_int64(q, 2, last);
    sqlite3_bind_int64(q, 3, what->type);
    sqlite3_bind_int64(q, 4, lanes_of(what));
    bgmqi_store_bind_text(q, 5, what->tag);
    bgmqi_store_bind_text(q, 6, what->error_code);
    sqlite3_bind_int64(q, 7, what->before_ms);
    sqlite3_bind_int64(q, 8, what->expired_ms);
    size_t limit = what->limit ? what->limit : INT32_MAX;
    return bgmqi_store_row_walk(w, q, limit - (size_t)w->n);
}

static int walk_all(struct row_walk *w, const struct store_search *what)
{
    struct ids ids = {.n = 0};
    int rc;
    if (!find_few(w->s, what, &ids, &rc)) {
        free(ids.at);
        if (rc != SQLITE_OK)
            return rc;
        return walk_range(w, what, (int64_t)what->after_id + 1, INT64_MAX);
    }
    size_t limit = what->limit ? what->limit : INT32_MAX;
    for (size_t i = 0; i < ids.n && rc == SQLITE_OK; i++) {
        if (w->full || w->result || (size_t)w->n == limit)
            break;
        rc = walk_range(w, what, ids.at[i], ids.at[i]);
    }
    free(ids.at);
    return rc;
}

int bgmqi_store_search_rows(struct store *store, const struct store_search *what,
                            store_row_fn *fn, void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    if (what->id > INT64_MAX || what->after_id >= INT64_MAX)
        return 0; /* ids end there */
    struct row_walk walk = {.s = s,
                            .max_bytes = what->max_bytes ? what->max_bytes : SIZE_MAX,
                            .fn = fn,
                            .ctx = ctx};
    int rc = bgmqi_store_row_begin(&walk);
    if (rc != SQLITE_OK)
        return bgmqi_store_row_end(&walk, rc);
    if (what->id) {
        if (what->id > what->after_id)
            rc = walk_range(&walk, what, (int64_t)what->id, (int64_t)what->id);
    } else {
        rc = walk_all(&walk, what);
    }
    return bgmqi_store_row_end(&walk, rc);
}

/* ---- one message ------------------------------------------------------------------- */

static enum outcome outcome_of(const char *name)
{
    if (name && strcmp(name, "done") == 0)
        return OUTCOME_DONE;
    if (name && strcmp(name, "dead") == 0)
        return OUTCOME_DEAD;
    return OUTCOME_DISCARDED;
}

static struct store_ended read_ended(sqlite3_stmt *q)
{
    return (struct store_ended){
        .outcome = outcome_of((const char *)sqlite3_column_text(q, 0)),
        .attempts = (unsigned)sqlite3_column_int64(q, 1),
        .crashes = (unsigned)sqlite3_column_int64(q, 2),
        .priority = sqlite3_column_int(q, 3),
        .created_ms = sqlite3_column_int64(q, 4),
        .finished_ms = sqlite3_column_int64(q, 5),
        .started_ms = sqlite3_column_int64(q, 6),
        .error_code = (const char *)sqlite3_column_text(q, 7),
        .error_text = (const char *)sqlite3_column_text(q, 8),
        .result_len = (size_t)sqlite3_column_bytes(q, 9),
        .result = sqlite3_column_type(q, 9) == SQLITE_NULL ? NULL
                  : sqlite3_column_bytes(q, 9)             ? sqlite3_column_blob(q, 9)
                                                           : "",
    };
}

int bgmqi_store_search_ended(struct store *store, uint64_t id, store_ended_fn *fn,
                             void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    sqlite3_stmt *q = s->q[Q_HISTORY_LAST];
    sqlite3_bind_int64(q, 1, (int64_t)id);
    int rc = sqlite3_step(q), result = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        struct store_ended ended = read_ended(q);
        if (sqlite3_errcode(s->w) == SQLITE_NOMEM) {
            result = BGMQ_ENOMEM;
        } else {
            int said = fn(ctx, &ended);
            result = said ? said : 1;
        }
    }
    sqlite3_reset(q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return bgmqi_store_sqlite_read_failed(s, rc);
    return result;
}

int bgmqi_store_search_errors(struct store *store, uint64_t id, store_error_fn *fn,
                              void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    sqlite3_stmt *q = s->q[Q_ERROR_LIST];
    sqlite3_bind_int64(q, 1, (int64_t)id);
    int n = 0, result = 0, rc;
    while (result == 0 && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *code = (const char *)sqlite3_column_text(q, 2);
        const char *text = (const char *)sqlite3_column_text(q, 3);
        if (sqlite3_errcode(s->w) == SQLITE_NOMEM)
            result = BGMQ_ENOMEM;
        else
            result = fn(ctx, (unsigned)sqlite3_column_int64(q, 0),
                        sqlite3_column_int64(q, 1), code ? code : "", text ? text : "");
        n += result == 0;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return bgmqi_store_sqlite_read_failed(s, rc);
    return result ? result : n;
}
