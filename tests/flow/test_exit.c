/* test_exit.c - the process calls exit() while workers run: from its main thread, from a handler,
 * from another thread, with and without a close in atexit().  It ends, and nothing is lost.
 *
 * The program runs itself to be that process. */
#include "flow.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 200, STARTS = 20, STATUS = 7 };
enum { IN_MAIN, IN_HANDLER, IN_THREAD, PLACES, CLOSE = 4, WAYS = 2 * PLACES };

/* ---- the process that ends --------------------------------------------------------- */

static struct bgmq *service; /* static, so that it is no leak */
static int way, done_fd;
static _Atomic int starts;

static int note_and_exit(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const char *body = bgmq_job_body(job, &len);
    char line[16];
    int n = snprintf(line, sizeof(line), "%.*s\n", (int)len, body);
    if (write(done_fd, line, (size_t)n) != n)
        abort();
    if (atomic_fetch_add(&starts, 1) + 1 == STARTS && (way & ~CLOSE) == IN_HANDLER)
        exit(STATUS);
    poll(NULL, 0, 1); /* others run when it ends */
    return BGMQ_DONE;
}

static void close_at_exit(void)
{
    int err = bgmq_close(service);
    if (err != 0 && err != BGMQ_EDEADLK) /* it may be the handler's thread */
        _exit(99);
}

static void wait_for_starts(void)
{
    while (atomic_load(&starts) < STARTS)
        poll(NULL, 0, 1);
}

static void *exit_thread(void *arg)
{
    wait_for_starts();
    exit(STATUS);
}

static int run_and_exit(const char *database, const char *which)
{
    char name[600];
    way = atoi(which);
    snprintf(name, sizeof(name), "%s.done", database);
    done_fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (done_fd < 0 || bgmq_open(&service, &SERVICE(.database = database), NULL) ||
        bgmq_register(service, "T", note_and_exit, NULL, &TYPE(.threads = 4)))
        return 1;
    if (way & CLOSE)
        atexit(close_at_exit);
    for (int i = 0; i < MESSAGES; i++) {
        int n = snprintf(name, sizeof(name), "%d", i);
        if (bgmq_publish(service, "T", name, (size_t)n,
                         &MESSAGE(.durability = BGMQ_COMMIT), NULL))
            return 3;
    }
    pthread_t thread;
    if ((way & ~CLOSE) == IN_THREAD && pthread_create(&thread, NULL, exit_thread, NULL))
        return 2;
    if (bgmq_start(service))
        return 4;
    wait_for_starts();
    while ((way & ~CLOSE) != IN_MAIN)
        pause();
    exit(STATUS);
}

/* ---- the test ------------------------------------------------------------------------ */

static int handled[MESSAGES];

static void read_done(void)
{
    char name[600];
    int n;
    snprintf(name, sizeof(name), "%s.done", flow_database());
    FILE *f = fopen(name, "r");
    ck_assert_ptr_nonnull(f);
    while (fscanf(f, "%d\n", &n) == 1)
        handled[n]++;
    fclose(f);
}

/* P14. It ends with its own status, and what it had accepted is there. */
START_TEST(exit_while_workers_run)
{
    if (HARNESS_TSAN)
        HARNESS_SKIP("the checker takes threads that run at the end for leaks");
    const char *database = flow_database();
    char which[4];
    snprintf(which, sizeof(which), "%d", _i % PLACES + (_i < PLACES ? 0 : CLOSE));
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        execl("/proc/self/exe", "exit", "--exit", database, which, (char *)NULL);
        _exit(98);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == STATUS, "status %#x",
                  (unsigned)status);
    read_done();
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(1);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_collection(mq, "T").inq + flow_collection(mq, "T").running == 0);
    flow_close(mq);
    for (size_t i = 0; i < r.n; i++)
        handled[atoi(recorder_call(&r, i).body)]++;
    for (int i = 0; i < MESSAGES; i++)
        ck_assert_msg(handled[i] > 0, "message %d is lost", i);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("exit");
    TCase *tc = flow_case(s, "exit");
    tcase_add_loop_test(tc, exit_while_workers_run, 0, WAYS);
    return s;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--exit"))
        return run_and_exit(argv[2], argv[3]);
    return harness_run(suite());
}
