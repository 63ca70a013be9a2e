/* test_mem.c - blocks that are made on one thread and freed on another, and the bound on their
 * sum.  Under AddressSanitizer the blocks are malloc's own, and the accounts are tested alone. */
#include "mem.h"

#include "harness.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 2000 };

/* True when all N bytes at P are VALUE.  (An assertion for each byte would take minutes.) */
static bool all_are(const unsigned char *p, size_t n, size_t value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != (value & 0xff))
            return false;
    return true;
}

/* ---- blocks ------------------------------------------------------------------------ */

START_TEST(every_size_holds_its_bytes)
{
    static unsigned char *blocks[LARGEST + 1];
    for (int round = 0; round < 3; round++) {
        for (size_t n = 0; n <= LARGEST; n++) {
            blocks[n] = bgmqi_mem_alloc(n);
            ck_assert_ptr_nonnull(blocks[n]);
            ck_assert_uint_eq((uintptr_t)blocks[n] % _Alignof(max_align_t), 0);
            memset(blocks[n], (int)(n & 0xff), n);
        }
        for (size_t n = 0; n <= LARGEST; n++) {
            ck_assert(all_are(blocks[n], n, n));
            bgmqi_mem_free(blocks[n], n);
        }
    }
    bgmqi_mem_free(NULL, 10);
}
END_TEST

START_TEST(cost_is_at_least_the_size)
{
    for (size_t n = 0; n <= LARGEST; n++) {
        ck_assert_uint_ge(mem_cost(n), n);
        ck_assert_uint_le(mem_cost(n), n + 64);
        if (n)
            ck_assert_uint_ge(mem_cost(n), mem_cost(n - 1));
    }
}
END_TEST

/* More blocks of one class than all magazines of a thread and the depot hold. */
START_TEST(a_flood_of_one_size_comes_back)
{
    enum { FLOOD = 40000 };
    void **blocks = calloc(FLOOD, sizeof(*blocks));
    ck_assert_ptr_nonnull(blocks);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < FLOOD; i++) {
            blocks[i] = bgmqi_mem_alloc(40);
            memset(blocks[i], (int)i, 40);
        }
        for (size_t i = 0; i < FLOOD; i++)
            bgmqi_mem_free(blocks[round % 2 ? i : FLOOD - 1 - i], 40);
    }
    free(blocks);
}
END_TEST

/* ---- from thread to thread --------------------------------------------------------- */

enum { SLOTS = 256, PASSES = 20000 };

struct parcel {
    size_t size;
    unsigned char bytes[];
};

static _Atomic(struct parcel *) slots[SLOTS];

static void check_and_free(struct parcel *p)
{
    if (!p)
        return;
    if (!all_are(p->bytes, p->size, p->size))
        ck_abort_msg("a parcel of %zu bytes was overwritten", p->size);
    bgmqi_mem_free(p, sizeof(*p) + p->size);
}

/* Puts a parcel into a slot and frees what stood there, mostly another thread's. */
static void *pass_on(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < PASSES; i++) {
        seed = seed * 1664525 + 1013904223;
        size_t size = (seed >> 8) % LARGEST;
        struct parcel *p = bgmqi_mem_alloc(sizeof(*p) + size);
        if (!p)
            ck_abort_msg("out of memory");
        p->size = size;
        memset(p->bytes, (int)(size & 0xff), size);
        check_and_free(atomic_exchange(&slots[seed % SLOTS], p));
    }
    return NULL;
}

START_TEST(blocks_change_hands)
{
    pthread_t t[4];
    for (int round = 0; round < 2; round++) { /* the second meets what the first left */
        for (uintptr_t i = 0; i < 4; i++)
            t[i] = harness_thread(pass_on, (void *)(i + 1));
        for (int i = 0; i < 4; i++)
            harness_join(t[i]);
    }
    for (int i = 0; i < SLOTS; i++)
        check_and_free(atomic_load(&slots[i]));
}
END_TEST

static void *make_some(void *arg)
{
    void **blocks = arg;
    for (int i = 0; i < 1000; i++)
        memset(blocks[i] = bgmqi_mem_alloc(100), 1, 100);
    return NULL;
}

static void *free_some(void *arg)
{
    void **blocks = arg;
    for (int i = 0; i < 1000; i++)
        bgmqi_mem_free(blocks[i], 100);
    return NULL;
}

START_TEST(makers_and_freers_come_and_go)
{
    static void *blocks[1000];
    for (int i = 0; i < 30; i++) {
        harness_join(harness_thread(make_some, blocks));
        harness_join(harness_thread(free_some, blocks));
    }
}
END_TEST

/* ---- accounts ---------------------------------------------------------------------- */

enum { MAX = 1 << 20 };

/* What A holds is what the budget says, with no more in reserve than its promise. */
static void check_sole(const struct allowance *a)
{
    size_t keep = a->used / 4 + ALLOWANCE_SPARE;
    ck_assert_uint_ge(a->reserved, a->used);
    ck_assert_uint_eq(atomic_load(&a->from->used), a->reserved);
    ck_assert_uint_le(a->reserved - a->used,
                      2 * (keep < ALLOWANCE_CHUNK ? keep : ALLOWANCE_CHUNK));
}

static void check_all_returned(struct allowance *a)
{
    ck_assert_uint_eq(a->used, 0);
    bgmqi_mem_refund_all(a);
    ck_assert_uint_eq(a->reserved, 0);
}

START_TEST(reserve_stays_a_fraction)
{
    struct budget b = {.max = MAX};
    struct allowance a = {.from = &b};
    ck_assert_int_eq(bgmqi_mem_charge(&a, 100), 0);
    ck_assert_uint_eq(a.used, 100);
    check_sole(&a);
    for (int i = 0; i < 5000; i++) {
        ck_assert_int_eq(bgmqi_mem_charge(&a, 100), 0);
        check_sole(&a);
    }
    for (int i = 0; i < 5001; i++) {
        bgmqi_mem_refund(&a, 100);
        check_sole(&a);
    }
    check_all_returned(&a);
    ck_assert_uint_eq(atomic_load(&b.used), 0);
}
END_TEST

/* Else publishing would touch the word that all types share each time. */
START_TEST(a_busy_holder_seldom_asks)
{
    struct budget b = {.max = MAX};
    struct allowance a = {.from = &b};
    bgmqi_mem_charge(&a, MAX / 2);
    int asked = 0;
    for (int i = 0; i < 1000; i++) {
        size_t before = atomic_load(&b.used);
        ck_assert_int_eq(bgmqi_mem_charge(&a, 100), 0);
        asked += atomic_load(&b.used) != before;
    }
    ck_assert_int_ge(asked, 1);
    ck_assert_int_le(asked, 5);
}
END_TEST

START_TEST(bound_is_met_and_never_passed)
{
    struct budget b = {.max = MAX};
    struct allowance a = {.from = &b};
    size_t n = 0;
    while (bgmqi_mem_charge(&a, 1000) == 0) {
        n++;
        ck_assert_uint_le(atomic_load(&b.used), MAX);
    }
    ck_assert_uint_gt(n * 1000, MAX - 2000); /* not much is left unused */
    ck_assert_uint_eq(a.used, n * 1000);     /* the refusal changed nothing */
    bgmqi_mem_refund(&a, 1000);
    ck_assert_int_eq(bgmqi_mem_charge(&a, 1000), 0);
    for (; n; n--)
        bgmqi_mem_refund(&a, 1000);
    check_all_returned(&a);
    ck_assert_uint_eq(atomic_load(&b.used), 0);
}
END_TEST

START_TEST(larger_than_all_is_refused)
{
    struct budget b = {.max = MAX};
    struct allowance a = {.from = &b};
    ck_assert_int_eq(bgmqi_mem_charge(&a, MAX + 1), -1);
    ck_assert_int_eq(bgmqi_mem_charge(&a, SIZE_MAX), -1);
    ck_assert_uint_eq(atomic_load(&b.used), 0);
    ck_assert_int_eq(bgmqi_mem_charge(&a, MAX), 0);
    ck_assert_int_eq(bgmqi_mem_charge(&a, 1), -1);
    bgmqi_mem_refund(&a, MAX);
    check_sole(&a);
}
END_TEST

START_TEST(what_was_accepted_is_charged_in_any_case)
{
    struct budget b = {.max = 1000};
    struct allowance a = {.from = &b};
    bgmqi_mem_charge_always(&a, 5000);
    ck_assert_uint_ge(atomic_load(&b.used), 5000);
    ck_assert_int_eq(bgmqi_mem_charge(&a, SIZE_MAX / 2), -1);
    bgmqi_mem_refund(&a, 5000);
    check_sole(&a);
    check_all_returned(&a);
    ck_assert_uint_eq(atomic_load(&b.used), 0);
}
END_TEST

START_TEST(holder_that_goes_gives_all_back)
{
    struct budget b = {.max = MAX};
    struct allowance one = {.from = &b}, two = {.from = &b};
    bgmqi_mem_charge(&one, 70000);
    bgmqi_mem_charge(&one, 10);
    bgmqi_mem_charge(&two, 300);
    bgmqi_mem_refund_all(&one);
    ck_assert_uint_eq(one.used + one.reserved, 0);
    ck_assert_uint_eq(atomic_load(&b.used), two.reserved);
}
END_TEST

/* A thousand types that were busy once keep next to nothing of what others need. */
START_TEST(idle_holders_tie_little_up)
{
    enum { HOLDERS = 1000 };
    static struct allowance a[HOLDERS];
    struct budget b = {.max = 64 * MAX};
    for (int i = 0; i < HOLDERS; i++) {
        a[i].from = &b;
        for (int k = 0; k < 20; k++)
            ck_assert_int_eq(bgmqi_mem_charge(&a[i], 1000), 0);
        for (int k = 0; k < 20; k++)
            bgmqi_mem_refund(&a[i], 1000);
    }
    ck_assert_uint_le(atomic_load(&b.used), HOLDERS * 2 * ALLOWANCE_SPARE);
}
END_TEST

static _Atomic int over;

/* Charges and gives back at random, from an allowance of its own. */
static void *trade(void *arg)
{
    struct allowance a = {.from = arg};
    size_t held[64] = {0};
    unsigned seed = (unsigned)((uintptr_t)&a >> 4);
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        size_t *slot = &held[(seed >> 8) % 64];
        if (*slot)
            bgmqi_mem_refund(&a, *slot);
        *slot = 1 + (seed >> 14) % 30000;
        if (bgmqi_mem_charge(&a, *slot) != 0)
            *slot = 0;
        if (atomic_load(&a.from->used) > a.from->max)
            atomic_store(&over, 1);
    }
    for (int i = 0; i < 64; i++)
        bgmqi_mem_refund(&a, held[i]);
    check_all_returned(&a);
    return NULL;
}

START_TEST(many_threads_never_pass_the_bound)
{
    struct budget b = {.max = MAX};
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = harness_thread(trade, &b);
    for (int i = 0; i < 4; i++)
        harness_join(t[i]);
    ck_assert_int_eq(atomic_load(&over), 0);
    ck_assert_uint_eq(atomic_load(&b.used), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mem");
    TCase *blocks = harness_case(s, "blocks");
    tcase_add_test(blocks, every_size_holds_its_bytes);
    tcase_add_test(blocks, cost_is_at_least_the_size);
    tcase_add_test(blocks, a_flood_of_one_size_comes_back);
    tcase_add_test(blocks, blocks_change_hands);
    tcase_add_test(blocks, makers_and_freers_come_and_go);
    TCase *accounts = harness_case(s, "accounts");
    tcase_add_test(accounts, reserve_stays_a_fraction);
    tcase_add_test(accounts, a_busy_holder_seldom_asks);
    tcase_add_test(accounts, bound_is_met_and_never_passed);
    tcase_add_test(accounts, larger_than_all_is_refused);
    tcase_add_test(accounts, what_was_accepted_is_charged_in_any_case);
    tcase_add_test(accounts, holder_that_goes_gives_all_back);
    tcase_add_test(accounts, idle_holders_tie_little_up);
    tcase_add_test(accounts, many_threads_never_pass_the_bound);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
