/* test_bell.c - the bell in the flight file: rung from other processes, heard by the owner, and the
 * files that a visitor will not use. */
#include "flight.h"

#include "harness.h"

#include <sched.h>
#include <stdio.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG_NS (INT64_C(10000000000) * harness_scale())

static const char *base_path(void)
{
    return harness_path("x.db");
}

static struct flight *owner(void)
{
    struct flight *f = NULL;
    struct flight_log log;
    ck_assert_int_eq(bgmqi_flight_open(&f, base_path(), &log, NULL), 0);
    bgmqi_flight_log_fini(&log);
    return f;
}

START_TEST(ring_before_the_wait_is_heard)
{
    struct flight *f = owner();
    struct flight_bell *bell = bgmqi_flight_bell(f),
                       *visitor = bgmqi_flight_visit(base_path());
    ck_assert_ptr_nonnull(visitor);
    uint32_t seen = atomic_load(&bell->rung);
    ck_assert(!bgmqi_flight_hear(bell, &seen, 0));
    bgmqi_flight_ring(visitor);
    bgmqi_flight_ring(visitor);
    ck_assert(bgmqi_flight_hear(bell, &seen, LONG_NS)); /* at once */
    ck_assert(!bgmqi_flight_hear(bell, &seen, 1000));   /* both were heard */
    bgmqi_flight_leave(visitor);
    bgmqi_flight_leave(NULL);
    bgmqi_flight_free(f);
}
END_TEST

START_TEST(ring_of_another_process_ends_the_wait)
{
    const char *path = base_path();
    struct flight *f = owner();
    struct flight_bell *bell = bgmqi_flight_bell(f);
    uint32_t seen = atomic_load(&bell->rung);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        /* Not before its parent is asleep, or about to be. */
        while (!atomic_load(&bell->waiting))
            sched_yield();
        struct flight_bell *mine = bgmqi_flight_visit(path);
        if (!mine)
            _exit(1);
        bgmqi_flight_ring(mine);
        _exit(0);
    }
    int64_t begin = harness_now();
    ck_assert(bgmqi_flight_hear(bell, &seen, LONG_NS));
    ck_assert_int_lt(harness_now() - begin, LONG_NS);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    bgmqi_flight_free(f);
}
END_TEST

START_TEST(visitor_makes_no_file)
{
    ck_assert_ptr_null(bgmqi_flight_visit(base_path()));
    ck_assert_int_ne(access(harness_path("x.db-flight"), F_OK), 0);
}
END_TEST

START_TEST(visitor_leaves_strange_files_alone)
{
    const char *path = harness_path("x.db-flight");
    static char zeros[256 * 1024];
    harness_write_file(path, "short", 5);
    ck_assert_ptr_null(bgmqi_flight_visit(base_path()));
    harness_write_file(path, zeros, sizeof(zeros));
    ck_assert_ptr_null(bgmqi_flight_visit(base_path())); /* no mark of ours */
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_ptr_null(bgmqi_flight_visit(base_path()));
    ck_assert_int_eq(unlink(path), 0);
    bgmqi_flight_free(owner());
    ck_assert_int_eq(rename(path, harness_path("real")), 0);
    ck_assert_int_eq(symlink(harness_path("real"), path), 0);
    ck_assert_ptr_null(bgmqi_flight_visit(base_path()));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(link(harness_path("real"), path), 0);
    ck_assert_ptr_null(bgmqi_flight_visit(base_path()));
    ck_assert_int_eq(unlink(harness_path("real")), 0);
    struct flight_bell *bell = bgmqi_flight_visit(base_path());
    ck_assert_ptr_nonnull(bell);
    bgmqi_flight_leave(bell);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bell");
    TCase *tc = harness_case(s, "bell");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, ring_before_the_wait_is_heard);
    tcase_add_test(tc, ring_of_another_process_ends_the_wait);
    tcase_add_test(tc, visitor_makes_no_file);
    tcase_add_test(tc, visitor_leaves_strange_files_alone);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
