/* test_http_config.c - options of the admin: what is refused, with which words, and
 * that the rest is copied. */
#include "err.h"
#include "http_config.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const bad_hosts[][3] = {{"ok.example", "two words"}, {""}, {"a\r\nb"}};

static const struct {
    struct bgmq_http_options options;
    const char *word;
} bad[] = {
    {{.port = 65536}, "port"},
    {{.port = 80, .unix_socket = "s"}, "one of them"},
    {{.unix_socket = ""}, "empty"},
    {{.token = ""}, "token"},
    {{.token = "12345678901234567890x"}, "token"},
    {{.token = "0123456789abcdefABCDEF987654321"}, "token"},
    {{.token = "123456789012345678901234 x"}, "token"},
    {{.token = "123456789012345678901234\nx"}, "token"},
    {{.token = "123456789012345678901234\xc3\xa4"}, "token"},
    {{.token = "123456789012345678901234x", .token_file = "f"}, "one of them"},
    {{.token_file = "f", .token_env = "E"}, "one of them"},
    {{.hosts = bad_hosts[0]}, "host 2"},
    {{.hosts = bad_hosts[1]}, "host 1"},
    {{.hosts = bad_hosts[2]}, "host 1"},
};

START_TEST(bad_option_is_named)
{
    struct http_config config = {0};
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(bgmqi_http_config_init(&config, &bad[_i].options, &error),
                     BGMQ_EINVAL);
    ck_assert_msg(strstr(error.text, bad[_i].word) != NULL, "%s", error.text);
    if (bad[_i].options.token && *bad[_i].options.token)
        ck_assert_ptr_null(strstr(error.text, bad[_i].options.token));
}
END_TEST

START_TEST(bad_option_fails_start_and_mount)
{
    struct bgmq *mq = admin_service();
    struct bgmq_http *http = NULL;
    ck_assert_int_eq(bgmq_http_start(&http, mq, &bad[_i].options, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_http_mount(&http, mq, &bad[_i].options, NULL), BGMQ_EINVAL);
    ck_assert_ptr_null(http);
    bgmq_free(mq);
}
END_TEST

START_TEST(options_are_copied)
{
    char token[] = "12345678901234567890-x", path[] = "some/path", host[] = "a.example";
    const char *hosts[] = {host, NULL};
    struct http_config config = {0};
    struct bgmq_http_options options = {
        .token = token, .unix_socket = path, .hosts = hosts, .strict = 7};
    ck_assert_int_eq(bgmqi_http_config_init(&config, &options, NULL), 0);
    memset(token, 'x', sizeof token);
    memset(path, 'x', sizeof path);
    memset(host, 'x', sizeof host);
    hosts[0] = NULL;
    ck_assert_str_eq(config.token, "12345678901234567890-x");
    ck_assert_uint_eq(config.token_len, 22);
    ck_assert_str_eq(config.unix_socket, "some/path");
    ck_assert_str_eq(config.hosts[0], "a.example");
    ck_assert_ptr_null(config.hosts[1]);
    ck_assert_int_eq(config.strict, 1);
    bgmqi_http_config_fini(&config);
    ck_assert_ptr_null(config.token);
    bgmqi_http_config_fini(&config);
}
END_TEST

START_TEST(no_options_are_the_defaults)
{
    struct http_config config = {0};
    ck_assert_int_eq(bgmqi_http_config_init(&config, NULL, NULL), 0);
    ck_assert_uint_eq(config.port, 0);
    ck_assert_ptr_null(config.unix_socket);
    ck_assert_ptr_null(config.token);
    ck_assert_ptr_null(config.hosts);
    ck_assert_int_eq(config.strict, 0);
    bgmqi_http_config_fini(&config);
}
END_TEST

START_TEST(error_text_is_one_line)
{
    struct bgmq_error error;
    ck_assert_int_eq(bgmqi_err_set(&error, BGMQ_EHTTP, "a%sb", "\n\x1b[2J\x7f"),
                     BGMQ_EHTTP);
    ck_assert_str_eq(error.text, "a  [2J b");
    ck_assert_int_eq(bgmqi_err_set(NULL, BGMQ_EHTTP, "x"), BGMQ_EHTTP);
}
END_TEST

/* ---- arguments of the public functions ---- */

START_TEST(missing_arguments_are_refused)
{
    struct bgmq *mq = admin_service();
    struct bgmq_http *http = NULL;
    ck_assert_int_eq(bgmq_http_start(NULL, mq, NULL, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_http_start(&http, NULL, NULL, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_http_mount(NULL, mq, NULL, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_http_mount(&http, NULL, NULL, NULL), BGMQ_EINVAL);
    ck_assert_ptr_null(http);
    bgmq_http_stop(NULL);
    bgmq_free(mq);
}
END_TEST

START_TEST(closed_service_is_refused)
{
    struct bgmq *mq = admin_service();
    struct bgmq_http *http = NULL;
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(bgmq_close(mq), 0);
    ck_assert_int_eq(bgmq_http_start(&http, mq, NULL, &error), BGMQ_ECLOSED);
    ck_assert_str_ne(error.text, "");
    ck_assert_int_eq(bgmq_http_mount(&http, mq, NULL, NULL), BGMQ_ECLOSED);
    ck_assert_ptr_null(http);
    bgmq_free(mq);
}
END_TEST

/* What a child of fork() does with the parent's admin. */
static int child(struct admin *a)
{
    struct bgmq_http *http = NULL;
    if (bgmq_http_start(&http, a->mq, NULL, NULL) != BGMQ_EFORKED)
        return 1;
    bgmq_http_stop(a->http);
    return 0;
}

START_TEST(child_of_fork_leaves_the_admin_alone)
{
    struct admin a;
    int status;
    const char *path = harness_path("s");
    admin_start(&a, &(struct bgmq_http_options){.unix_socket = path}, NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(&a));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(access(path, F_OK), 0);
    close(client_connect_unix(path));
    admin_stop(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_config");
    TCase *tc = harness_case(s, "options");
    tcase_add_loop_test(tc, bad_option_is_named, 0, sizeof bad / sizeof bad[0]);
    tcase_add_loop_test(tc, bad_option_fails_start_and_mount, 0,
                        sizeof bad / sizeof bad[0]);
    tcase_add_test(tc, options_are_copied);
    tcase_add_test(tc, no_options_are_the_defaults);
    tcase_add_test(tc, error_text_is_one_line);
    tc = harness_case(s, "arguments");
    tcase_add_test(tc, missing_arguments_are_refused);
    tcase_add_test(tc, closed_service_is_refused);
    tcase_add_test(tc, child_of_fork_leaves_the_admin_alone);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
