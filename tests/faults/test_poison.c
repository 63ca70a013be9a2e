/* test_poison.c - one message of fifty ends its process, or never ends; a supervisor starts the
 * process again.  The guilty one is found, the others are done, and the application boots.
 *
 * The program runs itself to be that application.  What its handlers do goes to a history, which
 * the oracle of the crash tests judges. */
#include "../crash/cargo.h"
#include "../harness/harness.h"

#include <bgmq.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS = 50, DEATHS_MAX = 3, ATTEMPTS = 5, BOOTS_MAX = 12, SEEDS_IN_FULL = 20 };

/* ---- what the pill does ------------------------------------------------------------ */

static void by_abort(void)
{
    abort();
}

static void by_access(void)
{
    volatile char *volatile nowhere = (volatile char *)(uintptr_t)64;
    *nowhere = 1;
}

static void by_kill(void)
{
    kill(getpid(), SIGKILL);
}

static void by_exit(void)
{
    _exit(3);
}

/* Nobody has given it a time-out: the supervisor sees that nothing goes on. */
static void by_looping(void)
{
    for (volatile int i = 0;; i++) {
        /* for ever */
    }
}

/* Runs over its own frame and those of its callers. */
__attribute__((noinline)) static void by_smashing(void)
{
    char here[16];
    void *(*volatile set)(void *, int, size_t) = memset; /* no compiler sees through it */
    set(here, 0xa5, 2048);
}

/* Runs out of stack. */
__attribute__((noinline)) static int deeper(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = above ? above[0] : 0;
    return frame[0] == 'x' ? 0 : deeper(frame) + frame[0];
}

static void by_recursion(void)
{
    deeper(NULL);
}

static void by_thread_exit(void)
{
    pthread_exit(NULL);
}

static const struct {
    const char *name;
    void (*act)(void);
    const char *code; /* of the dead message */
} ways[] = {
    {"abort", by_abort, "crash"},         {"access", by_access, "crash"},
    {"kill", by_kill, "crash"},           {"exit", by_exit, "crash"},
    {"loop", by_looping, "crash"},        {"smash", by_smashing, "crash"},
    {"recursion", by_recursion, "crash"}, {"thread", by_thread_exit, "ThreadExit"},
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

#define LOOPS "# nothing goes on"

/* ---- the application ---------------------------------------------------------------- */

struct app {
    int history, way;
};

/* Is it the only one that runs, as it is suspected? */
static int is_alone(struct bgmq_job *job)
{
    struct bgmq_counters counters;
    struct bgmq *mq = bgmq_job_service(job);
    return bgmq_service_counters(mq, &counters) == 0 && counters.solo &&
           bgmq_running(mq) == 1;
}

static int handle(struct bgmq_job *job, void *ctx)
{
    struct app *a = ctx;
    const char *key = bgmq_job_body(job, NULL);
    uint64_t id = bgmq_job_id(job);
    history_write(a->history, "S %s %" PRIu64 " %u %" PRId64, key, id,
                  bgmq_job_attempt(job), wall_ms());
    if (!strcmp(key, "pill")) {
        if (is_alone(job))
            history_write(a->history, "# alone");
        if (ways[a->way].act == by_looping)
            history_write(a->history, LOOPS);
        if (ways[a->way].act == by_thread_exit)
            history_write(a->history, "F %s %" PRIu64, key, id);
        ways[a->way].act();
    }
    poll(NULL, 0, 1); /* its neighbours run when it dies */
    history_write(a->history, "D %s %" PRIu64, key, id);
    return BGMQ_DONE;
}

static int publish_all(struct bgmq *mq, int history, int at)
{
    for (int i = 0; i < JOBS; i++) {
        char key[KEY_SIZE];
        struct bgmq_receipt receipt;
        snprintf(key, sizeof(key), i == at ? "pill" : "job%d", i);
        history_write(history, "T %s 3 0", key);
        int err = bgmq_publish(mq, "Job", key, strlen(key),
                               &(struct bgmq_message_options){.durability = BGMQ_COMMIT},
                               &receipt);
        if (err)
            return err;
        history_write(history, "A %s %" PRIu64, key, receipt.id);
    }
    return 0;
}

static void keep(void *ctx, enum bgmq_level level, const char *text)
{
    if (level <= BGMQ_LOG_WARNING)
        history_write(*(int *)ctx, "# %.140s", text);
}

/* Waits until nothing is left but the dead, and tells of them. */
static int finish(struct bgmq *mq, int history)
{
    struct bgmq_collection c;
    struct bgmq_message *m;
    do
        poll(NULL, 0, 1);
    while (!bgmq_type_collection(mq, "Job", &c) && c.inq + c.delayed + c.running);
    while (bgmq_get(mq, "mq:Job.dlq", c.dlq ? 1000 : 0, &m) == 0) {
        history_write(history, "X %s %" PRIu64 " %s",
                      (const char *)bgmq_message_body(m, NULL), bgmq_message_id(m),
                      bgmq_message_error_code(m));
        bgmq_ack(m);
        bgmq_message_free(m);
        c.dlq--;
    }
    bgmq_free(mq);
    return 0;
}

/* Boots as an application does: whatever the queue says, it goes on.  The breaker is closed by an
 * operator, a while later. */
static int be_the_app(const char *database, const char *boot, const char *way,
                      const char *at)
{
    char path[600];
    struct app a = {.way = atoi(way)};
    struct bgmq *mq;
    struct bgmq_counters counters;
    snprintf(path, sizeof(path), "%s.history", database);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    a.history = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int err = a.history < 0;
    history_write(a.history, "O %s", boot);
    struct bgmq_options options = {
        .database = database, .log = keep, .log_ctx = &a.history};
    struct bgmq_type_options type = {
        .threads = 4, .max_attempts = ATTEMPTS, .backoff = BGMQ_BACKOFF_NONE};
    err = err ? err : bgmq_open(&mq, &options, NULL);
    if (!err && atoi(boot) == 1)
        err = publish_all(mq, a.history, atoi(at));
    err = err ? err : bgmq_register(mq, "Job", handle, &a, &type);
    err = err ? err : bgmq_start(mq);
    err = err ? err : bgmq_service_counters(mq, &counters);
    if (!err && counters.breaker) {
        history_write(a.history, "# the breaker is open, and the application runs");
        err = bgmq_started(mq) != 0;
        err = err ? err : bgmq_start(mq);
    }
    return err ? 100 : finish(mq, a.history);
}

/* ---- the supervisor ----------------------------------------------------------------- */

struct course {
    char database[512], history[600];
    int way, at, boots;
    int deaths; /* of the process */
};

static pid_t start(struct course *c)
{
    char boot[12], way[12], at[12];
    snprintf(boot, sizeof(boot), "%d", ++c->boots);
    snprintf(way, sizeof(way), "%d", c->way);
    snprintf(at, sizeof(at), "%d", c->at);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, STDERR_FILENO); /* what a sanitizer says of the pill */
        execl("/proc/self/exe", "poison", "--app", c->database, boot, way, at,
              (char *)NULL);
        _exit(98);
    }
    return pid;
}

/* Does the history say so as often as the process was started? */
static int loops(const struct course *c)
{
    char *text;
    int n = 0;
    if (access(c->history, R_OK))
        return 0;
    harness_read_file(c->history, &text);
    for (const char *at = text; (at = strstr(at, LOOPS)) != NULL; at++)
        n++;
    free(text);
    return n >= c->boots;
}

/* Waits for its end; one that does nothing any more is killed. */
static int watch(const struct course *c, pid_t pid)
{
    int status;
    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG);
        ck_assert(ended >= 0 || errno == EINTR);
        if (ended == pid)
            return status;
        if (ways[c->way].act == by_looping && loops(c))
            kill(pid, SIGKILL);
        poll(NULL, 0, 2);
    }
}

static void supervise(struct course *c)
{
    int status;
    while ((status = watch(c, start(c))) != 0) {
        ck_assert_msg(!WIFEXITED(status) || WEXITSTATUS(status) < 98,
                      "%s: the application does not boot: %#x", ways[c->way].name,
                      (unsigned)status);
        c->deaths++;
        ck_assert_msg(c->boots < BOOTS_MAX, "%s: it dies for ever", ways[c->way].name);
    }
}

static void judge(const struct course *c, uint64_t seed)
{
    struct verdict v;
    char *text, want[64];
    const char *name = ways[c->way].name;
    int guilty = oracle_judge(c->history, &v);
    harness_figure("lost", v.lost);
    ck_assert_msg(!guilty, "%s: %s; replay: ./tests/faults/run poison --seed %" PRIu64,
                  name, v.text, seed);
    ck_assert_msg(v.done == JOBS - 1 && v.dead == 1, "%s: %ld done, %ld dead", name,
                  v.done, v.dead);
    harness_read_file(c->history, &text);
    ck_assert_ptr_nonnull(strstr(text, "X pill "));
    snprintf(want, sizeof(want), " %s .\n", ways[c->way].code);
    ck_assert_msg(strstr(strstr(text, "X pill "), want) != NULL, "%s: its reason", name);
    if (strcmp(ways[c->way].code, "crash")) {
        ck_assert_int_eq(c->deaths, 0);
    } else {
        ck_assert_int_eq(c->deaths, DEATHS_MAX);
        ck_assert_ptr_nonnull(strstr(text, "# alone"));
        ck_assert_ptr_nonnull(strstr(text, "# not started: the process died 3 times"));
        ck_assert_ptr_nonnull(strstr(text, "# the breaker is open, and the application"));
    }
    free(text);
    harness_figure("pills", 1);
    harness_figure("innocents", v.done);
    harness_figure("deaths", c->deaths);
}

/* P10. A message that kills its process each time is dead after three deaths, with the reason
 * "crash"; whoever ran beside it is done; the first start after that does nothing, and says why. */
START_TEST(pill_is_found_among_forty_nine_innocents)
{
    uint64_t seed = harness_seed(1), random = seed * WAYS + (uint64_t)_i;
    for (int n = harness_full() ? SEEDS_IN_FULL : 1; n > 0; n--) {
        struct course c = {.way = _i, .at = (int)(next_random(&random) >> 8) % JOBS};
        c.at = c.at < 0 ? -c.at : c.at;
        snprintf(c.database, sizeof(c.database), "%s/%d.db", harness_tmpdir(), n);
        snprintf(c.history, sizeof(c.history), "%s.history", c.database);
        supervise(&c);
        judge(&c, seed);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("poison");
    TCase *tc = harness_case(s, "pills");
    tcase_set_timeout(tc, harness_full() ? 600 : 60);
    tcase_add_loop_test(tc, pill_is_found_among_forty_nine_innocents, 0, WAYS);
    return s;
}

int main(int argc, char **argv)
{
    if (argc == 6 && !strcmp(argv[1], "--app"))
        return be_the_app(argv[2], argv[3], argv[4], argv[5]);
    return harness_run(suite());
}
