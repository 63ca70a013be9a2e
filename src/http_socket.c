/* http_socket.c - listening sockets of the admin, and who is at the other end of one.
 *
 * Called by http.c: the listeners on the thread that starts the admin, the peer on the
 * thread that handles a request.  The daemon gets a ready socket, so that an error has
 * the system's words and a unix socket is never reachable with wider rights than its
 * owner's.
 *
 * It must never change the umask, which belongs to the process, nor remove a file that
 * it did not make. */
#include "http_socket.h"

#include "err.h"
#include "http_config.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Fills ERROR with WHAT, NAME (cut, to leave room) and the words of the errno ERRNUM. */
static int fail_with(struct bgmq_error *error, const char *what, const char *name,
                     int errnum)
{
    char buf[128];
    const char *words = strerror_r(errnum, buf, sizeof(buf));
    return bgmqi_err_set(error, BGMQ_EHTTP, "%s %.150s: %s", what, name, words);
}

int bgmqi_http_socket_tcp(struct http_socket *ret, unsigned port,
                          struct bgmq_error *error)
{
    char name[32];
    snprintf(name, sizeof(name), "127.0.0.1:%u", port);
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_with(error, "no socket for", name, errno);
    /* A restart must not wait for connections of the last run to be forgotten. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        int errnum = errno;
        close(fd);
        return fail_with(error, "cannot listen on", name, errnum);
    }
    *ret = (struct http_socket){.fd = fd, .port = ntohs(addr.sin_port)};
    return BGMQ_OK;
}

/* Fails when PATH holds something that may not be replaced: not a socket, not ours, or
 * one that somebody listens on. */
static int check_stale(const char *path, struct bgmq_error *error)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? BGMQ_OK
                               : fail_with(error, "cannot look at", path, errno);
    if (!S_ISSOCK(st.st_mode))
        return fail_with(error, "not a socket:", path, EEXIST);
    if (st.st_uid != geteuid())
        return fail_with(error, "a socket of another user:", path, EPERM);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_with(error, "no socket for", path, errno);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, path, strlen(path));
    int refused =
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused ? BGMQ_OK : fail_with(error, "cannot listen on", path, EADDRINUSE);
}

/* Fails when others could put a socket of theirs in place of ours, and so be told the token. */
static int check_directory(const char *path, struct bgmq_error *error)
{
    char dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + 1 : 0; /* PATH has room for more */
    memcpy(dir, path, len);
    memcpy(dir + len, ".", 2);
    struct stat st;
    if (stat(dir, &st) < 0)
        return fail_with(error, "cannot listen on", path, errno);
    int ours = st.st_uid == geteuid() || st.st_uid == 0;
    if (ours && (!(st.st_mode & 022) || st.st_mode & S_ISVTX))
        return BGMQ_OK;
    return fail_with(error, "others may write to the directory of", path, EPERM);
}

/* Binds FD to PATH with mode 0600 from the first moment on: the kernel takes the mode
 * of a new socket file from the descriptor, less the umask. */
static int bind_private(int fd, const char *path, struct stat *ret_st)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, path, strlen(path));
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -1;
    if (lstat(path, ret_st) == 0 && S_ISSOCK(ret_st->st_mode) &&
        (ret_st->st_mode & 0777) == 0600 && ret_st->st_uid == geteuid())
        return 0;
    unlink(path);
    errno = EPERM;
    return -1;
}

/* Binds and listens under TMP, then moves it to PATH: who connects to PATH finds
 * either the old file or a socket that answers. */
static int listen_unix(int fd, const char *tmp, const char *path, struct stat *ret_st)
{
    if (bind_private(fd, tmp, ret_st) < 0)
        return -1;
    if (listen(fd, SOMAXCONN) == 0 && rename(tmp, path) == 0)
        return 0;
    int errnum = errno;
    unlink(tmp);
    errno = errnum;
    return -1;
}

int bgmqi_http_socket_unix(struct http_socket *ret, const char *path,
                           struct bgmq_error *error)
{
    char tmp[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    unsigned salt; /* so that a file left behind by a crash is in nobody's way */
    if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
        return fail_with(error, "no random name for", path, errno);
    int n = snprintf(tmp, sizeof(tmp), "%s.%08x", path, salt);
    if (n < 0 || (size_t)n >= sizeof(tmp))
        return fail_with(error, "cannot listen on", path, ENAMETOOLONG);
    int r = check_directory(path, error);
    if (r == 0)
        r = check_stale(path, error);
    if (r < 0)
        return r;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_with(error, "no socket for", path, errno);
    struct stat st;
    if (listen_unix(fd, tmp, path, &st) < 0) {
        int errnum = errno;
        close(fd);
        return fail_with(error, "cannot listen on", path, errnum);
    }
    *ret = (struct http_socket){
        .fd = fd, .path = strdup(path), .dev = st.st_dev, .ino = st.st_ino};
    if (ret->path)
        return BGMQ_OK;
    unlink(path);
    close(fd);
    return bgmqi_err_set(error, BGMQ_ENOMEM, "%s", bgmq_strerror(BGMQ_ENOMEM));
}

void bgmqi_http_socket_unlink(struct http_socket *s)
{
    struct stat st;
    if (s->path && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
        unlink(s->path);
    free(s->path);
    s->path = NULL;
}

static enum http_peer unix_peer(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return PEER_STRANGER;
    return cred.uid == geteuid() || cred.uid == 0 ? PEER_LOCAL : PEER_STRANGER;
}

enum http_peer bgmqi_http_socket_peer(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } a = {0};
    socklen_t len = sizeof(a);
    if (getpeername(fd, &a.any, &len) < 0)
        return PEER_REMOTE;
    if (a.any.sa_family == AF_UNIX)
        return unix_peer(fd);
    if (a.any.sa_family == AF_INET)
        return ntohl(a.v4.sin_addr.s_addr) >> 24 == 127 ? PEER_LOCAL : PEER_REMOTE;
    if (a.any.sa_family != AF_INET6)
        return PEER_REMOTE;
    if (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr))
        return a.v6.sin6_addr.s6_addr[12] == 127 ? PEER_LOCAL : PEER_REMOTE;
    return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr) ? PEER_LOCAL : PEER_REMOTE;
}
