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
    if (--d->holds == 0)
        atomic_store(&d->turn, TURN_RUNNING);
}

bool bgmqi_desk_end(struct desk *d)
{
    bool held = d->holds != 0;
    d->holds = 0;
    return turn_from(d, held ? TURN_HELD : TURN_RUNNING, TURN_ENDING);
}

unsigned bgmqi_desk_cancelled(const struct desk *d)
{
    return atomic_load_explicit(&d->cancelled, memory_order_relaxed);
}

/* ---- where its message goes -------------------------------------------------------- */

/* Counts an attempt that ended.  D's lock is held. */
static void count(struct desk *d, const struct settlement *s, int64_t now_ns)
{
    int64_t took = now_ns - d->mark_ns;
    took = took < 1 ? 1 : took;
    d->mean_ns = d->mean_ns ? d->mean_ns + (took - d->mean_ns) / 8 : took;
    if (d->mean_ns < 1)
        d->mean_ns = 1;
    d->mark_ns = now_ns;
    d->stats.last_ms = d->batch_wall_ms + (now_ns - d->batch_mono_ns) / 1000000;
    if (s->failed) {
        d->stats.failed++;
        if (s->how == SETTLE_RETRY)
            d->stats.retries++;
    } else if (s->how == SETTLE_DONE) {
        d->stats.processed++;
    }
    d->current = NULL;
    atomic_store_explicit(&d->cancelled, 0, memory_order_relaxed);
    atomic_store_explicit(&d->turn, TURN_IDLE, memory_order_relaxed);
}

/* What the journal is told of the attempt at D, which is about to be counted. */
static struct attempt_end end_of(const struct desk *d)
{
    struct attempt_end end = {.slot = d->slot};
    if (d->type->config.history != BGMQ_HISTORY_OFF)
        end.started_ms = d->batch_wall_ms + (d->mark_ns - d->batch_mono_ns) / 1000000;
    if (end.slot)
        flight_ended(end.slot);
    return end;
}

static void settle_elsewhere(struct desk *d, struct message *m, struct settlement *s)
{
    struct type *t = d->type;
    struct attempt_end end = end_of(d);
    if (m->row != ROW_NONE && s->how == SETTLE_DISCARD)
        bgmqi_type_end_row(t, m, OUTCOME_DISCARDED, &end);
    struct journal_entry *e = m->row != ROW_NONE ? bgmqi_type_entry() : NULL;
    if (e) {
        e->op.slot_held = end.slot;
        e->op.started_ms = end.started_ms;
    }
    if (s->failure) {
        bgmqi_failure_unref(m->failure);
        m->failure = s->failure;
    }
    if (s->how == SETTLE_SNOOZE)
        m->attempt--;
    m->crashes = 0; /* this start ended with an answer */
    m->due_ms = s->how == SETTLE_DEAD ? 0 : s->due_ms;

    bgmqi_type_lock(t);
    lock_take(&d->lock);
    count(d, s, clock_mono_ns(t->env->clock));
    lock_drop(&d->lock);
    if (s->how == SETTLE_DISCARD) {
        bgmqi_type_drop_key(t, m);
        bgmqi_type_leave_out(t, m);
        bgmqi_type_release(t, m);
    } else {
        enum lane lane = s->how == SETTLE_DEAD ? LANE_DLQ
                         : s->due_ms           ? LANE_DELAYED
                                               : bgmqi_type_ready_lane(m);
        enum outcome history =
            s->how == SETTLE_DEAD ? bgmqi_type_history(t, OUTCOME_DEAD) : OUTCOME_NONE;
        bgmqi_type_leave_out(t, m);
        bgmqi_type_send(t, m, lane, e, history);
    }
    bgmqi_type_unlock(t);
}

void bgmqi_desk_settle(struct desk *d, struct message *m, struct settlement *s)
{
    struct type *t = d->type;
    if (s->how != SETTLE_DONE) {
        settle_elsewhere(d, m, s);
        return;
    }
    if (m->row != ROW_NONE) {
        struct attempt_end end = end_of(d);
        bgmqi_type_end_row(t, m, OUTCOME_DONE, &end);
    }
    bgmqi_failure_unref(m->failure); /* what ended well carries no error */
    m->failure = NULL;
    if (s->no_outq)
        m->quiet = true;
    int64_t now = clock_mono_ns(t->env->clock);
    lock_take(&d->lock);
    count(d, s, now);
    d->finished[d->n_finished++] = m;
    lock_drop(&d->lock);
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
    size_t n = 0;
    bgmqi_type_lock(t);
    for (struct desk *d = t->desks; d; d = d->next) {
        lock_take(&d->lock);
        n += d->current != NULL;
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
    return n;
}
