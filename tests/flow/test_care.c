/* test_care.c - what a service does for its database by itself: it forgets what has become too old,
 * and notices when the file is not what it was. */
#include "flow.h"

#include "service.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THEN_MS INT64_C(1523303089000)

enum { DAY = 24 * 3600 * 1000 };

static struct fake_clock fake;
static struct harness_log kept;

static int end_as_told(struct bgmq_job *job, void *ctx)
{
    return strcmp(bgmq_job_body(job, NULL), "bad") == 0 ? BGMQ_PERMANENT : BGMQ_DONE;
}

static struct bgmq *open_with(struct bgmq_options options)
{
    struct bgmq *mq = NULL;
    options.database = flow_database();
    options.log = harness_log_keep;
    options.log_ctx = &kept;
    harness_log_init(&kept);
    fake_clock_init(&fake, THEN_MS);
    OK(bgmqi_service_open(&mq, &options, &fake.clock, NULL));
    return mq;
}

static void close_all(struct bgmq *mq)
{
    flow_close(mq);
    harness_log_fini(&kept);
    fake_clock_fini(&fake);
}

static void run(struct bgmq *mq, const char *type, const char *body, int n)
{
    struct bgmq_stats s = flow_stats(mq, type);
    for (int i = 0; i < n; i++)
        flow_publish(mq, type, body);
    flow_wait_ended(mq, type, s.processed + s.failed + (uint64_t)n);
    OK(bgmq_flush(mq));
}

static long in_history(void)
{
    return flow_sql("SELECT count(*) FROM bgmq_history");
}

/* ---- what is too old ----------------------------------------------------------------- */

START_TEST(history_says_what_each_type_asked_for)
{
    struct bgmq *mq = open_with(SERVICE(0));
    OK(bgmq_register(mq, "Off", end_as_told, NULL, NULL));
    OK(bgmq_register(mq, "Failures", end_as_told, NULL,
                     &TYPE(.history = BGMQ_HISTORY_FAILURES)));
    OK(bgmq_register(mq, "All", end_as_told, NULL, &TYPE(.history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    static const char *const types[] = {"Off", "Failures", "All"};
    for (int i = 0; i < 3; i++) {
        run(mq, types[i], "good", 2);
        run(mq, types[i], "bad", 1);
        ck_assert_int_eq(in_history(), i == 0 ? 0 : i == 1 ? 1 : 4);
    }
    close_all(mq);
}
END_TEST

START_TEST(history_goes_by_age_while_the_service_rests)
{
    enum { OLD = 2500 }; /* more than one chunk */
    struct bgmq *mq = open_with(SERVICE(.history_max_age_ms = DAY));
    OK(bgmq_register(mq, "All", end_as_told, NULL, &TYPE(.history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    run(mq, "All", "good", OLD);
    fake_clock_advance(&fake, DAY / 2);
    run(mq, "All", "good", 3);
    ck_assert_int_eq(in_history(), OLD + 3);
    fake_clock_advance(&fake, DAY / 2 + 1);
    WAIT_UNTIL(in_history() == 3);
    fake_clock_advance(&fake, DAY);
    WAIT_UNTIL(in_history() == 0);
    close_all(mq);
}
END_TEST

START_TEST(history_goes_by_number)
{
    struct bgmq *mq = open_with(SERVICE(.history_keep = 10));
    OK(bgmq_register(mq, "All", end_as_told, NULL, &TYPE(.history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    run(mq, "All", "good", 500);
    WAIT_UNTIL(in_history() == 10);
    close_all(mq);
}
END_TEST

START_TEST(keys_whose_period_is_over_are_forgotten)
{
    struct bgmq *mq = open_with(SERVICE(0));
    OK(bgmq_register(mq, "T", end_as_told, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish_with(mq, "T", "good",
                      MESSAGE(.unique_key = "k", .unique = BGMQ_UNIQUE_PERIOD,
                              .unique_period_ms = DAY));
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_flush(mq));
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 1);
    fake_clock_advance(&fake, DAY + 1);
    WAIT_UNTIL(flow_sql("SELECT count(*) FROM bgmq_unique") == 0);
    close_all(mq);
}
END_TEST

/* ---- the file ------------------------------------------------------------------------ */

static void expect_failed(struct bgmq *mq, const char *why)
{
    char *json = NULL;
    struct bgmq_health h;
    WAIT_UNTIL(flow_counters(mq).store_state == 3);
    FAILS(BGMQ_ESTORE, bgmq_publish(mq, "T", "x", 1, NULL, NULL));
    OK(bgmq_status_json(mq, &json));
    ck_assert_msg(strstr(json, "\"store\":\"failed\"") != NULL, "%s", json);
    free(json);
    OK(bgmq_health(mq, &h));
    ck_assert_int_eq(h.ok, 0);
    ck_assert_int_eq(h.store_failed, 1);
    ck_assert(harness_log_has(&kept, why));
}

/* S10, S11.  Nobody writes at the time; _i 0: the file, 1: its log. */
START_TEST(database_that_is_taken_away_is_noticed_at_rest)
{
    char path[600];
    struct bgmq *mq = open_with(SERVICE(0));
    flow_publish(mq, "T", "x");
    snprintf(path, sizeof(path), "%s%s", flow_database(), _i ? "-wal" : "");
    ck_assert_int_eq(unlink(path), 0);
    expect_failed(mq, "removed or replaced");
    close_all(mq);
}
END_TEST

/* The number of the page with rows from the middle of the table at ROOT. */
static long middle_child(const char *file, long root)
{
    const unsigned char *page = (const unsigned char *)file + (root - 1) * 4096;
    ck_assert_int_eq(page[0], 5); /* an inner page of a table */
    unsigned at = 12 + ((unsigned)page[3] << 8 | page[4]) / 2 * 2;
    const unsigned char *cell = page + ((unsigned)page[at] << 8 | page[at + 1]);
    return (long)cell[0] << 24 | cell[1] << 16 | cell[2] << 8 | cell[3];
}

/* S9, S16.  A page of the backlog is not a page any more; it is met when the window is filled. */
START_TEST(damage_that_is_met_stops_the_service_and_says_what_to_do)
{
    enum { N = 2000, WINDOW = 10 };
    char body[200] = "", *bytes = NULL;
    struct bgmq *mq = open_with(SERVICE(0));
    for (int i = 0; i < N; i++)
        OK(bgmq_publish(mq, "T", body, sizeof(body), &MESSAGE(.durability = BGMQ_BEHIND),
                        NULL));
    close_all(mq);
    close_all(
        open_with(SERVICE(0))); /* all are in the backlog now, and none in the log */
    long root =
        flow_sql("SELECT rootpage FROM sqlite_schema WHERE name = 'bgmq_backlog'");
    char log[600];
    snprintf(log, sizeof(log), "%s-wal", flow_database());
    unlink(log); /* it has the pages, too */
    size_t len = harness_read_file(flow_database(), &bytes);
    memset(bytes + (middle_child(bytes, root) - 1) * 4096, 0xff, 4096);
    harness_write_file(flow_database(), bytes, len);
    mq = open_with(SERVICE(0));
    OK(bgmq_register(mq, "T", end_as_told, NULL, &TYPE(.window = WINDOW)));
    OK(bgmq_start(mq));
    expect_failed(mq, ".recover");
    ck_assert_uint_lt(flow_stats(mq, "T").processed, N);
    close_all(mq);
    free(bytes);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("care");
    TCase *old = flow_case(s, "old");
    tcase_add_test(old, history_says_what_each_type_asked_for);
    tcase_add_test(old, history_goes_by_age_while_the_service_rests);
    tcase_add_test(old, history_goes_by_number);
    tcase_add_test(old, keys_whose_period_is_over_are_forgotten);
    TCase *file = flow_case(s, "file");
    tcase_add_loop_test(file, database_that_is_taken_away_is_noticed_at_rest, 0, 2);
    tcase_add_test(file, damage_that_is_met_stops_the_service_and_says_what_to_do);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
