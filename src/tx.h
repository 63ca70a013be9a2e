/* tx.h - the application's transactions, as the parts of the library see them. */
#ifndef BGMQI_TX_H
#define BGMQI_TX_H

#include <bgmq_sqlite.h>

#include "tx_signal.h"

struct publication;

/* The connection DB, known to MQ from here on.  Errors of bgmq_sqlite_prepare. */
int bgmqi_tx_conn(struct bgmq *mq, sqlite3 *db, struct tx_conn **ret);
/* As bgmq_publish_tx; P has a type, not a queue. */
int bgmqi_tx_publish(struct bgmq *mq, sqlite3 *db, const struct publication *p,
                     struct bgmq_receipt *receipt);
/* worker_env.tx_over. */
enum bgmq_verdict bgmqi_tx_job_over(struct bgmq_job *job, enum bgmq_verdict verdict);

#endif
