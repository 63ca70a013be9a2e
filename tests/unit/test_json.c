/* test_json.c - what is parsed and what is refused and where, and what packing writes. */
#include "json.h"

#include "harness.h"

#include <check.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static struct bgmq_error error;

static int parse(const char *text, json_t **ret)
{
    return bgmqi_json_parse(text, strlen(text), ret, &error);
}

/* Parsing TEXT (LEN bytes) fails, changes nothing, and complains at WHERE. */
static void check_refused(const char *text, size_t len, const char *where)
{
    json_t *untouched = (json_t *)&error, *ret = untouched;
    ck_assert_int_eq(bgmqi_json_parse(text, len, &ret, &error), BGMQ_EJSON);
    ck_assert_ptr_eq(ret, untouched);
    if (strncmp(error.text, where, strlen(where)) != 0)
        ck_abort_msg("want '%s...', have '%s'", where, error.text);
    ck_assert_int_eq(bgmqi_json_parse(text, len, &ret, NULL), BGMQ_EJSON);
}

static void refused(const char *text, const char *where)
{
    check_refused(text, strlen(text), where);
}

static int pack(char **ret, size_t *ret_len, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int err = bgmqi_json_pack(ret, ret_len, &error, format, args);
    va_end(args);
    return err;
}

START_TEST(parses_an_object)
{
    json_t *value;
    ck_assert_int_eq(parse("{\"id\": 42, \"to\": [\"a\", null]}", &value), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(value, "id")), 42);
    ck_assert_uint_eq(json_array_size(json_object_get(value, "to")), 2);
    json_decref(value);
}
END_TEST

START_TEST(parses_any_value)
{
    const char *texts[] = {"42", "\"text\"", "null", "true", " [] ", "1.5"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        json_t *value;
        ck_assert_int_eq(parse(texts[i], &value), 0);
        json_decref(value);
    }
}
END_TEST

START_TEST(length_ends_the_text)
{
    json_t *value;
    ck_assert_int_eq(bgmqi_json_parse("[1]garbage", 3, &value, &error), 0);
    json_decref(value);
    check_refused("[1]", 2, "line 1 column 2: ");
}
END_TEST

START_TEST(empty_is_refused)
{
    refused("", "line 1 column 1: ");
    refused("  ", "line 1 column 2: ");
}
END_TEST

/* J6. */
START_TEST(garbage_behind_is_refused)
{
    refused("{} x", "line 1 column 4: ");
    refused("{}\n{}", "line 2 column 1: ");
    check_refused("[]\0", 3, "line 1 column 3: ");
}
END_TEST

START_TEST(position_names_line_and_column)
{
    refused("{\n  \"a\": 1,\n  \"b\": oops\n}", "line 3 column 11: ");
    refused("[1,\n2,,3]", "line 2 column 3: ");
}
END_TEST

START_TEST(column_counts_bytes)
{
    refused("[\"\xc3\xa4\" x]", "line 1 column 7: ");
}
END_TEST

/* J5, A3. */
START_TEST(duplicate_keys_are_refused)
{
    refused("{\"a\": 1, \"a\": 2}", "line 1 column 12: duplicate object key");
}
END_TEST

/* J6. */
START_TEST(text_that_is_not_utf8_is_refused)
{
    refused("[\"\xff\"]", "line 1 column ");
    refused("[\"\xc0\x80\"]", "line 1 column ");
    refused("\xef\xbb\xbf[]", "line 1 column ");
}
END_TEST

/* J6, A3. */
START_TEST(numbers_out_of_range_are_refused)
{
    refused("[9223372036854775808]", "line 1 column ");
    refused("[1e999]", "line 1 column ");
    refused("[NaN]", "line 1 column ");
    refused("[\"\\u0000\"]", "line 1 column ");
}
END_TEST

START_TEST(values_are_what_the_text_says)
{
    static const struct {
        const char *text, *compact;
    } pairs[] = {
        {"[-0, 0, -12, 9223372036854775807]", "[0,0,-12,9223372036854775807]"},
        {"[1.5, -2e3, 1E+2, 25e-1, 1e-999]", "[1.5,-2000.0,100.0,2.5,0.0]"},
        {"[true,\tfalse,\r\nnull]", "[true,false,null]"},
        {"{\"\": {}, \"a\": [], \"b\": {\"a\": \"\"}}",
         "{\"\":{},\"a\":[],\"b\":{\"a\":\"\"}}"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u0041\\u00e4\\u20AC\\uD83D\\ude00 \xf0\x9f\x98\x80\"",
         "\"A\\u00E4\\u20AC\\uD83D\\uDE00 \\uD83D\\uDE00\""},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        json_t *value;
        ck_assert_msg(parse(pairs[i].text, &value) == 0, "%s: %s", pairs[i].text,
                      error.text);
        char *text =
            json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
        ck_assert_str_eq(text, pairs[i].compact);
        free(text);
        json_decref(value);
    }
}
END_TEST

START_TEST(what_is_not_json_is_refused)
{
    static const char *const texts[] = {"[1,]",
                                        "[,1]",
                                        "[1 2]",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{\"a\" 1}",
                                        "{\"a\":}",
                                        "{\"a\"",
                                        "{1:1}",
                                        "{\"a\":1]",
                                        "[1}",
                                        "]",
                                        "01",
                                        "-",
                                        "-a",
                                        "1.",
                                        ".5",
                                        "1e",
                                        "1e+",
                                        "+1",
                                        "0x1",
                                        "-01",
                                        "1.e1",
                                        "tru",
                                        "True",
                                        "nulls",
                                        "'a'",
                                        "\"a",
                                        "\"\\",
                                        "\"\\x\"",
                                        "\"\\u12\"",
                                        "\"\\u12g4\"",
                                        "\"\\ud800\"",
                                        "\"\\ud800x\"",
                                        "\"\\ud800\\u0041\"",
                                        "\"\\udc00\"",
                                        "\"a\nb\"",
                                        "\"\\u0000\"",
                                        "{\"\\u0000\":1}",
                                        "\"\xed\xa0\x80\"",
                                        "\"\xf4\x90\x80\x80\"",
                                        "\"\xe2\x82\"",
                                        "-9223372036854775809",
                                        "[1e400]",
                                        "[-1e400]"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        refused(texts[i], "line 1 column ");
}
END_TEST

/* LEVELS brackets, opened with OPEN and closed with CLOSE; free() it. */
static char *nested(size_t levels, const char *open, const char *close)
{
    size_t a = strlen(open), b = strlen(close);
    char *text = calloc(levels * (a + b) + 1, 1);
    for (size_t i = 0; i < levels; i++) {
        memcpy(text + i * a, open, a);
        memcpy(text + levels * a + i * b, close, b);
    }
    return text;
}

/* J1. */
START_TEST(depth_64_is_the_last)
{
    json_t *value;
    char *text = nested(64, "[", "]");
    ck_assert_int_eq(parse(text, &value), 0);
    json_decref(value);
    free(text);
    text = nested(65, "[", "]");
    refused(text, "line 1 column 65: nested more than 64 levels deep");
    free(text);
}
END_TEST

START_TEST(depth_of_objects_has_a_position)
{
    char *text = nested(65, "{\"k\":\n", "}");
    memcpy(text + 65 * 6 - 1, "1", 1);
    refused(text, "line 65 column 1: nested more than 64 levels deep");
    free(text);
}
END_TEST

/* J1, A3. */
START_TEST(a_hundred_thousand_levels_are_refused)
{
    char *text = nested(100000, "[", "]");
    refused(text, "line 1 column 65: nested");
    free(text);
}
END_TEST

START_TEST(brackets_in_strings_are_not_depth)
{
    json_t *value;
    char *brackets = nested(100, "[", "{");
    size_t len = strlen(brackets) + 16;
    char *text = malloc(len);
    int n = snprintf(text, len, "[\"\\\"%s\"]", brackets);
    ck_assert_int_eq(bgmqi_json_parse(text, (size_t)n, &value, &error), 0);
    json_decref(value);
    free(text);
    free(brackets);
}
END_TEST

START_TEST(many_neighbours_are_not_depth)
{
    json_t *value;
    char text[1024] = "[";
    for (int i = 0; i < 100; i++)
        strcat(text, "[],{},");
    strcat(text, "1]");
    ck_assert_int_eq(parse(text, &value), 0);
    json_decref(value);
}
END_TEST

START_TEST(packs_compact)
{
    char *text;
    size_t len;
    ck_assert_int_eq(
        pack(&text, &len, "{s:I, s:[s, b, n]}", "id", (json_int_t)42, "l", "a", 1), 0);
    ck_assert_str_eq(text, "{\"id\":42,\"l\":[\"a\",true,null]}");
    ck_assert_uint_eq(len, strlen(text));
    free(text);
}
END_TEST

START_TEST(packs_a_single_value)
{
    char *text;
    size_t len;
    ck_assert_int_eq(pack(&text, &len, "i", 7), 0);
    ck_assert_str_eq(text, "7");
    ck_assert_uint_eq(len, 1);
    free(text);
}
END_TEST

/* J5.  U+2028 ends a line in JavaScript; escaped it harms nobody. */
START_TEST(packs_ascii_only)
{
    char *text;
    size_t len;
    ck_assert_int_eq(pack(&text, &len, "[s]", "\xe2\x80\xa8\xc3\xa4"), 0);
    ck_assert_str_eq(text, "[\"\\u2028\\u00E4\"]");
    free(text);
}
END_TEST

/* The arguments do not fit FORMAT; nothing is written. */
static void check_unpackable(int err, const char *text)
{
    ck_assert_int_eq(err, BGMQ_EJSON);
    ck_assert_ptr_null(text);
    ck_assert_uint_gt(strlen(error.text), 0);
}

START_TEST(bad_formats_are_refused)
{
    char *text = NULL;
    size_t len = 0;
    check_unpackable(pack(&text, &len, "{s:s}", "key", NULL), text);
    check_unpackable(pack(&text, &len, "[s]", "\xff"), text);
    check_unpackable(pack(&text, &len, "[i", 1), text);
    check_unpackable(pack(&text, &len, ""), text);
    check_unpackable(pack(&text, &len, "[x]"), text);
    check_unpackable(pack(&text, &len, "s*", NULL), text);
    check_unpackable(pack(&text, &len, " o*", json_integer(5)), text);
    ck_assert_uint_eq(len, 0);
}
END_TEST

/* J2. */
START_TEST(lengths_are_taken_unless_negative)
{
    char *text = NULL;
    size_t len = 0;
    ck_assert_int_eq(pack(&text, &len, "[s#, s%]", "abc", 2, "xyz", (size_t)1), 0);
    ck_assert_str_eq(text, "[\"ab\",\"x\"]");
    free(text);
    text = NULL;
    check_unpackable(pack(&text, &len, "[s#]", "abc", -1), text);
    check_unpackable(pack(&text, &len, "{s+#:i}", "a", "bc", -1, 1), text);
}
END_TEST

/* "o" hands its reference over whether packing succeeds or not. */
START_TEST(refused_lengths_leak_no_value)
{
    char *text = NULL;
    size_t len = 0;
    json_t *value = json_string("x");
    json_incref(value);
    check_unpackable(pack(&text, &len, "[o, s#]", value, "abc", -1), text);
    ck_assert_uint_eq(value->refcount, 1);
    json_decref(value);
}
END_TEST

/* J1. */
START_TEST(deep_values_are_not_written)
{
    char *text = NULL;
    size_t len = 0;
    json_t *value = json_array();
    for (int i = 1; i < 64; i++)
        value = json_pack("[o]", value);
    ck_assert_int_eq(pack(&text, &len, "O", value), 0);
    ck_assert_uint_eq(len, 128);
    free(text);
    text = NULL;
    check_unpackable(pack(&text, &len, "{s:o}", "k", value), text);
}
END_TEST

/* ---- lack of memory ------------------------------------------------------------------ */

static long left; /* the allocation of jansson that fails; 0: none */

static void *scarce(size_t size)
{
    return left && --left == 0 ? NULL : malloc(size);
}

/* J10. */
START_TEST(text_that_finds_no_memory_is_none)
{
    static const char want[] =
        "{\"a key that is long\":\"and\",\"another one\":[{\"deep\":1}]}";
    json_t *value;
    size_t len = 0;
    char *text = NULL;
    ck_assert_int_eq(parse(want, &value), 0);
    json_malloc_t usual;
    json_free_t usual_free;
    json_get_alloc_funcs(&usual, &usual_free);
    json_set_alloc_funcs(scarce, free);
    long n = 1;
    for (; !text; n++) {
        left = n;
        text = bgmqi_json_text(value, JSON_ENSURE_ASCII, &len);
    }
    left = 0;
    json_set_alloc_funcs(usual, usual_free);
    ck_assert_int_gt(n, 3);
    ck_assert_str_eq(text, want);
    ck_assert_uint_eq(len, sizeof(want) - 1);
    free(text);
    json_decref(value);
}
END_TEST

/* ---- numbers in any country ---------------------------------------------------------- */

static int reals;

double __real_strtod_l(const char *text, char **end, locale_t where);
double __wrap_strtod_l(const char *text, char **end, locale_t where);
double __wrap_strtod_l(const char *text, char **end, locale_t where)
{
    reals++;
    ck_assert_str_eq(nl_langinfo_l(RADIXCHAR, where), ".");
    return __real_strtod_l(text, end, where);
}

/* J3.  Whatever the application's locale, a real is read as the C locale has it. */
START_TEST(reals_have_a_point_in_every_country)
{
    json_t *value;
    reals = 0;
    ck_assert_int_eq(parse("[1.5,-2e3]", &value), 0);
    ck_assert_int_eq(reals, 2);
    ck_assert_double_eq(json_real_value(json_array_get(value, 0)), 1.5);
    ck_assert_double_eq(json_real_value(json_array_get(value, 1)), -2000);
    json_decref(value);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("json");
    TCase *c = tcase_create("parse");
    tcase_add_test(c, parses_an_object);
    tcase_add_test(c, parses_any_value);
    tcase_add_test(c, length_ends_the_text);
    tcase_add_test(c, empty_is_refused);
    tcase_add_test(c, garbage_behind_is_refused);
    tcase_add_test(c, position_names_line_and_column);
    tcase_add_test(c, column_counts_bytes);
    tcase_add_test(c, duplicate_keys_are_refused);
    tcase_add_test(c, text_that_is_not_utf8_is_refused);
    tcase_add_test(c, numbers_out_of_range_are_refused);
    tcase_add_test(c, values_are_what_the_text_says);
    tcase_add_test(c, what_is_not_json_is_refused);
    tcase_add_test(c, depth_64_is_the_last);
    tcase_add_test(c, depth_of_objects_has_a_position);
    tcase_add_test(c, a_hundred_thousand_levels_are_refused);
    tcase_add_test(c, brackets_in_strings_are_not_depth);
    tcase_add_test(c, many_neighbours_are_not_depth);
    suite_add_tcase(s, c);
    c = tcase_create("pack");
    tcase_add_test(c, packs_compact);
    tcase_add_test(c, packs_a_single_value);
    tcase_add_test(c, packs_ascii_only);
    tcase_add_test(c, bad_formats_are_refused);
    tcase_add_test(c, lengths_are_taken_unless_negative);
    tcase_add_test(c, refused_lengths_leak_no_value);
    tcase_add_test(c, deep_values_are_not_written);
    tcase_add_test(c, text_that_finds_no_memory_is_none);
    tcase_add_test(c, reals_have_a_point_in_every_country);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
