/* publish.c - bgmq_publish and its kin: from arguments to an admission (see type.h).
 *
 * Runs on the publisher's thread.  Everything that can fail is done before the type's lock is
 * taken: an admission that is let in is in its place, or in the journal. */
#include "publish.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

enum { MANY_MAX = 4096 };

/* ---- one message, ready to be admitted --------------------------------------------- */

struct draft {
    struct type *type;
    struct admission a;
    struct message *noted; /* for a test service (see note) */
    int64_t due_ms;
    bool waits; /* the publisher has to wait for the commit */
};

static void draft_fini(struct draft *d)
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

/* Makes the message of P for T (NULL: no type yet, so no defaults), with no level yet. */
static int make_message(struct bgmq *mq, const struct publication *p, struct type *t,
                        struct message **ret)
{
    int64_t now = clock_wall_ms(mq->clock), due = 0;
    int64_t expire_ms =
        t && bgmqi_type_registered(t) ? bgmqi_type_config(t)->expire_ms : 0;
    struct bgmq_message_options final;
    const struct bgmq_message_options *o = p->options;
    int err = check_body(mq, p);
    if (!err && o)
        err = bgmqi_options_message(o, now, &due);
    if (err)
        return err;
    bgmqi_options_final(o, expire_ms, now, &final);
    o = &final;
    struct message *m = bgmqi_message_new(p->body, p->len);
    if (!m)
        return BGMQ_ENOMEM;
    if (p->options || p->body_type || expire_ms)
        err =
            bgmqi_message_ext_new(o, p->body_type, p->meta_packed, p->meta_len, &m->ext);
    if (err) {
        bgmqi_message_unref(m);
        return err;
    }
    m->created_ms = now;
    m->due_ms = due;
    m->priority = (int16_t)o->priority;
    m->max_attempts = (uint16_t)o->max_attempts;
    if (o->no_outq)
        m->flags |= MESSAGE_NO_OUTQ;
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

/* Takes M, in any case. */
static int draft_init(struct bgmq *mq, struct type *t, const struct publication *p,
                      struct message *m, struct draft *ret)
{
    struct draft d = {.type = t, .a = {.m = m}};
    enum bgmq_durability level = level_of(mq, t, p);
    int err = 0;
    if (level > BGMQ_MEMORY && !mq->journal)
        err = BGMQ_EINVAL;
    else if (level > BGMQ_MEMORY && bgmqi_journal_failed(mq->journal))
        err = BGMQ_ESTORE;
    else if (level > BGMQ_MEMORY && !(d.a.entry = bgmqi_journal_entry_new()))
        err = BGMQ_ENOMEM;
    else if (!d.a.entry && m->ext && m->ext->unique_key &&
             !(d.a.key = bgmqi_type_key_new()))
        err = BGMQ_ENOMEM;
    if (err) {
        draft_fini(&d);
        return err;
    }
    m->level = (uint8_t)level;
    /* Who comes faster than the disk waits with the others, but never a worker. */
    d.a.overtakes = bgmqi_worker_job() != NULL;
    d.waits = level >= BGMQ_COMMIT || (level == BGMQ_BEHIND && !bgmqi_worker_job() &&
                                       bgmqi_journal_crowded(mq->journal));
    *ret = d;
    return 0;
}

/* Waits for TICKET's group: as long as publishers wait, but a handler, which others wait for, not
 * for a disk that is full or a store that somebody else has locked. */
static int wait_for_commit(void *ctx, struct ticket *ticket)
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

/* Waits for TICKET's group and releases it. */
static int await(struct bgmq *mq, struct ticket *ticket, struct bgmq_receipt *receipts,
                 size_t n)
{
    int err = wait_for_commit(mq, ticket);
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

/* For a test service: a reference to M, which is about to be let in. */
static struct message *note(const struct bgmq *mq, struct message *m)
{
    if (!mq->kit)
        return NULL;
    bgmqi_message_ref(m);
    return m;
}

/* Tells the kit of what was noted, when it is IN. */
static void tell(struct bgmq *mq, const char *name, struct message *noted, int64_t due_ms,
                 bool in)
{
    if (noted && in)
        mq->kit->published(mq->kit, name, noted, due_ms);
    bgmqi_message_unref(noted);
}

static unsigned wait_of(struct type *t, const struct publication *p)
{
    if (bgmqi_worker_job())
        return 0;
    if (p->options && p->options->wait_ms)
        return p->options->wait_ms;
    return bgmqi_type_registered(t) ? bgmqi_type_config(t)->wait_ms : 0;
}

/* Takes M, in any case.  Adds nothing when another has its key: *RECEIPT names that one. */
static int publish_new(struct bgmq *mq, struct type *t, const struct publication *p,
                       struct message *m, unsigned wait_ms, struct bgmq_receipt *receipt)
{
    struct draft d;
    int err = draft_init(mq, t, p, m, &d);
    if (err)
        return err;
    struct ticket *ticket = NULL;
    if (d.waits && !(ticket = d.a.ticket = bgmqi_ticket_new(1))) {
        draft_fini(&d);
        return BGMQ_ENOMEM;
    }
    struct bgmq_receipt r = {.level = (enum bgmq_durability)d.a.m->level};
    int64_t due_ms = m->due_ms;
    struct message *noted = note(mq, m);
    err = bgmqi_type_admit_patiently(t, &d.a, wait_ms);
    if (err) {
        tell(mq, NULL, noted, 0, false);
        bgmqi_ticket_discard(ticket);
        draft_fini(&d);
        return err;
    }
    free(d.a.key);
    r.id = d.a.id;
    r.duplicate = d.a.duplicate;
    if (ticket)
        err = await(mq, ticket, &r, 1);
    tell(mq, bgmqi_type_name(t), noted, due_ms, !err && !r.duplicate);
    if (!err)
        *receipt = r;
    return err;
}

/* Takes M, in any case, which is to take the place of message HOLDER; ENOENT: that one is gone. */
static int take_place(struct bgmq *mq, struct type *t, const struct publication *p,
                      struct message *m, uint64_t holder, struct bgmq_receipt *receipt)
{
    struct draft d;
    int err = draft_init(mq, t, p, m, &d);
    if (err)
        return err;
    if (d.a.entry && !(d.a.ticket = bgmqi_ticket_new(TYPE_REPLACE_CHANGES))) {
        draft_fini(&d);
        return BGMQ_ENOMEM;
    }
    struct bgmq_receipt r = {.level = (enum bgmq_durability)m->level, .replaced = holder};
    struct ticket *ticket = d.a.ticket;
    int64_t due_ms = m->due_ms;
    struct message *noted = note(mq, m);
    err = bgmqi_type_replace(t, holder, &d.a, wait_for_commit, mq);
    tell(mq, bgmqi_type_name(t), noted, due_ms, !err);
    bool sent = d.a.m == NULL;
    r.id = d.a.id;
    free(d.a.key); /* the one of the holder is used */
    d.a.key = NULL;
    if (ticket && sent)
        bgmqi_ticket_release(ticket);
    else
        bgmqi_ticket_discard(ticket);
    if (err && !sent)
        draft_fini(&d);
    if (!err)
        *receipt = r;
    return err;
}

/* Another message of P, for the lane of the first. */
static int make_again(struct bgmq *mq, struct type *t, const struct publication *p,
                      int priority, struct message **ret)
{
    int err = make_message(mq, p, t, ret);
    if (!err)
        (*ret)->priority = priority;
    return err;
}

/* Takes M, in any case.  Who holds the key is told by publishing as long as somebody does; only
 * one publisher at a time replaces, so that it is a worker's doing when the holder is gone. */
static int publish_in_place(struct bgmq *mq, struct type *t, const struct publication *p,
                            struct message *m, struct bgmq_receipt *receipt)
{
    enum { TRIES = 8 };
    int priority = m->priority;
    uint64_t gone = 0;
    int err = publish_new(mq, t, p, m, wait_of(t, p), receipt);
    if (err || !receipt->duplicate)
        return err;
    bgmqi_type_operate(t);
    for (int i = 0; i < TRIES && !err && receipt->duplicate; i++) {
        if ((err = make_again(mq, t, p, priority, &m)) != 0)
            break;
        uint64_t holder = receipt->id;
        err = take_place(mq, t, p, m, holder, receipt);
        if (err == BGMQ_EBUSY || (err == BGMQ_ENOENT && holder == gone)) {
            err = 0; /* it is at work, or dead: the receipt names it */
            break;
        }
        gone = holder;
        if (err == BGMQ_ENOENT && (err = make_again(mq, t, p, priority, &m)) == 0)
            err = publish_new(mq, t, p, m, 0, receipt);
    }
    bgmqi_type_operated(t);
    return err;
}

/* Takes M, in any case; so do the next two. */
static int publish_to_type(struct bgmq *mq, struct type *t, const struct publication *p,
                           struct message *m, struct bgmq_receipt *receipt)
{
    struct bgmq_receipt r = {.id = 0};
    enum bgmq_conflict conflict = p->options && p->options->unique_key
                                      ? p->options->on_conflict
                                      : BGMQ_CONFLICT_KEEP;
    int err = conflict == BGMQ_CONFLICT_REPLACE
                  ? publish_in_place(mq, t, p, m, &r)
                  : publish_new(mq, t, p, m, wait_of(t, p), &r);
    if (!err && r.duplicate && conflict == BGMQ_CONFLICT_REFUSE)
        return BGMQ_EEXIST;
    if (!err && receipt)
        *receipt = r;
    return err;
}

static int publish_to_custom(struct bgmq *mq, struct custom *q,
                             const struct publication *p, struct message *m,
                             struct bgmq_receipt *receipt)
{
    if (m->due_ms ||
        (m->ext && (m->ext->unique_key || m->ext->expires_ms || m->ext->channel))) {
        bgmqi_message_unref(m);
        return BGMQ_EINVAL; /* such queues know neither time nor keys nor channels */
    }
    m->level = BGMQ_MEMORY;
    m->id = mq->journal ? bgmqi_journal_next_id(mq->journal)
                        : atomic_fetch_add(&mq->types.ids, 1);
    if (p->failure)
        m->failure = bgmqi_failure_ref((struct failure *)p->failure);
    struct bgmq_receipt r = {.id = m->id, .level = BGMQ_MEMORY};
    struct message *noted = note(mq, m);
    int err = bgmqi_custom_put(q, m);
    if (err == BGMQ_EFULL && mq->types.room(mq->types.ctx, bgmqi_message_cost(m)))
        err = bgmqi_custom_put(q, m);
    tell(mq, p->queue, noted, 0, !err);
    if (err)
        bgmqi_message_unref(m);
    else if (receipt)
        *receipt = r;
    return err;
}

static int publish_to_address(struct bgmq *mq, const struct address *a,
                              const struct publication *p, struct message *m,
                              struct bgmq_receipt *receipt)
{
    if (a->custom)
        return publish_to_custom(mq, a->custom, p, m, receipt);
    if (a->place != PLACE_INQ && a->place != PLACE_PRIORITYQ) {
        bgmqi_message_unref(m);
        return BGMQ_EINVAL;
    }
    if (a->place == PLACE_PRIORITYQ && m->priority == 0)
        m->priority = 1;
    struct type *t = a->type;
    const char *channel = m->ext ? m->ext->channel : NULL;
    int err = 0;
    if (channel && p->queue)
        err =
            bgmqi_registry_channel(mq->registry, bgmqi_type_name(t), channel, false, &t);
    if (err) {
        bgmqi_message_unref(m);
        return err;
    }
    return publish_to_type(mq, t, p, m, receipt);
}

/* The type or queue of P; with MAKE, made when it is not there.  ENOENT. */
static int find_address(struct bgmq *mq, const struct publication *p, bool make,
                        struct address *ret)
{
    const char *channel = p->options ? p->options->channel : NULL;
    if (p->queue)
        return make ? bgmqi_registry_resolve(mq->registry, p->queue, ret)
                    : bgmqi_registry_lookup(mq->registry, p->queue, ret);
    ret->place = PLACE_INQ;
    if (make)
        return bgmqi_registry_channel(mq->registry, p->type, channel, false, &ret->type);
    ret->type = p->type && !channel ? bgmqi_registry_find(mq->registry, p->type) : NULL;
    if (ret->type && bgmqi_type_channel(ret->type))
        return BGMQ_EINVAL; /* its name is not for publishers */
    return ret->type ? 0 : BGMQ_ENOENT;
}

int bgmqi_publish_make(struct bgmq *mq, const struct publication *p, struct address *ret,
                       struct message **ret_message)
{
    /* What is refused does not bring a type or queue into being: the message first, unless it is
     * there already, and says what its messages have. */
    struct address a = {.place = PLACE_NONE};
    struct message *m;
    int there = find_address(mq, p, false, &a);
    int err = make_message(mq, p, a.type, &m);
    if (!err && there != 0 && (err = find_address(mq, p, true, &a)) != 0)
        bgmqi_message_unref(m);
    if (err) {
        bgmqi_custom_unref(a.custom);
        return err;
    }
    *ret = a;
    *ret_message = m;
    return 0;
}

int bgmqi_publish(struct bgmq *mq, const struct publication *p,
                  struct bgmq_receipt *receipt)
{
    struct address a;
    struct message *m;
    int err = bgmqi_handle_draining(mq);
    if (!err)
        err = bgmqi_publish_make(mq, p, &a, &m);
    if (err)
        return err;
    err = publish_to_address(mq, &a, p, m, receipt);
    bgmqi_custom_unref(a.custom);
    if (!err && mq->kit)
        mq->kit->run(mq->kit);
    return err;
}

/* ---- public ------------------------------------------------------------------------ */

int bgmq_publish(struct bgmq *mq, const char *type, const void *body, size_t len,
                 const struct bgmq_message_options *options, struct bgmq_receipt *receipt)
{
    int err = bgmqi_handle_enter(mq);
    struct publication p = {.type = type, .body = body, .len = len, .options = options};
    return err ? err : bgmqi_publish(mq, &p, receipt);
}

int bgmq_publish_to(struct bgmq *mq, const char *queue, const void *body, size_t len,
                    const struct bgmq_message_options *options,
                    struct bgmq_receipt *receipt)
{
    int err = bgmqi_handle_enter(mq);
    struct publication p = {.queue = queue, .body = body, .len = len, .options = options};
    if (!err && !queue)
        err = BGMQ_EINVAL;
    return err ? err : bgmqi_publish(mq, &p, receipt);
}

int bgmq_publish_json(struct bgmq *mq, const char *type,
                      const struct bgmq_message_options *options,
                      struct bgmq_receipt *receipt, const char *format, ...)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (!format)
        return BGMQ_EINVAL;
    va_list args;
    va_start(args, format);
    char *text;
    size_t len;
    struct bgmq_error error;
    err = bgmqi_json_pack(&text, &len, &error, format, args);
    va_end(args);
    if (err) {
        bgmqi_log(&mq->config.log, BGMQ_LOG_ERROR, "bgmq_publish_json: %s", error.text);
        return err;
    }
    err = bgmq_publish(mq, type, text, len, options, receipt);
    free(text);
    return err;
}

/* ---- many in one commit ------------------------------------------------------------ */

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
        err = draft_init(w->mq, a.type, &p, m, &w->drafts[i]);
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
        d->due_ms = d->a.m->due_ms;
        d->noted = note(w->mq, d->a.m);
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
        draft_fini(&w->drafts[i]);
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
    return await(w->mq, w->ticket, w->receipts, w->n);
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
        tell(w->mq, bgmqi_type_name(d->type), d->noted, d->due_ms,
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
