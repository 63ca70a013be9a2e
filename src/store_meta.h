/* store_meta.h - meta as a column has them: a JSON object of strings. */
#ifndef BGMQI_STORE_META_H
#define BGMQI_STORE_META_H

#include <stddef.h>

#include "message.h"

/* Of a text, bytes: one packed byte may be six ("\u0041"), and some stand between. */
enum { STORE_META_TEXT_MAX = 16 * META_MAX };

/* Packs the object that is TEXT into TO; its length in *LEN.  EJSON: TEXT is no JSON object of
 * strings, or has a key twice; ETOOBIG: it is longer than that, or packed than META_MAX; ENOMEM. */
int bgmqi_store_meta_read(const char *text, char to[META_MAX], size_t *len);
/* Packed META as such a text, to free(), its length in *RET_LEN; NULL: no memory. */
char *bgmqi_store_meta_text(const char *meta, size_t len, size_t *ret_len);

#endif
