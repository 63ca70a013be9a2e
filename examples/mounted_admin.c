/*
 * mounted_admin.c - the admin under /mq/ inside an application's own libmicrohttpd
 * daemon.
 *
 * Starts a daemon on a free port of loopback with a page of its own at "/" and the admin
 * under /mq/, then asks itself over a socket, as curl would, and prints the answers.
 * Exits 0 when they were right.
 */
#include <arpa/inet.h>
#include <bgmq.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int hello(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

/* Runs on the daemon's thread.  CTX is the mounted admin. */
static enum MHD_Result answer(void *ctx, struct MHD_Connection *connection,
                              const char *url, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **state)
{
    static const char page[] = "The application's own page.\n";
    int result;
    if (bgmq_http_handle(ctx, connection, url, method, version, upload_size, state,
                         &result))
        return result ? MHD_YES : MHD_NO;

    int known = strcmp(url, "/") == 0;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        known ? strlen(page) : 0, (void *)(uintptr_t)page, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    enum MHD_Result queued = MHD_queue_response(
        connection, known ? MHD_HTTP_OK : MHD_HTTP_NOT_FOUND, response);
    MHD_destroy_response(response);
    return queued;
}

static struct MHD_Daemon *serve(struct bgmq_http *admin, unsigned *ret_port)
{
    struct sockaddr_in loopback = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer, admin,
        MHD_OPTION_SOCK_ADDR, &loopback, /* without it: every address of the machine */
        MHD_OPTION_UNESCAPE_CALLBACK, bgmq_http_unescape,
        NULL, /* the admin asks for it */
        MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
    if (daemon)
        *ret_port = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    return daemon;
}

/* Sends one request to our own port, prints the answer, and says whether EXPECTED is in
 * it. */
static int ask(unsigned port, const char *method, const char *path, const char *expected)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[8192];
    size_t used = 0;
    ssize_t n = -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len = snprintf(text, sizeof(text),
                       "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n"
                       "Content-Length: 0\r\n\r\n",
                       method, path, port);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, text, (size_t)len, MSG_NOSIGNAL) == len) {
        while ((n = recv(fd, text + used, sizeof(text) - 1 - used, 0)) > 0)
            used += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    text[used] = '\0';
    const char *body = strstr(text, "\r\n\r\n");
    printf("$ curl -X %s http://127.0.0.1:%u%s\n%s\n", method, port, path,
           body ? body + 4 : "(nothing)");
    return n == 0 && strstr(text, expected) != NULL;
}

static int show(struct bgmq *mq, unsigned port)
{
    struct bgmq_message *done;
    if (bgmq_register(mq, "Hello", hello, NULL, NULL) || bgmq_start(mq) ||
        bgmq_publish(mq, "Hello", "{}", 2, NULL, NULL) ||
        bgmq_get(mq, "mq:Hello.outq", 10000, &done))
        return 0;
    bgmq_message_free(done); /* not acknowledged: back to outq, where the page shows it */
    return ask(port, "GET", "/", "own page") && ask(port, "GET", "/none", "404") &&
           ask(port, "GET", "/mq/status",
               "mq:Hello.outq:                  1 message(s)") &&
           ask(port, "POST", "/mq/stop", "OK") && bgmq_started(mq) == 0 &&
           ask(port, "GET", "/mq/status", "STATUS: Stopped") &&
           ask(port, "POST", "/mq/start", "OK") && bgmq_started(mq) == 1;
}

int main(void)
{
    struct bgmq *mq;
    struct bgmq_http *admin;
    struct bgmq_error error;
    unsigned port;
    if (bgmq_open(&mq, NULL, NULL))
        return 1;
    if (bgmq_http_mount(&admin, mq, NULL, &error)) {
        fprintf(stderr, "%s\n", error.text);
        bgmq_free(mq);
        return 1;
    }
    struct MHD_Daemon *daemon = serve(admin, &port);
    int ok = daemon && show(mq, port);
    if (daemon)
        MHD_stop_daemon(daemon); /* first: it calls into the admin ... */
    bgmq_http_stop(admin);       /* ... which borrows the queue */
    bgmq_free(mq);
    puts(ok ? "all as it should be" : "NOT as it should be");
    return ok ? 0 : 1;
}
