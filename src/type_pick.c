/* type_pick.c - messages taken out of their lanes for an operation, wherever they rest.
 *
 * From memory on the caller's thread; from the database on the journal's, which has written all
 * that was added before.  A picked message is on type.out, place TAKEN, so no worker starts it
 * and no load takes its row for a waiting one.  Whoever picks holds type.operating, and sends
 * every one of them on, or puts it back. */
#include <stdlib.h>
#include <string.h>

#include "type_impl.h"

enum { PICK_BYTES = 8 << 20, TRIES = 8 };

/* Outside, the lock has no name: a checker cannot follow these two. */
LOCK_ATTR(no_thread_safety_analysis)
void bgmqi_type_operate(struct type *t)
{
    lock_take(&t->operating);
}

LOCK_ATTR(no_thread_safety_analysis)
void bgmqi_type_operated(struct type *t)
{
    lock_drop(&t->operating);
}

static bool same(const char *wanted, const char *have)
{
    return !wanted || (have && strcmp(wanted, have) == 0);
}

bool bgmqi_choice_fits(const struct choice *c, const struct message *m)
{
    const struct message_ext *x = message_ext(m);
    const struct failure *f = message_failure(m);
    return (!c->id || m->id == c->id) && (!c->up_to_id || m->id <= c->up_to_id) &&
           (!c->before_seq || m->seq < c->before_seq) &&
           (!c->before_ms || m->created_ms < c->before_ms) && (!c->failed || f) &&
           (!c->sound || !m->corrupt) && same(c->tag, x ? x->tag : NULL) &&
           same(c->error_code, f ? f->code : NULL) &&
           (!c->expired_ms || (x && x->expires_ms && x->expires_ms <= c->expired_ms));
}

bool bgmqi_choice_has(const struct choice *c, enum lane lane)
{
    return (c->lanes & 1U << lane) != 0;
}

/* ---- memory ------------------------------------------------------------------------ */

/* What is being picked. */
struct hand {
    struct type *type;
    const struct choice *choice;
    struct picked *picks;
    size_t n, max;
};

static void hold(struct hand *h, struct message *m)
{
    m->place = PLACE_TAKEN;
    bgmqi_queue_push(&h->type->out, m);
}

static void pick_queue(struct hand *h, struct queue *q, enum lane lane)
{
    for (struct message *m = q->head, *next; m && h->n < h->max; m = next) {
        next = m->next;
        if (!bgmqi_choice_fits(h->choice, m))
            continue;
        bgmqi_queue_remove(q, m);
        bgmqi_type_unlisted(h->type, m, lane);
        h->picks[h->n++] = (struct picked){.m = m, .from = lane};
        hold(h, m);
    }
}

static void pick_heap(struct hand *h, struct heap *heap, enum lane lane)
{
    size_t first = h->n;
    for (struct message *m = NULL;
         h->n < h->max && (m = bgmqi_heap_walk(heap, m)) != NULL;)
        if (bgmqi_choice_fits(h->choice, m))
            h->picks[h->n++] = (struct picked){.m = m, .from = lane};
    for (size_t i = first; i < h->n; i++) {
        bgmqi_heap_remove(heap, h->picks[i].m);
        hold(h, h->picks[i].m);
    }
}

static void pick_suspects(struct hand *h, enum lane lane)
{
    size_t before = h->n;
    pick_queue(h, &h->type->suspects[lane], lane);
    atomic_fetch_sub(&h->type->env->suspects, h->n - before);
}

size_t bgmqi_type_pick_memory(struct type *t, const struct choice *c,
                              struct picked *picks, size_t max)
{
    struct hand h = {.type = t, .choice = c, .picks = picks, .max = max};
    bgmqi_type_lock(t);
    if (bgmqi_choice_has(c, LANE_INQ) || bgmqi_choice_has(c, LANE_PRIORITYQ))
        bgmqi_type_unclaim(t); /* what was claimed and did not start still waits */
    if (bgmqi_choice_has(c, LANE_INQ)) {
        pick_queue(&h, &t->inq, LANE_INQ);
        pick_suspects(&h, LANE_INQ);
    }
    if (bgmqi_choice_has(c, LANE_PRIORITYQ)) {
        pick_heap(&h, &t->priorityq, LANE_PRIORITYQ);
        pick_suspects(&h, LANE_PRIORITYQ);
    }
    if (bgmqi_choice_has(c, LANE_DELAYED))
        pick_heap(&h, &t->delayed, LANE_DELAYED);
    if (bgmqi_choice_has(c, LANE_DLQ))
        pick_queue(&h, &t->dlq, LANE_DLQ);
    for (int lane = 0; h.n && lane < LANES; lane++)
        bgmqi_type_check_lane(t, (enum lane)lane);
    bgmqi_type_unlock(t);
    return h.n;
}

/* ---- the database ------------------------------------------------------------------ */

/* One look at the rows of a lane that are in the database only. */
struct look {
    struct type *type;
    const struct choice *choice;
    enum lane lane;
    struct picked *picks;
    size_t n, max;
    struct queue found;
    uint64_t after;
    bool over;   /* there are no more rows */
    bool missed; /* a row that fits was not picked: it is on its way */
    int err;
};

static int see_row(void *ctx, const struct store_row *row)
{
    struct look *l = ctx;
    const struct choice *c = l->choice;
    l->over = false;
    if (c->up_to_id && row->id > c->up_to_id) {
        l->over = true;
        return 1;
    }
    l->after = row->id;
    struct message *m = bgmqi_type_message_of(l->type, row);
    if (!m)
        return BGMQ_ENOMEM;
    if (row->lane == l->lane && bgmqi_choice_fits(c, m))
        bgmqi_queue_push(&l->found, m);
    else
        bgmqi_message_unref(m);
    return 0;
}

/* Picks what was found, but for rows of messages that memory has: those before the frontier, and
 * those that came from beyond it and are around. */
static void pick_found(struct look *l)
{
    struct type *t = l->type;
    struct lane_state *lane = &t->lanes[l->lane];
    struct message *sorted[PICK_MAX];
    bgmqi_type_lock(t);
    for (struct message *m = l->found.head, *next; m; m = next) {
        next = m->next;
        if (lane->bounded &&
            !bgmqi_type_before_frontier(lane, bgmqi_type_key(m, l->lane), m->seq))
            continue;
        bgmqi_queue_remove(&l->found, m);
        bgmqi_queue_push(&t->garbage, m);
        l->missed = true;
    }
    l->missed |= bgmqi_type_drop_known(t, &l->found, sorted) > 0;
    for (struct message *m; (m = bgmqi_queue_pop(&l->found)) != NULL;) {
        lane->stored -= lane->stored > 0;
        m->heaped = 1; /* a load may still see its row where it was */
        t->strays |= l->lane == LANE_INQ;
        bgmqi_mem_charge_always(&t->memory, message_cost(m));
        m->place = PLACE_TAKEN;
        bgmqi_queue_push(&t->out, m);
        l->picks[l->n++] = (struct picked){.m = m, .from = l->lane, .stored = true};
    }
    bgmqi_type_check_lane(t, l->lane);
    bgmqi_type_unlock(t);
}

static void look_at_rows(void *ctx, struct store *s)
{
    struct look *l = ctx;
    const struct choice *c = l->choice;
    bgmqi_type_lock(l->type);
    const struct lane_state *lane = &l->type->lanes[l->lane];
    l->over = !lane->bounded || !lane->stored;
    bgmqi_type_unlock(l->type);
    if (l->over)
        return;
    struct store_search search = {.type = bgmqi_type_number(l->type),
                                  .lanes = 1U << l->lane,
                                  .id = c->id,
                                  .tag = c->tag,
                                  .error_code = c->error_code,
                                  .before_ms = c->before_ms,
                                  .expired_ms = c->expired_ms,
                                  .after_id = l->after,
                                  .limit = l->max < PICK_MAX ? l->max : PICK_MAX,
                                  .max_bytes = PICK_BYTES};
    l->over = true; /* unless a row says otherwise */
    l->err = s->ops->search(s, &search, see_row, l);
    if (l->err >= 0)
        l->err = 0;
    if (c->id)
        l->over = true;
    pick_found(l);
}

int bgmqi_type_pick_rows(struct type *t, struct store *s, const struct choice *c,
                         struct cursor *at, struct picked *picks, size_t max)
{
    struct look l = {.type = t,
                     .choice = c,
                     .lane = at->lane,
                     .after = at->after,
                     .picks = picks,
                     .max = max};
    int err = 0;
    if (s)
        look_at_rows(&l, s);
    else
        err = bgmqi_journal_run(t->env->journal, look_at_rows, &l, TYPE_PATIENCE_NS);
    at->after = l.after;
    at->over = err || l.err || l.over;
    at->missed |= l.missed;
    if (l.n)
        return (int)l.n; /* an error will come again */
    return err ? err : l.err;
}

/* ---- one message ------------------------------------------------------------------- */

enum whereabouts { NOWHERE, ON_ITS_WAY, HELD };

static bool holds(const struct queue *q, uint64_t id)
{
    for (const struct message *m = q->head; m; m = m->next)
        if (m->id == id)
            return true;
    return false;
}

static enum whereabouts whereabouts(struct type *t, uint64_t id)
{
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    enum whereabouts w = holds(&t->out, id)                               ? HELD
                         : holds(&t->limbo, id) || holds(&t->spilled, id) ? ON_ITS_WAY
                                                                          : NOWHERE;
    bgmqi_type_unlock(t);
    return w;
}

static void nothing(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
}

int bgmqi_type_settle_down(struct type *t)
{
    return t->env->journal
               ? bgmqi_journal_run(t->env->journal, nothing, NULL, TYPE_PATIENCE_NS)
               : 0;
}

/* Looks for the row of C's message in all lanes of C; 1: found. */
static int pick_row(struct type *t, const struct choice *c, struct picked *ret,
                    bool *missed)
{
    int n = 0;
    for (int lane = 0; lane < LANES && n == 0; lane++) {
        struct cursor at = {.lane = (enum lane)lane};
        if (!bgmqi_choice_has(c, (enum lane)lane) || !bgmqi_type_has_rows(t, at.lane))
            continue;
        n = bgmqi_type_pick_rows(t, NULL, c, &at, ret, 1);
        *missed |= at.missed;
    }
    return n;
}

int bgmqi_type_pick_one(struct type *t, const struct choice *c, struct picked *ret)
{
    int vain = 0;
    for (int i = 0; i < TRIES && vain < 2; i++) {
        bool missed = false;
        if (bgmqi_type_pick_memory(t, c, ret, 1))
            return 0;
        enum whereabouts w = whereabouts(t, c->id);
        if (w == HELD)
            return BGMQ_EBUSY;
        int n = t->env->journal ? pick_row(t, c, ret, &missed) : 0;
        if (n > 0)
            return 0;
        if (n == 0 && w == ON_ITS_WAY)
            n = bgmqi_type_settle_down(t);
        if (n < 0)
            return n;
        /* It may have moved between the looks: into a place that was looked at before. */
        vain = w == ON_ITS_WAY || missed ? 0 : vain + 1;
    }
    return BGMQ_ENOENT;
}

int bgmqi_type_pick(struct type *t, uint64_t id, unsigned lanes, struct message **ret,
                    enum lane *from)
{
    struct choice c = {.lanes = lanes, .id = id};
    struct picked p;
    int err = bgmqi_type_pick_one(t, &c, &p);
    if (err)
        return err;
    *ret = p.m;
    *from = p.from;
    return 0;
}

void bgmqi_type_unpick(struct type *t, struct message *m, enum lane from)
{
    bgmqi_type_lock(t);
    if (from != LANE_DELAYED && bgmqi_getters_offer(&t->getters[from], m)) {
        t->taken++; /* it stays on out, for who waited meanwhile */
    } else if (from == LANE_DELAYED || from == LANE_PRIORITYQ) {
        bgmqi_type_leave_out(t, m);
        bgmqi_type_place(t, m, from);
    } else if (from == LANE_DLQ) {
        bgmqi_type_leave_out(t, m);
        m->place = PLACE_DLQ;
        bgmqi_queue_push_front(&t->dlq, m);
    } else {
        bgmqi_type_place_back(t, m);
    }
    bgmqi_type_unlock(t);
}

/* ---- many -------------------------------------------------------------------------- */

bool bgmqi_type_has_rows(struct type *t, enum lane lane)
{
    bgmqi_type_lock(t);
    bool has = t->lanes[lane].stored || t->lanes[lane].in_journal;
    bgmqi_type_unlock(t);
    return has;
}

static uint64_t hauls(struct type *t)
{
    bgmqi_type_lock(t);
    uint64_t n = t->hauls;
    bgmqi_type_unlock(t);
    return n;
}

static bool on_their_way(struct type *t, const struct choice *c)
{
    bool any = false;
    bgmqi_type_lock(t);
    for (const struct message *m = t->limbo.head; m && !any; m = m->next)
        any = bgmqi_choice_fits(c, m);
    for (const struct message *m = t->spilled.head; m && !any; m = m->next)
        any = bgmqi_choice_fits(c, m);
    bgmqi_type_unlock(t);
    return any;
}

/* One operation on many messages. */
struct sweep {
    struct type *type;
    const struct choice *choice;
    size_t left; /* so many more */
    int total;
    bgmqi_type_act_fn *act;
    void *ctx;
};

static int act_on(struct sweep *w, struct picked *picks, size_t n)
{
    int err = w->act(w->ctx, w->type, picks, n);
    if (err)
        return err;
    w->total += (int)n;
    w->left -= n;
    return 0;
}

static int sweep_memory(struct sweep *w)
{
    struct picked picks[PICK_MAX];
    for (int err = 0; w->left;) {
        size_t max = w->left < PICK_MAX ? w->left : PICK_MAX;
        size_t n = bgmqi_type_pick_memory(w->type, w->choice, picks, max);
        if (n == 0)
            break;
        if ((err = act_on(w, picks, n)) != 0)
            return err;
    }
    return 0;
}

static int sweep_rows(struct sweep *w, enum lane lane, bool *missed)
{
    struct picked picks[PICK_MAX];
    struct cursor at = {.lane = lane};
    while (!at.over && w->left) {
        size_t max = w->left < PICK_MAX ? w->left : PICK_MAX;
        int n = bgmqi_type_pick_rows(w->type, NULL, w->choice, &at, picks, max);
        if (n > 0)
            n = act_on(w, picks, (size_t)n);
        if (n < 0)
            return n;
    }
    *missed |= at.missed;
    return 0;
}

int bgmqi_type_sweep(struct type *t, const struct choice *c, size_t max,
                     bgmqi_type_act_fn *act, void *ctx)
{
    struct sweep w = {.type = t,
                      .choice = c,
                      .left = max < INT32_MAX ? max : INT32_MAX,
                      .act = act,
                      .ctx = ctx};
    bool again = true;
    int err = 0;
    /* A row that a load brings meanwhile is met in memory by the next pass. */
    for (int i = 0; i < TRIES && again && w.left && !err; i++) {
        int before = w.total;
        bool missed = false;
        uint64_t seen = hauls(t);
        err = sweep_memory(&w);
        for (int lane = 0; t->env->journal && lane < LANES && !err; lane++)
            if (bgmqi_choice_has(c, (enum lane)lane) &&
                bgmqi_type_has_rows(t, (enum lane)lane))
                err = sweep_rows(&w, (enum lane)lane, &missed);
        bool waits = t->env->journal && on_their_way(t, c);
        if (!err && waits)
            err = bgmqi_type_settle_down(t);
        again = w.total > before || missed || waits || hauls(t) != seen;
    }
    return w.total ? w.total : err;
}
