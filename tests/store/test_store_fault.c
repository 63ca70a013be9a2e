/* test_store_fault.c - disks that are full, that fail, and processes that die: at every call
 * that the store makes of the system, one after the other. */
#include "fixture.h"
#include "shim_vfs.h"
#include "store_schema.h"
#include "store_sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PASSED = 3, MOST = 2000 };

static void forget_file(void)
{
    static const char *const names[] = {"store.db", "store.db-wal", "store.db-shm",
                                        "store.db-journal"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(harness_path(names[i]));
}

static void shim_on(void)
{
    shim_vfs_install();
}

static void shim_off(void)
{
    shim_vfs_disarm();
    shim_vfs_remove();
}

/* ---- dying --------------------------------------------------------------------------- */

/* Runs STEP in a child that is killed before its N-th call; true when it ran to its end. */
static int killed_at(long n, void (*step)(void))
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        harness_part();
        shim_on();
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_ALL, .files = SHIM_ANY, .kind = SHIM_KILL, .nth = n});
        step();
        _exit(PASSED);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_le(WEXITSTATUS(status), PASSED);
    return WEXITSTATUS(status) == PASSED;
}

static void create(void)
{
    struct store_options options = fixture_options();
    struct store *s;
    if (bgmqi_store_sqlite_open(&s, &options, NULL) == 0)
        s->ops->close(s);
}

static void create_shared(void)
{
    struct store_options options = fixture_options();
    options.share = 1;
    struct store *s;
    if (bgmqi_store_sqlite_open(&s, &options, NULL) == 0)
        s->ops->close(s);
}

static void use_once(struct store *s)
{
    struct batch_of *b = batch_new();
    batch_insert(b, 1);
    batch_spill(b, 2, LANE_INQ, 0);
    batch_apply(s, b);
    ck_assert_int_eq(recover(s, NULL, NULL, 0), 2);
    fixture_close(s);
    check_sound();
}

/* S26. */
START_TEST(killed_anywhere_in_creation_the_next_open_completes_it)
{
    long n = 1;
    for (; n < MOST && !killed_at(n, create); n++) {
        use_once(fixture_open());
        ck_assert_int_eq(look("PRAGMA application_id"), 0x42474D51);
        forget_file();
    }
    ck_assert_int_gt(n, 40);
    ck_assert_int_lt(n, MOST);
}
END_TEST

START_TEST(killed_anywhere_in_sharing_the_next_open_completes_it)
{
    struct store_options options = fixture_options();
    options.share = 1;
    long n = 1;
    for (int done = 0; n < MOST && !done; n += harness_step()) {
        forget_file();
        harness_write_file(fixture_path(), "", 0);
        chmod(fixture_path(), 0600);
        meddle(fixture_path(), "CREATE TABLE theirs(x); INSERT INTO theirs VALUES(42)");
        done = killed_at(n, create_shared);
        use_once(fixture_open_with(options));
        ck_assert_int_eq(look("SELECT x FROM theirs"), 42);
        ck_assert_int_eq(look("PRAGMA application_id"), 0);
    }
    ck_assert_int_gt(n, 40);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* What the child of the next test does: rows 1..40 are there; 1..20 go, 21 moves, 50..90 come. */
static void change(void)
{
    struct store_options options = fixture_options();
    struct store *s;
    if (bgmqi_store_sqlite_open(&s, &options, NULL) != 0)
        return;
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= 20; id++)
        batch_add(b, STORE_DELETE_JOB, id)->history = OUTCOME_DONE;
    batch_add(b, STORE_MOVE, 21)->lane = LANE_DELAYED;
    for (uint64_t id = 50; id <= 90; id++)
        batch_insert(b, id);
    s->ops->apply(s, b->ops, b->n, STORE_SYNC_FULL, NULL);
    s->ops->close(s);
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

/* True: the change is there, whole; false: none of it is. */
static int changed(void)
{
    char all[128];
    snprintf(all, sizeof(all), "%s",
             look_text("SELECT (SELECT count(*)||' '||sum(id) FROM bgmq_job)||' '||"
                       "(SELECT count(*) FROM bgmq_backlog)||' '||"
                       "(SELECT count(*) FROM bgmq_history)"));
    check_sound();
    if (strcmp(all, "40 820 0 0") == 0)
        return 0;
    ck_assert_str_eq(all, "60 3459 1 20");
    return 1;
}

START_TEST(killed_anywhere_a_batch_is_there_or_it_is_not)
{
    long n = 1, with = 0, without = 0;
    for (int done = 0; n < MOST && !done; n += harness_step()) {
        prepare();
        done = killed_at(n, change);
        fixture_close(fixture_open());
        if (changed())
            with++;
        else
            without++;
    }
    ck_assert_int_gt(with, 2);
    ck_assert_int_gt(without, 20);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* ---- failing at open ----------------------------------------------------------------- */

/* Fails the N-th call of an open; true when nothing was hit. */
static int open_with_fault(long n, enum shim_kind kind, long times)
{
    shim_on();
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_ALL & ~SHIM_CLOSE,
                                      .files = SHIM_ANY,
                                      .kind = kind,
                                      .nth = n,
                                      .times = times});
    struct store_options options = fixture_options();
    struct store *s = NULL;
    struct bgmq_error error = {.text = ""};
    int err = bgmqi_store_sqlite_open(&s, &options, &error);
    long fired = shim_vfs_fired();
    shim_vfs_disarm();
    if (err == 0) {
        s->ops->close(s);
    } else {
        ck_assert_ptr_null(s);
        ck_assert_msg(err == BGMQ_EOPEN, "%d %s", err, error.text);
        ck_assert_ptr_nonnull(strstr(error.text, "store.db"));
        ck_assert_int_gt(fired, 0);
    }
    shim_off();
    return fired == 0;
}

/* S14: creation meets an error at every call, once and for ever; then all is well. */
START_TEST(failing_anywhere_in_creation_is_an_error_that_passes)
{
    long times = _i / 2 ? 0 : 1;
    enum shim_kind kind = _i % 2 ? SHIM_FULL : SHIM_IOERR;
    long n = 1;
    for (int done = 0; n < MOST && !done; n += harness_step()) {
        forget_file();
        done = open_with_fault(n, kind, times);
        use_once(fixture_open());
    }
    ck_assert_int_gt(n, 40);
    ck_assert_int_lt(n, MOST);
}
END_TEST

START_TEST(no_room_for_the_tables)
{
    struct store_options options = fixture_options();
    options.max_pages = 3;
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(options, &error), BGMQ_EOPEN);
    ck_assert_ptr_nonnull(strstr(error.text, "full"));
    ck_assert_int_eq(look("SELECT count(*) FROM sqlite_schema"), 0);
    use_once(fixture_open());
}
END_TEST

/* ---- failing in a batch -------------------------------------------------------------- */

static struct store *store;

static void setup(void)
{
    prepare();
    shim_on();
    store = fixture_open();
}

static void teardown(void)
{
    if (store)
        fixture_close(store);
    shim_off();
    check_sound();
}

static int apply_change(enum store_sync sync, struct bgmq_error *text)
{
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= 20; id++)
        batch_add(b, STORE_DELETE_JOB, id)->history = OUTCOME_DONE;
    batch_add(b, STORE_MOVE, 21)->lane = LANE_DELAYED;
    for (uint64_t id = 50; id <= 90; id++)
        batch_insert(b, id);
    int failure = batch_try(store, b, sync, text);
    for (size_t i = 0; i < b->n; i++)
        ck_assert_int_eq(b->ops[i].result, 0);
    batch_free(b);
    return failure;
}

static void arm(unsigned calls, unsigned files, enum shim_kind kind, long nth)
{
    shim_vfs_arm(&(struct shim_fault){
        .calls = calls, .files = files, .kind = kind, .nth = nth, .errno_ = EDQUOT});
}

/* S13: each write of the log in turn finds no room; then there is room again. */
START_TEST(full_disk_changes_nothing_and_passes)
{
    enum shim_kind kind = _i ? SHIM_NOSPACE : SHIM_FULL;
    long n = 1;
    for (;; n++) {
        struct bgmq_error text = {.text = ""};
        arm(SHIM_WRITE, SHIM_WAL, kind, n);
        int failure = apply_change(STORE_SYNC_FULL, &text);
        shim_vfs_disarm();
        if (failure == STORE_FAIL_NONE)
            break;
        ck_assert_int_eq(failure, STORE_FAIL_FULL);
        ck_assert_msg(text.text[0] != 0, "no words");
        ck_assert_int_eq(changed(), 0);
    }
    ck_assert_int_gt(n, 5);
    ck_assert_int_eq(changed(), 1);
}
END_TEST

START_TEST(full_database_changes_nothing_and_passes)
{
    fixture_close(store);
    struct store_options options = fixture_options();
    options.max_pages = 40;
    store = fixture_open_with(options);
    uint64_t id = 100;
    for (int failure = 0; failure == 0;) {
        struct batch_of *b = batch_new();
        for (int i = 0; i < 100; i++)
            batch_insert(b, id++);
        failure = batch_try(store, b, STORE_SYNC_NORMAL, NULL);
        batch_free(b);
        ck_assert(failure == STORE_FAIL_NONE || failure == STORE_FAIL_FULL);
        ck_assert_uint_lt(id, 100000);
    }
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 40 + (int64_t)id - 200);
    struct batch_of *b = batch_new();
    for (uint64_t gone = 100; gone < id - 100; gone++)
        batch_add(b, STORE_DELETE_JOB, gone);
    batch_apply(store, b);
    b = batch_new();
    batch_insert(b, id);
    batch_apply(store, b);
}
END_TEST

/* SQLite calls it an I/O error where there was no memory for one. */
START_TEST(lack_of_memory_for_io_passes)
{
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(bgmqi_store_sqlite_fail((struct sqlite_store *)store,
                                             SQLITE_IOERR_NOMEM, STAGE_BODY, &text),
                     STORE_FAIL_FULL);
    ck_assert_int_eq(apply_change(STORE_SYNC_FULL, NULL), STORE_FAIL_NONE);
}
END_TEST

/* A database without a file, or without a log, has no disk to ask. */
START_TEST(where_there_is_no_file_nothing_is_full)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    ck_assert(!bgmqi_store_sqlite_no_room(db, SQLITE_IOERR_WRITE, true));
    ck_assert(!bgmqi_store_sqlite_no_room(db, SQLITE_IOERR_WRITE, false));
    ck_assert(!bgmqi_store_sqlite_no_room(db, SQLITE_IOERR_READ, false));
    sqlite3_close(db);
}
END_TEST

/* A link that comes between our look and SQLite's. */
START_TEST(link_that_sqlite_meets_is_unsafe)
{
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(bgmqi_store_schema_error(NULL, SQLITE_CANTOPEN_SYMLINK, "a.db",
                                              "opening it", &text),
                     BGMQ_EUNSAFE);
    ck_assert_ptr_nonnull(strstr(text.text, "a.db"));
}
END_TEST

static int no_row(void *ctx, const struct store_row *row)
{
    ck_abort_msg("a dead store reads");
    return 0;
}

static void is_dead(int err)
{
    struct bgmq_error text = {.text = ""};
    uint64_t first;
    ck_assert_int_eq(apply_change(STORE_SYNC_NORMAL, &text), STORE_FAIL_DEAD);
    ck_assert_ptr_nonnull(strstr(text.text, "store.db"));
    ck_assert_int_eq(store->ops->load(store, 1, LANE_INQ, 0, 0, 1, 1, no_row, NULL), err);
    ck_assert_int_eq(store->ops->types(store, NULL, NULL), err);
    ck_assert_int_eq((int)recover(store, NULL, NULL, 0), err);
    ck_assert_int_eq(store->ops->reserve_ids(store, 1, &first), err);
    ck_assert_int_eq(store->ops->leave(store, 1), err);
    ck_assert_int_eq(store->ops->checkpoint(store, 1), err);
}

/* S15.  Nobody syncs again: the next sync could succeed without the data. */
START_TEST(failed_sync_is_the_end)
{
    arm(SHIM_SYNC, SHIM_ANY, SHIM_IOERR, 1);
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(apply_change(STORE_SYNC_FULL, &text), STORE_FAIL_DEAD);
    ck_assert_ptr_nonnull(strstr(text.text, "committing"));
    shim_vfs_disarm();
    shim_vfs_reset();
    is_dead(BGMQ_ESTORE);
    fixture_close(store);
    ck_assert_int_eq(shim_vfs_count(SHIM_SYNC | SHIM_WRITE, SHIM_ANY), 0);
    store = fixture_open();
    changed(); /* either, but whole */
}
END_TEST

/* An error of each call in turn: the batch is there or not, and the store says dead when it
 * cannot know; opened anew all is well. */
START_TEST(failing_anywhere_in_a_batch)
{
    long n = 1;
    for (int done = 0; n < MOST && !done; n += harness_step()) {
        fixture_close(store);
        prepare();
        store = fixture_open();
        shim_vfs_arm(&(struct shim_fault){.calls = SHIM_ALL & ~SHIM_CLOSE,
                                          .files = SHIM_ANY,
                                          .kind = SHIM_IOERR,
                                          .nth = n,
                                          .times = _i});
        int failure = apply_change(STORE_SYNC_FULL, NULL);
        done = shim_vfs_fired() == 0;
        shim_vfs_disarm();
        if (failure == STORE_FAIL_DEAD) {
            is_dead(BGMQ_ESTORE);
            changed();
        } else {
            ck_assert_int_eq(failure, STORE_FAIL_NONE);
            ck_assert_int_eq(changed(), 1);
        }
        fixture_close(store);
        store = fixture_open();
        changed();
    }
    ck_assert_int_gt(n, 8);
    ck_assert_int_lt(n, MOST);
}
END_TEST

static int count_row(void *ctx, const struct store_row *row)
{
    ++*(int *)ctx;
    return 0;
}

/* S16. */
START_TEST(page_that_cannot_be_read_is_the_end)
{
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 40);
    ck_assert_int_eq(store->ops->leave(store, 2000), 0); /* or all of it is looked at */
    fixture_close(store);
    store = fixture_open(); /* with an empty cache */
    int rows = 0;
    arm(SHIM_READ, SHIM_ANY, SHIM_IOERR, 1);
    ck_assert_int_eq(
        store->ops->load(store, 1, LANE_INQ, 0, 0, 50, SIZE_MAX, count_row, &rows),
        BGMQ_ESTORE);
    ck_assert_int_eq(rows, 0);
    shim_vfs_disarm();
    is_dead(BGMQ_ESTORE);
    fixture_close(store);
    store = fixture_open();
    ck_assert_int_eq(
        store->ops->load(store, 1, LANE_INQ, 0, 0, 50, SIZE_MAX, count_row, &rows), 40);
}
END_TEST

/* The first leaf of the tree at ROOT, which has one level above its leaves. */
static int64_t first_leaf(const char *file, int64_t root)
{
    const unsigned char *page = (const unsigned char *)file + (root - 1) * 4096;
    ck_assert_int_eq(page[0], 5); /* an inner page of a table */
    const unsigned char *cell = page + (page[12] << 8 | page[13]);
    return (int64_t)cell[0] << 24 | cell[1] << 16 | cell[2] << 8 | cell[3];
}

/* S9. */
START_TEST(damage_that_is_met_is_the_end)
{
    struct batch_of *b = batch_new();
    for (uint64_t id = 100; id < 1100; id++)
        batch_insert(b, id);
    batch_apply(store, b);
    ck_assert_int_eq(recover(store, NULL, NULL, 0), 1040);
    ck_assert_int_eq(store->ops->leave(store, 2000), 0); /* or it is met at open */
    int64_t root = look("SELECT rootpage FROM sqlite_schema WHERE name = 'bgmq_backlog'");
    fixture_close(store);
    unlink(harness_path("store.db-wal")); /* it has the pages, too */
    char *bytes;
    size_t len = harness_read_file(fixture_path(), &bytes);
    memset(bytes + (first_leaf(bytes, root) - 1) * 4096, 0xff, 4096);
    harness_write_file(fixture_path(), bytes, len);
    free(bytes);
    store = fixture_open();
    int rows = 0;
    ck_assert_int_eq(
        store->ops->load(store, 1, LANE_INQ, 0, 0, 50, SIZE_MAX, count_row, &rows),
        BGMQ_ECORRUPT);
    ck_assert_int_eq(rows, 0);
    is_dead(BGMQ_ECORRUPT);
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(apply_change(STORE_SYNC_FULL, &text), STORE_FAIL_DEAD);
    ck_assert_msg(strstr(text.text, ".recover"), "%s", text.text);
    fixture_close(store);
    store = NULL;
    prepare(); /* a sound one for teardown */
}
END_TEST

/* S10, S11. */
START_TEST(file_that_is_taken_away_is_the_end)
{
    static const char *const names[] = {"store.db", "store.db-wal"};
    const char *name = harness_path(names[_i % 2]);
    char *bytes = NULL;
    size_t len = harness_read_file(name, &bytes);
    ck_assert_int_eq(unlink(name), 0);
    if (_i / 2) /* and another put into its place */
        harness_write_file(harness_path("other"), bytes, len);
    if (_i / 2)
        ck_assert_int_eq(rename(harness_path("other"), name), 0);
    free(bytes);
    struct bgmq_error text = {.text = ""};
    ck_assert_int_eq(apply_change(STORE_SYNC_FULL, &text), STORE_FAIL_DEAD);
    ck_assert_ptr_nonnull(strstr(text.text, "removed or replaced"));
    is_dead(BGMQ_ESTORE);
    fixture_close(store);
    store = NULL;
    prepare(); /* a sound one for teardown */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_fault");
    TCase *c = harness_case(s, "dying");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, killed_anywhere_in_creation_the_next_open_completes_it);
    tcase_add_test(c, killed_anywhere_in_sharing_the_next_open_completes_it);
    tcase_add_test(c, killed_anywhere_a_batch_is_there_or_it_is_not);
    tcase_add_loop_test(c, failing_anywhere_in_creation_is_an_error_that_passes, 0, 4);
    tcase_add_test(c, no_room_for_the_tables);
    c = harness_case(s, "failing");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, full_disk_changes_nothing_and_passes, 0, 2);
    tcase_add_test(c, full_database_changes_nothing_and_passes);
    tcase_add_test(c, lack_of_memory_for_io_passes);
    tcase_add_test(c, where_there_is_no_file_nothing_is_full);
    tcase_add_test(c, link_that_sqlite_meets_is_unsafe);
    tcase_add_test(c, failed_sync_is_the_end);
    tcase_add_loop_test(c, failing_anywhere_in_a_batch, 0, 2);
    tcase_add_test(c, page_that_cannot_be_read_is_the_end);
    tcase_add_test(c, damage_that_is_met_is_the_end);
    tcase_add_loop_test(c, file_that_is_taken_away_is_the_end, 0, 4);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
