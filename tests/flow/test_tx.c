/* test_tx.c - messages published in the application's transaction: there exactly if that commits,
 * whatever savepoints, statements and connections go through. */
#include "app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct bgmq *mq;
static sqlite3 *db;

static void open_all(void)
{
    mq = flow_open_with(1, SERVICE(.share_database = 1));
    db = app_open();
}

static void close_all(void)
{
    app_close(db);
    flow_close(mq);
}

static void expect_waiting(uint64_t n)
{
    ck_assert_uint_eq(flow_collection(mq, "T").inq, n);
}

/* ---- the commit -------------------------------------------------------------------- */

START_TEST(committed_message_is_handled)
{
    struct recorder r;
    recorder_init(&r);
    open_all();
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    app_sql(db, "BEGIN");
    uint64_t id = app_publish(mq, db, "T", "hello");
    ck_assert_int_eq(counter_value(&r.begun), 0);
    ck_assert_uint_eq(flow_collection(mq, "T").added, 0);
    app_sql(db, "COMMIT");
    counter_wait(&r.begun, 1);
    struct call call = recorder_call(&r, 0);
    ck_assert_uint_eq(call.id, id);
    ck_assert_str_eq(call.body, "hello");
    flow_wait_ended(mq, "T", 1);
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(rolled_back_message_never_was)
{
    open_all();
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "a");
    app_publish_with(mq, db, "T", "b", MESSAGE(.delay_ms = 3600 * 1000));
    app_publish_with(mq, db, "T", "c", MESSAGE(.unique_key = "k"));
    app_sql(db, "ROLLBACK");
    app_sql(db, "BEGIN; COMMIT");
    expect_waiting(0);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 0);
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 0);
}
END_TEST

/* All that a message may carry is there, from memory and after a reopen. */
START_TEST(everything_a_message_carries_is_kept)
{
    static const char *const meta[] = {"user", "gr\xc3\xbc\xc3\x9f", NULL};
    open_all();
    app_sql(db, "BEGIN IMMEDIATE");
    struct bgmq_receipt receipt;
    OK(bgmq_publish_tx(mq, db, "T", "a\0b", 3,
                       &MESSAGE(.tag = "tag", .traceparent = "tp", .reply_to = "back",
                                .reply_id = 7, .meta = meta, .unique_key = "k"),
                       &receipt));
    ck_assert_int_eq(receipt.duplicate, 0);
    ck_assert_int_eq(receipt.level, BGMQ_COMMIT);
    app_sql(db, "COMMIT");
    for (int i = 0; i < 2; i++) {
        struct bgmq_message *m = flow_take(mq, "mq:T.inq");
        size_t len;
        ck_assert_int_eq(memcmp(bgmq_message_body(m, &len), "a\0b", 3), 0);
        ck_assert_uint_eq(len, 3);
        ck_assert_uint_eq(bgmq_message_id(m), receipt.id);
        ck_assert_str_eq(bgmq_message_tag(m), "tag");
        ck_assert_str_eq(bgmq_message_traceparent(m), "tp");
        ck_assert_str_eq(bgmq_message_reply_to(m), "back");
        ck_assert_uint_eq(bgmq_message_reply_id(m), 7);
        ck_assert_str_eq(bgmq_message_meta(m, "user"), "gr\xc3\xbc\xc3\x9f");
        if (i) {
            flow_done(m);
            break;
        }
        bgmq_message_free(m);
        close_all();
        open_all();
    }
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(priority_goes_first_and_delay_waits)
{
    open_all();
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "a");
    app_publish_with(mq, db, "T", "b", MESSAGE(.priority = 3));
    app_publish_with(mq, db, "T", "c", MESSAGE(.delay_ms = 20));
    app_publish_with(mq, db, "T", "d", MESSAGE(.delay_ms = 3600 * 1000));
    app_sql(db, "COMMIT");
    flow_expect(mq, "mq:T.priorityq", "b");
    flow_expect(mq, "mq:T.inq", "a");
    flow_expect(mq, "mq:T.inq", "c");
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    close_all();
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_backlog WHERE lane = 2"), 1);
}
END_TEST

/* More than the window holds: what does not fit waits in the database, and none is lost. */
START_TEST(many_pass_through_a_small_window)
{
    enum { N = 300 };
    struct recorder r;
    recorder_init(&r);
    open_all();
    struct gate gate;
    gate_init(&gate);
    r.gate = &gate;
    flow_register_with(mq, "T", &r, TYPE(.window = 16));
    OK(bgmq_start(mq));
    for (int i = 0; i < N;) {
        char text[12];
        app_sql(db, "BEGIN");
        for (int k = 0; k < 10; k++, i++) {
            snprintf(text, sizeof(text), "%d", i);
            app_publish_with(mq, db, "T", text,
                             i % 3 == 1   ? MESSAGE(.priority = 1 + i % 5)
                             : i % 3 == 2 ? MESSAGE(.delay_ms = 1 + i % 7)
                                          : MESSAGE(0));
        }
        app_sql(db, i % 50 == 0 ? "ROLLBACK" : "COMMIT");
    }
    gate_open(&gate);
    counter_wait(&r.begun, N - N / 50 * 10);
    flow_wait_ended(mq, "T", N - N / 50 * 10);
    char seen[N] = {0};
    for (size_t i = 0; i < N - N / 50 * 10; i++) {
        int number = atoi(recorder_call(&r, i).body);
        ck_assert_int_eq(seen[number]++, 0);
    }
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
    gate_fini(&gate);
    recorder_fini(&r);
}
END_TEST

/* ---- savepoints and statements ------------------------------------------------------ */

static void expect_bodies(const char *bodies)
{
    char text[256];
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", text, sizeof(text)), bodies);
}

/* S28. */
START_TEST(savepoint_that_is_rolled_back_takes_its_messages)
{
    open_all();
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "a");
    app_sql(db, "SAVEPOINT one");
    app_publish(mq, db, "T", "b");
    app_sql(db, "SAVEPOINT two");
    app_publish(mq, db, "T", "c");
    app_sql(db, "RELEASE two");
    app_publish(mq, db, "T", "d");
    app_sql(db, "ROLLBACK TO one");
    app_publish(mq, db, "T", "e");
    app_sql(db, "SAVEPOINT three");
    app_publish(mq, db, "T", "f");
    app_sql(db, "ROLLBACK TO three; RELEASE three; RELEASE one; COMMIT");
    expect_bodies("a e ");
    close_all();
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

/* The table takes part in the transaction only from the middle of it on. */
START_TEST(first_publish_deep_in_savepoints_is_undone_from_outside)
{
    open_all();
    OK(bgmq_sqlite_prepare(mq, db));
    app_sql(db, "SAVEPOINT outer_most; SAVEPOINT one; SAVEPOINT two; SAVEPOINT three");
    app_publish(mq, db, "T", "a");
    app_sql(db, "RELEASE three; ROLLBACK TO one");
    app_publish(mq, db, "T", "b");
    app_sql(db, "RELEASE one; SAVEPOINT one");
    app_publish(mq, db, "T", "c");
    app_sql(db, "ROLLBACK TO one");
    expect_waiting(0);
    app_sql(db, "RELEASE outer_most");
    expect_bodies("b ");
    app_sql(db, "SAVEPOINT again");
    app_publish(mq, db, "T", "d");
    app_sql(db, "ROLLBACK TO again");
    app_publish(mq, db, "T", "e");
    app_sql(db, "RELEASE again");
    expect_bodies("b e ");
    close_all();
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

START_TEST(failed_statement_keeps_what_was_published_before)
{
    open_all();
    app_sql(db, "CREATE TABLE one(x INTEGER PRIMARY KEY)");
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "a");
    app_sql_fails(db, SQLITE_CONSTRAINT_PRIMARYKEY, "INSERT INTO one VALUES(1),(2),(1)");
    app_publish(mq, db, "T", "b");
    app_sql_fails(db, SQLITE_CONSTRAINT_PRIMARYKEY,
                  "INSERT OR FAIL INTO one VALUES(5),(5)");
    app_sql(db, "COMMIT");
    expect_bodies("a b ");
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "c");
    app_sql_fails(db, SQLITE_CONSTRAINT_PRIMARYKEY,
                  "INSERT OR ROLLBACK INTO one VALUES(7),(7)");
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    expect_bodies("a b ");
    close_all();
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

/* ---- plain SQL --------------------------------------------------------------------- */

/* The service does not look of its own accord: what is taken over was rung for. */
static void expect_taken(uint64_t n)
{
    WAIT_UNTIL(flow_counters(mq).inbox >= n);
    ck_assert_uint_eq(flow_counters(mq).inbox, n);
}

START_TEST(insert_into_the_inbox_is_taken_over_at_the_commit)
{
    open_all();
    OK(bgmq_sqlite_prepare(mq, db));
    OK(bgmq_sqlite_prepare(mq, db));
    app_sql(db, "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'x')");
    expect_taken(1);
    app_sql(db, "BEGIN; INSERT INTO bgmq_inbox(type, body) VALUES('T', 'y'), ('T', 'z')");
    expect_taken(1);
    app_sql(db, "COMMIT");
    expect_taken(3);
    app_sql(db, "BEGIN; INSERT INTO bgmq_inbox(type, body) VALUES('T', 'y'); ROLLBACK");
    app_sql_fails(db, SQLITE_CONSTRAINT_CHECK,
                  "INSERT INTO bgmq_inbox(type, body) VALUES('T', 1)");
    app_sql(db, "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'w')");
    expect_taken(4);
    flow_expect(mq, "mq:T.inq", "x");
    flow_expect(mq, "mq:T.inq", "y");
    flow_expect(mq, "mq:T.inq", "z");
    flow_expect(mq, "mq:T.inq", "w");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(trigger_of_the_application_publishes)
{
    open_all();
    OK(bgmq_sqlite_prepare(mq, db));
    app_sql(db,
            "CREATE TRIGGER order_made AFTER INSERT ON effect BEGIN"
            " INSERT INTO bgmq_inbox(type, body) VALUES('T', 'order ' || new.id); END");
    app_sql(db, "BEGIN; INSERT INTO effect VALUES(1, 0); INSERT INTO effect VALUES(2, 0);"
                "COMMIT");
    flow_expect(mq, "mq:T.inq", "order 1");
    flow_expect(mq, "mq:T.inq", "order 2");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- what is the application's stays so ---------------------------------------------- */

/* S27. */
START_TEST(temporary_tables_of_our_names_get_nothing)
{
    open_all();
    app_sql(db, "CREATE TEMP TABLE bgmq_job(id); CREATE TEMP TABLE bgmq_backlog(id);"
                "CREATE TEMP TABLE bgmq_type(id, name); CREATE TEMP TABLE bgmq_unique(a);"
                "CREATE TEMP TABLE bgmq_signal(inbox); BEGIN");
    app_publish_with(mq, db, "T", "a", MESSAGE(.unique_key = "k"));
    app_publish_with(mq, db, "T", "b", MESSAGE(.delay_ms = 3600 * 1000));
    app_publish(mq, db, "T", "c"); /* which has a statement of its own */
    app_sql(db, "COMMIT");
    ck_assert_int_eq(app_number(db, "SELECT (SELECT count(*) FROM temp.bgmq_job)"
                                    " + (SELECT count(*) FROM temp.bgmq_backlog)"
                                    " + (SELECT count(*) FROM temp.bgmq_signal)"
                                    " + (SELECT count(*) FROM temp.bgmq_unique)"),
                     0);
    expect_bodies("a c ");
    close_all();
    ck_assert_int_eq(flow_rows(), 3);
}
END_TEST

static int hooked[3];

static int on_commit(void *ctx)
{
    hooked[0]++;
    return 0;
}

static void on_update(void *ctx, int what, const char *name, const char *table,
                      sqlite3_int64 rowid)
{
    hooked[1]++;
}

static void on_rollback(void *ctx)
{
    hooked[2]++;
}

START_TEST(hooks_and_the_last_rowid_stay_the_applications)
{
    open_all();
    sqlite3_commit_hook(db, on_commit, &hooked[0]);
    sqlite3_update_hook(db, on_update, &hooked[1]);
    sqlite3_rollback_hook(db, on_rollback, &hooked[2]);
    OK(bgmq_sqlite_prepare(mq, db));
    memset(hooked, 0,
           sizeof(hooked)); /* that made a TEMP TRIGGER, in a commit of its own */
    app_sql(db, "BEGIN; INSERT INTO effect(rowid, id, n) VALUES(4711, 1, 1)");
    app_publish(mq, db, "T", "a");
    ck_assert_int_eq(sqlite3_last_insert_rowid(db), 4711);
    app_sql(db, "COMMIT");
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "b");
    app_sql(db, "ROLLBACK");
    ck_assert_int_eq(hooked[0], 1);
    ck_assert_int_ge(hooked[1], 1);
    ck_assert_int_eq(hooked[2], 1);
    ck_assert_ptr_eq(sqlite3_commit_hook(db, NULL, NULL), &hooked[0]);
    ck_assert_ptr_eq(sqlite3_update_hook(db, NULL, NULL), &hooked[1]);
    ck_assert_ptr_eq(sqlite3_rollback_hook(db, NULL, NULL), &hooked[2]);
    close_all();
}
END_TEST

static int on_wal(void *ctx, sqlite3 *on, const char *name, int pages)
{
    ++*(int *)ctx;
    return SQLITE_OK;
}

/* S19.  Once for each connection, whether it was prepared (_i 0) or just used. */
START_TEST(check_points_of_a_connection_are_put_off_and_that_is_said)
{
    struct harness_log log;
    harness_log_init(&log);
    mq = flow_open_with(
        1, SERVICE(.share_database = 1, .log = harness_log_keep, .log_ctx = &log));
    db = app_open();
    ck_assert_int_eq(app_number(db, "PRAGMA wal_autocheckpoint"), 1000);
    for (int i = 0; i < 2; i++) {
        if (_i == 0)
            OK(bgmq_sqlite_prepare(mq, db));
        app_sql(db, "BEGIN");
        app_publish(mq, db, "T", "a");
        app_sql(db, "COMMIT");
    }
    int off = app_number(db, "PRAGMA wal_autocheckpoint") == 0;
    ck_assert(off || sqlite3_libversion_number() >= 3044006); /* it need not be */
    int told = harness_log_has(&log, "of a connection of the application are off now");
    ck_assert_int_eq(harness_log_has(&log, "automatic check-points"), off);
    ck_assert_int_eq(harness_log_count(&log, BGMQ_LOG_WARNING), told && _i);
    /* Nor does its cache spill, which may lose what others commit later. */
    int kept = app_number(db, "PRAGMA cache_spill") > 1000000;
    ck_assert_int_eq(kept, sqlite3_libversion_number() < 3050002);
    ck_assert_int_eq(told, off || kept);
    close_all();
    harness_log_fini(&log);
}
END_TEST

START_TEST(wal_hook_of_the_application_stays)
{
    int commits = 0;
    open_all();
    sqlite3_wal_hook(db, on_wal, &commits);
    OK(bgmq_sqlite_prepare(mq, db));
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "a");
    app_sql(db, "COMMIT");
    ck_assert_int_eq(commits, 1);
    ck_assert_ptr_eq(sqlite3_wal_hook(db, NULL, NULL), &commits);
    close_all();
}
END_TEST

/* No statement of ours is left: the connection closes, and the transaction goes with it. */
START_TEST(connection_closed_in_a_transaction_undoes_it)
{
    open_all();
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "a");
    app_publish_with(mq, db, "T", "b", MESSAGE(.delay_ms = 100000));
    app_close(db);
    db = app_open();
    expect_waiting(0);
    app_sql(db, "BEGIN");
    app_publish(mq, db, "T", "c");
    app_sql(db, "COMMIT");
    expect_bodies("c ");
    close_all();
    ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tx");
    TCase *tc = flow_case(s, "commit");
    tcase_add_test(tc, committed_message_is_handled);
    tcase_add_test(tc, rolled_back_message_never_was);
    tcase_add_test(tc, everything_a_message_carries_is_kept);
    tcase_add_test(tc, priority_goes_first_and_delay_waits);
    tcase_add_test(tc, many_pass_through_a_small_window);
    tc = flow_case(s, "savepoint");
    tcase_add_test(tc, savepoint_that_is_rolled_back_takes_its_messages);
    tcase_add_test(tc, first_publish_deep_in_savepoints_is_undone_from_outside);
    tcase_add_test(tc, failed_statement_keeps_what_was_published_before);
    tc = flow_case(s, "plain");
    tcase_add_test(tc, insert_into_the_inbox_is_taken_over_at_the_commit);
    tcase_add_test(tc, trigger_of_the_application_publishes);
    tc = flow_case(s, "untouched");
    tcase_add_test(tc, temporary_tables_of_our_names_get_nothing);
    tcase_add_test(tc, hooks_and_the_last_rowid_stay_the_applications);
    tcase_add_loop_test(tc, check_points_of_a_connection_are_put_off_and_that_is_said, 0,
                        2);
    tcase_add_test(tc, wal_hook_of_the_application_stays);
    tcase_add_test(tc, connection_closed_in_a_transaction_undoes_it);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
