/* shim_vfs.c - see shim_vfs.h.  Each file of ours is a small head, and behind it in the same
 * memory the file of the system's VFS. */
#include "shim_vfs.h"

#include <errno.h>
#include <sqlite3.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct shim {
    sqlite3_file base;
    enum shim_file kind;
    sqlite3_file *real;
};

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;
static struct shim_fault armed;
static _Atomic long hits, fired;
static _Atomic int last_errno; /* of the last failure made here */
static _Atomic long counts[SHIM_CALLS][4];
static struct {
    unsigned calls, files;
    void (*fn)(void *ctx);
    void *ctx;
} hook;
static _Thread_local int hook_runs;

/* ---- the decision -------------------------------------------------------------------- */

static int failure(enum shim_call call)
{
    switch (call) {
    case SHIM_OPEN:
        return SQLITE_CANTOPEN;
    case SHIM_READ:
        return SQLITE_IOERR_READ;
    case SHIM_WRITE:
        return SQLITE_IOERR_WRITE;
    case SHIM_TRUNCATE:
        return SQLITE_IOERR_TRUNCATE;
    case SHIM_SYNC:
        return SQLITE_IOERR_FSYNC;
    case SHIM_SIZE:
        return SQLITE_IOERR_FSTAT;
    case SHIM_LOCK:
        return SQLITE_IOERR_LOCK;
    case SHIM_DELETE:
        return SQLITE_IOERR_DELETE;
    case SHIM_SHM:
        return SQLITE_IOERR_SHMMAP;
    case SHIM_SHMLOCK:
        return SQLITE_IOERR_SHMLOCK;
    default:
        return SQLITE_IOERR;
    }
}

static int index_of(unsigned bit)
{
    int i = 0;
    while (bit >> (i + 1))
        i++;
    return i;
}

/* SQLITE_OK when the call is to be made. */
static int decide(enum shim_call call, enum shim_file file)
{
    if (hook_runs)
        return SQLITE_OK;
    counts[index_of(call)][index_of(file)]++;
    if (hook.fn && (hook.calls & call) && (hook.files & file)) {
        hook_runs = 1;
        hook.fn(hook.ctx);
        hook_runs = 0;
    }
    if (!(armed.calls & call) || !(armed.files & file))
        return SQLITE_OK;
    long hit = ++hits;
    if (hit < armed.nth || (armed.times && hit >= armed.nth + armed.times))
        return SQLITE_OK;
    fired++;
    switch (armed.kind) {
    case SHIM_KILL:
        /* The call itself: a checker's _exit() takes a thread that ended beside us for a leak. */
        syscall(SYS_exit_group, 0);
        return SQLITE_IOERR;
    case SHIM_FULL:
        return SQLITE_FULL;
    case SHIM_NOSPACE:
        errno = armed.errno_;
        last_errno = armed.errno_;
        return failure(call);
    default:
        last_errno = errno = EIO;
        return failure(call);
    }
}

/* ---- files --------------------------------------------------------------------------- */

#define SHIM(f) ((struct shim *)(f))
#define REAL(f) (SHIM(f)->real)
#define DECIDE(call)                                                                     \
    do {                                                                                 \
        int decided_ = decide((call), SHIM(f)->kind);                                    \
        if (decided_ != SQLITE_OK)                                                       \
            return decided_;                                                             \
    } while (0)

static int x_close(sqlite3_file *f)
{
    decide(SHIM_CLOSE, SHIM(f)->kind); /* a close may end the process, but cannot fail */
    return REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK;
}

static int x_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    DECIDE(SHIM_READ);
    return REAL(f)->pMethods->xRead(REAL(f), to, n, at);
}

static int x_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    DECIDE(SHIM_WRITE);
    return REAL(f)->pMethods->xWrite(REAL(f), from, n, at);
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    DECIDE(SHIM_TRUNCATE);
    return REAL(f)->pMethods->xTruncate(REAL(f), size);
}

static int x_sync(sqlite3_file *f, int flags)
{
    DECIDE(SHIM_SYNC);
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}

static int x_size(sqlite3_file *f, sqlite3_int64 *size)
{
    DECIDE(SHIM_SIZE);
    return REAL(f)->pMethods->xFileSize(REAL(f), size);
}

static int x_lock(sqlite3_file *f, int level)
{
    DECIDE(SHIM_LOCK);
    return REAL(f)->pMethods->xLock(REAL(f), level);
}

static int x_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}

static int x_reserved(sqlite3_file *f, int *yes)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), yes);
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
    if (op == SQLITE_FCNTL_LAST_ERRNO && last_errno) {
        *(int *)arg = last_errno;
        return SQLITE_OK;
    }
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}

static int x_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int x_features(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

static int x_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **to)
{
    DECIDE(SHIM_SHM);
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, to);
}

static int x_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    if (flags & SQLITE_SHM_LOCK)
        DECIDE(SHIM_SHMLOCK);
    return REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
}

static void x_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int x_shm_unmap(sqlite3_file *f, int delete_it)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), delete_it);
}

static int x_fetch(sqlite3_file *f, sqlite3_int64 at, int n, void **to)
{
    return REAL(f)->pMethods->xFetch(REAL(f), at, n, to);
}

static int x_unfetch(sqlite3_file *f, sqlite3_int64 at, void *p)
{
    DECIDE(SHIM_UNFETCH);
    return REAL(f)->pMethods->xUnfetch(REAL(f), at, p);
}

static sqlite3_io_methods methods = {
    .iVersion = 3,
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_size,
    .xLock = x_lock,
    .xUnlock = x_unlock,
    .xCheckReservedLock = x_reserved,
    .xFileControl = x_control,
    .xSectorSize = x_sector,
    .xDeviceCharacteristics = x_features,
    .xShmMap = x_shm_map,
    .xShmLock = x_shm_lock,
    .xShmBarrier = x_shm_barrier,
    .xShmUnmap = x_shm_unmap,
    .xFetch = x_fetch,
    .xUnfetch = x_unfetch,
};

/* ---- the VFS ------------------------------------------------------------------------- */

static enum shim_file kind_of(int flags)
{
    if (flags & SQLITE_OPEN_MAIN_DB)
        return SHIM_DB;
    if (flags & SQLITE_OPEN_WAL)
        return SHIM_WAL;
    return flags & SQLITE_OPEN_MAIN_JOURNAL ? SHIM_JOURNAL : SHIM_OTHER;
}

static enum shim_file kind_of_name(const char *name)
{
    size_t len = strlen(name);
    if (len > 4 && strcmp(name + len - 4, "-wal") == 0)
        return SHIM_WAL;
    return len > 8 && strcmp(name + len - 8, "-journal") == 0 ? SHIM_JOURNAL : SHIM_OTHER;
}

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct shim *s = SHIM(f);
    s->base.pMethods = NULL;
    s->kind = kind_of(flags);
    s->real = (sqlite3_file *)(void *)(s + 1);
    s->real->pMethods = NULL;
    DECIDE(SHIM_OPEN);
    int rc = real_vfs->xOpen(real_vfs, name, s->real, flags, out);
    if (rc == SQLITE_OK)
        s->base.pMethods = &methods;
    return rc;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync)
{
    int rc = decide(SHIM_DELETE, kind_of_name(name));
    return rc == SQLITE_OK ? real_vfs->xDelete(real_vfs, name, sync) : rc;
}

static int v_last_error(sqlite3_vfs *v, int n, char *text)
{
    return errno;
}

void shim_vfs_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.pNext = NULL;
    vfs.zName = "shim";
    vfs.szOsFile = (int)sizeof(struct shim) + real_vfs->szOsFile;
    vfs.xOpen = v_open;
    vfs.xDelete = v_delete;
    vfs.xGetLastError = v_last_error;
    sqlite3_vfs_register(&vfs, 1);
    shim_vfs_disarm();
    shim_vfs_reset();
    shim_vfs_hook(0, 0, NULL, NULL);
}

void shim_vfs_remove(void)
{
    sqlite3_vfs_unregister(&vfs);
    sqlite3_vfs_register(real_vfs, 1);
}

void shim_vfs_arm(const struct shim_fault *fault)
{
    armed = *fault;
    hits = 0;
    fired = 0;
    last_errno = 0;
}

void shim_vfs_disarm(void)
{
    armed = (struct shim_fault){0};
}

long shim_vfs_fired(void)
{
    return fired;
}

long shim_vfs_count(unsigned calls, unsigned files)
{
    long n = 0;
    for (int c = 0; c < SHIM_CALLS; c++)
        for (int f = 0; f < 4; f++)
            if ((calls >> c & 1) && (files >> f & 1))
                n += counts[c][f];
    return n;
}

void shim_vfs_reset(void)
{
    for (int c = 0; c < SHIM_CALLS; c++)
        for (int f = 0; f < 4; f++)
            counts[c][f] = 0;
}

void shim_vfs_hook(unsigned calls, unsigned files, void (*fn)(void *ctx), void *ctx)
{
    hook.calls = calls;
    hook.files = files;
    hook.fn = fn;
    hook.ctx = ctx;
}
