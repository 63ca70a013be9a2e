/* draft.c - a message from the arguments of a publish to what its type admits (see draft.h).
 *
 * The publisher's thread.  All that can fail is done here, before the type's lock is taken. */
#include "draft.h"

#include <stdlib.h>

void bgmqi_draft_fini(struct draft *d)
{
    if (d->a.entry) {
        d->a.entry->op.msg = NULL; /* the draft's own */
        bgmqi_journal_entry_free(d->a.entry);
    }
    free(d->a.key);
    bgmqi_message_unref(d->a.m);
    bgmqi_message_unref(d->noted);
}

static int check_body(const struct bgmq *mq, const struct publication *p)
{
    if (!p->body)
        return BGMQ_EINVAL;
    return p->len > mq->config.max_body ? BGMQ_ETOOBIG : 0;
}

static int add_options(struct message *m, const struct publication *p, int64_t expire_ms)
{
    struct bgmq_message_options o;
    bgmqi_options_final(p->options, expire_ms, m->created_ms, &o);
    m->max_attempts = (uint16_t)o.max_attempts;
    if (o.no_outq)
        m->flags |= MESSAGE_NO_OUTQ;
    struct message_ext *ext;
    int err = bgmqi_message_ext_new(&o, p->body_type, p->meta_packed, p->meta_len, &ext);
    if (err)
        return err;
    bgmqi_message_set_ext(m, ext);
    return bgmqi_message_set_priority(m, o.priority);
}

int bgmqi_draft_message(struct bgmq *mq, const struct publication *p, struct type *t,
                        struct message **ret)
{
    int64_t expire_ms =
        t && bgmqi_type_registered(t) ? bgmqi_type_config(t)->expire_ms : 0;
    /* When it was made is for people; when it is due, or over, is not. */
    int64_t due = 0, now = p->options || expire_ms ? clock_wall_ms(mq->clock)
                                                   : clock_rough_ms(mq->clock);
    int err = check_body(mq, p);
    if (!err && p->options)
        err = bgmqi_options_message(p->options, now, &due);
    if (err)
        return err;
    struct message *m = bgmqi_message_new(p->body, p->len);
    if (!m)
        return BGMQ_ENOMEM;
    m->created_ms = now;
    if (p->options || p->body_type || expire_ms)
        err = add_options(m, p, expire_ms);
    if (!err && due)
        err = bgmqi_message_set_due_ms(m, due);
    if (err) {
        bgmqi_message_unref(m);
        return err;
    }
    *ret = m;
    return 0;
}

/* The level a message of T gets.  A unique key is decided by the database alone, so keyed
 * messages wait for their commit. */
static enum bgmq_durability level_of(const struct bgmq *mq, struct type *t,
                                     const struct publication *p)
{
    enum bgmq_durability level = p->options ? p->options->durability : BGMQ_DEFAULT;
    if (level == BGMQ_DEFAULT)
        level = bgmqi_type_registered(t) ? bgmqi_type_config(t)->durability
                                         : mq->config.durability;
    if (mq->journal && p->options && p->options->unique_key && level < BGMQ_COMMIT)
        level = BGMQ_COMMIT;
    if (mq->journal && p->behind && level > BGMQ_BEHIND)
        level = BGMQ_BEHIND;
    return level;
}

int bgmqi_draft_init(struct bgmq *mq, struct type *t, const struct publication *p,
                     struct message *m, struct draft *ret)
{
    *ret = (struct draft){.type = t, .a = {.m = m}};
    enum bgmq_durability level = level_of(mq, t, p);
    int err = 0;
    if (level > BGMQ_MEMORY && !mq->journal)
        err = BGMQ_EINVAL;
    else if (level > BGMQ_MEMORY && bgmqi_journal_failed(mq->journal))
        err = BGMQ_ESTORE;
    else if (level > BGMQ_MEMORY && !(ret->a.entry = bgmqi_journal_entry_new()))
        err = BGMQ_ENOMEM;
    else if (!ret->a.entry && message_unique_key(m) &&
             !(ret->a.key = bgmqi_type_key_new()))
        err = BGMQ_ENOMEM;
    if (err) {
        bgmqi_draft_fini(ret);
        return err;
    }
    m->level = (uint8_t)level;
    /* Who comes faster than the disk waits with the others, but never a worker. */
    ret->a.overtakes = bgmqi_worker_job() != NULL;
    ret->waits = level >= BGMQ_COMMIT || (level == BGMQ_BEHIND && !bgmqi_worker_job() &&
                                          bgmqi_journal_crowded(mq->journal));
    return 0;
}

/* A handler, which others wait for, does not wait for a disk that is full or a store that somebody
 * else has locked. */
int bgmqi_draft_wait(void *ctx, struct ticket *ticket)
{
    static const int64_t slice_ns = 100000000;
    struct bgmq *mq = ctx;
    int64_t left = mq->config.publish_timeout_ms * INT64_C(1000000);
    while (bgmqi_worker_job() && left > slice_ns &&
           !bgmqi_ticket_over(ticket, slice_ns)) {
        uint64_t commits, waiting;
        enum journal_state state;
        bgmqi_journal_counts(mq->journal, &commits, &waiting, &state);
        left = state == JOURNAL_RETRYING ? 0 : left - slice_ns;
    }
    int err = bgmqi_ticket_wait(ticket, left);
    return err == BGMQ_ETIMEOUT ? bgmqi_journal_timeout_err(mq->journal) : err;
}

int bgmqi_draft_await(struct bgmq *mq, struct ticket *ticket,
                      struct bgmq_receipt *receipts, size_t n)
{
    int err = bgmqi_draft_wait(mq, ticket);
    for (size_t i = 0; !err && i < n; i++) {
        uint64_t id;
        if (bgmqi_ticket_result(ticket, i, &id) == BGMQ_EEXIST) {
            receipts[i].id = id;
            receipts[i].duplicate = 1;
        }
    }
    bgmqi_ticket_release(ticket);
    return err;
}

struct message *bgmqi_draft_note(const struct bgmq *mq, struct message *m)
{
    if (!mq->kit)
        return NULL;
    bgmqi_message_ref(m);
    return m;
}

void bgmqi_draft_tell(struct bgmq *mq, const char *name, struct message *noted,
                      int64_t due_ms, bool in)
{
    if (noted && in)
        mq->kit->published(mq->kit, name, noted, due_ms);
    bgmqi_message_unref(noted);
}
