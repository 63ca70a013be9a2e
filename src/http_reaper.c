/* http_reaper.c - one thread that lets connections in, and shuts them down at their absolute
 * deadline.
 *
 * Called by http.c: started and remove on the thread of the daemon, new, open, end and free on the
 * thread that starts and stops the admin.  The reaper's own thread sleeps in the kernel until
 * somebody comes or a timer ends, which is set to the earliest deadline, or to nothing when no
 * connection is open: no polling, and no wake-up that could get lost.
 *
 * It must never close a descriptor that is the daemon's, nor touch one that was removed, or that
 * the daemon has not said to have: it may have closed it at once. */
#include "http_reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { STACK_SIZE = 1024 * 1024 };

/* How long the door stays shut when the system lets nobody in. */
#define SHUT_NS INT64_C(1000000000)

struct slot {
    int fd;             /* -1: free */
    int started;        /* 0: on its way to the daemon */
    int64_t expires_ns; /* monotonic; INT64_MAX: shut down already */
};

struct http_reaper {
    /* set once, then read only */
    pthread_t thread;
    int has_thread;
    int timer; /* -1: none */
    int64_t deadline_ns, crowded_ns;
    size_t size;
    /* used by its thread only */
    int spare; /* a descriptor to be closed when there is none for a connection; -1: none */
    int shut; /* 1: somebody was told that the door is shut */
    pthread_mutex_t lock;
    /* protected by lock */
    int stopping;
    struct slot *slots;
    struct http_door door; /* its fd is -1 before it is opened */
    int64_t shut_until_ns;
    int look; /* the thread has to look at the door again */
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
    if (r->shut_until_ns && r->shut_until_ns < earliest)
        earliest = r->shut_until_ns;
    if (r->stopping || r->look)
        earliest = 1; /* long past: at once */
    arm(r, earliest == INT64_MAX ? 0 : earliest);
}

/* The slot of FD (-1: a free one), or NULL.  The caller holds the lock. */
static struct slot *find_locked(struct http_reaper *r, int fd)
{
    for (size_t i = 0; i < r->size; i++)
        if (r->slots[i].fd == fd)
            return &r->slots[i];
    return NULL;
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
        if (s->started) {
            shutdown(s->fd, SHUT_RDWR);
            s->expires_ns = INT64_MAX;
        } else {
            s->fd = -1; /* the daemon is very late, or had no memory and closed it */
        }
    }
}

/* ---- the door ------------------------------------------------------------------------ */

/* When no place is free, nobody keeps one for long: otherwise idle clients that hold
 * all of them, wave after wave, would shut everybody else out.  Who did not start yet keeps
 * its place: the daemon may be slow to take it, and has it nevertheless.  The caller holds the
 * lock. */
static void make_room_locked(struct http_reaper *r)
{
    int64_t latest = now_ns() + r->crowded_ns;
    if (find_locked(r, -1))
        return;
    for (size_t i = 0; i < r->size; i++) {
        struct slot *s = &r->slots[i];
        if (s->started && s->expires_ns != INT64_MAX && s->expires_ns > latest)
            s->expires_ns = latest;
    }
}

/* False when there is no place. */
static int place(struct http_reaper *r, int fd, int started)
{
    pthread_mutex_lock(&r->lock);
    struct slot *s = find_locked(r, fd); /* one that the daemon closed unheard */
    if (!s)
        s = find_locked(r, -1);
    if (s) {
        *s = (struct slot){
            .fd = fd, .started = started, .expires_ns = now_ns() + r->deadline_ns};
        make_room_locked(r);
        arm_earliest_locked(r);
    }
    pthread_mutex_unlock(&r->lock);
    return s != NULL;
}

static int accept_one(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
    *len = sizeof(*addr);
    return accept4(fd, (struct sockaddr *)addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Whoever was at the door has gone, or the network took the connection away, which accept(2)
 * says once: the next may be there.  With any other error the same one is there still. */
static int has_gone(int errnum)
{
    static const int gone[] = {EAGAIN,       EINTR,       ECONNABORTED, EPROTO,
                               ENETDOWN,     ENETUNREACH, ENOPROTOOPT,  ENONET,
                               EHOSTUNREACH, EHOSTDOWN,   EOPNOTSUPP};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
        if (errnum == gone[i])
            return 1;
    return 0;
}

/* When who is at the door cannot come in, it stays shut for a while. */
static void shut_door(struct http_reaper *r)
{
    pthread_mutex_lock(&r->lock);
    r->shut_until_ns = now_ns() + SHUT_NS;
    pthread_mutex_unlock(&r->lock);
}

static void tell(struct http_reaper *r, const struct http_door *door, int errnum)
{
    if (r->shut == (errnum != 0))
        return;
    r->shut = errnum != 0;
    if (door->tell)
        door->tell(door->ctx, errnum);
}

/* Somebody is at the door, or was. */
static void let_in(struct http_reaper *r, const struct http_door *door)
{
    struct sockaddr_storage addr;
    socklen_t len;
    int fd = accept_one(door->fd, &addr, &len);
    if (fd < 0 && !has_gone(errno) && r->spare >= 0) {
        close(r->spare);
        r->spare = -1;
        fd = accept_one(door->fd, &addr, &len);
    }
    int errnum = fd < 0 && !has_gone(errno) ? errno : 0;
    if (errnum)
        shut_door(r);
    if (errnum || fd >= 0)
        tell(r, door, errnum);
    if (fd < 0)
        return;
    if (!place(r, fd, 0))
        close(fd); /* UNTESTED: a place was free, and only this thread fills it */
    else if (!door->enter(door->ctx, fd, (struct sockaddr *)&addr, len))
        bgmqi_http_reaper_remove(r, fd);
}

/* The door, when there is a place behind it; else its fd is -1.  The caller holds the lock. */
static struct http_door door_locked(struct http_reaper *r)
{
    struct http_door door = r->door;
    r->look = 0;
    if (r->shut_until_ns && now_ns() >= r->shut_until_ns)
        r->shut_until_ns = 0;
    if (r->shut_until_ns || !find_locked(r, -1))
        door.fd = -1;
    return door;
}

static void keep_spare(struct http_reaper *r)
{
    if (r->spare < 0)
        r->spare = fcntl(r->timer, F_DUPFD_CLOEXEC, 0); /* any will do */
}

static void *run(void *arg)
{
    struct http_reaper *r = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    for (;;) {
        uint64_t expirations;
        while (read(r->timer, &expirations, sizeof(expirations)) < 0 && errno == EINTR)
            ;
        pthread_mutex_lock(&r->lock);
        int stopping = r->stopping;
        reap_locked(r);
        struct http_door door = door_locked(r);
        arm_earliest_locked(r);
        pthread_mutex_unlock(&r->lock);
        if (stopping)
            return NULL;
        keep_spare(r);
        struct pollfd p[] = {{.fd = r->timer, .events = POLLIN},
                             {.fd = door.fd, .events = POLLIN}};
        if (poll(p, 2, -1) > 0 && p[1].revents)
            let_in(r, &door);
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
    r->spare = -1;
    r->door.fd = -1;
    pthread_mutex_init(&r->lock, NULL);
    r->slots = calloc(size, sizeof(*r->slots));
    if (!r->slots)
        goto fail;
    for (size_t i = 0; i < size; i++)
        r->slots[i].fd = -1;
    err = BGMQ_EHTTP;
    r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    keep_spare(r);
    if (r->timer < 0 || r->spare < 0)
        goto fail;
    keep_spare(r);
    err = start_thread(r);
    if (err < 0)
        goto fail;
    *ret = r;
    return BGMQ_OK;
fail:
    bgmqi_http_reaper_free(r);
    return err;
}

void bgmqi_http_reaper_open(struct http_reaper *r, const struct http_door *door)
{
    pthread_mutex_lock(&r->lock);
    r->door = *door;
    r->look = 1;
    arm_earliest_locked(r);
    pthread_mutex_unlock(&r->lock);
}

void bgmqi_http_reaper_end(struct http_reaper *r)
{
    if (!r || !r->has_thread)
        return;
    pthread_mutex_lock(&r->lock);
    r->stopping = 1;
    arm_earliest_locked(r);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->has_thread = 0;
}

void bgmqi_http_reaper_free(struct http_reaper *r)
{
    if (!r)
        return;
    bgmqi_http_reaper_end(r);
    if (r->timer >= 0)
        close(r->timer);
    if (r->spare >= 0)
        close(r->spare);
    pthread_mutex_destroy(&r->lock);
    free(r->slots);
    free(r);
}

void bgmqi_http_reaper_add(struct http_reaper *r, int fd)
{
    if (!place(r, fd, 1))
        shutdown(fd, SHUT_RDWR); /* rather no connection than one for ever */
}

void bgmqi_http_reaper_started(struct http_reaper *r, int fd)
{
    pthread_mutex_lock(&r->lock);
    struct slot *s = find_locked(r, fd);
    if (s) {
        s->started = 1;
        make_room_locked(r);
        arm_earliest_locked(r);
    }
    pthread_mutex_unlock(&r->lock);
    if (!s)
        bgmqi_http_reaper_add(r, fd); /* it took so long that it was given up */
}

void bgmqi_http_reaper_remove(struct http_reaper *r, int fd)
{
    pthread_mutex_lock(&r->lock);
    int full = !find_locked(r, -1);
    struct slot *s = find_locked(r, fd);
    if (s)
        s->fd = -1;
    r->look |= full && s; /* somebody may wait for the place */
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
