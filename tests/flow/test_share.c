/* test_share.c - a database shared with the application: its tables are left alone, and its
 * write transactions make us wait, no longer than we said. */
#include "flow.h"

#include <sqlite3.h>
#include <string.h>

static sqlite3 *open_app(void)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    sqlite3_wal_autocheckpoint(db, 0);
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    int r = sqlite3_exec(db, sql, NULL, NULL, &why);
    ck_assert_msg(r == SQLITE_OK, "%s: %s", sql, why);
}

START_TEST(tables_of_the_application_are_left_alone)
{
    sqlite3 *db = open_app();
    run(db, "CREATE TABLE post(id INTEGER PRIMARY KEY, text TEXT);"
            "INSERT INTO post(text) VALUES('one'), ('two');"
            "PRAGMA application_id = 77; PRAGMA user_version = 5;");
    sqlite3_close(db);
    struct bgmq *mq = NULL;
    FAILS(BGMQ_ENOTOURS, bgmq_open(&mq, &SERVICE(.database = flow_database()), NULL));
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM sqlite_schema"), 1);
    for (int i = 0; i < 2; i++) {
        mq = flow_open_with(1, SERVICE(.share_database = 1));
        flow_publish(mq, "T", "x");
        flow_close(mq);
    }
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM post"), 2);
    ck_assert_int_eq(flow_sql("PRAGMA application_id"), 77);
    ck_assert_int_eq(flow_sql("PRAGMA user_version"), 5);
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

START_TEST(application_writes_beside_the_service)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    flow_register_with(mq, "T", &r, TYPE(.window = 5));
    OK(bgmq_start(mq));
    sqlite3 *db = open_app();
    run(db, "CREATE TABLE post(id INTEGER PRIMARY KEY)");
    for (int i = 0; i < 100; i++) {
        run(db, "INSERT INTO post DEFAULT VALUES");
        flow_publish(mq, "T", "x");
    }
    flow_wait_ended(mq, "T", 100);
    sqlite3_close(db);
    flow_close(mq);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM post"), 100);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* A publish that gave up waiting says it was not accepted; then it must never run. */
START_TEST(publish_that_gave_up_never_runs)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.share_database = 1, .publish_timeout_ms = 300));
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "before");
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_flush(mq));
    sqlite3 *db = open_app();
    run(db, "BEGIN IMMEDIATE");
    int64_t began = harness_now();
    int err = bgmq_publish(mq, "T", "refused", 7, &MESSAGE(.unique_key = "k"), NULL);
    ck_assert_int_ge(harness_now() - began, 299 * 1000000);
    ck_assert_msg(err == BGMQ_EBUSY || err == BGMQ_EFULL, "%s", bgmq_errname(err));
    run(db, "COMMIT");
    sqlite3_close(db);
    struct bgmq_receipt receipt;
    WAIT_UNTIL(bgmq_publish(mq, "T", "after", 5, &MESSAGE(.unique_key = "k"), &receipt) ==
               0);
    ck_assert_int_eq(receipt.duplicate, 0);
    flow_wait_ended(mq, "T", 2);
    OK(bgmq_flush(mq));
    OK(bgmq_stop(mq, 0));
    char order[64];
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "before after ");
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(handlers_run_on_while_the_application_holds_the_lock)
{
    enum { N = 50 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    flow_register(mq, "T", &r);
    flow_publish_numbers(mq, "T", N);
    OK(bgmq_flush(mq));
    sqlite3 *db = open_app();
    run(db, "BEGIN IMMEDIATE");
    OK(bgmq_start(mq));
    counter_wait(&r.begun, N);
    flow_publish_with(mq, "T", "behind", MESSAGE(.durability = BGMQ_BEHIND));
    run(db, "COMMIT");
    sqlite3_close(db);
    flow_wait_ended(mq, "T", N + 1);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("share");
    TCase *tc = flow_case(s, "shared database");
    tcase_add_test(tc, tables_of_the_application_are_left_alone);
    tcase_add_test(tc, application_writes_beside_the_service);
    tcase_add_test(tc, publish_that_gave_up_never_runs);
    tcase_add_test(tc, handlers_run_on_while_the_application_holds_the_lock);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
