/* test_store_ops.c - what each kind of change does to the rows. */
#include "fixture.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

static void insert_range(uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++)
        batch_insert(batch, id);
}

static void delete_range(uint64_t first, uint64_t last)
{
    for (uint64_t id = first; id <= last; id++)
        batch_add(batch, STORE_DELETE_JOB, id);
}

/* ---- rows ---------------------------------------------------------------------------- */

START_TEST(type_gets_its_number)
{
    struct store_op *op = batch_add(batch, STORE_TYPE, 0);
    op->type = 7;
    op->text = (char *)(uintptr_t) "Mail";
    apply();
    ck_assert_str_eq(look_text("SELECT id || name FROM bgmq_type"), "7Mail");
}
END_TEST

START_TEST(insert_makes_a_row_of_job)
{
    struct store_op *op = batch_insert(batch, 5);
    op->msg->priority = 3;
    op->msg->max_attempts = 4;
    op->msg->flags = MESSAGE_NO_OUTQ | 0x80;
    op->seq = 77;
    op->attempt = 1;
    op->run = 2;
    op->crashes = 1;
    apply();
    ck_assert_str_eq(
        look_text("SELECT concat FROM (SELECT id||' '||type||' '||seq||' '||"
                  "priority||' '||attempt||' '||max_attempts||' '||run||' '||"
                  "crashes||' '||flags||' '||created||' '||cast(body AS TEXT)"
                  " AS concat FROM bgmq_job)"),
        "5 1 77 3 1 4 2 1 129 1000005 body-5");
}
END_TEST

START_TEST(empty_body_is_a_body)
{
    struct store_op *op = batch_insert(batch, 1);
    bgmqi_message_unref(op->msg);
    op->msg = bgmqi_message_new("", 0);
    apply();
    ck_assert_str_eq(
        look_text("SELECT typeof(body)||length(body)||' '||crc FROM bgmq_job"),
        "blob0 0");
}
END_TEST

/* Lengths around the number of rows of one statement. */
START_TEST(any_number_of_inserts_and_deletes)
{
    uint64_t n = (uint64_t)_i;
    insert_range(1, n);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), (int64_t)n);
    ck_assert_int_eq(look("SELECT count(DISTINCT body) FROM bgmq_job"), (int64_t)n);
    delete_range(1, n);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 0);
}
END_TEST

START_TEST(deletes_in_any_order_take_only_what_they_name)
{
    insert_range(1, 100);
    apply();
    static const uint64_t ids[] = {50, 2, 4, 3, 99, 7, 9, 8, 51, 52, 10};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        batch_add(batch, STORE_DELETE_JOB, ids[i]);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 100 - 11);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job WHERE id IN"
                          " (50, 2, 4, 3, 99, 7, 9, 8, 51, 52, 10)"),
                     0);
}
END_TEST

START_TEST(message_may_come_and_go_in_one_batch)
{
    insert_range(1, 40);
    delete_range(1, 39);
    apply();
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_job"), "40");
}
END_TEST

START_TEST(delete_of_no_row_is_lost_and_harms_nobody)
{
    insert_range(1, 4);
    apply();
    delete_range(1, 2);
    struct store_op *lost = batch_add(batch, STORE_DELETE_JOB, 1000);
    lost->history = OUTCOME_DONE;
    batch_add(batch, STORE_DELETE_JOB, 3)->history = OUTCOME_DONE;
    batch_add(batch, STORE_DELETE_BACKLOG, 4); /* it is in JOB */
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    static const int want[] = {0, 0, BGMQ_ELOST, 0, BGMQ_ELOST};
    for (size_t i = 0; i < 5; i++)
        ck_assert_int_eq(batch->ops[i].result, want[i]);
    batch_free(batch);
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_job"), "4");
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_history"), "3");
}
END_TEST

START_TEST(delete_of_a_missing_row_takes_no_neighbour_instead)
{
    insert_range(1, 2);
    apply();
    batch_add(batch, STORE_DELETE_JOB, 1);
    batch_add(batch, STORE_DELETE_JOB, 3);
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(batch->ops[0].result, 0);
    ck_assert_int_eq(batch->ops[1].result, BGMQ_ELOST);
    batch_free(batch);
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_job"), "2");
}
END_TEST

START_TEST(second_delete_of_a_row_is_lost)
{
    insert_range(1, 3);
    apply();
    batch_add(batch, STORE_DELETE_JOB, 2);
    batch_add(batch, STORE_DELETE_JOB, 2);
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(batch->ops[0].result, 0);
    ck_assert_int_eq(batch->ops[1].result, BGMQ_ELOST);
    batch_free(batch);
}
END_TEST

START_TEST(spill_stands_at_its_place)
{
    struct store_op *op = batch_spill(batch, 9, LANE_DELAYED, 123456);
    batch_fail(op, "Code", "text", 55);
    apply();
    ck_assert_str_eq(look_text("SELECT lane||' '||key||' '||seq||' '||error_code||' '||"
                               "error_text||' '||error_at FROM bgmq_backlog"),
                     "2 123456 9 Code text 55");
}
END_TEST

START_TEST(move_takes_the_row_along)
{
    insert_range(1, 3);
    apply();
    struct store_op *op = batch_add(batch, STORE_MOVE, 2);
    op->lane = LANE_DELAYED;
    op->key = 5000;
    op->seq = 8;
    op->attempt = 2;
    op->run = 3;
    apply();
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_job"), "1,3");
    ck_assert_str_eq(
        look_text("SELECT id||' '||lane||' '||key||' '||seq||' '||attempt||' '||"
                  "run||' '||cast(body AS TEXT) FROM bgmq_backlog"),
        "2 2 5000 8 2 3 body-2");
}
END_TEST

START_TEST(move_of_an_insert_in_the_same_batch)
{
    insert_range(1, 3);
    batch_add(batch, STORE_MOVE, 2)->lane = LANE_INQ;
    apply();
    ck_assert_int_eq(look("SELECT id FROM bgmq_backlog"), 2);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 2);
}
END_TEST

START_TEST(move_of_no_row_inserts_nothing)
{
    batch_insert(batch, 1);
    struct store_op *op = batch_add(batch, STORE_MOVE, 2);
    op->lane = LANE_DLQ;
    op->history = OUTCOME_DEAD;
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(op->result, BGMQ_ELOST);
    batch_free(batch);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_backlog"), 0);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 0);
}
END_TEST

START_TEST(move_after_delete_is_lost)
{
    batch_insert(batch, 1);
    apply();
    batch_add(batch, STORE_DELETE_JOB, 1);
    struct store_op *op = batch_add(batch, STORE_MOVE, 1);
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(op->result, BGMQ_ELOST);
    batch_free(batch);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_backlog"), 0);
}
END_TEST

START_TEST(update_changes_all_that_can_change)
{
    batch_fail(batch_spill(batch, 1, LANE_INQ, 0), "Old", "old", 1);
    batch_spill(batch, 2, LANE_INQ, 0);
    apply();
    struct store_op *op = batch_add(batch, STORE_UPDATE, 1);
    op->lane = LANE_DELAYED;
    op->key = 999;
    op->seq = 50;
    op->attempt = 3;
    op->run = 9;
    op->crashes = 2;
    batch_fail(op, "New", "new", 7);
    apply();
    ck_assert_str_eq(
        look_text("SELECT lane||' '||key||' '||seq||' '||attempt||' '||run||' '||"
                  "crashes||' '||error_code||error_text||error_at||' '||"
                  "cast(body AS TEXT) FROM bgmq_backlog WHERE id = 1"),
        "2 999 50 3 9 2 Newnew7 body-1");
    batch_add(batch, STORE_UPDATE, 1);
    apply();
    ck_assert_str_eq(look_text("SELECT ifnull(error_code, 'none') FROM bgmq_backlog"
                               " WHERE id = 1"),
                     "none");
    ck_assert_int_eq(look("SELECT lane FROM bgmq_backlog WHERE id = 2"), 0);
}
END_TEST

START_TEST(update_of_no_row_is_lost)
{
    batch_insert(batch, 1); /* in the wrong table */
    struct store_op *op = batch_add(batch, STORE_UPDATE, 1);
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(op->result, BGMQ_ELOST);
    batch_free(batch);
}
END_TEST

START_TEST(backlog_rows_are_deleted_by_runs_too)
{
    for (uint64_t id = 1; id <= 70; id++)
        batch_spill(batch, id, LANE_INQ, 0);
    apply();
    for (uint64_t id = 70; id >= 11; id--)
        batch_add(batch, STORE_DELETE_BACKLOG, id)->history = OUTCOME_DONE;
    apply();
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_backlog"),
                     "1,2,3,4,5,6,7,8,9,10");
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 60);
}
END_TEST

START_TEST(nothing_is_a_batch_too)
{
    batch_add(batch, STORE_NOP, 0);
    apply();
    ck_assert_int_eq(store->ops->apply(store, NULL, 0, STORE_SYNC_FULL, NULL),
                     STORE_FAIL_NONE);
}
END_TEST

static struct store_op *with_key(struct store_op *op, const char *key)
{
    batch_carry(op, &(struct bgmq_message_options){.unique_key = key});
    return op;
}

/* ---- refusals ------------------------------------------------------------------------ */

START_TEST(guilty_op_is_named_and_nothing_is_changed)
{
    insert_range(1, 2);
    apply();
    insert_range(10, 60);
    batch_insert(batch, 2); /* an id that is taken */
    insert_range(61, 80);
    uint64_t guilty = 51;
    with_key(batch_insert(batch, 99), "k");
    batch_add(batch, STORE_DELETE_JOB, 1)->history = OUTCOME_DONE;
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, &text), STORE_FAIL_OP);
    for (size_t i = 0; i < batch->n; i++)
        ck_assert_msg((batch->ops[i].result != 0) == (i == guilty), "op %zu: %d", i,
                      batch->ops[i].result);
    ck_assert_ptr_nonnull(strstr(text.text, "UNIQUE"));
    batch_free(batch);
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_job"), "1,2");
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_unique"), 0);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 0);
    batch = batch_new();
    insert_range(10, 60);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 53);
}
END_TEST

START_TEST(refused_batch_keeps_the_id_of_a_duplicate)
{
    with_key(batch_insert(batch, 1), "k");
    apply();
    struct store_op *twin = with_key(batch_insert(batch, 2), "k");
    batch_insert(batch, 1);
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_OP);
    ck_assert_uint_eq(twin->id, 2);
    ck_assert_int_eq(twin->result, 0);
    batch_free(batch);
}
END_TEST

START_TEST(type_name_twice_is_refused)
{
    for (uint32_t number = 1; number <= 2; number++) {
        struct store_op *op = batch_add(batch, STORE_TYPE, 0);
        op->type = number;
        op->text = (char *)(uintptr_t) "T";
    }
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_OP);
    batch_free(batch);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_type"), 0);
}
END_TEST

/* A statement that fails without taking the transaction back by itself: its table is gone. */
START_TEST(what_was_written_before_the_guilty_op_is_taken_back)
{
    meddle(fixture_path(), "ALTER TABLE bgmq_unique RENAME TO away");
    insert_range(1, 3);
    with_key(batch_insert(batch, 4), "k");
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, &text), STORE_FAIL_OP);
    ck_assert_ptr_nonnull(strstr(text.text, "bgmq_unique"));
    batch_free(batch);
    meddle(fixture_path(), "ALTER TABLE away RENAME TO bgmq_unique");
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 0);
    batch = batch_new();
    insert_range(1, 3);
    with_key(batch_insert(batch, 4), "k");
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 4);
}
END_TEST

/* ---- everything at once, against a list ---------------------------------------------- */

enum { IDS = 400 };
struct model {
    int where[IDS + 1]; /* 0 none, 1 JOB, 2 + lane BACKLOG */
    int used[IDS + 1];
    long history;
    uint32_t random;
};

static uint32_t draw(struct model *m, uint32_t n)
{
    m->random = m->random * 1664525 + 1013904223;
    return (m->random >> 8) % n;
}

static int expect_gone(struct model *m, uint64_t id, bool right)
{
    if (!right)
        return BGMQ_ELOST;
    m->where[id] = 0;
    m->history++;
    return 0;
}

/* Adds one random op and returns the result it has to get. */
static int add_random(struct model *m)
{
    uint64_t id = 1 + draw(m, IDS);
    enum lane lane = (enum lane)draw(m, LANES);
    int was = m->where[id];
    struct store_op *op;
    switch (draw(m, 6)) {
    case 0:
    case 1:
        if (m->used[id]) {
            batch_add(batch, STORE_NOP, 0);
            return 0;
        }
        m->used[id] = 1;
        m->where[id] = draw(m, 4) ? 1 : 2 + (int)lane;
        if (m->where[id] == 1)
            batch_insert(batch, id);
        else
            batch_spill(batch, id, lane, 5);
        return 0;
    case 2:
        batch_add(batch, STORE_DELETE_JOB, id)->history = OUTCOME_DONE;
        return expect_gone(m, id, was == 1);
    case 3:
        batch_add(batch, STORE_DELETE_BACKLOG, id)->history = OUTCOME_DONE;
        return expect_gone(m, id, was >= 2);
    default:
        op = batch_add(batch, draw(m, 2) ? STORE_MOVE : STORE_UPDATE, id);
        op->lane = (uint8_t)lane;
        if (op->kind == STORE_MOVE ? was != 1 : was < 2)
            return BGMQ_ELOST;
        m->where[id] = 2 + (int)lane;
        return 0;
    }
}

static void compare(const struct model *m)
{
    for (int where = 1; where <= 2 + LANES - 1; where++) {
        int64_t n = 0, sum = 0;
        for (int id = 1; id <= IDS; id++) {
            n += m->where[id] == where;
            sum += m->where[id] == where ? id : 0;
        }
        char sql[160];
        snprintf(sql, sizeof(sql),
                 "SELECT count(*) * 1000000 + ifnull(sum(id), 0) FROM %s"
                 " WHERE %d = %s",
                 where == 1 ? "bgmq_job" : "bgmq_backlog", where == 1 ? 1 : where - 2,
                 where == 1 ? "1" : "lane");
        ck_assert_int_eq(look(sql), n * 1000000 + sum);
    }
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), m->history);
}

START_TEST(random_batches_agree_with_a_model)
{
    struct model m = {.random = (uint32_t)_i};
    for (int round = 0; round < 12; round++) {
        int want[300];
        uint32_t n = 1 + draw(&m, 300);
        for (uint32_t i = 0; i < n; i++)
            want[i] = add_random(&m);
        ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL),
                         STORE_FAIL_NONE);
        for (uint32_t i = 0; i < n; i++)
            ck_assert_msg(batch->ops[i].result == want[i], "seed %d round %d op %u: %d",
                          _i, round, i, batch->ops[i].result);
        batch_free(batch);
        batch = batch_new();
        compare(&m);
    }
}
END_TEST

static void add_rows(TCase *c)
{
    tcase_add_test(c, type_gets_its_number);
    tcase_add_test(c, insert_makes_a_row_of_job);
    tcase_add_test(c, empty_body_is_a_body);
    tcase_add_loop_test(c, any_number_of_inserts_and_deletes, 31, 34);
    tcase_add_loop_test(c, any_number_of_inserts_and_deletes, 63, 66);
    tcase_add_test(c, deletes_in_any_order_take_only_what_they_name);
    tcase_add_test(c, message_may_come_and_go_in_one_batch);
    tcase_add_test(c, delete_of_no_row_is_lost_and_harms_nobody);
    tcase_add_test(c, delete_of_a_missing_row_takes_no_neighbour_instead);
    tcase_add_test(c, second_delete_of_a_row_is_lost);
    tcase_add_test(c, spill_stands_at_its_place);
    tcase_add_test(c, move_takes_the_row_along);
    tcase_add_test(c, move_of_an_insert_in_the_same_batch);
    tcase_add_test(c, move_of_no_row_inserts_nothing);
    tcase_add_test(c, move_after_delete_is_lost);
    tcase_add_test(c, update_changes_all_that_can_change);
    tcase_add_test(c, update_of_no_row_is_lost);
    tcase_add_test(c, backlog_rows_are_deleted_by_runs_too);
    tcase_add_test(c, nothing_is_a_batch_too);
}

static Suite *suite(void)
{
    Suite *s = suite_create("store_ops");
    TCase *c = harness_case(s, "rows");
    tcase_add_checked_fixture(c, setup, teardown);
    add_rows(c);
    c = harness_case(s, "refusals");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, guilty_op_is_named_and_nothing_is_changed);
    tcase_add_test(c, refused_batch_keeps_the_id_of_a_duplicate);
    tcase_add_test(c, type_name_twice_is_refused);
    tcase_add_test(c, what_was_written_before_the_guilty_op_is_taken_back);
    tcase_add_loop_test(c, random_batches_agree_with_a_model, 1, 9);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
