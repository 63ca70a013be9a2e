/* test_guest_kill.c - guests and the owner are killed at random, again and again, on one database;
 * in the end every message that a guest was told is committed has been handled.
 *
 * The program runs itself to be a guest or the owner.  What they do they write down in files beside
 * the database, a line at a time: a guest before and after each publish, the owner in its handler.
 * The seed is printed; BGMQ_SEED=N BGMQ_KILLS=N run it again. */
#include "../harness/harness.h"

#include <bgmq_sqlite.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GUESTS = 3, EACH = 1 << 14, ROUNDS = 40, ROUNDS_MAX = 4000 };

/* ---- the other processes ---------------------------------------------------------- */

static int append_to(const char *database, const char *end)
{
    char path[600];
    snprintf(path, sizeof(path), "%s.%s", database, end);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Publishes "NAME 0", "NAME 1" ... until it is killed. */
static int be_a_guest(const char *database, const char *name)
{
    int tried = append_to(database, "tried"), told = append_to(database, "told");
    struct bgmq_guest *g;
    struct bgmq_error error = {""};
    if (tried < 0 || told < 0 || bgmq_guest_open(&g, database, &error)) {
        fprintf(stderr, "guest: %s\n", error.text);
        return 1;
    }
    for (int i = 0; i < EACH; i++) {
        char line[40];
        int len = snprintf(line, sizeof(line), "%s %d\n", name, i);
        if (write(tried, line, (size_t)len) != len)
            return 2;
        int err = bgmq_guest_publish(g, "T", line, (size_t)len, NULL, NULL);
        if (err && err != BGMQ_EBUSY) {
            fprintf(stderr, "guest: publish: %s\n", bgmq_errname(err));
            return 3;
        }
        if (!err && write(told, line, (size_t)len) != len)
            return 4;
    }
    return 0;
}

static int write_down(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    return write(*(int *)ctx, body, len) == (ssize_t)len ? BGMQ_DONE : BGMQ_PERMANENT;
}

static struct bgmq *own(const char *database, int *handled)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    *handled = append_to(database, "handled");
    /* Deaths are what this is about: none of them makes anything suspicious. */
    struct bgmq_options options = {.database = database,
                                   .guests = 1,
                                   .standby_ms = 10000,
                                   .max_crashes = 255,
                                   .boot_breaker = 1000};
    if (bgmq_open(&mq, &options, &error) ||
        bgmq_register(mq, "T", write_down, handled,
                      &(struct bgmq_type_options){
                          .threads = 2, .max_attempts = 1000, .window = 50}) ||
        bgmq_start(mq)) {
        fprintf(stderr, "owner: %s\n", error.text);
        return NULL;
    }
    return mq;
}

static int be_the_owner(const char *database)
{
    int handled;
    if (!own(database, &handled))
        return 1;
    for (;;)
        pause();
}

/* ---- the oracle -------------------------------------------------------------------- */

/* What a file says of message I of guest G, in a bit each. */
static unsigned char (*seen)[EACH];
enum { TRIED = 1, TOLD = 2, HANDLED = 4 };

static long read_lines(const char *database, const char *end, unsigned char bit, size_t n)
{
    char path[600];
    snprintf(path, sizeof(path), "%s.%s", database, end);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    long lines = 0;
    size_t guest, number;
    /* A line cut short by a kill would be of a write that a file system does in two: none is. */
    while (fscanf(f, "%zu %zu\n", &guest, &number) == 2) {
        ck_assert(guest < n && number < EACH);
        seen[guest][number] |= bit;
        lines++;
    }
    ck_assert(feof(f));
    fclose(f);
    return lines;
}

static void check(const char *database, size_t n)
{
    seen = calloc(n, sizeof(*seen));
    ck_assert_ptr_nonnull(seen);
    long tried = read_lines(database, "tried", TRIED, n);
    long told = read_lines(database, "told", TOLD, n);
    long handled = read_lines(database, "handled", HANDLED, n);
    printf("# %ld tried, %ld told, %ld handled\n", tried, told, handled);
    ck_assert_int_gt(told, 0);
    for (size_t g = 0; g < n; g++)
        for (size_t i = 0; i < EACH; i++) {
            ck_assert_msg(!(seen[g][i] & TOLD) || seen[g][i] & HANDLED,
                          "message %zu of guest %zu is lost", i, g);
            ck_assert_msg(!(seen[g][i] & HANDLED) || seen[g][i] & TRIED,
                          "message %zu of guest %zu is nobody's", i, g);
        }
    free(seen);
}

/* ---- the rounds -------------------------------------------------------------------- */

static unsigned random_state;

static unsigned draw(unsigned n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 16) % n;
}

static pid_t start(const char *what, const char *database, const char *name)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        execl("/proc/self/exe", "test_guest_kill", what, database, name, (char *)NULL);
        _exit(98);
    }
    return pid;
}

static void kill_it(pid_t pid)
{
    int status;
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "status %x",
                  (unsigned)status);
}

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static size_t unfinished(const char *database)
{
    struct bgmq_guest *g;
    char *text = NULL;
    ck_assert_int_eq(bgmq_guest_open(&g, database, NULL), 0);
    ck_assert_int_eq(bgmq_guest_status(g, &text), 0);
    size_t waiting = 1, delayed = 0, dead = 0, inbox = 0;
    sscanf(text, "T: %zu waiting, %zu delayed, %zu dead, %zu in the inbox", &waiting,
           &delayed, &dead, &inbox);
    free(text);
    bgmq_guest_close(g);
    ck_assert_uint_eq(dead, 0);
    return waiting + delayed + inbox;
}

START_TEST(what_a_guest_was_told_is_handled)
{
    const char *database = harness_path("kill.db");
    long rounds = from_environment("BGMQ_KILLS", ROUNDS);
    ck_assert(rounds > 0 && rounds < ROUNDS_MAX);
    random_state =
        (unsigned)from_environment("BGMQ_SEED", (long)(harness_now() & 0xffff));
    printf("# BGMQ_SEED=%u BGMQ_KILLS=%ld\n", random_state, rounds);
    int handled;
    struct bgmq *mq = own(database, &handled); /* makes it */
    ck_assert_ptr_nonnull(mq);
    bgmq_free(mq);
    close(handled);
    size_t guests = 0;
    pid_t owner = start("--own", database, NULL), pids[GUESTS];
    for (int i = 0; i < GUESTS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%zu", guests++);
        pids[i] = start("--guest", database, name);
    }
    for (long i = 0; i < rounds; i++) {
        poll(NULL, 0, 1 + (int)draw(60)); /* when to kill, and nothing else */
        unsigned who = draw(GUESTS + 1);
        if (who == GUESTS) {
            kill_it(owner);
            owner = start("--own", database, NULL);
            continue;
        }
        char name[16];
        snprintf(name, sizeof(name), "%zu", guests++);
        kill_it(pids[who]);
        pids[who] = start("--guest", database, name);
    }
    for (int i = 0; i < GUESTS; i++)
        kill_it(pids[i]);
    kill_it(owner);
    mq = own(database, &handled);
    ck_assert_ptr_nonnull(mq);
    WAIT_UNTIL(unfinished(database) == 0);
    bgmq_free(mq);
    close(handled);
    check(database, guests);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("guest_kill");
    TCase *tc = harness_case(s, "kills");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, what_a_guest_was_told_is_handled);
    return s;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--guest"))
        return be_a_guest(argv[2], argv[3]);
    if (argc == 3 && !strcmp(argv[1], "--own"))
        return be_the_owner(argv[2]);
    return harness_run(suite());
}
