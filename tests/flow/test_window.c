/* test_window.c - a backlog of which memory holds a few: order, priority, time and the dead are
 * the same as if memory held all. */
#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Runs what is queued for T with one worker until N attempts have ended, then stops. */
static void drain(struct bgmq *mq, struct recorder *r, long n)
{
    OK(bgmq_start(mq));
    counter_wait(&r->begun, n);
    flow_wait_ended(mq, "T", (uint64_t)n);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r->n, (size_t)n);
}

START_TEST(backlog_beyond_the_window_keeps_its_order)
{
    enum { N = 1000 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 10, .outq_limit = 1));
    if (_i == 0) {
        flow_publish_numbers(mq, "T", N);
    } else {
        for (int i = 0; i < N; i++) {
            char text[12];
            snprintf(text, sizeof(text), "%d", i);
            flow_publish_with(mq, "T", text, MESSAGE(.durability = BGMQ_COMMIT));
        }
    }
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N);
    char bodies[8 * 1024];
    flow_bodies(mq, "mq:T.inq", bodies, sizeof(bodies));
    int held = 0;
    for (char *p = bodies; *p; p++)
        held += *p == ' ';
    ck_assert_msg(held >= 1 && held <= 10, "%d bodies in memory", held);
    drain(mq, &r, N);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(strtol(r.calls[i].body, NULL, 10), i);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* Published while a worker drains, so that the window fills, empties and spills all the time. */
START_TEST(order_holds_while_the_window_fills_and_empties)
{
    enum { N = 3000 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 4, .outq_limit = 1));
    OK(bgmq_start(mq));
    for (int i = 0; i < N; i++) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_publish_with(mq, "T", text,
                          MESSAGE(.durability = i % 50 ? BGMQ_BEHIND : BGMQ_COMMIT));
    }
    drain(mq, &r, N);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(strtol(r.calls[i].body, NULL, 10), i);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* A queue that is longer than the window and shorter than what the journal may have: all of it
 * runs, in order, and nothing but its history is ever written. */
START_TEST(beyond_the_window_runs_straight_from_the_journal)
{
    enum { N = 500, NEVER_MS = 3600 * 1000 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.flush_interval_ms = NEVER_MS, .flush_batch = 1000000,
                                  .durability = BGMQ_BEHIND));
    flow_register_with(mq, "T", &r, TYPE(.window = 10, .outq_limit = 1));
    struct gate gate;
    gate_init(&gate);
    r.gate = &gate;
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 1);
    counter_wait(&r.begun, 1);
    OK(bgmq_flush(mq)); /* what opening gave the journal to do is done */
    struct bgmq_counters before = flow_counters(mq);
    for (int i = 1; i < N; i++) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_publish(mq, "T", text);
    }
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N - 1);
    gate_open(&gate);
    flow_wait_ended(mq, "T", N);
    ck_assert_uint_eq(flow_counters(mq).commits, before.commits);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(strtol(r.calls[i].body, NULL, 10), i);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").added, N);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    gate_fini(&gate);
    recorder_fini(&r);
}
END_TEST

/* Those the journal has written meanwhile are loaded, the others follow from the journal; the end
 * of one that was taken while it was written finds its row. */
START_TEST(order_holds_from_the_database_into_the_journal)
{
    enum { N = 3000 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.flush_interval_ms = 1, .durability = BGMQ_BEHIND));
    flow_register_with(mq, "T", &r, TYPE(.window = 50, .outq_limit = 1));
    OK(bgmq_start(mq));
    for (int round = 0; round < 3; round++) {
        for (int i = round * N; i < (round + 1) * N; i++) {
            char text[12];
            snprintf(text, sizeof(text), "%d", i);
            flow_publish(mq, "T", text);
        }
        flow_wait_ended(mq, "T", (uint64_t)(round + 1) * N);
    }
    for (int i = 0; i < 3 * N; i++)
        ck_assert_int_eq(strtol(r.calls[i].body, NULL, 10), i);
    ck_assert_uint_eq(flow_counters(mq).lost, 0);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(mixed_priority_beyond_the_window)
{
    enum { N = 500 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 10));
    unsigned seed = 7;
    for (int i = 0; i < N; i++) {
        seed = seed * 1103515245 + 12345;
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_publish_with(
            mq, "T", text,
            MESSAGE(.priority = 1 + (int)(seed >> 16) % 5, .durability = BGMQ_COMMIT));
    }
    ck_assert_uint_eq(flow_collection(mq, "T").priorityq, N);
    drain(mq, &r, N);
    for (int i = 1; i < N; i++) {
        struct call *a = &r.calls[i - 1], *b = &r.calls[i];
        int in_order = a->priority > b->priority ||
                       (a->priority == b->priority &&
                        strtol(a->body, NULL, 10) < strtol(b->body, NULL, 10));
        ck_assert_msg(in_order, "%s (priority %d) before %s (priority %d)", a->body,
                      a->priority, b->body, b->priority);
    }
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* A message of high priority that comes when the window is full of lower ones is next. */
START_TEST(urgent_message_overtakes_a_full_window)
{
    enum { N = 100 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    for (int i = 0; i < N; i++)
        flow_publish_with(mq, "T", "low",
                          MESSAGE(.priority = 1, .durability = BGMQ_COMMIT));
    flow_publish_with(mq, "T", "urgent", MESSAGE(.priority = 9));
    drain(mq, &r, N + 1);
    ck_assert_str_eq(r.calls[0].body, "urgent");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(window_holds_across_a_restart)
{
    enum { N = 200 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 10));
    flow_publish_numbers(mq, "T", N);
    flow_close(mq);
    mq = flow_open(1);
    ck_assert_uint_eq(flow_counters(mq).replayed, N);
    flow_register_with(mq, "T", &r, TYPE(.window = 7));
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N);
    drain(mq, &r, N);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(strtol(r.calls[i].body, NULL, 10), i);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(failures_beyond_the_window_all_come_back)
{
    enum { N = 150 };
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r,
                       TYPE(.window = 5, .backoff = BGMQ_BACKOFF_FIXED,
                            .backoff_base_ms = 1, .threads = 2));
    flow_publish_numbers(mq, "T", N);
    drain(mq, &r, 2 * N);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, N);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(dead_beyond_the_window_all_come_back)
{
    enum { N = 60 };
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    flow_publish_numbers(mq, "T", N);
    drain(mq, &r, N);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, N);
    r.failures = 0;
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), N);
    drain(mq, &r, 2 * N);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, N);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(get_reaches_beyond_the_window)
{
    enum { N = 100 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    flow_publish_numbers(mq, "T", N);
    for (int i = 0; i < N; i++) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_expect(mq, "mq:T.inq", text);
    }
    flow_expect_empty(mq, "mq:T.inq");
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* Published from the latest to the earliest, so that each belongs before all that are there;
 * behind them all wait as many that are not due. */
START_TEST(delayed_beyond_the_window_run_in_order_of_their_time)
{
    enum { N = 60 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    for (int i = N - 1; i >= 0; i--) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_publish_with(
            mq, "T", text,
            MESSAGE(.run_at_ms = 4000000000000 + i, .durability = BGMQ_COMMIT));
    }
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, N);
    flow_close(mq);
    mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, N);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = N - 1; i >= 0; i--) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_publish_with(mq, "T", text,
                          MESSAGE(.run_at_ms = now.tv_sec * 1000 + 1500 + i,
                                  .durability = BGMQ_COMMIT));
    }
    drain(mq, &r, N);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(strtol(r.calls[i].body, NULL, 10), i);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, N);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), N);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("window");
    TCase *tc = flow_case(s, "window");
    flow_add_both(tc, backlog_beyond_the_window_keeps_its_order);
    tcase_add_test(tc, order_holds_while_the_window_fills_and_empties);
    tcase_add_test(tc, beyond_the_window_runs_straight_from_the_journal);
    tcase_add_test(tc, order_holds_from_the_database_into_the_journal);
    tcase_add_test(tc, mixed_priority_beyond_the_window);
    tcase_add_test(tc, urgent_message_overtakes_a_full_window);
    tcase_add_test(tc, window_holds_across_a_restart);
    tcase_add_test(tc, failures_beyond_the_window_all_come_back);
    tcase_add_test(tc, dead_beyond_the_window_all_come_back);
    tcase_add_test(tc, get_reaches_beyond_the_window);
    tcase_add_test(tc, delayed_beyond_the_window_run_in_order_of_their_time);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
