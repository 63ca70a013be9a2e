/* type_find.c - one message, looked for everywhere: memory, database, history.  Any thread that
 * calls bgmq_find; it may wait for the journal. */
#include <stdio.h>
#include <string.h>

#include "type_impl.h"

enum { TRIES = 8 };

static void put_failure(struct bgmq_info *i, const char *code, const char *text,
                        int64_t at_ms)
{
    snprintf(i->error_code, sizeof(i->error_code), "%s", code ? code : "");
    snprintf(i->error_text, sizeof(i->error_text), "%s", text ? text : "");
    i->error_ms = code ? at_ms : 0;
}

static void put_progress(struct bgmq_info *i, struct progress *p)
{
    lock_take(&p->lock);
    i->progress = p->number;
    snprintf(i->progress_text, sizeof(i->progress_text), "%s", p->text ? p->text : "");
    lock_drop(&p->lock);
}

/* The attempt of M, which a desk of T may have begun; the worker counts it without T's lock. */
static unsigned attempt_of(struct type *t, const struct message *m)
{
    if (m->place != PLACE_RUNNING)
        return m->attempt;
    unsigned attempt = 0;
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        if (d->current == m)
            attempt = d->attempt;
        lock_drop(&d->lock);
    }
    return attempt;
}

/* M as it is, in STATE.  The type's lock is held. */
static void describe(struct bgmq_info *i, struct type *t, struct message *m,
                     enum bgmq_state state)
{
    *i = (struct bgmq_info){.id = m->id,
                            .state = state,
                            .attempt = attempt_of(t, m),
                            .crashes = m->crashes,
                            .priority = m->priority,
                            .created_ms = m->created_ms,
                            .due_ms = message_due_ms(m),
                            .expires_ms = message_expires_ms(m)};
    const struct failure *f = message_failure(m);
    struct progress *p = message_progress(m);
    if (f)
        put_failure(i, f->code, f->text, f->at_ms);
    if (p)
        put_progress(i, p);
}

/* ---- memory ------------------------------------------------------------------------ */

static struct message *in_queue(const struct queue *q, uint64_t id)
{
    struct message *m = q->head;
    while (m && m->id != id)
        m = m->next;
    return m;
}

static struct message *in_heap(const struct heap *h, uint64_t id)
{
    struct message *m = NULL;
    while ((m = bgmqi_heap_walk(h, m)) != NULL && m->id != id)
        ;
    return m;
}

/* True: found.  *ON_WAY: it is with the journal, and will arrive. */
static bool find_in_memory(struct type *t, uint64_t id, struct bgmq_info *ret,
                           bool *on_way)
{
    const struct {
        const struct queue *queue;
        const struct heap *heap;
        enum bgmq_state state;
    } places[] = {
        {&t->inq, NULL, BGMQ_STATE_WAITING},
        {&t->suspects[LANE_INQ], NULL, BGMQ_STATE_WAITING},
        {&t->suspects[LANE_PRIORITYQ], NULL, BGMQ_STATE_WAITING},
        {NULL, &t->priorityq, BGMQ_STATE_WAITING},
        {NULL, &t->delayed, BGMQ_STATE_DELAYED},
        {&t->dlq, NULL, BGMQ_STATE_DEAD},
        {&t->out, NULL, BGMQ_STATE_RUNNING},
        {&t->outq, NULL, BGMQ_STATE_DONE},
    };
    struct message *m = NULL;
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    bgmqi_type_unclaim(t); /* what was claimed and did not start still waits */
    for (size_t i = 0; !m && i < sizeof(places) / sizeof(places[0]); i++) {
        m = places[i].queue ? in_queue(places[i].queue, id) : in_heap(places[i].heap, id);
        if (m)
            describe(ret, t, m, places[i].state);
    }
    *on_way = !m && (in_queue(&t->limbo, id) || in_queue(&t->spilled, id));
    bgmqi_type_unlock(t);
    return m != NULL;
}

/* ---- database ---------------------------------------------------------------------- */

struct asked {
    struct type *type;
    uint64_t id;
    struct bgmq_info *info;
    bool found;
    int err;
};

static int see_row(void *ctx, const struct store_row *row)
{
    struct asked *a = ctx;
    static const enum bgmq_state states[LANES] = {
        [LANE_INQ] = BGMQ_STATE_WAITING,
        [LANE_PRIORITYQ] = BGMQ_STATE_WAITING,
        [LANE_DELAYED] = BGMQ_STATE_DELAYED,
        [LANE_DLQ] = BGMQ_STATE_DEAD,
    };
    *a->info = (struct bgmq_info){.id = row->id,
                                  .state = states[row->lane],
                                  .attempt = row->attempt,
                                  .crashes = row->crashes,
                                  .priority = row->priority,
                                  .created_ms = row->created_ms,
                                  .due_ms = row->lane == LANE_DELAYED ? row->key : 0,
                                  .expires_ms = row->ext ? row->ext->expires_ms : 0,
                                  .progress = row->progress};
    if (row->progress_text)
        snprintf(a->info->progress_text, sizeof(a->info->progress_text), "%s",
                 (const char *)row->progress_text);
    put_failure(a->info, row->error_code, row->error_text, row->error_ms);
    a->found = true;
    return 1;
}

static int see_ended(void *ctx, const struct store_ended *e)
{
    struct asked *a = ctx;
    *a->info = (struct bgmq_info){
        .id = a->id,
        .state = e->outcome == OUTCOME_DONE   ? BGMQ_STATE_DONE
                 : e->outcome == OUTCOME_DEAD ? BGMQ_STATE_DEAD
                                              : BGMQ_STATE_DISCARDED,
        .attempt = e->attempts,
        .crashes = e->crashes,
        .priority = e->priority,
        .created_ms = e->created_ms,
        .finished_ms = e->finished_ms,
    };
    put_failure(a->info, e->error_code, e->error_text, e->finished_ms);
    a->found = true;
    return 0;
}

static void ask(void *ctx, struct store *s)
{
    struct asked *a = ctx;
    struct store_search search = {.type = bgmqi_type_number(a->type),
                                  .lanes = (1U << LANES) - 1,
                                  .id = a->id,
                                  .limit = 1,
                                  .max_bytes = 1};
    int n = s->ops->search(s, &search, see_row, a);
    if (n >= 0 && !a->found)
        n = s->ops->ended(s, a->id, see_ended, a);
    a->err = n < 0 ? n : 0;
}

int bgmqi_type_find(struct type *t, uint64_t id, struct bgmq_info *ret)
{
    struct bgmq_info info;
    int err = BGMQ_ENOENT;
    for (int i = 0, vain = 0; i < TRIES && vain < 2 && err == BGMQ_ENOENT; i++) {
        bool on_way = false;
        struct asked a = {.type = t, .id = id, .info = &info};
        if (find_in_memory(t, id, &info, &on_way)) {
            err = 0;
        } else if (on_way && t->env->journal) {
            int late = bgmqi_type_settle_down(t);
            err = late ? late : err;
        } else if (t->env->journal) {
            int late = bgmqi_journal_run(t->env->journal, ask, &a, TYPE_PATIENCE_NS);
            err = late ? late : a.err ? a.err : a.found ? 0 : err;
        }
        vain += !on_way; /* it may have moved between the looks */
    }
    if (!err)
        *ret = info;
    return err;
}
