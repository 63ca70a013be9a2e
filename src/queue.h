/* queue.h - messages in order: a list, and a heap.  No lock of their own: the owner's is held.
 *
 * Both are intrusive: a push allocates nothing and cannot fail, so a message that was accepted
 * always finds its place.  The heap is a pairing heap (Fredman, Sedgewick, Sleator, Tarjan,
 * 1986): push O(1), pop and removal from the middle O(log n) amortised.  What goes into it has an
 * extra (message.h), where one of its links is. */
#ifndef BGMQI_QUEUE_H
#define BGMQI_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "message.h"

/* Zero-initialised is empty. */
struct queue {
    struct message *head, *tail;
    size_t len;
};

void bgmqi_queue_push(struct queue *q, struct message *m);       /* at the tail */
void bgmqi_queue_push_front(struct queue *q, struct message *m); /* at the head */
struct message *bgmqi_queue_pop(struct queue *q);                /* the head, or NULL */
void bgmqi_queue_remove(struct queue *q, struct message *m);     /* M is in Q */
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
