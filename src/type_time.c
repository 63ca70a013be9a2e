/* type_time.c - what time does to a type.  The ticker's thread. */
#include "type_impl.h"

void bgmqi_type_ready(struct type *t, struct message *m)
{
    m->place = PLACE_NONE;
    message_put_due_ms(m, 0);
    t->added++;
    bgmqi_type_place(t, m, bgmqi_type_ready_lane(m));
}

enum { AGAIN_MS = 1000 }; /* what could not be done is tried again then */

struct agenda_item *bgmqi_type_due_item(struct type *t)
{
    return &t->due;
}

struct agenda_item *bgmqi_type_attempts_item(struct type *t)
{
    return &t->attempts;
}

/* When there is more to do, all that could be done at NOW_MS being done. */
static int64_t next_due(struct type *t, int64_t now_ms)
{
    int64_t next = bgmqi_type_ask_expiry(t, now_ms);
    int64_t others[] = {t->delayed.top ? message_due_ms(t->delayed.top) : INT64_MAX,
                        bgmqi_type_expires(t), t->key_expiry};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        int64_t then = others[i] > now_ms ? others[i] : now_ms + AGAIN_MS;
        next = then < next ? then : next;
    }
    return next;
}

int64_t bgmqi_type_tick(struct type *t, int64_t now_ms)
{
    bgmqi_type_expire(t, now_ms);
    bgmqi_type_lock(t);
    t->last_tick_ms = now_ms;
    /* No more than the window holds: what is due beyond waits in its heap, and the worker that
     * makes room says so (type_desk.c). */
    size_t most = t->env->journal ? 2 * (size_t)t->config.window : SIZE_MAX;
    while (t->delayed.top && message_due_ms(t->delayed.top) <= now_ms &&
           t->inq.len + t->priorityq.len < most)
        bgmqi_type_ready(t, bgmqi_heap_pop(&t->delayed));
    for (int lane = 0; lane < LANES; lane++) /* a load that failed is tried again */
        bgmqi_type_check_lane(t, (enum lane)lane);
    bgmqi_type_sweep_keys(t, now_ms);
    int64_t next = next_due(t, now_ms);
    t->due_hint = INT64_MAX; /* the caller is told by the result */
    bgmqi_type_unlock(t);
    return next;
}
