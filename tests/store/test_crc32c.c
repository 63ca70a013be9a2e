/* test_crc32c.c - the checksum of bodies. */
#include "crc32c.h"

#include "harness.h"

#include <string.h>

START_TEST(known_values)
{
    static const unsigned char zeros[32] = {0};
    unsigned char ones[32], up[32];
    memset(ones, 0xff, sizeof(ones));
    for (size_t i = 0; i < sizeof(up); i++)
        up[i] = (unsigned char)i;
    ck_assert_uint_eq(bgmqi_crc32c("123456789", 9), 0xe3069283);
    /* RFC 3720, B.4. */
    ck_assert_uint_eq(bgmqi_crc32c(zeros, 32), 0x8a9136aa);
    ck_assert_uint_eq(bgmqi_crc32c(ones, 32), 0x62a8ab43);
    ck_assert_uint_eq(bgmqi_crc32c(up, 32), 0x46dd794e);
}
END_TEST

START_TEST(nothing_has_zero)
{
    ck_assert_uint_eq(bgmqi_crc32c("", 0), 0);
    ck_assert_uint_eq(bgmqi_crc32c(NULL, 0), 0);
    ck_assert_uint_eq(bgmqi_crc32c_portable(NULL, 0), 0);
}
END_TEST

START_TEST(instruction_and_tables_agree_at_every_length_and_place)
{
    unsigned char bytes[300];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(x >> 24);
    }
    for (size_t start = 0; start < 16; start++)
        for (size_t len = 0; len + start <= sizeof(bytes); len++)
            ck_assert_uint_eq(bgmqi_crc32c(bytes + start, len),
                              bgmqi_crc32c_portable(bytes + start, len));
}
END_TEST

START_TEST(every_bit_counts)
{
    unsigned char bytes[40] = {0};
    uint32_t sum = bgmqi_crc32c(bytes, sizeof(bytes));
    for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert_uint_ne(bgmqi_crc32c(bytes, sizeof(bytes)), sum);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("crc32c");
    TCase *c = harness_case(s, "crc32c");
    tcase_add_test(c, known_values);
    tcase_add_test(c, nothing_has_zero);
    tcase_add_test(c, instruction_and_tables_agree_at_every_length_and_place);
    tcase_add_test(c, every_bit_counts);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
