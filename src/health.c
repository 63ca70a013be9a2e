/* health.c - what runs, and how the service is.  Any thread; types are locked one at a time, for
 * the copy of what they know, and the database is not asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"

/* ---- what runs ----------------------------------------------------------------------- */

struct runs {
    int64_t now_ns;
    struct bgmq_run *all;
    size_t n, cap;
};

static int add_runs(void *ctx, struct type *t)
{
    struct runs *r = ctx;
    size_t n = bgmqi_type_runs(t, r->now_ns, NULL, 0);
    if (n == 0)
        return 0;
    if (r->cap - r->n < n) {
        size_t cap = 2 * r->cap + n;
        struct bgmq_run *more = reallocarray(r->all, cap, sizeof(*more));
        if (!more)
            return BGMQ_ENOMEM;
        r->all = more;
        r->cap = cap;
    }
    size_t room = r->cap - r->n;
    n = bgmqi_type_runs(t, r->now_ns, r->all + r->n, room);
    for (n = n < room ? n : room; n; n--, r->n++)
        snprintf(r->all[r->n].type, sizeof(r->all[r->n].type), "%s", bgmqi_type_name(t));
    return 0;
}

static int longest_first(const void *a, const void *b)
{
    int64_t x = ((const struct bgmq_run *)a)->running_ms;
    int64_t y = ((const struct bgmq_run *)b)->running_ms;
    return (x < y) - (x > y);
}

int bgmq_runs(struct bgmq *mq, struct bgmq_run *ret, size_t max)
{
    int err = bgmqi_handle_enter(mq);
    if (!err && max && !ret)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    struct runs r = {.now_ns = clock_mono_ns(mq->clock)};
    err = bgmqi_registry_each(mq->registry, true, add_runs, &r);
    if (!err && r.n) {
        qsort(r.all, r.n, sizeof(*r.all), longest_first);
        if (max)
            memcpy(ret, r.all, (r.n < max ? r.n : max) * sizeof(*ret));
    }
    free(r.all);
    return err ? err : (int)r.n;
}

/* ---- how it is ------------------------------------------------------------------------ */

struct look {
    int64_t now_ns, oldest_ms;
    struct run_counts counts;
    unsigned parked;
};

static int look_at_type(void *ctx, struct type *t)
{
    struct look *l = ctx;
    if (!bgmqi_type_registered(t)) {
        struct bgmq_collection c;
        bgmqi_type_collection(t, &c);
        l->parked += c.inq || c.priorityq || c.delayed;
        return 0;
    }
    bgmqi_type_run_counts(t, l->now_ns, &l->counts);
    int64_t oldest_ms = bgmqi_type_paused(t) ? INT64_MAX : bgmqi_type_oldest_ms(t);
    if (oldest_ms < l->oldest_ms)
        l->oldest_ms = oldest_ms;
    return 0;
}

static void describe(struct bgmq_health *h)
{
    if (h->ok && h->slow_ms)
        snprintf(h->text, sizeof(h->text),
                 "ok; the store is slow: a commit takes %lld ms", (long long)h->slow_ms);
    else if (h->ok)
        snprintf(h->text, sizeof(h->text), "ok");
    else
        snprintf(h->text, sizeof(h->text),
                 "%s%u handlers beyond their time-out, %u given up",
                 h->store_failed ? "the store has failed or does not answer; " : "",
                 h->overdue, h->stuck);
}

int bgmq_health(struct bgmq *mq, struct bgmq_health *ret)
{
    int err = bgmqi_handle_enter(mq);
    if (!err && !ret)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    struct look l = {.now_ns = clock_mono_ns(mq->clock), .oldest_ms = INT64_MAX};
    bgmqi_registry_each(mq->registry, false, look_at_type, &l);
    uint64_t commits, waiting;
    enum journal_state state = JOURNAL_GOOD;
    if (mq->journal)
        bgmqi_journal_counts(mq->journal, &commits, &waiting, &state);
    struct bgmq_health h = {.store_failed = state != JOURNAL_GOOD,
                            .overdue = (unsigned)l.counts.overdue,
                            .stuck = (unsigned)l.counts.stuck,
                            .parked = l.parked};
    if (mq->journal)
        h.slow_ms = bgmqi_journal_slow_ns(mq->journal) / 1000000;
    int64_t age_ms =
        l.oldest_ms == INT64_MAX ? 0 : clock_wall_ms(mq->clock) - l.oldest_ms;
    h.oldest_ms = age_ms > 0 ? age_ms : 0;
    h.ok = !h.store_failed && !h.overdue && !h.stuck;
    describe(&h);
    *ret = h;
    return 0;
}
