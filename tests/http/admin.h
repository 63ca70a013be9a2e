/* admin.h - what the HTTP tests share: a service with its admin, and a client that
 * sends bytes exactly as told, which no well-behaved client does. */
#ifndef BGMQ_TEST_ADMIN_H
#define BGMQ_TEST_ADMIN_H

#include "../../src/http.h"
#include "../harness/harness.h"

/* ---- a service with its admin ---- */

struct admin {
    struct bgmq *mq;
    struct bgmq_http *http;
    unsigned port;
};

/* Opens a service without a database, stopped. */
struct bgmq *admin_service(void);
/* Starts both; OPTIONS and LIMITS may be NULL. */
void admin_start(struct admin *a, const struct bgmq_http_options *options,
                 const struct http_limits *limits);
/* Ends both. */
void admin_stop(struct admin *a);

/* ---- an answer ---- */

struct reply {
    int status;       /* 0: the connection ended without an answer */
    const char *body; /* inside bytes */
    size_t len;       /* of the body */
    size_t total;     /* of everything */
    char bytes[32 * 1024];
};

/* Lends the value of the first header NAME, until the next call; NULL: there is none. */
const char *reply_header(const struct reply *r, const char *name);
/* How many headers NAME there are. */
int reply_count(const struct reply *r, const char *name);

/* ---- a client ---- */

/* Both return a descriptor to close(). */
int client_connect(unsigned port);
int client_connect_unix(const char *path);
/* Sends all bytes; returns 0 when the other side has closed meanwhile. */
int client_send(int fd, const void *bytes, size_t len);
/* Sends a C string. */
void client_text(int fd, const char *text);
/* Reads to the end of the stream. */
void client_read(int fd, struct reply *ret);
/* Waits until the other side has closed; returns the nanoseconds since START, of
 * harness_now(). */
int64_t client_closed(int fd, int64_t start);

/* Connects, sends the C string TEXT, reads the answer, closes.  Returns the status. */
int client_raw(unsigned port, const char *text, struct reply *ret);
/* Likewise for METHOD and PATH, with Host and HEADERS, each ended by CR LF. */
int client_request(unsigned port, const char *method, const char *path,
                   const char *headers, struct reply *ret);
/* Likewise, for the status only. */
int client_status(unsigned port, const char *method, const char *path,
                  const char *headers);

#endif
