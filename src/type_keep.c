/* type_keep.c - what an attempt keeps of its work, on its way to the next and to the journal; and
 * where a message that is with its type gets room for what it did not have.
 *
 * The thread of the worker that runs the attempt, which it holds (bgmqi_desk_hold): so nothing is
 * written for a message that has moved on, and no row is left behind by one that has ended.  The
 * first two are for any thread that settles or picks a message. */
#include "type_impl.h"

struct message_extra *bgmqi_type_extra(const struct message *m)
{
    struct message_extra *x = NULL;
    while (!message_extra(m) && !(x = bgmqi_message_extra_new())) {
        struct park nobody = {0};
        bgmqi_park_wait(&nobody, 10 * INT64_C(1000000));
    }
    return x;
}

void bgmqi_type_extend(struct type *t, struct message *m, struct message_extra *x)
{
    if (x && bgmqi_message_attach(m, x))
        bgmqi_mem_charge_always(&t->memory, bgmqi_message_extra_cost());
}

static void put(struct type *t, struct message *m, struct message_extra *x,
                struct progress *p)
{
    bgmqi_type_lock(t); /* for those who look */
    bgmqi_type_extend(t, m, x);
    struct progress *old = message_put_progress(m, bgmqi_progress_ref(p));
    bgmqi_type_unlock(t);
    bgmqi_progress_unref(old);
}

struct progress *bgmqi_type_renew_progress(struct type *t, struct message *m)
{
    struct progress *mine;
    while (!(mine = bgmqi_progress_copy(message_progress(m), false, NULL, 0))) {
        struct park nobody = {0};
        bgmqi_park_wait(&nobody, 10 * INT64_C(1000000));
    }
    put(t, m, NULL, mine); /* where it had one before */
    return mine;
}

int bgmqi_type_set_progress(struct type *t, struct message *m, struct progress *p)
{
    struct message_extra *x = NULL;
    if (!message_extra(m) && !(x = bgmqi_message_extra_new()))
        return BGMQ_ENOMEM;
    put(t, m, x, p);
    return 0;
}

void bgmqi_type_keep(struct type *t, struct message *m, struct progress *p,
                     struct journal_entry *entry, enum bgmq_durability level,
                     struct ticket *ticket)
{
    /* M is the caller's, so its earlier entries are in the journal, and no lock is needed.  From
     * here on its INSERT is not taken back: there would be no DELETE for this row. */
    m->kept = true;
    bgmqi_type_fill(t, entry, STORE_PROGRESS, m, OUTCOME_NONE, 0);
    entry->op.level = (uint8_t)level;
    entry->op.ticket = ticket;
    entry->op.progress = bgmqi_progress_ref(p);
    bgmqi_message_ref(m);
    bgmqi_journal_add(t->env->journal, entry, entry);
}
