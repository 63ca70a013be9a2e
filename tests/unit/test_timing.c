/* test_timing.c - the histogram of handler times. */
#include "../harness/harness.h"

#include "timing.h"

#define US INT64_C(1000)
#define MS INT64_C(1000000)

START_TEST(empty_one_says_nothing)
{
    struct timing t = {.n = 0};
    ck_assert_int_eq(bgmqi_timing_mean_ns(&t), 0);
    ck_assert_int_eq(bgmqi_timing_percentile_ns(&t, 99), 0);
}
END_TEST

START_TEST(one_time_is_every_percentile)
{
    static const int64_t times[] = {
        0, 1, 999, US, 7 * US, 8 * US, 8 * MS, 3600000 * MS, INT64_C(1) << 62, -5};
    struct timing t = {.n = 0};
    int64_t ns = times[_i];
    bgmqi_timing_add(&t, ns);
    ck_assert_int_eq(bgmqi_timing_percentile_ns(&t, 1), ns > 0 ? ns : 0);
    ck_assert_int_eq(bgmqi_timing_percentile_ns(&t, 100), ns > 0 ? ns : 0);
    ck_assert_int_eq(bgmqi_timing_mean_ns(&t), ns > 0 ? ns : 0);
}
END_TEST

START_TEST(percentile_is_right_to_an_eighth)
{
    struct timing t = {.n = 0};
    for (int64_t i = 1; i <= 100000; i++)
        bgmqi_timing_add(&t, i * 10 * US);
    static const unsigned percents[] = {1, 10, 50, 90, 99};
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        int64_t exact = percents[i] * 1000 * 10 * US;
        int64_t got = bgmqi_timing_percentile_ns(&t, percents[i]);
        ck_assert_int_ge(got, exact);
        ck_assert_int_le(got, exact + exact / 8 + US);
    }
    ck_assert_int_eq(bgmqi_timing_mean_ns(&t), 100001 * 5 * US);
}
END_TEST

START_TEST(few_slow_ones_are_seen_by_the_99th)
{
    struct timing t = {.n = 0};
    for (int i = 0; i < 98; i++)
        bgmqi_timing_add(&t, US);
    bgmqi_timing_add(&t, 500 * MS);
    bgmqi_timing_add(&t, 500 * MS);
    ck_assert_int_lt(bgmqi_timing_percentile_ns(&t, 98), 3 * US);
    ck_assert_int_eq(bgmqi_timing_percentile_ns(&t, 99), 500 * MS);
}
END_TEST

START_TEST(move_adds_and_empties)
{
    struct timing a = {.n = 0}, b = {.n = 0};
    bgmqi_timing_add(&a, 10 * US);
    bgmqi_timing_add(&b, 30 * US);
    bgmqi_timing_move(&a, &b);
    bgmqi_timing_move(&a, &b); /* nothing more */
    ck_assert_uint_eq(a.n, 2);
    ck_assert_uint_eq(b.n, 0);
    ck_assert_int_eq(bgmqi_timing_mean_ns(&a), 20 * US);
    ck_assert_int_eq(bgmqi_timing_percentile_ns(&a, 100), 30 * US);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("timing");
    TCase *tc = harness_case(s, "timing");
    tcase_add_test(tc, empty_one_says_nothing);
    tcase_add_loop_test(tc, one_time_is_every_percentile, 0, 10);
    tcase_add_test(tc, percentile_is_right_to_an_eighth);
    tcase_add_test(tc, few_slow_ones_are_seen_by_the_99th);
    tcase_add_test(tc, move_adds_and_empties);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
