/* fixture.c - see fixture.h.  On the thread of the test. */
#include "fixture.h"

#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a store ------------------------------------------------------------------------- */

const char *fixture_path(void)
{
    return harness_path("store.db");
}

struct store_options fixture_options(void)
{
    return (struct store_options){.path = fixture_path(), .max_body = 1 << 20};
}

struct store *fixture_open_with(struct store_options options)
{
    struct store *s = NULL;
    struct bgmq_error error = {.text = ""};
    int err = bgmqi_store_sqlite_open(&s, &options, &error);
    ck_assert_msg(err == 0, "open: %d %s", err, error.text);
    return s;
}

struct store *fixture_open(void)
{
    return fixture_open_with(fixture_options());
}

void fixture_close(struct store *s)
{
    s->ops->close(s);
}

int fixture_open_fails(struct store_options options, struct bgmq_error *error)
{
    struct store *s = NULL;
    struct bgmq_error mine = {.text = ""};
    int err = bgmqi_store_sqlite_open(&s, &options, error ? error : &mine);
    ck_assert_msg(err < 0, "open did not fail");
    ck_assert_ptr_null(s);
    ck_assert_msg((error ? error : &mine)->text[0], "the failure has no words");
    return err;
}

/* ---- changes ------------------------------------------------------------------------- */

struct batch_of *batch_new(void)
{
    struct batch_of *b = calloc(1, sizeof(*b));
    ck_assert_ptr_nonnull(b);
    return b;
}

void batch_free(struct batch_of *b)
{
    for (size_t i = 0; i < b->n; i++) {
        bgmqi_message_unref(b->ops[i].msg);
        bgmqi_failure_unref(b->ops[i].failure);
        bgmqi_progress_unref(b->ops[i].progress);
    }
    free(b);
}

struct store_op *batch_add(struct batch_of *b, enum store_op_kind kind, uint64_t id)
{
    ck_assert_uint_lt(b->n, sizeof(b->ops) / sizeof(b->ops[0]));
    struct store_op *op = &b->ops[b->n++];
    char body[32];
    int len = snprintf(body, sizeof(body), "body-%llu", (unsigned long long)id);
    *op = (struct store_op){.kind = (uint8_t)kind, .type = 1, .id = id, .seq = id};
    if (kind == STORE_NOP || kind == STORE_TYPE)
        return op;
    op->msg = bgmqi_message_new(body, (size_t)len);
    ck_assert_ptr_nonnull(op->msg);
    op->msg->id = id;
    op->msg->created_ms = 1000000 + (int64_t)id;
    return op;
}

struct store_op *batch_insert(struct batch_of *b, uint64_t id)
{
    return batch_add(b, STORE_INSERT, id);
}

struct store_op *batch_spill(struct batch_of *b, uint64_t id, enum lane lane, int64_t key)
{
    struct store_op *op = batch_add(b, STORE_SPILL, id);
    op->lane = (uint8_t)lane;
    op->key = key;
    return op;
}

void batch_carry(struct store_op *op, const struct bgmq_message_options *options)
{
    struct message_ext *ext;
    ck_assert_int_eq(bgmqi_message_ext_new(options, NULL, NULL, 0, &ext), 0);
    bgmqi_message_set_ext(op->msg, ext);
}

void batch_fail(struct store_op *op, const char *code, const char *text, int64_t at_ms)
{
    op->failure = bgmqi_failure_new(code, text, at_ms);
    ck_assert_ptr_nonnull(op->failure);
}

static char *bytes_of(const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    ck_assert(!text || copy);
    return copy;
}

struct progress *batch_save(struct store_op *op, const char *cursor, int64_t number,
                            const char *text, const char *result)
{
    static struct budget budget = {.max = SIZE_MAX};
    struct progress *p = op->progress = bgmqi_progress_new(&budget);
    ck_assert_ptr_nonnull(p);
    p->cursor = bytes_of(cursor);
    p->cursor_len = cursor ? strlen(cursor) : 0;
    p->number = number;
    p->text = bytes_of(text);
    p->result = bytes_of(result);
    p->result_len = result ? strlen(result) : 0;
    p->queued = true;
    return p;
}

int batch_try(struct store *s, struct batch_of *b, enum store_sync sync,
              struct bgmq_error *text)
{
    return s->ops->apply(s, b->ops, b->n, sync, text);
}

void batch_apply(struct store *s, struct batch_of *b)
{
    struct bgmq_error text = {.text = ""};
    int failure = batch_try(s, b, STORE_SYNC_NORMAL, &text);
    ck_assert_msg(failure == STORE_FAIL_NONE, "apply: %d %s", failure, text.text);
    batch_free(b);
}

/* ---- looks --------------------------------------------------------------------------- */

static const char *copy(char to[64], const char *from)
{
    if (!from)
        return NULL;
    snprintf(to, 64, "%s", from);
    return to;
}

static int see_row(void *ctx, const struct store_row *row)
{
    struct seen *seen = ctx;
    size_t i = seen->n;
    if (seen->stop_at && i + 1 == seen->stop_at)
        return BGMQ_EFULL;
    ck_assert_uint_lt(i, 64);
    struct store_row *r = &seen->rows[seen->n++];
    *r = *row;
    r->error_code = copy(seen->errors[i], row->error_code);
    snprintf(seen->bodies[i], 64, "%.*s", row->len > 63 ? 63 : (int)row->len,
             (const char *)row->body);
    r->body = seen->bodies[i];
    if (row->ext) {
        copy(seen->keys[i], row->ext->unique_key);
        copy(seen->tags[i], row->ext->tag);
        size_t len = row->ext->meta_len < 64 ? row->ext->meta_len : 64;
        if (len)
            memcpy(seen->metas[i], row->ext->meta, len);
    }
    return 0;
}

int seen_load(struct store *s, struct seen *seen, enum lane lane, int64_t key,
              uint64_t seq, size_t limit, size_t max_bytes)
{
    size_t stop_at = seen->stop_at;
    memset(seen, 0, sizeof(*seen));
    seen->stop_at = stop_at;
    return s->ops->load(s, 1, lane, key, seq, limit, max_bytes, see_row, seen);
}

const char *seen_ids(struct store *s, enum lane lane, char *ret, size_t size)
{
    static struct seen seen;
    seen.stop_at = 0;
    int n = seen_load(s, &seen, lane, INT64_MIN, 0, 64, SIZE_MAX);
    ck_assert_int_ge(n, 0);
    size_t len = 0;
    ret[0] = '\0';
    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(ret + len, size - len, "%s%llu", i ? " " : "",
                                (unsigned long long)seen.rows[i].id);
    return ret;
}

static sqlite3 *connect_to(const char *path)
{
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

const char *look_text(const char *sql)
{
    static char text[256];
    sqlite3 *db = connect_to(fixture_path());
    sqlite3_stmt *q = NULL;
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    ck_assert_msg(sqlite3_step(q) == SQLITE_ROW, "%s: no row: %s", sql,
                  sqlite3_errmsg(db));
    const char *found = (const char *)sqlite3_column_text(q, 0);
    snprintf(text, sizeof(text), "%s", found ? found : "(null)");
    sqlite3_finalize(q);
    sqlite3_close(db);
    return text;
}

int64_t look(const char *sql)
{
    return strtoll(look_text(sql), NULL, 10);
}

void meddle(const char *path, const char *sql)
{
    sqlite3 *db = connect_to(path);
    char *why = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &why);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, why);
    sqlite3_close(db);
}

void check_sound(void)
{
    ck_assert_str_eq(look_text("PRAGMA integrity_check"), "ok");
    ck_assert_int_eq(
        look("SELECT count(*) FROM bgmq_unique u WHERE scope <> 3 AND NOT EXISTS"
             " (SELECT 1 FROM bgmq_job WHERE id = u.id) AND NOT EXISTS"
             " (SELECT 1 FROM bgmq_backlog WHERE id = u.id"
             "  AND (lane <> 3 OR u.scope = 2))"),
        0);
}

int64_t recover(struct store *s, const uint64_t *ids, const uint32_t *attempts, size_t n)
{
    static const uint8_t running[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static uint64_t flight;
    struct store_boot boot = {.ids = ids,
                              .attempts = attempts,
                              .running = running,
                              .n = n,
                              .flight = ++flight,
                              .now_ms = 1000000};
    struct store_booted booted;
    ck_assert_uint_le(n, sizeof(running));
    int err = s->ops->recover(s, &boot, &booted);
    return err ? err : (int64_t)booted.unfinished;
}
