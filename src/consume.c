/* consume.c - messages taken without a handler: get, ack, nak, peek, request and reply.  Any
 * thread that calls them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "handle.h"

#define MS INT64_C(1000000)

/* A message given out, or shown.  What may change meanwhile was copied when it was. */
struct bgmq_message {
    struct bgmq *mq;
    struct message *m;   /* a reference of its own */
    struct address from; /* custom: a reference */
    struct failure *failure;
    unsigned attempts;
    bool shown; /* by peek: not to be settled */
    _Atomic bool settled;
};

static void handle_fill(struct bgmq_message *h, struct bgmq *mq, struct message *m,
                        struct address from)
{
    bgmqi_message_ref(m);
    h->mq = mq;
    h->m = m;
    h->from = from;
    if (from.custom)
        bgmqi_custom_ref(from.custom);
    h->failure = bgmqi_failure_ref(message_failure(m));
    h->attempts = m->attempt;
}

static void handle_free(struct bgmq_message *h)
{
    if (h->from.custom)
        bgmqi_custom_unref(h->from.custom);
    bgmqi_message_unref(h->m);
    bgmqi_failure_unref(h->failure);
    free(h);
}

/* Ends a taken message.  The place's reference goes with it. */
static void settle(struct bgmq_message *h, enum taken_end how)
{
    if (!h->from.custom) {
        struct failure *f = NULL;
        if (how == TAKEN_DEAD)
            f = bgmqi_failure_new("Rejected", "refused by its consumer",
                                  clock_wall_ms(h->mq->clock));
        bgmqi_type_settle_taken(h->from.type, h->m, h->from.place, how, f);
    } else if (how == TAKEN_REQUEUE) {
        bgmqi_custom_return(h->from.custom, h->m);
    } else {
        bgmqi_message_unref(h->m); /* the place's reference; H has its own */
    }
}

static int take(const struct address *a, int64_t timeout_ns, struct message **ret)
{
    return a->custom ? bgmqi_custom_take(a->custom, timeout_ns, ret)
                     : bgmqi_type_take(a->type, a->place, timeout_ns, ret);
}

int bgmq_get(struct bgmq *mq, const char *queue, unsigned timeout_ms,
             struct bgmq_message **ret)
{
    int err = bgmqi_handle_enter(mq);
    struct address a;
    if (!err && !ret)
        err = BGMQ_EINVAL;
    if (!err)
        err = bgmqi_registry_resolve(mq->registry, queue, &a);
    if (err)
        return err;
    struct message *m;
    struct bgmq_message *h = calloc(1, sizeof(*h)); /* what was taken can be given */
    err = h ? take(&a, timeout_ms * MS, &m) : BGMQ_ENOMEM;
    if (!err) {
        handle_fill(h, mq, m, a);
        *ret = h;
    } else {
        free(h);
    }
    bgmqi_custom_unref(a.custom);
    return err;
}

static int end(struct bgmq_message *h, enum taken_end how)
{
    if (!h || h->shown)
        return BGMQ_EINVAL;
    if (atomic_load(&h->settled))
        return BGMQ_ELOST;
    int err = bgmqi_handle_enter(h->mq);
    if (!err && atomic_exchange(&h->settled, true))
        err = BGMQ_ELOST;
    if (!err)
        settle(h, how);
    return err;
}

int bgmq_ack(struct bgmq_message *message)
{
    return end(message, TAKEN_ACK);
}

int bgmq_nak(struct bgmq_message *message, int requeue)
{
    if (message && !requeue && message->from.custom)
        return BGMQ_EINVAL; /* it has no dlq */
    return end(message, requeue ? TAKEN_REQUEUE : TAKEN_DEAD);
}

void bgmq_message_free(struct bgmq_message *message)
{
    if (!message)
        return;
    if (!message->settled && !message->shown && bgmqi_handle_enter(message->mq) == 0)
        settle(message, TAKEN_REQUEUE);
    else if (!message->settled && !message->shown && message->from.custom)
        bgmqi_message_unref(message->m);
    handle_free(message);
}

/* ---- what a message says ----------------------------------------------------------- */

uint64_t bgmq_message_id(const struct bgmq_message *h)
{
    return h->m->id;
}

const char *bgmq_message_type(const struct bgmq_message *h)
{
    const struct message_ext *x = message_ext(h->m);
    if (x && x->type)
        return x->type;
    return h->from.type ? bgmqi_type_plain(h->from.type) : NULL;
}

const void *bgmq_message_body(const struct bgmq_message *h, size_t *ret_len)
{
    if (ret_len)
        *ret_len = h->m->len;
    return h->m->body;
}

uint64_t bgmq_message_reply_id(const struct bgmq_message *h)
{
    const struct message_ext *x = message_ext(h->m);
    return x ? x->reply_id : 0;
}

const char *bgmq_message_reply_to(const struct bgmq_message *h)
{
    const struct message_ext *x = message_ext(h->m);
    return x ? x->reply_to : NULL;
}

const char *bgmq_message_tag(const struct bgmq_message *h)
{
    const struct message_ext *x = message_ext(h->m);
    return x ? x->tag : NULL;
}

const char *bgmq_message_traceparent(const struct bgmq_message *h)
{
    const struct message_ext *x = message_ext(h->m);
    return x ? x->traceparent : NULL;
}

const char *bgmq_message_meta(const struct bgmq_message *h, const char *key)
{
    return bgmqi_message_meta(h->m, key);
}

unsigned bgmq_message_attempts(const struct bgmq_message *h)
{
    return h->attempts;
}

int bgmq_message_priority(const struct bgmq_message *h)
{
    return h->m->priority;
}

const char *bgmq_message_error_code(const struct bgmq_message *h)
{
    return h->failure ? h->failure->code : NULL;
}

const char *bgmq_message_error_text(const struct bgmq_message *h)
{
    return h->failure ? h->failure->text : NULL;
}

const void *bgmq_message_result(const struct bgmq_message *message, size_t *ret_len)
{
    /* Who lies in outq has ended: nobody changes its progress any more. */
    const struct progress *p =
        message->from.place == PLACE_OUTQ ? message_progress(message->m) : NULL;
    if (!p || !p->result)
        return NULL;
    if (ret_len)
        *ret_len = p->result_len;
    return p->result;
}

int64_t bgmq_message_error_ms(const struct bgmq_message *h)
{
    return h->failure ? h->failure->at_ms : 0;
}

/* ---- peek -------------------------------------------------------------------------- */

struct shown {
    struct message **messages;
    struct failure **failures;
    uint16_t *attempts;
};

static int show(struct bgmq *mq, const struct address *a, const struct shown *s, size_t n,
                bgmq_peek_fn *fn, void *ctx)
{
    int calls = 0;
    bool go_on = true;
    lock_assert_none();
    for (size_t i = 0; i < n; i++) {
        struct bgmq_message h = {.mq = mq,
                                 .m = s->messages[i],
                                 .from = *a,
                                 .failure = s->failures[i],
                                 .attempts = s->attempts[i],
                                 .shown = true};
        if (go_on) {
            calls++;
            go_on = fn(ctx, &h) == 0;
        }
        bgmqi_message_unref(s->messages[i]);
        bgmqi_failure_unref(s->failures[i]);
    }
    return calls;
}

int bgmq_peek(struct bgmq *mq, const char *queue, size_t max, bgmq_peek_fn *fn, void *ctx)
{
    static const size_t most = 100000; /* a look, not a dump */
    int result = bgmqi_handle_enter(mq);
    struct address a;
    if (!result && !fn)
        result = BGMQ_EINVAL;
    if (!result)
        result = bgmqi_registry_resolve(mq->registry, queue, &a);
    if (result)
        return result;
    max = max < most ? max : most;
    struct shown s = {calloc(max + 1, sizeof(*s.messages)),
                      calloc(max + 1, sizeof(*s.failures)),
                      calloc(max + 1, sizeof(*s.attempts))};
    if (s.messages && s.failures && s.attempts) {
        size_t n = a.custom ? bgmqi_custom_peek(a.custom, s.messages, max)
                            : bgmqi_type_peek(a.type, a.place, s.messages, s.failures,
                                              s.attempts, max);
        result = show(mq, &a, &s, n, fn, ctx);
    } else {
        result = BGMQ_ENOMEM;
    }
    free(s.messages);
    free(s.failures);
    free(s.attempts);
    bgmqi_custom_unref(a.custom);
    return result;
}

/* ---- temporary queues, request and reply ------------------------------------------- */

int bgmq_temp_queue(struct bgmq *mq, char name[40])
{
    unsigned char random[16];
    char made[40] = "mq:tmp:";
    int err = bgmqi_handle_enter(mq);
    if (!err && !name)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return BGMQ_EBUSY;
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(made + 7 + 2 * i, 3, "%02x", random[i]);
    err = bgmqi_registry_temp(mq->registry, made);
    if (!err)
        memcpy(name, made, sizeof(made));
    return err;
}

int bgmq_drop_queue(struct bgmq *mq, const char *queue)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    struct custom *q = bgmqi_registry_drop(mq->registry, queue);
    if (!q)
        return BGMQ_ENOENT;
    size_t held = bgmqi_custom_end(q, BGMQ_ENOENT);
    if (held && strncmp(queue, "mq:tmp:", 7) == 0)
        atomic_fetch_add(&mq->replies_dropped, held);
    bgmqi_custom_unref(q);
    return 0;
}

/* True when a message for TYPE would wait for the workers of JOB. */
static bool own_type(const struct bgmq_job *job, const char *type,
                     const struct bgmq_message_options *o)
{
    const char *channel = bgmqi_type_channel(job->type);
    const char *wanted = o ? o->channel : NULL;
    if (strcmp(bgmqi_type_plain(job->type), type) != 0)
        return false;
    return channel ? wanted && strcmp(channel, wanted) == 0
                   : !wanted || bgmqi_type_config(job->type)->any_channel;
}

int bgmq_request(struct bgmq *mq, const char *type, const void *body, size_t len,
                 const struct bgmq_message_options *options, unsigned timeout_ms,
                 struct bgmq_message **ret)
{
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    const struct bgmq_job *job = bgmqi_worker_job();
    if (job && job->env->service == mq && type && own_type(job, type, options))
        return BGMQ_EDEADLK;
    struct bgmq_message_options o = {.priority = 0};
    char queue[40];
    if (options)
        o = *options;
    o.reply_to = queue;
    if (!ret)
        return BGMQ_EINVAL;
    err = bgmq_temp_queue(mq, queue);
    if (err)
        return err;
    err = bgmq_publish(mq, type, body, len, &o, NULL);
    if (!err)
        err = bgmq_get(mq, queue, timeout_ms, ret);
    if (!err) {
        atomic_store(&(*ret)->settled, true);
        settle(*ret, TAKEN_ACK);
        bgmqi_custom_unref((*ret)->from.custom); /* it may outlive MQ */
        (*ret)->from.custom = NULL;
    }
    bgmq_drop_queue(mq, queue);
    return err;
}
