/* http_guard.h - which requests the admin answers, and which it refuses.
 *
 * Loopback is no wall: every web page that the operator's browser shows can send
 * requests to it, and a name server of an attacker can make them look same-origin.
 * Hence the rules on Host, on what only browsers send, and on framing. */
#ifndef BGMQI_HTTP_GUARD_H
#define BGMQI_HTTP_GUARD_H

#include "http_socket.h"

#include <bgmq.h>

struct MHD_Connection;
struct http_config;

/* The headers the rules look at.  Values are lent by the connection; NULL: absent. */
struct http_head {
    const char *host, *authorization, *origin, *content_length;
    const char *referer, *fetch_site, *agent;
    unsigned hosts, authorizations, origins, content_lengths;
    int transfer_encoding; /* 1: there is one */
    int cookie;
    int forwarded; /* 1: a proxy says that it stands between */
    int has_nul;   /* 1: a value holds a NUL, so that its end would be cut off */
};

/* What becomes of a request. */
struct http_verdict {
    unsigned status;  /* 0: go on */
    const char *text; /* the line that says why */
};

/* Bytes of a body that are read, and ignored. */
enum { HTTP_BODY_MAX = 4096 };

/* Adds one header to HEAD, which starts zeroed.  VALUE is lent; a NUL follows its LEN
 * bytes. */
void bgmqi_http_guard_add(struct http_head *head, const char *name, const char *value,
                          size_t len);
/* Reads the headers of CONNECTION into HEAD. */
void bgmqi_http_guard_read(struct http_head *ret, struct MHD_Connection *connection);

/* The rules for every request: framing, and Host, which is free text when ANY_HOST. */
struct http_verdict bgmqi_http_guard_message(const struct http_config *config,
                                             const struct http_head *head,
                                             enum http_peer peer, int any_host);
/* The further rules for one that only reads. */
struct http_verdict bgmqi_http_guard_reading(const struct http_config *config,
                                             const struct http_head *head,
                                             enum http_peer peer);
/* The further rules for one that changes something. */
struct http_verdict bgmqi_http_guard_change(const struct http_config *config,
                                            const struct http_head *head,
                                            enum http_peer peer);

#endif
