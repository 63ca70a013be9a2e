/* test_store_keys.c - unique keys, and the history of what has ended. */
#include "fixture.h"

#include <stdio.h>

static struct store *store;
static struct batch_of *batch;

static void setup(void)
{
    store = fixture_open();
    batch = batch_new();
}

static void teardown(void)
{
    fixture_close(store);
    check_sound();
}

/* Applies the batch and begins the next one. */
static void apply(void)
{
    batch_apply(store, batch);
    batch = batch_new();
}

/* ---- unique keys --------------------------------------------------------------------- */

static struct store_op *with_key(struct store_op *op, const char *key)
{
    batch_carry(op, &(struct bgmq_message_options){.unique_key = key});
    return op;
}

/* Applies one op and returns its result; *ID is what it says then. */
static int apply_one(struct store_op *op, uint64_t *id)
{
    ck_assert_uint_eq(batch->n, 1);
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    int result = op->result;
    if (id)
        *id = op->id;
    batch_free(batch);
    batch = batch_new();
    return result;
}

START_TEST(second_of_a_key_learns_who_has_it)
{
    uint64_t id;
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 1), "k"), NULL), 0);
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 2), "k"), &id), BGMQ_EEXIST);
    ck_assert_uint_eq(id, 1);
    ck_assert_int_eq(apply_one(with_key(batch_spill(batch, 3, 0, 0), "k"), &id),
                     BGMQ_EEXIST);
    ck_assert_uint_eq(id, 1);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_backlog"), 0);
}
END_TEST

START_TEST(keys_of_types_and_other_keys_do_not_meet)
{
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 1), "k"), NULL), 0);
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 2), "K"), NULL), 0);
    struct store_op *op = with_key(batch_insert(batch, 3), "k");
    op->type = 2;
    ck_assert_int_eq(apply_one(op, NULL), 0);
}
END_TEST

START_TEST(twins_in_one_batch)
{
    with_key(batch_insert(batch, 1), "k");
    batch_insert(batch, 2);
    with_key(batch_insert(batch, 3), "k");
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(batch->ops[0].result, 0);
    ck_assert_int_eq(batch->ops[1].result, 0);
    ck_assert_int_eq(batch->ops[2].result, BGMQ_EEXIST);
    ck_assert_uint_eq(batch->ops[2].id, 1);
    batch_free(batch);
}
END_TEST

START_TEST(what_an_op_says_of_an_earlier_try_is_forgotten)
{
    static const int stale[] = {BGMQ_EEXIST, BGMQ_ELOST, 77};
    for (int i = 0; i < 3; i++) {
        with_key(batch_insert(batch, 1), "k")->result = stale[i];
        batch_insert(batch, 2)->result = stale[i];
        batch_spill(batch, 3, LANE_INQ, 0)->result = stale[i];
        batch_add(batch, STORE_MOVE, 2)->result = stale[i];
        batch_add(batch, STORE_UPDATE, 2)->result = stale[i];
        with_key(batch_add(batch, STORE_DELETE_JOB, 1), "k")->result = stale[i];
        batch_add(batch, STORE_DELETE_BACKLOG, 2)->result = stale[i];
        with_key(batch_add(batch, STORE_DELETE_BACKLOG, 3), "l")->result = stale[i];
        batch_add(batch, STORE_NOP, 0)->result = stale[i];
        ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL),
                         STORE_FAIL_NONE);
        for (size_t at = 0; at < batch->n; at++)
            ck_assert_msg(batch->ops[at].result == 0, "op %zu", at);
        batch_free(batch);
        batch = batch_new();
    }
    ck_assert_int_eq(look("SELECT (SELECT count(*) FROM bgmq_job) +"
                          " (SELECT count(*) FROM bgmq_backlog)"),
                     0);
}
END_TEST

START_TEST(end_of_a_message_frees_its_key)
{
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 1), "k"), NULL), 0);
    ck_assert_int_eq(
        apply_one(with_key(batch_add(batch, STORE_DELETE_JOB, 1), "k"), NULL), 0);
    ck_assert_int_eq(apply_one(with_key(batch_spill(batch, 2, 0, 0), "k"), NULL), 0);
    ck_assert_int_eq(
        apply_one(with_key(batch_add(batch, STORE_DELETE_BACKLOG, 2), "k"), NULL), 0);
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 3), "k"), NULL), 0);
}
END_TEST

START_TEST(key_freed_and_taken_in_one_batch)
{
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 1), "k"), NULL), 0);
    with_key(batch_add(batch, STORE_DELETE_JOB, 1), "k");
    struct store_op *op = with_key(batch_insert(batch, 2), "k");
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(op->result, 0);
    batch_free(batch);
}
END_TEST

START_TEST(message_that_moved_keeps_its_key)
{
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 1), "k"), NULL), 0);
    struct store_op *op = with_key(batch_add(batch, STORE_MOVE, 1), "k");
    op->lane = LANE_DELAYED;
    ck_assert_int_eq(apply_one(op, NULL), 0);
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 2), "k"), NULL), BGMQ_EEXIST);
}
END_TEST

START_TEST(dead_message_loses_its_key_for_good)
{
    enum store_op_kind kind = _i ? STORE_UPDATE : STORE_MOVE;
    struct store_op *op =
        _i ? batch_spill(batch, 1, LANE_INQ, 0) : batch_insert(batch, 1);
    ck_assert_int_eq(apply_one(with_key(op, "k"), NULL), 0);
    op = with_key(batch_add(batch, kind, 1), "k");
    op->lane = LANE_DLQ;
    ck_assert_int_eq(apply_one(op, NULL), 0);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_unique"), 0);
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 2), "k"), NULL), 0);
    /* Back to life: the key is another's now, and stays it when this one ends. */
    op = with_key(batch_add(batch, STORE_UPDATE, 1), "k");
    ck_assert_int_eq(apply_one(op, NULL), 0);
    ck_assert_int_eq(
        apply_one(with_key(batch_add(batch, STORE_DELETE_BACKLOG, 1), "k"), NULL), 0);
    ck_assert_int_eq(look("SELECT id FROM bgmq_unique"), 2);
}
END_TEST

START_TEST(key_of_a_vanished_message_is_free)
{
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 1), "k"), NULL), 0);
    meddle(fixture_path(), "DELETE FROM bgmq_job");
    ck_assert_int_eq(apply_one(with_key(batch_insert(batch, 2), "k"), NULL), 0);
    ck_assert_int_eq(look("SELECT id FROM bgmq_unique"), 2);
}
END_TEST

/* ---- scopes -------------------------------------------------------------------------- */

static struct store_op *scoped(struct store_op *op, enum bgmq_unique scope,
                               int64_t until_ms)
{
    batch_carry(op, &(struct bgmq_message_options){.unique_key = "k",
                                                   .unique = scope,
                                                   .unique_period_ms = until_ms});
    op->at_ms = 1000;
    return op;
}

/* Whether a newcomer gets the key at NOW; if so it is gone again. */
static bool key_is_free(int64_t now_ms)
{
    struct store_op *op = scoped(batch_insert(batch, 99), BGMQ_UNIQUE_UNFINISHED, 0);
    op->at_ms = now_ms;
    if (apply_one(op, NULL) == BGMQ_EEXIST)
        return false;
    apply_one(scoped(batch_add(batch, STORE_DELETE_JOB, 99), BGMQ_UNIQUE_UNFINISHED, 0),
              NULL);
    return true;
}

static void move_to(uint64_t id, enum lane lane, enum bgmq_unique scope, int64_t until_ms)
{
    struct store_op *op = scoped(batch_add(batch, STORE_MOVE, id), scope, until_ms);
    op->lane = (uint8_t)lane;
    ck_assert_int_eq(apply_one(op, NULL), 0);
}

static void end_backlog(uint64_t id, enum bgmq_unique scope, int64_t until_ms)
{
    ck_assert_int_eq(
        apply_one(scoped(batch_add(batch, STORE_DELETE_BACKLOG, id), scope, until_ms),
                  NULL),
        0);
}

START_TEST(key_of_the_waiting_goes_at_the_first_start)
{
    apply_one(scoped(batch_insert(batch, 1), BGMQ_UNIQUE_WAITING, 0), NULL);
    ck_assert(!key_is_free(1000));
    apply_one(scoped(batch_add(batch, STORE_UNKEY, 1), BGMQ_UNIQUE_WAITING, 0), NULL);
    ck_assert(key_is_free(1000));
    /* The next one's key is not taken away by the end of the first. */
    apply_one(scoped(batch_insert(batch, 2), BGMQ_UNIQUE_WAITING, 0), NULL);
    apply_one(scoped(batch_add(batch, STORE_DELETE_JOB, 1), BGMQ_UNIQUE_WAITING, 0),
              NULL);
    ck_assert(!key_is_free(1000));
    ck_assert_int_eq(look("SELECT scope FROM bgmq_unique"), BGMQ_UNIQUE_WAITING);
}
END_TEST

START_TEST(key_until_done_is_kept_by_the_dead)
{
    apply_one(scoped(batch_insert(batch, 1), BGMQ_UNIQUE_DONE, 0), NULL);
    ck_assert(!key_is_free(1000));
    move_to(1, LANE_DLQ, BGMQ_UNIQUE_DONE, 0);
    ck_assert(!key_is_free(1000));
    fixture_close(store);
    store = fixture_open();
    ck_assert(!key_is_free(1000));
    end_backlog(1, BGMQ_UNIQUE_DONE, 0);
    ck_assert(key_is_free(1000));
}
END_TEST

START_TEST(key_for_a_period_outlives_its_message)
{
    uint64_t id;
    apply_one(scoped(batch_insert(batch, 1), BGMQ_UNIQUE_PERIOD, 5000), NULL);
    move_to(1, LANE_DLQ, BGMQ_UNIQUE_PERIOD, 5000);
    ck_assert(!key_is_free(4999));
    end_backlog(1, BGMQ_UNIQUE_PERIOD, 5000);
    ck_assert(!key_is_free(4999));
    struct store_op *op = scoped(batch_insert(batch, 2), BGMQ_UNIQUE_PERIOD, 9000);
    op->at_ms = 4999;
    ck_assert_int_eq(apply_one(op, &id), BGMQ_EEXIST);
    ck_assert_uint_eq(id, 1);
    op = scoped(batch_insert(batch, 2), BGMQ_UNIQUE_PERIOD, 9000);
    op->at_ms = 5000;
    ck_assert_int_eq(apply_one(op, NULL), 0);
    ck_assert(!key_is_free(8999));
}
END_TEST

START_TEST(period_ends_even_while_its_message_waits)
{
    apply_one(scoped(batch_insert(batch, 1), BGMQ_UNIQUE_PERIOD, 5000), NULL);
    ck_assert(!key_is_free(4999));
    ck_assert(key_is_free(5000));
}
END_TEST

START_TEST(revived_message_does_not_take_its_key_again)
{
    apply_one(scoped(batch_insert(batch, 1), BGMQ_UNIQUE_UNFINISHED, 0), NULL);
    move_to(1, LANE_DLQ, BGMQ_UNIQUE_UNFINISHED, 0);
    struct store_op *op =
        scoped(batch_add(batch, STORE_UPDATE, 1), BGMQ_UNIQUE_UNFINISHED, 0);
    op->lane = LANE_INQ;
    ck_assert_int_eq(apply_one(op, NULL), 0);
    ck_assert(key_is_free(1000));
    end_backlog(1, BGMQ_UNIQUE_UNFINISHED, 0);
}
END_TEST

/* ---- what expires -------------------------------------------------------------------- */

START_TEST(upkeep_forgets_keys_whose_period_is_over)
{
    for (uint64_t id = 1; id <= 2500; id++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", (int)id);
        struct store_op *op = batch_insert(batch, id);
        batch_carry(op, &(struct bgmq_message_options){.unique_key = key,
                                                       .unique = BGMQ_UNIQUE_PERIOD,
                                                       .unique_period_ms = (int64_t)id});
    }
    with_key(batch_insert(batch, 3000), "stays");
    apply();
    ck_assert_int_eq(store->ops->upkeep(store, 0), 0);
    ck_assert_int_eq(store->ops->upkeep(store, 2400), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_unique"), 1501);
    int calls = 1;
    while (store->ops->upkeep(store, 2400) == 1)
        calls++;
    ck_assert_int_eq(calls, 3);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_unique"), 101);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 2501);
}
END_TEST

/* ---- history ------------------------------------------------------------------------- */

START_TEST(history_says_how_it_ended)
{
    batch_insert(batch, 1);
    apply();
    struct store_op *op = batch_add(batch, STORE_DELETE_JOB, 1);
    op->history = OUTCOME_DISCARDED;
    op->attempt = 2;
    op->at_ms = 777;
    op->msg->priority = 9;
    batch_fail(op, "Code", "why", 5);
    apply();
    ck_assert_str_eq(
        look_text("SELECT seq||' '||id||' '||type||' '||outcome||' '||priority||"
                  "' '||attempts||' '||created||' '||finished||' '||error_code||"
                  "' '||error_text FROM bgmq_history"),
        "1 1 1 discarded 9 2 1000001 777 Code why");
}
END_TEST

START_TEST(history_of_the_dead_and_of_the_unwritten)
{
    batch_insert(batch, 1);
    apply();
    struct store_op *op = batch_add(batch, STORE_MOVE, 1);
    op->lane = LANE_DLQ;
    op->history = OUTCOME_DEAD;
    batch_add(batch, STORE_HISTORY, 2)->history = OUTCOME_DONE;
    apply();
    op = batch_add(batch, STORE_UPDATE, 1); /* back to life: not an end */
    op->lane = LANE_INQ;
    op->history = OUTCOME_DEAD;
    apply();
    ck_assert_str_eq(look_text("SELECT group_concat(id||outcome) FROM bgmq_history"),
                     "1dead,2done");
}
END_TEST

static void finish_range(uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++)
        batch_add(batch, STORE_HISTORY, id)->history = OUTCOME_DONE;
    apply();
}

START_TEST(history_keeps_the_newest)
{
    fixture_close(store);
    struct store_options options = fixture_options();
    options.history_keep = 10;
    store = fixture_open_with(options);
    finish_range(1, 7);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 7);
    finish_range(8, 100);
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_history"),
                     "91,92,93,94,95,96,97,98,99,100");
    finish_range(101, 101);
    ck_assert_int_eq(look("SELECT min(id) FROM bgmq_history"), 92);
}
END_TEST

START_TEST(history_shrinks_in_chunks_after_an_open_that_keeps_less)
{
    finish_range(1, 3000);
    fixture_close(store);
    struct store_options options = fixture_options();
    options.history_keep = 100;
    store = fixture_open_with(options);
    finish_range(3001, 3001);
    int64_t rows = look("SELECT count(*) FROM bgmq_history");
    ck_assert_int_gt(rows, 2000);
    ck_assert_int_lt(rows, 3000);
    for (uint64_t id = 3002; id < 3020; id++)
        finish_range(id, id);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 100);
    ck_assert_int_eq(look("SELECT max(id) FROM bgmq_history"), 3019);
}
END_TEST

static void add_keys(TCase *c)
{
    tcase_add_test(c, second_of_a_key_learns_who_has_it);
    tcase_add_test(c, keys_of_types_and_other_keys_do_not_meet);
    tcase_add_test(c, twins_in_one_batch);
    tcase_add_test(c, what_an_op_says_of_an_earlier_try_is_forgotten);
    tcase_add_test(c, end_of_a_message_frees_its_key);
    tcase_add_test(c, key_freed_and_taken_in_one_batch);
    tcase_add_test(c, message_that_moved_keeps_its_key);
    tcase_add_loop_test(c, dead_message_loses_its_key_for_good, 0, 2);
    tcase_add_test(c, key_of_a_vanished_message_is_free);
    tcase_add_test(c, key_of_the_waiting_goes_at_the_first_start);
    tcase_add_test(c, key_until_done_is_kept_by_the_dead);
    tcase_add_test(c, key_for_a_period_outlives_its_message);
    tcase_add_test(c, period_ends_even_while_its_message_waits);
    tcase_add_test(c, revived_message_does_not_take_its_key_again);
    tcase_add_test(c, upkeep_forgets_keys_whose_period_is_over);
}

static Suite *suite(void)
{
    Suite *s = suite_create("store_keys");
    TCase *c = harness_case(s, "keys");
    tcase_add_checked_fixture(c, setup, teardown);
    add_keys(c);
    c = harness_case(s, "history");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, history_says_how_it_ended);
    tcase_add_test(c, history_of_the_dead_and_of_the_unwritten);
    tcase_add_test(c, history_keeps_the_newest);
    tcase_add_test(c, history_shrinks_in_chunks_after_an_open_that_keeps_less);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
