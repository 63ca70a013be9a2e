/* flow.c - the service, the messages and the handler of the flow tests.  Called from the
 * test's thread but recorder_handler, which the library's workers run. */
#include "flow.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void flow_check(int got, int want, const char *call, const char *file, int line)
{
    if (got != want)
        _ck_assert_failed(file, line, "result", "%s is %d %s, not %s", call, got,
                          bgmq_errname(got), bgmq_errname(want));
}

TCase *flow_case(Suite *suite, const char *name)
{
    TCase *tc = harness_case(suite, name);
    tcase_set_timeout(tc, 60);
    return tc;
}

/* ---- a service ------------------------------------------------------------------ */

const char *flow_database(void)
{
    return harness_path("flow.db");
}

struct bgmq *flow_open_with(int durable, struct bgmq_options options)
{
    if (durable)
        options.database = flow_database();
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    int err = bgmq_open(&mq, &options, &error);
    ck_assert_msg(err == 0, "bgmq_open: %s: %s", bgmq_errname(err), error.text);
    ck_assert_ptr_nonnull(mq);
    return mq;
}

struct bgmq *flow_open(int durable)
{
    return flow_open_with(durable, SERVICE(0));
}

void flow_close(struct bgmq *mq)
{
    OK(bgmq_close(mq));
    bgmq_free(mq);
}

long flow_sql(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *query;
    int r = sqlite3_open_v2(flow_database(), &db, SQLITE_OPEN_READONLY, NULL);
    ck_assert_int_eq(r, SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    r = sqlite3_prepare_v2(db, sql, -1, &query, NULL);
    ck_assert_msg(r == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_step(query), SQLITE_ROW);
    long value = (long)sqlite3_column_int64(query, 0);
    sqlite3_finalize(query);
    sqlite3_close(db);
    return value;
}

long flow_rows(void)
{
    return flow_sql("SELECT (SELECT count(*) FROM bgmq_job)"
                    " + (SELECT count(*) FROM bgmq_backlog)");
}

unsigned flow_patience(void)
{
    return 10000 * harness_scale();
}

/* ---- messages ------------------------------------------------------------------- */

uint64_t flow_publish_with(struct bgmq *mq, const char *type, const char *text,
                           struct bgmq_message_options options)
{
    struct bgmq_receipt receipt = {0};
    OK(bgmq_publish(mq, type, text, strlen(text), &options, &receipt));
    ck_assert_uint_ne(receipt.id, 0);
    return receipt.id;
}

uint64_t flow_publish(struct bgmq *mq, const char *type, const char *text)
{
    return flow_publish_with(mq, type, text, MESSAGE(0));
}

/* All in one commit, which is what makes a thousand of them cheap on a disk. */
void flow_publish_numbers(struct bgmq *mq, const char *type, int n)
{
    struct bgmq_item *items = calloc((size_t)n, sizeof(*items));
    char(*texts)[12] = calloc((size_t)n, sizeof(*texts));
    ck_assert(items && texts);
    for (int i = 0; i < n; i++) {
        int len = snprintf(texts[i], sizeof(texts[i]), "%d", i);
        items[i] = (struct bgmq_item){.type = type, .body = texts[i], .len = (size_t)len};
    }
    OK(bgmq_publish_many(mq, items, (size_t)n, NULL));
    free(texts);
    free(items);
}

struct bgmq_message *flow_take(struct bgmq *mq, const char *queue)
{
    struct bgmq_message *m = NULL;
    int err = bgmq_get(mq, queue, flow_patience(), &m);
    ck_assert_msg(err == 0, "nothing came from %s: %s", queue, bgmq_errname(err));
    ck_assert_ptr_nonnull(m);
    return m;
}

void flow_expect_body(const struct bgmq_message *m, const char *text)
{
    size_t len = 0;
    const char *body = bgmq_message_body(m, &len);
    ck_assert_ptr_nonnull(body);
    ck_assert_str_eq(body, text);
    ck_assert_uint_eq(len, strlen(text));
}

void flow_done(struct bgmq_message *m)
{
    OK(bgmq_ack(m));
    bgmq_message_free(m);
}

uint64_t flow_expect(struct bgmq *mq, const char *queue, const char *text)
{
    struct bgmq_message *m = flow_take(mq, queue);
    flow_expect_body(m, text);
    uint64_t id = bgmq_message_id(m);
    flow_done(m);
    return id;
}

void flow_empty_at(struct bgmq *mq, const char *queue, const char *file, int line)
{
    struct bgmq_message *m = NULL;
    size_t len = 0;
    int err = bgmq_get(mq, queue, 0, &m);
    if (err == BGMQ_ETIMEOUT)
        return;
    if (err == 0)
        _ck_assert_failed(file, line, "empty", "%s holds \"%.40s\"", queue,
                          (const char *)bgmq_message_body(m, &len));
    _ck_assert_failed(file, line, "empty", "bgmq_get(%s) is %s", queue,
                      bgmq_errname(err));
}

struct text {
    char *to;
    size_t size, len;
};

static void append(struct text *t, const char *word)
{
    size_t len = strlen(word);
    ck_assert_uint_lt(t->len + len + 1, t->size);
    memcpy(t->to + t->len, word, len);
    t->len += len;
    t->to[t->len++] = ' ';
    t->to[t->len] = '\0';
}

static int append_body(void *ctx, const struct bgmq_message *m)
{
    size_t len = 0;
    append(ctx, bgmq_message_body(m, &len));
    return 0;
}

char *flow_bodies(struct bgmq *mq, const char *queue, char *ret, size_t size)
{
    struct text t = {.to = ret, .size = size};
    ret[0] = '\0';
    int n = bgmq_peek(mq, queue, 10000, append_body, &t);
    ck_assert_msg(n >= 0, "bgmq_peek(%s) is %s", queue, bgmq_errname(n));
    return ret;
}

struct bgmq_stats flow_stats(struct bgmq *mq, const char *type)
{
    struct bgmq_stats s;
    OK(bgmq_type_stats(mq, type, &s));
    return s;
}

struct bgmq_collection flow_collection(struct bgmq *mq, const char *type)
{
    struct bgmq_collection c;
    OK(bgmq_type_collection(mq, type, &c));
    return c;
}

struct bgmq_counters flow_counters(struct bgmq *mq)
{
    struct bgmq_counters c;
    OK(bgmq_service_counters(mq, &c));
    return c;
}

static uint64_t ended(struct bgmq *mq, const char *type)
{
    struct bgmq_stats s = flow_stats(mq, type);
    return s.processed + s.failed;
}

void flow_wait_ended(struct bgmq *mq, const char *type, uint64_t n)
{
    WAIT_UNTIL(ended(mq, type) >= n);
}

/* ---- a handler that writes down ------------------------------------------------- */

void recorder_init(struct recorder *r)
{
    *r = (struct recorder){.failure = BGMQ_RETRY};
    counter_init(&r->begun);
    ck_assert_int_eq(pthread_mutex_init(&r->lock, NULL), 0);
}

void recorder_fini(struct recorder *r)
{
    counter_fini(&r->begun);
    pthread_mutex_destroy(&r->lock);
    free(r->calls);
}

static void write_down(struct recorder *r, const struct call *call)
{
    pthread_mutex_lock(&r->lock);
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 16;
        r->calls = realloc(r->calls, r->cap * sizeof(*r->calls));
        ck_assert_ptr_nonnull(r->calls);
    }
    r->calls[r->n++] = *call;
    if (++r->now > r->most)
        r->most = r->now;
    pthread_mutex_unlock(&r->lock);
    counter_add(&r->begun, 1);
}

int recorder_handler(struct bgmq_job *job, void *ctx)
{
    struct recorder *r = ctx;
    struct call call = {
        .id = bgmq_job_id(job),
        .attempt = bgmq_job_attempt(job),
        .priority = bgmq_job_priority(job),
    };
    const char *body = bgmq_job_body(job, &call.len);
    snprintf(call.body, sizeof(call.body), "%s", body);
    write_down(r, &call);
    if (r->gate)
        gate_wait(r->gate);
    pthread_mutex_lock(&r->lock);
    r->now--;
    pthread_mutex_unlock(&r->lock);
    int verdict = call.attempt <= r->failures ? r->failure : r->verdict;
    if (verdict == BGMQ_DONE && r->response) {
        char answer[80];
        int len = snprintf(answer, sizeof(answer), "re:%s", call.body);
        OK(bgmq_job_respond(job, r->response, answer, (size_t)len));
    }
    if (verdict != BGMQ_DONE && r->code)
        return bgmq_job_fail(job, (enum bgmq_verdict)verdict, r->code, "%s",
                             r->text ? r->text : "");
    return verdict;
}

struct call recorder_call(struct recorder *r, size_t i)
{
    pthread_mutex_lock(&r->lock);
    ck_assert_uint_lt(i, r->n);
    struct call call = r->calls[i];
    pthread_mutex_unlock(&r->lock);
    return call;
}

char *recorder_bodies(struct recorder *r, char *ret, size_t size)
{
    struct text t = {.to = ret, .size = size};
    ret[0] = '\0';
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n; i++)
        append(&t, r->calls[i].body);
    pthread_mutex_unlock(&r->lock);
    return ret;
}

void flow_register_with(struct bgmq *mq, const char *type, struct recorder *r,
                        struct bgmq_type_options options)
{
    OK(bgmq_register(mq, type, recorder_handler, r, &options));
}

void flow_register(struct bgmq *mq, const char *type, struct recorder *r)
{
    OK(bgmq_register(mq, type, recorder_handler, r, NULL));
}
