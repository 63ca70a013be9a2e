/* watch.c - the thread that looks 50 times a second whether somebody else has written (see
 * watch.h).
 *
 * It sleeps on the bell in the flight file, which guests ring, and asks SQLite for the version of
 * the data whenever it wakes: that answers from the shared index of the log, reads no page, and
 * counts every commit of another connection, whoever made it.  It must never write, and never
 * look into the inbox itself: that is the journal's. */
#include "watch.h"

#include <stdlib.h>

#include "err.h"
#include "flight.h"
#include "lock.h"
#include "store_open.h"
#include "thread.h"

#define STEP_NS (20 * INT64_C(1000000))

struct watch {
    /* set once, then read only */
    struct watch_options options;
    pthread_t thread;
    /* used by the thread only, once it runs */
    struct sqlite_store visit;
    sqlite3_stmt *ask;
    int64_t version; /* of the data, when last asked */

    _Atomic bool quit;
};

/* True when the data are not what they were; also when that cannot be told, because a look too
 * many costs little. */
static bool changed(struct watch *w)
{
    int64_t version = w->version;
    int rc = sqlite3_step(w->ask);
    if (rc == SQLITE_ROW)
        w->version = sqlite3_column_int64(w->ask, 0);
    sqlite3_reset(w->ask);
    return rc != SQLITE_ROW || w->version != version;
}

static void *run(void *arg)
{
    struct watch *w = arg;
    uint32_t seen = atomic_load(&w->options.bell->rung);
    while (!atomic_load(&w->quit)) {
        bool rung = bgmqi_flight_hear(w->options.bell, &seen, STEP_NS);
        /* Asked in any case, and first: what is committed from here on is seen the next time. */
        if (changed(w) || rung)
            w->options.changed(w->options.ctx);
    }
    return NULL;
}

static void fini(struct watch *w)
{
    sqlite3_finalize(w->ask);
    bgmqi_store_open_leave(&w->visit);
    free(w);
}

static int visit(struct watch *w, struct bgmq_error *error)
{
    int err = bgmqi_store_open_visit(&w->visit, w->options.database, error);
    if (err)
        return err;
    w->visit.patience_ms = 0; /* nobody waits for it: it asks again soon */
    int rc = sqlite3_exec(w->visit.w, "PRAGMA query_only = ON", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v3(w->visit.w, "PRAGMA main.data_version", -1,
                                SQLITE_PREPARE_PERSISTENT, &w->ask, NULL);
    if (rc != SQLITE_OK)
        return bgmqi_err_set(error, rc == SQLITE_NOMEM ? BGMQ_ENOMEM : BGMQ_EOPEN,
                             "%s: %s", w->visit.path, sqlite3_errmsg(w->visit.w));
    changed(w);
    return 0;
}

int bgmqi_watch_open(struct watch **ret, const struct watch_options *options,
                     struct bgmq_error *error)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (!w)
        return BGMQ_ENOMEM;
    w->options = *options;
    int err = visit(w, error);
    if (!err &&
        bgmqi_thread_start(&w->thread, "bgmq-watch", options->stack_size, run, w) != 0)
        err = BGMQ_ETHREAD;
    w->options.database = NULL; /* was lent */
    if (err)
        fini(w);
    else
        *ret = w;
    return err;
}

void bgmqi_watch_end(struct watch *w)
{
    if (!w)
        return;
    atomic_store(&w->quit, true);
    bgmqi_flight_ring(w->options.bell);
    PTHREAD_OK(pthread_join(w->thread, NULL));
    fini(w);
}
