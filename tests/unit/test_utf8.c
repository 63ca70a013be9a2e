/* test_utf8.c - every code point, every bad form, and cuts that keep characters whole. */
#include "utf8.h"

#include "harness.h"

#include <check.h>
#include <stdint.h>
#include <string.h>

static int valid(const char *s)
{
    return bgmqi_utf8_valid(s, strlen(s));
}

/* Writes CODE the plain way, surrogates and numbers too high included. */
static size_t encode(uint32_t code, char *ret)
{
    unsigned char *p = (unsigned char *)ret;
    if (code < 0x80) {
        p[0] = (unsigned char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; code >>= 6)
        p[i] = (unsigned char)(0x80 | (code & 0x3f));
    p[0] = (unsigned char)(lead[n] | code);
    return n;
}

START_TEST(every_code_point_and_no_other)
{
    for (uint32_t code = 0; code < 0x120000; code++) {
        char text[4];
        size_t n = encode(code, text);
        int want = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        if (bgmqi_utf8_valid(text, n) != want)
            ck_abort_msg("U+%04X: want %d", (unsigned)code, want);
    }
}
END_TEST

START_TEST(empty_and_nul_are_valid)
{
    ck_assert(bgmqi_utf8_valid("", 0));
    ck_assert(bgmqi_utf8_valid("a\0b", 3));
}
END_TEST

START_TEST(long_forms_are_not)
{
    ck_assert(!valid("\xc0\x80"));
    ck_assert(!valid("\xc1\xbf"));
    ck_assert(!valid("\xe0\x80\xaf"));
    ck_assert(!valid("\xe0\x9f\xbf"));
    ck_assert(!valid("\xf0\x8f\xbf\xbf"));
}
END_TEST

START_TEST(stray_and_missing_bytes_are_not)
{
    ck_assert(!valid("\x80"));
    ck_assert(!valid("a\xbf"));
    ck_assert(!valid("\xc3"));
    ck_assert(!valid("\xc3z"));
    ck_assert(!valid("\xe2\x82"));
    ck_assert(!valid("\xe2\x82z"));
    ck_assert(!valid("\xf0\x9f\x98"));
    ck_assert(!valid("\xf0\x9f\x98z"));
    ck_assert(!valid("\xf5\x80\x80\x80"));
    ck_assert(!valid("\xfe"));
    ck_assert(!valid("\xff"));
}
END_TEST

/* The length says where the text ends, whatever stands behind it. */
START_TEST(length_is_kept)
{
    ck_assert(!bgmqi_utf8_valid("\xc3\xa4", 1));
    ck_assert(!bgmqi_utf8_valid("\xf0\x9f\x98\x80", 3));
    ck_assert(bgmqi_utf8_valid("a\xff", 1));
}
END_TEST

START_TEST(cut_of_what_fits_is_all)
{
    ck_assert_uint_eq(bgmqi_utf8_cut("abc", 3, 3), 3);
    ck_assert_uint_eq(bgmqi_utf8_cut("abc", 3, SIZE_MAX), 3);
    ck_assert_uint_eq(bgmqi_utf8_cut("", 0, 0), 0);
}
END_TEST

START_TEST(cut_of_ascii_is_max)
{
    ck_assert_uint_eq(bgmqi_utf8_cut("abcdef", 6, 4), 4);
    ck_assert_uint_eq(bgmqi_utf8_cut("abcdef", 6, 0), 0);
}
END_TEST

/* a, U+00E4 (2 bytes), U+20AC (3 bytes), U+1F600 (4 bytes), b */
START_TEST(cut_keeps_characters_whole)
{
    static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"
                               "b";
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t max = 0; max <= 11; max++)
        ck_assert_uint_eq(bgmqi_utf8_cut(text, 11, max), want[max]);
}
END_TEST

START_TEST(cut_takes_bad_bytes_one_by_one)
{
    ck_assert_uint_eq(bgmqi_utf8_cut("\xff\xff\xff\xff", 4, 2), 2);
    ck_assert_uint_eq(bgmqi_utf8_cut("\xe2\x82zz", 4, 1), 1);
    ck_assert_uint_eq(bgmqi_utf8_cut("\x80\xc3\xa4z", 4, 2), 1);
}
END_TEST

/* Whatever the bytes, a cut never exceeds max and never grows shorter as max grows. */
START_TEST(cut_of_any_bytes_is_bounded)
{
    uint32_t random = 7;
    for (int round = 0; round < 2000; round++) {
        char text[24];
        for (size_t i = 0; i < sizeof(text); i++) {
            random = random * 1664525 + 1013904223;
            text[i] = (char)(random >> 24);
        }
        size_t last = 0;
        for (size_t max = 0; max <= sizeof(text); max++) {
            size_t n = bgmqi_utf8_cut(text, sizeof(text), max);
            ck_assert_uint_le(n, max);
            ck_assert_uint_le(max - n, 3);
            ck_assert_uint_ge(n, last);
            last = n;
        }
    }
}
END_TEST

START_TEST(mended_is_what_belongs_to_no_character)
{
    char text[] = "a\xff\xc3\xa4\xe2\x82z\x80";
    bgmqi_utf8_mend(text, strlen(text));
    ck_assert_str_eq(text, "a?\xc3\xa4??z?");
    char good[] = "\xe2\x82\xac";
    bgmqi_utf8_mend(good, strlen(good));
    ck_assert_str_eq(good, "\xe2\x82\xac");
    bgmqi_utf8_mend(good, 0);
    for (size_t len = 1; len < 30; len++)
        for (size_t bad = 0; bad < len; bad++) {
            char plain[32] = "abcdefghijklmnopqrstuvwxyzabcd", mended[32];
            plain[len] = '\0';
            memcpy(mended, plain, sizeof(mended));
            mended[bad] = '\x80';
            plain[bad] = '?';
            bgmqi_utf8_mend(mended, len);
            ck_assert_str_eq(mended, plain);
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("utf8");
    TCase *c = tcase_create("utf8");
    tcase_add_test(c, every_code_point_and_no_other);
    tcase_add_test(c, empty_and_nul_are_valid);
    tcase_add_test(c, long_forms_are_not);
    tcase_add_test(c, stray_and_missing_bytes_are_not);
    tcase_add_test(c, length_is_kept);
    tcase_add_test(c, cut_of_what_fits_is_all);
    tcase_add_test(c, cut_of_ascii_is_max);
    tcase_add_test(c, cut_keeps_characters_whole);
    tcase_add_test(c, cut_takes_bad_bytes_one_by_one);
    tcase_add_test(c, cut_of_any_bytes_is_bounded);
    tcase_add_test(c, mended_is_what_belongs_to_no_character);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
