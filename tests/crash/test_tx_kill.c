/* test_tx_kill.c - kill -9 over transactions: a process books orders and publishes them in one
 * transaction, and its handlers note their effect in another.  Whatever moment it is killed at, in
 * the end each order that was booked has taken effect once, and no other has. */
#include "../harness/harness.h"
#include "cargo.h"
#include "loop.h"
#include "oracle.h"
#include "tables.h"

#include <bgmq_sqlite.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HANDLERS = 3, TOGETHER = 4 };
static const struct loop_kills kills = {.quick = 60, .slow = 20, .full = 300};

#define WORD  "--clerk"
#define WORK  "work"
#define DRAIN "drain"

/* ---- the process that is killed ------------------------------------------------------ */

/* Each worker has a connection of its own. */
static _Thread_local sqlite3 *mine;
static _Thread_local uint64_t random_state;
static const char *path;
static int history;
static struct bgmq *mq;

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "clerk: %s: %s\n", what, mine ? sqlite3_errmsg(mine) : "");
    _exit(9);
}

static unsigned roll(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

static void sql(const char *text)
{
    must(sqlite3_exec(mine, text, NULL, NULL, NULL) == SQLITE_OK, text);
}

static void connect_once(uint64_t seed)
{
    if (mine)
        return;
    must(sqlite3_open_v2(path, &mine, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK, "open");
    sqlite3_busy_timeout(mine, 60000);
    random_state = seed;
    sql("PRAGMA synchronous = NORMAL");
    must(bgmq_sqlite_prepare(mq, mine) == 0, "bgmq_sqlite_prepare");
}

static void insert(const char *table, const char *key)
{
    char text[200];
    snprintf(text, sizeof(text), "INSERT INTO %s VALUES('%s')", table, key);
    sql(text);
}

static int note_effect(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    insert("effect", bgmq_job_body(job, NULL));
    return roll(4) ? BGMQ_DONE : BGMQ_RETRY;
}

static void tell(struct bgmq_job *job, char letter)
{
    history_write(history, "%c %s %" PRIu64, letter,
                  (const char *)bgmq_job_body(job, NULL), bgmq_job_id(job));
}

static int handle(struct bgmq_job *job, void *ctx)
{
    connect_once(bgmq_job_id(job));
    history_write(history, "S %s %" PRIu64 " %u %" PRId64,
                  (const char *)bgmq_job_body(job, NULL), bgmq_job_id(job),
                  bgmq_job_attempt(job), wall_ms());
    switch (roll(6)) {
    case 0:
        sql("BEGIN IMMEDIATE");
        insert("effect", bgmq_job_body(job, NULL));
        must(bgmq_job_complete_tx(job, mine) == 0, "complete");
        sql("ROLLBACK");
        tell(job, 'F');
        return BGMQ_RETRY;
    case 1:
        sql("BEGIN IMMEDIATE");
        insert("failed", bgmq_job_body(job, NULL));
        must(bgmq_job_fail_tx(job, mine, BGMQ_RETRY, "Failed", "by chance") == 0, "fail");
        tell(job, 'F'); /* another worker may have it as soon as this is committed */
        sql("COMMIT");
        return BGMQ_DONE;
    default: {
        int verdict = bgmq_job_transaction(job, mine, note_effect, NULL);
        tell(job, verdict == BGMQ_DONE ? 'Z' : 'F');
        return verdict;
    }
    }
}

static uint64_t publish(const char *key)
{
    struct bgmq_message_options o = {.priority = roll(3) ? 0 : 1 + (int)roll(3),
                                     .delay_ms = roll(3) ? 0 : roll(20)};
    struct bgmq_receipt receipt;
    history_write(history, "T %s tx %" PRId64, key,
                  o.delay_ms ? wall_ms() + o.delay_ms : 0);
    int err = bgmq_publish_tx(mq, mine, "Order", key, strlen(key), &o, &receipt);
    must(err == 0, bgmq_errname(err));
    return receipt.id;
}

static int work(const char *round)
{
    must(write(LOOP_READY_FD, "!", 1) == 1, "write");
    for (long n = 0;; n++) {
        char keys[TOGETHER][KEY_SIZE];
        uint64_t ids[TOGETHER];
        unsigned most = 1 + roll(TOGETHER);
        int commits = roll(5) != 0;
        sql("BEGIN IMMEDIATE");
        for (unsigned i = 0; i < most; i++) {
            snprintf(keys[i], KEY_SIZE, "o%s.%ld.%u", round, n, i);
            insert("booked", keys[i]);
            ids[i] = publish(keys[i]);
        }
        if (!commits)
            for (unsigned i = 0; i < most; i++)
                history_write(history, "N %s", keys[i]);
        sql(commits ? "COMMIT" : "ROLLBACK");
        for (unsigned i = 0; commits && i < most; i++)
            history_write(history, "A %s %" PRIu64, keys[i], ids[i]);
        struct bgmq_collection c;
        while (bgmq_type_collection(mq, "Order", &c) == 0 && c.inq > 300)
            poll(NULL, 0, 1);
    }
    return 0;
}

static int drain(void)
{
    struct bgmq_collection c;
    must(write(LOOP_READY_FD, "!", 1) == 1, "write");
    do {
        poll(NULL, 0, 2);
        must(bgmq_flush(mq) == 0, "flush");
        must(bgmq_type_collection(mq, "Order", &c) == 0, "collection");
    } while (c.inq + c.priorityq + c.delayed + c.running);
    must(bgmq_close(mq) == 0, "close");
    bgmq_free(mq);
    return 0;
}

static int clerk(int argc, char **argv)
{
    static const struct bgmq_type_options type = {.threads = HANDLERS,
                                                  .max_attempts = 1000,
                                                  .backoff = BGMQ_BACKOFF_FIXED,
                                                  .backoff_base_ms = 1,
                                                  .window = 16};
    if (argc != 6)
        return 2;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    path = argv[0];
    history = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    must(history >= 0, "history");
    history_write(history, "O %s", argv[2]);
    struct bgmq_options options = {.database = path,
                                   .share_database = 1,
                                   .durability = BGMQ_BEHIND,
                                   .max_crashes = 255,
                                   .boot_breaker = 1000};
    struct bgmq_error error = {""};
    int err = bgmq_open(&mq, &options, &error);
    must(err == 0, error.text);
    connect_once(strtoull(argv[3], NULL, 10));
    sql("CREATE TABLE IF NOT EXISTS booked(key); CREATE TABLE IF NOT EXISTS effect(key);"
        "CREATE TABLE IF NOT EXISTS failed(key)");
    err = bgmq_register(mq, "Order", handle, NULL, &type);
    err = err ? err : bgmq_start(mq);
    must(err == 0, bgmq_errname(err));
    return strcmp(argv[5], DRAIN) ? work(argv[2]) : drain();
}

/* ---- the test ---------------------------------------------------------------------- */

static void expect_innocent(const struct loop *l)
{
    struct verdict v;
    sqlite3 *db = tables_open(l->db);
    tables_tell(db, "SELECT key FROM booked", 'c', l->history);
    tables_tell(db, "SELECT key FROM effect", 'G', l->history);
    fprintf(stderr,
            "# %ld kills, seed %" PRIu64 ": %ld booked, %ld effects, %ld failures\n",
            l->kills, l->seed, tables_number(db, "SELECT count(*) FROM booked"),
            tables_number(db, "SELECT count(*) FROM effect"),
            tables_number(db, "SELECT count(*) FROM failed"));
    int guilty = oracle_judge(l->history, &v);
    oracle_figures(&v, l->deaths);
    ck_assert_msg(!guilty, "%s; " LOOP_REPLAY, v.text, (unsigned long long)l->seed);
    ck_assert_int_gt(v.acked, l->kills);
    tables_expect(db,
                  "SELECT (SELECT count(*) FROM bgmq_job)"
                  " + (SELECT count(*) FROM bgmq_backlog)",
                  "0");
    /* By themselves, whatever the history says. */
    tables_expect(
        db, "SELECT count(*) FROM booked WHERE key NOT IN (SELECT key FROM effect)", "0");
    tables_expect(
        db, "SELECT count(*) FROM effect WHERE key NOT IN (SELECT key FROM booked)", "0");
    tables_expect(db, "SELECT count(*) - count(DISTINCT key) FROM effect", "0");
    sqlite3_close(db);
}

START_TEST(each_booked_order_takes_effect_once)
{
    struct loop l;
    loop_begin(&l, WORD, &kills);
    for (long i = 0; i < l.kills; i++)
        if (loop_random(&l) % 8 == 0)
            loop_kill_early(&l, WORK);
        else
            loop_kill_at_random(&l, WORK);
    struct process p = loop_start(&l, DRAIN, 0);
    loop_wait_ready(&l, p);
    loop_expect_end(&l, p, 6 * loop_patience());
    expect_innocent(&l);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tx_kill");
    TCase *tc = harness_case(s, "kill -9");
    tcase_set_timeout(tc, harness_full() ? 1200 : 280);
    tcase_add_test(tc, each_booked_order_takes_effect_once);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], WORD))
        return clerk(argc - 2, argv + 2);
    return harness_run(suite());
}
