/* http_reply.h - the routes under /mq/ and their answers. */
#ifndef BGMQI_HTTP_REPLY_H
#define BGMQI_HTTP_REPLY_H

#include <bgmq.h>

struct MHD_Connection;

struct http_route; /* one path */

/* The route of exactly this raw path; NULL: none. */
const struct http_route *bgmqi_http_reply_find(const char *path);
/* Lends its path. */
const char *bgmqi_http_reply_path(const struct http_route *route);
/* 1 when the route changes something. */
int bgmqi_http_reply_changes(const struct http_route *route);
/* Of one that does: 1 when it starts the queues, 0 when it stops them. */
int bgmqi_http_reply_starts(const struct http_route *route);
/* NULL when METHOD is one of the route's, else the value of Allow.  STRICT: GET changes
 * nothing. */
const char *bgmqi_http_reply_refused(const struct http_route *route, const char *method,
                                     int strict);

/* How who asks calls himself: "" when he does not. */
const char *bgmqi_http_reply_agent(struct MHD_Connection *connection);

/* Both queue an answer on CONNECTION and return an enum MHD_Result. */
/* A line of text, which is borrowed for ever.  ALLOW: for a 405, else NULL. */
int bgmqi_http_reply_error(struct MHD_Connection *connection, unsigned status,
                           const char *text, const char *allow);
/* Does what the route is for. */
int bgmqi_http_reply_run(const struct http_route *route, struct bgmq *mq,
                         struct MHD_Connection *connection);

#endif
