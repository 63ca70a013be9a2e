/* oom_scenes.c - what is done while memory is short: each group of functions that the library has.
 * Runs on a thread of the scene, after READY has on the test's. */
#include <arpa/inet.h>
#include <bgmq_sqlite.h>
#include <bgmq_test.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oom.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
static const char *const meta[] = {"key", "value", "more", "text", NULL};

static void put_some(struct oom_world *w)
{
    for (int i = 0; i < OOM_PUT; i++)
        oom_put(w, NULL);
}

static void open_with_some(struct oom_world *w)
{
    oom_open(w);
    put_some(w);
}

static unsigned patience(const struct oom_world *w)
{
    return w->hasty ? 30 : 10000;
}

static void wait_ended(struct oom_world *w)
{
    int64_t now = harness_now(), half = now + (harness_deadline() - now) / 2;
    for (; !oom_waited(w); poll(NULL, 0, 1))
        ck_assert_msg(harness_now() < half, "%s: not all has ended; log:\n%s", oom_where,
                      w->log.text);
}

/* ---- open and close ---------------------------------------------------------------- */

static void leave_some(struct oom_world *w)
{
    open_with_some(w);
    if (!w->durable)
        return;
    ck_assert_int_eq(bgmq_close(w->mq), 0);
    bgmq_free(w->mq);
    w->mq = NULL;
}

/* A second one in memory beside what is open, else the one with the messages of before. */
static void act_open(struct oom_world *w)
{
    struct bgmq *other = NULL;
    struct bgmq_error error = {""};
    struct bgmq_options options = oom_options(w);
    int err =
        oom_say(w, bgmq_open(w->mq ? &other : &w->mq, w->mq ? NULL : &options, &error));
    if (err && !w->mq)
        ck_assert_str_ne(error.text, "");
    if (other)
        oom_say(w, bgmq_close(other));
    bgmq_free(other);
}

/* ---- types and threads ------------------------------------------------------------- */

static int quiet(struct bgmq_job *job, void *ctx)
{
    (void)job, (void)ctx;
    return BGMQ_DONE;
}

static unsigned workers_of(struct oom_world *w, const char *type)
{
    struct bgmq_collection c;
    ck_assert_int_eq(bgmq_type_collection(w->mq, type, &c), 0);
    return c.threads;
}

static void act_register(struct oom_world *w)
{
    static const unsigned table[] = {1, 2, 3};
    char name[32];
    snprintf(name, sizeof(name), "Type.%d", w->numbers++);
    struct bgmq_type_options options = {.threads = 3,
                                        .backoff = BGMQ_BACKOFF_TABLE,
                                        .backoff_table = table,
                                        .backoff_table_len = 3,
                                        .on_error = quiet};
    oom_say(w, bgmq_start(w->mq));
    int threads = harness_count_threads();
    if (oom_say(w, bgmq_register(w->mq, name, quiet, NULL, &options)) < 0) {
        WAIT_UNTIL(harness_count_threads() == threads);
        ck_assert_int_eq(bgmq_set_threads(w->mq, name, 2), BGMQ_ENOENT);
    }
    options.channel = "here";
    oom_say(w, bgmq_register(w->mq, name, quiet, NULL, &options));
    options.channel = NULL;
    unsigned had = workers_of(w, "T");
    if (oom_say(w, bgmq_set_threads(w->mq, "T", 5)) < 0)
        ck_assert_uint_eq(workers_of(w, "T"), had);
    oom_say(w, bgmq_set_threads(w->mq, "T", 1));
    oom_say(w, bgmq_pause(w->mq, "T"));
    oom_say(w, bgmq_resume(w->mq, "T"));
    oom_say(w, bgmq_flush(w->mq));
    oom_say(w, bgmq_drain(w->mq, patience(w)));
    oom_say(w, bgmq_stop(w->mq, 10000));
    oom_say(w, bgmq_request_stop(w->mq));
}

/* ---- publishing -------------------------------------------------------------------- */

static void publish(struct oom_world *w, const char *queue, int to,
                    const struct bgmq_message_options *options)
{
    char text[16];
    int number = oom_number(w, text);
    struct bgmq_receipt r = {.id = 0};
    int err =
        oom_say(w, to ? bgmq_publish_to(w->mq, queue, text, strlen(text), options, &r)
                      : bgmq_publish(w->mq, queue, text, strlen(text), options, &r));
    oom_published(w, number, err, r.id);
}

static void publish_many(struct oom_world *w)
{
    char texts[3][16];
    struct bgmq_message_options options = {.tag = "many", .meta = meta};
    struct bgmq_item items[3];
    struct bgmq_receipt receipts[3] = {{.id = 0}};
    int first = w->numbers;
    for (int i = 0; i < 3; i++) {
        oom_number(w, texts[i]);
        items[i] =
            (struct bgmq_item){"T", texts[i], strlen(texts[i]), i ? &options : NULL};
    }
    int err = oom_say(w, bgmq_publish_many(w->mq, items, 3, receipts));
    for (int i = 0; i < 3; i++)
        oom_published(w, first + i, err, receipts[i].id);
}

static void act_publish(struct oom_world *w)
{
    char key[32], large[1500] = "";
    snprintf(key, sizeof(key), "key %d", w->numbers);
    struct bgmq_message_options rich = {.unique_key = key,
                                        .tag = "tag",
                                        .traceparent = "trace",
                                        .meta = meta,
                                        .reply_to = "answers",
                                        .timeout_ms = 60000};
    struct bgmq_message_options later = {.delay_ms = 1}, urgent = {.priority = 5};
    publish(w, "T", 0, NULL);
    publish(w, "T", 0, &rich);
    publish(w, "T", 0, &later);
    publish(w, "T", 0, &urgent);
    publish(w, "mq:T.inq", 1, NULL);
    publish_many(w);
    rich.on_conflict = BGMQ_CONFLICT_REFUSE;
    char text[16];
    int number = oom_number(w, text);
    struct bgmq_receipt r = {.id = 0};
    oom_published(w, number,
                  oom_say(w, bgmq_publish_json(w->mq, "T", NULL, &r, "i", number)), r.id);
    /* These nobody handles. */
    oom_say(w, bgmq_publish(w->mq, key + 4, large, sizeof(large), NULL, NULL));
    oom_say(w, bgmq_publish_to(w->mq, key, "x", 1, NULL, NULL));
    oom_say(w, bgmq_flush(w->mq));
}

/* ---- handling ---------------------------------------------------------------------- */

static void act_handle(struct oom_world *w)
{
    atomic_store(&w->forgiving, 1);
    oom_say(w, bgmq_start(w->mq));
    wait_ended(w);
}

/* ---- consuming --------------------------------------------------------------------- */

/* Takes one and settles it; what cannot be settled goes back. */
static void take(struct oom_world *w, int how)
{
    struct bgmq_message *m = NULL;
    if (oom_say(w, bgmq_get(w->mq, "mq:T.inq", 0, &m)) < 0)
        return;
    size_t len;
    int number = atoi(bgmq_message_body(m, &len));
    int err = oom_say(w, how ? bgmq_nak(m, how - 1) : bgmq_ack(m));
    if (how == 0 && (err == 0 || err == BGMQ_EUNCERTAIN || err == BGMQ_ESTORE))
        w->notes[number].fate = OOM_GONE;
    bgmq_message_free(m);
}

static int count_peeked(void *ctx, const struct bgmq_message *m)
{
    (void)m;
    ++*(int *)ctx;
    return 0;
}

static void act_consume(struct oom_world *w)
{
    char name[40];
    int n = 0;
    take(w, 2);
    take(w, 1);
    take(w, 0);
    int peeked = oom_say(w, bgmq_peek(w->mq, "mq:T.inq", 100, count_peeked, &n));
    ck_assert_int_eq(n, peeked < 0 ? 0 : peeked);
    if (oom_say(w, bgmq_temp_queue(w->mq, name)) < 0)
        return;
    struct bgmq_message *m;
    if (oom_say(w, bgmq_publish_to(w->mq, name, "x", 1, NULL, NULL)) == 0 &&
        oom_say(w, bgmq_get(w->mq, name, 0, &m)) == 0) {
        oom_say(w, bgmq_ack(m));
        bgmq_message_free(m);
    }
    ck_assert_int_eq(bgmq_drop_queue(w->mq, name), 0);
}

static void act_request(struct oom_world *w)
{
    char text[16];
    struct bgmq_message *m;
    atomic_store(&w->forgiving, 1);
    oom_say(w, bgmq_start(w->mq));
    int number = oom_number(w, text);
    int err = oom_say(
        w, bgmq_request(w->mq, "T", text, strlen(text), NULL, w->hasty ? 30 : 2000, &m));
    /* It may have been published before there was no memory for the rest; and a reply for which
     * there is none is dropped and counted. */
    oom_published(w, number, err ? BGMQ_EUNCERTAIN : 0, 0);
    if (err == 0)
        bgmq_message_free(m);
}

/* ---- operating --------------------------------------------------------------------- */

static int count_error(void *ctx, const struct bgmq_attempt_error *error)
{
    (void)ctx, (void)error;
    return 0;
}

static void lay_out(struct oom_world *w)
{
    oom_open(w);
    for (int i = 0; i < OOM_PUT; i++)
        oom_put(w, i % 2 ? &(struct bgmq_message_options){.delay_ms = 60000} : NULL);
}

static void act_operate(struct oom_world *w)
{
    struct bgmq_select tagged = {.tag = "nobody"}, one = {.id = w->put[0]};
    struct bgmq_change sooner = {.set_time = 1},
                       higher = {.set_priority = 1, .priority = 3};
    struct bgmq_info info;
    struct bgmq_run runs[4];
    struct bgmq_health health;
    uint64_t *ids;
    oom_say(w, bgmq_find(w->mq, "T", w->put[2], &info));
    oom_say(w, bgmq_find(w->mq, "T", w->put[3], &info));
    oom_say(w, bgmq_change(w->mq, "T", w->put[1], &sooner));
    oom_say(w, bgmq_change(w->mq, "T", w->put[2], &higher));
    oom_say(w, bgmq_cancel(w->mq, "T", &tagged, "nobody"));
    if (oom_say(w, bgmq_cancel(w->mq, "T", &one, "enough")) == 1)
        oom_say(w, bgmq_retry(w->mq, "T", &one));
    oom_say(w, bgmq_cancel(w->mq, "T", &(struct bgmq_select){.max = 2}, NULL));
    oom_say(w, bgmq_retry_dead(w->mq, "T", 0));
    oom_say(w, bgmq_discard(w->mq, "T", &tagged));
    if (oom_say(w, bgmq_retry_pending(w->mq, &ids)) >= 0)
        free(ids);
    oom_say(w, bgmq_runs(w->mq, runs, COUNT(runs)));
    oom_say(w, bgmq_health(w->mq, &health));
    if (w->durable)
        oom_say(w, bgmq_errors(w->mq, w->put[0], count_error, NULL));
}

static void act_discard(struct oom_world *w)
{
    for (int i = 0; i < w->numbers; i++) {
        if (w->notes[i].fate != OOM_ACCEPTED || i % 3)
            continue;
        struct bgmq_select one = {.id = w->notes[i].id};
        int n = oom_say(w, bgmq_discard(w->mq, "T", &one));
        if (n == 1 || n == BGMQ_EUNCERTAIN || n == BGMQ_ESTORE)
            w->notes[i].fate = OOM_GONE;
    }
}

static void handle_some(struct oom_world *w)
{
    open_with_some(w);
    atomic_store(&w->forgiving, 1);
    ck_assert_int_eq(bgmq_start(w->mq), 0);
    wait_ended(w);
    WAIT_UNTIL(bgmq_flush(w->mq) == 0);
    ck_assert_int_eq(bgmq_stop(w->mq, 10000), 0);
}

static void act_inspect(struct oom_world *w)
{
    struct bgmq_stats stats[4], sum;
    struct bgmq_collection c;
    struct bgmq_entry entries[9];
    struct bgmq_counters counters;
    struct bgmq_info info;
    char *texts[5] = {NULL};
    void *result = NULL;
    size_t len;
    oom_say(w, bgmq_status_text(w->mq, &texts[0]));
    oom_say(w, bgmq_status_json(w->mq, &texts[1]));
    oom_say(w, bgmq_stats_text(w->mq, &texts[2]));
    oom_say(w, bgmq_stats_json(w->mq, &texts[3]));
    oom_say(w, bgmq_description_text(w->mq, "T", &texts[4]));
    for (size_t i = 0; i < COUNT(texts); i++)
        free(texts[i]);
    oom_say(w, bgmq_total_stats(w->mq, &sum));
    oom_say(w, bgmq_type_stats(w->mq, "T", &sum));
    oom_say(w, bgmq_workers(w->mq, "mq:T.inq", stats, COUNT(stats)));
    oom_say(w, bgmq_type_collection(w->mq, "T", &c));
    oom_say(w, bgmq_description_map(w->mq, "T", entries));
    oom_say(w, bgmq_service_counters(w->mq, &counters));
    if (!w->durable)
        return;
    oom_say(w, bgmq_find(w->mq, "T", w->put[0], &info));
    if (oom_say(w, bgmq_result(w->mq, w->put[0], &result, &len)) == 0)
        ck_assert_uint_eq(len, 6);
    free(result);
    oom_say(w, bgmq_errors(w->mq, w->put[3], count_error, NULL));
}

/* ---- transactions and guests ------------------------------------------------------- */

static void connect_application(struct oom_world *w)
{
    oom_open(w);
    ck_assert_int_eq(sqlite3_open(w->path, &w->db), SQLITE_OK);
    sqlite3_busy_timeout(w->db, 5000);
    ck_assert_int_eq(
        sqlite3_exec(w->db, "CREATE TABLE effect(number INTEGER)", NULL, NULL, NULL), 0);
}

static void act_tx(struct oom_world *w)
{
    struct bgmq_message_options rich = {
        .tag = "tag", .meta = meta, .traceparent = "trace"};
    int first = w->numbers;
    if (!sqlite3_get_autocommit(w->db)) /* there was no memory for that the last time */
        sqlite3_exec(w->db, "ROLLBACK", NULL, NULL, NULL);
    oom_say(w, bgmq_sqlite_prepare(w->mq, w->db));
    if (sqlite3_exec(w->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return;
    for (int i = 0; i < 3; i++) {
        char text[16];
        int number = oom_number(w, text);
        struct bgmq_receipt r = {.id = 0};
        int err = oom_say(w, bgmq_publish_tx(w->mq, w->db, "T", text, strlen(text),
                                             i ? &rich : NULL, &r));
        oom_published(w, number, err, r.id);
    }
    /* "After a failure roll back"; a commit that failed for want of memory says nothing. */
    int rc = w->failures ? SQLITE_ABORT : sqlite3_exec(w->db, "COMMIT", NULL, NULL, NULL);
    int undone = !sqlite3_get_autocommit(w->db) &&
                 sqlite3_exec(w->db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK;
    for (int i = first; rc != SQLITE_OK && i < w->numbers; i++)
        w->notes[i].fate = undone ? OOM_REFUSED : OOM_UNCERTAIN;
    if (!sqlite3_get_autocommit(w->db))
        sqlite3_exec(w->db, "ROLLBACK", NULL, NULL, NULL);
}

static int with_effect(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    struct oom_world *w = ctx;
    char sql[64];
    size_t len;
    snprintf(sql, sizeof(sql), "INSERT INTO effect VALUES(%s)",
             (const char *)bgmq_job_body(job, &len));
    if (bgmq_job_save_cursor_tx(job, db, "c", 1) < 0)
        return BGMQ_RETRY;
    if (bgmq_publish_tx(w->mq, db, "Nobody", "x", 1, NULL, NULL) < 0)
        return BGMQ_RETRY;
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? BGMQ_DONE : BGMQ_RETRY;
}

/* The last verdict tells how it ended, but for a commit that failed half-way. */
static int handle_tx(struct bgmq_job *job, void *ctx)
{
    struct oom_world *w = ctx;
    size_t len;
    int number = atoi(bgmq_job_body(job, &len));
    atomic_fetch_add(&w->notes[number].starts, 1);
    int verdict = bgmq_job_transaction(job, w->db, with_effect, w);
    if (verdict == BGMQ_DONE) {
        atomic_fetch_add(&w->notes[number].ends, 1);
    }
    return verdict;
}

static void ready_tx_job(struct oom_world *w)
{
    struct bgmq_type_options options = {
        .max_attempts = 1000, .backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 1};
    connect_application(w);
    ck_assert_int_eq(bgmq_register(w->mq, "Tx", handle_tx, w, &options), 0);
}

static int count_effects(struct oom_world *w, int number)
{
    char sql[80];
    sqlite3_stmt *query;
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM effect WHERE number = %d", number);
    ck_assert_int_eq(sqlite3_prepare_v2(w->db, sql, -1, &query, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(query), SQLITE_ROW);
    int n = sqlite3_column_int(query, 0);
    sqlite3_finalize(query);
    return n;
}

/* No effect is there twice; looked at in the next play, when there is memory. */
static void act_tx_job(struct oom_world *w)
{
    for (int i = 0; oom_refused() == 0 && i < w->numbers; i++)
        ck_assert_int_le(count_effects(w, i), 1);
    for (int i = 0; i < 3; i++)
        publish(w, "Tx", 0, NULL);
    oom_say(w, bgmq_start(w->mq));
    wait_ended(w);
}

static void act_guest(struct oom_world *w)
{
    struct bgmq_message_options rich = {.tag = "tag", .meta = meta, .unique_key = NULL};
    struct bgmq_error error = {""};
    char *status;
    if (!w->guest && oom_say(w, bgmq_guest_open(&w->guest, w->path, &error)) < 0)
        return;
    for (int i = 0; i < 2; i++) {
        char text[16];
        int number = oom_number(w, text);
        struct bgmq_receipt r = {.id = 0};
        int err = oom_say(w, bgmq_guest_publish(w->guest, "T", text, strlen(text),
                                                i ? &rich : NULL, &r));
        oom_published(w, number, err, r.id);
    }
    if (oom_say(w, bgmq_guest_status(w->guest, &status)) == 0)
        free(status);
    bgmq_guest_close(w->guest);
    w->guest = NULL;
}

/* ---- the admin --------------------------------------------------------------------- */

/* The status of the answer; 0: none came. */
static int ask(unsigned port, const char *path)
{
    char text[512];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    int n =
        snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    ck_assert_int_eq(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
    ssize_t got = recv(fd, text, sizeof(text) - 1, MSG_WAITALL);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    return strncmp(text, "HTTP/1.1 ", 9) == 0 ? atoi(text + 9) : 0;
}

static void act_http(struct oom_world *w)
{
    static const char *const hosts[] = {"queue.example", NULL};
    static const char *const paths[] = {"/mq/status", "/mq/stats", "/mq/start",
                                        "/mq/stop"};
    struct bgmq_http_options options = {.hosts = hosts};
    struct bgmq_error error = {""};
    if (oom_say(w, bgmq_http_start(&w->http, w->mq, &options, &error)) < 0) {
        ck_assert_str_ne(error.text, "");
        return;
    }
    for (size_t i = 0; i < COUNT(paths); i++) {
        int status = ask(bgmq_http_port(w->http), paths[i]);
        if (status != 200 && status != 202)
            oom_say_at(w, status == 503 || status == 0 ? BGMQ_ENOMEM : -status, paths[i]);
    }
    bgmq_http_stop(w->http);
    w->http = NULL;
}

/* ---- the kit for tests ------------------------------------------------------------- */

static void act_kit(struct oom_world *w)
{
    struct bgmq *mq;
    struct bgmq_error error = {""};
    struct bgmq_test_record record;
    if (oom_say(w, bgmq_test_open(&mq, NULL, 0, &error)) < 0)
        return;
    oom_say(w, bgmq_register(mq, "Quiet", quiet, NULL, NULL));
    if (oom_say(w, bgmq_publish(mq, "Quiet", "x", 1, NULL, NULL)) == 0) {
        oom_say(w, bgmq_test_published(mq, "Quiet", "x", 1));
        oom_say(w, bgmq_test_record(mq, 0, &record));
        ck_assert_ptr_nonnull(bgmq_test_missing(mq, "Quiet", "y", 1));
    }
    oom_say(w, bgmq_test_step(mq, NULL));
    oom_say(w, bgmq_test_advance(mq, 1000));
    oom_say(w, bgmq_test_drain(mq, 0));
    oom_say(w, bgmq_close(mq));
    bgmq_free(mq);
}

const struct oom_scene oom_scenes[] = {
    {"open", leave_some, act_open, 0, 0, {0}},
    {"register", oom_open, act_register, 0, 0, {BGMQ_ETHREAD}},
    {"publish", oom_open, act_publish, 0, 0, {0}},
    {"handle", open_with_some, act_handle, 0, 0, {0}},
    {"consume", open_with_some, act_consume, 0, 0, {0}},
    {"request", oom_open, act_request, 0, 0, {BGMQ_ETIMEOUT}},
    {"operate", lay_out, act_operate, 0, 0, {BGMQ_ENOENT}},
    {"discard", lay_out, act_discard, 0, 0, {0}},
    {"inspect", handle_some, act_inspect, 0, 0, {0}},
    {"tx", connect_application, act_tx, 1, 1, {0}},
    {"tx_job", ready_tx_job, act_tx_job, 1, 0, {0}},
    {"guest", oom_open, act_guest, 1, 0, {0}},
    {"http", open_with_some, act_http, 0, 0, {BGMQ_EHTTP, BGMQ_ETHREAD}},
    {"kit", oom_open, act_kit, 0, 1, {BGMQ_ETHREAD}},
};
const size_t oom_n_scenes = COUNT(oom_scenes);
