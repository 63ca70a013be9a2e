/* test_http_reaper.c - the deadline of connections, on socket pairs. */
#include "http_reaper.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const int64_t MS = 1000000;

static void pair(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void close_pair(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* 1 when the other end was shut down, 0 when it is open. */
static int is_shut(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    ck_assert(n == 0 || (n < 0 && errno == EAGAIN));
    return n == 0;
}

START_TEST(starts_and_ends_with_nothing_to_do)
{
    for (int i = 0; i < 100; i++) {
        struct http_reaper *r;
        ck_assert_int_eq(bgmqi_http_reaper_new(&r, 4, 10000, 60000), 0);
        bgmqi_http_reaper_free(r);
    }
    bgmqi_http_reaper_free(NULL);
}
END_TEST

/* M3. */
START_TEST(shuts_at_the_deadline_and_closes_nothing)
{
    struct http_reaper *r;
    int fds[2];
    pair(fds);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 4, 100, 60000), 0);
    int64_t start = harness_now();
    bgmqi_http_reaper_add(r, fds[0]);
    ck_assert_int_ge(client_closed(fds[1], start), 99 * MS);
    ck_assert_int_eq(send(fds[0], "x", 1, MSG_NOSIGNAL), -1);
    ck_assert_int_eq(errno, EPIPE); /* and not EBADF */
    bgmqi_http_reaper_remove(r, fds[0]);
    bgmqi_http_reaper_free(r);
    close_pair(fds);
}
END_TEST

/* The daemon may take its time to close what was shut down. */
START_TEST(expired_one_is_not_busied_with)
{
    struct http_reaper *r;
    int fds[2];
    pair(fds);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 4, 50, 60000), 0);
    bgmqi_http_reaper_add(r, fds[0]);
    client_closed(fds[1], 0);
    clock_t before = clock();
    poll(NULL, 0, 400); /* a busy thread takes as much */
    ck_assert_int_lt(clock() - before, CLOCKS_PER_SEC / 5);
    bgmqi_http_reaper_remove(r, fds[0]);
    bgmqi_http_reaper_free(r);
    close_pair(fds);
}
END_TEST

START_TEST(removed_in_time_is_left_alone)
{
    struct http_reaper *r;
    int kept[2], gone[2];
    pair(kept);
    pair(gone);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 4, 100, 60000), 0);
    bgmqi_http_reaper_add(r, gone[0]);
    bgmqi_http_reaper_remove(r, gone[0]);
    bgmqi_http_reaper_add(r, kept[0]);
    client_closed(kept[1], 0); /* later than the deadline of the first */
    ck_assert_int_eq(is_shut(gone[1]), 0);
    bgmqi_http_reaper_remove(r, kept[0]);
    bgmqi_http_reaper_free(r);
    close_pair(kept);
    close_pair(gone);
}
END_TEST

START_TEST(each_has_its_own_deadline)
{
    struct http_reaper *r;
    int early[2], late[2];
    pair(early);
    pair(late);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 4, 300, 60000), 0);
    bgmqi_http_reaper_add(r, early[0]);
    poll(NULL, 0, 100); /* the distance that is measured below */
    int64_t start = harness_now();
    bgmqi_http_reaper_add(r, late[0]);
    client_closed(early[1], 0);
    ck_assert_int_ge(client_closed(late[1], start), 299 * MS);
    bgmqi_http_reaper_free(r);
    close_pair(early);
    close_pair(late);
}
END_TEST

START_TEST(number_used_again_has_a_new_deadline)
{
    struct http_reaper *r;
    int fds[2];
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 1, 150, 60000), 0);
    for (int i = 0; i < 3; i++) {
        pair(fds);
        int64_t start = harness_now();
        bgmqi_http_reaper_add(r, fds[0]);
        ck_assert_int_ge(client_closed(fds[1], start), 149 * MS);
        bgmqi_http_reaper_remove(r, fds[0]);
        close_pair(fds);
    }
    bgmqi_http_reaper_free(r);
}
END_TEST

START_TEST(full_table_leaves_little_time)
{
    struct http_reaper *r;
    int first[2], second[2];
    pair(first);
    pair(second);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 2, 60000, 100), 0);
    bgmqi_http_reaper_add(r, first[0]);
    ck_assert_int_eq(is_shut(first[1]), 0);
    int64_t start = harness_now();
    bgmqi_http_reaper_add(r, second[0]);
    ck_assert_int_ge(client_closed(first[1], start), 99 * MS);
    ck_assert_int_ge(client_closed(second[1], start), 99 * MS);
    bgmqi_http_reaper_free(r);
    close_pair(first);
    close_pair(second);
}
END_TEST

START_TEST(beyond_the_size_there_is_no_connection)
{
    struct http_reaper *r;
    int first[2], second[2];
    pair(first);
    pair(second);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 1, 60000, 60000), 0);
    bgmqi_http_reaper_add(r, first[0]);
    bgmqi_http_reaper_add(r, second[0]);
    ck_assert_int_eq(is_shut(first[1]), 0);
    ck_assert_int_eq(is_shut(second[1]), 1);
    bgmqi_http_reaper_free(r);
    close_pair(first);
    close_pair(second);
}
END_TEST

START_TEST(ends_while_connections_are_open)
{
    struct http_reaper *r;
    int fds[2];
    pair(fds);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 4, 60000, 60000), 0);
    bgmqi_http_reaper_add(r, fds[0]);
    bgmqi_http_reaper_free(r);
    ck_assert_int_eq(is_shut(fds[1]), 0);
    close_pair(fds);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_reaper");
    TCase *tc = harness_case(s, "reaper");
    tcase_add_test(tc, starts_and_ends_with_nothing_to_do);
    tcase_add_test(tc, shuts_at_the_deadline_and_closes_nothing);
    tcase_add_test(tc, expired_one_is_not_busied_with);
    tcase_add_test(tc, removed_in_time_is_left_alone);
    tcase_add_test(tc, each_has_its_own_deadline);
    tcase_add_test(tc, number_used_again_has_a_new_deadline);
    tcase_add_test(tc, full_table_leaves_little_time);
    tcase_add_test(tc, beyond_the_size_there_is_no_connection);
    tcase_add_test(tc, ends_while_connections_are_open);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
