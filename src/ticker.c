/* ticker.c - sleeps until the next due time, at most a second, and ticks every type.
 *
 * The second is the bound after which a wall clock that was set is noticed.  NEXT_MS is what
 * the thread sleeps towards; who brings an earlier time lowers it and wakes the thread. */
#include "ticker.h"

#include <stdlib.h>

#include "lock.h"
#include "park.h"
#include "thread.h"

struct ticker {
    struct ticker_options options; /* set once, then read only */
    pthread_t thread;
    struct park park;
    _Atomic int64_t next_ms;
    _Atomic bool quit;
};

struct turn {
    int64_t now_ms, next_ms;
};

static int tick_type(void *ctx, struct type *t)
{
    struct turn *turn = ctx;
    int64_t next = bgmqi_type_tick(t, turn->now_ms);
    if (next < turn->next_ms)
        turn->next_ms = next;
    return 0;
}

/* Lowers NEXT_MS to MS; true: it was later. */
static bool lower(struct ticker *t, int64_t ms)
{
    int64_t seen = atomic_load(&t->next_ms);
    while (ms < seen)
        if (atomic_compare_exchange_weak(&t->next_ms, &seen, ms))
            return true;
    return false;
}

int64_t bgmqi_ticker_turn(struct ticker *t)
{
    /* Whatever comes from here on wakes us, or is seen by this turn. */
    atomic_store(&t->next_ms, INT64_MAX);
    struct turn turn = {.now_ms = clock_wall_ms(t->options.clock), .next_ms = INT64_MAX};
    bgmqi_registry_each(t->options.registry, false, tick_type, &turn);
    int64_t wait_ms = t->options.also(t->options.ctx);
    if (turn.next_ms != INT64_MAX) {
        lower(t, turn.next_ms);
        int64_t left = turn.next_ms - turn.now_ms;
        wait_ms = left < wait_ms ? left : wait_ms;
    }
    return wait_ms;
}

static void *run(void *arg)
{
    struct ticker *t = arg;
    while (!atomic_load(&t->quit)) {
        int64_t wait_ms = bgmqi_ticker_turn(t);
        if (wait_ms > PARK_MAX_NS / 1000000)
            wait_ms = PARK_MAX_NS / 1000000;
        bgmqi_park_wait(&t->park, wait_ms * 1000000);
    }
    return NULL;
}

int bgmqi_ticker_open(struct ticker **ret, const struct ticker_options *options)
{
    struct ticker *t = calloc(1, sizeof(*t));
    if (!t)
        return BGMQ_ENOMEM;
    t->options = *options;
    atomic_init(&t->next_ms, INT64_MAX);
    if (!options->by_hand &&
        bgmqi_thread_start(&t->thread, "bgmq-ticker", options->stack_size, run, t) != 0) {
        free(t);
        return BGMQ_ETHREAD;
    }
    *ret = t;
    return 0;
}

void bgmqi_ticker_end(struct ticker *t)
{
    if (atomic_exchange(&t->quit, true) || t->options.by_hand)
        return;
    bgmqi_park_wake(&t->park);
    PTHREAD_OK(pthread_join(t->thread, NULL));
}

void bgmqi_ticker_free(struct ticker *t)
{
    if (!t)
        return;
    bgmqi_ticker_end(t);
    free(t);
}

void bgmqi_ticker_due(struct ticker *t, int64_t due_ms)
{
    if (lower(t, due_ms))
        bgmqi_park_wake(&t->park);
}

void bgmqi_ticker_poke(struct ticker *t)
{
    bgmqi_park_wake(&t->park);
}
