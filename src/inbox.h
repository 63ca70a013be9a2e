/* inbox.h - messages that somebody else wrote into the database: other processes, plain SQL.
 *
 * They stand in the table bgmq_inbox until the journal takes them over: a row of it goes in the
 * very transaction in which its message gets a row as all others have, so that at any instant it
 * is in one of the two places. */
#ifndef BGMQI_INBOX_H
#define BGMQI_INBOX_H

#include "store.h"

struct bgmq;
struct inbox;

/* Of a service with a journal; nothing is looked at before the first ring.  NULL: out of memory. */
struct inbox *bgmqi_inbox_new(struct bgmq *mq);
/* NULL is allowed. */
void bgmqi_inbox_free(struct inbox *b);

/* Somebody may have written: has the journal look.  Any thread, under any lock that stands before
 * the journal's; cheap; nothing without a database. */
void bgmqi_inbox_ring(struct bgmq *mq);
/* When rows were left where they are: rings once it is time to look at them again.  Nanoseconds
 * until then, INT64_MAX: not so.  The ticker. */
int64_t bgmqi_inbox_due(struct inbox *b);
/* Messages taken over. */
uint64_t bgmqi_inbox_taken(const struct inbox *b);

/* Upcalls of the journal, on its thread: the look that was asked for, and the end of an entry
 * with OP_INBOX (ERR as in journal_events.dropped, 0: committed). */
void bgmqi_inbox_look(struct inbox *b);
void bgmqi_inbox_ended(struct inbox *b, const struct store_op *op, int err);

#endif
