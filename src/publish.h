/* publish.h - publishing, as the parts of the library do it. */
#ifndef BGMQI_PUBLISH_H
#define BGMQI_PUBLISH_H

#include "handle.h"

/* One message to be published, to a type or to a queue by name. */
struct publication {
    const char *type; /* or */
    const char *queue;
    const void *body;
    size_t len;
    const struct bgmq_message_options *options; /* or NULL */
    const char *body_type;                      /* of a custom queue's message; or NULL */
    const char *meta_packed;                    /* in place of options->meta; or NULL */
    size_t meta_len;
    const struct failure *failure; /* carried by a custom queue's message */
    bool behind; /* wait for nobody: what follows from a row may be as late as its end */
};
/* Finds where P goes, and makes its message, with no level yet; a type or queue is made when it is
 * not there.  A custom queue in RET is a reference.  Errors of bgmq_publish about its arguments. */
int bgmqi_publish_make(struct bgmq *mq, const struct publication *p, struct address *ret,
                       struct message **ret_message);
/* Errors and meaning as bgmq_publish. */
int bgmqi_publish(struct bgmq *mq, const struct publication *p,
                  struct bgmq_receipt *receipt);
#endif
