/* test_guest_kill.c - guests and the owner are killed at random, again and again, on one database;
 * in the end every message that a guest was told is committed has been handled.
 *
 * The program runs itself to be a guest or the owner.  What they do goes to a history, which the
 * oracle judges. */
#include "../harness/harness.h"
#include "cargo.h"
#include "loop.h"
#include "oracle.h"

#include <bgmq_sqlite.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GUESTS = 3, EACH = 1 << 14 };
static const struct loop_kills kills = {.quick = 40, .slow = 20, .full = 200};

/* ---- the other processes ---------------------------------------------------------- */

static int history_of(const char *database)
{
    char path[600];
    snprintf(path, sizeof(path), "%s.history", database);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Publishes "NAME.0", "NAME.1" ... until it is killed. */
static int be_a_guest(const char *database, const char *name)
{
    int history = history_of(database);
    struct bgmq_guest *g;
    struct bgmq_error error = {""};
    if (history < 0 || bgmq_guest_open(&g, database, &error)) {
        fprintf(stderr, "guest: %s\n", error.text);
        return 1;
    }
    for (int i = 0; i < EACH; i++) {
        char key[KEY_SIZE];
        struct bgmq_receipt receipt;
        int len = snprintf(key, sizeof(key), "l%s.%d", name, i);
        history_write(history, "T %s guest 0", key);
        int err = bgmq_guest_publish(g, "T", key, (size_t)len, NULL, &receipt);
        if (err && err != BGMQ_EBUSY) {
            fprintf(stderr, "guest: publish: %s\n", bgmq_errname(err));
            return 3;
        }
        if (err)
            history_write(history, "E %s %s", key, bgmq_errname(err));
        else
            history_write(history, "A %s %" PRIu64, key, receipt.id);
    }
    return 0;
}

static int write_down(struct bgmq_job *job, void *ctx)
{
    const char *key = bgmq_job_body(job, NULL);
    uint64_t id = bgmq_job_id(job);
    history_write(*(int *)ctx, "S %s %" PRIu64 " %u %" PRId64, key, id,
                  bgmq_job_attempt(job), wall_ms());
    history_write(*(int *)ctx, "D %s %" PRIu64, key, id);
    return BGMQ_DONE;
}

static struct bgmq *own(const char *database, const char *round, int *history)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    *history = history_of(database);
    history_write(*history, "O %s", round);
    /* Deaths are what this is about: none of them makes anything suspicious. */
    struct bgmq_options options = {.database = database,
                                   .guests = 1,
                                   .standby_ms = 10000,
                                   .max_crashes = 255,
                                   .boot_breaker = 1000};
    if (bgmq_open(&mq, &options, &error) ||
        bgmq_register(mq, "T", write_down, history,
                      &(struct bgmq_type_options){
                          .threads = 2, .max_attempts = 1000, .window = 50}) ||
        bgmq_start(mq)) {
        fprintf(stderr, "owner: %s\n", error.text);
        return NULL;
    }
    return mq;
}

static int be_the_owner(const char *database, const char *round)
{
    int history;
    if (!own(database, round, &history))
        return 1;
    for (;;)
        pause();
}

/* ---- the rounds -------------------------------------------------------------------- */

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

static pid_t start_owner(struct loop *l)
{
    char round[24];
    snprintf(round, sizeof(round), "%ld", ++l->round);
    return start("--own", l->db, round);
}

static pid_t start_guest(const struct loop *l, long number)
{
    char name[24];
    snprintf(name, sizeof(name), "%ld", number);
    return start("--guest", l->db, name);
}

static void kill_all(struct loop *l)
{
    long guests = 0;
    pid_t owner = start_owner(l), pids[GUESTS];
    for (int i = 0; i < GUESTS; i++)
        pids[i] = start_guest(l, guests++);
    for (long i = 0; i < l->kills; i++) {
        poll(NULL, 0,
             1 + (int)(loop_random(l) % 60)); /* when to kill, and nothing else */
        uint64_t who = loop_random(l) % (GUESTS + 1);
        kill_it(who == GUESTS ? owner : pids[who]);
        if (who == GUESTS)
            owner = start_owner(l);
        else
            pids[who] = start_guest(l, guests++);
    }
    for (int i = 0; i < GUESTS; i++)
        kill_it(pids[i]);
    kill_it(owner);
}

START_TEST(what_a_guest_was_told_is_handled)
{
    struct loop l;
    struct verdict v;
    int history;
    loop_begin(&l, "--guest", &kills);
    struct bgmq *mq = own(l.db, "0", &history); /* makes it */
    ck_assert_ptr_nonnull(mq);
    bgmq_free(mq);
    close(history);
    kill_all(&l);
    mq = own(l.db, "1000000", &history);
    ck_assert_ptr_nonnull(mq);
    WAIT_UNTIL(unfinished(l.db) == 0);
    bgmq_free(mq);
    close(history);
    snprintf(l.history, sizeof(l.history), "%.500s.history", l.db);
    int guilty = oracle_judge(l.history, &v);
    printf("# %ld tried, %ld told, %ld handled, %ld twice\n", v.attempted, v.acked,
           v.done, v.twice);
    oracle_figures(&v, l.kills);
    ck_assert_msg(!guilty, "%s; " LOOP_REPLAY, v.text, (unsigned long long)l.seed);
    ck_assert_int_gt(v.acked, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("guest_kill");
    TCase *tc = harness_case(s, "kills");
    tcase_set_timeout(tc, harness_full() ? 1200 : 120);
    tcase_add_test(tc, what_a_guest_was_told_is_handled);
    return s;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--guest"))
        return be_a_guest(argv[2], argv[3]);
    if (argc == 4 && !strcmp(argv[1], "--own"))
        return be_the_owner(argv[2], argv[3]);
    return harness_run(suite());
}
