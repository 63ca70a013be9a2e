/* progress.c - what a handler keeps of its work: cursor, progress, result (see message.h).
 *
 * The worker's thread only; nobody else changes the progress of the attempt it runs, but the
 * journal's thread and whoever looks read it, under its lock.  A save at BEHIND costs a copy and
 * that lock: the entry in the journal is the same for all saves until the writer comes to it.
 * Nothing here may wait, but for the commit that the handler asked for. */
#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "utf8.h"

enum { CURSOR_MAX = 64 << 10, RESULT_MAX = 1 << 20, TEXT_MAX = 200 };

/* What one call changes. */
struct change {
    bool cursor; /* BYTES and LEN; else TEXT and NUMBER */
    void *bytes; /* taken by whoever applies it; NULL: none */
    size_t len;
    char *text;
    int64_t number;
};

/* True when the message has a row, or will have: what is never in the store is kept in memory. */
static bool is_stored(const struct bgmq_job *job)
{
    return job->message->level > BGMQ_MEMORY && job->env->service->journal;
}

/* 0 when JOB may keep something, and then it has a progress.  ELOST, ENOMEM. */
static int prepare(struct bgmq_job *job)
{
    if (!bgmqi_desk_owns(job->desk))
        return BGMQ_ELOST;
    if (job->progress)
        return 0;
    struct progress *p = bgmqi_progress_new();
    if (!p)
        return BGMQ_ENOMEM;
    int err = bgmqi_desk_set_progress(job->desk, job->message, p);
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
    } else {
        char *old = p->text;
        p->text = c->text;
        p->number = c->number;
        c->text = old;
    }
}

/* Changes the progress and sees to it that an entry of the journal is on its way.  ENOMEM, ELOST. */
static int save_behind(struct bgmq_job *job, struct change *c)
{
    struct progress *p = job->progress;
    struct journal_entry *e = NULL;
    bool add;
    for (;;) {
        lock_take(&p->lock);
        add = is_stored(job) && !p->queued;
        bool ready = !add || e;
        if (ready) {
            apply(p, c);
            p->queued |= add;
        }
        lock_drop(&p->lock);
        if (ready)
            break;
        if (!(e = bgmqi_journal_entry_new()))
            return BGMQ_ENOMEM;
    }
    int err = 0;
    if (add)
        err = bgmqi_desk_keep(job->desk, job->message, p, e, BGMQ_BEHIND, NULL);
    if (!add || err)
        bgmqi_journal_entry_free(e);
    return err;
}

/* Writes P by an entry of its own and waits for its commit. */
static int commit(struct bgmq_job *job, struct progress *p, enum bgmq_durability level)
{
    struct bgmq *mq = job->env->service;
    struct journal_entry *e = bgmqi_journal_entry_new();
    struct ticket *ticket = bgmqi_ticket_new(1);
    int err = e && ticket ? bgmqi_desk_keep(job->desk, job->message, p, e, level, ticket)
                          : BGMQ_ENOMEM;
    if (err) {
        bgmqi_journal_entry_free(e);
        bgmqi_ticket_discard(ticket);
        return err;
    }
    err = bgmqi_ticket_wait(ticket, mq->config.publish_timeout_ms * INT64_C(1000000));
    bgmqi_ticket_release(ticket);
    return err == BGMQ_ETIMEOUT ? bgmqi_journal_timeout_err(mq->journal) : err;
}

/* Commits a copy with the new cursor, which becomes the progress once it is in the database:
 * a save that fails changes nothing. */
static int save_committed(struct bgmq_job *job, struct change *c,
                          enum bgmq_durability level)
{
    struct progress *p = bgmqi_progress_copy(job->progress, true, c->bytes, c->len);
    if (!p)
        return BGMQ_ENOMEM;
    c->bytes = NULL;
    int err = commit(job, p, level);
    if (!err)
        err = bgmqi_desk_set_progress(job->desk, job->message, p);
    if (err) {
        bgmqi_progress_unref(p);
        return err;
    }
    bgmqi_progress_unref(job->progress);
    job->progress = p;
    return 0;
}

static int save(struct bgmq_job *job, struct change *c, enum bgmq_durability level)
{
    int err = prepare(job);
    if (!err && is_stored(job) && bgmqi_journal_failed(job->env->service->journal))
        err = BGMQ_ESTORE;
    if (!err)
        err = is_stored(job) && level >= BGMQ_COMMIT ? save_committed(job, c, level)
                                                     : save_behind(job, c);
    free(c->bytes);
    free(c->text);
    return err;
}

int bgmq_job_save_cursor(struct bgmq_job *job, const void *bytes, size_t len,
                         enum bgmq_durability level)
{
    if (!job || (!bytes && len) || len > CURSOR_MAX || level < BGMQ_DEFAULT ||
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
    int err = prepare(job);
    if (err)
        return err;
    void *copy = bytes ? bgmqi_progress_bytes(bytes, len) : NULL;
    if (bytes && !copy)
        return BGMQ_ENOMEM;
    free(job->result);
    job->result = copy;
    job->result_len = len;
    return 0;
}
