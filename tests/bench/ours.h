/* ours.h - what the scenarios on bgmq share: the service, its types, publishing. */
#ifndef OURS_H
#define OURS_H

#include "bench.h"

#include <bgmq.h>

extern struct bgmq *mq;
extern uint64_t per_thread; /* messages of each producer */
extern int64_t *times;      /* of each publish or wake */
extern const struct bgmq_options in_memory;

/* Opens the service and registers TYPES types, "bench" first. */
void open_service(const struct bgmq_options *options, bgmq_handler_fn *handler,
                  const struct bgmq_type_options *type, unsigned types);
void start_service(void);
/* Times of N events, zeroed. */
void alloc_times(uint64_t n);

/* Publishes BODY bytes to the type "bench". */
void publish(const void *body);
/* Producers, for bench_threads: PER_THREAD messages each. */
void publish_all(void *ctx, unsigned number);
void publish_timed(void *ctx, unsigned number);

/* Handlers. */
int read_body(struct bgmq_job *job, void *ctx);
/* The body begins with the time of its publish and the place for the answer in TIMES. */
int note_wake(struct bgmq_job *job, void *ctx);

/* The scenarios, each in the file of its kind. */
typedef void scenario_fn(const struct args *a);
scenario_fn fill, lifecycle, backlog, cursor; /* ours_store.c */
scenario_fn tx, tx_cost;                      /* ours_tx.c */
scenario_fn admin, idle;                      /* ours_admin.c */

#endif
