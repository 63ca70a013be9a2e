/* test_http_token.c - the bearer token: what it is asked for, and what it is not. */
#include "http.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <stdio.h>
#include <string.h>

#define TOKEN "0123456789abcdef-Token"

static struct admin admin;

static void setup(void)
{
    admin_start(&admin, &(struct bgmq_http_options){.token = TOKEN}, NULL);
}

static void teardown(void)
{
    admin_stop(&admin);
}

static const char *const wrong[] = {
    "",
    "Authorization: Bearer\r\n",
    "Authorization: Bearer \r\n",
    "Authorization: Bearer x\r\n",
    "Authorization: Bearer 0123456789abcdef-Toke\r\n",
    "Authorization: Bearer 0123456789abcdef-Token0\r\n",
    "Authorization: Bearer 0123456789abcdef-token\r\n",
    "Authorization: Bearer 1123456789abcdef-Token\r\n",
    "Authorization: Bearer " TOKEN TOKEN "\r\n",
    "Authorization: Bearer " TOKEN " " TOKEN "\r\n",
    "Authorization: Bearer \"" TOKEN "\"\r\n",
    "Authorization: Basic " TOKEN "\r\n",
    "Authorization: " TOKEN "\r\n",
    "Authorization: Bearer" TOKEN "\r\n",
    "X-Authorization: Bearer " TOKEN "\r\n",
    "Cookie: token=" TOKEN "\r\n",
};

/* H12, M12. */
START_TEST(h12_wrong_token_is_401)
{
    static const char *const methods[] = {"GET", "POST"};
    struct reply r;
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(
            client_request(admin.port, methods[i], "/mq/start", wrong[_i], &r), 401);
        ck_assert_str_eq(reply_header(&r, "WWW-Authenticate"), "Bearer");
        ck_assert_ptr_null(strstr(r.bytes, TOKEN));
        ck_assert_int_eq(bgmq_started(admin.mq), 0);
    }
}
END_TEST

/* H12. */
START_TEST(h12_long_token_is_401)
{
    char header[8000];
    memcpy(header, "Authorization: Bearer ", 22);
    memset(header + 22, 'a', 7000);
    strcpy(header + 7022, "\r\n");
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", header), 401);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* H12. */
START_TEST(h12_token_in_the_query_is_not_one)
{
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start?token=" TOKEN, ""),
                     401);
    ck_assert_int_eq(
        client_status(admin.port, "POST", "/mq/start?access_token=" TOKEN, ""), 401);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* H12. */
START_TEST(right_token_starts_and_stops)
{
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start",
                                   "Authorization: Bearer " TOKEN "\r\n"),
                     200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/stop",
                                   "authorization: bearer " TOKEN "\r\n"),
                     200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

START_TEST(token_comes_before_marks_of_a_browser)
{
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start",
                                   "Authorization: Bearer " TOKEN "\r\n"
                                   "User-Agent: Mozilla/5.0\r\nCookie: a=b\r\n"
                                   "Sec-Fetch-Site: same-origin\r\n"),
                     200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

START_TEST(token_does_not_help_another_origin)
{
    static const char *const origins[] = {"http://evil.example", "null",
                                          "http://localhost:1",  "https://127.0.0.1",
                                          "file://127.0.0.1",    ""};
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        char headers[256];
        snprintf(headers, sizeof headers,
                 "Authorization: Bearer " TOKEN "\r\nOrigin: %s\r\n", origins[i]);
        ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", headers), 403);
        ck_assert_int_eq(bgmq_started(admin.mq), 0);
    }
}
END_TEST

START_TEST(token_and_the_same_origin)
{
    char headers[256];
    snprintf(headers, sizeof headers,
             "Authorization: Bearer " TOKEN "\r\nOrigin: http://127.0.0.1:%u\r\n",
             admin.port);
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", headers), 200);
}
END_TEST

START_TEST(token_does_not_help_another_host)
{
    struct reply r;
    ck_assert_int_eq(client_raw(admin.port,
                                "POST /mq/start HTTP/1.1\r\nHost: evil.example\r\n"
                                "Authorization: Bearer " TOKEN "\r\n\r\n",
                                &r),
                     421);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

START_TEST(two_tokens_are_400)
{
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start",
                                   "Authorization: Bearer " TOKEN "\r\n"
                                   "Authorization: Bearer " TOKEN "\r\n"),
                     400);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

START_TEST(reading_on_loopback_needs_no_token)
{
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/stats", ""), 200);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_token");
    TCase *tc = harness_case(s, "token");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, h12_wrong_token_is_401, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tc, h12_long_token_is_401);
    tcase_add_test(tc, h12_token_in_the_query_is_not_one);
    tcase_add_test(tc, right_token_starts_and_stops);
    tcase_add_test(tc, token_comes_before_marks_of_a_browser);
    tcase_add_test(tc, token_does_not_help_another_origin);
    tcase_add_test(tc, token_and_the_same_origin);
    tcase_add_test(tc, token_does_not_help_another_host);
    tcase_add_test(tc, two_tokens_are_400);
    tcase_add_test(tc, reading_on_loopback_needs_no_token);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
