/* test_flow.c - the cases to pass of the message flow, 1 to 12: publish, handle, answer.
 * Each runs in memory and with a database.  (13 to 20 are in test_service.c.) */
#include "flow.h"

#include <jansson.h>
#include <string.h>

static int hello(struct bgmq_job *job, void *ctx)
{
    const char *name;
    int err = bgmq_job_unpack(job, "{s:s}", "Name", &name);
    if (err)
        return err;
    char text[64];
    snprintf(text, sizeof(text), "Hello, %s!", name);
    err = bgmq_job_respond_json(job, "HelloIntroResponse", "{s:s}", "Result", text);
    return err ? err : BGMQ_DONE;
}

static void publish_hello(struct bgmq *mq, const struct bgmq_message_options *options)
{
    OK(bgmq_publish_json(mq, "HelloIntro", options, NULL, "{s:s}", "Name", "World"));
}

/* The body is an object whose KEY is the string WANT. */
static void expect_string(const struct bgmq_message *m, const char *key, const char *want)
{
    size_t len = 0;
    const void *body = bgmq_message_body(m, &len);
    json_t *object = json_loadb(body, len, 0, NULL);
    ck_assert_ptr_nonnull(object);
    ck_assert_str_eq(json_string_value(json_object_get(object, key)), want);
    json_decref(object);
}

START_TEST(case01_no_response_goes_to_outq)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "HelloIntro", &r);
    OK(bgmq_start(mq));
    publish_hello(mq, NULL);
    struct bgmq_message *m = flow_take(mq, "mq:HelloIntro.outq");
    expect_string(m, "Name", "World");
    ck_assert_str_eq(bgmq_message_type(m), "HelloIntro");
    ck_assert_ptr_null(bgmq_message_error_code(m));
    flow_done(m);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case02_response_goes_to_inq_of_its_type)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "HelloIntro", hello, NULL, NULL));
    OK(bgmq_start(mq));
    publish_hello(mq, NULL);
    struct bgmq_message *m = flow_take(mq, "mq:HelloIntroResponse.inq");
    expect_string(m, "Result", "Hello, World!");
    ck_assert_str_eq(bgmq_message_type(m), "HelloIntroResponse");
    flow_done(m);
    flow_wait_ended(mq, "HelloIntro", 1);
    flow_expect_empty(mq, "mq:HelloIntro.outq");
    flow_close(mq);
}
END_TEST

/* A type that fails twice with code and text, at once one after the other. */
static void register_failing(struct bgmq *mq, struct recorder *r)
{
    r->failures = 2;
    r->code = "Boom";
    r->text = "it broke";
    flow_register_with(mq, "HelloIntro", r,
                       TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE));
}

static void expect_dead(struct bgmq *mq, uint64_t id)
{
    struct bgmq_message *m = flow_take(mq, "mq:HelloIntro.dlq");
    expect_string(m, "Name", "World");
    ck_assert_uint_eq(bgmq_message_id(m), id);
    ck_assert_str_eq(bgmq_message_error_code(m), "Boom");
    ck_assert_str_eq(bgmq_message_error_text(m), "it broke");
    ck_assert_int_gt(bgmq_message_error_ms(m), 0);
    ck_assert_uint_eq(bgmq_message_attempts(m), 2);
    flow_done(m);
}

START_TEST(case03_error_with_one_retry_ends_in_dlq)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    register_failing(mq, &r);
    OK(bgmq_start(mq));
    publish_hello(mq, NULL);
    counter_wait(&r.begun, 2);
    expect_dead(mq, recorder_call(&r, 0).id);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 2);
    ck_assert_uint_eq(r.calls[1].attempt, 2);
    ck_assert_uint_eq(r.calls[1].id, r.calls[0].id);
    struct bgmq_stats s = flow_stats(mq, "HelloIntro");
    ck_assert_uint_eq(s.failed, 2);
    ck_assert_uint_eq(s.retries, 1);
    ck_assert_uint_eq(s.processed, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case04_error_with_reply_to_sends_one_error_reply)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    register_failing(mq, &r);
    OK(bgmq_start(mq));
    publish_hello(mq, &MESSAGE(.reply_to = "answers"));
    struct bgmq_message *m = flow_take(mq, "answers");
    uint64_t id = recorder_call(&r, 0).id;
    ck_assert_uint_eq(bgmq_message_reply_id(m), id);
    ck_assert_str_eq(bgmq_message_error_code(m), "Boom");
    ck_assert_str_eq(bgmq_message_error_text(m), "it broke");
    flow_done(m);
    expect_dead(mq, id);
    OK(bgmq_stop(mq, 0));
    flow_expect_empty(mq, "answers");
    flow_expect_empty(mq, "mq:HelloIntro.dlq");
    ck_assert_uint_eq(r.n, 2);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case05_reply_to_gets_the_response_and_nobody_else)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "HelloIntro", hello, NULL, NULL));
    OK(bgmq_start(mq));
    publish_hello(mq, &MESSAGE(.reply_to = "answers"));
    struct bgmq_message *m = flow_take(mq, "answers");
    expect_string(m, "Result", "Hello, World!");
    ck_assert_str_eq(bgmq_message_type(m), "HelloIntroResponse");
    ck_assert_uint_ne(bgmq_message_reply_id(m), 0);
    ck_assert_ptr_null(bgmq_message_error_code(m));
    flow_done(m);
    OK(bgmq_stop(mq, 0));
    flow_expect_empty(mq, "answers");
    flow_expect_empty(mq, "mq:HelloIntroResponse.inq");
    flow_expect_empty(mq, "mq:HelloIntro.outq");
    flow_expect_empty(mq, "mq:HelloIntro.dlq");
    flow_close(mq);
}
END_TEST

START_TEST(case06_one_thread_keeps_the_order_of_a_batch)
{
    enum { N = 300 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Step", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Step", N);
    counter_wait(&r.begun, N);
    for (int i = 0; i < N; i++) {
        char want[12];
        snprintf(want, sizeof(want), "%d", i);
        ck_assert_str_eq(recorder_call(&r, (size_t)i).body, want);
    }
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* One client of case 7: a temporary queue, requests one after the other, each answer its
 * own. */
struct client {
    struct bgmq *mq;
    int number;
    uint64_t replies;
};

static void *ask_and_ask(void *arg)
{
    struct client *c = arg;
    char queue[40];
    OK(bgmq_temp_queue(c->mq, queue));
    for (int i = 0; i < 100; i++) {
        char text[32], want[40];
        snprintf(text, sizeof(text), "%d.%d", c->number, i);
        snprintf(want, sizeof(want), "re:%s", text);
        uint64_t id = flow_publish_with(c->mq, "Ask", text, MESSAGE(.reply_to = queue));
        struct bgmq_message *m = flow_take(c->mq, queue);
        flow_expect_body(m, want);
        ck_assert_uint_eq(bgmq_message_reply_id(m), id);
        ck_assert_ptr_null(bgmq_message_error_code(m));
        flow_done(m);
        c->replies++;
    }
    flow_expect_empty(c->mq, queue);
    OK(bgmq_drop_queue(c->mq, queue));
    return NULL;
}

START_TEST(case07_ten_clients_get_their_own_replies)
{
    enum { CLIENTS = 10 };
    struct recorder r;
    recorder_init(&r);
    r.response = "Answer";
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "Ask", &r, TYPE(.threads = 2));
    OK(bgmq_start(mq));
    struct client clients[CLIENTS];
    pthread_t threads[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.mq = mq, .number = i};
        threads[i] = harness_thread(ask_and_ask, &clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        harness_join(threads[i]);
        ck_assert_uint_eq(clients[i].replies, 100);
    }
    flow_wait_ended(mq, "Ask", CLIENTS * 100);
    struct bgmq_collection c = flow_collection(mq, "Ask");
    ck_assert_uint_eq(c.inq + c.priorityq + c.outq + c.dlq + c.delayed, 0);
    ck_assert_uint_eq(flow_counters(mq).replies_dropped, 0);
    ck_assert_uint_eq(flow_stats(mq, "Ask").failed, 0);
    flow_expect_empty(mq, "mq:Answer.inq");
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

static void expect_all_handled(struct bgmq *mq, struct recorder *r, int n)
{
    counter_wait(&r->begun, n);
    flow_wait_ended(mq, "Early", (uint64_t)n);
    struct bgmq_stats s = flow_stats(mq, "Early");
    ck_assert_uint_eq(s.processed, (uint64_t)n);
    ck_assert_uint_eq(s.normal_received, (uint64_t)n);
    ck_assert_uint_eq(s.failed, 0);
    struct bgmq_collection c = flow_collection(mq, "Early");
    ck_assert_uint_eq(c.added, (uint64_t)n);
    ck_assert_uint_eq(c.inq, 0);
    ck_assert_uint_eq(c.outq_added, (uint64_t)n);
}

START_TEST(case08_published_before_start_is_handled_after)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "Early", &r, TYPE(.threads = 2));
    flow_publish_numbers(mq, "Early", 20);
    ck_assert_uint_eq(flow_collection(mq, "Early").inq, 20);
    ck_assert_int_eq(counter_value(&r.begun), 0);
    OK(bgmq_start(mq));
    expect_all_handled(mq, &r, 20);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case09_published_before_registration_is_handled_after)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_publish_numbers(mq, "Early", 20);
    flow_register(mq, "Early", &r);
    OK(bgmq_start(mq));
    expect_all_handled(mq, &r, 20);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case10_late_registration_needs_no_restart)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Early", 20);
    ck_assert_int_eq(flow_collection(mq, "Early").registered, 0);
    flow_register(mq, "Early", &r);
    expect_all_handled(mq, &r, 20);
    ck_assert_int_eq(flow_collection(mq, "Early").registered, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case11_closed_service_refuses_and_closes_twice)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_start(mq));
    OK(bgmq_close(mq));
    FAILS(BGMQ_ECLOSED, bgmq_start(mq));
    FAILS(BGMQ_ECLOSED, bgmq_stop(mq, 0));
    OK(bgmq_close(mq));
    bgmq_free(mq);
}
END_TEST

START_TEST(case12_response_of_one_type_is_handled_by_the_next)
{
    struct recorder first, second;
    recorder_init(&first);
    recorder_init(&second);
    first.response = "Second";
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "First", &first);
    flow_register(mq, "Second", &second);
    OK(bgmq_start(mq));
    flow_publish(mq, "First", "x");
    flow_expect(mq, "mq:Second.outq", "re:x");
    ck_assert_str_eq(recorder_call(&second, 0).body, "re:x");
    flow_close(mq);
    recorder_fini(&first);
    recorder_fini(&second);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("flow");
    TCase *tc = flow_case(s, "messages");
    flow_add_both(tc, case01_no_response_goes_to_outq);
    flow_add_both(tc, case02_response_goes_to_inq_of_its_type);
    flow_add_both(tc, case03_error_with_one_retry_ends_in_dlq);
    flow_add_both(tc, case04_error_with_reply_to_sends_one_error_reply);
    flow_add_both(tc, case05_reply_to_gets_the_response_and_nobody_else);
    flow_add_both(tc, case06_one_thread_keeps_the_order_of_a_batch);
    flow_add_both(tc, case07_ten_clients_get_their_own_replies);
    flow_add_both(tc, case08_published_before_start_is_handled_after);
    flow_add_both(tc, case09_published_before_registration_is_handled_after);
    flow_add_both(tc, case10_late_registration_needs_no_restart);
    flow_add_both(tc, case11_closed_service_refuses_and_closes_twice);
    flow_add_both(tc, case12_response_of_one_type_is_handled_by_the_next);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
