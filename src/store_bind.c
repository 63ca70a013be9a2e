/* store_bind.c - binds messages and changes to the parameters of statements.
 *
 * Called by store_write.c, on the journal's thread.  Bodies and strings are lent to
 * SQLite, not copied: the ops keep their messages until apply returns, and every
 * statement is bound anew before it runs.  Binding by a valid number cannot fail, so its
 * results are not looked at; where memory is needed they are. */
#include "store_bind.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"

void bgmqi_store_bind_text(sqlite3_stmt *q, int at, const char *text)
{
    sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

static void bind_unless(sqlite3_stmt *q, int at, int64_t value, int64_t none)
{
    if (value == none)
        sqlite3_bind_null(q, at);
    else
        sqlite3_bind_int64(q, at, value);
}

/* The columns of JOB_COLUMNS from parameter AT on. */
void bgmqi_store_bind_job(sqlite3_stmt *q, int at, const struct store_op *op)
{
    const struct message *m = op->msg;
    sqlite3_bind_int64(q, at, (int64_t)op->id);
    sqlite3_bind_int64(q, at + 1, op->type);
    sqlite3_bind_int64(q, at + 2, (int64_t)op->seq);
    sqlite3_bind_int(q, at + 3, m->priority);
    sqlite3_bind_int(q, at + 4, op->attempt);
    sqlite3_bind_int(q, at + 5, m->max_attempts);
    sqlite3_bind_int64(q, at + 6, op->run);
    sqlite3_bind_int(q, at + 7, op->crashes);
    sqlite3_bind_int(q, at + 8, m->flags);
    sqlite3_bind_int64(q, at + 9, m->created_ms);
    sqlite3_bind_int64(q, at + 10, bgmqi_crc32c(m->body, m->len));
    sqlite3_bind_blob64(q, at + 11, m->body, m->len, SQLITE_STATIC);
}

/* Packed META as the text of a JSON object, to free(); NULL: out of memory. */
static char *meta_text(const char *meta, size_t len, size_t *ret_len)
{
    json_t *object = json_object();
    char *text = NULL;
    for (size_t i = 0; object && i < len;) {
        const char *key = meta + i;
        const char *value = key + strlen(key) + 1;
        if (json_object_set_new(object, key, json_string(value)) != 0) {
            json_decref(object);
            return NULL;
        }
        i = (size_t)(value + strlen(value) + 1 - meta);
    }
    size_t size = object ? json_dumpb(object, NULL, 0, JSON_COMPACT) : 0;
    if (size)
        text = malloc(size);
    if (text)
        *ret_len = json_dumpb(object, text, size, JSON_COMPACT);
    json_decref(object);
    return text;
}

/* The columns of EXT_COLUMNS from parameter AT on. */
int bgmqi_store_bind_ext(sqlite3_stmt *q, int at, const struct message_ext *ext)
{
    static const struct message_ext none;
    if (!ext)
        ext = &none;
    bgmqi_store_bind_text(q, at, ext->reply_to);
    bind_unless(q, at + 1, (int64_t)ext->reply_id, 0);
    bgmqi_store_bind_text(q, at + 2, ext->tag);
    bgmqi_store_bind_text(q, at + 3, ext->traceparent);
    bgmqi_store_bind_text(q, at + 4, ext->unique_key);
    bgmqi_store_bind_text(q, at + 5, ext->type);
    bgmqi_store_bind_text(q, at + 7, ext->channel);
    bind_unless(q, at + 8, ext->expires_ms, 0);
    bind_unless(q, at + 9, ext->timeout_ms, 0);
    bind_unless(q, at + 10, ext->unique_key ? ext->unique : -1, -1);
    bind_unless(q, at + 11, ext->unique_until_ms, 0);
    if (ext->meta_len == 0)
        return sqlite3_bind_null(q, at + 6);
    size_t len = 0;
    char *text = meta_text(ext->meta, ext->meta_len, &len);
    if (!text)
        return SQLITE_NOMEM;
    return sqlite3_bind_text64(q, at + 6, text, len, free, SQLITE_UTF8);
}

/* error_code, error_text, error_at from parameter AT on. */
void bgmqi_store_bind_failure(sqlite3_stmt *q, int at, const struct failure *f)
{
    bgmqi_store_bind_text(q, at, f ? f->code : NULL);
    bgmqi_store_bind_text(q, at + 1, f ? f->text : NULL);
    if (f)
        sqlite3_bind_int64(q, at + 2, f->at_ms);
    else
        sqlite3_bind_null(q, at + 2);
}

/* A copy of P's result, to free(); NULL when there is none, or (*RET_LEN is not 0) no memory.
 * Memory is asked for without the lock, so the result may grow in the meantime. */
static char *copy_result(struct progress *p, size_t *ret_len)
{
    char *copy = NULL;
    for (size_t room = 0;;) {
        lock_take(&p->lock);
        size_t len = p->result ? p->result_len : 0;
        bool fits = len <= room;
        if (fits && len)
            memcpy(copy, p->result, len);
        bool none = !p->result;
        lock_drop(&p->lock);
        *ret_len = none ? 0 : len;
        if (fits && (copy || none))
            return copy;
        free(copy);
        room = len ? len : 1;
        copy = malloc(room);
        if (!copy) {
            *ret_len = room;
            return NULL;
        }
    }
}

static int bind_result(sqlite3_stmt *q, int at, const struct store_op *op)
{
    size_t len = 0;
    char *result = op->progress ? copy_result(op->progress, &len) : NULL;
    if (result)
        return sqlite3_bind_blob64(q, at, result, len, free);
    return len ? SQLITE_NOMEM : sqlite3_bind_null(q, at);
}

int bgmqi_store_bind_history(sqlite3_stmt *q, int at, const struct store_op *op)
{
    static const char *const outcomes[] = {[OUTCOME_DONE] = "done",
                                           [OUTCOME_DEAD] = "dead",
                                           [OUTCOME_DISCARDED] = "discarded"};
    assert(op->history < sizeof(outcomes) / sizeof(outcomes[0]));
    sqlite3_bind_int64(q, at, (int64_t)op->id);
    sqlite3_bind_int64(q, at + 1, op->type);
    bgmqi_store_bind_text(q, at + 2, outcomes[op->history]);
    sqlite3_bind_int(q, at + 3, op->msg->priority);
    sqlite3_bind_int(q, at + 4, op->attempt);
    sqlite3_bind_int64(q, at + 5, op->msg->created_ms);
    sqlite3_bind_int64(q, at + 6, op->at_ms);
    bgmqi_store_bind_text(q, at + 7, op->failure ? op->failure->code : NULL);
    bgmqi_store_bind_text(q, at + 8, op->failure ? op->failure->text : NULL);
    const struct message_ext *ext = message_ext(op->msg);
    bind_unless(q, at + 9, op->started_ms, 0);
    sqlite3_bind_int(q, at + 10, op->crashes);
    bgmqi_store_bind_text(q, at + 11, ext ? ext->tag : NULL);
    bgmqi_store_bind_text(q, at + 12, ext ? ext->unique_key : NULL);
    if (op->flags & OP_BODY)
        sqlite3_bind_blob64(q, at + 14, op->msg->body, op->msg->len, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, at + 14);
    return bind_result(q, at + 13, op);
}
