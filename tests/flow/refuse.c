/* refuse.c - the allocators of the test, and the order to the journal's thread (see refuse.h).
 *
 * Called on any thread; each refuses what it was told itself. */
#include "refuse.h"

#include "mem.h"
#include "service.h"

#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

_Thread_local long refuse_left, refuse_hits;

static bool refuse(void)
{
    if (!refuse_left || --refuse_left)
        return false;
    refuse_hits++;
    return true;
}

static bool refuse_block(size_t size)
{
    (void)size;
    return refuse();
}

#define WRAP(type, name, params, args)                                                   \
    type __real_##name params;                                                           \
    type __wrap_##name params;                                                           \
    type __wrap_##name params                                                            \
    {                                                                                    \
        return refuse() ? NULL : __real_##name args;                                     \
    }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(void *, reallocarray, (void *old, size_t n, size_t size), (old, n, size))
WRAP(char *, strdup, (const char *text), (text))
WRAP(void *, sqlite3_malloc64, (sqlite3_uint64 size), (size))
WRAP(FILE *, open_memstream, (char **text, size_t *size), (text, size))

int __real_fclose(FILE *f);
int __wrap_fclose(FILE *f);
int __wrap_fclose(FILE *f)
{
    bool fails = refuse();
    int err = __real_fclose(f);
    return fails ? EOF : err;
}

/* Check, which is in the program, may have what it needs to say where it is. */
void __real__mark_point(const char *file, int line);
void __wrap__mark_point(const char *file, int line);
void __wrap__mark_point(const char *file, int line)
{
    long left = refuse_left;
    refuse_left = 0;
    __real__mark_point(file, line);
    refuse_left = left;
}

static void *json_new(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

void refuse_setup(void)
{
    atomic_store(&bgmqi_mem_refuses, refuse_block);
    json_set_alloc_funcs(json_new, free);
}

struct order {
    long n, refusals;
};

static void obey(void *ctx, struct store *s)
{
    struct order *o = ctx;
    (void)s;
    refuse_left = o->n;
    o->refusals = refuse_hits;
    refuse_hits = 0;
}

long refuse_order(struct bgmq *mq, long n)
{
    struct order o = {.n = n};
    OK(bgmqi_journal_run(mq->journal, obey, &o, INT64_C(10000000000)));
    return o.refusals;
}
