/* slab.h - blocks of one size, cut from large pieces of address space.
 *
 * For what comes in floods (mem.h).  malloc serves a thread of its own from an arena that it lets
 * grow by a page at a time, a system call each, and each new page is a fault: while a backlog
 * grows, that is half of what a message costs.  A slab is mapped at once, and all but the first of
 * its kind with its pages in it.  It finds itself by the address of a block, and goes back to the
 * system when its last block has come back.  After Bonwick, "The Slab Allocator" (1994).
 *
 * Has no lock: the owner's is held where it says so. */
#ifndef BGMQI_SLAB_H
#define BGMQI_SLAB_H

#include <stdbool.h>
#include <stddef.h>

enum { SLAB_SIZE = 256 * 1024 };

struct slab;

/* All slabs of one size of blocks.  Zero-initialised is empty. */
struct slabs {
    struct slab *room; /* those that have a free block */
    unsigned n;        /* all of them */
    unsigned epoch; /* +1 when those before are forgotten: blocks of theirs are let go */
};

/* A slab for BLOCKs, a multiple of 16; with its pages when FILLED.  NULL: out of memory.  Takes no
 * lock. */
struct slab *bgmqi_slab_new(size_t block, bool filled);
/* The next two under the lock.  Adds a new slab. */
void bgmqi_slab_add(struct slabs *all, struct slab *s);
/* Up to MAX blocks, not cleared; how many, 0: there is no room. */
unsigned bgmqi_slab_take(struct slabs *all, void **ret, unsigned max);
/* Takes N blocks back.  Returns slabs that are of no use any more, to be freed without the lock. */
struct slab *bgmqi_slab_give(struct slabs *all, void *const *blocks, unsigned n);
void bgmqi_slab_free(struct slab *chain);

#endif
