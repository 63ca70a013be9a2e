/* service_open.c - brings a service up: owner lock, store, what the last owner left, journal,
 * types as the database knows them, and the ticker; and what these parts tell it (upcalls).
 *
 * Runs on the opener's thread, the upcalls on those of the journal, the ticker and workers. */
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "inbox.h"
#include "reply.h"
#include "service.h"
#include "thread.h"
#include "tx.h"
#include "watch.h"

#define MS INT64_C(1000000)

/* ---- upcalls ----------------------------------------------------------------------- */

static void on_due(void *ctx, struct type *t, int64_t due_ms)
{
    struct bgmq *mq = ctx;
    if (mq->ticker)
        bgmqi_ticker_due(mq->ticker, t, due_ms);
}

static void on_committed(void *ctx, struct store_op *op, bool told)
{
    struct bgmq *mq = ctx;
    if (op->owner)
        bgmqi_type_committed(op->owner, op, told);
    if (told && op->flags & OP_INBOX)
        bgmqi_inbox_ended(mq->inbox, op, 0);
}

static void on_dropped(void *ctx, struct store_op *op, int err)
{
    struct bgmq *mq = ctx;
    if (op->owner)
        bgmqi_type_dropped(op->owner, op, err);
    if (op->flags & OP_INBOX)
        bgmqi_inbox_ended(mq->inbox, op, err);
}

static void on_load(void *ctx, void *owner)
{
    struct bgmq *mq = ctx;
    if (owner == mq->inbox)
        bgmqi_inbox_look(mq->inbox);
    else
        bgmqi_type_load(owner);
}

static void on_change(void *ctx)
{
    bgmqi_inbox_ring(ctx);
}

static void on_failed(void *ctx)
{
    struct bgmq *mq = ctx;
    atomic_store(&mq->types.started, GATE_SHUT);
    bgmqi_service_rouse(mq);
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
    struct store_boot boot = {.ids = log.ids,
                              .attempts = log.attempts,
                              .running = log.running,
                              .n = log.n,
                              .flight = log.number,
                              .now_ms = clock_wall_ms(mq->clock)};
    struct store_booted booted = {.deaths = 0};
    err = store->ops->recover(store, &boot, &booted);
    bgmqi_flight_log_fini(&log);
    int n = err ? err : store->ops->types(store, note_type, types);
    if (n == BGMQ_ENOMEM)
        return bgmqi_err_set(error, n, "%s: out of memory", mq->config.database);
    if (n < 0)
        return bgmqi_err_set(error, BGMQ_EOPEN, "%s: cannot be recovered: %s",
                             mq->config.database, bgmq_strerror(n));
    bgmqi_flight_clear(mq->flight);
    mq->replayed = booted.unfinished;
    mq->deaths = booted.deaths;
    return 0;
}

struct want {
    const struct budget *budget;
    size_t bytes;
    bool shed;
};

static int shed(void *ctx, struct type *t)
{
    struct want *w = ctx;
    w->shed |= bgmqi_type_outq_shed(t, w->bytes);
    return bgmqi_mem_left(w->budget) >= w->bytes;
}

static bool make_room(void *ctx, size_t bytes)
{
    struct bgmq *mq = ctx;
    struct want w = {.budget = &mq->budget, .bytes = bytes};
    return bgmqi_registry_each(mq->registry, false, shed, &w) || w.shed;
}

static int open_journal(struct bgmq *mq, struct store *store)
{
    struct journal_options jo = {
        .flush_interval_ms = mq->config.flush_interval_ms,
        .flush_batch = mq->config.flush_batch,
        .stack_size = mq->config.stack_size,
        .clock = mq->clock,
        .log = &mq->config.log,
        .events = {on_committed, on_dropped, on_load, on_failed, mq},
    };
    if (!(mq->inbox = bgmqi_inbox_new(mq)))
        return BGMQ_ENOMEM;
    bgmqi_store_sqlite_want(store, &bgmqi_flight_bell(mq->flight)->wanted);
    int err = bgmqi_journal_open(&mq->journal, store, &jo);
    mq->types.journal = mq->journal;
    return err;
}

/* Last of all: what is rung here looks into everything else. */
static int open_inbox(struct bgmq *mq, struct bgmq_error *error)
{
    struct watch_options wo = {.database = mq->config.database,
                               .bell = bgmqi_flight_bell(mq->flight),
                               .stack_size = mq->config.stack_size,
                               .changed = on_change,
                               .ctx = mq};
    int err = mq->config.guests ? bgmqi_watch_open(&mq->watch, &wo, error) : 0;
    if (err)
        return err;
    bgmqi_inbox_ring(mq);
    return 0;
}

static int open_store(struct bgmq *mq, struct bgmq_error *error)
{
    struct store_options so = {.path = mq->config.database,
                               .log = &mq->config.log,
                               .erase = mq->config.erase,
                               .share = mq->config.share_database,
                               .max_body = mq->config.max_body,
                               .history_keep = mq->config.history_keep,
                               .history_max_age_ms = mq->config.history_max_age_ms};
    struct store *store;
    struct known *types = NULL;
    if (bgmqi_owner_inherited(mq->config.database))
        return bgmqi_err_set(error, BGMQ_EFORKED,
                             "%s: was open when this process was forked: fork before it"
                             " is opened, or exec",
                             mq->config.database);
    int err =
        bgmqi_owner_wait(&mq->owner, mq->config.database, mq->config.standby_ms, error);
    if (err)
        return err;
    err = bgmqi_store_sqlite_open(&store, &so, error);
    if (err) {
        bgmqi_owner_forget(mq->owner);
        mq->owner = NULL;
        return err;
    }
    err = recover(mq, store, &types, error);
    if (!err)
        err = open_journal(mq, store);
    if (!err)
        err = bgmqi_tx_hub_new(&mq->hub, mq, mq->config.database);
    else
        store->ops->close(store);
    err = restore_types(mq, types, err);
    return err ? err : open_inbox(mq, error);
}

static int open_parts(struct bgmq *mq, struct bgmq_error *error)
{
    struct type_config defaults;
    unsigned threads;
    const char *wrong;
    int err = bgmqi_options_type(&defaults, &threads, NULL, &mq->config, &wrong);
    if (err)
        return err;
    mq->registry = bgmqi_registry_new(&mq->types, &defaults);
    if (!mq->registry)
        return BGMQ_ENOMEM;
    struct ticker_options to = {.registry = mq->registry,
                                .clock = mq->clock,
                                .stack_size = mq->config.stack_size,
                                .by_hand = mq->kit != NULL,
                                .also = bgmqi_service_tick,
                                .ctx = mq};
    err = bgmqi_ticker_open(&mq->ticker, &to);
    if (!err && mq->config.database)
        err = open_store(mq, error);
    /* Last: it looks at all that was made here. */
    return err ? err : bgmqi_ticker_start(mq->ticker);
}

int bgmqi_service_open_kit(struct bgmq **ret, const struct bgmq_options *options,
                           const struct clock *clock, struct kit *kit,
                           struct bgmq_error *error)
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
    mq->metrics.last_ns = clock_mono_ns(clock);
    mq->kit = kit;
    mq->generation = bgmqi_handle_generation();
    mq->budget.max = mq->config.max_bytes;
    lock_init(&mq->life, RANK_LIFE);
    lock_init(&mq->pending, RANK_PENDING);
    bgmqi_monitor_init(&mq->idle, RANK_IDLE);
    mq->types.clock = clock;
    mq->types.log = &mq->config.log;
    mq->types.budget = &mq->budget;
    atomic_init(&mq->types.ids, 1);
    mq->types.max_crashes = mq->config.max_crashes;
    mq->types.together = kit != NULL;
    mq->types.timing = mq->config.metrics_interval_ms != 0;
    mq->types.due = on_due;
    mq->types.deadline = bgmqi_service_deadline;
    mq->types.room = make_room;
    mq->types.idle = bgmqi_service_idle;
    bgmqi_agenda_init(&mq->attempts);
    mq->types.ctx = mq;
    mq->workers = (struct worker_env){.service = mq,
                                      .clock = clock,
                                      .log = &mq->config.log,
                                      .stack_size = mq->config.stack_size,
                                      .by_hand = kit != NULL,
                                      .reply = bgmqi_reply_send,
                                      .tx_over = bgmqi_tx_job_over,
                                      .gone = bgmqi_service_gone,
                                      .ctx = mq};
    struct thread_calm calm;
    bgmqi_thread_calm(&calm);
    err = open_parts(mq, error);
    mq->config.database = NULL; /* was lent */
    if (err) {
        if (error && !error->text[0])
            bgmqi_err_set(error, err, "%s", bgmq_strerror(err));
        mq->kit = NULL; /* is the caller's still */
        bgmqi_service_free(mq);
    } else {
        *ret = mq;
    }
    bgmqi_thread_uncalm(&calm);
    return err;
}

int bgmqi_service_open(struct bgmq **ret, const struct bgmq_options *options,
                       const struct clock *clock, struct bgmq_error *error)
{
    return bgmqi_service_open_kit(ret, options, clock, NULL, error);
}

int bgmq_open(struct bgmq **ret, const struct bgmq_options *options,
              struct bgmq_error *error)
{
    return bgmqi_service_open(ret, options, &bgmqi_clock_system, error);
}
