/* watch.c - the thread that looks whether somebody else has written (see watch.h).
 *
 * It sleeps on the bell in the flight file, which guests ring, and looks at the head of the log's
 * index whenever it wakes: every commit of any connection changes it.  That memory is mapped by a
 * connection of its own and lent by SQLite's VFS, so a look is no system call, while asking for
 * PRAGMA data_version is a dozen (measured: as much again as the waking).  It must never write,
 * never open a file itself, and never look into the inbox: that is the journal's. */
#include "watch.h"

#include <stdlib.h>

#include "err.h"
#include "flight.h"
#include "lock.h"
#include "store_open.h"
#include "thread.h"

#define MS      INT64_C(1000000)
#define STEP_NS (20 * MS) /* between two looks, when somebody has written lately */
#define IDLE_STEP_NS                                                                     \
    (40 * MS) /* ... and when not: a row waits less than 50 ms for its turn */
#define LATELY_NS (1000 * MS) /* is so long */

/* The head of the index: two copies of a WalIndexHdr (sqlite.org/walformat.html).  What the words
 * say does not matter here, only that a commit counts one of them up. */
enum { HEAD_WORDS = 24, REGION = 32 * 1024 };

struct watch {
    /* set once, then read only */
    struct watch_options options;
    pthread_t thread;
    struct sqlite_store visit;
    const _Atomic uint32_t *index; /* mapped for as long as the connection is open */

    _Atomic bool quit;

    /* used by the thread only */
    uint32_t head[HEAD_WORDS]; /* as it was when last looked at */
};

/* True when the head of the index is not what it was.  Seen while it is being written it looks
 * changed once too often, which costs a look into the inbox. */
static bool changed(struct watch *w)
{
    bool yes = false;
    for (size_t i = 0; i < HEAD_WORDS; i++) {
        uint32_t word = atomic_load_explicit(&w->index[i], memory_order_acquire);
        yes |= word != w->head[i];
        w->head[i] = word;
    }
    return yes;
}

static void *run(void *arg)
{
    struct watch *w = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    uint32_t seen = atomic_load(&w->options.bell->rung);
    int64_t idle_ns = 0;
    while (!atomic_load(&w->quit)) {
        int64_t step_ns = idle_ns < LATELY_NS ? STEP_NS : IDLE_STEP_NS;
        bool rung = bgmqi_flight_hear(w->options.bell, &seen, step_ns);
        /* Looked at in any case, and first: what is committed from here on is seen the next
         * time. */
        if (changed(w) || rung) {
            w->options.changed(w->options.ctx);
            idle_ns = 0;
        } else {
            idle_ns += step_ns;
        }
    }
    return NULL;
}

static void fini(struct watch *w)
{
    bgmqi_store_open_leave(&w->visit);
    free(w);
}

/* The index of the log, as the connection has it mapped. */
static int map_index(struct watch *w)
{
    sqlite3_file *file = NULL;
    void volatile *at = NULL;
    int rc = sqlite3_file_control(w->visit.w, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (rc == SQLITE_OK && (!file || !file->pMethods || file->pMethods->iVersion < 2))
        return SQLITE_CANTOPEN; /* a VFS without shared memory */
    if (rc == SQLITE_OK)
        rc = file->pMethods->xShmMap(file, 0, REGION, 0, &at);
    w->index = (const _Atomic uint32_t *)at;
    return rc == SQLITE_OK && !at ? SQLITE_CANTOPEN : rc;
}

static int visit(struct watch *w, struct bgmq_error *error)
{
    int err = bgmqi_store_open_visit(&w->visit, w->options.database, error);
    if (err)
        return err;
    int rc = map_index(w);
    if (rc != SQLITE_OK)
        return bgmqi_err_set(error, rc == SQLITE_NOMEM ? BGMQ_ENOMEM : BGMQ_EOPEN,
                             "%s: the index of its log cannot be watched: %s",
                             w->visit.path, sqlite3_errstr(rc));
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
