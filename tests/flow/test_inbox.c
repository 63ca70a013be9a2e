/* test_inbox.c - rows of bgmq_inbox become messages: those that cannot, those that have no room
 * yet, many at once, on a disk that fails, and in a process that ends at any call to the system. */
#include "flow.h"

#include "../harness/shim_vfs.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_ID (UINT64_C(1) << 52)

/* Another program's connection, on a disk that does not fail; it does not check-point. */
static void sql(const char *text)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(flow_database(), &db, SQLITE_OPEN_READWRITE, "unix"),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    sqlite3_wal_autocheckpoint(db, 0);
    ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", text,
                  sqlite3_errmsg(db));
    sqlite3_close(db);
}

static uint64_t taken_over(struct bgmq *mq)
{
    return flow_counters(mq).inbox;
}

static long in_inbox(void)
{
    return flow_sql("SELECT count(*) FROM bgmq_inbox");
}

static void make_database(void)
{
    flow_close(flow_open(1));
}

/* ---- rows that cannot be messages ------------------------------------------------- */

START_TEST(row_that_cannot_be_a_message_is_refused_and_stays)
{
    static const char *const rows[] = {
        "(body, type) VALUES(zeroblob(1001), 'T')", /* over max_body */
        "(body, type, meta) VALUES('x', 'T', 'no json')",
        "(body, type, meta) VALUES('x', 'T', '[1]')",
        "(body, type, meta) VALUES('x', 'T', '{\"k\":1}')",
        "(body, type, meta) VALUES('x', 'T', json_object('k', hex(zeroblob(2100))))",
        "(body, type, run_at) VALUES('x', 'T', -1)",
        "(body, type, run_at) VALUES('x', 'T', 9000000000000)",
        "(body, type, tag) VALUES('x', 'T', CAST(x'ff' AS TEXT))",
        "(body, type, tag) VALUES('x', 'T', hex(zeroblob(101)))",
        "(body, type, unique_key) VALUES('x', 'T', '')",
        "(body, type, unique_key, unique_scope) VALUES('x', 'T', 'k', 3)", /* no period */
        "(body, type, channel) VALUES('x', 'T', 'a b')",
        "(body, type, id) VALUES('x', 'T', 7)",
        "(body, type, id) VALUES('x', 'T', -7)",
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    struct harness_log log;
    harness_log_init(&log);
    make_database();
    for (size_t i = 0; i < ROWS; i++) {
        char text[256];
        snprintf(text, sizeof(text), "INSERT INTO bgmq_inbox%s", rows[i]);
        sql(text);
        sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'good')");
    }
    struct bgmq *mq = flow_open_with(
        1, SERVICE(.max_body = 1000, .log = harness_log_keep, .log_ctx = &log));
    WAIT_UNTIL(taken_over(mq) == ROWS);
    WAIT_UNTIL(harness_log_count(&log, BGMQ_LOG_WARNING) == ROWS);
    ck_assert_int_eq(in_inbox(), ROWS);
    ck_assert_int_eq(
        flow_sql("SELECT count(*) FROM bgmq_inbox WHERE length(refused) > 0"), ROWS);
    ck_assert(harness_log_has(&log, "max_body"));
    flow_close(mq);
    mq = flow_open(1); /* what is refused is not looked at again */
    ck_assert_uint_eq(flow_collection(mq, "T").inq, ROWS);
    OK(bgmq_flush(mq));
    ck_assert_uint_eq(taken_over(mq), 0);
    flow_close(mq);
    harness_log_fini(&log);
}
END_TEST

/* The table's own checks: the writer is told at once. */
START_TEST(row_of_the_wrong_form_is_refused_by_the_table)
{
    static const char *const rows[] = {
        "(body, type) VALUES('x', '')",
        "(body, type) VALUES('x', 'a b')",
        "(body, type) VALUES(NULL, 'T')",
        "(body, type) VALUES(1, 'T')",
        "(body, priority, type) VALUES('x', -1, 'T')",
        "(body, max_attempts, type) VALUES('x', 1001, 'T')",
    };
    make_database();
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "INSERT INTO bgmq_inbox%s", rows[i]);
        ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_CONSTRAINT, "%s",
                      text);
    }
    sqlite3_close(db);
    ck_assert_int_eq(in_inbox(), 0);
}
END_TEST

/* ---- many ------------------------------------------------------------------------ */

START_TEST(many_rows_come_once_each_and_in_order)
{
    enum { ROWS = 5000 };
    make_database();
    sql("WITH n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i < 4999)"
        " INSERT INTO bgmq_inbox(type, body) SELECT 'T', CAST(i AS TEXT) FROM n");
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(1, SERVICE(.guests = 1));
    flow_register_with(mq, "T", &r, TYPE(.window = 100));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", ROWS);
    ck_assert_uint_eq(r.n, ROWS);
    for (int i = 0; i < ROWS; i++) {
        struct call c = recorder_call(&r, (size_t)i);
        ck_assert_int_eq(atoi(c.body), i);
        ck_assert_uint_eq(c.id, FIRST_ID + (uint64_t)i);
    }
    WAIT_UNTIL(taken_over(mq) == ROWS);
    flow_close(mq);
    ck_assert_int_eq(in_inbox() + flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(rows_without_room_stay_until_there_is_some)
{
    enum { ROWS = 100 };
    make_database();
    sql("WITH n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i < 99)"
        " INSERT INTO bgmq_inbox(type, body)"
        " SELECT 'T', CAST(printf('%03d', i) || hex(zeroblob(30000)) AS BLOB) FROM n");
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(1, SERVICE(.max_bytes = 1 << 20, .guests = 1));
    /* Room for some of them; nobody drops or refuses the others. */
    WAIT_UNTIL(taken_over(mq) >= 10);
    OK(bgmq_flush(mq));
    ck_assert_uint_lt(taken_over(mq), ROWS);
    ck_assert_int_gt(in_inbox(), 0);
    ck_assert_int_eq(
        flow_sql("SELECT count(*) FROM bgmq_inbox WHERE refused IS NOT NULL"), 0);
    flow_register_with(mq, "T", &r, TYPE(.no_outq = 1));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", ROWS);
    for (int i = 0; i < ROWS; i++) {
        char number[4];
        snprintf(number, sizeof(number), "%03d", i);
        ck_assert_mem_eq(recorder_call(&r, (size_t)i).body, number, 3);
    }
    flow_close(mq);
    ck_assert_int_eq(in_inbox() + flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(rows_find_their_type_and_lane)
{
    make_database();
    sql("INSERT INTO bgmq_inbox(type, body) VALUES('Later', 'x')");
    sql("INSERT INTO bgmq_inbox(type, body, run_at) VALUES('T', 'x', 4102444800000)");
    sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'y')");
    struct bgmq *mq = flow_open(1);
    WAIT_UNTIL(taken_over(mq) == 3);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    ck_assert_uint_eq(flow_collection(mq, "Later").inq, 1);
    ck_assert_int_eq(flow_collection(mq, "Later").registered, 0);
    flow_close(mq);
}
END_TEST

/* A connection of this process that was prepared wakes the journal by itself. */
START_TEST(rows_of_a_prepared_connection_are_noticed_without_a_watch)
{
    struct bgmq *mq = flow_open(1);
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    OK(bgmq_sqlite_prepare(mq, db));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(
            sqlite3_exec(db, "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'x')", NULL,
                         NULL, NULL),
            SQLITE_OK);
        flow_expect(mq, "mq:T.inq", "x");
    }
    WAIT_UNTIL(taken_over(mq) == 3);
    sqlite3_close(db);
    flow_close(mq);
}
END_TEST

/* ---- a disk that fails ------------------------------------------------------------- */

static _Atomic int full;

/* On the thread that makes the call: one after the other. */
static void obey(void *ctx)
{
    (void)ctx;
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    static int obeyed;
    pthread_mutex_lock(&turn);
    int want = atomic_load(&full);
    if (want && !obeyed)
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_WRITE, .files = SHIM_ANY, .kind = SHIM_FULL});
    else if (!want && obeyed)
        shim_vfs_disarm();
    obeyed = want;
    pthread_mutex_unlock(&turn);
}

/* As flow_sql, past the shim. */
static long look(const char *text)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    ck_assert_int_eq(sqlite3_open_v2(flow_database(), &db, SQLITE_OPEN_READWRITE, "unix"),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    ck_assert_int_eq(sqlite3_prepare_v2(db, text, -1, &q, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
    long n = (long)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

START_TEST(rows_outlast_a_full_disk)
{
    struct harness_log log;
    harness_log_init(&log);
    shim_vfs_install();
    shim_vfs_hook(SHIM_ALL, SHIM_ANY, obey, NULL); /* while nobody else uses it */
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.guests = 1, .log = harness_log_keep, .log_ctx = &log));
    atomic_store(&full, 1);
    sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'a'), ('T', 'b')");
    WAIT_UNTIL(flow_counters(mq).store_state == 2);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_inbox"), 2);
    ck_assert_uint_eq(taken_over(mq), 0);
    sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'c')");
    atomic_store(&full, 0);
    flow_expect(mq, "mq:T.inq", "a");
    flow_expect(mq, "mq:T.inq", "b");
    flow_expect(mq, "mq:T.inq", "c");
    WAIT_UNTIL(taken_over(mq) == 3);
    OK(bgmq_flush(mq));
    flow_close(mq);
    shim_vfs_remove();
    ck_assert_int_eq(in_inbox() + flow_rows(), 0);
    harness_log_fini(&log);
}
END_TEST

/* Somebody put a row where the message's own has to go: the store refuses that one change. */
START_TEST(row_whose_change_is_refused_is_tried_again)
{
    static const char line[] = "the store refused a change";
    struct harness_log log;
    harness_log_init(&log);
    make_database();
    sql("INSERT INTO bgmq_backlog(id, type, lane, key, seq, priority, attempt, "
        "max_attempts,"
        " run, crashes, flags, created, crc, body)"
        " VALUES(4503599627370496, 99, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, x'78')");
    sql("INSERT INTO bgmq_inbox(id, type, body, run_at)"
        " VALUES(4503599627370496, 'T', 'a', 4102444800000)");
    sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'b')");
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.log = harness_log_keep, .log_ctx = &log));
    flow_expect(mq, "mq:T.inq", "b"); /* the neighbour is not harmed */
    WAIT_UNTIL(harness_log_count(&log, BGMQ_LOG_ERROR) >= 2);
    ck_assert(harness_log_has(&log, line));
    WAIT_UNTIL(taken_over(mq) == 1);
    ck_assert_int_eq(in_inbox(), 1);
    sql("DELETE FROM bgmq_backlog WHERE id = 4503599627370496");
    WAIT_UNTIL(taken_over(mq) == 2);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    flow_close(mq);
    ck_assert_int_eq(in_inbox(), 0);
    harness_log_fini(&log);
}
END_TEST

/* ---- killed at any call -------------------------------------------------------------- */

enum { PASSED = 3, MOST = 2000 };

static void forget_files(void)
{
    static const char *const ends[] = {"",         "-wal",  "-shm",
                                       "-journal", "-lock", "-flight"};
    char path[512];
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        snprintf(path, sizeof(path), "%s%s", flow_database(), ends[i]);
        unlink(path);
    }
}

/* What the child does. */
static void take_over_and_close(void)
{
    struct bgmq *mq = NULL;
    if (bgmq_open(&mq, &SERVICE(.database = flow_database()), NULL) != 0)
        _exit(4);
    while (flow_counters(mq).inbox < 2)
        sched_yield();
    bgmq_free(mq);
    _exit(PASSED);
}

/* Runs it in a child that is killed before its N-th call; true when it came to its end. */
static int killed_at(long n)
{
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        harness_part();
        shim_vfs_install();
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_ALL, .files = SHIM_ANY, .kind = SHIM_KILL, .nth = n});
        take_over_and_close();
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == PASSED, "exit %d",
                  WEXITSTATUS(status));
    return WEXITSTATUS(status) == PASSED;
}

START_TEST(killed_anywhere_a_message_is_in_one_of_the_two_places)
{
    static const char places[] =
        "SELECT count(*) FROM (SELECT id FROM bgmq_inbox UNION ALL SELECT id FROM "
        "bgmq_job"
        " UNION ALL SELECT id FROM bgmq_backlog) WHERE id >= 4503599627370496";
    long n = 0, in_between = 0;
    int passed = 0;
    while (!passed && n < MOST) {
        forget_files();
        make_database();
        sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'a')");
        sql("INSERT INTO bgmq_inbox(type, body, run_at) VALUES('T', 'b', 4102444800000)");
        passed = killed_at(++n);
        ck_assert_msg(flow_sql(places) == 2, "killed at call %ld: %ld", n,
                      flow_sql(places));
        long left = in_inbox();
        in_between += left == 0;
        struct bgmq *mq = flow_open(1);
        WAIT_UNTIL(taken_over(mq) == (uint64_t)left);
        flow_expect(mq, "mq:T.inq", "a");
        ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
        flow_close(mq);
    }
    ck_assert(passed);
    ck_assert_int_gt(n, 20);
    ck_assert_int_gt(in_between, 1); /* some of the kills came after the taking over */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("inbox");
    TCase *tc = flow_case(s, "rows");
    tcase_add_test(tc, row_that_cannot_be_a_message_is_refused_and_stays);
    tcase_add_test(tc, row_of_the_wrong_form_is_refused_by_the_table);
    tcase_add_test(tc, many_rows_come_once_each_and_in_order);
    tcase_add_test(tc, rows_without_room_stay_until_there_is_some);
    tcase_add_test(tc, rows_find_their_type_and_lane);
    tcase_add_test(tc, rows_of_a_prepared_connection_are_noticed_without_a_watch);
    tc = flow_case(s, "faults");
    tcase_add_test(tc, rows_outlast_a_full_disk);
    tcase_add_test(tc, row_whose_change_is_refused_is_tried_again);
    tcase_add_test(tc, killed_anywhere_a_message_is_in_one_of_the_two_places);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
