/* store_load.c - reads the backlog: rows of a lane in their order, and the types.
 *
 * Called by the opener and by the journal's thread, outside any transaction.  It must
 * trust no row: whatever stands in the file is cut to the range of its field, and a body
 * whose checksum does not match is handed out as corrupt, never left out. */
#include "store_sqlite.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"

/* Columns of Q_LOAD: JOB_COLUMNS, EXT_COLUMNS, PLACE_COLUMNS. */
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
    C_LANE,
    C_KEY,
    C_ERROR_CODE,
    C_ERROR_TEXT,
    C_ERROR_AT
};

static int64_t within(sqlite3_stmt *q, enum column c, int64_t low, int64_t high)
{
    int64_t v = sqlite3_column_int64(q, c);
    return v < low ? low : v > high ? high : v;
}

/* NULL where the column is NULL.  Text with a NUL inside ends there. */
static const char *text(sqlite3_stmt *q, enum column c)
{
    return (const char *)sqlite3_column_text(q, c);
}

/* ---- meta -------------------------------------------------------------------------- */

static size_t packed_size(json_t *object)
{
    size_t size = 0;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return SIZE_MAX;
        size += strlen(key) + json_string_length(value) + 2;
    }
    return size;
}

static void pack(json_t *object, char *to)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        size_t size = strlen(key) + 1;
        memcpy(to, key, size);
        to += size;
        size = json_string_length(value) + 1;
        memcpy(to, json_string_value(value), size);
        to += size;
    }
}

/* The JSON of the row as S->meta, packed, its length in *LEN.  ENOMEM; EJSON: not
 * readable. */
static int unpack_meta(struct sqlite_store *s, const char *json, size_t *len)
{
    json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return BGMQ_EJSON;
    }
    size_t size = packed_size(object);
    int err = size == SIZE_MAX ? BGMQ_EJSON : 0;
    if (err == 0 && size > s->meta_size) {
        char *room = realloc(s->meta, size);
        if (room) {
            s->meta = room;
            s->meta_size = size;
        } else {
            err = BGMQ_ENOMEM;
        }
    }
    if (err == 0) {
        pack(object, s->meta);
        *len = size;
    }
    json_decref(object);
    return err;
}

/* ---- rows -------------------------------------------------------------------------- */

/* Fills EXT and returns it; NULL when the row has nothing of it. */
static const struct message_ext *read_ext(struct sqlite_store *s, sqlite3_stmt *q,
                                          struct message_ext *ext, int *err)
{
    *ext = (struct message_ext){.reply_id = (uint64_t)sqlite3_column_int64(q, C_REPLY_ID),
                                .reply_to = text(q, C_REPLY_TO),
                                .tag = text(q, C_TAG),
                                .traceparent = text(q, C_TRACEPARENT),
                                .unique_key = text(q, C_UNIQUE_KEY),
                                .type = text(q, C_BODY_TYPE)};
    const char *meta = text(q, C_META);
    *err = meta ? unpack_meta(s, meta, &ext->meta_len) : 0;
    ext->meta = ext->meta_len ? s->meta : NULL;
    bool any = ext->reply_id || ext->reply_to || ext->tag || ext->traceparent ||
               ext->unique_key || ext->type || ext->meta;
    return any ? ext : NULL;
}

static int read_row(struct sqlite_store *s, sqlite3_stmt *q, struct store_row *row,
                    struct message_ext *ext)
{
    const char *code = text(q, C_ERROR_CODE), *why = text(q, C_ERROR_TEXT);
    bool failed = code || why;
    *row = (struct store_row){
        .type = (uint32_t)within(q, C_TYPE, 0, UINT32_MAX),
        .lane = (enum lane)within(q, C_LANE, 0, LANES - 1),
        .id = (uint64_t)sqlite3_column_int64(q, C_ID),
        .seq = (uint64_t)sqlite3_column_int64(q, C_SEQ),
        .key = sqlite3_column_int64(q, C_KEY),
        .created_ms = sqlite3_column_int64(q, C_CREATED),
        .priority = (int)within(q, C_PRIORITY, INT16_MIN, INT16_MAX),
        .attempt = (unsigned)within(q, C_ATTEMPT, 0, UINT16_MAX),
        .max_attempts = (unsigned)within(q, C_MAX_ATTEMPTS, 0, UINT16_MAX),
        .run = (unsigned)within(q, C_RUN, 0, UINT32_MAX),
        .crashes = (unsigned)within(q, C_CRASHES, 0, UINT8_MAX),
        .flags = (unsigned)within(q, C_FLAGS, 0, UINT8_MAX),
        .error_code = failed ? (code ? code : "") : NULL,
        .error_text = failed ? (why ? why : "") : NULL,
        .error_ms = sqlite3_column_int64(q, C_ERROR_AT),
    };
    row->body = sqlite3_column_blob(q, C_BODY);
    row->len = (size_t)sqlite3_column_bytes(q, C_BODY);
    if (!row->body && row->len == 0)
        row->body = "";
    if (!row->body || sqlite3_errcode(s->w) == SQLITE_NOMEM)
        return BGMQ_ENOMEM;
    row->corrupt = sqlite3_column_int64(q, C_CRC) != bgmqi_crc32c(row->body, row->len);
    int err;
    row->ext = read_ext(s, q, ext, &err);
    if (err == BGMQ_ENOMEM)
        return err;
    row->corrupt |= err != 0;
    return 0;
}

int bgmqi_store_load_rows(struct store *store, uint32_t type, enum lane lane, int64_t key,
                          uint64_t seq, size_t limit, size_t max_bytes, store_row_fn *fn,
                          void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return BGMQ_ESTORE;
    if (limit > INT32_MAX)
        limit = INT32_MAX;
    sqlite3_stmt *q = s->q[Q_LOAD];
    sqlite3_bind_int64(q, 1, type);
    sqlite3_bind_int(q, 2, (int)lane);
    sqlite3_bind_int64(q, 3, key);
    sqlite3_bind_int64(q, 4, (int64_t)seq);
    sqlite3_bind_int64(q, 5, (int64_t)limit);
    int n = 0, result = 0, rc;
    size_t bytes = 0;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        size_t len = (size_t)sqlite3_column_bytes(q, C_BODY);
        if (n > 0 && (bytes >= max_bytes || len > max_bytes - bytes))
            break;
        struct store_row row;
        struct message_ext ext;
        result = read_row(s, q, &row, &ext);
        if (result == 0)
            result = fn(ctx, &row);
        if (result != 0)
            break;
        bytes += len;
        n++;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return bgmqi_store_sqlite_read_failed(s, rc);
    return result ? result : n;
}

int bgmqi_store_load_types(struct store *store, store_type_fn *fn, void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return BGMQ_ESTORE;
    sqlite3_stmt *q = s->q[Q_TYPES];
    int n = 0, result = 0, rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        uint64_t counts[LANES];
        for (int lane = 0; lane < LANES; lane++)
            counts[lane] = (uint64_t)sqlite3_column_int64(q, 2 + lane);
        const char *name = (const char *)sqlite3_column_text(q, 1);
        result = name ? fn(ctx, (uint32_t)sqlite3_column_int64(q, 0), name, counts)
                      : BGMQ_ENOMEM;
        if (result != 0)
            break;
        n++;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return bgmqi_store_sqlite_read_failed(s, rc);
    return result ? result : n;
}
