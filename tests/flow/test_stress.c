/* test_stress.c - everything at once, with a window of a few: publishers, handlers that fail,
 * snooze and bury, a consumer that gives back, an operator who stops, starts, resizes and
 * revives, and services closed and opened again in the middle of it.
 *
 * Without a crash each message ends exactly once, and its handler never runs twice at a time or
 * after its end.  BGMQ_SEED in the environment replays one plan, as far as threads let it. */
#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4000, PUBLISHERS = 2, BATCH = 4 };

struct stress {
    struct bgmq *mq;
    uint64_t seed;
    _Atomic int published; /* messages are numbers below it */
    _Atomic int ended;
    _Atomic int halt; /* consumer and operator go home */
    int durable, phase;
    struct {
        _Atomic int starts, running, ended;
        const char *last; /* what became of it last, and in which phase */
        int phase;
    } each[MOST];
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t chance(struct stress *s, uint64_t a, uint64_t b)
{
    return mix(mix(mix(s->seed) + a) + b);
}

/* ---- what may happen to a message ----------------------------------------------- */

/* The message is the caller's: whatever is written here is read by the next who has it. */
static void begin(struct stress *s, int k, const char *who)
{
    ck_assert_int_ge(k, 0);
    ck_assert_int_lt(k, MOST);
    int running = atomic_fetch_add(&s->each[k].running, 1);
    ck_assert_msg(running == 0, "%d runs twice at a time (seed %llu)", k,
                  (unsigned long long)s->seed);
    ck_assert_msg(atomic_load(&s->each[k].ended) == 0,
                  "%d: %s in phase %d, then %s in phase %d (seed %llu)", k,
                  s->each[k].last, s->each[k].phase, who, s->phase,
                  (unsigned long long)s->seed);
}

static void leave(struct stress *s, int k, const char *how, int ended)
{
    s->each[k].last = how;
    s->each[k].phase = s->phase;
    atomic_fetch_add(&s->each[k].ended, ended);
    atomic_fetch_sub(&s->each[k].running, 1);
    atomic_fetch_add(&s->ended, ended);
}

static int number_of(const void *body)
{
    return (int)strtol(body, NULL, 10);
}

static int handle(struct bgmq_job *job, void *ctx)
{
    struct stress *s = ctx;
    size_t len = 0;
    int k = number_of(bgmq_job_body(job, &len));
    begin(s, k, "handled");
    int start = atomic_fetch_add(&s->each[k].starts, 1);
    unsigned dice =
        start < 8 ? (unsigned)(chance(s, (uint64_t)k, (uint64_t)start) % 100) : 0;
    if (dice < 60) {
        leave(s, k, "done", 1);
        return BGMQ_DONE;
    }
    if (dice < 80) {
        leave(s, k, "failed", 0);
        return bgmq_job_fail(job, BGMQ_RETRY, "Again", "start %d", start);
    }
    if (dice < 90) {
        leave(s, k, "snoozed", 0);
        return bgmq_job_snooze(job, dice % 3);
    }
    leave(s, k, "buried", 0);
    return bgmq_job_fail(job, BGMQ_PERMANENT, "Bury", "start %d", start);
}

/* ---- those who make it happen --------------------------------------------------- */

struct actor {
    struct stress *s;
    uint64_t number, count;
};

static struct bgmq_message_options any_options(const struct stress *s, uint64_t r)
{
    struct bgmq_message_options o = {.max_attempts = 1000};
    if (s->durable)
        o.durability = r & 1 ? BGMQ_BEHIND : r & 2 ? BGMQ_COMMIT : BGMQ_DISK;
    if ((r >> 2) % 3 == 0)
        o.priority = 1 + (int)((r >> 8) % 4);
    if ((r >> 4) % 5 == 0)
        o.delay_ms = 1 + (int64_t)((r >> 12) % 4);
    return o;
}

static void *publish_some(void *arg)
{
    static const char *const types[] = {"A", "B"};
    struct actor *a = arg;
    for (uint64_t i = 0; i < a->count; i++) {
        uint64_t r = chance(a->s, a->number, i);
        char texts[BATCH][12];
        struct bgmq_item items[BATCH];
        struct bgmq_message_options options = any_options(a->s, r);
        size_t n = r >> 20 & 3 ? 1 : BATCH;
        for (size_t k = 0; k < n; k++) {
            int len = snprintf(texts[k], sizeof(texts[k]), "%d",
                               atomic_fetch_add(&a->s->published, 1));
            items[k] = (struct bgmq_item){types[((r >> 24) + k) & 1], texts[k],
                                          (size_t)len, &options};
        }
        OK(bgmq_publish_many(a->s->mq, items, n, NULL));
    }
    return NULL;
}

static void consume_one(struct stress *s, uint64_t r)
{
    static const char *const queues[] = {"mq:A.inq", "mq:B.inq", "mq:A.priorityq",
                                         "mq:A.dlq", "mq:B.dlq"};
    struct bgmq_message *m = NULL;
    int err = bgmq_get(s->mq, queues[r % 5], 1, &m);
    if (err == BGMQ_ETIMEOUT)
        return;
    OK(err);
    size_t len = 0;
    int k = number_of(bgmq_message_body(m, &len));
    begin(s, k, "taken");
    uint64_t how = (r >> 8) % 4;
    static const char *const words[] = {"acknowledged", "given back", "given up",
                                        "freed"};
    leave(s, k, words[how], how == 0);
    if (how == 0)
        OK(bgmq_ack(m));
    else if (how == 1)
        OK(bgmq_nak(m, 1));
    else if (how == 2)
        OK(bgmq_nak(m, 0));
    bgmq_message_free(m);
}

static void *consume(void *arg)
{
    struct actor *a = arg;
    for (uint64_t i = 0; !atomic_load(&a->s->halt); i++)
        consume_one(a->s, chance(a->s, a->number, i));
    return NULL;
}

static void *operate(void *arg)
{
    struct actor *a = arg;
    struct bgmq *mq = a->s->mq;
    for (uint64_t i = 0; !atomic_load(&a->s->halt); i++) {
        uint64_t r = chance(a->s, a->number, i);
        const char *type = r >> 8 & 1 ? "A" : "B";
        int n = 0;
        switch (r % 8) {
        case 0:
            OK(bgmq_stop(mq, 0));
            break;
        case 1:
        case 2:
            OK(bgmq_start(mq));
            break;
        case 3:
            OK(bgmq_set_threads(mq, type, 1 + (unsigned)(r >> 16) % 4));
            break;
        case 4:
        case 5:
            n = bgmq_retry_dead(mq, type, 0);
            break;
        case 6:
            n = bgmq_retry_pending(mq, NULL);
            break;
        default:
            flow_collection(mq, type);
        }
        ck_assert_msg(n >= 0, "%s", bgmq_errname(n));
    }
    return NULL;
}

/* ---- a plan --------------------------------------------------------------------- */

static void open_stressed(struct stress *s)
{
    struct bgmq_type_options options = {
        .threads = 2,
        .window = 3,
        .max_attempts = 1000,
        .backoff = s->seed & 1 ? BGMQ_BACKOFF_NONE : BGMQ_BACKOFF_FIXED,
        .backoff_base_ms = 1,
        .outq_limit = 5,
    };
    s->mq = flow_open(s->durable);
    OK(bgmq_register(s->mq, "A", handle, s, &options));
    options.backoff = BGMQ_BACKOFF_FIXED;
    OK(bgmq_register(s->mq, "B", handle, s, &options));
    OK(bgmq_start(s->mq));
}

static void run_phase(struct stress *s, uint64_t phase)
{
    pthread_t threads[PUBLISHERS + 2];
    struct actor actors[PUBLISHERS + 2];
    atomic_store(&s->halt, 0);
    for (uint64_t i = 0; i < PUBLISHERS + 2; i++)
        actors[i] = (struct actor){
            .s = s, .number = 1000000 * (phase * 10 + i + 1), .count = 100};
    for (int i = 0; i < PUBLISHERS; i++)
        threads[i] = harness_thread(publish_some, &actors[i]);
    threads[PUBLISHERS] = harness_thread(consume, &actors[PUBLISHERS]);
    threads[PUBLISHERS + 1] = harness_thread(operate, &actors[PUBLISHERS + 1]);
    for (int i = 0; i < PUBLISHERS + 2; i++) {
        if (i == PUBLISHERS)
            atomic_store(&s->halt, 1);
        harness_join(threads[i]);
    }
}

static int all_ended(struct stress *s)
{
    ck_assert_int_ge(bgmq_retry_dead(s->mq, "A", 0), 0);
    ck_assert_int_ge(bgmq_retry_dead(s->mq, "B", 0), 0);
    return atomic_load(&s->ended) >= atomic_load(&s->published);
}

START_TEST(each_message_ends_exactly_once)
{
    struct stress *s = calloc(1, sizeof(*s));
    ck_assert_ptr_nonnull(s);
    s->durable = _i & 1;
    const char *seed = getenv("BGMQ_SEED");
    s->seed = seed && *seed ? strtoull(seed, NULL, 10) : (uint64_t)_i / 2 + 1;
    uint64_t phases = s->durable ? 3 : 1;
    for (uint64_t phase = 0; phase < phases; phase++) {
        s->phase = (int)phase;
        open_stressed(s);
        run_phase(s, phase);
        if (phase + 1 < phases)
            flow_close(s->mq);
    }
    OK(bgmq_start(s->mq));
    WAIT_UNTIL(all_ended(s));
    OK(bgmq_stop(s->mq, 0));
    for (int k = 0; k < atomic_load(&s->published); k++)
        ck_assert_msg(atomic_load(&s->each[k].ended) == 1,
                      "%d ended %d times (seed %llu)", k, atomic_load(&s->each[k].ended),
                      (unsigned long long)s->seed);
    struct bgmq_collection a = flow_collection(s->mq, "A"),
                           b = flow_collection(s->mq, "B");
    ck_assert_uint_eq(a.inq + a.priorityq + a.delayed + a.dlq + a.running, 0);
    ck_assert_uint_eq(b.inq + b.priorityq + b.delayed + b.dlq + b.running, 0);
    ck_assert_uint_eq(flow_counters(s->mq).lost, 0);
    flow_close(s->mq);
    if (s->durable)
        ck_assert_int_eq(flow_rows(), 0);
    free(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("stress");
    TCase *tc = flow_case(s, "everything at once");
    tcase_add_loop_test(tc, each_message_ends_exactly_once, 0, 12);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
