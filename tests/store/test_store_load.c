/* test_store_load.c - what comes back from the file: rows in their order, types, what was in
 * memory when the last owner died, and ids. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

static struct store *store;
static struct batch_of *batch;
static struct seen seen;
static char ids[256];

static void setup(void)
{
    store = fixture_open();
    batch = batch_new();
    memset(&seen, 0, sizeof(seen));
}

static void teardown(void)
{
    fixture_close(store);
    check_sound();
}

static void apply(void)
{
    batch_apply(store, batch);
    batch = batch_new();
}

static void reopen(void)
{
    fixture_close(store);
    store = fixture_open();
}

static void spill(uint64_t id, enum lane lane, int64_t key, uint64_t seq)
{
    batch_spill(batch, id, lane, key)->seq = seq;
}

/* ---- order and bounds ---------------------------------------------------------------- */

START_TEST(lanes_are_apart_and_in_order)
{
    spill(1, LANE_INQ, 0, 30);
    spill(2, LANE_INQ, 0, 10);
    spill(3, LANE_INQ, 0, 20);
    spill(4, LANE_PRIORITYQ, -5, 2);
    spill(5, LANE_PRIORITYQ, -9, 3);
    spill(6, LANE_PRIORITYQ, -5, 1);
    spill(7, LANE_DELAYED, 2000, 1);
    spill(8, LANE_DELAYED, 1000, 2);
    spill(9, LANE_DLQ, 0, 5);
    spill(10, LANE_INQ, 0, 15);
    batch->ops[batch->n - 1].type = 2;
    apply();
    ck_assert_str_eq(seen_ids(store, LANE_INQ, ids, sizeof(ids)), "2 3 1");
    ck_assert_str_eq(seen_ids(store, LANE_PRIORITYQ, ids, sizeof(ids)), "5 6 4");
    ck_assert_str_eq(seen_ids(store, LANE_DELAYED, ids, sizeof(ids)), "8 7");
    ck_assert_str_eq(seen_ids(store, LANE_DLQ, ids, sizeof(ids)), "9");
}
END_TEST

START_TEST(load_begins_at_the_place_named_and_includes_it)
{
    for (uint64_t id = 1; id <= 9; id++)
        spill(id, LANE_PRIORITYQ, -(int64_t)((id - 1) / 3), id);
    apply();
    ck_assert_int_eq(seen_load(store, &seen, LANE_PRIORITYQ, -1, 5, 10, SIZE_MAX), 5);
    static const uint64_t want[] = {5, 6, 1, 2, 3};
    for (size_t i = 0; i < 5; i++)
        ck_assert_uint_eq(seen.rows[i].id, want[i]);
    ck_assert_int_eq(seen_load(store, &seen, LANE_PRIORITYQ, -1, 7, 10, SIZE_MAX), 3);
    ck_assert_uint_eq(seen.rows[0].id, 1);
    ck_assert_int_eq(seen_load(store, &seen, LANE_PRIORITYQ, 1, 0, 10, SIZE_MAX), 0);
}
END_TEST

START_TEST(load_stops_at_the_limit)
{
    for (uint64_t id = 1; id <= 9; id++)
        spill(id, LANE_INQ, 0, id);
    apply();
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 4, SIZE_MAX), 4);
    ck_assert_uint_eq(seen.rows[3].id, 4);
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 0, SIZE_MAX), 0);
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, SIZE_MAX, SIZE_MAX), 9);
}
END_TEST

/* Each body has 6 bytes. */
START_TEST(load_stops_at_the_bytes_but_brings_one)
{
    for (uint64_t id = 1; id <= 9; id++)
        spill(id, LANE_INQ, 0, id);
    apply();
    static const struct {
        size_t bytes;
        int rows;
    } cases[] = {{0, 1}, {1, 1}, {6, 1}, {11, 1}, {12, 2}, {17, 2}, {18, 3}, {54, 9}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 20, cases[i].bytes),
                         cases[i].rows);
}
END_TEST

START_TEST(load_ends_when_the_reader_says_so)
{
    for (uint64_t id = 1; id <= 5; id++)
        spill(id, LANE_INQ, 0, id);
    apply();
    seen.stop_at = 3;
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 20, SIZE_MAX), BGMQ_EFULL);
    ck_assert_uint_eq(seen.n, 2);
    seen.stop_at = 0;
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 20, SIZE_MAX), 5);
}
END_TEST

START_TEST(load_walks_the_index_and_sorts_nothing)
{
    char plan[256];
    snprintf(plan, sizeof(plan), "%s",
             look_text("SELECT group_concat(name) FROM pragma_index_info("
                       "'bgmq_backlog_order')"));
    ck_assert_str_eq(plan, "type,lane,key,seq");
    ck_assert_int_eq(look("SELECT count(*) FROM sqlite_schema WHERE type = 'index'"
                          " AND tbl_name = 'bgmq_job'"),
                     0);
}
END_TEST

/* ---- what a row says ----------------------------------------------------------------- */

START_TEST(everything_of_a_row_comes_back)
{
    struct store_op *op = batch_spill(batch, 7, LANE_DELAYED, 123);
    static const char *const meta[] = {"k1", "v1", "k\"2", "", NULL};
    batch_carry(op, &(struct bgmq_message_options){.unique_key = "unique",
                                                   .tag = "tag",
                                                   .reply_to = "mq:R.inq",
                                                   .reply_id = UINT64_MAX,
                                                   .traceparent = "00-1-2-3",
                                                   .meta = meta});
    batch_fail(op, "Code", "text", 66);
    op->msg->priority = -3;
    op->msg->max_attempts = 1000;
    op->msg->flags = 0xff;
    op->seq = (uint64_t)INT64_MAX;
    op->attempt = 65535;
    op->run = UINT32_MAX;
    op->crashes = 255;
    apply();
    ck_assert_int_eq(seen_load(store, &seen, LANE_DELAYED, 0, 0, 10, SIZE_MAX), 1);
    const struct store_row *r = &seen.rows[0];
    ck_assert_uint_eq(r->type, 1);
    ck_assert_int_eq(r->lane, LANE_DELAYED);
    ck_assert_uint_eq(r->id, 7);
    ck_assert_uint_eq(r->seq, (uint64_t)INT64_MAX);
    ck_assert_int_eq(r->key, 123);
    ck_assert_int_eq(r->created_ms, 1000007);
    ck_assert_int_eq(r->priority, -3);
    ck_assert_uint_eq(r->attempt, 65535);
    ck_assert_uint_eq(r->max_attempts, 1000);
    ck_assert_uint_eq(r->run, UINT32_MAX);
    ck_assert_uint_eq(r->crashes, 255);
    ck_assert_uint_eq(r->flags, 0xff);
    ck_assert_str_eq(r->error_code, "Code");
    ck_assert_int_eq(r->error_ms, 66);
    ck_assert_int_eq(r->corrupt, 0);
    ck_assert_str_eq(seen.bodies[0], "body-7");
    ck_assert_str_eq(seen.keys[0], "unique");
    ck_assert_str_eq(seen.tags[0], "tag");
    ck_assert_int_eq(memcmp(seen.metas[0], "k1\0v1\0k\"2\0", 11), 0);
    ck_assert_str_eq(
        look_text("SELECT reply_to||reply_id||traceparent FROM bgmq_backlog"),
        "mq:R.inq-100-1-2-3");
    ck_assert_str_eq(look_text("SELECT meta FROM bgmq_backlog"),
                     "{\"k1\":\"v1\",\"k\\\"2\":\"\"}");
}
END_TEST

static int keep_ext(void *ctx, const struct store_row *row)
{
    struct message_ext *ext = ctx;
    ck_assert_ptr_nonnull(row->ext);
    *ext = *row->ext;
    ck_assert_str_eq(row->ext->reply_to, "r");
    return 0;
}

START_TEST(great_reply_id_comes_back)
{
    struct store_op *op = batch_spill(batch, 1, LANE_INQ, 0);
    batch_carry(
        op, &(struct bgmq_message_options){.reply_to = "r", .reply_id = UINT64_MAX - 5});
    apply();
    struct message_ext ext = {0};
    ck_assert_int_eq(store->ops->load(store, 1, LANE_INQ, 0, 0, 1, 1, keep_ext, &ext), 1);
    ck_assert_uint_eq(ext.reply_id, UINT64_MAX - 5);
    ck_assert_ptr_null(ext.unique_key);
    ck_assert_ptr_null(ext.meta);
}
END_TEST

static int compare_body(void *ctx, const struct store_row *row)
{
    const struct message *m = ctx;
    ck_assert_uint_eq(row->len, m->len);
    ck_assert_int_eq(memcmp(row->body, m->body, m->len), 0);
    ck_assert_int_eq(row->corrupt, 0);
    ck_assert_ptr_null(row->ext);
    ck_assert_ptr_null(row->error_code);
    return 0;
}

START_TEST(body_is_any_bytes_of_any_length)
{
    static const size_t lengths[] = {0, 1, 255, 4000, 4096, 70000, 1 << 20};
    static char bytes[1 << 20];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 7 + i / 251);
    struct store_op *op = batch_spill(batch, 1, LANE_INQ, 0);
    bgmqi_message_unref(op->msg);
    op->msg = bgmqi_message_new(bytes, lengths[_i]);
    struct message *kept = op->msg;
    bgmqi_message_ref(kept);
    apply();
    reopen();
    ck_assert_int_eq(store->ops->load(store, 1, LANE_INQ, 0, 0, 1, 1, compare_body, kept),
                     1);
    bgmqi_message_unref(kept);
}
END_TEST

/* ---- rows that others have spoilt ---------------------------------------------------- */

START_TEST(spoilt_body_is_handed_out_as_corrupt)
{
    for (uint64_t id = 1; id <= 3; id++)
        spill(id, LANE_INQ, 0, id);
    apply();
    meddle(fixture_path(), "UPDATE bgmq_backlog SET body = x'00' WHERE id = 2");
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 10, SIZE_MAX), 3);
    ck_assert_int_eq(seen.rows[0].corrupt, 0);
    ck_assert_int_eq(seen.rows[1].corrupt, 1);
    ck_assert_int_eq(seen.rows[2].corrupt, 0);
}
END_TEST

START_TEST(spoilt_meta_is_corrupt)
{
    static const char *const metas[] = {"'{'", "'[]'", "'{\"a\":1}'", "''",
                                        "'{\"a\":\"1\",\"a\":\"2\"}'"};
    spill(1, LANE_INQ, 0, 1);
    apply();
    char sql[128];
    snprintf(sql, sizeof(sql), "UPDATE bgmq_backlog SET meta = %s", metas[_i]);
    meddle(fixture_path(), sql);
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 10, SIZE_MAX), 1);
    ck_assert_int_eq(seen.rows[0].corrupt, 1);
}
END_TEST

/* S7. */
START_TEST(numbers_out_of_range_are_cut)
{
    spill(1, LANE_INQ, 0, 1);
    apply();
    meddle(
        fixture_path(),
        "UPDATE bgmq_backlog SET attempt = -1, run = -7, crashes = 1000, flags = 99999,"
        " priority = 9999999, max_attempts = 1 << 40");
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 10, SIZE_MAX), 1);
    const struct store_row *r = &seen.rows[0];
    ck_assert_uint_eq(r->attempt, 0);
    ck_assert_uint_eq(r->run, 0);
    ck_assert_uint_eq(r->crashes, 255);
    ck_assert_uint_eq(r->flags, 255);
    ck_assert_int_eq(r->priority, INT16_MAX);
    ck_assert_uint_eq(r->max_attempts, 65535);
    ck_assert_int_eq(r->corrupt, 1);
}
END_TEST

/* ---- types --------------------------------------------------------------------------- */

struct census {
    uint32_t numbers[8];
    char names[8][16];
    uint64_t counts[8][LANES];
    size_t n, stop_at;
};

static int count_type(void *ctx, uint32_t type, const char *name,
                      const uint64_t counts[LANES])
{
    struct census *c = ctx;
    if (c->stop_at && c->n + 1 == c->stop_at)
        return BGMQ_ENOMEM;
    c->numbers[c->n] = type;
    snprintf(c->names[c->n], sizeof(c->names[0]), "%s", name);
    memcpy(c->counts[c->n++], counts, LANES * sizeof(counts[0]));
    return 0;
}

START_TEST(types_are_counted_by_lane)
{
    static const char *const names[] = {"C", "A", "B"};
    for (uint32_t i = 0; i < 3; i++) {
        struct store_op *op = batch_add(batch, STORE_TYPE, 0);
        op->type = i + 1;
        op->text = (char *)(uintptr_t)names[i];
    }
    for (uint64_t id = 1; id <= 10; id++) {
        struct store_op *op = batch_spill(batch, id, (enum lane)(id % 4), (int64_t)id);
        op->type = id <= 7 ? 1 : 3;
    }
    batch_insert(batch, 11);
    apply();
    struct census c = {.n = 0};
    ck_assert_int_eq(store->ops->types(store, count_type, &c), 3);
    static const uint64_t want[3][LANES] = {{1, 2, 2, 2}, {0, 0, 0, 0}, {1, 1, 1, 0}};
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(c.numbers[i], i + 1);
        ck_assert_str_eq(c.names[i], names[i]);
        for (int lane = 0; lane < LANES; lane++)
            ck_assert_uint_eq(c.counts[i][lane], want[i][lane]);
    }
    c = (struct census){.stop_at = 2};
    ck_assert_int_eq(store->ops->types(store, count_type, &c), BGMQ_ENOMEM);
}
END_TEST

/* ---- recovery ------------------------------------------------------------------------ */

START_TEST(recover_puts_everything_back_into_its_lane)
{
    for (uint64_t id = 1; id <= 6; id++) {
        struct store_op *op = batch_insert(batch, id);
        op->msg->priority = (int16_t)(id % 2 ? 0 : id);
        op->seq = 100 - id;
    }
    spill(50, LANE_DLQ, 0, 1);
    spill(51, LANE_DELAYED, 9, 1);
    apply();
    reopen();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 7);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 0);
    ck_assert_str_eq(seen_ids(store, LANE_INQ, ids, sizeof(ids)), "5 3 1");
    ck_assert_str_eq(seen_ids(store, LANE_PRIORITYQ, ids, sizeof(ids)), "6 4 2");
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 7);
}
END_TEST

START_TEST(recover_keeps_all_of_a_row)
{
    static const char *const meta[] = {"a", "b", NULL};
    struct store_op *op = batch_insert(batch, 3);
    batch_carry(op, &(struct bgmq_message_options){
                        .unique_key = "key", .tag = "tag", .meta = meta});
    op->attempt = 2;
    op->run = 5;
    op->crashes = 1;
    apply();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 1);
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 10, SIZE_MAX), 1);
    ck_assert_uint_eq(seen.rows[0].attempt, 2);
    ck_assert_uint_eq(seen.rows[0].run, 5);
    ck_assert_uint_eq(seen.rows[0].crashes, 1);
    ck_assert_int_eq(seen.rows[0].corrupt, 0);
    ck_assert_str_eq(seen.keys[0], "key");
    ck_assert_str_eq(seen.tags[0], "tag");
    ck_assert_int_eq(memcmp(seen.metas[0], "a\0b\0", 4), 0);
    batch_carry(batch_insert(batch, 4),
                &(struct bgmq_message_options){.unique_key = "key"});
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(batch->ops[0].result, BGMQ_EEXIST);
    batch_free(batch);
}
END_TEST

/* 1 in JOB, 2 in BACKLOG, 3 dead meanwhile, 4 has ended; 5 was not running. */
START_TEST(recover_charges_what_was_running)
{
    struct store_op *op = batch_insert(batch, 1);
    op->attempt = 1;
    op->run = 7;
    op = batch_spill(batch, 2, LANE_INQ, 0);
    op->attempt = 5;
    op->run = 3;
    op->crashes = 255;
    spill(3, LANE_DLQ, 0, 3);
    batch_insert(batch, 5);
    apply();
    static const uint64_t in_flight[] = {4, 3, 2, 1};
    static const uint32_t attempts[] = {9, 9, 4, 2};
    ck_assert_int_eq(recover(store, in_flight, attempts, 4), 3);
    static const char form[] = "SELECT attempt||' '||run||' '||crashes FROM bgmq_backlog"
                               " WHERE id = %d";
    static const struct {
        int id;
        const char *want;
    } cases[] = {{1, "2 7 1"}, {2, "5 5 255"}, {3, "0 0 0"}, {5, "0 0 0"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char sql[128];
        snprintf(sql, sizeof(sql), form, cases[i].id);
        ck_assert_str_eq(look_text(sql), cases[i].want);
    }
}
END_TEST

/* ---- ids ----------------------------------------------------------------------------- */

static uint64_t reserve(uint64_t n)
{
    uint64_t first = 0;
    ck_assert_int_eq(store->ops->reserve_ids(store, n, &first), 0);
    return first;
}

START_TEST(ids_are_never_given_twice)
{
    ck_assert_uint_eq(reserve(1000), 1);
    ck_assert_uint_eq(reserve(1), 1001);
    reopen();
    ck_assert_uint_eq(reserve(5), 1002);
}
END_TEST

START_TEST(ids_returned_are_given_again_but_never_more)
{
    reserve(1000);
    ck_assert_int_eq(store->ops->leave(store, 11), 0);
    ck_assert_uint_eq(reserve(10), 11);
    ck_assert_int_eq(store->ops->leave(store, 5000), 0);
    reopen();
    ck_assert_uint_eq(reserve(1), 21);
    ck_assert_int_eq(store->ops->leave(store, 0), BGMQ_EINVAL);
}
END_TEST

START_TEST(ids_of_rows_are_not_given_even_when_the_number_is_lost)
{
    batch_insert(batch, 300);
    spill(500, LANE_INQ, 0, 1);
    apply();
    meddle(fixture_path(), "UPDATE bgmq_meta SET value = 2 WHERE key = 'next_id'");
    reopen();
    ck_assert_uint_eq(reserve(1), 501);
}
END_TEST

START_TEST(ids_run_out_without_harm)
{
    uint64_t first = 42;
    ck_assert_int_eq(store->ops->reserve_ids(store, UINT64_MAX, &first), BGMQ_EINVAL);
    meddle(fixture_path(),
           "UPDATE bgmq_meta SET value = 9223372036854775000 WHERE key = 'next_id'");
    ck_assert_int_lt(store->ops->reserve_ids(store, 1 << 20, &first), 0);
    ck_assert_uint_eq(first, 42);
    ck_assert_int_eq(store->ops->reserve_ids(store, UINT64_MAX, &first), BGMQ_ECORRUPT);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_load");
    TCase *c = harness_case(s, "load");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, lanes_are_apart_and_in_order);
    tcase_add_test(c, load_begins_at_the_place_named_and_includes_it);
    tcase_add_test(c, load_stops_at_the_limit);
    tcase_add_test(c, load_stops_at_the_bytes_but_brings_one);
    tcase_add_test(c, load_ends_when_the_reader_says_so);
    tcase_add_test(c, load_walks_the_index_and_sorts_nothing);
    tcase_add_test(c, everything_of_a_row_comes_back);
    tcase_add_test(c, great_reply_id_comes_back);
    tcase_add_loop_test(c, body_is_any_bytes_of_any_length, 0, 7);
    tcase_add_test(c, spoilt_body_is_handed_out_as_corrupt);
    tcase_add_loop_test(c, spoilt_meta_is_corrupt, 0, 5);
    tcase_add_test(c, numbers_out_of_range_are_cut);
    tcase_add_test(c, types_are_counted_by_lane);
    c = harness_case(s, "recover");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, recover_puts_everything_back_into_its_lane);
    tcase_add_test(c, recover_keeps_all_of_a_row);
    tcase_add_test(c, recover_charges_what_was_running);
    c = harness_case(s, "ids");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, ids_are_never_given_twice);
    tcase_add_test(c, ids_returned_are_given_again_but_never_more);
    tcase_add_test(c, ids_of_rows_are_not_given_even_when_the_number_is_lost);
    tcase_add_test(c, ids_run_out_without_harm);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
