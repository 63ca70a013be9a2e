/* tx_job.h - what the transactions of one attempt are to become. */
#ifndef BGMQI_TX_JOB_H
#define BGMQI_TX_JOB_H

#include "tx.h"
#include "worker.h"

/* The connection DB, on which a transaction is open; from here on JOB has a tx.  EINVAL, ENOMEM,
 * ELOST: the attempt is not ours any more, or has ended in a transaction; errors of
 * bgmqi_tx_conn. */
int bgmqi_tx_job_conn(struct bgmq_job *job, sqlite3 *db, struct tx_conn **ret);
/* Something of JOB's waits for the end of the transaction on DB, and is told whether the job is
 * still there by bgmqi_tx_job_alive. */
void bgmqi_tx_job_pend(struct tx_end *e, sqlite3 *db);
/* It waits no more; may free E.  The job, or NULL: its handler has returned. */
struct bgmq_job *bgmqi_tx_job_unpend(struct tx_end *e);

#endif
