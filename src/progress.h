/* progress.h - what a handler keeps of its work, as its transactions need it. */
#ifndef BGMQI_PROGRESS_H
#define BGMQI_PROGRESS_H

#include "worker.h"

enum { BGMQI_CURSOR_MAX = 64 << 10 };

/* Sees to it that JOB, which is held, has a progress.  ENOMEM. */
int bgmqi_progress_prepare(struct bgmq_job *job);
/* Takes BYTES from the memory for all messages, for a cursor or a result of JOB.  EFULL. */
int bgmqi_progress_room(struct bgmq_job *job, size_t bytes);

#endif
