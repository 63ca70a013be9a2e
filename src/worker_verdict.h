/* worker_verdict.h - what becomes of a message by what the user's functions returned: the verdict,
 * then the plan, which asks the user and does nothing yet, and, once the attempt is known to be the
 * worker's still, what goes with its end. */
#ifndef BGMQI_WORKER_VERDICT_H
#define BGMQI_WORKER_VERDICT_H

#include "worker.h"

/* What RETURNED, which a function of the user's did, means: anything but BGMQ_DONE.  Notes an error
 * when it failed. */
enum bgmq_verdict bgmqi_worker_odd_verdict(struct bgmq_job *job, int returned);

/* What becomes of JOB after VERDICT; its on_error is asked. */
struct settlement bgmqi_worker_plan(struct bgmq_job *job, enum bgmq_verdict verdict);
/* ... of one that is not to run, by FATE. */
struct settlement bgmqi_worker_plan_unrun(struct bgmq_job *job, enum fate fate);
/* ... of one that failed with VERDICT, when nobody is asked. */
enum settle bgmqi_worker_by_the_rules(const struct bgmq_job *job,
                                      enum bgmq_verdict verdict);

/* Before JOB is settled by S: keeps its result, sends its answer, and tells S when it is due and
 * why it failed.  RANDOM is the state of bgmqi_random_next. */
void bgmqi_worker_complete(struct bgmq_job *job, struct settlement *s, uint64_t *random);

#endif
