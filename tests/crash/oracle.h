/* oracle.h - what the crash tests write down beside the database, and what they ask of it.
 *
 * The history is a text file outside the store, appended to by one process after the other, one
 * write() a line, so that whatever was written before a kill is there after it.  A line ends
 * with " ." - one that was torn by the kill does not, and is skipped; the next one begins with a
 * line end of its own.  Lines:
 *
 *   O round            a process begins
 *   T key level ms     about to publish KEY; it may run from MS on
 *   Y key ms fades     ... it expires at MS; FADES 1: into nothing, 0: into the dlq
 *   Q key unique scope period now replaces   ... under a unique key, at NOW
 *   A key id ms        the publish has returned, at MS (may be missing); or its commit has
 *   P key id           it is accepted, though a crash may lose it still
 *   E key error        the publish has failed
 *   N key              KEY will never be: rolled back, refused, a duplicate
 *   R key id           KEY has taken the place of message ID
 *   S key id attempt ms  a handler begins
 *   F key id           it is about to return a failure, to be run again
 *   H key id ms        it is about to give the message back until MS; no attempt is used
 *   K key id           it is about to return a failure for good
 *   D key id           it is about to return success
 *   Z key id           the transaction in which it ended the message has committed
 *   I key item         it goes on with ITEM
 *   J key item         it has begun ITEM
 *   L key item         its cursor says ITEM, on disk
 *   V key              an operator is about to delete KEY
 *   U key              an operator has deleted KEY
 *   C key              an operator is about to cancel KEY
 *   k key              ... has, and it is dead
 *   u key              an operator has not found KEY, or, when it was cancelled, waiting
 *   m key ms           an operator is about to put KEY off to MS; -1: it did not happen
 *   M key ms           ... has
 *   w 1                an operator is about to let run what waits to be tried again; 0: has
 *   W                  an operator is about to give the dead a new life
 *   X key id code      found in the dlq
 *   c key              at the end: the application's table has booked KEY
 *   G key              at the end: an effect of KEY is in the application's table
 *   h id ms            at the end: the library's history says that ID was discarded at MS
 *   # text             said by the library
 *   B key id           the body, or what goes with it, was not what was published
 *
 * Keys: "r3.1.p17" is round 3, publisher 1, number 17, and a plain message; "f17" fails when it
 * is run first, "c17" is answered with a response, whose key is "R-" and that of the request.
 * "b3.1.17.0", "b3.1.17.1" ... are published in one commit.  "t3.1.17" ends in a transaction of
 * the application with one effect, and with a message "n-t3.1.17" that has one effect too.  "t",
 * "x3.1.17" and "g3.17" are booked in the transaction that publishes them; so is "o3.1.17", which
 * has one effect as well. */
#ifndef BGMQ_TEST_ORACLE_H
#define BGMQ_TEST_ORACLE_H

#include <stddef.h>
#include <stdint.h>

enum { KEY_SIZE = 32 };

/* Appends one formatted line to FD, whole or not at all. */
void history_write(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Everything the oracle found.  The first group has to be zero. */
struct verdict {
    long lost;         /* published, never handled nor dead */
    long phantom;      /* handled, never published, or no more there */
    long early;        /* handled before its time */
    long stale;        /* handled long after it had expired */
    long mangled;      /* another body, or another id, than published */
    long reused_ids;   /* one id, two messages */
    long torn_batches; /* of one commit some ran and others never */
    long repeated;     /* ran again in one process though nothing failed */
    long uncounted; /* ran again after a death in the handler with no attempt used up */
    long orphans;   /* request done, its response never seen; or the other way round */
    long effects;   /* not one effect for one message done */
    long two_keys;  /* two messages with one unique key at once */
    long cursors;   /* went on before its cursor, or after what was begun */
    long wrongly_dead; /* found dead with a reason that was none */
    char first[160];   /* about the first of them */
    char text[480];    /* all of it */
    char refusal[160]; /* about the first publish that failed */

    long rounds, attempted, acked, failed_publishes, started, done, dead;
    long twice;     /* handled to the end more than once: allowed, and to be few */
    long forgotten; /* attempts ended, and not counted as the process died: likewise */
    long replaced, kept_keys, walks, expired, crashed, cancelled, deleted, given_back;
};

/* Reads the history at PATH and judges it.  Returns 0 when the first group is all zero. */
int oracle_judge(const char *path, struct verdict *ret);
/* Tells the report of what was judged after so many KILLS. */
void oracle_figures(const struct verdict *v, long kills);

#endif
