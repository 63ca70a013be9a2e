/* drive.h - the in-memory scenarios, the same for every peer.
 *
 * A peer says how it is opened, what it does with a body, and calls bench_drive_handle in
 * its workers; the scenarios (dispatch, wake, memory) are here. */
#ifndef DRIVE_H
#define DRIVE_H

#include "bench.h"

#ifdef __cplusplus
extern "C" {
#endif

struct drive {
    void (*open)(unsigned workers);
    void (*push)(const void *body); /* copies BODY bytes; any thread */
};

/* Runs the scenario that the arguments name, prints its results, and ends the program. */
int bench_drive(int argc, char **argv, const struct drive *peer);

/* What a worker does with the body it has taken, before it frees it. */
void bench_drive_handle(const void *body);

#ifdef __cplusplus
}
#endif

#endif
