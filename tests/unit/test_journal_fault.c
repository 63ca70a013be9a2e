/* test_journal_fault.c - the journal on a store that is busy, full, refuses, or fails for good. */
#include "journal.h"

#include "fake_store.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct rig rig;
static struct rig *const r = &rig;
static char name_a[] = "a";

/* ---- busy -------------------------------------------------------------------------- */

START_TEST(busy_is_tried_again)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_BUSY, 3);
    rig_add(r, 1, BGMQ_BEHIND);
    ck_assert_int_eq(rig_await(rig_publish(r, 2, 2)), 0);
    rig_expect(r, "[1 2 3]!");
    rig_expect_events(r, "1 2 3 ");
    ck_assert_int_eq(counter_value(&r->store.failed), 3);
    ck_assert_int_eq(rig_state(r), JOURNAL_GOOD);
    rig_close(r);
}
END_TEST

START_TEST(busy_is_told_while_it_lasts)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_BUSY, -1);
    struct ticket *t = rig_publish(r, 1, 1);
    counter_wait(&r->store.failed, 3);
    ck_assert_int_eq(rig_state(r), JOURNAL_RETRYING);
    ck_assert_uint_eq(rig_waiting(r), 1);
    ck_assert_int_eq(bgmqi_journal_timeout_err(r->journal), BGMQ_EBUSY);
    ck_assert(!bgmqi_journal_failed(r->journal));
    fake_fail(&r->store, 0, 0);
    ck_assert_int_eq(rig_await(t), 0);
    ck_assert_int_eq(rig_state(r), JOURNAL_GOOD);
    rig_close(r);
}
END_TEST

/* What arrives meanwhile is written in its order, after what waits. */
START_TEST(busy_keeps_the_order)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_BUSY, -1);
    rig_add(r, 1, BGMQ_BEHIND);
    struct ticket *first = rig_publish(r, 2, 1);
    counter_wait(&r->store.failed, 1);
    struct ticket *second = rig_publish(r, 3, 2);
    rig_add(r, 5, BGMQ_BEHIND);
    counter_wait(&r->store.failed, 3);
    fake_fail(&r->store, 0, 0);
    ck_assert_int_eq(rig_await(first), 0);
    ck_assert_int_eq(rig_await(second), 0);
    rig_flush(r);
    rig_expect_events(r, "1 2 3 4 5 ");
    rig_close(r);
}
END_TEST

START_TEST(busy_leaves_an_insert_to_be_taken_back)
{
    rig_open(r, NEVER_MS, 2);
    fake_fail(&r->store, STORE_FAIL_BUSY, -1);
    struct message *m = rig_message(1);
    rig_add_message(r, m);
    rig_add(r, 2, BGMQ_BEHIND);
    counter_wait(&r->store.failed, 1);
    /* Between two tries; a try that is under way has it for a moment. */
    WAIT_UNTIL(bgmqi_journal_take_back(m));
    fake_fail(&r->store, 0, 0);
    counter_wait(&r->committed, 1);
    rig_expect(r, "[2]");
    bgmqi_message_unref(m);
    rig_close(r);
}
END_TEST

/* A group nobody waits for loses its last member, and is then returned to the queue: alone
 * there, or before another group. */
START_TEST(busy_group_without_its_last_member)
{
    rig_open(r, NEVER_MS, 2);
    fake_fail(&r->store, STORE_FAIL_BUSY, 2);
    struct journal_entry *a = rig_entry(1, BGMQ_BEHIND), *b = rig_entry(2, BGMQ_BEHIND);
    a->op.msg = rig_message(1);
    b->op.msg = rig_message(2);
    a->next = b;
    ck_assert(bgmqi_journal_take_back(b->op.msg));
    bgmqi_journal_add(r->journal, a, b);
    struct ticket *t = NULL;
    if (_i) {
        counter_wait(&r->store.failed, 1);
        t = rig_publish(r, 3, 1);
    }
    counter_wait(&r->committed, 1);
    ck_assert(!_i || rig_await(t) == 0);
    rig_expect_events(r, _i ? "2:BGMQ_ELOST 1 3 " : "2:BGMQ_ELOST 1 ");
    rig_close(r);
}
END_TEST

START_TEST(busy_publisher_gives_up)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_BUSY, -1);
    struct ticket *t = rig_publish(r, 1, 2);
    counter_wait(&r->store.failed, 2);
    ck_assert_int_eq(rig_give_up(t), BGMQ_ETIMEOUT);
    ck_assert_int_eq(bgmqi_journal_timeout_err(r->journal), BGMQ_EBUSY);
    counter_wait(&r->dropped, 2);
    fake_fail(&r->store, 0, 0);
    ck_assert_int_eq(rig_await(rig_publish(r, 3, 1)), 0);
    rig_expect(r, "[3]!");
    rig_expect_events(r, "1:BGMQ_EBUSY 2:BGMQ_EBUSY 3 ");
    rig_close(r);
}
END_TEST

/* ---- full -------------------------------------------------------------------------- */

START_TEST(full_publisher_gives_up_and_others_go_on)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_FULL, -1);
    rig_add(r, 1, BGMQ_BEHIND); /* a completion, say: it is kept */
    struct ticket *t = rig_publish(r, 2, 1);
    counter_wait(&r->store.failed, 2);
    ck_assert_int_eq(rig_give_up(t), BGMQ_ETIMEOUT);
    ck_assert_int_eq(bgmqi_journal_timeout_err(r->journal), BGMQ_EFULL);
    counter_wait(&r->dropped, 1);
    WAIT_UNTIL(rig_waiting(r) == 1);
    fake_fail(&r->store, 0, 0);
    counter_wait(&r->committed, 1); /* by itself */
    rig_expect(r, "[1]");
    ck_assert_int_eq(rig_await(rig_publish(r, 3, 1)), 0);
    rig_expect(r, "[1][3]!");
    ck_assert_int_eq(rig_state(r), JOURNAL_GOOD);
    rig_close(r);
}
END_TEST

START_TEST(full_is_logged_once)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_FULL, 4);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), 0);
    ck_assert_int_eq(harness_log_count(&r->log, BGMQ_LOG_WARNING), 1);
    ck_assert(harness_log_has(&r->log, "the fake store says"));
    rig_close(r);
}
END_TEST

START_TEST(full_no_more_is_not_said_again)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_FULL, 1);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), 0);
    rig_hold(r, 2); /* a transaction that takes its time, on a disk with room */
    ck_assert_int_eq(rig_give_up(rig_publish(r, 3, 1)), BGMQ_ETIMEOUT);
    ck_assert_int_eq(bgmqi_journal_timeout_err(r->journal), BGMQ_EBUSY);
    gate_open(&r->store.gate);
    rig_close(r);
}
END_TEST

/* With nothing left to try, it is good again: ids are reserved, so others may come and try. */
START_TEST(full_ends_when_nothing_is_left_to_try)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_FULL, -1);
    struct ticket *t = rig_publish(r, 1, 1);
    counter_wait(&r->store.failed, 1);
    ck_assert_int_eq(rig_give_up(t), BGMQ_ETIMEOUT);
    counter_wait(&r->dropped, 1);
    fake_refuse_ids(&r->store, 1);
    while (bgmqi_journal_next_id(r->journal))
        ;
    fake_refuse_ids(&r->store, 0);
    WAIT_UNTIL(bgmqi_journal_next_id(r->journal) != 0);
    ck_assert_int_eq(rig_state(r), JOURNAL_GOOD);
    rig_close(r);
}
END_TEST

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The writer sleeps between its tries, also when the last commit is long ago (the check-point
 * of an idle database is then due, and cannot be made). */
START_TEST(full_for_long_costs_no_time)
{
    rig_open_lazy(r);
    rig_flush(r);
    fake_fail(&r->store, STORE_FAIL_FULL, -1);
    rig_add(r, 1, BGMQ_BEHIND);
    rig_add(r, 2, BGMQ_DISK);
    bgmqi_ticket_release(rig_publish(r, 3, 1));
    int64_t begin = harness_now();
    long n = 0;
    while (harness_now() - begin < 5200 * INT64_C(1000000))
        counter_wait(&r->store.failed, ++n);
    int64_t cpu = cpu_ns(), wall = harness_now();
    counter_wait(&r->store.failed, counter_value(&r->store.failed) + 1);
    ck_assert_int_lt(cpu_ns() - cpu, (harness_now() - wall) / 4);
    fake_fail(&r->store, 0, 0);
    rig_close(r);
}
END_TEST

/* ---- refused ----------------------------------------------------------------------- */

START_TEST(only_the_guilty_group_is_refused)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    fake_blame(&r->store, 4);
    rig_add(r, 2, BGMQ_BEHIND);
    struct ticket *bad = rig_publish(r, 3, 3), *good = rig_publish(r, 6, 2);
    gate_open(&r->store.gate);
    ck_assert_int_eq(rig_await(bad), BGMQ_ESTORE);
    ck_assert_int_eq(rig_await(good), 0);
    rig_expect(r, "[1]![2][6 7]!");
    rig_expect_events(r, "1 2 3:BGMQ_ESTORE 4:BGMQ_ESTORE 5:BGMQ_ESTORE 6 7 ");
    ck_assert_int_eq(harness_log_count(&r->log, BGMQ_LOG_ERROR), 1);
    ck_assert_int_eq(rig_state(r), JOURNAL_GOOD);
    rig_close(r);
}
END_TEST

START_TEST(batches_are_whole_again_after_a_refusal)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    fake_blame(&r->store, 3);
    rig_add(r, 2, BGMQ_BEHIND);
    rig_add(r, 3, BGMQ_BEHIND);
    rig_add(r, 4, BGMQ_BEHIND);
    struct journal_load load = {.owner = name_a};
    bgmqi_journal_ask_load(r->journal, &load); /* gets the writer up */
    gate_open(&r->store.gate);
    counter_wait(&r->loads, 1);
    rig_add(r, 5, BGMQ_BEHIND);
    rig_add(r, 6, BGMQ_BEHIND);
    rig_flush(r);
    rig_expect(r, "[1]![2][4](a)[5 6 0]!");
    rig_close(r);
}
END_TEST

/* Else no save of that attempt would ever be written again. */
START_TEST(progress_that_was_refused_may_be_sent_again)
{
    struct budget budget = {.max = 1000};
    rig_open_lazy(r);
    struct progress *p = bgmqi_progress_new(&budget);
    p->queued = true;
    fake_blame(&r->store, 1);
    struct journal_entry *e = rig_entry(1, BGMQ_BEHIND);
    e->op.kind = STORE_PROGRESS;
    e->op.progress = bgmqi_progress_ref(p);
    bgmqi_journal_add(r->journal, e, e);
    rig_flush(r);
    ck_assert_int_eq(harness_log_count(&r->log, BGMQ_LOG_ERROR), 1);
    ck_assert(!p->queued);
    rig_close(r);
    bgmqi_progress_unref(p);
}
END_TEST

START_TEST(refused_alone)
{
    rig_open_lazy(r);
    fake_blame(&r->store, 1);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), BGMQ_ESTORE);
    ck_assert_int_eq(rig_await(rig_publish(r, 2, 1)), 0);
    rig_expect(r, "[2]!");
    rig_close(r);
}
END_TEST

/* ---- failed for good --------------------------------------------------------------- */

START_TEST(failed_commit_is_uncertain_and_then_all_is_refused)
{
    rig_open_lazy(r);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), 0);
    rig_hold(r, 2);
    fake_fail(&r->store, STORE_FAIL_NONE, 1); /* that one is fine still */
    struct ticket *in = rig_publish(r, 3, 2);
    gate_open(&r->store.gate);
    ck_assert_int_eq(rig_await(in), 0);

    gate_shut(&r->store.gate);
    long n = counter_value(&r->store.begun);
    in = rig_publish(r, 5, 2);
    counter_wait(&r->store.begun, n + 1);
    struct ticket *behind = rig_publish(r, 7, 1);
    fake_fail(&r->store, STORE_FAIL_DEAD, -1);
    gate_open(&r->store.gate);
    ck_assert_int_eq(rig_await(in), BGMQ_EUNCERTAIN);
    ck_assert_int_eq(rig_await(behind), BGMQ_ESTORE);
    ck_assert_int_eq(rig_state(r), JOURNAL_FAILED);
    ck_assert(bgmqi_journal_failed(r->journal));
    ck_assert_int_eq(rig_await(rig_publish(r, 8, 1)), BGMQ_ESTORE);
    ck_assert_int_eq(bgmqi_journal_flush(r->journal, 1000000000), BGMQ_ESTORE);
    ck_assert_int_eq(counter_value(&r->failed), 1);
    ck_assert_int_eq(counter_value(&r->store.begun), n + 1); /* never tried again */
    ck_assert(harness_log_has(&r->log, "the fake store says"));
    rig_close(r);
}
END_TEST

START_TEST(failed_store_drops_what_nobody_waits_for)
{
    rig_open(r, 1, 4);
    fake_fail(&r->store, STORE_FAIL_DEAD, -1);
    rig_add(r, 1, BGMQ_BEHIND);
    counter_wait(&r->dropped, 1);
    rig_add(r, 2, BGMQ_BEHIND);
    counter_wait(&r->dropped, 2);
    rig_expect_events(r, "1:BGMQ_EUNCERTAIN 2:BGMQ_ESTORE ");
    WAIT_UNTIL(rig_waiting(r) == 0);
    rig_close(r);
}
END_TEST

START_TEST(failed_store_still_answers_loads)
{
    struct journal_load load = {.owner = name_a};
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_DEAD, -1);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), BGMQ_EUNCERTAIN);
    bgmqi_journal_ask_load(r->journal, &load);
    counter_wait(&r->loads, 1);
    rig_close(r);
}
END_TEST

START_TEST(failed_store_is_closed_without_giving_ids_back)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_DEAD, -1);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), BGMQ_EUNCERTAIN);
    bgmqi_journal_end(r->journal);
    ck_assert_uint_eq(r->store.returned, 0);
    ck_assert_int_eq(rig_await(rig_publish(r, 2, 1)), BGMQ_ECLOSED);
    rig_close(r);
}
END_TEST

/* As above for a full one: five seconds after its last commit. */
START_TEST(failed_store_costs_no_time)
{
    rig_open(r, 500, 1000000);
    rig_flush(r);
    int64_t begin = harness_now();
    fake_fail(&r->store, STORE_FAIL_DEAD, -1);
    uint64_t id = 1;
    while (harness_now() - begin < 5200 * INT64_C(1000000)) {
        rig_add(r, id, BGMQ_BEHIND);
        counter_wait(&r->dropped, (long)id++);
    }
    int64_t cpu = cpu_ns(), wall = harness_now();
    rig_add(r, id, BGMQ_BEHIND);
    counter_wait(&r->dropped, (long)id);
    ck_assert_int_lt(cpu_ns() - cpu, (harness_now() - wall) / 4);
    rig_close(r);
}
END_TEST

/* ---- the end ----------------------------------------------------------------------- */

START_TEST(end_waits_for_a_busy_store)
{
    rig_open_lazy(r);
    fake_fail(&r->store, STORE_FAIL_BUSY, 4);
    rig_add(r, 1, BGMQ_BEHIND);
    bgmqi_journal_end(r->journal);
    rig_expect(r, "[1]X");
    rig_close(r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal_fault");
    TCase *busy = harness_case(s, "busy");
    tcase_add_test(busy, busy_is_tried_again);
    tcase_add_test(busy, busy_is_told_while_it_lasts);
    tcase_add_test(busy, busy_keeps_the_order);
    tcase_add_test(busy, busy_leaves_an_insert_to_be_taken_back);
    tcase_add_loop_test(busy, busy_group_without_its_last_member, 0, 2);
    tcase_add_test(busy, busy_publisher_gives_up);
    TCase *full = harness_case(s, "full");
    tcase_set_timeout(full, 60);
    tcase_add_test(full, full_publisher_gives_up_and_others_go_on);
    tcase_add_test(full, full_is_logged_once);
    tcase_add_test(full, full_no_more_is_not_said_again);
    tcase_add_test(full, full_ends_when_nothing_is_left_to_try);
    tcase_add_test(full, full_for_long_costs_no_time);
    TCase *refused = harness_case(s, "refused");
    tcase_add_test(refused, only_the_guilty_group_is_refused);
    tcase_add_test(refused, batches_are_whole_again_after_a_refusal);
    tcase_add_test(refused, progress_that_was_refused_may_be_sent_again);
    tcase_add_test(refused, refused_alone);
    TCase *failed = harness_case(s, "failed");
    tcase_set_timeout(failed, 60);
    tcase_add_test(failed, failed_commit_is_uncertain_and_then_all_is_refused);
    tcase_add_test(failed, failed_store_drops_what_nobody_waits_for);
    tcase_add_test(failed, failed_store_still_answers_loads);
    tcase_add_test(failed, failed_store_is_closed_without_giving_ids_back);
    tcase_add_test(failed, failed_store_costs_no_time);
    TCase *end = harness_case(s, "end");
    tcase_add_test(end, end_waits_for_a_busy_store);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
