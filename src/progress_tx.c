/* progress_tx.c - bgmq_job_save_cursor_tx: a cursor that is saved with the work it speaks of.
 *
 * The worker's thread, which uses the connection, too.  The row is written in the handler's
 * transaction; memory knows the cursor from its commit on.  In between the journal must not write
 * the cursor of before, which its entries still carry: progress.held tells it so, and what it then
 * skipped it is asked for again at the end. */
#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "tx_job.h"
#include "tx_sql.h"

/* A cursor in an open transaction. */
struct cursor {
    struct tx_item item;
    struct tx_end *end;
    struct progress *p;          /* a reference */
    struct journal_entry *entry; /* for what the journal skipped */
    void *bytes;                 /* or NULL */
    size_t len;
    size_t taken; /* of the budget, until it is the progress's */
};

static void cursor_free(struct cursor *c)
{
    if (!c)
        return;
    bgmqi_mem_give(c->p->budget, c->taken);
    bgmqi_progress_unref(c->p);
    bgmqi_journal_entry_free(c->entry);
    free(c->bytes);
    free(c);
}

/* The transaction is over.  True: the journal has skipped something. */
static bool let_go(struct cursor *c, bool committed)
{
    struct progress *p = c->p;
    lock_take(&p->lock);
    if (committed) {
        void *old = p->cursor;
        p->cursor = c->bytes;
        p->cursor_len = c->len;
        c->bytes = old;
        bgmqi_progress_charge(p, c->taken);
        c->taken = 0;
    }
    bool again = --p->held == 0 && p->skipped && !p->queued;
    if (again) {
        p->skipped = false;
        p->queued = true;
    }
    lock_drop(&p->lock);
    return again;
}

static void over(struct cursor *c, const struct bgmq *mq, bool committed)
{
    bool again = let_go(c, committed);
    struct bgmq_job *job = bgmqi_tx_job_unpend(c->end);
    if (again && job && mq) { /* while it is held */
        bgmqi_type_keep(job->type, job->message, c->p, c->entry, BGMQ_BEHIND, NULL);
        c->entry = NULL;
    }
    if (job)
        bgmqi_desk_unhold(job->desk);
    cursor_free(c);
}

static void committed(struct tx_item *item, struct bgmq *mq)
{
    over((struct cursor *)item, mq, true);
}

static void undone(struct tx_item *item, struct bgmq *mq)
{
    over((struct cursor *)item, mq, false);
}

static struct cursor *cursor_new(struct bgmq_job *job, const void *bytes, size_t len)
{
    struct cursor *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->item = (struct tx_item){.committed = committed, .undone = undone};
    c->end = job->tx;
    c->p = bgmqi_progress_ref(job->progress);
    c->len = c->taken = len;
    c->entry = bgmqi_journal_entry_new();
    c->bytes = bytes ? bgmqi_progress_bytes(bytes, len) : NULL;
    if (c->entry && (!bytes || c->bytes))
        return c;
    cursor_free(c);
    return NULL;
}

/* A message that has no row, and never gets one, keeps its cursor in memory. */
static int write_row(struct bgmq_job *job, sqlite3 *db, const struct cursor *c)
{
    if (job->message->row == ROW_NONE)
        return 0;
    /* From here on its INSERT is not taken back without this row. */
    job->message->kept = true;
    return bgmqi_tx_sql_err(bgmqi_tx_sql_cursor(db, job->message->id, c->bytes, c->len));
}

int bgmq_job_save_cursor_tx(struct bgmq_job *job, struct sqlite3 *db, const void *bytes,
                            size_t len)
{
    struct tx_conn *conn;
    if ((!bytes && len) || len > BGMQI_CURSOR_MAX)
        return BGMQ_EINVAL;
    int err = bgmqi_tx_job_conn(job, db, &conn);
    if (err)
        return err;
    if (!bgmqi_desk_hold(job->desk))
        return BGMQ_ELOST;
    err = bgmqi_progress_prepare(job);
    if (!err)
        err = bgmqi_progress_room(job, len);
    struct cursor *c = err ? NULL : cursor_new(job, bytes, len);
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(db);
    if (c)
        err = bgmqi_tx_sql_err(bgmqi_tx_signal_join(conn));
    if (c && !err)
        err = write_row(job, db, c);
    sqlite3_set_last_insert_rowid(db, rowid);
    if (!c && !err)
        bgmqi_mem_give(job->progress->budget, len);
    if (!c || err) {
        cursor_free(c);
        bgmqi_desk_unhold(job->desk);
        return err ? err : BGMQ_ENOMEM;
    }
    /* We have the lock of the database, so the journal is not in the middle of writing it. */
    lock_take(&c->p->lock);
    c->p->held++;
    lock_drop(&c->p->lock);
    bgmqi_tx_job_pend(c->end, db);
    bgmqi_tx_signal_add(conn, &c->item);
    return 0;
}
