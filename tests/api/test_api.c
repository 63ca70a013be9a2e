/* test_api.c - the shipped shared library, as a program of a stranger sees it: this test
 * links nothing but libbgmq, so that a symbol left out of it is an error here. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_version_is_that_of_the_header)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", BGMQ_VERSION_MAJOR, BGMQ_VERSION_MINOR,
             BGMQ_VERSION_PATCH);
    ck_assert_str_eq(bgmq_version(), text);
}
END_TEST

START_TEST(test_each_error_has_a_name_and_a_text)
{
    for (int err = 0; err >= BGMQ_ECORRUPT; err--) {
        ck_assert_ptr_nonnull(bgmq_strerror(err));
        ck_assert_str_ne(bgmq_strerror(err), "");
        ck_assert_int_eq(strncmp(bgmq_errname(err), "BGMQ_", 5), 0);
        ck_assert_str_ne(bgmq_errname(err), "BGMQ_E?");
        for (int other = 0; other > err; other--)
            ck_assert_str_ne(bgmq_errname(err), bgmq_errname(other));
    }
}
END_TEST

START_TEST(test_unknown_codes_have_a_text_too)
{
    ck_assert_str_eq(bgmq_errname(1), "BGMQ_E?");
    ck_assert_str_eq(bgmq_errname(BGMQ_ECORRUPT - 1), "BGMQ_E?");
    ck_assert_ptr_nonnull(bgmq_strerror(1000));
    ck_assert_ptr_nonnull(bgmq_strerror(-1000));
}
END_TEST

static int answer(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    (void)ctx;
    return bgmq_job_respond(job, "Answer", body, len);
}

START_TEST(test_request_and_answer_through_the_shared_library)
{
    struct bgmq *mq;
    struct bgmq_message *m;
    size_t len;
    ck_assert_int_eq(bgmq_open(&mq, NULL, NULL), 0);
    ck_assert_int_eq(bgmq_register(mq, "Ask", answer, NULL, NULL), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_request(mq, "Ask", "why", 3, NULL, 10000, &m), 0);
    ck_assert_int_eq(strcmp(bgmq_message_body(m, &len), "why"), 0);
    ck_assert_uint_eq(len, 3);
    bgmq_message_free(m);
    bgmq_free(mq);
}
END_TEST

START_TEST(test_null_is_harmless_where_the_header_says_so)
{
    bgmq_free(NULL);
    bgmq_message_free(NULL);
    bgmq_http_stop(NULL);
    ck_assert_int_eq(bgmq_open(NULL, NULL, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_start(NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_close(NULL), BGMQ_EINVAL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("api");
    TCase *tc = harness_case(s, "shared");
    tcase_add_test(tc, test_version_is_that_of_the_header);
    tcase_add_test(tc, test_each_error_has_a_name_and_a_text);
    tcase_add_test(tc, test_unknown_codes_have_a_text_too);
    tcase_add_test(tc, test_request_and_answer_through_the_shared_library);
    tcase_add_test(tc, test_null_is_harmless_where_the_header_says_so);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
