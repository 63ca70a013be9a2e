/* worker.h - one worker: takes a message, runs its handler, settles what came of it. */
#ifndef BGMQI_WORKER_H
#define BGMQI_WORKER_H

#include <jansson.h>

#include "type.h"

/* What a worker asks of the service. */
struct worker_env {
    struct bgmq *service;
    const struct clock *clock;
    const struct log *log;
    size_t stack_size;
    bool by_hand; /* workers have no thread: bgmqi_worker_step runs their messages */
    bgmq_handler_fn *request_filter, *response_filter;
    /* Sends JOB's response, or M's own body, or (FAILED) its error, to where it belongs.  True:
     * it went somewhere, and the request has no place in outq. */
    bool (*reply)(void *ctx, struct bgmq_job *job, bool failed);
    /* The handler of JOB, which has a tx, returned VERDICT: looks what became of its transaction.
     * Returns the verdict to go by, unless JOB->settled. */
    enum bgmq_verdict (*tx_over)(struct bgmq_job *job, enum bgmq_verdict verdict);
    /* A worker ends by itself, and is missed. */
    void (*gone)(void *ctx);
    void *ctx;
};

/* One attempt, as its handler sees it.  Once the attempt is given up, MESSAGE is read only for what
 * is set once: the rest belongs to whoever has it then. */
struct bgmq_job {
    const struct worker_env *env;
    struct type *type;
    struct desk *desk;
    struct message *message;
    unsigned attempt;
    struct failure *failure; /* noted in this attempt, or NULL */
    int64_t snooze_ms;
    json_t *json;        /* the body, once parsed */
    char *response_type; /* NULL: no response */
    void *response;
    size_t response_len;
    struct tx_end
        *tx;      /* how a transaction of the handler's ends it (tx_job.c); or NULL */
    bool settled; /* that was committed, and SETTLEMENT is its end */
    bool replied; /* with the answer */
    struct settlement settlement;
    struct message_ext *reply_ext; /* tag, traceparent, meta for the reply; or NULL */
    struct progress *progress;     /* a reference; nobody else changes it; or NULL */
    void *result;                  /* to be kept when it is done, or NULL */
    size_t result_len;
};

struct worker;

/* Starts a worker of T.  ETHREAD, ENOMEM. */
int bgmqi_worker_start(struct worker **ret, struct type *t, const struct worker_env *env);
/* Runs one message on the caller's thread, as a worker BY_HAND; false: none waits.  One at a time;
 * W is not asked to quit meanwhile. */
bool bgmqi_worker_step(struct worker *w);
/* Asks it to end after what it runs. */
void bgmqi_worker_quit(struct worker *w);
/* True when joining it will not wait for a handler. */
bool bgmqi_worker_ended(const struct worker *w);
/* True when it will take no more messages, though nobody asked it to quit: its handler was given up
 * or ended the thread. */
bool bgmqi_worker_lost(const struct worker *w);
/* True when its handler was given up, and has not returned. */
bool bgmqi_worker_stuck(const struct worker *w);
/* Waits for its end, and frees it; it was asked to quit. */
void bgmqi_worker_join(struct worker *w);

/* The job that runs on this thread; NULL: none. */
struct bgmq_job *bgmqi_worker_job(void);

/* What is done takes its result along, to outq and the history. */
void bgmqi_worker_keep_result(struct bgmq_job *job);
/* Settles G, an attempt of T that was given up, as failed: by the rules, nobody else is asked.  The
 * ticker's thread; a backoff_fn of the type runs on it. */
void bgmqi_worker_settle_given_up(struct type *t, const struct worker_env *env,
                                  const struct given_up *g);

/* Notes an error of JOB in place of an earlier one; without memory none is kept. */
void bgmqi_worker_note(struct bgmq_job *job, const char *code, const char *text);

#endif
