/* shim_vfs.c - see shim_vfs.h.  Each file of ours is a small head, and behind it in the same
 * memory the file of the system's VFS. */
#include "shim_vfs.h"

#include "vfs_pass.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FAULTS = 4 };

struct shim {
    struct vfs_pass pass;
    enum shim_file kind;
    int last_errno; /* of the last failure made here */
};

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* protected by lock */
static struct armed {
    struct shim_fault fault;
    long hits;
} armed[FAULTS];
static int n_armed;
static pthread_cond_t disarmed = PTHREAD_COND_INITIALIZER;
static long arming; /* changes whenever faults are armed or disarmed */

static _Atomic long fired;
static _Atomic int unsynced;
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

/* The fault that hits this call, in *RET; the lock is held. */
static int find_fault(enum shim_call call, enum shim_file file, struct shim_fault *ret)
{
    int found = 0;
    for (int i = 0; i < n_armed; i++) {
        const struct shim_fault *f = &armed[i].fault;
        if (!(f->calls & call) || !(f->files & file))
            continue;
        long past = ++armed[i].hits - f->nth;
        if (past < 0 || (f->times && past >= f->times) ||
            (f->every > 1 && past % f->every != 0) || found)
            continue;
        *ret = *f;
        found = 1;
    }
    return found;
}

/* The lock is held. */
static void linger(unsigned delay_ms)
{
    struct timespec until;
    long now = arming;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += delay_ms / 1000;
    until.tv_nsec += delay_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (arming == now && pthread_cond_timedwait(&disarmed, &lock, &until) == 0)
        ;
}

/* SQLITE_OK when the call is to be made; FILE may be NULL. */
static int decide(enum shim_call call, enum shim_file kind, struct shim *file)
{
    struct shim_fault f = {.calls = 0};
    if (hook_runs)
        return SQLITE_OK;
    counts[index_of(call)][index_of(kind)]++;
    if (hook.fn && (hook.calls & call) && (hook.files & kind)) {
        hook_runs = 1;
        hook.fn(hook.ctx);
        hook_runs = 0;
    }
    pthread_mutex_lock(&lock);
    int hit = find_fault(call, kind, &f);
    fired += hit;
    if (hit && f.kind == SHIM_SLOW)
        linger(f.delay_ms);
    pthread_mutex_unlock(&lock);
    if (!hit || f.kind == SHIM_SLOW)
        return SQLITE_OK;
    errno = f.kind == SHIM_NOSPACE ? f.errno_ : EIO;
    if (file && f.kind != SHIM_FULL && f.kind != SHIM_SHORT)
        file->last_errno = errno;
    switch (f.kind) {
    case SHIM_KILL:
        /* The call itself: a checker's _exit() takes a thread that ended beside us for a leak. */
        syscall(SYS_exit_group, 0);
        return SQLITE_IOERR;
    case SHIM_FULL:
        return SQLITE_FULL;
    case SHIM_SHORT:
        return SQLITE_IOERR_SHORT_READ;
    default:
        return failure(call);
    }
}

/* ---- files --------------------------------------------------------------------------- */

#define SHIM(f) ((struct shim *)(f))
#define DECIDE(call)                                                                     \
    do {                                                                                 \
        int decided_ = decide((call), SHIM(f)->kind, SHIM(f));                           \
        if (decided_ != SQLITE_OK)                                                       \
            return decided_;                                                             \
    } while (0)

static int x_close(sqlite3_file *f)
{
    decide(SHIM_CLOSE, SHIM(f)->kind,
           NULL); /* a close may end the process, but cannot fail */
    return REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK;
}

static int x_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    int decided = decide(SHIM_READ, SHIM(f)->kind, SHIM(f));
    if (decided == SQLITE_IOERR_SHORT_READ)
        memset(to, 0, (size_t)n); /* as SQLite wants it */
    if (decided != SQLITE_OK)
        return decided;
    return REAL(f)->pMethods->xRead(REAL(f), to, n, at);
}

static int x_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    DECIDE(SHIM_WRITE);
    SHIM(f)->last_errno = 0;
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
    if (unsynced)
        return SQLITE_OK;
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

static int x_control(sqlite3_file *f, int op, void *arg)
{
    if (op == SQLITE_FCNTL_LAST_ERRNO && SHIM(f)->last_errno) {
        *(int *)arg = SHIM(f)->last_errno;
        return SQLITE_OK;
    }
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
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

static int x_unfetch(sqlite3_file *f, sqlite3_int64 at, void *p)
{
    DECIDE(SHIM_UNFETCH);
    return REAL(f)->pMethods->xUnfetch(REAL(f), at, p);
}

static sqlite3_io_methods methods; /* set by shim_vfs_install */

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
    s->pass.base.pMethods = NULL;
    s->kind = kind_of(flags);
    s->last_errno = 0;
    s->pass.real = (sqlite3_file *)(void *)(s + 1);
    s->pass.real->pMethods = NULL;
    DECIDE(SHIM_OPEN);
    int rc = real_vfs->xOpen(real_vfs, name, s->pass.real, flags, out);
    if (rc == SQLITE_OK)
        s->pass.base.pMethods = &methods;
    return rc;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync)
{
    int rc = decide(SHIM_DELETE, kind_of_name(name), NULL);
    return rc == SQLITE_OK ? real_vfs->xDelete(real_vfs, name, sync) : rc;
}

static int v_last_error(sqlite3_vfs *v, int n, char *text)
{
    return errno;
}

void shim_vfs_install(void)
{
    methods = vfs_pass_methods;
    methods.xClose = x_close;
    methods.xRead = x_read;
    methods.xWrite = x_write;
    methods.xTruncate = x_truncate;
    methods.xSync = x_sync;
    methods.xFileSize = x_size;
    methods.xLock = x_lock;
    methods.xFileControl = x_control;
    methods.xShmMap = x_shm_map;
    methods.xShmLock = x_shm_lock;
    methods.xUnfetch = x_unfetch;
    vfs_pass_prepare(&vfs, "shim", sizeof(struct shim), &real_vfs);
    vfs.xOpen = v_open;
    vfs.xDelete = v_delete;
    vfs.xGetLastError = v_last_error;
    sqlite3_vfs_register(&vfs, 1);
    shim_vfs_disarm();
    shim_vfs_unsynced(0);
    shim_vfs_reset();
    shim_vfs_hook(0, 0, NULL, NULL);
}

void shim_vfs_remove(void)
{
    vfs_pass_remove(&vfs, real_vfs);
}

/* The lock is held.  Calls that linger go on. */
static void change(int n)
{
    n_armed = n;
    arming++;
    pthread_cond_broadcast(&disarmed);
}

void shim_vfs_arm_also(const struct shim_fault *fault)
{
    pthread_mutex_lock(&lock);
    assert(n_armed < FAULTS);
    armed[n_armed] = (struct armed){.fault = *fault};
    change(n_armed + 1);
    pthread_mutex_unlock(&lock);
}

void shim_vfs_arm(const struct shim_fault *fault)
{
    shim_vfs_disarm();
    fired = 0;
    shim_vfs_arm_also(fault);
}

void shim_vfs_disarm(void)
{
    pthread_mutex_lock(&lock);
    change(0);
    pthread_mutex_unlock(&lock);
}

void shim_vfs_unsynced(int on)
{
    unsynced = on;
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

/* ---- system calls ---------------------------------------------------------------------- */

/* A storm is per thread: each call of one thread is interrupted as often. */
static _Atomic unsigned storm;
static _Atomic long interrupted;
static _Thread_local unsigned left, cut;

/* True when the call fails with EINTR now. */
static int interrupts(void)
{
    if (left == 0) {
        left = storm;
        return 0;
    }
    left--;
    interrupted++;
    errno = EINTR;
    return 1;
}

/* Every second call does half of what was asked. */
static size_t part_of(size_t n)
{
    if (n < 2 || cut++ % 2)
        return n;
    interrupted++;
    return n / 2;
}

static ssize_t broken_pread(int fd, void *to, size_t n, off_t at)
{
    return interrupts() ? -1 : pread(fd, to, part_of(n), at);
}

static ssize_t broken_pwrite(int fd, const void *from, size_t n, off_t at)
{
    return interrupts() ? -1 : pwrite(fd, from, part_of(n), at);
}

static int broken_truncate(int fd, off_t size)
{
    return interrupts() ? -1 : ftruncate(fd, size);
}

static void replace(sqlite3_vfs *v, const char *name, sqlite3_syscall_ptr with)
{
    if (v->xGetSystemCall(v, name))
        v->xSetSystemCall(v, name, with);
}

void shim_vfs_interrupt(unsigned times)
{
    sqlite3_vfs *v = sqlite3_vfs_find("unix");
    storm = times;
    replace(v, "pread", times ? (sqlite3_syscall_ptr)broken_pread : NULL);
    replace(v, "pread64", times ? (sqlite3_syscall_ptr)broken_pread : NULL);
    replace(v, "pwrite", times ? (sqlite3_syscall_ptr)broken_pwrite : NULL);
    replace(v, "pwrite64", times ? (sqlite3_syscall_ptr)broken_pwrite : NULL);
    replace(v, "ftruncate", times ? (sqlite3_syscall_ptr)broken_truncate : NULL);
}

long shim_vfs_interrupted(void)
{
    return interrupted;
}
