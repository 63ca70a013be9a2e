/* clock.h - the two clocks, behind a pointer so that tests own the time.
 *
 * Wall time (milliseconds since 1970 UTC) is for due times and for people; monotonic time
 * (nanoseconds) is for everything measured.  Only thread loops and public functions read a
 * clock; the core is told the time. */
#ifndef BGMQI_CLOCK_H
#define BGMQI_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct clock {
    int64_t (*wall_ms)(void *ctx);
    int64_t (*mono_ns)(void *ctx);
    int64_t (*rough_ms)(
        void *ctx); /* wall time that may be a tick late, for a third of the cost */
    void *ctx;
};

/* The system's clocks. */
extern const struct clock bgmqi_clock_system;

static inline int64_t clock_wall_ms(const struct clock *c)
{
    return c->wall_ms(c->ctx);
}

static inline int64_t clock_mono_ns(const struct clock *c)
{
    return c->mono_ns(c->ctx);
}

static inline int64_t clock_rough_ms(const struct clock *c)
{
    return c->rough_ms(c->ctx);
}

/* A later time, or the farthest one there is: what comes from outside may be any number. */
static inline int64_t clock_plus(int64_t time, int64_t more)
{
    int64_t sum;
    if (__builtin_add_overflow(time, more, &sum))
        return more > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

/* "4/9/18 7:44:49 PM", UTC, whatever the locale: the date of the status page. */
void bgmqi_clock_us_date(int64_t wall_ms, char *ret, size_t size);
/* "2018-04-09T19:44:49.000Z", RFC 3339: the date of every other surface. */
void bgmqi_clock_rfc3339(int64_t wall_ms, char *ret, size_t size);

#endif
