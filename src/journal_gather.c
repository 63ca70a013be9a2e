/* journal_gather.c - how long the writer waits for publishers that it has just released.
 *
 * Called by journal_writer.c under the journal's lock.  A publisher that waited for a commit comes
 * back within microseconds when it has more to publish; a commit that begins before makes it wait
 * for two, and syncs for half of them.  So, once a group is released, the writer waits until as
 * many wait as were released and had come meanwhile, for half a commit at most.  It must never
 * cost those much who do not come back: no more are expected than came last time, and after each
 * vain wait twice as many commits go without one. */
#include "journal_impl.h"

enum {
    MOST_NS = 1000000,
    SKIP_MOST = 63,
    HITS_BETTER = 16 /* waits not in vain, after which more are hoped for */
};

void bgmqi_journal_gather_begin(struct journal *j, int64_t now)
{
    size_t all = j->released + j->n_waiters;
    if (j->gather && !j->n_waiters && now >= j->gather_until_ns)
        bgmqi_journal_gather_end(j); /* nobody came: the next who does wakes the writer */
    if (!j->released)
        return;
    j->released = 0;
    if (j->gather_skip) {
        j->gather_skip--;
        return;
    }
    int64_t most_ns = j->commit_ns / 2 < MOST_NS ? j->commit_ns / 2 : MOST_NS;
    /* Without a wait that ends of itself the next who comes has to wake the writer. */
    if (all < 2 || most_ns == 0)
        return; /* the writer sleeps in any case */
    j->gather = all < j->gather_most ? all : j->gather_most;
    j->gather_until_ns = now + most_ns;
}

int64_t bgmqi_journal_gather_ns(const struct journal *j, int64_t now)
{
    return j->gather > j->n_waiters && now < j->gather_until_ns ? j->gather_until_ns - now
                                                                : 0;
}

void bgmqi_journal_gather_end(struct journal *j)
{
    if (j->gather > j->n_waiters) {
        j->gather_most = j->n_waiters > 2 ? j->n_waiters : 2;
        j->gather_misses = 2 * j->gather_misses + 1;
        if (j->gather_misses > SKIP_MOST)
            j->gather_misses = SKIP_MOST;
        j->gather_skip = j->gather_misses;
        j->gather_hits = 0;
    } else if (j->gather) {
        j->gather_misses = 0;
        if (++j->gather_hits % HITS_BETTER == 0)
            j->gather_most += 1 + j->gather_most / 4;
    }
    j->gather = 0;
    j->n_waiters = 0;
}
