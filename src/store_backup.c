/* store_backup.c - copies a database that is in use (see store_backup.h).
 *
 * The caller's thread, with a connection of its own that reads one state while others write on.
 * The copy has no row and no byte of what was deleted.  It must never write over a file that is
 * there, and never leave half a copy. */
#include "store_backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "err.h"
#include "store_authorize.h"
#include "store_file.h"
#include "store_open.h"

enum { TO_MAX = 480 };

char *bgmqi_store_backup_source(const struct store *store)
{
    return strdup(((const struct sqlite_store *)store)->path);
}

static bool is_no_room(int system_error)
{
    return system_error == ENOSPC || system_error == EDQUOT || system_error == EFBIG;
}

static int failed(const char *to, struct bgmq_error *error)
{
    int err = errno == EEXIST ? BGMQ_EEXIST : is_no_room(errno) ? BGMQ_EFULL : BGMQ_EOPEN;
    return bgmqi_err_system(error, err, errno, "%s", to);
}

/* FULL gets the absolute name of TO, which SQLite cannot take for a URI; *FOLDER its folder. */
static int make_file(const char *to, char full[PATH_MAX], int *folder,
                     struct bgmq_error *error)
{
    char real[PATH_MAX];
    int len = bgmqi_store_file_locate(to, real, full);
    if (len < 0)
        return failed(to, error);
    if (len == 0 || len > TO_MAX)
        return bgmqi_err_set(error, BGMQ_EINVAL, "%s: not the name of a file", to);
    *folder = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*folder < 0)
        return failed(to, error);
    int fd = open(full, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        int err = failed(to, error);
        close(*folder);
        return err;
    }
    close(fd);
    return 0;
}

/* The file of the copy is closed by now: only the connection still knows what its disk said. */
static int error_of(sqlite3 *db, int rc)
{
    if ((rc & 0xff) == SQLITE_IOERR && is_no_room(sqlite3_system_errno(db)))
        return BGMQ_EFULL;
    return bgmqi_store_sqlite_code(rc);
}

static int copy(sqlite3 *db, const char *to, struct bgmq_error *error)
{
    sqlite3_stmt *q = NULL;
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 1); /* the copy, while it is being written */
    bgmqi_store_authorize_all(db);
    int rc = sqlite3_prepare_v2(db, "VACUUM main INTO ?1", -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(q, 1, to, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    int err = rc == SQLITE_DONE ? 0
                                : bgmqi_err_set(error, error_of(db, rc), "%s: %s (%d)",
                                                to, sqlite3_errmsg(db), rc);
    sqlite3_finalize(q);
    return err;
}

/* Nobody else has the copy open: no lock is lost by this close. */
static int sync_all(const char *to, int folder, struct bgmq_error *error)
{
    int fd = open(to, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int err = fd < 0 || fsync(fd) != 0 || fsync(folder) != 0
                  ? bgmqi_err_system(error, is_no_room(errno) ? BGMQ_EFULL : BGMQ_ESTORE,
                                     errno, "%s", to)
                  : 0;
    if (fd >= 0)
        close(fd);
    return err;
}

/* A copy that came to nothing, and the journal of the transaction it was written in. */
static void remove_all(const char *to)
{
    char journal[TO_MAX + sizeof("-journal")];
    snprintf(journal, sizeof(journal), "%.*s-journal", TO_MAX, to);
    unlink(journal);
    unlink(to);
}

int bgmqi_store_backup_copy(const char *from, const char *to, struct bgmq_error *error)
{
    struct sqlite_store visit = {.patience_ms = 0};
    char full[PATH_MAX];
    int folder = -1;
    if (strnlen(to, TO_MAX + 1) > TO_MAX)
        return bgmqi_err_set(error, BGMQ_EINVAL, "the name of a copy is too long");
    int err = make_file(to, full, &folder, error);
    if (err)
        return err;
    err = bgmqi_store_open_visit(&visit, from, error);
    if (!err)
        err = copy(visit.w, full, error);
    bgmqi_store_open_leave(&visit);
    if (!err)
        err = sync_all(full, folder, error);
    if (err)
        remove_all(full);
    close(folder);
    return err;
}
