/* custom.c - queues in memory that belong to no type (see custom.h).  Any thread. */
#include "custom.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "getter.h"
#include "lock.h"
#include "queue.h"

struct custom {
    /* set once, then read only */
    char *name;
    _Atomic unsigned refs;

    struct lock lock;
    /* protected by lock */
    struct queue messages;
    struct getters getters;
    struct allowance memory;
    int ended; /* 0, or what getters are told */
};

struct custom *bgmqi_custom_new(const char *name, struct budget *budget)
{
    struct custom *q = calloc(1, sizeof(*q));
    if (!q || !(q->name = strdup(name))) {
        free(q);
        return NULL;
    }
    atomic_init(&q->refs, 1);
    lock_init(&q->lock, RANK_QUEUE);
    q->memory.from = budget;
    return q;
}

struct custom *bgmqi_custom_ref(struct custom *q)
{
    atomic_fetch_add_explicit(&q->refs, 1, memory_order_relaxed);
    return q;
}

void bgmqi_custom_unref(struct custom *q)
{
    if (!q || atomic_fetch_sub_explicit(&q->refs, 1, memory_order_acq_rel) != 1)
        return;
    bgmqi_queue_clear(&q->messages);
    bgmqi_mem_refund_all(&q->memory);
    lock_fini(&q->lock);
    free(q->name);
    free(q);
}

const char *bgmqi_custom_name(const struct custom *q)
{
    return q->name;
}

/* M waits, or goes to who waits for it.  Its bytes are charged while it is in the list. */
static void place_locked(struct custom *q, struct message *m)
{
    if (bgmqi_getters_offer(&q->getters, m)) {
        bgmqi_mem_refund(&q->memory, message_cost(m));
        return;
    }
    bgmqi_queue_push(&q->messages, m);
}

int bgmqi_custom_put(struct custom *q, struct message *m)
{
    int err = 0;
    lock_take(&q->lock);
    if (q->ended)
        err = BGMQ_ENOENT;
    else if (bgmqi_mem_charge(&q->memory, message_cost(m)) != 0)
        err = BGMQ_EFULL;
    else
        place_locked(q, m);
    lock_drop(&q->lock);
    return err;
}

void bgmqi_custom_return(struct custom *q, struct message *m)
{
    lock_take(&q->lock);
    bool gone = q->ended != 0;
    if (!gone) {
        bgmqi_mem_charge_always(&q->memory, message_cost(m));
        place_locked(q, m);
    }
    lock_drop(&q->lock);
    if (gone)
        bgmqi_message_unref(m);
}

int bgmqi_custom_take(struct custom *q, int64_t timeout_ns, struct message **ret)
{
    struct getter g = {.ended = 0};
    int64_t deadline = clock_mono_ns(&bgmqi_clock_system) + timeout_ns;
    lock_take(&q->lock);
    int err = q->ended;
    struct message *m = err ? NULL : bgmqi_queue_pop(&q->messages);
    if (m)
        bgmqi_mem_refund(&q->memory, message_cost(m));
    else if (!err && timeout_ns > 0)
        bgmqi_getters_join(&q->getters, &g);
    while (g.queued) {
        int64_t left = deadline - clock_mono_ns(&bgmqi_clock_system);
        if (left <= 0) {
            bgmqi_getters_leave(&q->getters, &g);
            break;
        }
        lock_drop(&q->lock);
        bgmqi_park_wait(&g.park, left);
        lock_take(&q->lock);
    }
    m = m ? m : g.got;
    err = err ? err : g.ended;
    lock_drop(&q->lock);
    if (!m)
        return err ? err : BGMQ_ETIMEOUT;
    *ret = m;
    return 0;
}

size_t bgmqi_custom_peek(struct custom *q, struct message **ret, size_t max)
{
    size_t n = 0;
    lock_take(&q->lock);
    for (struct message *m = q->messages.head; m && n < max; m = m->next) {
        bgmqi_message_ref(m);
        ret[n++] = m;
    }
    lock_drop(&q->lock);
    return n;
}

size_t bgmqi_custom_end(struct custom *q, int err)
{
    lock_take(&q->lock);
    struct queue all = q->messages;
    q->messages = (struct queue){.len = 0};
    bgmqi_mem_refund_all(&q->memory);
    if (!q->ended)
        q->ended = err;
    bgmqi_getters_end(&q->getters, err);
    lock_drop(&q->lock);
    size_t n = all.len;
    bgmqi_queue_clear(&all);
    return n;
}
