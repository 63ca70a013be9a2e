/* recorder.c - see recorder.h: the VFS.  Each file of ours is a small head, and behind it in the
 * same memory the file of the system's VFS.  A change is noted and made under one lock, so that
 * the notes stand in the order of the changes. */
#include "recorder.h"

#include "../harness/harness.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct file {
    sqlite3_file base;
    int known; /* one of the database's, KIND says which */
    enum record_file kind;
    int folder_due; /* its first sync is one of the folder, too; protected by the lock */
    sqlite3_file *real;
};

static sqlite3_vfs vfs;
static sqlite3_vfs *real_vfs;
static struct recording *current; /* set while nothing runs that uses the VFS */

static const char *const ends[RECORD_FILES] = {"", "-wal", "-journal"};

/* ---- notes --------------------------------------------------------------------------- */

/* The lock is held. */
static void note(struct recording *r, struct record op, const void *bytes)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 1024;
        r->ops = realloc(r->ops, r->cap * sizeof(*r->ops));
        ck_assert_ptr_nonnull(r->ops);
    }
    if (op.kind == RECORD_MAKE || op.kind == RECORD_DELETE)
        r->there[op.file] = op.kind == RECORD_MAKE;
    if (bytes) {
        op.bytes = malloc(op.len ? op.len : 1);
        ck_assert_ptr_nonnull(op.bytes);
        memcpy(op.bytes, bytes, op.len);
    }
    r->ops[r->n++] = op;
}

/* Of a file with this name; RECORD_FILES: none of the database's. */
static enum record_file kind_of(const struct recording *r, const char *name)
{
    size_t len = strlen(r->path);
    if (!name || strncmp(name, r->path, len) != 0)
        return RECORD_FILES;
    enum record_file kind = RECORD_DB;
    while (kind < RECORD_FILES && strcmp(name + len, ends[kind]) != 0)
        kind++;
    return kind;
}

/* ---- files --------------------------------------------------------------------------- */

#define FILE_OF(f) ((struct file *)(f))
#define REAL(f)    (FILE_OF(f)->real)

/* The recording that F belongs to, locked; NULL: none. */
static struct recording *begin(struct file *f)
{
    struct recording *r = f->known ? current : NULL;
    if (r)
        pthread_mutex_lock(&r->lock);
    return r;
}

static int done(struct recording *r, int rc)
{
    if (r)
        pthread_mutex_unlock(&r->lock);
    return rc;
}

static int x_close(sqlite3_file *f)
{
    return REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK;
}

static int x_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xRead(REAL(f), to, n, at);
}

static int x_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    struct recording *r = begin(FILE_OF(f));
    if (r)
        note(r,
             (struct record){.kind = RECORD_WRITE,
                             .file = FILE_OF(f)->kind,
                             .at = at,
                             .len = (size_t)n},
             from);
    return done(r, REAL(f)->pMethods->xWrite(REAL(f), from, n, at));
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    struct recording *r = begin(FILE_OF(f));
    if (r)
        note(r,
             (struct record){
                 .kind = RECORD_TRUNCATE, .file = FILE_OF(f)->kind, .at = size},
             NULL);
    return done(r, REAL(f)->pMethods->xTruncate(REAL(f), size));
}

/* Nothing is lost but on the rebuilt disks, so the sync itself need not be made. */
static int x_sync(sqlite3_file *f, int flags)
{
    struct recording *r = begin(FILE_OF(f));
    if (!r)
        return REAL(f)->pMethods->xSync(REAL(f), flags);
    if (!r->lies)
        note(r, (struct record){.kind = RECORD_SYNC, .file = FILE_OF(f)->kind}, NULL);
    if (!r->lies && FILE_OF(f)->folder_due)
        note(r, (struct record){.kind = RECORD_SYNC_FOLDER}, NULL);
    FILE_OF(f)->folder_due = 0;
    return done(r, SQLITE_OK);
}

static int x_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), size);
}

static int x_lock(sqlite3_file *f, int level)
{
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
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, to);
}

static int x_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
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

/* Of version 2: without memory maps every change comes by x_write. */
static const sqlite3_io_methods methods = {
    .iVersion = 2,
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
};

/* ---- the VFS ------------------------------------------------------------------------- */

/* SQLite's VFS for unix syncs the folder with the first sync of a log or journal it may have
 * made. */
static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    (void)v;
    struct file *own = FILE_OF(f);
    own->base.pMethods = NULL;
    own->kind = current ? kind_of(current, name) : RECORD_FILES;
    own->known = own->kind < RECORD_FILES;
    own->folder_due = own->kind != RECORD_DB && flags & SQLITE_OPEN_CREATE;
    own->real = (sqlite3_file *)(void *)(own + 1);
    own->real->pMethods = NULL;
    struct recording *r = begin(own);
    int rc = real_vfs->xOpen(real_vfs, name, own->real, flags, out);
    if (rc == SQLITE_OK)
        own->base.pMethods = &methods;
    if (rc == SQLITE_OK && r && !r->there[own->kind])
        note(r, (struct record){.kind = RECORD_MAKE, .file = own->kind}, NULL);
    return done(r, rc);
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync)
{
    (void)v;
    struct recording *r = current;
    enum record_file kind = r ? kind_of(r, name) : RECORD_FILES;
    if (kind == RECORD_FILES)
        return real_vfs->xDelete(real_vfs, name, sync);
    pthread_mutex_lock(&r->lock);
    int rc = real_vfs->xDelete(real_vfs, name, 0);
    if (rc == SQLITE_OK)
        note(r, (struct record){.kind = RECORD_DELETE, .file = kind}, NULL);
    if (rc == SQLITE_OK && sync && !r->lies)
        note(r, (struct record){.kind = RECORD_SYNC_FOLDER}, NULL);
    return done(r, rc);
}

void recorder_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.pNext = NULL;
    vfs.zName = "recorder";
    vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    vfs.xOpen = v_open;
    vfs.xDelete = v_delete;
    sqlite3_vfs_register(&vfs, 1);
}

void recorder_remove(void)
{
    sqlite3_vfs_unregister(&vfs);
    sqlite3_vfs_register(real_vfs, 1);
}

void recorder_begin(struct recording *r, const char *path, int lies)
{
    *r = (struct recording){.lies = lies};
    pthread_mutex_init(&r->lock, NULL);
    snprintf(r->path, sizeof(r->path), "%s", path);
    for (int i = 0; i < RECORD_FILES; i++) {
        char name[600];
        struct stat st;
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        if (stat(name, &st) != 0)
            continue;
        char *bytes;
        size_t len = harness_read_file(name, &bytes);
        r->before[i] = (struct image){(unsigned char *)bytes, len, len, 1};
        r->there[i] = 1;
    }
    current = r;
}

size_t recorder_now(struct recording *r)
{
    pthread_mutex_lock(&r->lock);
    size_t n = r->n;
    pthread_mutex_unlock(&r->lock);
    return n;
}

void recorder_end(void)
{
    current = NULL;
}

void recording_fini(struct recording *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->ops[i].bytes);
    for (int i = 0; i < RECORD_FILES; i++)
        free(r->before[i].bytes);
    free(r->ops);
    pthread_mutex_destroy(&r->lock);
}
