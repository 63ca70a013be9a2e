/* tx_hub.c - the hub of a service's connections (see tx_hub.h).
 *
 * Any thread.  Its lock is held for a few pointers only; a thread inside holds no lock of it, so
 * that the commit of one connection never waits for that of another. */
#include "tx_hub.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "park.h"
#include "tx_signal.h"

struct tx_hub {
    /* set once, then read only */
    dev_t device;
    ino_t inode;

    _Atomic unsigned refs;
    struct park park; /* of the service that closes */

    struct lock lock;
    /* protected by lock */
    struct bgmq *mq; /* NULL: closed */
    unsigned inside;
    struct tx_conn *conns;
};

int bgmqi_tx_hub_new(struct tx_hub **ret, struct bgmq *mq, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return BGMQ_EOPEN;
    struct tx_hub *h = calloc(1, sizeof(*h));
    if (!h)
        return BGMQ_ENOMEM;
    h->device = st.st_dev;
    h->inode = st.st_ino;
    atomic_init(&h->refs, 1);
    lock_init(&h->lock, RANK_HUB);
    h->mq = mq;
    *ret = h;
    return 0;
}

struct tx_hub *bgmqi_tx_hub_ref(struct tx_hub *h)
{
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return h;
}

void bgmqi_tx_hub_unref(struct tx_hub *h)
{
    if (!h || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1)
        return;
    lock_fini(&h->lock);
    free(h);
}

void bgmqi_tx_hub_close(struct tx_hub *h)
{
    if (!h)
        return;
    lock_take(&h->lock);
    h->mq = NULL;
    while (h->inside) {
        lock_drop(&h->lock);
        bgmqi_park_wait(&h->park, PARK_MAX_NS);
        lock_take(&h->lock);
    }
    lock_drop(&h->lock);
}

struct bgmq *bgmqi_tx_hub_enter(struct tx_hub *h)
{
    lock_take(&h->lock);
    struct bgmq *mq = h->mq;
    h->inside += mq != NULL;
    lock_drop(&h->lock);
    return mq;
}

void bgmqi_tx_hub_leave(struct tx_hub *h)
{
    lock_take(&h->lock);
    h->inside--;
    if (!h->inside && !h->mq)
        bgmqi_park_wake(&h->park);
    lock_drop(&h->lock);
}

bool bgmqi_tx_hub_is_file(const struct tx_hub *h, const char *path)
{
    struct stat st;
    return path && path[0] && stat(path, &st) == 0 && st.st_dev == h->device &&
           st.st_ino == h->inode;
}

struct tx_conn *bgmqi_tx_hub_find(struct tx_hub *h, const sqlite3 *db)
{
    lock_take(&h->lock);
    struct tx_conn *c = h->conns;
    while (c && c->db != db)
        c = c->next;
    lock_drop(&h->lock);
    return c;
}

void bgmqi_tx_hub_add(struct tx_hub *h, struct tx_conn *c)
{
    lock_take(&h->lock);
    c->next = h->conns;
    h->conns = c;
    lock_drop(&h->lock);
}

void bgmqi_tx_hub_remove(struct tx_hub *h, struct tx_conn *c)
{
    lock_take(&h->lock);
    for (struct tx_conn **p = &h->conns; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    lock_drop(&h->lock);
}
