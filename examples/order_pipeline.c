/*
 * order_pipeline.c - orders, payments and parcels, each step in one transaction with its message.
 *
 * Usage: order_pipeline.  The application's tables and the queue share one database.
 *
 *   place_order()  one transaction: the order, and the message "Charge" (with a key of the
 *                  order's own, so that an order placed twice is charged once, and a time until
 *                  which the offer holds)
 *   charge()       one transaction: the payment, the end of its message, and "Pack"
 *   pack()         an order of many items: the cursor says how many are packed, so that the next
 *                  attempt goes on where one that failed in the middle stopped; then one
 *                  transaction with the parcel and the end of the message
 *
 * Some orders are rolled back, some handlers fail half-way, one offer has run out.  Exits 0 when
 * every order that was committed has one payment and one parcel, and nothing else has.
 */
#include <bgmq.h>
#include <bgmq_sqlite.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ORDERS = 20, ITEMS = 10 };

/* Each thread that writes has a connection of its own. */
struct shop {
    struct bgmq *mq;
    sqlite3 *counter, *till, *packing;
    int packed_items; /* by the one packer, in all attempts */
};

static int run_sql(sqlite3 *db, const char *sql, int id)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
        return -1;
    sqlite3_bind_int(q, 1, id);
    sqlite3_step(q);
    return sqlite3_finalize(q) == SQLITE_OK ? 0 : -1;
}

static int number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q;
    int n = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return n;
}

static int order_of(struct bgmq_job *job)
{
    int id = -1;
    return bgmq_job_unpack(job, "{s:i}", "order", &id) ? -1 : id;
}

/* ---- the counter: an order and its message, or neither ---- */

static int place_order(struct shop *s, int id, int64_t expire_ms, int change_of_mind)
{
    char body[64], key[32];
    int len = snprintf(body, sizeof(body), "{\"order\":%d}", id);
    snprintf(key, sizeof(key), "order-%d", id);
    struct bgmq_message_options options = {.unique_key = key,
                                           .unique = BGMQ_UNIQUE_PERIOD,
                                           .unique_period_ms = 86400000,
                                           .expire_ms = expire_ms,
                                           .delay_ms = expire_ms ? 3600000 : 0};
    int err = sqlite3_exec(s->counter, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (!err)
        err = run_sql(s->counter, "INSERT OR IGNORE INTO orders(id) VALUES(?1)", id);
    if (!err)
        err = bgmq_publish_tx(s->mq, s->counter, "Charge", body, (size_t)len, &options,
                              NULL);
    if (!err && !change_of_mind)
        return sqlite3_exec(s->counter, "COMMIT", NULL, NULL, NULL);
    sqlite3_exec(s->counter, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

/* ---- the till: payment, end of the message and the next message, or none of them ---- */

static int take_payment(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    struct shop *s = ctx;
    int id = order_of(job);
    if (run_sql(db, "INSERT INTO payment(order_id) VALUES(?1)", id))
        return bgmq_job_fail(job, BGMQ_RETRY, "Database", "%s", sqlite3_errmsg(db));
    if (id % 3 == 0 && bgmq_job_attempt(job) == 1) /* too late: all of it is undone */
        return bgmq_job_fail(job, BGMQ_RETRY, "Terminal", "the line was cut");
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    if (bgmq_publish_tx(s->mq, db, "Pack", body, len, NULL, NULL))
        return BGMQ_RETRY;
    return BGMQ_DONE;
}

static int charge(struct bgmq_job *job, void *ctx)
{
    struct shop *s = ctx;
    return bgmq_job_transaction(job, s->till, take_payment, s);
}

/* ---- packing: item by item ---- */

static int close_parcel(struct bgmq_job *job, sqlite3 *db, void *ctx)
{
    (void)ctx;
    return run_sql(db, "INSERT INTO parcel(order_id) VALUES(?1)", order_of(job))
               ? BGMQ_RETRY
               : BGMQ_DONE;
}

static int pack(struct bgmq_job *job, void *ctx)
{
    struct shop *s = ctx;
    const char *cursor = bgmq_job_cursor(job, NULL);
    for (long item = cursor ? strtol(cursor, NULL, 10) : 0; item < ITEMS; item++) {
        char next[16];
        if (bgmq_job_cancelled(job))
            return BGMQ_RETRY;
        if (item == ITEMS / 2 && order_of(job) % 4 == 0 && bgmq_job_attempt(job) == 1)
            return bgmq_job_fail(job, BGMQ_RETRY, "Tape", "no tape left");
        s->packed_items++;
        int len = snprintf(next, sizeof(next), "%ld", item + 1);
        if (bgmq_job_save_cursor(job, next, (size_t)len, BGMQ_BEHIND))
            return BGMQ_RETRY;
        bgmq_job_progress(job, (int)(item + 1) * 100 / ITEMS, "packing");
    }
    return bgmq_job_transaction(job, s->packing, close_parcel, NULL);
}

/* ---- a day in the shop ---- */

static int open_shop(struct shop *s, const char *database)
{
    static const char tables[] = "CREATE TABLE orders(id INTEGER PRIMARY KEY);"
                                 "CREATE TABLE payment(order_id INTEGER);"
                                 "CREATE TABLE parcel(order_id INTEGER);";
    struct bgmq_error error;
    struct bgmq_options options = {.database = database, .share_database = 1};
    struct bgmq_type_options quick = {.backoff = BGMQ_BACKOFF_FIXED,
                                      .backoff_base_ms = 5};
    sqlite3 **all[] = {&s->counter, &s->till, &s->packing};
    int err = bgmq_open(&s->mq, &options, &error);
    if (err) {
        fprintf(stderr, "%s\n", error.text);
        return err;
    }
    for (int i = 0; !err && i < 3; i++) {
        err = sqlite3_open(database, all[i]);
        if (!err)
            err = sqlite3_busy_timeout(*all[i], 5000);
        if (!err)
            err = bgmq_sqlite_prepare(s->mq, *all[i]);
    }
    if (!err)
        err = sqlite3_exec(s->counter, tables, NULL, NULL, NULL);
    if (!err)
        err = bgmq_register(s->mq, "Charge", charge, s, &quick);
    if (!err)
        err = bgmq_register(s->mq, "Pack", pack, s, &quick);
    return err ? err : bgmq_start(s->mq);
}

static int wait_for_parcels(struct shop *s, int n)
{
    for (int i = 0; i < n; i++) {
        struct bgmq_message *m;
        int err = bgmq_get(s->mq, "mq:Pack.outq", 20000, &m);
        if (err)
            return err;
        bgmq_ack(m);
        bgmq_message_free(m);
    }
    return 0;
}

static int judge(struct shop *s, int placed)
{
    int payments = number(s->counter, "SELECT count(*) FROM payment");
    int paid = number(s->counter, "SELECT count(DISTINCT order_id) FROM payment");
    int parcels = number(s->counter, "SELECT count(*) FROM parcel");
    int sent = number(s->counter, "SELECT count(DISTINCT order_id) FROM parcel");
    struct bgmq_collection c;
    int err = bgmq_type_collection(s->mq, "Charge", &c);
    printf("%d orders: %d payments of %d, %d parcels of %d, %d items packed, %d offer run"
           " out\n",
           placed, payments, paid, parcels, sent, s->packed_items, (int)c.dlq);
    return !err && payments == placed && paid == placed && parcels == placed &&
           sent == placed && s->packed_items == placed * ITEMS && c.dlq == 1;
}

static int wait_for_dead(struct shop *s)
{
    struct bgmq_message *m;
    int err = bgmq_get(s->mq, "mq:Charge.dlq", 20000, &m);
    if (err)
        return err;
    printf("message %d is dead: %s\n", (int)bgmq_message_id(m),
           bgmq_message_error_code(m));
    bgmq_message_free(m); /* unsettled: it stays dead */
    return 0;
}

static int run(struct shop *s, const char *database)
{
    int placed = 0, err = open_shop(s, database);
    for (int id = 1; !err && id <= ORDERS; id++) {
        int change_of_mind = id % 5 == 0;
        err = place_order(s, id, 0, change_of_mind);
        if (!err && !change_of_mind) {
            placed++;
            err = place_order(s, id, 0, 0); /* pressed twice: the key keeps it at one */
        }
    }
    if (!err) /* an offer that holds for 50 ms, to be charged in an hour */
        err = place_order(s, ORDERS + 1, 50, 0);
    if (!err)
        err = wait_for_parcels(s, placed);
    if (!err)
        err = wait_for_dead(s);
    if (err)
        fprintf(stderr, "error %d: %s\n", err, bgmq_strerror(err));
    return !err && judge(s, placed);
}

static void remove_files(const char *directory, const char *database)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-lock", "-flight", NULL};
    for (int i = 0; suffixes[i]; i++) {
        char path[160];
        snprintf(path, sizeof(path), "%s%s", database, suffixes[i]);
        unlink(path);
    }
    rmdir(directory);
}

int main(void)
{
    char directory[] = "/tmp/order_pipeline.XXXXXX", database[64];
    struct shop shop = {.packed_items = 0};
    if (!mkdtemp(directory))
        return 1;
    snprintf(database, sizeof(database), "%s/shop.db", directory);
    int ok = run(&shop, database);
    bgmq_free(shop.mq);
    sqlite3_close(shop.counter);
    sqlite3_close(shop.till);
    sqlite3_close(shop.packing);
    remove_files(directory, database);
    puts(ok ? "all as it should be" : "NOT as it should be");
    return ok ? 0 : 1;
}
