/* http_refuse.c - a refused request: counted, logged, and slow for who guesses the token.
 *
 * Called by http.c on the thread of the daemon, or on any thread of an application's own, which
 * is never made to wait.  The wait holds no lock, and ends as soon as another client, or the one
 * who stops the admin, wants this thread: a guesser must not be able to shut out the operator. */
#include "http_refuse.h"

#include "http_reaper.h"
#include "http_reply.h"
#include "notice.h"

#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    WAIT_MIN_MS = 1, /* whoever else waits: so a flood of guesses is no flood of work */
    OTHERS = 3,      /* what is watched besides clients */
    CUT = 256        /* bytes of a client's words in the log */
};

void bgmqi_http_refuse_init(struct http_refuse *r, struct bgmq *mq)
{
    *r = (struct http_refuse){.mq = mq, .listening = -1, .stopping = -1, .disturbed = -1};
    bgmqi_http_throttle_init(&r->throttle);
}

int bgmqi_http_refuse_own(struct http_refuse *r, struct http_reaper *reaper,
                          int listening, size_t connections)
{
    r->room = connections + OTHERS;
    r->watched = calloc(r->room, sizeof(*r->watched));
    if (!r->watched)
        return BGMQ_ENOMEM;
    r->stopping = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->disturbed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->stopping < 0 || r->disturbed < 0)
        return BGMQ_EHTTP;
    r->listening = listening;
    r->reaper = reaper;
    return BGMQ_OK;
}

void bgmqi_http_refuse_disturb(struct http_refuse *r)
{
    eventfd_write(r->disturbed, 1);
}

void bgmqi_http_refuse_stop(struct http_refuse *r)
{
    if (r->stopping >= 0)
        eventfd_write(r->stopping, 1); /* from zero it cannot fail */
}

void bgmqi_http_refuse_fini(struct http_refuse *r)
{
    if (r->stopping >= 0)
        close(r->stopping);
    if (r->disturbed >= 0)
        close(r->disturbed);
    free(r->watched);
    bgmqi_http_throttle_fini(&r->throttle);
}

static int fd_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* Who came before is on the reaper's list, who comes from now on disturbs, and for who is at the
 * door without a place it stays readable.  Nobody closes what is watched but this thread, or the
 * reaper's when a client cannot come in: then the wait is the shorter. */
static void make_wait(struct http_refuse *r, int guesser, unsigned wait_ms)
{
    int fds[64];
    eventfd_t earlier;
    size_t max = r->room - OTHERS < 64 ? r->room - OTHERS : 64;
    eventfd_read(r->disturbed, &earlier);
    size_t n = bgmqi_http_reaper_list(r->reaper, fds, max);
    r->watched[0] = (struct pollfd){.fd = r->stopping, .events = POLLIN};
    r->watched[1] = (struct pollfd){.fd = r->listening, .events = POLLIN};
    r->watched[2] = (struct pollfd){.fd = r->disturbed, .events = POLLIN};
    for (size_t i = 0; i < n; i++)
        r->watched[i + OTHERS] = (struct pollfd){
            .fd = fds[i], .events = fds[i] == guesser ? 0 : POLLIN | POLLRDHUP};
    poll(r->watched, 1, WAIT_MIN_MS);
    poll(r->watched, n + OTHERS, (int)wait_ms - WAIT_MIN_MS);
}

static void log_line(struct http_refuse *r, struct MHD_Connection *connection,
                     unsigned status, const char *method, const char *url,
                     unsigned refused)
{
    bgmqi_notice_log(r->mq, BGMQ_LOG_WARNING,
                     "admin: refused %u, the last with %u: %.16s '%.*s' from '%.*s'",
                     refused, status, method, CUT, url, CUT,
                     bgmqi_http_reply_agent(connection));
}

int bgmqi_http_refuse_answer(struct http_refuse *r, struct MHD_Connection *connection,
                             struct http_verdict v, const char *method, const char *url)
{
    int guess = v.status == MHD_HTTP_UNAUTHORIZED;
    struct http_strain s =
        bgmqi_http_throttle_note(&r->throttle, bgmqi_http_throttle_now_ns(), guess);
    if (s.log)
        log_line(r, connection, v.status, method, url, s.silent + 1);
    if (s.wait_ms && r->reaper)
        make_wait(r, fd_of(connection), s.wait_ms);
    return bgmqi_http_reply_error(connection, v.status, v.text, NULL);
}
