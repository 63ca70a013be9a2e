/* mixer_publish.c - the thread of the mixer that publishes: at every durability, late, under
 * unique keys, for a short time only, and many at once. */
#include "mixer_impl.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { PENDING = 12, BATCH = 3, UNIQUES = 5 };

/* What was accepted BEHIND, until a flush says that it is there. */
struct pending {
    char key[KEY_SIZE];
    uint64_t id;
};

struct publisher {
    struct part *part;
    struct mixer *x;
    struct pending pending[PENDING];
    size_t pendings;
};

static uint64_t below(struct publisher *p, uint64_t n)
{
    return (next_random(&p->part->random) >> 7) % n;
}

static int one_in(struct publisher *p, uint64_t n)
{
    return below(p, n) == 0;
}

static void name(struct publisher *p, char letter, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "%c%ld.%d.%ld", letter, p->x->round, p->part->number,
             p->part->n);
}

/* Everything accepted so far is now as certain as the rest. */
static void flush(struct publisher *p)
{
    if (p->pendings && bgmq_flush(p->x->mq) == 0)
        for (size_t i = 0; i < p->pendings; i++)
            history_write(p->x->history, "A %s %" PRIu64, p->pending[i].key,
                          p->pending[i].id);
    p->pendings = 0;
}

static void tell_pending(struct publisher *p, const char *key, uint64_t id)
{
    struct pending *at = &p->pending[p->pendings++];
    snprintf(at->key, sizeof(at->key), "%s", key);
    at->id = id;
    history_write(p->x->history, "P %s %" PRIu64, key, id);
    if (p->pendings == PENDING)
        flush(p);
}

static void tell(struct publisher *p, const char *key, int err,
                 const struct bgmq_receipt *receipt)
{
    int64_t now = wall_ms();
    int history = p->x->history;
    if (err == BGMQ_EEXIST || err == BGMQ_EDRAINING || (!err && receipt->duplicate)) {
        history_write(history, "N %s", key);
        return;
    }
    if (err) {
        history_write(history, "E %s %s", key, bgmq_errname(err));
        return;
    }
    if (receipt->replaced)
        history_write(history, "R %s %" PRIu64, key, receipt->replaced);
    if (receipt->level <= BGMQ_BEHIND)
        tell_pending(p, key, receipt->id);
    else
        history_write(history, "A %s %" PRIu64 " %" PRId64, key, receipt->id, now);
}

/* Announces KEY, and publishes it. */
static void publish(struct publisher *p, const char *type, const char *key,
                    struct bgmq_message_options *options)
{
    char body[CARGO_MAX];
    const char *meta[3];
    size_t len = cargo_make(key, body);
    mixer_load(key, meta, options);
    int64_t due = options->run_at_ms;
    if (options->delay_ms)
        due = wall_ms() + options->delay_ms;
    history_write(p->x->history, "T %s %d %" PRId64, key, (int)options->durability, due);
    if (options->expire_ms)
        history_write(p->x->history, "Y %s %" PRId64 " %d", key,
                      wall_ms() + options->expire_ms, !strcmp(type, "Fleeting"));
    if (options->unique_key)
        history_write(p->x->history, "Q %s %s %c %" PRId64 " %" PRId64 " %d", key,
                      options->unique_key, "uwdp"[options->unique],
                      options -> unique_period_ms, wall_ms(),
                      options -> on_conflict == BGMQ_CONFLICT_REPLACE);
    struct bgmq_receipt receipt = {0};
    int err = bgmq_publish(p->x->mq, type, body, len, options, &receipt);
    tell(p, key, err, &receipt);
    if (!err && !receipt.duplicate && !options->unique_key)
        mixer_remember(p->x, key, type, receipt.id);
}

static void choose(struct publisher *p, struct bgmq_message_options *options)
{
    static const enum bgmq_durability levels[] = {BGMQ_BEHIND, BGMQ_COMMIT, BGMQ_DISK};
    *options = (struct bgmq_message_options){.durability = levels[below(p, 3)]};
    if (one_in(p, 2))
        options->priority = 1 + (int)below(p, 9);
    if (one_in(p, 6))
        options->delay_ms = 1 + (int64_t)below(p, 50);
    else if (one_in(p, 6))
        options->run_at_ms = wall_ms() + 1 + (int64_t)below(p, 50);
}

static void publish_keyed(struct publisher *p)
{
    char key[KEY_SIZE], unique[16];
    struct bgmq_message_options options;
    choose(p, &options);
    name(p, 'k', key);
    options.unique = (enum bgmq_unique)below(p, 4);
    snprintf(unique, sizeof(unique), "%c%d", "uwdp"[options.unique],
             (int)below(p, UNIQUES));
    options.unique_key = unique;
    if (options.unique == BGMQ_UNIQUE_PERIOD)
        options.unique_period_ms = 20 + (int64_t)below(p, 40);
    else
        options.on_conflict = (enum bgmq_conflict)below(p, 3);
    if (options.on_conflict == BGMQ_CONFLICT_REPLACE && options.durability == BGMQ_BEHIND)
        options.durability = BGMQ_COMMIT;
    publish(p, "Keyed", key, &options);
}

static void publish_brief(struct publisher *p)
{
    char key[KEY_SIZE];
    struct bgmq_message_options options;
    int fleeting = one_in(p, 2);
    choose(p, &options);
    name(p, fleeting ? 'v' : 'e', key);
    options.expire_ms = 1 + (int64_t)below(p, 40);
    publish(p, fleeting ? "Fleeting" : "Brief", key, &options);
}

static void publish_batch(struct publisher *p)
{
    char keys[BATCH][KEY_SIZE], bodies[BATCH][CARGO_MAX];
    struct bgmq_item items[BATCH];
    struct bgmq_receipt receipts[BATCH];
    struct bgmq_message_options options[BATCH];
    const char *meta[BATCH][3];
    for (int i = 0; i < BATCH; i++) {
        snprintf(keys[i], KEY_SIZE, "b%ld.%d.%ld.%d", p->x->round, p->part->number,
                 p->part->n, i);
        options[i] = (struct bgmq_message_options){.durability = BGMQ_COMMIT};
        mixer_load(keys[i], meta[i], &options[i]);
        items[i] = (struct bgmq_item){.type = "Plain",
                                      .body = bodies[i],
                                      .len = cargo_make(keys[i], bodies[i]),
                                      .options = &options[i]};
        history_write(p->x->history, "T %s batch 0", keys[i]);
    }
    int err = bgmq_publish_many(p->x->mq, items, BATCH, receipts);
    for (int i = 0; i < BATCH; i++)
        tell(p, keys[i], err, &receipts[i]);
}

static void publish_other(struct publisher *p)
{
    static const struct {
        const char *type;
        char letter;
    } kinds[] = {{"Plain", 'p'}, {"Flaky", 'f'}, {"Walk", 'w'}};
    uint64_t kind = below(p, 3);
    char key[KEY_SIZE];
    struct bgmq_message_options options;
    choose(p, &options);
    name(p, kinds[kind].letter, key);
    publish(p, kinds[kind].type, key, &options);
}

void *mixer_publish(void *arg)
{
    struct publisher p = {.part = arg, .x = ((struct part *)arg)->x};
    for (p.part->n = 0; p.part->n < p.x->publishes; p.part->n++) {
        uint64_t kind = below(&p, 12);
        if (kind < 4)
            publish_keyed(&p);
        else if (kind < 6)
            publish_brief(&p);
        else if (kind < 7)
            publish_batch(&p);
        else
            publish_other(&p);
        if (one_in(&p, 8))
            poll(NULL, 0, 1); /* the workers go on meanwhile, and keys get free */
    }
    flush(&p);
    return NULL;
}
