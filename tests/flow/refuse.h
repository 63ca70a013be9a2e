/* refuse.h - memory that is not to be had: an allocation of one thread is refused, in the library
 * and in the test.
 *
 * For programs that wrap the allocators and sqlite3_malloc64 (tests/meson.build). */
#ifndef BGMQ_TEST_REFUSE_H
#define BGMQ_TEST_REFUSE_H

#include "flow.h"

/* Allocations of this thread until one is refused; 0: none is. */
extern _Thread_local long refuse_left;
/* How many were. */
extern _Thread_local long refuse_hits;

/* For a checked fixture: blocks and JSON, too. */
void refuse_setup(void);

/* Makes CALL with its first allocation refused, its second, until none is; what it returns then.
 * A call that gets on without what it was refused is fine.  What a call leaves behind the next one
 * need not ask for, and so on: the second time through none is left out. */
#define EACH(ret, call)                                                                  \
    do {                                                                                 \
        for (int time_ = 0; time_ < 2; time_++)                                          \
            for (long n_ = 1;; n_++) {                                                   \
                refuse_left = n_;                                                        \
                refuse_hits = 0;                                                         \
                (ret) = (call);                                                          \
                refuse_left = 0;                                                         \
                if (refuse_hits == 0)                                                    \
                    break;                                                               \
                ck_assert_msg((ret) == BGMQ_ENOMEM || (ret) == 0, "%ld: %s", n_,         \
                              bgmq_errname(ret));                                        \
            }                                                                            \
    } while (0)

/* The journal's thread of MQ refuses the N-th from now on; 0: none.  Returns how many it has
 * refused since the last order. */
long refuse_order(struct bgmq *mq, long n);

#endif
