/* pool.h - the workers of one type, as many as were asked for.  The owner's lock is held. */
#ifndef BGMQI_POOL_H
#define BGMQI_POOL_H

#include "worker.h"

struct pool;

/* Starts N workers of T, all or none.  Borrows ENV.  ETHREAD, ENOMEM. */
int bgmqi_pool_new(struct pool **ret, struct type *t, const struct worker_env *env,
                   unsigned n);
/* Changes their number at once, all or none; a surplus worker ends after what it runs. */
int bgmqi_pool_resize(struct pool *p, unsigned n);
/* Lends the first of those that work, good until P is asked to quit. */
struct worker *bgmqi_pool_first(struct pool *p);
/* Frees the workers that have ended by now, and replaces those whose handler was given up or ended
 * its thread.  No more than the pool's number of stuck ones are replaced; beyond that the type
 * works with less: true when it just came to that, with WHY for the log. */
bool bgmqi_pool_mend(struct pool *p, struct bgmq_error *why);
/* True when all work that should, and nobody else is around. */
bool bgmqi_pool_whole(const struct pool *p);
/* Asks all to end. */
void bgmqi_pool_quit(struct pool *p);
/* Waits for all to end, and frees P; they were asked to. */
void bgmqi_pool_join(struct pool *p);

#endif
