/* store_meta.h - the meta of a message as they stand in the store: a JSON object of strings. */
#ifndef BGMQI_STORE_META_H
#define BGMQI_STORE_META_H

#include <stdbool.h>
#include <stddef.h>

/* Writes the object that JSON is to TO, key NUL value NUL ..., its length to *RET_LEN; TO has
 * strlen(JSON) bytes.  False: it is no object of strings, or has a key twice. */
bool bgmqi_store_meta_unpack(const char *json, char *to, size_t *ret_len);

#endif
