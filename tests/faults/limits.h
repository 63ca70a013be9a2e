/* limits.h - a small service for the tests that take something away from its process, and the
 * limits of that process. */
#ifndef BGMQ_TEST_LIMITS_H
#define BGMQ_TEST_LIMITS_H

#include "../harness/harness.h"

#include <sys/resource.h>

enum { LIMITS_THREADS = 4 };

/* The database; limits_begin() sets it to one of this test. */
extern char limits_database[600];
/* Handlers that have ended. */
extern _Atomic int limits_runs;
/* What the last open said. */
extern struct bgmq_error limits_error;

void limits_begin(void);
/* The next two assert nothing: Check writes down where it is, and would meet a limit. */
int limits_open(struct bgmq **ret);
/* Opens, registers T and starts. */
int limits_start(struct bgmq **ret);
bgmq_log_fn limits_ignore_log;
/* Likewise; has to succeed. */
struct bgmq *limits_started(void);
/* T, with LIMITS_THREADS threads, whose handlers wait for GATE, if it is not NULL. */
int limits_register(struct bgmq *mq, struct gate *gate);
int limits_publish(struct bgmq *mq);
/* Nothing waits, runs or has to be written. */
int limits_idle(struct bgmq *mq);
/* Publishes, runs and ends a message. */
void limits_expect_works(struct bgmq *mq);
void limits_close(struct bgmq *mq);

/* Sets the soft limit WHAT to N, or to the hard one. */
void limits_set(int what, rlim_t n);
/* WHAT goes up from FROM in steps of BY until a start succeeds; each failure is one of the N of
 * KNOWN, comes with words, and leaves nothing behind. */
void limits_raise(int what, rlim_t from, rlim_t by, const int *known, size_t n);
/* ERR is one of KNOWN, and came with words. */
void limits_expect_known(int err, const int *known, size_t n);

#endif
