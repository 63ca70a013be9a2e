/* service.c - start, stop, close: the life of an open service.
 *
 * Threads outlive a stop: stopped means that workers may not claim.  Down goes in this order:
 * nothing is let in, workers end, watch, ticker, journal (which writes out everything and closes
 * the store), owner lock. */
#include "service.h"

#include <stdlib.h>

#include "inbox.h"
#include "park.h"
#include "thread.h"
#include "tx_hub.h"
#include "watch.h"

#define MS INT64_C(1000000)

/* A boot_breaker that never breaks. */
enum { BREAKER_NEVER = 1000 };

/* ---- all types ---------------------------------------------------------------------- */

static int rouse_type(void *ctx, struct type *t)
{
    (void)ctx;
    bgmqi_type_rouse(t);
    return 0;
}

void bgmqi_service_rouse(struct bgmq *mq)
{
    bgmqi_registry_each(mq->registry, false, rouse_type, NULL);
}

static int cancel_type(void *ctx, struct type *t)
{
    bgmqi_type_cancel(t, *(const bool *)ctx);
    return 0;
}

void bgmqi_service_cancel(struct bgmq *mq, bool cancel)
{
    bgmqi_registry_each(mq->registry, true, cancel_type, &cancel);
}

/* ---- start and stop ---------------------------------------------------------------- */

/* True at the first start after the process has died too often: nothing is started then. */
static bool breaks(struct bgmq *mq)
{
    unsigned most = mq->config.boot_breaker;
    lock_take(&mq->life);
    bool first = !mq->start_asked;
    mq->start_asked = true;
    bool breaks = first && most < BREAKER_NEVER && mq->deaths >= most;
    lock_drop(&mq->life);
    atomic_store(&mq->breaker, breaks);
    if (breaks)
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR,
                  "not started: the process died %u times in a row, each within 60 s of"
                  " opening the database; start again to run the messages all the same",
                  mq->deaths);
    return breaks;
}

/* Wakes those who wait for the last handler. */
static void tell_idle(struct bgmq *mq)
{
    bgmqi_monitor_enter(&mq->idle);
    bgmqi_monitor_change(&mq->idle);
    bgmqi_monitor_leave(&mq->idle);
}

int bgmq_start(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (bgmqi_handle_in_handler(mq))
        return BGMQ_EBUSY;
    if (mq->journal && bgmqi_journal_failed(mq->journal))
        return BGMQ_ESTORE;
    if (breaks(mq))
        return 0;
    atomic_store(&mq->draining, false);
    lock_take(&mq->life);
    bool was = atomic_load(&mq->types.started) != GATE_SHUT;
    if (!was) {
        atomic_fetch_add(&mq->epoch, 1);
        mq->cancel_ns = 0;
        bgmqi_service_cancel(mq, false);
        atomic_store(&mq->types.started,
                     atomic_load(&mq->types.suspects) ? GATE_SOLO : GATE_OPEN);
    }
    lock_drop(&mq->life);
    if (was)
        return 0;
    tell_idle(mq); /* a stop that still waits is over */
    if (mq->journal && bgmqi_journal_failed(mq->journal)) {
        atomic_store(&mq->types.started, GATE_SHUT); /* it failed meanwhile */
        err = BGMQ_ESTORE;
    }
    bgmqi_service_rouse(mq);
    bgmqi_ticker_all(mq->ticker); /* what nobody registered expires from now on */
    if (!err)
        bgmqi_log(&mq->config.log, BGMQ_LOG_INFO, "started");
    return err;
}

static int add_running(void *ctx, struct type *t)
{
    *(size_t *)ctx += bgmqi_type_running(t);
    return 0;
}

size_t bgmqi_service_running(struct bgmq *mq)
{
    size_t n = 0;
    bgmqi_registry_each(mq->registry, true, add_running, &n);
    return n;
}

/* Forbids claiming; CANCEL_MS later the ticker sets the cancel flags. */
static uint64_t halt(struct bgmq *mq, unsigned cancel_ms)
{
    lock_take(&mq->life);
    uint64_t epoch = atomic_load(&mq->epoch);
    bool was = atomic_exchange(&mq->types.started, GATE_SHUT) != GATE_SHUT;
    if (was)
        mq->cancel_ns = clock_mono_ns(mq->clock) + (int64_t)cancel_ms * MS;
    lock_drop(&mq->life);
    bgmqi_service_rouse(mq);
    if (was)
        bgmqi_log(&mq->config.log, BGMQ_LOG_INFO, "stopped; %zu handlers still run",
                  bgmqi_service_running(mq));
    return epoch;
}

static bool restarted(struct bgmq *mq, uint64_t epoch)
{
    return atomic_load(&mq->epoch) != epoch;
}

/* Waits up to NS for the last handler, or for somebody to start again; true: it is over. */
static bool drained(struct bgmq *mq, uint64_t epoch, int64_t ns)
{
    int64_t deadline = clock_mono_ns(&bgmqi_clock_system) + ns;
    bool over = false;
    bgmqi_monitor_enter(&mq->idle);
    for (;;) {
        over = restarted(mq, epoch) || bgmqi_service_running(mq) == 0;
        int64_t left = deadline - clock_mono_ns(&bgmqi_clock_system);
        if (over || left <= 0)
            break;
        bgmqi_monitor_wait(&mq->idle, left);
    }
    bgmqi_monitor_leave(&mq->idle);
    return over;
}

/* Asks the handlers to end that the stop of EPOCH has found; false: somebody has started again. */
static bool cancel_run(struct bgmq *mq, uint64_t epoch)
{
    lock_take(&mq->life);
    bool same = !restarted(mq, epoch);
    if (same)
        bgmqi_service_cancel(mq, true);
    lock_drop(&mq->life);
    return same;
}

int bgmq_stop(struct bgmq *mq, unsigned grace_ms)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (bgmqi_handle_in_handler(mq)) {
        halt(mq, mq->config.stop_grace_ms);
        return BGMQ_EINPROGRESS;
    }
    unsigned grace = grace_ms ? grace_ms : mq->config.stop_grace_ms;
    uint64_t epoch = halt(mq, grace);
    if (drained(mq, epoch, grace * MS) || !cancel_run(mq, epoch))
        return 0;
    return drained(mq, epoch, grace * MS) ? 0 : BGMQ_EBUSY;
}

int bgmq_request_stop(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    halt(mq, mq->config.stop_grace_ms);
    bgmqi_ticker_poke(mq->ticker);
    return bgmqi_service_running(mq) == 0 ? 0 : BGMQ_EINPROGRESS;
}

int bgmq_started(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    return err ? err : atomic_load(&mq->types.started) != GATE_SHUT;
}

int bgmq_running(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    return err ? err : (int)bgmqi_service_running(mq);
}

/* ---- drain -------------------------------------------------------------------------- */

static int add_unfinished(void *ctx, struct type *t)
{
    struct bgmq_collection c;
    bgmqi_type_collection(t, &c);
    *(uint64_t *)ctx += c.inq + c.priorityq + c.running;
    return 0;
}

int bgmq_drain(struct bgmq *mq, unsigned timeout_ms)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    atomic_store(&mq->draining, true);
    if (bgmqi_handle_in_handler(mq))
        return BGMQ_EINPROGRESS;
    int64_t deadline = clock_mono_ns(&bgmqi_clock_system) + timeout_ms * MS;
    bgmqi_monitor_enter(&mq->idle);
    for (;;) {
        uint64_t unfinished = 0;
        bgmqi_registry_each(mq->registry, true, add_unfinished, &unfinished);
        int64_t left = deadline - clock_mono_ns(&bgmqi_clock_system);
        err = unfinished == 0                  ? 0
              : atomic_load(&mq->types.closed) ? BGMQ_ECLOSED
              : left <= 0                      ? BGMQ_EBUSY
                                               : BGMQ_EINPROGRESS;
        if (err != BGMQ_EINPROGRESS)
            break;
        bgmqi_monitor_wait(&mq->idle, left);
    }
    bgmqi_monitor_leave(&mq->idle);
    return err;
}

int bgmq_flush(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err || !mq->journal)
        return err;
    return bgmqi_journal_flush(mq->journal, mq->config.publish_timeout_ms * MS);
}

/* ---- close ------------------------------------------------------------------------- */

static int end_getters(void *ctx, struct type *t)
{
    (void)ctx;
    bgmqi_type_end_getters(t);
    return 0;
}

/* Ends all threads and lets go of the database.  No handler runs. */
static void shut(struct bgmq *mq)
{
    bgmqi_tx_hub_close(mq->hub);
    bgmqi_registry_each(mq->registry, false, end_getters, NULL);
    bgmqi_registry_end_customs(mq->registry);
    if (mq->kit)
        mq->kit->end(mq->kit);
    lock_take(&mq->life);
    struct crew *crews = mq->crews;
    mq->shut = true;
    mq->crews = NULL;
    lock_drop(&mq->life);
    for (struct crew *c = crews; c; c = c->next)
        bgmqi_pool_quit(c->pool);
    for (struct crew *c = crews, *next; c; c = next) {
        next = c->next;
        bgmqi_pool_join(c->pool);
        free(c);
    }
    bgmqi_watch_end(mq->watch);
    mq->watch = NULL;
    bgmqi_ticker_end(mq->ticker);
    struct thread_calm calm;
    bgmqi_thread_calm(&calm);
    if (mq->journal)
        bgmqi_journal_end(mq->journal);
    bgmqi_thread_uncalm(&calm);
    bgmqi_owner_release(mq->owner);
    mq->owner = NULL;
}

/* Somebody else closes: waits until that is done. */
static void wait_shut(struct bgmq *mq)
{
    bgmqi_monitor_enter(&mq->idle);
    while (!mq->shut_done)
        bgmqi_monitor_wait(&mq->idle, PARK_MAX_NS);
    bgmqi_monitor_leave(&mq->idle);
}

int bgmq_close(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err && err != BGMQ_ECLOSED)
        return err;
    if (bgmqi_handle_in_handler(mq))
        return BGMQ_EDEADLK;
    if (!err && (err = bgmq_stop(mq, 0)) == BGMQ_EBUSY)
        return err;
    if (atomic_exchange(&mq->types.closed, true)) {
        wait_shut(mq);
        return 0;
    }
    atomic_store(&mq->types.started, GATE_SHUT);
    bgmqi_service_rouse(mq);
    shut(mq);
    bgmqi_monitor_enter(&mq->idle);
    mq->shut_done = true;
    bgmqi_monitor_change(&mq->idle);
    bgmqi_monitor_leave(&mq->idle);
    return 0;
}

void bgmq_free(struct bgmq *mq)
{
    if (!mq || bgmqi_handle_enter(mq) == BGMQ_EFORKED)
        return;
    if (bgmqi_log_inside())
        return;
    if (bgmqi_handle_in_handler(mq)) {
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR,
                  "bgmq_free in a handler: nothing is freed");
        return;
    }
    while (bgmq_close(mq) == BGMQ_EBUSY)
        ;
    bgmqi_service_free(mq);
}

void bgmqi_service_free(struct bgmq *mq)
{
    bgmqi_watch_end(mq->watch);
    bgmqi_tx_hub_close(mq->hub);
    bgmqi_tx_hub_unref(mq->hub);
    if (mq->ticker)
        bgmqi_ticker_end(mq->ticker);
    bgmqi_journal_free(mq->journal); /* until then it may tell the ticker what is due */
    bgmqi_ticker_free(mq->ticker);
    bgmqi_inbox_free(mq->inbox);
    bgmqi_registry_free(mq->registry);
    bgmqi_flight_free(mq->flight);
    bgmqi_owner_release(mq->owner);
    bgmqi_options_fini(&mq->config);
    bgmqi_agenda_fini(&mq->attempts);
    bgmqi_monitor_fini(&mq->idle);
    lock_fini(&mq->pending);
    lock_fini(&mq->life);
    if (mq->kit)
        mq->kit->free(mq->kit);
    free(mq);
}

const char *bgmq_version(void)
{
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)
    return TEXT(BGMQ_VERSION_MAJOR) "." TEXT(BGMQ_VERSION_MINOR) "." TEXT(
        BGMQ_VERSION_PATCH);
}
