/* test_contract.c - every public function with what it refuses: no service, a closed one, that of
 * another process, from a log callback; and with names that are none.
 *
 * A call that fails writes to no out parameter and changes nothing. */
#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contract.h"

/* ---- all functions that take a service ---------------------------------------------- */

static sqlite3 *db; /* in memory: of no queue */

static int see_message(void *ctx, const struct bgmq_message *m)
{
    (void)ctx, (void)m;
    return 0;
}

static int see_error(void *ctx, const struct bgmq_attempt_error *e)
{
    (void)ctx, (void)e;
    return 0;
}

static const struct bgmq_item item = {"T", "x", 1, NULL};
static const struct bgmq_change change = {.set_time = 1};

/* Name, and a call with arguments that are right but for the service. */
#define CALLS(X)                                                                         \
    X(start, bgmq_start(mq))                                                             \
    X(stop, bgmq_stop(mq, 1))                                                            \
    X(request_stop, bgmq_request_stop(mq))                                               \
    X(started, bgmq_started(mq))                                                         \
    X(running, bgmq_running(mq))                                                         \
    X(drain, bgmq_drain(mq, 1))                                                          \
    X(pause, bgmq_pause(mq, "T"))                                                        \
    X(resume, bgmq_resume(mq, "T"))                                                      \
    X(flush, bgmq_flush(mq))                                                             \
    X(register, bgmq_register(mq, "New", contract_handle, NULL, NULL))                   \
    X(set_threads, bgmq_set_threads(mq, "T", 2))                                         \
    X(publish, bgmq_publish(mq, "T", "x", 1, NULL, o->receipts))                         \
    X(publish_json, bgmq_publish_json(mq, "T", NULL, o->receipts, "i", 1))               \
    X(publish_many, bgmq_publish_many(mq, &item, 1, o->receipts))                        \
    X(publish_to, bgmq_publish_to(mq, "Q", "x", 1, NULL, o->receipts))                   \
    X(publish_tx, bgmq_publish_tx(mq, db, "T", "x", 1, NULL, o->receipts))               \
    X(sqlite_prepare, bgmq_sqlite_prepare(mq, db))                                       \
    X(get, bgmq_get(mq, "mq:T.inq", 0, &o->message))                                     \
    X(peek, bgmq_peek(mq, "mq:T.inq", 1, see_message, NULL))                             \
    X(temp_queue, bgmq_temp_queue(mq, o->name))                                          \
    X(drop_queue, bgmq_drop_queue(mq, "Q"))                                              \
    X(request, bgmq_request(mq, "T", "x", 1, NULL, 1, &o->message))                      \
    X(total_stats, bgmq_total_stats(mq, o->stats))                                       \
    X(type_stats, bgmq_type_stats(mq, "T", o->stats))                                    \
    X(workers, bgmq_workers(mq, "mq:T.inq", o->stats, 2))                                \
    X(type_collection, bgmq_type_collection(mq, "T", &o->collection))                    \
    X(description_map, bgmq_description_map(mq, "T", o->entries))                        \
    X(service_counters, bgmq_service_counters(mq, &o->counters))                         \
    X(status_text, bgmq_status_text(mq, &o->text))                                       \
    X(status_json, bgmq_status_json(mq, &o->text))                                       \
    X(stats_text, bgmq_stats_text(mq, &o->text))                                         \
    X(stats_json, bgmq_stats_json(mq, &o->text))                                         \
    X(description_text, bgmq_description_text(mq, "T", &o->text))                        \
    X(retry, bgmq_retry(mq, "T", NULL))                                                  \
    X(retry_dead, bgmq_retry_dead(mq, "T", 0))                                           \
    X(retry_pending, bgmq_retry_pending(mq, &o->ids))                                    \
    X(cancel, bgmq_cancel(mq, "T", NULL, NULL))                                          \
    X(discard, bgmq_discard(mq, "T", NULL))                                              \
    X(change, bgmq_change(mq, "T", 1, &change))                                          \
    X(find, bgmq_find(mq, "T", 1, &o->info))                                             \
    X(errors, bgmq_errors(mq, 1, see_error, NULL))                                       \
    X(result, bgmq_result(mq, 1, &o->bytes, &o->len))                                    \
    X(runs, bgmq_runs(mq, o->runs, 2))                                                   \
    X(health, bgmq_health(mq, &o->health))                                               \
    X(purge, bgmq_purge(mq))                                                             \
    X(backup, bgmq_backup(mq, "copy", NULL))                                             \
    X(http_start, bgmq_http_start(&o->http, mq, NULL, NULL))                             \
    X(http_mount, bgmq_http_mount(&o->http, mq, NULL, NULL))                             \
    X(test_inline, bgmq_test_inline(mq, 1))                                              \
    X(test_advance, bgmq_test_advance(mq, 1))                                            \
    X(test_now, (int)bgmq_test_now(mq))                                                  \
    X(test_step, bgmq_test_step(mq, NULL))                                               \
    X(test_drain, bgmq_test_drain(mq, 0))                                                \
    X(test_published, bgmq_test_published(mq, NULL, NULL, 0))                            \
    X(test_record, bgmq_test_record(mq, 0, &o->record))                                  \
    X(test_forget, bgmq_test_forget(mq))

typedef int call_fn(struct bgmq *mq, struct outs *o);
#define DEFINE(name, call)                                                               \
    static int call_##name(struct bgmq *mq, struct outs *o)                              \
    {                                                                                    \
        (void)o;                                                                         \
        return call;                                                                     \
    }
CALLS(DEFINE)

#define ENTRY(name, call) {#name, call_##name},
static const struct {
    const char *name;
    call_fn *fn;
} calls[] = {CALLS(ENTRY)};

/* 1: the call says WANT and has written nothing. */
static int refuses(size_t i, struct bgmq *mq, int want)
{
    static _Thread_local union {
        struct outs outs;
        unsigned char bytes[sizeof(struct outs)];
    } o;
    memset(&o, 0xa5, sizeof(o));
    int got = calls[i].fn(mq, &o.outs);
    for (size_t k = 0; k < sizeof(o); k++)
        if (o.bytes[k] != 0xa5) {
            fprintf(stderr, "# %s wrote to what it was given\n", calls[i].name);
            return 0;
        }
    if (got != want)
        fprintf(stderr, "# %s: %s, not %s\n", calls[i].name, bgmq_errname(got),
                bgmq_errname(want));
    return got == want;
}

static int count_wrong(struct bgmq *mq, int want)
{
    int wrong = 0;
    for (size_t i = 0; i < COUNT(calls); i++) {
        wrong += !refuses(i, mq, want);
        contract_checks += 2; /* what it says, and what it leaves alone */
    }
    return wrong;
}

START_TEST(without_a_service_everything_is_refused)
{
    ck_assert_int_eq(count_wrong(NULL, BGMQ_EINVAL), 0);
    ck_assert_int_eq(bgmq_close(NULL), BGMQ_EINVAL);
    ck_assert_str_eq(bgmq_test_missing(NULL, NULL, NULL, 0), bgmq_strerror(BGMQ_EINVAL));
    bgmq_free(NULL);
    bgmq_message_free(NULL);
    bgmq_http_stop(NULL);
    bgmq_guest_close(NULL);
    harness_figure("checks", contract_checks + 2);
}
END_TEST

/* A4. */
START_TEST(closed_service_refuses_everything_but_to_be_closed)
{
    struct bgmq *mq = contract_open(_i);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_close(mq), 0);
    ck_assert_int_eq(count_wrong(mq, BGMQ_ECLOSED), 0);
    ck_assert_int_eq(bgmq_close(mq), 0);
    bgmq_free(mq);
    harness_figure("checks", contract_checks + 1);
}
END_TEST

/* A4, P1, P2. */
START_TEST(child_of_a_fork_is_refused_everything)
{
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("a child of fork() with threads has no allocator there");
    struct bgmq *mq = contract_open(_i);
    ck_assert_int_eq(bgmq_start(mq), 0);
    pid_t child = fork();
    if (child == 0) {
        int wrong = count_wrong(mq, BGMQ_EFORKED);
        wrong += bgmq_close(mq) != BGMQ_EFORKED;
        bgmq_free(mq);
        _exit(wrong > 100 ? 100 : wrong);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert_int_eq(bgmq_publish(mq, "T", "x", 1, NULL, NULL), 0);
    contract_close(mq);
    harness_figure("checks", 2 * (long)COUNT(calls) + 1);
}
END_TEST

static struct bgmq *logging;
static int wrong_in_log = -1;

static void call_back(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
    if (logging)
        wrong_in_log =
            count_wrong(logging, BGMQ_EDEADLK) + (bgmq_close(logging) != BGMQ_EDEADLK);
}

START_TEST(log_callback_is_refused_everything)
{
    struct bgmq_options options = {.database = _i ? harness_path("c.db") : NULL,
                                   .log = call_back};
    struct bgmq *mq;
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_register(mq, "T", contract_handle, NULL, NULL), 0);
    logging = mq;
    ck_assert_int_eq(bgmq_register(mq, "T", contract_handle, NULL, NULL),
                     BGMQ_EEXIST); /* logs */
    logging = NULL;
    ck_assert_int_eq(wrong_in_log, 0);
    contract_close(mq);
    harness_figure("checks", contract_checks + 1);
}
END_TEST

/* ---- names ------------------------------------------------------------------------- */

static char long_name[202], longest[201], long_queue[257];

static const char *const bad_types[] = {
    NULL,    "",    " ",       "a b", "a/b",  "a\nb", "a:b",   "\303\251",
    "a\x1b", "a,b", long_name, "<b>", "a@",   "@a",   "a@b@c", "a%",
    "a\\b",  "*",   "\xff",    "a'b", "a\"b", "a;b",  "a=b",   "a|b"};

static int by_type(struct bgmq *mq, struct outs *o, int which, const char *name)
{
    struct bgmq_item bad = {name, "x", 1, NULL};
    switch (which) {
    case 0:
        return bgmq_publish(mq, name, "x", 1, NULL, o->receipts);
    case 1:
        return bgmq_publish_json(mq, name, NULL, o->receipts, "i", 1);
    case 2:
        return bgmq_publish_many(mq, &bad, 1, o->receipts);
    case 3:
        return bgmq_register(mq, name, contract_handle, NULL, NULL);
    case 4:
        return bgmq_set_threads(mq, name, 2);
    case 5:
        return bgmq_pause(mq, name);
    case 6:
        return bgmq_resume(mq, name);
    case 7:
        return bgmq_type_stats(mq, name, o->stats);
    case 8:
        return bgmq_type_collection(mq, name, &o->collection);
    case 9:
        return bgmq_description_map(mq, name, o->entries);
    case 10:
        return bgmq_description_text(mq, name, &o->text);
    case 11:
        return bgmq_retry(mq, name, NULL);
    case 12:
        return bgmq_retry_dead(mq, name, 0);
    case 13:
        return bgmq_cancel(mq, name, NULL, NULL);
    case 14:
        return bgmq_discard(mq, name, NULL);
    case 15:
        return bgmq_change(mq, name, 1, &change);
    case 16:
        return bgmq_find(mq, name, 1, &o->info);
    default:
        return bgmq_request(mq, name, "x", 1, NULL, 1, &o->message);
    }
}
enum { BY_TYPE = 18 };

/* A1. */
START_TEST(what_is_no_type_is_refused)
{
    struct bgmq *mq = contract_open(_i);
    memset(long_name, 'a', 201);
    memset(longest, 'a', 200);
    for (size_t n = 0; n < COUNT(bad_types); n++)
        for (int which = 0; which < BY_TYPE; which++) {
            struct outs o, before;
            memset(&o, 0xa5, sizeof(o));
            before = o;
            int got = by_type(mq, &o, which, bad_types[n]);
            ck_assert_msg(got == BGMQ_EINVAL, "%d with name %zu: %s", which, n,
                          bgmq_errname(got));
            ck_assert_int_eq(memcmp(&o, &before, sizeof(o)), 0);
            contract_checks += 2;
        }
    contract_expect_nothing(mq);
    ck_assert_int_eq(bgmq_register(mq, longest, contract_handle, NULL, NULL), 0);
    contract_close(mq);
    harness_figure("checks", contract_checks + 1);
}
END_TEST

static const char *const bad_queues[] = {
    NULL,        "",         "mq:",       "mq:T",       "mq:.inq", "mq:T.",
    "mq:T.none", "mq:T.in",  "mq:T inq",  "mq:a b.inq", "a\nb",    "a\x01",
    "a\x7f",     long_queue, "mq:T.inq.", "mq:T.INQ"};

START_TEST(what_is_no_queue_is_refused)
{
    struct bgmq *mq = contract_open(_i);
    memset(long_queue, 'q', 256);
    for (size_t n = 0; n < COUNT(bad_queues); n++) {
        struct outs o, before;
        memset(&o, 0xa5, sizeof(o));
        before = o;
        const char *q = bad_queues[n];
        int got[] = {bgmq_publish_to(mq, q, "x", 1, NULL, o.receipts),
                     bgmq_get(mq, q, 0, &o.message),
                     bgmq_peek(mq, q, 1, see_message, NULL),
                     bgmq_workers(mq, q, o.stats, 2)};
        for (size_t k = 0; k < COUNT(got); k++, contract_checks++)
            ck_assert_msg(got[k] == BGMQ_EINVAL, "%zu with name %zu: %s", k, n,
                          bgmq_errname(got[k]));
        ck_assert_int_lt(bgmq_drop_queue(mq, q), 0);
        ck_assert_int_eq(memcmp(&o, &before, sizeof(o)), 0);
        contract_checks += 2;
    }
    contract_expect_nothing(mq);
    contract_close(mq);
    harness_figure("checks", contract_checks);
}
END_TEST

/* A service that is no test service has no clock to move. */
START_TEST(kit_works_on_test_services_only)
{
    struct bgmq *mq = contract_open(_i);
    for (size_t i = 0; i < COUNT(calls); i++)
        if (strncmp(calls[i].name, "test_", 5) == 0) {
            ck_assert(refuses(i, mq, BGMQ_EINVAL));
            contract_checks += 2;
        }
    contract_close(mq);
    harness_figure("checks", contract_checks);
}
END_TEST

static void connect_nowhere(void)
{
    ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
}

static void disconnect(void)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static Suite *suite(void)
{
    Suite *s = suite_create("contract");
    TCase *tc = harness_case(s, "contract");
    tcase_add_checked_fixture(tc, connect_nowhere, disconnect);
    tcase_add_test(tc, without_a_service_everything_is_refused);
    tcase_add_loop_test(tc, closed_service_refuses_everything_but_to_be_closed, 0, 2);
    tcase_add_loop_test(tc, child_of_a_fork_is_refused_everything, 0, 2);
    tcase_add_loop_test(tc, log_callback_is_refused_everything, 0, 2);
    tcase_add_loop_test(tc, what_is_no_type_is_refused, 0, 2);
    tcase_add_loop_test(tc, what_is_no_queue_is_refused, 0, 2);
    tcase_add_loop_test(tc, kit_works_on_test_services_only, 0, 2);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
