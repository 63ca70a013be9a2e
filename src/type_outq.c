/* type_outq.c - messages that have ended well, kept for who wants to see them.
 *
 * Any thread, under the type's lock but for bgmqi_type_outq_shed, which takes it.  What lies here
 * is a courtesy: it must never keep a message that waits to come in from the memory it needs. */
#include "type_impl.h"

void bgmqi_type_outq_push(struct type *t, struct message *m)
{
    m->place = PLACE_OUTQ;
    bgmqi_queue_push(&t->outq, m);
    if (t->config.max_bytes)
        t->outq_bytes += message_cost(m);
}

struct message *bgmqi_type_outq_pop(struct type *t)
{
    struct message *m = bgmqi_queue_pop(&t->outq);
    if (m && t->config.max_bytes)
        t->outq_bytes -= message_cost(m);
    return m;
}

/* There is one.  Returns what is given back only when the lock is dropped. */
static size_t drop_oldest(struct type *t)
{
    struct message *m = bgmqi_type_outq_pop(t);
    assert(m);
    const struct progress *p = message_progress(m);
    size_t later = p ? p->charged : 0;
    m->place = PLACE_NONE;
    bgmqi_type_release(t, m);
    return later;
}

/* The N oldest in one step; N is not 0. */
static void drop_row(struct type *t, size_t n)
{
    struct message *last = t->outq.head;
    size_t cost = 0;
    for (size_t i = 1;; i++, last = last->next) {
        cost += message_cost(last);
        last->place = PLACE_NONE;
        if (i == n)
            break;
    }
    struct queue row = bgmqi_queue_cut(&t->outq, last, n);
    bgmqi_queue_append(&t->garbage, &row);
    if (t->config.max_bytes)
        t->outq_bytes -= cost;
    bgmqi_mem_refund(&t->memory, cost);
}

void bgmqi_type_outq_limit(struct type *t, size_t most, size_t bytes)
{
    if (t->outq.len > most)
        drop_row(t, t->outq.len - most);
    while (t->outq.len && t->memory.used > bytes)
        drop_oldest(t);
}

static void retire_one(struct type *t, struct message *m)
{
    bgmqi_type_drop_key(t, m);
    bgmqi_type_leave_out(t, m);
    if (m->flags & MESSAGE_NO_OUTQ || m->quiet || t->config.no_outq) {
        bgmqi_type_release(t, m);
        return;
    }
    t->outq_added++;
    if (bgmqi_getters_offer(&t->getters[GETTERS_OUTQ], m))
        bgmqi_type_hand_out(t, m);
    else
        bgmqi_type_outq_push(t, m);
}

void bgmqi_type_retire(struct type *t, struct message *const *done, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        retire_one(t, done[i]);
    bgmqi_type_outq_limit(t, t->config.outq_limit, SIZE_MAX);
}

bool bgmqi_type_outq_shed(struct type *t, size_t bytes)
{
    size_t later = 0;
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    bool any = bgmqi_type_revoke(t) || t->outq.len > 0;
    while (t->outq.len && bgmqi_mem_left(t->env->budget) + later < bytes)
        later += drop_oldest(t);
    bgmqi_type_unlock(t);
    return any;
}
