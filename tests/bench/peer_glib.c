/* peer_glib.c - the in-memory scenarios on GLib's GThreadPool: the same body copied, read
 * by the handler and freed there.  tests/bench/run starts it: peer_glib SCENARIO
 * name=value... */
#include "drive.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

static GThreadPool *pool;

static void handle(gpointer data, gpointer ctx)
{
    (void)ctx;
    bench_drive_handle(data);
    free(data);
}

static void open_pool(unsigned workers)
{
    /* Exclusive: its threads are there from the start, as ours are. */
    pool = g_thread_pool_new(handle, NULL, (int)workers, TRUE, NULL);
    bench_check(pool != NULL, "g_thread_pool_new");
}

static void push(const void *body)
{
    void *copy = malloc(BODY);
    bench_check(copy != NULL, "malloc");
    memcpy(copy, body, BODY);
    bench_check(g_thread_pool_push(pool, copy, NULL), "g_thread_pool_push");
}

int main(int argc, char **argv)
{
    return bench_drive(argc, argv, &(struct drive){.open = open_pool, .push = push});
}
