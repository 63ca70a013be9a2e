/* pool.c - starts, counts and ends the workers of a type (see pool.h).  Caller locks; the
 * workers themselves know nothing of their pool. */
#include "pool.h"

#include <stdlib.h>

struct pool {
    struct type *type;
    const struct worker_env *env;
    struct worker **workers; /* the first N work, the rest is leaving */
    unsigned n, all, cap;
};

static int reserve(struct pool *p, unsigned cap)
{
    if (cap <= p->cap)
        return 0;
    struct worker **workers = realloc(p->workers, cap * sizeof(*workers));
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

int bgmqi_pool_resize(struct pool *p, unsigned n)
{
    bgmqi_pool_reap(p);
    unsigned before = p->n;
    int err = reserve(p, p->all + (n > before ? n - before : 0));
    while (!err && p->n < n) {
        struct worker *w;
        err = bgmqi_worker_start(&w, p->type, p->env);
        if (!err) {
            p->workers[p->all++] = p->workers[p->n];
            p->workers[p->n++] = w;
        }
    }
    for (unsigned keep = err ? before : n; p->n > keep;)
        bgmqi_worker_quit(p->workers[--p->n]);
    return err;
}

struct worker *bgmqi_pool_first(struct pool *p)
{
    return p->workers[0];
}

void bgmqi_pool_reap(struct pool *p)
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
