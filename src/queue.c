/* queue.c - intrusive list and pairing heap (see queue.h).  Caller locks. */
#include "queue.h"

#include <assert.h>

void bgmqi_queue_clear(struct queue *q)
{
    for (struct message *m; (m = bgmqi_queue_pop(q)) != NULL;)
        bgmqi_message_unref(m);
}

/* ---- heap ------------------------------------------------------------------------------
 * In a heap, CHILD is the first of the messages below, NEXT the next on the same level, PREV
 * the one before it or, for the first, the one above.  CHILD stands in the extra, which
 * every message in a heap has. */

static struct message **child_of(const struct message *m)
{
    struct message_extra *x = message_extra(m);
    assert(x);
    return &x->child;
}

/* Puts the greater of two tops below the lesser.  Either may be NULL. */
static struct message *meld(const struct heap *h, struct message *a, struct message *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (h->less(b, a)) {
        struct message *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = *child_of(a);
    if (b->next)
        b->next->prev = b;
    *child_of(a) = b;
    return a;
}

/* Melds a row of siblings in pairs, then the pairs from the last to the first. */
static struct message *meld_row(const struct heap *h, struct message *row)
{
    struct message *pairs = NULL;
    while (row) {
        struct message *a = row, *b = row->next;
        row = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(h, a, b);
        a->next = pairs;
        pairs = a;
    }
    struct message *top = NULL;
    while (pairs) {
        struct message *a = pairs;
        pairs = a->next;
        a->next = NULL;
        top = meld(h, top, a);
    }
    return top;
}

void bgmqi_heap_push(struct heap *h, struct message *m)
{
    assert(!m->next && !m->prev && !*child_of(m));
    h->top = meld(h, h->top, m);
    h->len++;
}

struct message *bgmqi_heap_pop(struct heap *h)
{
    struct message *m = h->top;
    if (!m)
        return NULL;
    h->top = meld_row(h, *child_of(m));
    *child_of(m) = NULL;
    h->len--;
    return m;
}

void bgmqi_heap_remove(struct heap *h, struct message *m)
{
    if (m == h->top) {
        bgmqi_heap_pop(h);
        return;
    }
    assert(m->prev && h->len > 0);
    if (*child_of(m->prev) == m)
        *child_of(m->prev) = m->next;
    else
        m->prev->next = m->next;
    if (m->next)
        m->next->prev = m->prev;
    struct message *below = meld_row(h, *child_of(m));
    m->next = m->prev = *child_of(m) = NULL;
    h->top = meld(h, h->top, below);
    h->len--;
}

void bgmqi_heap_clear(struct heap *h)
{
    for (struct message *m; (m = bgmqi_heap_pop(h)) != NULL;)
        bgmqi_message_unref(m);
}

struct message *bgmqi_heap_walk(const struct heap *h, const struct message *m)
{
    if (!m)
        return h->top;
    struct message *below = *child_of(m);
    if (below)
        return below;
    while (!m->next) {
        while (m->prev && *child_of(m->prev) != m)
            m = m->prev; /* to the first of its row */
        m = m->prev;     /* to the one above */
        if (!m)
            return NULL;
    }
    return m->next;
}
