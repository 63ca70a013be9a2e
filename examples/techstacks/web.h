/* web.h - the HTTP server: /mq/ goes to bgmq, the rest to the routes. */
#ifndef TECHSTACKS_WEB_H
#define TECHSTACKS_WEB_H

#include <jansson.h>

struct app;
struct web;

struct web_request {
    const char *method;
    const char *path;
    const json_t *body; /* an object; empty when the request had no body */
};

struct web_answer {
    unsigned status;
    json_t *json;      /* to be sent, and given back; or NULL */
    const char *text;  /* static, when there is no json */
    const char *allow; /* static, with 405: what would have been allowed */
};

/* Listens on 127.0.0.1 at PORT (0: any free one).  Returns 0, or -1 with the reason on
 * stderr. */
int web_start(struct web **ret, struct app *app, unsigned port);
unsigned web_port(const struct web *web);
/* Ends the server, after the request it answers.  NULL is allowed. */
void web_stop(struct web *web);

#endif
