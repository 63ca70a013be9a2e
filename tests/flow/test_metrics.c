/* test_metrics.c - the line of metrics, exactly; and what the log says of a clock that is set. */
#include "flow.h"

#include "service.h"

#include <stdlib.h>
#include <string.h>

#define THEN_MS INT64_C(1523303089000)

enum { HOUR = 3600 * 1000 };

static struct fake_clock fake;
static struct harness_log kept;

/* Takes as many milliseconds as its body says; "0" fails. */
static int timed_handler(struct bgmq_job *job, void *ctx)
{
    int ms = atoi(bgmq_job_body(job, NULL));
    fake_clock_advance(&fake, ms);
    return ms ? BGMQ_DONE : BGMQ_PERMANENT;
}

static struct bgmq *open_at(int durable, unsigned interval_ms)
{
    struct bgmq *mq = NULL;
    harness_log_init(&kept);
    fake_clock_init(&fake, THEN_MS);
    OK(bgmqi_service_open(&mq,
                          &SERVICE(.database = durable ? flow_database() : NULL,
                                   .metrics_interval_ms = interval_ms,
                                   .log = harness_log_keep, .log_ctx = &kept),
                          &fake.clock, NULL));
    OK(bgmq_register(mq, "T", timed_handler, NULL, NULL));
    OK(bgmq_start(mq));
    return mq;
}

static void close_at(struct bgmq *mq)
{
    flow_close(mq);
    harness_log_fini(&kept);
    fake_clock_fini(&fake);
}

/* Publishes to T, whose only worker handles it. */
static void handle(struct bgmq *mq, const char *ms)
{
    struct bgmq_stats s = flow_stats(mq, "T");
    flow_publish(mq, "T", ms);
    flow_wait_ended(mq, "T", s.processed + s.failed + 1);
    WAIT_UNTIL(flow_collection(mq, "T").running == 0);
}

START_TEST(line_says_rate_and_times_of_the_interval_and_totals_of_the_rest)
{
    struct bgmq *mq = open_at(0, 60000);
    flow_publish(mq, "Parked", "x");
    flow_publish_with(mq, "T", "1", MESSAGE(.delay_ms = HOUR));
    handle(mq, "8");
    handle(mq, "32");
    handle(mq, "0");
    ck_assert(!harness_log_has(&kept, "metrics:"));
    fake_clock_advance(&fake, 60000 - 40);
    WAIT_UNTIL(harness_log_has(
        &kept, "metrics: processed=3 ok=2 failed=1 retries=0 rate=3.0/min avg=13.333ms"
               " p99=32.000ms waiting=1 delayed=1 dead=1 running=0 stuck=0 journal=0"
               " commits=0\n"));
    handle(mq, "500");
    fake_clock_advance(&fake, 119500);
    WAIT_UNTIL(harness_log_has(
        &kept, "metrics: processed=4 ok=3 failed=1 retries=0 rate=0.5/min avg=500.000ms"
               " p99=500.000ms waiting=1 delayed=1 dead=1 running=0 stuck=0 journal=0"
               " commits=0\n"));
    fake_clock_advance(&fake, 60000);
    WAIT_UNTIL(harness_log_has(&kept, "rate=0.0/min avg=0.000ms p99=0.000ms"));
    close_at(mq);
}
END_TEST

START_TEST(line_knows_the_journal)
{
    struct bgmq *mq = open_at(1, 1000);
    handle(mq, "1");
    OK(bgmq_flush(mq));
    fake_clock_advance(&fake, 1000);
    WAIT_UNTIL(harness_log_has(&kept, "metrics: processed=1 ok=1"));
    ck_assert(harness_log_has(&kept, " journal=0 commits="));
    ck_assert(!harness_log_has(&kept, " commits=0\n"));
    close_at(mq);
}
END_TEST

static struct gate gate;

static int hang(struct bgmq_job *job, void *ctx)
{
    gate_wait(&gate);
    return BGMQ_DONE;
}

START_TEST(line_tells_of_what_runs_and_of_what_is_stuck)
{
    struct bgmq *mq = open_at(0, 1000);
    gate_init(&gate);
    OK(bgmq_register(mq, "Hang", hang, NULL,
                     &TYPE(.timeout_ms = 100, .stuck_ms = 50, .max_attempts = 1)));
    flow_publish(mq, "Hang", "x");
    WAIT_UNTIL(flow_collection(mq, "Hang").running == 1);
    fake_clock_advance(&fake, 149);
    flow_publish(mq, "T", "1"); /* the ticker need not have looked yet */
    fake_clock_advance(&fake, 1);
    WAIT_UNTIL(flow_collection(mq, "Hang").stuck == 1);
    fake_clock_advance(&fake, 2000);
    WAIT_UNTIL(harness_log_has(&kept, " dead=1 running=0 stuck=1 "));
    gate_open(&gate);
    WAIT_UNTIL(flow_collection(mq, "Hang").stuck == 0);
    fake_clock_advance(&fake, 2000);
    WAIT_UNTIL(harness_log_has(&kept, " dead=1 running=0 stuck=0 "));
    close_at(mq);
    gate_fini(&gate);
}
END_TEST

START_TEST(no_line_unless_it_is_asked_for)
{
    struct bgmq *mq = open_at(0, 0);
    handle(mq, "1");
    fake_clock_advance(&fake, 100 * HOUR);
    flow_publish_with(mq, "T", "1", MESSAGE(.delay_ms = 1));
    fake_clock_advance(&fake, 1);
    flow_wait_ended(mq, "T", 2); /* the ticker has looked */
    ck_assert(!harness_log_has(&kept, "metrics:"));
    close_at(mq);
}
END_TEST

/* ---- the wall clock ------------------------------------------------------------------ */

/* P7. */
START_TEST(jump_of_the_wall_clock_is_logged_once)
{
    static const struct {
        int64_t ms;
        const char *text; /* NULL: no jump */
    } jumps[] = {
        {HOUR, "by +3"},
        {-HOUR, "by -3"},
        {-THEN_MS, "by -1523303"},
        {5100, "ms: what is delayed"},
        {4900, NULL}, /* the ticker may read one clock before a step, one after */
        {-4900, NULL}};
    struct bgmq *mq = open_at(0, 0);
    handle(mq, "1");
    WAIT_UNTIL(flow_collection(mq, "T").running == 0);
    flow_publish_with(mq, "T", "2", MESSAGE(.delay_ms = 1)); /* the ticker has looked */
    fake_clock_advance(&fake, 1);
    flow_wait_ended(mq, "T", 2);
    fake_clock_set_wall(&fake, fake_clock_wall(&fake) + jumps[_i].ms);
    for (unsigned i = 3; i <= 5; i++) { /* several looks */
        flow_publish_with(mq, "T", "1", MESSAGE(.delay_ms = 1));
        fake_clock_advance(&fake, 1);
        flow_wait_ended(mq, "T", i);
    }
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), jumps[_i].text != NULL);
    if (jumps[_i].text)
        ck_assert(harness_log_has(&kept, jumps[_i].text));
    close_at(mq);
}
END_TEST

/* P8: to the service a suspend is a wall clock that jumps. */
START_TEST(what_fell_due_in_a_suspend_runs_within_a_second)
{
    struct bgmq *mq = open_at(_i, 0);
    flow_publish_with(mq, "T", "1", MESSAGE(.delay_ms = HOUR));
    flow_publish_with(mq, "T", "2", MESSAGE(.delay_ms = 2 * HOUR));
    WAIT_UNTIL(flow_collection(mq, "T").delayed == 2);
    int64_t begun = harness_now();
    fake_clock_set_wall(&fake, fake_clock_wall(&fake) + HOUR);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_le(harness_now() - begun, 2000 * INT64_C(1000000) * harness_scale());
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1); /* and nothing early */
    close_at(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("metrics");
    TCase *line = flow_case(s, "line");
    tcase_add_test(line, line_says_rate_and_times_of_the_interval_and_totals_of_the_rest);
    tcase_add_test(line, line_knows_the_journal);
    tcase_add_test(line, line_tells_of_what_runs_and_of_what_is_stuck);
    tcase_add_test(line, no_line_unless_it_is_asked_for);
    TCase *wall = flow_case(s, "wall");
    tcase_add_loop_test(wall, jump_of_the_wall_clock_is_logged_once, 0, 6);
    flow_add_both(wall, what_fell_due_in_a_suspend_runs_within_a_second);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
