/* test_store_check.c - a database that nobody has closed is looked at as a whole before it is used,
 * and one that is damaged stays as it is. */
#include "fixture.h"

#include "../harness/shim_vfs.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 1000, LEAVES = 4000 };

/* ---- what is not to be had: the linker puts these in the place of the system's ----------- */

static int calls_left, threads_left; /* until one is refused; 0: none is */

static int refuses(int *left)
{
    return *left && --*left == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return refuses(&calls_left) ? NULL : __real_calloc(n, size);
}

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    return refuses(&threads_left) ? EAGAIN : __real_pthread_create(ret, attr, fn, arg);
}

/* ---- files --------------------------------------------------------------------------- */

/* Rows in the backlog, and nothing in the log; CLEAN: somebody has closed it. */
static void make(int clean)
{
    struct store *s = fixture_open();
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= ROWS; id++)
        batch_spill(b, id, LANE_INQ, 0);
    batch_apply(s, b);
    ck_assert_int_eq(recover(s, NULL, NULL, 0), ROWS);
    if (clean)
        ck_assert_int_eq(s->ops->leave(s, ROWS + 1), 0);
    fixture_close(s);
}

/* Overwrites the first leaf of table NAME with bytes that are no page. */
static void damage(const char *name)
{
    char sql[100], *bytes;
    snprintf(sql, sizeof(sql), "SELECT rootpage FROM sqlite_schema WHERE name = '%s'",
             name);
    int64_t root = look(sql);
    ck_assert_int_eq(unlink(harness_path("store.db-wal")), 0); /* it has them, too */
    unlink(harness_path("store.db-shm"));
    size_t len = harness_read_file(fixture_path(), &bytes);
    const unsigned char *page = (unsigned char *)bytes + (root - 1) * 4096;
    ck_assert_int_eq(page[0], 5); /* an inner page of a table */
    const unsigned char *cell = page + (page[12] << 8 | page[13]);
    int64_t leaf = (int64_t)cell[0] << 24 | cell[1] << 16 | cell[2] << 8 | cell[3];
    memset(bytes + (leaf - 1) * 4096, 0xff, 4096);
    harness_write_file(fixture_path(), bytes, len);
    free(bytes);
}

static struct store *open_beside(void)
{
    struct store_options options = fixture_options();
    options.check_at_once = 1;
    return fixture_open_with(options);
}

/* S9. */
START_TEST(damage_in_what_nobody_closed_is_refused_and_stays)
{
    char *before, *after;
    struct bgmq_error error = {.text = ""};
    make(0);
    damage("bgmq_backlog");
    size_t len = harness_read_file(fixture_path(), &before);
    ck_assert_int_eq(fixture_open_fails(fixture_options(), &error), BGMQ_ECORRUPT);
    ck_assert_msg(strstr(error.text, fixture_path()) != NULL, "%s", error.text);
    ck_assert_msg(strstr(error.text, "age ") != NULL, "%s", error.text);
    ck_assert_msg(strstr(error.text, ".recover") != NULL, "%s", error.text);
    ck_assert_ptr_null(strchr(error.text, '\n'));
    ck_assert_uint_eq(harness_read_file(fixture_path(), &after), len);
    ck_assert_int_eq(memcmp(before, after, len), 0);
    free(before);
    free(after);
}
END_TEST

START_TEST(what_was_closed_is_not_looked_at)
{
    make(1);
    damage("bgmq_backlog");
    fixture_close(fixture_open());
}
END_TEST

START_TEST(sound_file_that_nobody_closed_opens)
{
    make(0);
    struct store *s = fixture_open();
    ck_assert_int_eq(recover(s, NULL, NULL, 0), ROWS);
    ck_assert_int_eq(s->ops->look(s, NULL), 0);
    fixture_close(s);
}
END_TEST

/* S7.  A row that holds what it should not is put aside later, and is no reason not to open. */
START_TEST(odd_values_in_rows_are_no_damage)
{
    make(0);
    meddle(
        fixture_path(),
        "PRAGMA ignore_check_constraints = ON;"
        "INSERT INTO bgmq_inbox(type, body, priority) VALUES('no/type', 'b', -5);"
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_schema SET sql = replace(sql, 'body BLOB NOT NULL', 'body BLOB')"
        " WHERE name = 'bgmq_job'");
    meddle(fixture_path(), "INSERT INTO bgmq_job(id, type, seq, priority, attempt,"
                           " max_attempts, run, crashes, flags, created, crc, body)"
                           " VALUES(9000, 1, 9000, 0, 0, 0, 0, 0, 0, 0, 0, NULL)");
    meddle(
        fixture_path(),
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_schema SET sql = replace(sql, 'body BLOB,', 'body BLOB NOT NULL,')"
        " WHERE name = 'bgmq_job'");
    ck_assert_str_ne(look_text("PRAGMA quick_check"), "ok");
    fixture_close(fixture_open());
}
END_TEST

/* Nor is a page that the disk did not give, or what nobody leads to as it was not read. */
START_TEST(page_that_cannot_be_read_is_no_damage)
{
    int refused = 0;
    make(0);
    shim_vfs_install();
    for (long n = 1;; n += harness_step()) {
        struct store_options options = fixture_options();
        struct bgmq_error error = {.text = ""};
        struct store *s = NULL;
        shim_vfs_arm(&(struct shim_fault){.calls = SHIM_READ,
                                          .files = SHIM_DB | SHIM_WAL,
                                          .kind = SHIM_IOERR,
                                          .nth = n,
                                          .times = 1});
        int err = bgmqi_store_sqlite_open(&s, &options, &error);
        bool fired = shim_vfs_fired() > 0;
        shim_vfs_disarm();
        if (err == 0)
            fixture_close(s);
        ck_assert_msg(err != BGMQ_ECORRUPT, "%ld: %s", n, error.text);
        refused += err != 0;
        if (!fired)
            break;
    }
    ck_assert_int_gt(refused, 3);
    shim_vfs_remove();
    fixture_close(fixture_open());
}
END_TEST

/* Beside the service that is told, and ends nothing. */
START_TEST(check_beside_that_cannot_read_is_given_up)
{
    int given_up = 0;
    make(0);
    shim_vfs_install();
    for (long n = 1;; n += harness_step()) {
        struct store_options options = fixture_options();
        struct bgmq_error text = {.text = ""};
        struct store *s = NULL;
        options.check_at_once = 1;
        shim_vfs_arm(&(struct shim_fault){.calls = SHIM_READ,
                                          .files = SHIM_DB | SHIM_WAL,
                                          .kind = SHIM_IOERR,
                                          .nth = n,
                                          .times = 1});
        int err = bgmqi_store_sqlite_open(&s, &options, &text);
        ck_assert_msg(err != BGMQ_ECORRUPT, "%ld: %s", n, text.text);
        if (err == 0)
            WAIT_UNTIL(!s->ops->checks(s));
        bool fired = shim_vfs_fired() > 0;
        shim_vfs_disarm();
        if (err == 0) {
            int told = s->ops->look(s, &text);
            ck_assert_msg(told == 0 || told == 1, "%ld: %s", n, text.text);
            given_up += told && strstr(text.text, "given up");
            fixture_close(s);
        }
        if (!fired)
            break;
    }
    ck_assert_int_gt(given_up, 3);
    shim_vfs_remove();
}
END_TEST

/* Its own module looks at it, when SQLite asks that: from 3.44 on. */
START_TEST(virtual_table_of_an_application_is_looked_at)
{
    if (!sqlite3_compileoption_used("ENABLE_FTS5"))
        HARNESS_SKIP("this SQLite has no FTS5");
    make(0);
    meddle(fixture_path(), "CREATE VIRTUAL TABLE docs USING fts5(text);"
                           "INSERT INTO docs VALUES('a'), ('b')");
    struct store_options options = fixture_options();
    options.share = 1;
    fixture_close(fixture_open_with(options));
    fixture_close(fixture_open_with(options));
}
END_TEST

START_TEST(great_file_opens_at_once_and_is_checked_beside)
{
    struct bgmq_error why = {.text = ""};
    make(0);
    damage("bgmq_backlog");
    struct store *s = open_beside();
    WAIT_UNTIL(s->ops->look(s, &why) != 0);
    ck_assert_int_eq(s->ops->look(s, &why), BGMQ_ECORRUPT);
    ck_assert_msg(strstr(why.text, "checking it") && strstr(why.text, ".recover"), "%s",
                  why.text);
    struct batch_of *b = batch_new();
    batch_insert(b, ROWS + 1);
    ck_assert_int_eq(batch_try(s, b, STORE_SYNC_FULL, NULL), STORE_FAIL_DEAD);
    batch_free(b);
    fixture_close(s);
}
END_TEST

START_TEST(sound_great_file_goes_on_and_closes_at_any_time)
{
    for (int i = 0; i < 20; i++) {
        make(0);
        struct store *s = open_beside();
        struct batch_of *b = batch_new();
        batch_insert(b, ROWS + 1);
        batch_add(b, STORE_DELETE_JOB, ROWS + 1);
        batch_apply(s, b);
        ck_assert_int_eq(s->ops->look(s, NULL), 0);
        fixture_close(s);
        unlink(fixture_path());
        unlink(harness_path("store.db-wal"));
    }
}
END_TEST

/* It is checked the next time.  The first call for memory is for the store, the second one for its
 * check. */
START_TEST(great_file_that_cannot_be_checked_is_not_opened)
{
    struct bgmq_error error = {.text = ""};
    struct store_options options = fixture_options();
    options.check_at_once = 1;
    make(0);
    damage("bgmq_backlog");
    calls_left = 2;
    ck_assert_int_eq(fixture_open_fails(options, &error), BGMQ_ENOMEM);
    ck_assert_int_eq(calls_left, 0);
    ck_assert_ptr_nonnull(strstr(error.text, fixture_path()));
    threads_left = 1;
    ck_assert_int_eq(fixture_open_fails(options, &error), BGMQ_ETHREAD);
    ck_assert_int_eq(threads_left, 0);
    ck_assert_msg(strstr(error.text, fixture_path()) && strstr(error.text, "no thread"),
                  "%s", error.text);
    struct store *s = open_beside();
    WAIT_UNTIL(s->ops->look(s, &error) == BGMQ_ECORRUPT);
    fixture_close(s);
}
END_TEST

/* A file that nobody has closed, with LEAVES pages of somebody else's, on a disk that takes 1 ms
 * for each; a store that checks it. */
static struct store *open_on_a_slow_disk(uint64_t log_hard)
{
    char sql[200];
    struct store_options options = fixture_options();
    make(0);
    snprintf(
        sql, sizeof(sql),
        "CREATE TABLE theirs(body); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT"
        " i + 1 FROM n WHERE i < %d) INSERT INTO theirs SELECT zeroblob(3000) FROM n;"
        " PRAGMA wal_checkpoint(TRUNCATE)",
        LEAVES);
    meddle(fixture_path(), sql);
    options.check_at_once = 1;
    options.share = 1;
    options.log_hard_bytes = log_hard;
    shim_vfs_install();
    struct store *s = fixture_open_with(options);
    shim_vfs_reset();
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_READ,
                                      .files = SHIM_DB,
                                      .kind = SHIM_SLOW,
                                      .nth = 1,
                                      .delay_ms = 1});
    WAIT_UNTIL(shim_vfs_count(SHIM_READ, SHIM_DB) > 20);
    return s;
}

static void expect_it_was_interrupted(void)
{
    ck_assert_int_lt(shim_vfs_count(SHIM_READ, SHIM_DB), LEAVES / 2);
}

START_TEST(close_does_not_wait_for_the_check)
{
    struct store *s = open_on_a_slow_disk(0);
    ck_assert(s->ops->checks(s));
    fixture_close(s);
    expect_it_was_interrupted();
    shim_vfs_remove();
}
END_TEST

/* It reads one state as long as it runs, and the log cannot begin anew. */
START_TEST(check_is_given_up_before_publishers_are_refused)
{
    enum { HARD = 1 << 20 };
    struct bgmq_error text = {.text = ""};
    struct store *s = open_on_a_slow_disk(HARD);
    uint64_t id = ROWS;
    while (s->ops->log_bytes(s) <= HARD / 2) {
        struct batch_of *b = batch_new();
        for (int i = 0; i < 100; i++)
            batch_insert(b, ++id);
        batch_apply(s, b);
    }
    ck_assert_int_ge(s->ops->checkpoint(s, 0), 0);
    WAIT_UNTIL(!s->ops->checks(s));
    expect_it_was_interrupted();
    ck_assert_int_eq(s->ops->look(s, &text), 1);
    ck_assert_msg(strstr(text.text, "given up") != NULL, "%s", text.text);
    ck_assert_int_eq(s->ops->look(s, &text), 0); /* told once, and no damage */
    ck_assert_int_eq(s->ops->checkpoint(s, 1), 0);
    ck_assert_uint_eq(s->ops->log_bytes(s), 0);
    fixture_close(s);
    shim_vfs_remove();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_check");
    TCase *c = harness_case(s, "check");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, damage_in_what_nobody_closed_is_refused_and_stays);
    tcase_add_test(c, what_was_closed_is_not_looked_at);
    tcase_add_test(c, sound_file_that_nobody_closed_opens);
    tcase_add_test(c, odd_values_in_rows_are_no_damage);
    tcase_add_test(c, page_that_cannot_be_read_is_no_damage);
    tcase_add_test(c, check_beside_that_cannot_read_is_given_up);
    tcase_add_test(c, virtual_table_of_an_application_is_looked_at);
    tcase_add_test(c, great_file_opens_at_once_and_is_checked_beside);
    tcase_add_test(c, sound_great_file_goes_on_and_closes_at_any_time);
    tcase_add_test(c, great_file_that_cannot_be_checked_is_not_opened);
    tcase_add_test(c, close_does_not_wait_for_the_check);
    tcase_add_test(c, check_is_given_up_before_publishers_are_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
