/* test_timeout.c - attempts that take too long: asked to end, given up, and refused when they come
 * back; handlers that end their thread.
 *
 * Time stands still until the test moves it. */
#include "flow.h"

#include "handle.h"
#include "service.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define THEN_MS INT64_C(1523303089000)

static struct fake_clock fake;
static struct harness_log kept;

/* A handler that waits until it is let go, and says what it saw then. */
struct slow {
    struct counter begun, ended;
    struct gate go; /* for the first attempt of each message; later ones run through */
    _Atomic int64_t left;
    _Atomic int cancelled;
    int verdict;
};
static struct slow slow;
static bgmq_log_fn *log_of_slow = harness_log_keep;

static int slow_handler(struct bgmq_job *job, void *ctx)
{
    unsigned attempt = bgmq_job_attempt(job);
    counter_add(&slow.begun, 1);
    if (attempt > 1)
        return BGMQ_DONE;
    gate_wait(&slow.go);
    slow.left = bgmq_job_time_left(job);
    slow.cancelled = bgmq_job_cancelled(job);
    ck_assert_uint_eq(bgmq_job_attempt(job), attempt); /* whatever became of it */
    ck_assert_uint_eq(strlen(bgmq_job_body(job, NULL)), 1);
    counter_add(&slow.ended, 1);
    return slow.verdict;
}

static int look(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

/* A type T with slow_handler. */
static struct bgmq *open_slow(int durable, struct bgmq_type_options options)
{
    struct bgmq *mq = NULL;
    fake_clock_init(&fake, THEN_MS);
    harness_log_init(&kept);
    counter_init(&slow.begun);
    counter_init(&slow.ended);
    gate_init(&slow.go);
    slow.verdict = BGMQ_DONE;
    OK(bgmqi_service_open(&mq,
                          &SERVICE(.database = durable ? flow_database() : NULL,
                                   .log = log_of_slow, .log_ctx = &kept),
                          &fake.clock, NULL));
    OK(bgmq_register(mq, "T", slow_handler, NULL, &options));
    OK(bgmq_register(mq, "Look", look, NULL, NULL));
    OK(bgmq_start(mq));
    return mq;
}

static void close_slow(struct bgmq *mq)
{
    flow_close(mq);
    gate_fini(&slow.go);
    counter_fini(&slow.begun);
    counter_fini(&slow.ended);
    harness_log_fini(&kept);
    fake_clock_fini(&fake);
}

/* Moves the clock, and returns when the ticker has looked at it. */
static void move(struct bgmq *mq, int64_t ms)
{
    fake_clock_advance(&fake, ms);
    for (int i = 0; i < 2; i++) { /* the first turn may have begun before */
        uint64_t n = flow_stats(mq, "Look").processed;
        flow_publish_with(mq, "Look", "x",
                          MESSAGE(.run_at_ms = fake_clock_wall(&fake) + 1));
        fake_clock_set_wall(&fake, fake_clock_wall(&fake) + 1);
        flow_wait_ended(mq, "Look", n + 1);
    }
}

/* The only handler of T that runs. */
static struct bgmq_run the_run(struct bgmq *mq)
{
    struct bgmq_run run[4];
    int n = bgmq_runs(mq, run, 4);
    ck_assert_int_eq(n, 1);
    ck_assert_str_eq(run[0].type, "T");
    return run[0];
}

static struct bgmq_health health(struct bgmq *mq)
{
    struct bgmq_health h;
    OK(bgmq_health(mq, &h));
    return h;
}

/* ---- asked to end ------------------------------------------------------------------ */

/* It ended when it was asked to, and so needs no reason of its own. */
START_TEST(who_gives_up_when_the_time_is_over_has_a_reason)
{
    struct bgmq *mq = open_slow(_i, TYPE(.timeout_ms = 1000, .max_attempts = 1));
    slow.verdict = BGMQ_RETRY;
    flow_publish(mq, "T", "a");
    counter_wait(&slow.begun, 1);
    move(mq, 1000);
    WAIT_UNTIL(the_run(mq).cancelled == 1);
    gate_open(&slow.go);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "Timeout");
    ck_assert_str_eq(bgmq_message_error_text(m), "ended after its time was over");
    flow_done(m);
    close_slow(mq);
}
END_TEST

START_TEST(time_over_sets_the_cancel_flag_and_no_sooner)
{
    struct bgmq *mq = open_slow(_i, TYPE(.timeout_ms = 1000));
    uint64_t id = flow_publish(mq, "T", "a");
    counter_wait(&slow.begun, 1);
    move(mq, 999);
    struct bgmq_run run = the_run(mq);
    ck_assert_int_eq(run.cancelled, 0);
    ck_assert_uint_eq(run.id, id);
    ck_assert_uint_eq(run.attempt, 1);
    ck_assert_int_eq(run.running_ms, 999);
    ck_assert_int_eq(health(mq).ok, 1);
    move(mq, 1);
    ck_assert_int_eq(the_run(mq).cancelled, 1);
    ck_assert_int_eq(the_run(mq).stuck, 0);
    ck_assert_uint_eq(health(mq).overdue, 1);
    ck_assert_int_eq(health(mq).ok, 0);
    gate_open(&slow.go);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(slow.cancelled, 1);
    ck_assert_int_eq(slow.left, 0);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1); /* by its verdict */
    ck_assert_uint_eq(flow_counters(mq).lost, 0);
    close_slow(mq);
}
END_TEST

START_TEST(time_left_is_told_and_without_a_time_out_it_is_endless)
{
    struct bgmq *mq = open_slow(0, TYPE(.threads = 1));
    flow_publish_with(mq, "T", "a", MESSAGE(.timeout_ms = 500));
    counter_wait(&slow.begun, 1);
    fake_clock_advance(&fake, 100);
    gate_open(&slow.go);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(slow.left, 400);
    ck_assert_int_eq(slow.cancelled, 0);
    flow_publish(mq, "T", "b");
    flow_wait_ended(mq, "T", 2);
    ck_assert_int_eq(slow.left, INT64_MAX);
    close_slow(mq);
}
END_TEST

START_TEST(retry_after_the_time_is_over_is_a_failed_attempt)
{
    struct bgmq *mq = open_slow(_i, TYPE(.timeout_ms = 10, .max_attempts = 1));
    slow.verdict = BGMQ_RETRY;
    flow_publish(mq, "T", "a");
    counter_wait(&slow.begun, 1);
    move(mq, 10);
    gate_open(&slow.go);
    flow_wait_ended(mq, "T", 1);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 1);
    close_slow(mq);
}
END_TEST

/* ---- given up ---------------------------------------------------------------------- */

START_TEST(stuck_handler_is_replaced_and_its_message_runs_again)
{
    struct bgmq *mq = open_slow(
        _i, TYPE(.timeout_ms = 100, .stuck_ms = 50, .backoff = BGMQ_BACKOFF_NONE));
    flow_publish(mq, "T", "a");
    counter_wait(&slow.begun, 1);
    move(mq, 149);
    ck_assert_int_eq(the_run(mq).stuck, 0);
    move(mq, 1);
    flow_wait_ended(mq, "T", 2); /* given up, and run by another */
    counter_wait(&slow.begun, 2);
    struct bgmq_stats s = flow_stats(mq, "T");
    ck_assert_uint_eq(s.failed, 1);
    ck_assert_uint_eq(s.retries, 1);
    ck_assert_uint_eq(s.processed, 1);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.timeouts, 1);
    ck_assert_uint_eq(c.stuck, 1);
    ck_assert_uint_eq(c.running, 0);
    ck_assert_uint_eq(c.threads, 1);
    ck_assert_uint_eq(c.outq, 1);
    ck_assert_int_eq(the_run(mq).stuck, 1);
    ck_assert_uint_eq(health(mq).stuck, 1);
    ck_assert_int_ge(c.longest_ms, 150);
    char *json = NULL;
    OK(bgmq_status_json(mq, &json));
    ck_assert_msg(strstr(json, "\"stuck\":1,") && strstr(json, "\"timeouts\":1}"), "%s",
                  json);
    free(json);
    ck_assert(harness_log_has(&kept, "did not complete within 100 ms"));
    gate_open(&slow.go);
    WAIT_UNTIL(flow_counters(mq).lost == 1);
    WAIT_UNTIL(flow_collection(mq, "T").stuck == 0);
    ck_assert(harness_log_has(&kept, "after it was given up"));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1); /* refused */
    ck_assert_uint_eq(flow_collection(mq, "T").outq, 1);
    ck_assert_int_eq(health(mq).ok, 1);
    close_slow(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static struct gate told_of, heard;

static void hearing_log(void *ctx, enum bgmq_level level, const char *line)
{
    harness_log_keep(ctx, level, line);
    if (!strstr(line, "did not complete"))
        return;
    gate_open(&told_of);
    gate_wait(&heard);
}

/* A drain would otherwise end between an attempt that was given up and what becomes of it. */
START_TEST(given_up_it_runs_until_it_is_settled)
{
    gate_init(&told_of);
    gate_init(&heard);
    log_of_slow = hearing_log;
    struct bgmq *mq = open_slow(
        _i, TYPE(.timeout_ms = 100, .stuck_ms = 50, .backoff = BGMQ_BACKOFF_NONE));
    flow_publish(mq, "T", "a");
    counter_wait(&slow.begun, 1);
    fake_clock_advance(&fake, 150);
    flow_publish_with(mq, "Look", "x", MESSAGE(.run_at_ms = fake_clock_wall(&fake) + 1));
    gate_wait(&told_of);
    ck_assert_uint_eq(flow_collection(mq, "T").running, 1);
    ck_assert_int_eq(bgmq_drain(mq, 0), BGMQ_EBUSY);
    gate_open(&heard);
    gate_open(&slow.go);
    OK(bgmq_drain(mq, 10000));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").running, 0);
    close_slow(mq);
    gate_fini(&told_of);
    gate_fini(&heard);
}
END_TEST

START_TEST(last_attempt_given_up_is_dead_and_answered)
{
    struct bgmq *mq =
        open_slow(_i, TYPE(.timeout_ms = 100, .stuck_ms = 50, .max_attempts = 1));
    flow_publish_with(mq, "T", "a", MESSAGE(.reply_to = "answers", .tag = "t"));
    counter_wait(&slow.begun, 1);
    move(mq, 150);
    struct bgmq_message *m = flow_take(mq, "answers");
    flow_expect_body(m, "{\"error\":{\"code\":\"Timeout\",\"message\":\"did not complete "
                        "within 100 ms\"}}");
    ck_assert_str_eq(bgmq_message_tag(m), "t");
    flow_done(m);
    m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "Timeout");
    ck_assert_str_eq(bgmq_message_error_text(m), "did not complete within 100 ms");
    ck_assert_uint_eq(bgmq_message_attempts(m), 1);
    flow_done(m);
    gate_open(&slow.go);
    WAIT_UNTIL(flow_counters(mq).lost == 1);
    flow_empty_at(mq, "answers", __FILE__, __LINE__); /* answered once */
    close_slow(mq);
}
END_TEST

START_TEST(message_has_a_time_of_its_own)
{
    struct bgmq *mq = open_slow(
        _i, TYPE(.timeout_ms = 100000, .stuck_ms = 50, .backoff = BGMQ_BACKOFF_NONE));
    flow_publish_with(mq, "T", "a", MESSAGE(.timeout_ms = 10));
    counter_wait(&slow.begun, 1);
    move(mq, 60);
    flow_wait_ended(mq, "T", 2);
    ck_assert(harness_log_has(&kept, "did not complete within 10 ms"));
    gate_open(&slow.go);
    WAIT_UNTIL(flow_counters(mq).lost == 1);
    close_slow(mq);
}
END_TEST

START_TEST(no_more_stuck_ones_are_replaced_than_there_are_threads)
{
    struct bgmq *mq = open_slow(
        0, TYPE(.threads = 2, .timeout_ms = 100, .stuck_ms = 50, .max_attempts = 1));
    for (int round = 1; round <= 2; round++) {
        flow_publish(mq, "T", "a");
        flow_publish(mq, "T", "b");
        counter_wait(&slow.begun, 2 * round);
        move(mq, 150);
        WAIT_UNTIL(flow_collection(mq, "T").stuck == 2 * (unsigned)round);
        move(mq, 1);
    }
    WAIT_UNTIL(harness_log_has(
        &kept, "T: 0 of 2 workers are left: too many handlers are stuck"));
    ck_assert_uint_eq(flow_collection(mq, "T").threads, 0);
    flow_publish(mq, "T", "c");
    gate_open(&slow.go);
    WAIT_UNTIL(flow_counters(mq).lost == 4);
    flow_wait_ended(mq, "T", 5); /* they were replaced when they had returned */
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    WAIT_UNTIL(flow_collection(mq, "T").threads == 2);
    close_slow(mq);
}
END_TEST

START_TEST(stop_and_close_wait_for_the_stuck)
{
    struct bgmq *mq =
        open_slow(_i, TYPE(.timeout_ms = 100, .stuck_ms = 50, .max_attempts = 1));
    flow_publish(mq, "T", "a");
    counter_wait(&slow.begun, 1);
    move(mq, 150);
    WAIT_UNTIL(flow_collection(mq, "T").stuck == 1);
    FAILS(BGMQ_EBUSY, bgmq_stop(mq, 1));
    ck_assert_int_eq(bgmq_running(mq), 1);
    ck_assert_int_eq(the_run(mq).stuck, 1);
    gate_open(&slow.go);
    close_slow(mq);
    if (_i)
        ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_backlog WHERE lane = 3"), 1);
}
END_TEST

static struct gate held, unheld;
static struct counter holding;

static int hold_handler(struct bgmq_job *job, void *ctx)
{
    if (bgmq_job_attempt(job) > 1)
        return BGMQ_DONE;
    ck_assert(bgmqi_desk_owns(job->desk));
    ck_assert(bgmqi_desk_hold(job->desk));
    ck_assert(bgmqi_desk_hold(job->desk)); /* counted */
    bgmqi_desk_unhold(job->desk);
    counter_add(&holding, 1);
    gate_wait(&held);
    bgmqi_desk_unhold(job->desk); /* from here on it may be given up, and is at once */
    gate_wait(&unheld);
    ck_assert(!bgmqi_desk_owns(job->desk));
    ck_assert(!bgmqi_desk_hold(job->desk));
    counter_add(&holding, 1);
    return BGMQ_DONE;
}

START_TEST(held_attempt_is_not_given_up_before_it_is_let_go)
{
    struct bgmq *mq = open_slow(_i, TYPE(.threads = 1));
    gate_init(&held);
    gate_init(&unheld);
    counter_init(&holding);
    OK(bgmq_register(
        mq, "H", hold_handler, NULL,
        &TYPE(.timeout_ms = 100, .stuck_ms = 50, .backoff = BGMQ_BACKOFF_NONE)));
    flow_publish(mq, "H", "a");
    counter_wait(&holding, 1);
    move(mq, 1000);
    ck_assert_uint_eq(flow_collection(mq, "H").timeouts, 0);
    gate_open(&held);
    flow_wait_ended(mq, "H", 2);
    ck_assert_uint_eq(flow_collection(mq, "H").timeouts, 1);
    gate_open(&unheld);
    WAIT_UNTIL(flow_counters(mq).lost == 1);
    ck_assert_int_eq(counter_value(&holding), 2);
    close_slow(mq);
    gate_fini(&held);
    gate_fini(&unheld);
    counter_fini(&holding);
}
END_TEST

/* ---- races, by the real clock ------------------------------------------------------- */

/* Ends about when it is given up, now before and now after. */
static int racing_handler(struct bgmq_job *job, void *ctx)
{
    unsigned spins = (unsigned)bgmq_job_id(job) * 7919 % 4000;
    while (!bgmq_job_cancelled(job))
        ;
    for (volatile unsigned i = 0; i < spins * 100; i++)
        ;
    return bgmq_job_id(job) % 3 ? BGMQ_DONE : BGMQ_RETRY;
}

START_TEST(whoever_is_first_settles_and_nobody_else)
{
    enum { N = 300 };
    struct bgmq *mq =
        flow_open_with(_i, SERVICE(.log = harness_log_keep, .log_ctx = &kept));
    harness_log_init(&kept);
    OK(bgmq_register(mq, "T", racing_handler, NULL,
                     &TYPE(.threads = 4, .timeout_ms = 1, .stuck_ms = 1,
                           .max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", N);
    WAIT_UNTIL(flow_stats(mq, "T").processed + flow_collection(mq, "T").dlq == N);
    WAIT_UNTIL(flow_collection(mq, "T").stuck == 0);
    struct bgmq_stats s = flow_stats(mq, "T");
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.timeouts, flow_counters(mq).lost);
    ck_assert_uint_eq(s.failed, s.retries + c.dlq);
    ck_assert_uint_eq(c.inq + c.delayed + c.running, 0);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), (long)c.dlq);
    harness_log_fini(&kept);
}
END_TEST

/* ---- handlers that harm their thread ------------------------------------------------ */

static int exiting_handler(struct bgmq_job *job, void *ctx)
{
    if (bgmq_job_attempt(job) == 1)
        pthread_exit(NULL);
    return BGMQ_DONE;
}

/* A14. */
START_TEST(pthread_exit_is_a_failed_attempt_and_the_worker_is_replaced)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", exiting_handler, NULL,
                     &TYPE(.threads = 2, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_register(mq, "Dead", exiting_handler, NULL, &TYPE(.max_attempts = 1)));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 10);
    flow_publish(mq, "Dead", "x");
    WAIT_UNTIL(flow_stats(mq, "T").processed == 10);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 10);
    WAIT_UNTIL(flow_collection(mq, "T").threads == 2);
    struct bgmq_message *m = flow_take(mq, "mq:Dead.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "ThreadExit");
    flow_done(m);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static sigset_t mask_before;

static int harming_handler(struct bgmq_job *job, void *ctx)
{
    sigset_t mask;
    int state;
    ck_assert_int_eq(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state), 0);
    ck_assert_int_eq(state, PTHREAD_CANCEL_DISABLE);
    sigemptyset(&mask);
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &mask, &mask_before), 0);
    ck_assert_int_eq(sigismember(&mask_before, SIGTERM), 1);
    ck_assert_int_eq(sigismember(&mask_before, SIGSEGV), 0);
    return BGMQ_DONE;
}

/* A15. */
START_TEST(cancel_state_and_signal_mask_are_put_right)
{
    struct bgmq *mq = flow_open(0);
    OK(bgmq_register(mq, "T", harming_handler, NULL, NULL));
    OK(bgmq_start(mq));
    for (unsigned i = 1; i <= 3; i++) {
        flow_publish(mq, "T", "x");
        flow_wait_ended(mq, "T", i);
    }
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 3);
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("timeout");
    TCase *asked = flow_case(s, "asked");
    flow_add_both(asked, time_over_sets_the_cancel_flag_and_no_sooner);
    flow_add_both(asked, who_gives_up_when_the_time_is_over_has_a_reason);
    tcase_add_test(asked, time_left_is_told_and_without_a_time_out_it_is_endless);
    flow_add_both(asked, retry_after_the_time_is_over_is_a_failed_attempt);
    TCase *up = flow_case(s, "given_up");
    flow_add_both(up, stuck_handler_is_replaced_and_its_message_runs_again);
    flow_add_both(up, given_up_it_runs_until_it_is_settled);
    flow_add_both(up, last_attempt_given_up_is_dead_and_answered);
    flow_add_both(up, message_has_a_time_of_its_own);
    tcase_add_test(up, no_more_stuck_ones_are_replaced_than_there_are_threads);
    flow_add_both(up, stop_and_close_wait_for_the_stuck);
    flow_add_both(up, held_attempt_is_not_given_up_before_it_is_let_go);
    TCase *race = flow_case(s, "race");
    flow_add_both(race, whoever_is_first_settles_and_nobody_else);
    TCase *harm = flow_case(s, "harm");
    flow_add_both(harm, pthread_exit_is_a_failed_attempt_and_the_worker_is_replaced);
    tcase_add_test(harm, cancel_state_and_signal_mask_are_put_right);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
