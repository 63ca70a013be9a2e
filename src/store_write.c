/* store_write.c - apply: one batch of changes, one transaction.
 *
 * Called by the journal, on its thread.  It must never leave half a batch: whatever fails, all
 * is rolled back, and the id of a duplicate is changed only after the commit.  A batch is tried
 * with its rows gathered (store_batch.c); when that fails for one of its ops, or a row is
 * missing, it is rolled back and done again one op at a time, which tells whose fault it is. */
#include "store_sqlite.h"

#include <assert.h>

#include "err.h"
#include "store_batch.h"

/* ---- the ops ----------------------------------------------------------------------- */

static int insert_backlog(struct batch *b, const struct store_op *op)
{
    struct params p = store_params(b->s, Q_BACKLOG_INSERT);
    bgmqi_store_bind_job(p, 1, op);
    int rc = bgmqi_store_bind_ext(p, 1 + JOB_PARAMS, message_ext(op->msg));
    if (rc != SQLITE_OK)
        return rc;
    int at = 1 + JOB_PARAMS + EXT_PARAMS;
    bgmqi_store_bind_int(p, at, op->lane);
    bgmqi_store_bind_int(p, at + 1, op->key);
    bgmqi_store_bind_failure(p, at + 2, op->failure);
    return bgmqi_store_sqlite_run(b->s, Q_BACKLOG_INSERT);
}

/* Runs a statement that has to find its row; none: the op is lost. */
static int run_on_row(struct batch *b, enum statement q, struct store_op *op)
{
    sqlite3_bind_int64(b->s->q[q], 1, (int64_t)op->id);
    int rc = bgmqi_store_sqlite_run(b->s, q);
    if (rc == SQLITE_OK && sqlite3_changes64(b->s->w) == 0)
        op->result = BGMQ_ELOST;
    return rc;
}

/* What has to come before a new row: its row of INBOX goes, and it has its key. */
static int before_insert(struct batch *b, struct store_op *op)
{
    int rc = op->flags & OP_INBOX ? run_on_row(b, Q_INBOX_DELETE, op) : SQLITE_OK;
    if (rc == SQLITE_OK && !op->result && bgmqi_store_keys_of(op))
        rc = bgmqi_store_keys_take(b, op);
    return rc;
}

static int do_insert(struct batch *b, struct store_op *op)
{
    int rc = before_insert(b, op);
    if (rc != SQLITE_OK || op->result)
        return rc;
    if (!message_ext(op->msg))
        return bgmqi_store_batch_insert(b, op);
    struct params p = store_params(b->s, Q_JOB_INSERT_EXT);
    bgmqi_store_bind_job(p, 1, op);
    rc = bgmqi_store_bind_ext(p, 1 + JOB_PARAMS, message_ext(op->msg));
    return rc == SQLITE_OK ? bgmqi_store_sqlite_run(b->s, Q_JOB_INSERT_EXT) : rc;
}

static int do_spill(struct batch *b, struct store_op *op)
{
    int rc = before_insert(b, op);
    return rc != SQLITE_OK || op->result ? rc : insert_backlog(b, op);
}

/* The error of an attempt is noted; a message that is dead has its row in the history, and
 * mostly holds its key no longer. */
static int after_move(struct batch *b, const struct store_op *op)
{
    int rc = op->flags & OP_ERROR ? bgmqi_store_kept_error(b, op) : SQLITE_OK;
    if (rc != SQLITE_OK || op->lane != LANE_DLQ)
        return rc;
    rc = bgmqi_store_keys_drop_dead(b, op);
    return rc == SQLITE_OK ? bgmqi_store_batch_history(b, op) : rc;
}

/* What OP names is no more. */
static int after_end(struct batch *b, const struct store_op *op)
{
    int rc = bgmqi_store_keys_drop_ended(b, op);
    if (rc == SQLITE_OK && (op->flags & OP_KEPT))
        rc = bgmqi_store_kept_drop(b, op);
    return rc == SQLITE_OK ? bgmqi_store_batch_history(b, op) : rc;
}

static int do_move(struct batch *b, struct store_op *op)
{
    int rc = bgmqi_store_batch_flush(b);
    if (rc == SQLITE_OK)
        rc = run_on_row(b, Q_JOB_DELETE, op);
    if (rc != SQLITE_OK || op->result)
        return rc;
    rc = insert_backlog(b, op);
    return rc == SQLITE_OK ? after_move(b, op) : rc;
}

static int do_update(struct batch *b, struct store_op *op)
{
    int rc = bgmqi_store_batch_flush(b);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_stmt *q = b->s->q[Q_BACKLOG_UPDATE];
    sqlite3_bind_int64(q, 2, (int64_t)op->seq);
    sqlite3_bind_int(q, 3, op->attempt);
    sqlite3_bind_int64(q, 4, op->run);
    sqlite3_bind_int(q, 5, op->crashes);
    sqlite3_bind_int(q, 6, op->lane);
    sqlite3_bind_int64(q, 7, op->key);
    bgmqi_store_bind_failure((struct params){.q = q}, 8, op->failure);
    sqlite3_bind_int(q, 11, op->msg->priority);
    int64_t expires_ms = message_expires_ms(op->msg);
    if (expires_ms)
        sqlite3_bind_int64(q, 12, expires_ms);
    else
        sqlite3_bind_null(q, 12);
    rc = run_on_row(b, Q_BACKLOG_UPDATE, op);
    return rc != SQLITE_OK || op->result ? rc : after_move(b, op);
}

static int do_delete(struct batch *b, struct store_op *op, enum batch_table table)
{
    if (b->gather && !bgmqi_store_keys_of(op)) {
        int added = bgmqi_store_batch_delete(b, op, table);
        return added == SQLITE_OK ? after_end(b, op) : added;
    }
    int rc = bgmqi_store_batch_flush(b);
    if (rc == SQLITE_OK)
        rc = run_on_row(b, table == JOB ? Q_JOB_DELETE : Q_BACKLOG_DELETE, op);
    return rc != SQLITE_OK || op->result ? rc : after_end(b, op);
}

static int do_refuse(struct batch *b, struct store_op *op)
{
    bgmqi_store_bind_text(b->s->q[Q_INBOX_REFUSE], 2, op->text);
    return run_on_row(b, Q_INBOX_REFUSE, op);
}

static int do_type(struct batch *b, const struct store_op *op)
{
    sqlite3_bind_int64(b->s->q[Q_TYPE_INSERT], 1, op->type);
    bgmqi_store_bind_text(b->s->q[Q_TYPE_INSERT], 2, op->text);
    return bgmqi_store_sqlite_run(b->s, Q_TYPE_INSERT);
}

/* OP belongs to a group that begins with an UNKEY, which has come to nothing. */
static bool is_idle(const struct batch *b, const struct store_op *op)
{
    if (!(op->flags & OP_IF_KEYED))
        return false;
    const struct store_op *first = op;
    while (first->kind != STORE_UNKEY) {
        assert(first > b->ops);
        first--;
    }
    return first != op && first->result != 0;
}

static int do_unkey(struct batch *b, struct store_op *op)
{
    int rc = bgmqi_store_keys_drop(b, op);
    if (rc == SQLITE_OK && (op->flags & OP_IF_KEYED) && sqlite3_changes64(b->s->w) == 0)
        op->result = BGMQ_EEXIST;
    return rc;
}

static int do_op(struct batch *b, struct store_op *op)
{
    if (is_idle(b, op)) {
        op->result = BGMQ_EEXIST;
        return SQLITE_OK;
    }
    switch ((enum store_op_kind)op->kind) {
    case STORE_NOP:
        return SQLITE_OK;
    case STORE_TYPE:
        return do_type(b, op);
    case STORE_INSERT:
        return do_insert(b, op);
    case STORE_SPILL:
        return do_spill(b, op);
    case STORE_MOVE:
        return do_move(b, op);
    case STORE_UPDATE:
        return do_update(b, op);
    case STORE_DELETE_JOB:
        return do_delete(b, op, JOB);
    case STORE_DELETE_BACKLOG:
        return do_delete(b, op, BACKLOG);
    case STORE_HISTORY:
        return after_end(b, op);
    case STORE_UNKEY:
        return do_unkey(b, op);
    case STORE_PROGRESS:
        return bgmqi_store_kept_progress(b, op);
    case STORE_REFUSE:
        return do_refuse(b, op);
    }
    return SQLITE_MISUSE;
}

/* ---- the batch --------------------------------------------------------------------- */

/* Everything between BEGIN and COMMIT. */
static int write_ops(struct batch *b)
{
    for (b->at = 0; b->at < b->n; b->at++) {
        b->ops[b->at].result = 0;
        int rc = do_op(b, &b->ops[b->at]);
        if (rc != SQLITE_OK)
            return rc;
    }
    int rc = bgmqi_store_batch_flush(b);
    if (rc == SQLITE_OK)
        rc = bgmqi_store_batch_flush_history(b);
    if (rc == SQLITE_OK)
        rc = bgmqi_store_batch_prune(b);
    return rc;
}

static void finish(struct batch *b)
{
    for (size_t i = 0; i < b->n_duplicates; i++) {
        const struct duplicate *d = &b->s->room->duplicates[i];
        b->ops[d->op].id = d->owner;
    }
    b->s->history_first = b->history_first;
    b->s->history_last = b->history_last;
}

/* One transaction.  NOT_ALL_THERE, or a failure of an op while gathering: nothing is
 * changed, and without gathering the result will be exact. */
static int try_batch(struct batch *b, enum store_sync sync, struct bgmq_error *text)
{
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(b->s, sync);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        rc = write_ops(b);
    }
    if (rc == NOT_ALL_THERE) {
        rc = bgmqi_store_sqlite_run(b->s, Q_ROLLBACK);
        return rc == SQLITE_OK ? NOT_ALL_THERE
                               : bgmqi_store_sqlite_fail(b->s, rc, STAGE_BODY, text);
    }
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(b->s);
    }
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_fail(b->s, rc, stage, text);
    finish(b);
    return STORE_FAIL_NONE;
}

/* While somebody reads an old state for long, the log grows with every commit.  What takes
 * messages out is let through: it is what makes the log stop. */
static bool log_is_too_long(struct sqlite_store *s, const struct store_op *ops, size_t n)
{
    if (bgmqi_store_upkeep_log_bytes(&s->base) <= s->log_hard)
        return false;
    bool inserts = false;
    for (size_t i = 0; i < n && !inserts; i++)
        inserts = ops[i].kind == STORE_INSERT || ops[i].kind == STORE_SPILL;
    if (!inserts)
        return false;
    bgmqi_store_upkeep_checkpoint(&s->base, 1); /* the reader may be gone */
    return bgmqi_store_upkeep_log_bytes(&s->base) > s->log_hard;
}

static void clear_results(struct store_op *ops, size_t n, size_t guilty)
{
    for (size_t i = 0; i < n; i++)
        ops[i].result = i == guilty ? BGMQ_ESTORE : 0;
}

int bgmqi_store_write_apply(struct store *store, struct store_op *ops, size_t n,
                            enum store_sync sync, struct bgmq_error *text)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    bool too_long = log_is_too_long(s, ops, n); /* a look that may kill the store */
    if (s->dead) {
        bgmqi_err_set(text, 0, "%s", s->why_dead.text);
        return STORE_FAIL_DEAD;
    }
    if (too_long) {
        clear_results(ops, n, n);
        bgmqi_err_set(
            text, 0, "%s: its log is %llu MiB long, and somebody reads an old state",
            s->path, (unsigned long long)(bgmqi_store_upkeep_log_bytes(store) >> 20));
        return STORE_FAIL_FULL;
    }
    if (!bgmqi_store_batch_make_room(s, n)) {
        bgmqi_err_set(text, 0, "out of memory");
        return STORE_FAIL_FULL;
    }
    s->patience_ms = APPLY_PATIENCE_MS;
    struct batch b;
    int failure = NOT_ALL_THERE;
    for (int gather = 1; gather >= 0; gather--) {
        if (failure != NOT_ALL_THERE && failure != STORE_FAIL_OP)
            break;
        b = (struct batch){.s = s,
                           .ops = ops,
                           .n = n,
                           .gather = gather != 0,
                           .history_first = s->history_first,
                           .history_last = s->history_last};
        failure = try_batch(&b, sync, text);
    }
    assert(failure != NOT_ALL_THERE);
    if (failure != STORE_FAIL_NONE)
        clear_results(ops, n, failure == STORE_FAIL_OP ? b.at : n);
    return failure;
}
