/* test_mix.c - kill -9, again and again, while everything goes on at once on one database that
 * the application shares: delays, expiry, unique keys, the application's transactions, guests,
 * cursors, operators, clean stops.
 *
 * One process after the other (mixer.c) is killed at a random moment, aborts in a handler, or ends
 * well, and is started again on the same file (loop.c; there is said how to replay a plan).  The
 * last one drains it; then the oracle judges the history they all wrote (oracle.c), and the tables
 * have to agree with it. */
#include "../harness/harness.h"
#include "loop.h"
#include "mixer.h"
#include "oracle.h"
#include "tables.h"

#include <stdio.h>
#include <string.h>

static const struct loop_kills kills = {.quick = 100, .slow = 40, .full = 500};

static void end_well(struct loop *l, const char *what)
{
    struct process p = loop_start(l, what, 0);
    loop_wait_ready(l, p);
    loop_expect_end(l, p, 3 * loop_patience());
}

static void one_owner(struct loop *l)
{
    uint64_t kind = loop_random(l) % 40;
    if (kind < 4)
        loop_crash_in_handler(l, MIXER_WORK);
    else if (kind < 8)
        loop_exit_in_handler(l, MIXER_WORK);
    else if (kind < 11)
        loop_kill_early(l, MIXER_WORK);
    else if (kind < 13) {
        loop_kill_early(l, MIXER_WORK);
        loop_kill_early(l, MIXER_WORK);
    } else if (kind < 15)
        loop_kill_unless_ended(l, MIXER_STOP);
    else if (kind < 17)
        end_well(l, MIXER_STOP);
    else if (kind < 18)
        end_well(l, MIXER_DRAIN);
    else
        loop_kill_at_random(l, MIXER_WORK);
}

/* Sometimes a guest publishes beside the owner, and after its death; it may be killed too. */
static void one_round(struct loop *l)
{
    int with_guest = loop_random(l) % 4 == 0;
    int spared = loop_random(l) % 2 == 0;
    struct process guest = {.pid = -1};
    if (with_guest)
        guest = loop_start_beside(l, "--guest", 10);
    one_owner(l);
    if (with_guest && spared)
        loop_expect_end(l, guest, 3 * loop_patience());
    else if (with_guest)
        loop_kill_now(l, guest);
}

/* ---- the end -------------------------------------------------------------------- */

static void expect_empty_and_whole(const struct loop *l)
{
    sqlite3 *db = tables_open(l->db);
    tables_expect(db, "PRAGMA integrity_check", "ok");
    tables_expect(db, "SELECT count(*) FROM bgmq_job", "0");
    tables_expect(db, "SELECT count(*) FROM bgmq_backlog", "0");
    tables_expect(db, "SELECT count(*) FROM bgmq_inbox", "0");
    tables_expect(db, "SELECT count(*) FROM bgmq_unique WHERE scope <> 3", "0");
    tables_expect(db, "SELECT count(*) FROM bgmq_progress", "0");
    tables_expect(db,
                  "SELECT count(*) FROM (SELECT 1 FROM failed GROUP BY id, run"
                  " HAVING count(*) > 1)",
                  "0");
    tables_expect(db,
                  "SELECT count(*) FROM effect WHERE id NOT IN (SELECT id FROM"
                  " bgmq_history WHERE outcome = 'done')",
                  "0");
    tables_expect(db,
                  "SELECT count(*) FROM bgmq_history h JOIN bgmq_type t ON t.id = h.type"
                  " WHERE t.name IN ('Tx', 'Sink') AND outcome = 'done'"
                  " AND h.id NOT IN (SELECT id FROM effect)",
                  "0");
    tables_expect(db,
                  "SELECT count(*) FROM (SELECT 1 FROM bgmq_history"
                  " WHERE outcome <> 'dead' GROUP BY id HAVING count(*) > 1)",
                  "0");
    tables_expect(db,
                  "SELECT count(*) FROM bgmq_error WHERE id NOT IN"
                  " (SELECT id FROM bgmq_history)",
                  "0");
    sqlite3_close(db);
}

/* What the tables say goes to the end of the history. */
static void tell_tables(const struct loop *l)
{
    sqlite3 *db = tables_open(l->db);
    tables_tell(db, "SELECT name FROM booked", 'c', l->history);
    tables_tell(db, "SELECT name FROM effect", 'G', l->history);
    tables_tell(db,
                "SELECT id || ' ' || finished FROM bgmq_history"
                " WHERE outcome = 'discarded'",
                'h', l->history);
    sqlite3_close(db);
}

static void expect_innocent(struct loop *l)
{
    struct verdict v;
    int guilty = oracle_judge(l->history, &v);
    fprintf(
        stderr,
        "# %ld rounds (%ld crashes, %ld exits, %ld early), seed %llu: %ld published, %ld "
        "acknowledged, %ld starts, %ld done, %ld dead, %ld twice\n"
        "# %ld replaced, %ld with a key, %ld walks, %ld given back; dead: %ld expired, "
        "%ld by crashes, %ld cancelled; %ld deleted, %ld ends forgotten\n",
        l->round, l->crashes, l->exits, l->early, (unsigned long long)l->seed,
        v.attempted, v.acked, v.started, v.done, v.dead, v.twice, v.replaced, v.kept_keys,
        v.walks, v.given_back, v.expired, v.crashed, v.cancelled, v.deleted, v.forgotten);
    oracle_figures(&v, l->deaths);
    ck_assert_msg(!guilty, "%s; " LOOP_REPLAY, v.text, (unsigned long long)l->seed);
    ck_assert_msg(v.failed_publishes == 0, "%ld publishes failed, the first: %s",
                  v.failed_publishes, v.refusal);
    ck_assert_msg(v.acked > l->kills, "hardly anything happened: %ld messages", v.acked);
}

START_TEST(nothing_is_lost_doubled_or_invented_whatever_goes_on_when_it_is_killed)
{
    struct loop l;
    loop_begin(&l, "--mixer", &kills);
    while (l.round < l.kills)
        one_round(&l);
    end_well(&l, MIXER_END);
    tell_tables(&l);
    expect_innocent(&l);
    expect_empty_and_whole(&l);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mix");
    TCase *tc = harness_case(s, "mixed work and kill -9");
    tcase_set_timeout(tc, harness_full() ? 1200 : 280);
    tcase_add_test(
        tc, nothing_is_lost_doubled_or_invented_whatever_goes_on_when_it_is_killed);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "--mixer"))
        return mixer_main(argc - 2, argv + 2);
    if (argc > 2 && !strcmp(argv[1], "--guest"))
        return mixer_guest_main(argc - 2, argv + 2);
    return harness_run(suite());
}
