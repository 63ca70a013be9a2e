/* test_fence.c - an attempt that was given up, and runs elsewhere or is dead, changes nothing any
 * more: not by its verdict, not by what it keeps, not by its transaction.
 *
 * Time stands still until the test moves it. */
#include "app.h"

#include "service.h"

#include <stdio.h>
#include <string.h>

#define THEN_MS INT64_C(1523303089000)

enum { EARLY, LATE, WHOLE, WRITING, WAYS };

static struct fake_clock fake;
static struct bgmq *mq;
static sqlite3 *first, *second; /* of the first attempt, and of the second */
static struct counter begun;
static struct gate given_up;
static int way;

static void effect(struct bgmq_job *job, sqlite3 *db)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "INSERT INTO effect VALUES(%llu, %u)",
             (unsigned long long)bgmq_job_id(job), bgmq_job_attempt(job));
    app_sql(db, sql);
}

static int with_effect(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    effect(job, db);
    app_publish(mq, db, "Next", "follow-up");
    return BGMQ_DONE;
}

/* Everything that an attempt can do is refused, on a connection with a transaction. */
static void expect_lost(struct bgmq_job *job)
{
    FAILS(BGMQ_ELOST, bgmq_job_complete_tx(job, first));
    FAILS(BGMQ_ELOST, bgmq_job_fail_tx(job, first, BGMQ_PERMANENT, "Late", NULL));
    FAILS(BGMQ_ELOST, bgmq_job_save_cursor_tx(job, first, "late", 4));
    FAILS(BGMQ_ELOST, bgmq_job_save_cursor(job, "late", 4, BGMQ_BEHIND));
    FAILS(BGMQ_ELOST, bgmq_job_progress(job, 1, "late"));
    FAILS(BGMQ_ELOST, bgmq_job_result(job, "late", 4));
}

static int first_attempt(struct bgmq_job *job)
{
    if (way == EARLY || way == WRITING)
        app_sql(first, way == EARLY ? "BEGIN" : "BEGIN IMMEDIATE");
    if (way == WRITING)
        effect(job, first);
    counter_add(&begun, 1);
    gate_wait(&given_up);
    if (way == WHOLE) {
        ck_assert_int_eq(bgmq_job_transaction(job, first, with_effect, NULL), BGMQ_RETRY);
        ck_assert_str_eq(bgmq_job_error_code(job), "BGMQ_ELOST");
        ck_assert_int_eq(sqlite3_get_autocommit(first), 1);
        return BGMQ_DONE;
    }
    if (way == LATE)
        app_sql(first, "BEGIN");
    if (way != WRITING)
        effect(job, first);
    expect_lost(job);
    app_sql(first, "ROLLBACK");
    return BGMQ_PERMANENT;
}

static int handle(struct bgmq_job *job, void *ctx)
{
    if (bgmq_job_attempt(job) == 1)
        return first_attempt(job);
    ck_assert_ptr_null(bgmq_job_cursor(job, NULL));
    return bgmq_job_transaction(job, second, with_effect, NULL);
}

static int look(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

/* Moves the clock, and returns when the ticker has looked at it. */
static void move(int64_t ms)
{
    fake_clock_advance(&fake, ms);
    for (int i = 0; i < 2; i++) {
        uint64_t n = flow_stats(mq, "Look").processed;
        flow_publish_with(
            mq, "Look", "x",
            MESSAGE(.run_at_ms = fake_clock_wall(&fake) + 1, .durability = BGMQ_MEMORY));
        fake_clock_advance(&fake, 1);
        flow_wait_ended(mq, "Look", n + 1);
    }
}

static void open_all(unsigned max_attempts)
{
    counter_init(&begun);
    gate_init(&given_up);
    fake_clock_init(&fake, THEN_MS);
    OK(bgmqi_service_open(&mq, &SERVICE(.database = flow_database(), .share_database = 1),
                          &fake.clock, NULL));
    first = app_open();
    second = app_open();
    OK(bgmq_sqlite_prepare(mq, first));
    OK(bgmq_sqlite_prepare(mq, second));
    OK(bgmq_register(mq, "T", handle, NULL,
                     &TYPE(.timeout_ms = 100, .stuck_ms = 50,
                           .max_attempts = max_attempts, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_register(mq, "Look", look, NULL, &TYPE(.no_outq = 1)));
    OK(bgmq_start(mq));
}

static void close_all(void)
{
    app_close(first);
    app_close(second);
    flow_close(mq);
    counter_fini(&begun);
    gate_fini(&given_up);
    fake_clock_fini(&fake);
}

/* A18.  The transaction began before it was given up, after that, all of it was after that, or it
 * had written, and so had the lock, when it was given up. */
START_TEST(transaction_of_an_attempt_that_was_given_up_is_refused)
{
    way = _i;
    open_all(5);
    uint64_t id = flow_publish(mq, "T", "x");
    counter_wait(&begun, 1);
    move(150);
    WAIT_UNTIL(flow_collection(mq, "T").timeouts == 1);
    if (way == WRITING) { /* the second waits for the lock */
        gate_open(&given_up);
        flow_wait_ended(mq, "T", 2);
    } else {
        flow_wait_ended(mq, "T", 2); /* the second has ended before */
        gate_open(&given_up);
    }
    WAIT_UNTIL(flow_counters(mq).lost == 1);
    WAIT_UNTIL(flow_collection(mq, "T").stuck == 0);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").outq, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM effect"), 1);
    ck_assert_int_eq(flow_sql("SELECT n FROM effect"), 2);
    ck_assert_uint_eq((uint64_t)flow_sql("SELECT id FROM effect"), id);
    flow_expect(mq, "mq:Next.inq", "follow-up");
    flow_expect_empty(mq, "mq:Next.inq");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* A18.  It was the last attempt: the message is dead, and stays so. */
START_TEST(the_dead_are_not_changed_by_their_last_attempt)
{
    way = _i;
    open_all(1);
    uint64_t id = flow_publish(mq, "T", "x");
    counter_wait(&begun, 1);
    move(150);
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    gate_open(&given_up);
    WAIT_UNTIL(flow_counters(mq).lost == 1);
    WAIT_UNTIL(flow_collection(mq, "T").stuck == 0);
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", id, &info));
    ck_assert_int_eq(info.state, BGMQ_STATE_DEAD);
    ck_assert_str_eq(info.error_code, "Timeout");
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM effect"), 0);
    flow_expect_empty(mq, "mq:T.outq");
    close_all();
    ck_assert_int_eq(flow_rows(), 1);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_progress"), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fence");
    TCase *tc = flow_case(s, "given_up");
    tcase_add_loop_test(tc, transaction_of_an_attempt_that_was_given_up_is_refused, 0,
                        WAYS);
    tcase_add_loop_test(tc, the_dead_are_not_changed_by_their_last_attempt, 0, WAYS);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
