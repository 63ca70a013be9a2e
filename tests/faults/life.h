/* life.h - all that a service does in its life, recorded, with what it promises on the way: it
 * opens, publishes in every way there is, runs, fails, retries, closes, and opens again; an
 * application uses the same database beside it. */
#ifndef BGMQ_TEST_LIFE_H
#define BGMQ_TEST_LIFE_H

#include "ledger.h"

struct sqlite3;

struct life {
    struct recording recording; /* begun by the test */
    struct ledger ledger;
    int too_much; /* set by the test: COMMIT is taken for a promise of DISK */
    struct bgmq *mq;
    struct sqlite3 *app,
        *worker; /* connections of the application's, and of its handler */
    int mercy;   /* handlers fail nothing any more */
    unsigned groups, made;
};
extern struct life life;

void life_open(void);
void life_close(void);
/* Publishes in every way, and flushes. */
void life_publish(void);
/* Opens, lives ROUNDS rounds, some with a close in the middle, and closes. */
void life_live(int rounds);

#endif
