/* life.h - one life of a service in the simulated world: a process opens it, its clients
 * publish, consume and operate, handlers run, and it is closed in the end, unless somebody kills
 * it first. */
#ifndef BGMQ_TEST_LIFE_H
#define BGMQ_TEST_LIFE_H

#include "notes.h"

struct plan {
    bool durable;
    bool calm;   /* nothing goes wrong, nobody publishes: what is there has to end */
    bool closes; /* in the end, and does not wait to be killed */
    unsigned clients, operations; /* of each */
    unsigned standby_ms;
    unsigned notes_max;
    /* of all lives of a seed */
    unsigned threads, window, interval_ms;
    unsigned jumps_in; /* one operation in so many sets the wall clock; 0: none */
};

struct life {
    struct plan plan;
    unsigned process;
    struct bgmq *mq; /* NULL: not open */
    unsigned clients_left;
    bool opened, over; /* over: closed, killed, or it could not be opened */
    bool killed;
};

/* Begins L in its process. */
void life_begin(struct life *l, unsigned process, const struct plan *plan);
/* What nothing goes wrong is to end: the types, with their names. */
extern const char *const life_names[NOTE_TYPES];

#endif
