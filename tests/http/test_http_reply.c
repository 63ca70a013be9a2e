/* test_http_reply.c - what the answers look like: their headers, text or JSON, and
 * what a stop says that takes longer, and a service that is closed. */
#include "http_reply.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct admin admin;

static void setup(void)
{
    admin_start(&admin, NULL, NULL);
}

static void teardown(void)
{
    admin_stop(&admin);
}

/* ---- headers ---- */

static const struct {
    const char *method, *path, *headers;
    int status;
} answers[] = {
    {"GET", "/mq/status", "", 200},
    {"GET", "/mq/stats", "Accept: application/json\r\n", 200},
    {"HEAD", "/mq/stats", "", 200},
    {"POST", "/mq/start", "", 200},
    {"POST", "/mq/stop", "Content-Length: 9999\r\n", 413},
    {"GET", "/mq/stop", "Cookie: a=b\r\n", 403},
    {"GET", "/mq/stop", "Host: x\r\n", 400},
    {"GET", "/nothing", "", 404},
    {"PUT", "/mq/stop", "", 405},
};

START_TEST(every_answer_has_the_safe_headers)
{
    static const char *const wanted[][2] = {
        {"Cache-Control", "no-store"},
        {"Connection", "close"},
        {"Content-Security-Policy", "default-src 'none'"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
    };
    struct reply r;
    client_request(admin.port, answers[_i].method, answers[_i].path, answers[_i].headers,
                   &r);
    ck_assert_int_eq(r.status, answers[_i].status);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        ck_assert_int_eq(reply_count(&r, wanted[i][0]), 1);
        ck_assert_str_eq(reply_header(&r, wanted[i][0]), wanted[i][1]);
    }
    ck_assert_int_eq(reply_count(&r, "Content-Type"), 1);
    ck_assert_ptr_null(reply_header(&r, "Server"));
    ck_assert_ptr_null(reply_header(&r, "Access-Control-Allow-Origin"));
}
END_TEST

START_TEST(refusal_is_one_line_that_echoes_nothing)
{
    struct reply r;
    client_request(admin.port, "GET", "/mq/<script>alert(1)</script>",
                   "X-Mark: wombat\r\n", &r);
    ck_assert_int_eq(r.status, 404);
    ck_assert_str_eq(r.body, "not found\n");
    ck_assert_ptr_null(strstr(r.bytes, "script"));
    ck_assert_ptr_null(strstr(r.bytes, "wombat"));
}
END_TEST

/* ---- text or JSON ---- */

static const struct {
    const char *query, *accept;
    int json;
} formats[] = {
    {"", "", 0},
    {"", "Accept: */*\r\n", 0},
    {"", "Accept: text/plain\r\n", 0},
    {"", "Accept: application/json\r\n", 1},
    {"", "accept: Application/JSON\r\n", 1},
    {"", "Accept: application/json; charset=utf-8\r\n", 1},
    {"", "Accept: text/html, application/json;q=0.9, */*;q=0.1\r\n", 1},
    {"", "Accept: application/json, text/plain\r\n", 1},
    {"", "Accept: text/plain, application/json\r\n", 0},
    {"", "Accept: text/plain;q=0.5, application/json\r\n", 1},
    {"", "Accept: application/json;q=0.5, text/plain\r\n", 0},
    {"", "Accept: application/json;q=0\r\n", 0},
    {"", "Accept: application/json;q=0.0, */*\r\n", 0},
    {"", "Accept: application/json ; v=1 ; q=0.25 , text/plain ;q=0.249\r\n", 1},
    {"", "Accept: text/plain;q=0.1\r\nAccept: application/json\r\n", 1},
    {"", "Accept: application/jsonx\r\n", 0},
    {"", "Accept: xapplication/json\r\n", 0},
    {"", "Accept: ,;,;q=,;;q=1.9;,application/json;q\r\n", 1},
    {"?format=json", "", 1},
    {"?format=json", "Accept: text/plain\r\n", 1},
    {"?format=text", "Accept: application/json\r\n", 0},
    {"?format=xml", "", 0},
    {"?format=xml", "Accept: application/json\r\n", 1},
    {"?format", "", 0},
    {"?a=b&format=json&c", "", 1},
    {"?format=jso%6e", "", 0},
    {"?", "", 0},
};

START_TEST(json_when_it_is_asked_for)
{
    char path[128];
    struct reply r;
    for (int page = 0; page < 2; page++) {
        snprintf(path, sizeof path, "/mq/%s%s", page ? "stats" : "status",
                 formats[_i].query);
        ck_assert_int_eq(client_request(admin.port, "GET", path, formats[_i].accept, &r),
                         200);
        ck_assert_str_eq(reply_header(&r, "Content-Type"),
                         formats[_i].json ? "application/json"
                                          : "text/plain; charset=utf-8");
        ck_assert_int_eq(r.body[0] == '{', formats[_i].json);
    }
}
END_TEST

START_TEST(json_is_the_library_s)
{
    char *text;
    struct reply r;
    ck_assert_int_eq(bgmq_stats_json(admin.mq, &text), 0);
    client_request(admin.port, "GET", "/mq/stats?format=json", "", &r);
    ck_assert_str_eq(r.body, text);
    free(text);
    json_t *json = json_loads(r.body, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(json);
    json_decref(json);
}
END_TEST

static int idle(struct bgmq_job *job, void *ctx)
{
    (void)job, (void)ctx;
    return BGMQ_DONE;
}

/* H15. */
START_TEST(h15_json_is_plain_ascii)
{
    struct reply r;
    ck_assert_int_eq(bgmq_register(admin.mq, "A.b-C_1", idle, NULL, NULL), 0);
    client_request(admin.port, "GET", "/mq/status?format=json", "", &r);
    for (size_t i = 0; i < r.len; i++)
        ck_assert_int_lt((unsigned char)r.body[i], 0x7f);
    ck_assert_ptr_nonnull(strstr(r.body, "A.b-C_1"));
    ck_assert_ptr_null(strchr(r.body, '<'));
    json_t *json = json_loads(r.body, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(json);
    json_decref(json);
}
END_TEST

/* ---- start and stop ---- */

struct block {
    struct gate running, go_on;
};

static int blocking(struct bgmq_job *job, void *ctx)
{
    (void)job;
    struct block *b = ctx;
    gate_open(&b->running);
    gate_wait(&b->go_on);
    return BGMQ_DONE;
}

/* A service with one handler that runs until b.go_on opens. */
static void run_handler(struct block *b)
{
    gate_init(&b->running);
    gate_init(&b->go_on);
    ck_assert_int_eq(bgmq_register(admin.mq, "Block", blocking, b, NULL), 0);
    ck_assert_int_eq(bgmq_start(admin.mq), 0);
    ck_assert_int_eq(bgmq_publish(admin.mq, "Block", "x", 1, NULL, NULL), 0);
    gate_wait(&b->running);
}

/* H16. */
START_TEST(stop_while_a_handler_runs_is_202)
{
    struct block b;
    struct reply r;
    run_handler(&b);
    ck_assert_int_eq(client_request(admin.port, "GET", "/mq/stop", "", &r), 202);
    ck_assert_str_eq(reply_header(&r, "Retry-After"), "1");
    ck_assert_ptr_nonnull(strstr(r.body, "handlers still run"));
    ck_assert_int_eq(bgmq_started(admin.mq), 0);
    gate_open(&b.go_on);
    WAIT_UNTIL(client_status(admin.port, "GET", "/mq/stop", "") == 200);
    gate_fini(&b.running);
    gate_fini(&b.go_on);
}
END_TEST

START_TEST(start_while_it_stops_is_answered_at_once)
{
    struct block b;
    run_handler(&b);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/stop", ""), 202);
    int status = client_status(admin.port, "GET", "/mq/start", "");
    ck_assert_msg(status == 200 || status == 503, "%d", status);
    gate_open(&b.go_on);
    WAIT_UNTIL(client_status(admin.port, "GET", "/mq/start", "") == 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
    gate_fini(&b.running);
    gate_fini(&b.go_on);
}
END_TEST

static void *stop_grace(void *arg)
{
    bgmq_stop(arg, 60000);
    return NULL;
}

/* H16. */
START_TEST(nothing_waits_for_a_stop_of_the_application)
{
    struct block b;
    run_handler(&b);
    pthread_t thread = harness_thread(stop_grace, admin.mq);
    WAIT_UNTIL(bgmq_started(admin.mq) == 0);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    int status = client_status(admin.port, "POST", "/mq/start", "");
    ck_assert_msg(status == 200 || status == 503, "%d", status);
    status = client_status(admin.port, "POST", "/mq/stop", "");
    ck_assert_msg(status == 202, "%d", status);
    gate_open(&b.go_on);
    harness_join(thread);
    ck_assert_int_eq(bgmq_stop(admin.mq, 60000), 0); /* the handler is out of the gate */
    gate_fini(&b.running);
    gate_fini(&b.go_on);
}
END_TEST

static void begin_database(void)
{
    struct bgmq_options options = {.database = harness_path("x.db")};
    ck_assert_int_eq(bgmq_open(&admin.mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_http_start(&admin.http, admin.mq, NULL, NULL), 0);
    admin.port = bgmq_http_port(admin.http);
}

/* H16.  Somebody else has the write lock, and the writer waits for it. */
START_TEST(nothing_waits_for_the_database)
{
    static const char *const paths[] = {"/mq/status", "/mq/stats", "/mq/start",
                                        "/mq/stop", "/mq/start"};
    sqlite3 *db;
    begin_database();
    ck_assert_int_eq(bgmq_register(admin.mq, "T", idle, NULL, NULL), 0);
    ck_assert_int_eq(sqlite3_open(harness_path("x.db"), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000); /* the journal may have it at the moment */
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct bgmq_message_options behind = {.durability = BGMQ_BEHIND};
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(bgmq_publish(admin.mq, "T", "x", 1, &behind, NULL), 0);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        int64_t begun = harness_now();
        int status = client_status(admin.port, "GET", paths[i], "");
        ck_assert_msg(status == 200 || status == 202, "%s: %d", paths[i], status);
        ck_assert_int_lt(harness_now() - begun, 2000000000LL * harness_scale());
    }
    sqlite3_close(db);
    admin_stop(&admin);
}
END_TEST

static void *toggle(void *arg)
{
    static _Atomic int turn;
    struct barrier *b = arg;
    const char *path = turn++ % 2 ? "/mq/start" : "/mq/stop";
    barrier_wait(b);
    for (int i = 0; i < 20; i++) {
        int64_t begun = harness_now();
        int status = client_status(admin.port, "POST", path, "");
        ck_assert_msg(status == 200 || status == 202 || status == 503, "%d", status);
        ck_assert_int_lt(harness_now() - begun, 2000000000LL * harness_scale());
    }
    return NULL;
}

/* H16. */
START_TEST(h16_stop_and_start_from_8_clients)
{
    struct barrier b;
    pthread_t threads[8];
    barrier_init(&b, 8);
    for (int i = 0; i < 8; i++)
        threads[i] = harness_thread(toggle, &b);
    for (int i = 0; i < 8; i++)
        harness_join(threads[i]);
    barrier_fini(&b);
    ck_assert_int_eq(client_status(admin.port, "POST", "/mq/start", ""), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

START_TEST(closed_service_is_503)
{
    static const char *const paths[] = {"/mq/status", "/mq/stats", "/mq/start",
                                        "/mq/stop"};
    struct reply r;
    ck_assert_int_eq(bgmq_close(admin.mq), 0);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(client_request(admin.port, "GET", paths[i], "", &r), 503);
        ck_assert_str_eq(r.body, "the service is closed\n");
    }
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/none", ""), 404);
}
END_TEST

START_TEST(paths_are_found_exactly)
{
    ck_assert_ptr_nonnull(bgmqi_http_reply_find("/mq/stop"));
    ck_assert_int_eq(bgmqi_http_reply_changes(bgmqi_http_reply_find("/mq/stop")), 1);
    ck_assert_int_eq(bgmqi_http_reply_changes(bgmqi_http_reply_find("/mq/stats")), 0);
    ck_assert_ptr_null(bgmqi_http_reply_find("/mq/stop "));
    ck_assert_ptr_null(bgmqi_http_reply_find(""));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_reply");
    TCase *tc = harness_case(s, "replies");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, every_answer_has_the_safe_headers, 0,
                        sizeof answers / sizeof answers[0]);
    tcase_add_test(tc, refusal_is_one_line_that_echoes_nothing);
    tcase_add_loop_test(tc, json_when_it_is_asked_for, 0,
                        sizeof formats / sizeof formats[0]);
    tcase_add_test(tc, json_is_the_library_s);
    tcase_add_test(tc, h15_json_is_plain_ascii);
    tcase_add_test(tc, stop_while_a_handler_runs_is_202);
    tcase_add_test(tc, start_while_it_stops_is_answered_at_once);
    tcase_add_test(tc, nothing_waits_for_a_stop_of_the_application);
    tcase_add_test(tc, h16_stop_and_start_from_8_clients);
    tcase_add_test(tc, closed_service_is_503);
    tcase_add_test(tc, paths_are_found_exactly);
    tc = harness_case(s, "database");
    tcase_add_test(tc, nothing_waits_for_the_database);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
