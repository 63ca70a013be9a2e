/* pause.c - one type takes a rest, while the others go on.  Any thread, handlers too. */
#include "handle.h"

static int set_paused(struct bgmq *mq, const char *type, bool paused)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (!bgmqi_registry_valid(type))
        return BGMQ_EINVAL;
    struct type *t = bgmqi_registry_find(mq->registry, type);
    if (!t)
        return BGMQ_ENOENT;
    bgmqi_type_pause(t, paused);
    return 0;
}

int bgmq_pause(struct bgmq *mq, const char *type)
{
    return set_paused(mq, type, true);
}

int bgmq_resume(struct bgmq *mq, const char *type)
{
    return set_paused(mq, type, false);
}
