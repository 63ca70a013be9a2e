/* test_threads.c - types and their threads: registration, its limits, and their number changed
 * while they run. */
#include "flow.h"

#include <stdlib.h>

#include <stdio.h>
#include <string.h>

/* A19. */
START_TEST(registration_is_checked)
{
    char name[202];
    memset(name, 'x', 201);
    name[201] = '\0';
    struct bgmq *mq = flow_open(0);
    struct recorder r;
    recorder_init(&r);
    FAILS(BGMQ_EINVAL, bgmq_register(mq, NULL, recorder_handler, &r, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "", recorder_handler, &r, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "bad name", recorder_handler, &r, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "mq:x", recorder_handler, &r, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, name, recorder_handler, &r, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "T", NULL, &r, NULL));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", recorder_handler, &r, &TYPE(.threads = 1025)));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", recorder_handler, &r, &TYPE(.threads = 10000)));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", recorder_handler, &r, &TYPE(.max_attempts = 1001)));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "T", recorder_handler, &r,
                                     &TYPE(.backoff = BGMQ_BACKOFF_CALLBACK)));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "T", recorder_handler, &r,
                                     &TYPE(.backoff = (enum bgmq_backoff)77)));
    struct bgmq_collection c;
    FAILS(BGMQ_ENOENT, bgmq_type_collection(mq, "T", &c));
    OK(bgmq_register(mq, name + 1, recorder_handler, &r, NULL));
    OK(bgmq_register(mq, "A-Z_a.z-0", recorder_handler, &r, &TYPE(.threads = 0)));
    ck_assert_uint_eq(flow_collection(mq, "A-Z_a.z-0").threads, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(threads_are_checked)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(0);
    flow_register(mq, "T", &r);
    flow_publish(mq, "Parked", "x");
    FAILS(BGMQ_EINVAL, bgmq_set_threads(mq, "T", 0));
    FAILS(BGMQ_EINVAL, bgmq_set_threads(mq, "T", 1025));
    FAILS(BGMQ_EINVAL, bgmq_set_threads(mq, NULL, 1));
    FAILS(BGMQ_ENOENT, bgmq_set_threads(mq, "Nobody", 1));
    FAILS(BGMQ_ENOENT, bgmq_set_threads(mq, "Parked", 1));
    ck_assert_uint_eq(flow_collection(mq, "T").threads, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(more_threads_take_up_work_at_once)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 8);
    counter_wait(&r.begun, 1);
    ck_assert_int_eq(bgmq_running(mq), 1);
    OK(bgmq_set_threads(mq, "T", 4));
    ck_assert_uint_eq(flow_collection(mq, "T").threads, 4);
    counter_wait(&r.begun, 4);
    ck_assert_int_eq(bgmq_running(mq), 4);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 8);
    ck_assert_int_eq(r.most, 4);
    struct bgmq_stats workers[8];
    ck_assert_int_eq(bgmq_workers(mq, "mq:T.inq", workers, 8), 4);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(surplus_threads_end_after_what_they_run)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.threads = 4));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 4);
    counter_wait(&r.begun, 4);
    OK(bgmq_set_threads(mq, "T", 1));
    ck_assert_int_eq(bgmq_running(mq), 4);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 4);
    struct bgmq_stats workers[8];
    WAIT_UNTIL(bgmq_workers(mq, "mq:T.inq", workers, 8) == 1);
    pthread_mutex_lock(&r.lock);
    r.most = 0;
    pthread_mutex_unlock(&r.lock);
    flow_publish_numbers(mq, "T", 100);
    flow_wait_ended(mq, "T", 104);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(r.most, 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 104);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(threads_change_up_and_down_under_load)
{
    static const unsigned numbers[] = {3, 1, 8, 2, 16, 1, 5, 4};
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    for (int round = 0; round < 8; round++) {
        flow_publish_numbers(mq, "T", 100);
        OK(bgmq_set_threads(mq, "T", numbers[round]));
        ck_assert_uint_eq(flow_collection(mq, "T").threads, numbers[round]);
    }
    flow_wait_ended(mq, "T", 800);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 800);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 800);
    struct bgmq_stats workers[20];
    ck_assert_int_eq(bgmq_workers(mq, "mq:T.inq", workers, 20), 4);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(threads_of_a_stopped_service_change_too)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(0);
    flow_register(mq, "T", &r);
    OK(bgmq_set_threads(mq, "T", 3));
    struct gate gate;
    gate_init(&gate);
    r.gate = &gate;
    flow_publish_numbers(mq, "T", 3);
    OK(bgmq_start(mq));
    counter_wait(&r.begun, 3);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 3);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(many_types_side_by_side)
{
    enum { N = 40 };
    struct recorder r[N];
    struct bgmq *mq = flow_open(_i);
    char name[16];
    for (int i = 0; i < N; i++) {
        recorder_init(&r[i]);
        snprintf(name, sizeof(name), "Type%d", i);
        flow_register(mq, name, &r[i]);
        if (i == N / 2)
            OK(bgmq_start(mq));
    }
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < N; i++) {
            snprintf(name, sizeof(name), "Type%d", i);
            flow_publish_with(mq, name, name, MESSAGE(.durability = _i * BGMQ_COMMIT));
        }
    }
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "Type%d", i);
        flow_wait_ended(mq, name, 5);
        ck_assert_str_eq(recorder_call(&r[i], 4).body, name);
    }
    flow_close(mq);
    for (int i = 0; i < N; i++)
        recorder_fini(&r[i]);
}
END_TEST

/* A5. */
START_TEST(type_without_handler_is_parked_not_buried)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Orphan", 3);
    struct bgmq_collection c = flow_collection(mq, "Orphan");
    ck_assert_int_eq(c.registered, 0);
    ck_assert_uint_eq(c.inq, 3);
    ck_assert_uint_eq(c.dlq_added, 0);
    char *json = NULL;
    OK(bgmq_status_json(mq, &json));
    ck_assert_msg(strstr(json, "\"name\":\"Orphan\",\"registered\":false") != NULL, "%s",
                  json);
    free(json);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(flow_collection(mq, "Orphan").inq, 3);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 3);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("threads");
    TCase *tc = flow_case(s, "registration");
    tcase_add_test(tc, registration_is_checked);
    tcase_add_test(tc, threads_are_checked);
    flow_add_both(tc, many_types_side_by_side);
    flow_add_both(tc, type_without_handler_is_parked_not_buried);
    tc = flow_case(s, "number of threads");
    flow_add_both(tc, more_threads_take_up_work_at_once);
    flow_add_both(tc, surplus_threads_end_after_what_they_run);
    flow_add_both(tc, threads_change_up_and_down_under_load);
    tcase_add_test(tc, threads_of_a_stopped_service_change_too);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
