/* type_stats.c - the counts of a type, taken in one step under its lock.  Any thread. */
#include <stdio.h>

#include "type_impl.h"

static void name_of(const struct type *t, char ret[208])
{
    snprintf(ret, 208, "%s", t->name);
}

static uint64_t lane_count(const struct type *t, enum lane lane)
{
    return bgmqi_type_lane_len(t, lane) + t->lanes[lane].stored +
           t->lanes[lane].in_journal;
}

void bgmqi_type_collection(struct type *t, struct bgmq_collection *ret)
{
    struct bgmq_collection c = {.registered = bgmqi_type_registered(t)};
    name_of(t, c.name);
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    c.inq = lane_count(t, LANE_INQ);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        for (unsigned i = d->first; i < d->n; i++) /* claimed, and still waiting */
            c.inq++;
        c.running += d->current != NULL;
        lock_drop(&d->lock);
    }
    c.priorityq = lane_count(t, LANE_PRIORITYQ);
    c.delayed = lane_count(t, LANE_DELAYED);
    c.dlq = lane_count(t, LANE_DLQ);
    c.outq = t->outq.len;
    c.threads = t->workers;
    c.added = t->added;
    c.taken = t->taken;
    c.outq_added = t->outq_added;
    c.dlq_added = t->dlq_added;
    c.expired = t->expired;
    bgmqi_type_unlock(t);
    *ret = c;
}

void bgmqi_type_add_stats(struct bgmq_stats *sum, const struct bgmq_stats *s)
{
    sum->normal_received += s->normal_received;
    sum->priority_received += s->priority_received;
    sum->processed += s->processed;
    sum->failed += s->failed;
    sum->retries += s->retries;
    if (s->last_ms > sum->last_ms)
        sum->last_ms = s->last_ms;
}

void bgmqi_type_stats(struct type *t, struct bgmq_stats *ret)
{
    bgmqi_type_lock(t);
    struct bgmq_stats sum = t->past;
    name_of(t, sum.name);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        bgmqi_type_add_stats(&sum, &d->stats);
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
    *ret = sum;
}

size_t bgmqi_type_workers(struct type *t, struct bgmq_stats *ret, size_t max)
{
    size_t n = 0;
    bgmqi_type_lock(t);
    for (struct desk *d = t->desks; d; d = d->next) {
        if (d->quit)
            continue;
        if (n < max) {
            lock_take(&d->lock);
            ret[n] = d->stats;
            lock_drop(&d->lock);
            name_of(t, ret[n].name);
        }
        n++;
    }
    bgmqi_type_unlock(t);
    return n;
}

int bgmq_stats_combine(const struct bgmq_stats *stats, size_t n, struct bgmq_stats *ret)
{
    if (!stats || n == 0 || !ret)
        return BGMQ_EINVAL;
    struct bgmq_stats sum = stats[0];
    for (size_t i = 1; i < n; i++)
        bgmqi_type_add_stats(&sum, &stats[i]);
    *ret = sum;
    return 0;
}
