/* test_kill.c - kill -9, again and again, on one database: whatever was acknowledged is handled
 * in the end, and nothing is handled that was never published.
 *
 * One process after the other publishes and handles (victim.c), is killed at a random moment or
 * aborts in a handler, and is started again on the same file (loop.c; there is said how to replay
 * a plan).  The last one drains it; then the oracle judges the history they all wrote
 * (oracle.c). */
#include "../harness/harness.h"
#include "loop.h"
#include "oracle.h"
#include "tables.h"
#include "victim.h"

#include <bgmq.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct loop_kills kills = {.quick = 100, .slow = 40, .full = 1500};

static void drain(struct loop *l)
{
    struct process p = loop_start(l, VICTIM_DRAIN, 0);
    loop_wait_ready(l, p);
    loop_expect_end(l, p, 3 * loop_patience());
}

static void expect_empty_and_whole(const char *path)
{
    sqlite3 *db = tables_open(path);
    tables_expect(db, "PRAGMA integrity_check", "ok");
    tables_expect(db, "SELECT count(*) FROM bgmq_job", "0");
    tables_expect(db, "SELECT count(*) FROM bgmq_backlog", "0");
    tables_expect(db, "SELECT count(*) FROM bgmq_unique", "0");
    sqlite3_close(db);
}

static void expect_innocent(struct loop *l)
{
    struct verdict v;
    int guilty = oracle_judge(l->history, &v);
    fprintf(
        stderr,
        "# %ld kills (%ld crashes, %ld exits, %ld early), seed %llu: %ld published, %ld "
        "acknowledged, "
        "%ld starts, %ld done, %ld dead, %ld twice\n",
        l->kills, l->crashes, l->exits, l->early, (unsigned long long)l->seed,
        v.attempted, v.acked, v.started, v.done, v.dead, v.twice);
    oracle_figures(&v, l->deaths);
    ck_assert_msg(!guilty, "%s; " LOOP_REPLAY, v.text, (unsigned long long)l->seed);
    ck_assert_msg(v.failed_publishes == 0, "%ld publishes failed, the first: %s",
                  v.failed_publishes, v.refusal);
    ck_assert_msg(v.acked > l->kills, "hardly anything happened: %ld messages", v.acked);
}

START_TEST(nothing_is_lost_however_often_it_is_killed)
{
    struct loop l;
    loop_begin(&l, "--victim", &kills);
    for (long i = 0; i < l.kills; i++) {
        uint64_t kind = loop_random(&l) % 20;
        if (kind < 2)
            loop_crash_in_handler(&l, VICTIM_WORK);
        else if (kind < 4)
            loop_exit_in_handler(&l, VICTIM_WORK);
        else if (kind < 6)
            loop_kill_early(&l, VICTIM_WORK);
        else
            loop_kill_at_random(&l, VICTIM_WORK);
    }
    drain(&l);
    expect_innocent(&l);
    expect_empty_and_whole(l.db);
}
END_TEST

/* ---- how long a replay takes ------------------------------------------------------ */

enum { ROWS = 100000, TOGETHER = 1000, TRIES = 3 };

/* Accepts ROWS messages, and dies. */
static int fill(const char *path)
{
    struct bgmq *mq;
    static struct bgmq_item items[TOGETHER];
    struct bgmq_options options = {.database = path, .durability = BGMQ_COMMIT};
    for (int i = 0; i < TOGETHER; i++)
        items[i] =
            (struct bgmq_item){.type = "T", .body = "a hundred thousand", .len = 18};
    if (bgmq_open(&mq, &options, NULL))
        return 1;
    for (int i = 0; i < ROWS; i += TOGETHER)
        if (bgmq_publish_many(mq, items, TOGETHER, NULL))
            return 2;
    _exit(0);
}

/* Milliseconds until all is found again. */
static long replay(const char *path)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        execl("/proc/self/exe", "crash", "--fill", path, (char *)NULL);
        _exit(98);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    struct bgmq *mq;
    struct bgmq_collection c;
    int64_t begin = harness_now();
    ck_assert_int_eq(bgmq_open(&mq, &(struct bgmq_options){.database = path}, NULL), 0);
    long took = (long)((harness_now() - begin) / 1000000);
    ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
    ck_assert_uint_eq(c.inq, ROWS);
    bgmq_free(mq);
    return took;
}

/* The best of a few, as the machine may be busy. */
START_TEST(replay_of_a_hundred_thousand_takes_less_than_a_second)
{
    long best = LONG_MAX;
    for (int i = 0; i < TRIES; i++) {
        char name[16];
        snprintf(name, sizeof(name), "replay%d.db", i);
        long took = replay(harness_path(name));
        best = took < best ? took : best;
        if (best < 1000)
            break;
    }
    harness_figure("replay_ms", best);
    ck_assert_int_lt(best, 1000 * (long)harness_scale());
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kill");
    TCase *tc = harness_case(s, "kill -9");
    tcase_set_timeout(tc, harness_full() ? 1200 : 280);
    tcase_add_test(tc, nothing_is_lost_however_often_it_is_killed);
    tcase_add_test(tc, replay_of_a_hundred_thousand_takes_less_than_a_second);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "--victim"))
        return victim_main(argc - 2, argv + 2);
    if (argc == 3 && !strcmp(argv[1], "--fill"))
        return fill(argv[2]);
    return harness_run(suite());
}
