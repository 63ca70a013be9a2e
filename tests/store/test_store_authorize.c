/* test_store_authorize.c - what a connection of ours refuses to compile, in builds with assertions,
 * whoever wrote the statement. */
#include "fixture.h"

#include <string.h>

#include "store_open.h"

static const char *const foreign[] = {
    "SELECT * FROM effect",
    "INSERT INTO effect VALUES(1)",
    "UPDATE effect SET n = 2",
    "DELETE FROM effect",
    "CREATE TABLE other(n)",
    "DROP TABLE effect",
    "ALTER TABLE effect ADD COLUMN m",
    "CREATE INDEX other ON effect(n)",
    "CREATE TEMP TABLE bgmq_other(n)",
    "CREATE TRIGGER bgmq_t AFTER INSERT ON bgmq_job BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE bgmq_v USING fts5(n)",
    "ATTACH 'other.db' AS other",
    "DETACH main",
    "ANALYZE",
    "PRAGMA writable_schema = ON",
    "PRAGMA trusted_schema = ON",
    "SELECT * FROM pragma_database_list",
    "SELECT load_extension('x')",
};
enum { FOREIGN = sizeof(foreign) / sizeof(foreign[0]) };

static const char *const ours[] = {
    "SELECT count(*) FROM bgmq_job",
    "DELETE FROM bgmq_history WHERE id < 7",
    "CREATE TABLE bgmq_next(n PRIMARY KEY) WITHOUT ROWID",
    "ALTER TABLE bgmq_type ADD COLUMN m",
    "PRAGMA main.synchronous = FULL",
    "SELECT * FROM pragma_page_count",
};
enum { OURS = sizeof(ours) / sizeof(ours[0]) };

static struct sqlite_store visit;

static void setup(void)
{
    sqlite3 *db;
    fixture_close(fixture_open());
    ck_assert_int_eq(sqlite3_open(fixture_path(), &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "CREATE TABLE effect(n)", NULL, NULL, NULL), 0);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    ck_assert_int_eq(bgmqi_store_open_visit(&visit, fixture_path(), NULL), 0);
}

static void teardown(void)
{
    bgmqi_store_open_leave(&visit);
}

static int compile(const char *sql)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(visit.w, sql, -1, &statement, NULL);
    sqlite3_finalize(statement);
    return rc;
}

START_TEST(what_we_never_do_is_not_compiled)
{
#ifdef NDEBUG
    HARNESS_SKIP("its assertions are off");
#endif
    int rc = compile(foreign[_i]);
    const char *why = sqlite3_errmsg(visit.w);
    ck_assert_msg(rc != SQLITE_OK &&
                      (strstr(why, "not authorized") || strstr(why, "prohibited")),
                  "%s: %d, %s", foreign[_i], rc, why);
}
END_TEST

START_TEST(what_we_do_is_compiled)
{
    ck_assert_msg(compile(ours[_i]) == SQLITE_OK, "%s: %s", ours[_i],
                  sqlite3_errmsg(visit.w));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_authorize");
    TCase *tc = harness_case(s, "compile");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, what_we_never_do_is_not_compiled, 0, FOREIGN);
    tcase_add_loop_test(tc, what_we_do_is_compiled, 0, OURS);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
