/* err.h - every error code with its text, in one table. */
#ifndef BGMQI_ERR_H
#define BGMQI_ERR_H

#include <bgmq.h>

/* Writes the formatted text to ERROR, cut to fit, one line; ERROR may be NULL.  Returns ERR. */
int bgmqi_err_set(struct bgmq_error *error, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Likewise, and after the text a colon and the words of the system for ERRNUM. */
int bgmqi_err_system(struct bgmq_error *error, int err, int errnum, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

#endif
