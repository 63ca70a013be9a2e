/* mixer_handle.c - the handlers of the mixer, on the library's workers: each tells what it is
 * about to do before it does it. */
#include "loop.h"
#include "mixer_impl.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 12 };

void mixer_load(const char *key, const char *meta[3],
                struct bgmq_message_options *options)
{
    uint64_t hash = cargo_hash(key);
    meta[0] = "key";
    meta[1] = key;
    meta[2] = NULL;
    if (hash & 1)
        options->tag = key;
    if (hash & 2)
        options->meta = meta;
    if (hash & 4)
        options->traceparent = key;
}

static int same(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

static int carries(struct bgmq_job *job, const char *key)
{
    const char *meta[3];
    struct bgmq_message_options want = {0};
    mixer_load(key, meta, &want);
    return same(bgmq_job_tag(job), want.tag) &&
           same(bgmq_job_traceparent(job), want.traceparent) &&
           same(bgmq_job_meta(job, "key"), want.meta ? key : NULL);
}

void mixer_begin(struct mixer *x, struct bgmq_job *job, char key[KEY_SIZE])
{
    uint64_t id = bgmq_job_id(job);
    size_t len = 0;
    const char *body = bgmq_job_body(job, &len);
    int good = cargo_read(body, len, key) && carries(job, key);
    history_write(x->history, "S %s %" PRIu64 " %u %" PRId64, key, id,
                  bgmq_job_attempt(job), wall_ms());
    if (!good)
        history_write(x->history, "B %s %" PRIu64, key, id);
    loop_end_if_due(x->end, atomic_fetch_add(&x->starts, 1) + 1);
    if (id % 16 == 0)
        poll(NULL, 0, 3); /* work that takes its time, to be killed in the middle of it */
}

/* One message in two throws heads. */
static int heads(struct mixer *x)
{
    uint64_t state = atomic_fetch_add(&x->random, 1);
    return (int)(next_random(&state) >> 9 & 1);
}

static int done(struct mixer *x, struct bgmq_job *job, const char *key)
{
    history_write(x->history, "D %s %" PRIu64, key, bgmq_job_id(job));
    return BGMQ_DONE;
}

void mixer_fail(struct mixer *x, struct bgmq_job *job, const char *key, int verdict)
{
    /* What fails because of a stop is given back.  (The stop may come after this look, too.) */
    char letter = verdict == BGMQ_PERMANENT      ? 'K'
                  : bgmq_job_cancelled(job) != 0 ? 'H'
                                                 : 'F';
    history_write(x->history, "%c %s %" PRIu64 " 0", letter, key, bgmq_job_id(job));
}

static int fail(struct mixer *x, struct bgmq_job *job, const char *key,
                enum bgmq_verdict verdict)
{
    mixer_fail(x, job, key, verdict);
    return bgmq_job_fail(job, verdict, "Mixed", "attempt %u", bgmq_job_attempt(job));
}

static int handle_plain(struct bgmq_job *job, void *ctx)
{
    char key[KEY_SIZE];
    mixer_begin(ctx, job, key);
    return done(ctx, job, key);
}

/* Which way it fails follows from the key. */
static int handle_flaky(struct bgmq_job *job, void *ctx)
{
    struct mixer *x = ctx;
    char key[KEY_SIZE];
    mixer_begin(x, job, key);
    uint64_t way = cargo_hash(key) >> 8 & 7;
    if (way == 7)
        return fail(x, job, key, BGMQ_PERMANENT);
    if (way == 6 && heads(x)) {
        int64_t delay = 1 + (int64_t)(cargo_hash(key) >> 16 & 7);
        history_write(x->history, "H %s %" PRIu64 " %" PRId64, key, bgmq_job_id(job),
                      wall_ms() + delay);
        return bgmq_job_snooze(job, delay);
    }
    if (way == 5) {
        history_write(x->history, "D %s %" PRIu64, key, bgmq_job_id(job));
        return BGMQ_DISCARD;
    }
    if (bgmq_job_attempt(job) == 1)
        return fail(x, job, key, BGMQ_RETRY);
    return done(x, job, key);
}

static int handle_keyed(struct bgmq_job *job, void *ctx)
{
    char key[KEY_SIZE];
    mixer_begin(ctx, job, key);
    uint64_t way = cargo_hash(key) >> 8 & 15;
    if (way == 15)
        return fail(ctx, job, key, BGMQ_PERMANENT);
    if (way > 11 && bgmq_job_attempt(job) == 1)
        return fail(ctx, job, key, BGMQ_RETRY);
    return done(ctx, job, key);
}

/* Goes through its items, from where it was. */
static int handle_walk(struct bgmq_job *job, void *ctx)
{
    struct mixer *x = ctx;
    char key[KEY_SIZE];
    long item = 0;
    size_t len = 0;
    mixer_begin(x, job, key);
    const void *cursor = bgmq_job_cursor(job, &len);
    if (cursor && len == sizeof(item))
        memcpy(&item, cursor, sizeof(item));
    history_write(x->history, "I %s %ld", key, item);
    while (item < ITEMS) {
        history_write(x->history, "J %s %ld", key, item++);
        enum bgmq_durability level = item % 4 ? BGMQ_BEHIND : BGMQ_DISK;
        if (bgmq_job_progress(job, item, key) ||
            bgmq_job_save_cursor(job, &item, sizeof(item), level))
            return fail(x, job, key, BGMQ_RETRY);
        if (level == BGMQ_DISK)
            history_write(x->history, "L %s %ld", key, item);
        if (bgmq_job_cancelled(job)) {
            history_write(x->history, "H %s %" PRIu64 " 0", key, bgmq_job_id(job));
            return BGMQ_RETRY;
        }
        if (item == 5 && heads(x))
            return fail(x, job, key, BGMQ_RETRY);
        if (bgmq_job_id(job) % 8 == 0)
            poll(NULL, 0, 1);
    }
    return done(x, job, key);
}

int mixer_register(struct mixer *x)
{
    static const struct {
        const char *name;
        bgmq_handler_fn *handle;
        int discard_expired;
    } types[] = {
        {"Plain", handle_plain, 0},    {"Flaky", handle_flaky, 0},
        {"Keyed", handle_keyed, 0},    {"Brief", handle_plain, 0},
        {"Fleeting", handle_plain, 1}, {"Walk", handle_walk, 0},
        {"Tx", mixer_handle_tx, 0},    {"Sink", mixer_handle_sink, 0},
    };
    struct bgmq_type_options options = {
        .threads = 2,
        .max_attempts = 1000,
        .backoff = BGMQ_BACKOFF_FIXED,
        .backoff_base_ms = 1,
        .window = 1 + (unsigned)(x->seed % 60),
        .history = BGMQ_HISTORY_ALL,
    };
    int err = 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && !err; i++) {
        options.discard_expired = types[i].discard_expired;
        err = bgmq_register(x->mq, types[i].name, types[i].handle, x, &options);
    }
    return err;
}
