/* test_filter.c - who has a say in an attempt beside the handler: the filters around it, and
 * the error callback. */
#include "flow.h"

#include <stdio.h>

/* ---- filters -------------------------------------------------------------------- */

/* The context of a type with filters: what each shall answer, and who was called. */
struct judge {
    int request, response, error;
    int handler;
    struct counter requests, handlers, responses, errors;
    char code[65], text[65]; /* as on_error saw them */
    const char *replace;     /* type of a response the response filter sets */
};

static void judge_init(struct judge *j)
{
    *j = (struct judge){0};
    counter_init(&j->requests);
    counter_init(&j->handlers);
    counter_init(&j->responses);
    counter_init(&j->errors);
}

static void judge_fini(struct judge *j)
{
    counter_fini(&j->requests);
    counter_fini(&j->handlers);
    counter_fini(&j->responses);
    counter_fini(&j->errors);
}

static int judge_request(struct bgmq_job *job, void *ctx)
{
    struct judge *j = ctx;
    counter_add(&j->requests, 1);
    return j->request;
}

static int judge_handler(struct bgmq_job *job, void *ctx)
{
    struct judge *j = ctx;
    counter_add(&j->handlers, 1);
    OK(bgmq_job_respond(job, "Reply", "from handler", 12));
    if (j->handler != BGMQ_DONE)
        return bgmq_job_fail(job, (enum bgmq_verdict)j->handler, "Judged", "n %d", 42);
    return BGMQ_DONE;
}

static int judge_response(struct bgmq_job *job, void *ctx)
{
    struct judge *j = ctx;
    counter_add(&j->responses, 1);
    if (j->replace)
        OK(bgmq_job_respond(job, j->replace, "from filter", 11));
    return j->response;
}

static int judge_error(struct bgmq_job *job, void *ctx)
{
    struct judge *j = ctx;
    const char *code = bgmq_job_error_code(job), *text = bgmq_job_error_text(job);
    snprintf(j->code, sizeof(j->code), "%s", code ? code : "(none)");
    snprintf(j->text, sizeof(j->text), "%s", text ? text : "(none)");
    counter_add(&j->errors, 1);
    return j->error == BGMQ_SNOOZE ? bgmq_job_snooze(job, 1) : j->error;
}

static struct bgmq *open_judged(int durable, struct judge *j, int with_on_error)
{
    struct bgmq *mq = flow_open(durable);
    OK(bgmq_register(mq, "T", judge_handler, j,
                     &TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE,
                           .request_filter = judge_request,
                           .response_filter = judge_response,
                           .on_error = with_on_error ? judge_error : NULL)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    return mq;
}

START_TEST(filters_that_agree_change_nothing)
{
    struct judge j;
    judge_init(&j);
    struct bgmq *mq = open_judged(_i, &j, 0);
    flow_expect(mq, "mq:Reply.inq", "from handler");
    ck_assert_int_eq(counter_value(&j.requests), 1);
    ck_assert_int_eq(counter_value(&j.handlers), 1);
    ck_assert_int_eq(counter_value(&j.responses), 1);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(request_filter_that_refuses_skips_the_handler)
{
    struct judge j;
    judge_init(&j);
    j.request = BGMQ_PERMANENT;
    struct bgmq *mq = open_judged(_i, &j, 0);
    flow_expect(mq, "mq:T.dlq", "x");
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(counter_value(&j.requests), 1);
    ck_assert_int_eq(counter_value(&j.handlers), 0);
    ck_assert_int_eq(counter_value(&j.responses), 0);
    flow_expect_empty(mq, "mq:Reply.inq");
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(request_filter_runs_before_each_attempt)
{
    struct judge j;
    judge_init(&j);
    j.request = BGMQ_RETRY;
    struct bgmq *mq = open_judged(_i, &j, 0);
    flow_expect(mq, "mq:T.dlq", "x");
    ck_assert_int_eq(counter_value(&j.requests), 2);
    ck_assert_int_eq(counter_value(&j.handlers), 0);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(response_filter_may_replace_the_response)
{
    struct judge j;
    judge_init(&j);
    j.replace = "Other";
    struct bgmq *mq = open_judged(_i, &j, 0);
    flow_expect(mq, "mq:Other.inq", "from filter");
    OK(bgmq_stop(mq, 0));
    flow_expect_empty(mq, "mq:Reply.inq");
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(response_filter_that_refuses_holds_the_response_back)
{
    struct judge j;
    judge_init(&j);
    j.response = BGMQ_PERMANENT;
    struct bgmq *mq = open_judged(_i, &j, 0);
    flow_expect(mq, "mq:T.dlq", "x");
    OK(bgmq_stop(mq, 0));
    flow_expect_empty(mq, "mq:Reply.inq");
    ck_assert_int_eq(counter_value(&j.responses), 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 0);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(response_filter_is_not_asked_about_failures)
{
    struct judge j;
    judge_init(&j);
    j.handler = BGMQ_PERMANENT;
    struct bgmq *mq = open_judged(_i, &j, 0);
    flow_expect(mq, "mq:T.dlq", "x");
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(counter_value(&j.responses), 0);
    flow_expect_empty(mq, "mq:Reply.inq");
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

/* ---- the error callback --------------------------------------------------------- */

START_TEST(on_error_is_not_called_after_success)
{
    struct judge j;
    judge_init(&j);
    struct bgmq *mq = open_judged(_i, &j, 1);
    flow_expect(mq, "mq:Reply.inq", "from handler");
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(counter_value(&j.errors), 0);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(on_error_may_bury_at_once)
{
    struct judge j;
    judge_init(&j);
    j.handler = BGMQ_RETRY;
    j.error = BGMQ_PERMANENT;
    struct bgmq *mq = open_judged(_i, &j, 1);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "Judged");
    ck_assert_uint_eq(bgmq_message_attempts(m), 1);
    flow_done(m);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(counter_value(&j.handlers), 1);
    ck_assert_int_eq(counter_value(&j.errors), 1);
    ck_assert_str_eq(j.code, "Judged");
    ck_assert_str_eq(j.text, "n 42");
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(on_error_may_save_the_permanent)
{
    struct judge j;
    judge_init(&j);
    j.handler = BGMQ_PERMANENT;
    j.error = BGMQ_RETRY;
    struct bgmq *mq = open_judged(_i, &j, 1);
    counter_wait(&j.handlers, 2);
    counter_wait(&j.errors, 2);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

START_TEST(on_error_may_discard)
{
    struct judge j;
    judge_init(&j);
    j.handler = BGMQ_RETRY;
    j.error = BGMQ_DISCARD;
    struct bgmq *mq = open_judged(_i, &j, 1);
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_stop(mq, 0));
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.inq + c.dlq + c.outq + c.delayed, 0);
    ck_assert_uint_eq(c.dlq_added, 0);
    ck_assert_int_eq(counter_value(&j.handlers), 1);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

/* max_attempts is 2, so five starts show that none was used up. */
START_TEST(on_error_may_snooze)
{
    struct judge j;
    judge_init(&j);
    j.handler = BGMQ_RETRY;
    j.error = BGMQ_SNOOZE;
    struct bgmq *mq = open_judged(_i, &j, 1);
    counter_wait(&j.handlers, 5);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(flow_collection(mq, "T").dlq_added, 0);
    flow_close(mq);
    judge_fini(&j);
}
END_TEST

/* What on_error saves is the next attempt's. */
struct saving {
    char found[8];
    int err;
};

static int find_cursor(struct bgmq_job *job, void *ctx)
{
    struct saving *s = ctx;
    const char *cursor = bgmq_job_cursor(job, NULL);
    snprintf(s->found, sizeof(s->found), "%s", cursor ? cursor : "-");
    return cursor ? BGMQ_DONE : BGMQ_RETRY;
}

static int save_cursor(struct bgmq_job *job, void *ctx)
{
    struct saving *s = ctx;
    s->err = bgmq_job_save_cursor(job, "saved", 5, BGMQ_BEHIND);
    return BGMQ_RETRY;
}

START_TEST(on_error_may_save_a_cursor)
{
    struct saving s = {.err = 1};
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", find_cursor, &s,
                     &TYPE(.backoff = BGMQ_BACKOFF_NONE, .on_error = save_cursor)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 2);
    OK(s.err);
    ck_assert_str_eq(s.found, "saved");
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("filter");
    TCase *tc = flow_case(s, "filters");
    flow_add_both(tc, filters_that_agree_change_nothing);
    flow_add_both(tc, request_filter_that_refuses_skips_the_handler);
    flow_add_both(tc, request_filter_runs_before_each_attempt);
    flow_add_both(tc, response_filter_may_replace_the_response);
    flow_add_both(tc, response_filter_that_refuses_holds_the_response_back);
    flow_add_both(tc, response_filter_is_not_asked_about_failures);
    tc = flow_case(s, "error callback");
    flow_add_both(tc, on_error_is_not_called_after_success);
    flow_add_both(tc, on_error_may_bury_at_once);
    flow_add_both(tc, on_error_may_save_the_permanent);
    flow_add_both(tc, on_error_may_discard);
    flow_add_both(tc, on_error_may_snooze);
    flow_add_both(tc, on_error_may_save_a_cursor);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
