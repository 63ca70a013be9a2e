/* test_flight.c - the flight file: what a killed process leaves in it, its slots, and the files
 * it will not touch. */
#include "flight.h"

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *base_path(void)
{
    return harness_path("x.db");
}

static const char *file_path(void)
{
    return harness_path("x.db-flight");
}

static struct flight *opened(struct flight_log *log)
{
    struct flight *f = NULL;
    struct bgmq_error error = {""};
    int err = bgmqi_flight_open(&f, base_path(), log, &error);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return f;
}

/* Opens, expects N in flight, and closes; what was noted stays. */
static void expect_in_flight(size_t n)
{
    struct flight_log log;
    struct flight *f = opened(&log);
    ck_assert_uint_eq(log.n, n);
    bgmqi_flight_log_fini(&log);
    bgmqi_flight_free(f);
}

static void refused(int want)
{
    struct flight *f = (struct flight *)(uintptr_t)8;
    struct flight_log log = {.n = 99};
    struct bgmq_error error = {""};
    int err = bgmqi_flight_open(&f, base_path(), &log, &error);
    ck_assert_msg(err == want, "%s: %s", bgmq_errname(err), error.text);
    ck_assert_ptr_eq(f, (struct flight *)(uintptr_t)8);
    ck_assert_uint_eq(log.n, 99);
    ck_assert_ptr_nonnull(strstr(error.text, "x.db-flight"));
}

/* ---- what it keeps ----------------------------------------------------------------- */

START_TEST(new_file_is_empty_and_private)
{
    expect_in_flight(0);
    struct stat st;
    ck_assert_int_eq(stat(file_path(), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_int_ge(st.st_blocks * 512, st.st_size); /* no hole to fall into */
}
END_TEST

START_TEST(ended_attempts_are_forgotten)
{
    struct flight_log log;
    struct flight *f = opened(&log);
    bgmqi_flight_log_fini(&log);
    struct flight_ring *one = bgmqi_flight_take(f), *two = bgmqi_flight_take(f);
    struct flight_slot *ended = flight_begin(one, 11, 1);
    flight_begin(two, 22, 7);
    flight_end(ended);
    bgmqi_flight_free(f);

    f = opened(&log);
    ck_assert_uint_eq(log.n, 1);
    ck_assert_uint_eq(log.ids[0], 22);
    ck_assert_uint_eq(log.attempts[0], 7);
    bgmqi_flight_log_fini(&log);
    bgmqi_flight_free(f);
    expect_in_flight(1); /* nothing is changed before it is cleared */

    f = opened(&log);
    bgmqi_flight_log_fini(&log);
    bgmqi_flight_clear(f);
    bgmqi_flight_free(f);
    expect_in_flight(0);
}
END_TEST

/* What the child does: three begin, one of them ends; then it is killed. */
static void fly_and_die(void)
{
    struct flight_log log;
    struct flight *f;
    if (bgmqi_flight_open(&f, base_path(), &log, NULL) != 0)
        _exit(1);
    struct flight_ring *r = bgmqi_flight_take(f);
    struct flight_slot *done = flight_begin(r, 100, 1);
    flight_ended(flight_begin(r, 200, 2));
    flight_begin(bgmqi_flight_take(f), UINT64_MAX, UINT32_MAX);
    flight_end(done);
    raise(SIGKILL);
}

START_TEST(survives_the_killed_process)
{
    base_path(); /* made here, not in the child */
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        fly_and_die();
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    struct flight_log log;
    struct flight *f = opened(&log);
    ck_assert_uint_eq(log.n, 2);
    ck_assert_uint_eq(log.ids[0], 200);
    ck_assert_uint_eq(log.attempts[0], 2);
    ck_assert_uint_eq(log.running[0], 0); /* its handler had ended */
    ck_assert_uint_eq(log.running[1], 1);
    ck_assert_uint_eq(log.ids[1], UINT64_MAX);
    ck_assert_uint_eq(log.attempts[1], UINT32_MAX);
    bgmqi_flight_log_fini(&log);
    bgmqi_flight_free(f);
}
END_TEST

START_TEST(short_file_grows)
{
    harness_write_file(file_path(), "", 0);
    expect_in_flight(0);
}
END_TEST

/* ---- slots ------------------------------------------------------------------------- */

START_TEST(released_ring_is_given_again_with_what_is_not_committed)
{
    struct flight_log log;
    struct flight *f = opened(&log);
    bgmqi_flight_log_fini(&log);
    struct flight_ring *one = bgmqi_flight_take(f), *two = bgmqi_flight_take(f);
    ck_assert(one && two && one != two);
    struct flight_slot *s = flight_begin(one, 5, 1);
    bgmqi_flight_release(f, one);
    ck_assert_uint_eq(atomic_load(&s->id), 5);
    ck_assert_ptr_eq(bgmqi_flight_take(f), one);
    flight_committed(s, 5);
    ck_assert_uint_eq(atomic_load(&s->id), 0);
    bgmqi_flight_release(f, NULL);
    bgmqi_flight_free(f);
}
END_TEST

START_TEST(full_ring_takes_over_the_oldest)
{
    struct flight_log log;
    struct flight *f = opened(&log);
    bgmqi_flight_log_fini(&log);
    struct flight_ring *r = bgmqi_flight_take(f);
    struct flight_slot *first = flight_begin(r, 1, 1);
    for (uint64_t id = 2; id <= FLIGHT_RING; id++)
        ck_assert_ptr_ne(flight_begin(r, id, 1), first);
    ck_assert_ptr_eq(flight_begin(r, 1000, 1), first);
    flight_committed(first, 1); /* too late: it is somebody else's */
    ck_assert_uint_eq(atomic_load(&first->id), 1000);
    ck_assert_ptr_null(flight_begin(NULL, 1, 1));
    bgmqi_flight_free(f);
    expect_in_flight(FLIGHT_RING);
}
END_TEST

START_TEST(without_a_file_there_are_no_rings)
{
    ck_assert_ptr_null(bgmqi_flight_take(NULL));
    bgmqi_flight_release(NULL, NULL);
    bgmqi_flight_free(NULL);
}
END_TEST

START_TEST(rings_run_out)
{
    struct flight_log log;
    struct flight *f = opened(&log);
    bgmqi_flight_log_fini(&log);
    struct flight_ring *last = NULL, *s;
    size_t n = 0;
    while ((s = bgmqi_flight_take(f)) != NULL) {
        ck_assert_ptr_ne(s, last);
        last = s;
        n++;
    }
    ck_assert_uint_ge(n, 1024); /* the threads of a type at least */
    bgmqi_flight_release(f, last);
    ck_assert_ptr_eq(bgmqi_flight_take(f), last);
    bgmqi_flight_free(f);
}
END_TEST

static void *take_and_release(void *flight)
{
    for (int i = 0; i < 2000; i++) {
        struct flight_ring *r = bgmqi_flight_take(flight);
        struct flight_slot *s = flight_begin(r, (uint64_t)i + 1, 1);
        ck_assert_uint_eq(atomic_load(&s->id), (uint64_t)i + 1); /* nobody else's */
        flight_end(s);
        bgmqi_flight_release(flight, r);
    }
    return NULL;
}

START_TEST(threads_never_share_a_ring)
{
    struct flight_log log;
    struct flight *f = opened(&log);
    bgmqi_flight_log_fini(&log);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = harness_thread(take_and_release, f);
    for (int i = 0; i < 4; i++)
        harness_join(t[i]);
    bgmqi_flight_free(f);
    expect_in_flight(0);
}
END_TEST

/* ---- files it will not touch ------------------------------------------------------- */

START_TEST(symlink_is_refused)
{
    const char *target = harness_path("target");
    harness_write_file(target, "mine", 4);
    ck_assert_int_eq(symlink(target, file_path()), 0);
    refused(BGMQ_EUNSAFE);
    char *text;
    ck_assert_uint_eq(harness_read_file(target, &text), 4);
    ck_assert_str_eq(text, "mine");
    free(text);
}
END_TEST

START_TEST(hard_link_is_refused)
{
    const char *target = harness_path("target");
    harness_write_file(target, "mine", 4);
    ck_assert_int_eq(link(target, file_path()), 0);
    refused(BGMQ_EUNSAFE);
    struct stat st;
    ck_assert_int_eq(stat(target, &st), 0);
    ck_assert_int_eq(st.st_size, 4);
}
END_TEST

START_TEST(pipe_is_refused_at_once)
{
    ck_assert_int_eq(mkfifo(file_path(), 0600), 0);
    refused(BGMQ_EUNSAFE);
}
END_TEST

START_TEST(directory_is_refused)
{
    ck_assert_int_eq(mkdir(file_path(), 0700), 0);
    refused(BGMQ_EOPEN);
}
END_TEST

START_TEST(file_of_somebody_else_is_refused)
{
    if (geteuid() != 0)
        HARNESS_SKIP("only root can give a file away");
    harness_write_file(file_path(), "theirs", 6);
    ck_assert_int_eq(chown(file_path(), 12345, (gid_t)-1), 0);
    refused(BGMQ_EUNSAFE);
    struct stat st;
    ck_assert_int_eq(stat(file_path(), &st), 0);
    ck_assert_int_eq(st.st_size, 6);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("flight");
    TCase *keeps = harness_case(s, "keeps");
    tcase_add_test(keeps, new_file_is_empty_and_private);
    tcase_add_test(keeps, ended_attempts_are_forgotten);
    tcase_add_test(keeps, survives_the_killed_process);
    tcase_add_test(keeps, short_file_grows);
    TCase *slots = harness_case(s, "slots");
    tcase_add_test(slots, released_ring_is_given_again_with_what_is_not_committed);
    tcase_add_test(slots, full_ring_takes_over_the_oldest);
    tcase_add_test(slots, without_a_file_there_are_no_rings);
    tcase_add_test(slots, rings_run_out);
    tcase_add_test(slots, threads_never_share_a_ring);
    TCase *safe = harness_case(s, "safe");
    tcase_add_test(safe, symlink_is_refused);
    tcase_add_test(safe, hard_link_is_refused);
    tcase_add_test(safe, pipe_is_refused_at_once);
    tcase_add_test(safe, directory_is_refused);
    tcase_add_test(safe, file_of_somebody_else_is_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
