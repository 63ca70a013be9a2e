/* test_arguments.c - messages, types, services and answers with arguments outside their range, and
 * what a handler may not do. */
#include <bgmq_sqlite.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"

static const struct bgmq_item item = {"T", "x", 1, NULL};

/* ---- what a message may say ---------------------------------------------------------- */

#define CENTURY (INT64_C(36525) * 24 * 3600 * 1000)

static const char *const odd_meta[] = {"key", NULL};
static const char *const bad_meta[] = {"key", "\xff\xfe", NULL};
static char large_text[5000], text_201[202];
static const char *const large_meta[] = {"key", large_text, NULL};

static const struct bgmq_message_options bad_messages[] = {
    {.priority = -1},
    {.priority = 32768},
    {.priority = INT32_MAX},
    {.priority = INT32_MIN},
    {.delay_ms = 2 * CENTURY}, /* A7 */
    {.delay_ms = INT64_MAX},
    {.run_at_ms = -1},
    {.run_at_ms = INT64_MAX},
    {.delay_ms = 1, .run_at_ms = 1},
    {.expire_ms = -1},
    {.expire_ms = INT64_MAX},
    {.expire_at_ms = -1},
    {.expire_ms = 1, .expire_at_ms = 1},
    {.unique_key = ""},
    {.unique_key = text_201},
    {.unique_key = "k", .unique = 99},
    {.unique_key = "k", .unique = -1},
    {.unique_key = "k", .unique = BGMQ_UNIQUE_PERIOD},
    {.unique_key = "k", .unique = BGMQ_UNIQUE_PERIOD, .unique_period_ms = -5},
    {.unique_key = "k", .unique_period_ms = 5},
    {.unique = BGMQ_UNIQUE_PERIOD, .unique_period_ms = 5},
    {.unique_key = "k", .on_conflict = 99},
    {.unique_key = "k", .on_conflict = -1},
    {.channel = ""},
    {.channel = "a b"},
    {.channel = "a@b"},
    {.timeout_ms = UINT32_MAX},
    {.wait_ms = UINT32_MAX},
    {.reply_to = ""},
    {.tag = text_201},
    {.traceparent = text_201},
    {.meta = odd_meta},
    {.meta = bad_meta},
    {.meta = large_meta},
    {.max_attempts = 1001},
    {.durability = 99},
    {.durability = -1},
};

START_TEST(what_a_message_cannot_say_is_refused)
{
    struct bgmq *mq = contract_open(_i);
    memset(large_text, 'a', sizeof(large_text) - 1);
    memset(text_201, 'a', 201);
    for (size_t i = 0; i < COUNT(bad_messages); i++) {
        const struct bgmq_message_options *bad = &bad_messages[i];
        struct outs o, before;
        memset(&o, 0xa5, sizeof(o));
        before = o;
        struct bgmq_item items[] = {item, {"T", "x", 1, bad}};
        int got[] = {bgmq_publish(mq, "T", "x", 1, bad, o.receipts),
                     bgmq_publish_json(mq, "T", bad, o.receipts, "i", 1),
                     bgmq_publish_many(mq, items, 2, o.receipts),
                     bgmq_publish_to(mq, "mq:T.inq", "x", 1, bad, o.receipts),
                     bad->reply_to ? BGMQ_EINVAL
                                   : bgmq_request(mq, "T", "x", 1, bad, 1, &o.message)};
        for (size_t k = 0; k < COUNT(got); k++, contract_checks++)
            ck_assert_msg(got[k] == BGMQ_EINVAL, "%zu with options %zu: %s", k, i,
                          bgmq_errname(got[k]));
        ck_assert_int_eq(memcmp(&o, &before, sizeof(o)), 0);
        contract_checks++;
        contract_expect_nothing(mq);
    }
    contract_close(mq);
    harness_figure("checks", contract_checks);
}
END_TEST

/* A1, A7. */
START_TEST(what_is_no_body_is_refused)
{
    struct bgmq *mq = contract_open(_i);
    static char body[(1 << 20) + 1];
    struct bgmq_receipt r = {.id = 7};
    struct bgmq_item none = {"T", NULL, 0, NULL}, large = {"T", body, sizeof(body), NULL};
    ck_assert_int_eq(bgmq_publish(mq, "T", NULL, 0, NULL, &r), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_publish(mq, "T", NULL, 5, NULL, &r), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_publish(mq, "T", body, sizeof(body), NULL, &r), BGMQ_ETOOBIG);
    ck_assert_int_eq(bgmq_publish(mq, "T", body, SIZE_MAX, NULL, &r), BGMQ_ETOOBIG);
    ck_assert_int_eq(bgmq_publish_to(mq, "Q", NULL, 1, NULL, &r), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_publish_to(mq, "Q", body, SIZE_MAX, NULL, &r), BGMQ_ETOOBIG);
    ck_assert_int_eq(bgmq_publish_many(mq, &none, 1, &r), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_publish_many(mq, &large, 1, &r), BGMQ_ETOOBIG);
    ck_assert_int_eq(bgmq_publish_many(mq, NULL, 1, &r), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_publish_json(mq, "T", NULL, &r, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_publish_json(mq, "T", NULL, &r, "{"), BGMQ_EJSON);
    ck_assert_uint_eq(r.id, 7);
    contract_checks += 12;
    contract_expect_nothing(mq);
    struct bgmq_message_options past = {.delay_ms = INT64_MIN};
    ck_assert_int_eq(bgmq_publish(mq, "T", "", 0, &past, &r), 0);
    ck_assert_uint_ne(r.id, 7);
    contract_close(mq);
    harness_figure("checks", contract_checks + 2);
}
END_TEST

/* ---- what a type and a service may be ------------------------------------------------ */

static int64_t no_delay(unsigned attempt, void *ctx)
{
    (void)attempt, (void)ctx;
    return 0;
}

static const unsigned table[] = {1, 2};

static const struct bgmq_type_options bad_options[] = {
    {.threads = 1025},
    {.threads = 10000}, /* A19 */
    {.threads = UINT32_MAX},
    {.max_attempts = 1001},
    {.backoff = 99},
    {.backoff = -1},
    {.backoff = BGMQ_BACKOFF_TABLE},
    {.backoff = BGMQ_BACKOFF_TABLE, .backoff_table = table},
    {.backoff = BGMQ_BACKOFF_TABLE, .backoff_table = table, .backoff_table_len = 33},
    {.backoff_table = table, .backoff_table_len = 2},
    {.backoff = BGMQ_BACKOFF_CALLBACK},
    {.backoff_fn = no_delay},
    {.timeout_ms = UINT32_MAX},
    {.stuck_ms = UINT32_MAX},
    {.wait_ms = UINT32_MAX},
    {.expire_ms = -1},
    {.expire_ms = INT64_MAX},
    {.channel = "a b"},
    {.channel = ""},
    {.channel = "a", .any_channel = 1},
    {.durability = 99},
    {.durability = -1},
    {.history = 99},
    {.history = -1},
};

START_TEST(what_is_no_type_option_is_refused)
{
    struct bgmq *mq = contract_open(_i);
    for (size_t i = 0; i < COUNT(bad_options); i++, contract_checks += 2) {
        ck_assert_msg(bgmq_register(mq, "N", contract_handle, NULL, &bad_options[i]) ==
                          BGMQ_EINVAL,
                      "options %zu", i);
        ck_assert_int_eq(bgmq_set_threads(mq, "N", 1), BGMQ_ENOENT);
    }
    ck_assert_int_eq(bgmq_register(mq, "N", NULL, NULL, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_set_threads(mq, "T", 0), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_set_threads(mq, "T", 1025), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_register(mq, "T", contract_handle, NULL, NULL),
                     BGMQ_EEXIST); /* A19 */
    contract_close(mq);
    harness_figure("checks", contract_checks + 4);
}
END_TEST

static char long_path[600];

static const struct bgmq_options bad_services[] = {
    {.database = ""},
    {.database = ":memory:"},
    {.database = "file:x"},
    {.durability = BGMQ_DISK},
    {.durability = BGMQ_BEHIND},
    {.durability = 99},
    {.durability = -1},
    {.standby_ms = 1},
    {.guests = 1},
    {.history_max_age_ms = -1},
    {.max_crashes = 256},
    {.max_body = ((size_t)64 << 20) + 1},
    {.max_body = SIZE_MAX},
    {.stack_size = 1},
};

START_TEST(what_is_no_service_option_is_refused)
{
    memset(long_path, 'p', sizeof(long_path) - 1);
    for (size_t i = 0; i < COUNT(bad_services); i++, contract_checks += 3) {
        struct bgmq *mq = NULL;
        struct bgmq_error error = {""};
        int err = _i ? bgmq_test_open(&mq, &bad_services[i], 0, &error)
                     : bgmq_open(&mq, &bad_services[i], &error);
        ck_assert_msg(err == BGMQ_EINVAL, "options %zu: %s", i, bgmq_errname(err));
        ck_assert_ptr_null(mq);
        ck_assert_str_ne(error.text, "");
    }
    struct bgmq_options far = {.database = long_path};
    struct bgmq *none;
    ck_assert_int_eq(bgmq_open(&none, &far, NULL), BGMQ_EOPEN);
    ck_assert_int_eq(bgmq_open(NULL, NULL, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(bgmq_test_open(NULL, NULL, 0, NULL), BGMQ_EINVAL);
    harness_figure("checks", contract_checks + 3);
}
END_TEST

/* ---- nowhere to put the answer ------------------------------------------------------- */

START_TEST(nowhere_to_put_the_answer_is_refused)
{
    struct bgmq *mq = contract_open(_i);
    struct bgmq_stats stats;
    const int got[] = {bgmq_get(mq, "Q", 0, NULL),
                       bgmq_request(mq, "T", "x", 1, NULL, 1, NULL),
                       bgmq_temp_queue(mq, NULL),
                       bgmq_total_stats(mq, NULL),
                       bgmq_type_stats(mq, "T", NULL),
                       bgmq_workers(mq, "mq:T.inq", NULL, 1),
                       bgmq_type_collection(mq, "T", NULL),
                       bgmq_description_map(mq, "T", NULL),
                       bgmq_service_counters(mq, NULL),
                       bgmq_status_text(mq, NULL),
                       bgmq_status_json(mq, NULL),
                       bgmq_stats_text(mq, NULL),
                       bgmq_stats_json(mq, NULL),
                       bgmq_description_text(mq, "T", NULL),
                       bgmq_change(mq, "T", 1, NULL),
                       bgmq_find(mq, "T", 1, NULL),
                       bgmq_errors(mq, 1, NULL, NULL),
                       bgmq_result(mq, 1, NULL, NULL),
                       bgmq_runs(mq, NULL, 1),
                       bgmq_health(mq, NULL),
                       bgmq_peek(mq, "Q", 1, NULL, NULL),
                       bgmq_http_start(NULL, mq, NULL, NULL),
                       bgmq_http_mount(NULL, mq, NULL, NULL),
                       bgmq_stats_combine(&stats, 0, &stats),
                       bgmq_stats_combine(NULL, 1, &stats),
                       bgmq_stats_combine(&stats, 1, NULL),
                       bgmq_guest_open(NULL, "x", NULL),
                       bgmq_guest_publish(NULL, "T", "x", 1, NULL, NULL),
                       bgmq_guest_status(NULL, NULL),
                       bgmq_sqlite_prepare(mq, NULL),
                       bgmq_publish_tx(mq, NULL, "T", "x", 1, NULL, NULL),
                       bgmq_ack(NULL),
                       bgmq_nak(NULL, 1),
                       bgmq_job_transaction(NULL, NULL, NULL, NULL),
                       bgmq_job_complete_tx(NULL, NULL),
                       bgmq_job_fail_tx(NULL, NULL, BGMQ_RETRY, NULL, NULL),
                       bgmq_job_save_cursor_tx(NULL, NULL, "", 0),
                       bgmq_drain(NULL, 0),
                       bgmq_backup(mq, NULL, NULL),
                       bgmq_backup(mq, "", NULL),
                       bgmq_purge(mq)}; /* without erase */
    for (size_t i = 0; i < COUNT(got); i++, contract_checks++)
        ck_assert_msg(got[i] == BGMQ_EINVAL, "%zu: %s", i, bgmq_errname(got[i]));
    ck_assert_int_lt(bgmq_drop_queue(mq, NULL), 0);
    contract_expect_nothing(mq);
    contract_close(mq);
    harness_figure("checks", contract_checks + 1);
}
END_TEST

/* ---- in a handler -------------------------------------------------------------------- */

static struct counter ended;

/* Everything a handler can ask for with what is none. */
static int ask_for_nothing(struct bgmq_job *job, void *ctx)
{
    struct bgmq *mq = bgmq_job_service(job);
    struct bgmq_message_options bad = {.meta = odd_meta};
    const int64_t got[] = {
        bgmq_job_save_cursor(job, "x", 1, BGMQ_MEMORY) == BGMQ_EINVAL,
        bgmq_job_save_cursor(job, "x", 65537, BGMQ_DEFAULT) == BGMQ_EINVAL,
        bgmq_job_save_cursor(job, "x", 1, 99) == BGMQ_EINVAL,
        bgmq_job_progress(job, 1, "\xff") == BGMQ_EINVAL,
        bgmq_job_result(job, NULL, 1) == BGMQ_EINVAL,
        bgmq_job_result(job, "x", ((size_t)1 << 20) + 1) < 0,
        bgmq_job_respond(job, "a b", "x", 1) == BGMQ_EINVAL,
        bgmq_job_respond(job, "A", NULL, 1) == BGMQ_EINVAL,
        bgmq_job_respond_json(job, "A", "{") == BGMQ_EJSON,
        bgmq_job_reply_options(job, &bad) == BGMQ_EINVAL,
        bgmq_job_json(job, NULL) == BGMQ_EINVAL,
        bgmq_job_unpack(job, NULL) == BGMQ_EINVAL,
        bgmq_job_unpack(job, "{s:i}", "n", (int *)NULL) == BGMQ_EJSON,
        bgmq_job_transaction(job, NULL, NULL, NULL) == BGMQ_RETRY,
        bgmq_job_complete_tx(job, NULL) == BGMQ_EINVAL,
        bgmq_job_meta(job, NULL) == NULL,
        bgmq_job_meta(job, "none") == NULL,
        bgmq_job_cursor(job, NULL) == NULL,
        bgmq_job_tag(job) == NULL,
        bgmq_job_traceparent(job) == NULL,
        bgmq_job_reply_to(job) == NULL,
        bgmq_job_channel(job) == NULL,
        bgmq_job_time_left(job) == INT64_MAX,
        bgmq_job_cancelled(job) == 0,
        bgmq_start(mq) == BGMQ_EBUSY, /* A11 */
        bgmq_close(mq) == BGMQ_EDEADLK,
        bgmq_drain(mq, 1) == BGMQ_EINPROGRESS,
        bgmq_request(mq, "T", "x", 1, NULL, 1, &(struct bgmq_message *){0}) ==
            BGMQ_EDEADLK,
        bgmq_stop(mq, 1) == BGMQ_EINPROGRESS,
    };
    for (size_t i = 0; i < COUNT(got); i++)
        if (!got[i])
            fprintf(stderr, "# in a handler: %zu\n", i);
        else
            ++*(size_t *)ctx;
    contract_checks = COUNT(got);
    counter_add(&ended, 1);
    return BGMQ_DONE;
}

START_TEST(handler_is_refused_what_it_may_not)
{
    struct bgmq_options options = {.database = _i ? harness_path("c.db") : NULL};
    struct bgmq *mq;
    size_t good = 0;
    counter_init(&ended);
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_register(mq, "T", ask_for_nothing, &good, NULL), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_publish(mq, "T", "1", 1, NULL, NULL), 0);
    counter_wait(&ended, 1);
    WAIT_UNTIL(bgmq_running(mq) == 0);
    ck_assert_int_eq(good, contract_checks);
    contract_close(mq);
    counter_fini(&ended);
    harness_figure("checks", contract_checks);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("arguments");
    TCase *tc = harness_case(s, "arguments");
    tcase_add_loop_test(tc, what_a_message_cannot_say_is_refused, 0, 2);
    tcase_add_loop_test(tc, what_is_no_body_is_refused, 0, 2);
    tcase_add_loop_test(tc, what_is_no_type_option_is_refused, 0, 2);
    tcase_add_loop_test(tc, what_is_no_service_option_is_refused, 0, 2);
    tcase_add_loop_test(tc, nowhere_to_put_the_answer_is_refused, 0, 2);
    tcase_add_loop_test(tc, handler_is_refused_what_it_may_not, 0, 2);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
