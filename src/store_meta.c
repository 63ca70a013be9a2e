/* store_meta.c - reads the JSON of meta (see store_meta.h).
 *
 * Pure, any thread; it must never need memory.  jansson 2.14 does: what finds none it calls a
 * mistake of the text, or it leaves out a byte, so that a sound row would be taken for a corrupt
 * one or get other meta.  What is accepted here is what jansson accepts, without numbers, arrays
 * and objects inside. */
#include "store_meta.h"

#include <stdint.h>
#include <string.h>

#include "utf8.h"

/* No message has more (bgmq.h), so that nobody misses a key that stands twice beyond. */
enum { COMPARED = 4096 };

static void skip_space(const char **at)
{
    *at += strspn(*at, " \t\n\r");
}

/* Steps over C, which is not NUL, if it comes next. */
static bool take(const char **at, char c)
{
    skip_space(at);
    bool is = **at == c;
    *at += is;
    return is;
}

/* ---- strings ----------------------------------------------------------------------- */

/* The number in four hexadecimal digits; NUL when there are not four. */
static uint32_t read_unit(const char **at)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++, ++*at) {
        const char *digit = **at ? strchr(digits, **at) : NULL;
        if (!digit)
            return 0;
        unit = unit << 4 | ((uint32_t)(digit - digits) & 15);
    }
    return unit;
}

/* The character behind "\u"; NUL when there is none. */
static uint32_t read_code(const char **at)
{
    uint32_t high = read_unit(at);
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || (*at)[0] != '\\' || (*at)[1] != 'u')
        return 0;
    *at += 2;
    uint32_t low = read_unit(at);
    return low < 0xdc00 || low > 0xdfff
               ? 0
               : 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static char *put_code(char *to, uint32_t code)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    int n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = n; i-- > 1; code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)(lead[n == 1 ? 0 : n] | code);
    return to + n;
}

/* What stands behind a backslash. */
static bool read_escape(const char **at, char **to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = *(*at)++;
    const char *name = c ? strchr(names, c) : NULL;
    uint32_t code = name ? (uint32_t)values[name - names] : c == 'u' ? read_code(at) : 0;
    if (code)
        *to = put_code(*to, code);
    return code != 0;
}

/* A string, to *TO with its NUL. */
static bool read_string(const char **at, char **to)
{
    if (!take(at, '"'))
        return false;
    while (**at != '"') {
        char c = *(*at)++;
        if (c == '\\') {
            if (!read_escape(at, to))
                return false;
        } else if ((unsigned char)c < 0x20) { /* the end, too */
            return false;
        } else {
            *(*to)++ = c;
        }
    }
    ++*at;
    *(*to)++ = '\0';
    return true;
}

/* ---- the object -------------------------------------------------------------------- */

static bool has_key(const char *packed, const char *end, const char *key)
{
    if (end - packed > COMPARED)
        return false;
    while (packed < end) {
        if (strcmp(packed, key) == 0)
            return true;
        packed += strlen(packed) + 1; /* its value */
        packed += strlen(packed) + 1;
    }
    return false;
}

bool bgmqi_store_meta_unpack(const char *json, char *to, size_t *ret_len)
{
    const char *at = json;
    char *end = to;
    if (!bgmqi_utf8_valid(json, strlen(json)) || !take(&at, '{'))
        return false;
    for (bool more = !take(&at, '}'); more;) {
        const char *key = end;
        if (!read_string(&at, &end) || has_key(to, key, key) || !take(&at, ':') ||
            !read_string(&at, &end))
            return false;
        more = take(&at, ',');
        if (!more && !take(&at, '}'))
            return false;
    }
    skip_space(&at);
    *ret_len = (size_t)(end - to);
    return *at == '\0';
}
