/* test_http.c - the rows on requests of the list of bad inputs, each by the bytes on
 * the wire: who may read, who may start and stop, and what is not answered at all. */
#include "http.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct admin admin;

static void setup(void)
{
    admin_start(&admin, NULL, NULL);
    ck_assert_int_eq(bgmq_start(admin.mq), BGMQ_OK);
}

static void teardown(void)
{
    admin_stop(&admin);
}

/* The status of a request, which must not have changed whether the service runs. */
static int harmless(const char *method, const char *path, const char *headers)
{
    int before = bgmq_started(admin.mq);
    int status = client_status(admin.port, method, path, headers);
    ck_assert_int_eq(bgmq_started(admin.mq), before);
    return status;
}

/* Likewise for raw bytes. */
static int harmless_raw(const char *text)
{
    struct reply r;
    int before = bgmq_started(admin.mq);
    client_raw(admin.port, text, &r);
    ck_assert_int_eq(bgmq_started(admin.mq), before);
    return r.status;
}

/* The status of GET with exactly these header lines. */
static int with_head(const char *path, const char *lines)
{
    char text[2048];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n%s\r\n", path, lines);
    return harmless_raw(text);
}

/* ---- H1, H2: what curl does ---- */

/* H1. */
START_TEST(h01_stats_and_status_answer)
{
    struct reply r;
    ck_assert_int_eq(client_request(admin.port, "GET", "/mq/stats", "", &r), 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "text/plain; charset=utf-8");
    ck_assert_ptr_nonnull(strstr(r.body, "ALL WORKERS"));
    ck_assert_int_eq(client_request(admin.port, "GET", "/mq/status", "", &r), 200);
    ck_assert_str_eq(reply_header(&r, "Content-Type"), "text/plain; charset=utf-8");
    ck_assert_ptr_nonnull(strstr(r.body, "STATUS: Started"));
}
END_TEST

/* H1. */
START_TEST(h01_page_is_the_library_s_text)
{
    char *text;
    struct reply r;
    ck_assert_int_eq(bgmq_status_text(admin.mq, &text), 0);
    client_request(admin.port, "GET", "/mq/status", "", &r);
    ck_assert_str_eq(r.body, text);
    free(text);
}
END_TEST

/* H2, M9. */
START_TEST(h02_get_stops_and_starts)
{
    struct reply r;
    ck_assert_int_eq(client_request(admin.port, "GET", "/mq/stop",
                                    "User-Agent: curl/7.88.1\r\nAccept: */*\r\n", &r),
                     200);
    ck_assert_str_eq(r.body, "OK\n");
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
    ck_assert_int_eq(client_request(admin.port, "GET", "/mq/start", "", &r), 200);
    ck_assert_str_eq(r.body, "OK\n");
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H2. */
START_TEST(h02_typed_into_a_browserless_client_is_fine)
{
    ck_assert_int_eq(
        client_status(admin.port, "GET", "/mq/stop", "Sec-Fetch-Site: none\r\n"), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* ---- H3: what browsers send ---- */

static const char *const marks[] = {
    "Origin: http://evil.example\r\n",
    "Origin: null\r\n",
    "Origin: http://127.0.0.1:1\r\n",
    "Referer: http://evil.example/page\r\n",
    "Referer: http://127.0.0.1/\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
    "Sec-Fetch-Site: same-site\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n",
    "User-Agent: mozilla/5.0\r\n",
    "User-Agent: x\r\nUser-Agent: Mozilla/5.0\r\n",
    "Cookie: a=b\r\n",
    "X-Forwarded-For: 192.0.2.1\r\n",
    "Forwarded: for=192.0.2.1\r\n",
    "Via: 1.1 proxy\r\n",
};
enum { MARKS = sizeof marks / sizeof marks[0] };

/* H3. */
START_TEST(h03_browser_changes_nothing)
{
    ck_assert_int_eq(harmless("GET", "/mq/stop", marks[_i]), 403);
    ck_assert_int_eq(harmless("POST", "/mq/stop", marks[_i]), 403);
    ck_assert_int_eq(bgmq_request_stop(admin.mq), 0);
    ck_assert_int_eq(harmless("GET", "/mq/start", marks[_i]), 403);
    ck_assert_int_eq(harmless("POST", "/mq/start", marks[_i]), 403);
}
END_TEST

/* H3. */
START_TEST(h03_browser_may_read)
{
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", marks[_i]), 200);
}
END_TEST

/* H3. */
START_TEST(h03_form_post_of_a_page_is_refused)
{
    char text[512];
    snprintf(
        text, sizeof text,
        "POST /mq/stop HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nOrigin: http://evil.example\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b",
        admin.port);
    ck_assert_int_eq(harmless_raw(text), 403);
}
END_TEST

/* ---- H4: Host ---- */

static const struct {
    const char *lines;
    int status;
} hosts[] = {
    {"Host: 127.0.0.1\r\n", 200},
    {"Host: 127.0.0.1:8081\r\n", 200},
    {"Host: localhost\r\n", 200},
    {"Host: LocalHost:9\r\n", 200},
    {"Host: [::1]:8081\r\n", 200},
    {"Host: evil.example\r\n", 421},
    {"Host: 127.0.0.1.evil.example\r\n", 421},
    {"Host: localhost.evil.example\r\n", 421},
    {"Host: localhost.80\r\n", 421},
    {"Host: evil@127.0.0.1\r\n", 421},
    {"Host: 127.0.0.1@evil.example\r\n", 421},
    {"Host: 127.0.0.1:\r\n", 421},
    {"Host: 127.0.0.1:80x\r\n", 421},
    {"Host: 127.0.0.1:0\r\n", 421},
    {"Host: 127.0.0.1:65536\r\n", 421},
    {"Host: 127.0.0.1:99999999999999999999\r\n", 421},
    {"Host: localhost, evil.example\r\n", 421},
    {"Host: 127.1\r\n", 421},
    {"Host: 0.0.0.0\r\n", 421},
    {"Host: localhost.\r\n", 421},
    {"", 400},
    {"Host:\r\n", 400},
    {"Host : localhost\r\n", 400},
    {"Host: localhost\r\nHost: localhost\r\n", 400},
    {"Host: localhost\r\nHost: evil.example\r\n", 400},
    {"Host: evil.example\r\nhost: localhost\r\n", 400},
};

/* H4. */
START_TEST(h04_host_is_checked_on_every_path)
{
    ck_assert_int_eq(with_head("/mq/status", hosts[_i].lines), hosts[_i].status);
    ck_assert_int_eq(with_head("/mq/nothing", hosts[_i].lines),
                     hosts[_i].status == 200 ? 404 : hosts[_i].status);
    if (hosts[_i].status != 200) {
        ck_assert_int_eq(with_head("/mq/stop", hosts[_i].lines), hosts[_i].status);
    }
}
END_TEST

/* H4, M8. */
START_TEST(h04_no_host_in_http_1_0)
{
    struct reply r;
    ck_assert_int_eq(harmless_raw("GET /mq/stop HTTP/1.0\r\n\r\n"), 400);
    /* libmicrohttpd's own answer would have its headers twice. */
    client_raw(admin.port, "GET /mq/stop HTTP/1.1\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 400);
    ck_assert_int_eq(reply_count(&r, "Connection"), 1);
    ck_assert_int_eq(reply_count(&r, "Content-Length"), 1);
}
END_TEST

/* H4. */
START_TEST(h04_hosts_of_the_options)
{
    const char *const names[] = {"admin.example", "other.example:8443", NULL};
    struct admin a;
    struct reply r;
    admin_start(&a, &(struct bgmq_http_options){.hosts = names}, NULL);
    client_raw(a.port, "GET /mq/status HTTP/1.1\r\nHost: Admin.Example:81\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 200);
    client_raw(a.port, "GET /mq/status HTTP/1.1\r\nHost: other.example:8443\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 200);
    client_raw(a.port, "GET /mq/status HTTP/1.1\r\nHost: other.example\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 421);
    client_raw(a.port, "GET /mq/status HTTP/1.1\r\nHost: localhost\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 200);
    admin_stop(&a);
}
END_TEST

/* ---- H5: paths ---- */

static const char *const paths[] = {
    "http://127.0.0.1/mq/stop",
    "//mq/stop",
    "/mq//stop",
    "/mq/../mq/stop",
    "/mq/./stop",
    "/mq/stop/",
    "%2fmq%2fstop",
    "/mq%2fstop",
    "/%6dq/stop",
    "/mq/st%6fp",
    "/mq/stop%00",
    "/mq/stop%00/x",
    "/mq/stop%20",
    "/mq/stop%3f",
    "/mq/stop;x",
    "/mq/stop;",
    "/MQ/stop",
    "/mq/Stop",
    "/mq/stopp",
    "/mq/sto",
    "/mq/",
    "/mq",
    "/",
    "*",
    "mq/stop",
    "/mq/stop#x",
    "/favicon.ico",
};

/* H5, M6. */
START_TEST(h05_only_the_exact_path)
{
    ck_assert_int_eq(harmless("GET", paths[_i], ""), 404);
    ck_assert_int_eq(harmless("POST", paths[_i], ""), 404);
}
END_TEST

/* H5. */
START_TEST(h05_query_has_no_effect)
{
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/stop?dry=1&format=json", ""),
                     200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status?/mq/start", ""), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* ---- H6, H7: methods ---- */

static const char *const methods[] = {"PUT",   "DELETE", "BREW",  "get",   "Post",
                                      "PATCH", "TRACE",  "HEADX", "START", "OPTIONS"};

/* H6. */
START_TEST(h06_other_methods_are_refused)
{
    struct reply r;
    ck_assert_int_eq(harmless(methods[_i], "/mq/stop", ""), 405);
    client_request(admin.port, methods[_i], "/mq/stop", "", &r);
    ck_assert_str_eq(reply_header(&r, "Allow"), "GET, POST");
    client_request(admin.port, methods[_i], "/mq/status", "", &r);
    ck_assert_int_eq(r.status, 405);
    ck_assert_str_eq(reply_header(&r, "Allow"), "GET, HEAD");
}
END_TEST

/* H6. */
START_TEST(h06_post_starts_and_stops)
{
    ck_assert_int_eq(
        client_status(admin.port, "POST", "/mq/stop", "Content-Length: 0\r\n"), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", ""), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H6. */
START_TEST(h06_post_does_not_read)
{
    ck_assert_int_eq(harmless("POST", "/mq/status", ""), 405);
    ck_assert_int_eq(harmless("POST", "/mq/stats", ""), 405);
}
END_TEST

/* H6. */
START_TEST(h06_strict_leaves_post_alone)
{
    struct admin a;
    struct reply r;
    admin_start(&a, &(struct bgmq_http_options){.strict = 1}, NULL);
    ck_assert_int_eq(client_request(a.port, "GET", "/mq/start", "", &r), 405);
    ck_assert_str_eq(reply_header(&r, "Allow"), "POST");
    ck_assert_int_eq(bgmq_started(a.mq), 0);
    ck_assert_int_eq(client_status(a.port, "POST", "/mq/start", ""), 200);
    ck_assert_int_eq(bgmq_started(a.mq), 1);
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
}
END_TEST

/* H7. */
START_TEST(h07_head_changes_nothing)
{
    ck_assert_int_eq(harmless("HEAD", "/mq/stop", ""), 405);
    ck_assert_int_eq(bgmq_request_stop(admin.mq), 0);
    ck_assert_int_eq(harmless("HEAD", "/mq/start", ""), 405);
}
END_TEST

/* H7. */
START_TEST(h07_head_of_a_page_has_no_body)
{
    struct reply r;
    ck_assert_int_eq(client_request(admin.port, "HEAD", "/mq/status", "", &r), 200);
    ck_assert_uint_eq(r.len, 0);
    ck_assert_str_ne(reply_header(&r, "Content-Length"), "0");
    ck_assert_int_eq(client_request(admin.port, "HEAD", "/mq/stats", "", &r), 200);
    ck_assert_uint_eq(r.len, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http");
    TCase *tc = harness_case(s, "requests");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, h01_stats_and_status_answer);
    tcase_add_test(tc, h01_page_is_the_library_s_text);
    tcase_add_test(tc, h02_get_stops_and_starts);
    tcase_add_test(tc, h02_typed_into_a_browserless_client_is_fine);
    tcase_add_loop_test(tc, h03_browser_changes_nothing, 0, MARKS);
    tcase_add_loop_test(tc, h03_browser_may_read, 0, MARKS);
    tcase_add_test(tc, h03_form_post_of_a_page_is_refused);
    tcase_add_loop_test(tc, h04_host_is_checked_on_every_path, 0,
                        sizeof hosts / sizeof hosts[0]);
    tcase_add_test(tc, h04_no_host_in_http_1_0);
    tcase_add_test(tc, h04_hosts_of_the_options);
    tcase_add_loop_test(tc, h05_only_the_exact_path, 0, sizeof paths / sizeof paths[0]);
    tcase_add_test(tc, h05_query_has_no_effect);
    tcase_add_loop_test(tc, h06_other_methods_are_refused, 0,
                        sizeof methods / sizeof methods[0]);
    tcase_add_test(tc, h06_post_starts_and_stops);
    tcase_add_test(tc, h06_post_does_not_read);
    tcase_add_test(tc, h06_strict_leaves_post_alone);
    tcase_add_test(tc, h07_head_changes_nothing);
    tcase_add_test(tc, h07_head_of_a_page_has_no_body);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
