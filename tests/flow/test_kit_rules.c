/* test_kit_rules.c - what is different in a test service, as bgmq_test.h says it. */
#include "flow.h"

#include <bgmq_test.h>

static struct bgmq *mq;
static struct recorder recorder;
static int seen[4];

static void open_kit(int durable)
{
    struct bgmq_options o = {.database = durable ? flow_database() : NULL};
    OK(bgmq_test_open(&mq, &o, 0, NULL));
    recorder_init(&recorder);
    recorder.response = "Answer";
    flow_register(mq, "T", &recorder);
}

static void close_kit(void)
{
    flow_close(mq);
    recorder_fini(&recorder);
}

START_TEST(a_drain_waits_for_who_steps)
{
    open_kit(_i);
    flow_publish(mq, "T", "a");
    FAILS(BGMQ_EBUSY, bgmq_drain(mq, 1));
    FAILS(BGMQ_EDRAINING, bgmq_publish(mq, "T", "b", 1, NULL, NULL));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    OK(bgmq_drain(mq, flow_patience()));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "b");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    OK(bgmq_test_inline(mq, 1));
    flow_publish(mq, "T", "c");
    OK(bgmq_drain(mq, flow_patience()));
    close_kit();
}
END_TEST

START_TEST(a_request_waits_for_who_steps)
{
    struct bgmq_message *reply = NULL;
    open_kit(_i);
    FAILS(BGMQ_ETIMEOUT, bgmq_request(mq, "T", "q", 1, NULL, 1, &reply));
    ck_assert_ptr_null(reply);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    ck_assert_uint_eq(flow_counters(mq).replies_dropped, 1);
    OK(bgmq_test_inline(mq, 1));
    OK(bgmq_request(mq, "T", "q", 1, NULL, flow_patience(), &reply));
    flow_expect_body(reply, "re:q");
    bgmq_message_free(reply);
    close_kit();
}
END_TEST

static int nest(struct bgmq_job *job, void *ctx)
{
    struct bgmq *service = bgmq_job_service(job);
    struct bgmq_message *reply;
    OK(bgmq_publish(service, "T", "x", 1, NULL, NULL));
    seen[0] = bgmq_test_drain(service, 0);
    seen[1] = bgmq_test_step(service, "T");
    seen[2] = bgmq_request(service, "T", "q", 1, NULL, 1, &reply);
    seen[3] = (int)flow_stats(service, "T").processed;
    return BGMQ_DONE;
}

/* _i 1: handlers run inside publish. */
START_TEST(a_handler_runs_no_other)
{
    open_kit(0);
    OK(bgmq_register(mq, "Nest", nest, NULL, NULL));
    OK(bgmq_test_inline(mq, _i));
    flow_publish(mq, "Nest", "x");
    if (!_i)
        ck_assert_int_eq(bgmq_test_step(mq, "Nest"), 1);
    FAILS(BGMQ_EDEADLK, seen[0]);
    FAILS(BGMQ_EDEADLK, seen[1]);
    FAILS(BGMQ_ETIMEOUT, seen[2]);
    ck_assert_int_eq(seen[3], 0);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), _i ? 0 : 2);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 2);
    close_kit();
}
END_TEST

static int take_long(struct bgmq_job *job, void *ctx)
{
    OK(bgmq_test_advance(bgmq_job_service(job), 1000));
    seen[0] = bgmq_job_cancelled(job);
    seen[1] = (int)flow_stats(bgmq_job_service(job), "T").processed;
    seen[2] = (int)flow_collection(bgmq_job_service(job), "T").inq;
    return BGMQ_DONE;
}

START_TEST(what_falls_due_in_a_handler_waits_for_its_end)
{
    open_kit(_i);
    OK(bgmq_register(mq, "Long", take_long, NULL, &TYPE(.timeout_ms = 500)));
    flow_publish_with(mq, "T", "due", MESSAGE(.delay_ms = 700));
    flow_publish(mq, "Long", "x");
    ck_assert_int_eq(bgmq_test_step(mq, "Long"), 1);
    ck_assert_int_eq(seen[0], 1);
    ck_assert_int_eq(seen[1], 0);
    ck_assert_int_eq(seen[2], 1);
    ck_assert_uint_eq(flow_stats(mq, "Long").processed, 1);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    close_kit();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kit_rules");
    TCase *tc = flow_case(s, "rules");
    flow_add_both(tc, a_drain_waits_for_who_steps);
    flow_add_both(tc, a_request_waits_for_who_steps);
    tcase_add_loop_test(tc, a_handler_runs_no_other, 0, 2);
    flow_add_both(tc, what_falls_due_in_a_handler_waits_for_its_end);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
