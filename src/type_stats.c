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
    int64_t now_ns = clock_mono_ns(t->env->clock), oldest_ns = 0;
    name_of(t, c.name);
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    c.inq = lane_count(t, LANE_INQ);
    c.running = t->unsettled;
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        c.inq += d->n - d->first; /* claimed, and still waiting */
        bool lost = atomic_load(&d->turn) == TURN_LOST;
        c.running += d->current && !lost;
        if (d->current && now_ns - d->start_ns > oldest_ns)
            oldest_ns = now_ns - d->start_ns;
        c.stuck += d->current && lost;
        lock_drop(&d->lock);
    }
    c.inq += t->suspects[LANE_INQ].len;
    c.priorityq = lane_count(t, LANE_PRIORITYQ) + t->suspects[LANE_PRIORITYQ].len;
    c.suspects = t->suspects[LANE_INQ].len + t->suspects[LANE_PRIORITYQ].len;
    c.longest_ms = oldest_ns / 1000000;
    c.expired = t->expired;
    c.timeouts = t->timeouts;
    c.paused = atomic_load(&t->paused);
    c.delayed = lane_count(t, LANE_DELAYED);
    c.dlq = lane_count(t, LANE_DLQ);
    c.outq = t->outq.len;
    c.threads = t->workers;
    c.added = t->added;
    c.taken = t->taken;
    c.outq_added = t->outq_added;
    c.dlq_added = t->dlq_added;
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

/* ---- what runs ---------------------------------------------------------------------- */

void bgmqi_type_run_counts(struct type *t, int64_t now_ns, struct run_counts *sum)
{
    bgmqi_type_lock(t);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        bool lost = atomic_load(&d->turn) == TURN_LOST;
        /* A suspect that was let through runs, if it has not begun. */
        sum->running += (d->current || d->alone) && !lost;
        sum->stuck += d->current && lost;
        sum->overdue += d->current && !lost && now_ns >= d->deadline_ns;
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
}

static void describe(const struct desk *d, bool lost, int64_t now_ns,
                     struct bgmq_run *ret)
{
    int64_t ran = now_ns - d->start_ns;
    *ret = (struct bgmq_run){
        .id = d->current->id,
        .attempt = d->attempt,
        .running_ms = ran > 0 ? ran / 1000000 : 0,
        .cancelled = atomic_load(&d->cancelled) != 0,
        .stuck = lost,
    };
    struct progress *p = lost ? NULL : message_progress(d->current);
    if (p) {
        lock_take(&p->lock);
        ret->progress = p->number;
        lock_drop(&p->lock);
    }
}

size_t bgmqi_type_runs(struct type *t, int64_t now_ns, struct bgmq_run *ret, size_t max)
{
    size_t n = 0;
    bgmqi_type_lock(t);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        if (d->current && n < max)
            describe(d, atomic_load(&d->turn) == TURN_LOST, now_ns, &ret[n]);
        n += d->current != NULL;
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
    return n;
}

void bgmqi_type_take_timing(struct type *t, struct timing *sum)
{
    bgmqi_type_lock(t);
    bgmqi_timing_move(sum, &t->past_timing);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        bgmqi_timing_move(sum, &d->timing);
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
}

int64_t bgmqi_type_oldest_ms(struct type *t)
{
    int64_t oldest = INT64_MAX;
    bgmqi_type_lock(t);
    const struct message *heads[] = {t->inq.head, t->priorityq.top,
                                     t->suspects[LANE_INQ].head,
                                     t->suspects[LANE_PRIORITYQ].head};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        if (heads[i] && heads[i]->created_ms < oldest)
            oldest = heads[i]->created_ms;
    bgmqi_type_unlock(t);
    return oldest;
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
