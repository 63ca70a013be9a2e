/* fork.c - the guard of forks (see fork.h).
 *
 * Threads that use SQLite hold the guard together; who forks holds it alone.  A fork that waits
 * goes first, so that busy threads do not keep it out.  A thread that forks within the guard, as a
 * log callback may, does not wait for itself. */
#include "fork.h"

#include <pthread.h>
#include <stdbool.h>

#include "lock.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_rwlock_t guard;
static _Thread_local bool inside;

static void init(void)
{
    pthread_rwlockattr_t attr;
    PTHREAD_OK(pthread_rwlockattr_init(&attr));
    PTHREAD_OK(pthread_rwlockattr_setkind_np(
        &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
    PTHREAD_OK(pthread_rwlock_init(&guard, &attr));
    PTHREAD_OK(pthread_rwlockattr_destroy(&attr));
}

static void before(void)
{
    if (!inside)
        PTHREAD_OK(pthread_rwlock_wrlock(&guard));
}

static void after_in_parent(void)
{
    if (!inside)
        PTHREAD_OK(pthread_rwlock_unlock(&guard));
}

/* The others that held it are gone. */
static void after_in_child(void)
{
    init();
    inside = false;
}

static void begin(void)
{
    init();
    pthread_atfork(before, after_in_parent, after_in_child);
}

void bgmqi_fork_enter(void)
{
    pthread_once(&once, begin);
    PTHREAD_OK(pthread_rwlock_rdlock(&guard));
    inside = true;
}

void bgmqi_fork_leave(void)
{
    if (!inside)
        return; /* in a child, which was forked within */
    inside = false;
    PTHREAD_OK(pthread_rwlock_unlock(&guard));
}
