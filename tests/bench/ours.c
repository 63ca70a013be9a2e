/* ours.c - the bench scenarios on bgmq, by its public header only.  tests/bench/run
 * starts it: ours SCENARIO name=value...  Must do what a user would do, with no tuning of
 * its own. */
#include "bench.h"

#include <bgmq.h>
#include <bgmq_sqlite.h>
#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct bgmq *mq;
static uint64_t per_thread;
static int64_t *times; /* of each publish or wake */

static int read_body(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    bench_tally(bench_read(body, len));
    return BGMQ_DONE;
}

/* The body begins with the time of its publish and the place for the answer. */
static int note_wake(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    int64_t now = bench_now(), stamp[2];
    memcpy(stamp, bgmq_job_body(job, NULL), sizeof(stamp));
    times[stamp[1]] = now - stamp[0];
    bench_tally(0);
    return BGMQ_DONE;
}

static void open_service(const struct bgmq_options *options, bgmq_handler_fn *handler,
                         const struct bgmq_type_options *type)
{
    struct bgmq_error error = {""};
    if (bgmq_open(&mq, options, &error)) {
        fprintf(stderr, "bgmq_open: %s\n", error.text);
        exit(1);
    }
    int err = bgmq_register(mq, "bench", handler, NULL, type);
    bench_check(err == 0, bgmq_errname(err));
}

static void publish(const void *body)
{
    int err = bgmq_publish(mq, "bench", body, BODY, NULL, NULL);
    bench_check(err == 0, bgmq_errname(err));
}

static void publish_all(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY] = {(char)number};
    for (uint64_t i = 0; i < per_thread; i++)
        publish(body);
}

static void publish_timed(void *ctx, unsigned number)
{
    (void)ctx;
    char body[BODY] = {(char)number};
    int64_t *mine = times + number * per_thread;
    for (uint64_t i = 0; i < per_thread; i++) {
        int64_t begin = bench_now();
        publish(body);
        mine[i] = bench_now() - begin;
    }
}

static const struct bgmq_options in_memory = {
    .durability = BGMQ_MEMORY,
    .max_bytes = (size_t)4 << 30,
};

static void dispatch(const struct args *a)
{
    unsigned producers = (unsigned)bench_number(a, "producers");
    per_thread = (uint64_t)bench_number(a, "n") / producers;
    open_service(
        &in_memory, read_body,
        &(struct bgmq_type_options){.threads = (unsigned)bench_number(a, "workers")});
    bench_check(bgmq_start(mq) == 0, "bgmq_start");
    int64_t begin = bench_now();
    bench_threads(producers, publish_all, NULL);
    bench_tally_wait(per_thread * producers);
    bench_result_rate(per_thread * producers, begin);
}

static void wake(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    times = calloc(n, sizeof(*times));
    open_service(&in_memory, note_wake, NULL);
    bench_check(times && bgmq_start(mq) == 0, "bgmq_start");
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(1000000);
        char body[BODY] = "";
        int64_t stamp[2] = {bench_now(), (int64_t)i};
        memcpy(body, stamp, sizeof(stamp));
        publish(body);
        bench_tally_wait(i + 1);
    }
    bench_result_times(times, n);
}

static void memory(const struct args *a)
{
    per_thread = (uint64_t)bench_number(a, "n");
    open_service(&in_memory, read_body, NULL);
    char body[BODY] = "";
    publish(body);
    double before = bench_resident();
    publish_all(NULL, 0);
    bench_result("bytes", (bench_resident() - before) / (double)per_thread - BODY);
}

/* A process that leaves N messages in the database, due in DELAY_MS, and dies with it open. */
static void leave_behind(const char *database, uint64_t n, int64_t delay_ms)
{
    enum { GROUP = 1000 };
    static char body[BODY];
    static struct bgmq_item items[GROUP];
    int status = 1;
    pid_t pid = n ? fork() : -1;
    if (pid == 0) {
        struct bgmq_message_options later = {.delay_ms = delay_ms};
        for (int i = 0; i < GROUP; i++)
            items[i] = (struct bgmq_item){
                .type = "bench", .body = body, .len = BODY, .options = &later};
        open_service(
            &(struct bgmq_options){.database = database, .durability = BGMQ_BEHIND},
            read_body, NULL);
        for (uint64_t i = 0; i < n; i += GROUP) {
            int err = bgmq_publish_many(mq, items, n - i < GROUP ? n - i : GROUP, NULL);
            bench_check(err == 0, bgmq_errname(err));
        }
        _exit(bgmq_flush(mq) != 0);
    }
    bench_check(!n || (waitpid(pid, &status, 0) == pid && status == 0), "filling");
}

/* From the first publish until every job has run and its end is in the database. */
static void lifecycle(const struct args *a)
{
    unsigned producers = (unsigned)bench_number(a, "producers");
    int disk = strcmp(bench_text(a, "level"), "disk") == 0;
    per_thread = (uint64_t)bench_number(a, "n") / producers;
    times = calloc(per_thread * producers, sizeof(*times));
    bench_check(times != NULL, "memory");
    leave_behind(bench_text(a, "db"), (uint64_t)bench_number(a, "delayed"), 86400000);
    struct bgmq_options options = {
        .database = bench_text(a, "db"),
        .durability = disk ? BGMQ_DISK : BGMQ_BEHIND,
        .max_bytes = (size_t)4 << 30,
        .history_keep = 100 * 1000 * 1000, /* the peer throws no row away either */
    };
    struct bgmq_type_options type = {
        .threads = (unsigned)bench_number(a, "workers"),
        .window = (unsigned)bench_number(a, "window"),
        .history = bench_number(a, "history") ? BGMQ_HISTORY_ALL : BGMQ_HISTORY_OFF,
    };
    open_service(&options, read_body, &type);
    bench_check(bgmq_start(mq) == 0, "bgmq_start");
    int64_t begin = bench_now();
    bench_threads(producers, disk ? publish_timed : publish_all, NULL);
    bench_tally_wait(per_thread * producers);
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
    bench_result_rate(per_thread * producers, begin);
    if (disk)
        bench_result_times(times, per_thread * producers);
    struct bgmq_counters counters;
    bench_check(bgmq_service_counters(mq, &counters) == 0, "bgmq_counters");
    bench_result("commits", (double)counters.commits);
}

/* From the opening of a database with N waiting messages until the first is at its handler, and
 * until all are done. */
static void backlog(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    leave_behind(bench_text(a, "db"), n, 0);
    int64_t begin = bench_now();
    open_service(&(struct bgmq_options){.database = bench_text(a, "db")}, read_body,
                 NULL);
    bench_check(bgmq_start(mq) == 0, "bgmq_start");
    bench_tally_wait(1);
    bench_result("first", (double)(bench_now() - begin) / 1e6);
    bench_tally_wait(n);
    bench_result_rate(n, begin);
    struct rusage usage;
    bench_check(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
    bench_result("resident", (double)usage.ru_maxrss / 1024);
}

static void run_sql(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    bench_check(rc == SQLITE_OK, sqlite3_errmsg(db));
}

/* From the return of the application's COMMIT until the handler of what it published. */
static void tx(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    times = calloc(n, sizeof(*times));
    open_service(&(struct bgmq_options){.database = bench_text(a, "db")}, note_wake,
                 NULL);
    sqlite3 *db;
    bench_check(times && bgmq_start(mq) == 0, "bgmq_start");
    bench_check(sqlite3_open(bench_text(a, "db"), &db) == SQLITE_OK, "sqlite3_open");
    sqlite3_busy_timeout(db, 10000);
    int err = bgmq_sqlite_prepare(mq, db);
    bench_check(err == 0, bgmq_errname(err));
    run_sql(db, "CREATE TABLE orders(id INTEGER PRIMARY KEY, text)");
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(1000000);
        char body[BODY] = "";
        int64_t stamp[2] = {0, (int64_t)i};
        memcpy(body, stamp, sizeof(stamp));
        run_sql(db, "BEGIN IMMEDIATE; INSERT INTO orders(text) VALUES('an order')");
        err = bgmq_publish_tx(mq, db, "bench", body, BODY, NULL, NULL);
        bench_check(err == 0, bgmq_errname(err));
        run_sql(db, "COMMIT");
        int64_t committed = bench_now();
        bench_tally_wait(i + 1);
        times[i] -= committed; /* the body began with zero */
    }
    bench_result_times(times, n);
    sqlite3_close(db);
}

/* One handler that saves its cursor for each of N items, while the journal writes. */
static int save_cursors(struct bgmq_job *job, void *ctx)
{
    uint64_t n = *(const uint64_t *)ctx;
    char cursor[BODY] = "";
    int64_t begin = bench_now();
    for (uint64_t i = 0; i < n; i++) {
        memcpy(cursor, &i, sizeof(i));
        int err = bgmq_job_save_cursor(job, cursor, sizeof(cursor), BGMQ_BEHIND);
        bench_check(err == 0, bgmq_errname(err));
    }
    bench_result_rate(n, begin);
    bench_tally(0);
    return BGMQ_DONE;
}

static void cursor(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    struct bgmq_options options = {.database = bench_text(a, "db")};
    int err = bgmq_open(&mq, &options, NULL);
    if (!err)
        err = bgmq_register(mq, "bench", save_cursors, &n, NULL);
    if (!err)
        err = bgmq_start(mq);
    bench_check(err == 0, bgmq_errname(err));
    char body[BODY] = "";
    publish(body);
    bench_tally_wait(1);
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
}

/* Seconds of user and system time of this process, as /proc/self/stat has them. */
static double cpu_seconds(void)
{
    char line[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    bench_check(f && fgets(line, sizeof(line), f), "/proc/self/stat");
    fclose(f);
    unsigned long user = 0, system = 0;
    char *rest = strrchr(line, ')');
    bench_check(rest && sscanf(rest + 2,
                               "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                               &user, &system) == 2,
                "/proc/self/stat");
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* How often the threads of this process went to sleep so far. */
static double switches(void)
{
    double sum = 0;
    DIR *dir = opendir("/proc/self/task");
    bench_check(dir != NULL, "/proc/self/task");
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[64], line[256];
        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            unsigned long n;
            if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
                sum += (double)n;
        }
        if (f)
            fclose(f);
    }
    closedir(dir);
    return sum;
}

static void idle(const struct args *a)
{
    long seconds = bench_number(a, "seconds");
    struct bgmq_http *http;
    struct bgmq_error error = {""};
    open_service(&(struct bgmq_options){.database = bench_text(a, "db")}, read_body,
                 &(struct bgmq_type_options){.threads = 5});
    bench_check(bgmq_start(mq) == 0, "bgmq_start");
    bench_check(bgmq_http_start(&http, mq, NULL, &error) == 0, error.text);
    /* One message through all of it, so that everything lazy is done. */
    char body[BODY] = "";
    publish(body);
    bench_tally_wait(1);
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
    bench_pause(INT64_C(1500000000));
    double cpu = cpu_seconds(), slept = switches();
    bench_pause(seconds * INT64_C(1000000000));
    bench_result("cpu", cpu_seconds() - cpu);
    bench_result("wakeups", (switches() - slept - 1) / (double)seconds);
    bgmq_http_stop(http);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const struct args *a);
    } scenarios[] = {
        {"dispatch", dispatch},   {"wake", wake}, {"memory", memory},
        {"lifecycle", lifecycle}, {"idle", idle}, {"cursor", cursor},
        {"backlog", backlog},     {"tx", tx},
    };
    struct args a = {.argc = argc, .argv = argv};
    for (size_t i = 0; argc > 1 && i < sizeof(scenarios) / sizeof(*scenarios); i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0)
            continue;
        scenarios[i].run(&a);
        bgmq_free(mq);
        return 0;
    }
    fprintf(stderr, "%s: no such scenario\n", argv[0]);
    return 1;
}
