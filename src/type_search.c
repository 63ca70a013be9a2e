/* type_search.c - what an operator asks of messages that rest: the dead raised, those that wait
 * out a back-off run now.
 *
 * Those in memory are moved by the caller.  Those in the database only are found by the
 * journal's thread, at the next load (bgmqi_type_search, bgmqi_type_sweep), while the caller
 * waits for it. */
#include <stdlib.h>

#include "type_impl.h"

enum { SWEEP_STEP = 256 };

/* One pass over the delayed rows from the frontier on, for those that failed before. */
struct sweep {
    bool wanted; /* the next load makes a step */
    bool over;   /* the pass came to the end */
    int64_t key; /* where the next step starts */
    uint64_t seq;
    uint64_t ids[SWEEP_STEP]; /* moved by the last step */
    size_t n;
};

/* ---- the dead ---------------------------------------------------------------------- */

bool bgmqi_type_revive(struct type *t, struct message *m, struct journal_entry *entry)
{
    m->attempt = 0;
    m->crashes = 0;
    m->due_ms = 0;
    bgmqi_failure_unref(m->failure);
    m->failure = NULL;
    return bgmqi_type_send(t, m, bgmqi_type_ready_lane(m), entry, OUTCOME_NONE);
}

/* Revives one of the dead in memory, ID or (0) the first; false: none is there. */
static bool revive_one(struct type *t, uint64_t id)
{
    struct journal_entry *e = t->env->journal ? bgmqi_type_entry() : NULL;
    bool used = false;
    bgmqi_type_lock(t);
    struct message *m = t->dlq.head;
    while (m && (m->corrupt || (id && m->id != id)))
        m = m->next;
    if (m) {
        bgmqi_queue_remove(&t->dlq, m);
        m->place = PLACE_NONE;
        used = bgmqi_type_revive(t, m, e);
        bgmqi_type_check_lane(t, LANE_DLQ);
    }
    bgmqi_type_unlock(t);
    if (!used)
        bgmqi_journal_entry_free(e);
    return m != NULL;
}

/* How many dead there are that memory does not hold; with WANTED, asks for a load that looks
 * for that one. */
static uint64_t dead_elsewhere(struct type *t, uint64_t wanted)
{
    struct lane_state *l = &t->lanes[LANE_DLQ];
    bgmqi_type_lock(t);
    uint64_t n = l->stored + l->in_journal;
    t->wanted_id = n ? wanted : 0;
    if (n)
        bgmqi_journal_ask_load(t->env->journal, &t->load);
    bgmqi_type_unlock(t);
    return n;
}

/* Waits until the journal has been through a load that was asked for before. */
static int wait_for_load(struct type *t)
{
    int err = 0;
    for (int i = 0; i < 2 && !err; i++) /* the first turn may be under way already */
        err = bgmqi_journal_flush(t->env->journal, 30 * INT64_C(1000000000));
    return err;
}

int bgmqi_type_retry_dead(struct type *t, uint64_t id)
{
    int n = 0, vain = 0;
    bgmqi_type_lock(t);
    uint64_t most =
        t->dlq.len + t->lanes[LANE_DLQ].stored + t->lanes[LANE_DLQ].in_journal;
    bgmqi_type_unlock(t);
    while ((uint64_t)n < most) {
        if (revive_one(t, id)) {
            n++;
            vain = 0;
            if (id)
                return n;
            continue;
        }
        if (vain++ == 3 || !dead_elsewhere(t, id))
            break; /* what is left, if any, cannot be raised */
        int err = wait_for_load(t);
        if (err)
            return n ? n : err;
        if (id) {
            bgmqi_type_lock(t);
            bool found = t->wanted_id == 0;
            t->wanted_id = 0;
            bgmqi_type_unlock(t);
            if (!found && !revive_one(t, id))
                return BGMQ_ENOENT;
            return 1;
        }
    }
    return id && n == 0 ? BGMQ_ENOENT : n;
}

struct wanted {
    uint64_t id;
    struct message *found;
};

static int find_row(void *ctx, const struct store_row *row)
{
    struct wanted *w = ctx;
    if (row->id != w->id || row->corrupt)
        return 0;
    w->found = bgmqi_type_message_of(row);
    return w->found ? 1 : BGMQ_ENOMEM;
}

void bgmqi_type_search(struct type *t)
{
    struct lane_state *l = &t->lanes[LANE_DLQ];
    bgmqi_type_lock(t);
    struct wanted w = {.id = t->wanted_id};
    int64_t key = l->key;
    uint64_t seq = l->seq;
    bool look = w.id && l->bounded && l->stored;
    bgmqi_type_unlock(t);
    if (!look)
        return;
    struct store *s = bgmqi_journal_store(t->env->journal);
    s->ops->load(s, t->number, LANE_DLQ, key, seq, SIZE_MAX, SIZE_MAX, find_row, &w);
    if (!w.found)
        return;
    struct journal_entry *e = bgmqi_type_entry();
    struct queue found = {.len = 0};
    struct message *sorted[1];
    bool used = false;
    bgmqi_queue_push(&found, w.found);
    bgmqi_type_lock(t);
    if (bgmqi_type_drop_known(t, &found, sorted) == 0) {
        struct message *m = bgmqi_queue_pop(&found);
        l->stored--;
        m->heaped = 1; /* the next load may still see its row among the dead */
        bgmqi_mem_charge_always(&t->memory, bgmqi_message_cost(m));
        used = bgmqi_type_revive(t, m, e);
        t->wanted_id = 0;
    }
    bgmqi_type_check_lane(t, LANE_DLQ);
    bgmqi_type_unlock(t);
    if (!used)
        bgmqi_journal_entry_free(e);
}

/* ---- those that wait out a back-off ------------------------------------------------ */

/* Moves those in memory; up to MAX of their ids to IDS. */
static size_t hurry(struct type *t, uint64_t *ids, size_t max)
{
    size_t n = 0;
    struct queue others = {.len = 0};
    bgmqi_type_lock(t);
    for (struct message *m; n < max && (m = bgmqi_heap_pop(&t->delayed)) != NULL;) {
        if (m->failure) {
            ids[n++] = m->id;
            bgmqi_type_ready(t, m);
        } else {
            bgmqi_queue_push(&others, m);
        }
    }
    for (struct message *m; (m = bgmqi_queue_pop(&others)) != NULL;)
        bgmqi_heap_push(&t->delayed, m);
    bgmqi_type_check_lane(t, LANE_DELAYED);
    bgmqi_type_unlock(t);
    return n;
}

struct swept {
    struct sweep *sweep;
    struct queue messages;
};

static int sweep_row(void *ctx, const struct store_row *row)
{
    struct swept *s = ctx;
    s->sweep->key = row->key;
    s->sweep->seq = row->seq + 1;
    if (!row->error_code || row->corrupt)
        return 0;
    struct message *m = bgmqi_type_message_of(row);
    if (!m)
        return BGMQ_ENOMEM;
    bgmqi_queue_push(&s->messages, m);
    return s->messages.len == SWEEP_STEP ? 1 : 0;
}

/* Sends what a step found to be run; the ids are for who waits. */
static void send_swept(struct type *t, struct swept *s)
{
    struct sweep *w = s->sweep;
    struct message *sorted[SWEEP_STEP];
    struct journal_entry *spare = bgmqi_type_entry();
    bgmqi_type_lock(t);
    bgmqi_type_drop_known(t, &s->messages, sorted);
    bgmqi_type_unlock(t);
    for (struct message *m; (m = bgmqi_queue_pop(&s->messages)) != NULL;) {
        bgmqi_type_lock(t);
        struct lane_state *l = &t->lanes[LANE_DELAYED];
        l->stored -= l->stored > 0;
        bgmqi_mem_charge_always(&t->memory, bgmqi_message_cost(m));
        m->due_ms = 0;
        w->ids[w->n++] = m->id;
        bgmqi_type_send(t, m, bgmqi_type_ready_lane(m), spare, OUTCOME_NONE);
        bgmqi_type_unlock(t);
        spare = bgmqi_type_entry();
    }
    bgmqi_journal_entry_free(spare);
}

void bgmqi_type_sweep(struct type *t)
{
    bgmqi_type_lock(t);
    struct sweep *w = t->sweep;
    struct lane_state *l = &t->lanes[LANE_DELAYED];
    bool wanted = w && w->wanted;
    if (wanted) {
        w->n = 0;
        w->over = !l->bounded || !l->stored;
        if (w->key < l->key || (w->key == l->key && w->seq < l->seq)) {
            w->key = l->key;
            w->seq = l->seq;
        }
    }
    bgmqi_type_unlock(t);
    if (!wanted)
        return;
    struct swept s = {.sweep = w};
    if (!w->over) {
        struct store *store = bgmqi_journal_store(t->env->journal);
        int n = store->ops->load(store, t->number, LANE_DELAYED, w->key, w->seq, SIZE_MAX,
                                 SIZE_MAX, sweep_row, &s);
        w->over = s.messages.len < SWEEP_STEP || n < 0;
        send_swept(t, &s);
    }
    bgmqi_type_lock(t);
    w->wanted = false;
    bgmqi_type_unlock(t);
}

/* One step of the pass; *OVER: it was the last. */
static int sweep_step(struct type *t, bool first, uint64_t *ids, bool *over)
{
    bgmqi_type_lock(t);
    struct sweep *w = t->sweep;
    if (first) {
        w->key = INT64_MIN;
        w->seq = 0;
    }
    w->wanted = true;
    bgmqi_journal_ask_load(t->env->journal, &t->load);
    bgmqi_type_unlock(t);
    int err = wait_for_load(t);
    if (err)
        return err;
    bgmqi_type_lock(t);
    int n = (int)w->n;
    for (int i = 0; i < n; i++)
        ids[i] = w->ids[i];
    w->n = 0;
    *over = w->over;
    bgmqi_type_unlock(t);
    return n;
}

/* Whether there are delayed rows that memory does not hold; and a sweep for them. */
static int sweep_needed(struct type *t)
{
    bgmqi_type_lock(t);
    const struct lane_state *l = &t->lanes[LANE_DELAYED];
    bool needed = l->stored || l->in_journal;
    bool there = t->sweep != NULL;
    bgmqi_type_unlock(t);
    if (!needed || there)
        return needed;
    struct sweep *w = calloc(1, sizeof(*w));
    if (!w)
        return BGMQ_ENOMEM;
    bgmqi_type_lock(t);
    there = t->sweep != NULL;
    if (!there)
        t->sweep = w;
    bgmqi_type_unlock(t);
    if (there)
        free(w);
    return 1;
}

int bgmqi_type_retry_pending(struct type *t, bgmqi_type_id_fn *fn, void *ctx)
{
    uint64_t ids[SWEEP_STEP];
    int total = 0, n, needed = sweep_needed(t);
    bool over = needed <= 0;
    for (bool first = true; !over; first = false) {
        n = sweep_step(t, first, ids, &over);
        if (n < 0)
            return n;
        total += n;
        int err = fn(ctx, ids, (size_t)n);
        if (err)
            return err;
    }
    do {
        n = (int)hurry(t, ids, SWEEP_STEP);
        total += n;
        int err = fn(ctx, ids, (size_t)n);
        if (err)
            return err;
    } while (n == SWEEP_STEP);
    return needed < 0 ? needed : total;
}
