/* oracle_table.c - a hash table of entries, for the oracle; one thread, no removal. */
#include "oracle_impl.h"

#include <stdlib.h>
#include <string.h>

uint64_t table_hash(const char *text)
{
    uint64_t h = 1469598103934665603u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

/* The node of NUMBER and KEY (NULL: whatever it is), or the free one where it would be. */
static struct node *seek(const struct table *t, uint64_t number, const char *key)
{
    size_t at = (size_t)((number * 11400714819323198485u) >> 20);
    for (;; at++) {
        struct node *n = &t->nodes[at & (t->cap - 1)];
        if (!n->e || (n->number == number && (!key || !strcmp(n->e->key, key))))
            return n;
    }
}

struct entry *table_find(const struct table *t, uint64_t number, const char *key)
{
    return t->cap ? seek(t, number, key)->e : NULL;
}

static void grow(struct table *t)
{
    struct table old = *t;
    t->cap = old.cap ? 2 * old.cap : 1024;
    t->nodes = calloc(t->cap, sizeof(*t->nodes));
    if (!t->nodes)
        abort();
    for (size_t i = 0; i < old.cap; i++)
        if (old.nodes[i].e)
            *seek(t, old.nodes[i].number, old.nodes[i].e->key) = old.nodes[i];
    free(old.nodes);
}

void table_put(struct table *t, uint64_t number, struct entry *e)
{
    if (2 * (t->len + 1) > t->cap)
        grow(t);
    struct node *n = seek(t, number, e->key);
    t->len += n->e == NULL;
    *n = (struct node){.number = number, .e = e};
}
