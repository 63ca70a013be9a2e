/* progress.c - what a handler keeps of its work: cursor, progress, result (see message.h).
 *
 * The worker's thread only; nobody else changes the progress of the attempt it runs, but the
 * journal's thread and whoever looks read it, under its lock.  A save at BEHIND costs a copy and
 * that lock: the entry in the journal is the same for all saves until the writer comes to it.
 * Nothing here may wait, but for the commit that the handler asked for. */
#include "progress.h"

#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "utf8.h"

enum { RESULT_MAX = 1 << 20, TEXT_MAX = 200 };

/* What one call changes. */
struct change {
    bool cursor; /* BYTES and LEN; else TEXT and NUMBER */
    void *bytes; /* taken by whoever applies it; NULL: none */
    size_t len;
    char *text;
    int64_t number;
    size_t taken; /* bytes of the budget that wait to be charged for it */
};

/* True when the message has a row, or will have: what is never in the store is kept in memory. */
static bool is_stored(const struct bgmq_job *job)
{
    return job->message->level > BGMQ_MEMORY && job->env->service->journal;
}

int bgmqi_progress_prepare(struct bgmq_job *job)
{
    if (job->progress)
        return 0;
    struct progress *p = bgmqi_progress_new(&job->env->service->budget);
    int err = p ? bgmqi_type_set_progress(job->type, job->message, p) : BGMQ_ENOMEM;
    if (err)
        bgmqi_progress_unref(p);
    else
        job->progress = p;
    return err;
}

/* The lock is held.  Leaves in C what it replaced, to be freed. */
static void apply(struct progress *p, struct change *c)
{
    if (c->cursor) {
        void *old = p->cursor;
        p->cursor = c->bytes;
        p->cursor_len = c->len;
        c->bytes = old;
        bgmqi_progress_charge(p, c->taken);
        c->taken = 0;
    } else {
        char *old = p->text;
        p->text = c->text;
        p->number = c->number;
        c->text = old;
    }
}

/* Changes the progress and sees to it that an entry of the journal is on its way.  ENOMEM. */
static int save_behind(struct bgmq_job *job, struct change *c)
{
    struct progress *p = job->progress;
    struct journal_entry *e = NULL;
    bool add, ready;
    do {
        lock_take(&p->lock);
        add = is_stored(job) && !p->queued;
        ready = !add || e;
        if (ready) {
            apply(p, c);
            p->queued |= add;
        }
        lock_drop(&p->lock);
        if (!ready && !(e = bgmqi_journal_entry_new()))
            return BGMQ_ENOMEM;
    } while (!ready);
    if (add)
        bgmqi_type_keep(job->type, job->message, p, e, BGMQ_BEHIND, NULL);
    else
        bgmqi_journal_entry_free(e);
    return 0;
}

/* Adds an entry of P's own; *RET gets the ticket to wait for.  ENOMEM. */
static int add_committed(struct bgmq_job *job, struct progress *p,
                         enum bgmq_durability level, struct ticket **ret)
{
    struct journal_entry *e = bgmqi_journal_entry_new();
    struct ticket *ticket = bgmqi_ticket_new(1);
    if (!e || !ticket) {
        bgmqi_journal_entry_free(e);
        bgmqi_ticket_discard(ticket);
        return BGMQ_ENOMEM;
    }
    bgmqi_type_keep(job->type, job->message, p, e, level, ticket);
    *ret = ticket;
    return 0;
}

/* Waits for TICKET's commit, not held meanwhile: the attempt may be given up.  Held again when it
 * returns, unless ELOST. */
static int await(struct bgmq_job *job, struct ticket *ticket)
{
    struct bgmq *mq = job->env->service;
    bgmqi_desk_unhold(job->desk);
    int err = bgmqi_ticket_wait(ticket, mq->config.publish_timeout_ms * INT64_C(1000000));
    bgmqi_ticket_release(ticket);
    if (!bgmqi_desk_hold(job->desk))
        return BGMQ_ELOST;
    return err == BGMQ_ETIMEOUT ? bgmqi_journal_timeout_err(mq->journal) : err;
}

/* Commits a copy with the new cursor, which becomes the progress once it is in the database: a
 * save that fails changes nothing.  Held when it returns, unless ELOST. */
static int save_committed(struct bgmq_job *job, struct change *c,
                          enum bgmq_durability level)
{
    struct ticket *ticket;
    struct progress *p = bgmqi_progress_copy(job->progress, true, c->bytes, c->len);
    if (!p)
        return BGMQ_ENOMEM;
    c->bytes = NULL;
    int err = add_committed(job, p, level, &ticket);
    if (!err)
        err = await(job, ticket);
    if (!err)
        err = bgmqi_type_set_progress(job->type, job->message, p);
    if (err) {
        bgmqi_progress_unref(p);
        return err;
    }
    bgmqi_progress_unref(job->progress);
    job->progress = p;
    return 0;
}

int bgmqi_progress_room(struct bgmq_job *job, size_t bytes)
{
    struct bgmq *mq = job->env->service;
    if (bgmqi_mem_take(&mq->budget, bytes) == 0 ||
        (mq->types.room(mq->types.ctx, bytes) && bgmqi_mem_take(&mq->budget, bytes) == 0))
        return 0;
    return BGMQ_EFULL;
}

/* Takes what a longer cursor needs.  EFULL. */
static int take_room(struct bgmq_job *job, struct change *c)
{
    size_t had = job->progress->cursor ? job->progress->cursor_len : 0;
    size_t need = c->cursor && c->len > had ? c->len - had : 0;
    int err = bgmqi_progress_room(job, need);
    if (!err)
        c->taken = need;
    return err;
}

static int save(struct bgmq_job *job, struct change *c, enum bgmq_durability level)
{
    int err = bgmqi_desk_hold(job->desk) ? bgmqi_progress_prepare(job) : BGMQ_ELOST;
    if (!err && is_stored(job) && bgmqi_journal_failed(job->env->service->journal))
        err = BGMQ_ESTORE;
    if (!err)
        err = take_room(job, c);
    if (!err)
        err = is_stored(job) && level >= BGMQ_COMMIT ? save_committed(job, c, level)
                                                     : save_behind(job, c);
    if (err != BGMQ_ELOST)
        bgmqi_desk_unhold(job->desk);
    bgmqi_mem_give(&job->env->service->budget, c->taken);
    free(c->bytes);
    free(c->text);
    return err;
}

int bgmq_job_save_cursor(struct bgmq_job *job, const void *bytes, size_t len,
                         enum bgmq_durability level)
{
    if (!job || (!bytes && len) || len > BGMQI_CURSOR_MAX || level < BGMQ_DEFAULT ||
        level == BGMQ_MEMORY || level > BGMQ_DISK)
        return BGMQ_EINVAL;
    struct change c = {.cursor = true, .len = len};
    if (bytes && !(c.bytes = bgmqi_progress_bytes(bytes, len)))
        return BGMQ_ENOMEM;
    return save(job, &c, level);
}

const void *bgmq_job_cursor(const struct bgmq_job *job, size_t *ret_len)
{
    const struct progress *p = job->progress;
    if (!p || !p->cursor)
        return NULL;
    if (ret_len)
        *ret_len = p->cursor_len;
    return p->cursor;
}

int bgmq_job_progress(struct bgmq_job *job, int64_t number, const char *text)
{
    struct change c = {.number = number};
    if (!job)
        return BGMQ_EINVAL;
    if (text) {
        size_t len = bgmqi_utf8_cut(text, strnlen(text, TEXT_MAX + 4), TEXT_MAX);
        if (!bgmqi_utf8_valid(text, len))
            return BGMQ_EINVAL;
        if (!(c.text = bgmqi_progress_bytes(text, len)))
            return BGMQ_ENOMEM;
    }
    return save(job, &c, BGMQ_BEHIND);
}

int bgmq_job_result(struct bgmq_job *job, const void *bytes, size_t len)
{
    if (!job || (!bytes && len) || len > RESULT_MAX)
        return BGMQ_EINVAL;
    void *copy = bytes ? bgmqi_progress_bytes(bytes, len) : NULL;
    if (bytes && !copy)
        return BGMQ_ENOMEM;
    int err = BGMQ_ELOST;
    if (bgmqi_desk_hold(job->desk)) {
        err = bgmqi_progress_prepare(job);
        bgmqi_desk_unhold(job->desk);
    }
    size_t had = job->result ? job->result_len : 0;
    if (!err)
        err = bgmqi_progress_room(job, copy && len > had ? len - had : 0);
    if (err) {
        free(copy);
        return err;
    }
    bgmqi_mem_give(&job->env->service->budget, !copy ? had : had > len ? had - len : 0);
    free(job->result);
    job->result = copy;
    job->result_len = copy ? len : 0;
    return 0;
}
