/* type_keys.c - unique keys of messages without a row.  Under the type's lock; with a database it
 * is the store that decides (store_keys.c), by the same rules. */
#include <stdlib.h>

#include "type_impl.h"

/* Who has a key. */
struct key {
    uint64_t id;
    int64_t until_ms; /* 0: until it is given up */
};

struct key *bgmqi_type_key_new(void)
{
    return calloc(1, sizeof(struct key));
}

/* True when another has K, which may be NULL, and A may not take it over. */
static bool is_held(const struct key *k, const struct admission *a)
{
    return k && !(k->until_ms && k->until_ms <= a->m->created_ms) &&
           !(a->replaces && a->replaces->id == k->id);
}

int bgmqi_type_take_key(struct type *t, struct admission *a)
{
    const struct message *m = a->m;
    const struct message_ext *x = message_ext(m);
    const char *text = x ? x->unique_key : NULL;
    if (!text)
        return 0;
    struct key *k = bgmqi_map_get(&t->keys, text);
    if (is_held(k,
                a)) { /* by one that has ended well, perhaps, on the desk of a worker */
        bgmqi_type_collect(t);
        k = bgmqi_map_get(&t->keys, text);
    }
    if (is_held(k, a)) {
        a->duplicate = true;
        a->id = k->id;
        return 0;
    }
    if (!k) {
        int err = bgmqi_map_put(&t->keys, text, a->key);
        if (err)
            return err;
        k = a->key;
        a->key = NULL;
    }
    *k = (struct key){.id = m->id, .until_ms = x->unique_until_ms};
    if (k->until_ms && k->until_ms < t->key_expiry) {
        t->key_expiry = k->until_ms;
        t->due_hint = k->until_ms < t->due_hint ? k->until_ms : t->due_hint;
    }
    return 0;
}

void bgmqi_type_forget_key(struct type *t, const struct message *m)
{
    const char *text = message_unique_key(m);
    struct key *k = text ? bgmqi_map_get(&t->keys, text) : NULL;
    if (!k || k->id != m->id)
        return;
    bgmqi_map_remove(&t->keys, text);
    free(k);
}

void bgmqi_type_drop_key(struct type *t, const struct message *m)
{
    const struct message_ext *x = message_ext(m);
    if (x && x->unique_until_ms == 0) /* else it is held for its period */
        bgmqi_type_forget_key(t, m);
}

struct sweep_keys {
    struct type *type;
    int64_t now_ms, next_ms;
};

static int sweep_key(void *ctx, const char *text, void *value)
{
    struct sweep_keys *s = ctx;
    struct key *k = value;
    if (k->until_ms && k->until_ms <= s->now_ms) {
        bgmqi_map_remove(&s->type->keys, text);
        free(k);
    } else if (k->until_ms && k->until_ms < s->next_ms) {
        s->next_ms = k->until_ms;
    }
    return 0;
}

void bgmqi_type_sweep_keys(struct type *t, int64_t now_ms)
{
    enum { STEP_MS = 1000 };
    if (t->key_expiry > now_ms)
        return;
    struct sweep_keys s = {.type = t, .now_ms = now_ms, .next_ms = INT64_MAX};
    bgmqi_map_each(&t->keys, sweep_key, &s);
    /* Nobody waits for it: what is over is seen to be over when the key is asked for. */
    t->key_expiry = s.next_ms < now_ms + STEP_MS ? now_ms + STEP_MS : s.next_ms;
}

static int free_key(void *ctx, const char *text, void *value)
{
    (void)ctx;
    (void)text;
    free(value);
    return 0;
}

void bgmqi_type_free_keys(struct type *t)
{
    bgmqi_map_each(&t->keys, free_key, NULL);
    bgmqi_map_fini(&t->keys);
}
