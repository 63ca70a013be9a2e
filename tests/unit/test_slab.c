/* test_slab.c - blocks cut from slabs: none twice, all there again, and what is empty is let go. */
#include "slab.h"

#include "harness.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 48, EACH = 5400 /* about what one slab has */ };

static unsigned take(struct slabs *all, void **ret, unsigned n)
{
    unsigned got = 0;
    while (got < n) {
        unsigned more = bgmqi_slab_take(all, ret + got, n - got);
        if (!more) {
            struct slab *s = bgmqi_slab_new(BLOCK, all->n > 0);
            ck_assert_ptr_nonnull(s);
            bgmqi_slab_add(all, s);
        }
        got += more;
    }
    return got;
}

static void give(struct slabs *all, void *const *blocks, unsigned n)
{
    bgmqi_slab_free(bgmqi_slab_give(all, blocks, n));
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

START_TEST(no_block_overlaps_another)
{
    static void *blocks[3 * EACH];
    struct slabs all = {.n = 0};
    for (int round = 0; round < 3; round++) {
        take(&all, blocks, 3 * EACH);
        ck_assert_uint_ge(all.n, 3);
        for (int i = 0; i < 3 * EACH; i++)
            memset(blocks[i], 0xff, BLOCK);
        qsort(blocks, 3 * EACH, sizeof(*blocks), by_address);
        for (int i = 0; i < 3 * EACH; i++) {
            ck_assert_uint_eq((uintptr_t)blocks[i] % 16, 0);
            if (i)
                ck_assert_uint_ge((uintptr_t)blocks[i] - (uintptr_t)blocks[i - 1], BLOCK);
        }
        give(&all, blocks + EACH, 2 * EACH); /* in two steps, the later ones first */
        give(&all, blocks, EACH);
        ck_assert_uint_le(all.n, 1);
    }
    ck_assert_uint_eq(all.n, 1); /* one stays for who comes next */
}
END_TEST

START_TEST(one_block_keeps_its_slab_alone)
{
    static void *blocks[3 * EACH];
    struct slabs all = {.n = 0};
    take(&all, blocks, 3 * EACH);
    memset(blocks[EACH], 1, BLOCK);
    give(&all, blocks, EACH);
    give(&all, blocks + EACH + 1, 2 * EACH - 1);
    ck_assert_uint_le(all.n, 2);
    ck_assert_int_eq(*(char *)blocks[EACH], 1);
    give(&all, blocks + EACH, 1);
    ck_assert_uint_eq(all.n, 1);
}
END_TEST

/* As in the child of a fork: what was before is neither used nor touched. */
START_TEST(forgotten_blocks_are_let_go)
{
    void *old[2], *mine[2];
    struct slabs all = {.n = 0};
    take(&all, old, 2);
    all = (struct slabs){.epoch = 1};
    take(&all, mine, 2);
    give(&all, old, 2);
    ck_assert_uint_eq(all.n, 1);
    give(&all, mine, 2);
    take(&all, mine, 2);
    ck_assert(mine[0] != old[0] && mine[0] != old[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("slab");
    TCase *tc = harness_case(s, "blocks");
    tcase_add_test(tc, no_block_overlaps_another);
    tcase_add_test(tc, one_block_keeps_its_slab_alone);
    tcase_add_test(tc, forgotten_blocks_are_let_go);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
