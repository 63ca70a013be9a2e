/* test_journal_care.c - what the writer of the journal does for its store between batches. */
#include "fake_store.h"
#include "journal_impl.h"

static struct rig rig;

START_TEST(what_is_too_old_goes_by_itself_chunk_by_chunk)
{
    rig_open_lazy(&rig);
    atomic_store(&rig.store.old, 5);
    WAIT_UNTIL(atomic_load(&rig.store.old) == 0);
    atomic_store(&rig.store.old, 1); /* and again later */
    WAIT_UNTIL(atomic_load(&rig.store.old) == 0);
    ck_assert_int_eq(rig_state(&rig), JOURNAL_GOOD);
    rig_close(&rig);
}
END_TEST

/* S10, S11: nobody writes, and it is noticed all the same, within a second and what a busy machine
 * adds. */
START_TEST(file_that_is_gone_is_noticed_at_rest)
{
    rig_open_lazy(&rig);
    int64_t begun = harness_now();
    atomic_store(&rig.store.gone, 1);
    counter_wait(&rig.failed, 1);
    ck_assert_int_le(harness_now() - begun, 3000 * INT64_C(1000000) * harness_scale());
    ck_assert_int_eq(rig_state(&rig), JOURNAL_FAILED);
    ck_assert(harness_log_has(&rig.log, "the fake file is gone"));
    ck_assert_int_eq(rig_await(rig_publish(&rig, 1, 1)), BGMQ_ESTORE);
    rig_expect(&rig, "");
    rig_close(&rig);
}
END_TEST

/* S18.  _i: it is the check that is our own. */
START_TEST(reader_that_holds_the_log_is_reported_once)
{
    const char *line = _i ? "our own check of the database has held its log"
                          : "a reader of the database has held its log";
    rig_open(&rig, 1, 1);
    rig_add(&rig, 1, BGMQ_COMMIT);
    rig_flush(&rig);
    ck_assert(!harness_log_has(&rig.log, "reader"));
    atomic_store(&rig.store.checks, _i);
    atomic_store(&rig.store.held, 7);
    uint64_t id = 2;
    int64_t deadline = harness_deadline();
    while (!harness_log_has(&rig.log, line)) {
        harness_pause(deadline, "a line of the log", __FILE__, __LINE__);
        rig_add(&rig, id++, BGMQ_COMMIT);
        rig_flush(&rig);
    }
    ck_assert(harness_log_has(&rig.log, "(4711 bytes)"));
    for (uint64_t last = id + 20; id < last; id++) {
        rig_add(&rig, id, BGMQ_COMMIT);
        rig_flush(&rig);
    }
    ck_assert_int_eq(harness_log_count(&rig.log, BGMQ_LOG_WARNING), 1);
    atomic_store(&rig.store.held, 0);
    rig_add(&rig, id, BGMQ_COMMIT);
    rig_flush(&rig);
    WAIT_UNTIL(harness_log_has(&rig.log, "nobody holds the log"));
    rig_close(&rig);
}
END_TEST

/* S14. */
START_TEST(check_point_without_room_is_told_once)
{
    rig_open(&rig, 1, 1);
    atomic_store(&rig.store.held, BGMQ_EFULL);
    for (uint64_t id = 1; id <= 20; id++) {
        rig_add(&rig, id, BGMQ_COMMIT);
        rig_flush(&rig);
    }
    WAIT_UNTIL(
        harness_log_has(&rig.log, "no room or memory to check-point the database"));
    ck_assert_int_eq(harness_log_count(&rig.log, BGMQ_LOG_WARNING), 1);
    ck_assert_int_eq(rig_state(&rig), JOURNAL_GOOD);
    rig_close(&rig);
}
END_TEST

static bool sleeps(struct journal *j)
{
    lock_take(&j->lock);
    bool yes = j->sleeping;
    lock_drop(&j->lock);
    return yes;
}

static void do_nothing(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
}

/* It was woken in a hurry, and there was nothing to write: the hurry is over. */
START_TEST(it_sleeps_again_when_nothing_was_added)
{
    rig_open_lazy(&rig);
    ck_assert_int_eq(bgmqi_journal_run(rig.journal, do_nothing, NULL, INT64_MAX / 2), 0);
    WAIT_UNTIL(sleeps(rig.journal));
    rig_add(&rig, 1, BGMQ_BEHIND);
    ck_assert_int_eq(bgmqi_journal_run(rig.journal, do_nothing, NULL, INT64_MAX / 2), 0);
    rig_expect(&rig, "[1]");
    WAIT_UNTIL(sleeps(rig.journal));
    rig_close(&rig);
}
END_TEST

static void find_it_odd(void *ctx, struct store *s)
{
    (void)s;
    atomic_store(&((struct rig *)ctx)->store.warn, 1);
}

START_TEST(word_about_the_store_is_no_failure_whoever_hears_it)
{
    rig_open_lazy(&rig);
    ck_assert_int_eq(bgmqi_journal_run(rig.journal, find_it_odd, &rig, INT64_MAX / 2), 0);
    ck_assert_int_eq(bgmqi_journal_run(rig.journal, do_nothing, NULL, INT64_MAX / 2), 0);
    WAIT_UNTIL(harness_log_has(&rig.log, "the fake file is odd"));
    ck_assert_int_eq(harness_log_count(&rig.log, BGMQ_LOG_WARNING), 1);
    rig_add(&rig, 1, BGMQ_COMMIT);
    rig_flush(&rig);
    ck_assert_int_eq(rig_state(&rig), JOURNAL_GOOD);
    rig_close(&rig);
}
END_TEST

static void lose_the_file(void *ctx, struct store *s)
{
    (void)s;
    atomic_store(&((struct rig *)ctx)->store.gone, 1);
}

/* S16: who reads has met it; nobody has to wait for the next look at rest. */
START_TEST(store_that_fails_while_it_is_read_is_failed_at_once)
{
    rig_open_lazy(&rig);
    rig_add(&rig, 1, BGMQ_COMMIT);
    rig_flush(&rig);
    ck_assert_int_eq(bgmqi_journal_run(rig.journal, lose_the_file, &rig, INT64_MAX / 2),
                     0);
    ck_assert_int_eq(bgmqi_journal_run(rig.journal, do_nothing, NULL, INT64_MAX / 2),
                     BGMQ_ESTORE);
    ck_assert_int_eq(rig_state(&rig), JOURNAL_FAILED);
    rig_close(&rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal_care");
    TCase *tc = harness_case(s, "care");
    tcase_add_test(tc, what_is_too_old_goes_by_itself_chunk_by_chunk);
    tcase_add_test(tc, file_that_is_gone_is_noticed_at_rest);
    tcase_add_test(tc, check_point_without_room_is_told_once);
    tcase_add_test(tc, store_that_fails_while_it_is_read_is_failed_at_once);
    tcase_add_test(tc, word_about_the_store_is_no_failure_whoever_hears_it);
    tcase_add_test(tc, it_sleeps_again_when_nothing_was_added);
    tcase_add_loop_test(tc, reader_that_holds_the_log_is_reported_once, 0, 2);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
