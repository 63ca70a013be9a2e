/* options.c - checks options and fills in defaults (see options.h).  Pure but for its copies. */
#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "err.h"
#include "registry.h"

enum {
    THREADS_MAX = 1024,
    ATTEMPTS_MAX = 1000,
    PRIORITY_MAX = 32767,
    STACK_MIN = 256 * 1024,
    BODY_MAX = 64 << 20,
    CRASHES_MAX = 255,
    TIMEOUT_MAX_MS = 1000000000 /* 11 days */
};
#define HUNDRED_YEARS_MS INT64_C(3155760000000)

static int copy_list(char ***ret, const char *const *list)
{
    size_t n = 0;
    while (list[n])
        n++;
    char **copy = calloc(n + 1, sizeof(*copy));
    if (!copy)
        return BGMQ_ENOMEM;
    *ret = copy;
    for (size_t i = 0; i < n; i++)
        if (!(copy[i] = strdup(list[i])))
            return BGMQ_ENOMEM;
    return 0;
}

static size_t or_size(size_t value, size_t by_default)
{
    return value ? value : by_default;
}

static unsigned or_default(unsigned value, unsigned by_default)
{
    return value ? value : by_default;
}

int bgmqi_options_service(struct service_config *ret, const struct bgmq_options *options,
                          struct bgmq_error *error)
{
    static const struct bgmq_options none;
    const struct bgmq_options *o = options ? options : &none;
    struct service_config c = {
        .database = o->database,
        .persistent = o->database != NULL,
        .share_database = o->share_database != 0,
        .durability = o->durability         ? o->durability
                      : o->database != NULL ? BGMQ_DISK
                                            : BGMQ_MEMORY,
        .flush_interval_ms = or_default(o->flush_interval_ms, 10),
        .flush_batch = or_default(o->flush_batch, 4096),
        .publish_timeout_ms = or_default(o->publish_timeout_ms, 30000),
        .stop_grace_ms = or_default(o->stop_grace_ms, 10000),
        .max_body = or_size(o->max_body, 1 << 20),
        .max_bytes = or_size(o->max_bytes, 64 << 20),
        .stack_size = or_size(o->stack_size, 1 << 20),
        .history_keep = or_default(o->history_keep, 100000),
        .erase = o->erase,
        .history_max_age_ms = o->history_max_age_ms,
        .standby_ms = o->standby_ms,
        .max_crashes = or_default(o->max_crashes, 3),
        .boot_breaker = or_default(o->boot_breaker, 3),
        .metrics_interval_ms = o->metrics_interval_ms,
        .guests = o->guests != 0,
        .no_responses = o->no_responses != 0,
        .log = {.fn = o->log, .ctx = o->log_ctx},
    };
    if (c.durability < BGMQ_MEMORY || c.durability > BGMQ_DISK)
        return bgmqi_err_set(error, BGMQ_EINVAL, "durability %d is none",
                             (int)c.durability);
    if (c.durability > BGMQ_MEMORY && !c.database)
        return bgmqi_err_set(error, BGMQ_EINVAL, "durability needs a database");
    if (c.database && (!*c.database || strcmp(c.database, ":memory:") == 0 ||
                       strncmp(c.database, "file:", 5) == 0))
        return bgmqi_err_set(error, BGMQ_EINVAL, "'%s' is not the name of a file",
                             c.database);
    if ((c.standby_ms || c.guests) && !c.database)
        return bgmqi_err_set(error, BGMQ_EINVAL, "guests and stand-by need a database");
    if (c.history_max_age_ms < 0)
        return bgmqi_err_set(error, BGMQ_EINVAL, "history_max_age_ms is negative");
    if (c.max_crashes > CRASHES_MAX)
        return bgmqi_err_set(error, BGMQ_EINVAL, "max_crashes is over 255");
    if (c.max_body > BODY_MAX)
        return bgmqi_err_set(error, BGMQ_EINVAL, "max_body is over 64 MiB");
    if (c.stack_size < STACK_MIN)
        return bgmqi_err_set(error, BGMQ_EINVAL, "stack_size is under 256 KiB");
    if (o->response_types && copy_list(&c.response_types, o->response_types) != 0) {
        bgmqi_options_fini(&c);
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    }
    *ret = c;
    return 0;
}

void bgmqi_options_fini(struct service_config *c)
{
    for (size_t i = 0; c->response_types && c->response_types[i]; i++)
        free(c->response_types[i]);
    free(c->response_types);
    c->response_types = NULL;
}

/* What is wrong with O, or with C made of it; NULL: nothing. */
static const char *wrong_with(const struct bgmq_type_options *o,
                              const struct type_config *c, unsigned threads,
                              const struct service_config *service)
{
    const bool table = o->backoff == BGMQ_BACKOFF_TABLE;
    const bool callback = o->backoff == BGMQ_BACKOFF_CALLBACK;
    const struct {
        bool wrong;
        const char *what;
    } rules[] = {
        {threads > THREADS_MAX, "threads is over 1024"},
        {c->max_attempts > ATTEMPTS_MAX, "max_attempts is over 1000"},
        {o->backoff < BGMQ_BACKOFF_EXPONENTIAL || o->backoff > BGMQ_BACKOFF_TABLE,
         "backoff is no enum bgmq_backoff"},
        {table && (!o->backoff_table || o->backoff_table_len < 1 ||
                   o->backoff_table_len > RETRY_TABLE_MAX),
         "backoff_table has no entry, or too many"},
        {!table && o->backoff_table, "backoff_table without BGMQ_BACKOFF_TABLE"},
        {callback && !o->backoff_fn, "BGMQ_BACKOFF_CALLBACK without backoff_fn"},
        {!callback && o->backoff_fn, "backoff_fn without BGMQ_BACKOFF_CALLBACK"},
        {o->timeout_ms > TIMEOUT_MAX_MS, "timeout_ms is too long"},
        {o->stuck_ms > TIMEOUT_MAX_MS, "stuck_ms is too long"},
        {o->wait_ms > TIMEOUT_MAX_MS, "wait_ms is too long"},
        {o->expire_ms < 0 || o->expire_ms > HUNDRED_YEARS_MS,
         "expire_ms is negative, or over 100 years"},
        {o->any_channel && o->channel, "any_channel is for the type without a channel"},
        {o->channel && !bgmqi_registry_valid(o->channel), "channel is no name"},
        {c->durability < BGMQ_MEMORY || c->durability > BGMQ_DISK,
         "durability is no enum bgmq_durability"},
        {c->durability > BGMQ_MEMORY && !service->persistent,
         "durability needs a database"},
        {o->history < BGMQ_HISTORY_OFF || o->history > BGMQ_HISTORY_ALL,
         "history is no enum bgmq_history"},
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].wrong)
            return rules[i].what;
    return NULL;
}

int bgmqi_options_type(struct type_config *ret, unsigned *ret_threads,
                       const struct bgmq_type_options *options,
                       const struct service_config *service, const char **ret_wrong)
{
    static const struct bgmq_type_options none;
    const struct bgmq_type_options *o = options ? options : &none;
    struct type_config c = {
        .max_attempts = or_default(o->max_attempts, 5),
        .retry = {.kind = o->backoff,
                  .base_ms = or_default(o->backoff_base_ms, 1000),
                  .max_ms = or_default(o->backoff_max_ms, 300000),
                  .fn = o->backoff_fn,
                  .table_len = o->backoff_table_len},
        .timeout_ms = o->timeout_ms,
        .stuck_ms = or_default(o->stuck_ms, 30000),
        .expire_ms = o->expire_ms,
        .discard_expired = o->discard_expired != 0,
        .max_messages = o->max_messages,
        .max_bytes = o->max_bytes,
        .wait_ms = o->wait_ms,
        .any_channel = o->any_channel != 0,
        .history_body = o->history_body != 0,
        .durability = o->durability ? o->durability : service->durability,
        .window = or_default(o->window, 1000),
        .outq_limit = or_default(o->outq_limit, 100),
        .priority_share = or_default(o->priority_share, 15),
        .no_outq = o->no_outq != 0,
        .history = o->history,
        .request_filter = o->request_filter,
        .response_filter = o->response_filter,
        .on_error = o->on_error,
    };
    *ret_threads = or_default(o->threads, 1);
    *ret_wrong = wrong_with(o, &c, *ret_threads, service);
    if (*ret_wrong)
        return BGMQ_EINVAL;
    for (unsigned i = 0; i < c.retry.table_len && o->backoff == BGMQ_BACKOFF_TABLE; i++)
        c.retry.table[i] = o->backoff_table[i];
    *ret = c;
    return 0;
}

/* What concerns the unique key. */
static bool bad_key(const struct bgmq_message_options *o)
{
    bool period = o->unique == BGMQ_UNIQUE_PERIOD;
    return o->unique < BGMQ_UNIQUE_UNFINISHED || o->unique > BGMQ_UNIQUE_PERIOD ||
           o->on_conflict < BGMQ_CONFLICT_KEEP || o->on_conflict > BGMQ_CONFLICT_REFUSE ||
           (period && !o->unique_key) || period != (o->unique_period_ms != 0) ||
           o->unique_period_ms < 0 || o->unique_period_ms > HUNDRED_YEARS_MS;
}

/* What concerns expiry, time-out, room and channel. */
static bool bad_terms(const struct bgmq_message_options *o, int64_t now_ms)
{
    return (o->expire_ms && o->expire_at_ms) || o->expire_ms < 0 || o->expire_at_ms < 0 ||
           o->expire_ms > HUNDRED_YEARS_MS ||
           o->expire_at_ms > clock_plus(now_ms, HUNDRED_YEARS_MS) ||
           o->timeout_ms > TIMEOUT_MAX_MS || o->wait_ms > TIMEOUT_MAX_MS ||
           (o->channel && !bgmqi_registry_valid(o->channel));
}

/* When MS from NOW_MS on are over.  A clock that stands before 1970 is borne, but no end is there:
 * 0 would be none at all, and what is less the database takes for damage. */
static int64_t end_of(int64_t now_ms, int64_t ms)
{
    int64_t end_ms = clock_plus(now_ms, ms);
    return end_ms > 0 ? end_ms : 1;
}

void bgmqi_options_final(const struct bgmq_message_options *o, int64_t type_expire_ms,
                         int64_t now_ms, struct bgmq_message_options *ret)
{
    static const struct bgmq_message_options none = {.priority = 0};
    *ret = o ? *o : none;
    int64_t expire_ms =
        ret->expire_ms || ret->expire_at_ms ? ret->expire_ms : type_expire_ms;
    if (expire_ms)
        ret->expire_at_ms = end_of(now_ms, expire_ms);
    ret->expire_ms = 0;
    if (ret->unique_period_ms)
        ret->unique_period_ms = end_of(now_ms, ret->unique_period_ms);
}

int bgmqi_options_message(const struct bgmq_message_options *o, int64_t now_ms,
                          int64_t *ret_due_ms)
{
    *ret_due_ms = 0;
    if (!o)
        return 0;
    if (o->priority < 0 || o->priority > PRIORITY_MAX || o->max_attempts > ATTEMPTS_MAX ||
        o->durability < BGMQ_DEFAULT || o->durability > BGMQ_DISK ||
        (o->delay_ms && o->run_at_ms) || o->run_at_ms < 0 || bad_key(o) ||
        bad_terms(o, now_ms))
        return BGMQ_EINVAL;
    int64_t due_ms = o->run_at_ms ? o->run_at_ms : clock_plus(now_ms, o->delay_ms);
    if (due_ms > clock_plus(now_ms, HUNDRED_YEARS_MS))
        return BGMQ_EINVAL;
    if (due_ms > now_ms)
        *ret_due_ms = due_ms ? due_ms : 1;
    return 0;
}
