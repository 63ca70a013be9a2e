/* test_fault_store.c - a service whose disk is full, whose database is locked by somebody else,
 * or whose commits fail: what publishers are told, what goes on, and that nothing is lost.
 *
 * The faults are made by the VFS of tests/harness/shim_vfs.h, on the thread that writes. */
#include "flow.h"

#include "../harness/shim_vfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a disk that fails on order ---------------------------------------------------- */

enum order { NO_FAULT, DISK_FULL, WRITE_ERROR, SYNC_ERROR };

static _Atomic int ordered;
static _Atomic long hits;

/* Runs before each call on the thread that makes it, which alone may touch the shim. */
static void obey(void *ctx)
{
    static int obeyed;
    static const struct shim_fault faults[] = {
        [DISK_FULL] = {.calls = SHIM_WRITE, .files = SHIM_ANY, .kind = SHIM_FULL},
        [WRITE_ERROR] = {.calls = SHIM_WRITE, .files = SHIM_ANY, .kind = SHIM_IOERR},
        [SYNC_ERROR] = {.calls = SHIM_SYNC, .files = SHIM_ANY, .kind = SHIM_IOERR},
    };
    int want = atomic_load(&ordered);
    if (want != obeyed && want == NO_FAULT)
        shim_vfs_disarm();
    else if (want != obeyed)
        shim_vfs_arm(&faults[want]);
    obeyed = want;
    atomic_store(&hits, shim_vfs_fired());
}

static void disk(enum order order)
{
    atomic_store(&ordered, (int)order);
}

static void shim_on(void)
{
    disk(NO_FAULT);
    shim_vfs_install();
    shim_vfs_hook(SHIM_ALL, SHIM_ANY, obey, NULL);
}

static void shim_off(void)
{
    shim_vfs_hook(0, 0, NULL, NULL);
    shim_vfs_remove();
}

/* ---- a connection beside the service, on a disk that does not fail ------------------ */

static sqlite3 *beside(void)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(flow_database(), &db, SQLITE_OPEN_READWRITE, "unix"),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
}

/* Rows of unfinished messages, as another program sees them. */
static long rows(void)
{
    sqlite3 *db = beside();
    sqlite3_stmt *q;
    ck_assert_int_eq(sqlite3_prepare_v2(db,
                                        "SELECT (SELECT count(*) FROM bgmq_job)"
                                        " + (SELECT count(*) FROM bgmq_backlog)",
                                        -1, &q, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
    long n = (long)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

/* ---- a service with a handler that can be held -------------------------------------- */

static struct recorder recorder;
static struct gate gate;
static struct harness_log service_log;

static void parts_init(void)
{
    shim_on();
    harness_log_init(&service_log);
    gate_init(&gate);
    recorder_init(&recorder);
    recorder.gate = &gate;
}

static void parts_fini(void)
{
    recorder_fini(&recorder);
    gate_fini(&gate);
    harness_log_fini(&service_log);
    shim_off();
}

static struct bgmq *open_service(unsigned publish_timeout_ms)
{
    return flow_open_with(1, SERVICE(.publish_timeout_ms = publish_timeout_ms,
                                     .log = harness_log_keep, .log_ctx = &service_log));
}

/* A started service that runs the first of the messages "1" and "2", and is held there. */
static struct bgmq *running_service(unsigned publish_timeout_ms)
{
    struct bgmq *mq = open_service(publish_timeout_ms);
    flow_register(mq, "T", &recorder);
    flow_publish(mq, "T", "1");
    flow_publish(mq, "T", "2");
    OK(bgmq_start(mq));
    counter_wait(&recorder.begun, 1);
    return mq;
}

static void expect_ran(const char *bodies)
{
    char text[256];
    ck_assert_str_eq(recorder_bodies(&recorder, text, sizeof(text)), bodies);
}

static int publish(struct bgmq *mq, const char *text)
{
    return bgmq_publish(mq, "T", text, strlen(text), NULL, NULL);
}

struct publisher {
    struct bgmq *mq;
    const char *text;
};

static void *publish_in_thread(void *arg)
{
    struct publisher *p = arg;
    return (void *)(intptr_t)publish(p->mq, p->text);
}

static void expect_nothing_left(void)
{
    struct bgmq *mq = open_service(30000);
    ck_assert_uint_eq(flow_counters(mq).replayed, 0);
    flow_close(mq);
    ck_assert_int_eq(rows(), 0);
}

/* ---- full ---------------------------------------------------------------------------- */

/* S13. */
START_TEST(full_disk_refuses_in_time_keeps_what_ended_and_goes_on_by_itself)
{
    parts_init();
    struct bgmq *mq = running_service(200);
    disk(DISK_FULL);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 2); /* what runs ends, what waits in memory runs */
    FAILS(BGMQ_EFULL, publish(mq, "3"));
    FAILS(BGMQ_EFULL, publish(mq, "4"));
    ck_assert_int_eq(flow_counters(mq).store_state, 2);
    ck_assert_int_eq(rows(), 2);
    FAILS(BGMQ_EFULL, bgmq_flush(mq));

    disk(NO_FAULT);
    WAIT_UNTIL(rows() == 0); /* the ends were kept */
    WAIT_UNTIL(flow_counters(mq).store_state == 1);
    flow_publish(mq, "T", "5");
    flow_wait_ended(mq, "T", 3);
    expect_ran("1 2 5 ");
    ck_assert_int_eq(harness_log_count(&service_log, BGMQ_LOG_WARNING), 1);
    flow_close(mq);
    expect_nothing_left();
    parts_fini();
}
END_TEST

/* S13. */
START_TEST(full_disk_holds_a_publisher_until_there_is_room)
{
    parts_init();
    struct bgmq *mq = running_service(30000);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 2);
    disk(DISK_FULL);
    struct publisher p = {mq, "3"};
    pthread_t t = harness_thread(publish_in_thread, &p);
    WAIT_UNTIL(atomic_load(&hits) >= 3);
    ck_assert_int_eq(flow_counters(mq).store_state, 2);
    disk(NO_FAULT);
    ck_assert_int_eq((intptr_t)harness_join(t), 0);
    flow_wait_ended(mq, "T", 3);
    expect_ran("1 2 3 ");
    flow_close(mq);
    expect_nothing_left();
    parts_fini();
}
END_TEST

/* Many publishers on a disk that fills and empties, with little patience: whose message was
 * accepted sees it run once, who was refused never, and who was told that nobody knows once at
 * most.  On a slow machine more of them are refused, or uncertain, for want of time. */
enum { PUBLISHERS = 4, EACH = 25 };

struct tally {
    struct bgmq *mq;
    int first;
    int told[EACH];
};

static void *publish_many_times(void *arg)
{
    struct tally *t = arg;
    for (int i = 0; i < EACH; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", t->first + i);
        int err = t->told[i] = publish(t->mq, text);
        ck_assert_msg(err == 0 || err == BGMQ_EFULL || err == BGMQ_EBUSY ||
                          err == BGMQ_EUNCERTAIN,
                      "%s", bgmq_errname(err));
    }
    return NULL;
}

static void count_runs(const struct tally *tallies)
{
    int ran[PUBLISHERS * EACH] = {0};
    for (size_t i = 0; i < recorder.n; i++)
        ran[atoi(recorder.calls[i].body)]++;
    for (int i = 0; i < PUBLISHERS * EACH; i++) {
        int told = tallies[i / EACH].told[i % EACH];
        int right = told == BGMQ_EUNCERTAIN ? ran[i] <= 1 : ran[i] == (told == 0);
        ck_assert_msg(right, "%d was told %s and ran %d times", i, bgmq_errname(told),
                      ran[i]);
    }
}

/* S13. */
START_TEST(disk_that_fills_and_empties_loses_nothing)
{
    parts_init();
    gate_open(&gate);
    struct bgmq *mq = open_service(15);
    flow_register(mq, "T", &recorder);
    OK(bgmq_start(mq));
    static struct tally tallies[PUBLISHERS];
    pthread_t t[PUBLISHERS];
    for (int i = 0; i < PUBLISHERS; i++) {
        tallies[i] = (struct tally){.mq = mq, .first = i * EACH};
        t[i] = harness_thread(publish_many_times, &tallies[i]);
    }
    for (int i = 0; i < 10; i++) {
        uint64_t commits = flow_counters(mq).commits;
        disk(DISK_FULL);
        WAIT_UNTIL(flow_counters(mq).store_state == 2 ||
                   flow_counters(mq).journal_waiting == 0);
        disk(NO_FAULT);
        WAIT_UNTIL(flow_counters(mq).commits > commits ||
                   flow_counters(mq).journal_waiting == 0);
    }
    for (int i = 0; i < PUBLISHERS; i++)
        harness_join(t[i]);
    WAIT_UNTIL(rows() == 0);
    flow_close(mq);
    count_runs(tallies);
    expect_nothing_left();
    parts_fini();
}
END_TEST

/* ---- busy ---------------------------------------------------------------------------- */

/* S17. */
START_TEST(locked_database_refuses_in_time_and_works_again)
{
    parts_init();
    struct bgmq *mq = open_service(200);
    flow_publish(mq, "T", "1");
    sqlite3 *db = beside();
    run(db, "BEGIN IMMEDIATE");
    FAILS(BGMQ_EBUSY, publish(mq, "2"));
    FAILS(BGMQ_EBUSY, bgmq_flush(mq));
    ck_assert_int_eq(flow_counters(mq).store_state, 2);
    run(db, "COMMIT");
    sqlite3_close(db);
    flow_publish(mq, "T", "3");
    ck_assert_int_eq(flow_counters(mq).store_state, 1);
    flow_expect(mq, "mq:T.inq", "1");
    flow_expect(mq, "mq:T.inq", "3");
    flow_expect_empty(mq, "mq:T.inq");
    flow_close(mq);
    expect_nothing_left();
    parts_fini();
}
END_TEST

/* S17. */
START_TEST(locked_database_holds_publishers_and_ends)
{
    parts_init();
    struct bgmq *mq = running_service(30000);
    sqlite3 *db = beside();
    run(db, "BEGIN IMMEDIATE");
    gate_open(&gate);
    flow_wait_ended(mq, "T", 2);
    struct publisher p = {mq, "3"};
    pthread_t t = harness_thread(publish_in_thread, &p);
    WAIT_UNTIL(flow_counters(mq).store_state == 2);
    expect_ran("1 2 ");
    run(db, "COMMIT");
    sqlite3_close(db);
    ck_assert_int_eq((intptr_t)harness_join(t), 0);
    flow_wait_ended(mq, "T", 3);
    WAIT_UNTIL(rows() == 0);
    expect_ran("1 2 3 ");
    flow_close(mq);
    parts_fini();
}
END_TEST

/* ---- failed -------------------------------------------------------------------------- */

static void expect_failed(struct bgmq *mq)
{
    char *json = NULL;
    FAILS(BGMQ_ESTORE, publish(mq, "3"));
    FAILS(BGMQ_ESTORE, bgmq_flush(mq));
    ck_assert_int_eq(flow_counters(mq).store_state, 3);
    OK(bgmq_status_json(mq, &json));
    ck_assert_msg(strstr(json, "\"store\":\"failed\"") != NULL, "%s", json);
    free(json);
    WAIT_UNTIL(bgmq_started(mq) == 0);
    FAILS(BGMQ_ESTORE, bgmq_start(mq));
    ck_assert(harness_log_has(&service_log, "the store failed"));
}

/* The messages of the reopened service: "1", and "2" when it is there. */
static void expect_replayed(void)
{
    struct bgmq *mq = open_service(30000);
    uint64_t n = flow_counters(mq).replayed;
    ck_assert_msg(n == 1 || n == 2, "%llu replayed", (unsigned long long)n);
    ck_assert_int_eq(flow_counters(mq).store_state, 1);
    flow_expect(mq, "mq:T.inq", "1");
    if (n == 2)
        flow_expect(mq, "mq:T.inq", "2");
    flow_expect_empty(mq, "mq:T.inq");
    flow_publish(mq, "T", "4");
    OK(bgmq_start(mq));
    flow_expect(mq, "mq:T.inq", "4");
    flow_close(mq);
}

/* S15.  _i: what fails. */
START_TEST(failed_commit_is_uncertain_and_the_next_is_refused)
{
    parts_init();
    struct bgmq *mq = open_service(30000);
    flow_publish(mq, "T", "1");
    disk((enum order)_i);
    struct bgmq_receipt receipt = {.id = 99};
    FAILS(BGMQ_EUNCERTAIN, bgmq_publish(mq, "T", "2", 1, NULL, &receipt));
    ck_assert_uint_eq(receipt.id, 99);
    disk(NO_FAULT);
    expect_failed(mq); /* also when the disk would work again */
    flow_close(mq);
    expect_replayed();
    parts_fini();
}
END_TEST

/* S15.  What runs then ends, but its end is not known to the database: it will run again. */
START_TEST(failed_store_lets_handlers_end_and_replays_them)
{
    parts_init();
    struct bgmq *mq = open_service(30000);
    flow_register(mq, "T", &recorder);
    flow_publish(mq, "T", "1");
    OK(bgmq_start(mq));
    counter_wait(&recorder.begun, 1);
    disk((enum order)_i);
    FAILS(BGMQ_EUNCERTAIN, publish(mq, "2"));
    gate_open(&gate);
    flow_wait_ended(mq, "T", 1);
    expect_failed(mq);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    flow_close(mq);
    disk(NO_FAULT);
    expect_replayed();
    expect_ran("1 ");
    parts_fini();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_store");
    TCase *full = flow_case(s, "full");
    tcase_add_test(full,
                   full_disk_refuses_in_time_keeps_what_ended_and_goes_on_by_itself);
    tcase_add_test(full, full_disk_holds_a_publisher_until_there_is_room);
    tcase_add_test(full, disk_that_fills_and_empties_loses_nothing);
    TCase *busy = flow_case(s, "busy");
    tcase_add_test(busy, locked_database_refuses_in_time_and_works_again);
    tcase_add_test(busy, locked_database_holds_publishers_and_ends);
    TCase *failed = flow_case(s, "failed");
    tcase_add_loop_test(failed, failed_commit_is_uncertain_and_the_next_is_refused,
                        WRITE_ERROR, SYNC_ERROR + 1);
    tcase_add_loop_test(failed, failed_store_lets_handlers_end_and_replays_them,
                        WRITE_ERROR, SYNC_ERROR + 1);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
