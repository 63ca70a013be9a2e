/* ticket.h - what a publisher holds while its changes are on their way to the store.
 *
 * Shared by the publisher and the journal; whoever is done last frees it.  Its state says who
 * may still decide: QUEUED - the publisher may take its changes back; WRITING - the journal
 * has them in a transaction; DONE. */
#ifndef BGMQI_TICKET_H
#define BGMQI_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ticket;

/* For a group with N results; NULL: out of memory. */
struct ticket *bgmqi_ticket_new(size_t n);

/* ---- the publisher ----------------------------------------------------------------- */

/* Waits for the end of the group: its result.  After TIMEOUT_NS: ETIMEOUT, the group is taken
 * back and will never be; or, a quarter of a second later, EUNCERTAIN: it is in a transaction
 * that does not end. */
int bgmqi_ticket_wait(struct ticket *t, int64_t timeout_ns);
/* Waits up to NS; true: the group has ended.  Nothing is taken back. */
bool bgmqi_ticket_over(struct ticket *t, int64_t ns);
/* Result of change I, and the id that goes with it.  Only after _wait returned 0. */
int bgmqi_ticket_result(const struct ticket *t, size_t i, uint64_t *id);
/* The publisher is done with T.  NULL is allowed. */
void bgmqi_ticket_release(struct ticket *t);
/* Frees a ticket that the journal never got. */
void bgmqi_ticket_discard(struct ticket *t);

/* ---- the journal ------------------------------------------------------------------- */

bool bgmqi_ticket_begin(struct ticket *t); /* QUEUED -> WRITING; false: taken back */
void bgmqi_ticket_again(struct ticket *t); /* WRITING -> QUEUED */
void bgmqi_ticket_set(struct ticket *t, size_t i, uint64_t id, int result);
/* Ends the group with RESULT, wakes the publisher, and gives up the journal's share. */
void bgmqi_ticket_finish(struct ticket *t, int result);

#endif
