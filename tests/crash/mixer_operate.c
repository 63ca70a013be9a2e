/* mixer_operate.c - the thread of the mixer that operates: it deletes, cancels, puts off and looks
 * for messages that were published not long ago, and gives the dead a new life.
 *
 * A line that says what is about to be done comes before the act; one that says what has been
 * done, and is true of all later processes too, comes after a flush. */
#include "mixer_impl.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

struct operator
{
    struct part *part;
    struct mixer *x;
};

static uint64_t below(struct operator* o, uint64_t n)
{
    return (next_random(&o->part->random) >> 7) % n;
}

/* One of those that were published last; 0: there are none yet. */
static int choose(struct operator* o, struct recent *ret)
{
    struct mixer *x = o->x;
    pthread_mutex_lock(&x->lock);
    size_t n = x->recents < RECENT ? x->recents : RECENT;
    if (n)
        *ret = x->recent[(x->recents - 1 - below(o, n)) % RECENT];
    pthread_mutex_unlock(&x->lock);
    return n > 0;
}

static void discard(struct operator* o, const struct recent *r)
{
    history_write(o->x->history, "V %s", r->key);
    int n = bgmq_discard(o->x->mq, r->type, &(struct bgmq_select){.id = r->id});
    if (n == 1 && bgmq_flush(o->x->mq) == 0)
        history_write(o->x->history, "U %s", r->key);
}

static void cancel(struct operator* o, const struct recent *r)
{
    struct bgmq *mq = o->x->mq;
    struct bgmq_select which = {.id = r->id};
    struct bgmq_message_options carried = {0};
    struct bgmq_info info;
    const char *meta[3];
    mixer_load(r->key, meta, &carried);
    if (carried.tag && below(o, 2))
        which = (struct bgmq_select){.tag = carried.tag};
    history_write(o->x->history, "C %s", r->key);
    int n = bgmq_cancel(mq, r->type, &which, "by the operator");
    if (n != 1 || bgmq_find(mq, r->type, r->id, &info) != 0)
        return;
    int waits = info.state == BGMQ_STATE_WAITING || info.state == BGMQ_STATE_DELAYED;
    if (info.state == BGMQ_STATE_DEAD && bgmq_flush(mq) == 0)
        history_write(o->x->history, "k %s", r->key);
    else if (waits && strcmp(r->type, "Flaky") != 0) /* its handlers may snooze */
        history_write(o->x->history, "u %s", r->key);
}

static void change(struct operator* o, const struct recent *r)
{
    struct bgmq_change change = {.set_time = below(o, 3) > 0};
    change.set_priority = !change.set_time || below(o, 2);
    if (change.set_time)
        change.run_at_ms = wall_ms() + (int64_t)below(o, 40);
    if (change.set_priority)
        change.priority = (int)below(o, 9);
    if (change.set_time)
        history_write(o->x->history, "m %s %" PRId64, r->key, change.run_at_ms);
    int err = bgmq_change(o->x->mq, r->type, r->id, &change);
    if (!err && change.set_time && bgmq_flush(o->x->mq) == 0)
        history_write(o->x->history, "M %s %" PRId64, r->key, change.run_at_ms);
    else if (change.set_time && (err == BGMQ_ENOENT || err == BGMQ_EBUSY))
        history_write(o->x->history, "m %s -1", r->key);
}

/* What was accepted is somewhere: nothing is taken out of the history here. */
static void look_for(struct operator* o, const struct recent *r)
{
    struct bgmq_info info;
    if (bgmq_find(o->x->mq, r->type, r->id, &info) == BGMQ_ENOENT)
        history_write(o->x->history, "u %s", r->key);
}

static void raise_the_dead(struct operator* o, const struct recent *r)
{
    struct bgmq_select which = {.max = (unsigned)below(o, 5)};
    if (below(o, 2))
        which.id = r->id;
    history_write(o->x->history, "W");
    bgmq_retry(o->x->mq, r->type, &which);
}

static void hurry(struct operator* o)
{
    history_write(o->x->history, "w 1");
    bgmq_retry_pending(o->x->mq, NULL);
    history_write(o->x->history, "w 0");
}

void *mixer_operate(void *arg)
{
    struct operator o = {.part = arg, .x = ((struct part *)arg)->x};
    struct recent r;
    for (o.part->n = 0; o.part->n < o.x->publishes; o.part->n++) {
        uint64_t kind = below(&o, 24);
        poll(NULL, 0,
             (int)below(&o, 3)); /* they are to be in every place when it comes */
        if (!choose(&o, &r))
            continue;
        if (kind < 5)
            discard(&o, &r);
        else if (kind < 10)
            cancel(&o, &r);
        else if (kind < 16)
            change(&o, &r);
        else if (kind < 22)
            look_for(&o, &r);
        else if (kind < 23)
            hurry(&o);
        else if (below(&o, 4) == 0)
            raise_the_dead(&o, &r);
    }
    return NULL;
}
