/* ours_tx.c - the scenarios with a connection of the application's own: what a publish adds to
 * its transaction, and how soon the message is at its handler.  See ours.h. */
#include "ours.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <string.h>

static sqlite3 *db;

static void run_sql(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    bench_check(rc == SQLITE_OK, sqlite3_errmsg(db));
}

/* The application's connection to the service's database, with a table of its own. */
static void open_connection(const struct args *a)
{
    bench_check(sqlite3_open(bench_text(a, "db"), &db) == SQLITE_OK, "sqlite3_open");
    sqlite3_busy_timeout(db, 10000);
    int err = bgmq_sqlite_prepare(mq, db);
    bench_check(err == 0, bgmq_errname(err));
    run_sql(db, "CREATE TABLE orders(id INTEGER PRIMARY KEY, text)");
}

static void publish_here(const void *body)
{
    int err = bgmq_publish_tx(mq, db, "bench", body, BODY, NULL, NULL);
    bench_check(err == 0, bgmq_errname(err));
}

/* From the return of the application's COMMIT until the handler of what it published. */
void tx(const struct args *a)
{
    uint64_t n = (uint64_t)bench_number(a, "n");
    alloc_times(n);
    open_service(&(struct bgmq_options){.database = bench_text(a, "db")}, note_wake, NULL,
                 1);
    start_service();
    open_connection(a);
    for (uint64_t i = 0; i < n; i++) {
        bench_pause(1000000);
        char body[BODY] = "";
        int64_t stamp[2] = {0, (int64_t)i};
        memcpy(body, stamp, sizeof(stamp));
        run_sql(db, "BEGIN IMMEDIATE; INSERT INTO orders(text) VALUES('an order')");
        publish_here(body);
        run_sql(db, "COMMIT");
        int64_t committed = bench_now();
        bench_tally_wait(i + 1);
        times[i] -= committed; /* the body began with zero */
    }
    bench_result_times(times, n);
    sqlite3_close(db);
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *q;
    int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &q, NULL);
    bench_check(rc == SQLITE_OK, sqlite3_errmsg(db));
    return q;
}

static void step(sqlite3_stmt *q)
{
    bench_check(sqlite3_step(q) == SQLITE_DONE, sqlite3_errmsg(db));
    sqlite3_reset(q);
}

/* The time of a transaction that inserts an order and, with=publish, publishes its body;
 * with=insert inserts a row with the columns of a message by the application's own statement
 * instead; with=nothing does neither.  The service is stopped, so that no worker writes at the
 * same time. */
void tx_cost(const struct args *a)
{
    static const char body[BODY] = "";
    uint64_t n = (uint64_t)bench_number(a, "n");
    const char *with = bench_text(a, "with");
    int publishes = strcmp(with, "publish") == 0, inserts = strcmp(with, "insert") == 0;
    bench_check(publishes || inserts || strcmp(with, "nothing") == 0, "with=");
    alloc_times(n);
    open_service(&(struct bgmq_options){.database = bench_text(a, "db")}, read_body, NULL,
                 1);
    open_connection(a);
    run_sql(db, "CREATE TABLE own(id INTEGER PRIMARY KEY, type INTEGER, seq INTEGER,"
                " priority INTEGER, attempt INTEGER, max_attempts INTEGER, flags INTEGER,"
                " created INTEGER, crc INTEGER, body BLOB)");
    sqlite3_stmt *all[] = {
        prepare("BEGIN IMMEDIATE"), prepare("INSERT INTO orders(text) VALUES(?1)"),
        prepare(
            "INSERT INTO own(type, seq, priority, attempt, max_attempts, flags, created,"
            " crc, body) VALUES(1, ?2, 0, 0, 5, 0, 1700000000000, 2147483648, ?1)"),
        prepare("COMMIT")};
    for (uint64_t i = 0; i < n; i++) {
        int64_t begin = bench_now();
        step(all[0]);
        sqlite3_bind_blob(all[1], 1, body, BODY, SQLITE_STATIC);
        step(all[1]);
        if (publishes)
            publish_here(body);
        if (inserts) {
            sqlite3_bind_blob(all[2], 1, body, BODY, SQLITE_STATIC);
            sqlite3_bind_int64(all[2], 2, (int64_t)i);
            step(all[2]);
        }
        step(all[3]);
        times[i] = bench_now() - begin;
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        sqlite3_finalize(all[i]);
    bench_result_times(times, n);
    sqlite3_close(db);
}
