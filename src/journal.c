/* journal.c - the queue of changes: what any thread may ask of the journal (see journal.h).
 *
 * add and ask_load run under a type's lock: they take the journal's lock for a few pointers,
 * and wake the writer (journal_writer.c) when it has reason to get up. */
#include "journal.h"

#include <assert.h>
#include <stdlib.h>

#include "fork.h"
#include "journal_impl.h"
#include "mem.h"
#include "thread.h"

enum { CROWDED = 64 * 1024 };

/* ---- entries ----------------------------------------------------------------------- */

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
    bgmqi_progress_unref(e->op.progress);
    free(e->op.text);
    bgmqi_mem_free(e, sizeof(*e));
}

bool bgmqi_journal_take_back(struct message *m)
{
    uint8_t seen = INSERT_QUEUED;
    return atomic_compare_exchange_strong(&m->insert, &seen, INSERT_CANCELLED);
}

bool bgmqi_journal_give_back(struct message *m)
{
    uint8_t seen = INSERT_CANCELLED;
    if (atomic_compare_exchange_strong(&m->insert, &seen, INSERT_QUEUED))
        return true;
    atomic_store(&m->insert, INSERT_QUEUED);
    return false;
}

bool bgmqi_journal_recall(struct message *m)
{
    uint8_t seen = INSERT_SPILLED;
    if (atomic_compare_exchange_strong(&m->insert, &seen, INSERT_QUEUED))
        return true;
    atomic_store(&m->insert, INSERT_PASSED);
    return false;
}

/* ---- what any thread may call ------------------------------------------------------ */

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
    /* A message of the inbox comes to its place by its commit, so it waits for that, too. */
    bool waits = first->op.ticket || first->op.flags & OP_INBOX;
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
        j->first_ns = waits ? 0 : journal_now_ns();
    } else {
        j->arrived_last->next = first;
    }
    j->arrived_last = last;
    j->n_arrived += n;
    j->urgent |= waits;
    j->n_waiters += waits;
    /* The writer sleeps for want of work, to let a BEHIND batch fill, or until those it has just
     * released are back. */
    bool wake = j->n_arrived >= j->options.flush_batch ||
                ((was_empty || waits) && j->n_waiters >= j->gather);
    wake = wake && rouse_locked(j);
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

/* Takes T out of the queue, unless the writer has it; true: it never runs. */
static bool give_up(struct journal *j, struct journal_task *t)
{
    lock_take(&j->lock);
    bool out = !t->started;
    for (struct journal_task **p = &j->tasks, *last = NULL; out && *p; p = &(*p)->next) {
        if (*p != t) {
            last = *p;
            continue;
        }
        *p = t->next;
        if (j->tasks_last == t)
            j->tasks_last = last;
        j->n_tasks--;
        break;
    }
    lock_drop(&j->lock);
    return out;
}

int bgmqi_journal_run(struct journal *j, bgmqi_journal_fn *fn, void *ctx,
                      int64_t timeout_ns)
{
    struct journal_task t = {.fn = fn, .ctx = ctx};
    int64_t deadline = journal_now_ns() + timeout_ns;
    lock_take(&j->lock);
    bool ended = j->ended || j->quit;
    bool wake = false;
    if (!ended) {
        if (j->tasks)
            j->tasks_last->next = &t;
        else
            j->tasks = &t;
        j->tasks_last = &t;
        j->n_tasks++;
        j->urgent = true; /* what was added before has to be written first */
        wake = rouse_locked(j);
    }
    lock_drop(&j->lock);
    if (ended)
        return BGMQ_ECLOSED;
    if (wake)
        bgmqi_park_wake(&j->park);
    while (!atomic_load(&t.done)) {
        int64_t left = deadline - journal_now_ns();
        if (left <= 0 && give_up(j, &t))
            return bgmqi_journal_timeout_err(j);
        bgmqi_park_wait(&t.park, left > 0 ? left : PARK_MAX_NS);
    }
    lock_take(&j->lock); /* the writer is done with T */
    lock_drop(&j->lock);
    return t.err;
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

bool bgmqi_journal_hurried(const struct journal *j)
{
    return j->hurried;
}

bool bgmqi_journal_crowded(struct journal *j)
{
    return atomic_load_explicit(&j->waiting, memory_order_relaxed) > CROWDED;
}

int64_t bgmqi_journal_slow_ns(struct journal *j)
{
    int64_t now = journal_now_ns(), begun = atomic_load(&j->begun_ns);
    if (begun && now - begun >= JOURNAL_SLOW_NS)
        return now - begun;
    int64_t took = atomic_load(&j->took_ns);
    bool recent = now - atomic_load(&j->ended_ns) < JOURNAL_TELL_NS;
    return took >= JOURNAL_SLOW_NS && recent ? took : 0;
}

void bgmqi_journal_counts(struct journal *j, uint64_t *commits, uint64_t *waiting,
                          enum journal_state *state)
{
    *commits = atomic_load(&j->commits);
    *waiting = atomic_load(&j->waiting);
    *state = (enum journal_state)atomic_load(&j->state);
}

/* ---- open and close ---------------------------------------------------------------- */

int bgmqi_journal_open(struct journal **ret, struct store *store,
                       const struct journal_options *options)
{
    struct journal *j = calloc(1, sizeof(*j));
    if (!j)
        return BGMQ_ENOMEM;
    uint64_t first;
    bgmqi_fork_enter(); /* from here on forks are watched, before there is a thread to meet */
    int err = store->ops->reserve_ids(store, ID_BLOCK, &first);
    bgmqi_fork_leave();
    if (err != 0) {
        free(j);
        return err == BGMQ_ENOMEM ? err : BGMQ_ESTORE;
    }
    atomic_init(&j->next_id, first);
    atomic_init(&j->id_limit, first + ID_BLOCK);
    atomic_init(&j->state, JOURNAL_GOOD);
    j->store = store;
    j->gather_most = BATCH_CAP;
    j->options = *options;
    lock_init(&j->lock, RANK_JOURNAL);
    if (bgmqi_thread_start(&j->thread, "bgmq-journal", options->stack_size,
                           bgmqi_journal_writer, j) != 0) {
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
        j->store->ops->leave(j->store, atomic_load(&j->next_id));
    j->store->ops->close(j->store);
    lock_take(&j->lock);
    j->ended = true;
    struct journal_entry *late = j->arrived, *last = j->arrived_last;
    lock_drop(&j->lock);
    while (late) {
        /* What comes behind LAST from now on is not ours to look at. */
        struct journal_entry *next = late == last ? NULL : late->next;
        if (late->op.ticket && late->group_ends)
            bgmqi_ticket_finish(late->op.ticket, BGMQ_ECLOSED);
        late->op.ticket = NULL;
        late = next;
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
