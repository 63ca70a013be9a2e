/* http_reply.c - the routes under /mq/ and their answers.
 *
 * Called by http.c once the guard has let a request pass, on the thread of the daemon, or
 * on any thread of an application's own.
 *
 * It must never wait: it only takes snapshots and requests, and a stop that takes
 * longer is answered 202 while it goes on. */
#include "http_reply.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef int page_fn(struct bgmq *mq, char **ret);

/* A page has TEXT and JSON, a change has RUN. */
struct http_route {
    const char *path;
    page_fn *text, *json;
    int (*run)(struct bgmq *mq);
};

static const struct http_route routes[] = {
    {.path = "/mq/status", .text = bgmq_status_text, .json = bgmq_status_json},
    {.path = "/mq/stats", .text = bgmq_stats_text, .json = bgmq_stats_json},
    {.path = "/mq/start", .run = bgmq_start},
    {.path = "/mq/stop", .run = bgmq_request_stop},
};

static const char text_plain[] = "text/plain; charset=utf-8";

/* An answer before it is queued. */
struct answer {
    unsigned status;
    const char *type;
    char *body; /* constant when MODE is PERSISTENT */
    enum MHD_ResponseMemoryMode mode;
    const char *name, *value; /* one header more; NULL: none */
};

const struct http_route *bgmqi_http_reply_find(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (!strcmp(path, routes[i].path))
            return &routes[i];
    return NULL;
}

const char *bgmqi_http_reply_path(const struct http_route *route)
{
    return route->path;
}

int bgmqi_http_reply_changes(const struct http_route *route)
{
    return route->run != NULL;
}

int bgmqi_http_reply_starts(const struct http_route *route)
{
    return route->run == bgmq_start;
}

const char *bgmqi_http_reply_refused(const struct http_route *route, const char *method,
                                     int strict)
{
    int is_get = !strcmp(method, MHD_HTTP_METHOD_GET);
    if (!route->run)
        return is_get || !strcmp(method, MHD_HTTP_METHOD_HEAD) ? NULL : "GET, HEAD";
    if (!strcmp(method, MHD_HTTP_METHOD_POST) || (is_get && !strict))
        return NULL;
    return strict ? "POST" : "GET, POST";
}

/* ---- queueing ---------------------------------------------------------------------- */

static int add_headers(struct MHD_Response *response, const struct answer *a)
{
    static const char *const fixed[][2] = {
        {"Cache-Control", "no-store"},
        {"Connection", "close"},
        {"Content-Security-Policy", "default-src 'none'"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
    };
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (MHD_add_response_header(response, fixed[i][0], fixed[i][1]) != MHD_YES)
            return 0;
    if (a->name && MHD_add_response_header(response, a->name, a->value) != MHD_YES)
        return 0;
    return MHD_add_response_header(response, "Content-Type", a->type) == MHD_YES;
}

/* Queues A, whose body is the response's from here on. */
static int queue(struct MHD_Connection *connection, const struct answer *a)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(a->body), a->body, a->mode);
    if (!response) {
        if (a->mode == MHD_RESPMEM_MUST_FREE)
            free(a->body);
        return MHD_NO;
    }
    int r = MHD_NO;
    if (add_headers(response, a))
        r = (int)MHD_queue_response(connection, a->status, response);
    MHD_destroy_response(response);
    return r;
}

/* Queues a line of text that is good for ever, with one header more if NAME. */
static int queue_line(struct MHD_Connection *connection, unsigned status,
                      const char *text, const char *name, const char *value)
{
    struct answer a = {.status = status,
                       .type = text_plain,
                       .body = (char *)text,
                       .mode = MHD_RESPMEM_PERSISTENT,
                       .name = name,
                       .value = value};
    return queue(connection, &a);
}

const char *bgmqi_http_reply_agent(struct MHD_Connection *connection)
{
    const char *agent =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "User-Agent");
    return agent ? agent : "";
}

int bgmqi_http_reply_error(struct MHD_Connection *connection, unsigned status,
                           const char *text, const char *allow)
{
    if (allow)
        return queue_line(connection, status, text, "Allow", allow);
    if (status == MHD_HTTP_UNAUTHORIZED)
        return queue_line(connection, status, text, "WWW-Authenticate", "Bearer");
    return queue_line(connection, status, text, NULL, NULL);
}

/* ---- text or JSON ------------------------------------------------------------------ */

/* The weight, 0..1000, that one item of Accept gives to its type; the item ends at
 * END. */
static int weight(const char *item, const char *end)
{
    for (const char *p = item; p < end; p++) {
        if (*p != ';')
            continue;
        do
            p++;
        while (p < end && (*p == ' ' || *p == '\t'));
        if (end - p < 3 || (*p != 'q' && *p != 'Q') || p[1] != '=') {
            p--; /* this may be the next semicolon */
            continue;
        }
        int w = p[2] == '1' ? 1000 : 0;
        if (end - p > 3 && p[3] == '.')
            for (int i = 4, unit = 100; w < 1000 && i < 7 && p + i < end; i++, unit /= 10)
                if (p[i] >= '0' && p[i] <= '9')
                    w += (p[i] - '0') * unit;
        return w;
    }
    return 1000;
}

/* What Accept asks for: the weights of the two types, by name. */
struct wish {
    int json, text;
    int json_first;
};

static int item_is(const char *item, const char *end, const char *type)
{
    size_t len = strlen(type);
    if ((size_t)(end - item) < len || strncasecmp(item, type, len) != 0)
        return 0;
    return item + len == end || item[len] == ';' || item[len] == ' ' || item[len] == '\t';
}

static enum MHD_Result read_accept(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    struct wish *wish = cls;
    if (!value || strcasecmp(name, MHD_HTTP_HEADER_ACCEPT) != 0)
        return MHD_YES;
    for (const char *item = value; *item;) {
        item += strspn(item, " \t,");
        const char *end = item + strcspn(item, ",");
        if (item_is(item, end, "application/json")) {
            wish->json_first = wish->text < 0;
            wish->json = weight(item, end);
        } else if (item_is(item, end, "text/plain")) {
            wish->text = weight(item, end);
        }
        item = end;
    }
    return MHD_YES;
}

static int wants_json(struct MHD_Connection *connection)
{
    const char *format =
        MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "format");
    if (format && !strcmp(format, "json"))
        return 1;
    if (format && !strcmp(format, "text"))
        return 0;
    struct wish wish = {.json = -1, .text = -1};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, read_accept, &wish);
    return wish.json > 0 &&
           (wish.json > wish.text || (wish.json == wish.text && wish.json_first));
}

/* ---- routes ------------------------------------------------------------------------ */

/* The answer to an error of the library: nothing here can mend it. */
static int reply_unavailable(struct MHD_Connection *connection, int err)
{
    switch (err) {
    case BGMQ_ECLOSED:
        return queue_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                          "the service is closed\n", NULL, NULL);
    case BGMQ_EBUSY:
    case BGMQ_EINPROGRESS:
        return queue_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                          "busy: a stop is going on\n", "Retry-After", "1");
    case BGMQ_ETHREAD:
        return queue_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                          "a thread could not be started\n", "Retry-After", "1");
    case BGMQ_ENOMEM:
        return queue_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n",
                          "Retry-After", "1");
    case BGMQ_ESTORE:
        return queue_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                          "the store has failed\n", NULL, NULL);
    default:
        return queue_line(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                          "the service cannot do this now\n", NULL, NULL);
    }
}

static int run_page(const struct http_route *route, struct bgmq *mq,
                    struct MHD_Connection *connection)
{
    int json = wants_json(connection);
    char *body;
    int r = (json ? route->json : route->text)(mq, &body);
    if (r < 0)
        return reply_unavailable(connection, r);
    struct answer a = {.status = MHD_HTTP_OK,
                       .type = json ? "application/json" : text_plain,
                       .body = body,
                       .mode = MHD_RESPMEM_MUST_FREE};
    return queue(connection, &a);
}

int bgmqi_http_reply_run(const struct http_route *route, struct bgmq *mq,
                         struct MHD_Connection *connection)
{
    if (!route->run)
        return run_page(route, mq, connection);
    int r = route->run(mq);
    if (r >= 0)
        return queue_line(connection, MHD_HTTP_OK, "OK\n", NULL, NULL);
    if (r == BGMQ_EINPROGRESS && route->run == bgmq_request_stop)
        return queue_line(connection, MHD_HTTP_ACCEPTED, "stopping: handlers still run\n",
                          "Retry-After", "1");
    return reply_unavailable(connection, r);
}
