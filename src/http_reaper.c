/* http_reaper.c - one thread that shuts down connections at their absolute deadline.
 *
 * Called by http.c: add and remove on the thread of the daemon, new and free on the
 * thread that starts and stops the admin.  The reaper's own thread sleeps in the kernel
 * on a timer set to the earliest deadline, or to nothing when no connection is open: no
 * polling, and no wake-up that could get lost.
 *
 * It must never close a descriptor, which is the daemon's, nor touch one that was
 * removed. */
#include "http_reaper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { STACK_SIZE = 1024 * 1024 };

struct slot {
    int fd;             /* -1: free */
    int64_t expires_ns; /* monotonic; INT64_MAX: shut down already */
};

struct http_reaper {
    /* set once, then read only */
    pthread_t thread;
    int has_thread;
    int timer; /* -1: none */
    int64_t deadline_ns, crowded_ns;
    size_t size;
    pthread_mutex_t lock;
    /* protected by lock */
    int stopping;
    struct slot *slots;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Sets the timer to the absolute time AT_NS; 0 switches it off. */
static void arm(struct http_reaper *r, int64_t at_ns)
{
    struct itimerspec spec = {
        .it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000}};
    timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* Sets the timer to the earliest deadline.  The caller holds the lock. */
static void arm_earliest_locked(struct http_reaper *r)
{
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < r->size; i++)
        if (r->slots[i].fd >= 0 && r->slots[i].expires_ns < earliest)
            earliest = r->slots[i].expires_ns;
    arm(r, earliest == INT64_MAX ? 0 : earliest);
}

/* Shuts down what has expired.  The daemon sees the end of the stream and closes it.  The
 * caller holds the lock, so that no descriptor here can be closed meanwhile. */
static void reap_locked(struct http_reaper *r)
{
    int64_t now = now_ns();
    for (size_t i = 0; i < r->size; i++) {
        struct slot *s = &r->slots[i];
        if (s->fd < 0 || s->expires_ns > now)
            continue;
        shutdown(s->fd, SHUT_RDWR);
        s->expires_ns = INT64_MAX;
    }
}

static void *run(void *arg)
{
    struct http_reaper *r = arg;
    for (;;) {
        uint64_t expirations;
        if (read(r->timer, &expirations, sizeof(expirations)) < 0 && errno != EINTR)
            return NULL; /* UNTESTED: a timer descriptor has no other error */
        pthread_mutex_lock(&r->lock);
        int stopping = r->stopping;
        if (!stopping) {
            reap_locked(r);
            arm_earliest_locked(r);
        }
        pthread_mutex_unlock(&r->lock);
        if (stopping)
            return NULL;
    }
}

static int start_thread(struct http_reaper *r)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0)
        return BGMQ_ENOMEM;
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    r->has_thread = pthread_create(&r->thread, &attr, run, r) == 0;
    pthread_attr_destroy(&attr);
    if (!r->has_thread)
        return BGMQ_ETHREAD;
    pthread_setname_np(r->thread, "bgmq-http-reap");
    return BGMQ_OK;
}

int bgmqi_http_reaper_new(struct http_reaper **ret, size_t size, unsigned deadline_ms,
                          unsigned crowded_ms)
{
    struct http_reaper *r = calloc(1, sizeof(*r));
    if (!r)
        return BGMQ_ENOMEM;
    int err = BGMQ_ENOMEM;
    r->size = size;
    r->deadline_ns = (int64_t)deadline_ms * 1000000;
    r->crowded_ns = (int64_t)crowded_ms * 1000000;
    r->timer = -1;
    pthread_mutex_init(&r->lock, NULL);
    r->slots = calloc(size, sizeof(*r->slots));
    if (!r->slots)
        goto fail;
    for (size_t i = 0; i < size; i++)
        r->slots[i].fd = -1;
    err = BGMQ_EHTTP;
    r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (r->timer < 0)
        goto fail;
    err = start_thread(r);
    if (err < 0)
        goto fail;
    *ret = r;
    return BGMQ_OK;
fail:
    bgmqi_http_reaper_free(r);
    return err;
}

void bgmqi_http_reaper_free(struct http_reaper *r)
{
    if (!r)
        return;
    if (r->has_thread) {
        pthread_mutex_lock(&r->lock);
        r->stopping = 1;
        arm(r, 1); /* long past: the read returns at once */
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    if (r->timer >= 0)
        close(r->timer);
    pthread_mutex_destroy(&r->lock);
    free(r->slots);
    free(r);
}

/* When no place is free, nobody keeps one for long: otherwise idle clients that hold
 * all of them, wave after wave, would shut everybody else out.  The caller holds the
 * lock. */
static void make_room_locked(struct http_reaper *r)
{
    int64_t latest = now_ns() + r->crowded_ns;
    for (size_t i = 0; i < r->size; i++)
        if (r->slots[i].fd < 0)
            return;
    for (size_t i = 0; i < r->size; i++)
        if (r->slots[i].expires_ns != INT64_MAX && r->slots[i].expires_ns > latest)
            r->slots[i].expires_ns = latest;
}

void bgmqi_http_reaper_add(struct http_reaper *r, int fd)
{
    pthread_mutex_lock(&r->lock);
    size_t i = 0;
    while (i < r->size && r->slots[i].fd >= 0)
        i++;
    if (i < r->size) {
        r->slots[i] = (struct slot){.fd = fd, .expires_ns = now_ns() + r->deadline_ns};
        make_room_locked(r);
        arm_earliest_locked(r);
    } else {
        /* UNTESTED: the daemon keeps its limit.  Rather no connection than one for
         * ever. */
        shutdown(fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&r->lock);
}

void bgmqi_http_reaper_remove(struct http_reaper *r, int fd)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->size; i++)
        if (r->slots[i].fd == fd)
            r->slots[i].fd = -1;
    arm_earliest_locked(r);
    pthread_mutex_unlock(&r->lock);
}

size_t bgmqi_http_reaper_list(struct http_reaper *r, int *ret, size_t max)
{
    size_t n = 0;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->size && n < max; i++)
        if (r->slots[i].fd >= 0)
            ret[n++] = r->slots[i].fd;
    pthread_mutex_unlock(&r->lock);
    return n;
}
