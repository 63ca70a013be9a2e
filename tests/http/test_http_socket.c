/* test_http_socket.c - where the admin listens, by port and by unix socket, and who is
 * taken for local. */
#include "http_socket.h"

#include "admin.h"

#include <arpa/inet.h>
#include <bgmq.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- ports ---- */

/* Sockets that this process has open. */
static int sockets(void)
{
    int n = 0;
    struct stat st;
    for (int fd = 0; fd < 256; fd++)
        n += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
    return n;
}

START_TEST(service_without_an_admin_listens_nowhere)
{
    int before = sockets();
    struct bgmq *mq = admin_service();
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(sockets(), before);
    bgmq_free(mq);
}
END_TEST

START_TEST(any_port_is_told)
{
    struct admin a;
    admin_start(&a, NULL, NULL);
    ck_assert_uint_gt(a.port, 0);
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
}
END_TEST

START_TEST(port_of_no_admin_is_0)
{
    ck_assert_uint_eq(bgmq_http_port(NULL), 0);
}
END_TEST

START_TEST(port_taken_is_said)
{
    struct admin a;
    struct bgmq_http *second = NULL;
    struct bgmq_error error = {.text = ""};
    char want[32];
    admin_start(&a, NULL, NULL);
    ck_assert_int_eq(bgmq_http_start(&second, a.mq,
                                     &(struct bgmq_http_options){.port = a.port}, &error),
                     BGMQ_EHTTP);
    snprintf(want, sizeof want, "127.0.0.1:%u", a.port);
    ck_assert_ptr_nonnull(strstr(error.text, want));
    ck_assert_ptr_nonnull(strstr(error.text, "in use"));
    ck_assert_ptr_null(second);
    ck_assert_int_eq(bgmq_start(a.mq), 0);
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
}
END_TEST

START_TEST(port_is_free_again_at_once)
{
    struct admin a, b;
    admin_start(&a, NULL, NULL);
    unsigned port = a.port;
    ck_assert_int_eq(client_status(port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
    admin_start(&b, &(struct bgmq_http_options){.port = port}, NULL);
    ck_assert_uint_eq(b.port, port);
    ck_assert_int_eq(client_status(port, "GET", "/mq/status", ""), 200);
    admin_stop(&b);
}
END_TEST

/* M2. */
START_TEST(only_loopback_is_listened_on)
{
    struct http_socket s;
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    ck_assert_int_eq(bgmqi_http_socket_tcp(&s, 0, NULL), 0);
    ck_assert_int_eq(getsockname(s.fd, (struct sockaddr *)&addr, &len), 0);
    ck_assert_uint_eq(ntohl(addr.sin_addr.s_addr), INADDR_LOOPBACK);
    ck_assert_uint_eq(ntohs(addr.sin_port), s.port);
    close(s.fd);
}
END_TEST

/* ---- unix sockets ---- */

static void start_unix(struct admin *a, const char *path)
{
    admin_start(a, &(struct bgmq_http_options){.unix_socket = path}, NULL);
}

static int status_unix(const char *path, const char *text)
{
    struct reply r;
    int fd = client_connect_unix(path);
    client_text(fd, text);
    client_read(fd, &r);
    close(fd);
    return r.status;
}

/* Starting on PATH fails and says so, with this word. */
static void refused(const char *path, const char *word)
{
    struct bgmq *mq = admin_service();
    struct bgmq_http *http = NULL;
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(bgmq_http_start(&http, mq,
                                     &(struct bgmq_http_options){.unix_socket = path},
                                     &error),
                     BGMQ_EHTTP);
    ck_assert_msg(strstr(error.text, word) != NULL, "%s", error.text);
    ck_assert_ptr_null(http);
    bgmq_free(mq);
}

START_TEST(unix_socket_answers)
{
    struct admin a;
    const char *path = harness_path("s");
    start_unix(&a, path);
    ck_assert_uint_eq(a.port, 0);
    ck_assert_int_eq(status_unix(path, "GET /mq/status HTTP/1.1\r\nHost: x\r\n\r\n"),
                     200);
    ck_assert_int_eq(
        status_unix(path, "GET /mq/start HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200);
    ck_assert_int_eq(bgmq_started(a.mq), 1);
    admin_stop(&a);
}
END_TEST

START_TEST(unix_socket_host_is_free_but_single)
{
    struct admin a;
    const char *path = harness_path("s");
    start_unix(&a, path);
    ck_assert_int_eq(status_unix(path, "GET /mq/status HTTP/1.1\r\nHost:\r\n\r\n"), 200);
    ck_assert_int_eq(status_unix(path, "GET /mq/status HTTP/1.1\r\n\r\n"), 400);
    ck_assert_int_eq(
        status_unix(path, "GET /mq/status HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    admin_stop(&a);
}
END_TEST

START_TEST(unix_socket_is_the_owner_s_alone)
{
    struct admin a;
    struct stat st;
    const char *path = harness_path("s");
    umask(0);
    start_unix(&a, path);
    ck_assert_int_eq(lstat(path, &st), 0);
    ck_assert(S_ISSOCK(st.st_mode));
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    admin_stop(&a);
    ck_assert_uint_eq(umask(0), 0);
}
END_TEST

START_TEST(unix_socket_is_gone_after_stop)
{
    struct admin a;
    const char *path = harness_path("s");
    start_unix(&a, path);
    admin_stop(&a);
    ck_assert_int_eq(access(path, F_OK), -1);
    ck_assert_int_eq(rmdir(harness_tmpdir()), 0); /* no other name is left either */
}
END_TEST

START_TEST(unix_socket_of_another_is_left_alone)
{
    struct admin a;
    const char *path = harness_path("s");
    start_unix(&a, path);
    ck_assert_int_eq(unlink(path), 0);
    harness_write_file(path, "mine", 4);
    admin_stop(&a);
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

/* Leaves a socket on PATH that nobody listens on, as a killed process does. */
static void make_stale(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    close(fd);
}

START_TEST(stale_unix_socket_is_replaced)
{
    struct admin a;
    const char *path = harness_path("s");
    make_stale(path);
    start_unix(&a, path);
    ck_assert_int_eq(status_unix(path, "GET /mq/status HTTP/1.1\r\nHost: x\r\n\r\n"),
                     200);
    admin_stop(&a);
}
END_TEST

START_TEST(living_unix_socket_is_not_replaced)
{
    struct admin a;
    const char *path = harness_path("s");
    start_unix(&a, path);
    refused(path, "in use");
    ck_assert_int_eq(status_unix(path, "GET /mq/status HTTP/1.1\r\nHost: x\r\n\r\n"),
                     200);
    admin_stop(&a);
}
END_TEST

START_TEST(other_files_are_not_replaced)
{
    const char *path = harness_path("f"), *link = harness_path("l");
    char *text;
    harness_write_file(path, "mine", 4);
    refused(path, "not a socket");
    ck_assert_int_eq(symlink(path, link), 0);
    refused(link, "not a socket");
    ck_assert_uint_eq(harness_read_file(path, &text), 4);
    free(text);
    refused(harness_tmpdir(), "not a socket");
}
END_TEST

START_TEST(socket_of_another_user_is_not_replaced)
{
    const char *path = harness_path("s");
    if (geteuid() != 0)
        HARNESS_SKIP("only root can make a socket of another user");
    make_stale(path);
    ck_assert_int_eq(lchown(path, 65534, 65534), 0);
    refused(path, "another user");
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

/* Who may write there may put a socket of his in place of ours, and be told the token. */
START_TEST(directory_that_others_may_write_to_is_refused)
{
    static const mode_t bad[] = {0770, 0707, 0777, 0722}, good[] = {0700, 0755, 01777};
    const char *dir = harness_path("d");
    char path[512];
    snprintf(path, sizeof path, "%s/s", dir);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(chmod(dir, bad[i]), 0);
        refused(path, "others may write");
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct admin a;
        ck_assert_int_eq(chmod(dir, good[i]), 0);
        start_unix(&a, path);
        admin_stop(&a);
    }
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(dir, 65534, 65534), 0);
        refused(path, "others may write");
    }
}
END_TEST

START_TEST(path_that_cannot_be_used_is_said)
{
    char path[256];
    refused(harness_path("no/s"), "No such file");
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    refused(path, "too long");
}
END_TEST

/* ---- the other end ---- */

static enum http_peer peer_by(int domain, void *addr, socklen_t len)
{
    int listener = socket(domain, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, addr, len), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, addr, &len), 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = ((struct sockaddr_in *)addr)->sin_port,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(connect(client, (struct sockaddr *)&to, sizeof to), 0);
    int server = accept(listener, NULL, NULL);
    enum http_peer peer = bgmqi_http_socket_peer(server);
    close(server);
    close(client);
    close(listener);
    return peer;
}

START_TEST(loopback_is_local)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    ck_assert_int_eq(peer_by(AF_INET, &v4, sizeof v4), PEER_LOCAL);
}
END_TEST

START_TEST(loopback_mapped_into_ipv6_is_local)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    int usable = fd >= 0 && bind(fd, (struct sockaddr *)&v6, sizeof v6) == 0;
    if (fd >= 0)
        close(fd);
    if (!usable)
        HARNESS_SKIP("no IPv6 here");
    ck_assert_int_eq(peer_by(AF_INET6, &v6, sizeof v6), PEER_LOCAL);
}
END_TEST

START_TEST(own_unix_peer_is_local)
{
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(bgmqi_http_socket_peer(fds[0]), PEER_LOCAL);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(what_has_no_peer_is_not_local)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bgmqi_http_socket_peer(fd), PEER_REMOTE);
    close(fd);
    ck_assert_int_eq(bgmqi_http_socket_peer(-1), PEER_REMOTE);
}
END_TEST

/* In a child that is another user: the answer's first bytes tell, by the exit status. */
static int ask_as_nobody(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char line[16] = "";
    memcpy(addr.sun_path, path, strlen(path));
    if (setgid(65534) < 0 || setuid(65534) < 0)
        return 1;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return 2;
    client_text(fd, "GET /mq/status HTTP/1.1\r\nHost: x\r\n\r\n");
    if (recv(fd, line, 12, MSG_WAITALL) != 12)
        return 3;
    return strcmp(line, "HTTP/1.1 403") == 0 ? 0 : 4;
}

static int status_as_nobody(const char *path)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask_as_nobody(path));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(another_user_is_kept_out)
{
    struct admin a;
    const char *path = harness_path("s");
    char base[512];
    if (geteuid() != 0)
        HARNESS_SKIP("only root can become another user");
    start_unix(&a, path);
    /* The directories are opened, so that the socket alone keeps the user out. */
    ck_assert_int_eq(chmod(harness_tmpdir(), 0755), 0);
    snprintf(base, sizeof base, "%s/..", harness_tmpdir());
    ck_assert_int_eq(chmod(base, 0755), 0);
    ck_assert_int_eq(status_as_nobody(path), 2);
    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_int_eq(status_as_nobody(path), 0);
    admin_stop(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_socket");
    TCase *tc = harness_case(s, "port");
    tcase_add_test(tc, service_without_an_admin_listens_nowhere);
    tcase_add_test(tc, any_port_is_told);
    tcase_add_test(tc, port_of_no_admin_is_0);
    tcase_add_test(tc, port_taken_is_said);
    tcase_add_test(tc, port_is_free_again_at_once);
    tcase_add_test(tc, only_loopback_is_listened_on);
    tc = harness_case(s, "unix");
    tcase_add_test(tc, unix_socket_answers);
    tcase_add_test(tc, unix_socket_host_is_free_but_single);
    tcase_add_test(tc, unix_socket_is_the_owner_s_alone);
    tcase_add_test(tc, unix_socket_is_gone_after_stop);
    tcase_add_test(tc, unix_socket_of_another_is_left_alone);
    tcase_add_test(tc, stale_unix_socket_is_replaced);
    tcase_add_test(tc, living_unix_socket_is_not_replaced);
    tcase_add_test(tc, other_files_are_not_replaced);
    tcase_add_test(tc, socket_of_another_user_is_not_replaced);
    tcase_add_test(tc, directory_that_others_may_write_to_is_refused);
    tcase_add_test(tc, path_that_cannot_be_used_is_said);
    tc = harness_case(s, "peer");
    tcase_add_test(tc, loopback_is_local);
    tcase_add_test(tc, loopback_mapped_into_ipv6_is_local);
    tcase_add_test(tc, own_unix_peer_is_local);
    tcase_add_test(tc, what_has_no_peer_is_not_local);
    tcase_add_test(tc, another_user_is_kept_out);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
