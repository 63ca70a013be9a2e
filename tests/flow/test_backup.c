/* test_backup.c - a copy of a database that is in use, and what becomes of a service when an older
 * one is put in its place. */
#include "app.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N = 50 };

static const char *copy(void)
{
    return harness_path("copy.db");
}

static struct bgmq *open_copy(void)
{
    struct bgmq *mq = NULL;
    OK(bgmq_open(&mq, &SERVICE(.database = copy(), .share_database = 1), NULL));
    return mq;
}

/* S22. */
START_TEST(copy_of_a_database_in_use_is_a_database)
{
    struct stat st;
    umask(0);
    struct bgmq *mq = flow_open(1);
    flow_publish_numbers(mq, "T", N);
    flow_publish_with(mq, "T", "later", MESSAGE(.delay_ms = 3600000));
    flow_publish_with(mq, "U", "behind", MESSAGE(.durability = BGMQ_BEHIND));
    OK(bgmq_backup(mq, copy(), NULL));
    ck_assert_int_eq(stat(copy(), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_uint_eq(st.st_uid, geteuid());
    flow_publish(mq, "T", "after");   /* the service goes on */
    struct bgmq *other = open_copy(); /* beside it */
    struct bgmq_collection c = flow_collection(other, "T");
    ck_assert_uint_eq(c.inq, N);
    ck_assert_uint_eq(c.delayed, 1);
    flow_expect(other, "mq:T.inq", "0");
    flow_expect(other, "mq:U.inq", "behind");
    flow_close(other);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N + 1);
    flow_close(mq);
}
END_TEST

struct writer {
    struct bgmq *mq;
    _Atomic int quit;
    int published;
};

static void *write_on(void *arg)
{
    struct writer *w = arg;
    while (!w->quit && w->published < 5000) {
        flow_publish_with(w->mq, "T", "more", MESSAGE(.durability = BGMQ_COMMIT));
        w->published++;
    }
    return NULL;
}

START_TEST(copies_are_made_while_others_publish)
{
    struct bgmq *mq = flow_open(1);
    struct writer w = {.mq = mq};
    flow_publish_numbers(mq, "T", N);
    pthread_t t = harness_thread(write_on, &w);
    for (int i = 0; i < 5; i++) {
        OK(bgmq_backup(mq, copy(), NULL));
        struct bgmq *other = open_copy();
        ck_assert_uint_ge(flow_collection(other, "T").inq, N);
        flow_close(other);
        ck_assert_int_eq(unlink(copy()), 0);
        unlink(harness_path("copy.db-wal"));
    }
    w.quit = 1;
    harness_join(t);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, (uint64_t)(N + w.published));
    flow_close(mq);
}
END_TEST

START_TEST(copy_never_takes_the_place_of_a_file)
{
    struct bgmq_error error = {.text = ""};
    char *bytes;
    struct bgmq *mq = flow_open(1);
    harness_write_file(copy(), "mine", 4);
    FAILS(BGMQ_EEXIST, bgmq_backup(mq, copy(), &error));
    ck_assert_ptr_nonnull(strstr(error.text, copy()));
    ck_assert_uint_eq(harness_read_file(copy(), &bytes), 4);
    ck_assert_str_eq(bytes, "mine");
    free(bytes);
    ck_assert_int_eq(symlink(harness_path("elsewhere"), harness_path("link")), 0);
    FAILS(BGMQ_EEXIST, bgmq_backup(mq, harness_path("link"), NULL));
    ck_assert_int_ne(access(harness_path("elsewhere"), F_OK), 0);
    FAILS(BGMQ_EEXIST, bgmq_backup(mq, flow_database(), NULL)); /* itself */
    flow_publish(mq, "T", "still there");
    flow_close(mq);
}
END_TEST

START_TEST(names_and_services_that_cannot_be)
{
    char name[600];
    memset(name, 'a', sizeof(name));
    name[599] = '\0';
    struct bgmq_error error = {.text = ""};
    struct bgmq *mq = flow_open(1);
    FAILS(BGMQ_EINVAL, bgmq_backup(NULL, copy(), NULL));
    FAILS(BGMQ_EINVAL, bgmq_backup(mq, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_backup(mq, "", NULL));
    FAILS(BGMQ_EINVAL, bgmq_backup(mq, name, NULL));
    FAILS(BGMQ_EINVAL, bgmq_backup(mq, harness_path(""), NULL));
    FAILS(BGMQ_EOPEN, bgmq_backup(mq, harness_path("none/copy.db"), &error));
    ck_assert_msg(strstr(error.text, "none/copy.db") != NULL, "%s", error.text);
    ck_assert_int_eq(chdir(harness_tmpdir()), 0);
    OK(bgmq_backup(mq, "file:x.db?mode=memory", NULL)); /* a name like any other */
    ck_assert_int_eq(access(harness_path("file:x.db?mode=memory"), F_OK), 0);
    ck_assert_int_eq(chdir("/"), 0);
    OK(bgmq_close(mq));
    FAILS(BGMQ_ECLOSED, bgmq_backup(mq, copy(), NULL));
    bgmq_free(mq);
    mq = flow_open(0);
    FAILS(BGMQ_EINVAL, bgmq_backup(mq, copy(), &error));
    ck_assert_str_ne(error.text, "");
    flow_close(mq);
}
END_TEST

/* No room for the copy: it goes, and the service does not mind. */
START_TEST(copy_that_finds_no_room_leaves_nothing)
{
    struct bgmq_error error = {.text = ""};
    struct rlimit before, little;
    struct bgmq *mq = flow_open(1);
    char body[4096] = "";
    for (int i = 0; i < 100; i++)
        OK(bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL));
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    little = before;
    little.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    int err = bgmq_backup(mq, copy(), &error);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert_msg(err == BGMQ_EFULL || err == BGMQ_ESTORE, "%s: %s", bgmq_errname(err),
                  error.text);
    ck_assert_int_ne(access(copy(), F_OK), 0);
    flow_publish(mq, "T", "on");
    flow_close(mq);
}
END_TEST

/* What was deleted is not in the copy. */
START_TEST(copy_has_nothing_of_what_is_gone)
{
    char *bytes;
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "the secret of old");
    flow_publish(mq, "T", "what is left");
    flow_expect(mq, "mq:T.inq", "the secret of old");
    OK(bgmq_backup(mq, copy(), NULL));
    size_t len = harness_read_file(copy(), &bytes);
    ck_assert_ptr_null(memmem(bytes, len, "secret", 6));
    ck_assert_ptr_nonnull(memmem(bytes, len, "what is left", 12));
    free(bytes);
    flow_close(mq);
}
END_TEST

/* ---- purge --------------------------------------------------------------------------- */

/* Whether the file of the test, or its log, has TEXT. */
static int is_there(const char *text)
{
    int found = 0;
    for (int i = 0; i < 2; i++) {
        char name[600], *bytes;
        snprintf(name, sizeof(name), "%s%s", flow_database(), i ? "-wal" : "");
        size_t len = harness_read_file(name, &bytes);
        found |= memmem(bytes, len, text, strlen(text)) != NULL;
        free(bytes);
    }
    return found;
}

/* _i: long bodies, which have pages of their own. */
START_TEST(what_is_purged_is_in_no_file)
{
    char text[6000] = "";
    for (size_t i = 0; i < (_i ? 300 : 1); i++)
        strcat(text, "a secret message. ");
    struct bgmq *mq = flow_open_with(1, SERVICE(.erase = 1));
    for (int i = 0; i < 3; i++) {
        flow_publish(mq, "T", text);
        flow_publish_with(mq, "T", text,
                          MESSAGE(.delay_ms = 3600000, .tag = "a secret tag"));
    }
    flow_publish(mq, "T", "what is left");
    ck_assert(is_there("secret"));
    for (int i = 0; i < 3; i++) /* some end, some are discarded */
        flow_expect(mq, "mq:T.inq", text);
    ck_assert_int_eq(bgmq_discard(mq, "T", &(struct bgmq_select){.tag = "a secret tag"}),
                     3);
    OK(bgmq_purge(mq));
    ck_assert(!is_there("secret"));
    ck_assert(is_there("what is left"));
    OK(bgmq_purge(mq)); /* again, with nothing to do */
    flow_publish(mq, "T", "and on");
    flow_expect(mq, "mq:T.inq", "what is left");
    flow_close(mq);
}
END_TEST

/* It does not wait for a reader, and says so; then it works. */
START_TEST(purge_beside_a_reader_is_refused)
{
    struct bgmq *mq = flow_open_with(1, SERVICE(.erase = 1, .share_database = 1));
    sqlite3 *db = app_open();
    flow_publish(mq, "T", "a secret");
    app_sql(db, "BEGIN");
    app_number(db, "SELECT count(*) FROM bgmq_job");
    flow_expect(mq, "mq:T.inq", "a secret");
    OK(bgmq_flush(mq));
    FAILS(BGMQ_EBUSY, bgmq_purge(mq));
    app_sql(db, "ROLLBACK");
    app_sql(db, "BEGIN IMMEDIATE");
    FAILS(BGMQ_EBUSY, bgmq_purge(mq));
    app_sql(db, "ROLLBACK");
    OK(bgmq_purge(mq));
    ck_assert(!is_there("a secret"));
    app_close(db);
    flow_close(mq);
}
END_TEST

/* All that he reads is in the file, too, but he holds the log that it was copied from. */
START_TEST(purge_beside_a_reader_of_the_newest_state_is_refused)
{
    static const char body[4000] = "a secret";
    struct bgmq *mq = flow_open_with(1, SERVICE(.erase = 1, .share_database = 1));
    sqlite3 *db = app_open();
    for (int i = 0; i < 50; i++)
        OK(bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL));
    OK(bgmq_flush(mq));
    app_sql(db, "BEGIN");
    app_number(db, "SELECT count(*) FROM bgmq_job");
    FAILS(BGMQ_EBUSY, bgmq_purge(mq));
    app_sql(db, "ROLLBACK");
    OK(bgmq_purge(mq));
    app_close(db);
    flow_close(mq);
}
END_TEST

START_TEST(purge_without_erase_is_refused)
{
    struct bgmq *mq = flow_open(_i);
    FAILS(BGMQ_EINVAL, bgmq_purge(mq));
    flow_close(mq);
    FAILS(BGMQ_EINVAL, bgmq_purge(NULL));
}
END_TEST

/* ---- restoring ----------------------------------------------------------------------- */

/* S23.  Somebody restores an older copy while the service runs: nothing is promised after. */
START_TEST(older_copy_in_the_place_of_the_database_ends_the_service)
{
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "old");
    OK(bgmq_backup(mq, copy(), NULL));
    flow_publish(mq, "T", "new");
    ck_assert_int_eq(rename(copy(), flow_database()), 0);
    int err = bgmq_publish(mq, "T", "lost", 4, NULL, NULL);
    ck_assert_msg(err == BGMQ_ESTORE || err == BGMQ_EUNCERTAIN, "%s", bgmq_errname(err));
    FAILS(BGMQ_ESTORE, bgmq_publish(mq, "T", "lost", 4, NULL, NULL));
    bgmq_free(mq);
    char log[600];
    snprintf(log, sizeof(log), "%s-wal", flow_database());
    unlink(log); /* of the other file; the manual says so */
    mq = flow_open(1);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    flow_expect(mq, "mq:T.inq", "old");
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backup");
    TCase *tc = flow_case(s, "copy");
    tcase_add_test(tc, copy_of_a_database_in_use_is_a_database);
    tcase_add_test(tc, copies_are_made_while_others_publish);
    tcase_add_test(tc, copy_never_takes_the_place_of_a_file);
    tcase_add_test(tc, names_and_services_that_cannot_be);
    tcase_add_test(tc, copy_that_finds_no_room_leaves_nothing);
    tcase_add_test(tc, copy_has_nothing_of_what_is_gone);
    tcase_add_loop_test(tc, what_is_purged_is_in_no_file, 0, 2);
    tcase_add_test(tc, purge_beside_a_reader_is_refused);
    tcase_add_test(tc, purge_beside_a_reader_of_the_newest_state_is_refused);
    flow_add_both(tc, purge_without_erase_is_refused);
    tcase_add_test(tc, older_copy_in_the_place_of_the_database_ends_the_service);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
