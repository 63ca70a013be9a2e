/* test_host.c - what a service does to the process it lives in: signals, descriptors, the log,
 * memory, and next to nothing while there is nothing to do. */
#include "flow.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Calls FN with the number in each name of DIRECTORY. */
static void each_number(const char *directory, void (*fn)(long number, void *ctx),
                        void *ctx)
{
    DIR *d = opendir(directory);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            fn(strtol(e->d_name, NULL, 10), ctx);
    closedir(d);
}

/* The number after NAME in the status of thread TID; 0 when the thread has ended. */
static unsigned long long thread_status(long tid, const char *name, int base)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/self/task/%ld/status", tid);
    FILE *f = fopen(path, "r");
    unsigned long long value = 0;
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, name, strlen(name)))
            value = strtoull(line + strlen(name), NULL, base);
    if (f)
        fclose(f);
    return value;
}

static void expect_signals_blocked(long tid, void *ctx)
{
    static const int asynchronous[] = {SIGTERM, SIGINT,  SIGHUP,  SIGALRM, SIGUSR1,
                                       SIGUSR2, SIGPIPE, SIGCHLD, SIGQUIT, SIGXFSZ};
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    if (tid == (long)getpid())
        return;
    /* The C library starts a thread with everything blocked, for a moment. */
    WAIT_UNTIL(!(thread_status(tid, "SigBlk:", 16) >> (SIGSEGV - 1) & 1));
    unsigned long long mask = thread_status(tid, "SigBlk:", 16);
    for (size_t i = 0; i < sizeof(asynchronous) / sizeof(int); i++)
        ck_assert_msg(mask >> (asynchronous[i] - 1) & 1, "signal %d may hit thread %ld",
                      asynchronous[i], tid);
    for (size_t i = 0; i < sizeof(faults) / sizeof(int); i++)
        ck_assert_msg(!(mask >> (faults[i] - 1) & 1),
                      "signal %d is blocked in thread %ld", faults[i], tid);
    ++*(int *)ctx;
}

/* P11, P12: what others send, and what a write raises (SIGPIPE, SIGXFSZ), stays away from our
 * threads. */
START_TEST(threads_of_the_service_receive_no_signals)
{
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker has threads of its own");
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.threads = 3));
    OK(bgmq_start(mq));
    int threads = 0;
    each_number("/proc/self/task", expect_signals_blocked, &threads);
    ck_assert_int_ge(threads, 3);
    sigset_t mask;
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    ck_assert_int_eq(sigismember(&mask, SIGTERM), 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

enum { MANY_FDS = 1024 };

static void note_fd(long fd, void *ctx)
{
    if (fd < MANY_FDS)
        ((char *)ctx)[fd] = 1;
}

static void expect_cloexec(long fd, void *ctx)
{
    int flags = fcntl((int)fd, F_GETFD);
    if (fd >= MANY_FDS || ((char *)ctx)[fd] || flags < 0)
        return; /* open before, or the directory that is being read */
    ck_assert_msg(flags & FD_CLOEXEC, "descriptor %ld would be inherited", fd);
    ((char *)ctx)[fd] = 2;
}

/* P3. */
START_TEST(descriptors_are_not_inherited)
{
    char fds[MANY_FDS] = {0};
    each_number("/proc/self/fd", note_fd, fds);
    for (int fd = 0; fd < MANY_FDS; fd++) /* the directory was noted too */
        fds[fd] = fds[fd] && fcntl(fd, F_GETFD) >= 0;
    struct bgmq *mq = flow_open(1);
    flow_publish(mq, "T", "x");
    each_number("/proc/self/fd", expect_cloexec, fds);
    ck_assert_ptr_nonnull(memchr(fds, 2, MANY_FDS));
    flow_close(mq);
}
END_TEST

/* ---- the log -------------------------------------------------------------------- */

struct logged {
    struct bgmq *mq;
    struct counter lines;
    int published; /* what a publish inside the callback returned */
    char last[2048];
};

static void publish_in_log(void *ctx, enum bgmq_level level, const char *text)
{
    struct logged *l = ctx;
    if (level == BGMQ_LOG_DEBUG || !l->mq)
        return;
    l->published = bgmq_publish(l->mq, "T", "x", 1, NULL, NULL);
    snprintf(l->last, sizeof(l->last), "%s", text);
    counter_add(&l->lines, 1);
}

static int return_77(struct bgmq_job *job, void *ctx)
{
    return 77;
}

START_TEST(log_callback_may_not_publish_and_does_not_hang)
{
    struct logged l = {0};
    counter_init(&l.lines);
    struct bgmq *mq = flow_open_with(_i, SERVICE(.log = publish_in_log, .log_ctx = &l));
    l.mq = mq;
    OK(bgmq_register(mq, "Odd", return_77, NULL, &TYPE(.max_attempts = 1)));
    OK(bgmq_start(mq));
    flow_publish(mq, "Odd", "x");
    counter_wait(&l.lines, 1);
    flow_wait_ended(mq, "Odd", 1);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_lt(l.published, 0);
    ck_assert_ptr_null(strchr(l.last, '\n'));
    l.mq = NULL;
    flow_close(mq);
    counter_fini(&l.lines);
}
END_TEST

/* ---- what it costs -------------------------------------------------------------- */

static void sum_switches(long tid, void *ctx)
{
    if (tid != (long)getpid())
        *(unsigned long long *)ctx += thread_status(tid, "voluntary_ctxt_switches:", 10);
}

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Nothing polls faster than once a second: over two seconds each thread of the service wakes
 * three times at most, and all of them together use no processor to speak of. */
START_TEST(idle_service_does_nothing)
{
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker has threads of its own");
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.threads = 4));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 20);
    flow_publish_with(mq, "T", "later", MESSAGE(.delay_ms = 3600 * 1000));
    flow_wait_ended(mq, "T", 20);
    OK(bgmq_flush(mq));
    poll(NULL, 0, 100); /* let the last of it settle down: what is measured is rest */
    int threads = harness_count_threads() - 1;
    unsigned long long before = 0, after = 0;
    each_number("/proc/self/task", sum_switches, &before);
    int64_t cpu = cpu_ns();
    poll(NULL, 0, 2000);
    cpu = cpu_ns() - cpu;
    each_number("/proc/self/task", sum_switches, &after);
    ck_assert_msg(after - before <= 3 * (unsigned long long)threads,
                  "%llu wake-ups of %d threads", after - before, threads);
    ck_assert_msg(cpu < 10 * 1000000, "%lld ns of processor", (long long)cpu);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(waiting_message_costs_its_body_and_96_bytes)
{
    enum { N = 100000, BODY = 100 };
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker has memory of its own");
    char body[BODY];
    memset(body, 'b', sizeof(body));
    struct bgmq *mq = flow_open_with(0, SERVICE(.max_bytes = 256 * 1024 * 1024));
    for (int i = 0; i < 1000; i++)
        OK(bgmq_publish(mq, "T", body, BODY, NULL, NULL));
    long before = harness_resident_bytes();
    for (int i = 0; i < N; i++)
        OK(bgmq_publish(mq, "T", body, BODY, NULL, NULL));
    long each = (harness_resident_bytes() - before) / N;
    ck_assert_msg(each > 0 && each <= BODY + 96, "%ld bytes", each);
    flow_close(mq);
}
END_TEST

/* A window of a few is all that stays in memory of a backlog in the database. */
START_TEST(backlog_in_the_database_costs_no_memory)
{
    enum { N = 3000, BODY = 20000, WARM_UP = 1000 };
    if (FLOW_CHECKED)
        HARNESS_SKIP("the checker has memory of its own");
    char *body = calloc(1, BODY);
    ck_assert_ptr_nonnull(body);
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register_with(mq, "T", &r, TYPE(.window = 10, .outq_limit = 1));
    for (int i = 0; i < WARM_UP; i++) /* caches of the store fill */
        OK(bgmq_publish(mq, "T", body, BODY, &MESSAGE(.durability = BGMQ_COMMIT), NULL));
    long before = harness_resident_bytes();
    for (int i = 0; i < N; i++)
        OK(bgmq_publish(mq, "T", body, BODY, &MESSAGE(.durability = BGMQ_COMMIT), NULL));
    long grown = harness_resident_bytes() - before;
    ck_assert_msg(grown < N / 20 * BODY, "%ld bytes of %d", grown, N * BODY);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", N + WARM_UP);
    flow_close(mq);
    recorder_fini(&r);
    free(body);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("host");
    TCase *tc = flow_case(s, "process");
    tcase_add_test(tc, threads_of_the_service_receive_no_signals);
    tcase_add_test(tc, descriptors_are_not_inherited);
    flow_add_both(tc, log_callback_may_not_publish_and_does_not_hang);
    tc = flow_case(s, "cost");
    flow_add_both(tc, idle_service_does_nothing);
    tcase_add_test(tc, waiting_message_costs_its_body_and_96_bytes);
    tcase_add_test(tc, backlog_in_the_database_costs_no_memory);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
