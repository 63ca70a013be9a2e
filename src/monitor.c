/* monitor.c - a mutex and its condition (see monitor.h).  Any thread. */
#include "monitor.h"

#include <time.h>

#include "clock.h"
#include "park.h"

void bgmqi_monitor_init(struct monitor *m, enum lock_rank rank)
{
    pthread_condattr_t attr;
    PTHREAD_OK(pthread_mutex_init(&m->mutex, NULL));
    PTHREAD_OK(pthread_condattr_init(&attr));
    PTHREAD_OK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    PTHREAD_OK(pthread_cond_init(&m->changed, &attr));
    PTHREAD_OK(pthread_condattr_destroy(&attr));
    m->rank = rank;
}

void bgmqi_monitor_fini(struct monitor *m)
{
    PTHREAD_OK(pthread_cond_destroy(&m->changed));
    PTHREAD_OK(pthread_mutex_destroy(&m->mutex));
}

LOCK_ATTR(no_thread_safety_analysis)
void bgmqi_monitor_enter(struct monitor *m)
{
    lock_rank_take(m->rank);
    PTHREAD_OK(pthread_mutex_lock(&m->mutex));
}

LOCK_ATTR(no_thread_safety_analysis)
void bgmqi_monitor_leave(struct monitor *m)
{
    PTHREAD_OK(pthread_mutex_unlock(&m->mutex));
    lock_rank_drop(m->rank);
}

LOCK_ATTR(no_thread_safety_analysis)
void bgmqi_monitor_wait(struct monitor *m, int64_t timeout_ns)
{
    int64_t until = clock_mono_ns(&bgmqi_clock_system) +
                    (timeout_ns < PARK_MAX_NS ? timeout_ns : PARK_MAX_NS);
    struct timespec at = {.tv_sec = (time_t)(until / 1000000000),
                          .tv_nsec = (long)(until % 1000000000)};
    pthread_cond_timedwait(&m->changed, &m->mutex, &at);
}

void bgmqi_monitor_change(struct monitor *m)
{
    PTHREAD_OK(pthread_cond_broadcast(&m->changed));
}
