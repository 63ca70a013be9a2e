/* test_extra.c - what a message gets on its way, and did not have when it was published: a time, an
 * error, a priority, something kept.  At each step a type is charged for exactly what it holds. */
#include "flow.h"

#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "type_impl.h"

enum { N = 40 };
#define HOUR_MS INT64_C(3600000)

/* ---- what is charged --------------------------------------------------------------- */

static size_t cost_of_queue(const struct queue *q)
{
    size_t sum = 0;
    for (const struct message *m = q->head; m; m = m->next)
        sum += message_cost(m);
    return sum;
}

static size_t cost_of_heap(const struct heap *h)
{
    size_t sum = 0;
    for (struct message *m = NULL; (m = bgmqi_heap_walk(h, m)) != NULL;)
        sum += message_cost(m);
    return sum;
}

/* True at any time, whatever runs, while nobody publishes. */
static bool charged_right(struct type *t)
{
    const struct queue *const queues[] = {&t->inq,         &t->dlq,     &t->outq,
                                          &t->out,         &t->limbo,   &t->suspects[0],
                                          &t->suspects[1], &t->expected};
    bgmqi_type_lock(t);
    size_t sum = cost_of_heap(&t->priorityq) + cost_of_heap(&t->delayed);
    for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
        sum += cost_of_queue(queues[i]);
    sum += (size_t)atomic_load(&t->arrivals.credit);
    size_t in_outq = t->config.max_bytes ? cost_of_queue(&t->outq) : 0;
    bool right = sum == t->memory.used && in_outq == t->outq_bytes;
    bgmqi_type_unlock(t);
    return right;
}

/* ---- ways of a message ------------------------------------------------------------- */

struct way {
    const char *name;
    bgmq_handler_fn *handler; /* NULL: each is done at once */
    struct bgmq_message_options options;
    void (*step)(struct bgmq *mq, const uint64_t *ids); /* before the start; or NULL */
    unsigned done, dead;                                /* so many end so */
};

static int done(struct bgmq_job *job, void *ctx)
{
    (void)job;
    (void)ctx;
    return BGMQ_DONE;
}

static int fail_once(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_attempt(job) == 1 ? bgmq_job_fail(job, BGMQ_RETRY, "E", "once")
                                      : BGMQ_DONE;
}

static int refuse(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_fail(job, BGMQ_PERMANENT, "E", "never");
}

/* Kept at the first start, which is over at once; at the second there is something already. */
static int keep_and_snooze(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    bool first = !bgmq_job_cursor(job, NULL);
    OK(bgmq_job_save_cursor(job, "here", 4, BGMQ_BEHIND));
    OK(bgmq_job_progress(job, 1, "a little"));
    return first ? bgmq_job_snooze(job, 1) : BGMQ_DONE;
}

static void prioritise(struct bgmq *mq, const uint64_t *ids)
{
    for (int i = 0; i < N; i++)
        OK(bgmq_change(mq, "T", ids[i],
                       &(struct bgmq_change){.set_priority = 1, .priority = 1 + i}));
}

static void take_priority(struct bgmq *mq, const uint64_t *ids)
{
    for (int i = 0; i < N; i++)
        OK(bgmq_change(mq, "T", ids[i], &(struct bgmq_change){.set_priority = 1}));
}

static void put_off_and_hurry(struct bgmq *mq, const uint64_t *ids)
{
    struct bgmq_change later = {.set_time = 1, .run_at_ms = INT64_C(4000000000000)},
                       now = {.set_time = 1};
    for (int i = 0; i < N; i++)
        OK(bgmq_change(mq, "T", ids[i], &later));
    for (int i = 0; i < N; i++)
        OK(bgmq_change(mq, "T", ids[i], &now));
}

static void bury_and_raise(struct bgmq *mq, const uint64_t *ids)
{
    (void)ids;
    ck_assert_int_eq(bgmq_cancel(mq, "T", NULL, "not now"), N);
    ck_assert(charged_right(bgmqi_registry_find(mq->registry, "T")));
    WAIT_UNTIL(flow_collection(mq, "T").dlq == N);
    ck_assert_int_eq(bgmq_retry(mq, "T", NULL), N);
}

static void take_and_refuse(struct bgmq *mq, const uint64_t *ids)
{
    (void)ids;
    for (int i = 0; i < N; i++) {
        struct bgmq_message *m = flow_take(mq, "mq:T.inq");
        OK(bgmq_nak(m, 0));
        bgmq_message_free(m);
    }
}

static void delete (struct bgmq *mq, const uint64_t *ids)
{
    (void)ids;
    ck_assert_int_eq(bgmq_discard(mq, "T", NULL), N);
}

static const struct way ways[] = {
    {"plain", .done = N},
    {"fails", fail_once, .done = N},
    {"dies", refuse, .dead = N},
    {"keeps", keep_and_snooze, .done = N},
    {"has a tag", fail_once, {.tag = "t"}, .done = N},
    {"has a priority", fail_once, {.priority = 3}, .done = N},
    {"is delayed", keep_and_snooze, {.delay_ms = 1}, .done = N},
    {"gets a priority", fail_once, .step = prioritise, .done = N},
    {"loses its priority", NULL, {.priority = 3}, take_priority, .done = N},
    {"is put off", .step = put_off_and_hurry, .done = N},
    {"is cancelled and raised", fail_once, .step = bury_and_raise, .done = N},
    {"is refused", .step = take_and_refuse, .dead = N},
    {"is deleted", .options = {.delay_ms = HOUR_MS}, .step = delete},
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static void go(struct bgmq *mq, const struct way *w)
{
    uint64_t ids[N];
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    for (int i = 0; i < N; i++)
        ids[i] = flow_publish_with(mq, "T", "body", w->options);
    ck_assert(charged_right(t));
    if (w->step)
        w->step(mq, ids);
    ck_assert(charged_right(t));
    OK(bgmq_start(mq));
    for (bool over = false; !over;) {
        struct bgmq_collection c = flow_collection(mq, "T");
        ck_assert_msg(charged_right(t), "a message that %s", w->name);
        over = c.dlq == w->dead && flow_stats(mq, "T").processed == w->done;
        sched_yield();
    }
    WAIT_UNTIL(charged_right(t));
}

/* _i: the way, in memory or with a database. */
START_TEST(type_is_charged_for_what_it_holds)
{
    const struct way *w = &ways[_i / 2];
    struct bgmq *mq = flow_open(_i % 2);
    OK(bgmq_register(mq, "T", w->handler ? w->handler : done, NULL,
                     &TYPE(.backoff_base_ms = 1, .window = N / 2, .outq_limit = N / 2,
                           .max_bytes = 64 << 20)));
    go(mq, w);
    flow_close(mq);
}
END_TEST

/* What is loaded, refused or given up on the way leaves nothing charged in the end. */
START_TEST(nothing_is_charged_for_nothing)
{
    const struct way *w = &ways[_i / 2];
    struct bgmq *mq = flow_open(_i % 2);
    OK(bgmq_register(mq, "T", w->handler ? w->handler : done, NULL,
                     &TYPE(.backoff_base_ms = 1, .window = N / 4, .no_outq = 1)));
    go(mq, w);
    ck_assert_int_eq(bgmq_discard(mq, "T", NULL), (int)w->dead);
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    bgmqi_type_lock(t);
    bgmqi_type_collect(t);
    bgmqi_type_revoke(t);
    size_t left = t->memory.used;
    bgmqi_type_unlock(t);
    ck_assert_msg(left == 0, "%zu bytes for messages that %s", left, w->name);
    flow_close(mq);
}
END_TEST

/* ---- who looks meanwhile ----------------------------------------------------------- */

struct looker {
    struct bgmq *mq;
    _Atomic bool over;
    uint64_t seen;
};

/* Holders of a reference look at the options without a lock. */
static int look_closely(void *ctx, const struct bgmq_message *m)
{
    struct looker *l = ctx;
    const char *tag = bgmq_message_tag(m), *code = bgmq_message_error_code(m);
    ck_assert(!bgmq_message_reply_to(m) && !bgmq_message_meta(m, "k"));
    ck_assert(!tag || strcmp(tag, "t") == 0);
    ck_assert(!code || strcmp(code, "E") == 0);
    l->seen++;
    return 0;
}

static void *look(void *arg)
{
    struct looker *l = arg;
    bool last;
    do { /* once more when all is over, and in outq */
        last = atomic_load(&l->over);
        ck_assert_int_ge(bgmq_peek(l->mq, "mq:T.inq", 20, look_closely, l), 0);
        ck_assert_int_ge(bgmq_peek(l->mq, "mq:T.outq", 20, look_closely, l), 0);
    } while (!last);
    return NULL;
}

/* Plain messages and others, each of which gets something while they are looked at. */
START_TEST(looking_while_messages_get_what_they_lacked)
{
    struct looker l = {.mq = flow_open(_i)};
    struct bgmq *mq = l.mq;
    OK(bgmq_register(mq, "T", keep_and_snooze, NULL, &TYPE(.threads = 2)));
    OK(bgmq_register(mq, "U", fail_once, NULL, &TYPE(.backoff_base_ms = 1)));
    OK(bgmq_start(mq));
    pthread_t thread = harness_thread(look, &l);
    for (int i = 0; i < 5 * N; i++) {
        flow_publish_with(mq, "T", "x", MESSAGE(.tag = i % 2 ? "t" : NULL));
        flow_publish_with(mq, "U", "x", MESSAGE(.priority = i % 3));
    }
    WAIT_UNTIL(flow_stats(mq, "T").processed == 5 * N &&
               flow_stats(mq, "U").processed == 5 * N);
    atomic_store(&l.over, true);
    harness_join(thread);
    ck_assert_uint_gt(l.seen, 0);
    flow_close(mq);
}
END_TEST

/* ---- while memory is short --------------------------------------------------------- */

/* So many blocks of the size of an extra are not to be had. */
static _Atomic int refused;

static bool refuses(size_t size)
{
    int left = size == sizeof(struct message_extra) ? atomic_load(&refused) : 0;
    while (left > 0)
        if (atomic_compare_exchange_weak(&refused, &left, left - 1))
            return true;
    return false;
}

static int publish(struct bgmq *mq, struct bgmq_message_options o)
{
    atomic_store(&refused, 1);
    return bgmq_publish(mq, "T", "x", 1, &o, NULL);
}

START_TEST(publish_says_that_memory_is_short)
{
    struct bgmq *mq = flow_open(_i);
    FAILS(BGMQ_ENOMEM, publish(mq, MESSAGE(.priority = 1)));
    FAILS(BGMQ_ENOMEM, publish(mq, MESSAGE(.delay_ms = HOUR_MS)));
    atomic_store(&refused, 1);
    FAILS(BGMQ_ENOMEM, bgmq_publish_to(mq, "mq:T.priorityq", "x", 1, NULL, NULL));
    /* a plain one needs none */
    OK(publish(mq, MESSAGE(.durability = _i ? BGMQ_BEHIND : BGMQ_MEMORY)));
    ck_assert_int_eq(atomic_exchange(&refused, 0), 1);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.inq + c.priorityq + c.delayed, 1);
    ck_assert(charged_right(bgmqi_registry_find(mq->registry, "T")));
    flow_close(mq);
}
END_TEST

/* What was accepted goes on as soon as it can. */
START_TEST(failed_message_waits_for_memory_and_is_tried_again)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", fail_once, NULL, &TYPE(.backoff_base_ms = 1)));
    flow_publish(mq, "T", "x");
    atomic_store(&refused, 3);
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_stats(mq, "T").processed == 1);
    ck_assert_int_eq(atomic_load(&refused), 0);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 1);
    flow_close(mq);
}
END_TEST

static int keep_in_vain(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    atomic_store(&refused, 1);
    FAILS(BGMQ_ENOMEM, bgmq_job_progress(job, 1, "a little"));
    OK(bgmq_job_progress(job, 2, "more"));
    return BGMQ_DONE;
}

/* A handler is told, and may try again. */
START_TEST(nothing_is_kept_while_memory_is_short)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", keep_in_vain, NULL, NULL));
    uint64_t id = flow_publish(mq, "T", "x");
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_stats(mq, "T").processed == 1);
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", id, &info));
    ck_assert_int_eq(info.progress, 2);
    flow_close(mq);
}
END_TEST

static void begin_refusing(void)
{
    atomic_store(&bgmqi_mem_refuses, refuses);
}

static void add_short(Suite *s)
{
    TCase *tc = flow_case(s, "short");
    tcase_add_unchecked_fixture(tc, begin_refusing, NULL);
    flow_add_both(tc, publish_says_that_memory_is_short);
    flow_add_both(tc, failed_message_waits_for_memory_and_is_tried_again);
    flow_add_both(tc, nothing_is_kept_while_memory_is_short);
}

static Suite *suite(void)
{
    Suite *s = suite_create("extra");
    TCase *tc = flow_case(s, "charges");
    tcase_add_loop_test(tc, type_is_charged_for_what_it_holds, 0, 2 * WAYS);
    tcase_add_loop_test(tc, nothing_is_charged_for_nothing, 0, 2 * WAYS);
    tc = flow_case(s, "looks");
    flow_add_both(tc, looking_while_messages_get_what_they_lacked);
    add_short(s);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
