/* mem.c - magazines and depot (see mem.h).  Any thread.
 *
 * After Bonwick and Adams, "Magazines and Vmem" (2001): a thread works on its loaded magazine,
 * swaps it with its spare when it runs empty or full, and only then goes to the depot, which
 * cuts new blocks from slabs (slab.h). */
#include "mem.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "lock.h"
#include "slab.h"

#if defined(__SANITIZE_ADDRESS__)
#define MEM_PLAIN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_PLAIN 1
#endif
#endif

enum { ROUNDS = 64, DEPOT_MAX = 256 };

#ifndef NDEBUG
bool (*_Atomic bgmqi_mem_refuses)(size_t size);

static bool is_refused(size_t size)
{
    bool (*refuses)(size_t) = atomic_load(&bgmqi_mem_refuses);
    return refuses && refuses(size);
}
#else
static bool is_refused(size_t size)
{
    (void)size;
    return false;
}
#endif

#ifdef MEM_PLAIN

void *bgmqi_mem_alloc(size_t size)
{
    return is_refused(size) ? NULL : malloc(size);
}

void bgmqi_mem_free(void *block, size_t size)
{
    (void)size;
    free(block);
}

#else

enum { CLASSES = MEM_LARGEST / MEM_STEP };

static size_t class_of(size_t size)
{
    return size ? (size - 1) / MEM_STEP : 0;
}

struct magazine {
    struct magazine *next;
    unsigned rounds;
    void *round[ROUNDS];
};

struct depot {
    struct lock lock;
    /* protected by lock */
    struct magazine *full, *empty;
    struct slabs slabs;
    _Atomic unsigned n_full; /* read without it by who may find nothing */
};

struct cache {
    struct magazine *loaded[CLASSES], *spare[CLASSES];
};

static struct depot depots[CLASSES];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static THREAD_LOCAL struct cache *mine;

/* ---- the depot --------------------------------------------------------------------- */

/* Keeps a full magazine, up to a bound, and else gives its blocks back to their slabs. */
static void depot_give(struct depot *d, struct magazine *m)
{
    struct slab *unused = NULL;
    lock_take(&d->lock);
    unsigned n = atomic_load_explicit(&d->n_full, memory_order_relaxed);
    if (n < DEPOT_MAX && m->rounds == ROUNDS) {
        m->next = d->full;
        d->full = m;
        atomic_store_explicit(&d->n_full, n + 1, memory_order_relaxed);
    } else {
        unused = bgmqi_slab_give(&d->slabs, m->round, m->rounds);
        m->rounds = 0;
        m->next = d->empty;
        d->empty = m;
    }
    lock_drop(&d->lock);
    bgmqi_slab_free(unused);
}

/* Trades an empty magazine for a full one; NULL when the depot has none.  While a backlog grows
 * there is none at every call, so that is seen without the lock. */
static struct magazine *depot_trade_full(struct depot *d, struct magazine **empty)
{
    if (atomic_load_explicit(&d->n_full, memory_order_relaxed) == 0)
        return NULL;
    lock_take(&d->lock);
    struct magazine *m = d->full;
    if (m) {
        d->full = m->next;
        atomic_fetch_sub_explicit(&d->n_full, 1, memory_order_relaxed);
        if (*empty) {
            (*empty)->next = d->empty;
            d->empty = *empty;
            *empty = NULL;
        }
    }
    lock_drop(&d->lock);
    return m;
}

/* An empty magazine from the depot, or a new one; NULL: out of memory. */
static struct magazine *depot_take_empty(struct depot *d)
{
    lock_take(&d->lock);
    struct magazine *m = d->empty;
    if (m)
        d->empty = m->next;
    lock_drop(&d->lock);
    if (!m) {
        m = malloc(sizeof(*m));
        if (m)
            m->rounds = 0;
    }
    return m;
}

/* Up to MAX blocks of CLASS that no magazine holds; 0: out of memory. */
static unsigned depot_cut(size_t class, void **ret, unsigned max)
{
    struct depot *d = &depots[class];
    lock_take(&d->lock);
    unsigned n = bgmqi_slab_take(&d->slabs, ret, max);
    bool more = d->slabs.n > 0; /* one was not enough: the next is filled at once */
    lock_drop(&d->lock);
    if (n)
        return n;
    struct slab *s = bgmqi_slab_new((class + 1) * MEM_STEP, more);
    if (!s)
        return 0;
    lock_take(&d->lock);
    bgmqi_slab_add(&d->slabs, s);
    n = bgmqi_slab_take(&d->slabs, ret, max);
    lock_drop(&d->lock);
    return n;
}

/* For a thread that has no memory for magazines. */
static void depot_take_back(size_t class, void *block)
{
    struct depot *d = &depots[class];
    lock_take(&d->lock);
    struct slab *unused = bgmqi_slab_give(&d->slabs, &block, 1);
    lock_drop(&d->lock);
    bgmqi_slab_free(unused);
}

/* ---- a thread's own ---------------------------------------------------------------- */

/* A thread ends: its full magazines stay in the depot. */
static void cache_free(void *arg)
{
    struct cache *c = arg;
    for (size_t i = 0; i < CLASSES; i++) {
        if (c->loaded[i])
            depot_give(&depots[i], c->loaded[i]);
        if (c->spare[i])
            depot_give(&depots[i], c->spare[i]);
    }
    free(c);
    mine = NULL;
}

/* The other threads are gone, perhaps in the middle of a depot: what was is forgotten. */
static void after_fork_in_child(void)
{
    for (size_t i = 0; i < CLASSES; i++) {
        depots[i] = (struct depot){.slabs = {.epoch = depots[i].slabs.epoch + 1}};
        lock_init(&depots[i].lock, RANK_DEPOT);
    }
}

static void init(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
    for (size_t i = 0; i < CLASSES; i++)
        lock_init(&depots[i].lock, RANK_DEPOT);
    PTHREAD_OK(pthread_key_create(&key, cache_free));
}

/* NULL: out of memory. */
static struct cache *cache_get(void)
{
    if (mine)
        return mine;
    pthread_once(&once, init);
    struct cache *c = calloc(1, sizeof(*c));
    if (c && pthread_setspecific(key, c) != 0) {
        free(c);
        c = NULL;
    }
    return mine = c;
}

static void swap(struct cache *c, size_t class)
{
    struct magazine *m = c->loaded[class];
    c->loaded[class] = c->spare[class];
    c->spare[class] = m;
}

/* Loads a magazine that is not empty; NULL: out of memory. */
static struct magazine *load(struct cache *c, size_t class)
{
    if (c->spare[class] && c->spare[class]->rounds) {
        swap(c, class);
        return c->loaded[class];
    }
    struct magazine *m = depot_trade_full(&depots[class], &c->loaded[class]);
    if (m)
        return c->loaded[class] = m;
    if (!c->loaded[class] && !(c->loaded[class] = depot_take_empty(&depots[class])))
        return NULL;
    m = c->loaded[class];
    m->rounds = depot_cut(class, m->round, ROUNDS);
    return m->rounds ? m : NULL;
}

/* Loads a magazine that is not full; NULL: out of memory. */
static struct magazine *unload(struct cache *c, size_t class)
{
    if (c->spare[class] && c->spare[class]->rounds < ROUNDS) {
        swap(c, class);
        return c->loaded[class];
    }
    struct magazine *empty = depot_take_empty(&depots[class]);
    if (!empty)
        return NULL;
    if (c->spare[class])
        depot_give(&depots[class], c->spare[class]);
    c->spare[class] = c->loaded[class];
    return c->loaded[class] = empty;
}

void *bgmqi_mem_alloc(size_t size)
{
    if (is_refused(size))
        return NULL;
    if (size > MEM_LARGEST)
        return malloc(size);
    struct cache *c = cache_get();
    size_t class = class_of(size);
    void *block;
    if (!c)
        return depot_cut(class, &block, 1) ? block : NULL;
    struct magazine *m = c->loaded[class];
    if ((!m || !m->rounds) && !(m = load(c, class)))
        return NULL;
    return m->round[--m->rounds];
}

void bgmqi_mem_free(void *block, size_t size)
{
    if (!block || size > MEM_LARGEST) {
        free(block);
        return;
    }
    struct cache *c = cache_get();
    size_t class = class_of(size);
    struct magazine *m = c ? c->loaded[class] : NULL;
    if ((!m || m->rounds == ROUNDS) && (!c || !(m = unload(c, class)))) {
        depot_take_back(class, block);
        return;
    }
    m->round[m->rounds++] = block;
}

#endif

/* ---- the bound --------------------------------------------------------------------- */

static int reserve(struct budget *b, size_t bytes, bool always)
{
    size_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    do {
        if (!always && (used >= b->max || bytes > b->max - used))
            return -1;
    } while (!atomic_compare_exchange_weak_explicit(
        &b->used, &used, used + bytes, memory_order_relaxed, memory_order_relaxed));
    return 0;
}

/* What is reserved beyond what is used stays a fraction of it, so that thousands of holders
 * with next to nothing do not tie the budget up; a busy one comes here once in many messages. */
static int charge(struct allowance *a, size_t bytes, bool always)
{
    if (a->reserved - a->used < bytes) {
        size_t want = a->used / 4 < ALLOWANCE_CHUNK ? a->used / 4 : ALLOWANCE_CHUNK;
        if (want < bytes || reserve(a->from, want, always) != 0) {
            want = bytes; /* near the bound: no more than needed */
            if (reserve(a->from, want, always) != 0)
                return -1;
        }
        a->reserved += want;
    }
    a->used += bytes;
    return 0;
}

int bgmqi_mem_charge(struct allowance *a, size_t bytes)
{
    return charge(a, bytes, false);
}

void bgmqi_mem_charge_always(struct allowance *a, size_t bytes)
{
    charge(a, bytes, true);
}

void bgmqi_mem_refund(struct allowance *a, size_t bytes)
{
    assert(a->used >= bytes);
    a->used -= bytes;
    size_t idle = a->reserved - a->used, keep = a->used / 4 + ALLOWANCE_SPARE;
    if (keep > ALLOWANCE_CHUNK)
        keep = ALLOWANCE_CHUNK;
    if (idle > 2 * keep) {
        a->reserved -= idle - keep;
        atomic_fetch_sub_explicit(&a->from->used, idle - keep, memory_order_relaxed);
    }
}

void bgmqi_mem_refund_all(struct allowance *a)
{
    atomic_fetch_sub_explicit(&a->from->used, a->reserved, memory_order_relaxed);
    a->reserved = a->used = 0;
}

size_t bgmqi_mem_left(const struct budget *b)
{
    size_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    return used < b->max ? b->max - used : 0;
}

int bgmqi_mem_take(struct budget *b, size_t bytes)
{
    return bytes ? reserve(b, bytes, false) : 0;
}

void bgmqi_mem_take_always(struct budget *b, size_t bytes)
{
    reserve(b, bytes, true);
}

void bgmqi_mem_give(struct budget *b, size_t bytes)
{
    if (bytes)
        atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);
}
