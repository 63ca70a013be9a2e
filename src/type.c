/* type.c - the mover: what puts a message from one place into another (see type.h).
 *
 * Called by the other type*.c with the type's lock held.  Nothing here allocates, calls out or
 * waits; what has to be done without the lock is noted and done by bgmqi_type_unlock. */
#include "type.h"

#include <stdlib.h>
#include <string.h>

#include "type_impl.h"

static bool priority_less(const struct message *a, const struct message *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->seq < b->seq;
}

static bool due_less(const struct message *a, const struct message *b)
{
    int64_t x = message_due_ms(a), y = message_due_ms(b);
    return x != y ? x < y : a->seq < b->seq;
}

struct type *bgmqi_type_new(const char *name, uint32_t number, struct type_env *env,
                            const struct type_config *config)
{
    struct type *t = calloc(1, sizeof(*t));
    if (!t || !(t->name = strdup(name)) || !(t->plain = strdup(name))) {
        if (t)
            free(t->name);
        free(t);
        return NULL;
    }
    char *at = strchr(t->plain, '@');
    if (at) {
        *at = '\0';
        t->channel = at + 1;
    }
    t->number = number;
    t->env = env;
    t->config = *config;
    lock_init(&t->lock, RANK_QUEUE);
    lock_init(&t->operating, RANK_OPERATING);
    t->priorityq.less = priority_less;
    t->delayed.less = due_less;
    t->memory.from = env->budget;
    t->load.owner = t;
    t->due_hint = t->next_expiry = t->stored_expiry = t->key_expiry = INT64_MAX;
    bgmqi_agenda_item_init(&t->due, t);
    bgmqi_agenda_item_init(&t->attempts, t);
    bgmqi_map_init(&t->keys);
    return t;
}

void bgmqi_type_free(struct type *t)
{
    if (!t)
        return;
    bgmqi_type_lock(t); /* what has arrived is in inq then */
    bgmqi_type_unlock(t);
    bgmqi_queue_clear(&t->inq);
    bgmqi_queue_clear(&t->dlq);
    bgmqi_queue_clear(&t->outq);
    bgmqi_queue_clear(&t->out);
    bgmqi_queue_clear(&t->expected);
    bgmqi_queue_clear(&t->suspects[LANE_INQ]);
    bgmqi_queue_clear(&t->suspects[LANE_PRIORITYQ]);
    bgmqi_heap_clear(&t->priorityq);
    bgmqi_heap_clear(&t->delayed);
    bgmqi_mem_refund_all(&t->memory);
    bgmqi_type_free_keys(t);
    assert(!t->desks); /* its workers are gone */
    for (struct desk *d = t->spare, *next; d; d = next) {
        next = d->next;
        lock_fini(&d->lock);
        free(d);
    }
    lock_fini(&t->lock);
    lock_fini(&t->operating);
    free(t->plain);
    free(t->name);
    free(t);
}

const char *bgmqi_type_name(const struct type *t)
{
    return t->name;
}

const char *bgmqi_type_plain(const struct type *t)
{
    return t->plain;
}

const char *bgmqi_type_channel(const struct type *t)
{
    return t->channel;
}

uint32_t bgmqi_type_number(const struct type *t)
{
    return t->number;
}

bool bgmqi_type_registered(const struct type *t)
{
    return atomic_load_explicit(&t->registered, memory_order_acquire);
}

const struct type_config *bgmqi_type_config(const struct type *t)
{
    return &t->config;
}

/* A message of T without options needs nothing but a place in inq. */
static bool is_open(const struct type *t)
{
    const struct type_config *c = &t->config;
    return c->durability == BGMQ_MEMORY && !c->expire_ms && !c->max_messages &&
           !c->max_bytes && !t->channel;
}

int bgmqi_type_configure(struct type *t, const struct type_config *config)
{
    int err = 0;
    bgmqi_type_lock(t);
    if (bgmqi_type_registered(t)) {
        err = BGMQ_EEXIST;
    } else {
        t->config = *config;
        atomic_store_explicit(&t->arrivals.open, is_open(t), memory_order_release);
        atomic_store_explicit(&t->registered, true, memory_order_release);
        if (t->next_expiry != INT64_MAX || t->stored_expiry != INT64_MAX)
            t->due_hint = INT64_MIN; /* from now on messages expire */
    }
    bgmqi_type_unlock(t);
    return err;
}

void bgmqi_type_restore(struct type *t, const uint64_t counts[LANES])
{
    bgmqi_type_lock(t);
    for (int lane = 0; lane < LANES; lane++) {
        if (counts[lane] == 0)
            continue;
        t->lanes[lane] = (struct lane_state){
            .stored = counts[lane], .bounded = true, .key = INT64_MIN, .seq = 0};
        if (lane != LANE_DLQ)
            t->stored_expiry = INT64_MIN; /* a look will tell */
        bgmqi_type_check_lane(t, (enum lane)lane);
    }
    t->added += counts[LANE_INQ] + counts[LANE_PRIORITYQ];
    bgmqi_type_unlock(t);
}

bool bgmqi_type_urgent(const struct type *t)
{
    return t->priorityq.len || t->getters[LANE_INQ].head ||
           t->getters[GETTERS_OUTQ].head || !bgmqi_type_may_claim(t);
}

void bgmqi_type_unlock(struct type *t)
{
    bgmqi_type_watch(t);
    struct desk *wake = t->wake;
    struct queue garbage = t->garbage;
    int64_t due = t->due_hint;
    t->wake = NULL;
    t->garbage = (struct queue){.len = 0};
    t->due_hint = INT64_MAX;
    bool urgent = bgmqi_type_urgent(t);
    if (urgent != atomic_load_explicit(&t->urgent, memory_order_relaxed))
        atomic_store(&t->urgent, urgent);
    if (t->rooms.head && bgmqi_type_in_bounds(t, 1))
        bgmqi_park_wake(&t->rooms.head->park); /* under the lock: it lives on a stack */
    lock_drop(&t->lock);
    if (wake)
        bgmqi_park_wake(&wake->park);
    if (due != INT64_MAX)
        t->env->due(t->env->ctx, t, due);
    bgmqi_queue_clear(&garbage);
}

/* ---- lanes ------------------------------------------------------------------------- */

enum lane bgmqi_type_ready_lane(const struct message *m)
{
    return m->priority > 0 ? LANE_PRIORITYQ : LANE_INQ;
}

int64_t bgmqi_type_key(const struct message *m, enum lane lane)
{
    if (lane == LANE_DELAYED)
        return message_due_ms(m);
    return lane == LANE_PRIORITYQ ? -(int64_t)m->priority : 0;
}

bool bgmqi_type_before_frontier(const struct lane_state *l, int64_t key, uint64_t seq)
{
    return !l->bounded || key < l->key || (key == l->key && seq < l->seq);
}

size_t bgmqi_type_lane_len(const struct type *t, enum lane lane)
{
    switch (lane) {
    case LANE_INQ:
        return t->inq.len;
    case LANE_PRIORITYQ:
        return t->priorityq.len;
    case LANE_DELAYED:
        return t->delayed.len;
    default:
        return t->dlq.len;
    }
}

uint64_t bgmqi_type_next_number(struct type *t)
{
    if (t->env->journal)
        return bgmqi_journal_next_id(t->env->journal);
    return atomic_fetch_add_explicit(&t->env->ids, 1, memory_order_relaxed);
}

void bgmqi_type_bound(struct type *t, enum lane lane, int64_t key, uint64_t seq,
                      size_t len)
{
    struct lane_state *l = &t->lanes[lane];
    if (l->bounded || len < t->config.window)
        return;
    l->bounded = true;
    l->key = key;
    l->seq = seq;
}

bool bgmqi_type_runs_low(const struct type *t, enum lane lane)
{
    if (bgmqi_type_lane_len(t, lane) <= t->config.window / 2)
        return true;
    const struct message *first = lane == LANE_INQ         ? t->inq.head
                                  : lane == LANE_PRIORITYQ ? t->priorityq.top
                                  : lane == LANE_DELAYED   ? t->delayed.top
                                                           : t->dlq.head;
    const struct lane_state *l = &t->lanes[lane];
    /* In a list, what a load brings stands behind what is there: one load at a time is enough. */
    return l->hauled == 0 &&
           !bgmqi_type_before_frontier(l, bgmqi_type_key(first, lane), first->seq);
}

void bgmqi_type_check_lane(struct type *t, enum lane lane)
{
    struct lane_state *l = &t->lanes[lane];
    if (!l->bounded)
        return;
    if (lane == LANE_INQ && t->spilled.len)
        bgmqi_type_recall(t);
    if (l->stored == 0 && l->in_journal == 0)
        l->bounded = false;
    else if (l->stored && bgmqi_type_runs_low(t, lane))
        bgmqi_journal_ask_load(t->env->journal, &t->load);
}

/* ---- places ------------------------------------------------------------------------ */

void bgmqi_type_hand_out(struct type *t, struct message *m)
{
    m->place = PLACE_TAKEN;
    bgmqi_queue_push(&t->out, m);
    t->taken++;
}

/* M ran when the process died: it waits to be run alone. */
static void place_suspect(struct type *t, struct message *m, enum lane lane, bool front)
{
    m->place = PLACE_SUSPECT;
    if (front)
        bgmqi_queue_push_front(&t->suspects[lane], m);
    else
        bgmqi_queue_push(&t->suspects[lane], m);
    atomic_fetch_add(&t->env->suspects, 1);
    t->due_hint = INT64_MIN; /* the ticker lets them run (solo.c) */
}

struct message *bgmqi_type_pop_suspect(struct type *t, enum lane lane)
{
    struct message *m = bgmqi_queue_pop(&t->suspects[lane]);
    if (m)
        atomic_fetch_sub(&t->env->suspects, 1);
    return m;
}

struct message *bgmqi_type_next_suspect(struct type *t)
{
    struct message *m = bgmqi_type_pop_suspect(t, LANE_PRIORITYQ);
    return m ? m : bgmqi_type_pop_suspect(t, LANE_INQ);
}

void bgmqi_type_place(struct type *t, struct message *m, enum lane lane)
{
    if (lane != LANE_DELAYED && bgmqi_getters_offer(&t->getters[lane], m)) {
        bgmqi_type_hand_out(t, m);
        return;
    }
    if (lane != LANE_DLQ)
        bgmqi_type_note_expiry(t, m);
    if (m->crashes && !t->env->together && (lane == LANE_INQ || lane == LANE_PRIORITYQ)) {
        place_suspect(t, m, lane, false);
        return;
    }
    switch (lane) {
    case LANE_INQ:
        m->place = PLACE_INQ;
        bgmqi_queue_push(&t->inq, m);
        bgmqi_type_wake_one(t);
        break;
    case LANE_PRIORITYQ:
        m->place = PLACE_PRIORITYQ;
        m->heaped |= m->row == ROW_BACKLOG;
        bgmqi_heap_push(&t->priorityq, m);
        bgmqi_type_wake_one(t);
        break;
    case LANE_DELAYED:
        m->place = PLACE_DELAYED;
        m->heaped |= m->row == ROW_BACKLOG;
        bgmqi_heap_push(&t->delayed, m);
        if (t->delayed.top == m && message_due_ms(m) < t->due_hint)
            t->due_hint = message_due_ms(m);
        break;
    default:
        m->place = PLACE_DLQ;
        bgmqi_queue_push(&t->dlq, m);
        break;
    }
}

void bgmqi_type_place_back(struct type *t, struct message *m)
{
    enum lane lane = bgmqi_type_ready_lane(m);
    bgmqi_type_leave_out(t, m);
    if (bgmqi_getters_offer(&t->getters[lane], m)) {
        bgmqi_type_hand_out(t, m);
        return;
    }
    bgmqi_type_note_expiry(t, m);
    if (m->crashes && !t->env->together) {
        place_suspect(t, m, lane, true);
        return;
    }
    if (lane == LANE_PRIORITYQ) {
        m->place = PLACE_PRIORITYQ;
        bgmqi_heap_push(&t->priorityq, m);
    } else {
        m->place = PLACE_INQ;
        bgmqi_queue_push_front(&t->inq, m);
    }
    bgmqi_type_wake_one(t);
}

void bgmqi_type_leave_out(struct type *t, struct message *m)
{
    assert(m->place == PLACE_RUNNING || m->place == PLACE_TAKEN);
    bgmqi_queue_remove(&t->out, m);
    m->place = PLACE_NONE;
}

void bgmqi_type_release(struct type *t, struct message *m)
{
    assert(m->place == PLACE_NONE);
    bgmqi_mem_refund(&t->memory, message_cost(m));
    bgmqi_queue_push(&t->garbage, m);
}

enum outcome bgmqi_type_history(const struct type *t, enum outcome how)
{
    if (how == OUTCOME_NONE || !bgmqi_type_registered(t))
        return OUTCOME_NONE;
    if (t->config.history == BGMQ_HISTORY_ALL ||
        (t->config.history == BGMQ_HISTORY_FAILURES && how != OUTCOME_DONE))
        return how;
    return OUTCOME_NONE;
}

void bgmqi_type_fill(const struct type *t, struct journal_entry *e,
                     enum store_op_kind kind, struct message *m, enum outcome history,
                     int64_t now_ms)
{
    struct store_op *op = &e->op;
    op->kind = (uint8_t)kind;
    op->level = m->level == BGMQ_MEMORY ? BGMQ_BEHIND : m->level;
    op->history = (uint8_t)history;
    op->crashes = m->crashes;
    op->attempt = m->attempt;
    op->run = m->run;
    op->type = t->number;
    op->id = m->id;
    op->seq = m->seq;
    op->at_ms = now_ms;
    op->msg = m;
    op->failure = bgmqi_failure_ref(message_failure(m));
    op->owner = (void *)t;
    if (m->kept && (kind == STORE_DELETE_JOB || kind == STORE_DELETE_BACKLOG))
        op->flags |= OP_KEPT;
    if (history != OUTCOME_NONE && t->config.history_body)
        op->flags |= OP_BODY;
    if (history == OUTCOME_DONE) /* with the result */
        op->progress = bgmqi_progress_ref(message_progress(m));
}

bool bgmqi_type_send(struct type *t, struct message *m, enum lane lane,
                     struct journal_entry *entry, enum outcome history)
{
    assert(m->place == PLACE_NONE);
    uint64_t seq = bgmqi_type_next_number(t);
    m->seq = seq ? seq : m->seq;
    if (lane == LANE_DLQ) {
        t->dlq_added++;
        const struct message_ext *x = message_ext(m);
        if (!x || x->unique != BGMQ_UNIQUE_DONE)
            bgmqi_type_drop_key(t, m);
    }
    if (lane != LANE_DLQ && lane != LANE_DELAYED)
        t->added++;
    if (m->row == ROW_NONE) {
        bgmqi_type_place(t, m, lane);
        return false;
    }
    struct lane_state *l = &t->lanes[lane];
    int64_t key = bgmqi_type_key(m, lane);
    size_t len = bgmqi_type_lane_len(t, lane);
    if (lane == LANE_INQ || lane == LANE_DLQ)
        bgmqi_type_bound(t, lane, key, m->seq, len);
    bool now = bgmqi_type_before_frontier(l, key, m->seq) && len < t->config.window;
    const struct failure *f = message_failure(m);
    bgmqi_type_fill(t, entry, m->row == ROW_JOB ? STORE_MOVE : STORE_UPDATE, m, history,
                    f ? f->at_ms : m->created_ms);
    entry->op.level = BGMQ_BEHIND;
    entry->op.lane = (uint8_t)lane;
    entry->op.key = key;
    entry->tell = !now;
    m->row = ROW_BACKLOG;
    if (now) {
        bgmqi_message_ref(m); /* one for its place, one for the entry */
    } else {
        l->in_journal++;
        bgmqi_queue_push(&t->limbo, m);
    }
    bgmqi_journal_add(t->env->journal, entry, entry);
    if (now)
        bgmqi_type_place(t, m, lane);
    return true;
}

void bgmqi_type_end_row(struct type *t, struct message *m, enum outcome how,
                        const struct attempt_end *end)
{
    enum outcome history = bgmqi_type_history(t, how);
    enum store_op_kind kind = m->row == ROW_JOB ? STORE_DELETE_JOB : STORE_DELETE_BACKLOG;
    bool keyed = message_unique_key(m) != NULL;
    if (m->row == ROW_JOB && !keyed && !m->kept && bgmqi_journal_take_back(m)) {
        m->row = ROW_NONE;
        if (history == OUTCOME_NONE) {
            if (end && end->slot)
                flight_end(end->slot); /* nothing of it was ever written */
            return;
        }
        kind = STORE_HISTORY;
    }
    struct journal_entry *e = bgmqi_type_entry();
    bgmqi_type_fill(t, e, kind, m, history, clock_wall_ms(t->env->clock));
    e->op.level = BGMQ_BEHIND;
    if (end) {
        e->op.started_ms = history == OUTCOME_NONE ? 0 : end->started_ms;
        e->op.slot_held = end->slot;
    }
    bgmqi_message_ref(m);
    m->row = ROW_NONE;
    if (!m->heaped) {
        /* M is the caller's, so its earlier entries are in the journal, and no lock is needed. */
        bgmqi_journal_add(t->env->journal, e, e);
        return;
    }
    bgmqi_type_lock(t);
    e->tell = true;
    if (t->leaving)
        t->leaving_last->sibling = e;
    else
        t->leaving = e;
    t->leaving_last = e;
    bgmqi_journal_add(t->env->journal, e, e);
    bgmqi_type_unlock(t);
}

struct journal_entry *bgmqi_type_entry(void)
{
    struct journal_entry *e;
    while (!(e = bgmqi_journal_entry_new())) {
        struct park nobody = {0};
        bgmqi_park_wait(&nobody, 10 * INT64_C(1000000));
    }
    return e;
}
