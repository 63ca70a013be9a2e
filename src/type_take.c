/* type_take.c - messages taken without a handler, and looked at.  Any thread that calls the
 * public functions. */
#include "type_impl.h"

/* The getters' row and the list of a place. */
static struct getters *getters_of(struct type *t, enum place place)
{
    switch (place) {
    case PLACE_INQ:
        return &t->getters[LANE_INQ];
    case PLACE_PRIORITYQ:
        return &t->getters[LANE_PRIORITYQ];
    case PLACE_DLQ:
        return &t->getters[LANE_DLQ];
    default:
        return &t->getters[GETTERS_OUTQ];
    }
}

static struct message *pop(struct type *t, enum place place)
{
    switch (place) {
    case PLACE_INQ:
        return bgmqi_queue_pop(&t->inq);
    case PLACE_PRIORITYQ:
        return bgmqi_heap_pop(&t->priorityq);
    case PLACE_DLQ:
        return bgmqi_queue_pop(&t->dlq);
    default:
        return bgmqi_type_outq_pop(t);
    }
}

static void check_lane_of(struct type *t, enum place place)
{
    if (place == PLACE_INQ || place == PLACE_PRIORITYQ || place == PLACE_DLQ)
        bgmqi_type_check_lane(t, place == PLACE_INQ   ? LANE_INQ
                                 : place == PLACE_DLQ ? LANE_DLQ
                                                      : LANE_PRIORITYQ);
}

/* What waits at PLACE now, suspects last; NULL: nothing. */
static struct message *take_now(struct type *t, enum place place)
{
    bgmqi_type_collect(t);
    struct message *m = pop(t, place);
    if (!m && (place == PLACE_INQ || place == PLACE_PRIORITYQ))
        m = bgmqi_type_pop_suspect(t, place == PLACE_INQ ? LANE_INQ : LANE_PRIORITYQ);
    if (m && (place == PLACE_INQ || place == PLACE_DLQ))
        bgmqi_type_unlisted(t, m, place == PLACE_INQ ? LANE_INQ : LANE_DLQ);
    if (m) {
        m->place = PLACE_TAKEN;
        bgmqi_queue_push(&t->out, m);
        t->taken++;
    }
    check_lane_of(t, place);
    return m;
}

int bgmqi_type_take(struct type *t, enum place place, int64_t timeout_ns,
                    struct message **ret)
{
    struct getters *all = getters_of(t, place);
    struct getter g = {.ended = 0};
    int64_t deadline = clock_mono_ns(&bgmqi_clock_system) + timeout_ns;
    bgmqi_type_lock(t);
    int err = t->getters_ended ? BGMQ_ECLOSED : 0;
    struct message *m = err ? NULL : take_now(t, place);
    if (!m && !err && timeout_ns > 0) {
        bgmqi_getters_join(all, &g);
        /* Finished after the look above, before workers knew of us: see desk settle. */
        bgmqi_type_unlock(t);
        bgmqi_type_lock(t);
        bgmqi_type_collect(t);
    }
    while (!m && !err && g.queued) {
        int64_t left = deadline - clock_mono_ns(&bgmqi_clock_system);
        if (left <= 0) {
            bgmqi_getters_leave(all, &g);
            break;
        }
        bgmqi_type_unlock(t);
        bgmqi_park_wait(&g.park, left);
        bgmqi_type_lock(t);
        bgmqi_type_collect(t);
    }
    m = m ? m : g.got;
    err = err ? err : g.ended;
    bgmqi_type_unlock(t);
    if (!m)
        return err ? err : BGMQ_ETIMEOUT;
    if (place == PLACE_INQ || place == PLACE_PRIORITYQ)
        bgmqi_type_unkey(t, m); /* for its key this is a start */
    *ret = m;
    return 0;
}

/* Puts M back into outq or the dlq, where it came from. */
static void put_back(struct type *t, struct message *m, enum place from)
{
    if (bgmqi_getters_offer(getters_of(t, from), m)) {
        m->place = PLACE_TAKEN;
        bgmqi_queue_push(&t->out, m);
        t->taken++;
        return;
    }
    if (from == PLACE_OUTQ) {
        bgmqi_type_outq_push(t, m);
        return;
    }
    m->place = (uint8_t)from;
    bgmqi_queue_push(&t->dlq, m);
}

static void end_taken(struct type *t, struct message *m, enum place from)
{
    if (m->row != ROW_NONE)
        bgmqi_type_end_row(t, m, from == PLACE_DLQ ? OUTCOME_NONE : OUTCOME_DONE, NULL);
    bgmqi_type_lock(t);
    bgmqi_type_drop_key(t, m);
    bgmqi_type_leave_out(t, m);
    bgmqi_type_release(t, m);
    bgmqi_type_unlock(t);
}

void bgmqi_type_settle_taken(struct type *t, struct message *m, enum place from,
                             enum taken_end how, struct failure *failure)
{
    if (how == TAKEN_ACK || (how == TAKEN_DEAD && from == PLACE_OUTQ)) {
        bgmqi_failure_unref(failure);
        end_taken(t, m, from);
        return;
    }
    bool dies = how == TAKEN_DEAD && from != PLACE_DLQ;
    struct journal_entry *e = m->row != ROW_NONE ? bgmqi_type_entry() : NULL;
    struct message_extra *x = dies && failure ? bgmqi_type_extra(m) : NULL;
    bool used = false;
    bgmqi_type_lock(t);
    bgmqi_type_leave_out(t, m);
    if (from == PLACE_OUTQ || from == PLACE_DLQ) {
        put_back(t, m, from);
        bgmqi_failure_unref(failure);
    } else if (dies) {
        bgmqi_type_extend(t, m, x);
        bgmqi_failure_unref(message_put_failure(m, failure));
        used = bgmqi_type_send(t, m, LANE_DLQ, e, bgmqi_type_history(t, OUTCOME_DEAD));
    } else {
        bgmqi_failure_unref(failure);
        used = bgmqi_type_send(t, m, bgmqi_type_ready_lane(m), e, OUTCOME_NONE);
    }
    bgmqi_type_unlock(t);
    if (!used)
        bgmqi_journal_entry_free(e);
}

void bgmqi_type_end_getters(struct type *t)
{
    bgmqi_type_lock(t);
    t->getters_ended = true;
    for (size_t i = 0; i <= LANES; i++)
        bgmqi_getters_end(&t->getters[i], BGMQ_ECLOSED);
    bgmqi_getters_end(&t->rooms, BGMQ_ECLOSED);
    bgmqi_type_unlock(t);
}

/* ---- looking ----------------------------------------------------------------------- */

struct view {
    struct message **messages;
    struct failure **failures;
    uint16_t *attempts;
    size_t n;
};

static void see(struct view *v, struct message *m)
{
    bgmqi_message_ref(m);
    v->messages[v->n] = m;
    v->failures[v->n] = bgmqi_failure_ref(message_failure(m));
    v->attempts[v->n] = m->attempt;
    v->n++;
}

size_t bgmqi_type_peek(struct type *t, enum place place, struct message **ret,
                       struct failure **failures, uint16_t *attempts, size_t max)
{
    struct view v = {.messages = ret, .failures = failures, .attempts = attempts};
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    if (place == PLACE_PRIORITYQ) {
        struct queue seen = {.len = 0};
        while (v.n < max && t->priorityq.top) {
            struct message *m = bgmqi_heap_pop(&t->priorityq);
            see(&v, m);
            bgmqi_queue_push(&seen, m);
        }
        for (struct message *m; (m = bgmqi_queue_pop(&seen)) != NULL;)
            bgmqi_heap_push(&t->priorityq, m);
    } else {
        const struct queue *q = place == PLACE_INQ   ? &t->inq
                                : place == PLACE_DLQ ? &t->dlq
                                                     : &t->outq;
        for (struct message *m = q->head; m && v.n < max; m = m->next)
            see(&v, m);
    }
    if (place == PLACE_INQ || place == PLACE_PRIORITYQ) {
        const struct queue *q =
            &t->suspects[place == PLACE_INQ ? LANE_INQ : LANE_PRIORITYQ];
        for (struct message *m = q->head; m && v.n < max; m = m->next)
            see(&v, m);
    }
    bgmqi_type_unlock(t);
    return v.n;
}
