/* test_journal_end.c - the journal's flush and end, on a store that works, and its ids. */
#include "journal.h"

#include "fake_store.h"

static struct rig rig;
static struct rig *const r = &rig;

static int64_t patience(void)
{
    return harness_deadline() - harness_now();
}

/* ---- flush and end ----------------------------------------------------------------- */

static void *flush(void *arg)
{
    rig_flush(arg);
    return NULL;
}

START_TEST(flush_waits_for_all_before_it)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    rig_add(r, 2, BGMQ_BEHIND);
    pthread_t t = harness_thread(flush, r);
    WAIT_UNTIL(rig_waiting(r) == 3);
    gate_open(&r->store.gate);
    harness_join(t);
    rig_expect(r, "[1]![2 0]!");
    rig_flush(r);
    rig_close(r);
}
END_TEST

START_TEST(flush_gives_up)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    ck_assert_int_eq(bgmqi_journal_flush(r->journal, 1000), BGMQ_EBUSY);
    gate_open(&r->store.gate);
    rig_close(r);
}
END_TEST

START_TEST(end_writes_what_is_left)
{
    rig_open_lazy(r);
    for (uint64_t id = 1; id <= 3; id++)
        rig_add(r, id, BGMQ_BEHIND);
    bgmqi_journal_end(r->journal);
    rig_expect(r, "[1 2 3]X");
    rig_expect_events(r, "1 2 3 ");
    bgmqi_journal_end(r->journal);
    rig_expect(r, "[1 2 3]X");
    rig_close(r);
}
END_TEST

static void never(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
    ck_abort_msg("it ran");
}

START_TEST(added_after_the_end_is_refused)
{
    rig_open_lazy(r);
    bgmqi_journal_end(r->journal);
    struct message *m = rig_message(3);
    rig_add_message(r, m);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 2)), BGMQ_ECLOSED);
    ck_assert_int_eq(bgmqi_journal_flush(r->journal, patience()), BGMQ_ECLOSED);
    ck_assert_int_eq(bgmqi_journal_run(r->journal, never, NULL, 1000), BGMQ_ECLOSED);
    rig_expect(r, "X");
    rig_close(r);
    ck_assert_uint_eq(atomic_load(&m->refs), 1);
    bgmqi_message_unref(m);
}
END_TEST

static void *publish_until_closed(void *arg)
{
    for (uint64_t id = 1;; id++) {
        int err = rig_await(rig_publish(arg, id, 2));
        if (err)
            return (void *)(intptr_t)err;
    }
}

/* Publishers meet the end: each group is committed or refused, and nobody waits for ever. */
START_TEST(end_in_a_crowd)
{
    for (int i = 0; i < 50; i++) {
        rig_open_lazy(r);
        pthread_t t[2] = {harness_thread(publish_until_closed, r),
                          harness_thread(publish_until_closed, r)};
        counter_wait(&r->committed, 2);
        bgmqi_journal_end(r->journal);
        for (int k = 0; k < 2; k++)
            ck_assert_int_eq((intptr_t)harness_join(t[k]), BGMQ_ECLOSED);
        rig_close(r);
    }
}
END_TEST

START_TEST(free_of_nothing)
{
    bgmqi_journal_free(NULL);
    bgmqi_journal_entry_free(NULL);
    struct journal_entry *e = rig_entry(1, BGMQ_DISK);
    e->op.msg = rig_message(1);
    e->op.failure = bgmqi_failure_new("c", "t", 0);
    bgmqi_journal_entry_free(e);
}
END_TEST

/* ---- ids --------------------------------------------------------------------------- */

START_TEST(ids_grow_by_one)
{
    rig_open_lazy(r);
    for (uint64_t id = 1; id <= 1000; id++)
        ck_assert_uint_eq(bgmqi_journal_next_id(r->journal), id);
    bgmqi_journal_end(r->journal);
    ck_assert_uint_eq(r->store.returned, 1001); /* the others can be given again */
    rig_close(r);
}
END_TEST

/* Takes ids until there are none; returns how many there were. */
static uint64_t exhaust(uint64_t next)
{
    uint64_t id, n = 0;
    while ((id = bgmqi_journal_next_id(r->journal)) != 0) {
        if (id < next)
            ck_abort_msg("%llu again", (unsigned long long)id);
        next = id + 1;
        if (++n > 16 << 20)
            ck_abort_msg("no end of ids");
    }
    return n;
}

START_TEST(ids_run_out_and_come_again)
{
    rig_open_lazy(r);
    fake_refuse_ids(&r->store, 1);
    ck_assert_uint_gt(exhaust(1), 1000);
    ck_assert_uint_eq(bgmqi_journal_next_id(r->journal), 0);
    fake_refuse_ids(&r->store, 0);
    uint64_t id = 0;
    WAIT_UNTIL((id = bgmqi_journal_next_id(r->journal)) != 0);
    ck_assert_uint_eq(bgmqi_journal_next_id(r->journal), id + 1);
    rig_close(r);
}
END_TEST

START_TEST(ids_are_reserved_before_they_run_out)
{
    rig_open_lazy(r);
    for (int i = 0; i < 600000; i++)
        if (!bgmqi_journal_next_id(r->journal))
            ck_abort_msg("none left at %d", i);
    WAIT_UNTIL(rig_recorded(r));
    rig_expect(r, "R");
    rig_close(r);
}
END_TEST

START_TEST(no_ids_no_journal)
{
    rig_open_lazy(r);
    fake_refuse_ids(&r->store, 1);
    struct journal *other = NULL;
    struct journal_options o = {.flush_batch = 1, .log = &r->logger};
    ck_assert_int_eq(bgmqi_journal_open(&other, &r->store.store, &o), BGMQ_ESTORE);
    ck_assert_ptr_null(other);
    rig_close(r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal_end");
    TCase *end = harness_case(s, "end");
    tcase_add_test(end, flush_waits_for_all_before_it);
    tcase_add_test(end, flush_gives_up);
    tcase_add_test(end, end_writes_what_is_left);
    tcase_add_test(end, added_after_the_end_is_refused);
    tcase_add_test(end, end_in_a_crowd);
    tcase_add_test(end, free_of_nothing);
    TCase *ids = harness_case(s, "ids");
    tcase_add_test(ids, ids_grow_by_one);
    tcase_add_test(ids, ids_run_out_and_come_again);
    tcase_add_test(ids, ids_are_reserved_before_they_run_out);
    tcase_add_test(ids, no_ids_no_journal);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
