/* test_poison.c - the process dies in a handler, or just after it: who is charged, who is run
 * alone, and who is dead.
 *
 * The processes that die are children of the test, forked before there are threads. */
#include "flow.h"

#include "service.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs FN in a child, which has to end by SIGKILL. */
static void kill_in(void (*fn)(void))
{
    flow_database(); /* the folder is made here */
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        harness_part();
        fn();
        _exit(99);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "the child ended with status %#x", (unsigned)status);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Runs SQL on the closed database. */
static void change(const char *sql)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    sqlite3_close(db);
}

static long crashes_of(const char *body)
{
    char sql[200];
    snprintf(sql, sizeof(sql),
             "SELECT max(crashes) FROM (SELECT crashes, body FROM bgmq_job UNION ALL"
             " SELECT crashes, body FROM bgmq_backlog) WHERE CAST(body AS TEXT) = '%s'",
             body);
    return flow_sql(sql);
}

/* ---- a handler that kills at each boot ---------------------------------------------- */

static struct counter begun;

/* "kill" kills, in its first attempt once its neighbours run too. */
static int deadly_handler(struct bgmq_job *job, void *ctx)
{
    bool first = bgmq_job_attempt(job) == 1;
    counter_add(&begun, 1);
    if (strcmp(bgmq_job_body(job, NULL), "kill") == 0) {
        if (first)
            counter_wait(&begun, 3);
        die();
    }
    if (first && strcmp(bgmq_job_body(job, NULL), "later") != 0)
        for (;;)
            pause(); /* it runs when the process dies */
    return BGMQ_DONE;
}

static struct bgmq *boot(void)
{
    counter_init(&begun);
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", deadly_handler, NULL, &TYPE(.threads = 3)));
    return mq;
}

static void first_boot(void)
{
    struct bgmq *mq = boot();
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "neighbour");
    flow_publish(mq, "T", "kill");
    flow_publish(mq, "T", "friend");
    counter_wait(&begun, 4); /* never: it is killed */
}

static void next_boot(void)
{
    OK(bgmq_start(boot()));
    counter_wait(&begun, 4);
}

/* P10. */
START_TEST(message_that_kills_at_each_boot_is_dead_and_its_neighbours_are_not_charged)
{
    kill_in(first_boot);
    kill_in(next_boot);
    ck_assert_int_le(crashes_of("neighbour"), 1);
    ck_assert_int_le(crashes_of("friend"), 1);
    kill_in(next_boot);
    ck_assert_int_le(crashes_of("neighbour"), 1);
    ck_assert_int_le(crashes_of("friend"), 1);

    struct bgmq *mq = boot();
    OK(bgmq_start(mq));
    ck_assert_int_eq(bgmq_started(mq), 0);
    ck_assert_int_eq(flow_counters(mq).breaker, 1);
    ck_assert_int_eq(counter_value(&begun), 0);
    flow_publish(mq, "T", "later");
    OK(bgmq_start(mq));
    ck_assert_int_eq(bgmq_started(mq), 1);
    ck_assert_int_eq(flow_counters(mq).breaker, 0);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    flow_expect_body(m, "kill");
    ck_assert_str_eq(bgmq_message_error_code(m), "crash");
    flow_done(m);
    WAIT_UNTIL(flow_collection(mq, "T").inq == 0 && flow_counters(mq).solo == 0);
    flow_close(mq);
}
END_TEST

START_TEST(breaker_can_be_set)
{
    kill_in(first_boot);
    struct bgmq *mq = flow_open_with(1, SERVICE(.boot_breaker = 1));
    OK(bgmq_start(mq));
    ck_assert_int_eq(bgmq_started(mq), 0);
    flow_close(mq); /* a clean end: nobody died */
    mq = flow_open_with(1, SERVICE(.boot_breaker = 1));
    OK(bgmq_start(mq));
    ck_assert_int_eq(bgmq_started(mq), 1);
    flow_close(mq);
}
END_TEST

/* ---- killed at other moments --------------------------------------------------------- */

static void killed_between_end_and_commit(void)
{
    struct recorder r;
    struct gate gate;
    sqlite3 *db;
    recorder_init(&r);
    gate_init(&gate);
    r.failures = 1;
    r.gate = &gate;
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r,
                       TYPE(.backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 60000));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "a");
    counter_wait(&r.begun, 1);
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 1);
    die();
}

START_TEST(ended_attempt_that_was_not_committed_counts_and_is_no_crash)
{
    kill_in(killed_between_end_and_commit);
    ck_assert_int_eq(flow_sql("SELECT attempt FROM bgmq_job"), 0);
    struct bgmq *mq = flow_open(1);
    flow_close(mq);
    ck_assert_int_eq(flow_sql("SELECT attempt FROM bgmq_backlog"), 1);
    ck_assert_int_eq(flow_sql("SELECT crashes FROM bgmq_backlog"), 0);
}
END_TEST

static void opened_and_killed(void)
{
    flow_open(1);
    die();
}

START_TEST(crash_is_charged_once_though_the_next_opener_is_killed_too)
{
    kill_in(first_boot);
    kill_in(opened_and_killed);
    kill_in(opened_and_killed);
    ck_assert_int_eq(crashes_of("kill"), 1);
    ck_assert_int_eq(flow_sql("SELECT max(attempt) FROM bgmq_backlog"), 1);
    struct bgmq *mq = flow_open(1);
    flow_close(mq);
    ck_assert_int_eq(crashes_of("kill"), 1);
}
END_TEST

/* ---- suspects are run alone ---------------------------------------------------------- */

static struct recorder recorder;
static struct gate gate;
static struct fake_clock fake;
static struct bgmq *mq;

/* A service with N suspects "0", "1" ... in T and one message "free" in U, not started. */
static void open_with_suspects(int n)
{
    recorder_init(&recorder);
    gate_init(&gate);
    mq = flow_open(1);
    flow_publish_numbers(mq, "T", n);
    flow_publish(mq, "U", "free");
    flow_close(mq);
    change("UPDATE bgmq_backlog SET crashes = 1 WHERE CAST(body AS TEXT) <> 'free';"
           "UPDATE bgmq_job SET crashes = 1 WHERE CAST(body AS TEXT) <> 'free'");
    recorder.gate = &gate;
    fake_clock_init(&fake, INT64_C(1523303089000));
    OK(bgmqi_service_open(&mq, &SERVICE(.database = flow_database()), &fake.clock, NULL));
    flow_register_with(mq, "T", &recorder, TYPE(.threads = 3));
    flow_register(mq, "U", &recorder);
    WAIT_UNTIL(flow_collection(mq, "T").suspects == (uint64_t)n);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, (uint64_t)n);
}

static void close_suspects(void)
{
    flow_close(mq);
    recorder_fini(&recorder);
    gate_fini(&gate);
    fake_clock_fini(&fake);
}

START_TEST(suspects_run_one_at_a_time_and_before_all_others)
{
    char bodies[64];
    open_with_suspects(4);
    OK(bgmq_start(mq));
    ck_assert_int_eq(flow_counters(mq).solo, 1);
    counter_wait(&recorder.begun, 1);
    ck_assert_int_eq(bgmq_running(mq), 1);
    ck_assert_uint_eq(flow_collection(mq, "T").suspects, 3);
    gate_open(&gate);
    counter_wait(&recorder.begun, 5);
    flow_wait_ended(mq, "T", 4);
    flow_wait_ended(mq, "U", 1);
    ck_assert_int_eq(recorder.most, 1);
    ck_assert_str_eq(recorder_bodies(&recorder, bodies, sizeof(bodies)), "0 1 2 3 free ");
    WAIT_UNTIL(flow_counters(mq).solo == 0);
    ck_assert_uint_eq(flow_collection(mq, "T").suspects, 0);
    close_suspects();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(long_suspect_does_not_keep_others_waiting)
{
    open_with_suspects(2);
    OK(bgmq_start(mq));
    counter_wait(&recorder.begun, 1);
    fake_clock_advance(&fake, 9999);
    flow_publish(mq, "V", "nobody's"); /* no matter */
    ck_assert_int_eq(counter_value(&recorder.begun), 1);
    fake_clock_advance(&fake, 1);
    counter_wait(&recorder.begun, 2); /* the next, beside the first */
    fake_clock_advance(&fake, 10000);
    counter_wait(&recorder.begun, 3); /* and the rest */
    WAIT_UNTIL(flow_counters(mq).solo == 0);
    gate_open(&gate);
    close_suspects();
}
END_TEST

START_TEST(normal_end_clears_a_suspect)
{
    open_with_suspects(1);
    recorder.failures = 1;
    gate_open(&gate);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_flush(mq));
    ck_assert_int_eq(flow_sql("SELECT max(crashes) FROM bgmq_backlog"), 0);
    close_suspects();
}
END_TEST

START_TEST(suspects_may_be_paused_stopped_and_taken)
{
    open_with_suspects(3);
    OK(bgmq_pause(mq, "T"));
    gate_open(&gate);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "U", 1); /* those of a paused type keep nobody waiting */
    WAIT_UNTIL(flow_counters(mq).solo == 0);
    flow_expect(mq, "mq:T.inq", "0");
    ck_assert_uint_eq(flow_collection(mq, "T").suspects, 2);
    gate_shut(&gate);
    OK(bgmq_resume(mq, "T"));
    counter_wait(&recorder.begun, 2);
    FAILS(BGMQ_EBUSY, bgmq_stop(mq, 1));
    ck_assert_int_eq(flow_counters(mq).solo, 0);
    gate_open(&gate);
    WAIT_UNTIL(bgmq_running(mq) == 0);
    ck_assert_uint_eq(flow_collection(mq, "T").suspects, 1);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 2);
    close_suspects();
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(dead_after_as_many_crashes_as_the_option_says)
{
    open_with_suspects(1);
    flow_close(mq);
    change("UPDATE bgmq_backlog SET crashes = 2 WHERE CAST(body AS TEXT) <> 'free'");
    OK(bgmqi_service_open(&mq, &SERVICE(.database = flow_database(), .max_crashes = 2),
                          &fake.clock, NULL));
    flow_register(mq, "T", &recorder);
    OK(bgmq_start(mq));
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_str_eq(bgmq_message_error_code(m), "crash");
    ck_assert_uint_eq(bgmq_message_attempts(m), 0); /* this one was not run */
    flow_done(m);
    ck_assert_int_eq(counter_value(&recorder.begun), 0);
    ck_assert_uint_eq(flow_stats(mq, "T").normal_received, 0);
    close_suspects();
}
END_TEST

/* ---- too late ------------------------------------------------------------------------ */

static int slow_then_late(struct bgmq_job *job, void *ctx)
{
    counter_add(&begun, 1);
    gate_wait(&gate);
    return BGMQ_DONE;
}

START_TEST(expired_before_its_start_it_is_not_run)
{
    bool discards = _i & 1;
    counter_init(&begun);
    gate_init(&gate);
    fake_clock_init(&fake, INT64_C(1523303089000));
    OK(bgmqi_service_open(&mq, &SERVICE(.database = _i & 2 ? flow_database() : NULL),
                          &fake.clock, NULL));
    OK(bgmq_register(mq, "T", slow_then_late, NULL, &TYPE(.discard_expired = discards)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "long");
    counter_wait(&begun, 1);
    flow_publish_with(mq, "T", "late",
                      MESSAGE(.expire_at_ms = fake_clock_wall(&fake) + 1000));
    fake_clock_advance(&fake, 1000);
    gate_open(&gate);
    WAIT_UNTIL(flow_collection(mq, "T").expired == 1);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(counter_value(&begun), 1);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, !discards);
    if (!discards) {
        struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
        ck_assert_str_eq(bgmq_message_error_code(m), "expired");
        ck_assert_uint_eq(bgmq_message_attempts(m), 0);
        flow_done(m);
    }
    flow_close(mq);
    if (_i & 2)
        ck_assert_int_eq(flow_rows(), 0);
    gate_fini(&gate);
    counter_fini(&begun);
    fake_clock_fini(&fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("poison");
    TCase *kills = flow_case(s, "kills");
    tcase_add_test(
        kills,
        message_that_kills_at_each_boot_is_dead_and_its_neighbours_are_not_charged);
    tcase_add_test(kills, breaker_can_be_set);
    tcase_add_test(kills, ended_attempt_that_was_not_committed_counts_and_is_no_crash);
    tcase_add_test(kills, crash_is_charged_once_though_the_next_opener_is_killed_too);
    TCase *alone = flow_case(s, "alone");
    tcase_add_test(alone, suspects_run_one_at_a_time_and_before_all_others);
    tcase_add_test(alone, long_suspect_does_not_keep_others_waiting);
    tcase_add_test(alone, normal_end_clears_a_suspect);
    tcase_add_test(alone, suspects_may_be_paused_stopped_and_taken);
    tcase_add_test(alone, dead_after_as_many_crashes_as_the_option_says);
    TCase *late = flow_case(s, "late");
    tcase_add_loop_test(late, expired_before_its_start_it_is_not_run, 0, 4);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
