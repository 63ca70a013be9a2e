/* test_kill.c - kill -9, again and again, on one database: whatever was acknowledged is handled
 * in the end, and nothing is handled that was never published.
 *
 * One process after the other publishes and handles (victim.c), is killed at a random moment or
 * aborts in a handler, and is started again on the same file.  The last one drains it; then the
 * oracle judges the history they all wrote (oracle.c).
 *
 *     BGMQ_KILLS=2000 BGMQ_SEED=7 BGMQ_CRASH_DIR=. crash_test_kill
 *
 * replays the plan of seed 7, and leaves database and history in that directory; the moments of
 * the kills depend on the machine as well. */
#include "../harness/harness.h"
#include "oracle.h"
#include "victim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 200, KILLS_WHEN_SLOW = 40 };

struct loop {
    const char *db, *history;
    uint64_t seed, random;
    long kills, round;
    long aborts, early; /* how many of the kills were of which kind */
};

static uint64_t next_random(struct loop *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random;
}

static long number_of(const char *variable, long otherwise)
{
    const char *text = getenv(variable);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

/* ---- one victim ----------------------------------------------------------------- */

struct process {
    pid_t pid;
    int fd; /* "!" when it begins, end of file when it is dead */
};

static void become_victim(const struct loop *l, int fd, const char *what, long abort_at)
{
    char round[24], seed[24], at[24];
    snprintf(round, sizeof(round), "%ld", l->round);
    snprintf(seed, sizeof(seed), "%llu",
             (unsigned long long)(l->seed + (uint64_t)l->round));
    snprintf(at, sizeof(at), "%ld", abort_at);
    if (dup2(fd, VICTIM_READY_FD) < 0)
        _exit(97);
    execl("/proc/self/exe", "victim", "--victim", l->db, l->history, round, seed, at,
          what, (char *)NULL);
    _exit(98);
}

static struct process start(struct loop *l, const char *what, long abort_at)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    l->round++;
    struct process p = {.pid = fork(), .fd = ends[0]};
    ck_assert_int_ge(p.pid, 0);
    if (p.pid == 0)
        become_victim(l, ends[1], what, abort_at);
    close(ends[1]);
    return p;
}

/* 1: it said "!"; 0: it is dead; -1: neither within MS. */
static int hear(struct process p, int ms)
{
    struct pollfd fd = {.fd = p.fd, .events = POLLIN};
    int r;
    do
        r = poll(&fd, 1, ms);
    while (r < 0 && errno == EINTR);
    char byte;
    return r == 0 ? -1 : (int)read(p.fd, &byte, 1);
}

static int reap(struct process p)
{
    int status = 0;
    ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
    close(p.fd);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Ends P and fails the test unless it ended by SIGNAL. */
static void expect_death(struct loop *l, struct process p, int by)
{
    kill(p.pid, SIGKILL);
    int status = reap(p);
    ck_assert_msg(status == -by || status == -SIGKILL,
                  "round %ld ended by itself with %d (seed %llu)", l->round, status,
                  (unsigned long long)l->seed);
}

static int patience(void)
{
    return 20000 * (int)harness_scale();
}

static void wait_ready(struct loop *l, struct process p)
{
    int heard = hear(p, patience());
    if (heard == 1)
        return;
    kill(p.pid, SIGKILL);
    int status = reap(p);
    ck_abort_msg("round %ld did not begin: %s, %d (seed %llu)", l->round,
                 heard ? "silent" : "dead", status, (unsigned long long)l->seed);
}

/* ---- rounds --------------------------------------------------------------------- */

/* Killed while it opens and recovers, or soon after. */
static void kill_early(struct loop *l)
{
    l->early++;
    struct process p = start(l, VICTIM_WORK, 0);
    hear(p, (int)(next_random(l) % 12));
    expect_death(l, p, SIGKILL);
}

static void kill_at_random(struct loop *l)
{
    struct process p = start(l, VICTIM_WORK, 0);
    wait_ready(l, p);
    hear(p, (1 + (int)(next_random(l) % 60)) * (harness_scale() > 1 ? 3 : 1));
    expect_death(l, p, SIGKILL);
}

static void abort_in_handler(struct loop *l)
{
    l->aborts++;
    struct process p = start(l, VICTIM_WORK, 1 + (long)(next_random(l) % 60));
    while (hear(p, patience()) == 1) {
        /* It has begun; the replayed may have started, and aborted, even before. */
    }
    expect_death(l, p, SIGABRT);
}

static void drain(struct loop *l)
{
    struct process p = start(l, VICTIM_DRAIN, 0);
    wait_ready(l, p);
    int heard = hear(p, 3 * patience());
    if (heard)
        kill(p.pid, SIGKILL);
    int status = reap(p);
    ck_assert_msg(status == 0, "the last process did not drain: %d (seed %llu)", status,
                  (unsigned long long)l->seed);
}

/* ---- the end -------------------------------------------------------------------- */

static void expect_answer(sqlite3 *db, const char *sql, const char *want)
{
    sqlite3_stmt *query;
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &query, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(query), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(query, 0), want);
    sqlite3_finalize(query);
}

static void expect_empty_and_whole(const char *path)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    expect_answer(db, "PRAGMA integrity_check", "ok");
    expect_answer(db, "SELECT count(*) FROM bgmq_job", "0");
    expect_answer(db, "SELECT count(*) FROM bgmq_backlog", "0");
    expect_answer(db, "SELECT count(*) FROM bgmq_unique", "0");
    sqlite3_close(db);
}

static void expect_innocent(struct loop *l)
{
    struct verdict v;
    int guilty = oracle_judge(l->history, &v);
    fprintf(stderr,
            "# %ld kills (%ld aborts, %ld early), seed %llu: %ld published, %ld "
            "acknowledged, "
            "%ld starts, %ld done, %ld dead, %ld twice\n",
            l->kills, l->aborts, l->early, (unsigned long long)l->seed, v.attempted,
            v.acked, v.started, v.done, v.dead, v.twice);
    ck_assert_msg(
        !guilty,
        "lost %ld, phantom %ld, early %ld, mangled %ld, reused ids %ld, torn "
        "batches %ld, repeated %ld, uncounted %ld, responses missing %ld; first: "
        "%s; replay: BGMQ_KILLS=%ld BGMQ_SEED=%llu",
        v.lost, v.phantom, v.early, v.mangled, v.reused_ids, v.torn_batches, v.repeated,
        v.uncounted, v.orphans, v.first, l->kills, (unsigned long long)l->seed);
    ck_assert_msg(v.failed_publishes == 0, "%ld publishes failed, the first: %s",
                  v.failed_publishes, v.refusal);
    ck_assert_msg(v.acked > l->kills, "hardly anything happened: %ld messages", v.acked);
}

START_TEST(nothing_is_lost_however_often_it_is_killed)
{
    char db[512], history[512];
    const char *dir = getenv("BGMQ_CRASH_DIR");
    dir = dir && *dir ? dir : harness_tmpdir();
    snprintf(db, sizeof(db), "%s/kill.db", dir);
    snprintf(history, sizeof(history), "%s/history", dir);
    struct loop l = {
        .db = db,
        .history = history,
        .seed = (uint64_t)number_of("BGMQ_SEED", (long)(time(NULL) % 1000000)),
        .kills = number_of("BGMQ_KILLS", harness_scale() > 1 ? KILLS_WHEN_SLOW : KILLS),
    };
    l.random = l.seed * 0x9e3779b97f4a7c15u + 1;
    for (long i = 0; i < l.kills; i++) {
        uint64_t kind = next_random(&l) % 20;
        if (kind < 2)
            abort_in_handler(&l);
        else if (kind < 4)
            kill_early(&l);
        else
            kill_at_random(&l);
    }
    drain(&l);
    expect_innocent(&l);
    expect_empty_and_whole(l.db);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kill");
    TCase *tc = harness_case(s, "kill -9");
    tcase_set_timeout(tc, 280);
    tcase_add_test(tc, nothing_is_lost_however_often_it_is_killed);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "--victim"))
        return victim_main(argc - 2, argv + 2);
    return harness_run(suite());
}
