/* test_settings.c - how our connections are set, one test for each hazard of SQLite that a setting
 * keeps us clear of.  Part of T2 of the fault programme. */
#include "../harness/harness.h"
#include "../harness/shim_vfs.h"

#include <bgmq_sqlite.h>
#include <ctype.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handle.h"
#include "journal.h"
#include "store_sqlite.h"

#define OK(call) ck_assert_int_eq((call), BGMQ_OK)

static const char *path(void)
{
    return harness_path("set.db");
}

static struct bgmq *serve(int share)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {.text = ""};
    int err = bgmq_open(
        &mq, &(struct bgmq_options){.database = path(), .share_database = share}, &error);
    ck_assert_msg(err == 0, "%s", error.text);
    return mq;
}

static void end(struct bgmq *mq)
{
    OK(bgmq_close(mq));
    bgmq_free(mq);
}

/* Runs FN with the store, on the thread of its owner; what it asserts is asserted there. */
static void with_store(struct bgmq *mq, bgmqi_journal_fn *fn)
{
    int asked = 0;
    OK(bgmqi_journal_run(mq->journal, fn, &asked, INT64_C(10000000000)));
    ck_assert_int_eq(asked, 1);
}

/* The library need not be allowed to ask what is asked here. */
static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    sqlite3_set_authorizer(db, NULL, NULL);
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    int64_t value = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : -1;
    sqlite3_finalize(q);
    return value;
}

/* ---- settings ------------------------------------------------------------------------ */

static const struct {
    const char *hazard;
    int option, value;
} configs[] = {
    {"schema by hand", SQLITE_DBCONFIG_DEFENSIVE, 1},
    {"functions in a schema", SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
    {"W4: triggers", SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
    {"views in place of tables", SQLITE_DBCONFIG_ENABLE_VIEW, 0},
    {"W6: extensions", SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
    {"W6: names taken for texts", SQLITE_DBCONFIG_DQS_DML, 0},
    {"W6: names taken for texts", SQLITE_DBCONFIG_DQS_DDL, 0},
    {"W1, W3: a check-point at close", SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1},
};

static const struct {
    const char *hazard, *sql;
    int64_t value;
} pragmas[] = {
    {"S15", "PRAGMA main.synchronous", 2},
    {"W1, W11: check-points by itself", "PRAGMA wal_autocheckpoint", 0},
    {"W2: a cache that spills", "PRAGMA cache_spill", 0},
    {"W4: triggers", "PRAGMA recursive_triggers", 0},
    {"W10: memory maps", "PRAGMA mmap_size", 0},
    {"temporary files", "PRAGMA temp_store", 2},
    {"W9: cells beyond their page", "PRAGMA cell_size_check", 1},
    {"a log without end", "PRAGMA journal_size_limit", 64 << 20},
    {"schema by hand", "PRAGMA writable_schema", 0},
};

static void check_connection(sqlite3 *db)
{
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        int value = -1;
        ck_assert_int_eq(sqlite3_db_config(db, configs[i].option, -1, &value), SQLITE_OK);
        ck_assert_msg(value == configs[i].value, "%s: %d", configs[i].hazard, value);
    }
    for (size_t i = 0; i < sizeof(pragmas) / sizeof(pragmas[0]); i++) {
        int64_t value = number(db, pragmas[i].sql);
        ck_assert_msg(value == pragmas[i].value, "%s: %s is %lld", pragmas[i].hazard,
                      pragmas[i].sql, (long long)value);
    }
    int keeps_log = -1; /* W3 */
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &keeps_log);
    ck_assert_int_eq(keeps_log, 1);
    /* W6, W12: no other file, so no commit over several. */
    ck_assert_int_eq(sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, -1), 0);
    ck_assert_int_eq(sqlite3_exec(db, "ATTACH ':memory:' AS other", NULL, NULL, NULL),
                     SQLITE_ERROR);
    ck_assert_int_le(sqlite3_limit(db, SQLITE_LIMIT_LENGTH, -1), (64 << 20) + (64 << 10));
}

static void check_both(void *ctx, struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    ++*(int *)ctx;
    s->sync = -1; /* the next batch sets it */
    ck_assert_int_eq(sqlite3_exec(s->w, "PRAGMA synchronous = FULL", NULL, NULL, NULL),
                     SQLITE_OK);
    check_connection(s->w);
    check_connection(s->c);
}

/* W1, W2, W3, W4, W6, W9, W10, W11, W12: each is named where its setting is looked at. */
START_TEST(our_connections_are_set_against_every_hazard)
{
    struct bgmq *mq = serve(_i);
    with_store(mq, check_both);
    end(mq);
}
END_TEST

static void check_pages(void *ctx, struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    ++*(int *)ctx;
    int64_t most = number(s->w, "PRAGMA max_page_count");
    int64_t size = number(s->w, "PRAGMA page_size");
    ck_assert_int_eq(most * size, INT64_C(16) << 30);
    ck_assert_int_eq(number(s->c, "PRAGMA max_page_count"), most);
}

/* W8.  A database of ours never comes near the size at which SQLite's bitmaps fail. */
START_TEST(our_database_has_a_bound)
{
    struct bgmq *mq = serve(0);
    with_store(mq, check_pages);
    end(mq);
}
END_TEST

/* ---- statements ---------------------------------------------------------------------- */

/* The column before IS_NULL, which points to " IS NULL" or the like. */
static void column_before(const char *sql, const char *is_null, char name[64])
{
    const char *from = is_null;
    while (from > sql && (isalnum((unsigned char)from[-1]) || from[-1] == '_'))
        from--;
    snprintf(name, 64, "%.*s", (int)(is_null - from), from);
}

static void check_null_tests(sqlite3 *db, const char *sql, const char *words)
{
    for (const char *p = sql; (p = strstr(p, words)) != NULL; p++) {
        char column[64], ask[256];
        column_before(sql, p, column);
        snprintf(ask, sizeof(ask),
                 "SELECT count(*) FROM sqlite_schema m, pragma_table_info(m.name) c WHERE"
                 " m.type = 'table' AND c.name = '%s' AND c.[notnull]",
                 column);
        ck_assert_msg(number(db, ask) == 0, "%s: %s is declared NOT NULL", sql, column);
    }
}

static void check_statements(void *ctx, struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    ++*(int *)ctx;
    ck_assert_int_eq(
        number(s->w, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"), 0);
    for (int i = 0; i < STATEMENTS; i++) {
        const char *sql = sqlite3_sql(s->q[i]);
        ck_assert_ptr_nonnull(sql);
        check_null_tests(s->w, sql, " IS NULL");
        check_null_tests(s->w, sql, " IS NOT NULL");
        ck_assert_msg(!strstr(sql, "SAVEPOINT"), "%s", sql); /* W2 */
        ck_assert_msg(!strstr(sql, "ATTACH"), "%s", sql);
    }
}

/* W4, W5: no trigger is ours, and nobody asks whether a column is NULL that cannot be. */
START_TEST(our_statements_keep_clear_of_what_is_broken)
{
    struct bgmq *mq = serve(0);
    with_store(mq, check_statements);
    end(mq);
}
END_TEST

/* W6, W7.  What others say is bound, never part of a statement. */
START_TEST(text_of_others_is_never_a_statement)
{
    static const char evil[] = "'); DROP TABLE bgmq_job; --\"; ATTACH 'x' AS y; \\";
    static const char *const meta[] = {evil, evil, NULL};
    struct bgmq_message_options options = {.tag = evil,
                                           .unique_key = evil,
                                           .traceparent = evil,
                                           .reply_to = evil,
                                           .meta = meta};
    struct bgmq_select which = {.tag = evil, .error_code = evil};
    struct bgmq *mq = serve(0);
    struct bgmq_message *m = NULL;
    ck_assert_int_eq(bgmq_publish(mq, evil, evil, sizeof(evil), NULL, NULL), BGMQ_EINVAL);
    OK(bgmq_publish(mq, "T", evil, sizeof(evil), &options, NULL));
    ck_assert_int_eq(bgmq_discard(mq, "T", &which), 0);
    end(mq);
    mq = serve(0);
    OK(bgmq_get(mq, "mq:T.inq", 1000, &m));
    ck_assert_str_eq(bgmq_message_body(m, NULL), evil);
    ck_assert_str_eq(bgmq_message_tag(m), evil);
    ck_assert_str_eq(bgmq_message_meta(m, evil), evil);
    OK(bgmq_ack(m));
    bgmq_message_free(m);
    end(mq);
}
END_TEST

/* ---- secrets ------------------------------------------------------------------------- */

static int fail_it(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_fail(job, BGMQ_PERMANENT, "Code", "why");
}

/* A body may hold a secret: no log and no status has it, whatever becomes of the message. */
START_TEST(bodies_are_in_no_log_and_no_status)
{
    static const char secret[] = "correct horse battery staple";
    struct harness_log log;
    struct bgmq *mq = NULL;
    struct bgmq_collection c;
    char *texts[5] = {NULL};
    harness_log_init(&log);
    OK(bgmq_open(&mq,
                 &(struct bgmq_options){.database = path(),
                                        .log = harness_log_keep,
                                        .log_ctx = &log,
                                        .metrics_interval_ms = 1},
                 NULL));
    OK(bgmq_register(mq, "T", fail_it, NULL,
                     &(struct bgmq_type_options){.history = BGMQ_HISTORY_ALL}));
    OK(bgmq_publish(mq, "T", secret, sizeof(secret), NULL, NULL));
    OK(bgmq_publish(mq, "Parked", secret, sizeof(secret), NULL, NULL));
    OK(bgmq_start(mq));
    WAIT_UNTIL(bgmq_type_collection(mq, "T", &c) == 0 && c.dlq == 1);
    OK(bgmq_status_text(mq, &texts[0]));
    OK(bgmq_status_json(mq, &texts[1]));
    OK(bgmq_stats_text(mq, &texts[2]));
    OK(bgmq_stats_json(mq, &texts[3]));
    OK(bgmq_description_text(mq, "T", &texts[4]));
    for (int i = 0; i < 5; i++) {
        ck_assert_ptr_null(strstr(texts[i], "horse"));
        free(texts[i]);
    }
    end(mq);
    ck_assert(!harness_log_has(&log, "horse"));
    harness_log_fini(&log);
}
END_TEST

/* ---- files --------------------------------------------------------------------------- */

/* W9, S12.  Nobody else may write what SQLite trusts without a look. */
START_TEST(files_that_others_may_write_are_refused)
{
    static const char *const names[] = {"set.db", "set.db-wal", "set.db-shm"};
    struct bgmq *mq = serve(0);
    struct bgmq_error error = {.text = ""};
    struct stat st;
    OK(bgmq_publish(mq, "T", "body", 4, NULL, NULL));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(stat(harness_path(names[i]), &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
    }
    end(mq);
    mq = NULL;
    if (_i == 2)
        harness_write_file(harness_path("set.db-shm"), "", 0);
    ck_assert_int_eq(chmod(harness_path(names[_i]), 0666), 0);
    ck_assert_int_eq(bgmq_open(&mq, &(struct bgmq_options){.database = path()}, &error),
                     BGMQ_EUNSAFE);
    ck_assert_msg(strstr(error.text, names[_i]) != NULL, "%s", error.text);
}
END_TEST

static int swapped;

/* Somebody puts a link in the place of the file after it was looked at. */
static void swap(void *ctx)
{
    (void)ctx;
    if (swapped++)
        return;
    rename(path(), harness_path("away.db"));
    ck_assert_int_eq(symlink(harness_path("victim.db"), path()), 0);
}

/* S2.  NOFOLLOW holds where the look came too early. */
START_TEST(link_that_comes_after_the_look_is_not_followed)
{
    struct bgmq *mq = serve(0);
    struct bgmq_error error = {.text = ""};
    char *bytes;
    end(mq);
    mq = NULL;
    harness_write_file(harness_path("victim.db"), "", 0);
    shim_vfs_install();
    shim_vfs_hook(SHIM_OPEN, SHIM_DB, swap, NULL);
    int err = bgmq_open(&mq, &(struct bgmq_options){.database = path()}, &error);
    shim_vfs_hook(0, 0, NULL, NULL);
    shim_vfs_remove();
    ck_assert_int_gt(swapped, 0);
    ck_assert_msg(err == BGMQ_EUNSAFE || err == BGMQ_EOPEN, "%s: %s", bgmq_errname(err),
                  error.text);
    ck_assert_uint_eq(harness_read_file(harness_path("victim.db"), &bytes), 0);
    free(bytes);
}
END_TEST

/* What the child of the next test does: publishes, and then has its index of the log cut short. */
static void publish_without_an_index(int told)
{
    struct bgmq *mq = NULL;
    if (bgmq_open(&mq, &(struct bgmq_options){.database = path()}, NULL) != 0 ||
        bgmq_publish(mq, "T", "promised", 8, NULL, NULL) != 0 ||
        truncate(harness_path("set.db-shm"), 0) != 0)
        _exit(1);
    int err = bgmq_publish(mq, "T", "more", 4, NULL, NULL);
    _exit(write(told, &err, sizeof(err)) == sizeof(err) ? 0 : 2);
}

/* S12.  That cannot be survived, so the folder has to be kept from others; but nothing that was
 * promised is lost by it. */
START_TEST(index_that_is_cut_short_ends_the_process_and_loses_nothing)
{
    int told[2], err = -1, status = 0;
    struct bgmq_collection c;
    path(); /* made here, not in the child */
    ck_assert_int_eq(pipe(told), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        harness_part();
        publish_without_an_index(told[1]);
    }
    close(told[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    int answered = read(told[0], &err, sizeof(err)) == sizeof(err);
    close(told[0]);
    printf("# note: the process %s\n",
           WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "lives on");
    struct bgmq *mq = serve(0);
    OK(bgmq_type_collection(mq, "T", &c));
    ck_assert_uint_ge(c.inq, answered && err == 0 ? 2 : 1);
    end(mq);
}
END_TEST

/* W11, W12: what the linked SQLite is, for the report. */
START_TEST(the_linked_sqlite_is_none_that_was_withdrawn)
{
    int version = sqlite3_libversion_number();
    printf("# note: SQLite %s, %s\n", sqlite3_libversion(), sqlite3_sourceid());
    if (version == 3052000 || version == 3053003)
        printf("# note: this release was withdrawn, or loses a journal: take another\n");
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    printf("# note: connections of the application check-point every %lld pages by "
           "themselves\n",
           (long long)number(db, "PRAGMA wal_autocheckpoint"));
    sqlite3_close(db);
    ck_assert_int_ge(version, 3037000); /* STRICT tables */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("settings");
    TCase *c = harness_case(s, "connections");
    tcase_add_loop_test(c, our_connections_are_set_against_every_hazard, 0, 2);
    tcase_add_test(c, our_database_has_a_bound);
    tcase_add_test(c, our_statements_keep_clear_of_what_is_broken);
    tcase_add_test(c, text_of_others_is_never_a_statement);
    tcase_add_test(c, bodies_are_in_no_log_and_no_status);
    c = harness_case(s, "files");
    tcase_add_loop_test(c, files_that_others_may_write_are_refused, 0, 3);
    tcase_add_test(c, link_that_comes_after_the_look_is_not_followed);
    tcase_add_test(c, index_that_is_cut_short_ends_the_process_and_loses_nothing);
    tcase_add_test(c, the_linked_sqlite_is_none_that_was_withdrawn);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
