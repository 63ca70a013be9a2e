/* peer_tbb.cpp - the in-memory scenarios on oneTBB's concurrent_bounded_queue, with plain
 * threads that pop from it.  tests/bench/run starts it: peer_tbb SCENARIO name=value... */
#include "drive.h"

#include <cstdlib>
#include <cstring>
#include <tbb/concurrent_queue.h>

/* Unbounded, as ours is; its pop waits. */
static tbb::concurrent_bounded_queue<void *> queue;

static void work(void *, unsigned)
{
    for (;;) {
        void *body = nullptr;
        queue.pop(body);
        bench_drive_handle(body);
        std::free(body);
    }
}

static void open_queue(unsigned workers)
{
    bench_workers(workers, work, nullptr);
}

static void push(const void *body)
{
    void *copy = std::malloc(BODY);
    bench_check(copy != nullptr, "malloc");
    std::memcpy(copy, body, BODY);
    queue.push(copy);
}

int main(int argc, char **argv)
{
    static const struct drive tbb_queue = {open_queue, push};
    return bench_drive(argc, argv, &tbb_queue);
}
