/*
 * write_behind.c - a cache that answers from memory and writes to its database later, in batches.
 *
 * Usage: write_behind.  put() changes the cache and publishes the entry at level BEHIND, which
 * waits for nobody; one worker collects entries until it has BATCH of them or FLUSH_MS are over,
 * and writes them in one transaction.  The queue is bounded: a put() that comes faster than the
 * worker waits for room, and nothing is ever dropped.  The example makes the first write of the
 * repository fail, and shows that its entries are tried again and that nothing is missing at the
 * end.  Exits 0 when the database says what the cache says.
 */
#include <bgmq.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEYS = 100, PUTS = 2000, BATCH = 64, FLUSH_MS = 20 };

/* ---- the repository: a table with the newest value of each key ---- */

/* Used by the worker, and by main() when the worker has gone. */
struct repository {
    sqlite3 *db;
    int failures_left; /* so many writes fail, as a server that is away would make them */
    int batches, persisted, retries;
};

struct entry {
    int key, value, version;
};

static int upsert_many(struct repository *r, const struct entry *entries, int n)
{
    static const char sql[] =
        "INSERT INTO entry(key, value, version) VALUES(?1, ?2, ?3) ON CONFLICT(key) DO"
        " UPDATE SET value = excluded.value, version = excluded.version"
        " WHERE excluded.version > version"; /* a repeated older one changes nothing */
    sqlite3_stmt *q = NULL;
    if (r->failures_left > 0) {
        r->failures_left--;
        return -1;
    }
    int rc = sqlite3_exec(r->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(r->db, sql, -1, &q, NULL);
    for (int i = 0; rc == SQLITE_OK && i < n; i++) {
        sqlite3_bind_int(q, 1, entries[i].key);
        sqlite3_bind_int(q, 2, entries[i].value);
        sqlite3_bind_int(q, 3, entries[i].version);
        rc = sqlite3_step(q) == SQLITE_DONE ? sqlite3_reset(q) : SQLITE_ERROR;
    }
    sqlite3_finalize(q);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(r->db, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : -1;
}

/* ---- the batch ---- */

/* Bodies are the bytes of a struct entry: both ends are this program. */
static int read_entry(const void *body, size_t len, struct entry *ret)
{
    if (len != sizeof(*ret))
        return -1;
    memcpy(ret, body, len);
    return 0;
}

/* The handler gets the first entry of a batch, and takes the others itself. */
static int persist(struct bgmq_job *job, void *ctx)
{
    struct repository *r = ctx;
    struct bgmq *mq = bgmq_job_service(job);
    struct bgmq_message *others[BATCH];
    struct entry entries[BATCH];
    size_t len;
    int n = 0, taken = 0;
    const void *body = bgmq_job_body(job, &len);
    if (read_entry(body, len, &entries[n++]))
        return bgmq_job_fail(job, BGMQ_PERMANENT, "BadEntry", "%zu bytes", len);
    while (n < BATCH && bgmq_get(mq, "mq:Persist.inq", FLUSH_MS, &others[taken]) == 0) {
        body = bgmq_message_body(others[taken], &len);
        if (read_entry(body, len, &entries[n]) == 0) {
            n++;
            taken++;
        } else {
            bgmq_nak(others[taken], 0); /* to the dlq */
            bgmq_message_free(others[taken]);
        }
    }
    int failed = upsert_many(r, entries, n);
    for (int i = 0; i < taken; i++) {
        if (failed)
            bgmq_nak(others[i], 1); /* back into the queue */
        else
            bgmq_ack(others[i]);
        bgmq_message_free(others[i]);
    }
    if (failed) {
        r->retries += n;
        return bgmq_job_fail(job, BGMQ_RETRY, "Repository", "%d entries not written", n);
    }
    r->batches++;
    r->persisted += n;
    return BGMQ_DONE;
}

/* ---- the cache ---- */

struct cache {
    struct bgmq *mq;
    int values[KEYS];
    int version;
};

static int put(struct cache *c, int key, int value)
{
    struct entry e = {.key = key, .value = value, .version = ++c->version};
    c->values[key] = value;
    return bgmq_publish(c->mq, "Persist", &e, sizeof(e),
                        &(struct bgmq_message_options){.wait_ms = 10000}, NULL);
}

static int same(const struct cache *c, sqlite3 *db)
{
    sqlite3_stmt *q;
    int equal = 0;
    if (sqlite3_prepare_v2(db, "SELECT key, value FROM entry", -1, &q, NULL))
        return 0;
    while (sqlite3_step(q) == SQLITE_ROW)
        equal += c->values[sqlite3_column_int(q, 0)] == sqlite3_column_int(q, 1);
    sqlite3_finalize(q);
    return equal == KEYS;
}

static int run(const char *database, struct repository *r)
{
    struct cache c = {.version = 0};
    struct bgmq_error error;
    struct bgmq_options options = {.database = database, .durability = BGMQ_BEHIND};
    struct bgmq_type_options type = {.threads = 1,
                                     .no_outq = 1,
                                     .max_messages = 500,
                                     .backoff = BGMQ_BACKOFF_FIXED,
                                     .backoff_base_ms = 20};
    if (bgmq_open(&c.mq, &options, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 0;
    }
    int err = bgmq_register(c.mq, "Persist", persist, r, &type);
    if (!err)
        err = bgmq_start(c.mq);
    for (int i = 0; !err && i < PUTS; i++)
        err = put(&c, i % KEYS, i);
    struct bgmq_collection now;
    do {
        if (!err)
            err = bgmq_drain(c.mq, 10000); /* what is delayed by a failure comes back */
        if (!err)
            err = bgmq_retry_pending(c.mq, NULL) < 0;
        if (!err)
            err = bgmq_type_collection(c.mq, "Persist", &now);
    } while (!err && now.delayed + now.inq + now.running > 0);
    printf("put %d, persisted %d in %d batches, tried again %d, dead %d\n", PUTS,
           r->persisted, r->batches, r->retries, err ? -1 : (int)now.dlq);
    bgmq_free(c.mq);
    return !err && now.dlq == 0 && r->persisted == PUTS && same(&c, r->db);
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
    char directory[] = "/tmp/write_behind.XXXXXX", database[64];
    struct repository r = {.failures_left = 1};
    if (!mkdtemp(directory))
        return 1;
    snprintf(database, sizeof(database), "%s/queue.db", directory);
    int ok = sqlite3_open(":memory:", &r.db) == SQLITE_OK &&
             sqlite3_exec(r.db,
                          "CREATE TABLE entry(key INTEGER PRIMARY KEY, value INTEGER,"
                          " version INTEGER)",
                          NULL, NULL, NULL) == SQLITE_OK &&
             run(database, &r);
    sqlite3_close(r.db);
    remove_files(directory, database);
    puts(ok ? "the database says what the cache says" : "NOT as it should be");
    return ok ? 0 : 1;
}
