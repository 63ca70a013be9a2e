/* map.h - text to pointer, with keys of its own and a random seed per map.
 *
 * The caller locks.  The map owns copies of its keys, never the values.  The seed makes
 * the order of a walk differ between maps and keeps chosen names from meeting in one
 * bucket. */
#ifndef BGMQI_MAP_H
#define BGMQI_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_node;

struct map {
    struct map_node **buckets; /* NULL until the first put */
    size_t len;                /* keys in it: read it freely */
    size_t cap;                /* buckets, a power of two, or 0 */
    uint64_t seed[2];
};

void bgmqi_map_init(struct map *map);
/* Frees keys and table; the values are the caller's.  A zeroed map is allowed. */
void bgmqi_map_fini(struct map *map);
/* Lends the value of KEY, or NULL. */
void *bgmqi_map_get(const struct map *map, const char *key);
/* Adds KEY, copied, with VALUE, which may not be NULL.  EEXIST: KEY is there.  ENOMEM. */
int bgmqi_map_put(struct map *map, const char *key, void *value);
/* Takes KEY out and returns its value, or NULL when it was not there.  KEY may be the
 * map's own copy. */
void *bgmqi_map_remove(struct map *map, const char *key);

/* KEY is lent for the call.  Nonzero ends the walk. */
typedef int bgmqi_map_fn(void *ctx, const char *key, void *value);
/* Calls FN for each key, in no order, and returns its last value.  FN may remove the key
 * it was called for, and no other; it may not put. */
int bgmqi_map_each(const struct map *map, bgmqi_map_fn *fn, void *ctx);

#endif
