/* release.h - databases as earlier versions of the library wrote them (tests/golden/upgrade). */
#ifndef BGMQ_TEST_RELEASE_H
#define BGMQ_TEST_RELEASE_H

/* What write.c there published, in the order in which it is handled. */
enum { RELEASE_WAITING = 4, RELEASE_UNFINISHED = 6 };

/* Puts the database NAME ("schema-1", "schema-1-killed" ...), with what lies beside it, to PATH,
 * in place of what is there. */
void release_unpack(const char *name, const char *path);
/* Removes the database at PATH, and what lies beside it. */
void release_forget(const char *path);

#endif
