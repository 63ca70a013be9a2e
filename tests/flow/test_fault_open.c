/* test_fault_open.c - the process ends at any call that opening, publishing and closing make of
 * the system; the next one opens the database and finds what was accepted. */
#include "flow.h"

#include "../harness/shim_vfs.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PASSED = 3, MOST = 2000 };

static void forget_files(void)
{
    static const char *const ends[] = {"",         "-wal",  "-shm",
                                       "-journal", "-lock", "-flight"};
    char path[512];
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        snprintf(path, sizeof(path), "%s%s", flow_database(), ends[i]);
        unlink(path);
    }
}

static const char *unique_key; /* of what the child publishes; NULL: none */

/* What the child does; it says "!" when it was told that its message is safe. */
static void open_publish_close(int told)
{
    struct bgmq *mq = NULL;
    if (bgmq_open(&mq, &SERVICE(.database = flow_database()), NULL) != 0)
        _exit(4);
    if (bgmq_publish(mq, "T", "new", 3, &MESSAGE(.unique_key = unique_key), NULL) != 0)
        _exit(5);
    if (write(told, "!", 1) != 1)
        _exit(6);
    bgmq_free(mq);
    _exit(PASSED);
}

/* Runs it in a child that is killed before its N-th call.  *RET_TOLD: it said "!".  True when
 * it came to its end. */
static int killed_at(long n, int *ret_told)
{
    int told[2], status = 0;
    char c;
    flow_database(); /* made here, not in the child */
    ck_assert_int_eq(pipe(told), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        harness_part();
        shim_vfs_install();
        shim_vfs_arm(&(struct shim_fault){
            .calls = SHIM_ALL, .files = SHIM_ANY, .kind = SHIM_KILL, .nth = n});
        open_publish_close(told[1]);
    }
    close(told[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    *ret_told = read(told[0], &c, 1) == 1;
    close(told[0]);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == PASSED, "exit %d",
                  WEXITSTATUS(status));
    return WEXITSTATUS(status) == PASSED;
}

/* Takes what waits in T, in memory or not, and writes the bodies to TEXT. */
static void take_all(struct bgmq *mq, char *text, size_t size)
{
    struct bgmq_collection c = {.inq = 0};
    int err = bgmq_type_collection(mq, "T", &c);
    ck_assert_msg(err == 0 || err == BGMQ_ENOENT, "%s", bgmq_errname(err));
    size_t len = 0;
    text[0] = '\0';
    for (uint64_t i = 0; i < c.inq; i++) {
        struct bgmq_message *m = flow_take(mq, "mq:T.inq");
        len += (size_t)snprintf(text + len, size - len, "%s ",
                                (const char *)bgmq_message_body(m, NULL));
        ck_assert_uint_lt(len, size);
        flow_done(m);
    }
}

/* The messages are BEFORE, and then "new" when it was promised; it may be there too when it was
 * not.  The service works. */
static void expect_messages(const char *before, int promised)
{
    char text[128], with[128];
    struct bgmq *mq = flow_open(1);
    take_all(mq, text, sizeof(text));
    snprintf(with, sizeof(with), "%snew ", before);
    ck_assert_msg(strcmp(text, with) == 0 || (!promised && strcmp(text, before) == 0),
                  "\"%s\"", text);
    flow_publish(mq, "U", "after");
    flow_expect(mq, "mq:U.inq", "after");
    flow_close(mq);
}

/* S26. */
START_TEST(killed_anywhere_in_the_first_open)
{
    long n = 1, safe = 0;
    for (int done = 0, told; n < MOST && !done; n += harness_step()) {
        forget_files();
        done = killed_at(n, &told);
        safe += told;
        expect_messages("", told);
    }
    ck_assert_int_gt(n, 40);
    ck_assert_int_gt(safe, 1); /* some died with the message accepted */
    ck_assert_int_lt(n, MOST);
}
END_TEST

static void prepare(void)
{
    forget_files();
    struct bgmq *mq = flow_open(1);
    flow_publish_numbers(mq, "T", 3);
    flow_publish_with(mq, "T", "later", MESSAGE(.delay_ms = 3600000));
    flow_close(mq);
}

/* The kill meets the moving of what was in memory to its place, and its coming back. */
START_TEST(killed_anywhere_in_a_later_open)
{
    long n = 1, safe = 0;
    for (int done = 0, told; n < MOST && !done; n += harness_step()) {
        prepare();
        done = killed_at(n, &told);
        safe += told;
        expect_messages("0 1 2 ", told);
        struct bgmq *mq = flow_open(1);
        ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
        flow_close(mq);
    }
    ck_assert_int_gt(n, 20);
    ck_assert_int_gt(safe, 1);
    ck_assert_int_lt(n, MOST);
}
END_TEST

/* S25.  Whatever its publisher was told before it died, it publishes again with the same key. */
START_TEST(killed_anywhere_the_key_makes_it_one_message)
{
    long n = 1, again = 0, told_of = 0;
    unique_key = "k";
    for (int done = 0, told; n < MOST && !done; n += harness_step()) {
        struct bgmq_receipt r;
        char text[128];
        forget_files();
        struct bgmq *mq = flow_open(1);
        flow_publish(mq, "U", "before");
        flow_close(mq);
        done = killed_at(n, &told);
        mq = flow_open(1);
        OK(bgmq_publish(mq, "T", "new", 3, &MESSAGE(.unique_key = "k"), &r));
        ck_assert(r.duplicate || !told);
        again += r.duplicate && !told; /* committed, and the publisher never knew */
        told_of += told;
        take_all(mq, text, sizeof(text));
        ck_assert_str_eq(text, "new ");
        flow_close(mq);
    }
    printf("# told of %ld, committed without a word %ld\n", told_of, again);
    ck_assert_int_gt(told_of, 0);
    ck_assert_int_lt(n, MOST);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_open");
    TCase *tc = flow_case(s, "killed");
    tcase_set_timeout(tc, 250);
    tcase_add_test(tc, killed_anywhere_in_the_first_open);
    tcase_add_test(tc, killed_anywhere_in_a_later_open);
    tcase_add_test(tc, killed_anywhere_the_key_makes_it_one_message);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
