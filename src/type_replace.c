/* type_replace.c - a message takes the place of the one that has its unique key.
 *
 * The publisher's thread, within an operation of its own; it waits for the commit.  The old message
 * is picked, so that nobody starts it; with a database one group of changes takes its key and row
 * away and brings the new one's.  Before the commit the old one is there, after it the new one.
 * Whether the old one has the key still is the store's to say: memory may have forgotten that it
 * gave it up, and a period may be over by now. */
#include "type_impl.h"

enum { WAITING = 1 << LANE_INQ | 1 << LANE_PRIORITYQ | 1 << LANE_DELAYED };

/* True when OLD has given its key up, or its period is over. */
static bool keyless(const struct message *old, int64_t now_ms)
{
    const struct message_ext *x = message_ext(old);
    return old->unkeyed || !x || !x->unique_key ||
           (x->unique_until_ms && x->unique_until_ms <= now_ms);
}

/* An entry of the group: change KIND of OLD, row I of the ticket. */
static struct journal_entry *part(struct type *t, struct message *old,
                                  enum store_op_kind kind, const struct admission *a,
                                  uint32_t i)
{
    struct journal_entry *e = bgmqi_type_entry();
    enum outcome history =
        kind == STORE_UNKEY ? OUTCOME_NONE : bgmqi_type_history(t, OUTCOME_DISCARDED);
    bgmqi_type_fill(t, e, kind, old, history, a->m->created_ms);
    bgmqi_message_ref(old);
    e->op.level = a->m->level;
    e->op.flags |= OP_IF_KEYED;
    e->op.ticket = a->ticket;
    e->op.slot = i;
    return e;
}

/* What became of the group, if that can be known: an uncertain one may be in a transaction that
 * has not ended yet. */
static int outcome(struct type *t, const struct admission *a, bgmqi_type_wait_fn *wait,
                   void *ctx)
{
    int err = wait(ctx, a->ticket);
    if (err == BGMQ_EUNCERTAIN && bgmqi_type_settle_down(t) == 0)
        err = wait(ctx, a->ticket);
    return err;
}

static int replace_row(struct type *t, struct picked *p, struct admission *a,
                       bgmqi_type_wait_fn *wait, void *ctx)
{
    struct message *old = p->m;
    a->chained = true;
    a->slot = TYPE_REPLACE_CHANGES - 1; /* after the key and the row of OLD */
    int err = bgmqi_type_admit(t, a);
    if (err) {
        bgmqi_type_unpick(t, old, p->from);
        return err;
    }
    enum store_op_kind kind =
        old->row == ROW_JOB ? STORE_DELETE_JOB : STORE_DELETE_BACKLOG;
    struct journal_entry *key = part(t, old, STORE_UNKEY, a, 0);
    struct journal_entry *row = part(t, old, kind, a, 1);
    if (old->kept)
        row->op.flags |= OP_KEPT;
    key->next = row;
    row->next = a->entry;
    struct journal_entry *last = a->entry;
    a->entry->op.flags |= OP_IF_KEYED;
    a->m = NULL; /* it is the journal's from here on */
    a->entry = NULL;
    bgmqi_journal_add(t->env->journal, key, last);
    err = outcome(t, a, wait, ctx);
    if (err == BGMQ_EUNCERTAIN && !bgmqi_journal_failed(t->env->journal)) {
        bgmqi_log(t->env->log, BGMQ_LOG_ERROR,
                  "%s: message %llu is held: it is not known whether it was replaced",
                  t->name, (unsigned long long)old->id);
        return err;
    }
    uint64_t id;
    if (!err && bgmqi_ticket_result(a->ticket, a->slot, &id) != 0)
        err = BGMQ_ENOENT; /* nothing was done: OLD has not the key */
    if (err) {
        bgmqi_type_unpick(t, old, p->from);
        return err;
    }
    old->row = ROW_NONE;
    bgmqi_type_delete(t, old);
    return 0;
}

static int replace_in_memory(struct type *t, struct picked *p, struct admission *a)
{
    int err = bgmqi_type_admit(t, a);
    if (!err && a->duplicate)
        err = BGMQ_ENOENT; /* somebody else has the key by now */
    if (err)
        bgmqi_type_unpick(t, p->m, p->from);
    else
        bgmqi_type_delete(t, p->m);
    return err;
}

int bgmqi_type_replace(struct type *t, uint64_t id, struct admission *a,
                       bgmqi_type_wait_fn *wait, void *ctx)
{
    struct choice c = {.lanes = WAITING, .id = id};
    struct picked p;
    int err = bgmqi_type_pick_one(t, &c, &p);
    if (!err && keyless(p.m, a->m->created_ms)) {
        bgmqi_type_unpick(t, p.m, p.from);
        err = BGMQ_ENOENT;
    }
    if (!err) {
        a->replaces = p.m;
        err = a->entry ? replace_row(t, &p, a, wait, ctx) : replace_in_memory(t, &p, a);
        a->replaces = NULL;
    }
    return err;
}
