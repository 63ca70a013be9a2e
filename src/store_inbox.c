/* store_inbox.c - reads the rows that others wrote to the inbox.
 *
 * Called on the journal's thread, outside any transaction.  Whoever can open the file can write
 * anything here: what the table's checks would have refused is looked for again, and a row that
 * cannot be a message is handed out with the reason, never left out and never taken as it is. */
#include "store_meta.h"
#include "store_sqlite.h"

/* Columns of Q_INBOX_LIST. */
enum column {
    C_ID,
    C_TYPE,
    C_BODY,
    C_PRIORITY,
    C_RUN_AT,
    C_EXPIRES,
    C_UNIQUE_KEY,
    C_UNIQUE_SCOPE,
    C_UNIQUE_PERIOD,
    C_REPLY_TO,
    C_REPLY_ID,
    C_TAG,
    C_TRACEPARENT,
    C_META,
    C_CHANNEL,
    C_MAX_ATTEMPTS,
    C_TIMEOUT,
    C_CREATED
};

/* The ids of the inbox begin here. */
#define ID_FIRST (INT64_C(1) << 52)

static const char *text(sqlite3_stmt *q, enum column c)
{
    return (const char *)sqlite3_column_text(q, (int)c);
}

/* The number in C; outside LOW .. HIGH: LOW, and *WHY. */
static int64_t number(sqlite3_stmt *q, enum column c, int64_t low, int64_t high,
                      const char *message, const char **why)
{
    int64_t v = sqlite3_column_int64(q, (int)c);
    if (v >= low && v <= high)
        return v;
    *why = message;
    return low;
}

/* A text is its bytes in UTF-8, whatever the file has them in. */
static void read_body(struct sqlite_store *s, sqlite3_stmt *q,
                      struct store_inbox_row *row)
{
    row->body = sqlite3_column_type(q, C_BODY) == SQLITE_TEXT
                    ? sqlite3_column_text(q, C_BODY)
                    : sqlite3_column_blob(q, C_BODY);
    row->len = (size_t)sqlite3_column_bytes(q, C_BODY);
    if (row->len == 0)
        row->body = "";
    if (s->max_body && row->len > s->max_body)
        row->refused = "the body is longer than max_body";
}

/* When the key's period ends, if it has one. */
static int64_t key_until(sqlite3_stmt *q, const struct store_inbox_row *row,
                         const char **why)
{
    if (row->options.unique != BGMQ_UNIQUE_PERIOD)
        return 0;
    int64_t period = number(q, C_UNIQUE_PERIOD, 1, INT64_MAX / 2,
                            "unique_period has to be more than 0", why);
    return row->created_ms + period;
}

static void read_options(sqlite3_stmt *q, struct store_inbox_row *row)
{
    struct bgmq_message_options *o = &row->options;
    const char **why = &row->refused;
    *o = (struct bgmq_message_options){
        .priority =
            (int)number(q, C_PRIORITY, 0, INT16_MAX, "priority is not 0..32767", why),
        .run_at_ms = number(q, C_RUN_AT, 0, INT64_MAX / 2, "run_at is not a time", why),
        .expire_at_ms =
            number(q, C_EXPIRES, 0, INT64_MAX / 2, "expires is not a time", why),
        .unique_key = text(q, C_UNIQUE_KEY),
        .unique = (enum bgmq_unique)number(q, C_UNIQUE_SCOPE, 0, BGMQ_UNIQUE_PERIOD,
                                           "unique_scope is not 0..3", why),
        .reply_to = text(q, C_REPLY_TO),
        .reply_id = (uint64_t)sqlite3_column_int64(q, C_REPLY_ID),
        .tag = text(q, C_TAG),
        .traceparent = text(q, C_TRACEPARENT),
        .channel = text(q, C_CHANNEL),
        .max_attempts = (unsigned)number(q, C_MAX_ATTEMPTS, 0, 1000,
                                         "max_attempts is not 0..1000", why),
        .timeout_ms = (unsigned)number(q, C_TIMEOUT, 0, UINT32_MAX,
                                       "timeout is not 0..4294967295", why),
    };
    row->created_ms =
        number(q, C_CREATED, 0, INT64_MAX / 2, "created is not a time", why);
    o->unique_period_ms = key_until(q, row, why);
}

/* 0 or ENOMEM. */
static int read_row(struct sqlite_store *s, sqlite3_stmt *q, struct store_inbox_row *row)
{
    *row = (struct store_inbox_row){.id = (uint64_t)sqlite3_column_int64(q, C_ID),
                                    .type = text(q, C_TYPE)};
    read_body(s, q, row);
    read_options(q, row);
    const char *meta = text(q, C_META);
    if (sqlite3_errcode(s->w) == SQLITE_NOMEM ||
        !row->body) /* its type may be NULL, too */
        return BGMQ_ENOMEM;
    int err = meta ? bgmqi_store_meta_read(meta, s->meta, &row->meta_len) : 0;
    row->meta = row->meta_len ? s->meta : NULL;
    if (err == BGMQ_ENOMEM)
        return err;
    if (err)
        row->refused = err == BGMQ_ETOOBIG ? "its meta are longer than 4 KiB"
                                           : "meta is not a JSON object of strings";
    if (sqlite3_column_int64(q, C_ID) < ID_FIRST)
        row->refused = "the id is below 4503599627370496: leave it out";
    return 0;
}

int bgmqi_store_inbox_rows(struct store *store, uint64_t after, size_t limit,
                           store_inbox_fn *fn, void *ctx)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    if (after >= INT64_MAX)
        return 0;
    /* A row that somebody put below 0 has its turn, too: it is refused. */
    sqlite3_stmt *q = s->q[Q_INBOX_LIST];
    sqlite3_bind_int64(q, 1, after ? (int64_t)after : INT64_MIN);
    sqlite3_bind_int64(q, 2, limit < INT32_MAX ? (int64_t)limit : INT32_MAX);
    int n = 0, result = 0, rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct store_inbox_row row;
        result = read_row(s, q, &row);
        if (result == 0)
            result = fn(ctx, &row);
        if (result != 0)
            break;
        n++;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return bgmqi_store_sqlite_read_failed(s, rc);
    return result ? result : n;
}
