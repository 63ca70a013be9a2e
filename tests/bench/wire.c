/* wire.c - a stream socket with a buffer for what comes.  See life.h. */
#include "life.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct wire {
    int fd;
    size_t begin, end; /* of what has come and was not read yet */
    char line[512];
    char bytes[16384];
};

static int connect_path(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    bench_check(strlen(path) < sizeof(to.sun_path), "a shorter path of the socket");
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bench_check(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)), path);
    return fd;
}

static int connect_port(const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    bench_check(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)), port);
    bench_check(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), port);
    return fd;
}

struct wire *bench_wire_open(const char *address)
{
    struct wire *w = calloc(1, sizeof(*w));
    bench_check(w != NULL, "memory");
    w->fd = address[0] == '/' ? connect_path(address) : connect_port(address);
    return w;
}

void bench_wire_close(struct wire *w)
{
    close(w->fd);
    free(w);
}

void bench_wire_send(struct wire *w, const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t sent = send(w->fd, p, len, MSG_NOSIGNAL);
        bench_check(sent > 0, "send");
        p += sent;
        len -= (size_t)sent;
    }
}

/* Whether at least one byte more is there. */
static int receive(struct wire *w)
{
    if (w->begin == w->end)
        w->begin = w->end = 0;
    bench_check(w->end < sizeof(w->bytes), "a shorter answer");
    ssize_t got = recv(w->fd, w->bytes + w->end, sizeof(w->bytes) - w->end, 0);
    if (got <= 0)
        return 0;
    w->end += (size_t)got;
    return 1;
}

void bench_wire_read(struct wire *w, void *ret, size_t len)
{
    char *p = ret;
    while (len > 0) {
        bench_check(w->begin < w->end || receive(w), "an answer");
        size_t part = w->end - w->begin < len ? w->end - w->begin : len;
        memcpy(p, w->bytes + w->begin, part);
        w->begin += part;
        p += part;
        len -= part;
    }
}

const char *bench_wire_line(struct wire *w)
{
    size_t len = 0;
    for (;;) {
        if (w->begin == w->end && !receive(w))
            return NULL;
        bench_check(len < sizeof(w->line), "a shorter line");
        char c = w->bytes[w->begin++];
        w->line[len++] = c;
        if (c == '\n' && len >= 2 && w->line[len - 2] == '\r') {
            w->line[len - 2] = 0;
            return w->line;
        }
    }
}

size_t bench_wire_drain(struct wire *w)
{
    size_t len = 0;
    do {
        len += w->end - w->begin;
        w->begin = w->end;
    } while (receive(w));
    return len;
}
