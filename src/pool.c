/* pool.c - starts, counts and ends the workers of a type (see pool.h).  Caller locks; the
 * workers themselves know nothing of their pool. */
#include "pool.h"

#include <stdlib.h>

#include "err.h"

struct pool {
    struct type *type;
    const struct worker_env *env;
    struct worker **workers; /* the first N work, the rest is leaving */
    unsigned n, all, cap;
    unsigned wanted;
    bool short_handed; /* the log knows */
};

static int reserve(struct pool *p, unsigned cap)
{
    if (cap <= p->cap)
        return 0;
    struct worker **workers = reallocarray(p->workers, cap, sizeof(*workers));
    if (!workers)
        return BGMQ_ENOMEM;
    p->workers = workers;
    p->cap = cap;
    return 0;
}

int bgmqi_pool_new(struct pool **ret, struct type *t, const struct worker_env *env,
                   unsigned n)
{
    struct pool *p = calloc(1, sizeof(*p));
    if (!p)
        return BGMQ_ENOMEM;
    p->type = t;
    p->env = env;
    int err = bgmqi_pool_resize(p, n);
    if (err) {
        bgmqi_pool_join(p);
        return err;
    }
    *ret = p;
    return 0;
}

static void reap(struct pool *p)
{
    for (unsigned i = p->n; i < p->all;) {
        if (bgmqi_worker_ended(p->workers[i])) {
            bgmqi_worker_join(p->workers[i]);
            p->workers[i] = p->workers[--p->all];
        } else {
            i++;
        }
    }
}

/* Starts workers until N work. */
static int grow(struct pool *p, unsigned n)
{
    int err = n > p->n ? reserve(p, p->all + n - p->n) : 0;
    while (!err && p->n < n) {
        struct worker *w;
        err = bgmqi_worker_start(&w, p->type, p->env);
        if (!err) {
            p->workers[p->all++] = p->workers[p->n];
            p->workers[p->n++] = w;
        }
    }
    return err;
}

int bgmqi_pool_resize(struct pool *p, unsigned n)
{
    reap(p);
    unsigned before = p->n;
    int err = grow(p, n);
    for (unsigned keep = err ? before : n; p->n > keep;)
        bgmqi_worker_quit(p->workers[--p->n]);
    if (!err)
        p->wanted = n;
    return err;
}

/* Counts those that are stuck, and lets the lost go: they work no more. */
static unsigned dismiss_lost(struct pool *p)
{
    unsigned stuck = 0;
    for (unsigned i = 0; i < p->n;) {
        struct worker *w = p->workers[i];
        if (bgmqi_worker_lost(w)) {
            p->workers[i] = p->workers[--p->n];
            p->workers[p->n] = w;
        } else {
            i++;
        }
    }
    for (unsigned i = p->n; i < p->all; i++)
        stuck += bgmqi_worker_stuck(p->workers[i]);
    return stuck;
}

bool bgmqi_pool_mend(struct pool *p, struct bgmq_error *why)
{
    unsigned stuck = dismiss_lost(p);
    reap(p);
    unsigned missing = stuck > p->wanted ? stuck - p->wanted : 0;
    unsigned n = missing < p->wanted ? p->wanted - missing : 0;
    int err = grow(p, n);
    bool before = p->short_handed;
    p->short_handed = p->n < p->wanted;
    if (p->short_handed && !before)
        bgmqi_err_set(why, 0, "%.100s: %u of %u workers are left: %s",
                      bgmqi_type_name(p->type), p->n, p->wanted,
                      err ? bgmq_strerror(err) : "too many handlers are stuck");
    return p->short_handed && !before;
}

bool bgmqi_pool_whole(const struct pool *p)
{
    return p->n == p->wanted && p->all == p->n;
}

struct worker *bgmqi_pool_first(struct pool *p)
{
    return p->workers[0];
}

void bgmqi_pool_quit(struct pool *p)
{
    while (p->n)
        bgmqi_worker_quit(p->workers[--p->n]);
}

void bgmqi_pool_join(struct pool *p)
{
    for (unsigned i = 0; i < p->all; i++)
        bgmqi_worker_join(p->workers[i]);
    free(p->workers);
    free(p);
}
