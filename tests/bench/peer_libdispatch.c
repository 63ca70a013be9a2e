/* peer_libdispatch.c - the in-memory scenarios on libdispatch: as many serial queues as there
 * are to be workers, filled in turn.  Built where the system has it.  tests/bench/run starts it:
 * peer_libdispatch SCENARIO name=value... */
#include "drive.h"

#include <dispatch/dispatch.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUES = 64 };
static dispatch_queue_t queues[QUEUES];
static unsigned used;
static _Thread_local unsigned next; /* each producer goes round for itself */

static void handle(void *body)
{
    bench_drive_handle(body);
    free(body);
}

static void open_queues(unsigned workers)
{
    bench_check(workers <= QUEUES, "fewer workers");
    for (used = 0; used < workers; used++) {
        queues[used] = dispatch_queue_create("bench", NULL);
        bench_check(queues[used] != NULL, "dispatch_queue_create");
    }
}

static void push(const void *body)
{
    void *copy = malloc(BODY);
    bench_check(copy != NULL, "malloc");
    memcpy(copy, body, BODY);
    dispatch_async_f(queues[next % used], copy, handle);
    next++;
}

int main(int argc, char **argv)
{
    return bench_drive(argc, argv, &(struct drive){.open = open_queues, .push = push});
}
