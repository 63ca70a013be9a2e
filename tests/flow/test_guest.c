/* test_guest.c - other processes publish: by bgmq_guest and by plain SQL, to an owner that watches,
 * to one that does not, and to none.
 *
 * The program runs itself with an argument to be another process. */
#include "flow.h"

#include <bgmq_sqlite.h>
#include <limits.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_ID (UINT64_C(1) << 52)

/* ---- short words ---------------------------------------------------------------- */

static struct bgmq *open_owner(void)
{
    return flow_open_with(1, SERVICE(.guests = 1));
}

static struct bgmq_guest *visit(void)
{
    struct bgmq_guest *g = NULL;
    struct bgmq_error error = {""};
    int err = bgmq_guest_open(&g, flow_database(), &error);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return g;
}

static uint64_t send_with(struct bgmq_guest *g, const char *text,
                          struct bgmq_message_options options)
{
    struct bgmq_receipt r = {.id = 0};
    OK(bgmq_guest_publish(g, "T", text, strlen(text), &options, &r));
    return r.id;
}

static uint64_t send(struct bgmq_guest *g, const char *text)
{
    return send_with(g, text, MESSAGE(0));
}

/* Another program's connection; it does not check-point. */
static sqlite3 *beside(void)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(flow_database(), &db, SQLITE_OPEN_READWRITE, NULL),
                     SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    sqlite3_wal_autocheckpoint(db, 0);
    return db;
}

static void run_on(sqlite3 *db, const char *sql)
{
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
}

static void sql(const char *text)
{
    sqlite3 *db = beside();
    run_on(db, text);
    sqlite3_close(db);
}

static uint64_t taken_over(struct bgmq *mq)
{
    return flow_counters(mq).inbox;
}

static void make_database(void)
{
    flow_close(flow_open(1));
}

/* ---- one guest ------------------------------------------------------------------ */

START_TEST(guest_publishes_and_the_handler_runs)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = open_owner();
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    struct bgmq_guest *g = visit();
    struct bgmq_receipt receipt = {.id = 0};
    OK(bgmq_guest_publish(g, "T", "1", 1, NULL, &receipt));
    ck_assert_uint_ge(receipt.id, FIRST_ID);
    ck_assert_int_eq(receipt.level, BGMQ_DISK);
    ck_assert_int_eq(receipt.duplicate, 0);
    OK(bgmq_guest_publish(g, "T", "2", 1, &MESSAGE(.durability = BGMQ_COMMIT), &receipt));
    ck_assert_int_eq(receipt.level, BGMQ_COMMIT);
    OK(bgmq_guest_publish(g, "T", "", 0, NULL, NULL));
    flow_wait_ended(mq, "T", 3);
    char bodies[64];
    ck_assert_str_eq(recorder_bodies(&r, bodies, sizeof(bodies)), "1 2  ");
    ck_assert_uint_eq(recorder_call(&r, 1).id, receipt.id);
    WAIT_UNTIL(taken_over(mq) == 3);
    bgmq_guest_close(g);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox"), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(options_of_a_guest_reach_the_message)
{
    struct bgmq *mq = open_owner();
    struct bgmq_guest *g = visit();
    static const char *const meta[] = {"k", "v \"quoted\"", NULL};
    send(g, "plain");
    uint64_t id = send_with(g, "rich",
                            MESSAGE(.priority = 7, .tag = "tag", .traceparent = "trace",
                                    .meta = meta, .reply_to = "answers", .reply_id = 99,
                                    .max_attempts = 3));
    send_with(g, "later", MESSAGE(.delay_ms = 3600000));
    WAIT_UNTIL(taken_over(mq) == 3);
    struct bgmq_message *m = flow_take(mq, "mq:T.priorityq");
    flow_expect_body(m, "rich");
    ck_assert_uint_eq(bgmq_message_id(m), id);
    ck_assert_int_eq(bgmq_message_priority(m), 7);
    ck_assert_str_eq(bgmq_message_tag(m), "tag");
    ck_assert_str_eq(bgmq_message_traceparent(m), "trace");
    ck_assert_str_eq(bgmq_message_meta(m, "k"), "v \"quoted\"");
    ck_assert_str_eq(bgmq_message_reply_to(m), "answers");
    ck_assert_uint_eq(bgmq_message_reply_id(m), 99);
    flow_done(m);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    flow_expect(mq, "mq:T.inq", "plain");
    bgmq_guest_close(g);
    flow_close(mq);
}
END_TEST

START_TEST(unique_key_of_a_guest_is_kept_by_the_first)
{
    struct bgmq *mq = open_owner();
    struct bgmq_guest *g = visit();
    flow_publish_with(mq, "T", "owner's", MESSAGE(.unique_key = "a"));
    send_with(g, "second", MESSAGE(.unique_key = "a"));
    send_with(g, "guest's", MESSAGE(.unique_key = "b"));
    send_with(g, "third", MESSAGE(.unique_key = "b"));
    send(g, "end");
    WAIT_UNTIL(taken_over(mq) == 2);
    char bodies[64];
    WAIT_UNTIL(strcmp(flow_bodies(mq, "mq:T.inq", bodies, sizeof(bodies)),
                      "owner's guest's end ") == 0);
    bgmq_guest_close(g);
    flow_close(mq);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox"), 0);
    ck_assert_int_eq(flow_rows(), 3);
}
END_TEST

START_TEST(wrong_arguments_of_a_guest)
{
    make_database();
    struct bgmq_guest *g = NULL;
    char *text = NULL;
    FAILS(BGMQ_EINVAL, bgmq_guest_open(NULL, flow_database(), NULL));
    FAILS(BGMQ_EINVAL, bgmq_guest_open(&g, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_guest_publish(NULL, "T", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_guest_status(NULL, &text));
    bgmq_guest_close(NULL);
    g = visit();
    FAILS(BGMQ_EINVAL, bgmq_guest_status(g, NULL));
    FAILS(BGMQ_EINVAL, bgmq_guest_publish(g, NULL, "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_guest_publish(g, "no name", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_guest_publish(g, "T", NULL, 0, NULL, NULL));
    FAILS(BGMQ_ETOOBIG, bgmq_guest_publish(g, "T", "x", (64 << 20) + 1, NULL, NULL));
    static const char *const odd[] = {"k", NULL};
    const struct bgmq_message_options bad[] = {
        {.priority = -1},
        {.priority = 32768},
        {.delay_ms = 1, .run_at_ms = 1},
        {.expire_ms = 1, .expire_at_ms = 1},
        {.expire_ms = -1},
        {.unique_key = ""},
        {.unique_key = "k", .unique = (enum bgmq_unique)4},
        {.unique_key = "k", .unique = BGMQ_UNIQUE_PERIOD},
        {.unique_key = "k", .on_conflict = BGMQ_CONFLICT_REPLACE},
        {.max_attempts = 1001},
        {.tag = "\xff"},
        {.channel = "a b"},
        {.meta = odd},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int err = bgmq_guest_publish(g, "T", "x", 1, &bad[i], NULL);
        ck_assert_msg(err == BGMQ_EINVAL, "options %zu: %s", i, bgmq_errname(err));
    }
    OK(bgmq_guest_status(g, &text));
    ck_assert_str_eq(text, "");
    free(text);
    bgmq_guest_close(g);
}
END_TEST

START_TEST(guest_needs_a_database_that_an_owner_has_made)
{
    char other[512], text[4096];
    struct bgmq_guest *g = (struct bgmq_guest *)(uintptr_t)8;
    struct bgmq_error error = {""};
    FAILS(BGMQ_ENOENT, bgmq_guest_open(&g, flow_database(), &error));
    ck_assert_ptr_nonnull(strstr(error.text, "flow.db"));
    ck_assert_int_ne(access(flow_database(), F_OK), 0);
    snprintf(other, sizeof(other), "%s", harness_path("other.db"));
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(other, &db), SQLITE_OK);
    run_on(db, "CREATE TABLE mine(x)");
    sqlite3_close(db);
    FAILS(BGMQ_ENOENT, bgmq_guest_open(&g, other, &error));
    ck_assert_str_ne(error.text, "");
    memset(text, 't', sizeof(text));
    harness_write_file(harness_path("text.db"), text, sizeof(text));
    FAILS(BGMQ_ENOTDB, bgmq_guest_open(&g, harness_path("text.db"), &error));
    ck_assert_int_eq(symlink(other, harness_path("link.db")), 0);
    FAILS(BGMQ_EUNSAFE, bgmq_guest_open(&g, harness_path("link.db"), &error));
    ck_assert_ptr_eq(g, (struct bgmq_guest *)(uintptr_t)8);
}
END_TEST

START_TEST(locked_database_is_busy_after_the_wait)
{
    make_database();
    struct bgmq_guest *g = visit();
    sqlite3 *db = beside();
    run_on(db, "BEGIN IMMEDIATE");
    int64_t begin = harness_now();
    FAILS(BGMQ_EBUSY, bgmq_guest_publish(g, "T", "x", 1, &MESSAGE(.wait_ms = 50), NULL));
    ck_assert_int_ge(harness_now() - begin, INT64_C(40000000));
    run_on(db, "ROLLBACK");
    send(g, "y");
    sqlite3_close(db);
    bgmq_guest_close(g);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox"), 1);
}
END_TEST

/* S10, as a guest has it. */
START_TEST(replaced_database_takes_nothing_from_a_guest)
{
    make_database();
    struct bgmq_guest *g = visit();
    ck_assert_int_eq(rename(flow_database(), harness_path("moved.db")), 0);
    FAILS(BGMQ_ESTORE, bgmq_guest_publish(g, "T", "x", 1, NULL, NULL));
    ck_assert_int_eq(rename(harness_path("moved.db"), flow_database()), 0);
    FAILS(BGMQ_ESTORE, bgmq_guest_publish(g, "T", "x", 1, NULL, NULL)); /* for good */
    bgmq_guest_close(g);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox"), 0);
}
END_TEST

/* The bytes of the database itself, which only a check-point writes to. */
static char *file_bytes(size_t *len)
{
    char *bytes = NULL;
    *len = harness_read_file(flow_database(), &bytes);
    return bytes;
}

/* W1.  Two processes that check-point can lose what is committed: the owner does, under
 * the write lock, and a guest leaves the log as it is, also when it is the last to close. */
START_TEST(guest_makes_no_check_point)
{
    size_t before, after;
    make_database();
    struct bgmq_guest *g = visit();
    char *then = file_bytes(&before);
    for (int i = 0; i < 20; i++)
        send(g, "in the log");
    bgmq_guest_close(g);
    char *now = file_bytes(&after);
    ck_assert_uint_eq(after, before);
    ck_assert_int_eq(memcmp(now, then, before), 0);
    free(then);
    free(now);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox"), 20);
}
END_TEST

/* ---- with and without an owner --------------------------------------------------- */

START_TEST(message_waits_until_an_owner_opens)
{
    make_database();
    struct bgmq_guest *g = visit();
    char *text;
    send(g, "1");
    send(g, "2");
    OK(bgmq_guest_status(g, &text));
    ck_assert_str_eq(text,
                     "T: 0 waiting, 0 delayed, 0 dead, 2 in the inbox, 0 refused\n");
    free(text);
    struct bgmq *mq = flow_open(1); /* without the option: it looks once */
    WAIT_UNTIL(taken_over(mq) == 2);
    OK(bgmq_guest_status(g, &text));
    ck_assert_str_eq(text,
                     "T: 2 waiting, 0 delayed, 0 dead, 0 in the inbox, 0 refused\n");
    free(text);
    flow_expect(mq, "mq:T.inq", "1");
    flow_expect(mq, "mq:T.inq", "2");
    send(g, "3"); /* the guest that was there before the owner */
    flow_close(mq);
    mq = open_owner();
    flow_expect(mq, "mq:T.inq", "3");
    send(g, "4");
    flow_expect(mq, "mq:T.inq", "4");
    bgmq_guest_close(g);
    flow_close(mq);
}
END_TEST

START_TEST(owner_without_the_option_looks_at_open_only)
{
    int ours = harness_count_threads();
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "own");
    sql("INSERT INTO bgmq_inbox(type, body) VALUES('T', 'row')");
    flow_publish(mq, "T", "own again");
    OK(bgmq_flush(mq));
    ck_assert_uint_eq(taken_over(mq), 0);
    /* The ticker and the journal: nobody watches. */
    WAIT_UNTIL(harness_count_threads() <= ours + 2);
    flow_close(mq);
    mq = flow_open(1);
    WAIT_UNTIL(taken_over(mq) == 1);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 3);
}
END_TEST

START_TEST(rows_of_plain_sql_are_noticed)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = open_owner();
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    sqlite3 *db = beside();
    run_on(db, "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'text')");
    flow_wait_ended(mq, "T", 1);
    run_on(db, "INSERT INTO bgmq_inbox(type, body) VALUES('T', x'626c6f62')");
    flow_wait_ended(mq, "T", 2);
    run_on(db,
           "BEGIN; INSERT INTO bgmq_inbox(type, body) VALUES('T', 'never'); ROLLBACK");
    run_on(db, "BEGIN; INSERT INTO bgmq_inbox(type, body) VALUES('T', 'a');"
               "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'b'); COMMIT");
    flow_wait_ended(mq, "T", 4);
    char bodies[64];
    ck_assert_str_eq(recorder_bodies(&r, bodies, sizeof(bodies)), "text blob a b ");
    sqlite3_close(db);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* How long from the commit until the handler has begun; the best of several, as the machine may be
 * busy.  _i 0: the library's guest, 1: plain SQL. */
START_TEST(a_guests_message_is_picked_up_within_50_ms)
{
    struct recorder r;
    struct bgmq_guest *g = NULL;
    recorder_init(&r);
    struct bgmq *mq = open_owner();
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    sqlite3 *db = beside();
    OK(bgmq_guest_open(&g, flow_database(), NULL));
    int64_t best = INT64_MAX;
    for (int i = 1; i <= 10; i++) {
        if (_i)
            run_on(db, "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'x')");
        else
            OK(bgmq_guest_publish(g, "T", "x", 1, NULL, NULL));
        int64_t begin = harness_now();
        counter_wait(&r.begun, i);
        int64_t took = harness_now() - begin;
        best = took < best ? took : best;
    }
    printf("# picked up after %.1f ms\n", (double)best / 1e6);
    ck_assert_int_lt(best, INT64_C(50000000) * harness_scale());
    bgmq_guest_close(g);
    sqlite3_close(db);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* By all threads of the process. */
static long times_slept(void)
{
    struct rusage usage;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_nvcsw;
}

/* The best of several half seconds; what a look costs is measured by the bench. */
START_TEST(an_owner_that_waits_for_guests_rests)
{
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker has threads of its own");
    enum {
        PIECE_MS = 500,
        LOOKS = 25,
        OTHERS = 5
    }; /* 50 looks a second, and who parks */
    struct bgmq *mq = open_owner();
    OK(bgmq_start(mq));
    long least = LONG_MAX;
    for (int i = 0; i < 4; i++) {
        long sleeps = times_slept();
        poll(NULL, 0, PIECE_MS); /* what is counted is rest */
        sleeps = times_slept() - sleeps;
        least = sleeps < least ? sleeps : least;
    }
    ck_assert_int_le(least, LOOKS + OTHERS);
    flow_close(mq);
}
END_TEST

/* ---- other processes ------------------------------------------------------------- */

enum { GUESTS = 8, EACH = 50 };

/* The other process: publishes EACH messages "NAME.0", "NAME.1" ...  It gives up well before the
 * test does, so that a lock that nobody lets go of is told from messages that do not arrive. */
static int be_a_guest(const char *path, const char *name)
{
    struct bgmq_guest *g;
    if (bgmq_guest_open(&g, path, NULL))
        return 1;
    for (int i = 0; i < EACH; i++) {
        char body[32];
        int len = snprintf(body, sizeof(body), "%s.%d", name, i);
        if (bgmq_guest_publish(
                g, "T", body, (size_t)len,
                &MESSAGE(.durability = BGMQ_COMMIT, .wait_ms = 2 * flow_patience()),
                NULL))
            return 2;
    }
    bgmq_guest_close(g);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

START_TEST(eight_processes_at_once_arrive_once_each)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = open_owner();
    flow_register_with(mq, "T", &r, TYPE(.threads = 2));
    OK(bgmq_start(mq));
    pid_t pids[GUESTS];
    const char *path = flow_database();
    for (int i = 0; i < GUESTS; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%d", i);
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0) {
            execl("/proc/self/exe", "test_guest", "--guest", path, name, (char *)NULL);
            _exit(98);
        }
    }
    for (int i = 0; i < GUESTS; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "guest %d: %x", i,
                      (unsigned)status);
    }
    flow_wait_ended(mq, "T", (uint64_t)GUESTS * EACH);
    WAIT_UNTIL(taken_over(mq) == (uint64_t)GUESTS * EACH);
    ck_assert_uint_eq(r.n, (size_t)GUESTS * EACH);
    static char got[GUESTS * EACH][16];
    for (size_t i = 0; i < r.n; i++)
        snprintf(got[i], sizeof(got[i]), "%.15s", recorder_call(&r, i).body);
    qsort(got, r.n, sizeof(got[0]), by_text);
    for (size_t i = 1; i < r.n; i++)
        ck_assert_msg(strcmp(got[i - 1], got[i]) != 0, "%s came twice", got[i]);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* In the child of a fork: returns 0 when all is refused. */
static int try_inherited(struct bgmq_guest *g)
{
    struct bgmq_guest *other;
    char *text;
    if (bgmq_guest_publish(g, "T", "x", 1, NULL, NULL) != BGMQ_EFORKED)
        return 1;
    if (bgmq_guest_status(g, &text) != BGMQ_EFORKED)
        return 2;
    bgmq_guest_close(g);
    return bgmq_guest_open(&other, flow_database(), NULL) == BGMQ_EFORKED ? 0 : 3;
}

/* A4. */
START_TEST(child_of_a_fork_has_no_guest)
{
    struct bgmq *mq = _i ? open_owner() : NULL;
    if (!mq)
        make_database();
    struct bgmq_guest *g = visit();
    send(g, "before");
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(try_inherited(g));
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    send(g, "after");
    if (mq)
        WAIT_UNTIL(taken_over(mq) == 2);
    bgmq_guest_close(g);
    if (mq)
        flow_close(mq);
    ck_assert_int_eq(flow_rows() + flow_sql("SELECT count(*) FROM bgmq_inbox"), 2);
}
END_TEST

/* The child opens what its parent does not have open, or not any more. */
static int use_own(void)
{
    struct bgmq_guest *g;
    if (bgmq_guest_open(&g, flow_database(), NULL))
        return 1;
    int err = bgmq_guest_publish(g, "T", "x", 1, NULL, NULL);
    bgmq_guest_close(g);
    return err ? 2 : 0;
}

START_TEST(child_of_a_fork_opens_its_own_guest)
{
    make_database();
    bgmq_guest_close(visit());
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(use_own());
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox"), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("guest");
    TCase *tc = flow_case(s, "one guest");
    tcase_add_test(tc, guest_publishes_and_the_handler_runs);
    tcase_add_test(tc, options_of_a_guest_reach_the_message);
    tcase_add_test(tc, unique_key_of_a_guest_is_kept_by_the_first);
    tcase_add_test(tc, wrong_arguments_of_a_guest);
    tcase_add_test(tc, guest_needs_a_database_that_an_owner_has_made);
    tcase_add_test(tc, locked_database_is_busy_after_the_wait);
    tcase_add_test(tc, replaced_database_takes_nothing_from_a_guest);
    tcase_add_test(tc, guest_makes_no_check_point);
    tc = flow_case(s, "owner");
    tcase_add_test(tc, message_waits_until_an_owner_opens);
    tcase_add_test(tc, owner_without_the_option_looks_at_open_only);
    tcase_add_test(tc, rows_of_plain_sql_are_noticed);
    tcase_add_loop_test(tc, a_guests_message_is_picked_up_within_50_ms, 0, 2);
    tcase_add_test(tc, an_owner_that_waits_for_guests_rests);
    tc = flow_case(s, "processes");
    tcase_add_test(tc, eight_processes_at_once_arrive_once_each);
    tcase_add_loop_test(tc, child_of_a_fork_has_no_guest, 0, 2);
    tcase_add_test(tc, child_of_a_fork_opens_its_own_guest);
    return s;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--guest"))
        return be_a_guest(argv[2], argv[3]);
    return harness_run(suite());
}
