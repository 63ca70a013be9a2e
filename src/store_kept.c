/* store_kept.c - what is kept of a message's attempts: its progress, and their errors.
 *
 * Called by store_write.c, on the journal's thread, within its transaction.  It must never call
 * SQLite, or ask for memory, under the lock of a progress: handlers save theirs many times. */
#include <stdlib.h>
#include <string.h>

#include "store_batch.h"
#include "store_bind.h"

struct saved {
    size_t cursor_len, text_size; /* in S->saved, in this order; TEXT_SIZE with its NUL */
    bool cursor, text;
    int64_t number;
};

/* Copies P to S->saved if it fits; else *NEED is how much room that takes.  From then on a new
 * save needs an entry of its own. */
static bool snapshot(struct sqlite_store *s, struct progress *p, struct saved *ret,
                     size_t *need)
{
    lock_take(&p->lock);
    *ret = (struct saved){.cursor_len = p->cursor ? p->cursor_len : 0,
                          .text_size = p->text ? strlen(p->text) + 1 : 0,
                          .cursor = p->cursor != NULL,
                          .text = p->text != NULL,
                          .number = p->number};
    *need = ret->cursor_len + ret->text_size;
    bool fits = s->saved && *need <= s->saved_size;
    if (fits) {
        if (ret->cursor_len)
            memcpy(s->saved, p->cursor, ret->cursor_len);
        if (ret->text_size)
            memcpy(s->saved + ret->cursor_len, p->text, ret->text_size);
        p->queued = false;
    }
    lock_drop(&p->lock);
    return fits;
}

/* True while a transaction of the handler's, which we cannot see the end of, decides which cursor
 * is right; whoever ends that sees to it that what is skipped here is written later. */
static bool skip(struct progress *p)
{
    lock_take(&p->lock);
    bool held = p->held != 0;
    if (held) {
        p->skipped = true;
        p->queued = false;
    }
    lock_drop(&p->lock);
    return held;
}

int bgmqi_store_kept_progress(struct batch *b, const struct store_op *op)
{
    struct sqlite_store *s = b->s;
    if (skip(op->progress))
        return SQLITE_OK;
    struct saved saved;
    size_t need;
    while (!snapshot(s, op->progress, &saved, &need)) {
        size_t size = need < 4096 ? 4096 : need;
        char *room = realloc(s->saved, size);
        if (!room)
            return SQLITE_NOMEM;
        s->saved = room;
        s->saved_size = size;
    }
    sqlite3_stmt *q = s->q[Q_PROGRESS_SET];
    sqlite3_bind_int64(q, 1, (int64_t)op->id);
    if (saved.cursor)
        sqlite3_bind_blob64(q, 2, s->saved, saved.cursor_len, SQLITE_STATIC);
    else
        sqlite3_bind_null(q, 2);
    sqlite3_bind_int64(q, 3, saved.number);
    bgmqi_store_bind_text(q, 4, saved.text ? s->saved + saved.cursor_len : NULL);
    return bgmqi_store_sqlite_run(s, Q_PROGRESS_SET);
}

int bgmqi_store_kept_error(struct batch *b, const struct store_op *op)
{
    if (!op->failure)
        return SQLITE_OK;
    sqlite3_stmt *q = b->s->q[Q_ERROR_INSERT];
    sqlite3_bind_int64(q, 1, (int64_t)op->id);
    sqlite3_bind_int64(q, 2, op->run);
    sqlite3_bind_int(q, 3, op->attempt);
    sqlite3_bind_int64(q, 4, op->failure->at_ms);
    bgmqi_store_bind_text(q, 5, op->failure->code);
    bgmqi_store_bind_text(q, 6, op->failure->text);
    int rc = bgmqi_store_sqlite_run(b->s, Q_ERROR_INSERT);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(b->s->q[Q_ERROR_CUT], 1, (int64_t)op->id);
    return bgmqi_store_sqlite_run(b->s, Q_ERROR_CUT);
}

int bgmqi_store_kept_drop(struct batch *b, const struct store_op *op)
{
    sqlite3_bind_int64(b->s->q[Q_PROGRESS_DROP], 1, (int64_t)op->id);
    int rc = bgmqi_store_sqlite_run(b->s, Q_PROGRESS_DROP);
    if (rc != SQLITE_OK || op->history != OUTCOME_NONE)
        return rc;
    /* Whether the history names it: also by a row that is still gathered. */
    rc = bgmqi_store_batch_flush_history(b);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(b->s->q[Q_ERROR_DROP], 1, (int64_t)op->id);
    return bgmqi_store_sqlite_run(b->s, Q_ERROR_DROP);
}
