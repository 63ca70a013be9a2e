/* thread.h - threads of the library: named, with signals blocked and a stack of their own size. */
#ifndef BGMQI_THREAD_H
#define BGMQI_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* Starts FN(ARG) on a joinable thread.  NAME has at most 15 characters.  BGMQ_ETHREAD. */
int bgmqi_thread_start(pthread_t *ret, const char *name, size_t stack_size,
                       void *(*fn)(void *), void *arg);

/* Blocks again, on a thread of ours, what it was started with blocked. */
void bgmqi_thread_shield(void);

/* Around work on a thread of the host's that writes files: a write beyond RLIMIT_FSIZE fails with
 * EFBIG, and no SIGXFSZ of it ever reaches the host.  May be nested. */
struct thread_calm {
    sigset_t before;
    bool was_pending;
};
void bgmqi_thread_calm(struct thread_calm *ret);
void bgmqi_thread_uncalm(const struct thread_calm *calm);

#endif
