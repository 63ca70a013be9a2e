/* http_throttle.c - counts requests (see http_throttle.h).
 *
 * Called by http.c for each, on the thread of the daemon, or on any thread of an application's
 * own.  It only says how long to wait: its lock is held for the counting alone. */
#include "http_throttle.h"

#include <time.h>

static const int64_t SECOND_NS = 1000000000;

int64_t bgmqi_http_throttle_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void bgmqi_http_throttle_init(struct http_throttle *t)
{
    pthread_mutex_init(&t->lock, NULL);
}

void bgmqi_http_throttle_fini(struct http_throttle *t)
{
    pthread_mutex_destroy(&t->lock);
}

struct http_strain bgmqi_http_throttle_note(struct http_throttle *t, int64_t now_ns,
                                            int guess)
{
    struct http_strain strain = {0};
    pthread_mutex_lock(&t->lock);
    if (guess && now_ns - t->second_ns >= SECOND_NS) {
        t->second_ns = now_ns;
        t->failures = 0;
    }
    if (guess && ++t->failures > THROTTLE_FREE)
        strain.wait_ms = THROTTLE_WAIT_MS;
    if (!t->logged_ns || now_ns - t->logged_ns >= SECOND_NS) {
        strain.log = 1;
        strain.silent = t->silent;
        t->logged_ns = now_ns;
        t->silent = 0;
    } else {
        t->silent++;
    }
    pthread_mutex_unlock(&t->lock);
    return strain;
}
