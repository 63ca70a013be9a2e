/* test_consume.c - taking messages without a handler: waiting, order, settling once, and
 * looking without taking. */
#include "../../src/handle.h"
#include "flow.h"

#include <stdio.h>

START_TEST(get_times_out_with_nothing)
{
    struct bgmq *mq = flow_open(_i);
    struct bgmq_message *m = NULL;
    FAILS(BGMQ_ETIMEOUT, bgmq_get(mq, "mq:T.inq", 0, &m));
    int64_t before = harness_now();
    FAILS(BGMQ_ETIMEOUT, bgmq_get(mq, "mq:T.inq", 30, &m));
    ck_assert_int_ge(harness_now() - before, 29 * 1000000);
    FAILS(BGMQ_ETIMEOUT, bgmq_get(mq, "custom", 0, &m));
    ck_assert_ptr_null(m);
    flow_close(mq);
}
END_TEST

struct getter {
    struct bgmq *mq;
    const char *queue;
    int result;
    uint64_t id;
    struct counter *begun, *ended;
};

static void *get_one(void *arg)
{
    struct getter *g = arg;
    struct bgmq_message *m = NULL;
    counter_add(g->begun, 1);
    g->result = bgmq_get(g->mq, g->queue, flow_patience(), &m);
    if (g->result == 0) {
        g->id = bgmq_message_id(m);
        OK(bgmq_ack(m));
    }
    bgmq_message_free(m);
    counter_add(g->ended, 1);
    return NULL;
}

enum { GETTERS = 4 };
struct getters {
    struct getter each[GETTERS];
    pthread_t threads[GETTERS];
    struct counter begun, ended;
};

static void start_getters(struct getters *all, struct bgmq *mq, const char *queue)
{
    counter_init(&all->begun);
    counter_init(&all->ended);
    for (int i = 0; i < GETTERS; i++) {
        all->each[i] = (struct getter){
            .mq = mq, .queue = queue, .begun = &all->begun, .ended = &all->ended};
        all->threads[i] = harness_thread(get_one, &all->each[i]);
    }
    counter_wait(&all->begun, GETTERS);
}

static void join_getters(struct getters *all)
{
    for (int i = 0; i < GETTERS; i++)
        harness_join(all->threads[i]);
    counter_fini(&all->begun);
    counter_fini(&all->ended);
}

START_TEST(each_publish_wakes_one_getter)
{
    struct bgmq *mq = flow_open(_i);
    struct getters all;
    start_getters(&all, mq, "mq:T.inq");
    for (int i = 0; i < GETTERS; i++) {
        flow_publish(mq, "T", "x");
        counter_wait(&all.ended, i + 1);
    }
    join_getters(&all);
    for (int i = 0; i < GETTERS; i++) {
        ck_assert_int_eq(all.each[i].result, 0);
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(all.each[i].id, all.each[k].id);
    }
    ck_assert_uint_eq(flow_collection(mq, "T").taken, GETTERS);
    flow_close(mq);
}
END_TEST

START_TEST(close_sends_getters_home)
{
    static const char *const queues[] = {"mq:T.inq", "custom"};
    struct bgmq *mq = flow_open(0);
    struct getters all;
    start_getters(&all, mq, queues[_i]);
    OK(bgmq_close(mq));
    join_getters(&all);
    for (int i = 0; i < GETTERS; i++)
        ck_assert_int_eq(all.each[i].result, BGMQ_ECLOSED);
    bgmq_free(mq);
}
END_TEST

/* A getter that came in just before the close may be late to make its type. */
START_TEST(type_made_beside_a_close_sends_getters_home)
{
    struct bgmq *mq = flow_open(0);
    struct address a;
    struct message *m;
    OK(bgmq_close(mq));
    OK(bgmqi_registry_resolve(mq->registry, "mq:Late.inq", &a));
    ck_assert_int_eq(bgmqi_type_take(a.type, a.place, INT64_MAX / 2, &m), BGMQ_ECLOSED);
    bgmq_free(mq);
}
END_TEST

START_TEST(dropped_queue_sends_getters_home)
{
    struct bgmq *mq = flow_open(0);
    char queue[40];
    OK(bgmq_temp_queue(mq, queue));
    struct getters all;
    start_getters(&all, mq, queue);
    OK(bgmq_drop_queue(mq, queue));
    join_getters(&all);
    for (int i = 0; i < GETTERS; i++)
        ck_assert_int_eq(all.each[i].result, BGMQ_ENOENT);
    flow_close(mq);
}
END_TEST

START_TEST(get_keeps_the_order)
{
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "T", 3);
    flow_expect(mq, "mq:T.inq", "0");
    flow_expect(mq, "mq:T.inq", "1");
    flow_expect(mq, "mq:T.inq", "2");
    flow_expect_empty(mq, "mq:T.inq");
    ck_assert_uint_eq(flow_collection(mq, "T").taken, 3);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* A17. */
START_TEST(only_the_first_settlement_counts)
{
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "T", 3);
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    OK(bgmq_ack(m));
    FAILS(BGMQ_ELOST, bgmq_ack(m));
    FAILS(BGMQ_ELOST, bgmq_nak(m, 1));
    FAILS(BGMQ_ELOST, bgmq_nak(m, 0));
    bgmq_message_free(m);
    m = flow_take(mq, "mq:T.inq");
    OK(bgmq_nak(m, 0));
    FAILS(BGMQ_ELOST, bgmq_ack(m));
    bgmq_message_free(m);
    flow_expect(mq, "mq:T.dlq", "1");
    flow_expect(mq, "mq:T.inq", "2");
    flow_expect_empty(mq, "mq:T.inq");
    flow_expect_empty(mq, "mq:T.dlq");
    flow_close(mq);
}
END_TEST

START_TEST(nak_puts_it_at_the_tail)
{
    char order[64];
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "T", 3);
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 2);
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", order, sizeof(order)), "1 2 0 ");
    flow_close(mq);
}
END_TEST

START_TEST(free_without_a_word_puts_it_back)
{
    char order[64];
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "T", 3);
    bgmq_message_free(flow_take(mq, "mq:T.inq"));
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", order, sizeof(order)), "1 2 0 ");
    bgmq_message_free(NULL);
    flow_close(mq);
}
END_TEST

START_TEST(nak_in_priorityq_keeps_its_priority)
{
    struct bgmq *mq = flow_open(_i);
    flow_publish_with(mq, "T", "high", MESSAGE(.priority = 9));
    flow_publish_with(mq, "T", "low", MESSAGE(.priority = 1));
    struct bgmq_message *m = flow_take(mq, "mq:T.priorityq");
    flow_expect_body(m, "high");
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    ck_assert_uint_eq(flow_collection(mq, "T").priorityq, 2);
    flow_expect_empty(mq, "mq:T.inq");
    flow_close(mq);
}
END_TEST

START_TEST(taken_message_is_handled_when_given_back)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    uint64_t id = flow_publish(mq, "T", "x");
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    OK(bgmq_start(mq));
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    ck_assert_uint_eq(flow_expect(mq, "mq:T.outq", "x"), id);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(taking_from_the_dlq_ends_it_or_puts_it_back)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    r.code = "Bad";
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 2);
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 2);
    OK(bgmq_stop(mq, 0));
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    flow_expect_body(m, "0");
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    flow_expect(mq, "mq:T.dlq", "1");
    m = flow_take(mq, "mq:T.dlq");
    flow_expect_body(m, "0");
    ck_assert_str_eq(bgmq_message_error_code(m), "Bad");
    flow_done(m);
    flow_expect_empty(mq, "mq:T.dlq");
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* ---- looking -------------------------------------------------------------------- */

struct look {
    int calls, stop_after;
    char first[16];
};

static int look(void *ctx, const struct bgmq_message *m)
{
    struct look *l = ctx;
    size_t len = 0;
    if (l->calls++ == 0)
        snprintf(l->first, sizeof(l->first), "%s",
                 (const char *)bgmq_message_body(m, &len));
    return l->calls == l->stop_after;
}

START_TEST(peek_shows_in_order_and_takes_nothing)
{
    char order[64];
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "T", 5);
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", order, sizeof(order)), "0 1 2 3 4 ");
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", order, sizeof(order)), "0 1 2 3 4 ");
    ck_assert_uint_eq(flow_collection(mq, "T").taken, 0);
    struct look l = {0};
    ck_assert_int_eq(bgmq_peek(mq, "mq:T.inq", 3, look, &l), 3);
    ck_assert_int_eq(l.calls, 3);
    ck_assert_str_eq(l.first, "0");
    l = (struct look){.stop_after = 2};
    ck_assert_int_eq(bgmq_peek(mq, "mq:T.inq", 10, look, &l), 2);
    ck_assert_int_eq(l.calls, 2);
    ck_assert_int_eq(bgmq_peek(mq, "mq:T.dlq", 10, look, &l), 0);
    flow_close(mq);
}
END_TEST

START_TEST(peek_of_priorityq_is_in_order_of_service)
{
    char order[64];
    struct bgmq *mq = flow_open(_i);
    flow_publish_with(mq, "T", "b1", MESSAGE(.priority = 5));
    flow_publish_with(mq, "T", "c", MESSAGE(.priority = 1));
    flow_publish_with(mq, "T", "a", MESSAGE(.priority = 32767));
    flow_publish_with(mq, "T", "b2", MESSAGE(.priority = 5));
    ck_assert_str_eq(flow_bodies(mq, "mq:T.priorityq", order, sizeof(order)),
                     "a b1 b2 c ");
    flow_expect(mq, "mq:T.priorityq", "a");
    flow_expect(mq, "mq:T.priorityq", "b1");
    flow_expect(mq, "mq:T.priorityq", "b2");
    flow_expect(mq, "mq:T.priorityq", "c");
    flow_close(mq);
}
END_TEST

static int publish_while_looking(void *ctx, const struct bgmq_message *m)
{
    flow_publish(ctx, "T", "more");
    return 0;
}

/* The callback runs without a lock, so it may do anything. */
START_TEST(peek_callback_may_publish)
{
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "T", 2);
    ck_assert_int_eq(bgmq_peek(mq, "mq:T.inq", 10, publish_while_looking, mq), 2);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 4);
    flow_close(mq);
}
END_TEST

START_TEST(outq_keeps_the_last_of_them)
{
    char order[64];
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.outq_limit = 3));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 10);
    flow_wait_ended(mq, "T", 10);
    OK(bgmq_stop(mq, 0));
    ck_assert_str_eq(flow_bodies(mq, "mq:T.outq", order, sizeof(order)), "7 8 9 ");
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.outq, 3);
    ck_assert_uint_eq(c.outq_added, 10);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* A worker whose handler is quick claims several at once, but not while somebody waits. */
START_TEST(outq_is_read_while_workers_are_quick)
{
    enum { N = 500 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.outq_limit = N));
    flow_publish_numbers(mq, "T", N);
    OK(bgmq_start(mq));
    for (int i = 0; i < N; i++)
        flow_done(flow_take(mq, "mq:T.outq"));
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("consume");
    TCase *tc = flow_case(s, "get");
    flow_add_both(tc, get_times_out_with_nothing);
    flow_add_both(tc, each_publish_wakes_one_getter);
    tcase_add_loop_test(tc, close_sends_getters_home, 0, 2);
    tcase_add_test(tc, type_made_beside_a_close_sends_getters_home);
    tcase_add_test(tc, dropped_queue_sends_getters_home);
    flow_add_both(tc, get_keeps_the_order);
    flow_add_both(tc, only_the_first_settlement_counts);
    flow_add_both(tc, nak_puts_it_at_the_tail);
    flow_add_both(tc, free_without_a_word_puts_it_back);
    flow_add_both(tc, nak_in_priorityq_keeps_its_priority);
    flow_add_both(tc, taken_message_is_handled_when_given_back);
    flow_add_both(tc, taking_from_the_dlq_ends_it_or_puts_it_back);
    tc = flow_case(s, "peek");
    flow_add_both(tc, peek_shows_in_order_and_takes_nothing);
    flow_add_both(tc, peek_of_priorityq_is_in_order_of_service);
    flow_add_both(tc, peek_callback_may_publish);
    flow_add_both(tc, outq_keeps_the_last_of_them);
    flow_add_both(tc, outq_is_read_while_workers_are_quick);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
