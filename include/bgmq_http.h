/* bgmq_http.h - the admin over HTTP: four routes for curl.  Included by bgmq.h. */
#ifndef BGMQ_HTTP_H
#define BGMQ_HTTP_H

#include "bgmq.h"

#ifdef __cplusplus
extern "C" {
#endif

struct MHD_Connection;
struct bgmq_http;

struct bgmq_http_options {
    unsigned port;           /* on 127.0.0.1 [0: any free one] */
    const char *unix_socket; /* path, instead of a port; mode 0600 */
    const char
        *token; /* bearer token that start and stop ask for: random, visible ASCII, >= 22
                          characters, >= 32 if hexadecimal [none] */
    const char
        *token_file; /* or its path: first line of a file of mode 0600, ours or root's */
    const char
        *token_env; /* or the variable it is in, removed from the environment: before
                               other threads look there */
    const char *const
        *hosts; /* NULL-ended: Host values allowed beside loopback's names */
    int strict; /* 1: GET changes nothing, only POST does [0] */
};

/* Serves /mq/start /mq/stop /mq/stats /mq/status on loopback from one thread of its own.
 * Without a token every user of the machine may stop the queue over TCP: where that matters, set
 * one or use the unix socket, in a directory that nobody else may write to.  Copies OPTIONS.
 * Borrows MQ until bgmq_http_stop, which must come before bgmq_free.  EHTTP: the port is taken,
 * the path or the token file unusable; ERROR, which may be NULL, says why.  The service goes on
 * without, and counters.admin tells.  Refused requests are in the log, one line a second; after
 * 10 without the right token in a second, each further one waits a second, or less when somebody
 * else is to be served. */
BGMQ_API int bgmq_http_start(struct bgmq_http **ret, struct bgmq *mq,
                             const struct bgmq_http_options *options,
                             struct bgmq_error *error);
/* The port it listens on; 0 on a unix socket. */
BGMQ_API unsigned bgmq_http_port(const struct bgmq_http *http);
/* Ends the listener and frees HTTP; NULL is allowed.  Not in a handler, nor on a thread of
 * libmicrohttpd. */
BGMQ_API void bgmq_http_stop(struct bgmq_http *http);

/* For an application's own libmicrohttpd daemon: */
/* Makes the routes without a daemon; bgmq_http_stop frees it.  Port and socket are unused. */
BGMQ_API int bgmq_http_mount(struct bgmq_http **ret, struct bgmq *mq,
                             const struct bgmq_http_options *options,
                             struct bgmq_error *error);
/* Call it first in the access handler, each time, with that handler's arguments.  0: the URL is
 * not under /mq/, go on yourself.  1: answered or in progress, return *RET_RESULT (an enum
 * MHD_Result).  Never touches *REQUEST_STATE.  Where the daemon listens beyond loopback, other
 * machines need the token, also to read.  Start the daemon with MHD_OPTION_UNESCAPE_CALLBACK set
 * to bgmq_http_unescape, so that the URL arrives as it was sent. */
BGMQ_API int bgmq_http_handle(struct bgmq_http *http, struct MHD_Connection *connection,
                              const char *url, const char *method, const char *version,
                              size_t *upload_data_size, void **request_state,
                              int *ret_result);
BGMQ_API size_t bgmq_http_unescape(void *cls, struct MHD_Connection *connection,
                                   char *text);

#ifdef __cplusplus
}
#endif

#endif
