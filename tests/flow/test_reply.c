/* test_reply.c - responses and replies: where they go, what they carry along, and what becomes
 * of a reply nobody waits for. */
#include "flow.h"

#include <stdio.h>

static const char *const meta[] = {"user", "7", "lang", "en", NULL};
static const char trace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

static struct bgmq *open_replying(int durable, struct recorder *r)
{
    recorder_init(r);
    struct bgmq *mq = flow_open(durable);
    flow_register_with(mq, "Ask", r,
                       TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE));
    OK(bgmq_start(mq));
    return mq;
}

static void expect_carried(struct bgmq_message *m, uint64_t id)
{
    ck_assert_uint_eq(bgmq_message_reply_id(m), id);
    ck_assert_str_eq(bgmq_message_tag(m), "blue");
    ck_assert_str_eq(bgmq_message_traceparent(m), trace);
    ck_assert_str_eq(bgmq_message_meta(m, "user"), "7");
    ck_assert_str_eq(bgmq_message_meta(m, "lang"), "en");
    ck_assert_ptr_null(bgmq_message_meta(m, "nothing"));
}

static const struct bgmq_message_options carrying = {
    .reply_to = "answers", .tag = "blue", .traceparent = trace, .meta = meta};

START_TEST(response_carries_what_the_request_carried)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.response = "Answer";
    uint64_t id = flow_publish_with(mq, "Ask", "x", carrying);
    struct bgmq_message *m = flow_take(mq, "answers");
    flow_expect_body(m, "re:x");
    ck_assert_str_eq(bgmq_message_type(m), "Answer");
    expect_carried(m, id);
    flow_done(m);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static int answer_with_its_own(struct bgmq_job *job, void *ctx)
{
    static const char *const own[] = {"user", "8", NULL};
    static const char *const odd[] = {"user", NULL};
    ck_assert_int_eq(bgmq_job_reply_options(job, NULL), BGMQ_EINVAL);
    OK(bgmq_job_reply_options(job, &MESSAGE(.tag = "red")));
    OK(bgmq_job_reply_options(job, &MESSAGE(.tag = "green", .meta = own)));
    ck_assert_int_eq(bgmq_job_reply_options(job, &MESSAGE(.meta = odd)), BGMQ_EINVAL);
    OK(bgmq_job_respond(job, "Answer", "a", 1));
    return BGMQ_DONE;
}

START_TEST(response_may_have_a_tag_and_meta_of_its_own)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Ask", answer_with_its_own, NULL, NULL));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish_with(mq, "Ask", "x", carrying);
    struct bgmq_message *m = flow_take(mq, "answers");
    ck_assert_uint_eq(bgmq_message_reply_id(m), id);
    ck_assert_str_eq(bgmq_message_tag(m), "green");
    ck_assert_str_eq(bgmq_message_traceparent(m), trace); /* the request's */
    ck_assert_str_eq(bgmq_message_meta(m, "user"), "8");
    ck_assert_ptr_null(bgmq_message_meta(m, "lang"));
    flow_done(m);
    flow_close(mq);
}
END_TEST

START_TEST(no_response_returns_the_request_itself)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    uint64_t id = flow_publish_with(mq, "Ask", "x", carrying);
    struct bgmq_message *m = flow_take(mq, "answers");
    flow_expect_body(m, "x");
    ck_assert_str_eq(bgmq_message_type(m), "Ask");
    expect_carried(m, id);
    flow_done(m);
    flow_wait_ended(mq, "Ask", 1);
    flow_expect_empty(mq, "mq:Ask.outq");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(error_reply_carries_along_too_and_comes_once)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.failures = 2;
    r.code = "Sorry";
    r.text = "no answer";
    uint64_t id = flow_publish_with(mq, "Ask", "x", carrying);
    struct bgmq_message *m = flow_take(mq, "answers");
    ck_assert_str_eq(bgmq_message_error_code(m), "Sorry");
    ck_assert_str_eq(bgmq_message_error_text(m), "no answer");
    expect_carried(m, id);
    flow_done(m);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 2);
    flow_expect_empty(mq, "answers");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(response_without_reply_to_carries_along_too)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.response = "Answer";
    struct bgmq_message_options options = carrying;
    options.reply_to = NULL;
    flow_publish_with(mq, "Ask", "x", options);
    struct bgmq_message *m = flow_take(mq, "mq:Answer.inq");
    flow_expect_body(m, "re:x");
    ck_assert_str_eq(bgmq_message_tag(m), "blue");
    ck_assert_str_eq(bgmq_message_meta(m, "user"), "7");
    flow_done(m);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static int read_all(struct bgmq_job *job, void *ctx)
{
    ck_assert_str_eq(bgmq_job_type(job), "Ask");
    ck_assert_str_eq(bgmq_job_tag(job), "blue");
    ck_assert_str_eq(bgmq_job_traceparent(job), trace);
    ck_assert_str_eq(bgmq_job_reply_to(job), "answers");
    ck_assert_str_eq(bgmq_job_meta(job, "lang"), "en");
    ck_assert_ptr_null(bgmq_job_meta(job, "nothing"));
    ck_assert_ptr_null(bgmq_job_error_code(job));
    ck_assert_uint_eq(bgmq_job_attempt(job), 1);
    ck_assert_uint_eq(bgmq_job_max_attempts(job), 9);
    ck_assert_int_eq(bgmq_job_priority(job), 3);
    ck_assert_ptr_eq(bgmq_job_service(job), *(struct bgmq **)ctx);
    ck_assert_int_eq(bgmq_job_cancelled(job), 0);
    return BGMQ_DONE;
}

START_TEST(handler_reads_what_was_published)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Ask", read_all, &mq, &TYPE(.max_attempts = 9)));
    struct bgmq_message_options options = carrying;
    options.priority = 3;
    flow_publish_with(mq, "Ask", "x", options);
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
        OK(bgmq_register(mq, "Ask", read_all, &mq, &TYPE(.max_attempts = 9)));
    }
    OK(bgmq_start(mq));
    flow_expect(mq, "answers", "x");
    flow_close(mq);
}
END_TEST

static int change_mind(struct bgmq_job *job, void *ctx)
{
    OK(bgmq_job_respond(job, "First", "1", 1));
    OK(bgmq_job_respond(job, "Second", "22", 2));
    if (*(int *)ctx)
        OK(bgmq_job_respond(job, NULL, NULL, 0));
    return BGMQ_DONE;
}

START_TEST(second_response_replaces_the_first)
{
    int take_back = 0;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Ask", change_mind, &take_back, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "Ask", "x");
    flow_expect(mq, "mq:Second.inq", "22");
    OK(bgmq_stop(mq, 0));
    flow_expect_empty(mq, "mq:First.inq");
    flow_expect_empty(mq, "mq:Ask.outq");
    flow_close(mq);
}
END_TEST

static int answer_too_much(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    FAILS(BGMQ_ETOOBIG, bgmq_job_respond(job, "First", "12345", 5));
    OK(bgmq_job_respond(job, "First", "1234", 4));
    return BGMQ_DONE;
}

START_TEST(response_is_no_larger_than_a_body)
{
    struct bgmq *mq = flow_open_with(_i, SERVICE(.max_body = 4));
    OK(bgmq_register(mq, "Ask", answer_too_much, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "Ask", "x");
    flow_expect(mq, "mq:First.inq", "1234");
    flow_close(mq);
}
END_TEST

START_TEST(response_taken_back_is_no_response)
{
    int take_back = 1;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Ask", change_mind, &take_back, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "Ask", "x");
    flow_expect(mq, "mq:Ask.outq", "x");
    OK(bgmq_stop(mq, 0));
    flow_expect_empty(mq, "mq:First.inq");
    flow_expect_empty(mq, "mq:Second.inq");
    flow_close(mq);
}
END_TEST

/* Publishes X to a type that responds; expects the response published or not. */
static void expect_published(struct bgmq *mq, const char *response, int published)
{
    struct recorder r;
    recorder_init(&r);
    r.response = response;
    char queue[64];
    snprintf(queue, sizeof(queue), "mq:%s.inq", response);
    flow_register(mq, "Ask", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "Ask", "x");
    flow_wait_ended(mq, "Ask", 1);
    OK(bgmq_stop(mq, 0));
    if (published)
        flow_expect(mq, queue, "re:x");
    flow_expect_empty(mq, queue);
    ck_assert_uint_eq(flow_stats(mq, "Ask").processed, 1);
    flow_publish_with(mq, "Ask", "y", MESSAGE(.reply_to = "answers"));
    OK(bgmq_start(mq));
    flow_expect(mq, "answers", "re:y");
    flow_close(mq);
    recorder_fini(&r);
}

static const char *const whitelist[] = {"Good", "Better", NULL};

START_TEST(responses_off_leaves_reply_to_alone)
{
    expect_published(flow_open_with(_i, SERVICE(.no_responses = 1)), "Good", 0);
}
END_TEST

START_TEST(response_on_the_list_is_published)
{
    expect_published(flow_open_with(_i, SERVICE(.response_types = whitelist)), "Better",
                     1);
}
END_TEST

START_TEST(response_not_on_the_list_is_not)
{
    expect_published(flow_open_with(_i, SERVICE(.response_types = whitelist)), "Bad", 0);
}
END_TEST

/* ---- request -------------------------------------------------------------------- */

START_TEST(request_waits_for_its_reply)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.response = "Answer";
    struct bgmq_message *m = NULL;
    for (int i = 0; i < 20; i++) {
        OK(bgmq_request(mq, "Ask", "x", 1, NULL, flow_patience(), &m));
        flow_expect_body(m, "re:x");
        ck_assert_uint_eq(bgmq_message_reply_id(m), recorder_call(&r, (size_t)i).id);
        bgmq_message_free(m);
    }
    flow_wait_ended(mq, "Ask", 20);
    ck_assert_uint_eq(flow_counters(mq).replies_dropped, 0);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(request_that_fails_gets_the_error)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.failures = 2;
    r.code = "Sorry";
    struct bgmq_message *m = NULL;
    OK(bgmq_request(mq, "Ask", "x", 1, NULL, flow_patience(), &m));
    ck_assert_str_eq(bgmq_message_error_code(m), "Sorry");
    bgmq_message_free(m);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static int fail_in_another_charset(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_fail(job, BGMQ_PERMANENT, "\xff", "M\xfcller \xe4 %s", "\xc3\xa4");
}

/* What people say is no reason to leave the asker without an answer. */
START_TEST(error_that_is_not_utf8_is_sent_all_the_same)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Ask", fail_in_another_charset, NULL, NULL));
    OK(bgmq_start(mq));
    struct bgmq_message *m = NULL;
    OK(bgmq_request(mq, "Ask", "x", 1, NULL, flow_patience(), &m));
    ck_assert_str_eq(bgmq_message_error_code(m), "?");
    ck_assert_str_eq(bgmq_message_error_text(m), "M?ller ? \xc3\xa4");
    flow_expect_body(m, "{\"error\":{\"code\":\"?\",\"message\":\"M?ller ? \\u00E4\"}}");
    bgmq_message_free(m);
    ck_assert_uint_eq(flow_counters(mq).replies_dropped, 0);
    flow_close(mq);
}
END_TEST

START_TEST(late_reply_is_dropped_and_counted)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.gate = &gate;
    r.response = "Answer";
    struct bgmq_message *m = NULL;
    FAILS(BGMQ_ETIMEOUT, bgmq_request(mq, "Ask", "x", 1, NULL, 20, &m));
    ck_assert_ptr_null(m);
    ck_assert_uint_eq(flow_counters(mq).replies_dropped, 0);
    gate_open(&gate);
    flow_wait_ended(mq, "Ask", 1);
    WAIT_UNTIL(flow_counters(mq).replies_dropped == 1);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 1);
    ck_assert_uint_eq(flow_stats(mq, "Ask").processed, 1);
    ck_assert_uint_eq(flow_stats(mq, "Ask").failed, 0);
    flow_expect_empty(mq, "mq:Answer.inq");
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

static int ask_type(struct bgmq_job *job, void *ctx)
{
    struct bgmq_message *m = NULL;
    int err =
        bgmq_request(bgmq_job_service(job), ctx, "in", 2, NULL, flow_patience(), &m);
    if (err)
        return bgmq_job_fail(job, BGMQ_PERMANENT, bgmq_errname(err), "refused");
    size_t len = 0;
    const void *body = bgmq_message_body(m, &len);
    OK(bgmq_job_respond(job, "Relayed", body, len));
    bgmq_message_free(m);
    return BGMQ_DONE;
}

START_TEST(request_in_a_handler_of_the_same_type_is_a_deadlock)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Self", ask_type, (void *)(uintptr_t) "Self", NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "Self", "x");
    struct bgmq_message *m = flow_take(mq, "mq:Self.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "BGMQ_EDEADLK");
    flow_done(m);
    flow_close(mq);
}
END_TEST

START_TEST(request_in_a_handler_of_another_type_works)
{
    struct recorder r;
    struct bgmq *mq = open_replying(_i, &r);
    r.response = "Answer";
    OK(bgmq_register(mq, "Relay", ask_type, (void *)(uintptr_t) "Ask", NULL));
    flow_publish(mq, "Relay", "x");
    flow_expect(mq, "mq:Relayed.inq", "re:in");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("reply");
    TCase *tc = flow_case(s, "response");
    flow_add_both(tc, response_carries_what_the_request_carried);
    flow_add_both(tc, response_may_have_a_tag_and_meta_of_its_own);
    flow_add_both(tc, no_response_returns_the_request_itself);
    flow_add_both(tc, error_reply_carries_along_too_and_comes_once);
    flow_add_both(tc, response_without_reply_to_carries_along_too);
    flow_add_both(tc, handler_reads_what_was_published);
    flow_add_both(tc, second_response_replaces_the_first);
    flow_add_both(tc, response_is_no_larger_than_a_body);
    flow_add_both(tc, response_taken_back_is_no_response);
    flow_add_both(tc, responses_off_leaves_reply_to_alone);
    flow_add_both(tc, response_on_the_list_is_published);
    flow_add_both(tc, response_not_on_the_list_is_not);
    tc = flow_case(s, "request");
    flow_add_both(tc, request_waits_for_its_reply);
    flow_add_both(tc, request_that_fails_gets_the_error);
    flow_add_both(tc, error_that_is_not_utf8_is_sent_all_the_same);
    flow_add_both(tc, late_reply_is_dropped_and_counted);
    flow_add_both(tc, request_in_a_handler_of_the_same_type_is_a_deadlock);
    flow_add_both(tc, request_in_a_handler_of_another_type_works);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
