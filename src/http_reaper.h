/* http_reaper.h - lets connections in, and closes those that outlive the absolute deadline.
 *
 * The daemon's own time-out counts from the last byte, so a client that sends one byte
 * a second would stay for ever; at the limit of connections it would shut everybody
 * else out.  And where the process has no descriptor left, its listening thread would ask for
 * connections again and again without a pause: so the daemon has none, and gets its connections
 * from here. */
#ifndef BGMQI_HTTP_REAPER_H
#define BGMQI_HTTP_REAPER_H

#include <bgmq.h>
#include <sys/socket.h>

struct http_reaper;

/* Where connections come from, and where they go. */
struct http_door {
    int fd; /* listens, and does not block; stays the caller's */
    /* Takes CONNECTION in any case; 0: refused, and closed.  Tells by _started, if it ever gets so
     * far, and then by _remove; one that does not start by the deadline loses its place. */
    int (*enter)(void *ctx, int connection, const struct sockaddr *addr, socklen_t len);
    /* Told by the reaper's thread when nobody comes in any more (ERRNUM says why: mostly for want
     * of a descriptor), and when somebody did again (0).  NULL: nobody is told. */
    void (*tell)(void *ctx, int errnum);
    void *ctx;
};

/* Starts a thread that watches up to SIZE connections.  When all places are taken,
 * each that has started has at most CROWDED_MS left: others wait.  ENOMEM, ETHREAD, EHTTP. */
int bgmqi_http_reaper_new(struct http_reaper **ret, size_t size, unsigned deadline_ms,
                          unsigned crowded_ms);
/* Lets connections in from now on, as many as there are places.  Without a descriptor for one it
 * uses the one that it keeps for that, and without that, or when the system lets nobody in for
 * another reason, it tries again a second later. */
void bgmqi_http_reaper_open(struct http_reaper *reaper, const struct http_door *door);
/* Ends the thread: nobody comes in any more, and no deadline is kept.  NULL is allowed. */
void bgmqi_http_reaper_end(struct http_reaper *reaper);
/* Ends and frees it; NULL is allowed. */
void bgmqi_http_reaper_free(struct http_reaper *reaper);

/* Watches FD from now on, which stays the caller's.  Any thread. */
void bgmqi_http_reaper_add(struct http_reaper *reaper, int fd);
/* FD, which came in by the door, is the daemon's now.  Is shut down where its place was lost and
 * none is free. */
void bgmqi_http_reaper_started(struct http_reaper *reaper, int fd);
/* Forgets FD.  Must come before FD is closed.  Any thread. */
void bgmqi_http_reaper_remove(struct http_reaper *reaper, int fd);

/* Copies at most MAX of the descriptors watched; returns how many.  Any thread. */
size_t bgmqi_http_reaper_list(struct http_reaper *reaper, int *ret, size_t max);

#endif
