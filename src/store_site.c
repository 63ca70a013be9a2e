/* store_site.c - looks at the surroundings of a database file (see store_site.h).
 *
 * The opener's thread, or the one that uses a connection of the application's.  It must never open
 * the file: closing it again would drop the locks that SQLite holds on it. */
#include "store_site.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "err.h"

/* ---- the file system --------------------------------------------------------------- */

/* f_type of statfs: linux/magic.h, and those of file systems that are not in it. */
static const struct {
    uint32_t magic;
    const char *name;
    bool refused;
} systems[] = {
    {0x6969, "nfs", true},        {0xff534d42, "cifs", true}, {0xfe534d42, "smb", true},
    {0x517b, "smb", true},        {0x01021997, "9p", true},   {0x00c36400, "ceph", true},
    {0x5346414f, "afs", true},    {0x73757245, "coda", true}, {0x564c, "ncp", true},
    {0x0bd00bd0, "lustre", true}, {0x47504653, "gpfs", true}, {0x65735546, "fuse", false},
};

static int check_system(const char *path, const struct log *log, struct bgmq_error *error)
{
    struct statfs fs;
    char folder[PATH_MAX]; /* where a new file would be */
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof(folder), "%.*s/", (int)(slash - path), path);
    if (statfs(folder, &fs) != 0)
        return 0; /* whoever opens it will say why */
    for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
        if ((uint32_t)fs.f_type != systems[i].magic)
            continue;
        if (systems[i].refused)
            return bgmqi_err_set(error, BGMQ_EUNSAFE,
                                 "%s: lies on a file system over a network (%s)", path,
                                 systems[i].name);
        if (log)
            bgmqi_log(log, BGMQ_LOG_WARNING,
                      "the database lies on a file system in user space (%s): only safe "
                      "when its locks, shared memory and syncs are: %s",
                      systems[i].name, path);
    }
    return 0;
}

/* ---- the folders ------------------------------------------------------------------- */

/* Who may write a folder on the way may put another file in the place of this one.  In one with
 * the sticky bit only the owner of an entry may. */
static const char *why_open(const char *folder)
{
    struct stat st;
    if (lstat(folder, &st) != 0)
        return NULL;
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return "belongs to another user";
    if (st.st_mode & (S_IWGRP | S_IWOTH) && !(st.st_mode & S_ISVTX))
        return "can be written by others";
    return NULL;
}

static void check_folders(const char *path, const struct log *log)
{
    char *folder = log ? strdup(path) : NULL;
    const char *why = NULL;
    while (folder && !why && folder[0] && folder[1]) {
        char *slash = strrchr(folder, '/');
        if (!slash)
            break;
        slash[slash == folder] = '\0';
        why = why_open(folder);
    }
    if (why)
        bgmqi_log(log, BGMQ_LOG_WARNING, "a folder of the database %s: %s: %s", why,
                  folder, path);
    free(folder);
}

/* ---- another SQLite ---------------------------------------------------------------- */

enum { OBJECTS = 256 };

struct objects {
    char *names[OBJECTS];
    size_t n;
};

/* The loader's lock is held: only notes the names. */
static int note_object(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    struct objects *o = ctx;
    if (!info->dlpi_name || !info->dlpi_name[0] || o->n == OBJECTS)
        return 0;
    o->names[o->n] = strdup(info->dlpi_name);
    o->n += o->names[o->n] != NULL;
    return 0;
}

typedef const char *sourceid_fn(void);

/* Whether the library NAME, or one that it needs, brings a SQLite that is not ours. */
static bool is_twin(const char *name)
{
    void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (!handle)
        return false;
    void *symbol = dlsym(handle, "sqlite3_sourceid");
    sourceid_fn *fn;
    memcpy(&fn, &symbol, sizeof(fn));
    /* The text is a constant of the library: one library, one place. */
    bool yes = fn && fn() != sqlite3_sourceid();
    dlclose(handle);
    return yes;
}

static _Atomic unsigned long long loaded; /* objects ever, at the last look */
static _Atomic bool twin_told;

static int note_loads(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    *(unsigned long long *)ctx = info->dlpi_adds;
    return 1; /* the first says it for all */
}

static unsigned long long count_loads(void)
{
    unsigned long long n = 0;
    dl_iterate_phdr(note_loads, &n);
    return n;
}

void bgmqi_store_site_look_for_twin(const struct log *log)
{
    struct objects o = {.n = 0};
    bool told = false;
    atomic_store(&loaded, count_loads());
    dl_iterate_phdr(note_object, &o);
    for (size_t i = 0; i < o.n; i++) {
        if (!told && log && is_twin(o.names[i])) {
            told = true;
            atomic_store(&twin_told, true);
            bgmqi_log(log, BGMQ_LOG_WARNING,
                      "a second SQLite is in this process, with %s: never use it on the "
                      "database, the two drop each other's locks",
                      o.names[i]);
        }
        free(o.names[i]);
    }
}

void bgmqi_store_site_look_again(const struct log *log)
{
    if (!atomic_load(&twin_told) && count_loads() != atomic_load(&loaded))
        bgmqi_store_site_look_for_twin(log);
}

int bgmqi_store_site_check(const char *path, const struct log *log,
                           struct bgmq_error *error)
{
    int err = check_system(path, log, error);
    if (err)
        return err;
    check_folders(path, log);
    bgmqi_store_site_look_for_twin(log);
    return 0;
}
