/* fuzz_json.c - hostile bytes for the JSON helper: parsed or refused with a position, and what is
 * parsed comes out again as ASCII that parses to the same. */
#include "json.h"
#include "target.h"

#include <stdlib.h>
#include <string.h>

static int pack(char **ret, size_t *ret_len, struct bgmq_error *error, const char *format,
                ...)
{
    va_list args;
    va_start(args, format);
    int r = bgmqi_json_pack(ret, ret_len, error, format, args);
    va_end(args);
    return r;
}

static void check_ascii(const char *text, size_t len)
{
    CHECK(strlen(text) == len);
    for (size_t i = 0; i < len; i++)
        CHECK(text[i] >= 0x20); /* jansson lets DEL stand, as JSON does */
}

/* What is let in is what jansson would let in, but for its depth, and for a NUL behind a number,
 * over which jansson steps. */
static void same_as_jansson(const void *data, size_t size, json_t *value,
                            const struct bgmq_error *error)
{
    json_error_t why;
    json_t *theirs =
        json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (value)
        CHECK(theirs && json_equal(theirs, value));
    else
        CHECK(!theirs || strstr(error->text, "nested more than") ||
              memchr(data, 0, size));
    json_decref(theirs);
}

/* A value that was let in is one that may be written. */
static void round_trip(json_t *value)
{
    struct bgmq_error error = {.text = ""};
    char *text;
    size_t len;
    json_t *again;
    CHECK(pack(&text, &len, &error, "O", value) == 0);
    check_ascii(text, len);
    CHECK(bgmqi_json_parse(text, len, &again, &error) == 0);
    CHECK(json_equal(value, again));
    json_decref(again);
    free(text);
}

/* The bytes as a string of a body, as it is packed by publishers. */
static void as_string(const char *data, size_t size)
{
    struct bgmq_error error = {.text = ""};
    char *copy = strndup(data, size), *text;
    size_t len;
    CHECK(copy);
    if (pack(&text, &len, &error, "{s:s, s:i}", "s", copy, "n", 1) == 0) {
        check_ascii(text, len);
        free(text);
    } else {
        CHECK(error.text[0]);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bgmq_error error = {.text = ""};
    json_t *value = NULL;
    size_t line, column;
    int r = bgmqi_json_parse(data, size, &value, &error);
    same_as_jansson(data, size, value, &error);
    if (r == 0) {
        round_trip(value);
        json_decref(value);
    } else {
        CHECK(r == BGMQ_EJSON);
        CHECK(sscanf(error.text, "line %zu column %zu:", &line, &column) == 2);
        CHECK(line >= 1 && column >= 1 && column <= size + 1);
        CHECK(!strchr(error.text, '\n'));
    }
    as_string((const char *)data, size);
    return 0;
}
