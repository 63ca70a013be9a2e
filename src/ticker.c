/* ticker.c - sleeps until the next due time, at most a second, and ticks the types that are due.
 *
 * The second is the bound after which a wall clock that was set is noticed.  NEXT_MS is what
 * the thread sleeps towards; who brings an earlier time lowers it and wakes the thread.
 *
 * A turn visits only what is due by the agenda: a type with nothing delayed, nothing that expires
 * and no load to be tried again is not in it.  (10,000 quiet types, visited each second, took 1 %
 * of a processor, and with one delayed message a millisecond all of it.)  Every type is visited in
 * the first turn, when somebody asks for it, and when the wall clock was set back, as a time that
 * was reckoned from the old one may be far away by the new. */
#include "ticker.h"

#include <stdlib.h>

#include "agenda.h"
#include "park.h"
#include "thread.h"

struct ticker {
    struct ticker_options options; /* set once, then read only */
    pthread_t thread;
    bool runs; /* set before anybody else may end it */
    struct park park;
    struct agenda agenda; /* of types, by the wall clock */
    _Atomic int64_t next_ms;
    _Atomic bool all; /* the next turn visits every type */
    _Atomic bool quit;

    int64_t last_ms; /* of the last turn; used by the ticker only */
};

struct turn {
    struct ticker *ticker;
    int64_t now_ms;
};

static int tick_type(void *ctx, struct type *t)
{
    struct turn *turn = ctx;
    int64_t next = bgmqi_type_tick(t, turn->now_ms);
    if (next != INT64_MAX)
        bgmqi_agenda_tell(&turn->ticker->agenda, bgmqi_type_due_item(t), next);
    return 0;
}

static void tick_types(struct ticker *t, int64_t now_ms)
{
    struct turn turn = {.ticker = t, .now_ms = now_ms};
    bool all = atomic_exchange(&t->all, false) || now_ms < t->last_ms;
    t->last_ms = now_ms;
    struct agenda_item *due = bgmqi_agenda_take(&t->agenda, now_ms);
    for (struct agenda_item *next; due; due = next) {
        next = due->also;
        if (!all)
            tick_type(&turn, due->owner);
    }
    if (all)
        bgmqi_registry_each(t->options.registry, false, tick_type, &turn);
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
    int64_t now_ms = clock_wall_ms(t->options.clock);
    tick_types(t, now_ms);
    int64_t wait_ms = t->options.also(t->options.ctx);
    int64_t next_ms = bgmqi_agenda_next(&t->agenda);
    if (next_ms != INT64_MAX) {
        lower(t, next_ms);
        int64_t left = next_ms > now_ms ? next_ms - now_ms : 0;
        wait_ms = left < wait_ms ? left : wait_ms;
    }
    return wait_ms;
}

static void *run(void *arg)
{
    struct ticker *t = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
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
    bgmqi_agenda_init(&t->agenda);
    atomic_init(&t->next_ms, INT64_MAX);
    atomic_init(&t->all, true);
    t->last_ms = INT64_MIN;
    *ret = t;
    return 0;
}

int bgmqi_ticker_start(struct ticker *t)
{
    if (t->options.by_hand)
        return 0;
    if (bgmqi_thread_start(&t->thread, "bgmq-ticker", t->options.stack_size, run, t) != 0)
        return BGMQ_ETHREAD;
    t->runs = true;
    return 0;
}

void bgmqi_ticker_end(struct ticker *t)
{
    if (atomic_exchange(&t->quit, true) || !t->runs)
        return;
    bgmqi_park_wake(&t->park);
    PTHREAD_OK(pthread_join(t->thread, NULL));
}

void bgmqi_ticker_free(struct ticker *t)
{
    if (!t)
        return;
    bgmqi_ticker_end(t);
    bgmqi_agenda_fini(&t->agenda);
    free(t);
}

void bgmqi_ticker_due(struct ticker *t, struct type *type, int64_t due_ms)
{
    /* First: who is woken by what comes next finds it. */
    bgmqi_agenda_tell(&t->agenda, bgmqi_type_due_item(type), due_ms);
    if (lower(t, due_ms))
        bgmqi_park_wake(&t->park);
}

void bgmqi_ticker_all(struct ticker *t)
{
    atomic_store(&t->all, true);
    bgmqi_park_wake(&t->park);
}

void bgmqi_ticker_poke(struct ticker *t)
{
    bgmqi_park_wake(&t->park);
}
