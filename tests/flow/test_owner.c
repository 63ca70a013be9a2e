/* test_owner.c - one database has one owner: not two services of a process, not two processes,
 * and never the child of a fork.
 *
 * The program runs itself with an argument to be the other process. */
#include "flow.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- two services of one process ------------------------------------------------ */

/* S24. */
START_TEST(second_open_in_the_process_is_refused)
{
    char again[512], link_dir[512], through[600];
    struct bgmq *mq = flow_open(1), *other = NULL;
    struct bgmq_error error = {""};
    const char *path = flow_database();
    FAILS(BGMQ_EEXIST, bgmq_open(&other, &SERVICE(.database = path), &error));
    ck_assert_msg(strstr(error.text, "flow.db") != NULL, "no path: %s", error.text);
    snprintf(again, sizeof(again), "%s/./flow.db", harness_tmpdir());
    FAILS(BGMQ_EEXIST, bgmq_open(&other, &SERVICE(.database = again), NULL));
    snprintf(link_dir, sizeof(link_dir), "%s", harness_path("other-name"));
    ck_assert_int_eq(symlink(harness_tmpdir(), link_dir), 0);
    snprintf(through, sizeof(through), "%s/flow.db", link_dir);
    int err = bgmq_open(&other, &SERVICE(.database = through), NULL);
    ck_assert_msg(err == BGMQ_EEXIST || err == BGMQ_EUNSAFE, "%s", bgmq_errname(err));
    ck_assert_ptr_null(other);
    flow_publish(mq, "T", "still works");
    flow_close(mq);
    mq = flow_open(1);
    flow_expect(mq, "mq:T.inq", "still works");
    flow_close(mq);
}
END_TEST

START_TEST(two_databases_in_one_process_are_fine)
{
    struct bgmq *one = flow_open(1), *two = NULL;
    OK(bgmq_open(&two, &SERVICE(.database = harness_path("second.db")), NULL));
    flow_publish(one, "T", "1");
    flow_publish(two, "T", "2");
    flow_expect(one, "mq:T.inq", "1");
    flow_expect(two, "mq:T.inq", "2");
    flow_close(one);
    flow_close(two);
}
END_TEST

START_TEST(failed_open_says_where_and_writes_nothing)
{
    static const struct {
        const char *path;
        int err;
    } bad[] = {
        {"no/such/directory/x.db", BGMQ_EOPEN},
        {".", BGMQ_EUNSAFE},
        {"text.db", BGMQ_ENOTDB},
        {"", BGMQ_EINVAL},
    };
    char text[8192];
    memset(text, 't', sizeof(text));
    harness_write_file(harness_path("text.db"), text, sizeof(text));
    char path[512] = "";
    if (bad[_i].path[0])
        snprintf(path, sizeof(path), "%s/%s", harness_tmpdir(), bad[_i].path);
    int litter = access("-lock", F_OK);
    struct bgmq *mq = (struct bgmq *)(uintptr_t)8;
    struct bgmq_error error = {""};
    FAILS(bad[_i].err, bgmq_open(&mq, &SERVICE(.database = path), &error));
    ck_assert_ptr_eq(mq, (struct bgmq *)(uintptr_t)8);
    ck_assert_str_ne(error.text, "");
    ck_assert_ptr_null(strchr(error.text, '\n'));
    ck_assert_int_eq(access("-lock", F_OK), litter); /* of the path "" */
    char *after;
    ck_assert_uint_eq(harness_read_file(harness_path("text.db"), &after), sizeof(text));
    ck_assert_mem_eq(after, text, sizeof(text));
    free(after);
}
END_TEST

START_TEST(bad_options_open_nothing)
{
    struct bgmq *mq = NULL;
    FAILS(BGMQ_EINVAL, bgmq_open(NULL, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_open(&mq, &SERVICE(.max_body = 64 * 1024 * 1024 + 1), NULL));
    FAILS(BGMQ_EINVAL,
          bgmq_open(&mq, &SERVICE(.durability = (enum bgmq_durability)9), NULL));
    ck_assert_ptr_null(mq);
    OK(bgmq_open(&mq, NULL, NULL));
    flow_close(mq);
}
END_TEST

/* ---- two processes -------------------------------------------------------------- */

/* The other process: tries to open PATH and tells the result by its exit status. */
static int be_the_other(const char *path)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    int err = bgmq_open(&mq, &SERVICE(.database = path), &error);
    if (err == BGMQ_EOWNED && !strstr(error.text, path))
        return 99;
    bgmq_free(mq);
    return -err;
}

/* The other process: opens PATH, publishes, says so on stdout, and stays until it is killed. */
static int stay(const char *path)
{
    struct bgmq *mq = NULL;
    if (bgmq_open(&mq, &SERVICE(.database = path), NULL) ||
        bgmq_publish(mq, "T", "theirs", 6, NULL, NULL))
        return 1;
    if (write(STDOUT_FILENO, "!", 1) != 1)
        return 1;
    poll(NULL, 0, -1);
    return 0;
}

static pid_t run_self(const char *what, int out)
{
    const char *path = flow_database(); /* made here, not in the child */
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (out >= 0)
            dup2(out, STDOUT_FILENO);
        execl("/proc/self/exe", "test_owner", what, path, (char *)NULL);
        _exit(98);
    }
    return pid;
}

static int exit_status(pid_t pid)
{
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

START_TEST(other_process_is_refused_while_we_own)
{
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "x");
    ck_assert_int_eq(exit_status(run_self("--open", -1)), -BGMQ_EOWNED);
    flow_publish(mq, "T", "y");
    flow_close(mq);
    ck_assert_int_eq(exit_status(run_self("--open", -1)), 0);
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

START_TEST(we_are_refused_while_they_own_and_not_once_they_are_killed)
{
    int ends[2];
    char byte = 0;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = run_self("--stay", ends[1]);
    close(ends[1]);
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    FAILS(BGMQ_EOWNED, bgmq_open(&mq, &SERVICE(.database = flow_database()), &error));
    char number[16];
    snprintf(number, sizeof(number), "%d", (int)pid);
    ck_assert_msg(strstr(error.text, number) != NULL, "owner %s not named: %s", number,
                  error.text);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(exit_status(pid), 1000 + SIGKILL);
    close(ends[0]);
    mq = flow_open(1);
    ck_assert_uint_eq(flow_counters(mq).replayed, 1);
    flow_expect(mq, "mq:T.inq", "theirs");
    flow_close(mq);
}
END_TEST

/* ---- the child of a fork -------------------------------------------------------- */

/* In the child: everything says EFORKED.  Returns the number of the first that does not. */
static int try_inherited(struct bgmq *mq)
{
    struct bgmq_stats stats;
    struct bgmq_collection collection;
    struct bgmq_counters counters;
    struct bgmq_message *m = NULL;
    struct bgmq_item item = {.type = "T", .body = "x", .len = 1};
    char name[40], *text = NULL;
    int results[] = {
        bgmq_publish(mq, "T", "x", 1, NULL, NULL),
        bgmq_publish_many(mq, &item, 1, NULL),
        bgmq_publish_to(mq, "q", "x", 1, NULL, NULL),
        bgmq_start(mq),
        bgmq_stop(mq, 0),
        bgmq_request_stop(mq),
        bgmq_started(mq),
        bgmq_running(mq),
        bgmq_flush(mq),
        bgmq_register(mq, "New", recorder_handler, NULL, NULL),
        bgmq_set_threads(mq, "T", 2),
        bgmq_get(mq, "mq:T.inq", 1000, &m),
        bgmq_request(mq, "T", "x", 1, NULL, 1000, &m),
        bgmq_temp_queue(mq, name),
        bgmq_drop_queue(mq, "q"),
        bgmq_retry_dead(mq, "T", 0),
        bgmq_retry_pending(mq, NULL),
        bgmq_total_stats(mq, &stats),
        bgmq_type_stats(mq, "T", &stats),
        bgmq_type_collection(mq, "T", &collection),
        bgmq_service_counters(mq, &counters),
        bgmq_status_text(mq, &text),
        bgmq_stats_json(mq, &text),
        bgmq_close(mq),
    };
    int n = (int)(sizeof(results) / sizeof(results[0]));
    for (int i = 0; i < n; i++)
        if (results[i] != BGMQ_EFORKED)
            return i + 1;
    bgmq_free(mq);
    return 0;
}

/* A4, P1. */
START_TEST(child_of_a_fork_has_no_service)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    flow_publish(mq, "T", "before");
    if (_i)
        OK(bgmq_start(mq));
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(try_inherited(mq));
    ck_assert_int_eq(exit_status(pid), 0);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "after");
    flow_wait_ended(mq, "T", 2);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

static int use_own(const char *path)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = NULL;
    struct bgmq_message *m = NULL;
    if (bgmq_open(&mq, &SERVICE(.database = path), NULL) ||
        bgmq_register(mq, "T", recorder_handler, &r, NULL) || bgmq_start(mq) ||
        bgmq_publish(mq, "T", "x", 1, NULL, NULL) ||
        bgmq_get(mq, "mq:T.outq", flow_patience(), &m))
        return 1;
    bgmq_message_free(m);
    return bgmq_close(mq) ? 2 : 0;
}

START_TEST(child_of_a_fork_opens_its_own)
{
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker's own locks do not survive a fork beside threads");
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_start(mq));
    const char *path = _i ? harness_path("child.db") : NULL;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(use_own(path));
    ck_assert_int_eq(exit_status(pid), 0);
    flow_publish(mq, "T", "x");
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

static _Atomic int enough;

/* Beside a fork nobody may use check, nor what uses it: it has locks of its own. */
static int do_nothing(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

static void *publish_all_the_time(void *arg)
{
    int err = 0;
    while (!err && !atomic_load(&enough))
        err = bgmq_publish(arg, "T", "x", 1,
                           &MESSAGE(.durability = BGMQ_COMMIT, .no_outq = 1), NULL);
    return NULL;
}

static int open_publish_close(const char *path)
{
    struct bgmq *mq = NULL;
    int err = bgmq_open(&mq, &SERVICE(.database = path), NULL);
    err = err ? err : bgmq_publish(mq, "T", "x", 1, NULL, NULL);
    return err ? -err : -bgmq_close(mq);
}

/* P1, G4.  A fork never meets the writer in the middle of SQLite, whose locks the child would then
 * wait for. */
START_TEST(child_of_a_busy_process_opens_its_own)
{
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker's own locks do not survive a fork beside threads");
    const char *path = harness_path("child.db");
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", do_nothing, NULL, NULL));
    OK(bgmq_start(mq));
    pthread_t t = harness_thread(publish_all_the_time, mq);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(open_publish_close(path));
        ck_assert_int_gt(pid, 0);
        ck_assert_int_eq(exit_status(pid), 0);
    }
    atomic_store(&enough, 1);
    harness_join(t);
    flow_close(mq);
}
END_TEST

/* P2.  The process goes on in a child that daemon() made, and its exit does no harm. */
static int become_a_daemon(struct bgmq *mq, int told)
{
    if (daemon(1, 1) != 0)
        return 1;
    int err = bgmq_publish(mq, "T", "x", 1, NULL, NULL);
    char ok = err == BGMQ_EFORKED && strstr(bgmq_strerror(err), "daemon()") != NULL &&
              bgmq_start(mq) == BGMQ_EFORKED && bgmq_close(mq) == BGMQ_EFORKED;
    bgmq_free(mq);
    return write(told, &ok, 1) == 1 ? 0 : 2;
}

START_TEST(daemon_after_the_open_has_no_service_and_is_told_why)
{
    int told[2];
    char ok = 0;
    ck_assert_int_eq(pipe(told), 0);
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "x");
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(become_a_daemon(mq, told[1]));
    ck_assert_int_eq(exit_status(pid), 0);
    ck_assert_int_eq(read(told[0], &ok, 1), 1);
    ck_assert_int_eq(ok, 1);
    close(told[0]);
    close(told[1]);
    flow_publish(mq, "T", "y");
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

/* P1, G4.  What a child that exits must not do: release the lock, or write to the file. */
START_TEST(exit_of_a_child_leaves_the_owner_alone)
{
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "x");
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(0);
    ck_assert_int_eq(exit_status(pid), 0);
    ck_assert_int_eq(exit_status(run_self("--open", -1)), -BGMQ_EOWNED);
    flow_publish(mq, "T", "y");
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("owner");
    TCase *tc = flow_case(s, "one process");
    tcase_add_test(tc, second_open_in_the_process_is_refused);
    tcase_add_test(tc, two_databases_in_one_process_are_fine);
    tcase_add_loop_test(tc, failed_open_says_where_and_writes_nothing, 0, 4);
    tcase_add_test(tc, bad_options_open_nothing);
    tc = flow_case(s, "two processes");
    tcase_add_test(tc, other_process_is_refused_while_we_own);
    tcase_add_test(tc, we_are_refused_while_they_own_and_not_once_they_are_killed);
    tc = flow_case(s, "fork");
    flow_add_both(tc, child_of_a_fork_has_no_service);
    flow_add_both(tc, child_of_a_fork_opens_its_own);
    tcase_add_test(tc, child_of_a_busy_process_opens_its_own);
    tcase_add_test(tc, daemon_after_the_open_has_no_service_and_is_told_why);
    tcase_add_test(tc, exit_of_a_child_leaves_the_owner_alone);
    return s;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--open"))
        return be_the_other(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "--stay"))
        return stay(argv[2]);
    return harness_run(suite());
}
