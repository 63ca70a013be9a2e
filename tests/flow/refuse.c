/* refuse.c - which allocation is refused, and the order to the journal's thread (see refuse.h).
 *
 * Called on any thread; each refuses what it was told itself. */
#include "refuse.h"

#include "scarce.h"
#include "service.h"

#include <sqlite3.h>

_Thread_local long refuse_left, refuse_hits;

static bool refuse(void)
{
    if (!refuse_left || --refuse_left)
        return false;
    refuse_hits++;
    return true;
}

SCARCE_WRAP(void *, sqlite3_malloc64, (sqlite3_uint64 size), (size))

void refuse_setup(void)
{
    scarce_setup(refuse);
}

struct order {
    long n, refusals;
};

static void obey(void *ctx, struct store *s)
{
    struct order *o = ctx;
    (void)s;
    refuse_left = o->n;
    o->refusals = refuse_hits;
    refuse_hits = 0;
}

long refuse_order(struct bgmq *mq, long n)
{
    struct order o = {.n = n};
    OK(bgmqi_journal_run(mq->journal, obey, &o, INT64_C(10000000000)));
    return o.refusals;
}
