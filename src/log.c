/* log.c - calls the user's log callback (see log.h).  Any thread, no lock held. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

#include "lock.h"

enum { LINE = 1024 };

static THREAD_LOCAL bool inside;

bool bgmqi_log_inside(void)
{
    return inside;
}

static void to_stderr(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx;
    if (level <= BGMQ_LOG_WARNING)
        fprintf(stderr, "bgmq: %s: %s\n", level == BGMQ_LOG_ERROR ? "error" : "warning",
                text);
}

/* Copies RAW with everything but printable ASCII written as \xNN, cut to fit. */
static void escape(const char *raw, char ret[LINE])
{
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)raw; *p && n + 5 < LINE; p++) {
        if (*p >= 0x20 && *p < 0x7f)
            ret[n++] = (char)*p;
        else
            n += (size_t)snprintf(ret + n, 5, "\\x%02x", *p);
    }
    ret[n] = '\0';
}

void bgmqi_log(const struct log *log, enum bgmq_level level, const char *format, ...)
{
    lock_assert_none();
    if (inside)
        return;
    char raw[LINE], line[LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    escape(raw, line);
    inside = true;
    (log->fn ? log->fn : to_stderr)(log->ctx, level, line);
    inside = false;
}
