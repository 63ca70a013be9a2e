/* json.h - JSON in and out by jansson, with limits and positions of our own. */
#ifndef BGMQI_JSON_H
#define BGMQI_JSON_H

#include <bgmq.h>
#include <jansson.h>
#include <stdarg.h>

enum { JSON_DEPTH_MAX = 64 }; /* arrays and objects within each other */

/* Parses LEN bytes, any JSON value, into *RET, which the caller gives back by
 * json_decref. EJSON: "line L column C: reason" in ERROR, which may be NULL; columns
 * count bytes from 1. ENOMEM, and never EJSON, when only memory was lacking. (json_parse.c) */
int bgmqi_json_parse(const void *text, size_t len, json_t **ret,
                     struct bgmq_error *error);

/* VALUE as one compact line, a NUL after it, to free(); its length in *RET_LEN, which may be NULL.
 * FLAGS: JSON_ENSURE_ASCII or 0.  NULL: no memory, or VALUE is NULL or contains itself. */
char *bgmqi_json_text(const json_t *value, size_t flags, size_t *ret_len);

/* Packs by FORMAT and writes one compact line, a NUL after it, to *RET_TEXT: free() it.
 * EJSON: FORMAT does not fit its arguments, or a string is not UTF-8.  ENOMEM; but a
 * value that FORMAT may leave out (*) is left out when there is no memory for it (jansson 2.14). */
int bgmqi_json_pack(char **ret_text, size_t *ret_len, struct bgmq_error *error,
                    const char *format, va_list args);

#endif
