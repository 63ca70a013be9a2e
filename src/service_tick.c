/* service_tick.c - what the ticker does besides due times: attempts that take too long, workers
 * that are missed, suspects, metrics, the cancel flags of a stop, and a wall clock that jumps.
 *
 * The ticker's thread, but for the upcalls that wake it.  No lock is held while it logs, or settles
 * what was given up. */
#include "inbox.h"
#include "service.h"

#define MS      INT64_C(1000000)
#define JUMP_MS 5000

enum { GIVEN_UP_MAX = 16 };

/* ---- upcalls ----------------------------------------------------------------------- */

void bgmqi_service_poke(void *ctx)
{
    struct bgmq *mq = ctx;
    if (mq->ticker)
        bgmqi_ticker_poke(mq->ticker);
}

void bgmqi_service_deadline(void *ctx, struct type *t, int64_t mono_ns)
{
    struct bgmq *mq = ctx;
    if (bgmqi_agenda_tell(&mq->attempts, bgmqi_type_attempts_item(t), mono_ns))
        bgmqi_service_poke(ctx);
}

void bgmqi_service_gone(void *ctx)
{
    struct bgmq *mq = ctx;
    atomic_store(&mq->short_handed, true);
    bgmqi_service_poke(mq);
}

void bgmqi_service_idle(void *ctx)
{
    struct bgmq *mq = ctx;
    int gate = atomic_load_explicit(&mq->types.started, memory_order_relaxed);
    if (gate == GATE_OPEN && !atomic_load_explicit(&mq->draining, memory_order_relaxed))
        return;
    if (gate == GATE_SOLO)
        bgmqi_service_poke(mq);
    bgmqi_monitor_enter(&mq->idle);
    bgmqi_monitor_change(&mq->idle);
    bgmqi_monitor_leave(&mq->idle);
}

/* ---- one thing after the other ------------------------------------------------------ */

/* The flags of a requested stop, when its time has come. */
static int64_t cancel_late(struct bgmq *mq, int64_t now_ns)
{
    lock_take(&mq->life);
    int64_t at_ns = mq->cancel_ns ? mq->cancel_ns : INT64_MAX;
    bool due = now_ns >= at_ns;
    if (due) {
        mq->cancel_ns = 0;
        bgmqi_service_cancel(mq, true);
    }
    lock_drop(&mq->life);
    return due ? INT64_MAX : at_ns;
}

static void look_at_attempts(struct bgmq *mq, struct type *t, int64_t now_ns)
{
    struct given_up lost[GIVEN_UP_MAX];
    size_t n = GIVEN_UP_MAX;
    int64_t next = INT64_MAX;
    while (n == GIVEN_UP_MAX) {
        next = bgmqi_type_overdue(t, now_ns, lost, GIVEN_UP_MAX, &n);
        for (size_t i = 0; i < n; i++)
            bgmqi_worker_settle_given_up(t, &mq->workers, &lost[i]);
        if (n)
            atomic_store(&mq->short_handed, true);
    }
    if (next != INT64_MAX)
        bgmqi_agenda_tell(&mq->attempts, bgmqi_type_attempts_item(t), next);
}

/* A deadline that was told is kept, though its attempt may have ended long before: so quick
 * handlers with a time-out wake the ticker once in that time, and not each. */
static int64_t attempts(struct bgmq *mq, int64_t now_ns)
{
    struct agenda_item *late = bgmqi_agenda_take(&mq->attempts, now_ns);
    for (struct agenda_item *next; late; late = next) {
        next = late->also;
        look_at_attempts(mq, late->owner, now_ns);
    }
    return bgmqi_agenda_next(&mq->attempts);
}

/* Walks the pools only while one of them may not be as it should: a worker has ended by itself or
 * was given up, one could not be started, or those of a smaller pool have not all ended. */
static void mend_pools(struct bgmq *mq)
{
    struct bgmq_error why = {""};
    if (!atomic_exchange(&mq->short_handed, false))
        return;
    lock_take(&mq->life);
    for (struct crew *c = mq->crews; c; c = c->next) {
        bgmqi_pool_mend(c->pool, &why);
        if (!bgmqi_pool_whole(c->pool))
            atomic_store(&mq->short_handed, true);
    }
    lock_drop(&mq->life);
    if (why.text[0])
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR, "%s", why.text);
}

/* Says once when somebody has set the wall clock: what is due moves with it. */
static void watch_clock(struct bgmq *mq, int64_t now_ns)
{
    struct clock_watch *w = &mq->clock_watch;
    int64_t offset_ms = clock_wall_ms(mq->clock) - now_ns / MS;
    int64_t jump_ms = w->known ? offset_ms - w->offset_ms : 0;
    w->known = true;
    w->offset_ms = offset_ms;
    if (jump_ms > JUMP_MS || jump_ms < -JUMP_MS)
        bgmqi_log(
            &mq->config.log, BGMQ_LOG_WARNING,
            "the wall clock jumped by %+lld ms: what is delayed goes by the new time",
            (long long)jump_ms);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t bgmqi_service_tick(void *ctx)
{
    struct bgmq *mq = ctx;
    int64_t now_ns = clock_mono_ns(mq->clock);
    watch_clock(mq, now_ns);
    int64_t next_ns = least(cancel_late(mq, now_ns), attempts(mq, now_ns));
    mend_pools(mq);
    if (!mq->types.together)
        next_ns =
            least(next_ns, bgmqi_solo_tick(&mq->solo, &mq->types, mq->registry, now_ns));
    next_ns = least(next_ns, bgmqi_metrics_tick(&mq->metrics, &mq->types, mq->registry,
                                                mq->config.metrics_interval_ms, now_ns));
    int64_t left_ns = next_ns == INT64_MAX ? INT64_MAX : next_ns - now_ns;
    left_ns = least(left_ns, bgmqi_inbox_due(mq->inbox));
    if (left_ns == INT64_MAX)
        return INT64_MAX;
    return left_ns > 0 ? (left_ns + MS - 1) / MS : 0;
}
