/* oracle_impl.h - what the files of the oracle share. */
#ifndef BGMQ_TEST_ORACLE_IMPL_H
#define BGMQ_TEST_ORACLE_IMPL_H

#include "oracle.h"

/* A message that deaths in its handler made dead began in so many processes.
 * (It takes three deaths; of one the process may not have had the time to tell.  What it told to
 * be about to return may never have been returned.) */
enum { LEAST_DEATHS = 2 };

/* One message. */
struct entry {
    char key[KEY_SIZE];
    uint64_t id; /* 0: not known yet */
    int64_t not_before_ms, expires_ms;
    long starts, dones, effects;
    int booked, attempted, acked, refused, never, dead, committed;
    int may_vanish, may_cancel, gone;
    int64_t changing_ms;  /* somebody is about to put it off to then; 0: nobody */
    long stopped_life;    /* it is dead for the rest of this life, counted from 1 */
    long timed;           /* when its time was said: o.hurries of then */
    int fades;            /* expires into nothing */
    int64_t discarded_ms; /* says the library's history; 0: it does not */
    /* of the process that runs now */
    long round, starts_of_round, fails_of_round;
    /* of the last start: what it was, in which life, and whether its handler came to an end */
    unsigned last_attempt;
    long life;
    int open;        /* its handler runs, or died */
    char last;       /* the last letter of S F H K D Z */
    long held_round; /* given back in this round, */
    int64_t held_ms; /* ... until then */
    long deaths;     /* how often the process died in its handler */
    long rounds;     /* in how many of them it began */
    int failed;      /* for good */
    int keyless;     /* it was dead, and got no unique key back with its new life */
    /* of a walk */
    long begun, saved;
    /* with a unique key */
    struct entry
        *next_of_key; /* the one that was tried before it; of a head: the last one */
    struct entry *head_of_key;
    const struct entry *ousted; /* seemed to have the key of this one at the same time */
    int keyed, replaces;
    char scope; /* first letter of unfinished, waiting, done, period */
    int64_t period_ms, tried_ms;
    long tried_round, accepted_round;
};

/* Names, by their hash, and ids lead to an entry: open addressing, doubled when half full. */
struct node {
    uint64_t number;
    struct entry *e; /* NULL: free */
};

struct table {
    struct node *nodes;
    size_t cap, len;
};

struct oracle {
    struct table keys, ids, uniques;
    struct table replaced; /* by id, before it is known whose: who took the place */
    struct verdict *v;
    long round, lives, hurries; /* beginnings and ends of hurries */
    int hurrying;
};

/* The entry of NUMBER, and of KEY unless that is NULL; NULL: there is none. */
struct entry *table_find(const struct table *t, uint64_t number, const char *key);
/* Adds E; puts E in the place of the one that TABLE_FIND finds. */
void table_put(struct table *t, uint64_t number, struct entry *e);
uint64_t table_hash(const char *text);

/* Counts a fault, and tells of the first. */
void oracle_blame(struct oracle *o, long *count, const char *what, const char *key);

/* E, of which the rest is filled in, is about to be published under UNIQUE. */
void oracle_unique_try(struct oracle *o, struct entry *e, const char *unique);
/* E was accepted, at MS (0: not said), or runs: is another one there that has its key? */
void oracle_unique_accept(struct oracle *o, struct entry *e, int64_t ms);
void oracle_unique_run(struct oracle *o, struct entry *e);
/* What was not certain when E came is by now. */
void oracle_unique_end(struct oracle *o, const struct entry *e);
/* May E's place have been taken by a message of which nobody could tell any more? */
int oracle_unique_may_be_replaced(const struct oracle *o, const struct entry *e);

#endif
