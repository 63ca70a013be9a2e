/* err.c - codes and texts in one table, so that neither can be forgotten.  Any thread. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERRORS(X)                                                                        \
    X(BGMQ_OK, "no error")                                                               \
    X(BGMQ_EINVAL, "an argument is outside its documented range")                        \
    X(BGMQ_ENOMEM, "out of memory")                                                      \
    X(BGMQ_ECLOSED, "the service is closed")                                             \
    X(BGMQ_EFORKED, "the service belongs to the parent of this fork() or daemon()")      \
    X(BGMQ_EEXIST, "it exists already")                                                  \
    X(BGMQ_ENOENT, "no such type, queue or message")                                     \
    X(BGMQ_ETOOBIG, "the body is larger than max_body")                                  \
    X(BGMQ_EFULL, "a bound on memory or disk is reached")                                \
    X(BGMQ_EBUSY,                                                                        \
      "busy: locked, handlers still run, or the store did not answer in time")           \
    X(BGMQ_ETIMEOUT, "nothing came within the time given")                               \
    X(BGMQ_EINPROGRESS, "requested; it goes on in the background")                       \
    X(BGMQ_EDEADLK, "the call would wait for its own thread")                            \
    X(BGMQ_ELOST, "the message is not yours any more")                                   \
    X(BGMQ_EUNCERTAIN,                                                                   \
      "the store failed while committing; the change may or may not be there")           \
    X(BGMQ_ESTORE, "the store has failed and takes nothing until it is opened anew")     \
    X(BGMQ_EOPEN, "the database cannot be opened or created")                            \
    X(BGMQ_EUNSAFE, "the database file is not safe to use")                              \
    X(BGMQ_ENOTDB, "the file is not a SQLite database")                                  \
    X(BGMQ_ENOTOURS, "the database belongs to another application")                      \
    X(BGMQ_EVERSION, "the database was written by a newer version of bgmq")              \
    X(BGMQ_EOWNED, "another process owns the database")                                  \
    X(BGMQ_ETHREAD, "a thread could not be started")                                     \
    X(BGMQ_EJSON, "not JSON, or not of the shape asked for")                             \
    X(BGMQ_EHTTP, "the HTTP listener could not be started")                              \
    X(BGMQ_EREADONLY, "it can only be read")                                             \
    X(BGMQ_EOTHERFILE,                                                                   \
      "the main database is not the queue's, or an attached one takes part")             \
    X(BGMQ_EDRAINING, "the service finishes what it has and takes nothing new")          \
    X(BGMQ_ESCHEMA, "a table of bgmq is not as this library made it")                    \
    X(BGMQ_ECORRUPT, "the database file is damaged")

const char *bgmq_strerror(int err)
{
    switch (err) {
#define X(code, text)                                                                    \
    case code:                                                                           \
        return text;
        ERRORS(X)
#undef X
    }
    return "unknown error";
}

const char *bgmq_errname(int err)
{
    switch (err) {
#define X(code, text)                                                                    \
    case code:                                                                           \
        return #code;
        ERRORS(X)
#undef X
    }
    return "BGMQ_E?";
}

/* One line, whatever was in what it was made of. */
static void make_line(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

int bgmqi_err_set(struct bgmq_error *error, int err, const char *format, ...)
{
    if (!error)
        return err;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    make_line(error->text);
    return err;
}

int bgmqi_err_system(struct bgmq_error *error, int err, int errnum, const char *format,
                     ...)
{
    char words[128]; /* strerror's are those of all threads */
    if (!error)
        return err;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    size_t len = strlen(error->text);
    snprintf(error->text + len, sizeof(error->text) - len, ": %s",
             strerror_r(errnum, words, sizeof(words)));
    make_line(error->text);
    return err;
}
