/* fork.c - the guard of forks (see fork.h).
 *
 * Threads that use SQLite hold the guard together; who forks holds it alone.  A fork that waits
 * goes first, so that busy threads do not keep it out.  A thread that forks within the guard, as a
 * log callback may, does not wait for itself.
 *
 * bgmq_backup and the check of a great file (store_check.c) stay outside: each is one call of
 * SQLite that may take minutes, and no fork of the host waits that long.  A child that is forked
 * meanwhile may find SQLite's locks taken for ever, and has to exec before it opens a database; the
 * manual says so. */
#include "fork.h"

#include "monitor.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct monitor guard;
/* protected by guard */
static unsigned insiders, forkers;
static _Thread_local bool inside;

/* The fork itself is made with the guard held, so that the child finds it whole. */
LOCK_ATTR(no_thread_safety_analysis)
static void before(void)
{
    bgmqi_monitor_enter(&guard);
    forkers++;
    while (insiders && !inside)
        bgmqi_monitor_wait(&guard, INT64_MAX);
}

LOCK_ATTR(no_thread_safety_analysis)
static void after_in_parent(void)
{
    forkers--;
    bgmqi_monitor_change(&guard);
    bgmqi_monitor_leave(&guard);
}

/* The other threads are gone, and those that waited with them. */
LOCK_ATTR(no_thread_safety_analysis)
static void after_in_child(void)
{
    insiders = forkers = 0;
    inside = false;
    bgmqi_monitor_leave(&guard);
    bgmqi_monitor_init(&guard, RANK_FORK);
}

static void begin(void)
{
    bgmqi_monitor_init(&guard, RANK_FORK);
    pthread_atfork(before, after_in_parent, after_in_child);
}

void bgmqi_fork_enter(void)
{
    lock_assert_none(); /* SQLite is called from here on */
    pthread_once(&once, begin);
    bgmqi_monitor_enter(&guard);
    while (forkers)
        bgmqi_monitor_wait(&guard, INT64_MAX);
    insiders++;
    bgmqi_monitor_leave(&guard);
    inside = true;
}

void bgmqi_fork_leave(void)
{
    if (!inside)
        return; /* in a child, which was forked within */
    inside = false;
    bgmqi_monitor_enter(&guard);
    if (--insiders == 0)
        bgmqi_monitor_change(&guard);
    bgmqi_monitor_leave(&guard);
}
