/*
 * outbox.c - mails as files in a folder, for a server without a mail server.
 *
 * Called by the workers.  KEY-PID-N.eml appears whole or not at all, and is never written
 * over: a mail that was sent twice is there twice, and can be counted.
 */
#include "mail.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mail_way {
    int folder; /* file descriptor */
};

static unsigned next_number(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static unsigned number; /* protected by lock */
    pthread_mutex_lock(&lock);
    unsigned n = ++number;
    pthread_mutex_unlock(&lock);
    return n;
}

static void outbox_close(struct mail_way *way)
{
    if (!way)
        return;
    if (way->folder >= 0)
        close(way->folder);
    free(way);
}

/* A folder that cannot be opened is found by the first mail, which has a place for the
 * reason. */
static struct mail_way *outbox_open(const char *target)
{
    struct mail_way *way = calloc(1, sizeof(*way));
    if (way)
        way->folder = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return way;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Writes and syncs the file NAME, which must be new. */
static int write_file(int folder, const char *name, const char *text, size_t len)
{
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int err = write_all(fd, text, len) || fsync(fd);
    int reason = errno;
    close(fd);
    errno = reason;
    return err ? -1 : 0;
}

/* Gives the file TEMPORARY the first free name of its kind.  A link, unlike a rename,
 * fails when the name is taken: by an earlier process that had our number. */
static int publish(int folder, const char *temporary, const char *key)
{
    int err;
    do {
        char name[160];
        snprintf(name, sizeof(name), "%s-%ld-%u.eml", key, (long)getpid(), next_number());
        err = linkat(folder, temporary, folder, name, 0);
    } while (err && errno == EEXIST);
    return err || fsync(folder) ? -1 : 0;
}

static enum mail_result outbox_send(struct mail_way *way, const char *key, const char *to,
                                    const char *text, size_t len,
                                    struct mail_error *error)
{
    char temporary[160];
    int err;
    do {
        snprintf(temporary, sizeof(temporary), ".%s-%ld-%u.tmp", key, (long)getpid(),
                 next_number());
        err = write_file(way->folder, temporary, text, len);
    } while (err && errno == EEXIST);
    err = err || publish(way->folder, temporary, key);
    int reason = errno;
    unlinkat(way->folder, temporary, 0);
    if (!err)
        return MAIL_SENT;
    snprintf(error->text, sizeof(error->text), "outbox: %s", strerror(reason));
    return MAIL_DOWN;
}

const struct mail_kind mail_outbox = {
    .open = outbox_open, .send = outbox_send, .close = outbox_close};
