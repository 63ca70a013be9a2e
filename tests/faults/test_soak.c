/* test_soak.c - everything at once for a long time, with a fault a second: a full, a slow and a
 * failing disk, signals, pauses, stops, readers, guests.  Memory, descriptors and threads stay what
 * they are, the log stays short, and nothing is lost.
 *
 *     BGMQ_SOAK_SECONDS=7200 ./tests/faults/run soak
 *
 * The application restarts its service when the store has failed, as README tells it to. */
#include "../harness/harness.h"
#include "../harness/shim_vfs.h"
#include "samples.h"

#include <bgmq.h>
#include <bgmq_sqlite.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PUBLISHERS = 3,
    RATE_MOST = 8000, /* messages a second */
    TIMED = 1 << 20,  /* publishes whose time is kept, of each publisher */
    CROWD = 1000,
    SECONDS = 60,
    SECONDS_QUICK = 4,
    WARM_LIVES = 30, /* before it is measured, in full */
    LOG_MOST = 64 << 20,
    SECONDS_LONG = 3600,
    GROWTH_KIB = 1024,
    GROWTH_SHORT_KIB = 8192, /* what is kept for the fullest moment is still to grow */
    FEW = 8
};

enum { ACCEPTED = 1, HANDLED = 2 };

struct publisher {
    pthread_t thread;
    uint64_t random;
    size_t done, timed;
    uint32_t us[TIMED];
};

static struct bgmq *mq; /* protected by LIFE */
/* Publishers come again and again: a writer among them goes first. */
static pthread_rwlock_t life = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static _Atomic int over;
static _Atomic uint32_t numbers;
static _Atomic unsigned char *state; /* by number */
static uint32_t most_numbers;
static size_t timed_each; /* the time of every so many publishes is kept */
static int look_ms;
static struct publisher publishers[PUBLISHERS];
static pthread_key_t connection; /* of a worker, closed when it ends */
static sqlite3 *app;             /* of the thread that makes the faults */
static uint64_t seed, plan;
static long lives, faults, log_most;

static uint64_t roll(uint64_t *random, uint64_t n)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (*random >> 11) % n;
}

static char path[512]; /* set once, before there are threads */

#define REPLAY "replay: ./tests/faults/run soak --seed %" PRIu64

/* ---- the application's own connections ----------------------------------------------- */

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* NULL: the disk would not have it. */
static sqlite3 *open_connection(void)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    sqlite3_busy_timeout(db, 20000);
    sqlite3_wal_autocheckpoint(db, 0);
    /* A small cache, soon full: what grows is then no cache. */
    if (rc == SQLITE_OK)
        rc = run(db, "PRAGMA cache_spill = OFF; PRAGMA cache_size = 16");
    if (rc == SQLITE_OK)
        return db;
    sqlite3_close(db);
    return NULL;
}

static void close_connection(void *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static long number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
    long n = (long)sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

/* ---- handlers -------------------------------------------------------------------------- */

static void note(struct bgmq_job *job)
{
    unsigned long n = strtoul(bgmq_job_body(job, NULL), NULL, 10);
    atomic_fetch_or(&state[n], HANDLED);
}

static int handle_plain(struct bgmq_job *job, void *ctx)
{
    if (bgmq_job_id(job) % 16 == 0 && bgmq_job_attempt(job) == 1)
        return bgmq_job_fail(job, BGMQ_RETRY, "Soak", "the first time");
    note(job);
    return BGMQ_DONE;
}

static int with_effect(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    char sql[96];
    snprintf(sql, sizeof(sql), "INSERT INTO effect VALUES(%.20s)",
             (const char *)bgmq_job_body(job, NULL));
    return run(db, sql) == SQLITE_OK ? BGMQ_DONE : BGMQ_RETRY;
}

static int handle_tx(struct bgmq_job *job, void *ctx)
{
    sqlite3 *db = pthread_getspecific(connection);
    if (!db) {
        db = open_connection();
        if (!db)
            return BGMQ_RETRY;
        ck_assert_int_eq(pthread_setspecific(connection, db), 0);
    }
    int verdict = bgmq_job_transaction(job, db, with_effect, NULL);
    if (verdict == BGMQ_DONE)
        note(job);
    return verdict;
}

/* ---- the service ------------------------------------------------------------------------ */

static void quiet(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)level, (void)text; /* the faults are ours */
}

static void open_service(void)
{
    struct bgmq_error error = {""};
    struct bgmq_options options = {.database = path,
                                   .share_database = 1,
                                   .guests = 1,
                                   .publish_timeout_ms = 2000,
                                   .log = quiet};
    struct bgmq_type_options type = {.threads = 2,
                                     .max_attempts = 1000,
                                     .backoff = BGMQ_BACKOFF_FIXED,
                                     .backoff_base_ms = 5,
                                     .window = 200};
    int err = bgmq_open(&mq, &options, &error);
    ck_assert_msg(err == 0, "open: %s: %s", bgmq_errname(err), error.text);
    ck_assert_int_eq(bgmq_register(mq, "Plain", handle_plain, NULL, &type), 0);
    ck_assert_int_eq(bgmq_register(mq, "Tx", handle_tx, NULL, &type), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    lives++;
}

static void close_service(void)
{
    int err;
    while ((err = bgmq_close(mq)) == BGMQ_EBUSY) {
        /* a handler waits for a lock */
    }
    ck_assert_int_eq(err, 0);
    bgmq_free(mq);
}

static void open_anew(void)
{
    pthread_rwlock_wrlock(&life);
    close_service();
    open_service();
    pthread_rwlock_unlock(&life);
}

/* Opens it anew when the store has failed for good. */
static void mend(void)
{
    int err = bgmq_start(mq);
    ck_assert(err == 0 || err == BGMQ_ESTORE);
    if (err)
        open_anew();
}

/* ---- publishers ------------------------------------------------------------------------- */

static int is_crowded(const char *type)
{
    struct bgmq_collection c;
    return bgmq_type_collection(mq, type, &c) == 0 && c.inq + c.delayed > CROWD;
}

static void publish(struct publisher *p, uint32_t n)
{
    static const enum bgmq_durability levels[] = {BGMQ_COMMIT, BGMQ_COMMIT, BGMQ_DISK};
    char body[256] = {0};
    const char *type = roll(&p->random, 8) ? "Plain" : "Tx";
    struct bgmq_message_options options = {.durability = levels[roll(&p->random, 3)],
                                           .priority = (int)roll(&p->random, 2)};
    if (roll(&p->random, 16) == 0)
        options.delay_ms = 1 + (int64_t)roll(&p->random, 20);
    snprintf(body, sizeof(body), "%" PRIu32, n);
    pthread_rwlock_rdlock(&life);
    int64_t begin = harness_now();
    int err = bgmq_publish(mq, type, body, sizeof(body), &options, NULL);
    int64_t took = harness_now() - begin;
    int crowded = is_crowded(type);
    pthread_rwlock_unlock(&life);
    if (p->done++ % timed_each == 0 && p->timed < TIMED)
        p->us[p->timed++] = (uint32_t)(took / 1000);
    if (!err)
        atomic_fetch_or(&state[n], ACCEPTED);
    else
        ck_assert_msg(err == BGMQ_EBUSY || err == BGMQ_EFULL || err == BGMQ_EUNCERTAIN ||
                          err == BGMQ_ESTORE,
                      "publish: %s; " REPLAY, bgmq_errname(err), seed);
    if (err || crowded)
        poll(NULL, 0, 2);
}

static void *publish_on(void *arg)
{
    struct publisher *p = arg;
    while (!atomic_load(&over)) {
        uint32_t n = atomic_fetch_add(&numbers, 1);
        if (n >= most_numbers)
            break;
        publish(p, n);
    }
    return NULL;
}

/* ---- faults ------------------------------------------------------------------------------ */

static void full_disk(void)
{
    shim_vfs_arm(&(struct shim_fault){
        .calls = SHIM_WRITE, .files = SHIM_WAL, .kind = SHIM_FULL, .nth = 1});
    poll(NULL, 0, 150);
    shim_vfs_disarm();
}

static void slow_disk(void)
{
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_SYNC,
                                      .files = SHIM_ANY,
                                      .kind = SHIM_SLOW,
                                      .nth = 1,
                                      .delay_ms = 40});
    poll(NULL, 0, 200);
    shim_vfs_disarm();
}

static void fail_once(enum shim_call call, unsigned files)
{
    shim_vfs_arm(&(struct shim_fault){
        .calls = call, .files = files, .kind = SHIM_IOERR, .nth = 1, .times = 1});
    poll(NULL, 0, 60);
    shim_vfs_disarm();
}

static void failed_write(void)
{
    fail_once(SHIM_WRITE, SHIM_WAL);
}

static void failed_sync(void)
{
    fail_once(SHIM_SYNC, SHIM_ANY);
}

static void failed_read(void)
{
    fail_once(SHIM_READ, SHIM_ANY);
}

static void signals(void)
{
    for (int i = 0; i < 50; i++)
        kill(getpid(), i % 2 ? SIGUSR1 : SIGHUP);
}

static void pause_all(void)
{
    ck_assert_int_eq(bgmq_pause(mq, "Plain"), 0);
    ck_assert_int_eq(bgmq_pause(mq, "Tx"), 0);
    poll(NULL, 0, 50);
    ck_assert_int_eq(bgmq_resume(mq, "Plain"), 0);
    ck_assert_int_eq(bgmq_resume(mq, "Tx"), 0);
}

static void stop_and_start(void)
{
    int err = bgmq_stop(mq, 100);
    ck_assert(err == 0 || err == BGMQ_EBUSY);
    poll(NULL, 0, 20);
    ck_assert_int_eq(bgmq_start(mq), 0);
}

static void long_reader(void)
{
    ck_assert_int_eq(run(app, "BEGIN"), SQLITE_OK);
    number(app, "SELECT count(*) FROM effect");
    poll(NULL, 0, 250);
    ck_assert_int_eq(run(app, "COMMIT"), SQLITE_OK);
}

static void long_writer(void)
{
    ck_assert_int_eq(run(app, "BEGIN IMMEDIATE"), SQLITE_OK);
    poll(NULL, 0, 200);
    ck_assert_int_eq(run(app, "COMMIT"), SQLITE_OK);
}

static void guests(void)
{
    char sql[128];
    enum { ROWS = 200 };
    uint32_t first = atomic_fetch_add(&numbers, ROWS);
    if (first >= most_numbers - ROWS || run(app, "BEGIN IMMEDIATE") != SQLITE_OK)
        return;
    int rc = SQLITE_OK;
    for (uint32_t n = first; rc == SQLITE_OK && n < first + ROWS; n++) {
        snprintf(sql, sizeof(sql),
                 "INSERT INTO bgmq_inbox(type, body) VALUES('%s', '%" PRIu32 "')",
                 n % 8 ? "Plain" : "Tx", n);
        rc = run(app, sql);
    }
    rc = rc == SQLITE_OK ? run(app, "COMMIT") : rc;
    for (uint32_t n = first; rc == SQLITE_OK && n < first + ROWS; n++)
        atomic_fetch_or(&state[n], ACCEPTED);
    if (rc != SQLITE_OK)
        run(app, "ROLLBACK");
}

static void more_and_fewer_threads(void)
{
    ck_assert_int_eq(bgmq_set_threads(mq, "Plain", 4), 0);
    poll(NULL, 0, 20);
    ck_assert_int_eq(bgmq_set_threads(mq, "Plain", 2), 0);
}

static void (*const kinds[])(void) = {
    full_disk,   slow_disk,   failed_write, failed_sync,
    failed_read, signals,     pause_all,    stop_and_start,
    long_reader, long_writer, guests,       more_and_fewer_threads};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* Of the publishes from A to B, in quarters of all of them. */
static long p99_us(size_t a, size_t b)
{
    static long all[PUBLISHERS * TIMED];
    size_t n = 0;
    for (int i = 0; i < PUBLISHERS; i++) {
        const struct publisher *p = &publishers[i];
        size_t from = p->timed * a / 4, to = p->timed * b / 4;
        while (from < to)
            all[n++] = p->us[from++];
    }
    ck_assert_uint_gt(n, 0);
    qsort(all, n, sizeof(all[0]), samples_by_number);
    return all[n * 99 / 100];
}

/* ---- the end ----------------------------------------------------------------------------- */

static uint64_t left(void)
{
    static const char *const types[] = {"Plain", "Tx"};
    uint64_t n = (uint64_t)number(app, "SELECT count(*) FROM bgmq_inbox");
    for (int i = 0; i < 2; i++) {
        struct bgmq_collection c;
        ck_assert_int_eq(bgmq_type_collection(mq, types[i], &c), 0);
        n += c.inq + c.priorityq + c.delayed + c.running + c.dlq;
    }
    return n;
}

static void judge(void)
{
    long lost = 0, accepted = 0, twice;
    int64_t deadline = harness_now() + INT64_C(60000000000) * harness_scale();
    while (left() && harness_now() < deadline) {
        mend(); /* what the last fault did may show only now */
        poll(NULL, 0, 2);
    }
    ck_assert_msg(!left(), "%" PRIu64 " messages are left; " REPLAY, left(), seed);
    for (uint32_t i = 0; i < most_numbers; i++) {
        unsigned char s = atomic_load(&state[i]);
        accepted += (s & ACCEPTED) != 0;
        lost += (s & ACCEPTED) && !(s & HANDLED);
    }
    twice = number(app, "SELECT count(*) - count(DISTINCT n) FROM effect");
    harness_figure("messages", accepted);
    harness_figure("lost", lost);
    harness_figure("effects", twice);
    ck_assert_msg(!lost && !twice, "%ld lost, %ld effects too many; " REPLAY, lost, twice,
                  seed);
}

/* What the process held, and how long its publishers waited. */
static void tell(long seconds)
{
    for (size_t q = 0; q < 4; q++)
        printf("# quarter %zu: %ld KiB, %ld of them in use on the heap, %ld descriptors, "
               "%ld threads, p99 %ld us\n",
               q, samples_middle(SAMPLE_KIB, q), samples_middle(SAMPLE_HEAP_KIB, q),
               samples_middle(SAMPLE_FDS, q), samples_middle(SAMPLE_THREADS, q),
               p99_us(q, q + 1));
    printf("# %ld lives\n", lives);
    fflush(stdout);
    harness_figure("faults", faults);
    harness_figure("growth_kib", samples_more(SAMPLE_KIB));
    harness_figure("heap_more_kib", samples_more(SAMPLE_HEAP_KIB));
    harness_figure("fds_more", samples_more(SAMPLE_FDS));
    harness_figure("threads_more", samples_more(SAMPLE_THREADS));
    harness_figure("log_mib", log_most >> 20);
    harness_figure("p99_us", p99_us(0, 4));
    harness_figure("p99_percent", 100 * p99_us(2, 4) / p99_us(0, 2));
    ck_assert_int_lt(log_most, LOG_MOST);
    /* A quarter of a few seconds shows what its own faults do. */
    long few = seconds < SECONDS ? FEW : 0;
    ck_assert_msg(samples_more(SAMPLE_FDS) <= few, "%ld descriptors more; " REPLAY,
                  samples_more(SAMPLE_FDS), seed);
    ck_assert_msg(samples_more(SAMPLE_THREADS) <= few, "%ld threads more; " REPLAY,
                  samples_more(SAMPLE_THREADS), seed);
    if (HARNESS_ASAN || HARNESS_TSAN)
        return;
    ck_assert_msg(samples_more(SAMPLE_HEAP_KIB) <= GROWTH_KIB,
                  "the heap grew by %ld KiB; " REPLAY, samples_more(SAMPLE_HEAP_KIB),
                  seed);
    ck_assert_msg(samples_more(SAMPLE_KIB) <=
                      (seconds < SECONDS_LONG ? GROWTH_SHORT_KIB : GROWTH_KIB),
                  "memory grew by %ld KiB; " REPLAY, samples_more(SAMPLE_KIB), seed);
}

static void ignore(int number)
{
    (void)number;
}

static void watch_log(void)
{
    char name[600];
    struct stat st;
    snprintf(name, sizeof(name), "%s-wal", path);
    if (stat(name, &st) == 0 && st.st_size > log_most)
        log_most = st.st_size;
}

/* One fault each TURN_MS, and a look at what the process holds in between. */
static void make_faults(int64_t until, int turn_ms)
{
    for (size_t i = 0; harness_now() < until; i++) {
        int64_t next = harness_now() + turn_ms * INT64_C(1000000);
        kinds[i < KINDS ? i : roll(&plan, KINDS)]();
        faults++;
        mend();
        while (harness_now() < next) {
            samples_take();
            watch_log();
            poll(NULL, 0, look_ms);
        }
    }
}

/* What the allocator keeps for the next service grows for some twenty of them, a step at a time. */
static void warm_up(int wanted)
{
    for (int i = 0; i < wanted; i++) {
        kinds[i % KINDS]();
        faults++;
        open_anew();
    }
}

static void begin(long seconds)
{
    most_numbers = (uint32_t)(seconds + 60) * RATE_MOST;
    timed_each = 1 + (size_t)seconds / 600;
    look_ms = 20 + (int)(seconds * 1000 / SAMPLES_MOST);
    state = malloc(most_numbers);
    ck_assert_ptr_nonnull(state);
    struct sigaction act = {.sa_handler = ignore};
    ck_assert_int_eq(sigaction(SIGUSR1, &act, NULL), 0);
    ck_assert_int_eq(sigaction(SIGHUP, &act, NULL), 0);
    ck_assert_int_eq(pthread_key_create(&connection, close_connection), 0);
    shim_vfs_install();
    memset(publishers, 1,
           sizeof(publishers)); /* memory of the test is there from now on */
    memset(publishers, 0, sizeof(publishers));
    samples_begin();
    memset((void *)state, 0, most_numbers);
    snprintf(path, sizeof(path), "%s", harness_path("soak.db"));
    seed = harness_seed(1);
    plan = seed * 0x9e3779b97f4a7c15u + 1;
    open_service();
    app = open_connection();
    ck_assert_ptr_nonnull(app);
    ck_assert_int_eq(run(app, "CREATE TABLE effect(n)"), SQLITE_OK);
    for (int i = 0; i < PUBLISHERS; i++) {
        publishers[i].random = (seed + (uint64_t)i) * 0x9e3779b97f4a7c15u + 77;
        publishers[i].thread = harness_thread(publish_on, &publishers[i]);
    }
}

START_TEST(a_fault_a_second_leaves_nothing_behind)
{
    const char *text = getenv("BGMQ_SOAK_SECONDS");
    long seconds = text && *text    ? strtol(text, NULL, 10)
                   : harness_full() ? SECONDS
                                    : SECONDS_QUICK;
    int turn_ms = seconds < SECONDS ? (int)(seconds * 1000 / (KINDS + 2)) : 1000;
    /* Each one keeps what was freed in it; ASan has an allocator of its own. */
    ck_assert(HARNESS_ASAN || mallopt(M_ARENA_MAX, 2));
    begin(seconds);
    warm_up(seconds < SECONDS ? 2 : WARM_LIVES);
    make_faults(harness_now() + INT64_C(1000000000) * seconds, turn_ms);
    atomic_store(&over, 1);
    for (int i = 0; i < PUBLISHERS; i++)
        harness_join(publishers[i].thread);
    ck_assert_msg(atomic_load(&numbers) < most_numbers && !samples_full(),
                  "it went on for longer than it looked");
    judge();
    close_service();
    close_connection(app);
    shim_vfs_remove();
    pthread_key_delete(connection);
    tell(seconds);
    free(state);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("soak");
    TCase *tc = harness_case(s, "soak");
    tcase_set_timeout(tc, harness_full() ? 36000 : 120);
    tcase_add_test(tc, a_fault_a_second_leaves_nothing_behind);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
