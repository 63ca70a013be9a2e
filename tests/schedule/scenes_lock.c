/* scenes_lock.c - what all the rest is made of: the lock of a word, and parking. */
#include "lock.h"
#include "park.h"
#include "scenes.h"

static struct lock lock;
static long inside, rounds;

/* Holds the lock for longer than anybody spins. */
static void *hold(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        lock_take(&lock);
        add(&inside);
        for (int k = 0; k < 100; k++)
            schedule_point();
        HOLDS(inside == 1);
        inside = 0;
        rounds++;
        schedule_point();
        lock_drop(&lock);
        schedule_point();
    }
    return NULL;
}

static void a_lock_that_many_wait_for(void)
{
    pthread_t t[3];
    inside = rounds = 0;
    lock_init(&lock, RANK_QUEUE);
    schedule_from_here();
    for (int i = 0; i < 3; i++)
        t[i] = scene_thread(hold, NULL);
    hold(NULL);
    for (int i = 0; i < 3; i++)
        scene_join(t[i]);
    HOLDS(rounds == 12);
    lock_fini(&lock);
}

static struct park park, back;
static long found, left;

static void *wake_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 4; i++) {
        add(&found);
        bgmqi_park_wake(&park);
        schedule_point();
    }
    return NULL;
}

/* Each wake is followed by a look; several may become one. */
static void parks_and_wakes(void)
{
    park = (struct park){0};
    found = left = 0;
    schedule_from_here();
    pthread_t a = scene_thread(wake_often, NULL), b = scene_thread(wake_often, NULL);
    for (int i = 0; __atomic_load_n(&found, __ATOMIC_SEQ_CST) < 8; i++)
        if (i % 2)
            bgmqi_park_rest(&park);
        else
            bgmqi_park_wait(&park, PARK_MAX_NS);
    scene_join(a);
    scene_join(b);
}

static void *return_it(void *arg)
{
    (void)arg;
    for (int i = 0; i < 4; i++) {
        bgmqi_park_rest(&park);
        HOLDS(__atomic_load_n(&left, __ATOMIC_SEQ_CST) == i + 1);
        bgmqi_park_wake(&back);
    }
    return NULL;
}

/* One wake is one rest, back and forth. */
static void a_token_that_goes_back_and_forth(void)
{
    park = back = (struct park){0};
    left = 0;
    schedule_from_here();
    pthread_t t = scene_thread(return_it, NULL);
    for (int i = 0; i < 4; i++) {
        add(&left);
        bgmqi_park_wake(&park);
        while (!bgmqi_park_wait(&back, PARK_MAX_NS))
            ; /* a signal */
    }
    scene_join(t);
}

const struct scene scenes_lock[] = {
    {SCENE(a_lock_that_many_wait_for)},
    {SCENE(parks_and_wakes)},
    {SCENE(a_token_that_goes_back_and_forth)},
    {.name = NULL},
};
