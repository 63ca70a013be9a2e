/* reply.h - the answer to a request. */
#ifndef BGMQI_REPLY_H
#define BGMQI_REPLY_H

#include "publish.h"

/* How an answer is published.  Negative: an error. */
typedef int bgmqi_reply_fn(struct bgmq *mq, const struct publication *p, void *ctx);
/* Sends the answer of JOB by FN, if it has one; what FN returned, or 0. */
int bgmqi_reply_by(struct bgmq *mq, struct bgmq_job *job, bool failed, bgmqi_reply_fn *fn,
                   void *ctx);

/* The upcall of worker_env, CTX being the service. */
bool bgmqi_reply_send(void *ctx, struct bgmq_job *job, bool failed);

#endif
