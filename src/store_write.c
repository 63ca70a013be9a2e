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
#include "store_bind.h"

/* ---- unique keys ------------------------------------------------------------------- */

static const char *unique_key(const struct store_op *op)
{
    return op->msg && op->msg->ext ? op->msg->ext->unique_key : NULL;
}

static sqlite3_stmt *bind_unique(struct sqlite_store *s, enum statement q,
                                 const struct store_op *op)
{
    sqlite3_bind_int64(s->q[q], 1, op->type);
    bgmqi_store_bind_text(s->q[q], 2, unique_key(op));
    if (q != Q_UNIQUE_OWNER)
        sqlite3_bind_int64(s->q[q], 3, (int64_t)op->id);
    return s->q[q];
}

/* Takes the key of OP, or notes in OP->result that an unfinished message has it. */
static int take_key(struct batch *b, struct store_op *op)
{
    bind_unique(b->s, Q_UNIQUE_TAKE, op);
    int rc = bgmqi_store_sqlite_run(b->s, Q_UNIQUE_TAKE);
    if (rc != SQLITE_OK || sqlite3_changes64(b->s->w) == 1)
        return rc;
    sqlite3_stmt *q = bind_unique(b->s, Q_UNIQUE_OWNER, op);
    rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        b->s->room->duplicates[b->n_duplicates++] = (struct duplicate){
            .op = b->at, .owner = (uint64_t)sqlite3_column_int64(q, 0)};
        op->result = BGMQ_EEXIST;
    }
    sqlite3_reset(q);
    if (rc != SQLITE_DONE)
        return rc == SQLITE_ROW ? SQLITE_OK : rc;
    bind_unique(b->s, Q_UNIQUE_GIVE, op);
    return bgmqi_store_sqlite_run(b->s, Q_UNIQUE_GIVE);
}

static int drop_key(struct batch *b, const struct store_op *op)
{
    if (!unique_key(op))
        return SQLITE_OK;
    bind_unique(b->s, Q_UNIQUE_DROP, op);
    return bgmqi_store_sqlite_run(b->s, Q_UNIQUE_DROP);
}

/* ---- the ops ----------------------------------------------------------------------- */

static int insert_backlog(struct batch *b, const struct store_op *op)
{
    sqlite3_stmt *q = b->s->q[Q_BACKLOG_INSERT];
    bgmqi_store_bind_job(q, 1, op);
    int rc = bgmqi_store_bind_ext(q, 13, op->msg->ext);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int(q, 20, op->lane);
    sqlite3_bind_int64(q, 21, op->key);
    bgmqi_store_bind_failure(q, 22, op->failure);
    return bgmqi_store_sqlite_run(b->s, Q_BACKLOG_INSERT);
}

static int do_insert(struct batch *b, struct store_op *op)
{
    if (!op->msg->ext)
        return bgmqi_store_batch_insert(b, op);
    int rc = unique_key(op) ? take_key(b, op) : SQLITE_OK;
    if (rc != SQLITE_OK || op->result)
        return rc;
    sqlite3_stmt *q = b->s->q[Q_JOB_INSERT_EXT];
    bgmqi_store_bind_job(q, 1, op);
    rc = bgmqi_store_bind_ext(q, 13, op->msg->ext);
    return rc == SQLITE_OK ? bgmqi_store_sqlite_run(b->s, Q_JOB_INSERT_EXT) : rc;
}

static int do_spill(struct batch *b, struct store_op *op)
{
    int rc = unique_key(op) ? take_key(b, op) : SQLITE_OK;
    return rc != SQLITE_OK || op->result ? rc : insert_backlog(b, op);
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

/* A message that is dead holds its key no longer, and has its row in the history. */
static int after_move(struct batch *b, const struct store_op *op)
{
    if (op->lane != LANE_DLQ)
        return SQLITE_OK;
    int rc = drop_key(b, op);
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
    bgmqi_store_bind_failure(q, 8, op->failure);
    rc = run_on_row(b, Q_BACKLOG_UPDATE, op);
    return rc != SQLITE_OK || op->result ? rc : after_move(b, op);
}

static int do_delete(struct batch *b, struct store_op *op, enum batch_table table)
{
    if (b->gather && !unique_key(op)) {
        int added = bgmqi_store_batch_delete(b, op, table);
        return added == SQLITE_OK ? bgmqi_store_batch_history(b, op) : added;
    }
    int rc = bgmqi_store_batch_flush(b);
    if (rc == SQLITE_OK)
        rc = run_on_row(b, table == JOB ? Q_JOB_DELETE : Q_BACKLOG_DELETE, op);
    if (rc != SQLITE_OK || op->result)
        return rc;
    rc = drop_key(b, op);
    return rc == SQLITE_OK ? bgmqi_store_batch_history(b, op) : rc;
}

static int do_type(struct batch *b, const struct store_op *op)
{
    sqlite3_bind_int64(b->s->q[Q_TYPE_INSERT], 1, op->type);
    bgmqi_store_bind_text(b->s->q[Q_TYPE_INSERT], 2, op->text);
    return bgmqi_store_sqlite_run(b->s, Q_TYPE_INSERT);
}

static int do_op(struct batch *b, struct store_op *op)
{
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
        return bgmqi_store_batch_history(b, op);
    case STORE_UNKEY:
        return drop_key(b, op);
    case STORE_PROGRESS:
    case STORE_REFUSE:
        return SQLITE_OK;
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

static void clear_results(struct store_op *ops, size_t n, size_t guilty)
{
    for (size_t i = 0; i < n; i++)
        ops[i].result = i == guilty ? BGMQ_ESTORE : 0;
}

int bgmqi_store_write_apply(struct store *store, struct store_op *ops, size_t n,
                            enum store_sync sync, struct bgmq_error *text)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead) {
        bgmqi_err_set(text, 0, "%s", s->why_dead.text);
        return STORE_FAIL_DEAD;
    }
    if (!bgmqi_store_batch_make_room(s, n)) {
        bgmqi_err_set(text, 0, "out of memory");
        return STORE_FAIL_FULL;
    }
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
