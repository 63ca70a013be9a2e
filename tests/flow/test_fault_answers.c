/* test_fault_answers.c - what is made of each answer of SQLite: by a guest at each step of a
 * publish, in the application's transaction, by a copy of the database, by an owner that opens it.
 *
 * The answers are given to the thread that ordered them. */
#include "app.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- SQLite's answers: the linker puts these in their place ---------------------------- */

static _Thread_local const char
    *failing; /* the beginning of a statement; NULL: none fails */
static _Thread_local int answer,
    done; /* DONE: it is what is said of a statement that has run */

/* True when TEXT is to fail. */
static int fails(const char *text)
{
    return failing && text && strncmp(text, failing, strlen(failing)) == 0;
}

int __real_sqlite3_exec(sqlite3 *db, const char *sql, sqlite3_callback fn, void *ctx,
                        char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, sqlite3_callback fn, void *ctx,
                        char **error);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, sqlite3_callback fn, void *ctx,
                        char **error)
{
    if (!fails(sql))
        return __real_sqlite3_exec(db, sql, fn, ctx, error);
    if (done)
        __real_sqlite3_exec(db, sql, fn, ctx, error);
    return answer;
}

int __real_sqlite3_step(sqlite3_stmt *q);
int __wrap_sqlite3_step(sqlite3_stmt *q);
int __wrap_sqlite3_step(sqlite3_stmt *q)
{
    return fails(sqlite3_sql(q)) ? answer : __real_sqlite3_step(q);
}

int __real_sqlite3_db_readonly(sqlite3 *db, const char *name);
int __wrap_sqlite3_db_readonly(sqlite3 *db, const char *name);
int __wrap_sqlite3_db_readonly(sqlite3 *db, const char *name)
{
    return fails("readonly") ? answer : __real_sqlite3_db_readonly(db, name);
}

/* ---- the tests ------------------------------------------------------------------------- */

/* COMMITTED: the error when it is the answer to a COMMIT that has not ended its transaction. */
static const struct {
    int rc, err, committed;
} answers[] = {
    {SQLITE_BUSY, BGMQ_EBUSY, BGMQ_EBUSY},
    {SQLITE_LOCKED, BGMQ_EBUSY, BGMQ_EBUSY},
    {SQLITE_FULL, BGMQ_EFULL, BGMQ_EFULL},
    {SQLITE_NOMEM, BGMQ_ENOMEM, BGMQ_ENOMEM},
    {SQLITE_CONSTRAINT_CHECK, BGMQ_EINVAL, BGMQ_EINVAL},
    {SQLITE_TOOBIG, BGMQ_ETOOBIG, BGMQ_ETOOBIG},
    {SQLITE_READONLY_DBMOVED, BGMQ_EREADONLY, BGMQ_EREADONLY},
    {SQLITE_CORRUPT_VTAB, BGMQ_ECORRUPT, BGMQ_ECORRUPT},
    {SQLITE_NOTADB, BGMQ_ECORRUPT, BGMQ_ECORRUPT},
    {SQLITE_IOERR_READ, BGMQ_ESTORE, BGMQ_EUNCERTAIN},
    {SQLITE_ERROR, BGMQ_ESTORE, BGMQ_EUNCERTAIN},
};
enum { ANSWERS = sizeof(answers) / sizeof(*answers) };

static struct bgmq_guest *visit(void)
{
    struct bgmq_guest *g = NULL;
    struct bgmq_error error = {""};
    flow_close(flow_open(1)); /* makes the database */
    int err = bgmq_guest_open(&g, flow_database(), &error);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return g;
}

static int publish(struct bgmq_guest *g, enum bgmq_durability level)
{
    struct bgmq_receipt r = {.id = 7};
    int err = bgmq_guest_publish(g, "T", "x", 1, &MESSAGE(.durability = level), &r);
    ck_assert(err == 0 || r.id == 7);
    return err;
}

static void begin(const char *statement, int rc)
{
    failing = statement;
    answer = rc;
}

static int64_t rows(void)
{
    failing = NULL;
    return flow_sql("SELECT count(*) FROM bgmq_inbox");
}

/* _i: the answer.  The next publish goes through. */
START_TEST(each_answer_of_sqlite_has_its_error)
{
    static const char *const steps[] = {"BEGIN", "INSERT", "PRAGMA main.synchronous"};
    struct bgmq_guest *g = visit();
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        begin(steps[i], answers[_i].rc);
        FAILS(answers[_i].err, publish(g, BGMQ_COMMIT));
        ck_assert_int_eq(rows(), (int64_t)i);
        OK(publish(g, BGMQ_DISK));
    }
    bgmq_guest_close(g);
}
END_TEST

/* _i: the answer.  Who cannot tell what became of a row says so, and publishes no more. */
START_TEST(commit_that_fails_is_uncertain_where_nobody_can_know)
{
    struct bgmq_guest *g = visit();
    begin("COMMIT", answers[_i].rc);
    FAILS(answers[_i].committed, publish(g, BGMQ_DISK));
    ck_assert_int_eq(rows(), 0);
    if (answers[_i].committed == BGMQ_EUNCERTAIN)
        FAILS(BGMQ_ESTORE, publish(g, BGMQ_DISK));
    else
        OK(publish(g, BGMQ_DISK));
    bgmq_guest_close(g);
}
END_TEST

/* The transaction is over, however: the row may be in the log. */
START_TEST(commit_that_lacked_memory_at_its_end_is_uncertain)
{
    struct bgmq_guest *g = visit();
    begin("COMMIT", SQLITE_NOMEM);
    done = 1;
    FAILS(BGMQ_EUNCERTAIN, publish(g, BGMQ_DISK));
    ck_assert_int_eq(rows(), 1);
    FAILS(BGMQ_ESTORE, publish(g, BGMQ_DISK));
    bgmq_guest_close(g);
}
END_TEST

START_TEST(tables_that_cannot_be_read_are_no_tables)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    bgmq_guest_close(visit());
    begin("SELECT type, name, tbl_name", SQLITE_CORRUPT);
    FAILS(BGMQ_ECORRUPT, bgmq_open(&mq, &SERVICE(.database = flow_database()), &error));
    begin("SELECT type, name, tbl_name", SQLITE_IOERR_READ);
    FAILS(BGMQ_EOPEN, bgmq_open(&mq, &SERVICE(.database = flow_database()), &error));
    ck_assert_ptr_nonnull(strstr(error.text, "looking at its tables"));
    failing = NULL;
}
END_TEST

/* What the owner of an older version made has no inbox yet. */
START_TEST(database_without_an_inbox_waits_for_its_owner)
{
    struct bgmq_guest *g = NULL;
    struct bgmq_error error = {""};
    bgmq_guest_close(visit());
    begin("SELECT 'yes' FROM main.sqlite_schema", SQLITE_DONE);
    FAILS(BGMQ_ENOENT, bgmq_guest_open(&g, flow_database(), &error));
    ck_assert_ptr_nonnull(strstr(error.text, "older version"));
    failing = NULL;
}
END_TEST

START_TEST(each_answer_to_a_publish_in_a_transaction_has_its_error)
{
    static const struct {
        int rc, err;
    } told[] = {
        {SQLITE_BUSY, BGMQ_EBUSY},         {SQLITE_LOCKED, BGMQ_EBUSY},
        {SQLITE_FULL, BGMQ_EFULL},         {SQLITE_NOMEM, BGMQ_ENOMEM},
        {SQLITE_READONLY, BGMQ_EREADONLY}, {SQLITE_CORRUPT, BGMQ_ESTORE},
        {SQLITE_IOERR_WRITE, BGMQ_ESTORE},
    };
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    sqlite3 *db = app_open();
    for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
        app_sql(db, "BEGIN");
        begin("INSERT INTO main.bgmq_job", told[i].rc);
        FAILS(told[i].err, bgmq_publish_tx(mq, db, "T", "x", 1, NULL, NULL));
        failing = NULL;
        app_sql(db, "COMMIT");
    }
    ck_assert_int_eq(flow_rows(), 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    app_close(db);
    flow_close(mq);
}
END_TEST

START_TEST(each_answer_to_a_copy_has_its_error)
{
    static const struct {
        int rc, err;
    } told[] = {
        {SQLITE_BUSY, BGMQ_EBUSY},        {SQLITE_LOCKED, BGMQ_EBUSY},
        {SQLITE_FULL, BGMQ_EFULL},        {SQLITE_NOMEM, BGMQ_ENOMEM},
        {SQLITE_CORRUPT, BGMQ_ECORRUPT},  {SQLITE_NOTADB, BGMQ_ECORRUPT},
        {SQLITE_IOERR_READ, BGMQ_ESTORE},
    };
    struct bgmq *mq = flow_open(1);
    const char *to = harness_path("copy.db");
    for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
        struct bgmq_error error = {""};
        begin("VACUUM main INTO", told[i].rc);
        FAILS(told[i].err, bgmq_backup(mq, to, &error));
        ck_assert_ptr_nonnull(strstr(error.text, to));
        ck_assert_int_ne(access(to, F_OK), 0);
    }
    failing = NULL;
    OK(bgmq_backup(mq, to, NULL));
    flow_close(mq);
}
END_TEST

START_TEST(status_says_why_there_is_none)
{
    struct bgmq_guest *g = visit();
    char *text = NULL;
    begin("SELECT type, waiting", SQLITE_CORRUPT);
    FAILS(BGMQ_ECORRUPT, bgmq_guest_status(g, &text));
    ck_assert_ptr_null(text);
    failing = NULL;
    OK(bgmq_guest_status(g, &text));
    free(text);
    bgmq_guest_close(g);
}
END_TEST

START_TEST(database_that_can_only_be_read_is_refused)
{
    struct bgmq_guest *g = NULL;
    struct bgmq_error error = {""};
    bgmq_guest_close(visit());
    begin("readonly", 1);
    FAILS(BGMQ_EREADONLY, bgmq_guest_open(&g, flow_database(), &error));
    ck_assert_ptr_nonnull(strstr(error.text, "can only be read"));
    struct bgmq *mq = NULL;
    FAILS(BGMQ_EOPEN, bgmq_open(&mq, &SERVICE(.database = flow_database()), &error));
    ck_assert_ptr_nonnull(strstr(error.text, "can only be read"));
    failing = NULL;
    ck_assert_ptr_null(g);
    ck_assert_ptr_null(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_answers");
    TCase *tc = flow_case(s, "answers");
    tcase_add_loop_test(tc, each_answer_of_sqlite_has_its_error, 0, ANSWERS);
    tcase_add_loop_test(tc, commit_that_fails_is_uncertain_where_nobody_can_know, 0,
                        ANSWERS);
    tcase_add_test(tc, commit_that_lacked_memory_at_its_end_is_uncertain);
    tcase_add_test(tc, tables_that_cannot_be_read_are_no_tables);
    tcase_add_test(tc, database_without_an_inbox_waits_for_its_owner);
    tcase_add_test(tc, each_answer_to_a_publish_in_a_transaction_has_its_error);
    tcase_add_test(tc, each_answer_to_a_copy_has_its_error);
    tcase_add_test(tc, status_says_why_there_is_none);
    tcase_add_test(tc, database_that_can_only_be_read_is_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
