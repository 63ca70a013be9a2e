/* map.c - a chained hash map from text to pointer.
 *
 * Called by whoever owns the map, under that owner's lock; no thread of its own.  Keys
 * come from outside (names of types, queues, unique keys), so the hash is SipHash-1-3
 * under a secret seed: nobody can choose names that all fall into one bucket.  The table
 * grows and never shrinks, and never moves during a walk. */
#include "map.h"

#include <assert.h>
#include <bgmq.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { FIRST_CAP = 16 };

struct map_node {
    struct map_node *next;
    uint64_t hash;
    void *value;
    char key[];
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

/* Four words in registers: every publish hashes a name. */
struct sip {
    uint64_t a, b, c, d;
};

static inline struct sip sip_round(struct sip s)
{
    s.a += s.b;
    s.c += s.d;
    s.b = rotate(s.b, 13) ^ s.a;
    s.d = rotate(s.d, 16) ^ s.c;
    s.a = rotate(s.a, 32);
    s.c += s.b;
    s.a += s.d;
    s.b = rotate(s.b, 17) ^ s.c;
    s.d = rotate(s.d, 21) ^ s.a;
    s.c = rotate(s.c, 32);
    return s;
}

static inline struct sip sip_word(struct sip s, uint64_t word)
{
    s.d ^= word;
    s = sip_round(s);
    s.a ^= word;
    return s;
}

static uint64_t hash_of(const struct map *map, const char *key, size_t len)
{
    struct sip s = {
        .a = map->seed[0] ^ UINT64_C(0x736f6d6570736575),
        .b = map->seed[1] ^ UINT64_C(0x646f72616e646f6d),
        .c = map->seed[0] ^ UINT64_C(0x6c7967656e657261),
        .d = map->seed[1] ^ UINT64_C(0x7465646279746573),
    };
    uint64_t word, last = (uint64_t)len << 56;
    size_t left = len;
    for (; left >= 8; left -= 8, key += 8) {
        memcpy(&word, key, 8);
        s = sip_word(s, word);
    }
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)(unsigned char)key[i] << (8 * i);
    s = sip_word(s, last);
    s.c ^= 0xff;
    s = sip_round(sip_round(sip_round(s)));
    return s.a ^ s.b ^ s.c ^ s.d;
}

void bgmqi_map_init(struct map *map)
{
    *map = (struct map){.buckets = NULL};
    if (getrandom(map->seed, sizeof(map->seed), GRND_NONBLOCK) ==
        (ssize_t)sizeof(map->seed))
        return;
    /* UNTESTED: a kernel without entropy yet.  A weaker seed beats no map. */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    map->seed[0] = (uint64_t)t.tv_nsec * UINT64_C(0x9e3779b97f4a7c15);
    map->seed[1] = (uint64_t)(uintptr_t)map ^ (uint64_t)t.tv_sec;
}

void bgmqi_map_fini(struct map *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        struct map_node *next;
        for (struct map_node *n = map->buckets[i]; n; n = next) {
            next = n->next;
            free(n);
        }
    }
    free(map->buckets);
    map->buckets = NULL;
    map->len = map->cap = 0;
}

/* The link that leads to KEY, or to the NULL where it would hang.  The table must exist.
 */
static struct map_node **find(const struct map *map, const char *key, uint64_t hash)
{
    struct map_node **link = &map->buckets[hash & (map->cap - 1)];
    while (*link && ((*link)->hash != hash || strcmp((*link)->key, key) != 0))
        link = &(*link)->next;
    return link;
}

void *bgmqi_map_get(const struct map *map, const char *key)
{
    if (!map->len)
        return NULL;
    struct map_node *n = *find(map, key, hash_of(map, key, strlen(key)));
    return n ? n->value : NULL;
}

static int grow(struct map *map)
{
    size_t cap = map->cap ? map->cap * 2 : FIRST_CAP;
    struct map_node **buckets = calloc(cap, sizeof(*buckets));
    if (!buckets)
        return BGMQ_ENOMEM;
    for (size_t i = 0; i < map->cap; i++) {
        struct map_node *next;
        for (struct map_node *n = map->buckets[i]; n; n = next) {
            next = n->next;
            n->next = buckets[n->hash & (cap - 1)];
            buckets[n->hash & (cap - 1)] = n;
        }
    }
    free(map->buckets);
    map->buckets = buckets;
    map->cap = cap;
    return 0;
}

int bgmqi_map_put(struct map *map, const char *key, void *value)
{
    assert(value);
    size_t len = strlen(key);
    uint64_t hash = hash_of(map, key, len);
    if (map->len && *find(map, key, hash))
        return BGMQ_EEXIST;
    /* A table that cannot grow still works, only slower; the first one has to be there.
     */
    if (map->len >= map->cap && grow(map) && !map->cap)
        return BGMQ_ENOMEM;
    struct map_node *n = malloc(sizeof(*n) + len + 1);
    if (!n)
        return BGMQ_ENOMEM;
    n->next = map->buckets[hash & (map->cap - 1)];
    n->hash = hash;
    n->value = value;
    memcpy(n->key, key, len + 1);
    map->buckets[hash & (map->cap - 1)] = n;
    map->len++;
    return 0;
}

void *bgmqi_map_remove(struct map *map, const char *key)
{
    if (!map->len)
        return NULL;
    struct map_node **link = find(map, key, hash_of(map, key, strlen(key)));
    struct map_node *n = *link;
    if (!n)
        return NULL;
    *link = n->next;
    map->len--;
    void *value = n->value;
    free(n);
    return value;
}

int bgmqi_map_each(const struct map *map, bgmqi_map_fn *fn, void *ctx)
{
    for (size_t i = 0; i < map->cap; i++) {
        struct map_node *next;
        for (struct map_node *n = map->buckets[i]; n; n = next) {
            next = n->next;
            int ret = fn(ctx, n->key, n->value);
            if (ret)
                return ret;
        }
    }
    return 0;
}
