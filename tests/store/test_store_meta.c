/* test_store_meta.c - meta as the text of a JSON object: read as jansson reads it, whatever the
 * text is. */
#include "../harness/harness.h"

#include "store_meta.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What jansson makes of TEXT, packed; EJSON. */
static int by_jansson(const char *text, char *to, size_t *len)
{
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *value;
    const char *key;
    int err = json_is_object(object) ? 0 : BGMQ_EJSON;
    *len = 0;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value)) {
            err = BGMQ_EJSON;
            break;
        }
        const char *parts[] = {key, json_string_value(value)};
        for (int i = 0; i < 2; i++) {
            memcpy(to + *len, parts[i], strlen(parts[i]) + 1);
            *len += strlen(parts[i]) + 1;
        }
    }
    json_decref(object);
    *len = err ? 0 : *len;
    return err;
}

/* True when TEXT is an object of strings. */
static bool compare(const char *text)
{
    char want[4 * META_MAX], got[META_MAX];
    size_t want_len, got_len;
    int wanted = by_jansson(text, want, &want_len);
    int err = bgmqi_store_meta_read(text, got, &got_len);
    ck_assert_msg(err == wanted, "%s: %s and not %s", text, bgmq_errname(err),
                  bgmq_errname(wanted));
    ck_assert_msg(got_len == want_len && memcmp(got, want, got_len) == 0, "%s", text);
    return err == 0;
}

static const char *const good[] = {
    "{}",
    " \t\r\n{ } ",
    "{\"k\":\"v\"}",
    "{\"\":\"\"}",
    " { \"a\" : \"b\" , \"c\":\"d\",\n\"e\":\"\" } \n",
    "{\"q\\\"\\\\\\/\\b\\f\\n\\r\\t\":\"\\u0001\\u007f\\u0080\\u07FF\\u0800\\uffff\"}",
    "{\"pair\":\"\\ud800\\udc00 \\uDBFF\\uDFFF \\ud83d\\ude00\"}",
    "{\"raw\":\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xef\xbf\xbf \x7f\"}",
    "{\"a\":\"x\",\"A\":\"x\",\"aa\":\"a\"}",
};

static const char *const bad[] = {
    "",
    " ",
    "{",
    "}",
    "[]",
    "\"k\"",
    "null",
    "{}x",
    "{}{}",
    "{,}",
    "{\"k\"}",
    "{\"k\":}",
    "{\"k\":1}",
    "{\"k\":null}",
    "{\"k\":{}}",
    "{\"k\":\"v\",}",
    "{\"k\":\"v\" \"l\":\"w\"}",
    "{\"k\" \"v\"}",
    "{k:\"v\"}",
    "{\"k\":\"v\"",
    "{\"k\":\"v",
    "{\"k\":\"v\\",
    "{\"k\":\"v\\\"",
    "{\"k\":\"\\x\"}",
    "{\"k\":\"\\u\"}",
    "{\"k\":\"\\u12\"}",
    "{\"k\":\"\\u12g4\"}",
    "{\"k\":\"\\u0000\"}",
    "{\"\\u0000\":\"v\"}",
    "{\"k\":\"\\ud800\"}",
    "{\"k\":\"\\udc00\"}",
    "{\"k\":\"\\ud800\\ud800\"}",
    "{\"k\":\"\\ud800\\u0041\"}",
    "{\"k\":\"\\ud800\\n\"}",
    "{\"k\":\"\\ud800\\udc0\"}",
    "{\"k\":\"a\nb\"}",
    "{\"k\":\"\x01\"}",
    "{\"k\":\"\x80\"}",
    "{\"k\":\"\xc3\"}",
    "{\"k\":\"\xc0\x80\"}",
    "{\"k\":\"\xe0\x80\x80\"}",
    "{\"k\":\"\xed\xa0\x80\"}",
    "{\"k\":\"\xf4\x90\x80\x80\"}",
    "{\"\xff\":\"v\"}",
    "{\"k\":\"v\",\"k\":\"v\"}",
    "{\"k\":\"v\",\"x\":\"y\",\"\\u006b\":\"v\"}",
    "\xef\xbb\xbf{}",
    "\v{}",
};

START_TEST(object_of_strings_is_packed)
{
    ck_assert(compare(good[_i]));
}
END_TEST

START_TEST(whatever_else_is_none)
{
    ck_assert(!compare(bad[_i]));
}
END_TEST

static uint64_t random_number(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Good ones with some of their bytes changed, left out or there twice. */
START_TEST(spoilt_text_is_what_it_is_for_jansson)
{
    static const char bytes[] = "{}\":,\\/ubfnrt0dD8cC9aAkK \n\x01\x80\xc3\xed\xf0[]1";
    uint64_t seed = harness_seed(7) * 2 + 1;
    long whole = 0, rounds = harness_full() ? 2000000 : 60000 / harness_step();
    for (long i = 0; i < rounds; i++) {
        char text[256];
        size_t n = sizeof(good) / sizeof(good[0]);
        size_t len = strlen(strcpy(text, good[random_number(&seed) % n]));
        for (uint64_t changes = 1 + random_number(&seed) % 3; changes && len; changes--) {
            size_t at = random_number(&seed) % len;
            switch (random_number(&seed) % 3) {
            case 0:
                text[at] = bytes[random_number(&seed) % (sizeof(bytes) - 1)];
                break;
            case 1:
                memmove(text + at, text + at + 1, len-- - at);
                break;
            default:
                memmove(text + at + 1, text + at, ++len - at);
            }
        }
        whole += compare(text);
    }
    ck_assert_int_gt(whole, rounds / 100);
    ck_assert_int_lt(whole, rounds);
}
END_TEST

/* _i bytes more than there may be. */
START_TEST(longer_than_4_kib_is_too_long)
{
    char text[3 * META_MAX], to[META_MAX];
    size_t len,
        value = META_MAX - 3 + (size_t)_i; /* besides a key of one byte, two NULs */
    snprintf(text, sizeof(text), "{\"k\":\"%0*d\"}", (int)value, 0);
    ck_assert_int_eq(bgmqi_store_meta_read(text, to, &len), _i ? BGMQ_ETOOBIG : 0);
    ck_assert_uint_eq(len, _i ? 0 : META_MAX);
    /* By its second pair. */
    snprintf(text, sizeof(text), "{\"k\":\"%0*d\",\"\":\"%s\"}", (int)value - 3, 0,
             _i > 2 ? "\\u00e4" : "a");
    int err = bgmqi_store_meta_read(text, to, &len);
    ck_assert_int_eq(err, _i ? BGMQ_ETOOBIG : 0);
}
END_TEST

/* ... and what is far too long asks for no memory at all: no row waits for that. */
START_TEST(text_without_end_is_not_parsed)
{
    char *text = malloc(STORE_META_TEXT_MAX + 2), to[META_MAX];
    size_t len = 1;
    ck_assert_ptr_nonnull(text);
    memset(text, ' ', STORE_META_TEXT_MAX + 1);
    memcpy(text + STORE_META_TEXT_MAX - 2, "{}", 3);
    ck_assert_int_eq(bgmqi_store_meta_read(text, to, &len), 0);
    memcpy(text + STORE_META_TEXT_MAX - 1, "{}", 3);
    ck_assert_int_eq(bgmqi_store_meta_read(text, to, &len), BGMQ_ETOOBIG);
    ck_assert_uint_eq(len, 0);
    free(text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_meta");
    TCase *c = harness_case(s, "meta");
    tcase_add_loop_test(c, object_of_strings_is_packed, 0,
                        (int)(sizeof(good) / sizeof(good[0])));
    tcase_add_loop_test(c, whatever_else_is_none, 0, (int)(sizeof(bad) / sizeof(bad[0])));
    tcase_add_test(c, spoilt_text_is_what_it_is_for_jansson);
    tcase_add_loop_test(c, longer_than_4_kib_is_too_long, 0, 4);
    tcase_add_test(c, text_without_end_is_not_parsed);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
