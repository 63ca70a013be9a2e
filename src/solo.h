/* solo.h - messages that ran when the process died are run one at a time, with nothing beside them.
 *
 * So that the guilty one is named: if the process dies again, only the message that ran is charged,
 * and its innocent neighbours were cleared before or are later.  While suspects wait in a type that
 * is served, the gate (type_env.started) is GATE_SOLO: no worker claims anything, until what runs
 * has ended; then one suspect is let through, and the next when it has ended.
 *
 * Nobody is kept waiting for long: what has not ended after ten seconds is let run on, and the next
 * suspect starts beside it. */
#ifndef BGMQI_SOLO_H
#define BGMQI_SOLO_H

#include "registry.h"

/* Zero-initialised is ready.  Used by the ticker only. */
struct solo {
    int64_t
        since_ns; /* the gate was closed, or the last suspect let through; 0: gate open */
    size_t tolerated; /* handlers that run on */
};

/* Opens and closes the gate of ENV as is due at NOW_NS.  Returns when to look again, monotonic;
 * INT64_MAX: when something happens. */
int64_t bgmqi_solo_tick(struct solo *s, struct type_env *env, struct registry *r,
                        int64_t now_ns);

#endif
