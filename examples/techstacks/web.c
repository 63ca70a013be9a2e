/*
 * web.c - the HTTP server: /mq/ goes to bgmq, the rest to the routes.
 *
 * One thread of libmicrohttpd runs everything but start and stop: requests are short, and
 * what takes long is what the queue is for.  It never stops the daemon nor waits for a
 * handler. It listens on loopback, where web pages in a browser can reach it too:
 * requests that a page made, or that came by a name that is not loopback's, are refused.
 */
#include "web.h"

#include "app.h"
#include "routes.h"
#include "say.h"
#include <arpa/inet.h>
#include <bgmq.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_BODY = 64 * 1024 };

struct web {
    struct app *app;
    struct bgmq_http *admin;
    struct MHD_Daemon *daemon;
};

/* What belongs to a connection: the body of the request that is being read. */
struct client {
    size_t len;
    char body[MAX_BODY];
    int too_big;
};

/* ---- answers ----------------------------------------------------------------------- */

static void add_headers(struct MHD_Response *response, const struct web_answer *answer)
{
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            answer->json ? "application/json"
                                         : "text/plain; charset=utf-8");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (answer->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer->allow);
}

static char *answer_text(const struct web_answer *answer)
{
    if (!answer->json)
        return strdup(answer->text ? answer->text : "");
    char *dump = json_dumps(answer->json, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    if (!dump)
        return NULL;
    size_t len = strlen(dump);
    char *text = realloc(dump, len + 2);
    if (!text) {
        free(dump);
        return NULL;
    }
    memcpy(text + len, "\n", 2);
    return text;
}

/* Sends ANSWER and gives back what it holds. */
static enum MHD_Result reply(struct MHD_Connection *connection, struct web_answer *answer)
{
    enum MHD_Result result = MHD_NO;
    char *text = answer_text(answer);
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE)
             : NULL;
    if (response) {
        add_headers(response, answer);
        result = MHD_queue_response(connection, answer->status, response);
        MHD_destroy_response(response);
    } else {
        free(text);
    }
    json_decref(answer->json);
    return result;
}

/* ---- requests ---------------------------------------------------------------------- */

/* 1 when HOST is a name of loopback, with or without a port. */
static int loopback(const char *host)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; host && i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = strlen(names[i]);
        if (strncasecmp(host, names[i], len) == 0 && (!host[len] || host[len] == ':'))
            return 1;
    }
    return 0;
}

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static void answer_request(struct web *web, struct MHD_Connection *connection,
                           const struct client *client, const char *url,
                           const char *method, struct web_answer *answer)
{
    json_t *body =
        client->len ? json_loadb(client->body, client->len, JSON_REJECT_DUPLICATES, NULL)
                    : json_object();
    if (!loopback(header(connection, MHD_HTTP_HEADER_HOST)))
        *answer = (struct web_answer){.status = MHD_HTTP_MISDIRECTED_REQUEST,
                                      .text = "Host must be a name of loopback.\n"};
    else if (header(connection, MHD_HTTP_HEADER_ORIGIN))
        *answer = (struct web_answer){.status = MHD_HTTP_FORBIDDEN,
                                      .text = "Not from a web page.\n"};
    else if (client->too_big)
        *answer = (struct web_answer){.status = MHD_HTTP_CONTENT_TOO_LARGE,
                                      .text = "The body is larger than 64 KiB.\n"};
    else if (!json_is_object(body))
        *answer = (struct web_answer){.status = MHD_HTTP_BAD_REQUEST,
                                      .text = "The body must be a JSON object.\n"};
    else
        routes_answer(web->app,
                      &(struct web_request){.method = method, .path = url, .body = body},
                      answer);
    json_decref(body);
}

static void keep_body(struct client *client, const char *data, size_t len)
{
    if (len > sizeof(client->body) - client->len) {
        client->too_big = 1;
        return;
    }
    memcpy(client->body + client->len, data, len);
    client->len += len;
}

/* libmicrohttpd calls this once for the headers, for each piece of the body, and at the
 * end. bgmq's admin sees each call first, and keeps its own state for its own requests.
 */
static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection,
                              const char *url, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **state)
{
    struct web *web = ctx;
    int result;
    if (bgmq_http_handle(web->admin, connection, url, method, version, upload_size, state,
                         &result))
        return result ? MHD_YES : MHD_NO;

    struct client *client =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
            ->socket_context;
    if (!client)
        return MHD_NO; /* there was no memory for it */
    if (*state != client) {
        client->len = 0;
        client->too_big = 0;
        *state = client;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        keep_body(client, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    struct web_answer answer = {.status = MHD_HTTP_INTERNAL_SERVER_ERROR};
    answer_request(web, connection, client, url, method, &answer);
    return reply(connection, &answer);
}

static void connection_changed(void *ctx, struct MHD_Connection *connection,
                               void **context, enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = calloc(1, sizeof(struct client));
    } else {
        free(*context);
        *context = NULL;
    }
}

/* ---- start and stop ---------------------------------------------------------------- */

static struct MHD_Daemon *listen_at(struct web *web, unsigned port)
{
    struct sockaddr_in loopback_address = {.sin_family = AF_INET,
                                           .sin_port = htons((uint16_t)port),
                                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD,
                            (uint16_t)port, NULL, NULL, handle, web, MHD_OPTION_SOCK_ADDR,
                            &loopback_address, MHD_OPTION_UNESCAPE_CALLBACK,
                            bgmq_http_unescape, NULL, MHD_OPTION_NOTIFY_CONNECTION,
                            connection_changed, NULL, MHD_OPTION_CONNECTION_LIMIT, 64u,
                            MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
}

int web_start(struct web **ret, struct app *app, unsigned port)
{
    struct bgmq_error error = {.text = "out of memory"};
    struct web *web = calloc(1, sizeof(*web));
    if (!web || bgmq_http_mount(&web->admin, app->mq, NULL, &error)) {
        say("admin: %s", error.text);
        goto fail;
    }
    web->app = app;
    web->daemon = listen_at(web, port);
    if (!web->daemon) {
        say("cannot listen on 127.0.0.1:%u; is the port taken?", port);
        goto fail;
    }
    *ret = web;
    return 0;
fail:
    web_stop(web);
    return -1;
}

unsigned web_port(const struct web *web)
{
    return MHD_get_daemon_info(web->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

void web_stop(struct web *web)
{
    if (!web)
        return;
    if (web->daemon)
        MHD_stop_daemon(web->daemon); /* first: it calls into the admin */
    bgmq_http_stop(web->admin);
    free(web);
}
