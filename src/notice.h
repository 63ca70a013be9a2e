/* notice.h - what the admin tells the service: lines for its log, and its own state for the
 * status.  Besides the public header this is all that http uses of the library. */
#ifndef BGMQI_NOTICE_H
#define BGMQI_NOTICE_H

#include <bgmq.h>

/* One line in the log of MQ, made printable (log.h).  The caller holds no lock. */
void bgmqi_notice_log(struct bgmq *mq, enum bgmq_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum notice {
    NOTICE_BEGUN,  /* one more admin serves: it makes up for those that could not start */
    NOTICE_ENDED,  /* one less */
    NOTICE_FAILED, /* one could not start */
    NOTICE_SHUT,   /* one cannot answer for now */
    NOTICE_MENDED  /* it does again, or is about to end */
};

/* Tells the state of an admin of MQ (counters.admin).  Any thread. */
void bgmqi_notice_tell(struct bgmq *mq, enum notice notice);
/* What counters.admin shows. */
int bgmqi_notice_admin(struct bgmq *mq);

#endif
