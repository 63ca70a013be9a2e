/* monitor.h - a mutex and the condition that something under it has changed.
 *
 * For what is seldom: who waits in the library for messages parks (park.h). */
#ifndef BGMQI_MONITOR_H
#define BGMQI_MONITOR_H

#include <stdint.h>

#include "lock.h"

struct LOCK_ATTR(capability("mutex")) monitor {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum lock_rank rank;
};

void bgmqi_monitor_init(struct monitor *m, enum lock_rank rank);
void bgmqi_monitor_fini(struct monitor *m);
void bgmqi_monitor_enter(struct monitor *m) LOCK_ATTR(acquire_capability(*m));
void bgmqi_monitor_leave(struct monitor *m) LOCK_ATTR(release_capability(*m));
/* Inside: leaves, waits for a change, up to TIMEOUT_NS and never longer than a second, as a wake
 * may get lost, and enters again. */
void bgmqi_monitor_wait(struct monitor *m, int64_t timeout_ns) REQUIRES(*m);
/* Wakes all who wait. */
void bgmqi_monitor_change(struct monitor *m);

#endif
