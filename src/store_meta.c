/* store_meta.c - reads meta, which a column has as the text of a JSON object.
 *
 * Called by the opener and by the journal's thread.  It must take no memory: that a text is no
 * such object is said once and for all, of a row that is then refused or buried, and jansson says
 * the same of a text for which it found no memory, or leaves a byte of it out.  Whoever can open
 * the file wrote the text, so it may be anything.  What is an object of strings here is one for
 * jansson, and the other way round. */
#include "store_meta.h"

#include <stdbool.h>
#include <string.h>

#include "utf8.h"

struct reader {
    const char *at; /* the next byte of the text, which ends with a NUL */
    char *to;
    size_t len; /* bytes in TO */
    bool full;  /* there were more than it takes */
};

static void put(struct reader *r, unsigned byte)
{
    if (r->len < META_MAX)
        r->to[r->len++] = (char)byte;
    else
        r->full = true;
}

/* C, which is no half of a pair, in UTF-8. */
static void put_character(struct reader *r, unsigned c)
{
    unsigned follow = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xc0, 0xe0, 0xf0};
    put(r, lead[follow] | c >> (6 * follow));
    while (follow-- > 0)
        put(r, 0x80 | (c >> (6 * follow) & 0x3f));
}

static void skip_space(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
        r->at++;
}

/* Steps over BYTE and what space is before it; false: it is not there. */
static bool skip(struct reader *r, char byte)
{
    skip_space(r);
    if (*r->at != byte)
        return false;
    r->at++;
    return true;
}

static bool read_hex(struct reader *r, unsigned *ret)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    *ret = 0;
    for (int i = 0; i < 4; i++) {
        const char *digit = *r->at ? strchr(digits, *r->at) : NULL;
        if (!digit)
            return false;
        *ret = *ret << 4 | (unsigned)((digit - digits) % 16);
        r->at++;
    }
    return true;
}

/* What follows a backslash and a u: one character, or the halves of a pair.  A NUL would end the
 * string that is packed. */
static bool read_unicode(struct reader *r)
{
    unsigned c, low;
    if (!read_hex(r, &c) || c == 0 || (c >= 0xdc00 && c <= 0xdfff))
        return false;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (r->at[0] != '\\' || r->at[1] != 'u')
            return false;
        r->at += 2;
        if (!read_hex(r, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    put_character(r, c);
    return true;
}

/* What follows a backslash. */
static bool read_escape(struct reader *r)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char c = *r->at;
    const char *escape = c ? strchr(escapes, c) : NULL;
    if (c != 'u' && !escape)
        return false;
    r->at++;
    if (c == 'u')
        return read_unicode(r);
    put(r, (unsigned char)meant[escape - escapes]);
    return true;
}

/* Packs a string, and a NUL after it. */
static bool read_string(struct reader *r)
{
    size_t first = r->len;
    if (!skip(r, '"'))
        return false;
    while (*r->at != '"' && !r->full) {
        unsigned char c = (unsigned char)*r->at;
        if (c < ' ')
            return false; /* also the NUL at the end */
        r->at++;
        if (c != '\\')
            put(r, c);
        else if (!read_escape(r))
            return false;
    }
    if (r->full)
        return false;
    r->at++;
    bool valid = bgmqi_utf8_valid(r->to + first, r->len - first);
    put(r, '\0');
    return valid;
}

/* Whether the key that was packed at FIRST is one of those before it. */
static bool is_known(const struct reader *r, size_t first)
{
    const char *key = r->to;
    while (key < r->to + first && strcmp(key, r->to + first) != 0) {
        const char *value = key + strlen(key) + 1;
        key = value + strlen(value) + 1;
    }
    return key < r->to + first;
}

static bool read_pair(struct reader *r)
{
    size_t first = r->len;
    return read_string(r) && !r->full && !is_known(r, first) && skip(r, ':') &&
           read_string(r);
}

static bool read_object(struct reader *r)
{
    if (!skip(r, '{'))
        return false;
    bool more = !skip(r, '}');
    while (more) {
        if (!read_pair(r))
            return false;
        more = skip(r, ',');
        if (!more && !skip(r, '}'))
            return false;
    }
    skip_space(r);
    return *r->at == '\0';
}

int bgmqi_store_meta_read(const char *text, char to[META_MAX], size_t *len)
{
    struct reader r = {.at = text, .to = to};
    bool whole = read_object(&r);
    *len = 0;
    if (r.full)
        return BGMQ_ETOOBIG;
    if (!whole)
        return BGMQ_EJSON;
    *len = r.len;
    return 0;
}
