/* publish.h - publishing, as the parts of the library do it. */
#ifndef BGMQI_PUBLISH_H
#define BGMQI_PUBLISH_H

#include "draft.h"

/* Finds where P goes, and makes its message, with no level yet; a type or queue is made when it is
 * not there.  A custom queue in RET is a reference.  Errors of bgmq_publish about its arguments. */
int bgmqi_publish_make(struct bgmq *mq, const struct publication *p, struct address *ret,
                       struct message **ret_message);
/* Errors and meaning as bgmq_publish. */
int bgmqi_publish(struct bgmq *mq, const struct publication *p,
                  struct bgmq_receipt *receipt);
#endif
