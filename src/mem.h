/* mem.h - memory of messages and journal entries: made on one thread, freed on another.
 *
 * malloc's arenas fight over such blocks (a free on a foreign thread costs 100 ns and more), so
 * each thread keeps two magazines of blocks per size class and trades whole magazines with a
 * shared depot, one lock for 64 blocks.  What the depot holds beyond its bound goes back to
 * slabs, and those that are empty to the system.  Under AddressSanitizer every block is malloc's
 * own, so that misuse is seen. */
#ifndef BGMQI_MEM_H
#define BGMQI_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* SIZE bytes, not cleared; NULL: out of memory.  Any thread. */
void *bgmqi_mem_alloc(size_t size);
/* SIZE as it was asked for; NULL is allowed.  Any thread. */
void bgmqi_mem_free(void *block, size_t size);

/* Blocks up to MEM_LARGEST are cut from slabs and have no header; malloc, which has those beyond,
 * hands out chunks of 16 k bytes with a header of 8. */
enum { MEM_STEP = 16, MEM_LARGEST = 1024, MEM_HEADER = 8 };

/* Bytes a block of SIZE occupies. */
static inline size_t mem_cost(size_t size)
{
    size_t block = size > MEM_LARGEST ? size + MEM_HEADER : size + (size == 0);
    return (block + MEM_STEP - 1) / MEM_STEP * MEM_STEP;
}

#ifndef NDEBUG
/* A test says which blocks are not to be had; NULL: all are. */
extern bool (*_Atomic bgmqi_mem_refuses)(size_t size);
#endif

/* The bound on the memory of all messages of a service.  A holder reserves in chunks and
 * accounts within its chunk under its own lock, so that publishing touches no shared word. */
struct budget {
    _Atomic size_t used;
    size_t max;
};
struct allowance {
    struct budget *from;
    size_t reserved, used;
};
enum { ALLOWANCE_CHUNK = 64 * 1024, ALLOWANCE_SPARE = 512 };

/* 0, or -1 when the budget has not BYTES left.  The lock of the allowance's owner is held. */
int bgmqi_mem_charge(struct allowance *a, size_t bytes);
/* Charges in any case: for what was accepted before. */
void bgmqi_mem_charge_always(struct allowance *a, size_t bytes);
void bgmqi_mem_refund(struct allowance *a, size_t bytes);
/* Gives back everything: the holder goes. */
void bgmqi_mem_refund_all(struct allowance *a);

/* The same without a holder, for what is large and seldom changes its size. */
size_t bgmqi_mem_left(const struct budget *b);
int bgmqi_mem_take(struct budget *b, size_t bytes);
void bgmqi_mem_take_always(struct budget *b, size_t bytes);
void bgmqi_mem_give(struct budget *b, size_t bytes);

#endif
