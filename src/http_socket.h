/* http_socket.h - listening sockets of the admin, and who is at the other end of one. */
#ifndef BGMQI_HTTP_SOCKET_H
#define BGMQI_HTTP_SOCKET_H

#include <bgmq.h>
#include <sys/types.h>

struct http_socket {
    int fd;        /* -1: none */
    unsigned port; /* 0: a unix socket */
    char *path;    /* NULL: TCP */
    dev_t dev;     /* of the unix socket's file: only this one is removed at the end */
    ino_t ino;
};

/* Listens on 127.0.0.1.  PORT 0: any free one.  EHTTP: ERROR says why. */
int bgmqi_http_socket_tcp(struct http_socket *ret, unsigned port,
                          struct bgmq_error *error);
/* Listens on PATH, mode 0600.  Replaces a socket of ours that nobody listens on any more.
 * EHTTP: ERROR says why; ENOMEM. */
int bgmqi_http_socket_unix(struct http_socket *ret, const char *path,
                           struct bgmq_error *error);
/* Removes the file of a unix socket, if it is still ours.  The descriptor is the
 * daemon's. */
void bgmqi_http_socket_unlink(struct http_socket *s);

enum http_peer {
    PEER_LOCAL,   /* loopback, or a unix socket of this user or of root */
    PEER_REMOTE,  /* any other address */
    PEER_STRANGER /* a unix socket of another user */
};

/* Who is at the other end of FD. */
enum http_peer bgmqi_http_socket_peer(int fd);

#endif
