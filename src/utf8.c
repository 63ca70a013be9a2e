/* utf8.c - UTF-8 by the table of well-formed byte sequences (Unicode 15, table 3-7).
 *
 * Called wherever text comes in or is cut, by any thread.  Pure. */
#include "utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static size_t char_len(const unsigned char *s, size_t len)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > len)
        return 0;
    /* The second byte is where long forms, surrogates and numbers too high are told. */
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

size_t bgmqi_utf8_char(const char *s, size_t len)
{
    return char_len((const unsigned char *)s, len);
}

int bgmqi_utf8_valid(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    while (len > 0) {
        size_t n = char_len(p, len);
        if (n == 0)
            return 0;
        p += n;
        len -= n;
    }
    return 1;
}

size_t bgmqi_utf8_cut(const char *s, size_t len, size_t max)
{
    if (len <= max)
        return len;
    const unsigned char *p = (const unsigned char *)s;
    size_t pos = 0;
    while (pos < max) {
        size_t n = char_len(p + pos, len - pos);
        if (n > max - pos)
            break;
        pos += n > 0 ? n : 1;
    }
    return pos;
}

/* Most text is, and is looked at by eights. */
static bool is_ascii(const char *s, size_t len)
{
    uint64_t all = 0, word;
    if (len < sizeof(word)) {
        for (size_t i = 0; i < len; i++)
            all |= (unsigned char)s[i];
        return all < 0x80;
    }
    for (size_t pos = 0; pos + sizeof(word) <= len; pos += sizeof(word)) {
        memcpy(&word, s + pos, sizeof(word));
        all |= word;
    }
    memcpy(&word, s + len - sizeof(word), sizeof(word));
    return ((all | word) & UINT64_C(0x8080808080808080)) == 0;
}

void bgmqi_utf8_mend(char *s, size_t len)
{
    if (is_ascii(s, len))
        return;
    for (size_t pos = 0; pos < len;) {
        size_t n = bgmqi_utf8_char(s + pos, len - pos);
        if (n == 0)
            s[pos] = '?';
        pos += n > 0 ? n : 1;
    }
}
