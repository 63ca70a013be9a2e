/* life.h - the durable scenario, the same for every server: publishers and workers, each
 * with a connection of its own, publish, take, read and acknowledge; and sockets for the
 * peers whose protocol is spoken by hand. */
#ifndef LIFE_H
#define LIFE_H

#include "bench.h"

struct life {
    /* Connects to where the server listens; NUMBER is the client's own. */
    void *(*connect)(const char *address, unsigned number, int is_worker);
    /* Returns when the server has accepted the body as it accepts one. */
    void (*publish)(void *connection, const char *body);
    /* Waits for one job, reads it, and returns when its end is accepted. */
    uint64_t (*work)(void *connection);
};

/* Runs the life cycle that the arguments describe, prints rate and publish times, and ends the
 * program. */
int bench_life(int argc, char **argv, const struct life *peer);

/* A stream socket and what has come by it.  One thread at a time; failure ends the program. */
struct wire;
/* ADDRESS is the path of a unix socket, or a port on loopback. */
struct wire *bench_wire_open(const char *address);
void bench_wire_close(struct wire *w);
void bench_wire_send(struct wire *w, const void *bytes, size_t len);
/* Reads LEN bytes. */
void bench_wire_read(struct wire *w, void *ret, size_t len);
/* Reads a line that ends with CR LF and lends it, without them, until the next call.  NULL: the
 * other side has closed. */
const char *bench_wire_line(struct wire *w);
/* Reads until the other side closes; returns how many bytes came. */
size_t bench_wire_drain(struct wire *w);

#endif
