/* test_journal_gather.c - whom the writer waits for after a commit, and that nobody waits for the
 * writer meanwhile. */
#include "fake_store.h"

#include <stdlib.h>

#include "journal_impl.h"

static struct journal *j;

static void setup(void)
{
    j = calloc(1, sizeof(*j));
    ck_assert_ptr_nonnull(j);
    j->gather_most = BATCH_CAP;
    j->commit_ns = 400000;
}

static void teardown(void)
{
    free(j);
}

/* RELEASED publishers go, CAME have come meanwhile; how long the writer waits for the rest. */
static int64_t begin(size_t released, size_t came)
{
    j->released = released;
    j->n_waiters = came;
    bgmqi_journal_gather_begin(j, 1000);
    return bgmqi_journal_gather_ns(j, 1000);
}

static void end(size_t came)
{
    j->n_waiters = came;
    bgmqi_journal_gather_end(j);
    ck_assert_uint_eq(j->n_waiters, 0);
    ck_assert_uint_eq(j->gather, 0);
}

START_TEST(all_who_were_released_are_waited_for_half_a_commit)
{
    ck_assert_int_eq(begin(10, 6), 200000);
    j->n_waiters = 15;
    ck_assert_int_eq(bgmqi_journal_gather_ns(j, 101000), 100000);
    ck_assert_int_eq(bgmqi_journal_gather_ns(j, 201000), 0);
    j->n_waiters = 16;
    ck_assert_int_eq(bgmqi_journal_gather_ns(j, 1001), 0);
    end(16);
    j->commit_ns = INT64_C(50000000); /* a slow disk: there is an end to it */
    ck_assert_int_eq(begin(16, 0), 1000000);
}
END_TEST

/* No commit has succeeded yet, so nothing says how long to wait: a writer that waits for others
 * then sleeps for a second. */
START_TEST(nobody_is_waited_for_before_the_first_commit)
{
    j->commit_ns = 0;
    ck_assert_int_eq(begin(10, 0), 0);
    ck_assert_uint_eq(j->gather, 0); /* the next who comes wakes the writer */
}
END_TEST

START_TEST(one_publisher_is_not_waited_for)
{
    ck_assert_int_eq(begin(1, 0), 0);
    ck_assert_int_eq(begin(0, 5), 0); /* nobody was released */
}
END_TEST

START_TEST(vain_waits_become_rare)
{
    unsigned vain = 0;
    for (int i = 0; i < 200; i++) {
        vain += begin(16, 0) > 0;
        end(0);
    }
    ck_assert_uint_ge(vain, 2);
    ck_assert_uint_le(vain, 10);
    ck_assert_uint_eq(j->gather_most, 2);
}
END_TEST

START_TEST(those_who_come_again_are_waited_for_again)
{
    begin(16, 0);
    end(3);
    ck_assert_int_eq(begin(16, 0), 0); /* once without */
    end(16);
    begin(16, 0);
    ck_assert_uint_eq(j->gather, 3); /* no more than came */
    for (int i = 0; i < 500 && j->gather < 16; i++) {
        end(16);
        begin(16, 0);
    }
    ck_assert_uint_eq(j->gather, 16);
}
END_TEST

START_TEST(gathering_ends_when_nobody_comes)
{
    begin(16, 0);
    j->released = 0;
    bgmqi_journal_gather_begin(j, 1000 + 200000);
    ck_assert_uint_eq(j->gather, 0); /* the next who comes wakes the writer */
}
END_TEST

/* A group goes, and one comes back, at once or late: it is not left to wait for the others. */
START_TEST(one_of_many_is_committed_alone)
{
    enum { GROUP = 16, ROUNDS = 50 };
    struct rig *r = calloc(1, sizeof(*r));
    struct ticket *t[GROUP];
    rig_open_lazy(r);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < GROUP; i++)
            t[i] = rig_publish(r, 1, 1);
        for (int i = 0; i < GROUP; i++)
            ck_assert_int_eq(rig_await(t[i]), 0);
        if (round % 2)
            WAIT_UNTIL(rig_waiting(r) == 0);
        ck_assert_int_eq(rig_await(rig_publish(r, 2, 1)), 0);
    }
    rig_close(r);
    free(r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal_gather");
    TCase *c = harness_case(s, "gather");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, all_who_were_released_are_waited_for_half_a_commit);
    tcase_add_test(c, nobody_is_waited_for_before_the_first_commit);
    tcase_add_test(c, one_publisher_is_not_waited_for);
    tcase_add_test(c, vain_waits_become_rare);
    tcase_add_test(c, those_who_come_again_are_waited_for_again);
    tcase_add_test(c, gathering_ends_when_nobody_comes);
    tcase_add_test(c, one_of_many_is_committed_alone);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
