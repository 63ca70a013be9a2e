/* test_tx_refuse.c - what a publish in the application's transaction refuses, and what it does when
 * keys, locks, connections and services get into each other's way. */
#include "app.h"

#include <stdio.h>
#include <string.h>

static struct bgmq *mq;
static sqlite3 *db;

static void open_all(void)
{
    mq = flow_open_with(1, SERVICE(.share_database = 1, .max_body = 1000));
    db = app_open();
}

static void close_all(void)
{
    app_close(db);
    flow_close(mq);
}

static int publish(sqlite3 *on)
{
    return bgmq_publish_tx(mq, on, "T", "x", 1, NULL, NULL);
}

/* ---- arguments --------------------------------------------------------------------- */

START_TEST(wrong_arguments_change_nothing)
{
    open_all();
    FAILS(BGMQ_EINVAL, publish(db)); /* no transaction */
    FAILS(BGMQ_EINVAL, publish(NULL));
    FAILS(BGMQ_EINVAL, bgmq_sqlite_prepare(mq, NULL));
    FAILS(BGMQ_EINVAL, bgmq_sqlite_prepare(NULL, db));
    app_sql(db, "BEGIN");
    FAILS(BGMQ_EINVAL, bgmq_sqlite_prepare(mq, db));
    FAILS(BGMQ_EINVAL, bgmq_publish_tx(NULL, db, "T", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_tx(mq, db, NULL, "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_tx(mq, db, "no type", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_tx(mq, db, "T", NULL, 0, NULL, NULL));
    FAILS(BGMQ_EINVAL,
          bgmq_publish_tx(mq, db, "T", "x", 1, &MESSAGE(.priority = -1), NULL));
    FAILS(BGMQ_EINVAL,
          bgmq_publish_tx(
              mq, db, "T", "x", 1,
              &MESSAGE(.unique_key = "k", .on_conflict = BGMQ_CONFLICT_REPLACE), NULL));
    static char big[1001];
    FAILS(BGMQ_ETOOBIG, bgmq_publish_tx(mq, db, "T", big, sizeof(big), NULL, NULL));
    app_sql(db, "COMMIT");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(memory_is_bounded_and_given_back)
{
    mq = flow_open_with(1, SERVICE(.share_database = 1, .max_bytes = 300 * 1024));
    db = app_open();
    static char body[10 * 1024];
    for (int round = 0; round < 3; round++) {
        int n = 0, err;
        app_sql(db, "BEGIN");
        while ((err = bgmq_publish_tx(mq, db, "T", body, sizeof(body), NULL, NULL)) == 0)
            n++;
        FAILS(BGMQ_EFULL, err);
        ck_assert_int_ge(n, 15);
        app_sql(db, "ROLLBACK");
    }
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(service_without_a_database_has_no_transactions)
{
    open_all();
    struct bgmq *other = flow_open(0);
    app_sql(db, "BEGIN");
    FAILS(BGMQ_EINVAL, bgmq_publish_tx(other, db, "T", "x", 1, NULL, NULL));
    app_sql(db, "ROLLBACK");
    FAILS(BGMQ_EINVAL, bgmq_sqlite_prepare(other, db));
    flow_close(other);
    close_all();
}
END_TEST

/* ---- the file ---------------------------------------------------------------------- */

/* S29. */
START_TEST(connection_to_another_file_is_refused)
{
    open_all();
    sqlite3 *other =
        app_open_at(harness_path("other.db"), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    FAILS(BGMQ_EOTHERFILE, bgmq_sqlite_prepare(mq, other));
    app_sql(other, "BEGIN");
    FAILS(BGMQ_EOTHERFILE, publish(other));
    app_sql(other, "COMMIT");
    char attach[500];
    snprintf(attach, sizeof(attach), "ATTACH '%s' AS queue", flow_database());
    app_sql(other, attach);
    app_sql(other, "BEGIN");
    FAILS(BGMQ_EOTHERFILE, publish(other));
    app_sql(other, "ROLLBACK");
    app_close(other);
    other = app_open_at(":memory:", SQLITE_OPEN_READWRITE);
    FAILS(BGMQ_EOTHERFILE, bgmq_sqlite_prepare(mq, other));
    app_close(other);
    close_all();
}
END_TEST

/* S29. */
START_TEST(read_only_connection_is_refused)
{
    open_all();
    sqlite3 *reader = app_open_at(flow_database(), SQLITE_OPEN_READONLY);
    FAILS(BGMQ_EREADONLY, bgmq_sqlite_prepare(mq, reader));
    app_sql(reader, "BEGIN");
    FAILS(BGMQ_EREADONLY, publish(reader));
    app_close(reader);
    app_sql(db, "PRAGMA query_only = 1; BEGIN");
    FAILS(BGMQ_EREADONLY, publish(db));
    app_sql(db, "ROLLBACK");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* S29.  A commit over two files is not whole: it is refused before or, at the latest, at COMMIT. */
START_TEST(attached_database_in_the_transaction_is_refused)
{
    open_all();
    char attach[500];
    snprintf(attach, sizeof(attach), "ATTACH '%s' AS second", harness_path("second.db"));
    sqlite3 *second = app_open_at(harness_path("second.db"),
                                  SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    app_sql(second, "CREATE TABLE t(x)");
    app_close(second);
    app_sql(db, attach);
    app_sql(db, "BEGIN; INSERT INTO second.t VALUES(1)");
    FAILS(BGMQ_EOTHERFILE, publish(db));
    app_sql(db, "ROLLBACK; BEGIN; SELECT * FROM second.t");
    OK(publish(db));
    app_sql(db, "COMMIT; BEGIN");
    OK(publish(db));
    app_sql(db, "INSERT INTO second.t VALUES(2)");
    app_sql_fails(db, SQLITE_CONSTRAINT_VTAB, "COMMIT");
    ck_assert_int_eq(sqlite3_get_autocommit(db), 1);
    ck_assert_int_eq(app_number(db, "SELECT count(*) FROM second.t"), 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    close_all();
    ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

/* ---- locks ------------------------------------------------------------------------- */

/* S30. */
START_TEST(snapshot_that_is_too_old_is_busy_at_once)
{
    open_all();
    sqlite3 *other = app_open();
    app_sql(db, "BEGIN; SELECT count(*) FROM effect");
    app_sql(other, "INSERT INTO effect VALUES(1, 1)");
    int64_t begin = harness_now();
    FAILS(BGMQ_EBUSY, publish(db));
    ck_assert_int_lt(harness_now() - begin, INT64_C(5000000000));
    app_sql(db, "ROLLBACK; BEGIN");
    OK(publish(db));
    app_sql(db, "COMMIT");
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    app_close(other);
    close_all();
}
END_TEST

START_TEST(lock_of_another_is_busy_by_the_connections_own_patience)
{
    open_all();
    sqlite3 *other = app_open();
    app_sql(other, "BEGIN IMMEDIATE");
    sqlite3_busy_timeout(db, 0);
    app_sql(db, "BEGIN");
    FAILS(BGMQ_EBUSY, publish(db));
    app_sql(db, "ROLLBACK");
    app_sql(other, "COMMIT");
    app_close(other);
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* S17: others wait for the application's lock, and go on when it is gone. */
static void *publish_beside(void *arg)
{
    flow_publish_with(mq, "Other", "y", MESSAGE(.durability = BGMQ_COMMIT));
    return NULL;
}

START_TEST(publish_beside_waits_for_the_transaction)
{
    open_all();
    app_sql(db, "BEGIN");
    OK(publish(db));
    uint64_t before = flow_counters(mq).journal_waiting;
    pthread_t t = harness_thread(publish_beside, NULL);
    WAIT_UNTIL(flow_counters(mq).journal_waiting > before);
    app_sql(db, "COMMIT");
    harness_join(t);
    flow_expect(mq, "mq:T.inq", "x");
    flow_expect(mq, "mq:Other.inq", "y");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- unique keys ------------------------------------------------------------------- */

static struct bgmq_receipt publish_key(const char *key)
{
    struct bgmq_receipt r = {0};
    OK(bgmq_publish_tx(mq, db, "T", "x", 1, &MESSAGE(.unique_key = key), &r));
    return r;
}

START_TEST(second_with_the_key_is_the_first)
{
    open_all();
    struct bgmq_receipt plain;
    OK(bgmq_publish(mq, "T", "x", 1, &MESSAGE(.unique_key = "p"), &plain));
    app_sql(db, "BEGIN");
    ck_assert_uint_eq(publish_key("p").id, plain.id);
    ck_assert_int_eq(publish_key("p").duplicate, 1);
    struct bgmq_receipt first = publish_key("k");
    ck_assert_int_eq(first.duplicate, 0);
    ck_assert_uint_eq(publish_key("k").id, first.id);
    FAILS(BGMQ_EEXIST,
          bgmq_publish_tx(
              mq, db, "T", "x", 1,
              &MESSAGE(.unique_key = "k", .on_conflict = BGMQ_CONFLICT_REFUSE), NULL));
    app_sql(db, "SAVEPOINT s");
    ck_assert_int_eq(publish_key("undone").duplicate, 0);
    app_sql(db, "ROLLBACK TO s");
    ck_assert_int_eq(publish_key("undone").duplicate, 0);
    app_sql(db, "COMMIT");
    struct bgmq_receipt later;
    OK(bgmq_publish(mq, "T", "x", 1, &MESSAGE(.unique_key = "k"), &later));
    ck_assert_uint_eq(later.id, first.id);
    ck_assert_int_eq(later.duplicate, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 3);
    for (int i = 0; i < 3; i++)
        flow_expect(mq, "mq:T.inq", "x");
    OK(bgmq_flush(mq));
    app_sql(db, "BEGIN");
    ck_assert_int_eq(publish_key("k").duplicate, 0); /* the key is free again */
    app_sql(db, "COMMIT");
    close_all();
    ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

struct rival {
    struct barrier *start;
    sqlite3 *db;
    struct bgmq_receipt receipts[20];
};

static void *publish_same_keys(void *arg)
{
    struct rival *r = arg;
    for (int i = 0; i < 20; i++) {
        char key[2] = {(char)('a' + i), '\0'};
        barrier_wait(r->start);
        app_sql(r->db, "BEGIN IMMEDIATE");
        OK(bgmq_publish_tx(mq, r->db, "T", "x", 1, &MESSAGE(.unique_key = key),
                           &r->receipts[i]));
        app_sql(r->db, "COMMIT");
    }
    return NULL;
}

START_TEST(eight_threads_with_one_key_make_one_message)
{
    enum { N = 8 };
    struct barrier start;
    struct rival rivals[N];
    pthread_t threads[N];
    barrier_init(&start, N);
    open_all();
    for (int i = 0; i < N; i++) {
        rivals[i] = (struct rival){.start = &start, .db = app_open()};
        threads[i] = harness_thread(publish_same_keys, &rivals[i]);
    }
    for (int i = 0; i < N; i++)
        harness_join(threads[i]);
    for (int k = 0; k < 20; k++) {
        int made = 0;
        for (int i = 0; i < N; i++) {
            made += !rivals[i].receipts[k].duplicate;
            ck_assert_uint_eq(rivals[i].receipts[k].id, rivals[0].receipts[k].id);
        }
        ck_assert_int_eq(made, 1);
    }
    for (int i = 0; i < N; i++)
        app_close(rivals[i].db);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 20);
    close_all();
    ck_assert_int_eq(flow_rows(), 20);
    barrier_fini(&start);
}
END_TEST

/* ---- the service goes first --------------------------------------------------------- */

START_TEST(message_committed_after_the_close_is_found_at_the_next_open)
{
    open_all();
    /* The type is known before: the close has nothing to write, and needs no lock. */
    flow_publish(mq, "T", "first");
    flow_expect(mq, "mq:T.inq", "first");
    OK(bgmq_flush(mq));
    app_sql(db, "BEGIN");
    OK(publish(db));
    app_publish_with(mq, db, "T", "late", MESSAGE(.delay_ms = 1));
    OK(bgmq_close(mq));
    FAILS(BGMQ_ECLOSED, publish(db));
    bgmq_free(mq);
    app_sql(db, "COMMIT");
    mq = flow_open_with(1, SERVICE(.share_database = 1));
    flow_expect(mq, "mq:T.inq", "x");
    flow_expect(mq, "mq:T.inq", "late");
    /* The same connection, with the new service. */
    OK(bgmq_sqlite_prepare(mq, db));
    app_sql(db, "BEGIN");
    OK(publish(db));
    app_sql(db, "COMMIT");
    flow_expect(mq, "mq:T.inq", "x");
    close_all();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(transaction_undone_after_the_free_touches_nothing)
{
    open_all();
    flow_publish(mq, "T", "first"); /* as above */
    flow_expect(mq, "mq:T.inq", "first");
    OK(bgmq_flush(mq));
    app_sql(db, "BEGIN");
    OK(publish(db));
    app_publish_with(mq, db, "T", "late", MESSAGE(.delay_ms = 1000));
    flow_close(mq);
    app_sql(db, "ROLLBACK");
    app_close(db);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

struct committer {
    sqlite3 *db;
    _Atomic int *stop;
    long committed;
};

static void *commit_all_the_time(void *arg)
{
    struct committer *c = arg;
    int err = 0;
    while (!err && !atomic_load(c->stop)) {
        app_sql(c->db, "BEGIN IMMEDIATE");
        err = publish(c->db);
        app_sql(c->db, err ? "ROLLBACK" : "COMMIT");
        c->committed += !err;
    }
    ck_assert(!err || err == BGMQ_ECLOSED);
    return NULL;
}

START_TEST(close_while_others_commit_loses_nothing)
{
    open_all();
    struct recorder r;
    recorder_init(&r);
    flow_register_with(mq, "T", &r, TYPE(.threads = 2));
    OK(bgmq_start(mq));
    _Atomic int stop = 0;
    struct committer c[2];
    pthread_t t[2];
    for (int i = 0; i < 2; i++) {
        c[i] = (struct committer){.db = app_open(), .stop = &stop};
        t[i] = harness_thread(commit_all_the_time, &c[i]);
    }
    counter_wait(&r.begun, 50);
    OK(bgmq_close(mq));
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) {
        harness_join(t[i]);
        app_close(c[i].db);
    }
    close_all();
    ck_assert_int_eq((long)r.n + flow_rows(), c[0].committed + c[1].committed);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tx_refuse");
    TCase *tc = flow_case(s, "arguments");
    tcase_add_test(tc, wrong_arguments_change_nothing);
    tcase_add_test(tc, memory_is_bounded_and_given_back);
    tcase_add_test(tc, service_without_a_database_has_no_transactions);
    tc = flow_case(s, "file");
    tcase_add_test(tc, connection_to_another_file_is_refused);
    tcase_add_test(tc, read_only_connection_is_refused);
    tcase_add_test(tc, attached_database_in_the_transaction_is_refused);
    tc = flow_case(s, "locks");
    tcase_add_test(tc, snapshot_that_is_too_old_is_busy_at_once);
    tcase_add_test(tc, lock_of_another_is_busy_by_the_connections_own_patience);
    tcase_add_test(tc, publish_beside_waits_for_the_transaction);
    tc = flow_case(s, "keys");
    tcase_add_test(tc, second_with_the_key_is_the_first);
    tcase_add_test(tc, eight_threads_with_one_key_make_one_message);
    tc = flow_case(s, "close");
    tcase_add_test(tc, message_committed_after_the_close_is_found_at_the_next_open);
    tcase_add_test(tc, transaction_undone_after_the_free_touches_nothing);
    tcase_add_test(tc, close_while_others_commit_loses_nothing);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
