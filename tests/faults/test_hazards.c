/* test_hazards.c - faults of SQLites that are about: what the linked one does to those who do not
 * know of them, and that it cannot do it to us.  T2 of the fault programme.
 *
 * The first half of each says "# note:" whether the linked SQLite has the fault, and counts what it
 * loses ("theirs_lost"); the second has the same done to a service, which must lose nothing. */
#include "../harness/harness.h"
#include "../harness/shim_vfs.h"

#include <bgmq_sqlite.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handle.h"
#include "journal.h"
#include "store_open.h"

#define OK(call) ck_assert_int_eq((call), BGMQ_OK)

enum { ROWS = 400 };

static const char *path(void)
{
    return harness_path("hazard.db");
}

static void sql(sqlite3 *db, const char *text)
{
    char *why = NULL;
    ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, &why) == SQLITE_OK, "%s: %s", text,
                  why);
}

static sqlite3 *connect_to(const char *name)
{
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(name, &db), SQLITE_OK);
    sqlite3_wal_autocheckpoint(db, 0);
    return db;
}

/* The number that TEXT yields; -1: an error. */
static long number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *q = NULL;
    long value = -1;
    if (sqlite3_prepare_v2(db, text, -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        value = (long)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return value;
}

static void tell_theirs(const char *what, long kept, long promised)
{
    printf("# note: SQLite %s, %s: %ld of %ld rows kept\n", sqlite3_libversion(), what,
           kept, promised);
    harness_figure("theirs_lost", promised - kept);
}

static void expect_kept(long kept, long promised)
{
    harness_figure("kept", kept);
    harness_figure("lost", promised - kept);
    ck_assert_int_eq(kept, promised);
}

static void copy_file(const char *from, const char *to)
{
    char *bytes;
    size_t len = harness_read_file(from, &bytes);
    harness_write_file(to, bytes, len);
    free(bytes);
    ck_assert_int_eq(chmod(to, 0600), 0);
}

/* Copies the database as a crash of the machine leaves it, and lends the copy's name. */
static const char *crash(void)
{
    copy_file(path(), harness_path("crash.db"));
    copy_file(harness_path("hazard.db-wal"), harness_path("crash.db-wal"));
    unlink(harness_path("crash.db-shm"));
    return harness_path("crash.db");
}

/* LOG, which is to be ended, or NULL. */
static struct bgmq *serve_with(int guests, struct harness_log *log)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {.text = ""};
    struct bgmq_options options = {.database = path(), .share_database = 1};
    options.guests = guests;
    options.log = log ? harness_log_keep : NULL;
    options.log_ctx = log;
    if (log)
        harness_log_init(log);
    int err = bgmq_open(&mq, &options, &error);
    ck_assert_msg(err == 0, "%s", error.text);
    return mq;
}

static struct bgmq *serve(void)
{
    return serve_with(0, NULL);
}

static void end(struct bgmq *mq)
{
    bgmq_close(mq);
    bgmq_free(mq);
}

static int publish(struct bgmq *mq)
{
    return bgmq_publish(mq, "T", "body", 4, NULL, NULL);
}

static void check_point(void *ctx, struct store *store)
{
    *(int *)ctx = store->ops->checkpoint(store, 1);
}

static int our_check_point(struct bgmq *mq)
{
    int result = -1;
    OK(bgmqi_journal_run(mq->journal, check_point, &result, INT64_C(10000000000)));
    return result;
}

/* ---- W1: a check-point, and a commit that begins the log anew ------------------------ */

/* What a connection does in the window of another's check-point. */
struct intruder {
    sqlite3 *db;
    const char *sql;
    int tried, rc;
    int ours; /* what our check-point returned */
};

static void intrude(void *ctx)
{
    struct intruder *i = ctx;
    shim_vfs_hook(0, 0, NULL, NULL);
    i->tried++;
    i->rc = sqlite3_exec(i->db, i->sql, NULL, NULL, NULL);
}

static const char update_some[] = "UPDATE t SET v = randomblob(900) WHERE id < 4";

static void make_rows(sqlite3 *db)
{
    sql(db,
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); CREATE INDEX ti ON t(v);"
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)"
        " INSERT INTO t SELECT i, randomblob(900) FROM c");
}

static void check_all(sqlite3 *db)
{
    int pages, done;
    ck_assert_int_eq(
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &done),
        SQLITE_OK);
}

/* Rows with the last of all updates, once everybody has gone; A is closed. */
static long rows_kept(sqlite3 *a)
{
    int pages, done;
    sql(a, "UPDATE t SET v = randomblob(902)");
    sqlite3_wal_checkpoint_v2(a, NULL, SQLITE_CHECKPOINT_TRUNCATE, &pages, &done);
    sqlite3_close(a);
    sqlite3 *db = connect_to(path());
    long rows = number(db, "SELECT sum(length(v) = 902) FROM t NOT INDEXED");
    sqlite3_close(db);
    return rows;
}

/* How B check-points, and who prevents the worst. */
static const struct {
    const char *name;
    int mode;
    int busy;   /* A is in a transaction, which it commits in the window: FULL gives up */
    int locked; /* a third connection holds the write lock */
    int read;   /* a third connection reads an old state */
    int safe;   /* nothing is lost in any SQLite */
} ways[] = {
    {"PASSIVE", SQLITE_CHECKPOINT_PASSIVE, 0, 0, 0, 0},
    {"FULL", SQLITE_CHECKPOINT_FULL, 0, 0, 0, 0},
    {"TRUNCATE", SQLITE_CHECKPOINT_TRUNCATE, 0, 0, 0, 0},
    {"FULL beside a writer", SQLITE_CHECKPOINT_FULL, 1, 0, 0, 0},
    {"PASSIVE under the write lock", SQLITE_CHECKPOINT_PASSIVE, 0, 1, 0, 1},
    {"PASSIVE beside a reader", SQLITE_CHECKPOINT_PASSIVE, 0, 0, 1, 1},
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

/* One of WAYS, as it goes with the linked SQLite: rows that are kept. */
static long rows_kept_by(int way)
{
    struct intruder in = {.sql = update_some};
    int pages, done;
    sqlite3 *a = connect_to(path()), *third = NULL;
    make_rows(a);
    sqlite3 *b = connect_to(path());
    number(b, "SELECT count(*) FROM t"); /* has looked */
    sql(a, "UPDATE t SET v = randomblob(901)");
    check_all(a);
    if (ways[way].busy) {
        sql(a, "BEGIN IMMEDIATE");
        in.sql = "UPDATE t SET v = randomblob(900) WHERE id < 4; COMMIT";
    }
    if (ways[way].locked)
        sql(third = connect_to(path()), "BEGIN IMMEDIATE");
    if (ways[way].read) {
        sql(a, "UPDATE t SET v = randomblob(901) WHERE id = 9");
        sql(third = connect_to(path()), "BEGIN; SELECT count(*) FROM t");
        check_all(a);
    }
    in.db = a;
    shim_vfs_hook(SHIM_UNFETCH, SHIM_DB, intrude, &in);
    sqlite3_wal_checkpoint_v2(b, NULL, ways[way].mode, &pages, &done);
    shim_vfs_hook(0, 0, NULL, NULL);
    if (third) {
        sql(third, "ROLLBACK");
        sqlite3_close(third);
    }
    sqlite3_close(b);
    if (!in.tried) /* this SQLite has no such window */
        printf("# note: nothing came between in %s\n", ways[way].name);
    return rows_kept(a);
}

/* W1, W1b.  A fault that we do not know of would be one that nobody is warned of. */
START_TEST(the_linked_sqlite_is_one_that_we_know)
{
    shim_vfs_install();
    long rows = rows_kept_by(_i);
    tell_theirs(ways[_i].name, rows, ROWS);
    if (ways[_i].safe || !bgmqi_store_open_loses_data())
        ck_assert_int_eq(rows, ROWS);
    shim_vfs_remove();
}
END_TEST

/* The hook is set where the check-point is made: no other thread is in the shim then. */
static void check_point_beside(void *ctx, struct store *store)
{
    struct intruder *in = ctx;
    shim_vfs_hook(SHIM_UNFETCH, SHIM_DB, intrude, in);
    in->ours = store->ops->checkpoint(store, 1);
    shim_vfs_hook(0, 0, NULL, NULL);
}

/* W1.  The way above that is safe is ours: nobody can commit while we check-point. */
START_TEST(our_check_point_loses_nothing)
{
    shim_vfs_install();
    struct bgmq *mq = serve();
    struct intruder in = {.sql = update_some, .db = connect_to(path())};
    make_rows(in.db);
    OK(publish(mq));
    ck_assert_int_eq(our_check_point(mq), 0); /* has looked */
    sql(in.db, "UPDATE t SET v = randomblob(901)");
    check_all(in.db);
    OK(bgmqi_journal_run(mq->journal, check_point_beside, &in, INT64_C(10000000000)));
    ck_assert_int_eq(in.tried, 1);
    ck_assert_int_eq(in.rc, SQLITE_BUSY);
    ck_assert_int_eq(in.ours, 0);
    OK(publish(mq));
    end(mq);
    sqlite3 *db = connect_to(path());
    expect_kept(number(db, "SELECT count(*) FROM bgmq_job"), 2);
    sqlite3_close(db);
    expect_kept(rows_kept(in.db), ROWS);
    shim_vfs_remove();
}
END_TEST

/* W1b.  Beside a writer ours does nothing at all; it does not fall back to a pass that is open to
 * the fault. */
START_TEST(our_check_point_copies_nothing_beside_a_writer)
{
    shim_vfs_install();
    struct bgmq *mq = serve();
    sqlite3 *db = connect_to(path());
    OK(publish(mq));
    sql(db, "BEGIN IMMEDIATE");
    shim_vfs_reset();
    ck_assert_int_eq(our_check_point(mq), BGMQ_EBUSY);
    ck_assert_int_eq(shim_vfs_count(SHIM_WRITE | SHIM_SYNC | SHIM_UNFETCH, SHIM_DB), 0);
    sql(db, "ROLLBACK");
    ck_assert_int_eq(our_check_point(mq), 0);
    ck_assert_int_gt(shim_vfs_count(SHIM_WRITE, SHIM_DB), 0);
    sqlite3_close(db);
    end(mq);
    shim_vfs_remove();
}
END_TEST

/* ---- the notice at run time ---------------------------------------------------------- */

static const char notice[] = "check-points by itself";

/* S19.  It never calls us; that it check-points is seen by the log that begins anew. */
START_TEST(who_check_points_by_itself_is_noticed_once)
{
    struct harness_log log;
    struct bgmq *mq = serve_with(0, &log);
    sqlite3 *app = NULL;
    for (int i = 0; i < 20; i++)
        OK(publish(mq));
    ck_assert_int_eq(sqlite3_open(path(), &app), SQLITE_OK); /* every 1000 pages */
    sqlite3_busy_timeout(app, 10000);
    for (int i = 0; i < 3; i++) {
        make_rows(app);
        sql(app, "UPDATE t SET v = randomblob(2000); DROP TABLE t");
        OK(publish(mq));
        OK(publish(mq));
    }
    if (bgmqi_store_open_loses_data()) {
        WAIT_UNTIL(harness_log_has(&log, notice));
        ck_assert(harness_log_has(&log, sqlite3_libversion()));
        ck_assert(harness_log_has(&log, "wal_autocheckpoint"));
        sql(app, "CREATE TABLE t(v); INSERT INTO t VALUES(zeroblob(6000000))");
        sql(app, "INSERT INTO t VALUES(1)");
        OK(publish(mq));
    }
    sqlite3_close(app);
    end(mq);
    ck_assert_int_eq(harness_log_count(&log, BGMQ_LOG_WARNING),
                     bgmqi_store_open_loses_data());
    harness_log_fini(&log);
}
END_TEST

/* One that has been prepared, or does as it should, is no reason for a word. */
START_TEST(who_leaves_check_points_to_us_is_not_warned)
{
    struct harness_log log;
    struct bgmq *mq = serve_with(0, &log);
    sqlite3 *app = NULL;
    ck_assert_int_eq(sqlite3_open(path(), &app), SQLITE_OK);
    sqlite3_busy_timeout(app, 10000);
    if (_i)
        OK(bgmq_sqlite_prepare(mq, app));
    else
        sql(app, "PRAGMA wal_autocheckpoint = 0");
    for (int i = 0; i < 3; i++) {
        OK(publish(mq));
        make_rows(app);
        sql(app, "UPDATE t SET v = randomblob(2000); DROP TABLE t");
        OK(publish(mq));
        ck_assert_int_eq(our_check_point(mq), 0);
        OK(publish(mq));
        sql(app, "CREATE TABLE u(v); DROP TABLE u");
    }
    end(mq);
    ck_assert_int_eq(harness_log_has(&log, notice), 0);
    sqlite3_close(app);
    harness_log_fini(&log);
}
END_TEST

/* ---- W2: a rollback of what the cache has spilled ------------------------------------ */

/* Rows of "done" after a crash of: a transaction that spills, and takes some of it back by a
 * savepoint (0) or by a statement that fails (1); and a transaction after that. */
static long done_after_a_crash(sqlite3 *db, int how)
{
    sql(db, "CREATE TABLE w(id INTEGER PRIMARY KEY, k BLOB UNIQUE, v);"
            "CREATE TABLE done(x);"
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE"
            " i < 3000) INSERT INTO w SELECT i, randomblob(600), randomblob(1500) FROM c;"
            "INSERT INTO w VALUES(1000000, 'taken', 1)");
    sql(db, "BEGIN IMMEDIATE; INSERT INTO done VALUES(1)");
    if (how == 0) {
        sql(db, "SAVEPOINT s; UPDATE w SET v = randomblob(1500);"
                "UPDATE w SET v = randomblob(1501); ROLLBACK TO s; RELEASE s");
    } else {
        int rc = sqlite3_exec(db,
                              "UPDATE w SET v = randomblob(1500), k = CASE id WHEN 3000"
                              " THEN 'taken' ELSE randomblob(600) END WHERE id < 1000000",
                              NULL, NULL, NULL);
        ck_assert_int_eq(rc, SQLITE_CONSTRAINT);
    }
    sql(db, "INSERT INTO done VALUES(2); COMMIT");
    sql(db, "INSERT INTO done VALUES(3)");
    ck_assert_int_eq(number(db, "SELECT count(*) FROM done"), 3);
    sqlite3 *after = connect_to(crash());
    long rows = number(after, "SELECT count(*) FROM done");
    sqlite3_close(after);
    return rows;
}

/* W2. */
START_TEST(a_cache_that_does_not_spill_loses_nothing)
{
    for (int spill = 1; spill >= 0; spill--) {
        sqlite3 *db = connect_to(path());
        sql(db, "PRAGMA journal_mode = WAL");
        if (!spill)
            sql(db, "PRAGMA cache_spill = OFF");
        long rows = done_after_a_crash(db, _i);
        if (spill)
            tell_theirs(_i ? "a spill, a failed statement" : "a spill, ROLLBACK TO", rows,
                        3);
        else
            expect_kept(rows, 3);
        sqlite3_close(db);
        unlink(path());
        unlink(harness_path("hazard.db-wal"));
    }
}
END_TEST

/* W2.  What the application's transaction spills must not take with it what we promise later;
 * _i / 2: whether it was prepared or just used. */
START_TEST(what_the_application_rolls_back_takes_nothing_of_ours)
{
    struct bgmq *mq = serve();
    sqlite3 *app = connect_to(path());
    sqlite3_busy_timeout(app, 10000);
    if (_i / 2) {
        OK(bgmq_sqlite_prepare(mq, app));
    } else {
        sql(app, "BEGIN");
        OK(bgmq_publish_tx(mq, app, "T", "first", 5, NULL, NULL));
        sql(app, "COMMIT");
    }
    long rows = done_after_a_crash(app, _i % 2);
    OK(publish(mq)); /* committed, and synced */
    sqlite3 *after = connect_to(crash());
    long jobs = number(after, "SELECT count(*) FROM bgmq_job");
    sqlite3_close(after);
    expect_kept(jobs, _i / 2 ? 1 : 2);
    expect_kept(rows, 3);
    sqlite3_close(app);
    end(mq);
}
END_TEST

/* ---- W3: a close that is not SQLite's ------------------------------------------------ */

/* Another process, which uses the database and closes it when it is told; OURS: as a guest. */
struct other {
    pid_t pid;
    int tell, told;
};

static void be_the_other(int ours, int told, int tell)
{
    char c;
    sqlite3 *db = NULL;
    struct bgmq_guest *guest = NULL;
    harness_part();
    if (ours && (bgmq_guest_open(&guest, path(), NULL) != 0 ||
                 bgmq_guest_publish(guest, "T", "body", 4, NULL, NULL) != 0))
        _exit(1);
    if (!ours && (sqlite3_open(path(), &db) != SQLITE_OK ||
                  sqlite3_exec(db, "CREATE TABLE theirs(x)", NULL, NULL, NULL) != 0))
        _exit(3);
    if (write(tell, "x", 1) != 1 || read(told, &c, 1) != 1)
        _exit(4);
    bgmq_guest_close(guest);
    sqlite3_close(db);
    _exit(0);
}

/* Forked before there are threads; goes to work when it is told to. */
static struct other other_begin(int ours)
{
    int to[2], from[2];
    path(); /* made here, not in the child */
    ck_assert_int_eq(pipe(to) + pipe(from), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        char c;
        close(to[1]);
        close(from[0]);
        if (read(to[0], &c, 1) != 1)
            _exit(5);
        be_the_other(ours, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    return (struct other){pid, to[1], from[0]};
}

static void other_tell(struct other *o)
{
    ck_assert_int_eq(write(o->tell, "x", 1), 1);
}

static void other_hear(struct other *o)
{
    char c;
    ck_assert_int_eq(read(o->told, &c, 1), 1);
}

static void other_end(struct other *o)
{
    int status;
    ck_assert_int_eq(waitpid(o->pid, &status, 0), o->pid);
    ck_assert_int_eq(status, 0);
    close(o->tell);
    close(o->told);
}

/* Another process is there, then a backup program in ours drops all locks, and the other, which now
 * believes it is the last one, closes. */
static void drop_our_locks_and_leave(struct other *o)
{
    other_tell(o);
    other_hear(o);
    int fd = open(path(), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    close(fd);
    other_tell(o);
    other_end(o);
}

/* W3.  A guest leaves the log where it is. */
START_TEST(our_last_one_out_leaves_the_log_even_when_it_is_wrong)
{
    struct other o = other_begin(1);
    struct bgmq *mq = serve_with(1, NULL);
    OK(publish(mq));
    drop_our_locks_and_leave(&o);
    ck_assert_int_eq(access(harness_path("hazard.db-wal"), F_OK), 0);
    OK(publish(mq));
    sqlite3 *after = connect_to(crash());
    expect_kept(number(after, "SELECT (SELECT count(*) FROM bgmq_job) +"
                              " (SELECT count(*) FROM bgmq_inbox)"),
                3);
    sqlite3_close(after);
    end(mq);
}
END_TEST

/* W3, S11.  A stranger may take the log away; then nothing is promised any more. */
START_TEST(log_that_a_stranger_takes_away_is_noticed_before_a_promise)
{
    struct other o = other_begin(0);
    struct bgmq *mq = serve();
    OK(publish(mq));
    drop_our_locks_and_leave(&o);
    int gone = access(harness_path("hazard.db-wal"), F_OK) != 0;
    printf(
        "# note: SQLite %s, another's close after a stray one of ours: the log is %s\n",
        sqlite3_libversion(), gone ? "gone" : "there");
    int err = publish(mq);
    if (gone) {
        ck_assert_msg(err == BGMQ_ESTORE || err == BGMQ_EUNCERTAIN, "%s",
                      bgmq_errname(err));
        ck_assert_int_eq(publish(mq), BGMQ_ESTORE);
    } else {
        ck_assert_int_eq(err, 0);
    }
    end(mq);
    mq = serve(); /* what was promised is there */
    struct bgmq_collection c;
    OK(bgmq_type_collection(mq, "T", &c));
    ck_assert_uint_ge(c.inq, gone ? 1 : 2);
    end(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hazards");
    TCase *c = harness_case(s, "check-point");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, the_linked_sqlite_is_one_that_we_know, 0, WAYS);
    tcase_add_test(c, our_check_point_loses_nothing);
    tcase_add_test(c, our_check_point_copies_nothing_beside_a_writer);
    tcase_add_test(c, who_check_points_by_itself_is_noticed_once);
    tcase_add_loop_test(c, who_leaves_check_points_to_us_is_not_warned, 0, 2);
    c = harness_case(s, "spill");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, a_cache_that_does_not_spill_loses_nothing, 0, 2);
    tcase_add_loop_test(c, what_the_application_rolls_back_takes_nothing_of_ours, 0, 4);
    c = harness_case(s, "close");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, our_last_one_out_leaves_the_log_even_when_it_is_wrong);
    tcase_add_test(c, log_that_a_stranger_takes_away_is_noticed_before_a_promise);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
