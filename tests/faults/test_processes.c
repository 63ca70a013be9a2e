/* test_processes.c - owners, stand-bys, guests and readers of one database, each a process of its
 * own, are killed, stopped and continued by chance: nothing is lost, what is done in transactions
 * is done once, and an attempt that was given up meanwhile is refused.
 *
 * The program runs itself to be each of them.  What they do goes to a history, which the oracle of
 * the crash tests judges; what may run twice by design ("Late") is judged by its table alone. */
#include "../crash/cargo.h"
#include "../crash/tables.h"
#include "../harness/harness.h"

#include <bgmq.h>
#include <bgmq_sqlite.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOGETHER = 40, CROWD = 3000, LATE_MS = 60, TIMEOUT_MS = 20 };
/* Nobody check-points while the owner is dead or stopped, and guests go on: only from here on are
 * publishes refused. */
enum { LOG_HARD = 512 << 20 };

/* ---- what all of them share --------------------------------------------------------- */

static const char *database;
static int history;
static uint64_t random_state;
static struct bgmq *mq;

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "# process %d: %s\n", (int)getpid(), what);
    _exit(9);
}

static unsigned below(unsigned n)
{
    return (unsigned)(next_random(&random_state) >> 20) % n;
}

static void sql(sqlite3 *db, const char *text)
{
    must(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(db));
}

static sqlite3 *connect_to_it(void)
{
    sqlite3 *db;
    must(sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK,
         "sqlite3_open");
    sqlite3_busy_timeout(db, 60000);
    sqlite3_wal_autocheckpoint(db, 0);
    sql(db, "PRAGMA synchronous = NORMAL");
    return db;
}

/* A row of one text, or of two. */
static void insert(sqlite3 *db, const char *text, const char *a, const char *b)
{
    sqlite3_stmt *q = NULL;
    must(sqlite3_prepare_v2(db, text, -1, &q, NULL) == SQLITE_OK, sqlite3_errmsg(db));
    sqlite3_bind_text(q, 1, a, -1, SQLITE_STATIC);
    if (b)
        sqlite3_bind_text(q, 2, b, -1, SQLITE_STATIC);
    must(sqlite3_step(q) == SQLITE_DONE, sqlite3_errmsg(db));
    sqlite3_finalize(q);
}

static int64_t number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *q = NULL;
    must(sqlite3_prepare_v2(db, text, -1, &q, NULL) == SQLITE_OK, sqlite3_errmsg(db));
    must(sqlite3_step(q) == SQLITE_ROW, sqlite3_errmsg(db));
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

static void say_ready(void)
{
    must(write(STDOUT_FILENO, "!", 1) == 1, "write");
}

/* ---- the owner's handlers -------------------------------------------------------------- */

/* Of each worker; closed by the end of the process. */
static _Thread_local sqlite3 *mine;

static void connect_once(void)
{
    if (mine)
        return;
    mine = connect_to_it();
    must(bgmq_sqlite_prepare(mq, mine) == 0, "bgmq_sqlite_prepare");
}

static const char *begin(struct bgmq_job *job)
{
    const char *key = bgmq_job_body(job, NULL);
    history_write(history, "S %s %" PRIu64 " %u %" PRId64, key, bgmq_job_id(job),
                  bgmq_job_attempt(job), wall_ms());
    return key;
}

static int handle_plain(struct bgmq_job *job, void *ctx)
{
    uint64_t id = bgmq_job_id(job);
    const char *key = begin(job);
    int fails = id % 16 == 0 && bgmq_job_attempt(job) == 1;
    history_write(history, "%c %s %" PRIu64, fails ? 'F' : 'D', key, id);
    return fails ? BGMQ_RETRY : BGMQ_DONE;
}

static int with_effect(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    insert(db, "INSERT INTO effect VALUES(?1)", bgmq_job_body(job, NULL), NULL);
    return BGMQ_DONE;
}

static int handle_tx(struct bgmq_job *job, void *ctx)
{
    const char *key = begin(job);
    connect_once();
    int verdict = bgmq_job_transaction(job, mine, with_effect, NULL);
    history_write(history, "%c %s %" PRIu64, verdict == BGMQ_DONE ? 'Z' : 'F', key,
                  bgmq_job_id(job));
    return verdict;
}

/* Its first attempt goes on when its time is over, if not by itself then as its process was
 * stopped; what it does then is refused. */
static int handle_late(struct bgmq_job *job, void *ctx)
{
    connect_once();
    if (bgmq_job_attempt(job) == 1 && bgmq_job_id(job) % 8 == 0)
        poll(NULL, 0, LATE_MS);
    int verdict = bgmq_job_transaction(job, mine, with_effect, NULL);
    const char *code = bgmq_job_error_code(job);
    if (verdict != BGMQ_DONE && code && !strcmp(code, "BGMQ_ELOST"))
        history_write(history, "# refused");
    return verdict;
}

static void register_all(void)
{
    struct bgmq_type_options o = {
        .threads = 2, .max_attempts = 1000, .backoff = BGMQ_BACKOFF_NONE, .window = 200};
    must(bgmq_register(mq, "Plain", handle_plain, NULL, &o) == 0, "register");
    must(bgmq_register(mq, "Tx", handle_tx, NULL, &o) == 0, "register");
    o.timeout_ms = TIMEOUT_MS;
    o.stuck_ms = 1;
    must(bgmq_register(mq, "Late", handle_late, NULL, &o) == 0, "register");
}

/* ---- the processes ------------------------------------------------------------------------ */

/* Stands by until the owner has gone, and is the owner then. */
static void own(const char *round)
{
    struct bgmq_options options = {.database = database,
                                   .share_database = 1,
                                   .durability = BGMQ_COMMIT,
                                   .guests = 1,
                                   .standby_ms = 600000,
                                   .max_crashes = 255,
                                   .boot_breaker = 1000};
    struct bgmq_error error = {""};
    int err = bgmq_open(&mq, &options, &error);
    must(err == 0, error.text);
    history_write(history, "O %s", round);
    connect_once();
    sql(mine, "CREATE TABLE IF NOT EXISTS booked(key); CREATE TABLE IF NOT EXISTS"
              " effect(key); CREATE TABLE IF NOT EXISTS late(key)");
    register_all();
    must(bgmq_start(mq) == 0, "start");
    say_ready();
}

/* The application's own transactions, on a connection of its own in the owner. */
static void be_the_owner(const char *round)
{
    own(round);
    for (long n = 0;; n++) {
        char key[KEY_SIZE];
        struct bgmq_receipt receipt;
        int commits = below(5) != 0, late = below(4) == 0;
        snprintf(key, sizeof(key), "%c%s.%ld", late ? 'z' : 'o', round, n);
        if (!late)
            history_write(history, "T %s tx 0", key);
        sql(mine, "BEGIN IMMEDIATE");
        insert(mine,
               late ? "INSERT INTO late VALUES(?1)" : "INSERT INTO booked VALUES(?1)",
               key, NULL);
        must(bgmq_publish_tx(mq, mine, late ? "Late" : "Tx", key, strlen(key), NULL,
                             &receipt) == 0,
             "publish_tx");
        if (!commits && !late)
            history_write(history, "N %s", key);
        sql(mine, commits ? "COMMIT" : "ROLLBACK");
        if (commits && !late)
            history_write(history, "A %s %" PRIu64, key, receipt.id);
        struct bgmq_collection c;
        while (bgmq_type_collection(mq, "Tx", &c) == 0 && c.inq > 200)
            poll(NULL, 0, 1);
        poll(NULL, 0, 1);
    }
}

/* By SQL, many in one transaction with rows of the application. */
static void publish_by_sql(sqlite3 *db, const char *name, long n)
{
    char keys[TOGETHER][KEY_SIZE];
    int64_t ids[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) {
        snprintf(keys[i], KEY_SIZE, "g%s.%ld.%d", name, n, i);
        history_write(history, "T %s sql 0", keys[i]);
    }
    sql(db, "BEGIN IMMEDIATE");
    for (int i = 0; i < TOGETHER; i++) {
        insert(db, "INSERT INTO bgmq_inbox(type, body) VALUES(?1, ?2)", "Plain", keys[i]);
        ids[i] = sqlite3_last_insert_rowid(db);
        insert(db, "INSERT INTO booked VALUES(?1)", keys[i], NULL);
    }
    sql(db, "COMMIT");
    for (int i = 0; i < TOGETHER; i++)
        history_write(history, "A %s %" PRId64, keys[i], ids[i]);
}

static void publish_by_library(struct bgmq_guest *g, const char *name, long n)
{
    char key[KEY_SIZE];
    struct bgmq_receipt receipt;
    int len = snprintf(key, sizeof(key), "l%s.%ld", name, n);
    history_write(history, "T %s guest 0", key);
    int err = bgmq_guest_publish(
        g, "Plain", key, (size_t)len,
        &(struct bgmq_message_options){.wait_ms = 60000, .durability = BGMQ_COMMIT},
        &receipt);
    must(err == 0, bgmq_errname(err));
    history_write(history, "A %s %" PRIu64, key, receipt.id);
}

static void be_a_guest(const char *name)
{
    struct bgmq_guest *g;
    struct bgmq_error error = {""};
    must(bgmq_guest_open(&g, database, &error) == 0, error.text);
    sqlite3 *db = connect_to_it();
    say_ready();
    for (long n = 0;; n++) {
        if (below(3))
            publish_by_sql(db, name, n);
        else
            publish_by_library(g, name, n);
        while (number(db, "SELECT count(*) FROM bgmq_inbox") > CROWD)
            poll(NULL, 0, 2);
    }
}

/* As somebody with the sqlite3 shell does, and stays in a read transaction now and then. */
static void be_a_reader(void)
{
    sqlite3 *db = connect_to_it();
    say_ready();
    for (;;) {
        sql(db, "BEGIN");
        number(db, "SELECT count(*) FROM bgmq_status");
        number(db, "SELECT count(*) FROM bgmq_backlog");
        poll(NULL, 0, (int)below(30));
        sql(db, "COMMIT");
        poll(NULL, 0, (int)below(5));
    }
}

/* Handles what is left, and ends. */
static void be_the_last(const char *round)
{
    static const char *const types[] = {"Plain", "Tx", "Late"};
    uint64_t left;
    own(round);
    do {
        poll(NULL, 0, 2);
        must(bgmq_flush(mq) == 0, "flush");
        left = (uint64_t)number(mine, "SELECT count(*) FROM bgmq_inbox");
        for (int i = 0; i < 3; i++) {
            struct bgmq_collection c;
            must(bgmq_type_collection(mq, types[i], &c) == 0, "collection");
            left += c.inq + c.priorityq + c.delayed + c.running + c.dlq;
        }
    } while (left);
    must(bgmq_close(mq) == 0, "close");
    bgmq_free(mq);
    _exit(0);
}

static int be(char **argv)
{
    char path[600];
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    database = argv[2];
    snprintf(path, sizeof(path), "%s.history", database);
    history = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    must(history >= 0, "history");
    random_state = strtoull(argv[3], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
    if (!strcmp(argv[1], "--own"))
        be_the_owner(argv[3]);
    else if (!strcmp(argv[1], "--guest"))
        be_a_guest(argv[3]);
    else if (!strcmp(argv[1], "--read"))
        be_a_reader();
    else
        be_the_last(argv[3]);
    return 1;
}

/* ---- who kills them ------------------------------------------------------------------------ */

struct process {
    const char *word;
    pid_t pid;
    int out; /* "!" when it is ready */
};

static const char *const words[] = {"--own", "--own", "--guest", "--guest", "--read"};
enum { PROCESSES = sizeof(words) / sizeof(words[0]) };

struct hunt {
    char db[512];
    struct process processes[PROCESSES];
    long started, kills, pauses;
    long wal_most;
    uint64_t seed, random;
};

static struct process start(struct hunt *h, const char *word)
{
    char name[24];
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    snprintf(name, sizeof(name), "%ld", ++h->started);
    struct process p = {.word = word, .pid = fork(), .out = ends[0]};
    ck_assert_int_ge(p.pid, 0);
    if (p.pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "processes", word, h->db, name, (char *)NULL);
        _exit(98);
    }
    close(ends[1]);
    return p;
}

static void wait_ready(const struct process *p)
{
    struct pollfd fd = {.fd = p->out, .events = POLLIN};
    char byte;
    ck_assert_int_eq(poll(&fd, 1, 20000 * (int)harness_scale()), 1);
    ck_assert_msg(read(p->out, &byte, 1) == 1, "%s ended", p->word);
}

static int reap(struct process *p)
{
    int status;
    ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
    close(p->out);
    return status;
}

static void kill_it(struct hunt *h, struct process *p)
{
    ck_assert_int_eq(kill(p->pid, SIGKILL), 0);
    int status = reap(p);
    h->kills++;
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "%s ended by itself: %#x; replay: ./tests/faults/run processes --seed"
                  " %" PRIu64,
                  p->word, (unsigned)status, h->seed);
}

static unsigned roll(struct hunt *h, unsigned n)
{
    return (unsigned)(next_random(&h->random) >> 20) % n;
}

static void one_step(struct hunt *h)
{
    char wal[600];
    struct stat st;
    struct process *p = &h->processes[roll(h, PROCESSES)];
    poll(NULL, 0, 1 + (int)roll(h, 50)); /* when, and nothing else */
    if (roll(h, 3)) {
        kill_it(h, p);
        *p = start(h, p->word);
    } else {
        ck_assert_int_eq(kill(p->pid, SIGSTOP), 0);
        poll(NULL, 0, 5 + (int)roll(h, 60)); /* longer than a time-out, as a rule */
        ck_assert_int_eq(kill(p->pid, SIGCONT), 0);
        h->pauses++;
    }
    snprintf(wal, sizeof(wal), "%s-wal", h->db);
    if (stat(wal, &st) == 0 && st.st_size > h->wal_most)
        h->wal_most = st.st_size;
}

static void judge(const struct hunt *h)
{
    struct verdict v;
    char path[600], *text;
    snprintf(path, sizeof(path), "%s.history", h->db);
    sqlite3 *db = tables_open(h->db);
    tables_expect(db, "PRAGMA integrity_check", "ok");
    tables_expect(db, "SELECT count(*) FROM bgmq_inbox", "0");
    tables_tell(db, "SELECT key FROM booked", 'c', path);
    tables_tell(db, "SELECT key FROM effect WHERE key LIKE 'o%'", 'G', path);
    long late = tables_number(db, "SELECT count(*) FROM late");
    int guilty = oracle_judge(path, &v);
    harness_read_file(path, &text);
    long refused = 0;
    for (const char *at = text; (at = strstr(at, "# refused")) != NULL; at++)
        refused++;
    free(text);
    harness_figure("jobs", v.attempted + late);
    harness_figure("kills", h->kills);
    harness_figure("pauses", h->pauses);
    harness_figure("refused", refused);
    harness_figure("lost", v.lost);
    harness_figure("effects", v.effects);
    harness_figure("log_mib", h->wal_most >> 20);
    printf("# %ld owners and others, %ld done, %ld twice, %ld late\n", h->started, v.done,
           v.twice, late);
    ck_assert_msg(!guilty, "%s; replay: ./tests/faults/run processes --seed %" PRIu64,
                  v.text, h->seed);
    tables_expect(
        db, "SELECT count(*) FROM late WHERE key NOT IN (SELECT key FROM effect)", "0");
    tables_expect(db,
                  "SELECT count(*) FROM effect WHERE key LIKE 'z%' AND key NOT IN"
                  " (SELECT key FROM late)",
                  "0");
    tables_expect(db, "SELECT count(*) - count(DISTINCT key) FROM effect", "0");
    sqlite3_close(db);
    ck_assert_int_lt(h->wal_most, LOG_HARD);
}

/* A18. An attempt that was given up while its process was stopped is refused. */
START_TEST(nothing_is_lost_whoever_is_killed_or_stopped)
{
    struct hunt h = {.seed = harness_seed(1)};
    long kills = harness_full() ? 200 : harness_scale() > 1 ? 15 : 50, pauses = kills / 2;
    h.random = h.seed * 0x9e3779b97f4a7c15u + 1;
    snprintf(h.db, sizeof(h.db), "%s", harness_path("processes.db"));
    struct process first = start(&h, "--own"); /* makes it */
    wait_ready(&first);
    kill_it(&h, &first);
    for (int i = 0; i < PROCESSES; i++)
        h.processes[i] = start(&h, words[i]);
    while (h.kills < kills || h.pauses < pauses)
        one_step(&h);
    for (int i = 0; i < PROCESSES; i++)
        kill_it(&h, &h.processes[i]);
    struct process last = start(&h, "--last");
    wait_ready(&last);
    ck_assert_int_eq(reap(&last), 0);
    judge(&h);
}
END_TEST

/* ---- a stopped owner ------------------------------------------------------------------------ */

/* P9. There is one owner, and no lease: while it is stopped it is the owner still, and what it
 * runs is run by nobody else.  Guests publish meanwhile.  When it goes on it goes on with all
 * of it; when it is killed a stand-by takes over. */
START_TEST(a_stopped_owner_is_the_owner_still)
{
    struct hunt h = {.seed = 1};
    struct bgmq *other = NULL;
    struct bgmq_guest *g;
    char path[600], *text;
    snprintf(h.db, sizeof(h.db), "%s", harness_path("stopped.db"));
    struct process owner = start(&h, "--own");
    wait_ready(&owner);
    ck_assert_int_eq(bgmq_guest_open(&g, h.db, NULL), 0);
    /* Stopped between two of its transactions, or guests would have to wait for it. */
    struct bgmq_message_options quick = {.wait_ms = 50};
    int err;
    do {
        ck_assert_int_eq(kill(owner.pid, SIGCONT), 0);
        poll(NULL, 0, 3);
        ck_assert_int_eq(kill(owner.pid, SIGSTOP), 0);
        err = bgmq_guest_publish(g, "Plain", "lstopped", 8, &quick, NULL);
    } while (err == BGMQ_EBUSY);
    ck_assert_int_eq(err, 0);
    struct bgmq_options options = {
        .database = h.db, .share_database = 1, .standby_ms = 200};
    ck_assert_int_eq(bgmq_open(&other, &options, NULL), BGMQ_EOWNED);
    snprintf(path, sizeof(path), "%s.history", h.db);
    harness_read_file(path, &text);
    ck_assert_ptr_null(strstr(text, "S lstopped"));
    free(text);
    ck_assert_int_eq(kill(owner.pid, SIGCONT), 0);
    for (int seen = 0; !seen;) {
        harness_read_file(path, &text);
        seen = strstr(text, "D lstopped") != NULL;
        free(text);
        poll(NULL, 0, 1);
    }
    ck_assert_int_eq(kill(owner.pid, SIGSTOP), 0);
    kill_it(&h, &owner);
    options.standby_ms = 10000 * harness_scale();
    ck_assert_int_eq(bgmq_open(&other, &options, NULL), 0);
    bgmq_free(other);
    bgmq_guest_close(g);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("processes");
    TCase *tc = harness_case(s, "processes");
    tcase_set_timeout(tc, harness_full() ? 600 : 120);
    tcase_add_test(tc, nothing_is_lost_whoever_is_killed_or_stopped);
    tcase_add_test(tc, a_stopped_owner_is_the_owner_still);
    return s;
}

int main(int argc, char **argv)
{
    return argc == 4 ? be(argv) : harness_run(suite());
}
