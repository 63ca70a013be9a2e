/* test_http_limits.c - slow clients and many clients: the absolute deadline, the idle
 * time-out, the limit of connections, and that nothing is left of any of them. */
#include "http.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"

static const int64_t MS = 1000000;

/* Sends TEXT, then one byte of "a" every 20 ms until the server closes; returns how
 * long it stayed, in milliseconds. */
static int64_t trickle(unsigned port, const char *text)
{
    int64_t start = harness_now(), deadline = harness_deadline();
    int fd = client_connect(port);
    client_text(fd, text);
    for (;;) {
        ck_assert_msg(harness_now() < deadline, "the connection stays for ever");
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) == 1 || !client_send(fd, "a", 1))
            break;
    }
    int64_t stayed = client_closed(fd, start);
    close(fd);
    return stayed / MS;
}

/* H10, M3. */
START_TEST(h10_slow_header_ends_at_the_deadline)
{
    struct admin a;
    admin_start(&a, NULL, &(struct http_limits){.deadline_ms = 300});
    int64_t stayed = trickle(a.port, "GET /mq/stop HTTP/1.1\r\n" HOST "X-Slow: ");
    ck_assert_int_ge(stayed, 299);
    ck_assert_int_lt(stayed, 3000 * harness_scale());
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
}
END_TEST

/* H10, M3. */
START_TEST(h10_slow_body_ends_at_the_deadline)
{
    struct admin a;
    admin_start(&a, NULL, &(struct http_limits){.deadline_ms = 300});
    ck_assert_int_eq(bgmq_start(a.mq), 0);
    int64_t stayed =
        trickle(a.port, "POST /mq/stop HTTP/1.1\r\n" HOST "Content-Length: 4000\r\n\r\n");
    ck_assert_int_ge(stayed, 299);
    ck_assert_int_eq(bgmq_started(a.mq), 1);
    admin_stop(&a);
}
END_TEST

/* H10. */
START_TEST(h10_silent_client_ends_at_the_deadline)
{
    struct admin a;
    admin_start(&a, NULL, &(struct http_limits){.deadline_ms = 200});
    int64_t start = harness_now();
    int fd = client_connect(a.port);
    ck_assert_int_ge(client_closed(fd, start), 199 * MS);
    close(fd);
    admin_stop(&a);
}
END_TEST

/* H10. */
START_TEST(h10_idle_client_ends_before_the_deadline)
{
    struct admin a;
    admin_start(&a, NULL, &(struct http_limits){.idle_s = 1, .deadline_ms = 60000});
    int64_t start = harness_now();
    int fd = client_connect(a.port);
    client_text(fd, "GET /mq/sta");
    ck_assert_int_ge(client_closed(fd, start), 500 * MS);
    close(fd);
    admin_stop(&a);
}
END_TEST

/* H8. */
START_TEST(h08_body_that_breaks_off_changes_nothing)
{
    struct admin a;
    admin_start(&a, NULL, &(struct http_limits){.deadline_ms = 300});
    ck_assert_int_eq(bgmq_start(a.mq), 0);
    int fd = client_connect(a.port);
    client_text(fd, "POST /mq/stop HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    shutdown(fd, SHUT_WR);
    client_closed(fd, harness_now());
    close(fd);
    ck_assert_int_eq(bgmq_started(a.mq), 1);
    admin_stop(&a);
}
END_TEST

START_TEST(deadline_counts_from_the_own_connection)
{
    struct admin a;
    admin_start(&a, NULL, &(struct http_limits){.deadline_ms = 300});
    for (int i = 0; i < 3; i++) {
        int64_t start = harness_now();
        int early = client_connect(a.port), late = client_connect(a.port);
        ck_assert_int_ge(client_closed(early, start), 299 * MS);
        ck_assert_int_ge(client_closed(late, start), 299 * MS);
        close(early);
        close(late);
    }
    admin_stop(&a);
}
END_TEST

/* How often the threads of the admin went to sleep; *RET_THREADS gets their number. */
static long admin_sleeps(int *ret_threads)
{
    long sum = 0, n;
    DIR *dir = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(dir);
    *ret_threads = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[64], line[256];
        int ours = 0;
        snprintf(path, sizeof path, "/proc/self/task/%.20s/status", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fgets(line, sizeof line, f)) {
            ours |=
                !strncmp(line, "Name:\tMHD", 9) || !strncmp(line, "Name:\tbgmq-http", 15);
            if (ours && sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
                sum += n;
        }
        if (f)
            fclose(f);
        *ret_threads += ours;
    }
    closedir(dir);
    return sum;
}

START_TEST(idle_admin_never_wakes)
{
    struct admin a;
    int threads;
    admin_start(&a, NULL, NULL);
    int fds = harness_count_fds();
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    WAIT_UNTIL(harness_count_fds() == fds);
    long before = admin_sleeps(&threads);
    ck_assert_int_eq(threads, 2);
    poll(NULL, 0,
         2500); /* a look every second would be two sleeps more, of each thread */
    /* One may have been on its way to sleep. */
    ck_assert_int_le(admin_sleeps(&threads) - before, 1);
    admin_stop(&a);
}
END_TEST

/* ---- H11: many connections ---- */

enum { MANY = 200 };

/* H11.  The clients keep all their ends open; with the deadline alone the last would wait
 * for 12 waves of 5 s. */
START_TEST(h11_held_connections_do_not_shut_others_out)
{
    struct admin a;
    int fds[MANY];
    admin_start(&a, NULL, NULL);
    for (int i = 0; i < MANY; i++)
        fds[i] = client_connect(a.port);
    int64_t start = harness_now();
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_lt(harness_now() - start, 5000 * MS * harness_scale());
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    admin_stop(&a);
}
END_TEST

/* H11, M4. */
START_TEST(h11_at_the_limit_the_next_waits_for_the_deadline)
{
    struct admin a;
    int fds[16];
    admin_start(&a, NULL, &(struct http_limits){.deadline_ms = 400, .crowded_ms = 60000});
    int64_t start = harness_now();
    for (int i = 0; i < 16; i++)
        fds[i] = client_connect(a.port);
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    int64_t waited = harness_now() - start;
    ck_assert_msg(waited >= 399 * MS, "17 connections were held: %lld ms",
                  (long long)(waited / MS));
    for (int i = 0; i < 16; i++) {
        client_closed(fds[i], 0);
        close(fds[i]);
    }
    admin_stop(&a);
}
END_TEST

/* H11. */
START_TEST(h11_descriptors_stay_few)
{
    struct admin a;
    int fds[30];
    admin_start(&a, NULL,
                &(struct http_limits){.deadline_ms = 60000, .crowded_ms = 60000});
    int before = harness_count_fds();
    for (int i = 0; i < 30; i++)
        fds[i] = client_connect(a.port);
    /* Ours are 30; at most 16 of them have another end here. */
    WAIT_UNTIL(harness_count_fds() == before + 30 + 16);
    for (int i = 0; i < 30; i++)
        close(fds[i]);
    WAIT_UNTIL(harness_count_fds() == before);
    admin_stop(&a);
}
END_TEST

static struct counter stands;
static struct gate goes_on;

/* A log that takes its time, on the daemon's thread. */
static void stand_still(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)text;
    if (level != BGMQ_LOG_WARNING)
        return;
    counter_add(&stands, 1);
    gate_wait(&goes_on);
}

/* H10, M3, H11.  The refused one makes the daemon stand still, and is shut when the house, full
 * by the second, leaves no more time: the second did not even start by then. */
START_TEST(h10_who_comes_while_the_daemon_stands_still_has_a_deadline)
{
    struct admin a = {0};
    struct http_limits limits = {
        .connections = 2, .idle_s = 1000, .deadline_ms = 300, .crowded_ms = 20};
    counter_init(&stands);
    gate_init(&goes_on);
    ck_assert_int_eq(bgmq_open(&a.mq, &(struct bgmq_options){.log = stand_still}, NULL),
                     0);
    ck_assert_int_eq(bgmqi_http_start(&a.http, a.mq, NULL, &limits, NULL), 0);
    a.port = bgmq_http_port(a.http);
    int refused = client_connect(a.port);
    client_text(refused, "GET /mq/status HTTP/1.1\r\nHost: evil\r\n\r\n");
    counter_wait(&stands, 1);
    int second = client_connect(a.port);
    client_closed(refused, 0);
    gate_open(&goes_on);
    client_closed(second, 0);
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    close(refused);
    close(second);
    admin_stop(&a);
    gate_fini(&goes_on);
    counter_fini(&stands);
}
END_TEST

/* ---- the end ---- */

START_TEST(stop_does_not_wait_for_open_connections)
{
    struct admin a;
    admin_start(&a, NULL, NULL);
    int idle = client_connect(a.port), half = client_connect(a.port);
    client_text(half, "GET /mq/status HTT");
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    int64_t start = harness_now();
    admin_stop(&a);
    ck_assert_int_lt(harness_now() - start, 2000 * MS * harness_scale());
    client_closed(idle, start);
    client_closed(half, start);
    close(idle);
    close(half);
}
END_TEST

START_TEST(start_and_stop_leave_nothing)
{
    struct bgmq *mq = admin_service();
    struct harness_leaks leaks;
    harness_leaks_begin(&leaks);
    for (int i = 0; i < 50; i++) {
        struct bgmq_http *http;
        ck_assert_int_eq(bgmq_http_start(&http, mq, NULL, NULL), 0);
        ck_assert_int_eq(client_status(bgmq_http_port(http), "GET", "/mq/status", ""),
                         200);
        bgmq_http_stop(http);
    }
    harness_leaks_end(&leaks);
    bgmq_free(mq);
}
END_TEST

START_TEST(failed_start_leaves_nothing)
{
    struct bgmq *mq = admin_service();
    struct bgmq_error error = {.text = ""};
    struct bgmq_http *http = NULL;
    struct harness_leaks leaks;
    struct rlimit was, low;
    int failures = 0, r;
    getrlimit(RLIMIT_NOFILE, &was);
    harness_leaks_begin(&leaks);
    /* Fails at the first descriptor, the second, ... until there are enough. */
    for (rlim_t n = 3; n < (rlim_t)leaks.fds + 16; n++) {
        low = (struct rlimit){.rlim_cur = n, .rlim_max = was.rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
        r = bgmq_http_start(&http, mq, NULL, &error);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
        if (r == 0)
            break;
        ck_assert_int_eq(r, BGMQ_EHTTP);
        ck_assert_str_ne(error.text, "");
        ck_assert_ptr_null(http);
        harness_leaks_end(&leaks);
        failures++;
    }
    ck_assert_int_ge(failures, 4);
    ck_assert_ptr_nonnull(http);
    bgmq_http_stop(http);
    bgmq_free(mq);
}
END_TEST

/* ---- without descriptors ---- */

/* Takes every descriptor there is below LIMIT; returns how many. */
static int steal(int stolen[], int limit)
{
    int n = 0;
    struct rlimit was;
    getrlimit(RLIMIT_NOFILE, &was);
    was.rlim_cur = (rlim_t)limit;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    while (n < limit && (stolen[n] = dup(STDERR_FILENO)) >= 0)
        n++;
    return n;
}

static void enter(int fd, unsigned port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
}

static void expect_status(int fd)
{
    static struct reply reply;
    client_read(fd, &reply);
    ck_assert_int_eq(reply.status, 200);
    close(fd);
}

static int admin_shown(struct bgmq *mq)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    return c.admin;
}

/* P6, M11.  The first comes in by the descriptor that is kept for it, the second has to wait, and
 * nobody is busy meanwhile. */
START_TEST(without_descriptors_it_waits_at_ease_and_goes_on)
{
    enum { LIMIT = 128 };
    static const char request[] = "GET /mq/status HTTP/1.1\r\n" HOST "\r\n";
    struct admin a;
    int stolen[LIMIT], clients[2];
    admin_start(&a, NULL, NULL);
    int fds = harness_count_fds();
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    WAIT_UNTIL(harness_count_fds() == fds); /* or its place would be one to come in by */
    for (int i = 0; i < 2; i++)
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = steal(stolen, LIMIT);
    ck_assert_int_gt(n, 10);
    enter(clients[0], a.port);
    enter(clients[1], a.port);
    client_text(clients[1], request);
    struct pollfd p = {.fd = clients[1], .events = POLLIN};
    clock_t before = clock();
    ck_assert_int_eq(poll(&p, 1, 1500), 0); /* a busy thread takes as much */
    ck_assert_int_lt(clock() - before, CLOCKS_PER_SEC / 4);
    ck_assert_int_eq(admin_shown(a.mq), 2);
    client_text(clients[0], request);
    expect_status(clients[0]);
    for (int i = 0; i < n; i++)
        close(stolen[i]);
    expect_status(clients[1]);
    ck_assert_int_eq(admin_shown(a.mq), 1);
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
}
END_TEST

static _Atomic int signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

START_TEST(signals_stay_with_the_application)
{
    struct admin a;
    sigset_t mask;
    admin_start(&a, NULL, NULL);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    for (int i = 0; i < 20; i++) {
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGTERM);
        ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    }
    ck_assert_int_eq(signals, 0);
    admin_stop(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_limits");
    TCase *tc = harness_case(s, "slow");
    tcase_add_test(tc, h10_slow_header_ends_at_the_deadline);
    tcase_add_test(tc, h10_slow_body_ends_at_the_deadline);
    tcase_add_test(tc, h10_silent_client_ends_at_the_deadline);
    tcase_add_test(tc, h10_idle_client_ends_before_the_deadline);
    tcase_add_test(tc, h08_body_that_breaks_off_changes_nothing);
    tcase_add_test(tc, deadline_counts_from_the_own_connection);
    tcase_add_test(tc, idle_admin_never_wakes);
    tc = harness_case(s, "many");
    tcase_add_test(tc, h11_held_connections_do_not_shut_others_out);
    tcase_add_test(tc, h11_at_the_limit_the_next_waits_for_the_deadline);
    tcase_add_test(tc, h11_descriptors_stay_few);
    tcase_add_test(tc, h10_who_comes_while_the_daemon_stands_still_has_a_deadline);
    tc = harness_case(s, "end");
    tcase_add_test(tc, stop_does_not_wait_for_open_connections);
    tcase_add_test(tc, start_and_stop_leave_nothing);
    tcase_add_test(tc, failed_start_leaves_nothing);
    tcase_add_test(tc, without_descriptors_it_waits_at_ease_and_goes_on);
    tcase_add_test(tc, signals_stay_with_the_application);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
