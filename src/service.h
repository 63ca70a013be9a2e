/* service.h - the life of a service. */
#ifndef BGMQI_SERVICE_H
#define BGMQI_SERVICE_H

#include "handle.h"

/* Opens with a clock of the caller's: what bgmq_open does with the system's. */
int bgmqi_service_open(struct bgmq **ret, const struct bgmq_options *options,
                       const struct clock *clock, struct bgmq_error *error);
/* Likewise a test service: no type has threads and the ticker has none, KIT runs what there is to
 * run.  Takes KIT, and frees it by bgmqi_service_free. */
int bgmqi_service_open_kit(struct bgmq **ret, const struct bgmq_options *options,
                           const struct clock *clock, struct kit *kit,
                           struct bgmq_error *error);
/* Frees MQ, whose threads are gone or never were. */
void bgmqi_service_free(struct bgmq *mq);

/* Every worker looks again at what it may do. */
void bgmqi_service_rouse(struct bgmq *mq);
/* Sets or clears the cancel flag of every handler that runs.  For life's holder only: he knows that
 * these are the handlers of the run that he means, and that no other begins meanwhile. */
void bgmqi_service_cancel(struct bgmq *mq, bool cancel) REQUIRES(mq->life);

/* The ticker's work besides types' due times; returns milliseconds until there is more (ticker.h).
 * Its CTX is MQ, and so is that of the next four, upcalls of types and workers. */
int64_t bgmqi_service_tick(void *ctx);
/* An attempt has to be looked at by MONO_NS. */
void bgmqi_service_deadline(void *ctx, struct type *t, int64_t mono_ns);
/* A worker has ended what it had claimed. */
void bgmqi_service_idle(void *ctx);
/* A worker ended by itself. */
void bgmqi_service_gone(void *ctx);
/* The ticker is to look now. */
void bgmqi_service_poke(void *ctx);

/* Handlers that run now, also those that were given up. */
size_t bgmqi_service_running(struct bgmq *mq);

#endif
