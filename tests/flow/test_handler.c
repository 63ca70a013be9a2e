/* test_handler.c - what a handler may call, what it may not, and its tools for JSON. */
#include "flow.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inside {
    int stop, close, start, registered, set_threads, flush;
    struct counter done;
    struct recorder other;
};

static void inside_init(struct inside *in)
{
    *in = (struct inside){0};
    counter_init(&in->done);
    recorder_init(&in->other);
}

static void inside_fini(struct inside *in)
{
    counter_fini(&in->done);
    recorder_fini(&in->other);
}

static int call_everything(struct bgmq_job *job, void *ctx)
{
    struct inside *in = ctx;
    struct bgmq *mq = bgmq_job_service(job);
    in->start = bgmq_start(mq);
    in->close = bgmq_close(mq);
    in->registered = bgmq_register(mq, "Born", recorder_handler, &in->other, NULL);
    in->set_threads = bgmq_set_threads(mq, "T", 2);
    flow_publish(mq, "Born", "early");
    in->stop = bgmq_stop(mq, 0);
    flow_publish(mq, "Born", "late");
    counter_add(&in->done, 1);
    return BGMQ_DONE;
}

/* A11. What would wait for the handler itself is refused, or goes on in the background. */
START_TEST(handler_calls_what_would_wait_for_itself)
{
    struct inside in;
    inside_init(&in);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", call_everything, &in, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    counter_wait(&in.done, 1);
    ck_assert_int_eq(in.start, BGMQ_EBUSY);
    ck_assert_int_eq(in.close, BGMQ_EDEADLK);
    ck_assert_int_eq(in.stop, BGMQ_EINPROGRESS);
    ck_assert_int_eq(in.registered, BGMQ_OK);
    ck_assert_int_eq(in.set_threads, BGMQ_OK);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(bgmq_started(mq), 0);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "Born", 2);
    flow_close(mq);
    inside_fini(&in);
}
END_TEST

/* Each message of N > 0 publishes two of N - 1 for its own type. */
static int breed(struct bgmq_job *job, void *ctx)
{
    size_t len = 0;
    const char *body = bgmq_job_body(job, &len);
    if (body[0] == '0')
        return BGMQ_DONE;
    char next[2] = {(char)(body[0] - 1), '\0'};
    flow_publish(bgmq_job_service(job), "Cell", next);
    flow_publish(bgmq_job_service(job), "Cell", next);
    return BGMQ_DONE;
}

START_TEST(handlers_publish_for_their_own_type)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Cell", breed, NULL, &TYPE(.threads = 2, .window = 3)));
    OK(bgmq_start(mq));
    flow_publish(mq, "Cell", "8");
    flow_wait_ended(mq, "Cell", 511);
    ck_assert_uint_eq(flow_collection(mq, "Cell").added, 511);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static int look_around(struct bgmq_job *job, void *ctx)
{
    struct bgmq *mq = bgmq_job_service(job);
    struct bgmq_message *m = NULL;
    char *page = NULL;
    ck_assert_int_eq(bgmq_started(mq), 1);
    ck_assert_int_eq(bgmq_running(mq), 1);
    ck_assert_uint_eq(flow_collection(mq, "T").running, 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 0);
    OK(bgmq_status_text(mq, &page));
    free(page);
    OK(bgmq_flush(mq));
    flow_publish(mq, "Other", "taken inside");
    OK(bgmq_get(mq, "mq:Other.inq", flow_patience(), &m));
    flow_expect_body(m, "taken inside");
    flow_done(m);
    ck_assert_int_eq(bgmq_retry_pending(mq, NULL), 0);
    return BGMQ_DONE;
}

START_TEST(handler_looks_takes_and_flushes)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", look_around, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_expect(mq, "mq:T.outq", "x");
    flow_close(mq);
}
END_TEST

/* ---- JSON ----------------------------------------------------------------------- */

struct unpacked {
    struct counter done;
    int result, number;
    char name[32], code[65], text[200];
};

static int unpack(struct bgmq_job *job, void *ctx)
{
    struct unpacked *u = ctx;
    const char *name = "";
    u->result = bgmq_job_unpack(job, "{s:i, s:s}", "n", &u->number, "name", &name);
    snprintf(u->name, sizeof(u->name), "%s", name);
    const char *code = bgmq_job_error_code(job), *text = bgmq_job_error_text(job);
    snprintf(u->code, sizeof(u->code), "%s", code ? code : "");
    snprintf(u->text, sizeof(u->text), "%s", text ? text : "");
    counter_add(&u->done, 1);
    return u->result;
}

START_TEST(unpack_reads_the_body)
{
    struct unpacked u = {0};
    counter_init(&u.done);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", unpack, &u, NULL));
    OK(bgmq_start(mq));
    OK(bgmq_publish_json(mq, "T", NULL, NULL, "{s:i, s:s}", "n", 42, "name", "\303\251"));
    counter_wait(&u.done, 1);
    ck_assert_int_eq(u.result, 0);
    ck_assert_int_eq(u.number, 42);
    ck_assert_str_eq(u.name, "\303\251");
    ck_assert_str_eq(u.code, "");
    flow_close(mq);
    counter_fini(&u.done);
}
END_TEST

/* A3, J4: the body is bytes until somebody asks for JSON. */
START_TEST(bad_json_is_refused_with_its_position)
{
    static const char *const bad[] = {
        "not json",
        "{\"n\": 1e999, \"name\": \"x\"}",
        "{\"n\": 9223372036854775808, \"name\": \"x\"}",
        "{\"n\": NaN, \"name\": \"x\"}",
        "{\"n\": 1, \"n\": 2, \"name\": \"x\"}",
        "{\"n\": 1, \"name\": \"\\u0000\"}",
        "{\"n\": 1, \"name\": \"x\"} trailing",
        "{\"n\": \"text\", \"name\": \"x\"}",
        "{\"name\": \"x\"}",
        "",
    };
    struct unpacked u = {0};
    counter_init(&u.done);
    struct bgmq *mq = flow_open(0);
    OK(bgmq_register(mq, "T", unpack, &u, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", bad[_i]);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_int_eq(u.result, BGMQ_EJSON);
    ck_assert_str_ne(u.text, "");
    ck_assert_str_eq(bgmq_message_error_text(m), u.text);
    ck_assert_uint_eq(bgmq_message_attempts(m), 1);
    if (_i == 0)
        ck_assert_msg(strpbrk(u.text, "0123456789") != NULL, "no position: %s", u.text);
    flow_expect_body(m, bad[_i]);
    flow_done(m);
    flow_close(mq);
    counter_fini(&u.done);
}
END_TEST

static int parse_only(struct bgmq_job *job, void *ctx)
{
    json_t *first = NULL, *second = NULL;
    int err = bgmq_job_json(job, &first);
    if (err)
        return err;
    OK(bgmq_job_json(job, &second));
    ck_assert_ptr_eq(first, second);
    return BGMQ_DONE;
}

static char *nested(int depth)
{
    char *text = malloc(2 * (size_t)depth + 1);
    ck_assert_ptr_nonnull(text);
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    text[2 * depth] = '\0';
    return text;
}

START_TEST(deep_json_is_refused_and_shallow_is_not)
{
    char *deep = nested(100000), *edge = nested(65), *shallow = nested(60);
    struct bgmq *mq = flow_open(0);
    OK(bgmq_register(mq, "T", parse_only, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", shallow);
    flow_expect(mq, "mq:T.outq", shallow);
    flow_publish(mq, "T", edge);
    flow_expect(mq, "mq:T.dlq", edge);
    flow_publish(mq, "T", deep);
    flow_expect(mq, "mq:T.dlq", deep);
    flow_close(mq);
    free(deep);
    free(edge);
    free(shallow);
}
END_TEST

START_TEST(bad_format_publishes_nothing)
{
    struct bgmq *mq = flow_open(0);
    FAILS(BGMQ_EJSON, bgmq_publish_json(mq, "T", NULL, NULL, "{s:", "a"));
    FAILS(BGMQ_EJSON, bgmq_publish_json(mq, "T", NULL, NULL, "{s:s}", "a", "\377"));
    struct bgmq_collection c;
    FAILS(BGMQ_ENOENT, bgmq_type_collection(mq, "T", &c));
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("handler");
    TCase *tc = flow_case(s, "calls");
    flow_add_both(tc, handler_calls_what_would_wait_for_itself);
    flow_add_both(tc, handlers_publish_for_their_own_type);
    flow_add_both(tc, handler_looks_takes_and_flushes);
    tc = flow_case(s, "json");
    flow_add_both(tc, unpack_reads_the_body);
    tcase_add_loop_test(tc, bad_json_is_refused_with_its_position, 0, 10);
    tcase_add_test(tc, deep_json_is_refused_and_shallow_is_not);
    tcase_add_test(tc, bad_format_publishes_nothing);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
