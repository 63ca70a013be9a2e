/* http.c - the admin over HTTP: its own daemon on loopback or a unix socket, or the same
 * routes mounted in an application's daemon.
 *
 * The public functions are called by the application; handle also by our own daemon, on
 * its one thread.  What a request reads here is set once or has its own lock, so a mounted admin
 * may be used from all threads of a daemon.
 *
 * It must never stop the daemon from a request (that aborts the process), answer later
 * than in the call (the daemon's suspend and resume are not used), or use more of the
 * library than its public header.
 *
 * Of libmicrohttpd 0.9.75: a URL is compared as it was sent, since its unescaping cuts
 * it at %00; each answer closes the connection, so that bytes after a request never
 * become a second one; the panic function stays the application's. */
#include "http.h"

#include "err.h"
#include "http_config.h"
#include "http_guard.h"
#include "http_reaper.h"
#include "http_refuse.h"
#include "http_reply.h"
#include "http_socket.h"
#include "http_token.h"
#include "notice.h"

#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STACK_SIZE = 1024 * 1024 };

struct bgmq_http {
    /* set once, then read only */
    struct bgmq *mq;
    struct http_config config;
    pid_t pid;
    int own; /* 1: with a daemon; 0: mounted */
    struct http_socket socket;
    struct http_reaper *reaper;
    struct MHD_Daemon *daemon;
    int told; /* 1: the service was told that it serves */
    /* with locks of their own */
    struct http_refuse refuse;
    struct http_throttle asked[2]; /* to stop, to start */
    /* used by the reaper's thread, and after its end by who stops */
    int shut; /* 1: the service was told that it cannot answer for now */
};

/* ---- requests ---------------------------------------------------------------------- */

/* Marks the connection's request as one whose head was accepted and whose body is
 * being read.  The mark is kept with the request itself, because the state pointer of
 * a mounted admin belongs to the application. */
static const char mark[] = "bgmq-body";

static int is_marked(struct MHD_Connection *connection)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_POSTDATA_KIND, mark);
    return value == mark;
}

static int set_mark(struct MHD_Connection *connection)
{
    return (int)MHD_set_connection_value(connection, MHD_POSTDATA_KIND, mark, mark);
}

static enum http_peer peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? bgmqi_http_socket_peer(info->connect_fd) : PEER_REMOTE;
}

/* Who starts and stops is in the log: it is asked for when all have forgotten.  Of many in a second
 * the first is named, and the others are counted in the next line. */
static void log_change(struct bgmq_http *http, const struct http_route *route,
                       struct MHD_Connection *connection)
{
    char before[48] = "";
    struct http_strain s = bgmqi_http_throttle_note(
        &http->asked[bgmqi_http_reply_starts(route)], bgmqi_http_throttle_now_ns(), 0);
    if (s.silent)
        snprintf(before, sizeof(before), ", and %u times since the last line", s.silent);
    if (s.log)
        bgmqi_notice_log(http->mq, BGMQ_LOG_INFO, "admin: %s asked for by '%.256s'%s",
                         bgmqi_http_reply_path(route), bgmqi_http_reply_agent(connection),
                         before);
}

static int run(struct bgmq_http *http, const struct http_route *route,
               struct MHD_Connection *connection)
{
    if (bgmqi_http_reply_changes(route))
        log_change(http, route, connection);
    return bgmqi_http_reply_run(route, http->mq, connection);
}

/* Judges the head of a request: refuses it, waits for its body, or runs it. */
static int answer_head(struct bgmq_http *http, struct MHD_Connection *connection,
                       const char *url, const char *method)
{
    struct http_head head;
    bgmqi_http_guard_read(&head, connection);
    enum http_peer peer = peer_of(connection);
    int any_host = http->own && http->config.unix_socket;
    struct http_verdict v =
        bgmqi_http_guard_message(&http->config, &head, peer, any_host);
    if (v.status)
        return bgmqi_http_refuse_answer(&http->refuse, connection, v, method, url);
    const struct http_route *route = bgmqi_http_reply_find(url);
    if (!route)
        return bgmqi_http_reply_error(connection, MHD_HTTP_NOT_FOUND, "not found\n",
                                      NULL);
    const char *allow = bgmqi_http_reply_refused(route, method, http->config.strict);
    if (allow)
        return bgmqi_http_reply_error(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                                      "not a method of this path\n", allow);
    v = bgmqi_http_reply_changes(route)
            ? bgmqi_http_guard_change(&http->config, &head, peer)
            : bgmqi_http_guard_reading(&http->config, &head, peer);
    if (v.status)
        return bgmqi_http_refuse_answer(&http->refuse, connection, v, method, url);
    if (head.content_length &&
        strspn(head.content_length, "0") != strlen(head.content_length))
        return set_mark(connection);
    return run(http, route, connection);
}

/* One call of the access handler: the head, a piece of the body, or the end. */
static int answer(struct bgmq_http *http, struct MHD_Connection *connection,
                  const char *url, const char *method, size_t *upload_data_size)
{
    if (*upload_data_size > 0) {
        *upload_data_size = 0; /* read and ignored */
        return MHD_YES;
    }
    if (is_marked(connection))
        return run(http, bgmqi_http_reply_find(url), connection);
    return answer_head(http, connection, url, method);
}

int bgmq_http_handle(struct bgmq_http *http, struct MHD_Connection *connection,
                     const char *url, const char *method, const char *version,
                     size_t *upload_data_size, void **request_state, int *ret_result)
{
    (void)version;
    (void)request_state;
    if (!http || !connection || !url || !method || !upload_data_size || !ret_result)
        return 0;
    if (strncmp(url, "/mq/", 4) != 0)
        return 0;
    *ret_result = answer(http, connection, url, method, upload_data_size);
    return 1;
}

size_t bgmq_http_unescape(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

/* ---- our own daemon ---------------------------------------------------------------- */

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload_data,
                                  size_t *upload_data_size, void **request_state)
{
    (void)version;
    (void)upload_data;
    (void)request_state;
    return (enum MHD_Result)answer(cls, connection, url, method, upload_data_size);
}

/* On the reaper's thread: the daemon's gets the connection from a queue of the daemon's. */
static int enter(void *ctx, int connection, const struct sockaddr *addr, socklen_t len)
{
    struct bgmq_http *http = ctx;
    bgmqi_http_refuse_disturb(&http->refuse);
    return MHD_add_connection(http->daemon, connection, addr, len) == MHD_YES;
}

/* On the reaper's thread. */
static void tell(void *ctx, int errnum)
{
    struct bgmq_http *http = ctx;
    http->shut = errnum != 0;
    bgmqi_notice_tell(http->mq, errnum ? NOTICE_SHUT : NOTICE_MENDED);
    if (errnum) {
        char words[128];
        bgmqi_notice_log(http->mq, BGMQ_LOG_WARNING,
                         "admin: nobody can come in for now: %s",
                         strerror_r(errnum, words, sizeof(words)));
    } else {
        bgmqi_notice_log(http->mq, BGMQ_LOG_INFO, "admin: it answers again");
    }
}

/* The end is told before the descriptor is closed, so the reaper never holds a stale
 * one. */
static void on_connection(void *cls, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode code)
{
    (void)state;
    struct bgmq_http *http = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info)
        return;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        bgmqi_http_reaper_started(http->reaper, info->connect_fd);
    else
        bgmqi_http_reaper_remove(http->reaper, info->connect_fd);
}

static struct MHD_Daemon *start_daemon(struct bgmq_http *http,
                                       const struct http_limits *l)
{
    /* The reaper counts connections; here one that has just ended may count still. */
    return MHD_start_daemon(
        MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC |
            MHD_USE_NO_LISTEN_SOCKET,
        0, NULL, NULL, on_request, http, MHD_OPTION_CONNECTION_LIMIT, 2 * l->connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, l->memory, MHD_OPTION_CONNECTION_TIMEOUT,
        l->idle_s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
        MHD_OPTION_UNESCAPE_CALLBACK, bgmq_http_unescape, NULL,
        MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE, MHD_OPTION_END);
}

/* Starts both threads with every signal blocked that is not the thread's own fault: the
 * application's signals are for its threads. */
static int start_threads(struct bgmq_http *http, const struct http_limits *l,
                         struct bgmq_error *error)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int r = bgmqi_http_reaper_new(&http->reaper, l->connections, l->deadline_ms,
                                  l->crowded_ms);
    if (r == 0)
        r = bgmqi_http_refuse_own(&http->refuse, http->reaper, http->socket.fd,
                                  l->connections);
    if (r == 0)
        http->daemon = start_daemon(http, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r < 0)
        return bgmqi_err_set(error, r, "the HTTP threads did not start: %s",
                             bgmq_strerror(r));
    if (!http->daemon)
        return bgmqi_err_set(error, BGMQ_EHTTP, "the HTTP daemon did not start");
    bgmqi_http_reaper_open(http->reaper, &(struct http_door){.fd = http->socket.fd,
                                                             .enter = enter,
                                                             .tell = tell,
                                                             .ctx = http});
    return BGMQ_OK;
}

static struct http_limits with_defaults(const struct http_limits *limits)
{
    struct http_limits l = limits ? *limits : (struct http_limits){0};
    if (!l.connections)
        l.connections = 16;
    if (!l.memory)
        l.memory = (size_t)16 * 1024;
    if (!l.idle_s)
        l.idle_s = 5;
    if (!l.deadline_ms)
        l.deadline_ms = 10000;
    if (!l.crowded_ms)
        l.crowded_ms = 100;
    return l;
}

/* Makes the object without a daemon. */
static int make(struct bgmq_http **ret, struct bgmq *mq,
                const struct bgmq_http_options *options, struct bgmq_error *error)
{
    int r = mq ? bgmq_started(mq) : BGMQ_EINVAL;
    if (r < 0) {
        bgmqi_err_set(error, r, "%s", bgmq_strerror(r));
        return r;
    }
    struct bgmq_http *http = calloc(1, sizeof(*http));
    if (!http) {
        bgmqi_err_set(error, BGMQ_ENOMEM, "%s", bgmq_strerror(BGMQ_ENOMEM));
        return BGMQ_ENOMEM;
    }
    http->mq = mq;
    http->pid = getpid();
    http->socket.fd = -1;
    bgmqi_http_refuse_init(&http->refuse, mq);
    for (int i = 0; i < 2; i++)
        bgmqi_http_throttle_init(&http->asked[i]);
    r = bgmqi_http_config_init(&http->config, options, error);
    if (r < 0) {
        bgmq_http_stop(http);
        return r;
    }
    *ret = http;
    return BGMQ_OK;
}

/* From here on it answers. */
static void serve(struct bgmq_http *http, const struct bgmq_http_options *options)
{
    bgmqi_http_token_hide(options);
    bgmqi_notice_tell(http->mq, NOTICE_BEGUN);
    http->told = 1;
}

static int start(struct bgmq_http **ret, struct bgmq *mq,
                 const struct bgmq_http_options *options,
                 const struct http_limits *limits, struct bgmq_error *error)
{
    struct bgmq_http *http = NULL;
    int r = make(&http, mq, options, error);
    if (r < 0)
        return r;
    struct http_limits l = with_defaults(limits);
    http->own = 1;
    r = http->config.unix_socket
            ? bgmqi_http_socket_unix(&http->socket, http->config.unix_socket, error)
            : bgmqi_http_socket_tcp(&http->socket, http->config.port, error);
    if (r == 0)
        r = start_threads(http, &l, error);
    if (r < 0) {
        bgmq_http_stop(http);
        return r;
    }
    serve(http, options);
    *ret = http;
    return BGMQ_OK;
}

int bgmqi_http_start(struct bgmq_http **ret, struct bgmq *mq,
                     const struct bgmq_http_options *options,
                     const struct http_limits *limits, struct bgmq_error *error)
{
    int r = ret ? start(ret, mq, options, limits, error) : BGMQ_EINVAL;
    if (r == BGMQ_EHTTP || r == BGMQ_ETHREAD || r == BGMQ_ENOMEM)
        bgmqi_notice_tell(mq, NOTICE_FAILED); /* the queue goes on without */
    return r;
}

/* ---- public ------------------------------------------------------------------------ */

int bgmq_http_start(struct bgmq_http **ret, struct bgmq *mq,
                    const struct bgmq_http_options *options, struct bgmq_error *error)
{
    return bgmqi_http_start(ret, mq, options, NULL, error);
}

int bgmq_http_mount(struct bgmq_http **ret, struct bgmq *mq,
                    const struct bgmq_http_options *options, struct bgmq_error *error)
{
    int r = ret ? make(ret, mq, options, error) : BGMQ_EINVAL;
    if (r == 0)
        serve(*ret, options);
    return r;
}

unsigned bgmq_http_port(const struct bgmq_http *http)
{
    return http ? http->socket.port : 0;
}

void bgmq_http_stop(struct bgmq_http *http)
{
    /* In a child of fork() neither thread exists, and the socket's file is the
     * parent's. */
    if (!http || http->pid != getpid())
        return;
    bgmqi_http_refuse_stop(&http->refuse);
    bgmqi_http_reaper_end(http->reaper); /* nobody comes in any more, nobody tells */
    if (http->shut)
        bgmqi_notice_tell(http->mq, NOTICE_MENDED);
    if (http->told)
        bgmqi_notice_tell(http->mq, NOTICE_ENDED);
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    if (http->socket.fd >= 0)
        close(http->socket.fd);
    bgmqi_http_refuse_fini(&http->refuse);
    for (int i = 0; i < 2; i++)
        bgmqi_http_throttle_fini(&http->asked[i]);
    bgmqi_http_reaper_free(http->reaper);
    bgmqi_http_socket_unlink(&http->socket);
    bgmqi_http_config_fini(&http->config);
    free(http);
}
