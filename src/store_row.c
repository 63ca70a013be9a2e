/* store_row.c - rows of the backlog as they are read.
 *
 * Called by the opener and by the journal's thread, outside any transaction.  It must
 * trust no row: whatever stands in the file is cut to the range of its field, and a row with a
 * value that is none of ours, or a body whose checksum does not match, is handed out as corrupt,
 * never left out. */
#include "store_row.h"

#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "store_meta.h"

/* Columns of Q_LOAD and Q_SEARCH: JOB_COLUMNS, EXT_COLUMNS, PLACE_COLUMNS. */
enum column {
    C_ID,
    C_TYPE,
    C_SEQ,
    C_PRIORITY,
    C_ATTEMPT,
    C_MAX_ATTEMPTS,
    C_RUN,
    C_CRASHES,
    C_FLAGS,
    C_CREATED,
    C_CRC,
    C_BODY,
    C_REPLY_TO,
    C_REPLY_ID,
    C_TAG,
    C_TRACEPARENT,
    C_UNIQUE_KEY,
    C_BODY_TYPE,
    C_META,
    C_CHANNEL,
    C_EXPIRES,
    C_TIMEOUT,
    C_UNIQUE_SCOPE,
    C_UNIQUE_UNTIL,
    C_LANE,
    C_KEY,
    C_ERROR_CODE,
    C_ERROR_TEXT,
    C_ERROR_AT
};

/* The number in C, cut to LOW .. HIGH; *ODD gets true when it had to be, or is no number. */
static int64_t within(sqlite3_stmt *q, enum column c, int64_t low, int64_t high,
                      bool *odd)
{
    int64_t v = sqlite3_column_int64(q, (int)c);
    int kind = sqlite3_column_type(q, (int)c);
    *odd |= v < low || v > high || kind != SQLITE_INTEGER;
    return v < low ? low : v > high ? high : v;
}

/* Likewise, in a column that may be NULL: then 0. */
static int64_t within_if_any(sqlite3_stmt *q, enum column c, int64_t low, int64_t high,
                             bool *odd)
{
    bool none = sqlite3_column_type(q, (int)c) == SQLITE_NULL;
    return none ? 0 : within(q, c, low, high, odd);
}

/* NULL where the column is NULL.  Text with a NUL inside ends there. */
static const char *text(sqlite3_stmt *q, enum column c)
{
    return (const char *)sqlite3_column_text(q, (int)c);
}

/* ---- meta -------------------------------------------------------------------------- */

int bgmqi_store_row_meta(struct sqlite_store *s, const char *json, size_t *len)
{
    size_t size = strlen(json) + 1;
    if (size > s->meta_size) {
        char *room = realloc(s->meta, size);
        if (!room)
            return BGMQ_ENOMEM;
        s->meta = room;
        s->meta_size = size;
    }
    return bgmqi_store_meta_unpack(json, s->meta, len) ? 0 : BGMQ_EJSON;
}

/* ---- rows -------------------------------------------------------------------------- */

/* Fills EXT and returns it; NULL when the row has nothing of it. */
static const struct message_ext *read_ext(struct sqlite_store *s, sqlite3_stmt *q,
                                          struct message_ext *ext, bool *odd, int *err)
{
    enum bgmq_unique last = BGMQ_UNIQUE_PERIOD;
    *ext = (struct message_ext){
        .reply_id = (uint64_t)sqlite3_column_int64(q, C_REPLY_ID),
        .reply_to = text(q, C_REPLY_TO),
        .tag = text(q, C_TAG),
        .traceparent = text(q, C_TRACEPARENT),
        .unique_key = text(q, C_UNIQUE_KEY),
        .type = text(q, C_BODY_TYPE),
        .channel = text(q, C_CHANNEL),
        .expires_ms = within_if_any(q, C_EXPIRES, 0, INT64_MAX, odd),
        .timeout_ms = (uint32_t)within_if_any(q, C_TIMEOUT, 0, UINT32_MAX, odd),
        .unique = (uint8_t)within_if_any(q, C_UNIQUE_SCOPE, 0, last, odd),
        .unique_until_ms = sqlite3_column_int64(q, C_UNIQUE_UNTIL)};
    const char *meta = text(q, C_META);
    *err = meta ? bgmqi_store_row_meta(s, meta, &ext->meta_len) : 0;
    ext->meta = ext->meta_len ? s->meta : NULL;
    bool any = ext->reply_id || ext->reply_to || ext->tag || ext->traceparent ||
               ext->unique_key || ext->type || ext->meta || ext->channel ||
               ext->expires_ms || ext->timeout_ms;
    return any ? ext : NULL;
}

/* The columns but the body and what EXT has; true: one of them is no value of ours. */
static bool read_numbers(sqlite3_stmt *q, struct store_row *row)
{
    const char *code = text(q, C_ERROR_CODE), *why = text(q, C_ERROR_TEXT);
    bool failed = code || why, odd = false;
    *row = (struct store_row){
        .type = (uint32_t)within(q, C_TYPE, 0, UINT32_MAX, &odd),
        .lane = (enum lane)within(q, C_LANE, 0, LANES - 1, &odd),
        .id = (uint64_t)sqlite3_column_int64(q, C_ID),
        .seq = (uint64_t)within(q, C_SEQ, 0, INT64_MAX, &odd),
        .key = sqlite3_column_int64(q, C_KEY),
        .created_ms = within(q, C_CREATED, INT64_MIN, INT64_MAX, &odd),
        .priority = (int)within(q, C_PRIORITY, INT16_MIN, INT16_MAX, &odd),
        .attempt = (unsigned)within(q, C_ATTEMPT, 0, UINT16_MAX, &odd),
        .max_attempts = (unsigned)within(q, C_MAX_ATTEMPTS, 0, UINT16_MAX, &odd),
        .run = (unsigned)within(q, C_RUN, 0, UINT32_MAX, &odd),
        .crashes = (unsigned)within(q, C_CRASHES, 0, UINT8_MAX, &odd),
        .flags = (unsigned)within(q, C_FLAGS, 0, UINT8_MAX, &odd),
        .error_code = failed ? (code ? code : "") : NULL,
        .error_text = failed ? (why ? why : "") : NULL,
        .error_ms = sqlite3_column_int64(q, C_ERROR_AT),
    };
    return odd;
}

static int read_row(struct sqlite_store *s, sqlite3_stmt *q, struct store_row *row,
                    struct message_ext *ext)
{
    bool odd = read_numbers(q, row);
    odd |= sqlite3_column_type(q, C_BODY) != SQLITE_BLOB;
    row->body = sqlite3_column_blob(q, C_BODY);
    row->len = (size_t)sqlite3_column_bytes(q, C_BODY);
    if (!row->body && row->len == 0)
        row->body = "";
    int err;
    row->ext = read_ext(s, q, ext, &odd, &err);
    if (!row->body || err == BGMQ_ENOMEM || sqlite3_errcode(s->w) == SQLITE_NOMEM)
        return BGMQ_ENOMEM;
    row->corrupt = odd || err != 0 ||
                   sqlite3_column_int64(q, C_CRC) != bgmqi_crc32c(row->body, row->len);
    return 0;
}

/* ---- what is kept of attempts ------------------------------------------------------ */

/* What bgmq_progress has of ROW, lent until Q_PROGRESS_GET is reset. */
static int read_progress(struct sqlite_store *s, struct store_row *row)
{
    sqlite3_stmt *q = s->q[Q_PROGRESS_GET];
    sqlite3_bind_int64(q, 1, (int64_t)row->id);
    int rc = sqlite3_step(q);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
    row->kept = 1;
    row->cursor_len = (size_t)sqlite3_column_bytes(q, 0);
    row->cursor = sqlite3_column_blob(q, 0);
    if (!row->cursor && sqlite3_column_type(q, 0) != SQLITE_NULL)
        row->cursor = "";
    row->progress = sqlite3_column_int64(q, 1);
    row->progress_text = sqlite3_column_text(q, 2);
    return sqlite3_errcode(s->w) == SQLITE_NOMEM ? SQLITE_NOMEM : SQLITE_OK;
}

static int read_kept(struct row_walk *w, struct store_row *row)
{
    int rc = w->progress ? read_progress(w->s, row) : SQLITE_OK;
    if (rc != SQLITE_OK || !w->errors || row->kept)
        return rc;
    sqlite3_stmt *q = w->s->q[Q_ERROR_HAS];
    sqlite3_bind_int64(q, 1, (int64_t)row->id);
    rc = sqlite3_step(q);
    row->kept = rc == SQLITE_ROW;
    sqlite3_reset(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- walks ------------------------------------------------------------------------- */

int bgmqi_store_row_begin(struct row_walk *w)
{
    sqlite3_stmt *q = w->s->q[Q_KEPT_ANY];
    int rc = sqlite3_step(q);
    w->progress = rc == SQLITE_ROW && sqlite3_column_int(q, 0);
    w->errors = rc == SQLITE_ROW && sqlite3_column_int(q, 1);
    sqlite3_reset(q);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int bgmqi_store_row_walk(struct row_walk *w, sqlite3_stmt *q, size_t limit)
{
    int rc = SQLITE_DONE;
    while (limit-- > 0 && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        size_t len = (size_t)sqlite3_column_bytes(q, C_BODY);
        w->full = w->n > 0 && (w->bytes >= w->max_bytes || len > w->max_bytes - w->bytes);
        if (w->full)
            break;
        struct store_row row;
        struct message_ext ext;
        w->result = read_row(w->s, q, &row, &ext);
        int kept = w->result == 0 ? read_kept(w, &row) : SQLITE_OK;
        if (w->result == 0 && kept == SQLITE_OK)
            w->result = w->fn(w->ctx, &row);
        sqlite3_reset(w->s->q[Q_PROGRESS_GET]);
        if (kept != SQLITE_OK)
            rc = kept;
        if (w->result != 0 || kept != SQLITE_OK)
            break;
        w->bytes += len;
        w->n++;
    }
    sqlite3_reset(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int bgmqi_store_row_end(const struct row_walk *w, int rc)
{
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_read_failed(w->s, rc);
    return w->result ? w->result : w->n;
}
