/* watch.h - notices that another process has written to the database. */
#ifndef BGMQI_WATCH_H
#define BGMQI_WATCH_H

#include <bgmq.h>

struct watch;
struct flight_bell;

struct watch_options {
    const char *database;     /* lent for the call */
    struct flight_bell *bell; /* lent until bgmqi_watch_end */
    size_t stack_size;
    /* Something may be new.  On the thread of the watch, with no lock held. */
    void (*changed)(void *ctx);
    void *ctx;
};

/* Starts the thread.  The errors of bgmq_open, with ERROR. */
int bgmqi_watch_open(struct watch **ret, const struct watch_options *options,
                     struct bgmq_error *error);
/* Ends the thread, closes its connection and frees W.  NULL is allowed. */
void bgmqi_watch_end(struct watch *w);

#endif
