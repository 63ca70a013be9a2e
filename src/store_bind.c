/* store_bind.c - binds messages and changes to the parameters of statements.
 *
 * Called by store_write.c, on the journal's thread.  Bodies and strings are lent to
 * SQLite, not copied: the ops keep their messages until apply returns, and every
 * statement is bound anew before it runs, but for values that it has still from its last
 * run.  Binding by a valid number cannot fail, so its results are not looked at; where
 * memory is needed they are. */
#include "store_bind.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "store_meta.h"

void bgmqi_store_bind_text(sqlite3_stmt *q, int at, const char *text)
{
    sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

/* ---- values that stay bound ------------------------------------------------------------- */

enum { UNKNOWN, INTEGER, NOTHING, LITERAL };

/* True when parameter AT is bound to that already; else it will be. */
static bool is_bound(struct params p, int at, uint8_t kind, int64_t value)
{
    if (!p.bound)
        return false;
    struct bound *b = &p.bound[at];
    if (b->kind == kind && b->value == value)
        return true;
    *b = (struct bound){.kind = kind, .value = value};
    return false;
}

void bgmqi_store_bind_int(struct params p, int at, int64_t value)
{
    if (!is_bound(p, at, INTEGER, value))
        sqlite3_bind_int64(p.q, at, value);
}

static void bind_null(struct params p, int at)
{
    if (!is_bound(p, at, NOTHING, 0))
        sqlite3_bind_null(p.q, at);
}

/* What is lent for one run is not looked at again. */
static void forget(struct params p, int at)
{
    if (p.bound)
        p.bound[at].kind = UNKNOWN;
}

static void bind_text(struct params p, int at, const char *text)
{
    if (!text) {
        bind_null(p, at);
        return;
    }
    forget(p, at);
    bgmqi_store_bind_text(p.q, at, text);
}

static void bind_blob(struct params p, int at, const void *bytes, size_t len)
{
    forget(p, at);
    sqlite3_bind_blob64(p.q, at, bytes, len, SQLITE_STATIC);
}

/* TEXT is a string of the program's. */
static void bind_literal(struct params p, int at, const char *text)
{
    if (!is_bound(p, at, LITERAL, (int64_t)(intptr_t)text))
        bgmqi_store_bind_text(p.q, at, text);
}

static void bind_unless(struct params p, int at, int64_t value, int64_t none)
{
    if (value == none)
        bind_null(p, at);
    else
        bgmqi_store_bind_int(p, at, value);
}

/* ---- rows -------------------------------------------------------------------------------- */

/* The columns of JOB_COLUMNS from parameter AT on. */
void bgmqi_store_bind_job(struct params p, int at, const struct store_op *op)
{
    const struct message *m = op->msg;
    bgmqi_store_bind_int(p, at, (int64_t)op->id);
    bgmqi_store_bind_int(p, at + 1, op->type);
    bgmqi_store_bind_int(p, at + 2, (int64_t)op->seq);
    bgmqi_store_bind_int(p, at + 3, m->priority);
    bgmqi_store_bind_int(p, at + 4, op->attempt);
    bgmqi_store_bind_int(p, at + 5, m->max_attempts);
    bgmqi_store_bind_int(p, at + 6, op->run);
    bgmqi_store_bind_int(p, at + 7, op->crashes);
    bgmqi_store_bind_int(p, at + 8, m->flags);
    bgmqi_store_bind_int(p, at + 9, m->created_ms);
    bgmqi_store_bind_int(p, at + 10, bgmqi_crc32c(m->body, m->len));
    bind_blob(p, at + 11, m->body, m->len);
}

/* The columns of EXT_COLUMNS from parameter AT on. */
int bgmqi_store_bind_ext(struct params p, int at, const struct message_ext *ext)
{
    static const struct message_ext none;
    if (!ext)
        ext = &none;
    bind_text(p, at, ext->reply_to);
    bind_unless(p, at + 1, (int64_t)ext->reply_id, 0);
    bind_text(p, at + 2, ext->tag);
    bind_text(p, at + 3, ext->traceparent);
    bind_text(p, at + 4, ext->unique_key);
    bind_text(p, at + 5, ext->type);
    bind_text(p, at + 7, ext->channel);
    bind_unless(p, at + 8, ext->expires_ms, 0);
    bind_unless(p, at + 9, ext->timeout_ms, 0);
    bind_unless(p, at + 10, ext->unique_key ? ext->unique : -1, -1);
    bind_unless(p, at + 11, ext->unique_until_ms, 0);
    if (ext->meta_len == 0) {
        bind_null(p, at + 6);
        return SQLITE_OK;
    }
    size_t len = 0;
    char *text = bgmqi_store_meta_text(ext->meta, ext->meta_len, &len);
    if (!text)
        return SQLITE_NOMEM;
    forget(p, at + 6);
    return sqlite3_bind_text64(p.q, at + 6, text, len, free, SQLITE_UTF8);
}

/* error_code, error_text, error_at from parameter AT on. */
void bgmqi_store_bind_failure(struct params p, int at, const struct failure *f)
{
    bind_text(p, at, f ? f->code : NULL);
    bind_text(p, at + 1, f ? f->text : NULL);
    if (f)
        bgmqi_store_bind_int(p, at + 2, f->at_ms);
    else
        bind_null(p, at + 2);
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
        if (fits && copy && len)
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

static int bind_result(struct params p, int at, const struct store_op *op)
{
    size_t len = 0;
    char *result = op->progress ? copy_result(op->progress, &len) : NULL;
    if (result) {
        forget(p, at);
        return sqlite3_bind_blob64(p.q, at, result, len, free);
    }
    if (len)
        return SQLITE_NOMEM;
    bind_null(p, at);
    return SQLITE_OK;
}

int bgmqi_store_bind_history(struct params p, int at, const struct store_op *op)
{
    static const char *const outcomes[] = {[OUTCOME_DONE] = "done",
                                           [OUTCOME_DEAD] = "dead",
                                           [OUTCOME_DISCARDED] = "discarded"};
    assert(op->history < sizeof(outcomes) / sizeof(outcomes[0]));
    bgmqi_store_bind_int(p, at, (int64_t)op->id);
    bgmqi_store_bind_int(p, at + 1, op->type);
    bind_literal(p, at + 2, outcomes[op->history]);
    bgmqi_store_bind_int(p, at + 3, op->msg->priority);
    bgmqi_store_bind_int(p, at + 4, op->attempt);
    bgmqi_store_bind_int(p, at + 5, op->msg->created_ms);
    bgmqi_store_bind_int(p, at + 6, op->at_ms);
    bind_text(p, at + 7, op->failure ? op->failure->code : NULL);
    bind_text(p, at + 8, op->failure ? op->failure->text : NULL);
    const struct message_ext *ext = message_ext(op->msg);
    bind_unless(p, at + 9, op->started_ms, 0);
    bgmqi_store_bind_int(p, at + 10, op->crashes);
    bind_text(p, at + 11, ext ? ext->tag : NULL);
    bind_text(p, at + 12, ext ? ext->unique_key : NULL);
    if (op->flags & OP_BODY)
        bind_blob(p, at + 14, op->msg->body, op->msg->len);
    else
        bind_null(p, at + 14);
    return bind_result(p, at + 13, op);
}
