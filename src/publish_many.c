/* publish_many.c - many messages in one commit: all are let in, and then placed, or none.
 *
 * The publisher's thread. */
#include "publish.h"

#include <stdlib.h>
#include <string.h>

enum { MANY_MAX = 4096 };

/* One call of bgmq_publish_many. */
struct many {
    struct bgmq *mq;
    struct draft *drafts;
    struct bgmq_receipt *receipts;
    size_t n, made, admitted, stored;
    struct ticket *ticket;
};

static int many_draft(struct many *w, const struct bgmq_item *items)
{
    for (size_t i = 0; i < w->n; i++) {
        struct publication p = {.type = items[i].type,
                                .body = items[i].body,
                                .len = items[i].len,
                                .options = items[i].options};
        struct address a;
        struct message *m;
        bool fit = bgmqi_registry_valid(p.type) &&
                   (!p.options || p.options->on_conflict == BGMQ_CONFLICT_KEEP);
        int err = fit ? bgmqi_publish_make(w->mq, &p, &a, &m) : BGMQ_EINVAL;
        if (err)
            return err;
        err = bgmqi_draft_init(w->mq, a.type, &p, m, &w->drafts[i]);
        if (err)
            return err;
        w->made++;
        w->stored += w->drafts[i].a.entry != NULL;
    }
    return 0;
}

/* Every message is let in, and none placed. */
static int many_admit(struct many *w)
{
    for (; w->admitted < w->n; w->admitted++) {
        struct draft *d = &w->drafts[w->admitted];
        struct bgmq_receipt *r = &w->receipts[w->admitted];
        r->level = (enum bgmq_durability)d->a.m->level;
        d->a.ticket = d->a.entry ? w->ticket : NULL;
        d->a.slot = (uint32_t)w->admitted;
        d->a.chained = true;
        d->due_ms = message_due_ms(d->a.m);
        d->noted = bgmqi_draft_note(w->mq, d->a.m);
        int err = bgmqi_type_admit(d->type, &d->a);
        if (err)
            return err;
        r->id = d->a.id;
        r->duplicate = d->a.duplicate;
    }
    return 0;
}

static void many_undo(struct many *w)
{
    for (size_t i = 0; i < w->admitted; i++)
        bgmqi_type_dismiss(w->drafts[i].type, &w->drafts[i].a);
    for (size_t i = 0; i < w->made; i++)
        bgmqi_draft_fini(&w->drafts[i]);
    bgmqi_ticket_discard(w->ticket);
}

/* Adds the entries of all that are to have a row as one group, and waits for its commit. */
static int many_commit(struct many *w)
{
    struct journal_entry *first = NULL, *last = NULL;
    for (size_t i = 0; i < w->n; i++) {
        struct journal_entry *e = w->drafts[i].a.entry;
        if (e && last)
            last->next = e;
        else if (e)
            first = e;
        last = e ? e : last;
    }
    bgmqi_journal_add(w->mq->journal, first, last);
    return bgmqi_draft_await(w->mq, w->ticket, w->receipts, w->n);
}

static int many_run(struct many *w, const struct bgmq_item *items)
{
    int err = many_draft(w, items);
    if (!err && w->stored && !(w->ticket = bgmqi_ticket_new(w->n)))
        err = BGMQ_ENOMEM;
    if (!err)
        err = many_admit(w);
    if (err) {
        many_undo(w);
        return err;
    }
    if (w->stored)
        err = many_commit(w);
    for (size_t i = 0; i < w->n; i++) {
        struct draft *d = &w->drafts[i];
        if (!err)
            bgmqi_type_confirm(d->type, &d->a);
        else if (!d->a.entry)
            bgmqi_type_dismiss(d->type, &d->a);
        if (err && !d->a.entry)
            bgmqi_message_unref(d->a.m);
        free(d->a.key);
        bgmqi_draft_tell(w->mq, bgmqi_type_name(d->type), d->noted, d->due_ms,
                         !err && !w->receipts[i].duplicate);
    }
    if (!err && w->mq->kit)
        w->mq->kit->run(w->mq->kit);
    return err;
}

int bgmq_publish_many(struct bgmq *mq, const struct bgmq_item *items, size_t n,
                      struct bgmq_receipt *receipts)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if ((n && !items) || n > MANY_MAX)
        return BGMQ_EINVAL;
    if (n == 0)
        return 0;
    if ((err = bgmqi_handle_draining(mq)) != 0)
        return err;
    struct many w = {.mq = mq, .n = n};
    w.drafts = calloc(n, sizeof(*w.drafts));
    w.receipts = calloc(n, sizeof(*w.receipts));
    err = w.drafts && w.receipts ? many_run(&w, items) : BGMQ_ENOMEM;
    if (!err && receipts)
        memcpy(receipts, w.receipts, n * sizeof(*receipts));
    free(w.drafts);
    free(w.receipts);
    return err;
}
