/* type_keep.c - what an attempt keeps of its work, on its way to the next and to the journal.
 *
 * The thread of the worker that runs the attempt, which it holds (bgmqi_desk_hold): so nothing is
 * written for a message that has moved on, and no row is left behind by one that has ended. */
#include "type_impl.h"

struct progress *bgmqi_type_renew_progress(struct type *t, struct message *m)
{
    struct progress *mine;
    while (!(mine = bgmqi_progress_copy(m->progress, false, NULL, 0))) {
        struct park nobody = {0};
        bgmqi_park_wait(&nobody, 10 * INT64_C(1000000));
    }
    bgmqi_type_set_progress(t, m, mine);
    return mine;
}

void bgmqi_type_set_progress(struct type *t, struct message *m, struct progress *p)
{
    bgmqi_type_lock(t); /* for those who look */
    struct progress *old = m->progress;
    m->progress = bgmqi_progress_ref(p);
    bgmqi_type_unlock(t);
    bgmqi_progress_unref(old);
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
