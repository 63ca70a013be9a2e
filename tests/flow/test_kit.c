/* test_kit.c - the kit for the tests of applications (bgmq_test.h): time, steps, handlers inside
 * publish, and the record of what was published; in memory and with a database. */
#include "flow.h"

#include <bgmq_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAIL "Mail"

static struct recorder recorder;

static struct bgmq *open_with(int durable, struct bgmq_options options)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    if (durable)
        options.database = flow_database();
    int err = bgmq_test_open(&mq, &options, 1000000, &error);
    ck_assert_msg(err == 0, "bgmq_test_open: %s: %s", bgmq_errname(err), error.text);
    return mq;
}

static struct bgmq *open_kit(int durable)
{
    recorder_init(&recorder);
    return open_with(durable, SERVICE(0));
}

static void close_kit(struct bgmq *mq)
{
    flow_close(mq);
    recorder_fini(&recorder);
}

static void expect_ran(const char *bodies)
{
    char text[4096];
    ck_assert_str_eq(recorder_bodies(&recorder, text, sizeof(text)), bodies);
}

/* ---- steps ------------------------------------------------------------------------- */

START_TEST(nothing_runs_by_itself_and_a_step_runs_one)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, MAIL, &recorder);
    ck_assert_int_eq(bgmq_started(mq), 1);
    ck_assert_int_eq(bgmq_test_step(mq, NULL), 0);
    flow_publish(mq, MAIL, "a");
    flow_publish(mq, MAIL, "b");
    flow_publish_with(mq, MAIL, "first", MESSAGE(.priority = 5));
    expect_ran("");
    ck_assert_int_eq(bgmq_test_step(mq, MAIL), 1);
    expect_ran("first ");
    ck_assert_int_eq(bgmq_test_step(mq, NULL), 1);
    expect_ran("first a ");
    ck_assert_int_eq(bgmq_test_step(mq, "Other"), 0);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    expect_ran("first a b ");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    ck_assert_uint_eq(flow_stats(mq, MAIL).processed, 3);
    ck_assert_uint_eq(flow_collection(mq, MAIL).outq, 3);
    close_kit(mq);
}
END_TEST

START_TEST(types_take_their_turn_in_the_order_of_registration)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, "B", &recorder);
    flow_register(mq, "A", &recorder);
    flow_publish(mq, "A", "a");
    flow_publish(mq, "B", "b");
    ck_assert_int_eq(bgmq_test_drain(mq, 1), 1);
    expect_ran("b ");
    ck_assert_int_eq(bgmq_test_drain(mq, 10), 1);
    expect_ran("b a ");
    close_kit(mq);
}
END_TEST

START_TEST(a_drain_ends_at_its_limit)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, MAIL, &recorder);
    flow_publish_numbers(mq, MAIL, 5);
    ck_assert_int_eq(bgmq_test_drain(mq, 3), 3);
    expect_ran("0 1 2 ");
    ck_assert_uint_eq(flow_collection(mq, MAIL).inq, 2);
    close_kit(mq);
}
END_TEST

START_TEST(threads_are_shown_as_they_were_asked_for)
{
    struct bgmq *mq = open_kit(_i);
    int before = harness_count_threads();
    flow_register_with(mq, MAIL, &recorder, TYPE(.threads = 7));
    ck_assert_uint_eq(flow_collection(mq, MAIL).threads, 7);
    OK(bgmq_set_threads(mq, MAIL, 2));
    ck_assert_uint_eq(flow_collection(mq, MAIL).threads, 2);
    OK(bgmq_set_threads(mq, MAIL, 3));
    ck_assert_int_eq(harness_count_threads(), before);
    flow_publish(mq, MAIL, "a");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    close_kit(mq);
}
END_TEST

START_TEST(a_stopped_service_runs_nothing)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, MAIL, &recorder);
    flow_publish(mq, MAIL, "a");
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(bgmq_test_step(mq, NULL), 0);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    OK(bgmq_start(mq));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    close_kit(mq);
}
END_TEST

START_TEST(more_than_the_window_holds_runs_in_order)
{
    enum { N = 300 };
    struct bgmq *mq = open_kit(1);
    flow_register_with(mq, MAIL, &recorder, TYPE(.window = 10));
    flow_publish_numbers(mq, MAIL, N);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), N);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(atoi(recorder_call(&recorder, (size_t)i).body), i);
    close_kit(mq);
}
END_TEST

/* What came at BEHIND and is held by the journal still runs in its turn. */
START_TEST(a_step_waits_for_what_the_journal_holds)
{
    recorder_init(&recorder);
    struct bgmq *mq =
        open_with(1, SERVICE(.durability = BGMQ_BEHIND, .flush_interval_ms = 60000));
    flow_register_with(mq, MAIL, &recorder, TYPE(.window = 4));
    char text[16];
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "%d", i);
        flow_publish(mq, MAIL, text);
    }
    flow_publish_with(mq, MAIL, "top", MESSAGE(.priority = 1));
    ck_assert_int_eq(bgmq_test_step(mq, NULL), 1);
    expect_ran("top ");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 20);
    ck_assert_str_eq(recorder_call(&recorder, 20).body, "19");
    close_kit(mq);
}
END_TEST

/* ---- time -------------------------------------------------------------------------- */

START_TEST(only_advance_moves_the_clock)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, MAIL, &recorder);
    ck_assert_int_eq(bgmq_test_now(mq), 1000000);
    flow_publish_with(mq, MAIL, "b", MESSAGE(.delay_ms = 5000));
    flow_publish_with(mq, MAIL, "a", MESSAGE(.run_at_ms = 1004000));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    OK(bgmq_test_advance(mq, 4999));
    ck_assert_uint_eq(flow_collection(mq, MAIL).delayed, 1);
    ck_assert_uint_eq(flow_collection(mq, MAIL).inq, 1);
    expect_ran("");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    OK(bgmq_test_advance(mq, 0));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    OK(bgmq_test_advance(mq, 1));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    expect_ran("a b ");
    ck_assert_int_eq(bgmq_test_now(mq), 1005000);
    close_kit(mq);
}
END_TEST

START_TEST(a_retry_waits_for_the_clock)
{
    struct bgmq *mq = open_kit(_i);
    recorder.failures = 2;
    recorder.failure = BGMQ_RETRY;
    flow_register_with(
        mq, MAIL, &recorder,
        TYPE(.backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 60000, .max_attempts = 3));
    flow_publish(mq, MAIL, "a");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    OK(bgmq_test_advance(mq, 59999));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    OK(bgmq_test_advance(mq, 1));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    OK(bgmq_test_advance(mq, 60000));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    expect_ran("a a a ");
    ck_assert_uint_eq(recorder_call(&recorder, 2).attempt, 3);
    close_kit(mq);
}
END_TEST

START_TEST(a_database_is_found_again_at_another_time)
{
    struct bgmq *mq = open_kit(1);
    flow_publish_with(mq, MAIL, "a", MESSAGE(.delay_ms = 1000));
    flow_close(mq);
    OK(bgmq_test_open(&mq, &SERVICE(.database = flow_database()), 1000999, NULL));
    flow_register(mq, MAIL, &recorder);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    OK(bgmq_test_advance(mq, 1));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 1);
    expect_ran("a ");
    close_kit(mq);
}
END_TEST

/* ---- handlers that take long --------------------------------------------------------- */

struct slow {
    int64_t takes_ms;    /* the first attempt */
    int cancelled, save; /* what it was told then */
    char found[32];      /* by the second: its cursor */
};

static int take_long(struct bgmq_job *job, void *ctx)
{
    struct slow *s = ctx;
    const char *cursor = bgmq_job_cursor(job, NULL);
    if (bgmq_job_attempt(job) > 1) {
        snprintf(s->found, sizeof(s->found), "%s", cursor ? cursor : "-");
        return BGMQ_DONE;
    }
    ck_assert_int_eq(bgmq_job_time_left(job), 1000);
    OK(bgmq_job_save_cursor(job, "before", 6, BGMQ_BEHIND));
    ck_assert_int_eq(bgmq_job_cancelled(job), 0);
    OK(bgmq_test_advance(bgmq_job_service(job), s->takes_ms));
    s->cancelled = bgmq_job_cancelled(job);
    s->save = bgmq_job_save_cursor(job, "after", 5, BGMQ_COMMIT);
    if (s->save == BGMQ_ELOST) {
        FAILS(BGMQ_ELOST, bgmq_job_save_cursor(job, "after", 5, BGMQ_BEHIND));
        FAILS(BGMQ_ELOST, bgmq_job_progress(job, 1, NULL));
        FAILS(BGMQ_ELOST, bgmq_job_result(job, "x", 1));
    }
    return bgmq_job_fail(job, BGMQ_RETRY, "Slow", "took too long");
}

static struct slow run_slow(int durable, int64_t takes_ms)
{
    struct slow s = {.takes_ms = takes_ms};
    struct bgmq *mq = open_kit(durable);
    OK(bgmq_register(
        mq, "Slow", take_long, &s,
        &TYPE(.backoff = BGMQ_BACKOFF_NONE, .timeout_ms = 1000, .stuck_ms = 500)));
    flow_publish(mq, "Slow", "x");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 2);
    struct bgmq_collection c = flow_collection(mq, "Slow");
    ck_assert_uint_eq(c.timeouts, takes_ms >= 1500);
    ck_assert_uint_eq(c.threads, 1);
    ck_assert_uint_eq(c.outq, 1);
    ck_assert_uint_eq(c.stuck + c.running, 0);
    close_kit(mq);
    if (durable)
        ck_assert_int_eq(flow_rows(), 0);
    return s;
}

START_TEST(a_handler_sees_its_time_pass)
{
    struct slow s = run_slow(_i, 999);
    ck_assert_int_eq(s.cancelled, 0);
    OK(s.save);
    s = run_slow(_i, 1000);
    ck_assert_int_eq(s.cancelled, 1);
    OK(s.save);
    ck_assert_str_eq(s.found, "after");
}
END_TEST

START_TEST(a_handler_that_was_given_up_changes_nothing)
{
    struct slow s = run_slow(_i, 1500);
    ck_assert_int_eq(s.cancelled, 1);
    FAILS(BGMQ_ELOST, s.save);
    ck_assert_str_eq(s.found, "before");
}
END_TEST

START_TEST(what_expires_does_not_run)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, MAIL, &recorder);
    flow_publish_with(mq, MAIL, "a", MESSAGE(.expire_at_ms = 1001000));
    flow_publish_with(mq, MAIL, "b", MESSAGE(.expire_at_ms = 1001001));
    OK(bgmq_test_advance(mq, 1000));
    bgmq_test_drain(mq, 0);
    expect_ran("b ");
    ck_assert_uint_eq(flow_collection(mq, MAIL).expired, 1);
    ck_assert_uint_eq(flow_collection(mq, MAIL).dlq, 1);
    close_kit(mq);
}
END_TEST

/* ---- handlers that publish, and handlers inside publish ------------------------------- */

/* Publishes "down:N-1" for "down:N", and checks that nothing runs inside it. */
static int count_down(struct bgmq_job *job, void *ctx)
{
    int *depth = ctx, n = 0;
    struct bgmq *mq = bgmq_job_service(job);
    ck_assert_int_eq(++*depth, 1);
    sscanf(bgmq_job_body(job, NULL), "%d", &n);
    char text[16];
    snprintf(text, sizeof(text), "%d", n - 1);
    if (n > 0)
        flow_publish(mq, bgmq_job_type(job), text);
    ck_assert_int_eq(bgmq_test_step(mq, NULL), BGMQ_EDEADLK);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), BGMQ_EDEADLK);
    --*depth;
    return BGMQ_DONE;
}

START_TEST(inside_publish_everything_has_run_when_it_returns)
{
    struct bgmq *mq = open_kit(_i);
    int depth = 0;
    OK(bgmq_register(mq, "Down", count_down, &depth, NULL));
    OK(bgmq_test_inline(mq, 1));
    flow_publish(mq, "Down", "500");
    ck_assert_uint_eq(flow_stats(mq, "Down").processed, 501);
    ck_assert_int_eq(bgmq_test_published(mq, "Down", NULL, 0), 501);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 0);
    /* Two in one commit run after it. */
    struct bgmq_item items[] = {{.type = "Down", .body = "0", .len = 1},
                                {.type = "Down", .body = "1", .len = 1}};
    OK(bgmq_publish_many(mq, items, 2, NULL));
    ck_assert_uint_eq(flow_stats(mq, "Down").processed, 504);
    OK(bgmq_test_inline(mq, 0));
    flow_publish(mq, "Down", "0");
    ck_assert_uint_eq(flow_stats(mq, "Down").processed, 504);
    close_kit(mq);
}
END_TEST

START_TEST(inside_publish_a_request_gets_its_reply)
{
    struct bgmq *mq = open_kit(_i);
    recorder.response = "Answer";
    flow_register(mq, MAIL, &recorder);
    OK(bgmq_test_inline(mq, 1));
    struct bgmq_message *reply;
    OK(bgmq_request(mq, MAIL, "q", 1, NULL, flow_patience(), &reply));
    flow_expect_body(reply, "re:q");
    bgmq_message_free(reply);
    close_kit(mq);
}
END_TEST

START_TEST(inside_publish_what_is_delayed_or_unknown_waits)
{
    struct bgmq *mq = open_kit(_i);
    OK(bgmq_test_inline(mq, 1));
    flow_publish(mq, MAIL, "unknown");
    flow_register(mq, MAIL, &recorder);
    flow_publish_with(mq, "Mail", "later", MESSAGE(.delay_ms = 10));
    expect_ran("unknown ");
    OK(bgmq_test_advance(mq, 10));
    expect_ran("unknown ");
    ck_assert_int_eq(bgmq_test_step(mq, NULL), 1);
    expect_ran("unknown later ");
    close_kit(mq);
}
END_TEST

static int tell_other(struct bgmq_job *job, void *ctx)
{
    (void)job;
    flow_publish(ctx, MAIL, "from another");
    return BGMQ_DONE;
}

START_TEST(a_handler_of_one_service_may_use_another)
{
    struct bgmq *mq = open_kit(_i), *other = NULL;
    OK(bgmq_test_open(&other, NULL, 0, NULL));
    ck_assert_int_eq(bgmq_test_now(other), INT64_C(1893456000000));
    flow_register(mq, MAIL, &recorder);
    OK(bgmq_register(other, "Tell", tell_other, mq, NULL));
    OK(bgmq_test_inline(mq, 1));
    OK(bgmq_test_inline(other, 1));
    flow_publish(other, "Tell", "x");
    expect_ran("from another ");
    flow_close(other);
    close_kit(mq);
}
END_TEST

/* ---- what was published -------------------------------------------------------------- */

START_TEST(what_was_published_is_counted_and_shown)
{
    struct bgmq *mq = open_kit(_i);
    flow_register(mq, MAIL, &recorder);
    uint64_t id = flow_publish_with(
        mq, MAIL, "a",
        MESSAGE(.priority = 3, .tag = "t", .delay_ms = 7, .unique_key = "k"));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, MAIL, NULL, 0, NULL, NULL));
    struct bgmq_receipt again;
    OK(bgmq_publish(mq, MAIL, "a", 1, &MESSAGE(.unique_key = "k"), &again));
    ck_assert_int_eq(again.duplicate, 1);
    flow_publish(mq, "Other", "a");
    flow_publish(mq, MAIL, "bb");
    OK(bgmq_publish_to(mq, "a queue", "c", 1, NULL, NULL));
    bgmq_test_drain(mq, 0);
    ck_assert_int_eq(bgmq_test_published(mq, NULL, NULL, 0), 4);
    ck_assert_int_eq(bgmq_test_published(mq, MAIL, NULL, 0), 2);
    ck_assert_int_eq(bgmq_test_published(mq, NULL, "a", 1), 2);
    ck_assert_int_eq(bgmq_test_published(mq, MAIL, "a", 1), 1);
    ck_assert_int_eq(bgmq_test_published(mq, MAIL, "b", 1), 0);
    ck_assert_int_eq(bgmq_test_published(mq, "a queue", "c", 1), 1);
    struct bgmq_test_record r;
    OK(bgmq_test_record(mq, 0, &r));
    ck_assert_uint_eq(r.id, id);
    ck_assert_str_eq(r.type, MAIL);
    ck_assert_str_eq(r.body, "a");
    ck_assert_uint_eq(r.len, 1);
    ck_assert_int_eq(r.priority, 3);
    ck_assert_int_eq(r.due_ms, 1000007);
    ck_assert_str_eq(r.tag, "t");
    ck_assert_str_eq(r.unique_key, "k");
    OK(bgmq_test_record(mq, 3, &r));
    ck_assert_ptr_null(r.tag);
    FAILS(BGMQ_ENOENT, bgmq_test_record(mq, 4, &r));
    OK(bgmq_test_forget(mq));
    FAILS(BGMQ_ENOENT, bgmq_test_record(mq, 0, &r));
    ck_assert_int_eq(bgmq_test_published(mq, NULL, NULL, 0), 0);
    close_kit(mq);
}
END_TEST

START_TEST(what_is_missing_is_explained)
{
    struct bgmq *mq = open_kit(_i);
    ck_assert_str_eq(bgmq_test_missing(mq, MAIL, NULL, 0),
                     "nothing was published for Mail; nothing at all was");
    flow_publish(mq, MAIL, "a\n\"b");
    flow_publish(mq, "Other", "x");
    ck_assert_ptr_null(bgmq_test_missing(mq, MAIL, NULL, 0));
    ck_assert_ptr_null(bgmq_test_missing(mq, "Other", "x", 1));
    ck_assert_str_eq(bgmq_test_missing(mq, "Other", "y", 1),
                     "nothing was published for Other \"y\"; published: "
                     "Mail \"a\\x0a\\x22b\", Other \"x\"");
    close_kit(mq);
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    struct bgmq *mq = open_kit(0), *plain = flow_open(0), *none = NULL;
    struct bgmq_test_record r;
    FAILS(BGMQ_EINVAL, bgmq_test_open(NULL, NULL, 0, NULL));
    FAILS(BGMQ_EINVAL, bgmq_test_open(&none, NULL, -1, NULL));
    FAILS(BGMQ_EINVAL, bgmq_test_open(&none, &SERVICE(.durability = BGMQ_DISK), 0, NULL));
    ck_assert_ptr_null(none);
    FAILS(BGMQ_EINVAL, bgmq_test_advance(mq, -1));
    FAILS(BGMQ_EINVAL, bgmq_test_record(mq, 0, NULL));
    FAILS(BGMQ_EINVAL, bgmq_test_published(mq, MAIL, NULL, 1));
    ck_assert_int_eq(bgmq_test_step(mq, ""), BGMQ_EINVAL);
    FAILS(BGMQ_EINVAL, bgmq_test_drain(mq, (unsigned)INT32_MAX + 1));
    ck_assert_str_eq(bgmq_test_missing(mq, MAIL, NULL, 1), bgmq_strerror(BGMQ_EINVAL));
    FAILS(BGMQ_EINVAL, bgmq_test_inline(plain, 1));
    FAILS(BGMQ_EINVAL, bgmq_test_advance(plain, 1));
    FAILS(BGMQ_EINVAL, (int)bgmq_test_now(plain));
    FAILS(BGMQ_EINVAL, bgmq_test_step(plain, NULL));
    FAILS(BGMQ_EINVAL, bgmq_test_drain(plain, 0));
    FAILS(BGMQ_EINVAL, bgmq_test_published(plain, NULL, NULL, 0));
    FAILS(BGMQ_EINVAL, bgmq_test_record(plain, 0, &r));
    FAILS(BGMQ_EINVAL, bgmq_test_forget(plain));
    ck_assert_ptr_nonnull(bgmq_test_missing(plain, MAIL, NULL, 0));
    FAILS(BGMQ_EINVAL, bgmq_test_step(NULL, NULL));
    flow_close(plain);
    OK(bgmq_close(mq));
    FAILS(BGMQ_ECLOSED, bgmq_test_step(mq, NULL));
    bgmq_free(mq);
    recorder_fini(&recorder);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------- */

static struct bgmq *shared;

static void *publish_and_drain(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        flow_publish(shared, MAIL, "x");
        if (i % 5 == 0)
            ck_assert_int_ge(bgmq_test_drain(shared, 3), 0);
        ck_assert_int_ge(bgmq_test_published(shared, MAIL, "x", 1), 1);
    }
    return NULL;
}

START_TEST(threads_take_turns)
{
    enum { THREADS = 4 };
    shared = open_kit(_i);
    flow_register_with(shared, MAIL, &recorder, TYPE(.threads = 2));
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        threads[i] = harness_thread(publish_and_drain, NULL);
    for (int i = 0; i < THREADS; i++)
        harness_join(threads[i]);
    bgmq_test_drain(shared, 0);
    ck_assert_int_eq(recorder.most, 1);
    ck_assert_uint_eq(flow_stats(shared, MAIL).processed, 50 * THREADS);
    close_kit(shared);
}
END_TEST

static void *drain_shared(void *arg)
{
    (void)arg;
    int n = bgmq_test_drain(shared, 0);
    ck_assert(n == 1 || n == BGMQ_ECLOSED);
    return NULL;
}

/* A close comes while another thread runs a handler: it waits for it. */
START_TEST(close_waits_for_the_handler_of_another_thread)
{
    struct gate gate;
    gate_init(&gate);
    shared = open_kit(_i);
    recorder.gate = &gate;
    flow_register(shared, MAIL, &recorder);
    flow_publish(shared, MAIL, "x");
    pthread_t t = harness_thread(drain_shared, NULL);
    counter_wait(&recorder.begun, 1);
    FAILS(BGMQ_EBUSY, bgmq_stop(shared, 1));
    ck_assert_int_eq(bgmq_running(shared), 1);
    gate_open(&gate);
    OK(bgmq_close(shared));
    harness_join(t);
    bgmq_free(shared);
    recorder_fini(&recorder);
    gate_fini(&gate);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kit");
    TCase *steps = flow_case(s, "steps");
    flow_add_both(steps, nothing_runs_by_itself_and_a_step_runs_one);
    flow_add_both(steps, types_take_their_turn_in_the_order_of_registration);
    flow_add_both(steps, a_drain_ends_at_its_limit);
    flow_add_both(steps, threads_are_shown_as_they_were_asked_for);
    flow_add_both(steps, a_stopped_service_runs_nothing);
    tcase_add_test(steps, more_than_the_window_holds_runs_in_order);
    tcase_add_test(steps, a_step_waits_for_what_the_journal_holds);
    TCase *time = flow_case(s, "time");
    flow_add_both(time, only_advance_moves_the_clock);
    flow_add_both(time, a_retry_waits_for_the_clock);
    tcase_add_test(time, a_database_is_found_again_at_another_time);
    flow_add_both(time, a_handler_sees_its_time_pass);
    flow_add_both(time, a_handler_that_was_given_up_changes_nothing);
    flow_add_both(time, what_expires_does_not_run);
    TCase *inside = flow_case(s, "inside");
    flow_add_both(inside, inside_publish_everything_has_run_when_it_returns);
    flow_add_both(inside, inside_publish_a_request_gets_its_reply);
    flow_add_both(inside, inside_publish_what_is_delayed_or_unknown_waits);
    flow_add_both(inside, a_handler_of_one_service_may_use_another);
    TCase *record = flow_case(s, "record");
    flow_add_both(record, what_was_published_is_counted_and_shown);
    flow_add_both(record, what_is_missing_is_explained);
    tcase_add_test(record, wrong_arguments_are_refused);
    TCase *threads = flow_case(s, "threads");
    flow_add_both(threads, threads_take_turns);
    flow_add_both(threads, close_waits_for_the_handler_of_another_thread);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
