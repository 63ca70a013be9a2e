/* test_error.c - how an attempt ends badly, and what is noted of it. */
#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int return_number(struct bgmq_job *job, void *ctx)
{
    return *(const int *)ctx;
}

/* A13. */
START_TEST(undefined_return_code_is_a_failed_attempt_and_logged)
{
    static const int strange[] = {5, 77, 1000000, -9999};
    struct harness_log log;
    harness_log_init(&log);
    int answer = strange[_i];
    struct bgmq *mq =
        flow_open_with(0, SERVICE(.log = harness_log_keep, .log_ctx = &log));
    OK(bgmq_register(mq, "T", return_number, &answer,
                     &TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_expect(mq, "mq:T.dlq", "x");
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 2);
    ck_assert_uint_eq(flow_stats(mq, "T").retries, 1);
    flow_close(mq);
    char number[16];
    snprintf(number, sizeof(number), "%d", answer);
    ck_assert_msg(harness_log_has(&log, number), "no line names %s:\n%s", number,
                  log.text);
    harness_log_fini(&log);
}
END_TEST

static void expect_dead_with(struct bgmq *mq, const char *code, uint64_t attempts)
{
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), code);
    ck_assert_uint_eq(bgmq_message_attempts(m), attempts);
    flow_done(m);
}

START_TEST(negative_error_is_retried_with_its_name_as_code)
{
    int answer = BGMQ_ENOENT;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", return_number, &answer,
                     &TYPE(.max_attempts = 3, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    expect_dead_with(mq, "BGMQ_ENOENT", 3);
    flow_close(mq);
}
END_TEST

START_TEST(bad_json_is_permanent)
{
    int answer = BGMQ_EJSON;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", return_number, &answer, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    expect_dead_with(mq, "BGMQ_EJSON", 1);
    flow_close(mq);
}
END_TEST

static char *huge_text(const char *start)
{
    size_t size = 1024 * 1024, len = strlen(start);
    char *text = malloc(size + 1);
    ck_assert_ptr_nonnull(text);
    memcpy(text, start, len);
    for (; len + 2 <= size; len += 2)
        memcpy(text + len, "\303\251", 2);
    text[len] = '\0';
    return text;
}

/* A20.  The bytes before the two-byte characters are an odd number, so that 1024 is in
 * the middle of one. */
START_TEST(error_text_is_kept_raw_and_cut_on_a_border)
{
    static const char start[] = "\r\n\033[31m<script>";
    char code[101];
    memset(code, 'c', 100);
    code[100] = '\0';
    char *text = huge_text(start);
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    r.code = code;
    r.text = text;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
    }
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    const char *kept = bgmq_message_error_text(m);
    size_t len = strlen(kept);
    ck_assert_uint_eq(strlen(start) % 2, 1);
    ck_assert_uint_eq(len, 1023);
    ck_assert_mem_eq(kept, text, len);
    ck_assert_uint_eq(strlen(bgmq_message_error_code(m)), 64);
    flow_done(m);
    flow_close(mq);
    recorder_fini(&r);
    free(text);
}
END_TEST

static int fail_with_number(struct bgmq_job *job, void *ctx)
{
    return bgmq_job_fail(job, BGMQ_RETRY, "Again", "attempt %u", bgmq_job_attempt(job));
}

START_TEST(error_of_the_last_attempt_is_the_one_kept)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", fail_with_number, NULL,
                     &TYPE(.max_attempts = 3, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "Again");
    ck_assert_str_eq(bgmq_message_error_text(m), "attempt 3");
    flow_done(m);
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("error");
    TCase *tc = flow_case(s, "what is noted");
    tcase_add_loop_test(tc, undefined_return_code_is_a_failed_attempt_and_logged, 0, 4);
    flow_add_both(tc, negative_error_is_retried_with_its_name_as_code);
    flow_add_both(tc, bad_json_is_permanent);
    flow_add_both(tc, error_text_is_kept_raw_and_cut_on_a_border);
    flow_add_both(tc, error_of_the_last_attempt_is_the_one_kept);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
