/* sim_memory.c - the memory of a simulated process, which goes with it (see sim.h).
 *
 * Blocks are cut off a piece of address space at a fixed place, so that nothing depends on where
 * they lie, and kept in lists by size when they come back.  What is large is mapped by itself.
 * Under AddressSanitizer what is free is poisoned. */
#include "sim.h"

#include <string.h>
#include <sys/mman.h>

#if HARNESS_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(at, size)   __asan_poison_memory_region((at), (size))
#define UNPOISON(at, size) __asan_unpoison_memory_region((at), (size))
#else
#define POISON(at, size)   ((void)(at))
#define UNPOISON(at, size) ((void)(at))
#endif

#define PIECE_AT   UINT64_C(0x200000000000)
#define PIECE_SIZE (UINT64_C(1) << 28)

enum {
    STEP = 16,
    SMALL = 2048,
    CLASSES = SMALL / STEP,
    LARGE = 64 * 1024,
    LARGE_MAX = 64
};

/* In front of each block. */
struct head {
    size_t size;       /* as asked for */
    struct head *next; /* when free */
};
_Static_assert(sizeof(struct head) == STEP, "blocks stay aligned");

static struct {
    char *piece;
    size_t used;
    struct head *back[CLASSES + 1];
    struct {
        void *at;
        size_t size, mapped;
    } large[LARGE_MAX];
    size_t blocks;
} memories[SIM_PROCESSES];
static bool on;

void sim_memory_on(void)
{
    on = true;
}

void sim_memory_off(void)
{
    on = false;
}

bool sim_memory_serves(void)
{
    return on && sim_current();
}

size_t sim_memory_blocks(unsigned process)
{
    return memories[process].blocks;
}

static void map_piece(unsigned p)
{
    char *want =
        (char *)(PIECE_AT + p * 2 * PIECE_SIZE); /* NOLINT: always the same place */
    memories[p].piece =
        mmap(want, PIECE_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (memories[p].piece != want)
        sim_fail("no address space for process %u", p);
}

static void *map_large(unsigned p, size_t size)
{
    for (unsigned i = 0; i < LARGE_MAX; i++) {
        if (memories[p].large[i].at)
            continue;
        size_t mapped = (size + 4095) & ~(size_t)4095;
        void *at = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            sim_fail("no address space for %zu bytes", size);
        memories[p].large[i].at = at;
        memories[p].large[i].size = size;
        memories[p].large[i].mapped = mapped;
        return at;
    }
    sim_fail("too many large blocks");
}

void *sim_memory_new(unsigned p, size_t size)
{
    memories[p].blocks++;
    if (size >= LARGE)
        return map_large(p, size);
    if (!memories[p].piece)
        map_piece(p);
    size_t class = (size + STEP - 1) / STEP;
    struct head *h = class <= CLASSES ? memories[p].back[class] : NULL;
    if (h) {
        UNPOISON(h, sizeof(*h));
        memories[p].back[class] = h->next;
    } else {
        size_t whole = sizeof(*h) + class * STEP + (HARNESS_ASAN ? STEP : 0);
        if (memories[p].used + whole > PIECE_SIZE)
            sim_fail("process %u is out of memory", p);
        h = (struct head *)(memories[p].piece + memories[p].used);
        memories[p].used += whole;
        POISON(h, whole);
        UNPOISON(h, sizeof(*h));
    }
    h->size = size;
    UNPOISON(h + 1, size);
    memset(h + 1, 0, size);
    POISON(h, sizeof(*h));
    return h + 1;
}

/* The process whose block AT is; its number, or SIM_PROCESSES. */
static unsigned owner_of(const void *at)
{
    unsigned p = 0;
    while (p < SIM_PROCESSES &&
           !(memories[p].piece && (const char *)at >= memories[p].piece &&
             (const char *)at < memories[p].piece + PIECE_SIZE))
        p++;
    return p;
}

static bool find_large(const void *at, unsigned *p, unsigned *i)
{
    for (*p = 0; *p < SIM_PROCESSES; (*p)++)
        for (*i = 0; *i < LARGE_MAX; (*i)++)
            if (memories[*p].large[*i].at == at)
                return true;
    return false;
}

size_t sim_memory_size(const void *block)
{
    unsigned p = owner_of(block), i;
    if (p == SIM_PROCESSES)
        return find_large(block, &p, &i) ? memories[p].large[i].size : 0;
    const struct head *h = (const struct head *)block - 1;
    UNPOISON(h, sizeof(*h));
    size_t size = h->size;
    POISON(h, sizeof(*h));
    return size;
}

bool sim_memory_free(void *block)
{
    unsigned p = owner_of(block), i;
    if (p == SIM_PROCESSES) {
        if (!find_large(block, &p, &i))
            return false;
        munmap(memories[p].large[i].at, memories[p].large[i].mapped);
        memories[p].large[i].at = NULL;
        memories[p].blocks--;
        return true;
    }
    struct head *h = (struct head *)block - 1;
    UNPOISON(h, sizeof(*h));
    size_t class = (h->size + STEP - 1) / STEP;
    if (class <= CLASSES) {
        h->next = memories[p].back[class];
        memories[p].back[class] = h;
    }
    memset(block, 0x5a, h->size); /* whoever still reads it reads nonsense */
    POISON(h, sizeof(*h) + class * STEP);
    memories[p].blocks--;
    return true;
}

void sim_memory_drop(unsigned p)
{
    for (unsigned i = 0; i < LARGE_MAX; i++)
        if (memories[p].large[i].at) {
            munmap(memories[p].large[i].at, memories[p].large[i].mapped);
            memories[p].large[i].at = NULL;
        }
    if (memories[p].used)
        POISON(memories[p].piece, memories[p].used);
    memories[p].used = memories[p].blocks = 0;
    memset(memories[p].back, 0, sizeof(memories[p].back));
}
