/* test_map.c - put, get, remove, walk and growth of the map, checked against an array. */
#include "map.h"

#include "harness.h"

#include <bgmq.h>
#include <check.h>
#include <stdio.h>
#include <string.h>

static struct map map;
static int values[2000];

static void setup(void)
{
    bgmqi_map_init(&map);
}

static void teardown(void)
{
    bgmqi_map_fini(&map);
}

static const char *key_of(int i)
{
    static char key[32];
    snprintf(key, sizeof(key), "key-%d", i);
    return key;
}

START_TEST(empty_has_nothing)
{
    ck_assert_ptr_null(bgmqi_map_get(&map, "a"));
    ck_assert_ptr_null(bgmqi_map_remove(&map, "a"));
    ck_assert_uint_eq(map.len, 0);
}
END_TEST

START_TEST(fini_takes_zeroed_and_twice)
{
    struct map zero = {.len = 0};
    bgmqi_map_fini(&zero);
    bgmqi_map_fini(&zero);
}
END_TEST

START_TEST(put_copies_its_key)
{
    char key[] = "name";
    ck_assert_int_eq(bgmqi_map_put(&map, key, &values[0]), 0);
    key[0] = 'x';
    ck_assert_ptr_eq(bgmqi_map_get(&map, "name"), &values[0]);
    ck_assert_ptr_null(bgmqi_map_get(&map, "xame"));
}
END_TEST

START_TEST(second_put_is_refused_and_changes_nothing)
{
    ck_assert_int_eq(bgmqi_map_put(&map, "a", &values[0]), 0);
    ck_assert_int_eq(bgmqi_map_put(&map, "a", &values[1]), BGMQ_EEXIST);
    ck_assert_ptr_eq(bgmqi_map_get(&map, "a"), &values[0]);
    ck_assert_uint_eq(map.len, 1);
}
END_TEST

START_TEST(remove_gives_the_value_once)
{
    bgmqi_map_put(&map, "a", &values[0]);
    ck_assert_ptr_eq(bgmqi_map_remove(&map, "a"), &values[0]);
    ck_assert_ptr_null(bgmqi_map_remove(&map, "a"));
    ck_assert_uint_eq(map.len, 0);
    ck_assert_int_eq(bgmqi_map_put(&map, "a", &values[1]), 0);
    ck_assert_ptr_eq(bgmqi_map_get(&map, "a"), &values[1]);
}
END_TEST

START_TEST(keys_of_every_length_differ)
{
    char key[64] = "";
    for (int i = 0; i < 60; i++) {
        ck_assert_int_eq(bgmqi_map_put(&map, key, &values[i]), 0);
        key[i] = 'a';
    }
    memset(key, 0, sizeof(key));
    for (int i = 0; i < 60; i++) {
        ck_assert_ptr_eq(bgmqi_map_get(&map, key), &values[i]);
        key[i] = 'a';
    }
}
END_TEST

START_TEST(bytes_above_ascii_are_keys_too)
{
    ck_assert_int_eq(bgmqi_map_put(&map, "\xc3\xa4", &values[0]), 0);
    ck_assert_int_eq(bgmqi_map_put(&map, "\xc3\xa5", &values[1]), 0);
    ck_assert_ptr_eq(bgmqi_map_get(&map, "\xc3\xa4"), &values[0]);
}
END_TEST

START_TEST(grows_and_keeps_everything)
{
    for (int i = 0; i < 2000; i++)
        ck_assert_int_eq(bgmqi_map_put(&map, key_of(i), &values[i]), 0);
    ck_assert_uint_eq(map.len, 2000);
    ck_assert_uint_ge(map.cap, 1024);
    for (int i = 0; i < 2000; i++)
        ck_assert_ptr_eq(bgmqi_map_get(&map, key_of(i)), &values[i]);
    for (int i = 0; i < 2000; i += 2)
        ck_assert_ptr_eq(bgmqi_map_remove(&map, key_of(i)), &values[i]);
    for (int i = 0; i < 2000; i++)
        ck_assert_ptr_eq(bgmqi_map_get(&map, key_of(i)), i % 2 ? &values[i] : NULL);
    ck_assert_uint_eq(map.len, 1000);
}
END_TEST

/* 2000 keys that fall at random leave about a third of as many buckets empty. */
START_TEST(keys_spread_over_the_table)
{
    for (int i = 0; i < 2000; i++)
        bgmqi_map_put(&map, key_of(i), &values[i]);
    size_t used = 0;
    for (size_t i = 0; i < map.cap; i++)
        used += map.buckets[i] != NULL;
    ck_assert_uint_eq(map.cap, 2048);
    ck_assert_uint_gt(used, 1100);
}
END_TEST

START_TEST(seeds_differ_between_maps)
{
    struct map other;
    bgmqi_map_init(&other);
    ck_assert(other.seed[0] != map.seed[0] || other.seed[1] != map.seed[1]);
    bgmqi_map_fini(&other);
}
END_TEST

static int mark(void *ctx, const char *key, void *value)
{
    int i = 0;
    ck_assert_int_eq(sscanf(key, "key-%d", &i), 1);
    ck_assert_ptr_eq(value, &values[i]);
    ((int *)ctx)[i]++;
    return 0;
}

START_TEST(each_visits_every_key_once)
{
    int seen[100] = {0};
    for (int i = 0; i < 100; i++)
        bgmqi_map_put(&map, key_of(i), &values[i]);
    ck_assert_int_eq(bgmqi_map_each(&map, mark, seen), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(seen[i], 1);
}
END_TEST

static int stop_at_third(void *ctx, const char *key, void *value)
{
    (void)key;
    (void)value;
    return ++*(int *)ctx == 3 ? -42 : 0;
}

START_TEST(each_ends_at_nonzero)
{
    int calls = 0;
    for (int i = 0; i < 10; i++)
        bgmqi_map_put(&map, key_of(i), &values[i]);
    ck_assert_int_eq(bgmqi_map_each(&map, stop_at_third, &calls), -42);
    ck_assert_int_eq(calls, 3);
}
END_TEST

static int remove_it(void *ctx, const char *key, void *value)
{
    ck_assert_ptr_eq(bgmqi_map_remove(ctx, key), value);
    return 0;
}

START_TEST(each_may_remove_its_own_key)
{
    for (int i = 0; i < 100; i++)
        bgmqi_map_put(&map, key_of(i), &values[i]);
    ck_assert_int_eq(bgmqi_map_each(&map, remove_it, &map), 0);
    ck_assert_uint_eq(map.len, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("map");
    TCase *c = tcase_create("map");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, empty_has_nothing);
    tcase_add_test(c, fini_takes_zeroed_and_twice);
    tcase_add_test(c, put_copies_its_key);
    tcase_add_test(c, second_put_is_refused_and_changes_nothing);
    tcase_add_test(c, remove_gives_the_value_once);
    tcase_add_test(c, keys_of_every_length_differ);
    tcase_add_test(c, bytes_above_ascii_are_keys_too);
    tcase_add_test(c, grows_and_keeps_everything);
    tcase_add_test(c, keys_spread_over_the_table);
    tcase_add_test(c, seeds_differ_between_maps);
    tcase_add_test(c, each_visits_every_key_once);
    tcase_add_test(c, each_ends_at_nonzero);
    tcase_add_test(c, each_may_remove_its_own_key);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
