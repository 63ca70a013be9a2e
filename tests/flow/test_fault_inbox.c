/* test_fault_inbox.c - rows of bgmq_inbox on their way, when memory is refused to any thread of
 * the library: each allocation once, in its turn, and all of them until there is memory again.
 * Each row comes, whole and once.
 *
 * One counter goes through the memory of the library, of SQLite and of jansson.  The test's own
 * thread, which also is the other program that writes the rows, is spared. */
#include "flow.h"
#include "scarce.h"

#include "service.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- which allocation is refused ----------------------------------------------------- */

static _Atomic long met, from; /* allocations, and the first to be refused; 0: none is */
static _Atomic bool for_good;  /* and all that follow */
static _Atomic long refusals;

static bool refuse(void)
{
    long first = atomic_load(&from), n = first ? atomic_fetch_add(&met, 1) + 1 : 0;
    if (n == 0 || n < first || (n > first && !atomic_load(&for_good)))
        return false;
    atomic_fetch_add(&refusals, 1);
    return true;
}

static void setup(void)
{
    scarce_spared = 1;
    scarce_setup(refuse);
    scarce_sqlite(refuse);
}

static void arm(long n, bool all)
{
    atomic_store(&from, 0);
    atomic_store(&met, 0);
    atomic_store(&refusals, 0);
    atomic_store(&for_good, all);
    atomic_store(&from, n);
}

/* ---- rows and what becomes of them ------------------------------------------------------ */

#define FIRST_ID INT64_C(4503599627370496)

/* What is long stands on pages of its own, and without the NUL that is added when it is asked for:
 * a body and a meta so long have no room for that in what SQLite takes by eights. */
enum { BIG = 9005, LONG_VALUE = 4035, DELAY_MS = 150 };

/* The first letter of a body says which row it is.  The last one comes when all others have run. */
enum { PLAIN, TEXT, META, PRIORITY, DELAYED, KEY, CHANNEL, NEW, FIRST_BY_ID, GOOD };
static const char letters[] = "ptmidkcnf";

static _Atomic int runs[GOOD];
static _Atomic int wrong; /* rows that came with something of them missing */

static bool has(const char *got, const char *want)
{
    return got && strcmp(got, want) == 0;
}

/* The meta of a row: a short value, and one that SQLite keeps on pages of its own. */
static bool has_meta(const struct bgmq_job *job)
{
    const char *value = bgmq_job_meta(job, "long");
    return has(bgmq_job_meta(job, "a key of some length"), "a value of some length") &&
           value && strlen(value) == LONG_VALUE;
}

static bool is_whole(const struct bgmq_job *job, int row)
{
    size_t len;
    bgmq_job_body(job, &len);
    switch (row) {
    case TEXT:
        return len == BIG + 1;
    case META:
        return has_meta(job) && has(bgmq_job_tag(job), "tag") &&
               has(bgmq_job_traceparent(job), "trace") && bgmq_job_max_attempts(job) == 7;
    case PRIORITY:
        return has_meta(job) && bgmq_job_priority(job) == 9;
    case DELAYED:
        return has_meta(job);
    case CHANNEL:
        return has(bgmq_job_channel(job), "eu");
    default:
        return len == 1;
    }
}

/* Takes no memory, and asserts nothing, as that would. */
static int note(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    size_t len;
    const char *body = bgmq_job_body(job, &len), *at = memchr(letters, body[0], GOOD);
    if (!at) {
        atomic_fetch_add(&wrong, 1);
        return BGMQ_DONE;
    }
    int row = (int)(at - letters);
    if (!is_whole(job, row))
        atomic_fetch_add(&wrong, 1 << row);
    atomic_fetch_add(&runs[row], 1);
    return BGMQ_DONE;
}

static int run_rows(void)
{
    int n = 0;
    for (int i = 0; i < GOOD; i++)
        n += atomic_load(&runs[i]) > 0;
    return n;
}

/* ---- a service, and another program's connection ----------------------------------------- */

static struct fake_clock fake;
static const struct clock *clock_used = &fake.clock; /* or the system's */
static sqlite3 *db;

static void sql(const char *text)
{
    ck_assert_msg(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", text,
                  sqlite3_errmsg(db));
}

static long in_inbox(void)
{
    return flow_sql("SELECT count(*) FROM bgmq_inbox");
}

static long refused_rows(void)
{
    return flow_sql("SELECT count(*) FROM bgmq_inbox WHERE refused LIKE '%meta%'"
                    " AND body = 'x'");
}

static void insert_rows(void)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "BEGIN;"
             "CREATE TEMP TABLE m AS SELECT json_object('a key of some length',"
             "  'a value of some length', 'long', substr(hex(zeroblob(%d)), 1, %d)) AS j;"
             "INSERT INTO bgmq_inbox(type, body) VALUES('T', 'p'),"
             " ('T', 't' || substr(hex(zeroblob(%d)), 1, %d)), ('New', 'n');"
             "INSERT INTO bgmq_inbox(type, body, meta, tag, traceparent, max_attempts,"
             "  timeout, expires) SELECT 'T', 'm', j, 'tag', 'trace', 7, 100000,"
             "  9000000000000 FROM m;"
             "INSERT INTO bgmq_inbox(type, body, meta, priority)"
             " SELECT 'T', 'i', j, 9 FROM m;"
             "INSERT INTO bgmq_inbox(type, body, meta, run_at)"
             " SELECT 'T', 'd', j, %lld FROM m;"
             "INSERT INTO bgmq_inbox(type, body, unique_key) VALUES('T', 'k', 'key');"
             "INSERT INTO bgmq_inbox(type, body, channel) VALUES('T', 'c', 'eu');"
             "INSERT INTO bgmq_inbox(type, body, meta) VALUES('T', 'x', 'no json');"
             "DROP TABLE m;"
             "COMMIT",
             LONG_VALUE, LONG_VALUE, BIG, BIG,
             (long long)clock_wall_ms(clock_used) + DELAY_MS);
    sql(text);
}

/* Ids below what it gives stay free for rows that come to stand before all others. */
static void make_database(void)
{
    flow_close(flow_open(1));
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    char text[128];
    snprintf(text, sizeof(text),
             "INSERT INTO bgmq_inbox(id, type, body) VALUES(%lld, 'T', 'x');"
             "DELETE FROM bgmq_inbox",
             (long long)FIRST_ID + 1000000);
    sql(text);
    sqlite3_close(db);
}

static struct bgmq *open_service(void)
{
    struct bgmq *mq = NULL;
    OK(bgmqi_service_open(&mq, &SERVICE(.database = flow_database(), .share_database = 1),
                          clock_used, NULL));
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    OK(bgmq_sqlite_prepare(mq, db));
    OK(bgmq_register(mq, "T", note, NULL,
                     &TYPE(.any_channel = 1, .window = 2, .no_outq = 1)));
    OK(bgmq_register(mq, "New", note, NULL, NULL));
    return mq;
}

static bool is_dead(struct bgmq *mq)
{
    return flow_counters(mq).store_state == 3;
}

static void close_service(struct bgmq *mq)
{
    sqlite3_close(db);
    if (is_dead(mq))
        bgmq_close(mq);
    else
        OK(bgmq_close(mq));
    bgmq_free(mq);
}

/* Lets some of the service's time go by.  Its ticker is told of that, and of nothing else. */
static void let_pass(struct bgmq *mq)
{
    if (clock_used != &fake.clock)
        return;
    fake_clock_advance(&fake, 50);
    bgmqi_ticker_poke(mq->ticker);
}

/* Until all are taken over, or the store has failed for good; false: they never are. */
static bool let_take(struct bgmq *mq)
{
    int64_t deadline = harness_deadline();
    while (flow_counters(mq).inbox < GOOD - 1 && !is_dead(mq) &&
           harness_now() < deadline) {
        let_pass(mq);
        harness_pause(INT64_MAX, "the taking over", __FILE__, __LINE__);
    }
    return flow_counters(mq).inbox >= GOOD - 1 || is_dead(mq);
}

/* Until N rows have run; false: they never do. */
static bool let_run(struct bgmq *mq, int n)
{
    int64_t deadline = harness_deadline();
    while (run_rows() < n && !is_dead(mq) && harness_now() < deadline) {
        let_pass(mq);
        harness_pause(INT64_MAX, "the rows", __FILE__, __LINE__);
    }
    return run_rows() >= n;
}

/* The shortage goes on for a while, on the real clock until it was met, or until the store has
 * failed for good. */
static void let_lack(struct bgmq *mq)
{
    bool real = clock_used == &bgmqi_clock_system;
    for (int i = 0; (i < 40 || (real && atomic_load(&refusals) < 2)) && !is_dead(mq);
         i++) {
        let_pass(mq);
        harness_pause(INT64_MAX, "the shortage", __FILE__, __LINE__);
    }
    atomic_store(&from, 0);
}

static void forget_runs(void)
{
    for (int i = 0; i < GOOD; i++)
        atomic_store(&runs[i], 0);
}

static const char *told_runs(void)
{
    static char text[128];
    size_t at = 0;
    for (int i = 0; i < GOOD; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%c:%d ", letters[i],
                               atomic_load(&runs[i]));
    return text;
}

/* What a store that failed for good has left. */
static struct bgmq *go_on_if_dead(struct bgmq *mq, bool *died)
{
    *died = is_dead(mq);
    if (!*died)
        return mq;
    close_service(mq);
    mq = open_service();
    OK(bgmq_start(mq));
    return mq;
}

/* Nothing is thought to be on its way: else a row that comes to stand before all others is never
 * seen. */
static void insert_before_all(struct bgmq *mq, long n)
{
    char text[128];
    snprintf(text, sizeof(text),
             "INSERT INTO bgmq_inbox(id, type, body) VALUES(%lld, 'T', 'f')",
             (long long)FIRST_ID + n);
    sql(text);
    ck_assert_msg(let_run(mq, GOOD), "%ld: %s", n, told_runs());
}

/* Rows come with allocation N refused, or (ALL) all from it on for a while.  Returns how many
 * were. */
static long play(long n, bool all)
{
    bool died;
    forget_runs();
    struct bgmq *mq = open_service();
    arm(n, all);
    insert_rows();
    if (all)
        let_lack(mq);
    /* Most of them have no place in memory, and are loaded. */
    ck_assert_msg(let_take(mq), "%ld: %llu are taken over", n,
                  (unsigned long long)flow_counters(mq).inbox);
    OK(bgmq_start(mq));
    let_run(mq, GOOD - 1);
    long refused = atomic_load(&refusals);
    arm(0, false);
    mq = go_on_if_dead(mq, &died);
    ck_assert_msg(let_run(mq, GOOD - 1), "%ld: %s", n, told_runs());
    ck_assert_msg(!atomic_load(&wrong), "%ld: %x", n, (unsigned)atomic_load(&wrong));
    for (int i = 0; i < GOOD - 1; i++)
        ck_assert_msg(atomic_load(&runs[i]) == 1 || died, "%ld: %s", n, told_runs());
    insert_before_all(mq, n);
    WAIT_UNTIL(refused_rows() == 1);
    sql("DELETE FROM bgmq_inbox WHERE refused IS NOT NULL");
    ck_assert_int_eq(in_inbox(), 0);
    close_service(mq);
    ck_assert_int_eq(flow_rows(), 0);
    return refused;
}

/* P5. */
START_TEST(row_that_finds_no_memory_is_taken_later)
{
    long n = 1;
    fake_clock_init(&fake, clock_wall_ms(&bgmqi_clock_system));
    make_database();
    while (play(n, false) > 0)
        n += harness_step();
    ck_assert_int_gt(n, 50);
    fake_clock_fini(&fake);
}
END_TEST

/* P5. */
START_TEST(rows_that_find_no_memory_for_long_are_taken_when_there_is_some)
{
    long n = 1;
    fake_clock_init(&fake, clock_wall_ms(&bgmqi_clock_system));
    make_database();
    while (play(n, true) > 0)
        n += 12 * harness_step();
    ck_assert_int_gt(n, 50);
    fake_clock_fini(&fake);
}
END_TEST

/* Nobody says that there is memory again: the service finds out. */
START_TEST(service_goes_on_by_itself_when_there_is_memory_again)
{
    clock_used = &bgmqi_clock_system;
    make_database();
    ck_assert_int_gt(play(1, true), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_inbox");
    TCase *tc = flow_case(s, "memory");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, row_that_finds_no_memory_is_taken_later);
    tcase_add_test(tc, rows_that_find_no_memory_for_long_are_taken_when_there_is_some);
    tcase_add_test(tc, service_goes_on_by_itself_when_there_is_memory_again);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
