/* test_store_values.c - statements keep values from row to row, and remember which: each row has
 * its own nevertheless, however many go with one statement, and whatever came between. */
#include "fixture.h"

#include <stdio.h>

static struct store *store;

static void setup(void)
{
    store = fixture_open();
}

static void teardown(void)
{
    fixture_close(store);
    check_sound();
}

/* Every column as it follows from the id, changing at a pace of its own. */
static struct store_op *add_varied(struct batch_of *b, enum store_op_kind kind,
                                   uint64_t id)
{
    struct store_op *op = batch_add(b, kind, id);
    op->type = 1 + (uint32_t)(id % 2);
    op->attempt = (uint16_t)(id % 3);
    op->run = (uint32_t)(id % 4);
    op->crashes = (uint8_t)(id % 5);
    op->msg->priority = (int16_t)(id / 7 % 2);
    op->msg->max_attempts = (uint16_t)(id / 40 % 2);
    op->msg->flags = (uint8_t)(id / 3 % 2);
    return op;
}

static const char wrong[] =
    " WHERE type <> 1 + id % 2 OR attempt <> id % 3 OR run <> id % 4 OR crashes <> id % 5"
    " OR priority <> id / 7 % 2 OR max_attempts <> id / 40 % 2 OR flags <> id / 3 % 2"
    " OR seq <> id OR created <> 1000000 + id OR body <> CAST('body-' || id AS BLOB)";

static void expect_rows(const char *table, long n)
{
    char sql[600];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
    ck_assert_int_eq(look(sql), n);
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s%s", table, wrong);
    ck_assert_int_eq(look(sql), 0);
}

/* Rows FIRST .. LAST in one batch: some in statements of 32 rows, of 8, and of one. */
static void insert(uint64_t first, uint64_t last)
{
    struct batch_of *b = batch_new();
    for (uint64_t id = first; id <= last; id++)
        add_varied(b, STORE_INSERT, id);
    batch_apply(store, b);
}

START_TEST(rows_of_all_statements_have_their_own_values)
{
    insert(1, 43);
    insert(44, 83);
    insert(84, 84);
    insert(85, 131);
    expect_rows("bgmq_job", 131);
}
END_TEST

/* The errors and the options of one row are not those of the next. */
START_TEST(what_a_row_does_not_have_is_not_that_of_the_row_before)
{
    enum { N = 60 };
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= N; id++) {
        struct store_op *op = add_varied(b, STORE_SPILL, id);
        char tag[16];
        snprintf(tag, sizeof(tag), "tag-%d", (int)id);
        if (id % 2)
            batch_fail(op, "Busy", tag, 5000 + (int64_t)id);
        if (id % 3 == 0)
            batch_carry(op, &(struct bgmq_message_options){.tag = tag, .timeout_ms = 9});
    }
    batch_apply(store, b);
    expect_rows("bgmq_backlog", N);
    ck_assert_int_eq(
        look("SELECT count(*) FROM bgmq_backlog WHERE (error_code IS NOT NULL) <> id % 2"
             " OR error_text <> 'tag-' || id OR error_at <> 5000 + id"
             " OR (error_at IS NULL) <> (error_text IS NULL)"
             " OR (tag IS NOT NULL) <> (id % 3 = 0) OR tag <> 'tag-' || id"
             " OR (timeout IS NOT NULL) <> (id % 3 = 0) OR reply_to IS NOT NULL"),
        0);
}
END_TEST

START_TEST(rows_of_the_history_have_their_own_values)
{
    enum { N = 107 };
    insert(1, N);
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= N; id++) {
        struct store_op *op = add_varied(b, STORE_DELETE_JOB, id);
        op->history = id % 2 ? OUTCOME_DONE : OUTCOME_DISCARDED;
        op->at_ms = 7000 + (int64_t)(id / 9);
        op->started_ms = id % 4 ? 6000 + (int64_t)id : 0;
        if (id % 3 == 0)
            op->flags = OP_BODY;
        if (id % 5 == 0)
            batch_fail(op, "Late", "too late", 1);
        if (id % 6 == 0)
            batch_save(op, NULL, 0, NULL, "a result");
    }
    batch_apply(store, b);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 0);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), N);
    ck_assert_int_eq(
        look("SELECT count(*) FROM bgmq_history WHERE seq <> id OR type <> 1 + id % 2"
             " OR outcome <> iif(id % 2, 'done', 'discarded') OR attempts <> id % 3"
             " OR finished <> 7000 + id / 9 OR crashes <> id % 5"
             " OR started IS NOT iif(id % 4, 6000 + id, NULL)"
             " OR (body IS NOT NULL) <> (id % 3 = 0)"
             " OR body <> CAST('body-' || id AS BLOB)"
             " OR error_code IS NOT iif(id % 5 = 0, 'Late', NULL)"
             " OR (result IS NOT NULL) <> (id % 6 = 0) OR tag IS NOT NULL"),
        0);
}
END_TEST

/* SQLite compiles the statements anew when somebody has changed the tables. */
START_TEST(values_outlive_a_change_of_the_schema)
{
    insert(1, 43);
    meddle(fixture_path(), "CREATE TABLE somebodys(x)");
    insert(44, 90);
    meddle(fixture_path(), "DROP TABLE somebodys");
    insert(91, 101);
    expect_rows("bgmq_job", 101);
}
END_TEST

/* What a refused batch has bound is known, too. */
START_TEST(values_outlive_a_refusal)
{
    insert(1, 45);
    struct batch_of *b = batch_new();
    for (uint64_t id = 60; id >= 40; id--) /* the last of them are there already */
        add_varied(b, STORE_INSERT, id);
    ck_assert_int_eq(batch_try(store, b, STORE_SYNC_NORMAL, NULL), STORE_FAIL_OP);
    batch_free(b);
    insert(46, 95);
    expect_rows("bgmq_job", 95);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_values");
    TCase *c = harness_case(s, "values");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, rows_of_all_statements_have_their_own_values);
    tcase_add_test(c, what_a_row_does_not_have_is_not_that_of_the_row_before);
    tcase_add_test(c, rows_of_the_history_have_their_own_values);
    tcase_add_test(c, values_outlive_a_change_of_the_schema);
    tcase_add_test(c, values_outlive_a_refusal);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
