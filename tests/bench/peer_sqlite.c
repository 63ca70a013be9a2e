/* peer_sqlite.c - what SQLite alone can do with the rows of bgmq: one thread, no queue,
 * no handler, prepared statements, ranges where a batch allows them.  This is the ceiling
 * that the durable scenarios are measured by.  tests/bench/run starts it: peer_sqlite
 * SCENARIO name=value... */
#include "bench.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqlite3 *db;
static sqlite3_stmt *begin, *commit, *insert, *history, *erase;

/* The hot tables with the columns of bgmq's own. */
static const char schema[] =
    "CREATE TABLE job(id INTEGER PRIMARY KEY, type INTEGER NOT NULL, seq INTEGER NOT "
    "NULL,"
    " priority INTEGER NOT NULL, attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL,"
    " run INTEGER NOT NULL, crashes INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " created INTEGER NOT NULL, reply_to TEXT, reply_id INTEGER, tag TEXT,"
    " traceparent TEXT, unique_key TEXT, body_type TEXT, meta TEXT, crc INTEGER NOT NULL,"
    " body BLOB NOT NULL) STRICT;"
    "CREATE TABLE history(seq INTEGER PRIMARY KEY, id INTEGER NOT NULL,"
    " type INTEGER NOT NULL, outcome TEXT NOT NULL, priority INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, created INTEGER NOT NULL, finished INTEGER NOT NULL,"
    " error_code TEXT, error_text TEXT) STRICT;";

static void check(int rc)
{
    bench_check(rc == SQLITE_OK || rc == SQLITE_DONE, sqlite3_errmsg(db));
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *q;
    check(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &q, NULL));
    return q;
}

static void step(sqlite3_stmt *q)
{
    check(sqlite3_step(q));
    check(sqlite3_reset(q));
}

static void open_db(const struct args *a)
{
    check(sqlite3_open(bench_text(a, "db"), &db));
    check(sqlite3_exec(db, "PRAGMA journal_mode = WAL; PRAGMA secure_delete = OFF", NULL,
                       NULL, NULL));
    int full = strcmp(bench_text(a, "sync"), "full") == 0;
    check(sqlite3_exec(db,
                       full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                       NULL, NULL, NULL));
    check(sqlite3_exec(db, schema, NULL, NULL, NULL));
    begin = prepare("BEGIN IMMEDIATE");
    commit = prepare("COMMIT");
    insert =
        prepare("INSERT INTO job(id, type, seq, priority, attempt, max_attempts, run,"
                " crashes, flags, created, crc, body)"
                " VALUES(?1, 1, ?1, 0, 0, 0, 0, 0, 0, ?2, ?3, ?4)");
    history =
        prepare("INSERT INTO history(id, type, outcome, priority, attempts, created,"
                " finished) SELECT id, type, 'done', priority, 1, created, ?3"
                " FROM job WHERE id BETWEEN ?1 AND ?2");
    erase = prepare("DELETE FROM job WHERE id BETWEEN ?1 AND ?2");
}

static void insert_row(int64_t id)
{
    static const char body[BODY] = "";
    check(sqlite3_bind_int64(insert, 1, id));
    check(sqlite3_bind_int64(insert, 2, INT64_C(1700000000000) + id));
    check(sqlite3_bind_int64(insert, 3, INT64_C(0x80000000)));
    check(sqlite3_bind_blob(insert, 4, body, BODY, SQLITE_STATIC));
    step(insert);
}

static void finish_rows(int64_t first, int64_t last, int with_history)
{
    if (with_history) {
        check(sqlite3_bind_int64(history, 1, first));
        check(sqlite3_bind_int64(history, 2, last));
        check(sqlite3_bind_int64(history, 3, INT64_C(1700000000000) + last));
        step(history);
    }
    check(sqlite3_bind_int64(erase, 1, first));
    check(sqlite3_bind_int64(erase, 2, last));
    step(erase);
}

/* Each transaction inserts a batch and ends the one before, as a queue in full flow does.
 */
static void lifecycle(const struct args *a)
{
    int64_t batch = bench_number(a, "batch"), n = bench_number(a, "n") / batch * batch;
    int with_history = bench_number(a, "history") != 0;
    int64_t started = bench_now();
    for (int64_t id = 1; id <= n + 1; id += batch) {
        step(begin);
        for (int64_t i = 0; i < batch && id <= n; i++)
            insert_row(id + i);
        if (id > 1)
            finish_rows(id - batch, id - 1, with_history);
        step(commit);
    }
    bench_result_rate((uint64_t)n, started);
}

static void one_row(const struct args *a)
{
    size_t n = (size_t)bench_number(a, "n");
    int64_t *times = calloc(n, sizeof(*times));
    bench_check(times != NULL, "memory");
    for (size_t i = 0; i < n; i++) {
        int64_t started = bench_now();
        step(begin);
        insert_row((int64_t)i + 1);
        step(commit);
        times[i] = bench_now() - started;
    }
    bench_result_times(times, n);
    free(times);
}

int main(int argc, char **argv)
{
    struct args a = {.argc = argc, .argv = argv};
    const char *scenario = argc > 1 ? argv[1] : "";
    int is_lifecycle = strcmp(scenario, "lifecycle") == 0;
    bench_check(is_lifecycle || strcmp(scenario, "commit") == 0, "no such scenario");
    open_db(&a);
    if (is_lifecycle)
        lifecycle(&a);
    else
        one_row(&a);
    sqlite3_stmt *all[] = {begin, commit, insert, history, erase};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        sqlite3_finalize(all[i]);
    check(sqlite3_close(db));
    return 0;
}
