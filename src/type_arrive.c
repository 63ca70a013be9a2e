/* type_arrive.c - the short way in: a plain message comes to its type without a lock.
 *
 * Most messages in memory need nothing but a place at the end of inq.  Their publishers push them
 * on a stack, by one compare-and-exchange, and whoever takes the type's lock brings the whole stack
 * in, in order, before he looks at anything (bgmqi_type_lock).  So nothing changes for what runs
 * under the lock: all that was published before is in inq.  Only a worker with enough in inq lets
 * it lie: what has arrived comes behind that.  Publishers and workers meet at one
 * cache line once a batch, and not once a message.  The stack is only ever emptied as a whole,
 * so that its head may be compared without a count.
 *
 * Credit.  A publisher pays for its message out of bytes that were charged under the lock before.
 * When they are used up it goes the long way, by the lock, and next time there are twice as many,
 * up to a limit: a type that is seldom used ties nothing up.  The bound of the service is kept, and
 * what nobody uses is taken back when others need it.
 *
 * Being told.  A worker that parks, and a getter that waits, set WATCHED under the lock and then
 * look at the stack once more; a publisher pushes and then looks at WATCHED.  One of the two sees
 * the other (all four are sequentially consistent), so no message lies on the stack while
 * somebody sleeps who wants it.  A publisher who sees WATCHED takes the lock: that is all.
 *
 * bgmqi_type_pay and bgmqi_type_push run on publishers' threads, the rest under the lock. */
#include "type_impl.h"

enum { CREDIT_MIN = 1024, CREDIT_MAX = 64 * 1024 };

/* ---- publishers -------------------------------------------------------------------- */

bool bgmqi_type_pay(struct type *t, size_t cost)
{
    struct arrivals *a = &t->arrivals;
    if (!atomic_load_explicit(&a->open, memory_order_acquire))
        return false;
    if (atomic_fetch_sub_explicit(&a->credit, (int64_t)cost, memory_order_relaxed) >=
        (int64_t)cost)
        return true;
    bgmqi_type_unpay(t, cost);
    return false;
}

void bgmqi_type_unpay(struct type *t, size_t cost)
{
    atomic_fetch_add_explicit(&t->arrivals.credit, (int64_t)cost, memory_order_relaxed);
}

uint64_t bgmqi_type_push(struct type *t, struct message *m)
{
    struct arrivals *a = &t->arrivals;
    uint64_t id = bgmqi_type_next_number(t);
    if (id == 0)
        return 0;
    m->id = m->seq = id;
    struct message *under = atomic_load_explicit(&a->newest, memory_order_relaxed);
    do
        m->next = under;
    while (!atomic_compare_exchange_weak(&a->newest, &under, m));
    if (atomic_load(&a->watched)) {
        bgmqi_type_lock(t);
        bgmqi_type_unlock(t);
    }
    return id;
}

/* ---- under the lock ---------------------------------------------------------------- */

/* Turns the stack over: the oldest is the head. */
static struct queue in_order(struct message *newest)
{
    struct queue q = {.tail = newest};
    struct message *after = NULL;
    for (struct message *m = newest, *before; m; m = before) {
        before = m->next;
        m->next = after;
        if (after)
            after->prev = m;
        after = m;
        q.len++;
    }
    q.head = after;
    return q;
}

/* Fills the credit up to its limit when half of it is used. */
static void grant(struct type *t)
{
    int64_t limit = (int64_t)t->credit_limit;
    int64_t left = atomic_load_explicit(&t->arrivals.credit, memory_order_relaxed);
    if (left >= limit / 2 || t->rooms.head)
        return;
    size_t more = (size_t)(left > 0 ? limit - left : limit);
    if (bgmqi_mem_charge(&t->memory, more) == 0)
        atomic_fetch_add_explicit(&t->arrivals.credit, (int64_t)more,
                                  memory_order_relaxed);
}

void bgmqi_type_run_out(struct type *t)
{
    if (!atomic_load_explicit(&t->arrivals.open, memory_order_relaxed) || t->rooms.head)
        return;
    if (t->credit_limit < CREDIT_MAX)
        t->credit_limit = t->credit_limit ? 2 * t->credit_limit : CREDIT_MIN;
    grant(t);
}

bool bgmqi_type_revoke(struct type *t)
{
    int64_t left = atomic_exchange_explicit(&t->arrivals.credit, 0, memory_order_relaxed);
    t->credit_limit = 0;
    if (left > 0)
        bgmqi_mem_refund(&t->memory, (size_t)left);
    else if (left <
             0) /* of one who is about to see that it was not enough, and pay back */
        bgmqi_mem_charge_always(&t->memory, (size_t)-left);
    return left > 0;
}

void bgmqi_type_absorb(struct type *t)
{
    if (!atomic_load_explicit(&t->arrivals.newest, memory_order_relaxed))
        return;
    struct queue q = in_order(
        atomic_exchange_explicit(&t->arrivals.newest, NULL, memory_order_acq_rel));
    t->added += q.len;
    while (q.head && t->getters[LANE_INQ].head)
        bgmqi_type_place(t, bgmqi_queue_pop(&q), LANE_INQ);
    if (q.head) {
        for (struct message *m = q.head; m; m = m->next)
            m->place = PLACE_INQ;
        bgmqi_queue_append(&t->inq, &q);
        bgmqi_type_wake_one(t);
    }
    grant(t);
}

/* Somebody sleeps who is to be told of the next message. */
static bool is_watched(const struct type *t)
{
    return t->getters[LANE_INQ].head ||
           (t->parked && !t->waking && bgmqi_type_may_claim(t));
}

void bgmqi_type_watch(struct type *t)
{
    struct arrivals *a = &t->arrivals;
    if (is_watched(t) == t->watched)
        return;
    t->watched = !t->watched;
    atomic_store(&a->watched, t->watched);
    if (t->watched && atomic_load(&a->newest)) {
        bgmqi_type_absorb(t);
        t->watched = is_watched(t);
        atomic_store(&a->watched, t->watched);
    }
}
