/* test_store_migrate.c - tables of version 1 become today's, also when the process dies in the
 * middle; and the views that people and guests read. */
#include "fixture.h"
#include "scarce.h"
#include "shim_vfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- version 1 ----------------------------------------------------------------------- */

#define MESSAGE_1                                                                        \
    " priority INTEGER NOT NULL, attempt INTEGER NOT NULL, max_attempts INTEGER NOT"     \
    " NULL, run INTEGER NOT NULL, crashes INTEGER NOT NULL, flags INTEGER NOT NULL,"     \
    " created INTEGER NOT NULL,"
#define REST_1                                                                           \
    " reply_to TEXT, reply_id INTEGER, tag TEXT, traceparent TEXT, unique_key TEXT,"     \
    " body_type TEXT, meta TEXT, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;"

/* What version 1 made, and rows in every table; the checksums are those of "a" and "b". */
static const char version_1[] =
    "PRAGMA journal_mode = WAL; PRAGMA application_id = 1111969105; BEGIN;"
    "CREATE TABLE bgmq_meta("
    " key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;"
    "INSERT INTO bgmq_meta(key, value) VALUES('schema', 1), ('next_id', 1001);"
    "CREATE TABLE bgmq_type( id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE bgmq_job( id INTEGER PRIMARY KEY, type INTEGER NOT NULL,"
    " seq INTEGER NOT NULL," MESSAGE_1 REST_1
    "CREATE TABLE bgmq_backlog( id INTEGER PRIMARY KEY, type INTEGER NOT NULL,"
    " lane INTEGER NOT NULL, key INTEGER NOT NULL, seq INTEGER NOT NULL," MESSAGE_1
    " error_code TEXT, error_text TEXT, error_at INTEGER," REST_1
    "CREATE INDEX bgmq_backlog_order ON bgmq_backlog(type, lane, key, seq);"
    "CREATE TABLE bgmq_unique( type INTEGER NOT NULL, key TEXT NOT NULL,"
    " id INTEGER NOT NULL, PRIMARY KEY(type, key)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE bgmq_history( seq INTEGER PRIMARY KEY, id INTEGER NOT NULL,"
    " type INTEGER NOT NULL, outcome TEXT NOT NULL, priority INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, created INTEGER NOT NULL, finished INTEGER NOT NULL,"
    " error_code TEXT, error_text TEXT) STRICT;"
    "INSERT INTO bgmq_type VALUES(1, 'Mail');"
    "INSERT INTO bgmq_job(id, type, seq, priority, attempt, max_attempts, run, crashes,"
    " flags, created, unique_key, crc, body)"
    " VALUES(5, 1, 5, 0, 0, 0, 0, 0, 0, 77, 'k', 3251651376, x'61');"
    "INSERT INTO bgmq_backlog(id, type, lane, key, seq, priority, attempt, max_attempts,"
    " run, crashes, flags, created, error_code, crc, body)"
    " VALUES(3, 1, 3, 0, 3, 0, 5, 5, 6, 0, 0, 66, 'Code', 3531649220, x'62');"
    "INSERT INTO bgmq_unique VALUES(1, 'k', 5);"
    "INSERT INTO bgmq_history VALUES(9, 2, 1, 'done', 0, 1, 10, 20, NULL, NULL); COMMIT";

static void forget_file(void)
{
    static const char *const names[] = {"store.db", "store.db-wal", "store.db-shm",
                                        "store.db-journal"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(harness_path(names[i]));
}

static void make_version_1(void)
{
    forget_file();
    harness_write_file(fixture_path(), "", 0);
    chmod(fixture_path(), 0600);
    meddle(fixture_path(), version_1);
}

static void check_rows(struct store *s)
{
    static struct seen seen;
    ck_assert_int_eq(recover(s, NULL, NULL, 0), 1);
    ck_assert_int_eq(seen_load(s, &seen, LANE_INQ, 0, 0, 9, SIZE_MAX), 1);
    ck_assert_uint_eq(seen.rows[0].id, 5);
    ck_assert_str_eq(seen.bodies[0], "a");
    ck_assert_int_eq(seen.rows[0].corrupt, 0);
    ck_assert_int_eq(seen_load(s, &seen, LANE_DLQ, 0, 0, 9, SIZE_MAX), 1);
    ck_assert_uint_eq(seen.rows[0].run, 6);
    ck_assert_str_eq(seen.errors[0], "Code");
    ck_assert_int_eq(seen.rows[0].corrupt, 0);
    uint64_t first;
    ck_assert_int_eq(s->ops->reserve_ids(s, 1, &first), 0);
    ck_assert_uint_ge(first, 1001);
    ck_assert_int_eq(look("SELECT value FROM bgmq_meta WHERE key = 'schema'"), 2);
    ck_assert_int_eq(look("SELECT scope FROM bgmq_unique WHERE until IS NULL"), 0);
    ck_assert_int_eq(look("SELECT id FROM bgmq_history WHERE started IS NULL"), 2);
    check_sound();
}

START_TEST(version_1_becomes_todays_with_all_its_rows)
{
    make_version_1();
    struct store *s = fixture_open();
    check_rows(s);
    struct batch_of *b = batch_new();
    batch_carry(batch_insert(b, 2000), &(struct bgmq_message_options){.unique_key = "k"});
    ck_assert_int_eq(batch_try(s, b, STORE_SYNC_NORMAL, NULL), STORE_FAIL_NONE);
    ck_assert_int_eq(b->ops[0].result, BGMQ_EEXIST);
    batch_free(b);
    fixture_close(s);
    meddle(fixture_path(), "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'b')");
    ck_assert_int_eq(look("SELECT id = 1 << 52 FROM bgmq_inbox"), 1);
    fixture_close(fixture_open());
}
END_TEST

/* A migrated schema reads as a new one, or one day's fingerprint would refuse it. */
START_TEST(migrated_and_new_tables_are_the_same)
{
    static const char columns[] =
        "SELECT group_concat(m.name || '.' || c.cid || c.name || c.type || c.pk"
        " || c.[notnull] || ifnull(c.dflt_value, ''), ' ') FROM (SELECT name FROM"
        " sqlite_schema WHERE type = 'table' AND name = 'bgmq_%s') m,"
        " pragma_table_xinfo(m.name) c";
    static const char *const names[] = {"job", "backlog", "unique", "history"};
    char sql[512], migrated[4][256];
    make_version_1();
    fixture_close(fixture_open());
    for (int i = 0; i < 4; i++) {
        snprintf(sql, sizeof(sql), columns, names[i]);
        snprintf(migrated[i], sizeof(migrated[i]), "%s", look_text(sql));
    }
    forget_file();
    fixture_close(fixture_open());
    for (int i = 0; i < 4; i++) {
        snprintf(sql, sizeof(sql), columns, names[i]);
        ck_assert_str_eq(look_text(sql), migrated[i]);
    }
}
END_TEST

START_TEST(version_1_that_is_not_whole_is_left_alone)
{
    static const struct {
        const char *sql, *named;
    } cases[] = {
        {"DROP TABLE bgmq_history", "bgmq_history"},
        {"ALTER TABLE bgmq_job DROP COLUMN crashes", "bgmq_job"},
        {"ALTER TABLE bgmq_job ADD COLUMN expires INTEGER", "expires"},
        {"CREATE VIEW bgmq_dead AS SELECT 1", "bgmq_dead"},
        {"CREATE TRIGGER spy AFTER INSERT ON bgmq_job BEGIN SELECT 1; END", "spy"},
    };
    make_version_1();
    meddle(fixture_path(), cases[_i].sql);
    struct bgmq_error error = {.text = ""};
    ck_assert_int_eq(fixture_open_fails(fixture_options(), &error), BGMQ_ESCHEMA);
    ck_assert_msg(strstr(error.text, cases[_i].named), "%s", error.text);
    ck_assert_int_eq(look("SELECT value FROM bgmq_meta WHERE key = 'schema'"), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM bgmq_job"), 1);
    ck_assert_int_eq(look("SELECT count(*) FROM pragma_table_info('bgmq_unique')"), 3);
}
END_TEST

/* ---- dying --------------------------------------------------------------------------- */

enum { PASSED = 3, MOST = 3000 };

/* Opens in a child that is killed before its N-th call; true when it ran to its end. */
static bool killed_at(long n)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        harness_part();
        shim_vfs_install();
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_ALL, .files = SHIM_ANY, .kind = SHIM_KILL, .nth = n});
        struct store_options options = fixture_options();
        struct store *s;
        if (bgmqi_store_sqlite_open(&s, &options, NULL) == 0)
            s->ops->close(s);
        _exit(PASSED);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status) == PASSED;
}

/* S5. */
START_TEST(killed_anywhere_in_a_migration_it_is_of_one_version_or_the_other)
{
    long n = 1;
    int old = 0, new = 0;
    for (bool done = false; n < MOST && !done; n++) {
        make_version_1();
        done = killed_at(n);
        int64_t version = look("SELECT value FROM bgmq_meta WHERE key = 'schema'");
        int64_t columns = look("SELECT count(*) FROM pragma_table_info('bgmq_history')");
        int64_t inbox =
            look("SELECT count(*) FROM sqlite_schema WHERE name = 'bgmq_inbox'");
        ck_assert(version == 1 || version == 2);
        ck_assert_int_eq(columns, version == 1 ? 10 : 16);
        ck_assert_int_eq(inbox, version - 1);
        version == 1 ? old++ : new ++;
        struct store *s = fixture_open();
        check_rows(s);
        fixture_close(s);
    }
    ck_assert_int_lt(n, MOST);
    ck_assert_int_gt(old, 20);
    ck_assert_int_gt(new, 2);
}
END_TEST

/* S14. */
START_TEST(disk_full_anywhere_in_a_migration_changes_nothing)
{
    for (long n = 1;; n++) {
        make_version_1();
        shim_vfs_install();
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_WRITE, .files = SHIM_WAL, .kind = SHIM_FULL, .nth = n});
        struct store_options options = fixture_options();
        struct bgmq_error error = {.text = ""};
        struct store *s = NULL;
        int err = bgmqi_store_sqlite_open(&s, &options, &error);
        bool fired = shim_vfs_fired() > 0;
        shim_vfs_disarm();
        if (err == 0)
            fixture_close(s);
        shim_vfs_remove();
        if (!fired)
            break;
        ck_assert_int_lt(n, 100);
        if (err) {
            ck_assert_ptr_nonnull(strstr(error.text, "store.db"));
            ck_assert_int_eq(look("SELECT value FROM bgmq_meta WHERE key = 'schema'"), 1);
        }
        s = fixture_open();
        check_rows(s);
        fixture_close(s);
    }
}
END_TEST

/* ---- faults -------------------------------------------------------------------------- */

static long to_fail; /* allocations of SQLite until one fails; 0: none does */
static int lacked, refused;

static bool allocation_fails(void)
{
    if (to_fail == 0 || --to_fail > 0)
        return false;
    lacked++;
    return true;
}

/* Migrates with what is armed, in the N-th turn; false: it was not met.  As soon as nothing fails
 * every row is there. */
static bool migrate(long n)
{
    struct store_options options = fixture_options();
    struct bgmq_error error = {.text = ""};
    struct store *s = NULL;
    lacked = 0;
    int err = bgmqi_store_sqlite_open(&s, &options, &error);
    bool met = lacked || shim_vfs_fired() > 0;
    to_fail = 0;
    shim_vfs_disarm();
    refused += err != 0;
    ck_assert_msg(err <= 0 && err != BGMQ_ECORRUPT && err != BGMQ_ESCHEMA &&
                      err != BGMQ_EVERSION,
                  "%ld: %s", n, error.text);
    ck_assert_msg(err == 0 || error.text[0] != '\0', "%ld: no words", n);
    if (err == 0)
        fixture_close(s);
    s = fixture_open();
    check_rows(s);
    fixture_close(s);
    return met;
}

/* _i: the kinds of calls. */
START_TEST(disk_that_fails_in_a_migration_changes_nothing_or_all)
{
    static const struct {
        unsigned calls;
        enum shim_kind kind;
    } plans[] = {
        {SHIM_READ, SHIM_IOERR}, {SHIM_WRITE, SHIM_IOERR},
        {SHIM_SYNC, SHIM_IOERR}, {SHIM_OPEN | SHIM_SIZE | SHIM_TRUNCATE, SHIM_IOERR},
        {SHIM_LOCK, SHIM_IOERR}, {SHIM_SHM | SHIM_SHMLOCK, SHIM_IOERR},
        {SHIM_WRITE, SHIM_FULL},
    };
    shim_vfs_install();
    for (long n = 1, met = 1; met; n += harness_step()) {
        make_version_1();
        shim_vfs_arm(&(struct shim_fault){.calls = plans[_i].calls,
                                          .files = SHIM_ANY,
                                          .kind = plans[_i].kind,
                                          .nth = n,
                                          .times = 1});
        met = migrate(n);
        ck_assert_int_lt(n, MOST);
    }
    ck_assert_int_gt(refused, 0);
    shim_vfs_remove();
}
END_TEST

START_TEST(memory_that_is_lacking_in_a_migration_changes_nothing_or_all)
{
    long step = harness_full() ? 1 : 60 * harness_step();
    for (long n = 1, met = 1; met; n += step) {
        make_version_1();
        to_fail = n;
        met = migrate(n);
        ck_assert_int_lt(n, 10 * MOST);
    }
    ck_assert_int_gt(refused, 10);
}
END_TEST

/* Each read and write of the system is interrupted, and does a part of what was asked only. */
START_TEST(interrupted_migration_is_one_all_the_same)
{
    make_version_1();
    shim_vfs_interrupt(2);
    struct store *s = fixture_open();
    fixture_close(s);
    shim_vfs_interrupt(0);
    ck_assert_int_gt(shim_vfs_interrupted(), 20);
    s = fixture_open();
    check_rows(s);
    fixture_close(s);
}
END_TEST

static void setup_memory(void)
{
    scarce_sqlite(allocation_fails);
}

/* ---- views --------------------------------------------------------------------------- */

/* The rows of SQL, columns by '|', as a careful reader gets them. */
static const char *shell(const char *sql)
{
    static char text[4096];
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open_v2(fixture_path(), &db, SQLITE_OPEN_READONLY, NULL),
                     SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_stmt *q = NULL;
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    size_t len = 0;
    text[0] = '\0';
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(q); i++) {
            const char *s = (const char *)sqlite3_column_text(q, i);
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? "|" : "",
                                    s ? s : "-");
        }
        len += (size_t)snprintf(text + len, sizeof(text) - len, "\n");
    }
    ck_assert_int_eq(rc, SQLITE_DONE);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return text;
}

static void add_type(struct batch_of *b, uint32_t number, const char *name)
{
    struct store_op *op = batch_add(b, STORE_TYPE, 0);
    op->type = number;
    op->text = (char *)(uintptr_t)name;
}

static void fill(struct store *s)
{
    struct batch_of *b = batch_new();
    add_type(b, 1, "Mail");
    add_type(b, 2, "Mail@eu");
    batch_insert(b, 1);
    batch_carry(batch_spill(b, 2, LANE_PRIORITYQ, -5),
                &(struct bgmq_message_options){
                    .tag = "t", .unique_key = "k", .expire_at_ms = 2000500});
    batch_spill(b, 3, LANE_DELAYED, 1700000000123)->type = 2;
    struct store_op *op = batch_spill(b, 4, LANE_DLQ, 0);
    batch_fail(op, "Code", "text", 86400000);
    op->type = 9; /* that nobody knows */
    batch_save(batch_add(b, STORE_PROGRESS, 2), "c", 40, "of 100", NULL);
    op = batch_add(b, STORE_HISTORY, 8);
    op->history = OUTCOME_DONE;
    op->at_ms = 1500;
    op->started_ms = 1400;
    batch_apply(s, b);
    meddle(fixture_path(), "INSERT INTO bgmq_inbox(type, body, channel) VALUES"
                           " ('Mail', 'b', 'eu'), ('New', 'b', NULL), ('New', 'b', NULL);"
                           " UPDATE bgmq_inbox SET refused = 'why' WHERE rowid ="
                           " (SELECT max(rowid) FROM bgmq_inbox)");
}

START_TEST(views_tell_people_what_there_is)
{
    struct store *s = fixture_open();
    fill(s);
    ck_assert_str_eq(
        shell("SELECT id, type, state, priority, attempt, created, due, expires,"
              " error_code, error_text, tag, unique_key, body_length, progress,"
              " progress_text FROM bgmq_messages ORDER BY id"),
        "1|Mail|waiting|0|0|1970-01-01T00:16:40.001Z|-|-|-|-|-|-|6|-|-\n"
        "2|Mail|waiting|0|0|1970-01-01T00:16:40.002Z|-|1970-01-01T00:33:20.500Z|-|-|t|k|6"
        "|40|of 100\n"
        "3|Mail@eu|delayed|0|0|1970-01-01T00:16:40.003Z|2023-11-14T22:13:20.123Z|-|-|-|-"
        "|-|6|-|-\n"
        "4|unknown.9|dead|0|0|1970-01-01T00:16:40.004Z|-|-|Code|text|-|-|6|-|-\n");
    ck_assert_str_eq(shell("SELECT id, type, failed, error_code FROM bgmq_dead"),
                     "4|unknown.9|1970-01-02T00:00:00.000Z|Code\n");
    ck_assert_str_eq(
        shell("SELECT id, type, outcome, started, finished FROM bgmq_finished"),
        "8|Mail|done|1970-01-01T00:00:01.400Z|1970-01-01T00:00:01.500Z\n");
    ck_assert_str_eq(shell("SELECT type, waiting, delayed, dead, inbox, refused"
                           " FROM bgmq_status ORDER BY type"),
                     "Mail|2|0|0|0|0\nMail@eu|0|1|0|1|0\nNew|0|0|0|1|1\n"
                     "unknown.9|0|0|1|0|0\n");
    fixture_close(s);
}
END_TEST

START_TEST(views_of_an_empty_database_are_empty)
{
    fixture_close(fixture_open());
    ck_assert_str_eq(shell("SELECT * FROM bgmq_messages"), "");
    ck_assert_str_eq(shell("SELECT * FROM bgmq_dead"), "");
    ck_assert_str_eq(shell("SELECT * FROM bgmq_finished"), "");
    ck_assert_str_eq(shell("SELECT * FROM bgmq_status"), "");
}
END_TEST

START_TEST(views_cannot_be_written)
{
    fixture_close(fixture_open());
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(fixture_path(), &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "DELETE FROM bgmq_messages", NULL, NULL, NULL),
                     SQLITE_ERROR);
    sqlite3_close(db);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_migrate");
    TCase *c = harness_case(s, "migration");
    tcase_set_timeout(c, 180);
    tcase_add_test(c, version_1_becomes_todays_with_all_its_rows);
    tcase_add_test(c, migrated_and_new_tables_are_the_same);
    tcase_add_loop_test(c, version_1_that_is_not_whole_is_left_alone, 0, 5);
    tcase_add_test(c, killed_anywhere_in_a_migration_it_is_of_one_version_or_the_other);
    tcase_add_test(c, disk_full_anywhere_in_a_migration_changes_nothing);
    c = harness_case(s, "faults");
    tcase_set_timeout(c, 180);
    tcase_add_loop_test(c, disk_that_fails_in_a_migration_changes_nothing_or_all, 0, 7);
    tcase_add_test(c, interrupted_migration_is_one_all_the_same);
    c = harness_case(s, "memory");
    tcase_set_timeout(c, 180);
    tcase_add_checked_fixture(c, setup_memory, NULL);
    tcase_add_test(c, memory_that_is_lacking_in_a_migration_changes_nothing_or_all);
    c = harness_case(s, "views");
    tcase_add_test(c, views_tell_people_what_there_is);
    tcase_add_test(c, views_of_an_empty_database_are_empty);
    tcase_add_test(c, views_cannot_be_written);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
