/* test_fault_memory.c - each allocation of one thread fails in its turn while it makes one call:
 * the call says so and has changed nothing, and succeeds as soon as none fails.
 *
 * That is for calls of handlers, and for work of the journal's thread, which the scenes of
 * tests/faults/test_oom.c meet by chance only. */
#include "app.h"

#include "mem.h"
#include "service.h"

#include <bgmq_operate.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory: the linker puts these in the place of the system's ------------------------- */

static _Thread_local long left; /* allocations until one is refused; 0: none is */
static _Thread_local long refusals;

static bool refuse(void)
{
    if (!left || --left)
        return false;
    refusals++;
    return true;
}

static bool refuse_block(size_t size)
{
    (void)size;
    return refuse();
}

#define WRAP(type, name, params, args)                                                   \
    type __real_##name params;                                                           \
    type __wrap_##name params;                                                           \
    type __wrap_##name params                                                            \
    {                                                                                    \
        return refuse() ? NULL : __real_##name args;                                     \
    }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(void *, reallocarray, (void *old, size_t n, size_t size), (old, n, size))
WRAP(char *, strdup, (const char *text), (text))
WRAP(void *, sqlite3_malloc64, (sqlite3_uint64 size), (size))
WRAP(FILE *, open_memstream, (char **text, size_t *size), (text, size))

int __real_fclose(FILE *f);
int __wrap_fclose(FILE *f);
int __wrap_fclose(FILE *f)
{
    bool fails = refuse();
    int err = __real_fclose(f);
    return fails ? EOF : err;
}

static void *json_new(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

static void setup(void)
{
    atomic_store(&bgmqi_mem_refuses, refuse_block);
    json_set_alloc_funcs(json_new, free);
}

/* Makes CALL with its first allocation refused, its second, until none is; what it returns then.  A
 * call that gets on without what it was refused is fine. */
#define EACH(ret, call)                                                                  \
    do {                                                                                 \
        for (long n = 1;; n++) {                                                         \
            left = n;                                                                    \
            refusals = 0;                                                                \
            (ret) = (call);                                                              \
            left = 0;                                                                    \
            if (refusals == 0)                                                           \
                break;                                                                   \
            ck_assert_msg((ret) == BGMQ_ENOMEM || (ret) == 0, "%ld: %s", n,              \
                          bgmq_errname(ret));                                            \
        }                                                                                \
    } while (0)

/* The journal's thread refuses the N-th from now on; 0: none. */
struct order {
    long n, refusals;
};

static void obey(void *ctx, struct store *s)
{
    struct order *o = ctx;
    (void)s;
    left = o->n;
    o->refusals = refusals;
    refusals = 0;
}

/* Returns how many it has refused since the last order. */
static long order(struct bgmq *mq, long n)
{
    struct order o = {.n = n};
    OK(bgmqi_journal_run(mq->journal, obey, &o, INT64_C(10000000000)));
    return o.refusals;
}

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
        left = n;
        got = bgmq_retry_pending(mq, &ids);
        left = 0;
    }
    ck_assert_int_gt(refusals, 0);
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
        left = n;
        refusals = 0;
        err = open_and_close();
        left = 0;
        refused = refusals;
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

static int save_and_end(struct bgmq_job *job, void *ctx)
{
    int err = 0;
    if (*(int *)ctx) /* it would have the row written */
        EACH(err, bgmq_job_save_cursor(job, "one", 3, BGMQ_COMMIT));
    OK(err);
    EACH(err, look_at_runs());
    OK(err);
    EACH(err, bgmq_job_progress(job, 1, "half"));
    OK(err);
    EACH(err, bgmq_job_result(job, "result", 6));
    OK(err);
    for (long n = 1; n < 60; n++) {
        app_sql(app, "BEGIN");
        left = n;
        err = bgmq_job_save_cursor_tx(job, app, "two", 3);
        if (!err)
            err = bgmq_job_fail_tx(job, app, BGMQ_PERMANENT, "code", "text");
        left = 0;
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM || err == BGMQ_ESTORE, "%ld: %s", n,
                      bgmq_errname(err));
        app_sql(app, "ROLLBACK");
        app_sql(app, "BEGIN");
        left = n;
        err = bgmq_job_complete_tx(job, app);
        left = 0;
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM, "%ld: %s", n, bgmq_errname(err));
        app_sql(app, "ROLLBACK");
    }
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
    left = *n;
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
    flow_close(mq);
}
END_TEST

/* ---- the journal's thread -------------------------------------------------------------- */

static int keep_something(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    OK(bgmq_job_save_cursor(job, "cursor", 6, BGMQ_BEHIND));
    OK(bgmq_job_progress(job, 1, "half"));
    OK(bgmq_job_result(job, "result", 6));
    return bgmq_job_attempt(job) == 1 ? bgmq_job_fail(job, BGMQ_RETRY, "code", "text")
                                      : BGMQ_DONE;
}

static int count_error(void *ctx, const struct bgmq_attempt_error *e)
{
    (void)e;
    ++*(int *)ctx;
    return 0;
}

START_TEST(what_is_read_without_memory_is_read_again)
{
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", keep_something, NULL,
                     &TYPE(.backoff = BGMQ_BACKOFF_NONE, .history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 2);
    OK(bgmq_flush(mq));
    for (long n = 1, refused = 1; refused; n++) {
        int errors = 0;
        order(mq, n);
        int err = bgmq_errors(mq, id, count_error, &errors);
        refused = order(mq, 0);
        ck_assert(err == BGMQ_ENOMEM || errors == 1);
    }
    for (long n = 1, refused = 1; refused; n++) {
        void *result = NULL;
        size_t len = 0;
        order(mq, n);
        int err = bgmq_result(mq, id, &result, &len);
        refused = order(mq, 0);
        ck_assert(err == BGMQ_ENOMEM || len == 6);
        free(result);
    }
    flow_close(mq);
}
END_TEST

/* What a handler left is written with one allocation refused: it is written all the same. */
START_TEST(what_finds_no_memory_is_written_later)
{
    struct bgmq *mq = flow_open(1);
    uint64_t runs = 0;
    OK(bgmq_register(mq, "T", keep_something, NULL,
                     &TYPE(.backoff = BGMQ_BACKOFF_NONE, .history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    for (long n = 1, refused = 1; refused && n < 60; n++) {
        order(mq, n);
        flow_publish(mq, "T", "x");
        flow_wait_ended(mq, "T", runs += 2);
        OK(bgmq_flush(mq));
        refused = order(mq, 0);
    }
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

enum { MANY = 6 };

static int keep_and_fail(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    OK(bgmq_job_save_cursor(job, "cursor", 6, BGMQ_BEHIND));
    OK(bgmq_job_progress(job, 1, "half"));
    return bgmq_job_fail(job, BGMQ_RETRY, "code", "text");
}

/* Rows with all that a row can have. */
static void lay_out(void)
{
    static const char *const meta[] = {"k", "v", NULL};
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", keep_and_fail, NULL,
                     &TYPE(.backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 3600000)));
    OK(bgmq_start(mq));
    for (int i = 0; i < MANY; i++)
        flow_publish_with(mq, "T", "x", MESSAGE(.meta = meta, .tag = "tag"));
    flow_wait_ended(mq, "T", MANY);
    flow_close(mq);
}

START_TEST(rows_that_find_no_memory_are_found_later)
{
    lay_out();
    struct bgmq *mq = flow_open(1);
    struct recorder r;
    recorder_init(&r);
    flow_register_with(mq, "T", &r, TYPE(.window = 2));
    struct bgmq_select which = {.tag = "tag"};
    int total = 0;
    for (long n = 1, refused = 1; refused && n < 200; n++) {
        order(mq, n);
        int found = bgmq_discard(mq, "T", &which);
        refused = order(mq, 0);
        ck_assert_msg(found >= 0 || (refused && found == BGMQ_ENOMEM), "%s",
                      bgmq_errname(found));
        total += found > 0 ? found : 0;
    }
    ck_assert_int_eq(total, MANY);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(rows_that_find_no_memory_are_loaded_later)
{
    for (long n = 1, refused = 1; refused && n < 60; n++) {
        struct bgmq *mq = flow_open(1);
        struct recorder r;
        recorder_init(&r);
        flow_register_with(mq, "T", &r, TYPE(.window = 2));
        for (int i = 0; i < MANY; i++)
            flow_publish(mq, "T", "x");
        OK(bgmq_flush(mq));
        order(mq, n);
        OK(bgmq_start(mq));
        flow_wait_ended(mq, "T", MANY);
        refused = order(mq, 0);
        flow_close(mq);
        recorder_fini(&r);
        ck_assert_int_eq(flow_rows(), 0);
    }
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
            left = n;
            void *block = bgmqi_mem_alloc(size);
            left = 0;
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

static Suite *suite(void)
{
    Suite *s = suite_create("fault_memory");
    TCase *tc = flow_case(s, "caller");
    tcase_add_checked_fixture(tc, setup, NULL);
    flow_add_both(tc, message_that_finds_no_memory_takes_nobodys_place);
    flow_add_both(tc, message_that_cannot_be_named_is_not_retried);
    tcase_add_test(tc, service_without_memory_is_not_open);
    tcase_add_test(tc, status_without_memory_is_none);
    tcase_add_test(tc, store_without_memory_is_not_open);
    tcase_add_test(tc, block_that_is_not_there_is_told);
    tc = flow_case(s, "handler");
    tcase_add_checked_fixture(tc, setup, NULL);
    flow_add_both(tc, body_that_finds_no_memory_is_still_json);
    flow_add_both(tc, handler_without_memory_is_told_and_goes_on);
    flow_add_both(tc, failure_that_finds_no_memory_for_its_reply_is_a_failure);
    tc = flow_case(s, "journal");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, what_is_read_without_memory_is_read_again);
    tcase_add_test(tc, what_finds_no_memory_is_written_later);
    tcase_add_test(tc, rows_that_find_no_memory_are_found_later);
    tcase_add_test(tc, rows_that_find_no_memory_are_loaded_later);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
