/* test_hunt.c - what a review found: messages lost behind the window's frontier, keys given away
 * by those that have ended, answers that were not true.  Each test is one such fault. */
#include "flow.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the database of this test, held by somebody else ------------------------------ */

static sqlite3 *open_database(void)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    return db;
}

static void change(sqlite3 *db, const char *sql)
{
    int r = sqlite3_exec(db, sql, NULL, NULL, NULL);
    ck_assert_msg(r == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
}

/* ---- the window -------------------------------------------------------------------- */

/* Messages without a row stand in the same heap, beyond the frontier: it must not be moved up to
 * them, over rows that are in the database only. */
START_TEST(a_flood_without_rows_does_not_bury_those_with_rows)
{
    enum { N = 40 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 4));
    for (int i = 0; i < N; i++)
        flow_publish_with(mq, "T", "stored", MESSAGE(.priority = 5));
    for (int i = 0; i < N; i++)
        flow_publish_with(mq, "T", "flood",
                          MESSAGE(.priority = 1, .durability = BGMQ_MEMORY));
    for (int i = 0; i < 4; i++)
        flow_expect(mq, "mq:T.priorityq", "stored");
    for (int i = 0; i < 3; i++)
        flow_publish_with(mq, "T", "urgent", MESSAGE(.priority = 9));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 2 * N - 4 + 3);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

static void *publish_many(void *mq)
{
    struct bgmq_message_options o = MESSAGE(.priority = 1);
    struct bgmq_item items[40];
    for (int i = 0; i < 40; i++)
        items[i] = (struct bgmq_item){"T", "late", 4, &o};
    OK(bgmq_publish_many(mq, items, 40, NULL));
    return NULL;
}

/* The same with rows throughout: a batch let in before the frontier moved below it, and
 * committed after. */
START_TEST(a_batch_committed_late_does_not_bury_those_before_it)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 4));
    sqlite3 *db = open_database();
    change(db, "BEGIN IMMEDIATE");
    pthread_t t = harness_thread(publish_many, mq);
    WAIT_UNTIL(flow_counters(mq).journal_waiting >= 40);
    for (int i = 0; i < 40; i++)
        flow_publish_with(mq, "T", "behind",
                          MESSAGE(.priority = 5, .durability = BGMQ_BEHIND));
    change(db, "ROLLBACK");
    sqlite3_close(db);
    harness_join(t);
    OK(bgmq_flush(mq));
    OK(bgmq_start(mq));
    for (int i = 0; i < 3; i++)
        flow_publish_with(mq, "T", "urgent", MESSAGE(.priority = 9));
    flow_wait_ended(mq, "T", 83);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(far_delays_without_rows_do_not_hold_up_near_ones_with_rows)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 4));
    for (int i = 0; i < 10; i++)
        flow_publish_with(mq, "T", "near", MESSAGE(.delay_ms = 300));
    for (int i = 0; i < 6; i++)
        flow_publish_with(mq, "T", "far",
                          MESSAGE(.delay_ms = 3600000, .durability = BGMQ_MEMORY));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 10);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 6);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* One load that fails for want of memory, and nothing else happens to the type. */
START_TEST(a_load_that_failed_is_tried_again)
{
    enum { N = 8, LEN = 512 * 1024 };
    static char body[LEN];
    struct recorder r;
    struct gate gate;
    struct harness_log log;
    recorder_init(&r);
    gate_init(&gate);
    harness_log_init(&log);
    r.gate = &gate;
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.log = harness_log_keep, .log_ctx = &log));
    flow_register_with(mq, "T", &r, TYPE(.window = 1));
    for (int i = 0; i < N; i++)
        OK(bgmq_publish(mq, "T", body, LEN, NULL, NULL));
    OK(bgmq_flush(mq));
    sqlite3_int64 before = sqlite3_hard_heap_limit64(sqlite3_memory_used() + LEN / 4);
    OK(bgmq_start(mq)); /* one begins, and memory holds no other */
    WAIT_UNTIL(harness_log_has(&log, "cannot load"));
    sqlite3_hard_heap_limit64(before);
    gate_open(&gate);
    flow_wait_ended(mq, "T", N);
    flow_close(mq);
    harness_log_fini(&log);
    gate_fini(&gate);
    recorder_fini(&r);
}
END_TEST

/* ---- the dead ---------------------------------------------------------------------- */

struct reviver {
    struct bgmq *mq;
    struct barrier *together;
    uint64_t id;
};

static void *revive(void *arg)
{
    struct reviver *v = arg;
    barrier_wait(v->together);
    ck_assert_int_eq(bgmq_retry_dead(v->mq, "T", v->id), 1);
    return NULL;
}

/* Each asks for another one; all are in the database only. */
START_TEST(many_may_look_for_the_dead_at_once)
{
    enum { N = 40, THREADS = 8 };
    struct recorder r;
    struct barrier together;
    recorder_init(&r);
    barrier_init(&together, THREADS);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 4));
    uint64_t ids[N];
    OK(bgmq_start(mq));
    for (int i = 0; i < N; i++)
        ids[i] = flow_publish(mq, "T", "dead");
    flow_wait_ended(mq, "T", N);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_flush(mq));
    struct reviver v[THREADS];
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        v[i] = (struct reviver){mq, &together, ids[N - 1 - i]};
        t[i] = harness_thread(revive, &v[i]);
    }
    for (int i = 0; i < THREADS; i++)
        harness_join(t[i]);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, THREADS);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, N - THREADS);
    flow_close(mq);
    barrier_fini(&together);
    recorder_fini(&r);
}
END_TEST

/* S8.  The handler never sees a body whose checksum is wrong, whoever asks for it. */
START_TEST(a_corrupt_body_is_not_raised_from_the_dead)
{
    struct recorder r;
    struct harness_log log;
    recorder_init(&r);
    harness_log_init(&log);
    struct bgmq *mq = flow_open(1);
    uint64_t id = flow_publish(mq, "T", "good");
    flow_close(mq);
    sqlite3 *db = open_database();
    change(db, "UPDATE bgmq_job SET body = x'62616421'");
    change(db, "UPDATE bgmq_backlog SET body = x'62616421'");
    sqlite3_close(db);
    mq = flow_open_with(1, SERVICE(.log = harness_log_keep, .log_ctx = &log));
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", id, &info));
    ck_assert_int_eq(info.state, BGMQ_STATE_DEAD);
    ck_assert_str_eq(info.error_code, "corrupt");
    bgmq_retry_dead(mq, "T", 0);
    flow_publish(mq, "T", "good");
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_stop(mq, 0));
    for (size_t i = 0; i < r.n; i++)
        ck_assert_str_eq(r.calls[i].body, "good");
    flow_close(mq);
    harness_log_fini(&log);
    recorder_fini(&r);
}
END_TEST

/* ---- unique keys ------------------------------------------------------------------- */

/* A has ended, and B has the key; A's leaving outq must not free it. */
START_TEST(who_has_ended_does_not_give_away_the_key_of_its_successor)
{
    struct recorder r;
    struct bgmq_receipt receipt;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_with(mq, "T", "A", MESSAGE(.unique_key = "k"));
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_flush(mq));
    uint64_t b = flow_publish_with(mq, "T", "B", MESSAGE(.unique_key = "k"));
    flow_expect(mq, "mq:T.outq", "A");
    OK(bgmq_publish(mq, "T", "C", 1, &MESSAGE(.unique_key = "k"), &receipt));
    ck_assert_int_eq(receipt.duplicate, 1);
    ck_assert_uint_eq(receipt.id, b);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* The dead A is raised and ends while B has the key. */
START_TEST(who_was_dead_does_not_give_away_the_key_of_its_successor)
{
    struct recorder r;
    struct bgmq_receipt receipt;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_with(mq, "T", "A", MESSAGE(.unique_key = "k"));
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_flush(mq));
    uint64_t b =
        flow_publish_with(mq, "T", "B", MESSAGE(.unique_key = "k", .delay_ms = 3600000));
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), 1);
    flow_expect(mq, "mq:T.inq", "A");
    OK(bgmq_publish(mq, "T", "C", 1, &MESSAGE(.unique_key = "k"), &receipt));
    ck_assert_int_eq(receipt.duplicate, 1);
    ck_assert_uint_eq(receipt.id, b);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* ---- verdicts and counters --------------------------------------------------------- */

struct judge {
    _Atomic unsigned calls, strange;
};

static int fail_always(struct bgmq_job *job, void *ctx)
{
    return bgmq_job_fail(job, BGMQ_RETRY, "Mine", "not this time");
}

/* Says RETRY six times. */
static int retry_stubbornly(struct bgmq_job *job, void *ctx)
{
    struct judge *j = ctx;
    const char *code = bgmq_job_error_code(job);
    j->strange += !code || strcmp(code, "Mine") != 0;
    return ++j->calls < 7 ? BGMQ_RETRY : BGMQ_PERMANENT;
}

/* With its attempts used up a message is run again or dead, but no crash is made up. */
START_TEST(on_error_that_wants_more_than_max_attempts_hears_of_no_crash)
{
    struct judge j = {0};
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", fail_always, &j,
                     &TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE,
                           .on_error = retry_stubbornly)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "a");
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    ck_assert_uint_eq(j.strange, 0);
    flow_close(mq);
}
END_TEST

static int delete_own_row(struct bgmq_job *job, void *ctx)
{
    sqlite3 *db = open_database();
    change(db, "DELETE FROM bgmq_job");
    sqlite3_close(db);
    return BGMQ_DONE;
}

START_TEST(an_outcome_whose_row_is_gone_counts_as_lost)
{
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", delete_own_row, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "a");
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_flush(mq));
    ck_assert_uint_eq(flow_counters(mq).lost, 1);
    flow_close(mq);
}
END_TEST

/* ---- messages given out ------------------------------------------------------------ */

struct settler {
    struct bgmq_message *message;
    struct barrier *together;
    int result;
};

static void *settle(void *arg)
{
    struct settler *s = arg;
    barrier_wait(s->together);
    s->result = bgmq_ack(s->message);
    return NULL;
}

START_TEST(of_two_acks_at_once_one_is_lost)
{
    struct bgmq *mq = flow_open(_i);
    struct barrier together;
    barrier_init(&together, 2);
    for (int i = 0; i < 50; i++) {
        flow_publish_with(mq, "T", "a", MESSAGE(.durability = BGMQ_MEMORY));
        struct bgmq_message *m = flow_take(mq, "mq:T.inq");
        struct settler s[2] = {{m, &together, 0}, {m, &together, 0}};
        pthread_t t[2] = {harness_thread(settle, &s[0]), harness_thread(settle, &s[1])};
        harness_join(t[0]);
        harness_join(t[1]);
        ck_assert_int_eq(s[0].result + s[1].result, BGMQ_ELOST);
        bgmq_message_free(m);
    }
    barrier_fini(&together);
    flow_close(mq);
}
END_TEST

/* It needs no ack, so nothing of the service. */
START_TEST(a_reply_outlives_its_service)
{
    struct recorder r;
    struct bgmq_message *reply;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    OK(bgmq_request(mq, "T", "a", 1, NULL, flow_patience(), &reply));
    flow_close(mq);
    flow_expect_body(reply, "a");
    bgmq_message_free(reply);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hunt");
    TCase *tc = flow_case(s, "window");
    tcase_add_test(tc, a_flood_without_rows_does_not_bury_those_with_rows);
    tcase_add_test(tc, a_batch_committed_late_does_not_bury_those_before_it);
    tcase_add_test(tc, far_delays_without_rows_do_not_hold_up_near_ones_with_rows);
    tcase_add_test(tc, a_load_that_failed_is_tried_again);
    tc = flow_case(s, "dead");
    tcase_add_test(tc, many_may_look_for_the_dead_at_once);
    tcase_add_test(tc, a_corrupt_body_is_not_raised_from_the_dead);
    tc = flow_case(s, "keys");
    flow_add_both(tc, who_has_ended_does_not_give_away_the_key_of_its_successor);
    flow_add_both(tc, who_was_dead_does_not_give_away_the_key_of_its_successor);
    tc = flow_case(s, "verdicts");
    flow_add_both(tc, on_error_that_wants_more_than_max_attempts_hears_of_no_crash);
    tcase_add_test(tc, an_outcome_whose_row_is_gone_counts_as_lost);
    tc = flow_case(s, "messages");
    flow_add_both(tc, of_two_acks_at_once_one_is_lost);
    flow_add_both(tc, a_reply_outlives_its_service);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
