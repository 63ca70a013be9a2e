/* test_revive.c - how the waiting and the dead come back: retry_pending and retry_dead. */
#include "flow.h"

#include <stdlib.h>

static int64_t next_year(unsigned attempt, void *ctx)
{
    return (int64_t)365 * 24 * 3600 * 1000;
}

static void register_for_next_year(struct bgmq *mq, struct recorder *r)
{
    r->failures = 1;
    r->code = "Wait";
    flow_register_with(mq, "T", r,
                       TYPE(.backoff = BGMQ_BACKOFF_CALLBACK, .backoff_fn = next_year));
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

START_TEST(retry_pending_runs_those_that_wait_and_names_them)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    register_for_next_year(mq, &r);
    OK(bgmq_start(mq));
    uint64_t *ids = NULL;
    ck_assert_int_eq(bgmq_retry_pending(mq, &ids), 0);
    ck_assert_ptr_null(ids);
    uint64_t published[3];
    published[0] = flow_publish(mq, "T", "a");
    published[1] = flow_publish(mq, "T", "b");
    published[2] = flow_publish(mq, "T", "c");
    flow_wait_ended(mq, "T", 3);
    ck_assert_int_eq(bgmq_retry_pending(mq, &ids), 3);
    ck_assert_ptr_nonnull(ids);
    qsort(ids, 3, sizeof(*ids), compare_ids);
    qsort(published, 3, sizeof(*published), compare_ids);
    ck_assert_mem_eq(ids, published, sizeof(published));
    free(ids);
    flow_wait_ended(mq, "T", 6);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 3);
    ck_assert_uint_eq(recorder_call(&r, 3).attempt, 2);
    ck_assert_int_eq(bgmq_retry_pending(mq, NULL), 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* Most of them in the database only: beyond the window, then after a restart. */
START_TEST(retry_pending_reaches_beyond_the_window)
{
    enum { N = 60 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    r.failures = 1;
    flow_register_with(
        mq, "T", &r,
        TYPE(.backoff = BGMQ_BACKOFF_CALLBACK, .backoff_fn = next_year, .window = 5));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", N);
    flow_wait_ended(mq, "T", N);
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
    }
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, N);
    uint64_t *ids = NULL;
    ck_assert_int_eq(bgmq_retry_pending(mq, &ids), N);
    qsort(ids, N, sizeof(*ids), compare_ids);
    for (int i = 1; i < N; i++)
        ck_assert_uint_lt(ids[i - 1], ids[i]);
    free(ids);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(retry_pending_leaves_the_queued_running_and_taken_alone)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "runs");
    counter_wait(&r.begun, 1);
    flow_publish(mq, "T", "waits");
    flow_publish(mq, "Other", "taken");
    struct bgmq_message *m = flow_take(mq, "mq:Other.inq");
    ck_assert_int_eq(bgmq_retry_pending(mq, NULL), 0);
    flow_expect_empty(mq, "mq:Other.inq");
    flow_done(m);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 2);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 2);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(retry_dead_gives_a_new_life)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 2;
    r.failure = BGMQ_RETRY;
    r.code = "Dead";
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r,
                       TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 2);
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    OK(bgmq_stop(mq, 0));
    FAILS(BGMQ_ENOENT, bgmq_retry_dead(mq, "T", id + 1000));
    FAILS(BGMQ_ENOENT, bgmq_retry_dead(mq, "Nobody", 0));
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", id), 1);
    FAILS(BGMQ_ENOENT, bgmq_retry_dead(mq, "T", id));
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    ck_assert_uint_eq(bgmq_message_id(m), id);
    ck_assert_uint_eq(bgmq_message_attempts(m), 0);
    ck_assert_ptr_null(bgmq_message_error_code(m));
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    r.failures = 1;
    OK(bgmq_start(mq));
    ck_assert_uint_eq(flow_expect(mq, "mq:T.outq", "x"), id);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 4);
    ck_assert_uint_eq(r.calls[2].attempt, 1);
    ck_assert_uint_eq(r.calls[3].attempt, 2);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(retry_dead_of_all)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), 0);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 10);
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 10);
    char bodies[64];
    ck_assert_str_eq(flow_bodies(mq, "mq:T.dlq", bodies, sizeof(bodies)),
                     "0 1 2 3 4 5 6 7 8 9 ");
    r.failures = 0;
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), 10);
    flow_wait_ended(mq, "T", 20);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 10);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq_added, 10);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(dead_of_priorityq_come_back_there)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_with(mq, "T", "x", MESSAGE(.priority = 7));
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), 1);
    ck_assert_uint_eq(flow_collection(mq, "T").priorityq, 1);
    struct bgmq_message *m = flow_take(mq, "mq:T.priorityq");
    ck_assert_int_eq(bgmq_message_priority(m), 7);
    flow_done(m);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* _i: as they are, or found again by another process. */
START_TEST(retry_dead_by_id_reaches_beyond_the_window)
{
    enum { N = 40 };
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", N);
    flow_wait_ended(mq, "T", N);
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
        flow_register_with(mq, "T", &r, TYPE(.window = 5));
    } else {
        OK(bgmq_stop(mq, 0));
    }
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, N);
    FAILS(BGMQ_ENOENT, bgmq_retry_dead(mq, "T", r.calls[N - 1].id + 1));
    for (size_t i = N; i-- > 0;) {
        ck_assert_int_eq(bgmq_retry_dead(mq, "T", r.calls[i].id), 1);
        FAILS(BGMQ_ENOENT, bgmq_retry_dead(mq, "T", r.calls[i].id));
        ck_assert_uint_eq(flow_collection(mq, "T").dlq, i);
    }
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N);
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    ck_assert_uint_eq(bgmq_message_id(m), r.calls[N - 1].id);
    ck_assert_uint_eq(bgmq_message_attempts(m), 0);
    ck_assert_ptr_null(bgmq_message_error_code(m));
    flow_done(m);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), N - 1);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("revive");
    TCase *tc = flow_case(s, "waiting");
    flow_add_both(tc, retry_pending_runs_those_that_wait_and_names_them);
    tcase_add_loop_test(tc, retry_pending_reaches_beyond_the_window, 0, 2);
    flow_add_both(tc, retry_pending_leaves_the_queued_running_and_taken_alone);
    tc = flow_case(s, "dead");
    flow_add_both(tc, retry_dead_gives_a_new_life);
    flow_add_both(tc, retry_dead_of_all);
    tcase_add_loop_test(tc, retry_dead_by_id_reaches_beyond_the_window, 0, 2);
    flow_add_both(tc, dead_of_priorityq_come_back_there);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
