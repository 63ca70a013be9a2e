/* oracle_unique.c - judges unique keys: of all that were published under one, no two may be
 * there at once.
 *
 * The order of two lines of the history is that of the acts only where one waits for the other: a
 * message is told to end before it gives up its key, and the next one is told to be accepted after
 * it got it.  So two that are surely there at once are a fault; what the history leaves open (a
 * publish that the kill interrupted, a death in the handler that may have been the last) is
 * none.
 *
 * A message that takes the place of another may run, and end, and leave the key to the next one,
 * before its publisher can tell whose place it was.  So while a publisher is about to tell, a
 * second holder is only remembered: by the end the first one has to be known as replaced, and it
 * must never run again. */
#include "oracle_impl.h"

#include <stdio.h>
#include <stdlib.h>

void oracle_unique_try(struct oracle *o, struct entry *e, const char *unique)
{
    uint64_t hash = table_hash(unique);
    struct entry *head = table_find(&o->uniques, hash, unique);
    if (!head) {
        head = calloc(1, sizeof(*head));
        if (!head)
            abort();
        snprintf(head->key, sizeof(head->key), "%s", unique);
        table_put(&o->uniques, hash, head);
    }
    e->keyed = 1;
    e->tried_round = o->round;
    e->next_of_key = head->next_of_key;
    e->head_of_key = head;
    head->next_of_key = e;
}

/* It takes the place of who has its key, if it was accepted at all: nobody has told. */
static int takes_place(const struct entry *r)
{
    return r->replaces && !r->acked && !r->refused && !r->never;
}

/* Somebody who takes places was interrupted while it published for the key of E, be it that it had
 * begun before E came: neither it nor E is certain. */
static int interrupted(const struct oracle *o, const struct entry *e)
{
    for (const struct entry *r = e->head_of_key->next_of_key; r; r = r->next_of_key)
        if (r != e && takes_place(r) && r->tried_round >= e->tried_round &&
            r->tried_round < o->round)
            return 1;
    return 0;
}

int oracle_unique_may_be_replaced(const struct oracle *o, const struct entry *e)
{
    return e->keyed && interrupted(o, e);
}

/* E has its key at this moment, beyond doubt. */
static int holds(const struct oracle *o, const struct entry *e)
{
    int there = e->acked || e->accepted_round == o->round || e->starts;
    int dead = (e->failed || e->keyless ||
                (e->round != o->round && (e->open || e->rounds >= LEAST_DEATHS))) &&
               e->scope != 'd';
    int ended = e->gone || e->never || e->may_cancel || e->may_vanish || e->last == 'D';
    return there && !ended && !dead && !interrupted(o, e);
}

/* Somebody may have taken a place that is held under the key of E, and is about to tell. */
static int untold(const struct oracle *o, const struct entry *e)
{
    for (const struct entry *r = e->head_of_key->next_of_key; r; r = r->next_of_key)
        if (takes_place(r) && r->tried_round == o->round)
            return 1;
    return 0;
}

static void judge_pair(struct oracle *o, struct entry *e, const struct entry *other)
{
    if (e->scope == 'p' || e->scope == 'w' || !holds(o, e) || !holds(o, other))
        return;
    if (!untold(o, e))
        oracle_blame(o, &o->v->two_keys, "has the unique key of another", e->key);
    else if (!e->ousted)
        e->ousted = other;
}

void oracle_unique_end(struct oracle *o, const struct entry *e)
{
    if (e->ousted && !e->ousted->gone && !interrupted(o, e->ousted))
        oracle_blame(o, &o->v->two_keys, "had the unique key of another", e->key);
}

void oracle_unique_accept(struct oracle *o, struct entry *e, int64_t ms)
{
    o->v->kept_keys++;
    for (struct entry *x = e->head_of_key->next_of_key; x; x = x->next_of_key) {
        if (x == e)
            continue;
        judge_pair(o, e, x);
        if (e->scope == 'p' && x->acked && !x->gone && x->tried_ms <= e->tried_ms &&
            ms < x->tried_ms + x->period_ms)
            oracle_blame(o, &o->v->two_keys, "accepted within the period of another",
                         e->key);
    }
}

void oracle_unique_run(struct oracle *o, struct entry *e)
{
    for (struct entry *x = e->head_of_key->next_of_key; x; x = x->next_of_key) {
        if (x == e)
            continue;
        if (x->ousted == e)
            oracle_blame(o, &o->v->two_keys, "ran after another had its key", e->key);
        judge_pair(o, e, x);
    }
}
