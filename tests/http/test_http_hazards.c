/* test_http_hazards.c - what libmicrohttpd does to an application that stops its daemon in a
 * request, and that ours may be told to stop as often as one likes. */
#include "http.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct MHD_Daemon *daemon_;

static enum MHD_Result stop_the_daemon(void *cls, struct MHD_Connection *connection,
                                       const char *url, const char *method,
                                       const char *version, const char *upload,
                                       size_t *upload_size, void **state)
{
    (void)cls, (void)connection, (void)url, (void)method, (void)version;
    (void)upload, (void)upload_size, (void)state;
    MHD_stop_daemon(daemon_);
    return MHD_NO;
}

/* An application that stops its daemon in a request; what is said goes to WORDS. */
static void misuse(int words)
{
    dup2(words, STDERR_FILENO);
    daemon_ = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG, 0,
                               NULL, NULL, stop_the_daemon, NULL, MHD_OPTION_END);
    const union MHD_DaemonInfo *info =
        daemon_ ? MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!info)
        _exit(1);
    int fd = client_connect(info->port);
    client_text(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client_closed(fd, 0);
    _exit(0);
}

/* M9, M14.  The panic function that we leave alone says why before it ends the process. */
START_TEST(a_daemon_stopped_in_its_handler_ends_the_process)
{
    char words[512] = "";
    int ends[2], status;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0)
        misuse(ends[1]);
    close(ends[1]);
    for (size_t len = 0; len < sizeof words - 1;) {
        ssize_t n = read(ends[0], words + len, sizeof words - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        HARNESS_SKIP("this libmicrohttpd survives it");
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_msg(strstr(words, "libmicrohttpd") != NULL, "it says: %s", words);
}
END_TEST

/* M9. */
START_TEST(our_stop_stops_the_queue_and_not_the_daemon)
{
    struct admin a;
    admin_start(&a, NULL, NULL);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(client_status(a.port, "POST", "/mq/start", ""), 200);
        ck_assert_int_eq(client_status(a.port, "POST", "/mq/stop", ""), 200);
        ck_assert_int_eq(bgmq_started(a.mq), 0);
    }
    ck_assert_int_eq(client_status(a.port, "GET", "/mq/status", ""), 200);
    admin_stop(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_hazards");
    TCase *tc = harness_case(s, "panic");
    if (!HARNESS_ASAN && !HARNESS_TSAN) /* they have words of their own at an abort */
        tcase_add_test(tc, a_daemon_stopped_in_its_handler_ends_the_process);
    tcase_add_test(tc, our_stop_stops_the_queue_and_not_the_daemon);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
