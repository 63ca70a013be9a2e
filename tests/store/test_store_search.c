/* test_store_search.c - rows by what is in them, and rows that others wrote to the inbox. */
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

/* ---- search -------------------------------------------------------------------------- */

struct found {
    char ids[4096];
    int n, stop_at;
    uint64_t last;
};

static int find(void *ctx, const struct store_row *row)
{
    struct found *f = ctx;
    if (f->stop_at && f->n + 1 == f->stop_at)
        return BGMQ_EFULL;
    size_t len = strlen(f->ids);
    snprintf(f->ids + len, sizeof(f->ids) - len, "%s%d", len ? " " : "", (int)row->id);
    ck_assert_uint_gt(row->id, f->last); /* in order */
    f->last = row->id;
    f->n++;
    return 0;
}

static const char *ids_of(struct store_search what)
{
    static struct found found;
    memset(&found, 0, sizeof(found));
    int n = store->ops->search(store, &what, find, &found);
    ck_assert_int_eq(n, found.n);
    return found.ids;
}

/* Type 1 but for 9 and 10; later ids stand in earlier lanes. */
static void fill(void)
{
    for (uint64_t id = 1; id <= 10; id++) {
        struct store_op *op = batch_spill(batch, id, (enum lane)(3 - id % 4), 0);
        batch_carry(op, &(struct bgmq_message_options){
                            .tag = id % 2 ? "odd" : "even",
                            .expire_at_ms = id % 3 ? (int64_t)id * 100 : 0});
        if (id > 4)
            batch_fail(op, id % 3 ? "A" : "B", "t", 1);
        op->type = id > 8 ? 2 : 1;
    }
    apply();
}

START_TEST(rows_are_found_by_each_thing_and_by_all)
{
    fill();
    static const struct {
        struct store_search what;
        const char *want;
    } cases[] = {
        {{.type = 0}, "1 2 3 4 5 6 7 8 9 10"},
        {{.type = 1}, "1 2 3 4 5 6 7 8"},
        {{.type = 3}, ""},
        {{.type = 1, .lanes = 1 << LANE_DLQ}, "4 8"},
        {{.lanes = 1 << LANE_DLQ | 1 << LANE_INQ}, "3 4 7 8"},
        {{.type = 1, .lanes = 1 << LANE_PRIORITYQ}, "2 6"},
        {{.id = 5}, "5"},
        {{.id = 5, .type = 2}, ""},
        {{.id = 5, .after_id = 5}, ""},
        {{.id = 11}, ""},
        {{.id = UINT64_MAX}, ""},
        {{.type = 1, .tag = "odd"}, "1 3 5 7"},
        {{.type = 1, .tag = ""}, ""},
        {{.type = 1, .error_code = "A"}, "5 7 8"},
        {{.error_code = "A", .tag = "even"}, "8 10"},
        {{.before_ms = 1000004}, "1 2 3"},
        {{.type = 1, .expired_ms = 500}, "1 2 4 5"},
        {{.expired_ms = 499}, "1 2 4"},
        {{.type = 1, .expired_ms = 500, .lanes = 1 << LANE_DLQ}, "4"},
        {{.type = 1, .after_id = 6}, "7 8"},
        {{.type = 1, .limit = 3}, "1 2 3"},
        {{.type = 1, .limit = 3, .after_id = 3, .tag = "even"}, "4 6 8"},
        {{.limit = 2, .after_id = 9}, "10"},
        {{.after_id = UINT64_MAX}, ""},
        {{.type = 1, .max_bytes = 12}, "1 2"},
        {{.type = 1, .max_bytes = 1}, "1"},
        {{.max_bytes = 17}, "1 2"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_msg(strcmp(ids_of(cases[i].what), cases[i].want) == 0,
                      "case %zu: %s, not %s", i, ids_of(cases[i].what), cases[i].want);
}
END_TEST

START_TEST(search_ends_when_the_reader_says_so)
{
    fill();
    for (uint32_t type = 0; type < 2; type++) {
        struct found found = {.stop_at = 3};
        struct store_search what = {.type = type};
        ck_assert_int_eq(store->ops->search(store, &what, find, &found), BGMQ_EFULL);
        ck_assert_str_eq(found.ids, "1 2");
    }
}
END_TEST

START_TEST(rows_of_job_are_not_found)
{
    batch_insert(batch, 1);
    apply();
    ck_assert_str_eq(ids_of((struct store_search){.id = 1}), "");
    ck_assert_str_eq(ids_of((struct store_search){.type = 1}), "");
}
END_TEST

static int count(void *ctx, const struct store_row *row)
{
    *(uint64_t *)ctx = row->id;
    return 0;
}

/* More than the index is asked for: the other way, with the same result. */
START_TEST(many_rows_are_walked_in_chunks)
{
    meddle(fixture_path(),
           "WITH n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n WHERE x < 45000)"
           " INSERT INTO bgmq_backlog(id, type, lane, key, seq, priority, attempt,"
           " max_attempts, run, crashes, flags, created, crc, body, expires)"
           " SELECT x, 1 + (x % 2), 3, 0, 100000 - x, 0, 0, 0, 0, 0, 0, x, 0, x'', x "
           "FROM n");
    for (int expired = 0; expired < 2; expired++) {
        struct store_search what = {
            .type = 1, .limit = 1000, .expired_ms = expired ? 44000 : 0};
        uint64_t total = 0;
        for (int n; (n = store->ops->search(store, &what, count, &what.after_id)) != 0;) {
            ck_assert_int_gt(n, 0);
            total += (uint64_t)n;
        }
        ck_assert_uint_eq(total, expired ? 22000 : 22500);
        ck_assert_uint_eq(what.after_id, expired ? 44000 : 45000);
    }
}
END_TEST

START_TEST(everything_new_of_a_row_comes_back)
{
    for (int job = 0; job < 2; job++) {
        struct store_op *op = job ? batch_insert(batch, 1) : batch_spill(batch, 2, 0, 0);
        batch_carry(op, &(struct bgmq_message_options){.channel = "eu",
                                                       .expire_at_ms = 123456789012,
                                                       .timeout_ms = 4000000000u,
                                                       .unique_key = job ? "k" : "l",
                                                       .unique = BGMQ_UNIQUE_PERIOD,
                                                       .unique_period_ms = 77});
    }
    apply();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 2);
    static struct seen seen;
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 10, SIZE_MAX), 2);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_backlog WHERE channel = 'eu' AND"
                          " expires = 123456789012 AND timeout = 4000000000"
                          " AND unique_scope = 3 AND unique_until = 77"),
                     2);
    ck_assert_int_eq(seen.rows[0].corrupt, 0);
}
END_TEST

static int check_ext(void *ctx, const struct store_row *row)
{
    (void)ctx;
    ck_assert_str_eq(row->ext->channel, "eu");
    ck_assert_int_eq(row->ext->expires_ms, 99);
    ck_assert_uint_eq(row->ext->timeout_ms, 7);
    ck_assert_int_eq(row->ext->unique, BGMQ_UNIQUE_DONE);
    ck_assert_int_eq(row->ext->unique_until_ms, 0);
    return 0;
}

START_TEST(ext_of_a_row_is_handed_out)
{
    batch_carry(batch_spill(batch, 1, 0, 0),
                &(struct bgmq_message_options){.channel = "eu",
                                               .expire_at_ms = 99,
                                               .timeout_ms = 7,
                                               .unique_key = "k",
                                               .unique = BGMQ_UNIQUE_DONE});
    apply();
    ck_assert_int_eq(store->ops->load(store, 1, 0, 0, 0, 9, SIZE_MAX, check_ext, NULL),
                     1);
}
END_TEST

/* ---- inbox --------------------------------------------------------------------------- */

struct post {
    struct store_inbox_row rows[16];
    char refused[16][80], types[16][32], bodies[16][32], keys[16][32];
    size_t n, stop_at;
};

static int read_post(void *ctx, const struct store_inbox_row *row)
{
    struct post *p = ctx;
    if (p->stop_at && p->n + 1 == p->stop_at)
        return BGMQ_EFULL;
    size_t i = p->n++;
    p->rows[i] = *row;
    snprintf(p->refused[i], 80, "%s", row->refused ? row->refused : "");
    snprintf(p->types[i], 32, "%s", row->type);
    snprintf(p->bodies[i], 32, "%.*s", (int)row->len, (const char *)row->body);
    snprintf(p->keys[i], 32, "%s",
             row->options.unique_key ? row->options.unique_key : "");
    return 0;
}

static struct post post;

static int read_all(uint64_t after, size_t limit)
{
    memset(&post, 0, sizeof(post));
    return store->ops->inbox(store, after, limit, read_post, &post);
}

static const uint64_t first_id = UINT64_C(1) << 52;

START_TEST(row_of_plain_sql_is_a_message)
{
    meddle(fixture_path(), "INSERT INTO bgmq_inbox(type, body) VALUES('Mail', 'text')");
    ck_assert_int_eq(read_all(0, 10), 1);
    ck_assert_uint_eq(post.rows[0].id, first_id);
    ck_assert_str_eq(post.types[0], "Mail");
    ck_assert_str_eq(post.bodies[0], "text");
    ck_assert_str_eq(post.refused[0], "");
    ck_assert_int_eq(post.rows[0].options.priority, 0);
    ck_assert_int_gt(post.rows[0].created_ms, 1500000000000);
    ck_assert_uint_eq(post.rows[0].meta_len, 0);
}
END_TEST

START_TEST(everything_of_a_row_of_the_inbox_is_read)
{
    meddle(fixture_path(),
           "INSERT INTO bgmq_inbox(type, body, priority, run_at, expires, unique_key,"
           " unique_scope, unique_period, reply_to, reply_id, tag, traceparent, meta,"
           " channel, max_attempts, timeout, created) VALUES('T', x'6100', 5, 100, 200,"
           " 'k', 3, 50, 'r', 9, 'tag', 'tp', '{\"a\":\"b\"}', 'eu', 7, 8, 1000)");
    ck_assert_int_eq(read_all(0, 10), 1);
    const struct store_inbox_row *r = &post.rows[0];
    ck_assert_str_eq(post.refused[0], "");
    ck_assert_uint_eq(r->len, 2);
    ck_assert_int_eq(r->options.priority, 5);
    ck_assert_int_eq(r->options.run_at_ms, 100);
    ck_assert_int_eq(r->options.expire_at_ms, 200);
    ck_assert_str_eq(post.keys[0], "k");
    ck_assert_int_eq(r->options.unique, BGMQ_UNIQUE_PERIOD);
    ck_assert_int_eq(r->options.unique_period_ms, 1050); /* a point in time */
    ck_assert_uint_eq(r->options.reply_id, 9);
    ck_assert_uint_eq(r->options.max_attempts, 7);
    ck_assert_uint_eq(r->options.timeout_ms, 8);
    ck_assert_int_eq(r->created_ms, 1000);
    ck_assert_uint_eq(r->meta_len, 4);
}
END_TEST

START_TEST(what_cannot_be_a_message_says_why)
{
    fixture_close(store);
    struct store_options options = fixture_options();
    options.max_body = 4;
    store = fixture_open_with(options);
    static const struct {
        const char *column, *value, *why;
    } cases[] = {
        {"priority", "-1", "priority"},        {"priority", "32768", "priority"},
        {"unique_scope", "4", "unique_scope"}, {"max_attempts", "1001", "max_attempts"},
        {"timeout", "-1", "timeout"},          {"run_at", "-5", "run_at"},
        {"expires", "-5", "expires"},          {"created", "-5", "created"},
        {"meta", "'no json'", "meta"},         {"meta", "'{\"a\":1}'", "meta"},
        {"body", "'12345'", "max_body"},       {"id", "17", "the id"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char sql[300];
        snprintf(sql, sizeof(sql),
                 "PRAGMA ignore_check_constraints = ON; DELETE FROM bgmq_inbox;"
                 " INSERT INTO bgmq_inbox(type, body) VALUES('T', 'b');"
                 " UPDATE bgmq_inbox SET %s = %s",
                 cases[i].column, cases[i].value);
        meddle(fixture_path(), sql);
        ck_assert_int_eq(read_all(0, 10), 1);
        ck_assert_msg(strstr(post.refused[0], cases[i].why), "%s: %s", cases[i].column,
                      post.refused[0]);
    }
    meddle(fixture_path(), "UPDATE bgmq_inbox SET unique_scope = 3, unique_key = 'k',"
                           " id = 1 << 52");
    ck_assert_int_eq(read_all(0, 10), 1);
    ck_assert_ptr_nonnull(strstr(post.refused[0], "unique_period"));
}
END_TEST

static void post_five(void)
{
    meddle(fixture_path(), "INSERT INTO bgmq_inbox(type, body) VALUES('T', '1'),"
                           " ('T', '2'), ('T', '3'), ('T', '4'), ('T', '5')");
}

START_TEST(inbox_is_read_on_from_where_it_was_left)
{
    post_five();
    ck_assert_int_eq(read_all(0, 2), 2);
    ck_assert_int_eq(read_all(post.rows[1].id, 10), 3);
    ck_assert_str_eq(post.bodies[0], "3");
    ck_assert_int_eq(read_all(UINT64_MAX, 10), 0);
    memset(&post, 0, sizeof(post));
    post.stop_at = 3;
    ck_assert_int_eq(store->ops->inbox(store, 0, 10, read_post, &post), BGMQ_EFULL);
}
END_TEST

START_TEST(refused_row_is_not_handed_out_again)
{
    post_five();
    struct store_op *op = batch_add(batch, STORE_REFUSE, first_id + 1);
    op->text = (char *)(uintptr_t) "no such thing";
    apply();
    ck_assert_int_eq(read_all(0, 10), 4);
    ck_assert_str_eq(post.bodies[1], "3");
    ck_assert_str_eq(look_text("SELECT refused FROM bgmq_inbox WHERE body = '2'"),
                     "no such thing");
    op = batch_add(batch, STORE_REFUSE, first_id + 77);
    op->text = (char *)(uintptr_t) "x";
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(op->result, BGMQ_ELOST);
}
END_TEST

START_TEST(row_of_the_inbox_goes_when_its_message_comes)
{
    post_five();
    batch_insert(batch, first_id)->flags = OP_INBOX;
    batch_spill(batch, first_id + 1, LANE_DELAYED, 5)->flags = OP_INBOX;
    apply();
    ck_assert_str_eq(look_text("SELECT group_concat(body, '') FROM bgmq_inbox"), "345");
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job WHERE id = 1 << 52"), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_backlog"), 1);
    /* A duplicate's row goes, too. */
    const struct bgmq_message_options key = {.unique_key = "k"};
    batch_carry(batch_insert(batch, 1), &key);
    struct store_op *op = batch_insert(batch, first_id + 2);
    batch_carry(op, &key);
    op->flags = OP_INBOX;
    ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(op->result, BGMQ_EEXIST);
    ck_assert_uint_eq(op->id, 1);
    ck_assert_str_eq(look_text("SELECT group_concat(body, '') FROM bgmq_inbox"), "45");
}
END_TEST

START_TEST(row_that_its_writer_took_back_is_no_message)
{
    post_five();
    meddle(fixture_path(), "DELETE FROM bgmq_inbox WHERE body = '1'");
    for (int spill = 0; spill < 2; spill++) {
        struct store_op *op =
            spill ? batch_spill(batch, first_id, 0, 0) : batch_insert(batch, first_id);
        op->flags = OP_INBOX;
        ck_assert_int_eq(batch_try(store, batch, STORE_SYNC_NORMAL, NULL),
                         STORE_FAIL_NONE);
        ck_assert_int_eq(op->result, BGMQ_ELOST);
        batch_free(batch);
        batch = batch_new();
    }
    ck_assert_int_eq(look("SELECT (SELECT count(*) FROM bgmq_job) +"
                          " (SELECT count(*) FROM bgmq_backlog)"),
                     0);
}
END_TEST

START_TEST(id_of_the_inbox_is_never_given_again)
{
    post_five();
    meddle(fixture_path(), "DELETE FROM bgmq_inbox");
    fixture_close(store);
    store = fixture_open();
    post_five();
    ck_assert_int_eq(read_all(0, 10), 5);
    ck_assert_uint_eq(post.rows[0].id, first_id + 5);
    /* Nor do they make the owner's ids begin there. */
    batch_insert(batch, first_id)->flags = 0;
    apply();
    fixture_close(store);
    store = fixture_open();
    uint64_t first;
    ck_assert_int_eq(store->ops->reserve_ids(store, 1, &first), 0);
    ck_assert_uint_lt(first, 1000);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_search");
    TCase *c = harness_case(s, "search");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, rows_are_found_by_each_thing_and_by_all);
    tcase_add_test(c, search_ends_when_the_reader_says_so);
    tcase_add_test(c, rows_of_job_are_not_found);
    tcase_add_test(c, many_rows_are_walked_in_chunks);
    tcase_add_test(c, everything_new_of_a_row_comes_back);
    tcase_add_test(c, ext_of_a_row_is_handed_out);
    c = harness_case(s, "inbox");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, row_of_plain_sql_is_a_message);
    tcase_add_test(c, everything_of_a_row_of_the_inbox_is_read);
    tcase_add_test(c, what_cannot_be_a_message_says_why);
    tcase_add_test(c, inbox_is_read_on_from_where_it_was_left);
    tcase_add_test(c, refused_row_is_not_handed_out_again);
    tcase_add_test(c, row_of_the_inbox_goes_when_its_message_comes);
    tcase_add_test(c, row_that_its_writer_took_back_is_no_message);
    tcase_add_test(c, id_of_the_inbox_is_never_given_again);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
