/* test_store_memory.c - SQLite runs out of memory, at every allocation in turn. */
#include "fixture.h"
#include "scarce.h"
#include "shim_vfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 20000 };

/* ---- an allocation that fails on order ----------------------------------------------- */

static long allocations, fail_at, failed;

static bool fails(void)
{
    if (++allocations != fail_at)
        return false;
    failed++;
    return true;
}

static void memory_begin(long at)
{
    allocations = failed = 0;
    fail_at = at;
}

static void setup(void)
{
    scarce_sqlite(fails);
}

/* Nor is there memory that was laid aside for what is small. */
static void setup_without_spare(void)
{
    setup();
    sqlite3_shutdown();
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
    ck_assert_int_eq(sqlite3_initialize(), SQLITE_OK);
}

static void forget_file(void)
{
    unlink(harness_path("store.db"));
    unlink(harness_path("store.db-wal"));
    unlink(harness_path("store.db-shm"));
}

/* ---- the tests ----------------------------------------------------------------------- */

START_TEST(open_fails_and_leaves_nothing_behind)
{
    struct store_options options = fixture_options();
    long n = 1;
    for (int done = 0; !done && n < MOST; n += harness_step()) {
        struct store *s = NULL;
        struct bgmq_error error = {.text = ""};
        struct harness_leaks leaks;
        if (n % 50 == 1)
            forget_file();
        harness_leaks_begin(&leaks);
        memory_begin(n);
        int err = bgmqi_store_sqlite_open(&s, &options, &error);
        done = !failed;
        memory_begin(0);
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM, "%ld: %d %s", n, err, error.text);
        if (err == 0)
            s->ops->close(s);
        harness_leaks_end(&leaks);
        ck_assert_int_eq(sqlite3_memory_used(), 0);
    }
    ck_assert_int_gt(n, 100);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* Nobody closed it, so that all of it is looked at: what found no memory is not damaged. */
START_TEST(lack_of_memory_in_the_check_is_no_damage)
{
    struct store_options options = fixture_options();
    forget_file();
    struct store *s = fixture_open();
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= 1000; id++)
        batch_spill(b, id, LANE_INQ, 0);
    batch_apply(s, b);
    fixture_close(s);
    long n = 1, step = harness_full() ? 1 : 25 * harness_step();
    for (int done = 0; !done && n < MOST; n += step) {
        struct bgmq_error error = {.text = ""};
        memory_begin(n);
        int err = bgmqi_store_sqlite_open(&s, &options, &error);
        done = !failed;
        memory_begin(0);
        ck_assert_msg(err == 0 || err == BGMQ_ENOMEM, "%ld: %d %s", n, err, error.text);
        if (err == 0)
            s->ops->close(s);
    }
    ck_assert_int_gt(n, 100);
    ck_assert_int_lt(n, MOST);
}
END_TEST

static void fill(struct batch_of *b)
{
    static const char *const meta[] = {"a", "b", NULL};
    for (uint64_t id = 1; id <= 20; id++)
        batch_add(b, STORE_DELETE_JOB, id)->history = OUTCOME_DONE;
    batch_add(b, STORE_MOVE, 21)->lane = LANE_DELAYED;
    for (uint64_t id = 50; id <= 90; id++)
        batch_insert(b, id);
    batch_carry(batch_insert(b, 91),
                &(struct bgmq_message_options){.unique_key = "k", .meta = meta});
}

/* 1: the batch is there, whole; 0: nothing of it is. */
static int changed(void)
{
    int64_t n = look("SELECT (SELECT count(*) FROM bgmq_job) * 10000 +"
                     " (SELECT count(*) FROM bgmq_backlog) * 100 +"
                     " (SELECT count(*) FROM bgmq_history)");
    check_sound();
    ck_assert_msg(n == 400000 || n == 610120, "%lld", (long long)n);
    return n != 400000;
}

static void prepare(void)
{
    forget_file();
    struct store *s = fixture_open();
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= 40; id++)
        batch_insert(b, id);
    batch_apply(s, b);
    fixture_close(s);
}

START_TEST(batch_is_there_or_it_is_not)
{
    long n = 1;
    prepare();
    struct store *s = fixture_open();
    for (int done = 0; !done && n < MOST; n += harness_step()) {
        struct batch_of *b = batch_new();
        fill(b);
        memory_begin(n);
        int failure = batch_try(s, b, STORE_SYNC_FULL, NULL);
        done = !failed;
        memory_begin(0);
        batch_free(b);
        ck_assert_int_ne(failure, STORE_FAIL_OP);
        ck_assert_int_ne(failure, STORE_FAIL_BUSY);
        int there = changed();
        if (failure != STORE_FAIL_DEAD)
            ck_assert_int_eq(there, failure == STORE_FAIL_NONE);
        if (there || failure == STORE_FAIL_DEAD || n % 3 == 0) {
            fixture_close(s); /* and meet the allocations of a first batch again */
            prepare();
            s = fixture_open();
        }
    }
    fixture_close(s);
    ck_assert_int_gt(n, 5);
    ck_assert_int_lt(n, MOST);
}
END_TEST

static void fail_from_here(void *ctx)
{
    shim_vfs_hook(0, 0, NULL, NULL);
    memory_begin(1);
}

/* The log is being written: whether the batch is in it nobody can say. */
START_TEST(commit_that_lacks_memory_is_the_end)
{
    static char body[16384];
    shim_vfs_install();
    struct store *s = fixture_open();
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= 1100; id++) { /* more than one page of the log's index */
        struct store_op *op = batch_insert(b, id);
        bgmqi_message_unref(op->msg);
        op->msg = bgmqi_message_new(body, sizeof(body));
    }
    shim_vfs_hook(SHIM_WRITE, SHIM_WAL, fail_from_here, NULL);
    int failure = batch_try(s, b, STORE_SYNC_FULL, NULL);
    ck_assert_int_eq(failed, 1);
    ck_assert_int_eq(failure, STORE_FAIL_DEAD);
    memory_begin(0);
    batch_free(b);
    fixture_close(s);
    shim_vfs_remove();
    fixture_close(fixture_open());
    check_sound();
}
END_TEST

/* The log has it all, whatever became of the copying. */
START_TEST(checkpoint_that_lacks_memory_is_made_later)
{
    long n = 1;
    for (int done = 0; !done && n < MOST; n += harness_step()) {
        prepare();
        struct store *s = fixture_open();
        struct batch_of *b = batch_new();
        batch_insert(b, 100);
        batch_apply(s, b);
        memory_begin(n);
        int got = s->ops->checkpoint(s, 1);
        done = !failed;
        memory_begin(0);
        ck_assert_msg(got == 0 || got == BGMQ_EFULL, "%ld: %s", n, bgmq_errname(got));
        b = batch_new();
        batch_insert(b, 101);
        batch_apply(s, b);
        ck_assert_int_eq(s->ops->checkpoint(s, 1), 0);
        fixture_close(s);
        ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 42);
    }
    ck_assert_int_gt(n, 3);
    ck_assert_int_lt(n, MOST);
}
END_TEST

static int count_row(void *ctx, const struct store_row *row)
{
    ck_assert_int_eq(row->corrupt, 0);
    ++*(int *)ctx;
    return 0;
}

START_TEST(load_says_so_and_works_the_next_time)
{
    prepare();
    struct store *s = fixture_open();
    ck_assert_int_eq(recover(s, NULL, NULL, 0), 40);
    fixture_close(s);
    long n = 1;
    for (int done = 0; !done && n < MOST; n += harness_step()) {
        int rows = 0;
        s = fixture_open();
        memory_begin(n);
        int got = s->ops->load(s, 1, LANE_INQ, 0, 0, 100, SIZE_MAX, count_row, &rows);
        done = !failed;
        memory_begin(0);
        ck_assert_msg(got == 40 || got == BGMQ_ENOMEM, "%ld: %d", n, got);
        rows = 0;
        ck_assert_int_eq(
            s->ops->load(s, 1, LANE_INQ, 0, 0, 100, SIZE_MAX, count_row, &rows), 40);
        ck_assert_int_eq(rows, 40);
        fixture_close(s);
    }
    ck_assert_int_gt(n, 3);
}
END_TEST

/* ---- what is kept, searched, written by others --------------------------------------- */

/* What is long stands on pages of its own, and without the NUL that is added when it is asked for:
 * these have no room for that in what SQLite takes by eights. */
enum { BIG = 9006, LONG = 4086 };

static void keep(struct store *s)
{
    static char value[LONG + 1], sql[256];
    static const char *const meta[] = {"a", value, NULL};
    memset(value, '0', LONG);
    struct batch_of *b = batch_new();
    batch_save(batch_add(b, STORE_PROGRESS, 1), "cursor", 1, "text", NULL);
    struct store_op *op = batch_spill(b, 1, LANE_INQ, 0);
    batch_carry(op, &(struct bgmq_message_options){.tag = "t", .meta = meta});
    op = batch_add(b, STORE_UPDATE, 1);
    op->flags = OP_ERROR;
    batch_fail(op, "Code", "text", 1);
    op = batch_add(b, STORE_HISTORY, 7);
    op->history = OUTCOME_DONE;
    batch_save(op, NULL, 0, NULL, "result");
    batch_apply(s, b);
    snprintf(sql, sizeof(sql),
             "INSERT INTO bgmq_inbox(type, body, tag, meta) VALUES('T',"
             " hex(zeroblob(%d)), 'tag', json_object('a', hex(zeroblob(%d))))",
             BIG / 2, LONG / 2);
    meddle(fixture_path(), sql);
}

static int see_row(void *ctx, const struct store_row *row)
{
    (void)ctx;
    ck_assert_str_eq(row->cursor, "cursor");
    ck_assert_str_eq(row->progress_text, "text");
    ck_assert_str_eq(row->ext->tag, "t");
    ck_assert_uint_eq(row->ext->meta_len, 3 + LONG);
    ck_assert_int_eq(row->corrupt, 0);
    return 0;
}

static int see_end(void *ctx, const struct store_ended *ended)
{
    (void)ctx;
    ck_assert_uint_eq(ended->result_len, 6);
    ck_assert_ptr_nonnull(ended->result);
    return 0;
}

static int see_error(void *ctx, unsigned attempt, int64_t at_ms, const char *code,
                     const char *text)
{
    (void)ctx, (void)attempt, (void)at_ms;
    ck_assert_str_eq(code, "Code");
    ck_assert_str_eq(text, "text");
    return 0;
}

static int see_post(void *ctx, const struct store_inbox_row *row)
{
    (void)ctx;
    ck_assert_ptr_null(row->refused);
    ck_assert_str_eq(row->type, "T");
    ck_assert_str_eq(row->options.tag, "tag");
    ck_assert_uint_eq(row->len, BIG);
    ck_assert_uint_eq(row->meta_len, 3 + LONG);
    return 0;
}

static int ask(struct store *s, int what)
{
    switch (what) {
    case 0:
        return s->ops->search(s, &(struct store_search){.type = 1}, see_row, NULL);
    case 1:
        return s->ops->ended(s, 7, see_end, NULL);
    case 2:
        return s->ops->errors(s, 1, see_error, NULL);
    default:
        return s->ops->inbox(s, 0, 9, see_post, NULL);
    }
}

START_TEST(whatever_is_asked_says_so_and_works_the_next_time)
{
    forget_file();
    struct store *s = fixture_open();
    keep(s);
    fixture_close(s);
    long n = 1;
    for (int done = 0; !done && n < MOST; n += harness_step()) {
        s = fixture_open();
        memory_begin(n);
        int got = ask(s, _i);
        done = !failed;
        memory_begin(0);
        ck_assert_msg(got == 1 || got == BGMQ_ENOMEM, "%ld: %d", n, got);
        ck_assert_int_eq(ask(s, _i), 1);
        fixture_close(s);
    }
    ck_assert_int_gt(n, 1);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* ---- values of a kind that is not ours ------------------------------------------------ */

/* Has SQL put what the tables do not allow. */
static void force(const char *sql)
{
    meddle(fixture_path(),
           "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET"
           " sql = replace(replace(sql, 'error_code TEXT', 'error_code ANY'),"
           " ' tag TEXT', ' tag ANY') WHERE type = 'table'");
    meddle(fixture_path(), sql);
    meddle(fixture_path(),
           "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET"
           " sql = replace(replace(sql, 'error_code ANY', 'error_code TEXT'),"
           " ' tag ANY', ' tag TEXT') WHERE type = 'table'");
}

static int see_odd_row(void *ctx, const struct store_row *row)
{
    (void)ctx;
    ck_assert_str_eq(row->error_code, "4711");
    ck_assert_str_eq(row->ext->tag, "4712");
    ck_assert_uint_eq(row->ext->meta_len, 4);
    ck_assert_int_eq(row->corrupt, 0);
    return 0;
}

static int see_odd_end(void *ctx, const struct store_ended *ended)
{
    (void)ctx;
    ck_assert_str_eq(ended->error_code, "4713");
    return 0;
}

static int ask_for_odd(struct store *s, int what)
{
    struct store_search all = {.type = 1};
    return what == 0 ? s->ops->search(s, &all, see_odd_row, NULL)
                     : s->ops->ended(s, 7, see_odd_end, NULL);
}

/* S7.  A number where text should be becomes text as it is read, for which there may be no memory:
 * it is not left out. */
START_TEST(number_for_a_text_is_read_or_the_row_is_not)
{
    forget_file();
    struct store *s = fixture_open();
    keep(s);
    fixture_close(s);
    force("UPDATE bgmq_backlog SET error_code = 4711, tag = 4712, meta = '{\"a\":\"b\"}';"
          "UPDATE bgmq_history SET error_code = 4713");
    long n = 1;
    s = fixture_open();
    ck_assert_str_eq(look_text("SELECT typeof(tag) FROM bgmq_backlog"), "integer");
    for (int done = 0; !done && n < MOST; n++) {
        memory_begin(n);
        int got = ask_for_odd(s, _i);
        done = !failed;
        memory_begin(0);
        ck_assert_msg(got == (done ? 1 : BGMQ_ENOMEM), "%ld: %d", n, got);
    }
    ck_assert_int_eq(ask_for_odd(s, _i), 1);
    fixture_close(s);
    ck_assert_int_gt(n, _i ? 2 : 4);
    ck_assert_int_lt(n, MOST);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_memory");
    TCase *c = harness_case(s, "memory");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, lack_of_memory_in_the_check_is_no_damage);
    tcase_add_test(c, open_fails_and_leaves_nothing_behind);
    tcase_add_test(c, batch_is_there_or_it_is_not);
    tcase_add_test(c, commit_that_lacks_memory_is_the_end);
    tcase_add_test(c, checkpoint_that_lacks_memory_is_made_later);
    tcase_add_test(c, load_says_so_and_works_the_next_time);
    tcase_add_loop_test(c, whatever_is_asked_says_so_and_works_the_next_time, 0, 4);
    c = harness_case(s, "spare");
    tcase_add_checked_fixture(c, setup_without_spare, NULL);
    tcase_add_loop_test(c, number_for_a_text_is_read_or_the_row_is_not, 0, 2);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
