/* scarce.c - the allocators of a test (see scarce.h). */
#include "scarce.h"

#include "harness.h"
#include "mem.h"

#include <errno.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

_Thread_local int scarce_spared;

static scarce_fn *asked, *sqlite_asks; /* set before there are threads */

static bool is_refused(scarce_fn *refuses)
{
    if (!refuses || scarce_spared || !refuses())
        return false;
    errno = ENOMEM;
    return true;
}

bool scarce_refuses(void)
{
    return is_refused(asked);
}

/* ---- malloc and its kin ---------------------------------------------------------------- */

SCARCE_WRAP(void *, malloc, (size_t size), (size))
SCARCE_WRAP(void *, calloc, (size_t n, size_t size), (n, size))
SCARCE_WRAP(void *, realloc, (void *old, size_t size), (old, size))
SCARCE_WRAP(void *, reallocarray, (void *old, size_t n, size_t size), (old, n, size))
SCARCE_WRAP(char *, strdup, (const char *text), (text))
SCARCE_WRAP(FILE *, open_memstream, (char **text, size_t *size), (text, size))

/* The library closes texts in memory only: it is there that their last bytes find no room. */
int __real_fclose(FILE *f);
int __wrap_fclose(FILE *f);
int __wrap_fclose(FILE *f)
{
    bool fails = scarce_refuses();
    int err = __real_fclose(f);
    return fails ? EOF : err;
}

/* Check is in the program, too, and may have what it needs to say where it is. */
void __real__mark_point(const char *file, int line);
void __wrap__mark_point(const char *file, int line);
void __wrap__mark_point(const char *file, int line)
{
    scarce_spared++;
    __real__mark_point(file, line);
    scarce_spared--;
}

/* ---- the library's blocks, and jansson's ----------------------------------------------- */

static bool refuse_block(size_t size)
{
    (void)size;
    return scarce_refuses();
}

static void *json_new(size_t size)
{
    return scarce_refuses() ? NULL : __real_malloc(size);
}

void scarce_setup(scarce_fn *refuses)
{
    asked = refuses;
    atomic_store(&bgmqi_mem_refuses, refuse_block);
    json_set_alloc_funcs(json_new, free);
}

/* ---- SQLite's -------------------------------------------------------------------------- */

static sqlite3_mem_methods sqlite;

static void *sqlite_new(int size)
{
    return is_refused(sqlite_asks) ? NULL : sqlite.xMalloc(size);
}

static void *sqlite_more(void *old, int size)
{
    return is_refused(sqlite_asks) ? NULL : sqlite.xRealloc(old, size);
}

void scarce_sqlite(scarce_fn *refuses)
{
    sqlite_asks = refuses;
    sqlite3_shutdown();
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite), SQLITE_OK);
    sqlite3_mem_methods ours = sqlite;
    ours.xMalloc = sqlite_new;
    ours.xRealloc = sqlite_more;
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &ours), SQLITE_OK);
    ck_assert_int_eq(sqlite3_initialize(), SQLITE_OK);
}
