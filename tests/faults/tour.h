/* tour.h - a tour through the library on one database: open, publish, transactions, handlers that
 * end well, fail and try again, the dlq, a check-point, close, open again; and a ledger of what
 * each publisher was told and what was run.
 *
 * Faults may come anywhere: whatever is refused is noted and judged, and the tour goes on, or ends
 * early when nothing more is to be had. */
#ifndef BGMQ_TEST_TOUR_H
#define BGMQ_TEST_TOUR_H

#include "../harness/harness.h"

#include <sqlite3.h>

enum { TOUR_MOST = 128 };

/* What the publisher of a message was told. */
enum told { TOLD_NOTHING, TOLD_YES, TOLD_NO, TOLD_UNCERTAIN };

/* What becomes of a message when it is run. */
enum errand {
    ERRAND_DONE,
    ERRAND_RETRY, /* fails once */
    ERRAND_DEAD,  /* fails for good, until somebody retries it */
    ERRAND_TX,    /* done in a transaction of the application's, with an effect */
    ERRAND_TAKEN, /* has no handler, but somebody who takes it */
    ERRANDS
};

struct entry {
    enum told told;
    enum errand errand;
    int in_tx;  /* published in a transaction, with an effect of its own */
    int behind; /* not yet safe when its publisher was told yes */
    _Atomic int runs;
};

struct tour {
    /* set before */
    int persistent; /* the fault does not end by itself */
    int patient;    /* nothing is to be refused: a publish has all the time it needs */
    /* the service */
    struct bgmq *mq;
    int opened, failed; /* ever: the store has failed, or a close left something behind */
    int hurt;           /* something was refused */
    char where[64];     /* the last step */
    struct entry entries[TOUR_MOST];
    _Atomic int n;
};

/* Removes what an earlier tour has left. */
void tour_clean(void);
/* Goes all the way, or as far as can be. */
void tour_run(struct tour *t);
/* The fault is over: everything has to work, without opening anew where the store has not failed,
 * and what was accepted has to end as it should.  Fails the test with WHAT in its words. */
void tour_judge(struct tour *t, const char *what);

#endif
