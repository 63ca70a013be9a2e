/* test_store_kept.c - progress, errors of attempts, and what the history says of the ended. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
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
    batch_free(batch);
    fixture_close(store);
    check_sound();
}

static void apply(void)
{
    batch_apply(store, batch);
    batch = batch_new();
}

static void spill(uint64_t id)
{
    batch_spill(batch, id, LANE_INQ, 0);
    apply();
}

/* ---- progress ------------------------------------------------------------------------ */

struct one {
    char cursor[64], text[64];
    size_t cursor_len;
    int64_t number;
    int kept, n, has_cursor;
};

static int note(void *ctx, const struct store_row *row)
{
    struct one *one = ctx;
    one->n++;
    one->kept = row->kept;
    one->number = row->progress;
    one->cursor_len = row->cursor_len;
    one->has_cursor = row->cursor != NULL;
    snprintf(one->cursor, sizeof(one->cursor), "%.*s", (int)row->cursor_len,
             row->cursor ? (const char *)row->cursor : "");
    snprintf(one->text, sizeof(one->text), "%s",
             row->progress_text ? (const char *)row->progress_text : "(none)");
    return 0;
}

static struct one load_one(uint64_t id)
{
    struct one one = {.n = 0};
    int n = store->ops->search(store, &(struct store_search){.id = id}, note, &one);
    ck_assert_int_eq(n, 1);
    return one;
}

START_TEST(progress_comes_back_with_the_row)
{
    spill(1);
    spill(2);
    struct store_op *op = batch_add(batch, STORE_PROGRESS, 1);
    struct progress *p = batch_save(op, "line 7", 42, "half of it", NULL);
    bgmqi_progress_ref(p);
    apply();
    ck_assert(!p->queued);
    bgmqi_progress_unref(p);
    struct one one = load_one(1);
    ck_assert_str_eq(one.cursor, "line 7");
    ck_assert_uint_eq(one.cursor_len, 6);
    ck_assert_int_eq(one.number, 42);
    ck_assert_str_eq(one.text, "half of it");
    ck_assert_int_eq(one.kept, 1);
    one = load_one(2);
    ck_assert_int_eq(one.kept, 0);
    ck_assert_int_eq(one.has_cursor, 0);
    ck_assert_str_eq(one.text, "(none)");
}
END_TEST

START_TEST(newest_progress_counts_and_what_is_gone_is_gone)
{
    spill(1);
    batch_save(batch_add(batch, STORE_PROGRESS, 1), "a", 1, "one", NULL);
    batch_save(batch_add(batch, STORE_PROGRESS, 1), "", 2, NULL, NULL);
    apply();
    struct one one = load_one(1);
    ck_assert_int_eq(one.has_cursor, 1); /* empty, but saved */
    ck_assert_uint_eq(one.cursor_len, 0);
    ck_assert_int_eq(one.number, 2);
    ck_assert_str_eq(one.text, "(none)");
}
END_TEST

START_TEST(progress_of_any_size_is_written)
{
    spill(1);
    char *big = calloc(1, 65537);
    memset(big, 'x', 65536);
    batch_save(batch_add(batch, STORE_PROGRESS, 1), big, 1, "t", NULL);
    free(big);
    apply();
    ck_assert_int_eq(look("SELECT length(cursor) FROM bgmq_progress"), 65536);
    ck_assert_str_eq(look_text("SELECT text FROM bgmq_progress"), "t");
}
END_TEST

START_TEST(progress_survives_what_happens_to_its_message)
{
    batch_insert(batch, 1);
    batch_save(batch_add(batch, STORE_PROGRESS, 1), "c", 5, NULL, NULL);
    apply();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 1);
    ck_assert_str_eq(load_one(1).cursor, "c");
    batch_add(batch, STORE_UPDATE, 1)->lane = LANE_DLQ;
    apply();
    ck_assert_str_eq(load_one(1).cursor, "c");
    batch_add(batch, STORE_DELETE_BACKLOG, 1)->flags = OP_KEPT;
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_progress"), 0);
}
END_TEST

START_TEST(progress_without_a_message_goes_at_the_next_open)
{
    spill(1);
    batch_save(batch_add(batch, STORE_PROGRESS, 1), "c", 5, NULL, NULL);
    batch_save(batch_add(batch, STORE_PROGRESS, 2), "c", 5, NULL, NULL);
    apply();
    recover(store, NULL, NULL, 0);
    ck_assert_int_eq(look("SELECT group_concat(id) FROM bgmq_progress"), 1);
}
END_TEST

/* ---- errors -------------------------------------------------------------------------- */

static void fail_once(uint64_t id, unsigned run, enum lane lane)
{
    struct store_op *op = batch_add(batch, STORE_UPDATE, id);
    char text[32];
    snprintf(text, sizeof(text), "why %u", run);
    op->lane = (uint8_t)lane;
    op->run = run;
    op->attempt = (uint16_t)run;
    op->flags = OP_ERROR;
    batch_fail(op, "Code", text, 1000 + run);
}

struct list {
    char text[2048];
    int n, stop_at;
};

static int add_error(void *ctx, unsigned attempt, int64_t at_ms, const char *code,
                     const char *text)
{
    struct list *l = ctx;
    if (++l->n == l->stop_at)
        return BGMQ_EFULL;
    size_t len = strlen(l->text);
    snprintf(l->text + len, sizeof(l->text) - len, "%u %d %s %s;", attempt, (int)at_ms,
             code, text);
    return 0;
}

START_TEST(errors_of_attempts_are_listed_in_order)
{
    spill(1);
    spill(2);
    fail_once(1, 1, LANE_DELAYED);
    fail_once(1, 2, LANE_DELAYED);
    fail_once(2, 7, LANE_DELAYED);
    fail_once(1, 3, LANE_DLQ);
    batch_add(batch, STORE_UPDATE, 1)->flags = OP_ERROR; /* without a failure: nothing */
    apply();
    struct list list = {.n = 0};
    ck_assert_int_eq(store->ops->errors(store, 1, add_error, &list), 3);
    ck_assert_str_eq(list.text, "1 1001 Code why 1;2 1002 Code why 2;3 1003 Code why 3;");
    ck_assert_int_eq(store->ops->errors(store, 3, add_error, &list), 0);
    list = (struct list){.stop_at = 2};
    ck_assert_int_eq(store->ops->errors(store, 1, add_error, &list), BGMQ_EFULL);
    ck_assert_int_eq(load_one(1).kept, 1);
}
END_TEST

START_TEST(the_last_hundred_errors_of_a_message_are_kept)
{
    spill(1);
    spill(2);
    fail_once(2, 1, LANE_INQ);
    for (unsigned run = 1; run <= 260; run += 2) /* some starts do not fail */
        fail_once(1, run, LANE_INQ);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_error WHERE id = 1"), 100);
    ck_assert_int_eq(look("SELECT min(run) FROM bgmq_error WHERE id = 1"), 61);
    ck_assert_int_eq(look("SELECT max(run) FROM bgmq_error WHERE id = 1"), 259);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_error WHERE id = 2"), 1);
}
END_TEST

static void end(uint64_t id, enum outcome outcome)
{
    struct store_op *op = batch_add(batch, STORE_DELETE_BACKLOG, id);
    op->history = (uint8_t)outcome;
    op->flags = OP_KEPT;
    op->at_ms = (int64_t)id * 10;
}

START_TEST(errors_stay_as_long_as_the_history_names_the_message)
{
    spill(1);
    spill(2);
    spill(3);
    for (uint64_t id = 1; id <= 3; id++)
        fail_once(id, 1, LANE_INQ);
    apply();
    end(1, OUTCOME_DONE);
    end(2, OUTCOME_NONE);
    apply();
    ck_assert_str_eq(look_text("SELECT group_concat(id) FROM bgmq_error"), "1,3");
    /* Dead with a row of the history, in one batch with its end without one. */
    fail_once(3, 2, LANE_DLQ);
    batch->ops[batch->n - 1].history = OUTCOME_DEAD;
    end(3, OUTCOME_NONE);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_error WHERE id = 3"), 2);
}
END_TEST

START_TEST(errors_go_with_the_last_row_of_the_history)
{
    fixture_close(store);
    struct store_options options = fixture_options();
    options.history_keep = 10;
    store = fixture_open_with(options);
    spill(1); /* ends */
    spill(2); /* is dead, with a row of the history, and stays */
    spill(3); /* dead, revived, done: two rows, the second is kept */
    for (uint64_t id = 1; id <= 3; id++)
        fail_once(id, 1, LANE_INQ);
    end(1, OUTCOME_DONE);
    for (uint64_t id = 2; id <= 3; id++) {
        fail_once(id, 2, LANE_DLQ);
        batch->ops[batch->n - 1].history = OUTCOME_DEAD;
    }
    apply();
    for (uint64_t id = 10; id < 19; id++)
        batch_add(batch, STORE_HISTORY, id)->history = OUTCOME_DONE;
    end(3, OUTCOME_DONE);
    apply();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 10);
    ck_assert_str_eq(
        look_text("SELECT group_concat(id) FROM (SELECT DISTINCT id FROM bgmq_error)"),
        "2,3");
}
END_TEST

/* ---- the history --------------------------------------------------------------------- */

struct end_seen {
    struct store_ended ended;
    char code[32], result[64];
    int calls, answer;
};

static int see_end(void *ctx, const struct store_ended *ended)
{
    struct end_seen *seen = ctx;
    seen->calls++;
    seen->ended = *ended;
    snprintf(seen->code, sizeof(seen->code), "%s",
             ended->error_code ? ended->error_code : "(none)");
    snprintf(seen->result, sizeof(seen->result), "%.*s", (int)ended->result_len,
             ended->result ? (const char *)ended->result : "");
    return seen->answer;
}

START_TEST(history_tells_all_of_an_end)
{
    struct store_op *op = batch_add(batch, STORE_HISTORY, 7);
    batch_carry(op, &(struct bgmq_message_options){.tag = "t", .unique_key = "k"});
    op->history = OUTCOME_DONE;
    op->attempt = 3;
    op->crashes = 2;
    op->at_ms = 2000;
    op->started_ms = 1500;
    op->flags = OP_BODY;
    batch_fail(op, "Code", "text", 1);
    batch_save(op, "c", 1, NULL, "the result");
    apply();
    ck_assert_str_eq(look_text("SELECT started||' '||crashes||' '||tag||' '||unique_key||"
                               "' '||result||' '||body FROM bgmq_history"),
                     "1500 2 t k the result body-7");
    struct end_seen seen = {.calls = 0};
    ck_assert_int_eq(store->ops->ended(store, 7, see_end, &seen), 1);
    ck_assert_int_eq(seen.calls, 1);
    ck_assert_int_eq(seen.ended.outcome, OUTCOME_DONE);
    ck_assert_uint_eq(seen.ended.attempts, 3);
    ck_assert_uint_eq(seen.ended.crashes, 2);
    ck_assert_int_eq(seen.ended.created_ms, 1000007);
    ck_assert_int_eq(seen.ended.finished_ms, 2000);
    ck_assert_int_eq(seen.ended.started_ms, 1500);
    ck_assert_str_eq(seen.code, "Code");
    ck_assert_str_eq(seen.result, "the result");
    seen.answer = BGMQ_ENOMEM;
    ck_assert_int_eq(store->ops->ended(store, 7, see_end, &seen), BGMQ_ENOMEM);
    ck_assert_int_eq(store->ops->ended(store, 8, see_end, &seen), 0);
}
END_TEST

START_TEST(newest_end_of_a_message_is_told)
{
    batch_add(batch, STORE_HISTORY, 7)->history = OUTCOME_DEAD;
    batch_add(batch, STORE_HISTORY, 8)->history = OUTCOME_DISCARDED;
    batch_add(batch, STORE_HISTORY, 7)->history = OUTCOME_DONE;
    apply();
    struct end_seen seen = {.calls = 0};
    ck_assert_int_eq(store->ops->ended(store, 7, see_end, &seen), 1);
    ck_assert_int_eq(seen.ended.outcome, OUTCOME_DONE);
    ck_assert_str_eq(seen.code, "(none)");
    ck_assert_ptr_null(seen.ended.result);
    ck_assert_int_eq(store->ops->ended(store, 8, see_end, &seen), 1);
    ck_assert_int_eq(seen.ended.outcome, OUTCOME_DISCARDED);
}
END_TEST

/* Many at once go through statements of many rows. */
START_TEST(results_of_many_ends_do_not_mix)
{
    for (uint64_t id = 1; id <= 100; id++) {
        struct store_op *op = batch_add(batch, STORE_HISTORY, id);
        char result[16];
        snprintf(result, sizeof(result), "r%d", (int)id);
        op->history = OUTCOME_DONE;
        op->flags = OP_BODY;
        if (id % 3)
            batch_save(op, NULL, 0, NULL, id % 3 == 1 ? result : "");
    }
    apply();
    ck_assert_int_eq(
        look("SELECT count(*) FROM bgmq_history WHERE body IS CAST('body-'||id AS BLOB)"
             " AND result IS CASE id % 3 WHEN 0 THEN NULL WHEN 1 THEN"
             " CAST('r'||id AS BLOB) ELSE x'' END"),
        100);
}
END_TEST

START_TEST(upkeep_forgets_by_age_in_chunks)
{
    fixture_close(store);
    struct store_options options = fixture_options();
    options.history_max_age_ms = 1000;
    store = fixture_open_with(options);
    for (uint64_t id = 1; id <= 2500; id++) {
        struct store_op *op = batch_add(batch, STORE_HISTORY, id);
        op->history = OUTCOME_DONE;
        op->at_ms = (int64_t)id;
    }
    apply();
    ck_assert_int_eq(store->ops->upkeep(store, 1001), 0);
    ck_assert_int_eq(store->ops->upkeep(store, 1002), 1);
    ck_assert_int_eq(look("SELECT min(id) FROM bgmq_history"), 2);
    ck_assert_int_eq(store->ops->upkeep(store, 3400), 1);
    ck_assert_int_eq(look("SELECT min(id) FROM bgmq_history"), 1002);
    while (store->ops->upkeep(store, 3400) == 1)
        ;
    ck_assert_int_eq(look("SELECT min(id) FROM bgmq_history"), 2400);
    while (store->ops->upkeep(store, 100000) == 1)
        ;
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 0);
    ck_assert_int_eq(store->ops->upkeep(store, 100000), 0);
    batch_add(batch, STORE_HISTORY, 1)->history = OUTCOME_DONE;
    apply();
    ck_assert_int_eq(store->ops->upkeep(store, 100000), 1);
}
END_TEST

START_TEST(upkeep_forgets_what_is_too_many_also_of_others)
{
    fixture_close(store);
    struct store_options options = fixture_options();
    options.history_keep = 100;
    store = fixture_open_with(options);
    meddle(fixture_path(),
           "WITH n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n WHERE x < 1500)"
           " INSERT INTO bgmq_history(id, type, outcome, priority, attempts, created,"
           " finished) SELECT x, 1, 'done', 0, 1, 1, 1 FROM n");
    ck_assert_int_eq(store->ops->upkeep(store, 1), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 500);
    ck_assert_int_eq(store->ops->upkeep(store, 1), 1);
    ck_assert_int_eq(store->ops->upkeep(store, 1), 0);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_history"), 100);
    ck_assert_int_eq(look("SELECT min(id) FROM bgmq_history"), 1401);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_kept");
    TCase *c = harness_case(s, "progress");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, progress_comes_back_with_the_row);
    tcase_add_test(c, newest_progress_counts_and_what_is_gone_is_gone);
    tcase_add_test(c, progress_of_any_size_is_written);
    tcase_add_test(c, progress_survives_what_happens_to_its_message);
    tcase_add_test(c, progress_without_a_message_goes_at_the_next_open);
    c = harness_case(s, "errors");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, errors_of_attempts_are_listed_in_order);
    tcase_add_test(c, the_last_hundred_errors_of_a_message_are_kept);
    tcase_add_test(c, errors_stay_as_long_as_the_history_names_the_message);
    tcase_add_test(c, errors_go_with_the_last_row_of_the_history);
    c = harness_case(s, "history");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, history_tells_all_of_an_end);
    tcase_add_test(c, newest_end_of_a_message_is_told);
    tcase_add_test(c, results_of_many_ends_do_not_mix);
    tcase_add_test(c, upkeep_forgets_by_age_in_chunks);
    tcase_add_test(c, upkeep_forgets_what_is_too_many_also_of_others);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
