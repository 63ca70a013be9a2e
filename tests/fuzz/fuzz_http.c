/* fuzz_http.c - hostile bytes for the admin, through the whole of libmicrohttpd.
 *
 * The first byte says whether there is a token and whether only POST changes; the rest is what a
 * client sends on one connection before it closes its side.  Judged are the answer, what it did,
 * and what was logged.  One thread: the daemon is polled here. */
#include <bgmq.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "target.h"

#define TOKEN "fuzz-token-0123456789-abcdef"

/* The four admins, by the first byte. */
static struct bgmq *mq;
static struct bgmq_http *admins[4];
static struct MHD_Daemon *daemons[4];

static void check_line(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx;
    (void)level;
    size_t len = strlen(text);
    CHECK(len <= 1024);
    for (size_t i = 0; i < len; i++)
        CHECK(text[i] >= 0x20 && text[i] < 0x7f);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    int result;
    (void)upload;
    if (bgmq_http_handle(cls, connection, url, method, version, upload_size, state,
                         &result))
        return (enum MHD_Result)result;
    struct MHD_Response *r =
        MHD_create_response_from_buffer(4, (char *)"app\n", MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Connection", "close");
    result = (int)MHD_queue_response(connection, 404, r);
    MHD_destroy_response(r);
    return (enum MHD_Result)result;
}

static void begin(void)
{
    struct bgmq_options options = {.log = check_line};
    CHECK(bgmq_open(&mq, &options, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        struct bgmq_http_options o = {.token = i & 1 ? TOKEN : NULL, .strict = i >> 1};
        CHECK(bgmq_http_mount(&admins[i], mq, &o, NULL) == 0);
        daemons[i] = MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request,
                                      admins[i], MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                      (size_t)16384, MHD_OPTION_UNESCAPE_CALLBACK,
                                      bgmq_http_unescape, NULL, MHD_OPTION_END);
        CHECK(daemons[i]);
    }
}

/* Sends all of DATA on one connection of D and reads what comes; returns its length. */
static size_t converse(struct MHD_Daemon *d, const char *data, size_t len, char *answer,
                       size_t room)
{
    int ends[2];
    struct sockaddr_storage addr = {.ss_family = AF_UNIX};
    size_t sent = 0, got = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK(MHD_add_connection(d, ends[1], (struct sockaddr *)&addr, sizeof addr) ==
          MHD_YES);
    /* It ends by itself: the request is refused or answered, or its end is seen. */
    for (int idle = 0; idle < 100;) {
        ssize_t n = sent < len ? send(ends[0], data + sent, len - sent, MSG_NOSIGNAL) : 0;
        if (n > 0)
            sent += (size_t)n;
        else if (sent < len && n < 0)
            idle++;
        if (sent == len)
            shutdown(ends[0], SHUT_WR);
        MHD_run(d);
        n = recv(ends[0], answer + got, room - got, 0);
        if (n == 0)
            break;
        got += n > 0 ? (size_t)n : 0;
        idle += n <= 0;
    }
    close(ends[0]);
    for (int i = 0; i < 4; i++)
        MHD_run(d);
    answer[got] = '\0';
    return got;
}

static int find(const char *data, size_t len, const char *text)
{
    return memmem(data, len, text, strlen(text)) != NULL;
}

static int names_localhost(const char *data, size_t len)
{
    for (size_t i = 0; i + 9 <= len; i++)
        if (!strncasecmp(data + i, "localhost", 9))
            return 1;
    return 0;
}

/* What has to be in the bytes of a client that started or stopped the service.  A raw NUL ends a
 * method or a path for libmicrohttpd, whatever stands behind it. */
static void check_change(const char *data, size_t len, int kind)
{
    CHECK(find(data, len, " /mq/start") || find(data, len, " /mq/stop"));
    CHECK(find(data, len, "POST") || (find(data, len, "GET") && !(kind & 2)));
    CHECK(!(kind & 1) || find(data, len, TOKEN));
    CHECK(find(data, len, "127.0.0.1") || find(data, len, "[::1]") ||
          names_localhost(data, len));
}

static void check_answer(const char *answer, size_t len, int changed)
{
    static const int known[] = {200, 202, 400, 401, 403, 404, 405, 413,
                                414, 417, 421, 431, 500, 501, 503, 505};
    int status = 0;
    const char *p = answer;
    while (!strncmp(p, "HTTP/1.1 100", 12) && (p = strstr(p, "\r\n\r\n")))
        p += 4;
    CHECK(p && p <= answer + len);
    if (!*p) {
        CHECK(!changed);
        return;
    }
    CHECK(sscanf(p, "HTTP/1.%*1d %d", &status) == 1);
    size_t i = 0;
    while (i < sizeof known / sizeof known[0] && known[i] != status)
        i++;
    CHECK(i < sizeof known / sizeof known[0]);
    CHECK(!changed || status == 200 || status == 202);
    const char *end = strstr(p, "\r\n\r\n");
    CHECK(end);
    /* One answer a connection, also when a second request hangs on the first. */
    CHECK(status != 200 || !memmem(end, strlen(end), "\nHTTP/1.", 8));
    CHECK(status != 200 || memmem(p, (size_t)(end - p), "\r\nConnection: close", 19));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char answer[256 * 1024];
    if (!mq)
        begin();
    if (size < 1 || size > 65536)
        return 0;
    int kind = data[0] & 3, running = data[0] >> 2 & 1;
    CHECK(running ? bgmq_start(mq) == 0 : bgmq_request_stop(mq) == 0);
    size_t len = converse(daemons[kind], (const char *)data + 1, size - 1, answer,
                          sizeof answer - 1);
    int changed = bgmq_started(mq) != running;
    if (changed)
        check_change((const char *)data + 1, size - 1, kind);
    check_answer(answer, len, changed);
    return 0;
}
