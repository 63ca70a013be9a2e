/* journal_writer.c - the thread that writes the journal to the store (see journal.h).
 *
 * Entries travel one way: ARRIVED (under the lock) -> PENDING (the writer's own list, in
 * order) -> a batch -> freed.  Everything here runs on the writer's thread; it holds no lock
 * while it uses the store, makes upcalls or logs. */
#include <assert.h>

#include "flight.h"
#include "fork.h"
#include "journal_impl.h"

enum {
    BATCH_BYTES = 4 << 20,
    /* Messages of a batch that were not recalled, and perhaps go from memory when it is committed:
     * so few that a window has room for them when it runs low, and that the loads between batches
     * bring more than a batch takes away. */
    BATCH_SPILLS = 512
};
#define MS                 INT64_C(1000000)
#define RETRY_FIRST_NS     (10 * MS)
#define RETRY_MOST_NS      (1000 * MS)
#define IDLE_CHECKPOINT_NS (5000 * MS)
#define CLOSE_PATIENCE_NS  (10000 * MS)

/* ---- finishing entries ------------------------------------------------------------- */

static void finish(struct journal *j, struct journal_entry *e, int err)
{
    if (e->tell || (err == 0 && e->op.owner && e->op.result == BGMQ_ELOST)) {
        if (err == 0)
            j->options.events.committed(j->options.events.ctx, &e->op, e->tell);
        else
            j->options.events.dropped(j->options.events.ctx, &e->op, err);
    }
    if (err && e->op.progress)
        bgmqi_progress_missed(e->op.progress);
    /* ELOST: there was no row to end, and never will be. */
    if (e->op.slot_held && (err == 0 || err == BGMQ_ELOST))
        flight_committed(e->op.slot_held, e->op.id);
}

/* Ends a run of whole groups with ERR (0: committed): events first, so that a message is in
 * its place when its publisher returns, then the publishers. */
static void finish_run(struct journal *j, struct journal_entry **run, size_t n, int err)
{
    for (size_t i = 0; i < n; i++)
        finish(j, run[i], err);
    atomic_fetch_sub_explicit(&j->waiting, n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        struct store_op *op = &run[i]->op;
        if (op->ticket && err == 0)
            bgmqi_ticket_set(op->ticket, op->slot, op->id, op->result);
        if (op->ticket && run[i]->group_ends) {
            bgmqi_ticket_finish(op->ticket, err);
            j->released++;
        }
        bgmqi_journal_entry_free(run[i]);
    }
}

/* From here on the message of a SPILL cannot be recalled; if it was, E is an INSERT of which
 * nobody wants to hear. */
static void settle_spill(struct journal_entry *e)
{
    uint8_t seen = INSERT_SPILLED;
    if (e->op.kind != STORE_SPILL ||
        atomic_compare_exchange_strong(&e->op.msg->insert, &seen, INSERT_WRITING) ||
        (seen != INSERT_QUEUED && seen != INSERT_CANCELLED))
        return;
    e->op.kind = STORE_INSERT;
    e->tell = false;
}

/* Drops the first group of PENDING. */
static void drop_group(struct journal *j, int err)
{
    bool last = false;
    while (!last) {
        struct journal_entry *e = j->pending;
        j->pending = e->next;
        last = e->group_ends;
        settle_spill(e);
        finish_run(j, &e, 1, err);
    }
    if (!j->pending)
        j->pending_last = NULL;
}

/* The store has failed: what was in the batch is uncertain, what follows is refused. */
static void fail(struct journal *j, size_t n, const struct bgmq_error *why)
{
    bgmqi_log(j->options.log, BGMQ_LOG_ERROR,
              "the store failed and takes nothing more until it is opened anew: %s",
              why->text);
    atomic_store(&j->state, JOURNAL_FAILED);
    j->idle_since_ns = 0;
    finish_run(j, j->batch, n, BGMQ_EUNCERTAIN);
    while (j->pending)
        drop_group(j, BGMQ_ESTORE);
    j->options.events.failed(j->options.events.ctx);
}

/* ---- batches ----------------------------------------------------------------------- */

/* False when the entry was taken back before it was written; the message then says that nothing
 * of it is in the journal any more. */
static bool claim_insert(struct journal_entry *e)
{
    settle_spill(e);
    if (!e->op.msg || e->op.kind != STORE_INSERT)
        return true;
    uint8_t seen = INSERT_QUEUED;
    for (;;) {
        if (atomic_compare_exchange_strong(&e->op.msg->insert, &seen, INSERT_WRITING) ||
            seen != INSERT_CANCELLED)
            return true;
        if (atomic_compare_exchange_strong(&e->op.msg->insert, &seen, INSERT_NONE))
            return false;
    }
}

/* Takes the next batch of whole groups off PENDING; returns its length, and in *FULL_SYNC
 * whether it has to be synced. */
static size_t batch_take(struct journal *j, size_t max_ops, bool *full_sync)
{
    size_t n = 0, bytes = 0, spills = 0;
    *full_sync = j->hurried = false;
    while (j->pending && n < max_ops && bytes < BATCH_BYTES && spills < BATCH_SPILLS) {
        struct ticket *ticket = j->pending->op.ticket;
        if (ticket && !bgmqi_ticket_begin(ticket)) {
            drop_group(j, BGMQ_EBUSY);
            continue;
        }
        j->hurried |= ticket != NULL;
        size_t first = n;
        bool last = false;
        while (!last) {
            struct journal_entry *e = j->pending;
            j->pending = e->next;
            last = e->group_ends;
            if (!ticket && !claim_insert(e)) {
                if (last &&
                    n > first) /* should the batch come back, the group ends there */
                    j->batch[n - 1]->group_ends = true;
                finish_run(j, &e, 1, BGMQ_ELOST);
                continue;
            }
            assert(n < BATCH_CAP);
            bytes += e->op.msg ? e->op.msg->len : 0;
            *full_sync |= e->op.level == BGMQ_DISK;
            spills += e->op.kind == STORE_SPILL && !ticket;
            j->ops[n] = e->op;
            j->batch[n++] = e;
        }
    }
    if (!j->pending)
        j->pending_last = NULL;
    return n;
}

/* Puts the batch back at the head of PENDING, to be tried again. */
static void batch_return(struct journal *j, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        struct journal_entry *e = j->batch[i];
        if (e->op.ticket && e->group_ends)
            bgmqi_ticket_again(e->op.ticket);
        if (e->op.msg && !e->op.ticket) {
            uint8_t seen = INSERT_WRITING;
            if (e->op.kind == STORE_INSERT || e->op.kind == STORE_SPILL)
                atomic_compare_exchange_strong(
                    &e->op.msg->insert, &seen,
                    e->op.kind == STORE_INSERT ? INSERT_QUEUED : INSERT_SPILLED);
        }
        e->next = j->pending;
        j->pending = e;
        if (!j->pending_last)
            j->pending_last = e;
    }
}

static int apply(struct journal *j, size_t n, bool full_sync, struct bgmq_error *why)
{
    int64_t begun = journal_now_ns();
    atomic_store_explicit(&j->begun_ns, begun, memory_order_relaxed);
    int failure = j->store->ops->apply(
        j->store, j->ops, n, full_sync ? STORE_SYNC_FULL : STORE_SYNC_NORMAL, why);
    atomic_store_explicit(&j->begun_ns, 0, memory_order_relaxed);
    if (failure != STORE_FAIL_NONE)
        return failure;
    for (size_t i = 0; i < n; i++) {
        j->batch[i]->op.result = j->ops[i].result;
        j->batch[i]->op.id = j->ops[i].id;
    }
    int64_t ended = journal_now_ns();
    j->commit_ns = ended - begun;
    atomic_store_explicit(&j->took_ns, j->commit_ns, memory_order_relaxed);
    atomic_store_explicit(&j->ended_ns, ended, memory_order_relaxed);
    atomic_fetch_add(&j->commits, 1);
    atomic_store(&j->full, false);
    return failure;
}

static void retry_later(struct journal *j, int failure, const struct bgmq_error *why)
{
    if (atomic_exchange(&j->state, JOURNAL_RETRYING) != JOURNAL_RETRYING) {
        j->retry_step_ns = RETRY_FIRST_NS;
        if (failure == STORE_FAIL_FULL)
            bgmqi_log(j->options.log, BGMQ_LOG_WARNING,
                      "the store is full, trying on: %s", why->text);
    }
    atomic_store(&j->full, failure == STORE_FAIL_FULL);
    j->retry_ns = journal_now_ns() + j->retry_step_ns;
    j->retry_step_ns *= 2;
    if (j->retry_step_ns > RETRY_MOST_NS)
        j->retry_step_ns = RETRY_MOST_NS;
}

static struct journal_load *take_load(struct journal *j)
{
    lock_take(&j->lock);
    struct journal_load *l = j->loads;
    if (l) {
        j->loads = l->next;
        l->queued = false; /* from here on it may be asked for again */
        j->n_loads--;
    }
    lock_drop(&j->lock);
    return l;
}

/* Runs the loads that were asked for when this turn began: a later one waits for the next turn,
 * which writes what was added before it. */
static void run_loads(struct journal *j)
{
    for (; j->loads_due; j->loads_due--) {
        struct journal_load *l = take_load(j);
        j->options.events.load(j->options.events.ctx, l->owner);
    }
}

/* Between two batches of a long turn: workers that wait for a load do not wait for all of it. */
static void run_loads_between(struct journal *j)
{
    lock_take(&j->lock);
    j->loads_due = j->n_loads;
    lock_drop(&j->lock);
    run_loads(j);
}

/* Writes PENDING out, batch by batch.  MAX_OPS shrinks to one group after a refusal, until the
 * batch that was refused is through. */
static void write_pending(struct journal *j)
{
    size_t max_ops = BATCH_OPS, one_by_one = 0;
    j->retry_ns = 0;
    while (j->pending) {
        bool full_sync;
        struct bgmq_error why = {""};
        size_t n = batch_take(j, max_ops, &full_sync);
        if (n == 0)
            continue;
        int failure = apply(j, n, full_sync, &why);
        if (failure == STORE_FAIL_BUSY || failure == STORE_FAIL_FULL) {
            batch_return(j, n);
            retry_later(j, failure, &why);
            return;
        }
        if (failure == STORE_FAIL_DEAD) {
            fail(j, n, &why);
            return;
        }
        if (failure == STORE_FAIL_OP && max_ops > 1) {
            one_by_one = n;
            max_ops = 1;
            batch_return(j, n);
            continue;
        }
        if (failure == STORE_FAIL_OP)
            bgmqi_log(j->options.log, BGMQ_LOG_ERROR, "the store refused a change: %s",
                      why.text);
        else
            atomic_store(&j->state, JOURNAL_GOOD);
        finish_run(j, j->batch, n, failure == STORE_FAIL_OP ? BGMQ_ESTORE : 0);
        j->idle_since_ns = journal_now_ns();
        bgmqi_journal_tell_slow(j, j->idle_since_ns);
        one_by_one = one_by_one > n ? one_by_one - n : 0;
        if (one_by_one == 0)
            max_ops = BATCH_OPS;
        bgmqi_journal_checkpoint(j, j->idle_since_ns, 0);
        if (j->pending && one_by_one == 0)
            run_loads_between(j);
    }
    /* What was tried again has been taken back. */
    if (atomic_load(&j->state) == JOURNAL_RETRYING)
        atomic_store(&j->state, JOURNAL_GOOD);
}

/* ---- its loop ---------------------------------------------------------------------- */

static void reserve_ids(struct journal *j)
{
    uint64_t limit = atomic_load(&j->id_limit), first;
    if (atomic_load(&j->next_id) + ID_BLOCK / 2 < limit ||
        atomic_load(&j->state) != JOURNAL_GOOD)
        return;
    if (j->store->ops->reserve_ids(j->store, ID_BLOCK, &first) != 0)
        return; /* tried again at the next turn; publishers are told EFULL at the limit */
    assert(first == limit);
    atomic_store_explicit(&j->id_limit, first + ID_BLOCK, memory_order_release);
}

/* REQUIRES(j->lock).  Nanoseconds until what has arrived is to be taken; 0: now. */
static int64_t work_ns_locked(struct journal *j, int64_t now)
{
    if (j->quit || j->loads || (j->tasks && !j->pending))
        return 0;
    int64_t left = PARK_MAX_NS;
    if (j->pending)
        left = j->retry_ns > now ? j->retry_ns - now : 0;
    else if (j->n_arrived >= j->options.flush_batch)
        return 0;
    else if (bgmqi_journal_gather_ns(j, now))
        return bgmqi_journal_gather_ns(j, now);
    else if (j->urgent)
        return 0;
    else if (j->n_arrived)
        left = j->first_ns + j->options.flush_interval_ms * MS - now;
    return left > 0 ? left : 0;
}

/* REQUIRES(j->lock).  Likewise until there is anything to do; what has arrived may linger on. */
static int64_t idle_ns_locked(struct journal *j, int64_t now)
{
    int64_t left = work_ns_locked(j, now), care_ns = bgmqi_journal_care_ns(j);
    if (j->idle_since_ns && !j->pending &&
        j->idle_since_ns + IDLE_CHECKPOINT_NS - now < left)
        left = j->idle_since_ns + IDLE_CHECKPOINT_NS - now;
    if (!j->pending && care_ns - now < left && atomic_load(&j->state) != JOURNAL_FAILED)
        left = care_ns - now;
    return left > 0 ? left : 0;
}

/* Waits for work, then moves what has arrived to PENDING. */
static void take_arrived(struct journal *j)
{
    int64_t now = journal_now_ns();
    lock_take(&j->lock);
    bgmqi_journal_gather_begin(j, now);
    int64_t left = idle_ns_locked(j, now);
    if (left > 0) {
        j->sleeping = true;
        lock_drop(&j->lock);
        bgmqi_park_wait(&j->park, left);
        lock_take(&j->lock);
        j->sleeping = false;
    }
    bool due = work_ns_locked(j, journal_now_ns()) == 0;
    if (due)
        bgmqi_journal_gather_end(j);
    if (due && j->arrived) {
        if (j->pending)
            j->pending_last->next = j->arrived;
        else
            j->pending = j->arrived;
        j->pending_last = j->arrived_last;
        j->arrived = j->arrived_last = NULL;
        j->n_arrived = 0;
    }
    if (due)
        j->urgent = false; /* also when who is in a hurry has added nothing */
    j->loads_due = j->n_loads;
    j->tasks_due = due ? j->n_tasks : 0;
    lock_drop(&j->lock);
}

/* Runs what was asked for when this turn began, unless changes made before it could not be
 * written: then it waits with them. */
static void run_tasks(struct journal *j)
{
    bool failed = atomic_load(&j->state) == JOURNAL_FAILED;
    while (j->tasks_due && (failed || !j->pending)) {
        lock_take(&j->lock);
        struct journal_task *t = j->tasks;
        if (t) {
            j->tasks = t->next;
            j->n_tasks--;
            t->started = true;
        }
        lock_drop(&j->lock);
        j->tasks_due = t ? j->tasks_due - 1 : 0;
        if (!t)
            return; /* whoever asked has gone */
        if (failed)
            t->err = BGMQ_ESTORE;
        else
            t->fn(t->ctx, j->store);
        lock_take(
            &j->lock); /* the caller leaves, and T with it, once it has had the lock */
        atomic_store(&t->done, true);
        bgmqi_park_wake(&t->park);
        lock_drop(&j->lock);
    }
}

/* True when the journal is being closed and has nothing left, or no hope to write it. */
static bool may_end(struct journal *j)
{
    lock_take(&j->lock);
    bool quit = j->quit, empty = !j->arrived && !j->tasks;
    lock_drop(&j->lock);
    if (!quit)
        return false;
    if (j->quit_ns == 0)
        j->quit_ns = journal_now_ns();
    if (!j->pending && empty)
        return true;
    if (journal_now_ns() - j->quit_ns < CLOSE_PATIENCE_NS)
        return false;
    bgmqi_log(j->options.log, BGMQ_LOG_ERROR,
              "closed with %llu changes that could not be written",
              (unsigned long long)atomic_load(&j->waiting));
    while (j->pending)
        drop_group(j, BGMQ_ESTORE);
    return true;
}

/* Who reads may meet what ends the store; workers would ask it for more again and again. */
static void look_after_reading(struct journal *j)
{
    struct bgmq_error why = {""};
    if (atomic_load(&j->state) != JOURNAL_FAILED && bgmqi_journal_look(j, &why) != 0)
        fail(j, 0, &why);
}

/* Nothing waits to be written. */
static void care(struct journal *j, int64_t now)
{
    struct bgmq_error why = {""};
    if (atomic_load(&j->state) == JOURNAL_FAILED)
        return;
    if (j->idle_since_ns && now - j->idle_since_ns >= IDLE_CHECKPOINT_NS) {
        bgmqi_journal_checkpoint(j, now, 1);
        j->idle_since_ns = j->held ? now : 0; /* until its reader has gone */
    }
    if (bgmqi_journal_care(j, now, &why) != 0)
        fail(j, 0, &why);
}

/* Does what take_arrived() has found to do. */
static void turn(struct journal *j)
{
    int64_t now = journal_now_ns();
    if (atomic_load(&j->state) == JOURNAL_FAILED) {
        while (j->pending)
            drop_group(j, BGMQ_ESTORE);
        run_loads(j);
        run_tasks(j);
        return;
    }
    reserve_ids(j);
    if (!j->pending || j->retry_ns <= now || !j->retry_step_ns)
        write_pending(j);
    else if (j->quit_ns)
        bgmqi_park_wait(&j->park, j->retry_ns - now);
    bool reads = j->loads_due || j->tasks_due;
    run_loads(j);
    run_tasks(j);
    if (reads)
        look_after_reading(j);
    if (!j->pending)
        care(j, now);
}

void *bgmqi_journal_writer(void *arg)
{
    struct journal *j = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    do {
        take_arrived(j);
        bgmqi_fork_enter();
        turn(j);
        bgmqi_fork_leave();
    } while (!may_end(j));
    return NULL;
}
