/* test_journal.c - the journal on a store that works: order, batches, who waits for what, and
 * loads. */
#include "journal.h"

#include "fake_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rig rig;
static struct rig *const r = &rig;
static char name_a[] = "a", name_b[] = "b"; /* owners of loads */

static int64_t patience(void)
{
    return harness_deadline() - harness_now();
}

/* ---- order and batches ------------------------------------------------------------- */

START_TEST(order_is_kept)
{
    char want[512] = "[", word[16];
    rig_open_lazy(r);
    for (uint64_t id = 1; id <= 50; id++) {
        rig_add(r, id, BGMQ_BEHIND);
        snprintf(word, sizeof(word), "%llu ", (unsigned long long)id);
        strcat(want, word);
    }
    rig_flush(r); /* an op without an id */
    rig_expect(r, strcat(want, "0]!"));
    rig_close(r);
}
END_TEST

static void *publish_some(void *first)
{
    for (uint64_t i = 0; i < 500; i++)
        rig_add(r, (uint64_t)(uintptr_t)first + i, BGMQ_BEHIND);
    return NULL;
}

/* Of many threads each finds its own entries in its own order, and none lost. */
START_TEST(order_of_each_thread_is_kept)
{
    rig_open(r, 1, 64);
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++)
        t[i] = harness_thread(publish_some, (void *)(1000 * (i + 1)));
    for (int i = 0; i < 4; i++)
        harness_join(t[i]);
    counter_wait(&r->committed, 2000);
    unsigned long next[5] = {0, 1000, 2000, 3000, 4000};
    for (char *p = r->store.text; *p;) {
        unsigned long id = strtoul(p, &p, 10);
        if (id) {
            ck_assert_uint_eq(id, next[id / 1000]);
            next[id / 1000]++;
        }
        p += strspn(p, "[ ]!");
    }
    for (unsigned long i = 1; i < 5; i++)
        ck_assert_uint_eq(next[i], 1000 * i + 500);
    rig_close(r);
}
END_TEST

START_TEST(behind_lingers_until_the_batch_is_full)
{
    rig_open(r, NEVER_MS, 4);
    for (uint64_t id = 1; id <= 3; id++)
        rig_add(r, id, BGMQ_BEHIND);
    rig_expect(r, "");
    ck_assert_uint_eq(rig_waiting(r), 3);
    rig_add(r, 4, BGMQ_BEHIND);
    counter_wait(&r->committed, 4);
    rig_expect(r, "[1 2 3 4]");
    rig_close(r);
}
END_TEST

START_TEST(behind_lingers_for_the_interval)
{
    rig_open(r, 30, 1000);
    int64_t begin = harness_now();
    rig_add(r, 1, BGMQ_BEHIND);
    rig_add(r, 2, BGMQ_BEHIND);
    counter_wait(&r->committed, 2);
    ck_assert_int_ge(harness_now() - begin, 30 * 1000000);
    rig_expect(r, "[1 2]");
    rig_add(r, 3, BGMQ_BEHIND); /* and again */
    counter_wait(&r->committed, 3);
    rig_expect(r, "[1 2][3]");
    rig_close(r);
}
END_TEST

START_TEST(who_waits_takes_the_others_along)
{
    rig_open_lazy(r);
    rig_add(r, 1, BGMQ_BEHIND);
    rig_add(r, 2, BGMQ_BEHIND);
    ck_assert_int_eq(rig_await(rig_publish(r, 3, 1)), 0);
    rig_expect(r, "[1 2 3]!");
    rig_expect_events(r, "1 2 3 "); /* before the publisher returns */
    rig_close(r);
}
END_TEST

START_TEST(batch_fills_while_one_is_written)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    struct ticket *t[3];
    for (uint64_t i = 0; i < 3; i++)
        t[i] = rig_publish(r, i + 2, 1);
    rig_add(r, 5, BGMQ_BEHIND);
    rig_expect(r, "");
    gate_open(&r->store.gate);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(rig_await(t[i]), 0);
    rig_expect(r, "[1]![2 3 4 5]!");
    uint64_t commits, waiting;
    enum journal_state state;
    bgmqi_journal_counts(r->journal, &commits, &waiting, &state);
    ck_assert_uint_eq(commits, 2);
    ck_assert_int_eq(state, JOURNAL_GOOD);
    rig_close(r);
}
END_TEST

/* _i: what is added; synced when some of it has to survive the loss of power. */
START_TEST(only_disk_is_synced)
{
    static const struct {
        enum bgmq_durability level[2];
        const char *want;
    } cases[] = {
        {{BGMQ_BEHIND, BGMQ_BEHIND}, "[1 2]"},
        {{BGMQ_COMMIT, BGMQ_COMMIT}, "[1 2]"},
        {{BGMQ_DISK, BGMQ_BEHIND}, "[1 2]!"},
        {{BGMQ_COMMIT, BGMQ_DISK}, "[1 2]!"},
    };
    rig_open(r, NEVER_MS, 2);
    rig_add(r, 1, cases[_i].level[0]);
    rig_add(r, 2, cases[_i].level[1]);
    counter_wait(&r->committed, 2);
    rig_expect(r, cases[_i].want);
    rig_close(r);
}
END_TEST

START_TEST(group_has_one_transaction_and_all_results)
{
    rig_open_lazy(r);
    struct ticket *t = rig_publish(r, 10, 5);
    ck_assert_int_eq(bgmqi_ticket_wait(t, patience()), 0);
    for (size_t i = 0; i < 5; i++) {
        uint64_t id;
        ck_assert_int_eq(bgmqi_ticket_result(t, i, &id), 0);
        ck_assert_uint_eq(id, 10 + i);
    }
    bgmqi_ticket_release(t);
    rig_expect(r, "[10 11 12 13 14]!");
    rig_close(r);
}
END_TEST

/* Where a batch ends for its length, a group is in the one or in the other. */
START_TEST(group_is_never_split)
{
    enum { GROUP = 3000, GROUPS = 8 };
    rig_open_lazy(r);
    rig_hold(r, 1);
    struct ticket *t[GROUPS];
    for (uint64_t i = 0; i < GROUPS; i++)
        t[i] = rig_publish(r, 10000 * (i + 1), GROUP);
    gate_open(&r->store.gate);
    for (int i = 0; i < GROUPS; i++)
        ck_assert_int_eq(rig_await(t[i]), 0);
    ck_assert_uint_gt(r->store.largest, GROUP); /* they were long enough to be cut */
    ck_assert_uint_lt(r->store.largest, GROUP * GROUPS);
    for (uint64_t i = 0; i < GROUPS; i++) {
        char first[16], last[16];
        snprintf(first, sizeof(first), "%llu ", (unsigned long long)(10000 * (i + 1)));
        snprintf(last, sizeof(last), "%llu",
                 (unsigned long long)(10000 * (i + 1) + GROUP - 1));
        char *begin = strstr(r->store.text, first), *end = strstr(r->store.text, last);
        ck_assert(begin && end && begin < end);
        ck_assert(!memchr(begin, ']', (size_t)(end - begin)));
    }
    rig_close(r);
}
END_TEST

/* A row that somebody else took away is reported to its owner, asked for or not. */
START_TEST(lost_row_is_reported)
{
    rig_open(r, NEVER_MS, 2);
    fake_lose(&r->store, 2);
    struct journal_entry *e[2];
    for (uint64_t i = 0; i < 2; i++) {
        e[i] = rig_entry(i + 1, BGMQ_BEHIND);
        e[i]->tell = false;
        e[i]->op.owner = r;
        bgmqi_journal_add(r->journal, e[i], e[i]);
    }
    counter_wait(&r->committed, 1);
    rig_flush(r);
    rig_expect_events(r, "2:lost untold ");
    struct ticket *t = rig_publish(r, 2, 1);
    ck_assert_int_eq(bgmqi_ticket_wait(t, patience()), 0);
    uint64_t id;
    ck_assert_int_eq(bgmqi_ticket_result(t, 0, &id), BGMQ_ELOST);
    bgmqi_ticket_release(t);
    rig_expect_events(r, "2:lost untold 2:lost ");
    rig_close(r);
}
END_TEST

START_TEST(crowd_is_told)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    ck_assert(!bgmqi_journal_crowded(r->journal));
    for (uint64_t i = 0; i < 70000; i++)
        rig_add(r, 2, BGMQ_BEHIND);
    ck_assert(bgmqi_journal_crowded(r->journal));
    gate_open(&r->store.gate);
    rig_flush(r);
    WAIT_UNTIL(rig_waiting(r) == 0);
    ck_assert(!bgmqi_journal_crowded(r->journal));
    rig_close(r);
}
END_TEST

/* ---- taking back ------------------------------------------------------------------- */

START_TEST(insert_taken_back_is_not_written)
{
    rig_open_lazy(r);
    struct message *m[3];
    for (uint64_t i = 0; i < 3; i++)
        rig_add_message(r, m[i] = rig_message(i + 1));
    ck_assert(bgmqi_journal_take_back(m[1]));
    ck_assert(!bgmqi_journal_take_back(m[1]));
    rig_flush(r);
    rig_expect(r, "[1 3 0]!");
    rig_expect_events(r, "2:BGMQ_ELOST 1 3 ");
    ck_assert(!bgmqi_journal_give_back(m[1])); /* the journal has passed it */
    ck_assert(bgmqi_journal_take_back(m[1]));  /* it waits for its next INSERT */
    for (int i = 0; i < 3; i++) {
        ck_assert(!bgmqi_journal_take_back(m[i])); /* too late */
        WAIT_UNTIL(atomic_load(&m[i]->refs) == 1);
        bgmqi_message_unref(m[i]);
    }
    rig_close(r);
}
END_TEST

START_TEST(insert_being_written_is_not_taken_back)
{
    rig_open_lazy(r);
    gate_shut(&r->store.gate);
    struct message *m = rig_message(1);
    rig_add_message(r, m);
    struct ticket *t = rig_publish(r, 2, 1);
    counter_wait(&r->store.begun, 1);
    ck_assert(!bgmqi_journal_take_back(m));
    gate_open(&r->store.gate);
    ck_assert_int_eq(rig_await(t), 0);
    rig_expect(r, "[1 2]!");
    bgmqi_message_unref(m);
    rig_close(r);
}
END_TEST

/* All that there was is taken back: no transaction for nothing. */
START_TEST(nothing_left_is_no_transaction)
{
    rig_open(r, NEVER_MS, 2);
    struct message *m[2];
    rig_add_message(r, m[0] = rig_message(1));
    ck_assert(bgmqi_journal_take_back(m[0]));
    m[1] = rig_message(2);
    atomic_store(&m[1]->insert, INSERT_CANCELLED);
    rig_add_message(r, m[1]);
    counter_wait(&r->dropped, 2);
    ck_assert_int_eq(counter_value(&r->store.begun), 0);
    rig_close(r);
    bgmqi_message_unref(m[0]);
    bgmqi_message_unref(m[1]);
}
END_TEST

/* ---- recalling --------------------------------------------------------------------- */

/* A message that is to go from memory once it is written. */
static struct message *add_spill(uint64_t id)
{
    struct message *m = rig_message(id);
    atomic_store(&m->insert, INSERT_SPILLED);
    struct journal_entry *e = rig_entry(id, BGMQ_BEHIND);
    e->op.kind = STORE_SPILL;
    e->op.msg = m;
    bgmqi_message_ref(m);
    bgmqi_journal_add(r->journal, e, e);
    return m;
}

static void drop_all(struct message **m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bgmqi_message_unref(m[i]);
}

START_TEST(spill_that_is_recalled_is_an_insert_nobody_hears_of)
{
    rig_open_lazy(r);
    struct message *m[3];
    for (uint64_t i = 0; i < 3; i++)
        m[i] = add_spill(i + 1);
    ck_assert(bgmqi_journal_recall(m[1]));
    rig_flush(r);
    rig_expect(r, "[spill 1 2 spill 3 0]!");
    rig_expect_events(r, "1 3 ");
    ck_assert(!bgmqi_journal_take_back(m[1])); /* too late */
    rig_close(r);
    drop_all(m, 3);
}
END_TEST

START_TEST(spill_that_is_recalled_may_be_taken_back)
{
    rig_open_lazy(r);
    struct message *m[2] = {add_spill(1), add_spill(2)};
    ck_assert(!bgmqi_journal_take_back(m[0])); /* it is in no worker's hands */
    ck_assert(bgmqi_journal_recall(m[0]));
    ck_assert(bgmqi_journal_take_back(m[0]));
    rig_flush(r);
    rig_expect(r, "[spill 2 0]!");
    rig_expect_events(r, "2 ");
    rig_close(r);
    drop_all(m, 2);
}
END_TEST

/* Whoever takes it to its place while it is written learns that it is a row of BACKLOG. */
START_TEST(spill_being_written_is_passed)
{
    rig_open_lazy(r);
    gate_shut(&r->store.gate);
    struct message *m[1] = {add_spill(1)};
    struct ticket *t = rig_publish(r, 2, 1);
    counter_wait(&r->store.begun, 1);
    ck_assert(!bgmqi_journal_recall(m[0]));
    ck_assert(!bgmqi_journal_take_back(m[0]));
    gate_open(&r->store.gate);
    ck_assert_int_eq(rig_await(t), 0);
    rig_expect(r, "[spill 1 2]!");
    rig_expect_events(r, "1 2 ");
    ck_assert_uint_eq(atomic_load(&m[0]->insert), INSERT_PASSED);
    rig_close(r);
    drop_all(m, 1);
}
END_TEST

/* A batch that comes back can be recalled again; what has been passed stays a row of BACKLOG. */
START_TEST(spills_of_a_batch_that_comes_back)
{
    rig_open_lazy(r);
    gate_shut(&r->store.gate);
    fake_fail(&r->store, STORE_FAIL_BUSY, 1);
    struct message *m[3] = {add_spill(1), add_spill(2), add_spill(3)};
    struct ticket *t = rig_publish(r, 4, 1);
    counter_wait(&r->store.begun, 1);
    ck_assert(!bgmqi_journal_recall(m[2]));
    gate_open(&r->store.gate);
    WAIT_UNTIL(atomic_load(&m[0]->insert) == INSERT_SPILLED || rig_recorded(r));
    bool recalled = bgmqi_journal_recall(m[0]); /* unless it is being written already */
    ck_assert_int_eq(rig_await(t), 0);
    rig_expect(r, recalled ? "[1 spill 2 spill 3 4]!" : "[spill 1 spill 2 spill 3 4]!");
    rig_close(r);
    drop_all(m, 3);
}
END_TEST

START_TEST(spill_recalled_before_the_store_fails_is_nobodys_loss)
{
    rig_open_lazy(r);
    rig_hold(r, 1);
    struct message *m[2] = {add_spill(2), add_spill(3)};
    ck_assert(bgmqi_journal_recall(m[0]));
    fake_fail(&r->store, STORE_FAIL_DEAD, 1);
    gate_open(&r->store.gate);
    struct ticket *t = rig_publish(r, 4, 1);
    ck_assert_int_lt(rig_await(t), 0);
    WAIT_UNTIL(counter_value(&r->dropped) == 3);
    pthread_mutex_lock(&r->lock);
    ck_assert_ptr_null(strstr(r->events, "2:"));
    ck_assert_ptr_nonnull(strstr(r->events, "3:"));
    pthread_mutex_unlock(&r->lock);
    rig_close(r);
    drop_all(m, 2);
}
END_TEST

/* ---- loads ------------------------------------------------------------------------- */

START_TEST(load_comes_after_what_was_added_before)
{
    struct journal_load load = {.owner = name_a};
    rig_open_lazy(r);
    rig_add(r, 1, BGMQ_BEHIND);
    rig_add(r, 2, BGMQ_BEHIND);
    bgmqi_journal_ask_load(r->journal, &load);
    counter_wait(&r->loads, 1);
    rig_expect(r, "[1 2](a)");
    rig_close(r);
}
END_TEST

/* Also when both come while the writer is busy with what came earlier. */
START_TEST(load_does_not_overtake_a_write)
{
    struct journal_load load = {.owner = name_a};
    rig_open_lazy(r);
    rig_hold(r, 1);
    rig_add(r, 2, BGMQ_BEHIND);
    bgmqi_journal_ask_load(r->journal, &load);
    gate_open(&r->store.gate);
    counter_wait(&r->loads, 1);
    rig_expect(r, "[1]![2](a)");
    rig_close(r);
}
END_TEST

/* A turn with more than one batch lets loads in between: workers may wait for them. */
START_TEST(load_waits_for_one_batch_of_many)
{
    enum { MORE_THAN_A_BATCH = 700 };
    struct journal_load load = {.owner = name_a};
    struct message *m[MORE_THAN_A_BATCH];
    rig_open_lazy(r);
    rig_hold(r, 1);
    for (uint64_t i = 0; i < MORE_THAN_A_BATCH; i++)
        m[i] = add_spill(i + 2);
    struct ticket *t = rig_publish(r, 1000, 1);
    long begun = counter_value(&r->store.begun);
    gate_open(&r->store.gate);
    counter_wait(&r->store.begun, begun + 1);
    bgmqi_journal_ask_load(r->journal, &load);
    ck_assert_int_eq(rig_await(t), 0);
    counter_wait(&r->loads, 1);
    ck_assert_int_eq(counter_value(&r->store.begun), begun + 2);
    ck_assert_uint_le(r->store.largest, 512);
    rig_close(r);
    drop_all(m, MORE_THAN_A_BATCH);
}
END_TEST

/* So that it brings less while publishers wait. */
START_TEST(load_learns_whether_somebody_waits)
{
    struct journal_load load = {.owner = name_a};
    rig_open(r, NEVER_MS, 2);
    ck_assert_int_eq(rig_await(rig_publish(r, 1, 1)), 0);
    bgmqi_journal_ask_load(r->journal, &load);
    counter_wait(&r->loads, 1);
    ck_assert(r->hurried);
    rig_add(r, 2, BGMQ_BEHIND);
    rig_add(r, 3, BGMQ_BEHIND);
    counter_wait(&r->store.begun, 2);
    bgmqi_journal_ask_load(r->journal, &load);
    counter_wait(&r->loads, 2);
    ck_assert(!r->hurried);
    rig_close(r);
}
END_TEST

START_TEST(load_asked_for_twice_runs_once)
{
    struct journal_load a = {.owner = name_a}, b = {.owner = name_b};
    rig_open_lazy(r);
    rig_hold(r, 1);
    bgmqi_journal_ask_load(r->journal, &a);
    bgmqi_journal_ask_load(r->journal, &b);
    bgmqi_journal_ask_load(r->journal, &a);
    gate_open(&r->store.gate);
    counter_wait(&r->loads, 2);
    rig_flush(r);
    rig_expect(r, "[1]!(a)(b)[0]!");
    rig_close(r);
}
END_TEST

START_TEST(load_may_ask_for_itself)
{
    struct journal_load a = {.owner = name_a};
    rig_open_lazy(r);
    r->again = &a;
    bgmqi_journal_ask_load(r->journal, &a);
    counter_wait(&r->loads, 2);
    rig_expect(r, "(a)(a)");
    rig_close(r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal");
    TCase *batches = harness_case(s, "batches");
    tcase_add_test(batches, order_is_kept);
    tcase_add_test(batches, order_of_each_thread_is_kept);
    tcase_add_test(batches, behind_lingers_until_the_batch_is_full);
    tcase_add_test(batches, behind_lingers_for_the_interval);
    tcase_add_test(batches, who_waits_takes_the_others_along);
    tcase_add_test(batches, batch_fills_while_one_is_written);
    tcase_add_loop_test(batches, only_disk_is_synced, 0, 4);
    tcase_add_test(batches, group_has_one_transaction_and_all_results);
    tcase_add_test(batches, group_is_never_split);
    tcase_add_test(batches, lost_row_is_reported);
    tcase_add_test(batches, crowd_is_told);
    TCase *back = harness_case(s, "take back");
    tcase_add_test(back, insert_taken_back_is_not_written);
    tcase_add_test(back, insert_being_written_is_not_taken_back);
    tcase_add_test(back, nothing_left_is_no_transaction);
    TCase *recalling = harness_case(s, "recalling");
    tcase_add_test(recalling, spill_that_is_recalled_is_an_insert_nobody_hears_of);
    tcase_add_test(recalling, spill_that_is_recalled_may_be_taken_back);
    tcase_add_test(recalling, spill_being_written_is_passed);
    tcase_add_test(recalling, spills_of_a_batch_that_comes_back);
    tcase_add_test(recalling, spill_recalled_before_the_store_fails_is_nobodys_loss);
    TCase *loads = harness_case(s, "loads");
    tcase_add_test(loads, load_comes_after_what_was_added_before);
    tcase_add_test(loads, load_does_not_overtake_a_write);
    tcase_add_test(loads, load_waits_for_one_batch_of_many);
    tcase_add_test(loads, load_learns_whether_somebody_waits);
    tcase_add_test(loads, load_asked_for_twice_runs_once);
    tcase_add_test(loads, load_may_ask_for_itself);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
