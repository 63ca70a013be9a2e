/* journal_impl.h - the body of struct journal.  Only journal*.c include this. */
#ifndef BGMQI_JOURNAL_IMPL_H
#define BGMQI_JOURNAL_IMPL_H

#include "clock.h"
#include "journal.h"
#include "lock.h"
#include "park.h"

enum {
    BATCH_OPS = 4096,          /* a batch takes no new group beyond this */
    BATCH_CAP = 4 * BATCH_OPS, /* ... and this is the longest a batch can then be */
    ID_BLOCK = 1 << 20
};

/* A transaction of so long is slow, and one of so long is worth a word, once a minute. */
#define JOURNAL_SLOW_NS INT64_C(100000000)
#define JOURNAL_VERY_NS INT64_C(1000000000)
#define JOURNAL_TELL_NS INT64_C(60000000000)

/* A call of bgmqi_journal_run; lives on the caller's stack. */
struct journal_task {
    struct journal_task *next;
    bgmqi_journal_fn *fn;
    void *ctx;
    struct park park;
    bool
        started; /* protected by the journal's lock: the caller has to wait for the end */
    int err;     /* set before DONE */
    _Atomic bool done;
};

struct journal {
    /* set once, then read only */
    struct store *store;
    struct journal_options options;
    pthread_t thread;
    struct park park; /* of the writer */

    _Atomic uint64_t next_id, id_limit;
    _Atomic int state; /* enum journal_state */
    _Atomic int full;  /* the last failure was a full disk */
    _Atomic uint64_t commits;
    _Atomic int64_t begun_ns; /* when the transaction that runs began; 0: none runs */
    _Atomic int64_t ended_ns, took_ns; /* the last one */
    _Atomic uint64_t waiting;          /* entries added, not yet done with */

    struct lock lock;
    /* protected by lock */
    struct journal_entry *arrived, *arrived_last;
    size_t n_arrived;
    int64_t first_ns; /* when the oldest of ARRIVED came */
    struct journal_load *loads, *loads_last;
    size_t n_loads;
    struct journal_task *tasks, *tasks_last;
    size_t n_tasks;
    size_t n_waiters; /* of ARRIVED, groups that somebody waits for */
    size_t
        gather; /* so many of them the writer waits for (journal_gather.c); 0: it does not */
    int64_t gather_until_ns;
    bool urgent;   /* somebody waits for what has arrived */
    bool sleeping; /* the writer is parked, or about to */
    bool quit;
    bool ended; /* the writer is gone */

    /* used by the writer's thread only */
    struct journal_entry *pending, *pending_last;
    bool hurried;      /* the last batch had a ticket */
    size_t released;   /* publishers whose wait has ended since the writer slept last */
    int64_t commit_ns; /* how long the last commit took */
    int64_t told_slow_ns; /* when it was last said that the store is slow; 0: never */
    int64_t told_checkpoint_ns; /* ... that check-points fail */
    size_t gather_most;         /* no more are expected to come back in time */
    unsigned gather_hits, gather_misses, gather_skip;
    size_t loads_due, tasks_due;     /* of LOADS and TASKS, those that this turn runs */
    int64_t retry_ns, retry_step_ns; /* when to try PENDING again; 0: not waiting to */
    int64_t idle_since_ns; /* last commit not followed by an idle check-point; 0: none */
    int64_t quit_ns;
    int64_t look_ns;     /* when to look after the store again */
    bool more_to_forget; /* a chunk of what is too old is gone, and there may be more */
    int held;            /* by a reader, as the last check-point said; 0: not */
    int64_t held_since_ns;
    bool held_told;
    struct store_op ops[BATCH_CAP];
    struct journal_entry *batch[BATCH_CAP];
};

static inline int64_t journal_now_ns(void)
{
    return clock_mono_ns(&bgmqi_clock_system);
}

/* The writer's thread; its argument is the journal. */
void *bgmqi_journal_writer(void *arg);

/* journal_gather.c; the writer's thread only, and the lock is held. */
/* Before the writer sleeps: decides how many to wait for, if publishers have been released. */
void bgmqi_journal_gather_begin(struct journal *j, int64_t now);
/* How much longer to wait for them; 0: not at all. */
int64_t bgmqi_journal_gather_ns(const struct journal *j, int64_t now);
/* What has arrived is taken: learns from how many came. */
void bgmqi_journal_gather_end(struct journal *j);

/* journal_care.c; the writer's thread only. */
/* Looks whether the store is as it should be; an error with the reason in WHY: it has failed.
 * What is only worth a word is logged. */
int bgmqi_journal_look(struct journal *j, struct bgmq_error *why);
/* Looks after the store when it is time to; an error with the reason in WHY: it has failed. */
int bgmqi_journal_care(struct journal *j, int64_t now, struct bgmq_error *why);
/* When bgmqi_journal_care has something to do again; 0: at once. */
int64_t bgmqi_journal_care_ns(const struct journal *j);
/* Says so when the last transaction took very long, and when check-points fail: seldom. */
void bgmqi_journal_tell_slow(struct journal *j, int64_t now);
/* Check-points the store, and says so when a reader keeps that from being of use. */
void bgmqi_journal_checkpoint(struct journal *j, int64_t now, int force);

#endif
