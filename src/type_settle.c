/* type_settle.c - how an attempt ends: whose it is, where its message goes, and who may be asked
 * to end.
 *
 * The fence.  desk.turn says whose an attempt is.  Its worker and the ticker, which gives up what
 * takes too long, change it by one compare-and-exchange each: whoever is first settles, and the
 * other leaves the message alone.  Runs on workers' threads, the cancel functions on any. */
#include "type_impl.h"

/* ---- whose it is ------------------------------------------------------------------- */

static bool turn_from(struct desk *d, int from, int to)
{
    return atomic_compare_exchange_strong(&d->turn, &from, to);
}

bool bgmqi_desk_owns(const struct desk *d)
{
    return atomic_load(&d->turn) != TURN_LOST;
}

bool bgmqi_desk_hold(struct desk *d)
{
    if (d->holds == 0 && !turn_from(d, TURN_RUNNING, TURN_HELD))
        return false;
    d->holds++;
    return true;
}

void bgmqi_desk_unhold(struct desk *d)
{
    assert(d->holds);
    if (--d->holds > 0)
        return;
    atomic_store(&d->turn, TURN_RUNNING);
    if (d->stuck_ns != INT64_MAX) /* the ticker may have come in vain */
        d->type->env->deadline(d->type->env->ctx, d->type, d->stuck_ns);
}

bool bgmqi_desk_end(struct desk *d)
{
    bool held = d->holds != 0;
    d->holds = 0;
    if (d->stuck_ns == INT64_MAX) { /* nobody may give it up */
        atomic_store_explicit(&d->turn, TURN_ENDING, memory_order_relaxed);
        return true;
    }
    return turn_from(d, held ? TURN_HELD : TURN_RUNNING, TURN_ENDING);
}

bool bgmqi_desk_end_bare(struct desk *d, struct message *m)
{
    struct settlement s = {.how = SETTLE_DONE};
    if (!bgmqi_desk_end(d))
        return false;
    if (m->row == ROW_NONE && !message_extra(m))
        d->done = m; /* nothing else is to be done */
    else
        bgmqi_desk_settle(d, m, &s);
    return true;
}

unsigned bgmqi_desk_cancelled(const struct desk *d)
{
    return atomic_load_explicit(&d->cancelled, memory_order_relaxed);
}

/* ---- where its message goes -------------------------------------------------------- */

static void count_in(struct bgmq_stats *stats, const struct settlement *s)
{
    if (s->failed) {
        stats->failed++;
        if (s->how == SETTLE_RETRY)
            stats->retries++;
    } else if (s->how == SETTLE_DONE) {
        stats->processed++;
    }
}

/* How long the attempt took that ends at D.  In a batch handlers are quick, and to read the clock
 * would cost more than some of them do: it is read when its coarse hand has moved, a few
 * milliseconds, and at the end of the batch, and those in between share the time.  Metrics have
 * each of them timed. */
static void measure(struct desk *d)
{
    const struct type_env *env = d->type->env;
    int64_t rough = clock_rough_ms(env->clock);
    d->unmeasured++;
    if (d->first < d->n && rough == d->rough_ms && !env->timing)
        return;
    int64_t now = clock_mono_ns(env->clock), took = (now - d->mark_ns) / d->unmeasured;
    int64_t weight = d->unmeasured < 8 ? d->unmeasured : 8;
    took = took < 1 ? 1 : took;
    d->mean_ns = d->mean_ns ? d->mean_ns + (took - d->mean_ns) * weight / 8 : took;
    if (d->mean_ns < 1)
        d->mean_ns = 1;
    if (env->timing && d->fate == FATE_RUN)
        bgmqi_timing_add(&d->timing, took);
    d->mark_ns = now;
    d->rough_ms = rough;
    d->unmeasured = 0;
    d->stats.last_ms = d->batch_wall_ms + (now - d->batch_mono_ns) / 1000000;
}

/* The attempt at D is over.  D's lock is held. */
static void count(struct desk *d, const struct settlement *s)
{
    measure(d);
    count_in(&d->stats, s);
    d->current = NULL;
    d->alone = false;
    atomic_store_explicit(&d->cancelled, 0, memory_order_relaxed);
    atomic_store_explicit(&d->turn, TURN_IDLE, memory_order_relaxed);
}

/* What the journal is told of the attempt at D, which is about to be counted. */
static struct attempt_end end_of(const struct desk *d)
{
    struct attempt_end end = {.slot = d->slot};
    if (d->type->config.history != BGMQ_HISTORY_OFF && d->fate == FATE_RUN)
        end.started_ms = d->batch_wall_ms + (d->mark_ns - d->batch_mono_ns) / 1000000;
    if (end.slot)
        flight_ended(end.slot);
    return end;
}

void bgmqi_desk_describe(const struct desk *d, enum outcome how, struct store_op *op)
{
    op->history = (uint8_t)bgmqi_type_history(d->type, how);
    if (op->history != OUTCOME_NONE && d->type->config.history_body)
        op->flags |= OP_BODY;
    if (op->history != OUTCOME_NONE)
        op->started_ms = d->batch_wall_ms + (d->mark_ns - d->batch_mono_ns) / 1000000;
}

/* Prepares what can be done before the lock is taken: the entry that tells the journal where M
 * goes, NULL when there is nothing to tell. */
static struct journal_entry *prepare(struct type *t, struct message *m,
                                     struct settlement *s, enum fate fate,
                                     const struct attempt_end *end)
{
    if (m->row != ROW_NONE && s->how == SETTLE_DISCARD)
        bgmqi_type_end_row(t, m, OUTCOME_DISCARDED, end);
    struct journal_entry *e = m->row != ROW_NONE ? bgmqi_type_entry() : NULL;
    if (e) {
        e->op.slot_held = end->slot;
        e->op.started_ms = end->started_ms;
    }
    if (e && s->failure &&
        fate != FATE_EXPIRED) { /* each failed attempt leaves its error */
        e->op.flags |= OP_ERROR;
        m->kept = true;
    }
    struct message_extra *x = s->failure || s->due_ms ? bgmqi_type_extra(m) : NULL;
    struct failure *old = NULL;
    bgmqi_type_lock(t); /* for those who look */
    bgmqi_type_extend(t, m, x);
    if (s->failure)
        old = message_put_failure(m, s->failure);
    if (s->how == SETTLE_SNOOZE)
        m->attempt--;
    if (fate == FATE_RUN)
        m->crashes = 0; /* this start ended with an answer */
    message_put_due_ms(m, s->how == SETTLE_DEAD ? 0 : s->due_ms);
    bgmqi_type_unlock(t);
    bgmqi_failure_unref(old);
    return e;
}

/* Sends M where it belongs; T's lock is held.  True: E, if there is one, was used. */
static bool send(struct type *t, struct message *m, const struct settlement *s,
                 struct journal_entry *e)
{
    bgmqi_type_leave_out(t, m);
    if (s->how == SETTLE_DISCARD) {
        bgmqi_type_drop_key(t, m);
        bgmqi_type_release(t, m);
        return true;
    }
    enum lane lane = s->how == SETTLE_DEAD ? LANE_DLQ
                     : s->due_ms           ? LANE_DELAYED
                                           : bgmqi_type_ready_lane(m);
    enum outcome history =
        s->how == SETTLE_DEAD ? bgmqi_type_history(t, OUTCOME_DEAD) : OUTCOME_NONE;
    if (s->elsewhere && e) {
        m->seq = s->seq;
        return bgmqi_type_place_elsewhere(t, m, lane, e);
    }
    bgmqi_type_send(t, m, lane, e, history);
    return true;
}

static void settle_elsewhere(struct desk *d, struct message *m, struct settlement *s)
{
    struct type *t = d->type;
    struct attempt_end end = end_of(d);
    struct journal_entry *e = prepare(t, m, s, bgmqi_desk_fate(d), &end);
    bgmqi_type_lock(t);
    lock_take(&d->lock);
    count(d, s);
    lock_drop(&d->lock);
    t->expired += d->fate == FATE_EXPIRED;
    bool used = send(t, m, s, e);
    bgmqi_type_unlock(t);
    if (!used) { /* nothing is left for the journal to do */
        if (end.slot)
            flight_end(end.slot);
        bgmqi_journal_entry_free(e);
    }
}

/* The row says what it said before the start, so the journal has nothing to write. */
static void settle_back(struct desk *d, struct message *m, const struct settlement *s)
{
    struct type *t = d->type;
    m->attempt--;
    if (d->slot)
        flight_end(d->slot);
    bgmqi_type_lock(t);
    lock_take(&d->lock);
    count(d, s);
    lock_drop(&d->lock);
    bgmqi_type_place_back(t, m);
    bgmqi_type_unlock(t);
}

static void drop_failure(struct type *t, struct message *m)
{
    bgmqi_type_lock(t); /* for those who look */
    struct failure *old = message_put_failure(m, NULL);
    bgmqi_type_unlock(t);
    bgmqi_failure_unref(old);
}

/* A message that comes back at once, again and again, is written each time, and nothing else holds
 * up its worker: it lets the journal catch up, but goes on should that take long. */
static void keep_pace(const struct type *t)
{
    enum { STEPS = 100 };
    static const int64_t step_ns = 10000000;
    struct journal *j = t->env->journal;
    struct park nobody = {0};
    for (int i = 0; i < STEPS && bgmqi_journal_crowded(j); i++) {
        if (bgmqi_journal_failed(j))
            break;
        bgmqi_park_wait(&nobody, step_ns);
    }
}

void bgmqi_desk_settle(struct desk *d, struct message *m, struct settlement *s)
{
    struct type *t = d->type;
    if (s->how == SETTLE_BACK) {
        settle_back(d, m, s);
        return;
    }
    if (s->how != SETTLE_DONE) {
        bool back = (s->how == SETTLE_SNOOZE || s->how == SETTLE_RETRY) && !s->due_ms;
        settle_elsewhere(d, m, s);
        if (back && t->env->journal)
            keep_pace(t);
        return;
    }
    if (m->row != ROW_NONE) {
        struct attempt_end end = end_of(d);
        if (s->elsewhere)
            bgmqi_type_end_elsewhere(t, m, &end);
        else
            bgmqi_type_end_row(t, m, OUTCOME_DONE, &end);
    }
    if (message_failure(m))
        drop_failure(t, m); /* what ended well carries no error */
    if (s->no_outq)
        m->quiet = true;
    d->done = m; /* bgmqi_desk_done follows, in one step with what is next */
}

void bgmqi_desk_done(struct desk *d)
{
    static const struct settlement done = {.how = SETTLE_DONE};
    struct message *m = d->done;
    if (!m)
        return;
    d->done = NULL;
    count(d, &done);
    d->finished[d->n_finished++] = m;
}

/* ---- attempts that take too long --------------------------------------------------- */

/* Takes the attempt at D away from its worker; false: it is being ended, or held.  Both locks are
 * held. */
static bool give_up(struct desk *d, int64_t now_ns, struct given_up *ret)
{
    struct message *m = d->current;
    bgmqi_message_ref(m); /* for the handler, which still looks at it */
    if (!turn_from(d, TURN_RUNNING, TURN_LOST)) {
        bgmqi_message_unref(m);
        return false;
    }
    *ret = (struct given_up){
        .m = m,
        .timeout_ms = (d->deadline_ns - d->start_ns) / 1000000,
        .started_ms =
            clock_wall_ms(d->type->env->clock) - (now_ns - d->start_ns) / 1000000,
        .slot = d->slot,
    };
    d->type->timeouts++;
    return true;
}

/* Looks at D, whose type's lock is held; lowers *NEXT to when to look again.  True: *RET was
 * given up. */
static bool look(struct desk *d, int64_t now_ns, struct given_up *ret, int64_t *next)
{
    bool lost = false;
    lock_take(&d->lock);
    int turn = atomic_load(&d->turn);
    if (d->current && d->deadline_ns != INT64_MAX &&
        (turn == TURN_RUNNING || turn == TURN_HELD)) {
        if (now_ns >= d->deadline_ns)
            atomic_fetch_or(&d->cancelled, CANCEL_TIME);
        int64_t then = now_ns < d->deadline_ns ? d->deadline_ns : d->stuck_ns;
        if (now_ns >= then)
            lost =
                give_up(d, now_ns, ret); /* not while held: unhold says when it is over */
        else if (then < *next)
            *next = then;
    }
    lock_drop(&d->lock);
    return lost;
}

int64_t bgmqi_type_overdue(struct type *t, int64_t now_ns, struct given_up *ret,
                           size_t max, size_t *ret_n)
{
    int64_t next = INT64_MAX;
    size_t n = 0;
    bgmqi_type_lock(t);
    struct desk *d = t->desks;
    for (; d && n < max; d = d->next) {
        if (!look(d, now_ns, &ret[n], &next))
            continue;
        n++;
        t->unsettled++;
        if (!d->quit)
            t->workers--;
        d->quit = true;
        bgmqi_desk_clear(d, true);
    }
    bgmqi_type_unlock(t);
    *ret_n = n;
    return d ? now_ns : next;
}

void bgmqi_type_settle_given_up(struct type *t, const struct given_up *g,
                                struct settlement *s)
{
    struct attempt_end end = {.slot = g->slot};
    if (t->config.history != BGMQ_HISTORY_OFF)
        end.started_ms = g->started_ms;
    if (end.slot)
        flight_ended(end.slot);
    struct journal_entry *e = prepare(t, g->m, s, FATE_RUN, &end);
    bgmqi_type_lock(t);
    t->unsettled--;
    count_in(&t->past, s);
    t->past.last_ms = clock_wall_ms(t->env->clock);
    send(t, g->m, s, e);
    bgmqi_type_unlock(t);
}

void bgmqi_desk_abandon(struct desk *d, struct message *m)
{
    atomic_fetch_add(&d->type->env->lost, 1);
    lock_take(&d->lock);
    d->current = NULL;
    d->alone = false;
    lock_drop(&d->lock);
    bgmqi_message_unref(m);
}

/* ---- asking handlers to end --------------------------------------------------------- */

void bgmqi_type_cancel(struct type *t, bool cancel)
{
    bgmqi_type_lock(t);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        if (!cancel)
            atomic_fetch_and(&d->cancelled, ~(unsigned)CANCEL_STOP);
        else if (d->current)
            atomic_fetch_or(&d->cancelled, CANCEL_STOP);
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
}

size_t bgmqi_type_cancel_if(struct type *t,
                            bool (*match)(void *ctx, const struct message *m), void *ctx)
{
    size_t n = 0;
    bgmqi_type_lock(t);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        int turn = atomic_load(&d->turn);
        bool runs = turn == TURN_RUNNING || turn == TURN_HELD;
        if (d->current && runs && match(ctx, d->current)) {
            atomic_fetch_or(&d->cancelled, CANCEL_OPERATOR);
            n++;
        }
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
    return n;
}

size_t bgmqi_type_running(struct type *t)
{
    struct run_counts n = {.running = 0};
    bgmqi_type_run_counts(t, 0, &n);
    return n.running + n.stuck;
}
