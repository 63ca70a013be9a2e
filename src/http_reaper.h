/* http_reaper.h - closes connections that outlive the absolute deadline.
 *
 * The daemon's own time-out counts from the last byte, so a client that sends one byte
 * a second would stay for ever; at the limit of connections it would shut everybody
 * else out. */
#ifndef BGMQI_HTTP_REAPER_H
#define BGMQI_HTTP_REAPER_H

#include <bgmq.h>

struct http_reaper;

/* Starts a thread that watches up to SIZE connections.  When all places are taken,
 * each of them has at most CROWDED_MS left: others wait.  ENOMEM, ETHREAD, EHTTP. */
int bgmqi_http_reaper_new(struct http_reaper **ret, size_t size, unsigned deadline_ms,
                          unsigned crowded_ms);
/* Ends the thread; NULL is allowed. */
void bgmqi_http_reaper_free(struct http_reaper *reaper);

/* Watches FD from now on, which stays the caller's.  Any thread. */
void bgmqi_http_reaper_add(struct http_reaper *reaper, int fd);
/* Forgets FD.  Must come before FD is closed.  Any thread. */
void bgmqi_http_reaper_remove(struct http_reaper *reaper, int fd);

/* Copies at most MAX of the descriptors watched; returns how many.  Any thread. */
size_t bgmqi_http_reaper_list(struct http_reaper *reaper, int *ret, size_t max);

#endif
