/* pause.c - one type takes a rest, while the others go on.  Any thread, handlers too. */
#include "handle.h"

static int set_paused(struct bgmq *mq, const char *type, bool paused)
{
    struct type *t;
    int err = bgmqi_handle_type(mq, type, &t);
    if (!err)
        bgmqi_type_pause(t, paused);
    return err;
}

int bgmq_pause(struct bgmq *mq, const char *type)
{
    return set_paused(mq, type, true);
}

int bgmq_resume(struct bgmq *mq, const char *type)
{
    return set_paused(mq, type, false);
}
