/* test_exhaust.c - T18: too few threads, too little memory, no descriptors: each limit is lowered
 * until a start fails, then raised, and set again while the service runs.  What is refused is
 * refused cleanly, and all works again without a restart.  No room: test_room.c.
 *
 * Each test is a process of its own, so that limits end with it. */
#include "limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- threads ------------------------------------------------------------------------------ */

static _Atomic int creations, creation_fails; /* the n-th from now on; 0: none */

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    if (++creations == creation_fails)
        return EAGAIN;
    return __real_pthread_create(ret, attr, fn, arg);
}

/* P4. */
START_TEST(thread_that_cannot_be_made_leaves_none_and_the_next_start_works)
{
    static const int known[] = {BGMQ_ETHREAD};
    limits_begin();
    int err = 1, k = 0;
    struct harness_leaks leaks;
    harness_leaks_begin(&leaks);
    while (err != 0) {
        struct bgmq *mq = NULL;
        creations = 0;
        creation_fails = ++k;
        ck_assert_int_lt(k, 100);
        err = limits_start(&mq);
        creation_fails = 0;
        if (err == 0) {
            limits_close(mq);
        } else {
            limits_expect_known(err, known, 1);
            harness_leaks_end(&leaks);
        }
        mq = limits_started(); /* and now they can be made */
        limits_expect_works(mq);
        limits_close(mq);
    }
    ck_assert_int_gt(k, LIMITS_THREADS);
    harness_figure("refused", k - 1);
}
END_TEST

START_TEST(set_threads_is_all_or_none)
{
    struct bgmq_collection c;
    limits_begin();
    struct bgmq *mq = limits_started();
    for (int k = 1; k <= 3; k++) {
        int threads = harness_count_threads();
        creations = 0;
        creation_fails = k;
        ck_assert_int_eq(bgmq_set_threads(mq, "T", LIMITS_THREADS + 3), BGMQ_ETHREAD);
        creation_fails = 0;
        ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
        ck_assert_uint_eq(c.threads, LIMITS_THREADS);
        WAIT_UNTIL(harness_count_threads() == threads);
    }
    ck_assert_int_eq(bgmq_set_threads(mq, "T", LIMITS_THREADS + 3), 0);
    limits_expect_works(mq);
    limits_close(mq);
}
END_TEST

/* The folder that PATH is in may be passed by everybody. */
static void open_way(const char *path)
{
    char folder[600];
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = '\0';
    if (strstr(folder, "bgmq-test"))
        ck_assert_int_eq(chmod(folder, 0711), 0);
}

START_TEST(too_few_processes_for_the_user)
{
    static const int known[] = {BGMQ_ETHREAD};
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the checker has threads of its own");
    if (geteuid() != 0)
        HARNESS_SKIP("needs a user of its own, which only root can become");
    limits_begin();
    uid_t nobody = 100000 + (uid_t)getpid() % 100000;
    ck_assert_int_eq(chown(harness_tmpdir(), nobody, nobody), 0);
    ck_assert_int_eq(setresgid(nobody, nobody, nobody), 0);
    open_way(harness_tmpdir());
    if (setresuid(nobody, nobody, nobody) != 0 || access(harness_tmpdir(), W_OK) != 0)
        HARNESS_SKIP("no other user may write here");
    limits_raise(RLIMIT_NPROC, 1, 1, known, 1);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------- */

static long address_space(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

START_TEST(too_little_address_space)
{
    static const int known[] = {BGMQ_ENOMEM, BGMQ_ETHREAD, BGMQ_EOPEN};
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the checker needs all of it");
    limits_begin();
    limits_raise(RLIMIT_AS, (rlim_t)address_space(),
                 harness_full() ? 64 << 10 : 512 << 10, known, 3);
}
END_TEST

START_TEST(too_little_address_space_while_it_runs)
{
    struct bgmq *mq = NULL;
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the checker needs all of it");
    limits_begin();
    mq = limits_started();
    limits_set(RLIMIT_AS, (rlim_t)address_space());
    size_t size = 1 << 20;
    char *body = calloc(1, size), *held[64];
    int n = 0, err = 0, accepted = 0;
    if (body)
        while (n < 64 && (held[n] = malloc(128 << 10)) != NULL)
            n++;
    for (int i = 0; body && i < 100 && err == 0; i++) {
        err = bgmq_publish(mq, "T", body, size, NULL, NULL);
        accepted += err == 0;
    }
    ck_assert_msg(!body || err == 0 || err == BGMQ_ENOMEM || err == BGMQ_EFULL, "%s",
                  bgmq_errname(err));
    while (n > 0)
        free(held[--n]);
    free(body);
    limits_set(RLIMIT_AS, RLIM_INFINITY);
    WAIT_UNTIL(limits_runs >= accepted);
    limits_expect_works(mq);
    limits_close(mq);
}
END_TEST

/* A thread's stack is of the size that was asked for, whatever the shell says. */
START_TEST(small_stack)
{
    struct bgmq *mq = NULL;
    limits_begin();
    limits_set(RLIMIT_STACK, 256 << 10);
    mq = limits_started();
    limits_expect_works(mq);
    limits_close(mq);
}
END_TEST

/* ---- descriptors --------------------------------------------------------------------------- */

START_TEST(too_few_descriptors)
{
    static const int known[] = {BGMQ_EOPEN};
    if (HARNESS_TSAN)
        HARNESS_SKIP("the checker opens files where it reports threads");
    limits_begin();
    limits_raise(RLIMIT_NOFILE, 3, 1, known, 1);
}
END_TEST

/* P6: the store has its own, and needs no more. */
START_TEST(descriptors_stolen_while_it_runs)
{
    enum { LIMIT = 64 };
    struct bgmq *mq = NULL;
    int stolen[LIMIT], n = 0;
    limits_begin();
    mq = limits_started();
    limits_set(RLIMIT_NOFILE, LIMIT);
    while (n < LIMIT && (stolen[n] = dup(STDERR_FILENO)) >= 0)
        n++;
    ck_assert_int_gt(n, 3);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(limits_publish(mq), 0);
    WAIT_UNTIL(limits_runs == 20 && limits_idle(mq));
    ck_assert_int_eq(bgmq_flush(mq), 0);
    limits_close(mq); /* also without */
    ck_assert_int_eq(limits_start(&mq), BGMQ_EOPEN);
    while (n > 0)
        close(stolen[--n]);
    mq = limits_started();
    limits_expect_works(mq);
    limits_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("exhaust");
    TCase *tc = harness_case(s, "threads");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, thread_that_cannot_be_made_leaves_none_and_the_next_start_works);
    tcase_add_test(tc, set_threads_is_all_or_none);
    tcase_add_test(tc, too_few_processes_for_the_user);
    tc = harness_case(s, "memory");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, too_little_address_space);
    tcase_add_test(tc, too_little_address_space_while_it_runs);
    tcase_add_test(tc, small_stack);
    tc = harness_case(s, "descriptors");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, too_few_descriptors);
    tcase_add_test(tc, descriptors_stolen_while_it_runs);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
