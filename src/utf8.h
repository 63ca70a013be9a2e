/* utf8.h - is it UTF-8, and where may it be cut.  Pure. */
#ifndef BGMQI_UTF8_H
#define BGMQI_UTF8_H

#include <stddef.h>

/* Length of the character at S, 0 when there is none within LEN bytes, at least one. */
size_t bgmqi_utf8_char(const char *s, size_t len);

/* 1 when the LEN bytes at S are UTF-8: shortest forms, no surrogates, at most U+10FFFF.
 * NUL bytes are allowed. */
int bgmqi_utf8_valid(const char *s, size_t len);

/* Length of the longest prefix of S of at most MAX bytes that cuts no character in two. A
 * byte that belongs to no character counts as one. */
size_t bgmqi_utf8_cut(const char *s, size_t len, size_t max);

/* Makes UTF-8 of the LEN bytes at S: each that belongs to no character becomes a '?'. */
void bgmqi_utf8_mend(char *s, size_t len);

#endif
