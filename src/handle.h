/* handle.h - struct bgmq: what is behind the handle.  The files that hold the public functions
 * share it; each says in its head what it does with it. */
#ifndef BGMQI_HANDLE_H
#define BGMQI_HANDLE_H

#include "lock.h"
#include "metrics.h"
#include "monitor.h"
#include "options.h"
#include "owner.h"
#include "pool.h"
#include "registry.h"
#include "solo.h"
#include "ticker.h"

struct tx_hub;

/* What the wall clock said last, against the monotonic one. */
struct clock_watch {
    bool known;
    int64_t offset_ms;
};

/* A registered type's workers. */
struct crew {
    struct crew *next;
    struct type *type;
    struct pool *pool;
};

/* What a test service has besides (testkit.c); the rest of the library calls it by these. */
struct kit {
    /* M, due at DUE_MS, was published to the type or custom queue NAME.  M is lent. */
    void (*published)(struct kit *k, const char *name, struct message *m, int64_t due_ms);
    /* A publish is about to return: where handlers run inside it, they run now. */
    void (*run)(struct kit *k);
    /* Returns when no handler runs; from then on none will. */
    void (*end)(struct kit *k);
    void (*free)(struct kit *k);
};

struct bgmq {
    /* set once, then read only */
    struct service_config config;
    const struct clock *clock;
    unsigned generation; /* of fork: that of the process that opened it */
    struct type_env types;
    struct worker_env workers;
    struct budget budget;
    struct registry *registry;
    struct journal *journal;
    struct ticker *ticker;
    struct owner *owner;
    struct flight *flight;
    struct kit *kit;     /* NULL: no test service */
    struct inbox *inbox; /* NULL: no database */
    struct watch *watch; /* NULL: no guests; gone once shut */
    struct tx_hub *hub;  /* NULL: no database */
    uint64_t replayed;
    unsigned
        deaths; /* of the process, in a row, each soon after it opened the database */

    _Atomic uint64_t replies_dropped;
    struct agenda
        attempts; /* types, by when the ticker looks at attempts: monotonic ns */
    _Atomic bool short_handed; /* some pool may not be as it should */
    _Atomic bool draining;     /* publishing from outside handlers is refused */
    _Atomic bool breaker;      /* the last start was not obeyed */
    _Atomic int admins;        /* that serve */
    _Atomic int admins_shut;   /* that cannot answer for now */
    _Atomic bool admin_failed; /* one could not start, and none has since */

    /* used by the ticker only */
    struct solo solo;
    struct metrics metrics;
    struct clock_watch clock_watch;

    struct lock life;
    /* protected by life */
    struct crew *crews;
    bool shut;              /* threads are gone, the database is released */
    _Atomic uint64_t epoch; /* +1 at each start; read without, too */
    bool start_asked;       /* bgmq_start was called */
    int64_t cancel_ns;      /* when a requested stop sets the cancel flags; 0: not to */

    struct lock pending; /* one bgmq_retry_pending at a time */

    struct monitor
        idle; /* changes with epoch, shut_done, and when a handler ended while stopped */
    /* protected by idle */
    bool shut_done;
};

/* The present generation: +1 in each child of a fork. */
unsigned bgmqi_handle_generation(void);

/* The first thing every public function does: EINVAL (NULL), EFORKED, ECLOSED, EDEADLK (inside
 * the log callback), or 0. */
int bgmqi_handle_enter(const struct bgmq *mq);
/* The type, or channel as TYPE@CHANNEL, called NAME.  Errors of the above; EINVAL, ENOENT. */
int bgmqi_handle_type(const struct bgmq *mq, const char *name, struct type **ret);
/* Before a message is let in: EDRAINING, or 0; in a handler of MQ always 0. */
int bgmqi_handle_draining(const struct bgmq *mq);
/* True when this thread runs a handler of MQ. */
bool bgmqi_handle_in_handler(const struct bgmq *mq);

#endif
