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
#include "victim.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum { KILLS = 200, KILLS_WHEN_SLOW = 40 };

static void drain(struct loop *l)
{
    struct process p = loop_start(l, VICTIM_DRAIN, 0);
    loop_wait_ready(l, p);
    loop_expect_end(l, p, 3 * loop_patience());
}

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
    ck_assert_msg(!guilty, "%s; replay: BGMQ_KILLS=%ld BGMQ_SEED=%llu", v.text, l->kills,
                  (unsigned long long)l->seed);
    ck_assert_msg(v.failed_publishes == 0, "%ld publishes failed, the first: %s",
                  v.failed_publishes, v.refusal);
    ck_assert_msg(v.acked > l->kills, "hardly anything happened: %ld messages", v.acked);
}

START_TEST(nothing_is_lost_however_often_it_is_killed)
{
    struct loop l;
    loop_begin(&l, "--victim", harness_scale() > 1 ? KILLS_WHEN_SLOW : KILLS);
    for (long i = 0; i < l.kills; i++) {
        uint64_t kind = loop_random(&l) % 20;
        if (kind < 2)
            loop_abort_in_handler(&l, VICTIM_WORK);
        else if (kind < 4)
            loop_kill_early(&l, VICTIM_WORK);
        else
            loop_kill_at_random(&l, VICTIM_WORK);
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
