/* slab.c - pieces of address space cut into blocks (see slab.h).  Any thread.
 *
 * Blocks that were never used are cut off at USED, so that a fresh page is touched when it is
 * needed and not before; those that came back are linked through their first word. */
#include "slab.h"

#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>

struct slab {
    struct slab *next, *prev; /* of those with room, or of a chain to be freed */
    void *back;               /* blocks that came back */
    size_t block;
    unsigned used, taken; /* blocks cut off so far; blocks that are out */
    unsigned most;
    unsigned epoch;
};

enum { FIRST = 64 }; /* the first block; in front of it is the slab */
_Static_assert(sizeof(struct slab) <= FIRST, "the slab fits before its blocks");

static struct slab *slab_of(void *block)
{
    uintptr_t at = (uintptr_t)block & ~(uintptr_t)(SLAB_SIZE - 1);
    return (struct slab *)
        at; /* NOLINT(performance-no-int-to-ptr): that is how it finds itself */
}

/* Maps SLAB_SIZE bytes at a multiple of that: twice as many, less what lies before and behind. */
static void *map_aligned(void)
{
    char *p = mmap(NULL, 2 * (size_t)SLAB_SIZE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = (SLAB_SIZE - ((uintptr_t)p & (SLAB_SIZE - 1))) & (SLAB_SIZE - 1);
    if (before)
        munmap(p, before);
    munmap(p + before + SLAB_SIZE, SLAB_SIZE - before);
    return p + before;
}

struct slab *bgmqi_slab_new(size_t block, bool filled)
{
    assert(block % 16 == 0 && block && block <= SLAB_SIZE / 16);
    struct slab *s = map_aligned();
    if (!s)
        return NULL;
#ifdef MADV_POPULATE_WRITE
    if (filled) /* where the kernel does not know it, pages come one by one */
        madvise(s, SLAB_SIZE, MADV_POPULATE_WRITE);
#else
    (void)filled;
#endif
    *s = (struct slab){.block = block, .most = (unsigned)((SLAB_SIZE - FIRST) / block)};
    return s;
}

void bgmqi_slab_free(struct slab *chain)
{
    for (struct slab *next; chain; chain = next) {
        next = chain->next;
        munmap(chain, SLAB_SIZE);
    }
}

static void link_first(struct slabs *all, struct slab *s)
{
    s->prev = NULL;
    s->next = all->room;
    if (all->room)
        all->room->prev = s;
    all->room = s;
}

static void unlink_from(struct slabs *all, struct slab *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        all->room = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

void bgmqi_slab_add(struct slabs *all, struct slab *s)
{
    s->epoch = all->epoch;
    all->n++;
    link_first(all, s);
}

static void *take_one(struct slab *s)
{
    void *block = s->back;
    if (block)
        s->back = *(void **)block;
    else
        block = (char *)s + FIRST + s->used++ * s->block;
    s->taken++;
    return block;
}

unsigned bgmqi_slab_take(struct slabs *all, void **ret, unsigned max)
{
    unsigned n = 0;
    while (n < max && all->room) {
        struct slab *s = all->room;
        while (n < max && s->taken < s->most)
            ret[n++] = take_one(s);
        if (s->taken == s->most)
            unlink_from(all, s);
    }
    return n;
}

/* One that is empty stays when no other has room, as it would be needed again at once. */
static bool is_of_use(const struct slabs *all, const struct slab *s)
{
    return s->taken || (all->room == s && !s->next);
}

struct slab *bgmqi_slab_give(struct slabs *all, void *const *blocks, unsigned n)
{
    struct slab *chain = NULL;
    for (unsigned i = 0; i < n; i++) {
        struct slab *s = slab_of(blocks[i]);
        if (s->epoch != all->epoch)
            continue;
        if (s->taken == s->most)
            link_first(all, s);
        *(void **)blocks[i] = s->back;
        s->back = blocks[i];
        s->taken--;
        if (is_of_use(all, s))
            continue;
        unlink_from(all, s);
        all->n--;
        s->next = chain;
        chain = s;
    }
    return chain;
}
