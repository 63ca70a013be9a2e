/* test_http_reaper.c - the deadline of connections, on socket pairs and behind a door. */
#include "http_reaper.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* ---- behind the door ---- */

/* A daemon that says nothing of who came in before the test does. */
struct hall {
    int listening, client; /* the client's own end */
    struct counter came;
    int connection; /* set before it is counted */
    struct http_door door;
};

static int enter(void *ctx, int connection, const struct sockaddr *addr, socklen_t len)
{
    struct hall *h = ctx;
    (void)addr, (void)len;
    h->connection = connection;
    counter_add(&h->came, 1);
    return 1;
}

/* Somebody comes in by the door of R; returns the connection, which did not start yet. */
static int let_one_in(struct hall *h, struct http_reaper *r)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = sizeof addr;
    sa_family_t any = AF_UNIX; /* the kernel finds a name */
    int type = SOCK_STREAM | SOCK_CLOEXEC;
    counter_init(&h->came);
    h->listening = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(h->listening, (struct sockaddr *)&any, sizeof any), 0);
    ck_assert_int_eq(listen(h->listening, 1), 0);
    ck_assert_int_eq(getsockname(h->listening, (struct sockaddr *)&addr, &len), 0);
    h->client = socket(AF_UNIX, type, 0);
    ck_assert_int_eq(connect(h->client, (struct sockaddr *)&addr, len), 0);
    h->door = (struct http_door){.fd = h->listening, .enter = enter, .ctx = h};
    bgmqi_http_reaper_open(r, &h->door);
    counter_wait(&h->came, 1);
    return h->connection;
}

/* After the reaper. */
static void hall_end(struct hall *h)
{
    close(h->connection);
    close(h->client);
    close(h->listening);
    counter_fini(&h->came);
}

static int watches(struct http_reaper *r, int fd)
{
    int fds[4];
    for (size_t n = bgmqi_http_reaper_list(r, fds, 4); n > 0; n--)
        if (fds[n - 1] == fd)
            return 1;
    return 0;
}

/* H10, M3, H11.  The daemon's thread may stand still for longer than a full house leaves. */
START_TEST(full_house_forgets_nobody_on_the_way)
{
    struct http_reaper *r;
    struct hall hall;
    int first[2];
    pair(first);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 2, 60000, 100), 0);
    bgmqi_http_reaper_add(r, first[0]);
    int fd = let_one_in(&hall, r);
    client_closed(first[1], 0); /* what a full house leaves is over */
    ck_assert_int_eq(watches(r, fd), 1);
    ck_assert_int_eq(is_shut(hall.client), 0);
    int64_t start = harness_now();
    bgmqi_http_reaper_started(r, fd);
    ck_assert_int_ge(client_closed(hall.client, start), 99 * MS);
    bgmqi_http_reaper_free(r);
    hall_end(&hall);
    close_pair(first);
}
END_TEST

/* H10.  A place is not kept for ever for one that the daemon may have closed unheard. */
START_TEST(late_start_has_a_deadline_too)
{
    struct http_reaper *r;
    struct hall hall;
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 1, 100, 60000), 0);
    int fd = let_one_in(&hall, r);
    WAIT_UNTIL(!watches(r, fd));
    ck_assert_int_eq(is_shut(hall.client), 0);
    int64_t start = harness_now();
    bgmqi_http_reaper_started(r, fd);
    ck_assert_int_eq(watches(r, fd), 1);
    ck_assert_int_ge(client_closed(hall.client, start), 99 * MS);
    bgmqi_http_reaper_free(r);
    hall_end(&hall);
}
END_TEST

/* H10, H11. */
START_TEST(late_start_without_a_place_is_shut)
{
    struct http_reaper *r;
    struct hall hall;
    int other[2];
    pair(other);
    ck_assert_int_eq(bgmqi_http_reaper_new(&r, 1, 100, 60000), 0);
    int fd = let_one_in(&hall, r);
    WAIT_UNTIL(!watches(r, fd));
    bgmqi_http_reaper_add(r, other[0]);
    ck_assert_int_eq(is_shut(hall.client), 0);
    bgmqi_http_reaper_started(r, fd);
    ck_assert_int_eq(is_shut(hall.client), 1);
    ck_assert_int_eq(watches(r, other[0]), 1);
    bgmqi_http_reaper_free(r);
    hall_end(&hall);
    close_pair(other);
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
    tc = harness_case(s, "door");
    tcase_add_test(tc, full_house_forgets_nobody_on_the_way);
    tcase_add_test(tc, late_start_has_a_deadline_too);
    tcase_add_test(tc, late_start_without_a_place_is_shut);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
