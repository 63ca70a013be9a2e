/* recorder.c - see recorder.h: the VFS.  Each file of ours is a small head, and behind it in the
 * same memory the file of the system's VFS.  A change is noted and made under one lock, so that
 * the notes stand in the order of the changes. */
#include "recorder.h"

#include "../harness/harness.h"
#include "../harness/vfs_pass.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct file {
    struct vfs_pass pass;
    int known; /* one of the database's, KIND says which */
    enum record_file kind;
    int folder_due; /* its first sync is one of the folder, too; protected by the lock */
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

static sqlite3_io_methods methods; /* set by recorder_install */

/* ---- the VFS ------------------------------------------------------------------------- */

/* SQLite's VFS for unix syncs the folder with the first sync of a log or journal it may have
 * made. */
static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    (void)v;
    struct file *own = FILE_OF(f);
    own->pass.base.pMethods = NULL;
    own->kind = current ? kind_of(current, name) : RECORD_FILES;
    own->known = own->kind < RECORD_FILES;
    own->folder_due = own->kind != RECORD_DB && flags & SQLITE_OPEN_CREATE;
    own->pass.real = (sqlite3_file *)(void *)(own + 1);
    own->pass.real->pMethods = NULL;
    struct recording *r = begin(own);
    int rc = real_vfs->xOpen(real_vfs, name, own->pass.real, flags, out);
    if (rc == SQLITE_OK)
        own->pass.base.pMethods = &methods;
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
    methods = vfs_pass_methods;
    methods.iVersion = 2; /* without memory maps every change comes by x_write */
    methods.xWrite = x_write;
    methods.xTruncate = x_truncate;
    methods.xSync = x_sync;
    vfs_pass_prepare(&vfs, "recorder", sizeof(struct file), &real_vfs);
    vfs.xOpen = v_open;
    vfs.xDelete = v_delete;
    sqlite3_vfs_register(&vfs, 1);
}

void recorder_remove(void)
{
    vfs_pass_remove(&vfs, real_vfs);
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
