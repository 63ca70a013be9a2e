/* http_guard.c - which requests the admin answers, and which it refuses.
 *
 * Called by http.c for every request, on the thread of the daemon, or on any thread of an
 * application's own.  All but the reading of the headers is a pure function of its
 * arguments.
 *
 * It must never compare the token in a time that depends on the token, nor write it
 * anywhere, nor decide by the first of two headers where the next reader may look at
 * the second. */
#include "http_guard.h"

#include "http_config.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

static const struct http_verdict go_on;

static struct http_verdict refuse(unsigned status, const char *text)
{
    return (struct http_verdict){.status = status, .text = text};
}

/* ---- reading ----------------------------------------------------------------------- */

static void note(const char **value_ret, unsigned *count, const char *value)
{
    *value_ret = value;
    ++*count;
}

void bgmqi_http_guard_add(struct http_head *head, const char *name, const char *value,
                          size_t len)
{
    /* libmicrohttpd 0.9.75 itself cuts the value there and gives the shorter length. */
    if (strlen(value) != len)
        head->has_nul = 1;
    if (!strcasecmp(name, "Host"))
        note(&head->host, &head->hosts, value);
    else if (!strcasecmp(name, "Authorization"))
        note(&head->authorization, &head->authorizations, value);
    else if (!strcasecmp(name, "Origin"))
        note(&head->origin, &head->origins, value);
    else if (!strcasecmp(name, "Content-Length"))
        note(&head->content_length, &head->content_lengths, value);
    else if (!strcasecmp(name, "Transfer-Encoding"))
        head->transfer_encoding = 1;
    else if (!strcasecmp(name, "Referer"))
        head->referer = value;
    else if (!strcasecmp(name, "Cookie"))
        head->cookie = 1;
    else if (!strcasecmp(name, "Forwarded") || !strcasecmp(name, "X-Forwarded-For") ||
             !strcasecmp(name, "Via"))
        head->forwarded = 1;
    /* Of two, one mark of a browser is enough. */
    else if (!strcasecmp(name, "Sec-Fetch-Site") &&
             (!head->fetch_site || !strcasecmp(head->fetch_site, "none")))
        head->fetch_site = value;
    else if (!strcasecmp(name, "User-Agent") &&
             (!head->agent || strncasecmp(head->agent, "Mozilla/", 8) != 0))
        head->agent = value;
}

static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t name_len, const char *value, size_t len)
{
    (void)kind;
    struct http_head *head = cls;
    if (strlen(name) != name_len)
        head->has_nul = 1;
    bgmqi_http_guard_add(head, name, value ? value : "", value ? len : 0);
    return MHD_YES;
}

void bgmqi_http_guard_read(struct http_head *ret, struct MHD_Connection *connection)
{
    *ret = (struct http_head){0};
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, add_header, ret);
}

/* ---- framing and Host -------------------------------------------------------------- */

/* The number TEXT, digits only and at most MAX; MAX + 1 when it is larger, -1 when it
 * is none. */
static long parse_number(const char *text, long max)
{
    long n = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        if (n <= max)
            n = n * 10 + (*text - '0');
    }
    return n <= max ? n : max + 1;
}

static struct http_verdict check_framing(const struct http_head *head)
{
    if (head->has_nul)
        return refuse(400, "a header holds a NUL byte\n");
    if (head->hosts > 1 || head->authorizations > 1 || head->origins > 1 ||
        head->content_lengths > 1)
        return refuse(400, "a header that may come once came twice\n");
    if (head->transfer_encoding)
        return refuse(400, "Transfer-Encoding is not accepted here\n");
    if (!head->content_length)
        return go_on;
    long len = parse_number(head->content_length, HTTP_BODY_MAX);
    if (len < 0)
        return refuse(400, "Content-Length is not a number\n");
    return len > HTTP_BODY_MAX ? refuse(413, "the body is too large\n") : go_on;
}

/* 1 when HOST is NAME, or NAME and a port: which one does not matter, it may be
 * forwarded. */
static int host_is(const char *host, const char *name)
{
    size_t len = strlen(name);
    if (strncasecmp(host, name, len) != 0)
        return 0;
    if (!host[len])
        return 1;
    if (host[len] != ':')
        return 0;
    long port = parse_number(host + len + 1, 65535);
    return port >= 1 && port <= 65535;
}

static int host_is_known(const struct http_config *config, const char *host)
{
    static const char *const loopback[] = {"127.0.0.1", "[::1]", "localhost"};
    for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++)
        if (host_is(host, loopback[i]))
            return 1;
    for (size_t i = 0; config->hosts && config->hosts[i]; i++)
        if (host_is(host, config->hosts[i]))
            return 1;
    return 0;
}

struct http_verdict bgmqi_http_guard_message(const struct http_config *config,
                                             const struct http_head *head,
                                             enum http_peer peer, int any_host)
{
    struct http_verdict v = check_framing(head);
    if (v.status)
        return v;
    if (!head->host || (!*head->host && !any_host))
        return refuse(400, "a request names its Host\n");
    if (!any_host && !host_is_known(config, head->host))
        return refuse(421, "this Host is not served here\n");
    if (peer == PEER_STRANGER)
        return refuse(403, "the peer is another user\n");
    return go_on;
}

/* ---- token and marks of a browser -------------------------------------------------- */

/* 1 when HEAD carries the token.  The time depends on the length of what was sent
 * alone. */
static int has_token(const struct http_config *config, const struct http_head *head)
{
    const char *sent = head->authorization;
    if (!config->token || !sent || strncasecmp(sent, "Bearer ", 7) != 0)
        return 0;
    sent += 7;
    while (*sent == ' ')
        sent++;
    size_t len = strlen(sent);
    volatile size_t diff = len ^ config->token_len;
    for (size_t i = 0, k = 0; i < len; i++) {
        diff |= (size_t)((unsigned char)sent[i] ^ (unsigned char)config->token[k]);
        k = k + 1 < config->token_len ? k + 1 : 0;
    }
    return diff == 0;
}

/* 1 when Origin is that of the very Host the request went to, by http or through TLS. */
static int is_same_origin(const struct http_head *head)
{
    const char *origin = head->origin;
    if (!strncasecmp(origin, "https://", 8))
        origin += 8;
    else if (!strncasecmp(origin, "http://", 7))
        origin += 7;
    else
        return 0; /* "null" too: any page can have that one */
    return !strcasecmp(origin, head->host);
}

/* 1 when HEAD carries what browsers send for a page, or what a proxy adds. */
static int has_marks(const struct http_head *head)
{
    return head->origin || head->referer || head->cookie || head->forwarded ||
           (head->fetch_site && strcasecmp(head->fetch_site, "none") != 0) ||
           (head->agent && !strncasecmp(head->agent, "Mozilla/", 8));
}

/* The answer to a request that has no valid token where it needs one. */
static struct http_verdict ask_token(const struct http_config *config)
{
    if (config->token)
        return refuse(401, "this needs the bearer token\n");
    return refuse(403, "from another machine this needs a token, and none is set\n");
}

struct http_verdict bgmqi_http_guard_reading(const struct http_config *config,
                                             const struct http_head *head,
                                             enum http_peer peer)
{
    if (peer == PEER_LOCAL || has_token(config, head))
        return go_on;
    return ask_token(config);
}

struct http_verdict bgmqi_http_guard_change(const struct http_config *config,
                                            const struct http_head *head,
                                            enum http_peer peer)
{
    if (config->token || peer != PEER_LOCAL) {
        if (!has_token(config, head))
            return ask_token(config);
        if (head->origin && !is_same_origin(head))
            return refuse(403, "refused: it comes from a page of another site\n");
        return go_on;
    }
    if (has_marks(head))
        return refuse(
            403, "refused: it comes from a browser or a proxy, and no token is set\n");
    return go_on;
}
