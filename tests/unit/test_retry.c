/* test_retry.c - the delays of every policy at their edges, and the generator behind
 * jitter. */
#include "retry.h"

#include "harness.h"

#include <check.h>
#include <limits.h>

static int64_t delay(const struct retry_policy *p, unsigned failed, uint64_t random)
{
    return bgmqi_retry_delay(p, failed, random);
}

/* A random number that exponential turns into its ceiling. */
static uint64_t top(int64_t ceiling)
{
    return (uint64_t)ceiling;
}

START_TEST(none_is_at_once)
{
    struct retry_policy p = {.kind = BGMQ_BACKOFF_NONE, .base_ms = 5, .max_ms = 10};
    ck_assert_int_eq(delay(&p, 1, UINT64_MAX), 0);
    ck_assert_int_eq(delay(&p, UINT_MAX, UINT64_MAX), 0);
}
END_TEST

START_TEST(fixed_is_the_base_each_time)
{
    struct retry_policy p = {.kind = BGMQ_BACKOFF_FIXED, .base_ms = 1500, .max_ms = 10};
    ck_assert_int_eq(delay(&p, 1, 0), 1500);
    ck_assert_int_eq(delay(&p, 1000, UINT64_MAX), 1500);
}
END_TEST

START_TEST(fixed_is_clamped)
{
    struct retry_policy p = {.kind = BGMQ_BACKOFF_FIXED, .base_ms = INT64_MAX};
    ck_assert_int_eq(delay(&p, 1, 0), BGMQI_RETRY_DELAY_MAX);
    p.base_ms = -1;
    ck_assert_int_eq(delay(&p, 1, 0), 0);
}
END_TEST

START_TEST(exponential_doubles_up_to_max)
{
    struct retry_policy p = {.base_ms = 1000, .max_ms = 300000};
    int64_t want[] = {1000,  2000,  4000,   8000,   16000,
                      32000, 64000, 128000, 256000, 300000};
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(delay(&p, i + 1, top(want[i])), want[i]);
        ck_assert_int_eq(delay(&p, i + 1, top(want[i]) + 1), 0);
        ck_assert_int_eq(delay(&p, i + 1, 0), 0);
    }
}
END_TEST

START_TEST(table_says_each_delay_and_its_last_one_from_then_on)
{
    struct retry_policy p = {
        .kind = BGMQ_BACKOFF_TABLE, .table = {10, 0, UINT_MAX}, .table_len = 3};
    static const int64_t want[] = {10, 10, 0, UINT_MAX, UINT_MAX, UINT_MAX};
    for (unsigned failed = 0; failed < 6; failed++)
        ck_assert_int_eq(delay(&p, failed, UINT64_MAX), want[failed]);
}
END_TEST

START_TEST(exponential_survives_any_attempt)
{
    struct retry_policy p = {.base_ms = 1, .max_ms = INT64_MAX};
    for (unsigned failed = 0; failed < 200; failed++) {
        int64_t d = delay(&p, failed, UINT64_MAX);
        ck_assert_int_ge(d, 0);
        ck_assert_int_le(d, BGMQI_RETRY_DELAY_MAX);
    }
    ck_assert_int_eq(delay(&p, UINT_MAX, top(BGMQI_RETRY_DELAY_MAX)),
                     BGMQI_RETRY_DELAY_MAX);
}
END_TEST

START_TEST(exponential_with_base_over_max_is_max)
{
    struct retry_policy p = {.base_ms = 5000, .max_ms = 300};
    ck_assert_int_eq(delay(&p, 1, top(300)), 300);
    ck_assert_int_eq(delay(&p, 9, top(300) + 1), 0);
}
END_TEST

START_TEST(exponential_of_nothing_is_nothing)
{
    struct retry_policy p = {.base_ms = 0, .max_ms = 300};
    ck_assert_int_eq(delay(&p, 50, UINT64_MAX), 0);
    p = (struct retry_policy){.base_ms = 300, .max_ms = 0};
    ck_assert_int_eq(delay(&p, 50, UINT64_MAX), 0);
    p = (struct retry_policy){.base_ms = -300, .max_ms = -5};
    ck_assert_int_eq(delay(&p, 50, UINT64_MAX), 0);
}
END_TEST

/* Full jitter: low and high quarter of the range are hit about equally often. */
START_TEST(jitter_covers_the_range)
{
    struct retry_policy p = {.base_ms = 1000, .max_ms = 1000};
    uint64_t state = 1;
    int quarter[4] = {0};
    for (int i = 0; i < 4000; i++) {
        int64_t d = delay(&p, 1, bgmqi_random_next(&state));
        ck_assert_int_le(d, 1000);
        quarter[d < 1000 ? d / 250 : 3]++;
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_gt(quarter[i], 800);
        ck_assert_int_lt(quarter[i], 1200);
    }
}
END_TEST

struct call {
    unsigned attempt;
    int64_t answer;
};

static int64_t backoff(unsigned attempt, void *ctx)
{
    struct call *call = ctx;
    call->attempt = attempt;
    return call->answer;
}

START_TEST(callback_is_asked_and_clamped)
{
    struct call call = {.answer = 77};
    struct retry_policy p = {
        .kind = BGMQ_BACKOFF_CALLBACK, .base_ms = 5, .fn = backoff, .ctx = &call};
    ck_assert_int_eq(delay(&p, 3, 0), 77);
    ck_assert_uint_eq(call.attempt, 3);
    call.answer = INT64_MAX;
    ck_assert_int_eq(delay(&p, 4, 0), BGMQI_RETRY_DELAY_MAX);
    call.answer = INT64_MIN;
    ck_assert_int_eq(delay(&p, 5, 0), 0);
}
END_TEST

START_TEST(random_repeats_by_state_and_differs_by_it)
{
    uint64_t a = 42, b = 42, c = 43;
    uint64_t first = bgmqi_random_next(&a);
    ck_assert_uint_eq(first, bgmqi_random_next(&b));
    ck_assert_uint_ne(first, bgmqi_random_next(&c));
    ck_assert_uint_ne(first, bgmqi_random_next(&a));
}
END_TEST

/* The published test vector of this generator for a start of 0. */
START_TEST(random_matches_its_reference)
{
    uint64_t state = 0;
    ck_assert_uint_eq(bgmqi_random_next(&state), UINT64_C(0xe220a8397b1dcdaf));
    ck_assert_uint_eq(bgmqi_random_next(&state), UINT64_C(0x6e789e6aa1b965f4));
    ck_assert_uint_eq(bgmqi_random_next(&state), UINT64_C(0x06c45d188009454f));
}
END_TEST

START_TEST(random_flips_every_bit)
{
    uint64_t state = 0, ones = 0, zeros = 0;
    for (int i = 0; i < 64; i++) {
        uint64_t r = bgmqi_random_next(&state);
        ones |= r;
        zeros |= ~r;
    }
    ck_assert_uint_eq(ones, UINT64_MAX);
    ck_assert_uint_eq(zeros, UINT64_MAX);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("retry");
    TCase *c = tcase_create("retry");
    tcase_add_test(c, none_is_at_once);
    tcase_add_test(c, fixed_is_the_base_each_time);
    tcase_add_test(c, fixed_is_clamped);
    tcase_add_test(c, exponential_doubles_up_to_max);
    tcase_add_test(c, table_says_each_delay_and_its_last_one_from_then_on);
    tcase_add_test(c, exponential_survives_any_attempt);
    tcase_add_test(c, exponential_with_base_over_max_is_max);
    tcase_add_test(c, exponential_of_nothing_is_nothing);
    tcase_add_test(c, jitter_covers_the_range);
    tcase_add_test(c, callback_is_asked_and_clamped);
    tcase_add_test(c, random_repeats_by_state_and_differs_by_it);
    tcase_add_test(c, random_matches_its_reference);
    tcase_add_test(c, random_flips_every_bit);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
