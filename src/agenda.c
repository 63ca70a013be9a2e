/* agenda.c - what has to be looked at, by time (see agenda.h).  Any thread; calls nobody.
 *
 * A pairing heap as in queue.c, of fewer words: what is told again only moves up, and nothing is
 * removed but the top. */
#include "agenda.h"

#include <stdatomic.h>
#include <stddef.h>

void bgmqi_agenda_init(struct agenda *a)
{
    lock_init(&a->lock, RANK_AGENDA);
    a->top = NULL;
}

void bgmqi_agenda_fini(struct agenda *a)
{
    lock_fini(&a->lock);
}

void bgmqi_agenda_item_init(struct agenda_item *item, void *owner)
{
    item->owner = owner;
    atomic_init(&item->at, INT64_MAX);
    item->next = item->prev = item->child = item->also = NULL;
}

static int64_t at_of(const struct agenda_item *item)
{
    return atomic_load_explicit(&item->at, memory_order_relaxed);
}

/* Puts the later of two tops below the earlier.  Either may be NULL. */
static struct agenda_item *meld(struct agenda_item *a, struct agenda_item *b)
{
    if (!a || !b)
        return a ? a : b;
    if (at_of(b) < at_of(a)) {
        struct agenda_item *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    a->child = b;
    return a;
}

/* Melds a row of siblings in pairs, then the pairs from the last to the first. */
static struct agenda_item *meld_row(struct agenda_item *row)
{
    struct agenda_item *pairs = NULL, *top = NULL;
    while (row) {
        struct agenda_item *a = row, *b = row->next;
        row = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct agenda_item *a = pairs;
        pairs = a->next;
        a->next = NULL;
        top = meld(top, a);
    }
    return top;
}

/* Takes ITEM, which is not the top, out with all below it. */
static void cut(struct agenda_item *item)
{
    if (item->prev->child == item)
        item->prev->child = item->next;
    else
        item->prev->next = item->next;
    if (item->next)
        item->next->prev = item->prev;
    item->next = item->prev = NULL;
}

bool bgmqi_agenda_tell(struct agenda *a, struct agenda_item *item, int64_t at)
{
    if (atomic_load(&item->at) <= at) /* not relaxed: one teller has no lock (unhold) */
        return false;
    bool first = false;
    lock_take(&a->lock);
    int64_t before = at_of(item);
    if (at < before) {
        first = !a->top || at < at_of(a->top);
        atomic_store_explicit(&item->at, at, memory_order_relaxed);
        if (before != INT64_MAX && item != a->top)
            cut(item);
        if (item != a->top)
            a->top = meld(a->top, item);
    }
    lock_drop(&a->lock);
    return first;
}

struct agenda_item *bgmqi_agenda_take(struct agenda *a, int64_t now)
{
    struct agenda_item *taken = NULL, **last = &taken;
    lock_take(&a->lock);
    while (a->top && at_of(a->top) <= now) {
        struct agenda_item *item = a->top;
        a->top = meld_row(item->child);
        item->child = item->also = NULL;
        atomic_store(&item->at, INT64_MAX);
        *last = item;
        last = &item->also;
    }
    lock_drop(&a->lock);
    return taken;
}

int64_t bgmqi_agenda_next(struct agenda *a)
{
    lock_take(&a->lock);
    int64_t at = a->top ? at_of(a->top) : INT64_MAX;
    lock_drop(&a->lock);
    return at;
}
