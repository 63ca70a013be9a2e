/* journal.c - the queue of changes and the thread that writes them (see journal.h).
 *
 * add and ask_load run on any thread, under a type's lock; everything that touches the store
 * runs on the writer's thread, with no lock held.  Entries travel one way: ARRIVED (under the
 * lock) -> PENDING (the writer's own list, in order) -> a batch -> freed. */
#include "journal.h"

#include <assert.h>
#include <stdlib.h>

#include "clock.h"
#include "lock.h"
#include "mem.h"
#include "park.h"
#include "thread.h"

enum {
    BATCH_OPS = 4096,          /* a batch takes no new group beyond this */
    BATCH_CAP = 4 * BATCH_OPS, /* ... and this is the longest a batch can then be */
    BATCH_BYTES = 4 << 20,
    CROWDED = 64 * 1024,
    ID_BLOCK = 1 << 20
};
#define MS                 INT64_C(1000000)
#define RETRY_FIRST_NS     (10 * MS)
#define RETRY_MOST_NS      (1000 * MS)
#define IDLE_CHECKPOINT_NS (5000 * MS)
#define CLOSE_PATIENCE_NS  (10000 * MS)

struct journal {
    /* set once, then read only */
    struct store *store;
    struct journal_options options;
    pthread_t thread;
    struct park park; /* of the writer */

    _Atomic uint64_t next_id, id_limit;
    _Atomic int state; /* enum journal_state */
    _Atomic int full;  /* the last failure was a full disk */
    _Atomic uint64_t commits;
    _Atomic uint64_t waiting; /* entries added, not yet done with */

    struct lock lock;
    /* protected by lock */
    struct journal_entry *arrived, *arrived_last;
    size_t n_arrived;
    int64_t first_ns; /* when the oldest of ARRIVED came */
    struct journal_load *loads, *loads_last;
    size_t n_loads;
    bool urgent;   /* somebody waits for what has arrived */
    bool sleeping; /* the writer is parked, or about to */
    bool quit;
    bool ended; /* the writer is gone */

    /* used by the writer's thread only */
    struct journal_entry *pending, *pending_last;
    int64_t retry_ns, retry_step_ns; /* when to try PENDING again; 0: not waiting to */
    int64_t idle_since_ns; /* last commit not followed by an idle check-point; 0: none */
    int64_t quit_ns;
    struct store_op ops[BATCH_CAP];
    struct journal_entry *batch[BATCH_CAP];
};

static int64_t now_ns(void)
{
    return clock_mono_ns(&bgmqi_clock_system);
}

/* ---- entries --------------------------------------------------------------------------- */

struct journal_entry *bgmqi_journal_entry_new(void)
{
    struct journal_entry *e = bgmqi_mem_alloc(sizeof(*e));
    if (e)
        *e = (struct journal_entry){.group_ends = false};
    return e;
}

void bgmqi_journal_entry_free(struct journal_entry *e)
{
    if (!e)
        return;
    bgmqi_message_unref(e->op.msg);
    bgmqi_failure_unref(e->op.failure);
    free(e->op.text);
    bgmqi_mem_free(e, sizeof(*e));
}

bool bgmqi_journal_take_back(struct message *m)
{
    uint8_t seen = INSERT_QUEUED;
    return atomic_compare_exchange_strong(&m->insert, &seen, INSERT_CANCELLED);
}

/* ---- what any thread may call ------------------------------------------------------------ */

/* REQUIRES(j->lock).  True when the writer has to be woken, after the lock is dropped. */
static bool rouse_locked(struct journal *j)
{
    bool wake = j->sleeping;
    j->sleeping = false;
    return wake;
}

void bgmqi_journal_add(struct journal *j, struct journal_entry *first,
                       struct journal_entry *last)
{
    size_t n = 1;
    bool waits = first->op.ticket != NULL;
    for (struct journal_entry *e = first; e != last; e = e->next)
        n++;
    last->next = NULL;
    last->group_ends = true;
    atomic_fetch_add_explicit(&j->waiting, n, memory_order_relaxed);

    struct ticket *orphan = NULL;
    lock_take(&j->lock);
    if (j->ended) {
        orphan = first->op.ticket;
        for (struct journal_entry *e = first; e; e = e->next)
            e->op.ticket = NULL;
    }
    bool was_empty = j->n_arrived == 0;
    if (was_empty) {
        j->arrived = first;
        j->first_ns = waits ? 0 : now_ns();
    } else {
        j->arrived_last->next = first;
    }
    j->arrived_last = last;
    j->n_arrived += n;
    j->urgent |= waits;
    /* The writer sleeps either for want of work or to let a BEHIND batch fill. */
    bool wake =
        (was_empty || waits || j->n_arrived >= j->options.flush_batch) && rouse_locked(j);
    lock_drop(&j->lock);
    if (wake)
        bgmqi_park_wake(&j->park);
    if (orphan)
        bgmqi_ticket_finish(orphan, BGMQ_ECLOSED);
}

void bgmqi_journal_ask_load(struct journal *j, struct journal_load *load)
{
    lock_take(&j->lock);
    bool wake = false;
    if (!load->queued) {
        load->queued = true;
        load->next = NULL;
        if (j->loads)
            j->loads_last->next = load;
        else
            j->loads = load;
        j->loads_last = load;
        j->n_loads++;
        wake = rouse_locked(j);
    }
    lock_drop(&j->lock);
    if (wake)
        bgmqi_park_wake(&j->park);
}

static void rouse(struct journal *j)
{
    lock_take(&j->lock);
    bool wake = rouse_locked(j);
    lock_drop(&j->lock);
    if (wake)
        bgmqi_park_wake(&j->park);
}

uint64_t bgmqi_journal_next_id(struct journal *j)
{
    uint64_t id = atomic_fetch_add_explicit(&j->next_id, 1, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&j->id_limit, memory_order_acquire);
    if (id == limit - ID_BLOCK / 2)
        rouse(j);
    return id < limit ? id : 0;
}

int bgmqi_journal_flush(struct journal *j, int64_t timeout_ns)
{
    struct journal_entry *e = bgmqi_journal_entry_new();
    struct ticket *ticket = bgmqi_ticket_new(1);
    if (!e || !ticket) {
        bgmqi_journal_entry_free(e);
        bgmqi_ticket_discard(ticket);
        return BGMQ_ENOMEM;
    }
    e->op.kind = STORE_NOP;
    e->op.level = BGMQ_DISK;
    e->op.ticket = ticket;
    bgmqi_journal_add(j, e, e);
    int err = bgmqi_ticket_wait(ticket, timeout_ns);
    bgmqi_ticket_release(ticket);
    return err == BGMQ_ETIMEOUT ? bgmqi_journal_timeout_err(j) : err;
}

int bgmqi_journal_timeout_err(struct journal *j)
{
    return atomic_load(&j->full) ? BGMQ_EFULL : BGMQ_EBUSY;
}

bool bgmqi_journal_failed(struct journal *j)
{
    return atomic_load(&j->state) == JOURNAL_FAILED;
}

struct store *bgmqi_journal_store(struct journal *j)
{
    return j->store;
}

bool bgmqi_journal_crowded(struct journal *j)
{
    return atomic_load_explicit(&j->waiting, memory_order_relaxed) > CROWDED;
}

void bgmqi_journal_counts(struct journal *j, uint64_t *commits, uint64_t *waiting,
                          enum journal_state *state)
{
    *commits = atomic_load(&j->commits);
    *waiting = atomic_load(&j->waiting);
    *state = (enum journal_state)atomic_load(&j->state);
}

/* ---- the writer: finishing entries ------------------------------------------------------- */

static void finish(struct journal *j, struct journal_entry *e, int err)
{
    if (e->tell) {
        if (err == 0)
            j->options.events.committed(j->options.events.ctx, &e->op);
        else
            j->options.events.dropped(j->options.events.ctx, &e->op, err);
    }
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
        if (op->ticket && run[i]->group_ends)
            bgmqi_ticket_finish(op->ticket, err);
        bgmqi_journal_entry_free(run[i]);
    }
}

/* Drops the first group of PENDING. */
static void drop_group(struct journal *j, int err)
{
    bool last = false;
    while (!last) {
        struct journal_entry *e = j->pending;
        j->pending = e->next;
        last = e->group_ends;
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
    finish_run(j, j->batch, n, BGMQ_EUNCERTAIN);
    while (j->pending)
        drop_group(j, BGMQ_ESTORE);
    j->options.events.failed(j->options.events.ctx);
}

/* ---- the writer: batches ------------------------------------------------------------------ */

/* False when the entry was taken back before it was written. */
static bool claim_insert(struct journal_entry *e)
{
    if (!e->op.msg || (e->op.kind != STORE_INSERT && e->op.kind != STORE_SPILL))
        return true;
    uint8_t seen = INSERT_QUEUED;
    return atomic_compare_exchange_strong(&e->op.msg->insert, &seen, INSERT_WRITING) ||
           seen != INSERT_CANCELLED;
}

/* Takes the next batch of whole groups off PENDING; returns its length, and in *FULL_SYNC
 * whether it has to be synced. */
static size_t batch_take(struct journal *j, size_t max_ops, bool *full_sync)
{
    size_t n = 0, bytes = 0;
    *full_sync = false;
    while (j->pending && n < max_ops && bytes < BATCH_BYTES) {
        struct ticket *ticket = j->pending->op.ticket;
        if (ticket && !bgmqi_ticket_begin(ticket)) {
            drop_group(j, BGMQ_EBUSY);
            continue;
        }
        bool last = false;
        while (!last) {
            struct journal_entry *e = j->pending;
            j->pending = e->next;
            last = e->group_ends;
            if (!ticket && !claim_insert(e)) {
                finish_run(j, &e, 1, BGMQ_ELOST);
                continue;
            }
            assert(n < BATCH_CAP);
            bytes += e->op.msg ? e->op.msg->len : 0;
            *full_sync |= e->op.level == BGMQ_DISK;
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
                atomic_compare_exchange_strong(&e->op.msg->insert, &seen, INSERT_QUEUED);
        }
        e->next = j->pending;
        j->pending = e;
        if (!j->pending_last)
            j->pending_last = e;
    }
}

static int apply(struct journal *j, size_t n, bool full_sync, struct bgmq_error *why)
{
    int failure = j->store->ops->apply(
        j->store, j->ops, n, full_sync ? STORE_SYNC_FULL : STORE_SYNC_NORMAL, why);
    if (failure != STORE_FAIL_NONE)
        return failure;
    for (size_t i = 0; i < n; i++) {
        j->batch[i]->op.result = j->ops[i].result;
        j->batch[i]->op.id = j->ops[i].id;
    }
    atomic_fetch_add(&j->commits, 1);
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
    j->retry_ns = now_ns() + j->retry_step_ns;
    j->retry_step_ns *= 2;
    if (j->retry_step_ns > RETRY_MOST_NS)
        j->retry_step_ns = RETRY_MOST_NS;
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
        j->idle_since_ns = now_ns();
        one_by_one = one_by_one > n ? one_by_one - n : 0;
        if (one_by_one == 0)
            max_ops = BATCH_OPS;
        j->store->ops->checkpoint(j->store, 0);
    }
}

/* ---- the writer: its loop ------------------------------------------------------------------ */

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

/* REQUIRES(j->lock).  Nanoseconds until there is something to do; 0: now. */
static int64_t idle_ns_locked(struct journal *j, int64_t now)
{
    if (j->quit || j->loads)
        return 0;
    int64_t left = PARK_MAX_NS;
    if (j->pending)
        left = j->retry_ns > now ? j->retry_ns - now : 0;
    else if (j->urgent || j->n_arrived >= j->options.flush_batch)
        return 0;
    else if (j->n_arrived)
        left = j->first_ns + j->options.flush_interval_ms * MS - now;
    if (j->idle_since_ns && j->idle_since_ns + IDLE_CHECKPOINT_NS - now < left)
        left = j->idle_since_ns + IDLE_CHECKPOINT_NS - now;
    return left > 0 ? left : 0;
}

/* Waits for work, then moves what has arrived to PENDING. */
static void take_arrived(struct journal *j)
{
    lock_take(&j->lock);
    int64_t left = idle_ns_locked(j, now_ns());
    if (left > 0) {
        j->sleeping = true;
        lock_drop(&j->lock);
        bgmqi_park_wait(&j->park, left);
        lock_take(&j->lock);
        j->sleeping = false;
        left = idle_ns_locked(j, now_ns());
    }
    if (left == 0 && j->arrived) {
        if (j->pending)
            j->pending_last->next = j->arrived;
        else
            j->pending = j->arrived;
        j->pending_last = j->arrived_last;
        j->arrived = j->arrived_last = NULL;
        j->n_arrived = 0;
        j->urgent = false;
    }
    lock_drop(&j->lock);
}

static struct journal_load *take_load(struct journal *j, size_t *left)
{
    lock_take(&j->lock);
    struct journal_load *l = j->loads;
    if (l) {
        j->loads = l->next;
        l->queued = false; /* from here on it may be asked for again */
        *left = --j->n_loads;
    }
    lock_drop(&j->lock);
    return l;
}

/* Runs the loads asked for by now; those that they ask for wait for the next turn. */
static void run_loads(struct journal *j)
{
    size_t left;
    struct journal_load *l = take_load(j, &left);
    for (size_t i = l ? left : 0; l; l = i-- ? take_load(j, &left) : NULL)
        j->options.events.load(j->options.events.ctx, l->owner);
}

/* True when the journal is being closed and has nothing left, or no hope to write it. */
static bool may_end(struct journal *j)
{
    lock_take(&j->lock);
    bool quit = j->quit, empty = !j->arrived;
    lock_drop(&j->lock);
    if (!quit)
        return false;
    if (j->quit_ns == 0)
        j->quit_ns = now_ns();
    if (!j->pending && empty)
        return true;
    if (now_ns() - j->quit_ns < CLOSE_PATIENCE_NS)
        return false;
    bgmqi_log(j->options.log, BGMQ_LOG_ERROR,
              "closed with %llu changes that could not be written",
              (unsigned long long)atomic_load(&j->waiting));
    while (j->pending)
        drop_group(j, BGMQ_ESTORE);
    return true;
}

static void *writer(void *arg)
{
    struct journal *j = arg;
    do {
        take_arrived(j);
        int64_t now = now_ns();
        if (atomic_load(&j->state) == JOURNAL_FAILED) {
            while (j->pending)
                drop_group(j, BGMQ_ESTORE);
            run_loads(j);
            continue;
        }
        reserve_ids(j);
        if (j->pending && j->retry_ns > now && j->retry_step_ns) {
            bool closing = j->quit_ns != 0;
            if (closing)
                bgmqi_park_wait(&j->park, j->retry_ns - now);
        } else {
            write_pending(j);
        }
        run_loads(j);
        if (j->idle_since_ns && !j->pending &&
            now - j->idle_since_ns >= IDLE_CHECKPOINT_NS) {
            j->idle_since_ns = 0;
            j->store->ops->checkpoint(j->store, 1);
        }
    } while (!may_end(j));
    return NULL;
}

/* ---- open and close ------------------------------------------------------------------------ */

int bgmqi_journal_open(struct journal **ret, struct store *store,
                       const struct journal_options *options)
{
    struct journal *j = calloc(1, sizeof(*j));
    if (!j)
        return BGMQ_ENOMEM;
    uint64_t first;
    if (store->ops->reserve_ids(store, ID_BLOCK, &first) != 0) {
        free(j);
        return BGMQ_ESTORE;
    }
    atomic_init(&j->next_id, first);
    atomic_init(&j->id_limit, first + ID_BLOCK);
    atomic_init(&j->state, JOURNAL_GOOD);
    j->store = store;
    j->options = *options;
    lock_init(&j->lock);
    if (bgmqi_thread_start(&j->thread, "bgmq-journal", options->stack_size, writer, j) !=
        0) {
        lock_fini(&j->lock);
        free(j);
        return BGMQ_ETHREAD;
    }
    *ret = j;
    return 0;
}

void bgmqi_journal_end(struct journal *j)
{
    lock_take(&j->lock);
    bool first = !j->quit;
    j->quit = true;
    lock_drop(&j->lock);
    if (!first)
        return;
    bgmqi_park_wake(&j->park);
    PTHREAD_OK(pthread_join(j->thread, NULL));
    if (atomic_load(&j->state) == JOURNAL_GOOD)
        j->store->ops->return_ids(j->store, atomic_load(&j->next_id));
    j->store->ops->close(j->store);
    lock_take(&j->lock);
    j->ended = true;
    struct journal_entry *late = j->arrived;
    lock_drop(&j->lock);
    for (; late; late = late->next) {
        if (late->op.ticket && late->group_ends)
            bgmqi_ticket_finish(late->op.ticket, BGMQ_ECLOSED);
        late->op.ticket = NULL;
    }
}

void bgmqi_journal_free(struct journal *j)
{
    if (!j)
        return;
    bgmqi_journal_end(j);
    for (struct journal_entry *e = j->arrived, *next; e; e = next) {
        next = e->next;
        bgmqi_journal_entry_free(e);
    }
    lock_fini(&j->lock);
    free(j);
}
