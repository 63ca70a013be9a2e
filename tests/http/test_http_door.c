/* test_http_door.c - what the admin says and shows when the system lets nobody in.  accept4 is the
 * test's own here, on the thread that lets clients in: it answers when it may, with the errors it
 * was given, and then as the system does. */
#include "http.h"

#include "../../src/notice.h"
#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

static struct admin admin;
static struct harness_log kept;
static struct counter asked; /* accept4 was */
static struct gate may_answer;
static int errors[16]; /* ended by 0; set while nobody is at the door */
static _Atomic int given;
static _Atomic int stopping; /* the test's thread opens the gate by ending the reaper */
static pthread_t test;

int accept4(int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags)
{
    counter_add(&asked, 1);
    gate_wait(&may_answer);
    if (errors[given]) {
        errno = errors[given++];
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, addr.__sockaddr__, len, flags);
}

/* The reaper's thread is told in this way to end. */
int timerfd_settime(int fd, int flags, const struct itimerspec *new_value,
                    struct itimerspec *old_value)
{
    if (stopping && pthread_equal(pthread_self(), test))
        gate_open(&may_answer);
    return (int)syscall(SYS_timerfd_settime, fd, flags, new_value, old_value);
}

static void setup(void)
{
    struct bgmq_options options = {.log = harness_log_keep, .log_ctx = &kept};
    test = pthread_self();
    harness_log_init(&kept);
    counter_init(&asked);
    gate_init(&may_answer);
    gate_open(&may_answer);
    ck_assert_int_eq(bgmq_open(&admin.mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_http_start(&admin.http, admin.mq, NULL, NULL), 0);
    admin.port = bgmq_http_port(admin.http);
}

static void teardown(void)
{
    admin_stop(&admin);
    gate_fini(&may_answer);
    counter_fini(&asked);
    harness_log_fini(&kept);
}

static int shown(void)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(admin.mq, &c), 0);
    return c.admin;
}

/* The last client finds no descriptor while the admin is on its way to its end. */
START_TEST(admin_that_ends_while_it_fails_is_no_failed_one)
{
    errors[0] = errors[1] = EMFILE;
    gate_shut(&may_answer);
    int client = client_connect(admin.port);
    counter_wait(&asked, 1);
    stopping = 1;
    bgmq_http_stop(admin.http);
    admin.http = NULL;
    ck_assert_int_eq(given, 2);
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 1);
    ck_assert_int_eq(shown(), 0);
    close(client);
}
END_TEST

/* Others may start, end and mend meanwhile. */
START_TEST(admin_that_cannot_answer_is_shown_until_it_can)
{
    bgmqi_notice_tell(admin.mq, NOTICE_SHUT);
    ck_assert_int_eq(shown(), 2);
    bgmqi_notice_tell(admin.mq, NOTICE_BEGUN);
    ck_assert_int_eq(shown(), 2);
    bgmqi_notice_tell(admin.mq, NOTICE_SHUT);
    bgmqi_notice_tell(admin.mq, NOTICE_MENDED);
    ck_assert_int_eq(shown(), 2);
    bgmqi_notice_tell(admin.mq, NOTICE_ENDED);
    ck_assert_int_eq(shown(), 2);
    bgmqi_notice_tell(admin.mq, NOTICE_MENDED);
    ck_assert_int_eq(shown(), 1);
}
END_TEST

/* Only a start that succeeds makes up for one that did not. */
START_TEST(admin_that_could_not_start_is_shown_until_one_does)
{
    bgmqi_notice_tell(admin.mq, NOTICE_BEGUN);
    bgmqi_notice_tell(admin.mq, NOTICE_FAILED);
    bgmqi_notice_tell(admin.mq, NOTICE_SHUT);
    bgmqi_notice_tell(admin.mq, NOTICE_MENDED);
    ck_assert_int_eq(shown(), 2);
    bgmqi_notice_tell(admin.mq, NOTICE_ENDED);
    ck_assert_int_eq(shown(), 2);
    bgmqi_notice_tell(admin.mq, NOTICE_BEGUN);
    ck_assert_int_eq(shown(), 1);
    bgmqi_notice_tell(admin.mq, NOTICE_ENDED);
    ck_assert_int_eq(shown(), 1);
}
END_TEST

/* What accept(2) says of a connection that the network took away is not about us. */
START_TEST(who_has_gone_is_no_lack)
{
    static const int gone[] = {ENETDOWN, EPROTO,       ENOPROTOOPT, EHOSTDOWN,
                               ENONET,   EHOSTUNREACH, EOPNOTSUPP,  ENETUNREACH};
    const int n = sizeof gone / sizeof gone[0];
    memcpy(errors, gone, sizeof gone);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(given, n);
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 0);
    ck_assert_int_eq(shown(), 1);
}
END_TEST

static const struct {
    int errnum;
    const char *words;
} lacks[] = {
    {EMFILE, "Too many open files"},    {ENFILE, "Too many open files in system"},
    {ENOMEM, "Cannot allocate memory"}, {ENOBUFS, "No buffer space available"},
    {EPERM, "Operation not permitted"}, {EACCES, "Permission denied"},
};

/* Also a system that forbids it makes nobody busy: the next try is a second later. */
START_TEST(door_that_stays_shut_says_why)
{
    struct reply r;
    char line[128];
    errors[0] = errors[1] = lacks[_i].errnum;
    gate_shut(&may_answer);
    int client = client_connect(admin.port);
    client_text(client, "GET /mq/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    counter_wait(&asked, 1);
    int64_t start = harness_now();
    gate_open(&may_answer);
    client_read(client, &r);
    ck_assert_int_ge(harness_now() - start, 1000 * INT64_C(1000000));
    ck_assert_int_eq(r.status, 200);
    ck_assert_int_eq(counter_value(&asked), 3);
    snprintf(line, sizeof line, "admin: nobody can come in for now: %s", lacks[_i].words);
    ck_assert(harness_log_has(&kept, line));
    ck_assert_int_eq(shown(), 1);
    close(client);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_door");
    TCase *tc = harness_case(s, "shown");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, admin_that_ends_while_it_fails_is_no_failed_one);
    tcase_add_test(tc, admin_that_cannot_answer_is_shown_until_it_can);
    tcase_add_test(tc, admin_that_could_not_start_is_shown_until_one_does);
    tc = harness_case(s, "errors");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, who_has_gone_is_no_lack);
    tcase_add_loop_test(tc, door_that_stays_shut_says_why, 0,
                        sizeof lacks / sizeof lacks[0]);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
