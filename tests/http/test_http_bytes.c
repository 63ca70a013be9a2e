/* test_http_bytes.c - the rows on framing of the list of bad inputs: bodies, lengths,
 * what follows a request, and clients that go before the answer comes. */
#include "http.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"

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

static int raw(const char *text)
{
    struct reply r;
    return client_raw(admin.port, text, &r);
}

/* Sends POST /mq/stop with these lines and LEN bytes of body; returns the status. */
static int post_body(const char *lines, size_t len)
{
    char *text = malloc(512 + len);
    struct reply r;
    ck_assert_ptr_nonnull(text);
    int n = snprintf(text, 512, "POST /mq/stop HTTP/1.1\r\n" HOST "%s\r\n", lines);
    memset(text + n, 'x', len);
    int fd = client_connect(admin.port);
    client_send(fd, text, (size_t)n + len);
    client_read(fd, &r);
    close(fd);
    free(text);
    return r.status;
}

/* ---- H8: bodies ---- */

/* H8. */
START_TEST(h08_small_body_is_ignored)
{
    ck_assert_int_eq(post_body("Content-Length: 1\r\n", 1), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* H8. */
START_TEST(h08_4096_bytes_are_not_too_many)
{
    ck_assert_int_eq(post_body("Content-Length: 4096\r\n", 4096), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* H8. */
START_TEST(h08_body_of_4097_bytes_is_413)
{
    ck_assert_int_eq(post_body("Content-Length: 4097\r\n", 4097), 413);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H8. */
START_TEST(h08_megabytes_are_not_read)
{
    ck_assert_int_eq(post_body("Content-Length: 4000000\r\n", 4000000), 413);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H8. */
START_TEST(h08_announced_and_not_sent_is_413_at_once)
{
    ck_assert_int_eq(post_body("Content-Length: 99999999\r\n", 0), 413);
}
END_TEST

/* H8. */
START_TEST(h08_waits_for_the_whole_body)
{
    struct reply r;
    int fd = client_connect(admin.port);
    client_text(fd, "POST /mq/stop HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    /* What another connection is answered shows that the daemon has been round. */
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
    client_text(fd, "cde");
    client_read(fd, &r);
    close(fd);
    ck_assert_int_eq(r.status, 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

static const char *const framings[] = {
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding:\r\n",
    "transfer-encoding: Chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 0\r\nContent-Length: 60\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: five\r\n",
};

/* H8, M5. */
START_TEST(h08_framing_in_doubt_is_400)
{
    ck_assert_int_eq(post_body(framings[_i], 0), 400);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H8. */
START_TEST(h08_length_beyond_numbers_is_no_success)
{
    int status = post_body("Content-Length: 99999999999999999999999\r\n", 0);
    ck_assert_msg(status == 400 || status == 413, "%d", status);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

static const char *const twice[] = {
    "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    "Origin: http://localhost\r\nOrigin: http://localhost\r\n",
};

/* H8, M7. */
START_TEST(h08_header_that_may_come_once)
{
    char text[512];
    snprintf(text, sizeof text, "GET /mq/status HTTP/1.1\r\n" HOST "%s\r\n", twice[_i]);
    ck_assert_int_eq(raw(text), 400);
}
END_TEST

/* H8. */
START_TEST(h08_expect_100_is_answered)
{
    struct reply r;
    int fd = client_connect(admin.port);
    client_text(fd, "POST /mq/stop HTTP/1.1\r\n" HOST
                    "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    char line[12];
    ck_assert_int_eq(recv(fd, line, sizeof line, MSG_WAITALL), 12);
    ck_assert_int_eq(memcmp(line, "HTTP/1.1 100", 12), 0);
    client_text(fd, "ab");
    client_read(fd, &r);
    close(fd);
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
}
END_TEST

/* ---- H9: size of the head ---- */

/* H9. */
START_TEST(h09_long_header_line_is_refused)
{
    size_t len = 64 * 1024;
    char *text = malloc(len + 256);
    struct reply r;
    ck_assert_ptr_nonnull(text);
    int n = sprintf(text, "GET /mq/status HTTP/1.1\r\n" HOST "X: ");
    memset(text + n, 'a', len);
    strcpy(text + n + len, "\r\n\r\n");
    client_raw(admin.port, text, &r);
    free(text);
    ck_assert_int_eq(r.status, 431);
}
END_TEST

/* H9. */
START_TEST(h09_many_headers_are_refused)
{
    char *text = malloc(3000 * 6 + 256);
    struct reply r;
    ck_assert_ptr_nonnull(text);
    char *p = text + sprintf(text, "GET /mq/status HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 3000; i++)
        p += sprintf(p, "X: a\r\n");
    strcpy(p, "\r\n");
    client_raw(admin.port, text, &r);
    free(text);
    ck_assert_int_eq(r.status, 431);
}
END_TEST

/* H9. */
START_TEST(h09_long_url_is_refused)
{
    size_t len = 60 * 1024;
    char *text = malloc(len + 256);
    struct reply r;
    ck_assert_ptr_nonnull(text);
    int n = sprintf(text, "GET /mq/stop?");
    memset(text + n, 'a', len);
    strcpy(text + n + len, " HTTP/1.1\r\n" HOST "\r\n");
    client_raw(admin.port, text, &r);
    free(text);
    ck_assert_int_eq(r.status, 414);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* ---- what follows a request ---- */

/* M4, M5. */
START_TEST(second_request_of_a_connection_is_not_read)
{
    struct reply r;
    client_raw(admin.port,
               "GET /mq/status HTTP/1.1\r\n" HOST "\r\n"
               "GET /mq/stop HTTP/1.1\r\n" HOST "\r\n",
               &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_null(strstr(r.body, "HTTP/1.1"));
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H8, M5. */
START_TEST(request_hidden_in_a_body_is_not_run)
{
    ck_assert_int_eq(
        raw("GET /mq/status HTTP/1.1\r\n" HOST
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            "POST /mq/stop HTTP/1.1\r\n" HOST "\r\n"),
        400);
    ck_assert_int_eq(raw("GET /mq/status HTTP/1.1\r\n" HOST "Content-Length: 41\r\n\r\n"
                         "POST /mq/stop HTTP/1.1\r\n" HOST "\r\n"),
                     200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* ---- H14, H17 ---- */

/* H14. */
START_TEST(h14_control_bytes_do_no_harm)
{
    ck_assert_int_eq(raw("GET /mq/\x1b[2J\xff\xfe HTTP/1.1\r\n" HOST
                         "User-Agent: \x1b]0;x\x07\xc3\x28\r\nX: \xf0\x9f\r\n\r\n"),
                     404);
    ck_assert_int_eq(raw("GET /mq/stop\x7f HTTP/1.1\r\n" HOST "\r\n"), 404);
    ck_assert_int_eq(raw("GET /mq/%0d%0aX:%20y HTTP/1.1\r\n" HOST "\r\n"), 404);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H14. */
START_TEST(h14_noise_is_not_answered_with_success)
{
    unsigned seed = 1;
    for (int round = 0; round < 200; round++) {
        char noise[256];
        for (size_t i = 0; i < sizeof noise; i++) {
            seed = seed * 1103515245 + 12345;
            noise[i] = (char)(seed >> 16);
        }
        struct reply r;
        int fd = client_connect(admin.port);
        client_send(fd, noise, sizeof noise);
        client_text(fd, "\r\n\r\n");
        shutdown(fd, SHUT_WR);
        client_read(fd, &r);
        close(fd);
        ck_assert_int_ne(r.status, 200);
    }
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

static volatile sig_atomic_t pipes;

static void on_pipe(int sig)
{
    (void)sig;
    pipes = pipes + 1;
}

/* Closes with a reset, so that the server's write fails. */
static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

/* H17, P12. */
START_TEST(h17_client_gone_before_the_answer)
{
    signal(SIGPIPE, on_pipe);
    for (int i = 0; i < 200; i++) {
        int fd = client_connect(admin.port);
        client_text(fd, "GET /mq/status HTTP/1.1\r\n" HOST "\r\n");
        reset(fd);
    }
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(pipes, 0);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* H17. */
START_TEST(h17_gone_at_each_byte)
{
    static const char text[] =
        "POST /mq/start HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc";
    for (size_t len = 0; len < sizeof text; len++) {
        int fd = client_connect(admin.port);
        client_send(fd, text, len);
        reset(fd);
    }
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
}
END_TEST

START_TEST(half_closed_client_is_answered)
{
    struct reply r;
    int fd = client_connect(admin.port);
    client_text(fd, "GET /mq/status HTTP/1.1\r\n" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    client_read(fd, &r);
    close(fd);
    ck_assert_int_eq(r.status, 200);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_bytes");
    TCase *tc = harness_case(s, "bytes");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, h08_small_body_is_ignored);
    tcase_add_test(tc, h08_4096_bytes_are_not_too_many);
    tcase_add_test(tc, h08_body_of_4097_bytes_is_413);
    tcase_add_test(tc, h08_megabytes_are_not_read);
    tcase_add_test(tc, h08_announced_and_not_sent_is_413_at_once);
    tcase_add_test(tc, h08_waits_for_the_whole_body);
    tcase_add_loop_test(tc, h08_framing_in_doubt_is_400, 0,
                        sizeof framings / sizeof framings[0]);
    tcase_add_test(tc, h08_length_beyond_numbers_is_no_success);
    tcase_add_loop_test(tc, h08_header_that_may_come_once, 0,
                        sizeof twice / sizeof twice[0]);
    tcase_add_test(tc, h08_expect_100_is_answered);
    tcase_add_test(tc, h09_long_header_line_is_refused);
    tcase_add_test(tc, h09_many_headers_are_refused);
    tcase_add_test(tc, h09_long_url_is_refused);
    tcase_add_test(tc, second_request_of_a_connection_is_not_read);
    tcase_add_test(tc, request_hidden_in_a_body_is_not_run);
    tcase_add_test(tc, h14_control_bytes_do_no_harm);
    tcase_add_test(tc, h14_noise_is_not_answered_with_success);
    tcase_add_test(tc, h17_client_gone_before_the_answer);
    tcase_add_test(tc, h17_gone_at_each_byte);
    tcase_add_test(tc, half_closed_client_is_answered);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
