/* mixer.c - the process that the mixed loop kills: publishers, an operator, and workers on one
 * database that holds tables of the application too.  The crash tests run it as a process of its
 * own. */
#include "mixer.h"

#include "loop.h"
#include "mixer_impl.h"
#include "mixer_sql.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const types[] = {"Tx",    "Sink",  "Plain",    "Flaky",
                                    "Keyed", "Brief", "Fleeting", "Walk"};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

/* Exit statuses; the parent shows them. */
enum {
    NO_OPEN = 4,
    NO_TABLES,
    NO_START = 11,
    NO_THREAD,
    NO_DRAIN,
    NOT_KILLED,
    BAD_COUNT = 22,
    NO_CLOSE
};

void mixer_remember(struct mixer *x, const char *key, const char *type, uint64_t id)
{
    pthread_mutex_lock(&x->lock);
    struct recent *r = &x->recent[x->recents++ % RECENT];
    snprintf(r->key, sizeof(r->key), "%s", key);
    r->type = type;
    r->id = id;
    pthread_mutex_unlock(&x->lock);
}

/* After too many deaths the first start does nothing, and the second is obeyed. */
static int start(struct mixer *x)
{
    struct bgmq_counters counters;
    int err = bgmq_start(x->mq);
    if (!err)
        err = bgmq_service_counters(x->mq, &counters);
    if (!err && counters.breaker != !bgmq_started(x->mq))
        return NO_START;
    if (!err)
        err = bgmq_start(x->mq);
    if (err || bgmq_started(x->mq) != 1 || write(LOOP_READY_FD, "!", 1) != 1)
        return NO_START;
    return 0;
}

/* The application makes its tables when there are those of the queue. */
static int make_tables(const struct mixer *x)
{
    sqlite3 *db;
    int rc = sql_open(x->db, &db);
    if (rc == SQLITE_OK)
        rc = sql_make_tables(db);
    sqlite3_close(db);
    return rc == SQLITE_OK ? 0 : NO_TABLES;
}

/* ---- the lives ------------------------------------------------------------------ */

static int close_all(struct mixer *x)
{
    int err;
    do
        err = bgmq_close(x->mq);
    while (err == BGMQ_EBUSY); /* the grace is short */
    if (err)
        return NO_CLOSE;
    bgmq_free(x->mq);
    while (x->idle > 0)
        if (sqlite3_close(x->connections[--x->idle]))
            return NO_CLOSE;
    return 0;
}

static int work(struct mixer *x)
{
    static void *(*const parts[])(void *) = {mixer_publish, mixer_publish,
                                             mixer_publish_tx, mixer_operate};
    enum { PARTS = sizeof(parts) / sizeof(parts[0]) };
    struct part part[PARTS];
    pthread_t threads[PARTS];
    if (start(x))
        return NO_START;
    for (int i = 0; i < PARTS; i++) {
        part[i] =
            (struct part){.x = x, .number = i, .random = x->seed * PARTS + (unsigned)i};
        if (pthread_create(&threads[i], NULL, parts[i], &part[i]))
            return NO_THREAD;
    }
    /* Publishers are refused from now on; when it is not done in time the close does the rest. */
    int drained = strcmp(x->what, MIXER_DRAIN) ? 0 : bgmq_drain(x->mq, 50);
    for (int i = 0; i < PARTS; i++)
        pthread_join(threads[i], NULL);
    if (drained != 0 && drained != BGMQ_EBUSY)
        return NO_DRAIN;
    if (strcmp(x->what, MIXER_WORK))
        return close_all(x);
    poll(NULL, 0, -1);
    return NOT_KILLED;
}

/* Tells of each dead message of TYPE, of whom COUNT are said to be there. */
static int tell_dead(struct mixer *x, const char *type, uint64_t count)
{
    char queue[64];
    snprintf(queue, sizeof(queue), "mq:%s.dlq", type);
    struct bgmq_message *m;
    uint64_t n = 0;
    /* Those that are in the database only have to be waited for. */
    while (bgmq_get(x->mq, queue, n < count ? 10000 : 0, &m) == 0) {
        size_t len = 0;
        const char *body = bgmq_message_body(m, &len);
        const char *code = bgmq_message_error_code(m);
        history_write(x->history, "X %.*s %" PRIu64 " %s", (int)strcspn(body, "|"), body,
                      bgmq_message_id(m), code ? code : "");
        bgmq_ack(m);
        bgmq_message_free(m);
        n++;
    }
    if (n != count)
        fprintf(stderr,
                "mixer: %s: %" PRIu64 " dead are counted, %" PRIu64 " are there\n", type,
                count, n);
    return n == count ? 0 : BAD_COUNT;
}

/* Messages not at their end, of all types; -1: an error. */
static int64_t left(struct bgmq *mq)
{
    int64_t n = 0;
    for (int i = 0; i < TYPES; i++) {
        struct bgmq_collection c;
        if (bgmq_type_collection(mq, types[i], &c))
            return -1;
        n += (int64_t)(c.inq + c.priorityq + c.delayed + c.running);
    }
    return n;
}

static int end(struct mixer *x)
{
    if (start(x))
        return NO_START;
    int64_t n;
    while ((n = left(x->mq)) > 0 || bgmq_flush(x->mq) || (n = left(x->mq)) > 0)
        poll(NULL, 0, 2);
    if (n < 0)
        return BAD_COUNT;
    for (int i = 0; i < TYPES; i++) {
        struct bgmq_collection c;
        if (bgmq_type_collection(x->mq, types[i], &c) || tell_dead(x, types[i], c.dlq))
            return BAD_COUNT;
    }
    return close_all(x);
}

/* What the library says of deaths and of the dead goes to the history, for whoever reads it. */
static void keep(void *ctx, enum bgmq_level level, const char *text)
{
    const struct mixer *x = ctx;
    if (level <= BGMQ_LOG_WARNING)
        history_write(x->history, "# %.120s", text);
}

int mixer_main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    struct mixer x = {
        .db = argv[0],
        .round = strtol(argv[2], NULL, 10),
        .seed = strtoull(argv[3], NULL, 10),
        .end = strtol(argv[4], NULL, 10),
        .what = argv[5],
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    x.publishes = strcmp(x.what, MIXER_WORK) ? 20 : 100;
    x.random = x.seed * 977;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    x.history = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (x.history < 0)
        return 3;
    history_write(x.history, "O %ld %s", x.round, x.what);
    struct bgmq_options options = {
        .database = x.db,
        .share_database = 1,
        .history_keep = 10000000,
        .boot_breaker = x.round % 8 < 3 ? 0 : 1000,
        .max_crashes = 3 + (unsigned)(x.seed % 3),
        .guests = 1,
        .stop_grace_ms = 5,
        .log = keep,
        .log_ctx = &x,
    };
    struct bgmq_error error = {""};
    int err = bgmq_open(&x.mq, &options, &error);
    if (err || mixer_register(&x)) {
        fprintf(stderr, "mixer: %s: %s\n", bgmq_errname(err), error.text);
        return NO_OPEN;
    }
    if (make_tables(&x))
        return NO_TABLES;
    return strcmp(x.what, MIXER_END) ? work(&x) : end(&x);
}
