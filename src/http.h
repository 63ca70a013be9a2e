/* http.h - the bounds of the admin's own daemon, and its start with other bounds.
 *
 * Only tests use other bounds than the defaults: they would otherwise wait ten seconds
 * for a deadline. */
#ifndef BGMQI_HTTP_H
#define BGMQI_HTTP_H

#include <bgmq.h>

/* Zero means the default in brackets. */
struct http_limits {
    unsigned connections; /* at once; more wait in the listen queue [16] */
    size_t memory;        /* bytes for the head of one request [16 KiB] */
    unsigned idle_s;      /* seconds without a byte [5] */
    unsigned deadline_ms; /* of a connection as a whole [10000] */
    unsigned crowded_ms;  /* left to each when all connections are taken [100] */
};

/* bgmq_http_start with other bounds; LIMITS may be NULL. */
int bgmqi_http_start(struct bgmq_http **ret, struct bgmq *mq,
                     const struct bgmq_http_options *options,
                     const struct http_limits *limits, struct bgmq_error *error);

#endif
