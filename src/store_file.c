/* store_file.c - the database file from outside: its name, whether it is safe to use, and whether
 * it is still the one it was.
 *
 * Called by whoever opens a database, and by the journal's thread with each commit.  The file is
 * never opened, but at the moment of its making: see store_open.c. */
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "err.h"
#include "store_site.h"

enum {
    PATH_GIVEN_MAX = 480,
    PATH_FULL_MAX = 500 /* SQLite adds "-journal" and stops at 512 */
};

/* ---- its name ------------------------------------------------------------------------ */

int bgmqi_store_file_locate(const char *path, char folder[PATH_MAX], char full[PATH_MAX])
{
    char dir[PATH_MAX]; /* "/." has realpath refuse what is no directory */
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    if (!*base)
        return 0;
    int len = snprintf(dir, sizeof(dir), "%.*s/.", slash ? (int)(slash - path) : 1,
                       slash ? path : ".");
    if (len >= (int)sizeof(dir))
        errno = ENAMETOOLONG;
    if (len >= (int)sizeof(dir) || !realpath(dir, folder))
        return -1;
    return snprintf(full, PATH_MAX, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder,
                    base);
}

int bgmqi_store_file_find(char **ret, const char *path, struct bgmq_error *error)
{
    char folder[PATH_MAX], full[PATH_MAX];
    size_t given = path ? strnlen(path, PATH_GIVEN_MAX + 1) : 0;
    if (given == 0 || given > PATH_GIVEN_MAX)
        return bgmqi_err_set(error, BGMQ_EINVAL,
                             "a database needs a name of 1 to %d bytes", PATH_GIVEN_MAX);
    bool special = strcmp(path, ":memory:") == 0 || strncmp(path, "file:", 5) == 0;
    int len = special ? 0 : bgmqi_store_file_locate(path, folder, full);
    if (len == 0)
        return bgmqi_err_set(error, BGMQ_EINVAL, "%s: not the name of a file", path);
    if (len < 0)
        return bgmqi_err_system(error, errno == ENOMEM ? BGMQ_ENOMEM : BGMQ_EOPEN, errno,
                                "%s: the directory", path);
    if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) != 0)
        return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s: the directory", path);
    if (len >= PATH_FULL_MAX)
        return bgmqi_err_set(error, BGMQ_EINVAL, "%s: the full path is too long", path);
    *ret = strdup(full);
    return *ret ? 0 : bgmqi_err_set(error, BGMQ_ENOMEM, "%s: no memory", path);
}

/* ---- whether it is safe ---------------------------------------------------------------- */

static int unsafe(const char *path, const char *why, struct bgmq_error *error)
{
    return bgmqi_err_set(error, BGMQ_EUNSAFE, "%s: %s", path, why);
}

/* A file that somebody else can change, or that has a second name, is not safe: a second
 * name means a second log, and each would be lost on the other. */
static int check_file(const char *path, const struct stat *st, struct bgmq_error *error)
{
    if (S_ISLNK(st->st_mode))
        return unsafe(path, "is a symbolic link", error);
    if (!S_ISREG(st->st_mode))
        return unsafe(path, "is not a regular file", error);
    if (st->st_uid != geteuid())
        return unsafe(path, "belongs to another user", error);
    if (st->st_mode & S_IWOTH)
        return unsafe(path, "can be written by everybody", error);
    if (st->st_nlink != 1)
        return unsafe(path, "has more than one name", error);
    return 0;
}

/* The log of PATH, its index and its journal; one that is not there is fine. */
static int check_companions(const char *path, struct bgmq_error *error)
{
    static const char *const ends[] = {"-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char name[PATH_FULL_MAX + 16];
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        struct stat st;
        if (lstat(name, &st) != 0)
            continue;
        int err = check_file(name, &st, error);
        if (err)
            return err;
    }
    return 0;
}

static int make_file(const char *path, struct bgmq_error *error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s", path);
    close(fd);
    return 0;
}

int bgmqi_store_file_check(const char *path, const struct log *log,
                           struct bgmq_error *error)
{
    struct stat st;
    int err = bgmqi_store_site_check(path, log, error);
    if (err)
        return err;
    if (lstat(path, &st) != 0) {
        if (errno != ENOENT)
            return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s", path);
        err = make_file(path, error);
        if (err)
            return err;
        if (lstat(path, &st) != 0)
            return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s", path);
    }
    err = check_file(path, &st, error);
    if (err)
        return err;
    /* Root may write what is marked read-only; whoever marked it meant something. */
    if (!(st.st_mode & S_IWUSR) ||
        faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) != 0)
        return bgmqi_err_system(error, BGMQ_EOPEN, EACCES, "%s", path);
    if (st.st_size == 1) /* SQLite would take it for an empty file, and write over it */
        return bgmqi_err_set(error, BGMQ_ENOTDB, "%s: file is not a database", path);
    return check_companions(path, error);
}

int bgmqi_store_file_check_there(const char *path, struct bgmq_error *error)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return bgmqi_err_system(error, errno == ENOENT ? BGMQ_ENOENT : BGMQ_EOPEN, errno,
                                "%s", path);
    int err = check_file(path, &st, error);
    return err ? err : check_companions(path, error);
}

/* ---- whether it is the same ------------------------------------------------------------ */

/* Asks for no times: looking at them was measured to make the next fdatasync, which publishers
 * wait for, 25 to 50 us slower on Linux 6.18 (a finer time stamp to be written, probably). */
void bgmqi_store_file_identify(const char *path, const char *end,
                               struct file_identity *ret)
{
    char name[PATH_FULL_MAX + 16]; /* looked at with each commit: no printf */
    size_t len = strlen(path);
    memcpy(name, path, len);
    memcpy(name + len, end, strlen(end) + 1);
    struct statx st;
    *ret = (struct file_identity){
        .there = statx(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, STATX_INO, &st) == 0};
    if (ret->there) {
        ret->device = makedev(st.stx_dev_major, st.stx_dev_minor);
        ret->inode = st.stx_ino;
    }
}

bool bgmqi_store_file_same(const struct file_identity *a, const struct file_identity *b)
{
    return a->there == b->there && a->device == b->device && a->inode == b->inode;
}
