/* fork.c - the guard of forks (see fork.h).
 *
 * Threads that use SQLite hold the guard together; who forks holds it alone.  A fork that waits
 * goes first, so that busy threads do not keep it out.  A thread that forks within the guard, as a
 * log callback may, does not wait for itself. */
#include "fork.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "lock.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Not a struct lock: the child of a fork unlocks it, who has another number than its owner. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
/* protected by mutex */
static unsigned insiders, forkers;
static _Thread_local bool inside;

static void init_changed(void)
{
    pthread_condattr_t attr;
    PTHREAD_OK(pthread_condattr_init(&attr));
    PTHREAD_OK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    PTHREAD_OK(pthread_cond_init(&changed, &attr));
    PTHREAD_OK(pthread_condattr_destroy(&attr));
}

/* Up to a second, as a wake may get lost. */
static void wait_for_change(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec++;
    pthread_cond_timedwait(&changed, &mutex, &at);
}

/* The fork itself is made with the mutex held, so that the child finds it whole. */
static void before(void)
{
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    forkers++;
    while (insiders && !inside)
        wait_for_change();
}

static void after_in_parent(void)
{
    forkers--;
    PTHREAD_OK(pthread_cond_broadcast(&changed));
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
}

/* The other threads are gone. */
static void after_in_child(void)
{
    insiders = forkers = 0;
    inside = false;
    init_changed();
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
}

static void begin(void)
{
    init_changed();
    pthread_atfork(before, after_in_parent, after_in_child);
}

void bgmqi_fork_enter(void)
{
    pthread_once(&once, begin);
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    while (forkers)
        wait_for_change();
    insiders++;
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
    inside = true;
}

void bgmqi_fork_leave(void)
{
    if (!inside)
        return; /* in a child, which was forked within */
    inside = false;
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    if (--insiders == 0)
        PTHREAD_OK(pthread_cond_broadcast(&changed));
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
}
