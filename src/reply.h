/* reply.h - the answer to a request. */
#ifndef BGMQI_REPLY_H
#define BGMQI_REPLY_H

#include "publish.h"

/* The upcall of worker_env, CTX being the service. */
bool bgmqi_reply_send(void *ctx, struct bgmq_job *job, bool failed);

#endif
