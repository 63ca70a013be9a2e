/* tx_job.c - a handler that ends its attempt in a transaction of its own.
 *
 * The worker's thread, which uses the connection, too.  The fence is in memory (bgmqi_desk_hold):
 * from the call until the end of the transaction nobody can give the attempt up.  The row goes,
 * or moves, by the transaction; what memory makes of it follows when the handler has returned
 * (worker.c).  Of a message that has no row yet, because its INSERT waits in the journal, that
 * INSERT is taken back, and given back when the transaction is undone. */
#include "tx_job.h"

#include <stdlib.h>

#include "park.h"
#include "reply.h"
#include "store_open.h"
#include "tx_sql.h"

#define MS INT64_C(1000000)

enum { WRITTEN_TRIES = 5000 }; /* milliseconds to wait for a row that is being written */

enum tx_state { TX_OPEN, TX_PENDING, TX_COMMITTED };

/* One attempt.  Freed by the worker when its handler has returned, or, should a transaction
 * outlive that, with the last that waits for it. */
struct tx_end {
    struct tx_item item, mark;
    struct bgmq_job *job; /* NULL: the handler has returned */
    sqlite3 *db;          /* on which something is pending */
    unsigned pending;
    enum tx_state state; /* of the end */
    bool marked;         /* the transaction that bgmq_job_transaction began is open */
    struct type *type;
    struct message *m;           /* a reference */
    struct journal_entry *entry; /* to write the INSERT that was taken back; or NULL */
    struct settlement settlement;
    bool replied;
};

static void end_free(struct tx_end *e)
{
    bgmqi_failure_unref(e->settlement.failure);
    bgmqi_journal_entry_free(e->entry);
    bgmqi_message_unref(e->m);
    free(e);
}

void bgmqi_tx_job_pend(struct tx_end *e, sqlite3 *db)
{
    e->pending++;
    e->db = db;
}

struct bgmq_job *bgmqi_tx_job_unpend(struct tx_end *e)
{
    struct bgmq_job *job = e->job;
    if (--e->pending == 0 && !job)
        end_free(e);
    return job;
}

int bgmqi_tx_job_conn(struct bgmq_job *job, sqlite3 *db, struct tx_conn **ret)
{
    if (!job || !db || sqlite3_get_autocommit(db))
        return BGMQ_EINVAL;
    struct bgmq *mq = job->env->service;
    int err = bgmqi_handle_enter(mq);
    if (!err)
        err = bgmqi_tx_conn(mq, db, ret);
    if (err)
        return err;
    if (!bgmqi_desk_owns(job->desk) || (job->tx && job->tx->state != TX_OPEN))
        return BGMQ_ELOST;
    if (job->tx)
        return 0;
    if (!(job->tx = calloc(1, sizeof(*job->tx))))
        return BGMQ_ENOMEM;
    job->tx->job = job;
    job->tx->type = job->type;
    job->tx->m = job->message;
    bgmqi_message_ref(job->message);
    return 0;
}

/* ---- what becomes of the transaction ----------------------------------------------- */

static void end_committed(struct tx_item *item, struct bgmq *mq)
{
    struct tx_end *e = (struct tx_end *)item;
    e->state = TX_COMMITTED;
    bgmqi_tx_job_unpend(e);
}

/* As if it had never been asked for. */
static void take_nothing(struct tx_end *e, const struct bgmq *mq)
{
    if (e->entry && mq)
        bgmqi_type_reinsert(e->type, e->m, e->entry);
    else
        bgmqi_journal_entry_free(e->entry);
    e->entry = NULL;
    bgmqi_failure_unref(e->settlement.failure);
    e->settlement = (struct settlement){.how = SETTLE_DONE};
    e->replied = false;
    e->state = TX_OPEN;
}

static void end_undone(struct tx_item *item, struct bgmq *mq)
{
    struct tx_end *e = (struct tx_end *)item;
    take_nothing(e, mq);
    struct bgmq_job *job = bgmqi_tx_job_unpend(e);
    if (job)
        bgmqi_desk_unhold(job->desk);
}

static void mark_over(struct tx_item *item, struct bgmq *mq)
{
    struct tx_end *e = (struct tx_end *)((char *)item - offsetof(struct tx_end, mark));
    e->marked = false;
    bgmqi_tx_job_unpend(e);
}

/* ---- the row ----------------------------------------------------------------------- */

/* Takes the row of OP's message out of the database, or its INSERT out of the journal.  ELOST:
 * there is none; EBUSY: the journal has been writing it all the time. */
static int take_row(struct tx_end *e, sqlite3 *db, const struct store_op *op)
{
    struct park nobody = {0};
    for (unsigned tries = 0;; tries++) {
        bool found;
        int rc = bgmqi_tx_sql_remove(db, op, &found);
        if (rc != SQLITE_OK || found)
            return bgmqi_tx_sql_err(rc);
        struct journal_entry *entry = bgmqi_journal_entry_new();
        if (!entry)
            return BGMQ_ENOMEM;
        if (bgmqi_journal_take_back(e->m)) {
            e->entry = entry;
            return 0;
        }
        bgmqi_journal_entry_free(entry);
        uint8_t insert = atomic_load(&e->m->insert);
        if (insert != INSERT_WRITING && insert != INSERT_PASSED)
            return BGMQ_ELOST;
        if (tries == WRITTEN_TRIES)
            return BGMQ_EBUSY;
        /* The journal waits for the lock we have: soon it lets go of its batch. */
        bgmqi_park_wait(&nobody, MS);
    }
}

/* What is true of JOB's message now. */
static struct store_op op_of(struct bgmq_job *job, enum outcome how)
{
    const struct message *m = job->message;
    struct store_op op = {.type = bgmqi_type_number(job->type),
                          .id = m->id,
                          .seq = m->seq,
                          .attempt = m->attempt,
                          .run = m->run,
                          .crashes = m->crashes,
                          .at_ms = clock_wall_ms(job->env->clock),
                          .msg = job->message,
                          .failure = message_failure(m),
                          .flags = m->kept ? OP_KEPT : 0};
    bgmqi_desk_describe(job->desk, how, &op);
    return op;
}

static int write_done(struct tx_end *e, sqlite3 *db, struct bgmq_job *job)
{
    if (e->m->row == ROW_NONE)
        return 0;
    bgmqi_worker_keep_result(job);
    struct store_op op = op_of(job, OUTCOME_DONE);
    op.progress = message_progress(e->m);
    int err = take_row(e, db, &op);
    return err ? err : bgmqi_tx_sql_err(bgmqi_tx_sql_end(db, &op));
}

static int write_failed(struct tx_end *e, sqlite3 *db, struct bgmq_job *job)
{
    struct settlement *s = &e->settlement;
    bool dead = s->how == SETTLE_DEAD;
    if (e->m->row == ROW_NONE)
        return 0;
    struct store_op op = op_of(job, dead ? OUTCOME_DEAD : OUTCOME_NONE);
    op.flags &= (uint8_t)~OP_KEPT; /* it goes on, if only as a dead one */
    op.failure = s->failure;
    op.seq = s->seq;
    op.key = s->due_ms;
    op.lane = dead ? LANE_DLQ : LANE_DELAYED;
    op.crashes = 0;
    int err = take_row(e, db, &op);
    int rc = err ? SQLITE_OK : bgmqi_tx_sql_insert(db, &op, true);
    if (!err && rc == SQLITE_OK)
        rc = bgmqi_tx_sql_error(db, &op);
    if (!err && rc == SQLITE_OK && dead)
        rc = bgmqi_tx_sql_end(db, &op);
    return err ? err : bgmqi_tx_sql_err(rc);
}

/* ---- the answer -------------------------------------------------------------------- */

struct answer {
    sqlite3 *db;
    bool sent;
};

/* An answer to a type is part of the transaction; one to a queue in memory waits for its end. */
static int answer_in_tx(struct bgmq *mq, const struct publication *p, void *ctx)
{
    struct answer *a = ctx;
    struct publication in = *p;
    struct bgmq_message_options o = *p->options;
    if (p->queue) {
        struct address to = {.place = PLACE_NONE};
        int err = bgmqi_registry_lookup(mq->registry, p->queue, &to);
        bgmqi_custom_unref(to.custom);
        if (err || !to.type || (to.place != PLACE_INQ && to.place != PLACE_PRIORITYQ))
            return 0;
        in.queue = NULL;
        in.type = bgmqi_type_name(to.type);
        o.priority = to.place == PLACE_PRIORITYQ ? 1 : 0;
        in.options = &o;
    }
    int err = bgmqi_tx_publish(mq, a->db, &in, NULL);
    a->sent = !err;
    return err;
}

static int answer(struct tx_end *e, sqlite3 *db, struct bgmq_job *job, bool failed)
{
    const struct message_ext *x = message_ext(e->m);
    bool wanted = (!failed && job->response_type) || (x && x->reply_to);
    struct answer a = {.db = db};
    if (!wanted || e->m->row == ROW_NONE)
        return 0;
    int err = bgmqi_reply_by(job->env->service, job, failed, answer_in_tx, &a);
    e->replied = a.sent;
    return err;
}

/* ---- the end ----------------------------------------------------------------------- */

typedef int write_fn(struct tx_end *e, sqlite3 *db, struct bgmq_job *job);

/* Runs WRITE and sends the answer, all of it or nothing. */
static int in_savepoint(struct bgmq_job *job, sqlite3 *db, write_fn *write)
{
    struct tx_end *e = job->tx;
    bool failed = e->settlement.how == SETTLE_DEAD;
    int rc = sqlite3_exec(db, "SAVEPOINT bgmq_end_of_job", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return bgmqi_tx_sql_err(rc);
    int err = write(e, db, job);
    if (!err && e->settlement.how != SETTLE_RETRY)
        err = answer(e, db, job, failed);
    if (err && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK TO bgmq_end_of_job", NULL, NULL, NULL);
    if (!sqlite3_get_autocommit(db))
        rc = sqlite3_exec(db, "RELEASE bgmq_end_of_job", NULL, NULL, NULL);
    return err ? err : bgmqi_tx_sql_err(rc);
}

/* Ends the attempt as SETTLEMENT says, whose failure it takes. */
static int end(struct bgmq_job *job, sqlite3 *db, struct tx_conn *c, struct settlement *s,
               write_fn *write)
{
    struct tx_end *e = job->tx;
    if (!bgmqi_desk_hold(job->desk)) {
        bgmqi_failure_unref(s->failure);
        return BGMQ_ELOST;
    }
    e->settlement = *s;
    sqlite3_int64 rowid = sqlite3_last_insert_rowid(db);
    int err = bgmqi_tx_sql_err(bgmqi_tx_signal_join(c));
    if (!err)
        err = in_savepoint(job, db, write);
    sqlite3_set_last_insert_rowid(db, rowid);
    if (err) {
        take_nothing(e, job->env->service);
        bgmqi_desk_unhold(job->desk);
        return err;
    }
    e->item = (struct tx_item){.committed = end_committed, .undone = end_undone};
    e->state = TX_PENDING;
    bgmqi_tx_job_pend(e, db);
    bgmqi_tx_signal_add(c, &e->item);
    return 0;
}

int bgmq_job_complete_tx(struct bgmq_job *job, struct sqlite3 *db)
{
    struct tx_conn *c;
    struct settlement s = {.how = SETTLE_DONE, .elsewhere = true};
    int err = bgmqi_tx_job_conn(job, db, &c);
    return err ? err : end(job, db, c, &s, write_done);
}

/* When the attempt after this one is due. */
static int64_t next_due(struct bgmq_job *job)
{
    uint64_t random = job->message->id * 31 + job->message->run;
    int64_t now = clock_wall_ms(job->env->clock);
    return now + bgmqi_retry_delay(&bgmqi_type_config(job->type)->retry,
                                   job->message->attempt, bgmqi_random_next(&random));
}

int bgmq_job_fail_tx(struct bgmq_job *job, struct sqlite3 *db, enum bgmq_verdict verdict,
                     const char *code, const char *text)
{
    struct tx_conn *c;
    if (verdict != BGMQ_RETRY && verdict != BGMQ_PERMANENT)
        return BGMQ_EINVAL;
    int err = bgmqi_tx_job_conn(job, db, &c);
    if (err)
        return err;
    bgmqi_worker_note(job, code ? code : "Failed", text ? text : "");
    struct settlement s = {.how = SETTLE_RETRY, .failed = true, .elsewhere = true};
    if (verdict == BGMQ_PERMANENT || job->message->attempt >= bgmq_job_max_attempts(job))
        s.how = SETTLE_DEAD;
    else
        s.due_ms = next_due(job);
    if (!job->failure)
        return BGMQ_ENOMEM;
    if ((s.seq = bgmqi_type_draw(job->type)) == 0)
        return BGMQ_EFULL;
    s.failure = bgmqi_failure_ref(job->failure);
    return end(job, db, c, &s, write_failed);
}

/* ---- all of it --------------------------------------------------------------------- */

static int note_error(struct bgmq_job *job, int err, const char *doing)
{
    char text[128];
    snprintf(text, sizeof(text), "%s: %s", doing, bgmq_strerror(err));
    bgmqi_worker_note(job, bgmq_errname(err), text);
    return BGMQ_RETRY;
}

static void do_nothing(void *ctx, struct store *s)
{
}

/* True while the journal may have something of JOB's message.  Of one that was given up, which is
 * not ours to look at, nothing will be written. */
static bool is_in_journal(struct bgmq_job *job)
{
    const struct message *m = job->message;
    if (!bgmqi_desk_hold(job->desk))
        return false;
    uint8_t insert = atomic_load(&m->insert);
    bool is = insert == INSERT_WRITING || insert == INSERT_PASSED ||
              (m->row == ROW_BACKLOG && m->run > 1) || m->kept;
    bgmqi_desk_unhold(job->desk);
    return is;
}

/* Has the journal write what it has of JOB's message: once we have the lock it cannot. */
static int settle_journal(struct bgmq_job *job)
{
    struct bgmq *mq = job->env->service;
    return is_in_journal(job) && mq->journal
               ? bgmqi_journal_run(mq->journal, do_nothing, NULL,
                                   mq->config.publish_timeout_ms * MS)
               : 0;
}

/* Begins a transaction that we will know again.  0, or a verdict. */
static int begin(struct bgmq_job *job, sqlite3 *db)
{
    struct tx_conn *c;
    int err = settle_journal(job);
    if (!err)
        err = bgmqi_tx_sql_err(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
    if (err)
        return note_error(job, err, "BEGIN IMMEDIATE");
    err = bgmqi_tx_job_conn(job, db, &c);
    if (!err)
        err = bgmqi_tx_sql_err(bgmqi_tx_signal_join(c));
    if (err) {
        bgmqi_store_open_roll_back(db);
        return note_error(job, err, "the connection");
    }
    struct tx_end *e = job->tx;
    e->mark = (struct tx_item){.committed = mark_over, .undone = mark_over};
    e->marked = true;
    bgmqi_tx_job_pend(e, db);
    bgmqi_tx_signal_add(c, &e->mark);
    return 0;
}

/* The handler's function returned DONE, in the transaction we began. */
static int finish(struct bgmq_job *job, sqlite3 *db)
{
    const char *doing = "bgmq_job_complete_tx";
    int err = job->tx->state == TX_OPEN ? bgmq_job_complete_tx(job, db) : 0;
    if (!err) {
        doing = "COMMIT";
        err = bgmqi_tx_sql_err(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL));
    }
    if (!err)
        return BGMQ_DONE;
    bgmqi_store_open_roll_back(db);
    return note_error(job, err, doing);
}

int bgmq_job_transaction(struct bgmq_job *job, struct sqlite3 *db, bgmq_tx_fn *fn,
                         void *ctx)
{
    if (!job)
        return BGMQ_EINVAL;
    if (!db || !fn || (job->tx && job->tx->state != TX_OPEN))
        return note_error(job, BGMQ_EINVAL, "bgmq_job_transaction");
    if (!sqlite3_get_autocommit(db))
        return bgmq_job_fail(job, BGMQ_RETRY, "Transaction",
                             "the connection has a transaction open: is it shared by"
                             " threads?");
    int verdict = begin(job, db);
    if (verdict)
        return verdict;
    verdict = fn(job, db, ctx);
    if (!job->tx->marked) {
        bgmqi_store_open_roll_back(db);
        return bgmq_job_fail(job, BGMQ_RETRY, "Transaction",
                             "the handler ended the transaction it was given");
    }
    if (verdict == BGMQ_DONE)
        return finish(job, db);
    bgmqi_store_open_roll_back(db);
    return verdict;
}

/* ---- after the handler ------------------------------------------------------------- */

/* The handler left a transaction open that we have to do with. */
static enum bgmq_verdict end_for_it(struct bgmq_job *job)
{
    static const char text[] = "the handler left its transaction open";
    bgmqi_log(job->env->log, BGMQ_LOG_ERROR, "%s: message %llu: %s; it is rolled back",
              bgmqi_type_name(job->type), (unsigned long long)job->message->id, text);
    bgmqi_store_open_roll_back(job->tx->db);
    bgmqi_worker_note(job, "Transaction", text);
    return BGMQ_RETRY;
}

enum bgmq_verdict bgmqi_tx_job_over(struct bgmq_job *job, enum bgmq_verdict verdict)
{
    struct tx_end *e = job->tx;
    if (e->pending)
        verdict = end_for_it(job);
    if (e->state == TX_COMMITTED) {
        job->settled = true;
        job->settlement = e->settlement;
        job->replied = e->replied;
        e->settlement.failure = NULL;
    }
    job->tx = NULL;
    e->job = NULL;
    if (!e->pending)
        end_free(e);
    return verdict;
}
