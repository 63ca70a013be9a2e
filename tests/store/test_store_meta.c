/* test_store_meta.c - the JSON of meta is read as jansson reads it. */
#include "store_meta.h"

#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 8192 };

#define COUNT(list) ((int)(sizeof(list) / sizeof((list)[0])))

/* The same by jansson: what is packed, or -1. */
static long pack(const char *text, char *to)
{
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *value;
    const char *key;
    char *end = to;
    int strings = json_is_object(object);
    json_object_foreach(object, key, value)
    {
        strings &= json_is_string(value);
        end += sprintf(end, "%s", key) + 1;
        end += sprintf(end, "%s", strings ? json_string_value(value) : "") + 1;
    }
    json_decref(object);
    return strings ? end - to : -1;
}

/* TEXT comes in a block that ends with it, so that whoever reads or writes too far is met. */
static long compare(const char *text)
{
    static char packed[LONGEST];
    size_t room = strlen(text), len = 0;
    char *copy = strdup(text), *to = malloc(room ? room : 1);
    long want = pack(text, packed);
    int good = bgmqi_store_meta_unpack(copy, to, &len);
    ck_assert_msg(good == (want >= 0), "%s: %d, and jansson says %ld", text, good, want);
    if (good) {
        ck_assert_uint_le(len, room);
        ck_assert_msg((long)len == want && memcmp(to, packed, len) == 0, "%s", text);
    }
    free(copy);
    free(to);
    return want;
}

static const char *const objects[] = {
    "{}",
    " {\t}\r\n",
    "{\"a\":\"b\"}",
    " { \"a\" : \"b\" , \"c\" : \"\" } ",
    "{\"\":\"no name\"}",
    "{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\":\"x\"}",
    "{\"\\u0001\\u007f\\u0080\\u07ff\\u0800\\uFfFe\":"
    "\"\\ud800\\uDC00\\udbff\\udfff\"}",
    "{\"\xc3\xa4\":\"\xf0\x9f\x98\x80\x7f\"}",
    "{\"b\":\"1\",\"a\":\"2\",\"ab\":\"3\"}",
};

START_TEST(object_of_strings_is_read)
{
    ck_assert_int_ge(compare(objects[_i]), 0);
}
END_TEST

static const char *const others[] = {
    "",
    " ",
    "{",
    "}",
    "[]",
    "\"a\"",
    "{}{}",
    "{},",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1}",
    "{\"a\":null}",
    "{\"a\":{}}",
    "{\"a\":[\"b\"]}",
    "{\"a\":\"b\",}",
    "{,\"a\":\"b\"}",
    "{\"a\":\"b\" \"c\":\"d\"}",
    "{\"a\":\"b\"",
    "{\"a\":\"b",
    "{\"a",
    "{\"a\\",
    "{a:\"b\"}",
    "{'a':'b'}",
    "{\"a\":\"1\",\"a\":\"2\"}",
    "{\"a\":\"1\",\"\\u0061\":\"2\"}",
    "{\"a\":\"\\u0000\"}",
    "{\"a\":\"\\x\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\\u12g4\"}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\ud800\\n\"}",
    "{\"a\":\"\\ud800\\u0041\"}",
    "{\"a\":\"\\udc00\"}",
    "{\"a\":\"\\u",
    "{\"a\":\"\\ud800\\u",
    "{\"a\":\"\n\"}",
    "{\"a\":\"\x1f\"}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\xed\xa0\x80\"}",
    "\xef\xbb\xbf{}",
    "{\"a\":\"b\"} // no",
};

START_TEST(anything_else_is_not)
{
    ck_assert_int_eq(compare(others[_i]), -1);
}
END_TEST

static uint64_t state;

static unsigned draw(unsigned n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33) % n;
}

/* Texts of the pieces that decide, which are right often enough. */
START_TEST(jansson_agrees_on_whatever_is_drawn)
{
    static const char *const strings[] = {
        "\"a\"", "\"b\"", "\"\\u0063\"", "\"\\ud83d\\ude00\"", "\"\\n\"", "\"\""};
    static const char *const odd[] = {"{",    "}",    ":",    ",", "\"",
                                      "\\",   "\\u",  "d800", "1", " ",
                                      "\xc3", "\xa4", "null", "[", "]"};
    long good = 0, rounds = 20000 / (long)harness_scale();
    state = harness_seed(5);
    for (long i = 0; i < rounds; i++) {
        char text[256] = "{";
        unsigned pairs = draw(4);
        for (unsigned p = 0; p < pairs; p++) {
            strcat(text, p ? "," : "");
            strcat(text, strings[draw(6)]);
            strcat(text, draw(20) ? ":" : odd[draw(15)]);
            strcat(text, draw(20) ? strings[draw(6)] : odd[draw(15)]);
        }
        strcat(text, "}");
        if (draw(4) == 0) /* one byte less */
            text[draw((unsigned)strlen(text))] = '\0';
        good += compare(text) >= 0;
    }
    ck_assert_int_gt(good, rounds / 4);
    ck_assert_int_lt(good, rounds / 4 * 3);
}
END_TEST

/* More than a message may have: whoever takes it says so, and here nobody takes long. */
START_TEST(object_that_is_too_long_is_read_all_the_same)
{
    enum { MANY = 100000 };
    size_t size = MANY * 16, len, n = 1;
    char *text = malloc(size), *to = malloc(size);
    strcpy(text, "{");
    for (int i = 0; i < MANY; i++)
        n += (size_t)snprintf(text + n, size - n, "%s\"%d\":\"\"", i ? "," : "", i);
    strcpy(text + n, "}");
    ck_assert(bgmqi_store_meta_unpack(text, to, &len));
    ck_assert_uint_gt(len, 500000);
    free(text);
    free(to);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_meta");
    TCase *c = harness_case(s, "meta");
    tcase_add_loop_test(c, object_of_strings_is_read, 0, COUNT(objects));
    tcase_add_loop_test(c, anything_else_is_not, 0, COUNT(others));
    tcase_add_test(c, jansson_agrees_on_whatever_is_drawn);
    tcase_add_test(c, object_that_is_too_long_is_read_all_the_same);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
