/* service.h - struct bgmq: what is behind the handle, shared by the public functions. */
#ifndef BGMQI_SERVICE_H
#define BGMQI_SERVICE_H

#include "lock.h"
#include "options.h"
#include "owner.h"
#include "pool.h"
#include "registry.h"
#include "ticker.h"

/* A registered type's workers. */
struct crew {
    struct crew *next;
    struct type *type;
    struct pool *pool;
};

struct bgmq {
    /* set once, then read only */
    struct service_config config;
    const struct clock *clock;
    unsigned generation; /* of fork, see bgmqi_service_enter */
    struct type_env types;
    struct worker_env workers;
    struct budget budget;
    struct registry *registry;
    struct journal *journal;
    struct ticker *ticker;
    struct owner *owner;
    uint64_t replayed;

    _Atomic uint64_t replies_dropped;
    _Atomic uint64_t handles; /* messages given out and not freed */

    struct lock life;
    /* protected by life */
    struct crew *crews;
    bool shut; /* threads are gone, the database is released */
    uint64_t epoch; /* +1 at each start */
    int64_t cancel_ns; /* when a requested stop sets the cancel flags; 0: not to */

    struct lock idle_lock;
    pthread_cond_t idle; /* a handler ended while stopped */
};

/* Opens with a clock of the caller's: what bgmq_open does with the system's. */
int bgmqi_service_open(struct bgmq **ret, const struct bgmq_options *options,
                       const struct clock *clock, struct bgmq_error *error);
/* The first thing every public function does: EINVAL (NULL), EFORKED, ECLOSED, EDEADLK (inside
 * the log callback), or 0. */
int bgmqi_service_enter(const struct bgmq *mq);
/* True when this thread runs a handler of MQ. */
bool bgmqi_service_in_handler(const struct bgmq *mq);

/* What the parts of the service publish by (publish.c). */
struct publication {
    const char *type; /* or */
    const char *queue;
    const void *body;
    size_t len;
    const struct bgmq_message_options *options; /* or NULL */
    const char *body_type;   /* of a custom queue's message; or NULL */
    const char *meta_packed; /* in place of options->meta; or NULL */
    size_t meta_len;
    const struct failure *failure; /* carried by a custom queue's message */
    bool behind; /* wait for nobody: what follows from a row may be as late as its end */
};
int bgmqi_publish(struct bgmq *mq, const struct publication *p, struct bgmq_receipt *receipt);
/* The upcall of worker_env. */
bool bgmqi_publish_reply(void *ctx, struct bgmq_job *job, bool failed);

#endif
