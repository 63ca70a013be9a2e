/* log.h - the log callback: one printable line, no lock held, no way back in. */
#ifndef BGMQI_LOG_H
#define BGMQI_LOG_H

#include <bgmq.h>
#include <stdbool.h>

struct log {
    bgmq_log_fn *fn; /* NULL: warnings and errors to stderr */
    void *ctx;
};

/* Formats one line, at most 1 KiB, other bytes than printable ASCII as \xNN.  The caller holds
 * no lock. */
void bgmqi_log(const struct log *log, enum bgmq_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* True on a thread that is inside the log callback now. */
bool bgmqi_log_inside(void);

#endif
