/* test_store_boot.c - what an opening knows of the last owner, and rows that are not as they were
 * written. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct store *store;
static struct batch_of *batch;
static struct seen seen;

static void setup(void)
{
    store = fixture_open();
    batch = batch_new();
}

static void teardown(void)
{
    batch_free(batch);
    fixture_close(store);
    ck_assert_str_eq(look_text("PRAGMA integrity_check"), "ok");
}

static void apply(void)
{
    batch_apply(store, batch);
    batch = batch_new();
}

/* ---- the last owner ------------------------------------------------------------------ */

/* An opening at NOW after an owner that left flight FLIGHT, in which 1 ran and 2 had ended. */
static struct store_booted boot(uint64_t flight, int64_t now_ms)
{
    static const uint64_t ids[] = {1, 2};
    static const uint32_t attempts[] = {1, 1};
    static const uint8_t running[] = {1, 0};
    struct store_boot what = {.ids = ids,
                              .attempts = attempts,
                              .running = running,
                              .n = 2,
                              .flight = flight,
                              .now_ms = now_ms};
    struct store_booted booted = {.unfinished = 77, .deaths = 77};
    ck_assert_int_eq(store->ops->recover(store, &what, &booted), 0);
    return booted;
}

static const char *charged(uint64_t id)
{
    char sql[128];
    snprintf(sql, sizeof(sql),
             "SELECT attempt||' '||run||' '||crashes FROM bgmq_backlog WHERE id = %d",
             (int)id);
    return look_text(sql);
}

START_TEST(flight_is_charged_once_however_often_it_is_shown)
{
    batch_insert(batch, 1);
    batch_insert(batch, 2);
    batch_insert(batch, 3);
    apply();
    ck_assert_uint_eq(boot(10, 1000).unfinished, 3);
    ck_assert_str_eq(charged(1), "1 1 1");
    ck_assert_str_eq(charged(2), "1 1 0"); /* ended: the start counts, not the death */
    ck_assert_str_eq(charged(3), "0 0 0");
    boot(10, 2000);
    fixture_close(store);
    store = fixture_open();
    boot(10, 3000);
    ck_assert_str_eq(charged(1), "1 1 1");
    boot(11, 4000);
    ck_assert_str_eq(charged(1), "1 1 2");
    ck_assert_str_eq(charged(2), "1 1 0");
}
END_TEST

START_TEST(deaths_soon_after_an_opening_are_counted)
{
    ck_assert_uint_eq(boot(1, 1000000).deaths, 0); /* the first owner ever */
    ck_assert_uint_eq(boot(2, 1059999).deaths, 1);
    ck_assert_uint_eq(boot(3, 1060000).deaths, 2);
    ck_assert_uint_eq(boot(4, 1060000 + 60000).deaths, 0); /* it lived long enough */
    ck_assert_uint_eq(boot(5, 1130000).deaths, 1);
    ck_assert_int_eq(store->ops->leave(store, 1), 0);
    ck_assert_uint_eq(boot(6, 1130001).deaths, 0); /* it was closed */
    ck_assert_uint_eq(boot(7, 1130002).deaths, 1);
    ck_assert_uint_eq(boot(8, 1130001).deaths, 0); /* the clock went back */
}
END_TEST

/* ---- S7: rows that are not as they were ---------------------------------------------- */

static void spill_three(void)
{
    for (uint64_t id = 1; id <= 3; id++)
        batch_spill(batch, id, LANE_INQ, 0);
    apply();
}

/* Row 2 is corrupt, 1 and 3 are as they were. */
static void only_the_second_is_corrupt(void)
{
    ck_assert_int_eq(seen_load(store, &seen, LANE_INQ, 0, 0, 10, SIZE_MAX), 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(seen.rows[i].id, (uint64_t)i + 1);
        ck_assert_int_eq(seen.rows[i].corrupt, i == 1);
    }
    ck_assert_str_eq(seen.bodies[0], "body-1");
    ck_assert_str_eq(seen.bodies[2], "body-3");
}

static const char *const odd_values[] = {
    "attempt = -1",       "attempt = 1 << 40", "max_attempts = -1",
    "run = -5",           "crashes = 256",     "crashes = -1",
    "flags = 65536",      "priority = 40000",  "priority = -9223372036854775808",
    "expires = -1",       "timeout = 1 << 33", "timeout = -1",
    "unique_scope = 4",   "crc = -1",          "body = x''",
    "meta = '{\"a\":1}'", "meta = 'x'",        "meta = '[]'",
    "body = x'00ff'",
};
enum { ODD_VALUES = sizeof(odd_values) / sizeof(odd_values[0]) };

/* S7. */
START_TEST(odd_value_makes_its_row_corrupt_and_no_other)
{
    char sql[128];
    spill_three();
    snprintf(sql, sizeof(sql), "UPDATE bgmq_backlog SET %s WHERE id = 2", odd_values[_i]);
    meddle(fixture_path(), sql);
    only_the_second_is_corrupt();
    recover(store, NULL, NULL, 0);
    only_the_second_is_corrupt();
}
END_TEST

/* As a flipped bit may leave it: the tables are not STRICT while they are written. */
static void damage(const char *sql)
{
    static const char *const tables[] = {"bgmq_job", "bgmq_backlog", "bgmq_type",
                                         "bgmq_inbox"};
    enum { TABLES = sizeof(tables) / sizeof(tables[0]) };
    char all[1024];
    snprintf(all, sizeof(all),
             "PRAGMA writable_schema = ON;"
             "UPDATE sqlite_schema SET sql = replace(replace(sql, ') STRICT', ')'),"
             " ' NOT NULL', '') WHERE name IN"
             " ('bgmq_job', 'bgmq_backlog', 'bgmq_type', 'bgmq_inbox');"
             "PRAGMA writable_schema = RESET; PRAGMA ignore_check_constraints = ON; %s",
             sql);
    char *kept[TABLES];
    for (int i = 0; i < TABLES; i++) {
        sqlite3 *db = NULL;
        sqlite3_stmt *q = NULL;
        ck_assert_int_eq(sqlite3_open(fixture_path(), &db), SQLITE_OK);
        ck_assert_int_eq(
            sqlite3_prepare_v2(db, "SELECT sql FROM sqlite_schema WHERE name = ?1", -1,
                               &q, NULL),
            SQLITE_OK);
        sqlite3_bind_text(q, 1, tables[i], -1, SQLITE_STATIC);
        ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
        kept[i] = strdup((const char *)sqlite3_column_text(q, 0));
        sqlite3_finalize(q);
        sqlite3_close(db);
    }
    meddle(fixture_path(), all);
    for (int i = 0; i < TABLES; i++) {
        char *back = sqlite3_mprintf("PRAGMA writable_schema = ON; UPDATE sqlite_schema"
                                     " SET sql = %Q WHERE name = %Q;"
                                     "PRAGMA writable_schema = RESET",
                                     kept[i], tables[i]);
        meddle(fixture_path(), back);
        sqlite3_free(back);
        free(kept[i]);
    }
}

static const char *const odd_kinds[] = {
    "attempt = 'many'", "attempt = NULL", "created = x'00'", "body = 'text'",
    "body = NULL",      "run = 1.5",      "flags = 'f'",     "crc = 'none'",
};
enum { ODD_KINDS = sizeof(odd_kinds) / sizeof(odd_kinds[0]) };

/* S7. */
START_TEST(value_of_another_kind_makes_its_row_corrupt_and_no_other)
{
    char sql[128];
    spill_three();
    fixture_close(store);
    snprintf(sql, sizeof(sql), "UPDATE bgmq_backlog SET %s WHERE id = 2", odd_kinds[_i]);
    damage(sql);
    store = fixture_open();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 3);
    only_the_second_is_corrupt();
    meddle(fixture_path(), "DELETE FROM bgmq_backlog WHERE id = 2");
}
END_TEST

static int no_type(void *ctx, uint32_t id, const char *name, const uint64_t counts[LANES])
{
    (void)ctx, (void)id, (void)name, (void)counts;
    return 0;
}

static int row_without_type(void *ctx, const struct store_inbox_row *row)
{
    ++*(int *)ctx;
    ck_assert_ptr_null(row->type);
    return 0;
}

/* S7.  Who waits for memory would wait for ever. */
START_TEST(name_that_is_none_is_damage_and_no_lack_of_memory)
{
    int rows = 0;
    spill_three();
    fixture_close(store);
    damage("INSERT OR REPLACE INTO bgmq_type(id, name) VALUES(1, NULL);"
           "INSERT INTO bgmq_inbox(type, body) VALUES(NULL, 'b')");
    store = fixture_open();
    ck_assert_int_eq(store->ops->types(store, no_type, NULL), BGMQ_ECORRUPT);
    ck_assert_int_eq(store->ops->inbox(store, 0, 9, row_without_type, &rows), 1);
    ck_assert_int_eq(rows, 1);
    meddle(fixture_path(), "DELETE FROM bgmq_type; DELETE FROM bgmq_inbox");
}
END_TEST

/* S7.  It must not keep the service from opening. */
START_TEST(value_of_another_kind_in_job_is_taken_over)
{
    char sql[128];
    for (uint64_t id = 1; id <= 3; id++)
        batch_insert(batch, id);
    apply();
    fixture_close(store);
    snprintf(sql, sizeof(sql), "UPDATE bgmq_job SET %s WHERE id = 2", odd_kinds[_i]);
    damage(sql);
    store = fixture_open();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 3);
    only_the_second_is_corrupt();
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 0);
}
END_TEST

START_TEST(row_that_is_in_both_tables_is_one_message)
{
    batch_insert(batch, 1);
    batch_insert(batch, 2);
    apply();
    meddle(
        fixture_path(),
        "INSERT INTO bgmq_backlog(id, type, lane, key, seq, priority, attempt,"
        " max_attempts, run, crashes, flags, created, crc, body) SELECT id, type, 0, 0,"
        " seq, 0, 0, 0, 0, 0, 0, created, crc, body FROM bgmq_job WHERE id = 1");
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 2);
    char ids[32];
    ck_assert_str_eq(seen_ids(store, LANE_INQ, ids, sizeof(ids)), "1 2");
}
END_TEST

/* S7. */
START_TEST(row_at_no_place_of_ours_is_dead_and_says_where_it_was)
{
    static const char *const places[] = {"lane = 4", "lane = -1", "lane = 1 << 40",
                                         "seq = -7", "lane = 9, seq = -1"};
    char sql[128];
    spill_three();
    snprintf(sql, sizeof(sql), "UPDATE bgmq_backlog SET %s WHERE id = 2", places[_i]);
    meddle(fixture_path(), sql);
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 2);
    char ids[32];
    ck_assert_str_eq(seen_ids(store, LANE_INQ, ids, sizeof(ids)), "1 3");
    ck_assert_str_eq(seen_ids(store, LANE_DLQ, ids, sizeof(ids)), "2");
    ck_assert_str_eq(look_text("SELECT error_code FROM bgmq_backlog WHERE id = 2"),
                     "corrupt");
    ck_assert_ptr_nonnull(
        strstr(look_text("SELECT error_text FROM bgmq_backlog WHERE id = 2"), "lane"));
}
END_TEST

struct names {
    char text[256];
};

static int add_name(void *ctx, uint32_t type, const char *name,
                    const uint64_t counts[LANES])
{
    struct names *n = ctx;
    size_t len = strlen(n->text);
    snprintf(n->text + len, sizeof(n->text) - len, "%u %s %d;", type, name,
             (int)counts[LANE_INQ]);
    return 0;
}

START_TEST(row_of_a_type_without_a_name_is_not_invisible)
{
    spill_three();
    struct store_op *op = batch_add(batch, STORE_TYPE, 0);
    op->type = 1;
    op->text = (char *)(uintptr_t) "Mail";
    apply();
    meddle(fixture_path(), "UPDATE bgmq_backlog SET type = CASE id WHEN 2 THEN 70 ELSE -3"
                           " END WHERE id > 1");
    batch_insert(batch, 4)->type = 70;
    apply();
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 4);
    struct names names = {.text = ""};
    ck_assert_int_eq(store->ops->types(store, add_name, &names), 3);
    ck_assert_str_eq(names.text,
                     "1 Mail 1;70 unknown.70 2;2147483647 unknown.2147483647 1;");
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 4);
    names.text[0] = '\0';
    ck_assert_int_eq(store->ops->types(store, add_name, &names), 3);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_boot");
    TCase *c = harness_case(s, "owner");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, flight_is_charged_once_however_often_it_is_shown);
    tcase_add_test(c, deaths_soon_after_an_opening_are_counted);
    c = harness_case(s, "odd rows");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, odd_value_makes_its_row_corrupt_and_no_other, 0, ODD_VALUES);
    tcase_add_loop_test(c, value_of_another_kind_makes_its_row_corrupt_and_no_other, 0,
                        ODD_KINDS);
    tcase_add_loop_test(c, value_of_another_kind_in_job_is_taken_over, 0, ODD_KINDS);
    tcase_add_test(c, name_that_is_none_is_damage_and_no_lack_of_memory);
    tcase_add_test(c, row_that_is_in_both_tables_is_one_message);
    tcase_add_loop_test(c, row_at_no_place_of_ours_is_dead_and_says_where_it_was, 0, 5);
    tcase_add_test(c, row_of_a_type_without_a_name_is_not_invisible);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
