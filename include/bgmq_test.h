/* bgmq_test.h - a kit for the tests of applications: time and workers that obey.
 *
 * A test service has a clock that only bgmq_test_advance moves, and no worker takes a message by
 * itself: handlers run on the thread that calls bgmq_test_step or bgmq_test_drain, so a test is one
 * sequence.  It may have a database.  Everything else is the real library; a test service is given
 * to the code under test as any other.  Not for production.
 *
 * What is different in it:
 * - One handler runs at a time, on whichever thread: who calls while another thread runs one waits
 *   for its end.  There are as many workers as were asked for, but they have no threads: a handler
 *   may not end its thread.
 * - A handler cannot run another: step and drain in it are EDEADLK, and with bgmq_test_inline what
 *   it publishes runs after it has returned.  It may advance the clock, to take that long: what
 *   falls due waits, and an attempt that is over its time is given up as it would be.
 * - What waits for handlers waits in vain while nobody steps: bgmq_drain returns EBUSY (and, once
 *   bgmq_test_drain has run all, 0), bgmq_request ETIMEOUT.  With bgmq_test_inline both work, but
 *   for bgmq_request in a handler.  They wait by the real clock.
 * - Suspects of a crash run like others, and random back-off is the same in each run. */
#ifndef BGMQ_TEST_H
#define BGMQ_TEST_H

#include "bgmq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As bgmq_open, started; the clock stands at START_MS (0: 2030-01-01). */
BGMQ_API int bgmq_test_open(struct bgmq **ret, const struct bgmq_options *options,
                            int64_t start_ms, struct bgmq_error *error);

/* 1: handlers run inside bgmq_publish and its kin, before it returns: for all that waits, and for
 * what they publish, after the handler that did has returned; 0: not.  What is delayed stays.
 * EINVAL: no test service; so do all functions here. */
BGMQ_API int bgmq_test_inline(struct bgmq *mq, int on);

/* Moves the clock by MS >= 0 and does what is due by then; runs nothing.  A handler may call it, to
 * take that long.  With a database it returns when all is where it belongs; EBUSY, EFULL, ESTORE:
 * the database does not answer; so the next two. */
BGMQ_API int bgmq_test_advance(struct bgmq *mq, int64_t ms);
/* The time of the clock. */
BGMQ_API int64_t bgmq_test_now(struct bgmq *mq);

/* Runs the next message of TYPE (NULL: of any, in the order of registration).  1: one ran; 0: none
 * waits.  EDEADLK in a handler. */
BGMQ_API int bgmq_test_step(struct bgmq *mq, const char *type);
/* Runs until nothing waits, at most MAX messages (0: 100000); what is delayed stays.  Returns how
 * many ran. */
BGMQ_API int bgmq_test_drain(struct bgmq *mq, unsigned max);

/* How many messages were published for TYPE (NULL: any; or a custom queue's name) with this BODY
 * (NULL: any body) since open or bgmq_test_forget: those of handlers and those already run
 * included, duplicates not.  ENOMEM: a record could not be kept. */
BGMQ_API int bgmq_test_published(struct bgmq *mq, const char *type, const void *body,
                                 size_t len);
/* Lends the N-th of them (from 0), good until bgmq_test_forget; 0 or ENOENT. */
struct bgmq_test_record {
    uint64_t id;
    const char *type;
    const void *body;
    size_t len;
    int priority;
    int64_t due_ms;
    const char *tag, *unique_key;
};
BGMQ_API int bgmq_test_record(struct bgmq *mq, size_t n, struct bgmq_test_record *ret);
BGMQ_API int bgmq_test_forget(struct bgmq *mq);

/* For asserts: NULL when a message for TYPE with BODY (NULL: any) was published, else a text, lent
 * until the next call, that says what was published instead. */
BGMQ_API const char *bgmq_test_missing(struct bgmq *mq, const char *type,
                                       const void *body, size_t len);

#ifdef __cplusplus
}
#endif

#endif
