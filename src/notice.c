/* notice.c - what the admin tells the service (see notice.h).  Any thread, no lock held. */
#include "notice.h"

#include <stdarg.h>
#include <stdio.h>

#include "handle.h"
#include "log.h"

void bgmqi_notice_log(struct bgmq *mq, enum bgmq_level level, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    bgmqi_log(&mq->config.log, level, "%s", text);
}

void bgmqi_notice_tell(struct bgmq *mq, enum notice notice)
{
    switch (notice) {
    case NOTICE_BEGUN:
        atomic_fetch_add(&mq->admins, 1);
        atomic_store(&mq->admin_failed, false);
        break;
    case NOTICE_ENDED:
        atomic_fetch_sub(&mq->admins, 1);
        break;
    case NOTICE_FAILED:
        atomic_store(&mq->admin_failed, true);
        break;
    case NOTICE_SHUT:
        atomic_fetch_add(&mq->admins_shut, 1);
        break;
    case NOTICE_MENDED:
        atomic_fetch_sub(&mq->admins_shut, 1);
        break;
    }
}

int bgmqi_notice_admin(struct bgmq *mq)
{
    if (atomic_load(&mq->admin_failed) || atomic_load(&mq->admins_shut) > 0)
        return 2;
    return atomic_load(&mq->admins) > 0;
}
