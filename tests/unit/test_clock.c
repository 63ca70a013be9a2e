/* test_clock.c - both ways a date is written, at their edges, and the two clocks. */
#include "clock.h"

#include "harness.h"

#include <check.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char text[64];

static const char *us(int64_t wall_ms)
{
    bgmqi_clock_us_date(wall_ms, text, sizeof(text));
    return text;
}

static const char *rfc(int64_t wall_ms)
{
    bgmqi_clock_rfc3339(wall_ms, text, sizeof(text));
    return text;
}

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

START_TEST(the_status_page_date)
{
    int64_t t = INT64_C(1523303089000);
    ck_assert_str_eq(us(t), "4/9/18 7:44:49 PM");
    ck_assert_str_eq(rfc(t), "2018-04-09T19:44:49.000Z");
}
END_TEST

START_TEST(midnight_is_twelve_am)
{
    ck_assert_str_eq(us(0), "1/1/70 12:00:00 AM");
    ck_assert_str_eq(us(HOUR - 1), "1/1/70 12:59:59 AM");
    ck_assert_str_eq(us(HOUR), "1/1/70 1:00:00 AM");
    ck_assert_str_eq(rfc(0), "1970-01-01T00:00:00.000Z");
}
END_TEST

START_TEST(noon_is_twelve_pm)
{
    ck_assert_str_eq(us(12 * HOUR - 1), "1/1/70 11:59:59 AM");
    ck_assert_str_eq(us(12 * HOUR), "1/1/70 12:00:00 PM");
    ck_assert_str_eq(us(13 * HOUR), "1/1/70 1:00:00 PM");
    ck_assert_str_eq(us(DAY - 1), "1/1/70 11:59:59 PM");
}
END_TEST

START_TEST(milliseconds_are_kept_by_rfc_only)
{
    ck_assert_str_eq(rfc(INT64_C(1523303089007)), "2018-04-09T19:44:49.007Z");
    ck_assert_str_eq(rfc(INT64_C(1523303089999)), "2018-04-09T19:44:49.999Z");
    ck_assert_str_eq(us(INT64_C(1523303089999)), "4/9/18 7:44:49 PM");
}
END_TEST

START_TEST(before_1970)
{
    ck_assert_str_eq(rfc(-1), "1969-12-31T23:59:59.999Z");
    ck_assert_str_eq(us(-1), "12/31/69 11:59:59 PM");
    ck_assert_str_eq(rfc(-1000), "1969-12-31T23:59:59.000Z");
    ck_assert_str_eq(rfc(-DAY), "1969-12-31T00:00:00.000Z");
}
END_TEST

START_TEST(leap_days_and_centuries)
{
    ck_assert_str_eq(us(INT64_C(951782400000)), "2/29/00 12:00:00 AM");
    ck_assert_str_eq(us(INT64_C(1709208000000)), "2/29/24 12:00:00 PM");
    ck_assert_str_eq(rfc(INT64_C(2147483648000)), "2038-01-19T03:14:08.000Z");
    ck_assert_str_eq(us(INT64_C(4102444800000)), "1/1/00 12:00:00 AM");
}
END_TEST

/* Rows of a damaged database may say any time: it is written, whatever it is worth. */
START_TEST(farthest_times_are_written)
{
    ck_assert_str_eq(rfc(INT64_MAX), "292278994-08-17T07:12:55.807Z");
    ck_assert_str_eq(us(INT64_MAX), "8/17/94 7:12:55 AM");
    ck_assert_uint_gt(strlen(rfc(INT64_MIN + 1000)), 0);
    ck_assert_uint_gt(strlen(us(INT64_MIN + 1000)), 0);
}
END_TEST

START_TEST(small_buffers_are_not_overrun)
{
    char small[5] = "zzzz";
    bgmqi_clock_us_date(0, small, 4);
    ck_assert_str_eq(small, "1/1");
    ck_assert_int_eq(small[4], 0);
}
END_TEST

START_TEST(neither_zone_nor_locale_matters)
{
    setenv("TZ", "America/New_York", 1);
    tzset();
    setlocale(LC_ALL, "de_DE.UTF-8");
    ck_assert_str_eq(us(INT64_C(1523303089000)), "4/9/18 7:44:49 PM");
}
END_TEST

START_TEST(system_clocks_run)
{
    int64_t wall = clock_wall_ms(&bgmqi_clock_system);
    ck_assert_int_ge(wall / 1000, (int64_t)time(NULL) - 2);
    ck_assert_int_le(wall / 1000, (int64_t)time(NULL) + 1); /* which may be a tick late */
    ck_assert_int_le(clock_rough_ms(&bgmqi_clock_system),
                     clock_wall_ms(&bgmqi_clock_system));
    ck_assert_int_ge(clock_rough_ms(&bgmqi_clock_system), wall - 1000);
    int64_t before = clock_mono_ns(&bgmqi_clock_system);
    ck_assert_int_gt(before, 0);
    ck_assert_int_ge(clock_mono_ns(&bgmqi_clock_system), before);
}
END_TEST

START_TEST(sums_end_at_the_farthest_time)
{
    ck_assert_int_eq(clock_plus(1, 2), 3);
    ck_assert_int_eq(clock_plus(1, -2), -1);
    ck_assert_int_eq(clock_plus(INT64_MAX, 0), INT64_MAX);
    ck_assert_int_eq(clock_plus(INT64_MAX - 1, 1), INT64_MAX);
    ck_assert_int_eq(clock_plus(INT64_MAX, 1), INT64_MAX);
    ck_assert_int_eq(clock_plus(1, INT64_MAX), INT64_MAX);
    ck_assert_int_eq(clock_plus(INT64_MIN, -1), INT64_MIN);
    ck_assert_int_eq(clock_plus(-1, INT64_MIN), INT64_MIN);
    ck_assert_int_eq(clock_plus(INT64_MIN, INT64_MAX), -1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("clock");
    TCase *c = tcase_create("clock");
    tcase_add_test(c, the_status_page_date);
    tcase_add_test(c, midnight_is_twelve_am);
    tcase_add_test(c, noon_is_twelve_pm);
    tcase_add_test(c, milliseconds_are_kept_by_rfc_only);
    tcase_add_test(c, before_1970);
    tcase_add_test(c, leap_days_and_centuries);
    tcase_add_test(c, farthest_times_are_written);
    tcase_add_test(c, small_buffers_are_not_overrun);
    tcase_add_test(c, neither_zone_nor_locale_matters);
    tcase_add_test(c, system_clocks_run);
    tcase_add_test(c, sums_end_at_the_farthest_time);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
