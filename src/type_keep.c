/* type_keep.c - what an attempt keeps of its work, on its way to the next and to the journal.
 *
 * The thread of the worker that runs the attempt.  Whether the attempt still counts is asked
 * under the type's lock, which whoever takes the message away holds: so nothing is written for
 * a message that has moved on, and no row is left behind by one that has ended. */
#include "type_impl.h"

struct progress *bgmqi_type_renew_progress(struct type *t, struct message *m)
{
    struct progress *mine;
    while (!(mine = bgmqi_progress_copy(m->progress, false, NULL, 0))) {
        struct park nobody = {0};
        bgmqi_park_wait(&nobody, 10 * INT64_C(1000000));
    }
    bgmqi_type_lock(t);
    struct progress *old = m->progress;
    m->progress = bgmqi_progress_ref(mine);
    bgmqi_type_unlock(t);
    bgmqi_progress_unref(old);
    return mine;
}

int bgmqi_desk_set_progress(struct desk *d, struct message *m, struct progress *p)
{
    struct type *t = d->type;
    struct progress *old = NULL;
    bgmqi_type_lock(t);
    bool owned = bgmqi_desk_owns(d);
    if (owned) {
        old = m->progress;
        m->progress = bgmqi_progress_ref(p);
    }
    bgmqi_type_unlock(t);
    bgmqi_progress_unref(old);
    return owned ? 0 : BGMQ_ELOST;
}

int bgmqi_desk_keep(struct desk *d, struct message *m, struct progress *p,
                    struct journal_entry *entry, enum bgmq_durability level,
                    struct ticket *ticket)
{
    struct type *t = d->type;
    bgmqi_type_lock(t);
    bool owned = bgmqi_desk_owns(d);
    if (owned) {
        /* From here on its INSERT is not taken back: there would be no DELETE for this row. */
        m->kept = true;
        bgmqi_type_fill(t, entry, STORE_PROGRESS, m, OUTCOME_NONE, 0);
        entry->op.level = (uint8_t)level;
        entry->op.ticket = ticket;
        entry->op.progress = bgmqi_progress_ref(p);
        bgmqi_message_ref(m);
        bgmqi_journal_add(t->env->journal, entry, entry);
    }
    bgmqi_type_unlock(t);
    return owned ? 0 : BGMQ_ELOST;
}
