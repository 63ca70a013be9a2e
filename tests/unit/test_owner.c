/* test_owner.c - the owner lock between processes and within one, and what a dead owner leaves. */
#include "owner.h"

#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *base_path(void)
{
    return harness_path("x.db");
}

static struct owner *taken(const char *path)
{
    struct owner *o = NULL;
    struct bgmq_error error = {""};
    int err = bgmqi_owner_take(&o, path, &error);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return o;
}

static void refused(int want, const char *path, struct bgmq_error *error)
{
    struct owner *o = (struct owner *)(uintptr_t)8;
    error->text[0] = '\0';
    int err = bgmqi_owner_take(&o, path, error);
    ck_assert_msg(err == want, "%s: %s", bgmq_errname(err), error->text);
    ck_assert_ptr_eq(o, (struct owner *)(uintptr_t)8);
    ck_assert_ptr_nonnull(strstr(error->text, path));
}

/* ---- one process ------------------------------------------------------------------- */

START_TEST(taken_released_and_taken_again)
{
    for (int i = 0; i < 3; i++)
        bgmqi_owner_release(taken(base_path()));
    bgmqi_owner_release(NULL);
}
END_TEST

START_TEST(second_take_in_the_process_is_refused)
{
    struct bgmq_error error;
    struct owner *o = taken(base_path());
    refused(BGMQ_EEXIST, base_path(), &error);
    struct owner *other = taken(harness_path("y.db"));
    refused(BGMQ_EEXIST, base_path(), &error); /* also when it is not the latest */
    bgmqi_owner_release(o);
    o = taken(base_path());
    bgmqi_owner_release(other);
    bgmqi_owner_release(o);
}
END_TEST

START_TEST(no_directory_no_lock)
{
    struct bgmq_error error;
    refused(BGMQ_EOPEN, harness_path("missing/x.db"), &error);
    ck_assert_ptr_nonnull(
        strstr(error.text, "the lock beside the database: No such file"));
}
END_TEST

START_TEST(symlink_is_no_lock)
{
    struct bgmq_error error;
    ck_assert_int_eq(symlink(harness_path("target"), harness_path("x.db-lock")), 0);
    refused(BGMQ_EOPEN, base_path(), &error);
    ck_assert_ptr_nonnull(strstr(error.text, "x.db-lock"));
    ck_assert_ptr_nonnull(strstr(error.text, "symbolic link"));
    ck_assert_int_ne(access(harness_path("target"), F_OK), 0);
}
END_TEST

/* ---- two processes ----------------------------------------------------------------- */

/* A process that owns the database until the pipe ends, or it is killed. */
struct holder {
    pid_t pid;
    int hold;
};

static struct holder holder_start(void)
{
    const char *path = base_path();
    int hold[2], told[2];
    ck_assert(pipe(hold) == 0 && pipe(told) == 0);
    struct holder h = {.pid = fork(), .hold = hold[1]};
    ck_assert_int_ge(h.pid, 0);
    if (h.pid == 0) {
        struct owner *o;
        char c = 0;
        close(hold[1]);
        if (bgmqi_owner_take(&o, path, NULL) != 0 || write(told[1], "!", 1) != 1)
            _exit(1);
        _exit(read(hold[0], &c, 1) == 0 ? 0 : 2);
    }
    char c;
    close(hold[0]);
    close(told[1]);
    ck_assert_int_eq(read(told[0], &c, 1), 1);
    close(told[0]);
    return h;
}

static void reap(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

START_TEST(owner_elsewhere_is_named)
{
    struct bgmq_error error;
    char pid[32];
    struct holder h = holder_start();
    refused(BGMQ_EOWNED, base_path(), &error);
    snprintf(pid, sizeof(pid), " %ld", (long)h.pid);
    ck_assert_msg(strstr(error.text, pid) != NULL, "%s: no%s", error.text, pid);
    refused(BGMQ_EOWNED, base_path(), &error); /* the refusal took nothing away */
    close(h.hold);
    reap(h.pid);
    bgmqi_owner_release(taken(base_path()));
}
END_TEST

START_TEST(killed_owner_leaves_it_free)
{
    struct holder h = holder_start();
    ck_assert_int_eq(kill(h.pid, SIGKILL), 0);
    reap(h.pid);
    bgmqi_owner_release(taken(base_path()));
    close(h.hold);
}
END_TEST

/* Runs FN in a child of this process; its result, negated. */
static int in_child(int (*fn)(void))
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(-fn());
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static int try_to_take(void)
{
    struct owner *o;
    struct bgmq_error error = {""};
    int err = bgmqi_owner_take(&o, base_path(), &error);
    char parent[32];
    snprintf(parent, sizeof(parent), " %ld", (long)getppid());
    return err == BGMQ_EOWNED && !strstr(error.text, parent) ? -99 : err;
}

/* The child of an owner is another process: it is told who has it, and takes nothing away. */
START_TEST(child_of_the_owner_is_not_the_owner)
{
    struct owner *o = taken(base_path());
    ck_assert_int_eq(in_child(try_to_take), BGMQ_EOWNED);
    ck_assert_int_eq(in_child(try_to_take), BGMQ_EOWNED);
    bgmqi_owner_release(o);
}
END_TEST

static int hold[2];

/* Waits until its parent has let go. */
static int take_after_the_parent(void)
{
    char c;
    close(hold[1]);
    return read(hold[0], &c, 1) == 0 ? try_to_take() : -98;
}

START_TEST(child_takes_over_from_its_parent)
{
    ck_assert_int_eq(pipe(hold), 0);
    struct owner *o = taken(base_path());
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(-take_after_the_parent());
    close(hold[0]);
    bgmqi_owner_release(o);
    close(hold[1]);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(-WEXITSTATUS(status), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("owner");
    TCase *one = harness_case(s, "one process");
    tcase_add_test(one, taken_released_and_taken_again);
    tcase_add_test(one, second_take_in_the_process_is_refused);
    tcase_add_test(one, no_directory_no_lock);
    tcase_add_test(one, symlink_is_no_lock);
    TCase *two = harness_case(s, "two processes");
    tcase_add_test(two, owner_elsewhere_is_named);
    tcase_add_test(two, killed_owner_leaves_it_free);
    tcase_add_test(two, child_of_the_owner_is_not_the_owner);
    tcase_add_test(two, child_takes_over_from_its_parent);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
