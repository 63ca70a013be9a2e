/* reply.c - where a response goes, and what an answer to a failed request says.
 *
 * Runs on the worker's thread, after the handler and before the request is settled: a crash in
 * between repeats the request and its reply, and loses neither.  A reply that cannot be
 * delivered is logged and counted; the work is done all the same. */
#include "reply.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

static bool response_wanted(const struct bgmq *mq, const char *type)
{
    if (mq->config.no_responses)
        return false;
    if (!mq->config.response_types)
        return true;
    for (char **t = mq->config.response_types; *t; t++)
        if (strcmp(*t, type) == 0)
            return true;
    return false;
}

/* {"error":{"code":..,"message":..}}, to be freed; NULL: no memory. */
static char *error_body(const struct failure *f)
{
    json_t *root = json_pack("{s:{s:s, s:s}}", "error", "code", f ? f->code : "Failed",
                             "message", f ? f->text : "");
    char *text = bgmqi_json_text(root, JSON_ENSURE_ASCII, NULL);
    json_decref(root);
    return text;
}

static void drop(struct bgmq *mq, const struct bgmq_job *job, const char *to, int err)
{
    atomic_fetch_add(&mq->replies_dropped, 1);
    bgmqi_log(&mq->config.log, err == BGMQ_ENOENT ? BGMQ_LOG_DEBUG : BGMQ_LOG_WARNING,
              "%s: the reply of message %llu to %s was dropped: %s",
              bgmqi_type_name(job->type), (unsigned long long)job->message->id, to,
              bgmq_strerror(err));
}

/* A reply that is dropped went somewhere, too. */
static int send_reply(struct bgmq *mq, const struct publication *p, void *ctx)
{
    int err = bgmqi_publish(mq, p, NULL);
    if (err)
        drop(mq, ctx, p->queue ? p->queue : p->type, err);
    return 0;
}

/* Gives the reply what FROM has, which may be NULL. */
static void carry(struct publication *p, struct bgmq_message_options *o,
                  const struct message_ext *from)
{
    if (!from)
        return;
    if (from->tag)
        o->tag = from->tag;
    if (from->traceparent)
        o->traceparent = from->traceparent;
    if (from->meta) {
        p->meta_packed = from->meta;
        p->meta_len = from->meta_len;
    }
}

int bgmqi_reply_by(struct bgmq *mq, struct bgmq_job *job, bool failed, bgmqi_reply_fn *fn,
                   void *ctx)
{
    const struct message *m = job->message;
    const struct message_ext *x = message_ext(m);
    const char *reply_to = x ? x->reply_to : NULL;
    struct bgmq_message_options o = {.reply_id = m->id};
    struct publication p = {
        .queue = reply_to, .options = &o, .behind = m->row != ROW_NONE};
    carry(&p, &o, x);
    carry(&p, &o, job->reply_ext);
    if (failed) {
        char *body = error_body(job->failure);
        if (!body)
            return BGMQ_ENOMEM;
        p.body = body;
        p.len = strlen(body);
        p.body_type = "Error";
        p.failure = job->failure;
        int err = fn(mq, &p, ctx);
        free(body);
        return err;
    }
    if (job->response_type) {
        p.body = job->response;
        p.len = job->response_len;
        p.body_type = job->response_type;
        if (!reply_to && !response_wanted(mq, job->response_type))
            return 0; /* it had a response, so it is not one for outq */
        p.type = reply_to ? NULL : job->response_type;
    } else {
        p.body = m->body;
        p.len = m->len;
        p.body_type = bgmqi_type_plain(job->type);
    }
    return fn(mq, &p, ctx);
}

bool bgmqi_reply_send(void *ctx, struct bgmq_job *job, bool failed)
{
    int err = bgmqi_reply_by(ctx, job, failed, send_reply, job);
    if (err) /* what it would say has found no memory */
        drop(ctx, job, message_ext(job->message)->reply_to, err);
    return err == 0;
}
