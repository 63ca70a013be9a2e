/* test_http_refuse.c - what refused requests cost, what the log says of them, and what status
 * says of an admin that cannot serve. */
#include "http_throttle.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN "0123456789abcdef-Token"
#define RIGHT "Authorization: Bearer " TOKEN "\r\n"
#define WRONG "Authorization: Bearer 0123456789abcdef-token\r\n"

static const int64_t MS = 1000000;

static struct admin admin;
static struct harness_log kept;

static void begin(const char *token)
{
    struct bgmq_options options = {.log = harness_log_keep, .log_ctx = &kept};
    harness_log_init(&kept);
    ck_assert_int_eq(bgmq_open(&admin.mq, &options, NULL), 0);
    struct bgmq_http_options http = {.token = token};
    ck_assert_int_eq(bgmq_http_start(&admin.http, admin.mq, &http, NULL), 0);
    admin.port = bgmq_http_port(admin.http);
}

static void setup(void)
{
    begin(NULL);
}

static void setup_token(void)
{
    begin(TOKEN);
}

static void teardown(void)
{
    admin_stop(&admin);
    harness_log_fini(&kept);
}

/* ---- counting, by a clock of the test's ---- */

START_TEST(throttle_counts_by_the_second)
{
    struct http_throttle t = {.failures = 0};
    int64_t now = 5000 * MS;
    bgmqi_http_throttle_init(&t);
    for (int second = 0; second < 3; second++, now += 1000 * MS)
        for (int i = 0; i < 30; i++) {
            struct http_strain s = bgmqi_http_throttle_note(&t, now + i * MS, 1);
            ck_assert_uint_eq(s.wait_ms, i < THROTTLE_FREE ? 0 : THROTTLE_WAIT_MS);
            ck_assert_int_eq(s.log, i == 0);
            ck_assert_uint_eq(s.silent, i == 0 && second > 0 ? 29 : 0);
        }
    bgmqi_http_throttle_fini(&t);
}
END_TEST

START_TEST(throttle_slows_only_guesses)
{
    struct http_throttle t = {.failures = 0};
    bgmqi_http_throttle_init(&t);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(bgmqi_http_throttle_note(&t, 5000 * MS + i, 0).wait_ms, 0);
    for (int i = 0; i < THROTTLE_FREE; i++)
        ck_assert_uint_eq(bgmqi_http_throttle_note(&t, 5001 * MS + i, 1).wait_ms, 0);
    ck_assert_uint_ne(bgmqi_http_throttle_note(&t, 5002 * MS, 1).wait_ms, 0);
    bgmqi_http_throttle_fini(&t);
}
END_TEST

/* ---- H13 on the wire ---- */

/* H13. */
START_TEST(h13_eleventh_wrong_token_waits_a_second)
{
    int64_t start = harness_now();
    for (int i = 0; i < THROTTLE_FREE; i++)
        ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", WRONG), 401);
    if (harness_now() - start > 900 * MS)
        HARNESS_SKIP("too slow here for ten requests in a second");
    int64_t before = harness_now();
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", WRONG), 401);
    ck_assert_int_ge(harness_now() - before, 990 * MS);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* Makes the next wrong token wait, and sends it; returns its connection. */
static int guess_and_wait(void)
{
    for (int i = 0; i < THROTTLE_FREE; i++)
        client_status(admin.port, "POST", "/mq/start", WRONG);
    int fd = client_connect(admin.port);
    client_text(fd, "POST /mq/start HTTP/1.1\r\nHost: localhost\r\n" WRONG "\r\n");
    return fd;
}

/* H13.  The guesser's wait is nobody else's. */
START_TEST(h13_others_do_not_wait)
{
    struct reply r;
    for (int i = 0; i < 3; i++) {
        int guess = guess_and_wait();
        int64_t start = harness_now();
        ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
        ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", RIGHT), 200);
        ck_assert_int_lt(harness_now() - start, 900 * MS * harness_scale());
        client_read(guess, &r);
        ck_assert_int_eq(r.status, 401);
        close(guess);
    }
}
END_TEST

/* H13.  Nor that of a request which is half here already, or of the one who stops the admin. */
START_TEST(h13_open_connections_do_not_wait)
{
    struct reply r;
    int half = client_connect(admin.port);
    client_text(half, "GET /mq/status HTTP/1.1\r\n");
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    int guess = guess_and_wait();
    int64_t start = harness_now();
    client_text(half, "Host: localhost\r\n\r\n");
    client_read(half, &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert_int_lt(harness_now() - start, 900 * MS * harness_scale());
    close(half);
    close(guess);
    guess = guess_and_wait();
    start = harness_now();
    bgmq_http_stop(admin.http);
    admin.http = NULL;
    ck_assert_int_lt(harness_now() - start, 900 * MS * harness_scale());
    close(guess);
}
END_TEST

/* H13. */
START_TEST(h13_one_line_a_second)
{
    int64_t start = harness_now();
    int fds[THROTTLE_FREE * 3];
    for (int i = 0; i < THROTTLE_FREE * 3; i++) {
        fds[i] = client_connect(admin.port);
        client_text(fds[i], "GET /mq/stop HTTP/1.1\r\nHost: localhost\r\n" WRONG "\r\n");
    }
    for (int i = 0; i < THROTTLE_FREE * 3; i++) {
        client_closed(fds[i], start);
        close(fds[i]);
    }
    long seconds = (long)((harness_now() - start) / (1000 * MS));
    long lines = harness_log_count(&kept, BGMQ_LOG_WARNING);
    ck_assert_int_ge(lines, 1);
    ck_assert_int_le(lines, seconds + 1);
    ck_assert(
        harness_log_has(&kept, "admin: refused 1, the last with 401: GET '/mq/stop'"));
    ck_assert(!harness_log_has(&kept, "0123456789abcdef"));
}
END_TEST

/* ---- the log ---- */

/* H14. */
START_TEST(h14_what_a_client_says_is_one_printable_line)
{
    struct reply r;
    client_raw(admin.port,
               "GET /mq/\x1b[2J\xff HTTP/1.1\r\nHost: evil\r\n"
               "User-Agent: a\x1b]0;x\x07\xc3\x28\r\n\r\n",
               &r);
    ck_assert_int_eq(r.status, 421);
    ck_assert(
        harness_log_has(&kept, "GET '/mq/\\x1b[2J\\xff' from 'a\\x1b]0;x\\x07\\xc3('"));
    for (size_t i = 0; i < kept.len; i++)
        ck_assert(kept.text[i] == '\n' || (kept.text[i] >= ' ' && kept.text[i] < 0x7f));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 1);
}
END_TEST

/* H14. */
START_TEST(h14_words_of_a_client_are_cut)
{
    char text[4096] = "GET /", wanted[300];
    struct reply r;
    memset(text + 5, 'u', 1000);
    strcpy(text + 1005, " HTTP/1.1\r\nHost: evil\r\nUser-Agent: ");
    size_t len = strlen(text);
    memset(text + len, 'g', 1000);
    strcpy(text + len + 1000, "\r\n\r\n");
    client_raw(admin.port, text, &r);
    memset(wanted, 'u', 255);
    strcpy(wanted + 255, "' from 'g");
    ck_assert(harness_log_has(&kept, wanted));
    memset(wanted, 'g', 256);
    strcpy(wanted + 256, "'");
    ck_assert(harness_log_has(&kept, wanted));
    ck_assert_uint_lt(kept.len, 1024);
}
END_TEST

START_TEST(who_starts_and_stops_is_in_the_log)
{
    ck_assert_int_eq(
        client_status(admin.port, "POST", "/mq/start", "User-Agent: ops/1\r\n"), 200);
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/stop",
                                   "User-Agent: b\x1b\r\nContent-Length: 0\r\n"),
                     200);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    ck_assert(harness_log_has(&kept, "admin: /mq/start asked for by 'ops/1'"));
    ck_assert(harness_log_has(&kept, "admin: /mq/stop asked for by 'b\\x1b'"));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 0);
}
END_TEST

START_TEST(many_who_start_and_stop_are_one_line_a_second)
{
    enum { MANY = 50 };
    int64_t start = harness_now();
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", ""), 200);
        ck_assert_int_eq(
            client_status(admin.port, "POST", "/mq/stop", "Content-Length: 0\r\n"), 200);
    }
    long seconds = (long)((harness_now() - start) / (1000 * MS)), lines = 0;
    ck_assert(harness_log_has(&kept, "admin: /mq/stop asked for"));
    for (const char *at = kept.text; (at = strstr(at, "asked for by")) != NULL; at++)
        lines++;
    ck_assert_int_ge(lines, 2);
    ck_assert_int_le(lines, 2 * (seconds + 1));
    while (!harness_log_has(&kept, "times since the last line"))
        ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", ""), 200);
}
END_TEST

/* ---- status ---- */

static int shown(struct bgmq *mq)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    return c.admin;
}

START_TEST(admin_that_fails_leaves_the_queue_alone)
{
    struct bgmq *mq = admin_service();
    struct bgmq_http *http = NULL;
    char *text;
    ck_assert_int_eq(shown(mq), 0);
    ck_assert_int_eq(
        bgmq_http_start(&http, mq, &(struct bgmq_http_options){.port = admin.port}, NULL),
        BGMQ_EHTTP);
    ck_assert_int_eq(shown(mq), 2);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_status_json(mq, &text), 0);
    ck_assert_ptr_nonnull(strstr(text, "\"status\":\"Started\""));
    ck_assert_ptr_nonnull(strstr(text, "\"admin\":\"failed\""));
    free(text);
    ck_assert_int_eq(bgmq_http_start(&http, mq, NULL, NULL), 0);
    ck_assert_int_eq(shown(mq), 1);
    bgmq_http_stop(http);
    ck_assert_int_eq(shown(mq), 0);
    bgmq_free(mq);
}
END_TEST

START_TEST(wrong_options_are_no_failed_admin)
{
    struct bgmq_http *http = NULL;
    ck_assert_int_eq(bgmq_http_start(&http, admin.mq,
                                     &(struct bgmq_http_options){.token = "weak"}, NULL),
                     BGMQ_EINVAL);
    ck_assert_int_eq(shown(admin.mq), 1);
    ck_assert_int_eq(bgmq_http_mount(&http, admin.mq, NULL, NULL), 0);
    bgmq_http_stop(http);
    ck_assert_int_eq(shown(admin.mq), 1);
}
END_TEST

static int fail_with_words(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_fail(job, BGMQ_PERMANENT, "SECRETCODE", "SECRETTEXT <script>");
}

/* H15, A20.  Neither bodies nor errors are on any page, so there is nothing to escape. */
START_TEST(h15_pages_hold_no_body_and_no_error)
{
    static const char *const pages[] = {
        "/mq/status", "/mq/stats", "/mq/status?format=json", "/mq/stats?format=json"};
    struct bgmq_stats stats = {.failed = 0};
    struct reply r;
    ck_assert_int_eq(bgmq_register(admin.mq, "T", fail_with_words, NULL, NULL), 0);
    ck_assert_int_eq(bgmq_start(admin.mq), 0);
    ck_assert_int_eq(bgmq_publish(admin.mq, "T", "SECRETBODY", 10, NULL, NULL), 0);
    WAIT_UNTIL(bgmq_total_stats(admin.mq, &stats) == 0 && stats.failed == 1);
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        ck_assert_int_eq(client_request(admin.port, "GET", pages[i], "", &r), 200);
        ck_assert_ptr_null(strstr(r.bytes, "SECRET"));
        ck_assert_ptr_null(strchr(r.body, '<'));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_refuse");
    TCase *tc = harness_case(s, "throttle");
    tcase_add_test(tc, throttle_counts_by_the_second);
    tcase_add_test(tc, throttle_slows_only_guesses);
    tc = harness_case(s, "guesses");
    tcase_add_checked_fixture(tc, setup_token, teardown);
    tcase_add_test(tc, h13_eleventh_wrong_token_waits_a_second);
    tcase_add_test(tc, h13_others_do_not_wait);
    tcase_add_test(tc, h13_open_connections_do_not_wait);
    tcase_add_test(tc, h13_one_line_a_second);
    tc = harness_case(s, "log");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, h14_what_a_client_says_is_one_printable_line);
    tcase_add_test(tc, h14_words_of_a_client_are_cut);
    tcase_add_test(tc, who_starts_and_stops_is_in_the_log);
    tcase_add_test(tc, many_who_start_and_stop_are_one_line_a_second);
    tc = harness_case(s, "status");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, admin_that_fails_leaves_the_queue_alone);
    tcase_add_test(tc, wrong_options_are_no_failed_admin);
    tcase_add_test(tc, h15_pages_hold_no_body_and_no_error);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
