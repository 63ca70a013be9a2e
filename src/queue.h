/* queue.h - messages in order: a list, and a heap.  No lock of their own: the owner's is held.
 *
 * Both are intrusive: a push allocates nothing and cannot fail, so a message that was accepted
 * always finds its place.  The heap is a pairing heap (Fredman, Sedgewick, Sleator, Tarjan,
 * 1986): push O(1), pop and removal from the middle O(log n) amortised.  What goes into it has an
 * extra (message.h), where one of its links is. */
#ifndef BGMQI_QUEUE_H
#define BGMQI_QUEUE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "message.h"

/* Zero-initialised is empty. */
struct queue {
    struct message *head, *tail;
    size_t len;
};

/* At the tail. */
static inline void bgmqi_queue_push(struct queue *q, struct message *m)
{
    assert(!m->next && !m->prev);
    m->prev = q->tail;
    if (q->tail)
        q->tail->next = m;
    else
        q->head = m;
    q->tail = m;
    q->len++;
}

/* At the head. */
static inline void bgmqi_queue_push_front(struct queue *q, struct message *m)
{
    assert(!m->next && !m->prev);
    m->next = q->head;
    if (q->head)
        q->head->prev = m;
    else
        q->tail = m;
    q->head = m;
    q->len++;
}

/* Moves all of FROM to the tail. */
static inline void bgmqi_queue_append(struct queue *q, struct queue *from)
{
    if (!from->head)
        return;
    from->head->prev = q->tail;
    if (q->tail)
        q->tail->next = from->head;
    else
        q->head = from->head;
    q->tail = from->tail;
    q->len += from->len;
    *from = (struct queue){.len = 0};
}

/* M is in Q. */
static inline void bgmqi_queue_remove(struct queue *q, struct message *m)
{
    assert(q->len > 0);
    if (m->prev)
        m->prev->next = m->next;
    else
        q->head = m->next;
    if (m->next)
        m->next->prev = m->prev;
    else
        q->tail = m->prev;
    m->next = m->prev = NULL;
    q->len--;
}

/* Takes the first N, the last of which is LAST, off Q. */
static inline struct queue bgmqi_queue_cut(struct queue *q, struct message *last,
                                           size_t n)
{
    struct queue cut = {.head = q->head, .tail = last, .len = n};
    q->head = last->next;
    q->len -= n;
    if (q->head)
        q->head->prev = NULL;
    else
        q->tail = NULL;
    last->next = NULL;
    return cut;
}

/* Takes the head, or NULL. */
static inline struct message *bgmqi_queue_pop(struct queue *q)
{
    struct message *m = q->head;
    if (m)
        bgmqi_queue_remove(q, m);
    return m;
}

/* Gives back all references Q holds. */
void bgmqi_queue_clear(struct queue *q);

/* Least first.  Zero-initialised but for LESS is empty. */
struct heap {
    struct message *top;
    size_t len;
    bool (*less)(const struct message *a, const struct message *b); /* a strict order */
};

void bgmqi_heap_push(struct heap *h, struct message *m);
struct message *bgmqi_heap_pop(struct heap *h);            /* the least, or NULL */
void bgmqi_heap_remove(struct heap *h, struct message *m); /* M is in H */
void bgmqi_heap_clear(struct heap *h);
/* The message after M in a walk over all of H, in no order; the first for NULL.  Neither recurses
 * nor allocates. */
struct message *bgmqi_heap_walk(const struct heap *h, const struct message *m);

#endif
