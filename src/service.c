/* service.c - open, start, stop, close: the life of a service and the order of its parts.
 *
 * Up: owner lock, store, journal, types as the database knows them, ticker; workers come with
 * bgmq_register.  Down: nothing is let in, workers end, ticker, journal (which writes out
 * everything and closes the store), owner lock.  Threads outlive a stop: stopped means that
 * workers may not claim. */
#include "service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "handle.h"
#include "park.h"
#include "reply.h"

#define MS INT64_C(1000000)

/* ---- upcalls ----------------------------------------------------------------------- */

static void on_due(void *ctx, int64_t due_ms)
{
    struct bgmq *mq = ctx;
    if (mq->ticker)
        bgmqi_ticker_due(mq->ticker, due_ms);
}

static void on_committed(void *ctx, struct store_op *op)
{
    (void)ctx;
    bgmqi_type_committed(op->owner, op);
}

static void on_dropped(void *ctx, struct store_op *op, int err)
{
    (void)ctx;
    bgmqi_type_dropped(op->owner, op, err);
}

static void on_load(void *ctx, void *owner)
{
    (void)ctx;
    bgmqi_type_load(owner);
}

static int rouse_type(void *ctx, struct type *t)
{
    (void)ctx;
    bgmqi_type_rouse(t);
    return 0;
}

static void on_failed(void *ctx)
{
    struct bgmq *mq = ctx;
    atomic_store(&mq->types.started, false);
    bgmqi_registry_each(mq->registry, false, rouse_type, NULL);
}

static void on_idle(void *ctx)
{
    struct bgmq *mq = ctx;
    if (atomic_load_explicit(&mq->types.started, memory_order_relaxed))
        return;
    lock_take(&mq->idle_lock);
    PTHREAD_OK(pthread_cond_broadcast(&mq->idle));
    lock_drop(&mq->idle_lock);
}

static int cancel_type(void *ctx, struct type *t)
{
    bgmqi_type_cancel(t, *(const bool *)ctx);
    return 0;
}

static void cancel_all(struct bgmq *mq, bool cancel)
{
    bgmqi_registry_each(mq->registry, true, cancel_type, &cancel);
}

/* The ticker's other work: the cancel flags of a requested stop, workers that ended. */
static int64_t on_tick(void *ctx)
{
    struct bgmq *mq = ctx;
    int64_t now = clock_mono_ns(mq->clock), next = INT64_MAX;
    bool cancel = false;
    lock_take(&mq->life);
    if (mq->cancel_ns && now >= mq->cancel_ns) {
        mq->cancel_ns = 0;
        cancel = true;
    } else if (mq->cancel_ns) {
        next = (mq->cancel_ns - now) / MS + 1;
    }
    for (struct crew *c = mq->crews; c; c = c->next)
        bgmqi_pool_reap(c->pool);
    lock_drop(&mq->life);
    if (cancel)
        cancel_all(mq, true);
    return next;
}

/* ---- open -------------------------------------------------------------------------- */

/* A type that the database knows, until the journal is there to ask for its messages. */
struct known {
    struct known *next;
    uint32_t number;
    uint64_t counts[LANES];
    char name[];
};

static int note_type(void *ctx, uint32_t number, const char *name,
                     const uint64_t counts[LANES])
{
    struct known **all = ctx;
    size_t size = strlen(name) + 1;
    struct known *k = malloc(sizeof(*k) + size);
    if (!k)
        return BGMQ_ENOMEM;
    k->number = number;
    memcpy(k->counts, counts, sizeof(k->counts));
    memcpy(k->name, name, size);
    k->next = *all;
    *all = k;
    return 0;
}

/* Restores what was noted, unless ERR, and frees it. */
static int restore_types(struct bgmq *mq, struct known *all, int err)
{
    for (struct known *next; all; all = next) {
        next = all->next;
        if (!err)
            err =
                bgmqi_registry_restore(mq->registry, all->number, all->name, all->counts);
        free(all);
    }
    return err;
}

/* Charges what was in flight, moves what was in memory, and notes the types. */
static int recover(struct bgmq *mq, struct store *store, struct known **types,
                   struct bgmq_error *error)
{
    struct flight_log log;
    int err = bgmqi_flight_open(&mq->flight, mq->config.database, &log, error);
    if (err)
        return err;
    mq->types.flight = mq->flight;
    int64_t n = store->ops->recover(store, log.ids, log.attempts, log.n);
    bgmqi_flight_log_fini(&log);
    if (n < 0 || store->ops->types(store, note_type, types) < 0)
        return bgmqi_err_set(error, BGMQ_EOPEN, "%s: cannot be read",
                             mq->config.database);
    bgmqi_flight_clear(mq->flight);
    mq->replayed = (uint64_t)n;
    return 0;
}

static int open_journal(struct bgmq *mq, struct store *store)
{
    struct journal_options jo = {
        .flush_interval_ms = mq->config.flush_interval_ms,
        .flush_batch = mq->config.flush_batch,
        .stack_size = mq->config.stack_size,
        .log = &mq->config.log,
        .events = {on_committed, on_dropped, on_load, on_failed, mq},
    };
    int err = bgmqi_journal_open(&mq->journal, store, &jo);
    mq->types.journal = mq->journal;
    return err;
}

static int open_store(struct bgmq *mq, struct bgmq_error *error)
{
    struct store_options so = {.path = mq->config.database,
                               .share = mq->config.share_database,
                               .max_body = mq->config.max_body,
                               .history_keep = mq->config.history_keep};
    struct store *store;
    struct known *types = NULL;
    int err = bgmqi_owner_take(&mq->owner, mq->config.database, error);
    if (!err)
        err = bgmqi_store_sqlite_open(&store, &so, error);
    if (err)
        return err;
    err = recover(mq, store, &types, error);
    if (!err)
        err = open_journal(mq, store);
    if (err)
        store->ops->close(store);
    return restore_types(mq, types, err);
}

static int open_parts(struct bgmq *mq, struct bgmq_error *error)
{
    struct type_config defaults;
    unsigned threads;
    int err = bgmqi_options_type(&defaults, &threads, NULL, &mq->config);
    if (err)
        return err;
    mq->registry = bgmqi_registry_new(&mq->types, &defaults);
    if (!mq->registry)
        return BGMQ_ENOMEM;
    struct ticker_options to = {.registry = mq->registry,
                                .clock = mq->clock,
                                .stack_size = mq->config.stack_size,
                                .also = on_tick,
                                .ctx = mq};
    err = bgmqi_ticker_open(&mq->ticker, &to);
    return err || !mq->config.database ? err : open_store(mq, error);
}

/* Frees MQ, whose threads are gone or never were. */
static void free_service(struct bgmq *mq)
{
    bgmqi_ticker_free(mq->ticker);
    bgmqi_journal_free(mq->journal);
    bgmqi_registry_free(mq->registry);
    bgmqi_flight_free(mq->flight);
    bgmqi_owner_release(mq->owner);
    bgmqi_options_fini(&mq->config);
    PTHREAD_OK(pthread_cond_destroy(&mq->idle));
    lock_fini(&mq->idle_lock);
    lock_fini(&mq->pending);
    lock_fini(&mq->life);
    free(mq);
}

static void init_condition(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    PTHREAD_OK(pthread_condattr_init(&attr));
    PTHREAD_OK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    PTHREAD_OK(pthread_cond_init(c, &attr));
    PTHREAD_OK(pthread_condattr_destroy(&attr));
}

int bgmqi_service_open(struct bgmq **ret, const struct bgmq_options *options,
                       const struct clock *clock, struct bgmq_error *error)
{
    if (!ret)
        return BGMQ_EINVAL;
    if (error)
        error->text[0] = '\0';
    json_object_seed(0); /* before there are threads that would race for it */
    struct bgmq *mq = calloc(1, sizeof(*mq));
    if (!mq)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    int err = bgmqi_options_service(&mq->config, options, error);
    if (err) {
        free(mq);
        return err;
    }
    mq->clock = clock;
    mq->generation = bgmqi_handle_generation();
    mq->budget.max = mq->config.max_bytes;
    lock_init(&mq->life);
    lock_init(&mq->pending);
    lock_init(&mq->idle_lock);
    init_condition(&mq->idle);
    mq->types.clock = clock;
    mq->types.log = &mq->config.log;
    mq->types.budget = &mq->budget;
    atomic_init(&mq->types.ids, 1);
    mq->types.due = on_due;
    mq->types.ctx = mq;
    mq->workers = (struct worker_env){.service = mq,
                                      .clock = clock,
                                      .log = &mq->config.log,
                                      .stack_size = mq->config.stack_size,
                                      .reply = bgmqi_reply_send,
                                      .idle = on_idle,
                                      .ctx = mq};
    err = open_parts(mq, error);
    mq->config.database = NULL; /* was lent */
    if (err) {
        if (error && !error->text[0])
            bgmqi_err_set(error, err, "%s", bgmq_strerror(err));
        free_service(mq);
        return err;
    }
    *ret = mq;
    return 0;
}

int bgmq_open(struct bgmq **ret, const struct bgmq_options *options,
              struct bgmq_error *error)
{
    return bgmqi_service_open(ret, options, &bgmqi_clock_system, error);
}

const char *bgmq_version(void)
{
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)
    return TEXT(BGMQ_VERSION_MAJOR) "." TEXT(BGMQ_VERSION_MINOR) "." TEXT(
        BGMQ_VERSION_PATCH);
}

/* ---- start and stop ---------------------------------------------------------------- */

int bgmq_start(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (bgmqi_handle_in_handler(mq))
        return BGMQ_EBUSY;
    if (mq->journal && bgmqi_journal_failed(mq->journal))
        return BGMQ_ESTORE;
    lock_take(&mq->life);
    bool was = atomic_load(&mq->types.started);
    if (!was) {
        mq->epoch++;
        mq->cancel_ns = 0;
        atomic_store(&mq->types.started, true);
    }
    lock_drop(&mq->life);
    if (!was) {
        cancel_all(mq, false);
        bgmqi_registry_each(mq->registry, false, rouse_type, NULL);
    }
    return 0;
}

static int add_running(void *ctx, struct type *t)
{
    *(size_t *)ctx += bgmqi_type_running(t);
    return 0;
}

static size_t running(struct bgmq *mq)
{
    size_t n = 0;
    bgmqi_registry_each(mq->registry, true, add_running, &n);
    return n;
}

/* Forbids claiming; CANCEL_MS later the ticker sets the cancel flags. */
static uint64_t halt(struct bgmq *mq, unsigned cancel_ms)
{
    lock_take(&mq->life);
    uint64_t epoch = mq->epoch;
    if (atomic_exchange(&mq->types.started, false))
        mq->cancel_ns = clock_mono_ns(mq->clock) + (int64_t)cancel_ms * MS;
    lock_drop(&mq->life);
    bgmqi_registry_each(mq->registry, false, rouse_type, NULL);
    return epoch;
}

static bool restarted(struct bgmq *mq, uint64_t epoch)
{
    lock_take(&mq->life);
    bool yes = mq->epoch != epoch;
    lock_drop(&mq->life);
    return yes;
}

static void wait_idle(struct bgmq *mq, int64_t ns)
{
    int64_t until =
        clock_mono_ns(&bgmqi_clock_system) + (ns < PARK_MAX_NS ? ns : PARK_MAX_NS);
    struct timespec at = {.tv_sec = (time_t)(until / 1000000000),
                          .tv_nsec = (long)(until % 1000000000)};
    pthread_cond_timedwait(&mq->idle, &mq->idle_lock.m, &at);
}

/* Waits up to NS for the last handler, or for somebody to start again; true: it is over. */
static bool drained(struct bgmq *mq, uint64_t epoch, int64_t ns)
{
    int64_t deadline = clock_mono_ns(&bgmqi_clock_system) + ns;
    bool over = false;
    lock_take(&mq->idle_lock);
    for (;;) {
        lock_drop(&mq->idle_lock);
        bool again = restarted(mq, epoch);
        lock_take(&mq->idle_lock);
        over = again || running(mq) == 0;
        int64_t left = deadline - clock_mono_ns(&bgmqi_clock_system);
        if (over || left <= 0)
            break;
        wait_idle(mq, left);
    }
    lock_drop(&mq->idle_lock);
    return over;
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
    if (drained(mq, epoch, grace * MS))
        return 0;
    cancel_all(mq, true);
    return drained(mq, epoch, grace * MS) ? 0 : BGMQ_EBUSY;
}

int bgmq_request_stop(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    halt(mq, mq->config.stop_grace_ms);
    bgmqi_ticker_poke(mq->ticker);
    return running(mq) == 0 ? 0 : BGMQ_EINPROGRESS;
}

int bgmq_started(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    return err ? err : atomic_load(&mq->types.started);
}

int bgmq_running(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    return err ? err : (int)running(mq);
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
    bgmqi_registry_each(mq->registry, false, end_getters, NULL);
    bgmqi_registry_end_customs(mq->registry);
    lock_take(&mq->life);
    struct crew *crews = mq->crews;
    bool first = !mq->shut;
    mq->shut = true;
    mq->crews = NULL;
    lock_drop(&mq->life);
    if (!first)
        return;
    for (struct crew *c = crews; c; c = c->next)
        bgmqi_pool_quit(c->pool);
    for (struct crew *c = crews, *next; c; c = next) {
        next = c->next;
        bgmqi_pool_join(c->pool);
        free(c);
    }
    bgmqi_ticker_end(mq->ticker);
    if (mq->journal)
        bgmqi_journal_end(mq->journal);
    bgmqi_owner_release(mq->owner);
    mq->owner = NULL;
}

int bgmq_close(struct bgmq *mq)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err == BGMQ_ECLOSED ? 0 : err;
    if (bgmqi_handle_in_handler(mq))
        return BGMQ_EDEADLK;
    err = bgmq_stop(mq, 0);
    if (err == BGMQ_EBUSY)
        return err;
    if (atomic_exchange(&mq->types.closed, true))
        return 0; /* somebody else closes */
    atomic_store(&mq->types.started, false);
    bgmqi_registry_each(mq->registry, false, rouse_type, NULL);
    shut(mq);
    return 0;
}

void bgmq_free(struct bgmq *mq)
{
    if (!mq || bgmqi_handle_enter(mq) == BGMQ_EFORKED)
        return;
    if (bgmqi_handle_in_handler(mq)) {
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR,
                  "bgmq_free in a handler: nothing is freed");
        return;
    }
    while (bgmq_close(mq) == BGMQ_EBUSY)
        ;
    free_service(mq);
}

/* ---- types ------------------------------------------------------------------------- */

int bgmq_register(struct bgmq *mq, const char *name, bgmq_handler_fn *handler, void *ctx,
                  const struct bgmq_type_options *options)
{
    int err = bgmqi_handle_enter(mq);
    struct type_config config;
    unsigned threads;
    if (!err && !handler)
        err = BGMQ_EINVAL;
    if (!err)
        err = bgmqi_options_type(&config, &threads, options, &mq->config);
    struct type *t;
    if (!err)
        err = bgmqi_registry_type(mq->registry, name, &t);
    if (err)
        return err;
    config.handler = handler;
    config.handler_ctx = config.retry.ctx = ctx;
    struct crew *c = calloc(1, sizeof(*c));
    if (!c)
        return BGMQ_ENOMEM;
    c->type = t;
    lock_take(&mq->life);
    if (mq->shut)
        err = BGMQ_ECLOSED;
    else if (bgmqi_type_registered(t))
        err = BGMQ_EEXIST;
    else
        err = bgmqi_pool_new(&c->pool, t, &mq->workers, threads);
    if (!err) {
        bgmqi_type_configure(t, &config);
        bgmqi_registry_ordered(mq->registry, t);
        c->next = mq->crews;
        mq->crews = c;
    }
    lock_drop(&mq->life);
    if (err) {
        free(c);
        return err;
    }
    bgmqi_type_rouse(t);
    return 0;
}

int bgmq_set_threads(struct bgmq *mq, const char *name, unsigned threads)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (threads < 1 || threads > 1024 || !bgmqi_registry_valid(name))
        return BGMQ_EINVAL;
    err = BGMQ_ENOENT;
    lock_take(&mq->life);
    for (struct crew *c = mq->crews; c; c = c->next)
        if (strcmp(bgmqi_type_name(c->type), name) == 0) {
            err = bgmqi_pool_resize(c->pool, threads);
            break;
        }
    lock_drop(&mq->life);
    return err;
}
