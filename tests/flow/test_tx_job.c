/* test_tx_job.c - handlers that end their attempt in their own transaction: what they did and the
 * end of the message are there together or not at all. */
#include "app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct bgmq *mq;
static sqlite3 *db; /* of the one worker of T */
static struct counter ended;

static int run(struct bgmq_job *job, void *ctx)
{
    bgmq_handler_fn *fn = *(bgmq_handler_fn **)ctx;
    int verdict = fn(job, NULL);
    counter_add(&ended, 1);
    return verdict;
}

static struct bgmq_type_options options;
static bgmq_handler_fn *handler;

static void start_with(struct bgmq_options service, bgmq_handler_fn *fn)
{
    service.share_database = 1;
    mq = flow_open_with(1, service);
    db = app_open();
    counter_init(&ended);
    handler = fn;
    if (!options.backoff)
        options.backoff = BGMQ_BACKOFF_NONE;
    OK(bgmq_register(mq, "T", run, &handler, &options));
    OK(bgmq_start(mq));
}

static void start(bgmq_handler_fn *fn)
{
    start_with(SERVICE(0), fn);
}

static void stop(void)
{
    flow_close(mq);
    app_close(db);
    counter_fini(&ended);
}

static long effects(void)
{
    return flow_sql("SELECT count(*) FROM effect");
}

static void make_effect(struct bgmq_job *job)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "INSERT INTO effect VALUES(%llu, %u)",
             (unsigned long long)bgmq_job_id(job), bgmq_job_attempt(job));
    app_sql(db, sql);
}

/* Runs one message until it has ended in N attempts. */
static void run_one(unsigned n)
{
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", n);
    ck_assert_uint_eq(flow_stats(mq, "T").processed + flow_stats(mq, "T").failed, n);
}

/* ---- bgmq_job_transaction ----------------------------------------------------------- */

static int effect_and_follow_up(struct bgmq_job *job, sqlite3 *on, void *ctx)
{
    ck_assert_ptr_eq(on, db);
    make_effect(job);
    app_publish(mq, db, "Next", "follow-up");
    return BGMQ_DONE;
}

static int whole(struct bgmq_job *job, void *ctx)
{
    int verdict = bgmq_job_transaction(job, db, effect_and_follow_up, NULL);
    ck_assert_int_eq(verdict, BGMQ_DONE);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(flow_rows(), 1); /* the follow-up; ours is gone */
    return BGMQ_PERMANENT;            /* is not looked at */
}

START_TEST(effects_end_and_follow_up_commit_together)
{
    options = TYPE(.history = BGMQ_HISTORY_ALL);
    start(whole);
    run_one(1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_int_eq(effects(), 1);
    ck_assert_int_eq(
        flow_sql(
            "SELECT count(*) FROM bgmq_history WHERE outcome = 'done' AND attempts = 1"),
        1);
    flow_expect(mq, "mq:Next.inq", "follow-up");
    flow_expect(mq, "mq:T.outq", "x");
    ck_assert_uint_eq(flow_counters(mq).lost, 0);
    stop();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static int effect_then_retry(struct bgmq_job *job, sqlite3 *on, void *ctx)
{
    make_effect(job);
    app_publish(mq, db, "Next", "follow-up");
    return bgmq_job_attempt(job) < 3 ? bgmq_job_fail(job, BGMQ_RETRY, "NotYet", "later")
                                     : BGMQ_DONE;
}

static int retried(struct bgmq_job *job, void *ctx)
{
    return bgmq_job_transaction(job, db, effect_then_retry, NULL);
}

START_TEST(anything_but_done_is_rolled_back)
{
    options = TYPE(0);
    start(retried);
    run_one(3);
    ck_assert_int_eq(effects(), 1);
    ck_assert_int_eq(flow_sql("SELECT n FROM effect"), 3);
    ck_assert_uint_eq(flow_collection(mq, "Next").inq, 1);
    ck_assert_uint_eq(flow_counters(mq).lost, 0);
    stop();
    ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

static int end_it_oneself(struct bgmq_job *job, sqlite3 *on, void *ctx)
{
    switch (bgmq_job_attempt(job)) {
    case 1:
        app_sql(db, "COMMIT");
        return BGMQ_DONE;
    case 2:
        app_sql(db, "ROLLBACK; BEGIN; INSERT INTO effect VALUES(0, 0)");
        return BGMQ_DONE;
    case 3:
        app_sql(db, "COMMIT; BEGIN");
        return BGMQ_RETRY;
    default:
        app_sql(db, "ROLLBACK");
        return BGMQ_DONE;
    }
}

static int ends_it(struct bgmq_job *job, void *ctx)
{
    int verdict = bgmq_job_transaction(job, db, end_it_oneself, NULL);
    ck_assert_int_eq(verdict, BGMQ_RETRY);
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_str_eq(bgmq_job_error_code(job), "Transaction");
    return verdict;
}

/* A16. */
START_TEST(handler_that_ends_the_transaction_has_failed)
{
    options = TYPE(.max_attempts = 4);
    start(ends_it);
    run_one(4);
    ck_assert_int_eq(effects(), 0);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "Transaction");
    flow_done(m);
    stop();
}
END_TEST

static int wrong_calls(struct bgmq_job *job, void *ctx)
{
    FAILS(BGMQ_EINVAL, bgmq_job_complete_tx(job, db)); /* no transaction */
    FAILS(BGMQ_EINVAL, bgmq_job_complete_tx(NULL, db));
    FAILS(BGMQ_EINVAL, bgmq_job_complete_tx(job, NULL));
    ck_assert_int_eq(bgmq_job_transaction(job, NULL, end_it_oneself, NULL), BGMQ_RETRY);
    ck_assert_int_eq(bgmq_job_transaction(job, db, NULL, NULL), BGMQ_RETRY);
    ck_assert_str_eq(bgmq_job_error_code(job), "BGMQ_EINVAL");
    app_sql(db, "BEGIN");
    FAILS(BGMQ_EINVAL, bgmq_job_fail_tx(job, db, BGMQ_DONE, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor_tx(job, db, NULL, 1));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor_tx(job, db, "x", (64 << 10) + 1));
    ck_assert_int_eq(bgmq_job_transaction(job, db, end_it_oneself, NULL), BGMQ_RETRY);
    app_sql(db, "ROLLBACK");
    sqlite3 *other = app_open_at(":memory:", SQLITE_OPEN_READWRITE);
    app_sql(other, "BEGIN");
    FAILS(BGMQ_EOTHERFILE, bgmq_job_complete_tx(job, other));
    app_sql(other, "ROLLBACK");
    ck_assert_int_eq(bgmq_job_transaction(job, other, end_it_oneself, NULL), BGMQ_RETRY);
    ck_assert_str_eq(bgmq_job_error_code(job), "BGMQ_EOTHERFILE");
    app_close(other);
    return BGMQ_DONE;
}

START_TEST(wrong_arguments_change_nothing)
{
    options = TYPE(0);
    start(wrong_calls);
    run_one(1);
    flow_expect(mq, "mq:T.outq", "x");
    stop();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- complete ---------------------------------------------------------------------- */

static int twice(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN IMMEDIATE");
    OK(bgmq_job_complete_tx(job, db));
    FAILS(BGMQ_ELOST, bgmq_job_complete_tx(job, db));
    FAILS(BGMQ_ELOST, bgmq_job_fail_tx(job, db, BGMQ_RETRY, NULL, NULL));
    FAILS(BGMQ_ELOST, bgmq_job_save_cursor_tx(job, db, "x", 1));
    app_sql(db, "COMMIT; BEGIN IMMEDIATE");
    FAILS(BGMQ_ELOST, bgmq_job_complete_tx(job, db));
    app_sql(db, "ROLLBACK");
    return BGMQ_DONE;
}

/* Two effects, so that the number of the last is not that of a row of ours. */
static int asks_for_its_rowid(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN IMMEDIATE");
    make_effect(job);
    make_effect(job);
    sqlite3_int64 last = sqlite3_last_insert_rowid(db);
    OK(bgmq_job_complete_tx(job, db));
    ck_assert_int_eq(sqlite3_last_insert_rowid(db), last);
    app_sql(db, "COMMIT");
    ck_assert_int_eq(sqlite3_last_insert_rowid(db), last);
    return BGMQ_DONE;
}

START_TEST(last_rowid_stays_the_applications)
{
    options = TYPE(.history = BGMQ_HISTORY_ALL);
    start(asks_for_its_rowid);
    run_one(1);
    stop();
    ck_assert_int_eq(effects(), 2);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_history"), 1);
}
END_TEST

/* A17. */
START_TEST(second_complete_is_lost)
{
    options = TYPE(0);
    start(twice);
    run_one(1);
    stop();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static int undone(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN");
    make_effect(job);
    OK(bgmq_job_complete_tx(job, db));
    if (bgmq_job_attempt(job) == 1) {
        app_sql(db, "ROLLBACK");
        return BGMQ_RETRY;
    }
    if (bgmq_job_attempt(job) == 2) {
        app_sql(db, "ROLLBACK; BEGIN; SAVEPOINT s");
        OK(bgmq_job_complete_tx(job, db));
        app_sql(db, "ROLLBACK TO s; COMMIT");
        return BGMQ_RETRY;
    }
    app_sql(db, "ROLLBACK; BEGIN");
    make_effect(job);
    app_sql(db, "SAVEPOINT s");
    OK(bgmq_job_complete_tx(job, db));
    app_sql(db, "RELEASE s; COMMIT");
    return BGMQ_RETRY;
}

static const struct {
    enum bgmq_durability level;
    unsigned flush_ms;
} levels[] = {{BGMQ_MEMORY, 0}, {BGMQ_BEHIND, 60000}, {BGMQ_BEHIND, 1}, {BGMQ_COMMIT, 0}};

/* Also when its INSERT still waits in the journal, or is just being written. */
START_TEST(complete_that_is_rolled_back_was_not_called)
{
    options = TYPE(0);
    start_with(
        SERVICE(.durability = levels[_i].level, .flush_interval_ms = levels[_i].flush_ms),
        undone);
    run_one(3);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_int_eq(effects(), 1);
    stop();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static int undone_for_good(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN");
    OK(bgmq_job_complete_tx(job, db));
    app_sql(db, "ROLLBACK");
    return bgmq_job_snooze(job, 3600 * 1000);
}

/* What was taken out of the journal goes back there. */
START_TEST(message_without_a_row_gets_it_after_the_rollback)
{
    options = TYPE(0);
    start_with(SERVICE(.durability = BGMQ_BEHIND, .flush_interval_ms = 60000),
               undone_for_good);
    flow_publish(mq, "T", "x");
    WAIT_UNTIL(flow_collection(mq, "T").delayed == 1);
    OK(bgmq_flush(mq));
    ck_assert_int_eq(flow_rows(), 1);
    stop();
    ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

static int left_open(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN");
    make_effect(job);
    if (bgmq_job_attempt(job) == 3)
        OK(bgmq_job_save_cursor_tx(job, db, "x", 1));
    else
        OK(bgmq_job_complete_tx(job, db));
    if (bgmq_job_attempt(job) > 3)
        app_sql(db, "COMMIT");
    return bgmq_job_attempt(job) == 1 ? BGMQ_DONE : BGMQ_RETRY;
}

/* A16. */
START_TEST(transaction_left_open_is_rolled_back)
{
    struct harness_log log;
    harness_log_init(&log);
    options = TYPE(0);
    start_with(SERVICE(.log = harness_log_keep, .log_ctx = &log), left_open);
    run_one(4);
    ck_assert_int_eq(effects(), 1);
    ck_assert_int_eq(harness_log_count(&log, BGMQ_LOG_ERROR), 3);
    ck_assert(harness_log_has(&log, "left its transaction open"));
    stop();
    ck_assert_int_eq(flow_rows(), 0);
    harness_log_fini(&log);
}
END_TEST

static int busy(struct bgmq_job *job, void *ctx)
{
    if (bgmq_job_attempt(job) > 1)
        return bgmq_job_transaction(job, db, effect_and_follow_up, NULL);
    sqlite3 *other = app_open();
    app_sql(other, "BEGIN IMMEDIATE");
    sqlite3_busy_timeout(db, 1);
    int verdict = bgmq_job_transaction(job, db, effect_and_follow_up, NULL);
    ck_assert_int_eq(verdict, BGMQ_RETRY);
    ck_assert_str_eq(bgmq_job_error_code(job), "BGMQ_EBUSY");
    app_sql(other, "COMMIT");
    app_close(other);
    sqlite3_busy_timeout(db, 10000);
    return verdict;
}

START_TEST(lock_of_another_fails_the_attempt)
{
    options = TYPE(0);
    start(busy);
    run_one(2);
    ck_assert_int_eq(effects(), 1);
    stop();
    ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

/* ---- keys, answers, errors ------------------------------------------------------------ */

static int complete(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN");
    OK(bgmq_job_respond(job, "Answer", "yes", 3));
    OK(bgmq_job_complete_tx(job, db));
    uint64_t before = flow_collection(mq, "Answer").inq;
    app_sql(db, "COMMIT");
    /* An answer to a type is there before the handler has returned. */
    ck_assert_uint_eq(flow_collection(mq, "Answer").inq,
                      before + !bgmq_job_reply_to(job));
    return BGMQ_DONE;
}

START_TEST(answer_is_part_of_the_transaction)
{
    options = TYPE(0);
    start(complete);
    flow_publish(mq, "Answer", "known");
    flow_expect(mq, "mq:Answer.inq", "known");
    flow_publish_with(mq, "T", "x", MESSAGE(.unique_key = "k"));
    flow_wait_ended(mq, "T", 1);
    flow_expect(mq, "mq:Answer.inq", "yes");
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 0);
    struct bgmq_receipt r;
    OK(bgmq_publish(mq, "T", "x", 1, &MESSAGE(.reply_to = "box"), &r));
    struct bgmq_message *m = flow_take(mq, "box");
    flow_expect_body(m, "yes");
    ck_assert_uint_eq(bgmq_message_reply_id(m), r.id);
    flow_done(m);
    flow_wait_ended(mq, "T", 2);
    flow_expect_empty(mq, "box");
    flow_expect_empty(mq, "mq:T.outq");
    stop();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

static int fail_in_tx(struct bgmq_job *job, void *ctx)
{
    const char *body = bgmq_job_body(job, NULL);
    enum bgmq_verdict verdict = body[0] == 'p' ? BGMQ_PERMANENT : BGMQ_RETRY;
    app_sql(db, "BEGIN");
    make_effect(job);
    OK(bgmq_job_fail_tx(job, db, verdict, "Broken", "by hand"));
    app_sql(db, "COMMIT");
    return BGMQ_DONE; /* is not looked at */
}

START_TEST(failure_commits_with_its_effects)
{
    options = TYPE(.max_attempts = 3, .history = BGMQ_HISTORY_ALL);
    start_with(
        SERVICE(.durability = levels[_i].level, .flush_interval_ms = levels[_i].flush_ms),
        fail_in_tx);
    uint64_t id = flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 3);
    flow_publish(mq, "T", "permanent");
    flow_wait_ended(mq, "T", 4);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 4);
    ck_assert_uint_eq(flow_stats(mq, "T").retries, 2);
    ck_assert_int_eq(effects(), 4);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_uint_eq(bgmq_message_id(m), id);
    ck_assert_str_eq(bgmq_message_error_code(m), "Broken");
    ck_assert_str_eq(bgmq_message_error_text(m), "by hand");
    ck_assert_uint_eq(bgmq_message_attempts(m), 3);
    bgmq_message_free(m);
    if (_i) { /* they have rows */
        ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_error"), 4);
        ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_history"), 2);
    }
    stop();
    ck_assert_int_eq(flow_rows(), _i ? 2 : 0);
    if (!_i)
        return;
    start(complete);
    flow_publish(mq, "Answer", "known");
    flow_expect(mq, "mq:Answer.inq", "known");
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 2);
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), 2);
    counter_wait(&ended, 2);
    flow_expect(mq, "mq:Answer.inq", "yes");
    flow_expect(mq, "mq:Answer.inq", "yes");
    stop();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- the cursor ---------------------------------------------------------------------- */

static void expect_cursor(struct bgmq_job *job, const char *text)
{
    size_t len = 0;
    const char *cursor = bgmq_job_cursor(job, &len);
    ck_assert(text ? cursor && len == strlen(text) && strcmp(cursor, text) == 0
                   : cursor == NULL);
}

static int with_cursor(struct bgmq_job *job, void *ctx)
{
    unsigned attempt = bgmq_job_attempt(job);
    expect_cursor(job, attempt == 1   ? NULL
                       : attempt == 2 ? "1"
                       : attempt == 3 ? "2"
                                      : "3");
    if (attempt == 4)
        return BGMQ_DONE;
    char cursor[2] = {(char)('0' + attempt), '\0'};
    app_sql(db, "BEGIN");
    make_effect(job);
    OK(bgmq_job_save_cursor_tx(job, db, "undone", 6));
    app_sql(db, "ROLLBACK; BEGIN");
    make_effect(job);
    OK(bgmq_job_progress(job, attempt, "beside it"));
    OK(bgmq_job_save_cursor_tx(job, db, cursor, 1));
    expect_cursor(job, attempt == 1 ? NULL : attempt == 2 ? "1" : "2");
    app_sql(db, "COMMIT");
    expect_cursor(job, cursor);
    if (attempt == 2) { /* together with an end */
        app_sql(db, "BEGIN");
        OK(bgmq_job_save_cursor_tx(job, db, cursor, 1));
        OK(bgmq_job_fail_tx(job, db, BGMQ_RETRY, NULL, NULL));
        app_sql(db, "COMMIT");
    }
    return BGMQ_RETRY;
}

START_TEST(cursor_commits_with_the_work)
{
    options = TYPE(0);
    start_with(
        SERVICE(.durability = levels[_i].level, .flush_interval_ms = levels[_i].flush_ms),
        with_cursor);
    run_one(4);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    ck_assert_int_eq(effects(), 3);
    stop();
    ck_assert_int_eq(flow_rows(), 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_progress"), 0);
}
END_TEST

static int save_and_wait(struct bgmq_job *job, void *ctx)
{
    app_sql(db, "BEGIN");
    OK(bgmq_job_save_cursor_tx(job, db, "kept", 4));
    app_sql(db, "COMMIT");
    return bgmq_job_snooze(job, 3600 * 1000);
}

START_TEST(cursor_outlives_the_process)
{
    options = TYPE(0);
    start(save_and_wait);
    flow_publish(mq, "T", "x");
    WAIT_UNTIL(flow_collection(mq, "T").delayed == 1);
    stop();
    ck_assert_int_eq(
        flow_sql("SELECT count(*) FROM bgmq_progress WHERE cursor = x'6b657074'"), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tx_job");
    TCase *tc = flow_case(s, "transaction");
    tcase_add_test(tc, effects_end_and_follow_up_commit_together);
    tcase_add_test(tc, anything_but_done_is_rolled_back);
    tcase_add_test(tc, handler_that_ends_the_transaction_has_failed);
    tcase_add_test(tc, wrong_arguments_change_nothing);
    tc = flow_case(s, "complete");
    tcase_add_test(tc, second_complete_is_lost);
    tcase_add_test(tc, last_rowid_stays_the_applications);
    tcase_add_loop_test(tc, complete_that_is_rolled_back_was_not_called, 0, 4);
    tcase_add_test(tc, message_without_a_row_gets_it_after_the_rollback);
    tcase_add_test(tc, transaction_left_open_is_rolled_back);
    tcase_add_test(tc, lock_of_another_fails_the_attempt);
    tc = flow_case(s, "ends");
    tcase_add_test(tc, answer_is_part_of_the_transaction);
    tcase_add_loop_test(tc, failure_commits_with_its_effects, 0, 4);
    tc = flow_case(s, "cursor");
    tcase_add_loop_test(tc, cursor_commits_with_the_work, 0, 4);
    tcase_add_test(tc, cursor_outlives_the_process);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
