/* clock.c - the system's clocks, and the two ways a date is written.  Any thread. */
#include "clock.h"

#include <stdio.h>
#include <time.h>

static int64_t system_wall_ms(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t system_rough_ms(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t system_mono_ns(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

const struct clock bgmqi_clock_system = {
    .wall_ms = system_wall_ms,
    .mono_ns = system_mono_ns,
    .rough_ms = system_rough_ms,
};

/* Splits WALL_MS; a time outside what gmtime can say is shown as 1970. */
static int split(int64_t wall_ms, struct tm *ret)
{
    int64_t ms = ((wall_ms % 1000) + 1000) % 1000;
    time_t seconds = (time_t)((wall_ms - ms) / 1000);
    if (!gmtime_r(&seconds, ret)) {
        time_t zero = 0;
        gmtime_r(&zero, ret);
    }
    return (int)ms;
}

void bgmqi_clock_us_date(int64_t wall_ms, char *ret, size_t size)
{
    struct tm t;
    split(wall_ms, &t);
    int hour = t.tm_hour % 12 ? t.tm_hour % 12 : 12;
    snprintf(ret, size, "%d/%d/%02d %d:%02d:%02d %s", t.tm_mon + 1, t.tm_mday,
             t.tm_year % 100, hour, t.tm_min, t.tm_sec, t.tm_hour < 12 ? "AM" : "PM");
}

void bgmqi_clock_rfc3339(int64_t wall_ms, char *ret, size_t size)
{
    struct tm t;
    int ms = split(wall_ms, &t);
    snprintf(ret, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900,
             t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, ms);
}
