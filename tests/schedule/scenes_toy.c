/* scenes_toy.c - four faults of the kinds that the scheduler is there to find. */
#include <time.h>

#include "scenes.h"

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, two = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long value;

static void *change(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&one);
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&one);
    return NULL;
}

/* Waits without having looked: the signal may have gone by. */
static void a_signal_that_nobody_hears(void)
{
    schedule_from_here();
    pthread_t t = scene_thread(change, NULL);
    pthread_mutex_lock(&one);
    pthread_cond_wait(&changed, &one);
    pthread_mutex_unlock(&one);
    scene_join(t);
}

/* Likewise, and it looks again after a second: nothing is wrong but that it takes one. */
static void a_signal_that_a_time_out_hides(void)
{
    struct timespec until;
    schedule_from_here();
    pthread_t t = scene_thread(change, NULL);
    pthread_mutex_lock(&one);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_cond_timedwait(&changed, &one, &until);
    pthread_mutex_unlock(&one);
    scene_join(t);
}

static void *lock_the_other_way(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&two);
    pthread_mutex_lock(&one);
    pthread_mutex_unlock(&one);
    pthread_mutex_unlock(&two);
    return NULL;
}

static void two_locks_in_two_orders(void)
{
    schedule_from_here();
    pthread_t t = scene_thread(lock_the_other_way, NULL);
    pthread_mutex_lock(&one);
    pthread_mutex_lock(&two);
    pthread_mutex_unlock(&two);
    pthread_mutex_unlock(&one);
    scene_join(t);
}

static void *count(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        long seen = value;
        schedule_point();
        value = seen + 1;
    }
    return NULL;
}

static void a_counter_without_a_lock(void)
{
    value = 0;
    schedule_from_here();
    pthread_t a = scene_thread(count, NULL), b = scene_thread(count, NULL);
    scene_join(a);
    scene_join(b);
    HOLDS(value == 6);
}

const struct scene scenes_toy[] = {
    {SCENE(a_signal_that_nobody_hears)},
    {SCENE(a_signal_that_a_time_out_hides)},
    {SCENE(two_locks_in_two_orders)},
    {SCENE(a_counter_without_a_lock)},
    {.name = NULL},
};
