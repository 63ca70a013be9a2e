/* test_http_mount.c - the admin mounted in an application's own daemon: what it takes,
 * what it leaves to the application, and what it refuses to other machines. */
#include "http.h"

#include "admin.h"

#include <arpa/inet.h>
#include <bgmq.h>
#include <check.h>
#include <ifaddrs.h>
#include <microhttpd.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOKEN "0123456789abcdef0123456789abcdef"
#define HOST  "Host: localhost\r\n"

/* An application with a daemon of its own. */
static struct {
    struct bgmq *mq;
    struct bgmq_http *http;
    struct MHD_Daemon *daemon;
    unsigned port;
    _Atomic int own_requests, spoiled;
} app;

/* What the application keeps with each request; the admin must not touch it. */
static char app_state[] = "state", app_seen[] = "seen";

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
    (void)cls, (void)uri, (void)connection;
    return app_state;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls, (void)connection, (void)code;
    if (*state != app_state && *state != app_seen)
        app.spoiled++;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload_data,
                                  size_t *upload_data_size, void **state)
{
    (void)cls, (void)upload_data;
    int result;
    if (bgmq_http_handle(app.http, connection, url, method, version, upload_data_size,
                         state, &result))
        return (enum MHD_Result)result;
    /* As applications do: the first call is for the head only. */
    if (*state == app_state) {
        *state = app_seen;
        return MHD_YES;
    }
    app.own_requests++;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        4, (void *)(uintptr_t) "app\n", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result r = MHD_queue_response(connection, 201, response);
    MHD_destroy_response(response);
    return r;
}

static void start_app(const struct bgmq_http_options *options, uint32_t address,
                      unsigned threads)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    struct bgmq_error error = {.text = ""};
    memset(&app, 0, sizeof app);
    app.mq = admin_service();
    ck_assert_int_eq(bgmq_http_mount(&app.http, app.mq, options, &error), 0);
    ck_assert_uint_eq(bgmq_http_port(app.http), 0);
    app.daemon = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL, NULL, on_request, NULL,
        MHD_OPTION_SOCK_ADDR, &addr, MHD_OPTION_UNESCAPE_CALLBACK, bgmq_http_unescape,
        NULL, MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, NULL, MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_END);
    ck_assert_ptr_nonnull(app.daemon);
    app.port = MHD_get_daemon_info(app.daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

static void setup(void)
{
    start_app(NULL, INADDR_LOOPBACK, 0);
}

static void teardown(void)
{
    MHD_stop_daemon(app.daemon);
    bgmq_http_stop(app.http);
    bgmq_free(app.mq);
    ck_assert_int_eq(app.spoiled, 0);
}

START_TEST(mounted_routes_answer)
{
    ck_assert_int_eq(client_status(app.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(client_status(app.port, "GET", "/mq/stats?format=json", ""), 200);
    ck_assert_int_eq(client_status(app.port, "HEAD", "/mq/stats", ""), 200);
    ck_assert_int_eq(client_status(app.port, "GET", "/mq/start", ""), 200);
    ck_assert_int_eq(bgmq_started(app.mq), 1);
    ck_assert_int_eq(client_status(app.port, "POST", "/mq/stop", ""), 200);
    ck_assert_int_eq(bgmq_started(app.mq), 0);
    ck_assert_int_eq(app.own_requests, 0);
}
END_TEST

START_TEST(other_paths_are_the_application_s)
{
    static const char *const paths[] = {"/",      "/mq",       "/mqx/stop",
                                        "/hello", "//mq/stop", "/%6dq/stop"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        ck_assert_int_eq(
            client_status(app.port, "GET", paths[i], "Connection: close\r\n"), 201);
    ck_assert_int_eq(client_status(app.port, "POST", "/form", "Connection: close\r\n"),
                     201);
    ck_assert_int_eq(app.own_requests, 7);
}
END_TEST

START_TEST(unknown_path_under_the_prefix_is_404)
{
    static const char *const paths[] = {"/mq/", "/mq/x", "/mq/stop%00", "/mq/stop/",
                                        "/mq/../hello"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        ck_assert_int_eq(client_status(app.port, "GET", paths[i], ""), 404);
    ck_assert_int_eq(app.own_requests, 0);
}
END_TEST

START_TEST(the_same_rules_hold)
{
    struct reply r;
    ck_assert_int_eq(client_status(app.port, "GET", "/mq/start", "Origin: null\r\n"),
                     403);
    ck_assert_int_eq(client_status(app.port, "PUT", "/mq/start", ""), 405);
    ck_assert_int_eq(
        client_status(app.port, "POST", "/mq/start", "Transfer-Encoding: chunked\r\n"),
        400);
    client_raw(app.port, "GET /mq/start HTTP/1.1\r\nHost: evil.example\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 421);
    client_raw(app.port, "GET /mq/start HTTP/1.1\r\n" HOST HOST "\r\n", &r);
    ck_assert_int_eq(r.status, 400);
    ck_assert_int_eq(bgmq_started(app.mq), 0);
}
END_TEST

START_TEST(body_is_read_before_the_act)
{
    struct reply r;
    int fd = client_connect(app.port);
    client_text(fd, "POST /mq/start HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    ck_assert_int_eq(client_status(app.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(bgmq_started(app.mq), 0);
    client_text(fd, "cde");
    client_read(fd, &r);
    close(fd);
    ck_assert_int_eq(r.status, 200);
    ck_assert_int_eq(bgmq_started(app.mq), 1);
}
END_TEST

START_TEST(answer_ends_the_connection)
{
    struct reply r;
    client_raw(app.port,
               "GET /mq/status HTTP/1.1\r\n" HOST "\r\n"
               "GET /mq/start HTTP/1.1\r\n" HOST "\r\n",
               &r);
    ck_assert_int_eq(r.status, 200);
    ck_assert_int_eq(bgmq_started(app.mq), 0);
}
END_TEST

START_TEST(admin_after_a_request_of_the_application)
{
    struct reply r;
    client_raw(app.port,
               "GET /hello HTTP/1.1\r\n" HOST "\r\n"
               "GET /mq/start HTTP/1.1\r\n" HOST "\r\n",
               &r);
    ck_assert_int_eq(r.status, 201);
    ck_assert_ptr_nonnull(strstr(r.body, "HTTP/1.1 200"));
    ck_assert_int_eq(bgmq_started(app.mq), 1);
}
END_TEST

START_TEST(broken_off_body_leaves_the_state_alone)
{
    int fd = client_connect(app.port);
    client_text(fd, "POST /mq/start HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    ck_assert_int_eq(client_status(app.port, "GET", "/mq/status", ""), 200);
    close(fd); /* teardown looks at the state */
}
END_TEST

static void *ask_often(void *arg)
{
    static const char *const paths[] = {"/mq/status", "/mq/stats", "/mq/start",
                                        "/mq/stop"};
    struct barrier *b = arg;
    barrier_wait(b);
    for (int i = 0; i < 50; i++) {
        int status =
            client_status(app.port, i % 4 < 2 ? "GET" : "POST", paths[i % 4], "");
        ck_assert_msg(status == 200 || status == 202 || status == 503, "%d", status);
    }
    return NULL;
}

START_TEST(all_threads_of_a_pool_may_use_it)
{
    struct barrier b;
    pthread_t threads[4];
    start_app(NULL, INADDR_LOOPBACK, 4);
    barrier_init(&b, 4);
    for (int i = 0; i < 4; i++)
        threads[i] = harness_thread(ask_often, &b);
    for (int i = 0; i < 4; i++)
        harness_join(threads[i]);
    barrier_fini(&b);
    teardown();
}
END_TEST

/* ---- other machines ---- */

/* An address of this machine that is not loopback; 0: none. */
static uint32_t own_address(void)
{
    struct ifaddrs *list;
    uint32_t found = 0;
    if (getifaddrs(&list) < 0)
        return 0;
    for (struct ifaddrs *i = list; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP) &&
            !(i->ifa_flags & IFF_LOOPBACK))
            found = ntohl(((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr);
    freeifaddrs(list);
    return found;
}

static int status_from(uint32_t address, const char *method, const char *path,
                       const char *lines)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)app.port),
                             .sin_addr.s_addr = htonl(address)};
    struct reply r;
    char text[512];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\n" HOST "%s\r\n", method, path, lines);
    client_text(fd, text);
    client_read(fd, &r);
    close(fd);
    return r.status;
}

START_TEST(without_token_other_machines_get_nothing)
{
    uint32_t address = own_address();
    if (!address)
        HARNESS_SKIP("no address but loopback");
    start_app(NULL, INADDR_ANY, 0);
    ck_assert_int_eq(status_from(address, "GET", "/mq/status", ""), 403);
    ck_assert_int_eq(status_from(address, "GET", "/mq/stats", ""), 403);
    ck_assert_int_eq(status_from(address, "GET", "/mq/start", ""), 403);
    ck_assert_int_eq(status_from(address, "POST", "/mq/start", ""), 403);
    ck_assert_int_eq(bgmq_started(app.mq), 0);
    ck_assert_int_eq(status_from(INADDR_LOOPBACK, "GET", "/mq/start", ""), 200);
    ck_assert_int_eq(status_from(address, "GET", "/hello", "Connection: close\r\n"), 201);
    teardown();
}
END_TEST

START_TEST(with_token_other_machines_may_ask)
{
    static const char right[] = "Authorization: Bearer " TOKEN "\r\n";
    uint32_t address = own_address();
    if (!address)
        HARNESS_SKIP("no address but loopback");
    start_app(&(struct bgmq_http_options){.token = TOKEN}, INADDR_ANY, 0);
    ck_assert_int_eq(status_from(address, "GET", "/mq/status", ""), 401);
    ck_assert_int_eq(status_from(address, "GET", "/mq/start", ""), 401);
    ck_assert_int_eq(bgmq_started(app.mq), 0);
    ck_assert_int_eq(status_from(address, "GET", "/mq/status", right), 200);
    ck_assert_int_eq(status_from(address, "POST", "/mq/start", right), 200);
    ck_assert_int_eq(bgmq_started(app.mq), 1);
    teardown();
}
END_TEST

/* ---- misuse ---- */

START_TEST(without_an_admin_nothing_is_handled)
{
    size_t size = 0;
    int result = 77;
    ck_assert_int_eq(
        bgmq_http_handle(NULL, NULL, "/mq/stop", "GET", "HTTP/1.1", &size, NULL, &result),
        0);
    ck_assert_int_eq(result, 77);
}
END_TEST

/* M6. */
START_TEST(unescape_changes_nothing)
{
    char text[] = "/mq/st%6fp%00+x";
    ck_assert_uint_eq(bgmq_http_unescape(NULL, NULL, text), strlen(text));
    ck_assert_str_eq(text, "/mq/st%6fp%00+x");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_mount");
    TCase *tc = harness_case(s, "mounted");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, mounted_routes_answer);
    tcase_add_test(tc, other_paths_are_the_application_s);
    tcase_add_test(tc, unknown_path_under_the_prefix_is_404);
    tcase_add_test(tc, the_same_rules_hold);
    tcase_add_test(tc, body_is_read_before_the_act);
    tcase_add_test(tc, answer_ends_the_connection);
    tcase_add_test(tc, admin_after_a_request_of_the_application);
    tcase_add_test(tc, broken_off_body_leaves_the_state_alone);
    tc = harness_case(s, "threads");
    tcase_add_test(tc, all_threads_of_a_pool_may_use_it);
    tcase_add_test(tc, without_token_other_machines_get_nothing);
    tcase_add_test(tc, with_token_other_machines_may_ask);
    tcase_add_test(tc, without_an_admin_nothing_is_handled);
    tcase_add_test(tc, unescape_changes_nothing);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
