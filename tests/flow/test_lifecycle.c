/* test_lifecycle.c - start, stop and close: from any thread, in any order, inside handlers, and
 * with handlers that would not end. */
#include "flow.h"

#include <stdlib.h>
#include <string.h>

START_TEST(start_and_stop_are_harmless_twice)
{
    struct bgmq *mq = flow_open(_i);
    ck_assert_int_eq(bgmq_started(mq), 0);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_request_stop(mq));
    OK(bgmq_start(mq));
    OK(bgmq_start(mq));
    ck_assert_int_eq(bgmq_started(mq), 1);
    ck_assert_int_eq(bgmq_running(mq), 0);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(bgmq_started(mq), 0);
    flow_close(mq);
}
END_TEST

START_TEST(start_and_stop_are_logged_once)
{
    struct harness_log kept;
    harness_log_init(&kept);
    struct bgmq *mq =
        flow_open_with(_i, SERVICE(.log = harness_log_keep, .log_ctx = &kept));
    OK(bgmq_start(mq));
    OK(bgmq_start(mq));
    OK(bgmq_stop(mq, 0));
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_INFO), 2);
    ck_assert(harness_log_has(&kept, "started"));
    ck_assert(harness_log_has(&kept, "stopped; 0 handlers still run"));
    flow_close(mq);
    harness_log_fini(&kept);
}
END_TEST

START_TEST(free_alone_is_enough)
{
    bgmq_free(NULL);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    bgmq_free(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

/* Every function that takes the service, on a closed one. */
START_TEST(closed_service_answers_closed)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_close(mq));
    struct bgmq_stats stats;
    struct bgmq_collection collection;
    struct bgmq_counters counters;
    struct bgmq_entry map[9];
    struct bgmq_message *m = NULL;
    struct bgmq_item item = {.type = "T", .body = "x", .len = 1};
    char name[40], *text = NULL;
    uint64_t *ids = NULL;
    FAILS(BGMQ_ECLOSED, bgmq_start(mq));
    FAILS(BGMQ_ECLOSED, bgmq_stop(mq, 0));
    FAILS(BGMQ_ECLOSED, bgmq_request_stop(mq));
    FAILS(BGMQ_ECLOSED, bgmq_started(mq));
    FAILS(BGMQ_ECLOSED, bgmq_running(mq));
    FAILS(BGMQ_ECLOSED, bgmq_flush(mq));
    FAILS(BGMQ_ECLOSED, bgmq_register(mq, "T", recorder_handler, NULL, NULL));
    FAILS(BGMQ_ECLOSED, bgmq_set_threads(mq, "T", 2));
    FAILS(BGMQ_ECLOSED, bgmq_publish(mq, "T", "x", 1, NULL, NULL));
    FAILS(BGMQ_ECLOSED, bgmq_publish_json(mq, "T", NULL, NULL, "{s:i}", "a", 1));
    FAILS(BGMQ_ECLOSED, bgmq_publish_many(mq, &item, 1, NULL));
    FAILS(BGMQ_ECLOSED, bgmq_publish_to(mq, "q", "x", 1, NULL, NULL));
    FAILS(BGMQ_ECLOSED, bgmq_get(mq, "q", 0, &m));
    FAILS(BGMQ_ECLOSED, bgmq_temp_queue(mq, name));
    FAILS(BGMQ_ECLOSED, bgmq_drop_queue(mq, "q"));
    FAILS(BGMQ_ECLOSED, bgmq_request(mq, "T", "x", 1, NULL, 1, &m));
    FAILS(BGMQ_ECLOSED, bgmq_retry_dead(mq, "T", 0));
    FAILS(BGMQ_ECLOSED, bgmq_retry_pending(mq, &ids));
    FAILS(BGMQ_ECLOSED, bgmq_total_stats(mq, &stats));
    FAILS(BGMQ_ECLOSED, bgmq_type_stats(mq, "T", &stats));
    FAILS(BGMQ_ECLOSED, bgmq_workers(mq, "mq:T.inq", &stats, 1));
    FAILS(BGMQ_ECLOSED, bgmq_type_collection(mq, "T", &collection));
    FAILS(BGMQ_ECLOSED, bgmq_description_map(mq, "T", map));
    FAILS(BGMQ_ECLOSED, bgmq_service_counters(mq, &counters));
    FAILS(BGMQ_ECLOSED, bgmq_status_text(mq, &text));
    FAILS(BGMQ_ECLOSED, bgmq_status_json(mq, &text));
    FAILS(BGMQ_ECLOSED, bgmq_stats_text(mq, &text));
    FAILS(BGMQ_ECLOSED, bgmq_stats_json(mq, &text));
    FAILS(BGMQ_ECLOSED, bgmq_description_text(mq, "T", &text));
    OK(bgmq_close(mq));
    bgmq_free(mq);
}
END_TEST

/* ---- storms --------------------------------------------------------------------- */

struct storm {
    struct bgmq *mq;
    unsigned seed;
};

static void *start_and_stop(void *arg)
{
    struct storm *s = arg;
    for (int i = 0; i < 100; i++) {
        s->seed = s->seed * 1103515245 + 12345;
        switch (s->seed >> 16 & 3) {
        case 0:
            OK(bgmq_start(s->mq));
            break;
        case 1:
            OK(bgmq_stop(s->mq, 0));
            break;
        case 2:
            ck_assert_int_ge(bgmq_started(s->mq), 0);
            ck_assert_int_ge(bgmq_running(s->mq), 0);
            break;
        default:
            flow_publish(s->mq, "T", "x");
        }
    }
    return NULL;
}

START_TEST(start_and_stop_from_many_threads)
{
    enum { N = 6 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.threads = 3));
    struct storm storms[N];
    pthread_t threads[N];
    for (unsigned i = 0; i < N; i++) {
        storms[i] = (struct storm){.mq = mq, .seed = i + 1};
        threads[i] = harness_thread(start_and_stop, &storms[i]);
    }
    for (int i = 0; i < N; i++)
        harness_join(threads[i]);
    OK(bgmq_start(mq));
    uint64_t added = flow_collection(mq, "T").added;
    ck_assert_uint_gt(added, 0);
    flow_wait_ended(mq, "T", added);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, added);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, added);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

static void *close_it(void *arg)
{
    OK(bgmq_close(arg));
    return NULL;
}

START_TEST(close_from_several_threads)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 10);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = harness_thread(close_it, mq);
    for (int i = 0; i < 4; i++)
        harness_join(threads[i]);
    bgmq_free(mq);
    recorder_fini(&r);
}
END_TEST

static void *publish_until_closed(void *arg)
{
    struct storm *s = arg;
    int err = 0;
    for (s->seed = 0; !err; s->seed++)
        err = bgmq_publish(s->mq, "T", "x", 1, NULL, NULL);
    s->seed--;
    ck_assert_int_eq(err, BGMQ_ECLOSED);
    return NULL;
}

/* What was accepted beside a close is in the database, what was refused is not. */
START_TEST(publishing_beside_a_close_loses_nothing)
{
    struct bgmq *mq = flow_open(1);
    struct storm storms[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        storms[i] = (struct storm){.mq = mq};
        threads[i] = harness_thread(publish_until_closed, &storms[i]);
    }
    struct bgmq_collection c = {0};
    WAIT_UNTIL(bgmq_type_collection(mq, "T", &c) == 0 && c.inq >= 10);
    OK(bgmq_close(mq));
    long accepted = 0;
    for (int i = 0; i < 3; i++) {
        harness_join(threads[i]);
        accepted += storms[i].seed;
    }
    bgmq_free(mq);
    ck_assert_int_eq(flow_rows(), accepted);
}
END_TEST

/* ---- handlers that would not end ------------------------------------------------ */

START_TEST(stop_waits_for_what_runs_and_starts_no_more)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 5);
    counter_wait(&r.begun, 1);
    ck_assert_int_eq(bgmq_running(mq), 1);
    FAILS(BGMQ_EINPROGRESS, bgmq_request_stop(mq));
    FAILS(BGMQ_EBUSY, bgmq_stop(mq, 1));
    ck_assert_int_eq(bgmq_started(mq), 0);
    ck_assert_int_eq(bgmq_running(mq), 1);
    ck_assert_uint_eq(flow_collection(mq, "T").running, 1);
    gate_open(&gate);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(bgmq_running(mq), 0);
    ck_assert_int_eq(counter_value(&r.begun), 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 4);
    OK(bgmq_request_stop(mq));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 5);
    char order[64];
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "0 1 2 3 4 ");
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

static int run_until_cancelled(struct bgmq_job *job, void *ctx)
{
    struct counter *begun = ctx;
    counter_add(begun, 1);
    WAIT_UNTIL(bgmq_job_cancelled(job));
    return BGMQ_DONE;
}

START_TEST(stop_cancels_after_the_grace)
{
    struct counter begun;
    counter_init(&begun);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", run_until_cancelled, &begun, &TYPE(.threads = 2)));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 2);
    counter_wait(&begun, 2);
    OK(bgmq_stop(mq, 50 * harness_scale()));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 2);
    flow_publish(mq, "T", "again");
    OK(bgmq_start(mq));
    counter_wait(&begun, 3);
    OK(bgmq_stop(mq, 50 * harness_scale()));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 3);
    flow_close(mq);
    counter_fini(&begun);
}
END_TEST

START_TEST(request_stop_cancels_after_the_grace_too)
{
    struct counter begun;
    counter_init(&begun);
    struct bgmq *mq = flow_open_with(_i, SERVICE(.stop_grace_ms = 20));
    OK(bgmq_register(mq, "T", run_until_cancelled, &begun, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    counter_wait(&begun, 1);
    FAILS(BGMQ_EINPROGRESS, bgmq_request_stop(mq));
    flow_wait_ended(mq, "T", 1);
    WAIT_UNTIL(bgmq_request_stop(mq) == 0);
    flow_close(mq);
    counter_fini(&begun);
}
END_TEST

START_TEST(close_refuses_while_a_handler_would_not_end)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open_with(_i, SERVICE(.stop_grace_ms = 5));
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    counter_wait(&r.begun, 1);
    FAILS(BGMQ_EBUSY, bgmq_close(mq));
    ck_assert_int_eq(bgmq_started(mq), 0);
    ck_assert_int_eq(bgmq_running(mq), 1);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_close(mq));
    bgmq_free(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lifecycle");
    TCase *tc = flow_case(s, "words");
    flow_add_both(tc, start_and_stop_are_harmless_twice);
    flow_add_both(tc, start_and_stop_are_logged_once);
    flow_add_both(tc, free_alone_is_enough);
    flow_add_both(tc, closed_service_answers_closed);
    tc = flow_case(s, "storms");
    flow_add_both(tc, start_and_stop_from_many_threads);
    flow_add_both(tc, close_from_several_threads);
    tcase_add_test(tc, publishing_beside_a_close_loses_nothing);
    tc = flow_case(s, "handlers that run");
    flow_add_both(tc, stop_waits_for_what_runs_and_starts_no_more);
    flow_add_both(tc, stop_cancels_after_the_grace);
    flow_add_both(tc, request_stop_cancels_after_the_grace_too);
    flow_add_both(tc, close_refuses_while_a_handler_would_not_end);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
