/* publish.c - bgmq_publish and its kin: from arguments to an admission (see type.h).
 *
 * Runs on the publisher's thread.  Everything that can fail is done before the type's lock is
 * taken: an admission that is let in is in its place, or in the journal. */
#include "publish.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

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
    int err = bgmqi_draft_init(mq, t, p, m, &d);
    if (err)
        return err;
    struct ticket *ticket = NULL;
    if (d.waits && !(ticket = d.a.ticket = bgmqi_ticket_new(1))) {
        bgmqi_draft_fini(&d);
        return BGMQ_ENOMEM;
    }
    struct bgmq_receipt r = {.level = (enum bgmq_durability)d.a.m->level};
    int64_t due_ms = message_due_ms(m);
    struct message *noted = bgmqi_draft_note(mq, m);
    err = bgmqi_type_admit_patiently(t, &d.a, wait_ms);
    if (err) {
        bgmqi_draft_tell(mq, NULL, noted, 0, false);
        bgmqi_ticket_discard(ticket);
        bgmqi_draft_fini(&d);
        return err;
    }
    free(d.a.key);
    r.id = d.a.id;
    r.duplicate = d.a.duplicate;
    if (ticket)
        err = bgmqi_draft_await(mq, ticket, &r, 1);
    bgmqi_draft_tell(mq, bgmqi_type_name(t), noted, due_ms, !err && !r.duplicate);
    if (!err)
        *receipt = r;
    return err;
}

/* Takes M, in any case, which is to take the place of message HOLDER; ENOENT: that one is gone. */
static int take_place(struct bgmq *mq, struct type *t, const struct publication *p,
                      struct message *m, uint64_t holder, struct bgmq_receipt *receipt)
{
    struct draft d;
    int err = bgmqi_draft_init(mq, t, p, m, &d);
    if (err)
        return err;
    if (d.a.entry && !(d.a.ticket = bgmqi_ticket_new(TYPE_REPLACE_CHANGES))) {
        bgmqi_draft_fini(&d);
        return BGMQ_ENOMEM;
    }
    struct bgmq_receipt r = {.level = (enum bgmq_durability)m->level, .replaced = holder};
    struct ticket *ticket = d.a.ticket;
    int64_t due_ms = message_due_ms(m);
    struct message *noted = bgmqi_draft_note(mq, m);
    err = bgmqi_type_replace(t, holder, &d.a, bgmqi_draft_wait, mq);
    bgmqi_draft_tell(mq, bgmqi_type_name(t), noted, due_ms, !err);
    bool sent = d.a.m == NULL;
    r.id = d.a.id;
    free(d.a.key); /* the one of the holder is used */
    d.a.key = NULL;
    if (ticket && sent)
        bgmqi_ticket_release(ticket);
    else
        bgmqi_ticket_discard(ticket);
    if (err && !sent)
        bgmqi_draft_fini(&d);
    if (!err)
        *receipt = r;
    return err;
}

/* Another message of P, for the lane of the first. */
static int make_again(struct bgmq *mq, struct type *t, const struct publication *p,
                      int priority, struct message **ret)
{
    int err = bgmqi_draft_message(mq, p, t, ret);
    if (!err && (err = bgmqi_message_set_priority(*ret, priority)) != 0)
        bgmqi_message_unref(*ret);
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
    const struct message_ext *x = message_ext(m);
    int err = 0;
    if (message_due_ms(m) || (x && (x->unique_key || x->expires_ms || x->channel)))
        err = BGMQ_EINVAL; /* such queues know neither time nor keys nor channels */
    else if (p->failure)
        err = bgmqi_message_extend(m);
    if (err) {
        bgmqi_message_unref(m);
        return err;
    }
    m->level = BGMQ_MEMORY;
    m->id = mq->journal ? bgmqi_journal_next_id(mq->journal)
                        : atomic_fetch_add(&mq->types.ids, 1);
    if (p->failure)
        message_put_failure(m, bgmqi_failure_ref((struct failure *)p->failure));
    struct bgmq_receipt r = {.id = m->id, .level = BGMQ_MEMORY};
    struct message *noted = bgmqi_draft_note(mq, m);
    err = bgmqi_custom_put(q, m);
    if (err == BGMQ_EFULL && mq->types.room(mq->types.ctx, message_cost(m)))
        err = bgmqi_custom_put(q, m);
    bgmqi_draft_tell(mq, p->queue, noted, 0, !err);
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
    int err = 0;
    if (a->place == PLACE_PRIORITYQ && m->priority == 0)
        err = bgmqi_message_set_priority(m, 1);
    struct type *t = a->type;
    const struct message_ext *x = message_ext(m);
    const char *channel = x ? x->channel : NULL;
    if (!err && channel && p->queue)
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
    int err = bgmqi_draft_message(mq, p, a.type, &m);
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

/* Lets a message without options in by the short way (type_arrive.c); false: it has to go the
 * long one, where everything is looked at. */
static bool publish_plainly(struct bgmq *mq, const char *name, const void *body,
                            size_t len, struct bgmq_receipt *receipt)
{
    if (!name || !body || len > mq->config.max_body || mq->kit ||
        atomic_load_explicit(&mq->draining, memory_order_relaxed))
        return false;
    struct type *t = bgmqi_registry_find(mq->registry, name);
    size_t cost = message_cost_of(len);
    if (!t || !bgmqi_type_pay(t, cost))
        return false;
    struct message *m = bgmqi_message_new(body, len);
    if (m) {
        m->created_ms = clock_rough_ms(mq->clock);
        m->level = BGMQ_MEMORY;
    }
    uint64_t id = m ? bgmqi_type_push(t, m) : 0;
    if (!id) {
        bgmqi_message_unref(m);
        bgmqi_type_unpay(t, cost);
        return false;
    }
    if (receipt)
        *receipt = (struct bgmq_receipt){.id = id, .level = BGMQ_MEMORY};
    return true;
}

/* ---- public ------------------------------------------------------------------------ */

int bgmq_publish(struct bgmq *mq, const char *type, const void *body, size_t len,
                 const struct bgmq_message_options *options, struct bgmq_receipt *receipt)
{
    int err = bgmqi_handle_enter(mq);
    if (!err && !options && publish_plainly(mq, type, body, len, receipt))
        return 0;
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
