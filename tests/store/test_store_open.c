/* test_store_open.c - which files are opened, and that the others are left as they were. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct store_options at(const char *path)
{
    struct store_options o = fixture_options();
    o.path = path;
    return o;
}

static struct store_options shared(void)
{
    struct store_options o = fixture_options();
    o.share = 1;
    return o;
}

static void open_and_close(struct store_options options)
{
    fixture_close(fixture_open_with(options));
}

/* Opening PATH fails with ERR, and leaves every byte of it, and no file beside it. */
static void refuses(struct store_options options, int err, const char *words)
{
    static const char *const ends[] = {"-wal", "-shm", "-journal"};
    char *before, *after, name[600];
    size_t len = harness_read_file(options.path, &before);
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(options, &error), err);
    ck_assert_msg(strstr(error.text, options.path) != NULL, "no path: %s", error.text);
    ck_assert_msg(strstr(error.text, words) != NULL, "no \"%s\": %s", words, error.text);
    ck_assert_uint_eq(harness_read_file(options.path, &after), len);
    ck_assert_int_eq(memcmp(before, after, len), 0);
    free(before);
    free(after);
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "%s%s", options.path, ends[i]);
        ck_assert_msg(access(name, F_OK) != 0, "left %s", name);
    }
}

/* ---- names --------------------------------------------------------------------------- */

START_TEST(names_that_are_no_files)
{
    char name[600];
    memset(name, 'a', sizeof(name));
    name[481] = '\0';
    static const char *const names[] = {
        "", ":memory:", "file:x.db", "file:///tmp/x?a=b", "some/", "/", NULL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_int_eq(fixture_open_fails(at(names[i]), NULL), BGMQ_EINVAL);
    ck_assert_int_eq(fixture_open_fails(at(name), NULL), BGMQ_EINVAL);
}
END_TEST

START_TEST(relative_name_is_found_again_after_chdir)
{
    ck_assert_int_eq(chdir(harness_tmpdir()), 0);
    struct store *s = fixture_open_with(at("store.db"));
    ck_assert_int_eq(chdir("/"), 0);
    struct batch_of *b = batch_new();
    batch_insert(b, 1);
    batch_apply(s, b);
    ck_assert_int_eq(s->ops->checkpoint(s, 1), 0);
    fixture_close(s);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 1);
}
END_TEST

/* ---- a new file ---------------------------------------------------------------------- */

static mode_t mode_of(const char *end)
{
    char name[600];
    snprintf(name, sizeof(name), "%s%s", fixture_path(), end);
    struct stat st;
    ck_assert_int_eq(lstat(name, &st), 0);
    return st.st_mode & 0777;
}

START_TEST(new_file_is_private_and_ours)
{
    umask(0);
    struct store *s = fixture_open();
    ck_assert_uint_eq(mode_of(""), 0600);
    ck_assert_uint_eq(mode_of("-wal"), 0600);
    ck_assert_uint_eq(mode_of("-shm"), 0600);
    fixture_close(s);
    ck_assert_int_eq(look("PRAGMA application_id"), 0x42474D51);
    ck_assert_str_eq(look_text("PRAGMA journal_mode"), "wal");
    ck_assert_int_eq(look("SELECT value FROM bgmq_meta WHERE key = 'schema'"), 2);
    ck_assert_int_eq(look("SELECT count(*) FROM pragma_table_list WHERE schema = 'main'"
                          " AND type = 'table' AND name LIKE 'bgmq%' AND NOT strict"),
                     0);
}
END_TEST

START_TEST(empty_file_is_taken_as_new)
{
    harness_write_file(fixture_path(), "", 0);
    chmod(fixture_path(), 0600);
    open_and_close(fixture_options());
    ck_assert_int_eq(look("PRAGMA application_id"), 0x42474D51);
}
END_TEST

START_TEST(database_without_tables_is_taken_as_new)
{
    harness_write_file(fixture_path(), "", 0);
    chmod(fixture_path(), 0600);
    meddle(fixture_path(), "PRAGMA journal_mode = WAL");
    meddle(fixture_path(), "CREATE TABLE t(x); DROP TABLE t");
    open_and_close(fixture_options());
    ck_assert_int_eq(look("PRAGMA application_id"), 0x42474D51);
}
END_TEST

START_TEST(opens_again_and_finds_what_was_there)
{
    struct store *s = fixture_open();
    struct batch_of *b = batch_new();
    batch_insert(b, 1);
    batch_apply(s, b);
    fixture_close(s);
    open_and_close(fixture_options());
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 1);
    check_sound();
}
END_TEST

START_TEST(close_leaves_everything_in_the_file_itself)
{
    struct store *s = fixture_open();
    struct batch_of *b = batch_new();
    for (uint64_t id = 1; id <= 500; id++)
        batch_insert(b, id);
    batch_apply(s, b);
    fixture_close(s);
    char *bytes;
    size_t len = harness_read_file(fixture_path(), &bytes);
    harness_write_file(harness_path("copy.db"), bytes, len);
    free(bytes);
    chmod(harness_path("copy.db"), 0600);
    s = fixture_open_with(at(harness_path("copy.db")));
    ck_assert_int_eq(recover(s, NULL, NULL, 0), 500);
    fixture_close(s);
}
END_TEST

/* ---- S1: cannot be opened ------------------------------------------------------------ */

/* S1. */
START_TEST(missing_directory)
{
    struct bgmq_error error = {.text = ""};
    const char *path = harness_path("none/store.db");
    ck_assert_int_eq(fixture_open_fails(at(path), &error), BGMQ_EOPEN);
    ck_assert_ptr_nonnull(strstr(error.text, path));
    ck_assert_ptr_nonnull(strstr(error.text, strerror(ENOENT)));
}
END_TEST

/* S1. */
START_TEST(directory_that_cannot_be_written)
{
    if (geteuid() == 0)
        HARNESS_SKIP("root may write everywhere");
    ck_assert_int_eq(mkdir(harness_path("closed"), 0500), 0);
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(at(harness_path("closed/store.db")), &error),
                     BGMQ_EOPEN);
    ck_assert_ptr_nonnull(strstr(error.text, strerror(EACCES)));
}
END_TEST

/* S1. */
START_TEST(file_as_directory)
{
    harness_write_file(harness_path("plain"), "x", 1);
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(at(harness_path("plain/store.db")), &error),
                     BGMQ_EOPEN);
    ck_assert_ptr_nonnull(strstr(error.text, strerror(ENOTDIR)));
}
END_TEST

/* S1. */
START_TEST(file_that_may_only_be_read)
{
    open_and_close(fixture_options());
    unlink(harness_path("store.db-wal"));
    unlink(harness_path("store.db-shm"));
    ck_assert_int_eq(chmod(fixture_path(), 0400), 0);
    refuses(fixture_options(), BGMQ_EOPEN, strerror(EACCES));
}
END_TEST

/* ---- S2: not safe -------------------------------------------------------------------- */

static void unsafe(const char *path, const char *words)
{
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(at(path), &error), BGMQ_EUNSAFE);
    ck_assert_msg(strstr(error.text, words) != NULL, "%s", error.text);
}

/* S2. */
START_TEST(symbolic_link)
{
    open_and_close(fixture_options());
    ck_assert_int_eq(symlink(fixture_path(), harness_path("link.db")), 0);
    unsafe(harness_path("link.db"), "symbolic link");
    ck_assert_int_eq(symlink(harness_path("nowhere.db"), harness_path("dangling.db")), 0);
    unsafe(harness_path("dangling.db"), "symbolic link");
    ck_assert_int_ne(access(harness_path("nowhere.db"), F_OK), 0);
}
END_TEST

START_TEST(symbolic_link_on_the_way_is_followed_once)
{
    ck_assert_int_eq(mkdir(harness_path("real"), 0700), 0);
    ck_assert_int_eq(symlink("real", harness_path("linked")), 0);
    open_and_close(at(harness_path("linked/store.db")));
    ck_assert_int_eq(access(harness_path("real/store.db"), F_OK), 0);
}
END_TEST

/* S2. */
START_TEST(not_a_file)
{
    ck_assert_int_eq(mkfifo(harness_path("fifo"), 0600), 0);
    unsafe(harness_path("fifo"), "not a regular file");
    unsafe(harness_tmpdir(), "not a regular file");
    /* As another user the directory of devices is refused before. */
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(at("/dev/null"), &error),
                     geteuid() == 0 ? BGMQ_EUNSAFE : BGMQ_EOPEN);
}
END_TEST

/* SQLite would cut it. */
START_TEST(name_that_is_too_long_in_full)
{
    char folder[201];
    struct bgmq_error error = {.text = ""};
    memset(folder, 'x', 200);
    folder[200] = '\0';
    ck_assert_int_eq(chdir(harness_tmpdir()), 0);
    for (int i = 0; i < 3; i++)
        ck_assert(mkdir(folder, 0700) == 0 && chdir(folder) == 0);
    ck_assert_int_eq(fixture_open_fails(at("short.db"), &error), BGMQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "too long"));
}
END_TEST

/* S2. */
START_TEST(file_of_another_user)
{
    if (geteuid() != 0)
        HARNESS_SKIP("only root can give files away");
    open_and_close(fixture_options());
    ck_assert_int_eq(chown(fixture_path(), 12345, (gid_t)-1), 0);
    unsafe(fixture_path(), "another user");
}
END_TEST

/* S2. */
START_TEST(file_that_everybody_may_write)
{
    open_and_close(fixture_options());
    ck_assert_int_eq(chmod(fixture_path(), 0602), 0);
    unsafe(fixture_path(), "by everybody");
}
END_TEST

/* S2. */
START_TEST(file_with_two_names)
{
    open_and_close(fixture_options());
    ck_assert_int_eq(link(fixture_path(), harness_path("second.db")), 0);
    unsafe(fixture_path(), "more than one name");
    ck_assert_int_eq(unlink(harness_path("second.db")), 0);
    open_and_close(fixture_options());
}
END_TEST

/* S2. */
START_TEST(log_that_is_a_link)
{
    open_and_close(fixture_options());
    unlink(harness_path("store.db-wal"));
    ck_assert_int_eq(symlink("/dev/null", harness_path("store.db-wal")), 0);
    unsafe(fixture_path(), "store.db-wal");
}
END_TEST

/* ---- S3: no database ----------------------------------------------------------------- */

/* S3. */
START_TEST(not_a_database)
{
    static char noise[100000];
    static const size_t sizes[] = {1, 5, 100, 511, 512, 513, 4096, sizeof(noise)};
    uint32_t x = 7;
    for (size_t i = 0; i < sizeof(noise); i++) {
        x = x * 1664525 + 1013904223;
        noise[i] = (char)(x >> 24);
    }
    harness_write_file(fixture_path(), noise, sizes[_i]);
    chmod(fixture_path(), 0600);
    refuses(fixture_options(), BGMQ_ENOTDB, "not a database");
    refuses(shared(), BGMQ_ENOTDB, "not a database");
}
END_TEST

/* ---- S4: another's database ---------------------------------------------------------- */

static void make_foreign(const char *sql)
{
    harness_write_file(fixture_path(), "", 0);
    chmod(fixture_path(), 0600);
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(fixture_path(), &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* S4. */
START_TEST(database_of_another_application)
{
    static const char *const cases[] = {
        "CREATE TABLE theirs(x)",
        "PRAGMA application_id = 77",
        "PRAGMA application_id = 77; CREATE TABLE theirs(x)",
        "PRAGMA journal_mode = WAL; CREATE TABLE theirs(x)",
        "CREATE VIEW bgmq_meta AS SELECT 'schema' AS key, 1 AS value",
    };
    make_foreign(cases[_i]);
    refuses(fixture_options(), BGMQ_ENOTOURS, fixture_path());
}
END_TEST

/* S4. */
START_TEST(unfinished_log_of_another_application_stays)
{
    make_foreign("PRAGMA journal_mode = WAL; CREATE TABLE theirs(x)");
    meddle(fixture_path(), "INSERT INTO theirs VALUES(1)"); /* without a check-point */
    char *log, *log_after, *db, *db_after;
    size_t log_len = harness_read_file(harness_path("store.db-wal"), &log);
    size_t db_len = harness_read_file(fixture_path(), &db);
    ck_assert_uint_gt(log_len, 0);
    ck_assert_int_eq(fixture_open_fails(fixture_options(), NULL), BGMQ_ENOTOURS);
    ck_assert_uint_eq(harness_read_file(harness_path("store.db-wal"), &log_after),
                      log_len);
    ck_assert_uint_eq(harness_read_file(fixture_path(), &db_after), db_len);
    ck_assert_int_eq(memcmp(log, log_after, log_len), 0);
    ck_assert_int_eq(memcmp(db, db_after, db_len), 0);
    free(log);
    free(log_after);
    free(db);
    free(db_after);
}
END_TEST

/* S4. */
START_TEST(shared_database_keeps_all_that_is_not_ours)
{
    make_foreign("PRAGMA application_id = 77; PRAGMA user_version = 5;"
                 " CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1), (2);"
                 " CREATE INDEX theirs_x ON theirs(x)");
    struct store *s = fixture_open_with(shared());
    struct batch_of *b = batch_new();
    batch_insert(b, 1);
    batch_apply(s, b);
    fixture_close(s);
    open_and_close(shared());
    ck_assert_int_eq(look("PRAGMA application_id"), 77);
    ck_assert_int_eq(look("PRAGMA user_version"), 5);
    ck_assert_int_eq(look("SELECT sum(x) FROM theirs"), 3);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 1);
    ck_assert_str_eq(
        look_text("SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema"
                  " WHERE name NOT LIKE 'bgmq%' AND name NOT LIKE 'sqlite%'"
                  " ORDER BY name)"),
        "theirs,theirs_x");
    check_sound();
    /* It does not become ours by that. */
    ck_assert_int_eq(fixture_open_fails(fixture_options(), NULL), BGMQ_ENOTOURS);
}
END_TEST

START_TEST(new_shared_database_bears_no_mark)
{
    open_and_close(shared());
    ck_assert_int_eq(look("PRAGMA application_id"), 0);
    open_and_close(fixture_options());
    ck_assert_int_eq(look("PRAGMA application_id"), 0);
}
END_TEST

START_TEST(shared_works_beside_a_connection_of_the_application)
{
    make_foreign("PRAGMA journal_mode = WAL; CREATE TABLE theirs(x)");
    sqlite3 *app = NULL;
    ck_assert_int_eq(sqlite3_open(fixture_path(), &app), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(app, "INSERT INTO theirs VALUES(1)", NULL, NULL, NULL),
                     SQLITE_OK);
    open_and_close(shared());
    ck_assert_int_eq(sqlite3_exec(app, "INSERT INTO theirs VALUES(1)", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(app);
    ck_assert_int_eq(look("SELECT count(*) FROM theirs"), 2);
}
END_TEST

/* ---- S5: versions -------------------------------------------------------------------- */

/* Closes the log, so that all is in the file and can be compared. */
static void fold(void)
{
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(fixture_path(), &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA journal_mode", NULL, NULL, NULL);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    unlink(harness_path("store.db-wal"));
    unlink(harness_path("store.db-shm"));
}

/* S5. */
START_TEST(newer_version_is_refused_untouched)
{
    open_and_close(fixture_options());
    meddle(fixture_path(), "UPDATE bgmq_meta SET value = 3 WHERE key = 'schema';"
                           " CREATE TABLE bgmq_future(x)");
    fold();
    ck_assert_int_eq(access(harness_path("store.db-wal"), F_OK), -1);
    refuses(fixture_options(), BGMQ_EVERSION, "version 3");
    refuses(shared(), BGMQ_EVERSION, "version 3");
}
END_TEST

/* S5. */
START_TEST(no_version_is_not_guessed)
{
    static const char *const values[] = {"0", "-1", "'1'", "NULL", "1.0"};
    open_and_close(fixture_options());
    char sql[100];
    snprintf(sql, sizeof(sql), "UPDATE bgmq_meta SET value = %s WHERE key = 'schema'",
             values[_i]);
    meddle(fixture_path(), sql);
    fold();
    refuses(fixture_options(), BGMQ_EOPEN, "version");
}
END_TEST

/* ---- S6: our tables, changed --------------------------------------------------------- */

static const struct {
    const char *sql, *named;
} changes[] = {
    {"DROP TABLE bgmq_unique", "bgmq_unique"},
    {"ALTER TABLE bgmq_job DROP COLUMN crashes", "bgmq_job"},
    {"ALTER TABLE bgmq_job ADD COLUMN mine TEXT", "bgmq_job"},
    {"ALTER TABLE bgmq_backlog RENAME COLUMN seq TO sequence", "bgmq_backlog"},
    {"DROP INDEX bgmq_backlog_order", "bgmq_backlog_order"},
    {"CREATE UNIQUE INDEX one_tag ON bgmq_job(tag)", "one_tag"},
    {"CREATE TRIGGER spy AFTER INSERT ON bgmq_job BEGIN SELECT 1; END", "spy"},
    {"DROP TABLE bgmq_history; CREATE VIEW bgmq_history AS SELECT 1 AS seq",
     "bgmq_history"},
    {"DROP VIEW bgmq_dead", "bgmq_dead"},
    {"DROP VIEW bgmq_dead; CREATE VIEW bgmq_dead AS SELECT 1 AS id", "bgmq_dead"},
    {"DROP VIEW bgmq_dead; CREATE TABLE bgmq_dead(id)", "bgmq_dead"},
    {"DROP TABLE bgmq_inbox; CREATE TABLE bgmq_inbox(id INTEGER PRIMARY KEY)",
     "bgmq_inbox"},
    {"DROP TABLE bgmq_job; CREATE TABLE bgmq_job AS SELECT * FROM bgmq_backlog",
     "bgmq_job"},
};
enum { CHANGES = sizeof(changes) / sizeof(changes[0]) };

/* S6. */
START_TEST(table_that_is_missing_or_changed_is_named)
{
    open_and_close(fixture_options());
    meddle(fixture_path(), changes[_i].sql);
    for (int share = 0; share < 2; share++) {
        struct store_options options = fixture_options();
        options.share = share;
        struct bgmq_error error = {.text = ""};
        ck_assert_int_eq(fixture_open_fails(options, &error), BGMQ_ESCHEMA);
        ck_assert_msg(strstr(error.text, changes[_i].named), "%s", error.text);
        ck_assert_ptr_nonnull(strstr(error.text, fixture_path()));
    }
}
END_TEST

START_TEST(tables_of_others_with_names_like_ours_do_not_matter)
{
    open_and_close(shared());
    meddle(fixture_path(),
           "CREATE TABLE bgmq_mine(x); CREATE INDEX bgmq_mine_x ON"
           " bgmq_mine(x); CREATE VIEW bgmq_my_view AS SELECT 1;"
           " CREATE TRIGGER t AFTER INSERT ON bgmq_mine BEGIN SELECT 1; END;"
           " CREATE VIEW mine AS SELECT * FROM bgmq_dead");
    open_and_close(shared());
    open_and_close(fixture_options());
}
END_TEST

/* A text that was set in another way is the same table: a dump that was read back. */
START_TEST(blanks_in_the_schema_do_not_matter)
{
    open_and_close(fixture_options());
    meddle(fixture_path(),
           "PRAGMA writable_schema = ON;"
           "UPDATE sqlite_schema SET sql = replace(replace(sql, ', ', ',  '), '(', ' (')"
           " WHERE name = 'bgmq_type'");
    open_and_close(fixture_options());
}
END_TEST

/* S6.  One that comes while we have the file open; the next open refuses it. */
START_TEST(triggers_of_others_do_not_run)
{
    struct store *s = fixture_open();
    meddle(fixture_path(),
           "CREATE TABLE trap(x); CREATE TRIGGER t AFTER INSERT ON bgmq_job"
           " BEGIN INSERT INTO trap VALUES(1); END");
    struct batch_of *b = batch_new();
    batch_insert(b, 1);
    batch_apply(s, b);
    fixture_close(s);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM trap"), 0);
}
END_TEST

static void add_foreign(TCase *c)
{
    tcase_add_loop_test(c, not_a_database, 0, 8);
    tcase_add_loop_test(c, database_of_another_application, 0, 5);
    tcase_add_test(c, unfinished_log_of_another_application_stays);
    tcase_add_test(c, shared_database_keeps_all_that_is_not_ours);
    tcase_add_test(c, new_shared_database_bears_no_mark);
    tcase_add_test(c, shared_works_beside_a_connection_of_the_application);
    tcase_add_test(c, newer_version_is_refused_untouched);
    tcase_add_loop_test(c, no_version_is_not_guessed, 0, 5);
    tcase_add_loop_test(c, table_that_is_missing_or_changed_is_named, 0, CHANGES);
    tcase_add_test(c, tables_of_others_with_names_like_ours_do_not_matter);
    tcase_add_test(c, blanks_in_the_schema_do_not_matter);
    tcase_add_test(c, triggers_of_others_do_not_run);
}

static Suite *suite(void)
{
    Suite *s = suite_create("store_open");
    TCase *c = harness_case(s, "file");
    tcase_add_test(c, names_that_are_no_files);
    tcase_add_test(c, relative_name_is_found_again_after_chdir);
    tcase_add_test(c, new_file_is_private_and_ours);
    tcase_add_test(c, empty_file_is_taken_as_new);
    tcase_add_test(c, database_without_tables_is_taken_as_new);
    tcase_add_test(c, opens_again_and_finds_what_was_there);
    tcase_add_test(c, close_leaves_everything_in_the_file_itself);
    tcase_add_test(c, missing_directory);
    tcase_add_test(c, directory_that_cannot_be_written);
    tcase_add_test(c, file_as_directory);
    tcase_add_test(c, file_that_may_only_be_read);
    c = harness_case(s, "unsafe");
    tcase_add_test(c, symbolic_link);
    tcase_add_test(c, name_that_is_too_long_in_full);
    tcase_add_test(c, symbolic_link_on_the_way_is_followed_once);
    tcase_add_test(c, not_a_file);
    tcase_add_test(c, file_of_another_user);
    tcase_add_test(c, file_that_everybody_may_write);
    tcase_add_test(c, file_with_two_names);
    tcase_add_test(c, log_that_is_a_link);
    c = harness_case(s, "foreign");
    add_foreign(c);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
