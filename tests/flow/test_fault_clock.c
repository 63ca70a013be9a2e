/* test_fault_clock.c - a service whose clock stands still until the test moves it, or is set to
 * another time: delays, back-off, and the dates of the status page. */
#include "flow.h"

#include "service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 2018-04-09 19:44:49 UTC. */
#define THEN_MS INT64_C(1523303089000)

enum { HOUR = 3600 * 1000, DAY = 24 * HOUR };

static struct fake_clock fake;
static struct recorder recorder;

/* DURABLE: with the database of this test. */
static struct bgmq *open_at(int64_t wall_ms, int durable)
{
    struct bgmq *mq = NULL;
    fake_clock_init(&fake, wall_ms);
    recorder_init(&recorder);
    OK(bgmqi_service_open(&mq, &SERVICE(.database = durable ? flow_database() : NULL),
                          &fake.clock, NULL));
    return mq;
}

static void close_all(struct bgmq *mq)
{
    flow_close(mq);
    recorder_fini(&recorder);
    fake_clock_fini(&fake);
}

static void expect_ran(const char *bodies)
{
    char text[256];
    ck_assert_str_eq(recorder_bodies(&recorder, text, sizeof(text)), bodies);
}

/* When it returns, the service has looked at the present time: a message that is due now, and
 * was published to another type after all others, has been handled. */
static void let_it_look(struct bgmq *mq)
{
    uint64_t n = flow_stats(mq, "Look").processed;
    flow_publish_with(mq, "Look", "look", MESSAGE(.delay_ms = 1));
    fake_clock_advance(&fake, 1);
    flow_wait_ended(mq, "Look", n + 1);
}

static int look(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

static void register_both(struct bgmq *mq, struct bgmq_type_options options)
{
    flow_register_with(mq, "T", &recorder, options);
    OK(bgmq_register(mq, "Look", look, NULL, NULL));
    OK(bgmq_start(mq));
}

static uint64_t delayed(struct bgmq *mq)
{
    return flow_collection(mq, "T").delayed;
}

/* ---- delays ------------------------------------------------------------------------ */

START_TEST(delayed_message_runs_when_the_clock_says)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    register_both(mq, TYPE(0));
    flow_publish_with(mq, "T", "b", MESSAGE(.delay_ms = HOUR));
    flow_publish_with(mq, "T", "a", MESSAGE(.run_at_ms = THEN_MS + HOUR - 10));
    let_it_look(mq);
    fake_clock_advance(&fake, HOUR - 20);
    let_it_look(mq);
    expect_ran("");
    ck_assert_uint_eq(delayed(mq), 2);
    fake_clock_set_wall(&fake, THEN_MS + HOUR - 10);
    counter_wait(&recorder.begun, 1);
    let_it_look(mq);
    expect_ran("a ");
    fake_clock_set_wall(&fake, THEN_MS + HOUR);
    counter_wait(&recorder.begun, 2);
    expect_ran("a b ");
    close_all(mq);
}
END_TEST

START_TEST(delay_goes_on_over_a_restart)
{
    struct bgmq *mq = open_at(THEN_MS, 1);
    flow_publish_with(mq, "T", "a", MESSAGE(.delay_ms = HOUR));
    close_all(mq);
    mq = open_at(THEN_MS + HOUR - 100, 1);
    register_both(mq, TYPE(0));
    let_it_look(mq);
    expect_ran("");
    fake_clock_advance(&fake, 100);
    counter_wait(&recorder.begun, 1);
    expect_ran("a ");
    close_all(mq);
}
END_TEST

/* ---- somebody sets the clock ------------------------------------------------------- */

/* P7. */
START_TEST(clock_set_forward_makes_due)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    register_both(mq, TYPE(0));
    flow_publish_with(mq, "T", "b", MESSAGE(.delay_ms = 2 * HOUR));
    flow_publish_with(mq, "T", "a", MESSAGE(.delay_ms = HOUR));
    flow_publish_with(mq, "T", "never", MESSAGE(.delay_ms = 2 * (int64_t)DAY));
    fake_clock_set_wall(&fake, THEN_MS + DAY);
    counter_wait(&recorder.begun, 2);
    let_it_look(mq);
    expect_ran("a b ");
    ck_assert_uint_eq(delayed(mq), 1);
    close_all(mq);
}
END_TEST

/* P7. */
START_TEST(clock_set_back_makes_wait)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    register_both(mq, TYPE(0));
    flow_publish_with(mq, "T", "a", MESSAGE(.delay_ms = HOUR));
    fake_clock_set_wall(&fake, THEN_MS - DAY);
    fake_clock_advance(&fake, HOUR + 1000);
    let_it_look(mq);
    expect_ran("");
    flow_publish(mq, "T", "b"); /* what is not delayed does not care */
    counter_wait(&recorder.begun, 1);
    fake_clock_set_wall(&fake, THEN_MS + HOUR);
    counter_wait(&recorder.begun, 2);
    expect_ran("b a ");
    close_all(mq);
}
END_TEST

/* P7. */
START_TEST(clock_before_1970_is_borne)
{
    struct bgmq *mq = open_at(-DAY, _i);
    register_both(mq, TYPE(0));
    flow_publish(mq, "T", "a");
    flow_publish_with(mq, "T", "b", MESSAGE(.delay_ms = HOUR));
    counter_wait(&recorder.begun, 1);
    fake_clock_advance(&fake, 2 * HOUR);
    counter_wait(&recorder.begun, 2);
    expect_ran("a b ");
    close_all(mq);
}
END_TEST

/* ---- back-off ---------------------------------------------------------------------- */

/* Fails once more, at a time that is more than WAIT_MS away and no further than that. */
static void expect_wait(struct bgmq *mq, int64_t wait_ms, unsigned attempts)
{
    WAIT_UNTIL(delayed(mq) == 1);
    fake_clock_advance(&fake, wait_ms - 2);
    let_it_look(mq);
    ck_assert_int_eq(counter_value(&recorder.begun), attempts);
    fake_clock_advance(&fake, 1);
    counter_wait(&recorder.begun, attempts + 1);
}

START_TEST(fixed_backoff_is_the_same_each_time)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    recorder.failures = 3;
    register_both(mq, TYPE(.backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 5000));
    flow_publish(mq, "T", "a");
    counter_wait(&recorder.begun, 1);
    for (unsigned i = 1; i <= 3; i++)
        expect_wait(mq, 5000, i);
    flow_wait_ended(mq, "T", 4);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_uint_eq(flow_stats(mq, "T").retries, 3);
    close_all(mq);
}
END_TEST

static int64_t by_attempt(unsigned attempt, void *ctx)
{
    return (int64_t)attempt * 1000;
}

/* The table is copied: the one that was given may go. */
START_TEST(backoff_by_a_table_is_as_it_says)
{
    unsigned table[] = {1000, 7000};
    struct bgmq *mq = open_at(THEN_MS, _i);
    recorder.failures = 3;
    register_both(mq, TYPE(.backoff = BGMQ_BACKOFF_TABLE, .backoff_table = table,
                           .backoff_table_len = 2));
    table[0] = table[1] = 1;
    flow_publish(mq, "T", "a");
    counter_wait(&recorder.begun, 1);
    expect_wait(mq, 1000, 1);
    expect_wait(mq, 7000, 2);
    expect_wait(mq, 7000, 3);
    close_all(mq);
}
END_TEST

START_TEST(a_table_of_nothing_is_refused)
{
    static const unsigned table[33];
    struct bgmq *mq = open_at(THEN_MS, 0);
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", look, NULL, &TYPE(.backoff = BGMQ_BACKOFF_TABLE)));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", look, NULL,
                        &TYPE(.backoff = BGMQ_BACKOFF_TABLE, .backoff_table = table)));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", look, NULL,
                        &TYPE(.backoff = BGMQ_BACKOFF_TABLE, .backoff_table = table,
                              .backoff_table_len = 33)));
    close_all(mq);
}
END_TEST

START_TEST(backoff_of_ones_own_is_asked)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    recorder.failures = 3;
    register_both(mq, TYPE(.backoff = BGMQ_BACKOFF_CALLBACK, .backoff_fn = by_attempt));
    flow_publish(mq, "T", "a");
    counter_wait(&recorder.begun, 1);
    for (unsigned i = 1; i <= 3; i++)
        expect_wait(mq, 1000 * (int64_t)i, i);
    flow_wait_ended(mq, "T", 4);
    close_all(mq);
}
END_TEST

/* Whatever the dice say, min(max, base * 2^(n-1)) is the longest wait. */
START_TEST(exponential_backoff_has_its_bound)
{
    static const int64_t most[] = {1000, 2000, 4000, 5000};
    struct bgmq *mq = open_at(THEN_MS, _i);
    recorder.failures = 4;
    register_both(mq, TYPE(.backoff_base_ms = 1000, .backoff_max_ms = 5000));
    flow_publish(mq, "T", "a");
    for (unsigned i = 0; i < 4; i++) {
        flow_wait_ended(mq, "T", i + 1);
        fake_clock_advance(&fake, most[i]);
        counter_wait(&recorder.begun, i + 2);
    }
    flow_wait_ended(mq, "T", 5);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    close_all(mq);
}
END_TEST

START_TEST(no_backoff_needs_no_time)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    recorder.failures = 9;
    register_both(mq, TYPE(.backoff = BGMQ_BACKOFF_NONE, .max_attempts = 4));
    flow_publish(mq, "T", "a");
    flow_wait_ended(mq, "T", 4);
    flow_expect(mq, "mq:T.dlq", "a");
    close_all(mq);
}
END_TEST

static int snooze_once(struct bgmq_job *job, void *ctx)
{
    recorder_handler(job, ctx);
    return counter_value(&recorder.begun) == 1 ? bgmq_job_snooze(job, HOUR) : BGMQ_DONE;
}

START_TEST(snoozed_message_comes_back_in_time)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    OK(bgmq_register(mq, "T", snooze_once, &recorder, NULL));
    OK(bgmq_register(mq, "Look", look, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "a");
    counter_wait(&recorder.begun, 1);
    expect_wait(mq, HOUR, 1);
    ck_assert_uint_eq(recorder_call(&recorder, 1).attempt, 1); /* none was used up */
    close_all(mq);
}
END_TEST

/* ---- the page of a live service ---------------------------------------------------- */

/* Line that begins with LABEL in the page, without it; lent until the next call. */
static const char *line_of(struct bgmq *mq, const char *label)
{
    static char line[256];
    char *page = NULL;
    OK(bgmq_status_text(mq, &page));
    char *at = strstr(page, label);
    ck_assert_msg(at != NULL, "no %s in %s", label, page);
    at += strlen(label);
    snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"), at);
    free(page);
    return line;
}

START_TEST(last_message_processed_is_the_time_of_the_clock)
{
    static const char label[] = "  LastMessageProcessed:           ";
    struct bgmq *mq = open_at(THEN_MS, _i);
    flow_register(mq, "T", &recorder);
    OK(bgmq_start(mq));
    ck_assert_str_eq(line_of(mq, label), "");
    flow_publish(mq, "T", "a");
    flow_wait_ended(mq, "T", 1);
    ck_assert_str_eq(line_of(mq, label), "4/9/18 7:44:49 PM");
    ck_assert_int_eq(flow_stats(mq, "T").last_ms, THEN_MS);
    fake_clock_advance(&fake, 5 * HOUR);
    flow_publish(mq, "T", "b");
    flow_wait_ended(mq, "T", 2);
    ck_assert_str_eq(line_of(mq, label), "4/10/18 12:44:49 AM");
    close_all(mq);
}
END_TEST

static struct barrier together;

static int meet(struct bgmq_job *job, void *ctx)
{
    barrier_wait(&together);
    return BGMQ_DONE;
}

/* Publishes N messages that N workers run at once, so that each of them runs one. */
static void round_of(struct bgmq *mq, unsigned n)
{
    uint64_t before = flow_stats(mq, "SendNotification").processed;
    barrier_init(&together, n);
    for (unsigned i = 0; i < n; i++)
        flow_publish(mq, "SendNotification", "{}");
    flow_wait_ended(mq, "SendNotification", before + n);
    barrier_fini(&together);
}

/* The golden page, as if all had ended THEN_MS, and with the number of worker FOUR where the
 * page has that of worker 4: which of the four rests in the last round is chance. */
static char *expected_page(unsigned four)
{
    const char *root = getenv("BGMQ_SOURCE");
    char path[1024], *page;
    snprintf(path, sizeof(path), "%s/tests/golden/status-live.txt", root ? root : ".");
    harness_read_file(path, &page);
    for (unsigned i = 1; i <= 4; i++) {
        char mark[32];
        snprintf(mark, sizeof(mark), "WORKER %u ", i);
        char *at = strstr(page, mark);
        ck_assert_ptr_nonnull(at);
        char digit = i == four ? '6' : '7';
        *strpbrk(strstr(at, "TotalNormalMessagesReceived"), "67") = digit;
        *strpbrk(strstr(at, "TotalProcessed"), "67") = digit;
    }
    return page;
}

START_TEST(page_of_a_live_service_is_the_golden_one)
{
    struct bgmq *mq = open_at(THEN_MS, _i);
    OK(bgmq_register(mq, "SendNotification", meet, NULL, &TYPE(.threads = 4)));
    OK(bgmq_register(mq, "SendSystemEmail", look, NULL, NULL));
    char *page = NULL;
    OK(bgmq_status_text(mq, &page));
    ck_assert_str_eq(page, "# MQ SERVER STATS:\n\nSTATUS: Stopped\n\n");
    free(page);
    OK(bgmq_start(mq));
    for (int i = 0; i < 6; i++)
        round_of(mq, 4);
    round_of(mq, 3);
    flow_publish(mq, "SendSystemEmail", "{}");
    flow_wait_ended(mq, "SendSystemEmail", 1);

    struct bgmq_stats s[4];
    ck_assert_int_eq(bgmq_workers(mq, "mq:SendNotification.inq", s, 4), 4);
    unsigned four = 1;
    while (four < 4 && s[four - 1].processed != 6)
        four++;
    char *want = expected_page(four);
    OK(bgmq_status_text(mq, &page));
    ck_assert_str_eq(page, want);
    free(page);
    free(want);
    close_all(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_clock");
    TCase *delay = flow_case(s, "delay");
    flow_add_both(delay, delayed_message_runs_when_the_clock_says);
    tcase_add_test(delay, delay_goes_on_over_a_restart);
    TCase *set = flow_case(s, "clock is set");
    flow_add_both(set, clock_set_forward_makes_due);
    flow_add_both(set, clock_set_back_makes_wait);
    flow_add_both(set, clock_before_1970_is_borne);
    TCase *backoff = flow_case(s, "backoff");
    flow_add_both(backoff, fixed_backoff_is_the_same_each_time);
    flow_add_both(backoff, backoff_by_a_table_is_as_it_says);
    tcase_add_test(backoff, a_table_of_nothing_is_refused);
    flow_add_both(backoff, backoff_of_ones_own_is_asked);
    flow_add_both(backoff, exponential_backoff_has_its_bound);
    flow_add_both(backoff, no_backoff_needs_no_time);
    flow_add_both(backoff, snoozed_message_comes_back_in_time);
    TCase *page = flow_case(s, "page");
    flow_add_both(page, last_message_processed_is_the_time_of_the_clock);
    flow_add_both(page, page_of_a_live_service_is_the_golden_one);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
