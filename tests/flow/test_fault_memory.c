/* test_fault_memory.c - each allocation of one thread fails in its turn while it makes one call:
 * the call says so and has changed nothing, and succeeds as soon as none fails.
 *
 * That is for calls of one thread, its handlers' too, which the scenes of tests/faults/test_oom.c
 * meet by chance only; the journal's thread is test_fault_rows.c's. */
#include "app.h"
#include "refuse.h"

#include "mem.h"
#include "store.h"

#include <bgmq_operate.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- the caller ------------------------------------------------------------------------ */

START_TEST(message_that_finds_no_memory_takes_nobodys_place)
{
    struct bgmq_message_options o = MESSAGE(.unique_key = "k");
    struct bgmq *mq = flow_open(_i);
    int err;
    flow_publish_with(mq, "T", "old", o);
    o.on_conflict = BGMQ_CONFLICT_REPLACE;
    EACH(err, bgmq_publish(mq, "T", "new", 3, &o, NULL));
    OK(err);
    flow_expect(mq, "mq:T.inq", "new");
    flow_expect_empty(mq, "mq:T.inq");
    flow_close(mq);
}
END_TEST

/* Who retries learns of each that he has retried. */
START_TEST(message_that_cannot_be_named_is_not_retried)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.backoff_base_ms = 3600000));
    OK(bgmq_start(mq));
    uint64_t *ids = NULL, id = flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    int got = BGMQ_ENOMEM;
    for (long n = 1; got == BGMQ_ENOMEM; n++) {
        ck_assert_uint_eq(flow_stats(mq, "T").processed, 0);
        refuse_left = n;
        got = bgmq_retry_pending(mq, &ids);
        refuse_left = 0;
    }
    ck_assert_int_gt(refuse_hits, 0);
    ck_assert_int_eq(got, 1);
    ck_assert_uint_eq(ids[0], id);
    free(ids);
    flow_wait_ended(mq, "T", 2);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* Check and the harness allocate, too: what is called with memory refused asserts nothing. */
static const char *database;
static struct bgmq_error why;

static int open_once(struct bgmq **ret)
{
    static const char *const types[] = {"A", "B", NULL};
    return bgmq_open(ret,
                     &SERVICE(.database = database, .guests = 1, .share_database = 1,
                              .response_types = types),
                     &why);
}

static int open_and_close(void)
{
    struct bgmq *mq = NULL;
    int err = open_once(&mq);
    bgmq_free(mq);
    return err;
}

START_TEST(service_without_memory_is_not_open)
{
    int err;
    database = flow_database();
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    flow_publish(mq, "T", "x");
    flow_close(mq);
    for (long n = 1, refused = 1; refused; n++) {
        refuse_left = n;
        refuse_hits = 0;
        err = open_and_close();
        refuse_left = 0;
        refused = refuse_hits;
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM, "%ld: %s", n, bgmq_errname(err));
        ck_assert_msg(!err || strstr(why.text, "memory"), "%ld: %s", n, why.text);
    }
    OK(err);
    OK(open_once(&mq));
    flow_expect(mq, "mq:T.inq", "x");
    flow_close(mq);
}
END_TEST

static int status_once(struct bgmq_guest *g)
{
    char *text = NULL;
    int err = bgmq_guest_status(g, &text);
    free(text);
    return err;
}

START_TEST(status_without_memory_is_none)
{
    int err;
    struct bgmq_guest *g = NULL;
    flow_close(flow_open(1));
    OK(bgmq_guest_open(&g, flow_database(), NULL));
    EACH(err, status_once(g));
    OK(err);
    bgmq_guest_close(g);
}
END_TEST

static int open_store(void)
{
    struct store_options o = {.path = database, .max_body = 1 << 20, .check_at_once = 1};
    struct store *s = NULL;
    int err = bgmqi_store_sqlite_open(&s, &o, NULL);
    if (s)
        s->ops->close(s);
    return err;
}

START_TEST(store_without_memory_is_not_open)
{
    int err;
    database = flow_database();
    flow_close(flow_open(1));
    EACH(err, open_store());
    OK(err);
}
END_TEST

/* Nobody has a reason to look into the table by which a transaction speaks to us; who does may run
 * out of memory. */
START_TEST(table_of_signals_without_memory_is_not_read)
{
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    sqlite3 *db = app_open();
    OK(bgmq_sqlite_prepare(mq, db));
    long n = 1;
    for (int rc = SQLITE_NOMEM; rc != SQLITE_OK; n++) {
        refuse_left = n;
        refuse_hits = 0;
        rc = sqlite3_exec(db, "SELECT * FROM bgmq_signal", NULL, NULL, NULL);
        refuse_left = 0;
        ck_assert_int_eq(rc, refuse_hits ? SQLITE_NOMEM : SQLITE_OK);
    }
    ck_assert_int_gt(n, 3); /* the table, and who reads it */
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "x");
    app_sql(db, "SELECT * FROM bgmq_signal");
    app_sql(db, "COMMIT");
    flow_expect(mq, "mq:T.inq", "x");
    flow_expect_empty(mq, "mq:T.inq");
    app_close(db);
    flow_close(mq);
}
END_TEST

/* ---- a handler ------------------------------------------------------------------------- */

static sqlite3 *app;
static struct bgmq *service;

static int look_at_runs(void)
{
    int n = bgmq_runs(service, NULL, 0);
    return n > 0 ? 0 : n;
}

/* Strings and numbers of more bytes than jansson has room for at first. */
static const char long_body[] =
    "{\"key.of.some.length\":[\"abcdefghijklmn\","
    "\"abcdefghijklmnopqrstuvwxyz0123456789\","
    "123456789012345678,0.5,true,null,{\"key.of.some.length\":\"\"}]}";

static int read_body(struct bgmq_job *job, void *ctx)
{
    int err;
    json_t *value = NULL;
    EACH(err, bgmq_job_json(job, &value));
    OK(err);
    char *text = json_dumps(value, JSON_COMPACT);
    ck_assert_str_eq(text, long_body);
    free(text);
    ++*(int *)ctx;
    return BGMQ_DONE;
}

/* J6.  A body that is JSON is not refused, nor read as another, because memory is lacking. */
START_TEST(body_that_finds_no_memory_is_still_json)
{
    int read = 0;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", read_body, &read, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", long_body);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(read, 1);
    flow_close(mq);
}
END_TEST

static int unpack_pair(struct bgmq_job *job, const char *format)
{
    const char *name = "", *text = "";
    int err = bgmq_job_unpack(job, format, "name", &name, "text", &text);
    if (!err && (strcmp(name, "n") != 0 || strcmp(text, "t") != 0))
        return BGMQ_ESTORE;
    return err;
}

/* What is noted is the job's error, and kept for people: of memory nothing is, so that it failed
 * without a reason. */
static int unpack_and_pack(struct bgmq_job *job, void *ctx)
{
    int err;
    EACH(err, unpack_pair(job, "{s:s, s:s}"));
    OK(err);
    EACH(err, unpack_pair(job, "{s:s, s:s!}"));
    OK(err);
    EACH(err, bgmq_job_respond_json(job, "Done", "{s:s, s:[s, i]}", "name", "n", "list",
                                    "text", 1));
    OK(err);
    EACH(err, bgmq_publish_json(bgmq_job_service(job), "Done", NULL, NULL,
                                "{s:s, s:[s, i]}", "name", "n", "list", "text", 1));
    OK(err);
    EACH(err, bgmq_publish_json(bgmq_job_service(job), "Done", NULL, NULL, "s", "text"));
    OK(err);
    ++*(int *)ctx;
    return BGMQ_RETRY;
}

/* J10. */
START_TEST(json_that_finds_no_memory_is_not_badly_made)
{
    int runs = 0;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", unpack_and_pack, &runs, &TYPE(.max_attempts = 1)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "{\"name\":\"n\",\"text\":\"t\"}");
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(runs, 1);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "Failed");
    flow_done(m);
    m = flow_take(mq, "mq:Done.inq");
    flow_expect_body(m, "{\"name\":\"n\",\"list\":[\"text\",1]}");
    flow_done(m);
    flow_close(mq);
}
END_TEST

static void expect_cursor(const struct bgmq_job *job, const char *text)
{
    size_t len = 0;
    const char *cursor = bgmq_job_cursor(job, &len);
    ck_assert_uint_eq(len, strlen(text));
    ck_assert_int_eq(memcmp(cursor, text, len), 0);
}

/* A cursor is kept whole, or the one of before is. */
static void save(struct bgmq_job *job, const char *before, const char *text)
{
    int err;
    for (long n = 1;; n++) {
        refuse_left = n;
        refuse_hits = 0;
        err = bgmq_job_save_cursor(job, text, strlen(text), BGMQ_COMMIT);
        refuse_left = 0;
        if (!err)
            break;
        FAILS(BGMQ_ENOMEM, err);
        expect_cursor(job, before);
    }
    ck_assert_int_eq(refuse_hits, 0);
    expect_cursor(job, text);
}

/* What is not saved in a transaction is not saved at all. */
static void save_with_effect(struct bgmq_job *job, const char *before, const char *text)
{
    for (long n = 1, refused = 1; refused; n++) {
        app_sql(app, "BEGIN");
        refuse_left = n;
        refuse_hits = 0;
        int err = bgmq_job_save_cursor_tx(job, app, text, strlen(text));
        refuse_left = 0;
        refused = refuse_hits;
        ck_assert_msg(err == 0 || (refused && (err == BGMQ_ENOMEM || err == BGMQ_ESTORE)),
                      "%ld: %s", n, bgmq_errname(err));
        if (refused)
            app_sql(app, "ROLLBACK");
        else
            app_sql(app, "COMMIT");
        expect_cursor(job, refused ? before : text);
    }
}

static void fail_and_complete(struct bgmq_job *job)
{
    int err;
    for (long n = 1; n < 60; n++) {
        app_sql(app, "BEGIN");
        refuse_left = n;
        err = bgmq_job_save_cursor_tx(job, app, "two", 3);
        if (!err)
            err = bgmq_job_fail_tx(job, app, BGMQ_PERMANENT, "code", "text");
        refuse_left = 0;
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM || err == BGMQ_ESTORE, "%ld: %s", n,
                      bgmq_errname(err));
        app_sql(app, "ROLLBACK");
        app_sql(app, "BEGIN");
        refuse_left = n;
        err = bgmq_job_complete_tx(job, app);
        refuse_left = 0;
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM, "%ld: %s", n, bgmq_errname(err));
        app_sql(app, "ROLLBACK");
    }
}

static int save_and_end(struct bgmq_job *job, void *ctx)
{
    int err = 0;
    EACH(err,
         bgmq_job_save_cursor(job, "one", 3, *(int *)ctx ? BGMQ_COMMIT : BGMQ_BEHIND));
    OK(err);
    if (*(int *)ctx) { /* it would have the row written */
        save(job, "one", "two");
        save_with_effect(job, "two", "three");
        save(job, "three", "four");
    }
    EACH(err, look_at_runs());
    OK(err);
    EACH(err, bgmq_job_progress(job, 1, "half"));
    OK(err);
    EACH(err, bgmq_job_result(job, "result", 6));
    OK(err);
    fail_and_complete(job);
    return BGMQ_DONE;
}

/* _i: whether its row is written. */
START_TEST(handler_without_memory_is_told_and_goes_on)
{
    struct bgmq_options options = SERVICE(.share_database = 1);
    if (!_i)
        options.durability = BGMQ_BEHIND, options.flush_interval_ms = 3600000;
    struct bgmq *mq = flow_open_with(1, options);
    service = mq;
    app = app_open();
    int written = _i;
    OK(bgmq_register(mq, "T", save_and_end, &written, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    app_close(app);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* The worker has no memory for what it does after its handler: the message ends all the same. */
static int fail_without_memory(struct bgmq_job *job, void *ctx)
{
    long *n = ctx;
    (void)job;
    refuse_left = *n;
    return BGMQ_PERMANENT;
}

START_TEST(failure_that_finds_no_memory_for_its_reply_is_a_failure)
{
    long n;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", fail_without_memory, &n, NULL));
    for (n = 1; n < 12; n++) {
        OK(bgmq_start(mq));
        flow_publish_with(mq, "T", "x", MESSAGE(.reply_to = "replies"));
        flow_wait_ended(mq, "T", (uint64_t)n);
        OK(bgmq_stop(mq, 0));
    }
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 11);
    uint64_t dropped = flow_counters(mq).replies_dropped;
    ck_assert_uint_gt(dropped, 0);
    for (uint64_t i = dropped; i < 11; i++)
        flow_done(flow_take(mq, "replies"));
    flow_expect_empty(mq, "replies");
    flow_close(mq);
}
END_TEST

/* ---- blocks ---------------------------------------------------------------------------- */

/* On a thread that has no block yet. */
static void *take_blocks(void *arg)
{
    (void)arg;
    atomic_store(&bgmqi_mem_refuses, NULL);
    for (size_t size = 16; size <= 1024; size += 16)
        for (long n = 1; n <= 3; n++) {
            refuse_left = n;
            void *block = bgmqi_mem_alloc(size);
            refuse_left = 0;
            if (block)
                bgmqi_mem_free(block, size);
        }
    return NULL;
}

START_TEST(block_that_is_not_there_is_told)
{
    harness_join(harness_thread(take_blocks, NULL));
    take_blocks(NULL);
}
END_TEST

/* More than the magazines of a thread hold: the next one is not to be had. */
START_TEST(block_is_given_back_without_memory)
{
    enum { MANY = 300, SIZE = 40 };
    static void *blocks[MANY];
    for (int i = 0; i < MANY; i++)
        ck_assert_ptr_nonnull(blocks[i] = bgmqi_mem_alloc(SIZE));
    long refused = 0;
    for (int i = 0; i < MANY; i++) {
        refuse_left = 1;
        refuse_hits = 0;
        bgmqi_mem_free(blocks[i], SIZE);
        refuse_left = 0;
        refused += refuse_hits;
    }
    if (!HARNESS_ASAN) /* there they are malloc's own */
        ck_assert_int_gt(refused, 0);
    for (int i = 0; i < MANY; i++)
        ck_assert_ptr_nonnull(blocks[i] = bgmqi_mem_alloc(SIZE));
    for (int i = 0; i < MANY; i++)
        bgmqi_mem_free(blocks[i], SIZE);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_memory");
    TCase *tc = flow_case(s, "caller");
    tcase_add_checked_fixture(tc, refuse_setup, NULL);
    flow_add_both(tc, message_that_finds_no_memory_takes_nobodys_place);
    flow_add_both(tc, message_that_cannot_be_named_is_not_retried);
    tcase_add_test(tc, service_without_memory_is_not_open);
    tcase_add_test(tc, status_without_memory_is_none);
    tcase_add_test(tc, store_without_memory_is_not_open);
    tcase_add_test(tc, table_of_signals_without_memory_is_not_read);
    tcase_add_test(tc, block_that_is_not_there_is_told);
    tcase_add_test(tc, block_is_given_back_without_memory);
    tc = flow_case(s, "handler");
    tcase_add_checked_fixture(tc, refuse_setup, NULL);
    flow_add_both(tc, body_that_finds_no_memory_is_still_json);
    flow_add_both(tc, json_that_finds_no_memory_is_not_badly_made);
    flow_add_both(tc, handler_without_memory_is_told_and_goes_on);
    flow_add_both(tc, failure_that_finds_no_memory_for_its_reply_is_a_failure);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
