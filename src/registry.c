/* registry.c - the names of a service (see registry.h).  Any thread.
 *
 * Types are never removed while the service lives, so a type that was found needs no
 * reference.  The list of types only grows, which lets a walk go without the lock.
 *
 * Each thread remembers the last type it found: who publishes the same type again needs neither
 * the lock nor a hash.  What a thread remembers is never wrong, as a type is never removed and no
 * two registries have one generation. */
#include "registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lock.h"
#include "map.h"

enum { TYPE_NAME_MAX = 200, QUEUE_NAME_MAX = 255 };

struct node {
    struct type *type;
    _Atomic(struct node *) next;       /* of all types, in the order they came */
    _Atomic(struct node *) registered; /* in the order of registration */
    _Atomic uint32_t
        order; /* from 1 on, in that order; 0: not registered, or about to be */
};

struct registry {
    /* set once, then read only */
    struct type_env *env;
    struct type_config defaults;
    uint64_t generation; /* no other registry of this process has it; not 0 */

    struct node all, ordered; /* heads of the two lists; appended under lock */

    struct lock lock;
    /* protected by lock */
    struct map types;   /* name -> node */
    struct map customs; /* name -> custom */
    struct node *last, *last_ordered;
    uint32_t last_number;
};

static THREAD_LOCAL struct {
    uint64_t generation; /* of the registry; 0: none */
    struct type *type;
    char name[64];
} last_found;

struct registry *bgmqi_registry_new(struct type_env *env,
                                    const struct type_config *defaults)
{
    struct registry *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    static _Atomic uint64_t generations;
    r->generation = atomic_fetch_add(&generations, 1) + 1;
    r->env = env;
    r->defaults = *defaults;
    r->last = &r->all;
    r->last_ordered = &r->ordered;
    lock_init(&r->lock, RANK_REGISTRY);
    bgmqi_map_init(&r->types);
    bgmqi_map_init(&r->customs);
    return r;
}

static int unref_custom(void *ctx, const char *key, void *value)
{
    (void)ctx;
    (void)key;
    bgmqi_custom_unref(value);
    return 0;
}

void bgmqi_registry_free(struct registry *r)
{
    if (!r)
        return;
    bgmqi_map_each(&r->customs, unref_custom, NULL);
    bgmqi_map_fini(&r->customs);
    bgmqi_map_fini(&r->types);
    for (struct node *n = atomic_load(&r->all.next), *next; n; n = next) {
        next = atomic_load(&n->next);
        bgmqi_type_free(n->type);
        free(n);
    }
    lock_fini(&r->lock);
    free(r);
}

/* ---- types ------------------------------------------------------------------------- */

/* Whatever the locale. */
static bool is_name_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '.' || c == '-';
}

int bgmqi_registry_valid(const char *name)
{
    size_t len = 0;
    while (name && len <= TYPE_NAME_MAX && is_name_letter(name[len]))
        len++;
    return len >= 1 && len <= TYPE_NAME_MAX && !name[len];
}

int bgmqi_registry_names(const char *name)
{
    size_t len = name ? strnlen(name, TYPE_NAME_MAX + 1) : 0;
    const char *at = len <= TYPE_NAME_MAX && len ? strchr(name, '@') : NULL;
    char type[TYPE_NAME_MAX + 1];
    if (!at)
        return bgmqi_registry_valid(name);
    memcpy(type, name, (size_t)(at - name));
    type[at - name] = '\0';
    return bgmqi_registry_valid(type) && bgmqi_registry_valid(at + 1);
}

struct type *bgmqi_registry_find(struct registry *r, const char *name)
{
    if (last_found.generation == r->generation && !strcmp(last_found.name, name))
        return last_found.type;
    lock_take(&r->lock);
    struct node *n = bgmqi_map_get(&r->types, name);
    lock_drop(&r->lock);
    size_t len = n ? strlen(name) : sizeof(last_found.name);
    if (len < sizeof(last_found.name)) {
        last_found.generation = r->generation;
        last_found.type = n->type;
        memcpy(last_found.name, name, len + 1);
    }
    return n ? n->type : NULL;
}

/* REQUIRES(r->lock).  ENTRY, when there is a journal, tells it the number. */
static int add_locked(struct registry *r, const char *name, uint32_t number,
                      struct journal_entry *entry, struct type **ret)
{
    struct node *n = calloc(1, sizeof(*n));
    if (!n)
        return BGMQ_ENOMEM;
    n->type = bgmqi_type_new(name, number, r->env, &r->defaults);
    if (!n->type || bgmqi_map_put(&r->types, name, n) != 0) {
        bgmqi_type_free(n->type);
        free(n);
        return BGMQ_ENOMEM;
    }
    if (number > r->last_number)
        r->last_number = number;
    if (entry) {
        entry->op.kind = STORE_TYPE;
        entry->op.level = BGMQ_BEHIND;
        entry->op.type = number;
        bgmqi_journal_add(r->env->journal, entry, entry);
    }
    atomic_store(&r->last->next, n);
    r->last = n;
    *ret = n->type;
    return 0;
}

/* The type of the valid NAME, made when it is not there. */
static int find_or_make(struct registry *r, const char *name, struct type **ret)
{
    struct type *t = bgmqi_registry_find(r, name);
    if (t) {
        *ret = t;
        return 0;
    }
    struct journal_entry *entry = NULL;
    if (r->env->journal) {
        entry = bgmqi_journal_entry_new();
        if (!entry || !(entry->op.text = strdup(name))) {
            bgmqi_journal_entry_free(entry);
            return BGMQ_ENOMEM;
        }
    }
    int err = 0;
    lock_take(&r->lock);
    struct node *n = bgmqi_map_get(&r->types, name);
    bool added = !n;
    if (n)
        *ret = n->type;
    else
        err = add_locked(r, name, r->last_number + 1, entry, ret);
    lock_drop(&r->lock);
    if (!added || err)
        bgmqi_journal_entry_free(entry);
    /* Who closes marks that first and then walks the list: one of the two sees the other. */
    if (added && !err && atomic_load(&r->env->closed))
        bgmqi_type_end_getters(*ret);
    return err;
}

int bgmqi_registry_type(struct registry *r, const char *name, struct type **ret)
{
    /* What is in the map is valid: looking is cheaper than checking every letter. */
    struct type *t = name ? bgmqi_registry_find(r, name) : NULL;
    if (t ? bgmqi_type_channel(t) != NULL : !bgmqi_registry_valid(name))
        return BGMQ_EINVAL;
    if (!t)
        return find_or_make(r, name, ret);
    *ret = t;
    return 0;
}

int bgmqi_registry_channel(struct registry *r, const char *type, const char *channel,
                           bool exact, struct type **ret)
{
    char name[TYPE_NAME_MAX + 1];
    if (!channel)
        return bgmqi_registry_type(r, type, ret);
    if (!bgmqi_registry_valid(type) || !bgmqi_registry_valid(channel))
        return BGMQ_EINVAL;
    int len = snprintf(name, sizeof(name), "%s@%s", type, channel);
    if (len < 0 || (size_t)len >= sizeof(name))
        return BGMQ_EINVAL;
    struct type *t = bgmqi_registry_find(r, name);
    if (!exact && (!t || !bgmqi_type_registered(t))) {
        struct type *any = bgmqi_registry_find(r, type);
        if (any && bgmqi_type_registered(any) && bgmqi_type_config(any)->any_channel)
            t = any;
    }
    if (!t)
        return find_or_make(r, name, ret);
    *ret = t;
    return 0;
}

int bgmqi_registry_restore(struct registry *r, uint32_t number, const char *name,
                           const uint64_t counts[LANES])
{
    struct type *t;
    lock_take(&r->lock);
    int err = add_locked(r, name, number, NULL, &t);
    lock_drop(&r->lock);
    if (!err)
        bgmqi_type_restore(t, counts);
    return err;
}

void bgmqi_registry_ordered(struct registry *r, struct type *t)
{
    lock_take(&r->lock);
    struct node *n = bgmqi_map_get(&r->types, bgmqi_type_name(t));
    atomic_store(&n->order, atomic_load(&r->last_ordered->order) + 1);
    atomic_store(&r->last_ordered->registered, n);
    r->last_ordered = n;
    lock_drop(&r->lock);
}

int bgmqi_registry_each(struct registry *r, bool registered_only,
                        int (*fn)(void *ctx, struct type *t), void *ctx)
{
    int result = 0;
    uint32_t seen = 0;
    for (struct node *n = atomic_load(&r->ordered.registered); n && !result;
         n = atomic_load(&n->registered)) {
        seen = atomic_load(&n->order);
        if (!registered_only || bgmqi_type_registered(n->type))
            result = fn(ctx, n->type);
    }
    if (registered_only)
        return result;
    /* By its place in that list, and not by what the type says: one that is registered meanwhile is
     * told so before it gets there. */
    for (struct node *n = atomic_load(&r->all.next); n && !result;
         n = atomic_load(&n->next)) {
        uint32_t order = atomic_load(&n->order);
        if (order == 0 || order > seen)
            result = fn(ctx, n->type);
    }
    return result;
}

/* ---- queues by name ---------------------------------------------------------------- */

static const struct {
    const char *suffix;
    enum place place;
} suffixes[] = {
    {".inq", PLACE_INQ},
    {".priorityq", PLACE_PRIORITYQ},
    {".outq", PLACE_OUTQ},
    {".dlq", PLACE_DLQ},
};

/* True when QUEUE is mq:{type}.{queue}; TYPE gets the name. */
static bool split(const char *queue, char type[TYPE_NAME_MAX + 1], enum place *place)
{
    if (strncmp(queue, "mq:", 3) != 0)
        return false;
    const char *name = queue + 3, *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        size_t len = (size_t)(dot - name);
        if (strcmp(dot, suffixes[i].suffix) != 0 || len == 0 || len > TYPE_NAME_MAX)
            continue;
        memcpy(type, name, len);
        type[len] = '\0';
        *place = suffixes[i].place;
        return bgmqi_registry_names(type);
    }
    return false;
}

static bool valid_queue(const char *queue)
{
    size_t len = queue ? strnlen(queue, QUEUE_NAME_MAX + 1) : 0;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)queue[i] < 0x20 || queue[i] == 0x7f)
            return false;
    return len >= 1 && len <= QUEUE_NAME_MAX;
}

static int custom_get(struct registry *r, const char *name, bool make,
                      struct custom **ret)
{
    int err = 0;
    lock_take(&r->lock);
    struct custom *q = bgmqi_map_get(&r->customs, name);
    if (!q && !make) {
        err = BGMQ_ENOENT;
    } else if (!q) {
        q = bgmqi_custom_new(name, r->env->budget);
        if (!q || bgmqi_map_put(&r->customs, name, q) != 0) {
            bgmqi_custom_unref(q);
            err = BGMQ_ENOMEM;
        } else if (atomic_load(&r->env->closed)) {
            bgmqi_custom_end(q, BGMQ_ECLOSED);
        }
    }
    if (!err && ret)
        *ret = bgmqi_custom_ref(q);
    lock_drop(&r->lock);
    return err;
}

static int resolve(struct registry *r, const char *queue, bool make, struct address *ret)
{
    char type[TYPE_NAME_MAX + 1];
    struct address a = {.place = PLACE_NONE};
    int err;
    if (!valid_queue(queue))
        return BGMQ_EINVAL;
    bool plain = !split(queue, type, &a.place);
    if (plain && strncmp(queue, "mq:", 3) == 0 && strncmp(queue, "mq:tmp:", 7) != 0)
        err = BGMQ_EINVAL; /* a type's queue, misspelt */
    else if (plain)
        err = custom_get(r, queue, make && strncmp(queue, "mq:tmp:", 7) != 0, &a.custom);
    else if (make)
        err = find_or_make(r, type, &a.type);
    else
        err = (a.type = bgmqi_registry_find(r, type)) ? 0 : BGMQ_ENOENT;
    if (!err)
        *ret = a;
    return err;
}

int bgmqi_registry_resolve(struct registry *r, const char *queue, struct address *ret)
{
    return resolve(r, queue, true, ret);
}

int bgmqi_registry_lookup(struct registry *r, const char *queue, struct address *ret)
{
    return resolve(r, queue, false, ret);
}

int bgmqi_registry_temp(struct registry *r, const char *name)
{
    return custom_get(r, name, true, NULL);
}

struct custom *bgmqi_registry_drop(struct registry *r, const char *queue)
{
    if (!queue)
        return NULL;
    lock_take(&r->lock);
    struct custom *q = bgmqi_map_remove(&r->customs, queue);
    lock_drop(&r->lock);
    return q;
}

static int end_custom(void *ctx, const char *key, void *value)
{
    (void)ctx;
    (void)key;
    bgmqi_custom_end(value, BGMQ_ECLOSED);
    return 0;
}

void bgmqi_registry_end_customs(struct registry *r)
{
    lock_take(&r->lock);
    bgmqi_map_each(&r->customs, end_custom, NULL);
    lock_drop(&r->lock);
}
