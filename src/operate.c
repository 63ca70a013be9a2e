/* operate.c - what operators do with messages: retry, cancel, discard, change, find.  Any thread,
 * handlers too; callers wait for the journal when the database has to be asked. */
#include <stdlib.h>
#include <string.h>

#include "handle.h"

enum { PRIORITY_MAX = 32767 };
#define HUNDRED_YEARS_MS INT64_C(3155760000000)

/* ---- retry ------------------------------------------------------------------------- */

int bgmq_retry(struct bgmq *mq, const char *type, const struct bgmq_select *which)
{
    struct type *t;
    int err = bgmqi_handle_type(mq, type, &t);
    return err ? err : bgmqi_type_retry(t, which);
}

int bgmq_retry_dead(struct bgmq *mq, const char *type, uint64_t id)
{
    struct bgmq_select which = {.id = id};
    return bgmq_retry(mq, type, &which);
}

struct pending {
    uint64_t *ids;
    size_t n, cap;
};

static int note_ids(void *ctx, const uint64_t *ids, size_t n)
{
    struct pending *p = ctx;
    if (p->cap - p->n < n) {
        size_t cap = 2 * p->cap + n;
        uint64_t *more = reallocarray(p->ids, cap, sizeof(*more));
        if (!more)
            return BGMQ_ENOMEM;
        p->ids = more;
        p->cap = cap;
    }
    if (n)
        memcpy(p->ids + p->n, ids, n * sizeof(*ids));
    p->n += n;
    return 0;
}

static int retry_type(void *ctx, struct type *t)
{
    int n = bgmqi_type_retry_pending(t, note_ids, ctx);
    return n < 0 ? n : 0;
}

int bgmq_retry_pending(struct bgmq *mq, uint64_t **ret_ids)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    struct pending p = {.n = 0};
    lock_take(&mq->pending);
    err = bgmqi_registry_each(mq->registry, false, retry_type, &p);
    lock_drop(&mq->pending);
    if (err && p.n == 0) {
        free(p.ids);
        return err;
    }
    if (p.n == 0 || !ret_ids) {
        free(p.ids);
        p.ids = NULL;
    }
    if (ret_ids)
        *ret_ids = p.ids;
    return (int)p.n;
}

/* ---- cancel, discard, change ------------------------------------------------------- */

/* Handlers that are asked to end. */
struct asked {
    const struct bgmq_select *which;
    unsigned left;
};

/* True when WHICH names M; the same question as bgmqi_choice_fits, of one that runs. */
static bool fits(const struct bgmq_select *w, const struct message *m)
{
    const struct message_ext *x = message_ext(m);
    const struct failure *f = message_failure(m);
    const char *tag = x ? x->tag : NULL, *code = f ? f->code : NULL;
    return (!w->id || w->id == m->id) &&
           (!w->before_ms || m->created_ms < w->before_ms) &&
           (!w->tag || (tag && strcmp(tag, w->tag) == 0)) &&
           (!w->error_code || (code && strcmp(code, w->error_code) == 0));
}

static bool match(void *ctx, const struct message *m)
{
    struct asked *a = ctx;
    if (a->left == 0 || !fits(a->which, m))
        return false;
    a->left--;
    return true;
}

/* Those that wait, then those that run, then those that have been put back meanwhile. */
static int cancel(struct type *t, struct bgmq_select which, struct failure *why)
{
    unsigned max = which.max;
    int total = 0;
    for (int i = 0; i < 3; i++) {
        int n;
        if (max && (unsigned)total >= max)
            break;
        which.max = max ? max - (unsigned)total : 0;
        struct asked running = {&which, which.max ? which.max : UINT32_MAX};
        if (i == 1)
            n = (int)bgmqi_type_cancel_if(t, match, &running);
        else
            n = bgmqi_type_abandon(t, &which, why);
        if (n > 0)
            total += n;
        else if (n < 0 && n != BGMQ_ENOENT && n != BGMQ_EBUSY)
            return total ? total : n;
        if (which.id && total)
            break;
    }
    return which.id && !total ? BGMQ_ENOENT : total;
}

int bgmq_cancel(struct bgmq *mq, const char *type, const struct bgmq_select *which,
                const char *text)
{
    struct type *t;
    int err = bgmqi_handle_type(mq, type, &t);
    if (err)
        return err;
    struct failure *why =
        bgmqi_failure_new("cancelled", text ? text : "", clock_wall_ms(mq->clock));
    if (!why)
        return BGMQ_ENOMEM;
    int n = cancel(t, which ? *which : (struct bgmq_select){.id = 0}, why);
    bgmqi_failure_unref(why);
    return n;
}

int bgmq_discard(struct bgmq *mq, const char *type, const struct bgmq_select *which)
{
    struct type *t;
    int err = bgmqi_handle_type(mq, type, &t);
    return err ? err : bgmqi_type_discard(t, which);
}

int bgmq_change(struct bgmq *mq, const char *type, uint64_t id,
                const struct bgmq_change *change)
{
    struct type *t;
    int err = bgmqi_handle_type(mq, type, &t);
    if (err)
        return err;
    if (id == 0 || !change || (!change->set_time && !change->set_priority))
        return BGMQ_EINVAL;
    if (change->set_priority && (change->priority < 0 || change->priority > PRIORITY_MAX))
        return BGMQ_EINVAL;
    if (change->set_time &&
        (change->run_at_ms < 0 ||
         change->run_at_ms > clock_plus(clock_wall_ms(mq->clock), HUNDRED_YEARS_MS)))
        return BGMQ_EINVAL;
    return bgmqi_type_change(t, id, change);
}

/* ---- one message ------------------------------------------------------------------- */

int bgmq_find(struct bgmq *mq, const char *type, uint64_t id, struct bgmq_info *ret)
{
    struct type *t;
    int err = bgmqi_handle_type(mq, type, &t);
    if (!err && (!ret || id == 0))
        err = BGMQ_EINVAL;
    return err ? err : bgmqi_type_find(t, id, ret);
}

/* Failed attempts as the database tells them: copies, to be shown with no store at hand. */
struct told {
    uint64_t id;
    struct told_error {
        struct told_error *next;
        unsigned attempt;
        int64_t at_ms;
        char *text;
        char code[]; /* and a NUL, and the text */
    } * first, **last;
    int err;
};

static int note_error(void *ctx, unsigned attempt, int64_t at_ms, const char *code,
                      const char *text)
{
    struct told *told = ctx;
    size_t code_size = strlen(code) + 1, text_size = text ? strlen(text) + 1 : 1;
    struct told_error *e = malloc(sizeof(*e) + code_size + text_size);
    if (!e)
        return BGMQ_ENOMEM;
    *e = (struct told_error){.attempt = attempt, .at_ms = at_ms};
    e->text = e->code + code_size;
    memcpy(e->code, code, code_size);
    memcpy(e->text, text ? text : "", text_size);
    *told->last = e;
    told->last = &e->next;
    return 0;
}

static void read_errors(void *ctx, struct store *s)
{
    struct told *told = ctx;
    int n = s->ops->errors(s, told->id, note_error, told);
    told->err = n < 0 ? n : 0;
}

static int run(struct bgmq *mq, bgmqi_journal_fn *fn, void *ctx)
{
    int64_t patience = mq->config.publish_timeout_ms * INT64_C(1000000);
    return bgmqi_journal_run(mq->journal, fn, ctx, patience);
}

int bgmq_errors(struct bgmq *mq, uint64_t id, bgmq_error_fn *fn, void *ctx)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (!fn || id == 0 || !mq->journal)
        return BGMQ_EINVAL;
    struct told told = {.id = id};
    told.last = &told.first;
    err = run(mq, read_errors, &told);
    err = err ? err : told.err;
    int calls = 0;
    bool go_on = !err;
    lock_assert_none();
    for (struct told_error *e = told.first, *next; e; e = next) {
        next = e->next;
        struct bgmq_attempt_error shown = {e->attempt, e->at_ms, e->code, e->text};
        if (go_on) {
            calls++;
            go_on = fn(ctx, &shown) == 0;
        }
        free(e);
    }
    return err ? err : calls;
}

struct kept_result {
    uint64_t id;
    void *bytes;
    size_t len;
    int err;
};

static int copy_result(void *ctx, const struct store_ended *e)
{
    struct kept_result *k = ctx;
    if (!e->result)
        return 0;
    k->bytes = malloc(e->result_len + 1);
    if (!k->bytes)
        return BGMQ_ENOMEM;
    memcpy(k->bytes, e->result, e->result_len);
    ((char *)k->bytes)[e->result_len] = '\0';
    k->len = e->result_len;
    return 0;
}

static void read_result(void *ctx, struct store *s)
{
    struct kept_result *k = ctx;
    int n = s->ops->ended(s, k->id, copy_result, k);
    k->err = n < 0 ? n : k->bytes ? 0 : BGMQ_ENOENT;
}

int bgmq_result(struct bgmq *mq, uint64_t id, void **ret, size_t *ret_len)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (!ret || id == 0)
        return BGMQ_EINVAL;
    if (!mq->journal)
        return BGMQ_ENOENT; /* there is no history */
    struct kept_result k = {.id = id};
    err = run(mq, read_result, &k);
    err = err ? err : k.err;
    if (err) {
        free(k.bytes);
        return err;
    }
    *ret = k.bytes;
    if (ret_len)
        *ret_len = k.len;
    return 0;
}
