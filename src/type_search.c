/* type_search.c - what an operator asks of messages that rest: the dead raised, those that wait out
 * a back-off run now, others cancelled, discarded or changed.
 *
 * Any thread that calls the public functions; it may wait for the journal.  Every one of them
 * holds type.operating, picks (type_pick.c) and sends on. */
#include <stdlib.h>

#include "type_impl.h"

enum {
    WAITING = 1 << LANE_INQ | 1 << LANE_PRIORITYQ | 1 << LANE_DELAYED,
    DEAD = 1 << LANE_DLQ
};

/* ---- one picked message goes on ---------------------------------------------------- */

bool bgmqi_type_revive(struct type *t, struct message *m, struct journal_entry *entry)
{
    m->attempt = 0;
    m->crashes = 0;
    message_put_due_ms(m, 0);
    bgmqi_failure_unref(message_put_failure(m, NULL));
    return bgmqi_type_send(t, m, bgmqi_type_ready_lane(m), entry, OUTCOME_NONE);
}

static struct journal_entry *entry_for(const struct message *m)
{
    return m->row != ROW_NONE ? bgmqi_type_entry() : NULL;
}

/* Gives COPY what M has besides its body.  ENOMEM. */
static int copy_extra(struct message *copy, const struct message *m)
{
    struct message_ext *ext = NULL;
    if (!message_extra(m))
        return 0;
    int err = message_ext(m) ? bgmqi_message_ext_copy(message_ext(m), &ext) : 0;
    if (err)
        return err;
    bgmqi_message_set_ext(copy, ext);
    if (!ext && (err = bgmqi_message_extend(copy)) != 0)
        return err;
    message_put_failure(copy, bgmqi_failure_ref(message_failure(m)));
    message_put_progress(copy, bgmqi_progress_ref(message_progress(m)));
    message_put_due_ms(copy, message_due_ms(m));
    return 0;
}

/* M once more, with PRIORITY: what is set once may be read by the journal meanwhile.  NULL: out of
 * memory. */
static struct message *with_priority(const struct message *m, int priority)
{
    struct message *copy = bgmqi_message_new(m->body, m->len);
    if (!copy)
        return NULL;
    if (copy_extra(copy, m) != 0 || bgmqi_message_set_priority(copy, priority) != 0) {
        bgmqi_message_unref(copy);
        return NULL;
    }
    copy->id = m->id;
    copy->created_ms = m->created_ms;
    copy->seq = m->seq;
    copy->run = m->run;
    copy->attempt = m->attempt;
    copy->max_attempts = m->max_attempts;
    copy->crashes = m->crashes;
    copy->flags = m->flags;
    copy->place = m->place;
    copy->row = m->row;
    copy->level = m->level;
    copy->corrupt = m->corrupt;
    copy->kept = m->kept;
    copy->unkeyed = m->unkeyed;
    copy->heaped = m->heaped;
    return copy;
}

/* COPY takes the place of M, which is picked. */
static void exchange(struct type *t, struct message *m, struct message *copy)
{
    bgmqi_type_lock(t);
    bgmqi_queue_remove(&t->out, m);
    bgmqi_queue_push(&t->out, copy);
    bgmqi_queue_push(&t->garbage, m);
    bgmqi_mem_refund(&t->memory, message_cost(m));
    bgmqi_mem_charge_always(&t->memory, message_cost(copy));
    bgmqi_type_unlock(t);
}

/* Who is raised from the dead has to start, some time: an expiry that is over is forgotten. */
static struct message *without_expiry(struct type *t, struct message *m)
{
    int64_t expires_ms = message_expires_ms(m);
    if (!expires_ms || expires_ms > clock_wall_ms(t->env->clock))
        return m;
    struct message *copy = with_priority(m, m->priority);
    if (!copy)
        return m; /* no memory: it expires anew */
    message_extra(copy)->ext->expires_ms = 0;
    exchange(t, m, copy);
    return copy;
}

static void revive(struct type *t, struct message *m)
{
    m = without_expiry(t, m);
    struct journal_entry *e = entry_for(m);
    bgmqi_type_lock(t);
    bgmqi_type_leave_out(t, m);
    bgmqi_type_revive(t, m, e);
    bgmqi_type_unlock(t);
}

/* M, which is picked, is due at DUE_MS; 0: now. */
static void forward(struct type *t, struct message *m, int64_t due_ms)
{
    struct journal_entry *e = entry_for(m);
    struct message_extra *x = due_ms ? bgmqi_type_extra(m) : NULL;
    enum lane lane = due_ms ? LANE_DELAYED : bgmqi_type_ready_lane(m);
    bgmqi_type_lock(t); /* for those who look, too */
    bgmqi_type_extend(t, m, x);
    message_put_due_ms(m, due_ms);
    bgmqi_type_leave_out(t, m);
    bgmqi_type_send(t, m, lane, e, bgmqi_type_history(t, OUTCOME_NONE));
    bgmqi_type_unlock(t);
}

void bgmqi_type_bury(struct type *t, struct message *m, struct failure *why)
{
    struct journal_entry *e = entry_for(m);
    struct message_extra *x = bgmqi_type_extra(m);
    bgmqi_type_lock(t); /* for those who look */
    bgmqi_type_extend(t, m, x);
    struct failure *old = message_put_failure(m, bgmqi_failure_ref(why));
    message_put_due_ms(m, 0);
    bgmqi_type_leave_out(t, m);
    bgmqi_type_send(t, m, LANE_DLQ, e, bgmqi_type_history(t, OUTCOME_DEAD));
    bgmqi_type_unlock(t);
    bgmqi_failure_unref(old);
}

void bgmqi_type_delete(struct type *t, struct message *m)
{
    if (m->row != ROW_NONE)
        bgmqi_type_end_row(t, m, OUTCOME_DISCARDED, NULL);
    bgmqi_type_lock(t);
    bgmqi_type_drop_key(t, m);
    bgmqi_type_leave_out(t, m);
    bgmqi_type_release(t, m);
    bgmqi_type_unlock(t);
}

/* ---- the oldest of many ------------------------------------------------------------ */

/* Ids of messages that fit, from memory and database. */
struct ids {
    struct type *type;
    const struct choice *choice;
    uint64_t *all, after;
    size_t n, cap, rows;
    bool over;
    int err;
};

static int ids_reserve(struct ids *s, size_t more)
{
    if (s->cap - s->n >= more)
        return 0;
    size_t cap = 2 * s->cap + more;
    uint64_t *all = reallocarray(s->all, cap, sizeof(*all));
    if (!all)
        return BGMQ_ENOMEM;
    s->all = all;
    s->cap = cap;
    return 0;
}

static void ids_see(struct ids *s, const struct message *m)
{
    if (s->n < s->cap && bgmqi_choice_fits(s->choice, m))
        s->all[s->n++] = m->id;
}

static void ids_of_queue(struct ids *s, enum lane lane, const struct queue *q)
{
    if (bgmqi_choice_has(s->choice, lane))
        for (const struct message *m = q->head; m; m = m->next)
            ids_see(s, m);
}

static void ids_of_heap(struct ids *s, enum lane lane, const struct heap *h)
{
    if (bgmqi_choice_has(s->choice, lane))
        for (struct message *m = NULL; (m = bgmqi_heap_walk(h, m)) != NULL;)
            ids_see(s, m);
}

static int ids_of_memory(struct ids *s)
{
    struct type *t = s->type;
    size_t n = PICK_MAX; /* for those that come meanwhile */
    bgmqi_type_lock(t);
    for (int lane = 0; lane < LANES; lane++)
        n += bgmqi_type_lane_len(t, (enum lane)lane);
    n += t->out.len + t->suspects[LANE_INQ].len + t->suspects[LANE_PRIORITYQ].len;
    bgmqi_type_unlock(t);
    int err = ids_reserve(s, n);
    if (err)
        return err;
    bgmqi_type_lock(t);
    bgmqi_type_unclaim(t);
    ids_of_queue(s, LANE_INQ, &t->inq);
    ids_of_heap(s, LANE_PRIORITYQ, &t->priorityq);
    ids_of_queue(s, LANE_INQ, &t->suspects[LANE_INQ]);
    ids_of_queue(s, LANE_PRIORITYQ, &t->suspects[LANE_PRIORITYQ]);
    ids_of_heap(s, LANE_DELAYED, &t->delayed);
    ids_of_queue(s, LANE_DLQ, &t->dlq);
    bgmqi_type_unlock(t);
    return 0;
}

static int ids_row(void *ctx, const struct store_row *row)
{
    struct ids *s = ctx;
    const struct choice *c = s->choice;
    s->over = false;
    s->after = row->id;
    if ((c->sound && row->corrupt) || (c->before_seq && row->seq >= c->before_seq))
        return 0;
    int err = ids_reserve(s, 1);
    if (!err)
        s->all[s->n++] = row->id;
    return err;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Forgets those from FIRST on, which are in order, that are at work or taken: what their rows say
 * is of before. */
static void ids_drop_out(struct ids *s, size_t first)
{
    struct type *t = s->type;
    size_t n = s->n - first, kept = first;
    bool gone[PICK_MAX] = {false};
    assert(n <= PICK_MAX);
    bgmqi_type_lock(t);
    for (const struct message *m = n ? t->out.head : NULL; m; m = m->next) {
        uint64_t *hit = bsearch(&m->id, s->all + first, n, sizeof(*s->all), by_number);
        if (hit)
            gone[hit - (s->all + first)] = true;
    }
    bgmqi_type_unlock(t);
    for (size_t i = 0; i < n; i++)
        if (!gone[i])
            s->all[kept++] = s->all[first + i];
    s->n = kept;
}

static void ids_of_rows(void *ctx, struct store *store)
{
    struct ids *s = ctx;
    const struct choice *c = s->choice;
    size_t first = s->n;
    struct store_search search = {.type = bgmqi_type_number(s->type),
                                  .lanes = c->lanes,
                                  .tag = c->tag,
                                  .error_code = c->error_code,
                                  .before_ms = c->before_ms,
                                  .after_id = s->after,
                                  .limit = PICK_MAX,
                                  .max_bytes = 8 << 20};
    s->over = true;
    int n = store->ops->search(store, &search, ids_row, s);
    s->err = n < 0 ? n : 0;
    ids_drop_out(s, first);
    s->rows += s->n - first;
}

/* *RET gets the id of the MAX-th message that fits C, in order of age; 0: there are not so many. */
static int oldest(struct type *t, const struct choice *c, size_t max, uint64_t *ret)
{
    struct ids s = {.type = t, .choice = c};
    int err = ids_of_memory(&s);
    while (!err && t->env->journal && !s.over && s.rows < max) {
        err = bgmqi_journal_run(t->env->journal, ids_of_rows, &s, TYPE_PATIENCE_NS);
        err = err ? err : s.err;
    }
    size_t unique = 0;
    if (s.n)
        qsort(s.all, s.n, sizeof(*s.all), by_number);
    for (size_t i = 0; i < s.n; i++)
        if (unique == 0 || s.all[unique - 1] != s.all[i])
            s.all[unique++] = s.all[i];
    if (!err)
        *ret = unique > max ? s.all[max - 1] : 0;
    free(s.all);
    return err;
}

/* ---- all that an operator has chosen ----------------------------------------------- */

/* Does ACT to what WHICH (NULL: all) chooses from LANES.  Its number; ENOENT: not the one that was
 * named. */
static int operate(struct type *t, struct choice c, const struct bgmq_select *which,
                   bgmqi_type_act_fn *act, void *ctx)
{
    static const struct bgmq_select all;
    const struct bgmq_select *w = which ? which : &all;
    int result = 0;
    c.id = w->id;
    c.tag = w->tag;
    c.error_code = w->error_code;
    c.before_ms = w->before_ms;
    bgmqi_type_operate(t);
    if (c.id) {
        struct picked one;
        result = bgmqi_type_pick_one(t, &c, &one);
        result = result ? result : act(ctx, t, &one, 1) ? BGMQ_ENOMEM : 1;
    } else {
        if (w->max)
            result = oldest(t, &c, w->max, &c.up_to_id);
        if (!result)
            result = bgmqi_type_sweep(t, &c, w->max ? w->max : SIZE_MAX, act, ctx);
    }
    bgmqi_type_operated(t);
    return result;
}

static int act_revive(void *ctx, struct type *t, struct picked *picks, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        revive(t, picks[i].m);
    return 0;
}

int bgmqi_type_retry(struct type *t, const struct bgmq_select *which)
{
    /* What dies again meanwhile has a later number, and is not raised twice. */
    struct choice c = {
        .lanes = DEAD, .sound = true, .before_seq = bgmqi_type_next_number(t)};
    int n = operate(t, c, which, act_revive, NULL);
    return n == BGMQ_EBUSY ? BGMQ_ENOENT : n;
}

static int act_bury(void *why, struct type *t, struct picked *picks, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bgmqi_type_bury(t, picks[i].m, why);
    return 0;
}

int bgmqi_type_abandon(struct type *t, const struct bgmq_select *which,
                       struct failure *why)
{
    return operate(t, (struct choice){.lanes = WAITING}, which, act_bury, why);
}

static int act_delete(void *ctx, struct type *t, struct picked *picks, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        bgmqi_type_delete(t, picks[i].m);
    return 0;
}

int bgmqi_type_discard(struct type *t, const struct bgmq_select *which)
{
    int n = operate(t, (struct choice){.lanes = WAITING | DEAD}, which, act_delete, NULL);
    return n == BGMQ_EBUSY ? BGMQ_ENOENT : n;
}

/* ---- those that wait out a back-off ------------------------------------------------ */

struct hurry {
    bgmqi_type_id_fn *fn;
    void *ctx;
};

static int act_hurry(void *ctx, struct type *t, struct picked *picks, size_t n)
{
    const struct hurry *h = ctx;
    uint64_t ids[PICK_MAX] = {0};
    for (size_t i = 0; i < n; i++)
        ids[i] = picks[i].m->id;
    int err = h->fn(h->ctx, ids, n);
    for (size_t i = 0; i < n; i++) {
        struct message *m = picks[i].m;
        if (err) {
            bgmqi_type_unpick(t, m, picks[i].from);
            continue;
        }
        if (picks[i].stored) {
            forward(t, m, 0);
            continue;
        }
        bgmqi_type_lock(t);
        message_put_due_ms(m, 0);
        bgmqi_type_leave_out(t, m);
        bgmqi_type_ready(t, m); /* its row says later; that is only for after a crash */
        bgmqi_type_unlock(t);
    }
    return err;
}

int bgmqi_type_retry_pending(struct type *t, bgmqi_type_id_fn *fn, void *ctx)
{
    struct hurry h = {.fn = fn, .ctx = ctx};
    struct choice c = {.lanes = 1 << LANE_DELAYED,
                       .failed = true,
                       .before_seq = bgmqi_type_next_number(t)};
    bgmqi_type_operate(t);
    int n = bgmqi_type_sweep(t, &c, SIZE_MAX, act_hurry, &h);
    bgmqi_type_operated(t);
    return n;
}

/* ---- another time, another priority ------------------------------------------------ */

static int change(struct type *t, struct picked *p, const struct bgmq_change *c,
                  int64_t now_ms)
{
    struct message *m = p->m;
    if (c->set_priority && c->priority != m->priority) {
        struct message *copy = with_priority(m, c->priority);
        if (!copy) {
            bgmqi_type_unpick(t, m, p->from);
            return BGMQ_ENOMEM;
        }
        exchange(t, m, copy);
        m = copy;
    }
    int64_t due_ms = c->set_time ? c->run_at_ms : message_due_ms(m);
    /* It may have been due, and waited in the database for room. */
    forward(t, m, due_ms > now_ms ? due_ms : 0);
    return 0;
}

int bgmqi_type_change(struct type *t, uint64_t id, const struct bgmq_change *c)
{
    struct choice choice = {.lanes = WAITING, .id = id};
    struct picked p;
    bgmqi_type_operate(t);
    int err = bgmqi_type_pick_one(t, &choice, &p);
    if (!err)
        err = change(t, &p, c, clock_wall_ms(t->env->clock));
    bgmqi_type_operated(t);
    return err;
}
