/* inspect.c - counts and pages: a snapshot of every type, then report.c writes it.  Any thread;
 * each type is locked for the copy of its counts only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "inbox.h"
#include "notice.h"
#include "report.h"

/* ---- one look at the service ------------------------------------------------------- */

struct look {
    struct report report;
    size_t room_collections;
};

static int add_workers(struct look *l, struct type *t)
{
    struct report *r = &l->report;
    size_t n = bgmqi_type_workers(t, NULL, 0);
    if (n == 0)
        return 0;
    struct bgmq_stats *stats = calloc(n, sizeof(*stats));
    if (stats) {
        size_t now = bgmqi_type_workers(t, stats, n);
        n = now < n ? now : n;
    }
    struct report_worker *workers =
        stats ? reallocarray(r->workers, r->n_workers + n, sizeof(*workers)) : NULL;
    if (!workers) {
        free(stats);
        return BGMQ_ENOMEM;
    }
    r->workers = workers;
    for (size_t i = 0; i < n; i++) {
        struct report_worker *w = &r->workers[r->n_workers++];
        snprintf(w->queue, sizeof(w->queue), "mq:%s.inq", bgmqi_type_name(t));
        w->stats = stats[i];
    }
    free(stats);
    return 0;
}

static void add_stats(struct bgmq_stats *sum, struct type *t)
{
    struct bgmq_stats both[2] = {*sum};
    bgmqi_type_stats(t, &both[1]);
    bgmq_stats_combine(both, 2, sum);
}

static int look_at_type(void *ctx, struct type *t)
{
    struct look *l = ctx;
    struct report *r = &l->report;
    if (r->n_collections == l->room_collections) {
        size_t room = 2 * l->room_collections + 16;
        struct bgmq_collection *c = reallocarray(r->collections, room, sizeof(*c));
        if (!c)
            return BGMQ_ENOMEM;
        r->collections = c;
        l->room_collections = room;
    }
    bgmqi_type_collection(t, &r->collections[r->n_collections++]);
    add_stats(&r->total, t);
    return add_workers(l, t);
}

static void total_name(struct bgmq_stats *s)
{
    snprintf(s->name, sizeof(s->name), "ALL WORKERS");
}

static void look_at_counters(struct bgmq *mq, struct bgmq_counters *ret)
{
    enum journal_state state = (enum journal_state)0;
    struct bgmq_counters c = {.replayed = mq->replayed,
                              .replies_dropped = atomic_load(&mq->replies_dropped),
                              .lost = atomic_load(&mq->types.lost),
                              .breaker = atomic_load(&mq->breaker),
                              .draining = atomic_load(&mq->draining),
                              .solo = atomic_load(&mq->types.started) == GATE_SOLO,
                              .inbox = bgmqi_inbox_taken(mq->inbox),
                              .admin = bgmqi_notice_admin(mq)};
    if (mq->journal)
        bgmqi_journal_counts(mq->journal, &c.commits, &c.journal_waiting, &state);
    if (mq->journal)
        c.slow_ms = (uint64_t)(bgmqi_journal_slow_ns(mq->journal) / 1000000);
    c.store_state = (int)state;
    *ret = c;
}

static int look(struct bgmq *mq, struct report *ret)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    struct look l = {.report = {.started = atomic_load(&mq->types.started) != GATE_SHUT}};
    total_name(&l.report.total);
    look_at_counters(mq, &l.report.counters);
    err = bgmqi_registry_each(mq->registry, false, look_at_type, &l);
    if (err)
        bgmqi_report_fini(&l.report);
    else
        *ret = l.report;
    return err;
}

/* ---- public ------------------------------------------------------------------------ */

static int sum_type(void *ctx, struct type *t)
{
    add_stats(ctx, t);
    return 0;
}

int bgmq_total_stats(struct bgmq *mq, struct bgmq_stats *ret)
{
    int err = bgmqi_handle_enter(mq);
    if (!err && !ret)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    struct bgmq_stats sum = {.last_ms = 0};
    total_name(&sum);
    bgmqi_registry_each(mq->registry, false, sum_type, &sum);
    *ret = sum;
    return 0;
}

int bgmq_type_stats(struct bgmq *mq, const char *type, struct bgmq_stats *ret)
{
    struct type *t;
    int err = ret ? bgmqi_handle_type(mq, type, &t) : BGMQ_EINVAL;
    if (!err)
        bgmqi_type_stats(t, ret);
    return err;
}

int bgmq_workers(struct bgmq *mq, const char *queue, struct bgmq_stats *ret, size_t max)
{
    struct address a;
    int err = bgmqi_handle_enter(mq);
    if (!err && max && !ret)
        err = BGMQ_EINVAL;
    if (!err)
        err = bgmqi_registry_lookup(mq->registry, queue, &a);
    if (err)
        return err;
    bgmqi_custom_unref(a.custom);
    bool listens = a.place == PLACE_INQ || a.place == PLACE_PRIORITYQ;
    return listens ? (int)bgmqi_type_workers(a.type, ret, max) : 0;
}

int bgmq_type_collection(struct bgmq *mq, const char *type, struct bgmq_collection *ret)
{
    struct type *t;
    int err = ret ? bgmqi_handle_type(mq, type, &t) : BGMQ_EINVAL;
    if (!err)
        bgmqi_type_collection(t, ret);
    return err;
}

int bgmq_description_map(struct bgmq *mq, const char *type, struct bgmq_entry ret[9])
{
    struct bgmq_collection c;
    int err = ret ? bgmq_type_collection(mq, type, &c) : BGMQ_EINVAL;
    if (!err)
        bgmqi_report_map(&c, ret);
    return err;
}

int bgmq_service_counters(struct bgmq *mq, struct bgmq_counters *ret)
{
    int err = bgmqi_handle_enter(mq);
    if (!err && !ret)
        err = BGMQ_EINVAL;
    if (!err)
        look_at_counters(mq, ret);
    return err;
}

/* Hands TEXT, a page of REPORT, to the caller. */
static int give(struct report *report, char *text, char **ret)
{
    bgmqi_report_fini(report);
    if (!text)
        return BGMQ_ENOMEM;
    *ret = text;
    return 0;
}

int bgmq_status_text(struct bgmq *mq, char **ret)
{
    struct report r;
    int err = ret ? look(mq, &r) : BGMQ_EINVAL;
    return err ? err : give(&r, bgmqi_report_status_text(&r), ret);
}

int bgmq_status_json(struct bgmq *mq, char **ret)
{
    struct report r;
    int err = ret ? look(mq, &r) : BGMQ_EINVAL;
    return err ? err : give(&r, bgmqi_report_status_json(&r), ret);
}

int bgmq_stats_text(struct bgmq *mq, char **ret)
{
    struct report r;
    int err = ret ? look(mq, &r) : BGMQ_EINVAL;
    return err ? err : give(&r, bgmqi_report_stats_text(&r.total), ret);
}

int bgmq_stats_json(struct bgmq *mq, char **ret)
{
    struct report r;
    int err = ret ? look(mq, &r) : BGMQ_EINVAL;
    return err ? err : give(&r, bgmqi_report_stats_json(&r), ret);
}

int bgmq_description_text(struct bgmq *mq, const char *type, char **ret)
{
    struct bgmq_collection c;
    int err = ret ? bgmq_type_collection(mq, type, &c) : BGMQ_EINVAL;
    if (err)
        return err;
    char *text = bgmqi_report_description_text(&c);
    if (!text)
        return BGMQ_ENOMEM;
    *ret = text;
    return 0;
}
