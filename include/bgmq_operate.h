/* bgmq_operate.h - what operators and code do with messages that rest or run: find, cancel,
 * discard, change, retry; and the health of the service.  Included by bgmq.h.
 *
 * All of it works on messages in memory and in the database alike.  TYPE may name a channel:
 * "T@eu".  Callers wait for the journal when the database has to be asked; handlers may call. */
#ifndef BGMQ_OPERATE_H
#define BGMQ_OPERATE_H

#include "bgmq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- which messages ---------------------------------------------------------------- */

/* All that is given must hold; zero-initialised it names every message. */
struct bgmq_select {
    uint64_t id;            /* this one [0: any] */
    const char *tag;        /* equal to [NULL: any] */
    const char *error_code; /* of the last failed attempt, equal to [NULL: any] */
    int64_t before_ms;      /* accepted before [0: any] */
    unsigned max;           /* no more than so many, the oldest first [0: all] */
};

/* Gives dead messages of TYPE a new life: same id, attempts from 0, error cleared.  Returns how
 * many.  ENOENT: WHICH names an id that is not dead.  A unique key that was given up at death is
 * not taken again; a message whose body is damaged stays; an expiry that is over is
 * forgotten, so that it starts.  WHICH may be NULL: all. */
BGMQ_API int bgmq_retry(struct bgmq *mq, const char *type,
                        const struct bgmq_select *which);
/* bgmq_retry by id; ID 0: all. */
BGMQ_API int bgmq_retry_dead(struct bgmq *mq, const char *type, uint64_t id);

/* Re-queues every unfinished message that is neither queued nor running: those that wait out
 * a back-off run now.  Safe at any time.  *RET_IDS (free() it; NULL when there are none) gets
 * their ids; may be NULL.  Returns how many; fewer than there are when memory ends half-way,
 * ENOMEM when it does at once.  Open and start replay by themselves. */
BGMQ_API int bgmq_retry_pending(struct bgmq *mq, uint64_t **ret_ids);

/* Abandons waiting and delayed messages: dead, code "cancelled", TEXT as its text (NULL: none).
 * Handlers that run what WHICH names are asked to end (bgmq_job_cancelled); one that then returns
 * BGMQ_RETRY is dead likewise.  Returns how many, both kinds.  ENOENT: WHICH names an id that
 * neither waits nor runs. */
BGMQ_API int bgmq_cancel(struct bgmq *mq, const char *type,
                         const struct bgmq_select *which, const char *text);
/* Deletes waiting, delayed and dead messages.  Returns how many.  ENOENT as above. */
BGMQ_API int bgmq_discard(struct bgmq *mq, const char *type,
                          const struct bgmq_select *which);

struct bgmq_change {
    int set_time;
    int64_t run_at_ms; /* with SET_TIME; not later than now: at once */
    int set_priority;
    int priority; /* with SET_PRIORITY: 0..32767 */
};
/* Changes when a waiting or delayed message runs, or its priority; it goes to the tail of where
 * it then belongs.  ENOENT: it neither waits nor is delayed.  EBUSY: it runs.  EINVAL. */
BGMQ_API int bgmq_change(struct bgmq *mq, const char *type, uint64_t id,
                         const struct bgmq_change *change);

/* ---- one message ------------------------------------------------------------------- */

enum bgmq_state {
    BGMQ_STATE_WAITING = 1,
    BGMQ_STATE_DELAYED,
    BGMQ_STATE_RUNNING, /* or taken by bgmq_get */
    BGMQ_STATE_DEAD,
    BGMQ_STATE_DONE,     /* in outq, or in the history; so are the next two */
    BGMQ_STATE_DISCARDED /* deleted, or expired with discard_expired */
};

struct bgmq_info {
    uint64_t id;
    enum bgmq_state state;
    unsigned attempt; /* starts that counted */
    unsigned crashes; /* deaths of the process in its handler */
    int priority;
    int64_t created_ms, due_ms, expires_ms; /* 0: none */
    int64_t finished_ms;                    /* from the history; 0: not */
    int64_t progress;
    char progress_text[208];
    char error_code[72], error_text[1032]; /* empty: no attempt failed */
    int64_t error_ms;
};
/* Looks for message ID of TYPE in memory, database and history.  ENOENT.  The history knows no
 * types: one that has ended is found whatever TYPE is, if it is a type. */
BGMQ_API int bgmq_find(struct bgmq *mq, const char *type, uint64_t id,
                       struct bgmq_info *ret);

/* One failed attempt of a message; strings are lent for the call. */
struct bgmq_attempt_error {
    unsigned attempt;
    int64_t at_ms;
    const char *code, *text;
};
typedef int bgmq_error_fn(void *ctx, const struct bgmq_attempt_error *error);
/* Calls FN for each failed attempt of message ID that the database keeps (the last 100), oldest
 * first, until FN returns nonzero.  Returns the number of calls.  EINVAL: no database. */
BGMQ_API int bgmq_errors(struct bgmq *mq, uint64_t id, bgmq_error_fn *fn, void *ctx);
/* The result kept for message ID in the history, to free().  ENOENT. */
BGMQ_API int bgmq_result(struct bgmq *mq, uint64_t id, void **ret, size_t *ret_len);

/* ---- what runs, and how it is ------------------------------------------------------ */

/* One handler that runs. */
struct bgmq_run {
    char type[416]; /* with its channel */
    uint64_t id;
    unsigned attempt;
    int64_t running_ms; /* for so long */
    int cancelled;      /* it was asked to end */
    int stuck;          /* it was given up; its message runs elsewhere or is dead */
    int64_t progress;
};
/* Up to MAX handlers that run now, the longest first; returns how many there are.  After a
 * bgmq_stop that returned EBUSY: the list of what would not end. */
BGMQ_API int bgmq_runs(struct bgmq *mq, struct bgmq_run *ret, size_t max);

struct bgmq_health {
    int ok;            /* none of the next three lines */
    int store_failed;  /* or does not answer */
    unsigned overdue;  /* handlers beyond their time-out */
    unsigned stuck;    /* handlers that were given up */
    unsigned parked;   /* types with messages and no handler; no fault by itself */
    int64_t oldest_ms; /* age of the oldest message at the head of a served queue */
    int64_t slow_ms;   /* slow_ms of bgmq_counters; no fault by itself */
    char text[256];    /* one line for people */
};
/* Looks at memory only: cheap enough for every second. */
BGMQ_API int bgmq_health(struct bgmq *mq, struct bgmq_health *ret);

/* Has the log of the database begin anew: after it neither file holds a byte of what was discarded
 * or has ended before the call, if the option erase was set all the while.  The history keeps what
 * it is told to keep.  EINVAL: no database, or no erase; EBUSY: somebody reads the database, or
 * writes it, now; EFULL; ESTORE. */
BGMQ_API int bgmq_purge(struct bgmq *mq);

/* ---- a copy ------------------------------------------------------------------------ */

/* Copies the whole database, with all that was accepted before the call, as it is at one instant,
 * into the new file PATH, of mode 0600, and syncs it: a database to be opened like any other.  A
 * plain copy of a file in use may be damaged.  Publishing and handlers go on; the log grows while
 * it copies.  Blocks as long.  ERROR may be NULL.  EEXIST: PATH is there, and stays as it is.
 * EOPEN; EFULL: the disk is; EBUSY, ECORRUPT, ESTORE, ENOMEM; EINVAL: also no database. */
BGMQ_API int bgmq_backup(struct bgmq *mq, const char *path, struct bgmq_error *error);

#ifdef __cplusplus
}
#endif

#endif
