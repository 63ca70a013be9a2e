/* getter.c - waiting threads in a row (see getter.h).  Caller locks.
 *
 * The wake happens under the lock: a getter lives on its thread's stack, and may be gone as
 * soon as the lock is free. */
#include "getter.h"

#include <assert.h>

void bgmqi_getters_join(struct getters *all, struct getter *g)
{
    assert(!g->queued);
    g->next = NULL;
    g->prev = all->tail;
    if (all->tail)
        all->tail->next = g;
    else
        all->head = g;
    all->tail = g;
    g->queued = true;
}

void bgmqi_getters_leave(struct getters *all, struct getter *g)
{
    if (!g->queued)
        return;
    if (g->prev)
        g->prev->next = g->next;
    else
        all->head = g->next;
    if (g->next)
        g->next->prev = g->prev;
    else
        all->tail = g->prev;
    g->queued = false;
}

bool bgmqi_getters_offer(struct getters *all, struct message *m)
{
    struct getter *g = all->head;
    if (!g)
        return false;
    bgmqi_getters_leave(all, g);
    g->got = m;
    bgmqi_park_wake(&g->park);
    return true;
}

void bgmqi_getters_end(struct getters *all, int err)
{
    for (struct getter *g; (g = all->head) != NULL;) {
        bgmqi_getters_leave(all, g);
        g->ended = err;
        bgmqi_park_wake(&g->park);
    }
}
