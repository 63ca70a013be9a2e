/* http_throttle.h - what a flood of requests of one kind is held to: a guesser of the token waits,
 * and the log gets one line a second. */
#ifndef BGMQI_HTTP_THROTTLE_H
#define BGMQI_HTTP_THROTTLE_H

#include <pthread.h>
#include <stdint.h>

/* Requests without the right token in a second that cost nothing, and what each further one
 * costs. */
enum { THROTTLE_FREE = 10, THROTTLE_WAIT_MS = 1000 };

struct http_throttle {
    pthread_mutex_t lock;
    /* protected by lock */
    int64_t second_ns; /* monotonic: when the second began that is counted */
    unsigned failures; /* in it */
    int64_t logged_ns; /* when a line was written last; 0: never */
    unsigned silent;   /* others since, without a line */
};

/* What is to be done about one more. */
struct http_strain {
    unsigned wait_ms; /* before it is answered */
    int log;          /* 1: write a line */
    unsigned silent;  /* in that line: how many more there were since the last one */
};

/* The monotonic clock. */
int64_t bgmqi_http_throttle_now_ns(void);

void bgmqi_http_throttle_init(struct http_throttle *t);
void bgmqi_http_throttle_fini(struct http_throttle *t);
/* Counts a request at NOW_NS; GUESS: 1 when it is refused for want of the right token.  Any thread;
 * does not wait. */
struct http_strain bgmqi_http_throttle_note(struct http_throttle *t, int64_t now_ns,
                                            int guess);

#endif
