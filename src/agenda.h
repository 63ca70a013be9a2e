/* agenda.h - things that somebody has to look at, each by a time of its own, the first on top.
 *
 * One thread looks, any thread tells.  What has nothing to be looked at is not in the agenda and
 * costs nothing, however many there are.  Intrusive (a pairing heap): to tell neither allocates nor
 * fails, and is one load when the item is to be looked at by then anyway.
 *
 * No word is lost.  Who tells has changed something under a lock that who looks takes after
 * bgmqi_agenda_take: either the look sees the change, or the item was taken before the change, and
 * telling puts it back. */
#ifndef BGMQI_AGENDA_H
#define BGMQI_AGENDA_H

#include <stdbool.h>
#include <stdint.h>

#include "lock.h"

/* Is part of the thing; outlives the agenda, or its use. */
struct agenda_item {
    void *owner; /* set once */
    /* written under agenda.lock; read without it by who tells */
    _Atomic int64_t at; /* INT64_MAX: it is not in the agenda */
    /* protected by agenda.lock */
    struct agenda_item *next, *prev, *child;
    /* of those taken together; used by the one who takes only, as it may be told again meanwhile */
    struct agenda_item *also;
};

struct agenda {
    struct lock lock;
    /* protected by lock */
    struct agenda_item *top;
};

void bgmqi_agenda_init(struct agenda *a);
void bgmqi_agenda_fini(struct agenda *a);
void bgmqi_agenda_item_init(struct agenda_item *item, void *owner);
/* ITEM is to be looked at by AT, or earlier if that was told before.  True: that is earlier than
 * all else, so who waits for the first has to be woken. */
bool bgmqi_agenda_tell(struct agenda *a, struct agenda_item *item, int64_t at);
/* Takes out all that are to be looked at by NOW, linked by ALSO; NULL: none. */
struct agenda_item *bgmqi_agenda_take(struct agenda *a, int64_t now);
/* When the first is to be looked at; INT64_MAX: the agenda is empty. */
int64_t bgmqi_agenda_next(struct agenda *a);

#endif
