/* store_keys.c - unique keys: who has one, for how long, and who gets it next.
 *
 * Called by store_write.c, on the journal's thread, within its transaction.  A row of
 * bgmq_unique says who took a key last; whether that still keeps others out is read from the rows
 * of the messages, so that a key whose holder went some other way is never lost.  It must never
 * take a key for a message that comes back from the dlq: somebody else may have it. */
#include <assert.h>

#include "store_batch.h"
#include "store_bind.h"

const char *bgmqi_store_keys_of(const struct store_op *op)
{
    return op->msg ? message_unique_key(op->msg) : NULL;
}

static void bind(struct sqlite_store *s, enum statement q, const struct store_op *op)
{
    sqlite3_bind_int64(s->q[q], 1, op->type);
    bgmqi_store_bind_text(s->q[q], 2, bgmqi_store_keys_of(op));
    sqlite3_bind_int64(s->q[q], 3, (int64_t)op->id);
}

static int run_with_scope(struct batch *b, enum statement q, const struct store_op *op)
{
    bind(b->s, q, op);
    const struct message_ext *ext = message_ext(op->msg);
    assert(ext);
    sqlite3_bind_int(b->s->q[q], 4, ext->unique);
    if (ext->unique == BGMQ_UNIQUE_PERIOD)
        sqlite3_bind_int64(b->s->q[q], 5, ext->unique_until_ms);
    else
        sqlite3_bind_null(b->s->q[q], 5);
    return bgmqi_store_sqlite_run(b->s, q);
}

int bgmqi_store_keys_take(struct batch *b, struct store_op *op)
{
    int rc = run_with_scope(b, Q_UNIQUE_TAKE, op);
    if (rc != SQLITE_OK || sqlite3_changes64(b->s->w) == 1)
        return rc;
    sqlite3_stmt *q = b->s->q[Q_UNIQUE_OWNER];
    bind(b->s, Q_UNIQUE_OWNER, op);
    sqlite3_bind_int64(q, 3, op->at_ms ? op->at_ms : op->msg->created_ms);
    rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        b->s->room->duplicates[b->n_duplicates++] = (struct duplicate){
            .op = b->at, .owner = (uint64_t)sqlite3_column_int64(q, 0)};
        op->result = BGMQ_EEXIST;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_DONE)
        return rc == SQLITE_ROW ? SQLITE_OK : rc;
    return run_with_scope(b, Q_UNIQUE_GIVE, op);
}

int bgmqi_store_keys_drop(struct batch *b, const struct store_op *op)
{
    if (!bgmqi_store_keys_of(op))
        return SQLITE_OK;
    bind(b->s, Q_UNIQUE_DROP, op);
    return bgmqi_store_sqlite_run(b->s, Q_UNIQUE_DROP);
}

static bool has_key_for(const struct store_op *op, enum bgmq_unique scope)
{
    const struct message_ext *x = op->msg ? message_ext(op->msg) : NULL;
    return x && x->unique_key && x->unique == scope;
}

int bgmqi_store_keys_drop_ended(struct batch *b, const struct store_op *op)
{
    return has_key_for(op, BGMQ_UNIQUE_PERIOD) ? SQLITE_OK : bgmqi_store_keys_drop(b, op);
}

int bgmqi_store_keys_drop_dead(struct batch *b, const struct store_op *op)
{
    return has_key_for(op, BGMQ_UNIQUE_DONE) ? SQLITE_OK
                                             : bgmqi_store_keys_drop_ended(b, op);
}
