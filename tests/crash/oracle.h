/* oracle.h - what the crash tests write down beside the database, and what they ask of it.
 *
 * The history is a text file outside the store, appended to by one process after the other, one
 * write() a line, so that whatever was written before a kill is there after it.  A line ends
 * with " ." - one that was torn by the kill does not, and is skipped.  Lines:
 *
 *   O round            a process begins
 *   T key level ms     about to publish KEY; it may run from MS on
 *   A key id           the publish has returned
 *   E key error        the publish has failed
 *   S key id attempt ms  a handler begins
 *   F key id           it is about to return a failure, to be run again
 *   D key id           it is about to return success
 *   X key id           found in the dlq
 *   B key id           the body was not what was published
 *
 * Keys: "r3.1.p17" is round 3, publisher 1, number 17, and a plain message; "f17" fails when it
 * is run first, "c17" is answered with a response, whose key is "R-" and that of the request.
 * "b3.1.17.0", "b3.1.17.1" ... are published in one commit. */
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
    long phantom;      /* handled, never published */
    long early;        /* handled before its time */
    long mangled;      /* another body, or another id, than published */
    long reused_ids;   /* one id, two messages */
    long torn_batches; /* of one commit some ran and others never */
    long repeated;     /* ran again in one process though nothing failed */
    long uncounted;  /* ran again after a death in the handler with no attempt used up */
    long orphans;    /* request done, its response never seen */
    char first[160]; /* about the first of them */
    char refusal[160]; /* about the first publish that failed */

    long rounds, attempted, acked, failed_publishes, started, done, dead;
    long twice; /* handled to the end more than once: allowed, and to be few */
};

/* Reads the history at PATH and judges it.  Returns 0 when the first group is all zero. */
int oracle_judge(const char *path, struct verdict *ret);

#endif
