/* register.c - types get their handlers and threads.  Any thread, handlers too. */
#include <stdlib.h>
#include <string.h>

#include "handle.h"

int bgmq_register(struct bgmq *mq, const char *name, bgmq_handler_fn *handler, void *ctx,
                  const struct bgmq_type_options *options)
{
    int err = bgmqi_handle_enter(mq);
    struct type_config config;
    unsigned threads;
    if (!err && !handler)
        err = BGMQ_EINVAL;
    const char *wrong = NULL;
    if (!err)
        err = bgmqi_options_type(&config, &threads, options, &mq->config, &wrong);
    if (wrong)
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR, "type %s is not registered: %s",
                  bgmqi_registry_valid(name) ? name : "?", wrong);
    struct type *t;
    if (!err)
        err = bgmqi_registry_channel(mq->registry, name,
                                     options ? options->channel : NULL, true, &t);
    if (err)
        return err;
    config.handler = handler;
    config.handler_ctx = config.retry.ctx = ctx;
    struct crew *c = calloc(1, sizeof(*c));
    if (!c)
        return BGMQ_ENOMEM;
    c->type = t;
    lock_take(&mq->life);
    if (mq->shut)
        err = BGMQ_ECLOSED;
    else if (bgmqi_type_registered(t))
        err = BGMQ_EEXIST;
    else
        err = bgmqi_pool_new(&c->pool, t, &mq->workers, threads);
    if (!err) {
        /* In this order: who asks whether a handler runs has met its type. */
        bgmqi_registry_ordered(mq->registry, t);
        bgmqi_type_configure(t, &config);
        c->next = mq->crews;
        mq->crews = c;
    }
    lock_drop(&mq->life);
    if (err == BGMQ_EEXIST)
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR, "type %s is registered already",
                  bgmqi_type_name(t));
    if (err) {
        free(c);
        return err;
    }
    bgmqi_type_rouse(t);
    return 0;
}

int bgmq_set_threads(struct bgmq *mq, const char *name, unsigned threads)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (threads < 1 || threads > 1024 || !bgmqi_registry_names(name))
        return BGMQ_EINVAL;
    lock_take(&mq->life);
    err = mq->shut ? BGMQ_ECLOSED : BGMQ_ENOENT;
    for (struct crew *c = mq->crews; c; c = c->next)
        if (strcmp(bgmqi_type_name(c->type), name) == 0) {
            err = bgmqi_pool_resize(c->pool, threads);
            atomic_store(&mq->short_handed, true); /* some may be leaving */
            break;
        }
    lock_drop(&mq->life);
    return err;
}
