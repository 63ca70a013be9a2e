/* type_tx.c - rows that a transaction of the application's made, moved or took away (tx.h).
 *
 * The thread that uses the application's connection, and workers.  Such a transaction commits
 * while the journal's thread may be in the middle of a load, so a row that it puts into BACKLOG
 * is told to that thread by an entry that changes nothing (STORE_NOP), and finds its side of the
 * frontier, where there is one, when the journal comes to it, between two loads.  From before the
 * commit until then the message is in type.expected, then in type.limbo, where a load that meets
 * the row finds that it is known.  A row in JOB is never loaded, and its message gets its place at
 * once.  A transaction that outlives the service leaves the lists alone: they are freed with it. */
#include "type_impl.h"

uint64_t bgmqi_type_draw(struct type *t)
{
    return bgmqi_type_next_number(t);
}

static int expect(struct type *t, struct message *m, bool *no_memory)
{
    size_t cost = message_cost(m);
    bgmqi_type_lock(t);
    int err = atomic_load_explicit(&t->env->closed, memory_order_relaxed) ? BGMQ_ECLOSED
              : !bgmqi_type_fits(t, cost)                                 ? BGMQ_EFULL
                                                                          : 0;
    *no_memory = !err && bgmqi_type_charge(t, cost) != 0;
    if (*no_memory)
        err = BGMQ_EFULL;
    if (!err && (m->id = m->seq = bgmqi_type_next_number(t)) == 0) {
        bgmqi_mem_refund(&t->memory, cost);
        err = BGMQ_EFULL;
    }
    if (!err) {
        m->row = message_due_ms(m) ? ROW_BACKLOG : ROW_JOB;
        if (message_due_ms(m)) {
            bgmqi_message_ref(m);
            bgmqi_queue_push(&t->expected, m);
        }
    }
    bgmqi_type_unlock(t);
    return err;
}

int bgmqi_type_expect(struct type *t, struct message *m)
{
    bool no_memory;
    int err = expect(t, m, &no_memory);
    if (no_memory && bgmqi_type_room(t, message_cost(m)))
        err = expect(t, m, &no_memory);
    return err;
}

/* T expects M no longer, which stays the caller's. */
static void leave_expected(struct type *t, struct message *m)
{
    bgmqi_queue_remove(&t->expected, m);
    bgmqi_message_unref(m);
}

void bgmqi_type_forget(struct type *t, struct message *m)
{
    bgmqi_type_lock(t);
    if (m->row == ROW_BACKLOG)
        leave_expected(t, m);
    bgmqi_mem_refund(&t->memory, message_cost(m));
    m->row = ROW_NONE;
    bgmqi_type_unlock(t);
}

/* M, in limbo, whose row stands in BACKLOG, waits for the journal's thread. */
static void tell_journal(struct type *t, struct message *m, enum lane lane,
                         struct journal_entry *e)
{
    bgmqi_type_fill(t, e, STORE_NOP, m, OUTCOME_NONE, m->created_ms);
    e->op.level = BGMQ_BEHIND;
    e->op.lane = (uint8_t)lane;
    e->op.key = bgmqi_type_key(m, lane);
    e->tell = true;
    t->lanes[lane].in_journal++;
    bgmqi_journal_add(t->env->journal, e, e);
}

/* M, in limbo, whose row stands in LANE, gets its place; true: by way of ENTRY.  A lane without
 * a frontier is wholly in memory: no load can miss the row, or bring it. */
static bool place_stored(struct type *t, struct message *m, enum lane lane,
                         struct journal_entry *entry)
{
    if (t->lanes[lane].bounded) {
        tell_journal(t, m, lane, entry);
        return true;
    }
    bgmqi_queue_remove(&t->limbo, m);
    bgmqi_type_place(t, m, lane);
    if (lane == LANE_DELAYED)
        bgmqi_type_evict(t, lane);
    return false;
}

/* Its place in the order is that of the commit: what was accepted meanwhile goes before it. */
static bool adopt_ready(struct type *t, struct message *m, struct journal_entry *e)
{
    enum lane lane = bgmqi_type_ready_lane(m);
    uint64_t seq = bgmqi_type_next_number(t);
    m->seq = seq ? seq : m->seq;
    if (!bgmqi_type_has_room(t, lane, bgmqi_type_key(m, lane), m->seq))
        return bgmqi_type_send(t, m, lane, e, OUTCOME_NONE);
    t->added++;
    bgmqi_type_place(t, m, lane);
    return false;
}

static bool adopt_delayed(struct type *t, struct message *m, struct journal_entry *e)
{
    leave_expected(t, m);
    bgmqi_queue_push(&t->limbo, m);
    return place_stored(t, m, LANE_DELAYED, e);
}

void bgmqi_type_adopt(struct type *t, struct message *m, struct journal_entry *entry)
{
    bgmqi_type_lock(t);
    bool used = m->row == ROW_JOB ? adopt_ready(t, m, entry) : adopt_delayed(t, m, entry);
    bgmqi_type_unlock(t);
    if (!used)
        bgmqi_journal_entry_free(entry);
}

void bgmqi_type_reinsert(struct type *t, struct message *m, struct journal_entry *entry)
{
    if (bgmqi_journal_give_back(m)) {
        bgmqi_journal_entry_free(entry);
        return;
    }
    bgmqi_type_fill(t, entry, STORE_INSERT, m, OUTCOME_NONE, m->created_ms);
    bgmqi_message_ref(m);
    bgmqi_journal_add(t->env->journal, entry, entry);
}

/* A load may have read the row before it went: until the journal's thread has passed the entry
 * M stays among those that leave, as if the journal took its row away. */
void bgmqi_type_end_elsewhere(struct type *t, struct message *m,
                              const struct attempt_end *end)
{
    m->row = ROW_NONE;
    if (!m->heaped && !m->kept) {
        if (end->slot)
            flight_end(end->slot);
        return;
    }
    struct journal_entry *e = bgmqi_type_entry();
    bgmqi_type_fill(t, e, STORE_HISTORY, m, OUTCOME_NONE, m->created_ms);
    e->op.level = BGMQ_BEHIND;
    e->op.slot_held = end->slot;
    if (m->kept) /* what the journal may have written of it since */
        e->op.flags |= OP_KEPT;
    bgmqi_message_ref(m);
    if (!m->heaped) {
        bgmqi_journal_add(t->env->journal, e, e);
        return;
    }
    e->tell = true;
    bgmqi_type_lock(t);
    if (t->leaving)
        t->leaving_last->sibling = e;
    else
        t->leaving = e;
    t->leaving_last = e;
    bgmqi_journal_add(t->env->journal, e, e);
    bgmqi_type_unlock(t);
}

bool bgmqi_type_place_elsewhere(struct type *t, struct message *m, enum lane lane,
                                struct journal_entry *entry)
{
    if (lane == LANE_DLQ) {
        t->dlq_added++;
        bgmqi_type_drop_key(t, m);
    }
    m->row = ROW_BACKLOG;
    bgmqi_queue_push(&t->limbo, m);
    return place_stored(t, m, lane, entry);
}
