/* type_claim.c - what a desk takes of its type, under the type's lock.
 *
 * Claiming.  A worker takes one message, or, when its handler has been quick (mean below 20 us
 * a batch) and the queue is long, up to 32 in one step under the type's lock, and then works
 * on them under its own, which nobody contends for.  A claimed message that has not started is
 * still waiting: an idle worker steals it, and whatever must go before it (a priority message,
 * a stop, a getter) sets type.urgent, which sends it back to the front of its queue. */
#include "type_impl.h"

/* One message of another desk that waits there behind a handler; NULL: none. */
static struct message *steal(struct type *t)
{
    if (!t->batching)
        return NULL;
    struct message *m = NULL;
    for (struct desk *d = t->desks; d && !m; d = d->next) {
        lock_take(&d->lock);
        if (d->first < d->n)
            m = d->claimed[d->first++];
        lock_drop(&d->lock);
    }
    if (!m)
        t->batching = false;
    return m;
}

static struct message *take_first(struct type *t)
{
    struct message *m = bgmqi_heap_pop(&t->priorityq);
    m->place = PLACE_RUNNING;
    bgmqi_queue_push(&t->out, m);
    t->streak++;
    return m;
}

/* The first of inq, up to MOST, in one step; how many. */
static unsigned take_row(struct type *t, struct message **got, unsigned most)
{
    struct message *last = NULL;
    unsigned n = 0;
    for (struct message *m = t->inq.head; m && n < most; m = m->next) {
        bgmqi_type_unlisted(t, m, LANE_INQ);
        m->place = PLACE_RUNNING;
        got[n++] = last = m;
    }
    if (n) {
        struct queue row = bgmqi_queue_cut(&t->inq, last, n);
        bgmqi_queue_append(&t->out, &row);
        t->streak = 0;
    }
    return n;
}

/* What is next, up to MOST: one of priorityq, or a row of inq.  How many. */
static unsigned take_next(struct type *t, struct message **got, unsigned most)
{
    if (!t->priorityq.len)
        return take_row(t, got, most);
    if (t->inq.len && t->streak >= t->config.priority_share)
        return take_row(t, got, 1);
    got[0] = take_first(t);
    return 1;
}

unsigned bgmqi_desk_batch(const struct desk *d)
{
    const struct type *t = d->type;
    if (d->mean_ns == 0 || bgmqi_type_urgent(t) || t->inq.len < 2 * (size_t)t->workers)
        return 1;
    size_t k = t->inq.len / (2 * (size_t)(t->workers ? t->workers : 1));
    size_t quick = (size_t)(DESK_QUICK_NS / d->mean_ns);
    k = k < quick ? k : quick;
    return k < 1 ? 1 : k > DESK_CLAIM_MAX ? DESK_CLAIM_MAX : (unsigned)k;
}

static void put(struct desk *d, struct message *const *got, unsigned n, bool alone)
{
    lock_take(&d->lock);
    for (unsigned i = 0; i < n; i++)
        d->claimed[i] = got[i];
    d->first = 0;
    d->n = n;
    d->alone = alone;
    lock_drop(&d->lock);
}

bool bgmqi_desk_fill_alone(struct desk *d)
{
    struct type *t = d->type, *may = t;
    if (atomic_load(&t->env->started) != GATE_SOLO || atomic_load(&t->env->solo) != t ||
        atomic_load(&t->paused))
        return false;
    struct message *m = bgmqi_type_next_suspect(t);
    if (!m)
        return false;
    m->place = PLACE_RUNNING;
    bgmqi_queue_push(&t->out, m);
    put(d, &m, 1, true);
    /* After it is claimed: who sees that T has taken itself away sees that something runs. */
    atomic_compare_exchange_strong(&t->env->solo, &may, NULL);
    return true;
}

bool bgmqi_desk_fill(struct desk *d, unsigned most)
{
    struct type *t = d->type;
    struct message *got[DESK_CLAIM_MAX];
    unsigned n = take_next(t, got, most);
    if (n == 0 && (got[0] = steal(t)) != NULL)
        n = 1;
    if (n == 0)
        return false;
    t->batching |= n > 1;
    if (t->inq.len || t->priorityq.len || t->batching)
        bgmqi_type_wake_one(t); /* BATCHING: there may be some to be stolen */
    if (t->env->journal) {
        bgmqi_type_check_lane(t, LANE_INQ);
        bgmqi_type_check_lane(t, LANE_PRIORITYQ);
        if (t->delayed.top && message_due_ms(t->delayed.top) <= t->last_tick_ms)
            t->due_hint = message_due_ms(t->delayed.top);
    }
    put(d, got, n, false);
    return true;
}
