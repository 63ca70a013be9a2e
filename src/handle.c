/* handle.c - may this call go on?  Any thread. */
#include "handle.h"

static _Atomic unsigned generation;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void after_fork_in_child(void)
{
    atomic_fetch_add(&generation, 1);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

unsigned bgmqi_handle_generation(void)
{
    pthread_once(&once, watch_forks);
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

int bgmqi_handle_enter(const struct bgmq *mq)
{
    if (!mq)
        return BGMQ_EINVAL;
    if (mq->generation != atomic_load_explicit(&generation, memory_order_relaxed))
        return BGMQ_EFORKED;
    if (atomic_load_explicit(&mq->types.closed, memory_order_relaxed))
        return BGMQ_ECLOSED;
    return bgmqi_log_inside() ? BGMQ_EDEADLK : 0;
}

bool bgmqi_handle_in_handler(const struct bgmq *mq)
{
    const struct bgmq_job *job = bgmqi_worker_job();
    return job && job->env->service == mq;
}

int bgmqi_handle_type(const struct bgmq *mq, const char *name, struct type **ret)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (!bgmqi_registry_names(name))
        return BGMQ_EINVAL;
    struct type *t = bgmqi_registry_find(mq->registry, name);
    if (!t)
        return BGMQ_ENOENT;
    *ret = t;
    return 0;
}

int bgmqi_handle_draining(const struct bgmq *mq)
{
    return atomic_load_explicit(&mq->draining, memory_order_relaxed) &&
                   !bgmqi_handle_in_handler(mq)
               ? BGMQ_EDRAINING
               : 0;
}
