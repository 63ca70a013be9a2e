/* metrics.h - one line for the log, now and then: what the service did, and how it is. */
#ifndef BGMQI_METRICS_H
#define BGMQI_METRICS_H

#include "registry.h"

/* Used by the ticker only. */
struct metrics {
    int64_t last_ns; /* monotonic, of the last line, or the opening */
    uint64_t processed;
};

/* Logs a line when INTERVAL_MS (0: never) have passed since the last.  Returns when the next is
 * due, monotonic; INT64_MAX: never. */
int64_t bgmqi_metrics_tick(struct metrics *m, const struct type_env *env,
                           struct registry *r, unsigned interval_ms, int64_t now_ns);

#endif
