/* tx_signal.h - the virtual table bgmq_signal: how we are told of the commits, rollbacks and
 * savepoints of a connection of the application's without taking its hooks.
 *
 * What is to follow from the transaction is a list of items, each of which learns once whether
 * it was committed or undone. */
#ifndef BGMQI_TX_SIGNAL_H
#define BGMQI_TX_SIGNAL_H

#include "tx_hub.h"

/* Embedded in what it belongs to, which has it until one of the two is called. */
struct tx_item {
    struct tx_item *next;
    int level; /* savepoints around it */
    /* The transaction was committed; must not fail, wait or use SQL.  MQ NULL: the service is
     * closed. */
    void (*committed)(struct tx_item *item, struct bgmq *mq);
    /* It, or a savepoint around the item, was rolled back.  Likewise. */
    void (*undone)(struct tx_item *item, struct bgmq *mq);
};

/* One connection.  Used by the thread that uses the connection only; NEXT is the hub's. */
struct tx_conn {
    struct tx_conn *next;
    sqlite3 *db;
    struct tx_hub *hub; /* a reference */
    struct tx_item *items, **last;
    int depth;   /* savepoints that are open */
    bool joined; /* the table takes part in the open transaction */
    bool quiet;  /* its automatic check-points were turned off */
    bool rung;   /* a row was put into the inbox in it */
};

/* The connection DB of H, made known to it when it is not.  ENOMEM, ESTORE. */
int bgmqi_tx_signal_conn(struct tx_hub *h, sqlite3 *db, struct tx_conn **ret);
/* Makes plain SQL that inserts into bgmq_inbox ring the service.  Returns what SQLite said. */
int bgmqi_tx_signal_inbox(sqlite3 *db);
/* From here on until its end the open transaction of C is ours to know.  Likewise. */
int bgmqi_tx_signal_join(struct tx_conn *c);
/* Adds ITEM; the transaction was joined. */
void bgmqi_tx_signal_add(struct tx_conn *c, struct tx_item *item);

#endif
