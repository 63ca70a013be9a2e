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

int bgmqi_ticker_open(struct ticker **ret, const struct ticker_options *options);
/* Ends the thread; twice is harmless.  The other calls may go on. */
void bgmqi_ticker_end(struct ticker *t);
/* Ends and frees; NULL is allowed. */
void bgmqi_ticker_free(struct ticker *t);
/* There is something to do at DUE_MS.  Any thread, no lock needed. */
void bgmqi_ticker_due(struct ticker *t, int64_t due_ms);
/* Does what is due on the caller's thread; returns in how many milliseconds there is more. */
int64_t bgmqi_ticker_turn(struct ticker *t);
/* Looks at the clock now. */
void bgmqi_ticker_poke(struct ticker *t);

#endif
