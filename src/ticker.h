/* ticker.h - the thread for everything that happens by itself when its time comes. */
#ifndef BGMQI_TICKER_H
#define BGMQI_TICKER_H

#include <stddef.h>

#include "registry.h"

struct ticker;

struct ticker_options {
    struct registry *registry; /* borrowed */
    const struct clock *clock;
    size_t stack_size;
    bool by_hand; /* no thread: somebody calls bgmqi_ticker_turn */
    /* Called at each turn, and no later than WALL_MS + the result; INT64_MAX: no matter. */
    int64_t (*also)(void *ctx);
    void *ctx;
};

/* Makes a ticker that does not run yet, but may be told what is due. */
int bgmqi_ticker_open(struct ticker **ret, const struct ticker_options *options);
/* Starts the thread, unless BY_HAND: from here on ALSO is called. */
int bgmqi_ticker_start(struct ticker *t);
/* Ends the thread; twice is harmless.  The other calls may go on. */
void bgmqi_ticker_end(struct ticker *t);
/* Ends and frees; NULL is allowed. */
void bgmqi_ticker_free(struct ticker *t);
/* TYPE has something to do at DUE_MS.  Any thread, no lock needed. */
void bgmqi_ticker_due(struct ticker *t, struct type *type, int64_t due_ms);
/* The next turn is for every type: what they may do has changed, and not by one of them. */
void bgmqi_ticker_all(struct ticker *t);
/* Does what is due on the caller's thread; returns in how many milliseconds there is more. */
int64_t bgmqi_ticker_turn(struct ticker *t);
/* Looks at the clock now. */
void bgmqi_ticker_poke(struct ticker *t);

#endif
