/* type_publish.c - a message comes in, and a row finds its place (see type.h).
 *
 * bgmqi_type_admit runs on the publisher's thread; committed and dropped on the journal's. */
#include "type_impl.h"

bool bgmqi_type_has_room(struct type *t, enum lane lane, int64_t key, uint64_t seq)
{
    struct lane_state *l = &t->lanes[lane];
    size_t len = bgmqi_type_lane_len(t, lane) + l->reserved;
    if (lane == LANE_PRIORITYQ) {
        bgmqi_type_evict(t, lane);
        return bgmqi_type_before_frontier(l, key, seq);
    }
    bgmqi_type_bound(t, lane, key, seq, len);
    return !l->bounded;
}

static enum lane lane_of(const struct message *m)
{
    return message_due_ms(m) ? LANE_DELAYED : bgmqi_type_ready_lane(m);
}

static void admit_stored(struct type *t, struct admission *a)
{
    struct message *m = a->m;
    struct journal_entry *e = a->entry;
    enum lane lane = lane_of(m);
    int64_t key = bgmqi_type_key(m, lane);
    bool direct = lane != LANE_DELAYED && bgmqi_type_has_room(t, lane, key, m->seq);
    bgmqi_type_fill(t, e, direct ? STORE_INSERT : STORE_SPILL, m, OUTCOME_NONE,
                    m->created_ms);
    e->op.lane = (uint8_t)lane;
    e->op.key = key;
    e->op.ticket = a->ticket;
    e->op.slot = a->slot;
    bool later = a->ticket || a->inbox_id; /* placed once committed */
    if (a->inbox_id)
        e->op.flags |= OP_INBOX;
    e->tell = later || !direct;
    m->row = direct ? ROW_JOB : ROW_BACKLOG;
    /* The entry has the only reference, unless the message is placed at once. */
    if (!direct) {
        bool recallable = lane == LANE_INQ && !later;
        if (recallable)
            atomic_store_explicit(&m->insert, INSERT_SPILLED, memory_order_relaxed);
        t->lanes[lane].in_journal++;
        bgmqi_queue_push(recallable ? &t->spilled : &t->limbo, m);
    } else if (later) {
        t->lanes[lane].reserved++;
        bgmqi_queue_push(&t->limbo, m);
    } else {
        atomic_store_explicit(&m->insert, INSERT_QUEUED, memory_order_relaxed);
        bgmqi_message_ref(m);
    }
    if (!a->chained)
        bgmqi_journal_add(t->env->journal, e, e);
    if (direct && !later) {
        t->added++;
        bgmqi_type_place(t, m, lane);
    }
}

/* Messages that desks have claimed and not started: they still wait. */
static uint64_t claimed(const struct type *t)
{
    uint64_t n = 0;
    for (struct desk *d = t->batching ? t->desks : NULL; d; d = d->next) {
        lock_take(&d->lock);
        n += d->n - d->first;
        lock_drop(&d->lock);
    }
    return n;
}

bool bgmqi_type_in_bounds(const struct type *t, size_t cost)
{
    const struct type_config *c = &t->config;
    if (c->max_bytes && t->memory.used - t->outq_bytes + cost > c->max_bytes)
        return false;
    if (!c->max_messages)
        return true;
    uint64_t waiting =
        claimed(t) + t->suspects[LANE_INQ].len + t->suspects[LANE_PRIORITYQ].len;
    for (int lane = 0; lane < LANE_DLQ; lane++)
        waiting += bgmqi_type_lane_len(t, (enum lane)lane) + t->lanes[lane].stored +
                   t->lanes[lane].in_journal + t->lanes[lane].reserved;
    return waiting < c->max_messages;
}

int bgmqi_type_charge(struct type *t, size_t cost)
{
    uint64_t most = t->config.max_bytes;
    if (most && t->memory.used + cost > most)
        bgmqi_type_outq_limit(t, SIZE_MAX, most > cost ? most - cost : 0);
    return bgmqi_mem_charge(&t->memory, cost);
}

bool bgmqi_type_room(const struct type *t, size_t cost)
{
    return t->env->room && t->env->room(t->env->ctx, cost);
}

bool bgmqi_type_fits(struct type *t, size_t cost)
{
    if (bgmqi_type_in_bounds(t, cost))
        return true;
    if (!t->config.max_bytes)
        return false;
    bgmqi_type_collect(t);
    return bgmqi_type_in_bounds(t, cost);
}

/* Charges COST for A, when the bounds allow and it is A's turn. */
static int take_room(struct type *t, struct admission *a, size_t cost)
{
    a->no_memory = false;
    if (t->rooms.head && t->rooms.head != a->waiter && !a->overtakes && !a->replaces)
        return BGMQ_EFULL;
    if (!a->replaces && !bgmqi_type_fits(t, cost))
        return BGMQ_EFULL;
    a->no_memory = bgmqi_type_charge(t, cost) != 0;
    if (a->no_memory && bgmqi_type_revoke(t)) /* who is here goes before those to come */
        a->no_memory = bgmqi_type_charge(t, cost) != 0;
    return a->no_memory ? BGMQ_EFULL : 0;
}

static void admit_in_memory(struct type *t, struct message *m)
{
    enum lane lane = lane_of(m);
    if (lane != LANE_DELAYED)
        t->added++;
    bgmqi_type_place(t, m, lane);
    if (lane == LANE_INQ && !message_ext(m))
        bgmqi_type_run_out(t);
}

static int admit(struct type *t, struct admission *a)
{
    struct message *m = a->m;
    size_t cost = message_cost(m);
    assert(m->place == PLACE_NONE && (a->entry || !a->ticket));
    assert(!a->chained || !a->entry || a->ticket);
    bgmqi_type_lock(t);
    int err = atomic_load_explicit(&t->env->closed, memory_order_relaxed)
                  ? BGMQ_ECLOSED
                  : take_room(t, a, cost);
    if (err == 0) {
        m->seq = bgmqi_type_next_number(t);
        m->id = a->id = a->inbox_id ? a->inbox_id : m->seq;
        if (m->seq == 0)
            err = BGMQ_EFULL;
        else if (!a->entry)
            err = bgmqi_type_take_key(t, a);
        if (err || a->duplicate)
            bgmqi_mem_refund(&t->memory, cost);
    }
    if (err == 0 && a->duplicate) {
        bgmqi_queue_push(&t->garbage, m);
        a->m = NULL;
    } else if (err == 0 && a->entry) {
        admit_stored(t, a);
    } else if (err == 0 && a->chained) {
        t->lanes[lane_of(m)].reserved++;
        bgmqi_queue_push(&t->limbo, m);
    } else if (err == 0) {
        admit_in_memory(t, m);
    }
    if (err == 0 && a->waiter)
        bgmqi_getters_leave(&t->rooms, a->waiter); /* the next one's turn */
    bgmqi_type_unlock(t);
    return err;
}

int bgmqi_type_admit(struct type *t, struct admission *a)
{
    int err = admit(t, a);
    if (err == BGMQ_EFULL && a->no_memory && bgmqi_type_room(t, message_cost(a->m)))
        err = admit(t, a);
    return err;
}

/* Joins those who wait for room, at the end. */
static int join(struct type *t, struct getter *g)
{
    bgmqi_type_lock(t);
    int err = t->getters_ended ? BGMQ_ECLOSED : 0;
    if (!err) {
        bgmqi_type_revoke(t); /* nobody goes past those who wait */
        bgmqi_getters_join(&t->rooms, g);
    }
    bgmqi_type_unlock(t);
    return err;
}

int bgmqi_type_admit_patiently(struct type *t, struct admission *a, unsigned wait_ms)
{
    static const int64_t look_again_ns = 10000000; /* nobody tells us of others' bytes */
    int err = bgmqi_type_admit(t, a);
    if (err != BGMQ_EFULL || wait_ms == 0)
        return err;
    int64_t deadline = clock_mono_ns(&bgmqi_clock_system) + wait_ms * INT64_C(1000000);
    struct getter g = {.ended = 0};
    err = join(t, &g);
    if (err)
        return err;
    a->waiter = &g;
    while ((err = bgmqi_type_admit(t, a)) == BGMQ_EFULL) {
        int64_t rest = deadline - clock_mono_ns(&bgmqi_clock_system);
        if (rest <= 0)
            break;
        bgmqi_park_wait(&g.park,
                        a->no_memory && rest > look_again_ns ? look_again_ns : rest);
    }
    a->waiter = NULL;
    bgmqi_type_lock(t);
    bgmqi_getters_leave(&t->rooms, &g);
    bgmqi_type_unlock(t);
    return err;
}

static bool is_recallable(const struct store_op *op)
{
    return op->kind == STORE_SPILL && op->lane == LANE_INQ && !op->ticket &&
           !(op->flags & OP_INBOX);
}

/* OP's message was taken to its place while OP was being written. */
static bool was_recalled(const struct store_op *op)
{
    return is_recallable(op) &&
           atomic_load_explicit(&op->msg->insert, memory_order_relaxed) == INSERT_PASSED;
}

/* OP's message leaves the list of those that the journal has. */
static void leave_limbo(struct type *t, const struct store_op *op)
{
    bgmqi_queue_remove(is_recallable(op) ? &t->spilled : &t->limbo, op->msg);
}

/* M, which waited in the journal, is not to be: its place and bytes are free again. */
static void withdraw(struct type *t, const struct store_op *op)
{
    struct lane_state *l = &t->lanes[op->lane];
    if (was_recalled(op))
        return;
    leave_limbo(t, op);
    if (op->kind == STORE_INSERT)
        l->reserved--;
    else
        l->in_journal--;
    bgmqi_mem_refund(&t->memory, message_cost(op->msg));
    bgmqi_type_check_lane(t, (enum lane)op->lane);
}

void bgmqi_type_confirm(struct type *t, struct admission *a)
{
    if (a->entry || !a->m)
        return; /* bgmqi_type_committed does it; or there is nothing to do */
    bgmqi_type_lock(t);
    t->lanes[lane_of(a->m)].reserved--;
    bgmqi_queue_remove(&t->limbo, a->m);
    admit_in_memory(t, a->m);
    bgmqi_type_unlock(t);
}

void bgmqi_type_dismiss(struct type *t, struct admission *a)
{
    if (!a->m)
        return;
    bgmqi_type_lock(t);
    if (a->entry) {
        withdraw(t, &a->entry->op);
    } else {
        bgmqi_type_forget_key(t, a->m);
        t->lanes[lane_of(a->m)].reserved--;
        bgmqi_queue_remove(&t->limbo, a->m);
        bgmqi_mem_refund(&t->memory, message_cost(a->m));
    }
    bgmqi_type_unlock(t);
}

void bgmqi_type_unkey(struct type *t, struct message *m)
{
    const struct message_ext *x = message_ext(m);
    if (m->unkeyed || !x || !x->unique_key || x->unique != BGMQ_UNIQUE_WAITING)
        return;
    m->unkeyed = 1;
    struct journal_entry *e = m->row != ROW_NONE ? bgmqi_type_entry() : NULL;
    bgmqi_type_lock(t);
    bgmqi_type_drop_key(t, m);
    bgmqi_type_unlock(t);
    if (!e)
        return;
    bgmqi_type_fill(t, e, STORE_UNKEY, m, OUTCOME_NONE, 0);
    e->op.level = BGMQ_BEHIND;
    bgmqi_message_ref(m);
    bgmqi_journal_add(t->env->journal, e, e);
}

/* A row stands in BACKLOG: which side of the frontier is it on? */
static void arrive(struct type *t, struct store_op *op)
{
    enum lane lane = (enum lane)op->lane;
    struct lane_state *l = &t->lanes[lane];
    struct message *m = op->msg;
    if (was_recalled(op))
        return;
    leave_limbo(t, op);
    atomic_store_explicit(&m->insert, INSERT_NONE, memory_order_relaxed);
    l->in_journal--;
    if (lane == LANE_INQ && l->stored == 0 && t->inq.len < t->config.window &&
        !bgmqi_type_before_frontier(l, op->key, op->seq)) {
        l->key = op->key; /* next in order, and wanted: it needs no load */
        l->seq = op->seq + 1;
    }
    if (op->kind == STORE_SPILL && (lane == LANE_INQ || lane == LANE_PRIORITYQ))
        t->added++; /* published; others were counted when they were sent here */
    if (bgmqi_type_before_frontier(l, op->key, op->seq)) {
        bgmqi_message_ref(m);
        bgmqi_type_place(t, m, lane);
        if (lane == LANE_PRIORITYQ || lane == LANE_DELAYED)
            bgmqi_type_evict(t, lane);
    } else {
        l->stored++;
        if (lane != LANE_DLQ)
            bgmqi_type_note_stored_expiry(t, m);
        bgmqi_mem_refund(&t->memory, message_cost(m));
    }
    bgmqi_type_check_lane(t, lane);
}

/* The end of a message is in the database, or never will be. */
static void left(struct type *t, const struct store_op *op)
{
    struct journal_entry *e = t->leaving;
    assert(e && e->op.id == op->id);
    (void)op;
    t->leaving = e->sibling;
}

/* HISTORY: its row went in a transaction of the application's (type_tx.c). */
static bool is_end(const struct store_op *op)
{
    return op->kind == STORE_DELETE_JOB || op->kind == STORE_DELETE_BACKLOG ||
           op->kind == STORE_HISTORY;
}

void bgmqi_type_committed(struct type *t, struct store_op *op, bool told)
{
    bgmqi_type_lock(t);
    if (op->result == BGMQ_ELOST) /* somebody else deleted the row */
        atomic_fetch_add(&t->env->lost, 1);
    if (!told) {
        /* only to be counted */
    } else if (is_end(op)) {
        left(t, op);
    } else if (op->result != 0) {
        withdraw(t, op); /* the row is gone, or (EEXIST) the key is taken */
    } else if (op->kind == STORE_INSERT) {
        t->lanes[op->lane].reserved--;
        bgmqi_queue_remove(&t->limbo, op->msg);
        bgmqi_message_ref(op->msg);
        t->added++;
        bgmqi_type_place(t, op->msg, (enum lane)op->lane);
    } else {
        arrive(t, op);
    }
    bgmqi_type_unlock(t);
}

void bgmqi_type_dropped(struct type *t, struct store_op *op, int err)
{
    (void)err;
    bgmqi_type_lock(t);
    if (is_end(op)) {
        left(t, op);
    } else if (op->kind == STORE_INSERT || op->kind == STORE_SPILL) {
        withdraw(t, op);
    } else {
        /* A change of place that the store did not take: memory keeps the message, and the
         * database what it knew before. */
        t->lanes[op->lane].in_journal--;
        leave_limbo(t, op);
        if (op->kind == STORE_MOVE)
            op->msg->row = ROW_JOB;
        bgmqi_message_ref(op->msg);
        bgmqi_type_place(t, op->msg, (enum lane)op->lane);
    }
    bgmqi_type_unlock(t);
}
