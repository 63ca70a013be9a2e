/* test_http_socket_fault.c - each call of the system that makes a listener fails in its turn: it is
 * said, and neither a descriptor nor a file is left. */
#include "http_socket.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int met, at; /* calls so far, and the one that fails; 0: none */

static int refuse(int why)
{
    if (++met != at)
        return 0;
    errno = why;
    return 1;
}

/* The linker puts these in the place of the system's. */
#define WRAP(name, params, args, why)                                                    \
    int __real_##name params;                                                            \
    int __wrap_##name params;                                                            \
    int __wrap_##name params                                                             \
    {                                                                                    \
        return refuse(why) ? -1 : __real_##name args;                                    \
    }

WRAP(socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE)
WRAP(bind, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len), EACCES)
WRAP(listen, (int fd, int n), (fd, n), EADDRINUSE)
WRAP(getsockname, (int fd, struct sockaddr *a, socklen_t *len), (fd, a, len), ENOBUFS)
WRAP(getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
     (fd, level, name, value, len), ENOBUFS)
WRAP(rename, (const char *from, const char *to), (from, to), EACCES)
WRAP(fchmod, (int fd, mode_t mode), (fd, mode), EPERM)
WRAP(lstat64, (const char *path, struct stat *st), (path, st), EACCES)
WRAP(stat64, (const char *path, struct stat *st), (path, st), EACCES)

ssize_t __real_getrandom(void *ret, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *ret, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *ret, size_t n, unsigned flags)
{
    return refuse(ENOSYS) ? -1 : __real_getrandom(ret, n, flags);
}

void *__real_mmap64(void *near, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap64(void *near, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap64(void *near, size_t n, int prot, int flags, int fd, off_t from)
{
    return refuse(ENOMEM) ? MAP_FAILED : __real_mmap64(near, n, prot, flags, fd, from);
}

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
    return refuse(ENOMEM) ? NULL : __real_strdup(text);
}

/* A listener on PATH, or on a port where it is NULL. */
static int make(struct http_socket *s, const char *path, struct bgmq_error *error)
{
    return path ? bgmqi_http_socket_unix(s, path, error)
                : bgmqi_http_socket_tcp(s, 0, error);
}

/* Fails each call in its turn; the number of calls there were. */
static int fail_each(const char *path)
{
    struct harness_leaks leaks;
    harness_leaks_begin(&leaks);
    for (int n = 1;; n++) {
        struct http_socket s = {.fd = -1};
        struct bgmq_error error = {.text = ""};
        met = 0;
        at = n;
        int err = make(&s, path, &error);
        at = 0;
        int calls = met;
        if (err == 0) {
            close(s.fd);
            bgmqi_http_socket_unlink(&s);
            ck_assert_int_eq(calls, n - 1); /* each that failed was told */
            return calls;
        }
        ck_assert_msg(err == BGMQ_EHTTP || err == BGMQ_ENOMEM, "%d: %d", n, err);
        ck_assert_str_ne(error.text, "");
        harness_leaks_end(&leaks);
        ck_assert_msg(!path || access(path, F_OK) != 0, "call %d left it", n);
    }
}

START_TEST(port_that_cannot_be_made_is_said)
{
    ck_assert_int_ge(fail_each(NULL), 4);
}
END_TEST

START_TEST(unix_socket_that_cannot_be_made_leaves_nothing)
{
    ck_assert_int_ge(fail_each(harness_path("s")), 8);
    ck_assert_int_eq(rmdir(harness_tmpdir()), 0);
}
END_TEST

/* What the options say is copied: each copy fails in its turn, with each other call. */
START_TEST(admin_that_cannot_be_made_is_said)
{
    struct bgmq *mq = admin_service();
    const char *path = harness_path("s");
    static const char *const hosts[] = {"a", "b", NULL};
    for (int n = 1, err = -1; err != 0; n++) {
        struct bgmq_http_options o = {
            .token = "0123456789abcdef-Token", .unix_socket = path, .hosts = hosts};
        struct bgmq_http *http = NULL;
        struct bgmq_error error = {.text = ""};
        met = 0;
        at = n;
        err = bgmq_http_start(&http, mq, &o, &error);
        at = 0;
        ck_assert_msg(err == 0 || err == BGMQ_EHTTP || err == BGMQ_ENOMEM, "%d: %d", n,
                      err);
        ck_assert_int_eq(err == 0, error.text[0] == '\0');
        bgmq_http_stop(http);
    }
    bgmq_free(mq);
}
END_TEST

/* A peer that the system does not name is not one of ours. */
START_TEST(peer_that_is_not_named_is_a_stranger)
{
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    met = 0;
    at = 1;
    ck_assert_int_eq(bgmqi_http_socket_peer(fds[0]), PEER_STRANGER);
    ck_assert_int_eq(bgmqi_http_socket_peer(fds[0]), PEER_LOCAL);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_socket_fault");
    TCase *tc = harness_case(s, "calls");
    tcase_add_test(tc, port_that_cannot_be_made_is_said);
    tcase_add_test(tc, unix_socket_that_cannot_be_made_leaves_nothing);
    tcase_add_test(tc, admin_that_cannot_be_made_is_said);
    tcase_add_test(tc, peer_that_is_not_named_is_a_stranger);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
