/*
 * pause.c - a wait that the end of the server cuts short.
 *
 * The workers wait here before each mail when --send-delay-ms asks for it; main() ends
 * all waits.  The wait is on the monotonic clock, and is never longer than a minute.
 */
#include "pause.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct pause {
    pthread_mutex_t lock;
    /* protected by lock */
    pthread_cond_t changed;
    int ended;
};

struct pause *pause_new(void)
{
    struct pause *pause = calloc(1, sizeof(*pause));
    if (!pause)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&pause->lock, NULL);
    pthread_cond_init(&pause->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return pause;
}

void pause_free(struct pause *pause)
{
    if (!pause)
        return;
    pthread_cond_destroy(&pause->changed);
    pthread_mutex_destroy(&pause->lock);
    free(pause);
}

int pause_wait(struct pause *pause, unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int waited = 0;
    pthread_mutex_lock(&pause->lock);
    while (!pause->ended && ms > 0 && waited == 0)
        waited = pthread_cond_timedwait(&pause->changed, &pause->lock, &until);
    int ended = pause->ended;
    pthread_mutex_unlock(&pause->lock);
    return ended;
}

void pause_end(struct pause *pause)
{
    pthread_mutex_lock(&pause->lock);
    pause->ended = 1;
    pthread_cond_broadcast(&pause->changed);
    pthread_mutex_unlock(&pause->lock);
}
