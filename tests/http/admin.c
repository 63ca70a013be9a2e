/* admin.c - what the HTTP tests share.  Called by tests, on any thread.  It must never
 * hide what a server really sent. */
#include "admin.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- a service with its admin ---- */

struct bgmq *admin_service(void)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {.text = ""};
    ck_assert_msg(bgmq_open(&mq, NULL, &error) == BGMQ_OK, "%s", error.text);
    return mq;
}

void admin_start(struct admin *a, const struct bgmq_http_options *options,
                 const struct http_limits *limits)
{
    *a = (struct admin){.mq = admin_service()};
    struct bgmq_error error = {.text = ""};
    int r = bgmqi_http_start(&a->http, a->mq, options, limits, &error);
    ck_assert_msg(r == BGMQ_OK, "%s: %s", bgmq_errname(r), error.text);
    a->port = bgmq_http_port(a->http);
}

void admin_stop(struct admin *a)
{
    bgmq_http_stop(a->http);
    bgmq_free(a->mq);
    *a = (struct admin){0};
}

/* ---- an answer ---- */

/* The value of the next header NAME behind FROM, which is inside the head; NULL: no
 * more. */
static const char *find_header(const struct reply *r, const char *from, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = from; (p = strstr(p, "\r\n")) && p + 2 < r->body;) {
        p += 2;
        if (strncasecmp(p, name, len) == 0 && p[len] == ':')
            return p + len + 1 + strspn(p + len + 1, " ");
    }
    return NULL;
}

const char *reply_header(const struct reply *r, const char *name)
{
    static _Thread_local char copy[1024];
    const char *value = find_header(r, r->bytes, name);
    if (!value)
        return NULL;
    snprintf(copy, sizeof copy, "%.*s", (int)strcspn(value, "\r\n"), value);
    return copy;
}

int reply_count(const struct reply *r, const char *name)
{
    int n = 0;
    for (const char *p = r->bytes; (p = find_header(r, p, name));)
        n++;
    return n;
}

static void parse(struct reply *r)
{
    const char *end = strstr(r->bytes, "\r\n\r\n");
    r->status = 0;
    r->body = r->bytes + r->total;
    r->len = 0;
    if (!end || sscanf(r->bytes, "HTTP/1.%*d %d", &r->status) != 1)
        return;
    r->body = end + 4;
    r->len = r->total - (size_t)(r->body - r->bytes);
}

/* ---- a client ---- */

static int connected(int domain, const void *addr, socklen_t len)
{
    int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(connect(fd, addr, len) == 0, "connect: %s", strerror(errno));
    return fd;
}

int client_connect(unsigned port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return connected(AF_INET, &addr, sizeof addr);
}

int client_connect_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    ck_assert_uint_lt(strlen(path), sizeof addr.sun_path);
    memcpy(addr.sun_path, path, strlen(path));
    return connected(AF_UNIX, &addr, sizeof addr);
}

int client_send(int fd, const void *bytes, size_t len)
{
    for (const char *p = bytes; len > 0;) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0) {
            ck_assert_msg(errno == EPIPE || errno == ECONNRESET, "send: %s",
                          strerror(errno));
            return 0;
        }
        p += n;
        len -= (size_t)n;
    }
    return 1;
}

void client_text(int fd, const char *text)
{
    client_send(fd, text, strlen(text));
}

/* Reads once, with the deadline of the harness; 0 at the end of the stream or a reset. */
static size_t read_some(int fd, char *buf, size_t size, int64_t deadline)
{
    int64_t left_ms = (deadline - harness_now()) / 1000000;
    ck_assert_msg(left_ms > 0, "the server neither answers nor closes");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_msg(poll(&p, 1, (int)left_ms) == 1,
                  "the server neither answers nor closes");
    ssize_t n = recv(fd, buf, size, 0);
    ck_assert_msg(n >= 0 || errno == ECONNRESET, "recv: %s", strerror(errno));
    return n > 0 ? (size_t)n : 0;
}

void client_read(int fd, struct reply *ret)
{
    int64_t deadline = harness_deadline();
    ret->total = 0;
    for (;;) {
        size_t room = sizeof ret->bytes - 1 - ret->total;
        ck_assert_msg(room > 0, "the answer is too long for this client");
        size_t n = read_some(fd, ret->bytes + ret->total, room, deadline);
        if (n == 0)
            break;
        ret->total += n;
    }
    ret->bytes[ret->total] = '\0';
    parse(ret);
}

int64_t client_closed(int fd, int64_t start)
{
    char buf[4096];
    int64_t deadline = harness_deadline();
    while (read_some(fd, buf, sizeof buf, deadline) > 0)
        ;
    return harness_now() - start;
}

int client_raw(unsigned port, const char *text, struct reply *ret)
{
    int fd = client_connect(port);
    client_text(fd, text);
    client_read(fd, ret);
    close(fd);
    return ret->status;
}

int client_request(unsigned port, const char *method, const char *path,
                   const char *headers, struct reply *ret)
{
    char text[8192];
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n",
                     method, path, port, headers);
    ck_assert_int_lt(n, (int)sizeof text);
    return client_raw(port, text, ret);
}

int client_status(unsigned port, const char *method, const char *path,
                  const char *headers)
{
    struct reply r;
    return client_request(port, method, path, headers, &r);
}
