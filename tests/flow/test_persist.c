/* test_persist.c - what a database holds after a close, what is found again at open, and what
 * each level of durability keeps. */
#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- found again ---------------------------------------------------------------- */

START_TEST(unfinished_are_found_again_and_finished_are_gone)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 5);
    flow_wait_ended(mq, "T", 5);
    r.verdict = BGMQ_PERMANENT;
    r.code = "Bad";
    uint64_t dead = flow_publish(mq, "T", "dead");
    flow_wait_ended(mq, "T", 6);
    OK(bgmq_stop(mq, 0));
    r.verdict = BGMQ_DONE;
    uint64_t waiting = flow_publish(mq, "T", "waiting");
    uint64_t urgent = flow_publish_with(mq, "T", "urgent", MESSAGE(.priority = 3));
    flow_publish_with(mq, "T", "later", MESSAGE(.delay_ms = 3600 * 1000));
    uint64_t taken = flow_publish(mq, "Other", "taken");
    struct bgmq_message *m = flow_take(mq, "mq:Other.inq");
    OK(bgmq_close(mq));
    bgmq_message_free(m);
    bgmq_free(mq);
    ck_assert_int_eq(flow_rows(), 5);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 0);

    mq = flow_open(1);
    ck_assert_uint_eq(flow_counters(mq).replayed, 4);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_int_eq(c.registered, 0);
    ck_assert_uint_eq(c.inq, 1);
    ck_assert_uint_eq(c.priorityq, 1);
    ck_assert_uint_eq(c.delayed, 1);
    ck_assert_uint_eq(c.dlq, 1);
    ck_assert_uint_eq(c.outq, 0);
    ck_assert_uint_eq(flow_expect(mq, "mq:T.inq", "waiting"), waiting);
    ck_assert_uint_eq(flow_expect(mq, "mq:T.priorityq", "urgent"), urgent);
    ck_assert_uint_eq(flow_expect(mq, "mq:Other.inq", "taken"), taken);
    m = flow_take(mq, "mq:T.dlq");
    ck_assert_uint_eq(bgmq_message_id(m), dead);
    ck_assert_str_eq(bgmq_message_error_code(m), "Bad");
    ck_assert_uint_eq(bgmq_message_attempts(m), 1);
    flow_done(m);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 1);
    recorder_fini(&r);
}
END_TEST

START_TEST(everything_about_a_message_is_found_again)
{
    static const char *const meta[] = {"user", "7", "\303\251", "", NULL};
    struct bgmq *mq = flow_open(1);
    uint64_t id = flow_publish_with(
        mq, "T", "body",
        MESSAGE(.priority = 12, .tag = "tag", .traceparent = "00-1-2-3", .meta = meta,
                .reply_to = "back", .reply_id = 77, .max_attempts = 3));
    flow_close(mq);
    mq = flow_open(1);
    struct bgmq_message *m = flow_take(mq, "mq:T.priorityq");
    flow_expect_body(m, "body");
    ck_assert_uint_eq(bgmq_message_id(m), id);
    ck_assert_str_eq(bgmq_message_type(m), "T");
    ck_assert_int_eq(bgmq_message_priority(m), 12);
    ck_assert_str_eq(bgmq_message_tag(m), "tag");
    ck_assert_str_eq(bgmq_message_traceparent(m), "00-1-2-3");
    ck_assert_str_eq(bgmq_message_meta(m, "user"), "7");
    ck_assert_str_eq(bgmq_message_meta(m, "\303\251"), "");
    ck_assert_str_eq(bgmq_message_reply_to(m), "back");
    ck_assert_uint_eq(bgmq_message_reply_id(m), 77);
    ck_assert_uint_eq(bgmq_message_attempts(m), 0);
    flow_done(m);
    flow_close(mq);
}
END_TEST

START_TEST(attempts_are_remembered)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 2;
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r,
                       TYPE(.backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 300000));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    flow_close(mq);
    mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.backoff = BGMQ_BACKOFF_NONE));
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    ck_assert_int_eq(bgmq_retry_pending(mq, NULL), 1);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 2);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(r.calls[i].attempt, i + 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* Accepted, never handled, the service opened and closed without the type being registered. */
START_TEST(messages_wait_for_a_late_registration_across_restarts)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_publish_numbers(mq, "Late", 20);
    flow_close(mq);
    for (int i = 0; i < 3; i++) {
        mq = flow_open(1);
        OK(bgmq_start(mq));
        struct bgmq_collection c = flow_collection(mq, "Late");
        ck_assert_int_eq(c.registered, 0);
        ck_assert_uint_eq(c.inq, 20);
        flow_close(mq);
    }
    mq = flow_open(1);
    OK(bgmq_start(mq));
    flow_register(mq, "Late", &r);
    flow_wait_ended(mq, "Late", 20);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(strtol(recorder_call(&r, (size_t)i).body, NULL, 10), i);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(ids_are_never_used_again)
{
    uint64_t last = 0;
    for (int i = 0; i < 4; i++) {
        struct bgmq *mq = flow_open(1);
        for (int k = 0; k < 3; k++) {
            uint64_t id = flow_publish_with(mq, "T", "x", MESSAGE(.durability = k + 1));
            ck_assert_uint_gt(id, last);
            last = id;
        }
        while (flow_collection(mq, "T").inq)
            flow_done(flow_take(mq, "mq:T.inq"));
        flow_close(mq);
    }
}
END_TEST

START_TEST(dead_come_back_after_a_restart)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(1);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 3);
    flow_wait_ended(mq, "T", 3);
    flow_close(mq);
    r.failures = 0;
    mq = flow_open(1);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 3);
    ck_assert_int_eq(bgmq_retry_dead(mq, "T", 0), 3);
    flow_wait_ended(mq, "T", 3);
    ck_assert_uint_eq(recorder_call(&r, 3).attempt, 1);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(delayed_run_after_a_restart)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_publish_with(mq, "T", "b", MESSAGE(.delay_ms = 60));
    flow_publish_with(mq, "T", "a", MESSAGE(.delay_ms = 20));
    flow_close(mq);
    mq = flow_open(1);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 2);
    char order[16];
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "a b ");
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(responses_and_replies_to_types_are_found_again)
{
    struct recorder r;
    recorder_init(&r);
    r.response = "Answer";
    struct bgmq *mq = flow_open(1);
    flow_register(mq, "Ask", &r);
    OK(bgmq_start(mq));
    uint64_t id = flow_publish_with(mq, "Ask", "a", MESSAGE(.tag = "kept"));
    flow_publish_with(mq, "Ask", "b", MESSAGE(.reply_to = "mq:Box.inq"));
    flow_wait_ended(mq, "Ask", 2);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 2);
    mq = flow_open(1);
    struct bgmq_message *m = flow_take(mq, "mq:Answer.inq");
    flow_expect_body(m, "re:a");
    ck_assert_str_eq(bgmq_message_tag(m), "kept");
    ck_assert_uint_gt(bgmq_message_id(m), id);
    flow_done(m);
    m = flow_take(mq, "mq:Box.inq");
    flow_expect_body(m, "re:b");
    ck_assert_str_eq(bgmq_message_type(m), "Answer");
    ck_assert_uint_ne(bgmq_message_reply_id(m), 0);
    flow_done(m);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* _i is an enum bgmq_history. */
START_TEST(history_keeps_what_it_is_told)
{
    static const long rows[] = {0, 2, 5};
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.history = (enum bgmq_history)_i));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 3);
    flow_wait_ended(mq, "T", 3);
    r.verdict = BGMQ_PERMANENT;
    r.code = "Bad";
    flow_publish(mq, "T", "dead");
    flow_wait_ended(mq, "T", 4);
    r.verdict = BGMQ_DISCARD;
    flow_publish(mq, "T", "discarded");
    flow_wait_ended(mq, "T", 5);
    flow_close(mq);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_history"), rows[_i]);
    ck_assert_int_eq(
        flow_sql("SELECT count(*) FROM bgmq_history WHERE outcome = 'dead' AND "
                 "error_code = 'Bad' AND attempts = 1"),
        _i > 0);
    ck_assert_int_eq(flow_rows(), 1);
    recorder_fini(&r);
}
END_TEST

/* ---- levels --------------------------------------------------------------------- */

START_TEST(receipt_names_the_level)
{
    struct bgmq *mq = flow_open(1);
    for (int level = BGMQ_MEMORY; level <= BGMQ_DISK; level++) {
        struct bgmq_receipt receipt = {0};
        OK(bgmq_publish(mq, "T", "x", 1,
                        &MESSAGE(.durability = (enum bgmq_durability)level), &receipt));
        ck_assert_int_eq((int)receipt.level, level);
    }
    struct bgmq_receipt receipt = {0};
    OK(bgmq_publish(mq, "T", "x", 1, NULL, &receipt));
    ck_assert_int_eq((int)receipt.level, BGMQ_DISK);
    flow_close(mq);
    mq = flow_open(0);
    OK(bgmq_publish(mq, "T", "x", 1, NULL, &receipt));
    ck_assert_int_eq((int)receipt.level, BGMQ_MEMORY);
    flow_close(mq);
}
END_TEST

START_TEST(level_of_the_type_and_of_the_service)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq_receipt receipt = {0};
    struct bgmq *mq = flow_open_with(1, SERVICE(.durability = BGMQ_COMMIT));
    flow_register_with(mq, "Behind", &r, TYPE(.durability = BGMQ_BEHIND));
    OK(bgmq_publish(mq, "T", "x", 1, NULL, &receipt));
    ck_assert_int_eq((int)receipt.level, BGMQ_COMMIT);
    OK(bgmq_publish(mq, "Behind", "x", 1, NULL, &receipt));
    ck_assert_int_eq((int)receipt.level, BGMQ_BEHIND);
    OK(bgmq_publish(mq, "Behind", "x", 1, &MESSAGE(.durability = BGMQ_DISK), &receipt));
    ck_assert_int_eq((int)receipt.level, BGMQ_DISK);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(memory_level_ends_with_the_process)
{
    struct bgmq *mq = flow_open(1);
    flow_publish_with(mq, "T", "x", MESSAGE(.durability = BGMQ_MEMORY));
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(committed_levels_are_in_the_file_when_publish_returns)
{
    struct bgmq *mq = flow_open(1);
    flow_publish_with(mq, "T", "x", MESSAGE(.durability = BGMQ_COMMIT));
    ck_assert_int_eq(flow_rows(), 1);
    flow_publish_with(mq, "T", "y", MESSAGE(.durability = BGMQ_DISK));
    ck_assert_int_eq(flow_rows(), 2);
    ck_assert_uint_ge(flow_counters(mq).commits, 2);
    flow_close(mq);
}
END_TEST

START_TEST(flush_brings_behind_to_the_file)
{
    struct bgmq *mq =
        flow_open_with(1, SERVICE(.flush_interval_ms = 3600 * 1000, .flush_batch = 4096));
    for (int i = 0; i < 100; i++)
        flow_publish_with(mq, "T", "x", MESSAGE(.durability = BGMQ_BEHIND));
    OK(bgmq_flush(mq));
    ck_assert_int_eq(flow_rows(), 100);
    struct bgmq_counters c = flow_counters(mq);
    ck_assert_uint_eq(c.journal_waiting, 0);
    ck_assert_uint_ge(c.commits, 1);
    ck_assert_int_eq(c.store_state, 1);
    for (int i = 0; i < 100; i++)
        flow_done(flow_take(mq, "mq:T.inq"));
    OK(bgmq_flush(mq));
    ck_assert_int_eq(flow_rows(), 0);
    flow_close(mq);
}
END_TEST

START_TEST(behind_gets_there_by_itself_and_at_close)
{
    struct bgmq *mq = flow_open_with(1, SERVICE(.flush_interval_ms = 1));
    flow_publish_with(mq, "T", "x", MESSAGE(.durability = BGMQ_BEHIND));
    WAIT_UNTIL(flow_rows() == 1);
    flow_close(mq);
    mq = flow_open_with(1, SERVICE(.flush_interval_ms = 3600 * 1000));
    flow_publish_with(mq, "T", "y", MESSAGE(.durability = BGMQ_BEHIND));
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

START_TEST(flush_of_memory_is_nothing)
{
    struct bgmq *mq = flow_open(0);
    flow_publish(mq, "T", "x");
    OK(bgmq_flush(mq));
    ck_assert_uint_eq(flow_counters(mq).commits, 0);
    ck_assert_int_eq(flow_counters(mq).store_state, 0);
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("persist");
    TCase *tc = flow_case(s, "found again");
    tcase_add_test(tc, unfinished_are_found_again_and_finished_are_gone);
    tcase_add_test(tc, everything_about_a_message_is_found_again);
    tcase_add_test(tc, attempts_are_remembered);
    tcase_add_test(tc, messages_wait_for_a_late_registration_across_restarts);
    tcase_add_test(tc, ids_are_never_used_again);
    tcase_add_test(tc, dead_come_back_after_a_restart);
    tcase_add_test(tc, delayed_run_after_a_restart);
    tcase_add_test(tc, responses_and_replies_to_types_are_found_again);
    tcase_add_loop_test(tc, history_keeps_what_it_is_told, BGMQ_HISTORY_OFF,
                        BGMQ_HISTORY_ALL + 1);
    tc = flow_case(s, "levels");
    tcase_add_test(tc, receipt_names_the_level);
    tcase_add_test(tc, level_of_the_type_and_of_the_service);
    tcase_add_test(tc, memory_level_ends_with_the_process);
    tcase_add_test(tc, committed_levels_are_in_the_file_when_publish_returns);
    tcase_add_test(tc, flush_brings_behind_to_the_file);
    tcase_add_test(tc, behind_gets_there_by_itself_and_at_close);
    tcase_add_test(tc, flush_of_memory_is_nothing);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
