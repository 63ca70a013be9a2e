/* getter.h - threads that wait for a message of a queue, served in the order they came.
 *
 * A message is handed to the first of them under the queue's lock, so nobody overtakes and
 * nothing has to be looked for again. */
#ifndef BGMQI_GETTER_H
#define BGMQI_GETTER_H

#include "message.h"
#include "park.h"

/* One thread that waits; lives on its stack. */
struct getter {
    struct getter *next, *prev;
    struct park park;
    struct message *got; /* protected by the queue's lock, as the rest */
    int ended;           /* 0, or why it waits in vain */
    bool queued;
};

/* Zero-initialised is nobody.  The owner's lock is held in all of these. */
struct getters {
    struct getter *head, *tail;
};

void bgmqi_getters_join(struct getters *all, struct getter *g);
void bgmqi_getters_leave(struct getters *all, struct getter *g);
/* Hands M, with its reference, to the first who waits and wakes them; false: nobody waits. */
bool bgmqi_getters_offer(struct getters *all, struct message *m);
/* Everybody goes home with ERR. */
void bgmqi_getters_end(struct getters *all, int err);

#endif
