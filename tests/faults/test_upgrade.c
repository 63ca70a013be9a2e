/* test_upgrade.c - files of other versions: those of every version that was released open with all
 * that is in them, also when the process is killed on the way; those of a newer one are refused,
 * and every byte stays.  T21 of the fault programme. */
#include "release.h"

#include "../harness/harness.h"
#include "../harness/shim_vfs.h"

#include <bgmq_sqlite.h>
#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK(call) ck_assert_int_eq((call), BGMQ_OK)

/* Every version of the tables, as it closes and as it dies. */
static const char *const releases[] = {"schema-1", "schema-1-killed", "schema-2",
                                       "schema-2-killed"};
enum { RELEASES = sizeof(releases) / sizeof(releases[0]), NOW = 2 };

static const char *path(void)
{
    return harness_path("upgrade.db");
}

static struct bgmq *open_it(void)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {.text = ""};
    int err = bgmq_open(&mq, &(struct bgmq_options){.database = path()}, &error);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return mq;
}

static void close_it(struct bgmq *mq)
{
    OK(bgmq_close(mq));
    bgmq_free(mq);
}

static int64_t number(const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    ck_assert_int_eq(sqlite3_open(path(), &db), SQLITE_OK);
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return value;
}

/* ---- what is in it ------------------------------------------------------------------- */

static void take(struct bgmq *mq, const char *queue, const char *body, size_t len)
{
    struct bgmq_message *m = NULL;
    size_t got;
    OK(bgmq_get(mq, queue, 10000, &m));
    const void *bytes = bgmq_message_body(m, &got);
    ck_assert_uint_eq(got, len);
    ck_assert_int_eq(memcmp(bytes, body, len), 0);
    if (strcmp(body, "two") == 0)
        ck_assert_str_eq(bgmq_message_tag(m), "tag");
    if (strcmp(body, "unique") == 0) {
        ck_assert_str_eq(bgmq_message_meta(m, "key"), "value");
        ck_assert_str_eq(bgmq_message_reply_to(m), "mq:Answers.inq");
        ck_assert_str_eq(bgmq_message_traceparent(m), "00-01-02-03");
    }
    OK(bgmq_ack(m));
    bgmq_message_free(m);
}

static void check_counts(struct bgmq *mq)
{
    struct bgmq_counters counters;
    struct bgmq_collection mail, bad;
    OK(bgmq_service_counters(mq, &counters));
    OK(bgmq_type_collection(mq, "Mail", &mail));
    OK(bgmq_type_collection(mq, "Bad", &bad));
    ck_assert_uint_eq(counters.replayed, RELEASE_UNFINISHED);
    ck_assert_uint_eq(mail.inq, RELEASE_WAITING);
    ck_assert_uint_eq(mail.priorityq, 1);
    ck_assert_uint_eq(mail.delayed, 1);
    ck_assert_uint_eq(bad.dlq, 1);
}

/* All that write.c left, with all that each message carries; then the database is used. */
static void check_and_use(void)
{
    struct bgmq_receipt again, next;
    struct bgmq_message_options keyed = {.unique_key = "key"};
    struct bgmq *mq = open_it();
    check_counts(mq);
    OK(bgmq_publish(mq, "Mail", "again", 5, &keyed, &again));
    ck_assert_int_eq(again.duplicate, 1);
    take(mq, "mq:Mail.priorityq", "first", 5);
    take(mq, "mq:Mail.inq", "one", 3);
    take(mq, "mq:Mail.inq", "two", 3);
    take(mq, "mq:Mail.inq", "unique", 6);
    take(mq, "mq:Mail.inq", "\0\xff\n", 3);
    take(mq, "mq:Bad.dlq", "dead", 4);
    OK(bgmq_publish(mq, "Mail", "new", 3, &keyed, &next));
    ck_assert_int_eq(next.duplicate, 0);
    ck_assert_uint_gt(next.id, 9); /* what was given is not given again */
    close_it(mq);
    ck_assert_int_eq(number("SELECT value FROM bgmq_meta WHERE key = 'schema'"), NOW);
    ck_assert_int_eq(number("SELECT count(*) FROM bgmq_history WHERE outcome = 'done'"),
                     1);
    ck_assert_int_eq(number("SELECT integrity_check = 'ok' FROM pragma_integrity_check"),
                     1);
    close_it(open_it());
}

START_TEST(every_release_opens_with_all_that_is_in_it)
{
    release_unpack(releases[_i], path());
    check_and_use();
    harness_figure("releases", 1);
}
END_TEST

START_TEST(every_release_tells_its_version)
{
    release_unpack(releases[_i], path());
    ck_assert_int_eq(number("SELECT value FROM bgmq_meta WHERE key = 'schema'"),
                     releases[_i][strlen("schema-")] - '0');
    /* There is one of today's; whoever makes new tables adds a file of the old ones. */
    ck_assert_ptr_nonnull(strstr(releases[RELEASES - 1], "-2"));
    release_unpack(releases[RELEASES - 1], path());
    close_it(open_it());
    ck_assert_int_eq(number("SELECT value FROM bgmq_meta WHERE key = 'schema'"), NOW);
}
END_TEST

/* ---- killed on the way --------------------------------------------------------------- */

enum { PASSED = 3, MOST = 3000 };

/* Opens and closes in a child that is killed before its N-th call; 1 when it came to its end. */
static int killed_at(long n)
{
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct bgmq *mq = NULL;
        harness_part();
        shim_vfs_install();
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_ALL, .files = SHIM_ANY, .kind = SHIM_KILL, .nth = n});
        if (bgmq_open(&mq,
                      &(struct bgmq_options){.database = path(), .boot_breaker = 1000},
                      NULL) != 0)
            _exit(PASSED + 1);
        bgmq_free(mq);
        _exit(PASSED);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_le(WEXITSTATUS(status), PASSED);
    return WEXITSTATUS(status) == PASSED;
}

static void expect_one_version(const char *release)
{
    int64_t version = number("SELECT value FROM bgmq_meta WHERE key = 'schema'");
    int64_t old = release[strlen("schema-")] - '0';
    ck_assert(version == old || version == NOW);
    ck_assert_int_eq(
        number("SELECT count(*) FROM sqlite_schema WHERE name = 'bgmq_inbox'"),
        version > 1);
}

/* S5.  Half-migrated does not exist, and the next open goes on; it may be killed, too. */
START_TEST(killed_anywhere_in_a_migration_the_next_open_completes_it)
{
    uint64_t plan = harness_seed(1);
    long step = harness_full() ? 1 : 8 * harness_scale(), kills = 0, n = 1;
    for (int done = 0; n < MOST && !done; n += step) {
        release_unpack(releases[_i], path());
        done = killed_at(n);
        /* A look by somebody else check-points the log, so that it is not always taken. */
        if (n / step % 2 == 0)
            expect_one_version(releases[_i]);
        plan = plan * 6364136223846793005U + 1442695040888963407U;
        kills += !done;
        kills += !killed_at(1 + (long)(plan >> 33) % (n + 20));
        check_and_use();
    }
    harness_figure("kills", kills);
    ck_assert_int_gt(n, 40);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* ---- newer --------------------------------------------------------------------------- */

static void make_newer(const char *release)
{
    sqlite3 *db = NULL;
    release_unpack(release, path());
    ck_assert_int_eq(sqlite3_open(path(), &db), SQLITE_OK);
    int on = 1;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    ck_assert_int_eq(sqlite3_exec(db,
                                  "UPDATE bgmq_meta SET value = 3 WHERE key = 'schema';"
                                  "CREATE TABLE bgmq_future(x)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
}

/* Names, lengths and bytes of all that lies in the folder of the test, as one text; but for the
 * index of the log, which holds nothing, and which whoever looks makes anew. */
static char *folder(void)
{
    struct dirent **names;
    int n = scandir(harness_tmpdir(), &names, NULL, alphasort);
    size_t len = 0;
    char *all = NULL;
    for (int i = 0; i < n; i++) {
        char *bytes;
        if (names[i]->d_name[0] != '.' && !strstr(names[i]->d_name, "-shm")) {
            size_t size = harness_read_file(harness_path(names[i]->d_name), &bytes);
            uint64_t sum = 1469598103934665603U;
            for (size_t k = 0; k < size; k++)
                sum = (sum ^ (unsigned char)bytes[k]) * 1099511628211U;
            free(bytes);
            all = realloc(all, len + 400);
            ck_assert_ptr_nonnull(all);
            len += (size_t)snprintf(all + len, 400, "%s %zu %llx\n", names[i]->d_name,
                                    size, (unsigned long long)sum);
        }
        free(names[i]);
    }
    free(names);
    return all;
}

/* S5.  _i: what else there is: nothing, a log with the newer tables in it, in shared use. */
START_TEST(newer_file_is_refused_and_every_byte_stays)
{
    struct bgmq_options options = {.database = path(), .share_database = _i == 2};
    struct bgmq_error error = {.text = ""};
    struct bgmq *mq = NULL;
    struct bgmq_guest *guest = NULL;
    make_newer(_i == 0 ? "schema-2" : "schema-2-killed");
    if (_i == 0) { /* all is in the file */
        sqlite3 *db = NULL;
        ck_assert_int_eq(sqlite3_open(path(), &db), SQLITE_OK);
        ck_assert_int_eq(
            sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL),
            SQLITE_OK);
        sqlite3_close(db);
    }
    char *before = folder();
    ck_assert_int_eq(bgmq_open(&mq, &options, &error), BGMQ_EVERSION);
    ck_assert_msg(strstr(error.text, "version 3") != NULL, "%s", error.text);
    ck_assert_ptr_nonnull(strstr(error.text, path()));
    ck_assert_int_eq(bgmq_guest_open(&guest, path(), &error), BGMQ_EVERSION);
    char *after = folder();
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("upgrade");
    TCase *c = harness_case(s, "old");
    tcase_add_loop_test(c, every_release_opens_with_all_that_is_in_it, 0, RELEASES);
    tcase_add_loop_test(c, every_release_tells_its_version, 0, RELEASES);
    c = harness_case(s, "killed");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, killed_anywhere_in_a_migration_the_next_open_completes_it, 0,
                        2);
    c = harness_case(s, "new");
    tcase_add_loop_test(c, newer_file_is_refused_and_every_byte_stays, 0, 3);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
