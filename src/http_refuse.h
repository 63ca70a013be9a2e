/* http_refuse.h - a refused request: counted, logged, and slow for who guesses the token. */
#ifndef BGMQI_HTTP_REFUSE_H
#define BGMQI_HTTP_REFUSE_H

#include "http_guard.h"
#include "http_throttle.h"

#include <bgmq.h>

struct MHD_Connection;
struct http_reaper;

struct http_refuse {
    /* set once, then read only */
    struct bgmq *mq;
    struct http_reaper *reaper; /* NULL: mounted, the thread is the application's */
    int listening;              /* the daemon's socket */
    int stopping;               /* readable once the admin is to stop; -1: mounted */
    int disturbed;              /* readable when somebody has come in; -1: mounted */
    size_t room;                /* of watched */
    /* used by the thread of our daemon only */
    struct pollfd *watched;

    struct http_throttle throttle;
};

void bgmqi_http_refuse_init(struct http_refuse *r, struct bgmq *mq);
/* From here on a guesser waits, on the thread of the daemon whose clients come by the descriptor
 * LISTENING, at most CONNECTIONS of them watched by REAPER.  EHTTP, ENOMEM. */
int bgmqi_http_refuse_own(struct http_refuse *r, struct http_reaper *reaper,
                          int listening, size_t connections);
/* Somebody comes in, and is watched: no guesser keeps him waiting.  Any thread. */
void bgmqi_http_refuse_disturb(struct http_refuse *r);
/* Nobody waits any more.  Any thread. */
void bgmqi_http_refuse_stop(struct http_refuse *r);
void bgmqi_http_refuse_fini(struct http_refuse *r);

/* Queues the answer V to METHOD and URL, and returns an enum MHD_Result. */
int bgmqi_http_refuse_answer(struct http_refuse *r, struct MHD_Connection *connection,
                             struct http_verdict v, const char *method, const char *url);

#endif
