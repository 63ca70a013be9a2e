/* owner.c - the owner lock (see owner.h).  The opener's and the closer's thread.
 *
 * A classic POSIX lock: unlike an open-file-description lock it is not carried into a child of
 * fork, where it would keep a dead owner alive.  Its two weaknesses are dealt with here: it does
 * not conflict within one process, so a list of what this process owns is kept; and any close
 * of the file drops it, so nothing else may ever open it. */
#include "owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "lock.h"
#include "park.h"

/* How often a stand-by asks.  A queued lock would be quicker, but could not be given up. */
#define STANDBY_STEP_NS (20 * INT64_C(1000000))
enum { LOCK_PATH_MAX = 600 };

struct owner {
    struct owner *next;
    int fd;
    pid_t pid; /* who took it: a child of fork inherits the list, not the lock */
    dev_t dev;
    ino_t ino;
    char *made; /* path of the lock file, when it was not there before */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct owner *owned; /* protected by mutex */

/* The mutex is held.  True when the list says that this process (HERE), or one that it is a fork
 * of, owns the file.  A file that is locked by this process must not be opened again. */
static bool is_listed(const char *lock_path, bool here)
{
    struct stat st;
    if (lstat(lock_path, &st) != 0)
        return false;
    for (const struct owner *o = owned; o; o = o->next)
        if (o->dev == st.st_dev && o->ino == st.st_ino && (o->pid == getpid()) == here)
            return true;
    return false;
}

/* A lock that was not given for another reason (a file system without locks, say) is nobody's. */
static int refused(struct owner *o, const char *lock_path, struct bgmq_error *error)
{
    if (errno != EACCES && errno != EAGAIN)
        return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s: cannot be locked",
                                lock_path);
    struct flock holder = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    long pid = fcntl(o->fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK
                   ? (long)holder.l_pid
                   : 0;
    return bgmqi_err_set(error, BGMQ_EOWNED, "%s: owned by process %ld", lock_path, pid);
}

static int open_file(struct owner *o, char *lock_path)
{
    static const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    o->fd = open(lock_path, flags | O_EXCL, 0600);
    o->made = o->fd >= 0 ? lock_path : NULL;
    if (o->fd < 0 && errno == EEXIST)
        o->fd = open(lock_path, flags, 0600);
    return o->fd;
}

static int not_opened(const char *lock_path, struct bgmq_error *error)
{
    static const char text[] = "the lock beside the database";
    if (errno == ELOOP)
        return bgmqi_err_set(error, BGMQ_EOPEN,
                             "%s, %s: it is a symbolic link, none is followed", lock_path,
                             text);
    return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s, %s", lock_path, text);
}

/* The mutex is held. */
static int take(struct owner *o, char *lock_path, struct bgmq_error *error)
{
    struct stat st = {.st_nlink = 0};
    while (st.st_nlink == 0) { /* once, unless its maker takes it away just now */
        if (open_file(o, lock_path) < 0)
            return not_opened(lock_path, error);
        struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int err = fcntl(o->fd, F_SETLK, &all) != 0 ? refused(o, lock_path, error) : 0;
        if (!err && fstat(o->fd, &st) != 0)
            err = bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s", lock_path);
        if (err || st.st_nlink == 0)
            close(o->fd);
        if (err)
            return err;
    }
    o->pid = getpid();
    o->dev = st.st_dev;
    o->ino = st.st_ino;
    o->next = owned;
    owned = o;
    return 0;
}

int bgmqi_owner_take(struct owner **ret, const char *path, struct bgmq_error *error)
{
    size_t size = strlen(path) + sizeof("-lock");
    char *lock_path = malloc(size);
    struct owner *o = calloc(1, sizeof(*o));
    int err = lock_path && o ? 0 : BGMQ_ENOMEM;
    if (!err) {
        snprintf(lock_path, size, "%s-lock", path);
        PTHREAD_OK(pthread_mutex_lock(&mutex));
        if (is_listed(lock_path, true))
            err = bgmqi_err_set(error, BGMQ_EEXIST, "%s: open in this process already",
                                path);
        else
            err = take(o, lock_path, error);
        PTHREAD_OK(pthread_mutex_unlock(&mutex));
    }
    if (err || !o->made)
        free(lock_path);
    if (err)
        free(o);
    else
        *ret = o;
    return err;
}

int bgmqi_owner_wait(struct owner **ret, const char *path, unsigned wait_ms,
                     struct bgmq_error *error)
{
    int64_t deadline =
        clock_mono_ns(&bgmqi_clock_system) + (int64_t)wait_ms * INT64_C(1000000);
    for (;;) {
        int err = bgmqi_owner_take(ret, path, error);
        int64_t left = deadline - clock_mono_ns(&bgmqi_clock_system);
        if (err != BGMQ_EOWNED || left <= 0)
            return err;
        struct park nobody = {0}; /* nobody tells that the owner goes */
        bgmqi_park_wait(&nobody, left < STANDBY_STEP_NS ? left : STANDBY_STEP_NS);
    }
}

bool bgmqi_owner_inherited(const char *path)
{
    char lock_path[LOCK_PATH_MAX];
    if ((size_t)snprintf(lock_path, sizeof(lock_path), "%s-lock", path) >=
        sizeof(lock_path))
        return false; /* longer than any that can be opened */
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    bool yes = is_listed(lock_path, false);
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
    return yes;
}

static void release(struct owner *o, bool forget)
{
    if (!o)
        return;
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    for (struct owner **p = &owned; *p; p = &(*p)->next)
        if (*p == o) {
            *p = o->next;
            break;
        }
    if (forget && o->made)
        unlink(o->made); /* while the lock is held: nobody owns what is taken away */
    close(o->fd);
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
    free(o->made);
    free(o);
}

void bgmqi_owner_release(struct owner *o)
{
    release(o, false);
}

void bgmqi_owner_forget(struct owner *o)
{
    release(o, true);
}
