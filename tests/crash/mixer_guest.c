/* mixer_guest.c - a guest of the mixed loop: a process of its own that publishes while owners come
 * and go beside it, by plain SQL or through the library.  What it publishes it books in a table of
 * the application, in the same transaction where it can. */
#include "cargo.h"
#include "loop.h"
#include "mixer.h"
#include "mixer_impl.h"
#include "mixer_sql.h"

#include <bgmq.h>
#include <bgmq_sqlite.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct guest {
    sqlite3 *db;
    struct bgmq_guest *guest;
    int history;
    long round, n;
    uint64_t random;
};

/* By SQL alone, as any program may. */
static void publish_by_sql(struct guest *g, const char *key)
{
    int64_t id = 0;
    int64_t due = next_random(&g->random) % 4 ? 0 : wall_ms() + 5;
    history_write(g->history, "T %s sql %" PRId64, key, due);
    int err = sql_run(g->db, "BEGIN IMMEDIATE");
    if (err == SQLITE_OK)
        err = sql_inbox(g->db, "Plain", key, due, &id);
    if (err == SQLITE_OK)
        err = sql_name(g->db, "INSERT INTO booked(name) VALUES(?1)", key);
    int give_up = next_random(&g->random) % 8 == 0;
    if (err != SQLITE_OK || give_up) {
        history_write(g->history, "N %s", key);
        sql_run(g->db, "ROLLBACK");
    } else if (sql_run(g->db, "COMMIT") == SQLITE_OK) {
        history_write(g->history, "A %s %" PRId64, key, id);
    } else {
        sql_run(g->db, "ROLLBACK");
    }
}

static void publish_by_library(struct guest *g, const char *key)
{
    char body[CARGO_MAX];
    const char *meta[3];
    struct bgmq_message_options options = {.wait_ms = 5000};
    struct bgmq_receipt receipt = {0};
    mixer_load(key, meta, &options);
    if (next_random(&g->random) % 4 == 0)
        options.durability = BGMQ_COMMIT;
    history_write(g->history, "T %s guest 0", key);
    int err = bgmq_guest_publish(g->guest, "Plain", body, cargo_make(key, body), &options,
                                 &receipt);
    if (err)
        history_write(g->history, "E %s %s", key, bgmq_errname(err));
    else
        history_write(g->history, "A %s %" PRIu64, key, receipt.id);
}

static int open_all(struct guest *g, const char *path)
{
    struct bgmq_error error = {""};
    int err = bgmq_guest_open(&g->guest, path, &error);
    if (err == BGMQ_ENOENT)
        return err; /* no owner has been there yet */
    if (err)
        fprintf(stderr, "guest: %s: %s\n", bgmq_errname(err), error.text);
    return err ? err : sql_open(path, &g->db);
}

int mixer_guest_main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    struct guest g = {
        .round = strtol(argv[2], NULL, 10),
        .random = strtoull(argv[3], NULL, 10) * 31,
        .history = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600),
    };
    if (g.history < 0)
        return 3;
    int err = open_all(&g, argv[0]);
    if (err)
        return err == BGMQ_ENOENT ? 0 : 4;
    char key[KEY_SIZE];
    for (long n = strtol(argv[4], NULL, 10); g.n < n; g.n++) {
        int by_sql = next_random(&g.random) % 2 == 0;
        snprintf(key, sizeof(key), "%c%ld.%ld", by_sql ? 'g' : 'l', g.round, g.n);
        if (by_sql)
            publish_by_sql(&g, key);
        else
            publish_by_library(&g, key);
        poll(NULL, 0, (int)(next_random(&g.random) % 3));
    }
    bgmq_guest_close(g.guest);
    sqlite3_close(g.db);
    return 0;
}
