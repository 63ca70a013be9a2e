/* job.c - what a handler asks of its job.  The worker's thread only. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "json.h"

struct bgmq *bgmq_job_service(struct bgmq_job *job)
{
    return job->env->service;
}

uint64_t bgmq_job_id(const struct bgmq_job *job)
{
    return job->message->id;
}

const char *bgmq_job_type(const struct bgmq_job *job)
{
    return bgmqi_type_plain(job->type);
}

const char *bgmq_job_channel(const struct bgmq_job *job)
{
    const struct message_ext *x = message_ext(job->message);
    return x && x->channel ? x->channel : bgmqi_type_channel(job->type);
}

const void *bgmq_job_body(const struct bgmq_job *job, size_t *ret_len)
{
    if (ret_len)
        *ret_len = job->message->len;
    return job->message->body;
}

unsigned bgmq_job_attempt(const struct bgmq_job *job)
{
    return job->attempt;
}

unsigned bgmq_job_max_attempts(const struct bgmq_job *job)
{
    unsigned most = job->message->max_attempts;
    return most ? most : bgmqi_type_config(job->type)->max_attempts;
}

int bgmq_job_priority(const struct bgmq_job *job)
{
    return job->message->priority;
}

const char *bgmq_job_tag(const struct bgmq_job *job)
{
    const struct message_ext *x = message_ext(job->message);
    return x ? x->tag : NULL;
}

const char *bgmq_job_traceparent(const struct bgmq_job *job)
{
    const struct message_ext *x = message_ext(job->message);
    return x ? x->traceparent : NULL;
}

const char *bgmq_job_reply_to(const struct bgmq_job *job)
{
    const struct message_ext *x = message_ext(job->message);
    return x ? x->reply_to : NULL;
}

const char *bgmq_job_meta(const struct bgmq_job *job, const char *key)
{
    return bgmqi_message_meta(job->message, key);
}

const char *bgmq_job_error_code(const struct bgmq_job *job)
{
    return job->failure ? job->failure->code : NULL;
}

const char *bgmq_job_error_text(const struct bgmq_job *job)
{
    return job->failure ? job->failure->text : NULL;
}

int bgmq_job_cancelled(const struct bgmq_job *job)
{
    return bgmqi_desk_cancelled(job->desk) != 0;
}

int64_t bgmq_job_time_left(const struct bgmq_job *job)
{
    int64_t deadline_ns = bgmqi_desk_deadline(job->desk);
    if (deadline_ns == INT64_MAX)
        return INT64_MAX;
    int64_t left_ns = deadline_ns - clock_mono_ns(job->env->clock);
    return left_ns > 0 ? (left_ns + 999999) / 1000000 : 0;
}

/* ---- JSON -------------------------------------------------------------------------- */

int bgmq_job_json(struct bgmq_job *job, json_t **ret)
{
    struct bgmq_error error;
    if (!ret)
        return BGMQ_EINVAL;
    if (!job->json) {
        int err =
            bgmqi_json_parse(job->message->body, job->message->len, &job->json, &error);
        if (err == BGMQ_EJSON)
            bgmqi_worker_note(job, "BadJson", error.text);
        if (err)
            return err;
    }
    *ret = job->json;
    return 0;
}

int bgmq_job_unpack(struct bgmq_job *job, const char *format, ...)
{
    json_t *root;
    int err = format ? bgmq_job_json(job, &root) : BGMQ_EINVAL;
    if (err)
        return err;
    json_error_t why = {.text = ""};
    bool bad = true;
    /* A strict format takes a key it had no memory to remember for one that is left (jansson 2.14),
     * and is asked again, unless that would count references (O) twice.  One lack of memory is
     * told so from a bad body; two in a row, with some in between, are not. */
    int times = strchr(format, 'O') ? 1 : 2;
    for (int i = 0; bad && i < times; i++) {
        va_list args;
        va_start(args, format);
        bad = json_vunpack_ex(root, &why, 0, format, args) != 0;
        va_end(args);
        if (bad && json_error_code(&why) != json_error_end_of_input_expected)
            break;
    }
    if (!bad)
        return 0;
    if (json_error_code(&why) == json_error_out_of_memory)
        return BGMQ_ENOMEM;
    char text[256];
    snprintf(text, sizeof(text), "the body is not %s: %s", format, why.text);
    bgmqi_worker_note(job, "BadJson", text);
    return BGMQ_EJSON;
}

/* ---- verdicts ---------------------------------------------------------------------- */

int bgmq_job_fail(struct bgmq_job *job, enum bgmq_verdict verdict, const char *code,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : malloc((size_t)len + 1);
    if (text)
        vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    bgmqi_worker_note(job, code ? code : "Failed", text ? text : format);
    free(text);
    return (int)verdict;
}

int bgmq_job_snooze(struct bgmq_job *job, int64_t delay_ms)
{
    static const int64_t hundred_years_ms = INT64_C(3155760000000);
    job->snooze_ms = delay_ms > hundred_years_ms ? hundred_years_ms : delay_ms;
    return BGMQ_SNOOZE;
}

/* ---- the response ------------------------------------------------------------------ */

int bgmq_job_respond(struct bgmq_job *job, const char *type, const void *body, size_t len)
{
    char *name = NULL;
    void *copy = NULL;
    if (type) {
        if (!body || !bgmqi_registry_valid(type))
            return BGMQ_EINVAL;
        if (len > job->env->service->config.max_body)
            return BGMQ_ETOOBIG;
        name = strdup(type);
        copy = malloc(len ? len : 1);
        if (!name || !copy) {
            free(name);
            free(copy);
            return BGMQ_ENOMEM;
        }
        memcpy(copy, body, len);
    }
    free(job->response_type);
    free(job->response);
    job->response_type = name;
    job->response = copy;
    job->response_len = len;
    return 0;
}

int bgmq_job_reply_options(struct bgmq_job *job,
                           const struct bgmq_message_options *options)
{
    if (!options)
        return BGMQ_EINVAL;
    struct bgmq_message_options o = {
        .tag = options->tag, .traceparent = options->traceparent, .meta = options->meta};
    struct message_ext *ext;
    int err = bgmqi_message_ext_new(&o, NULL, NULL, 0, &ext);
    if (err)
        return err;
    bgmqi_message_ext_free(job->reply_ext);
    job->reply_ext = ext;
    return 0;
}

int bgmq_job_respond_json(struct bgmq_job *job, const char *type, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text;
    size_t len;
    struct bgmq_error error;
    int err = bgmqi_json_pack(&text, &len, &error, format, args);
    va_end(args);
    if (err == BGMQ_EJSON)
        bgmqi_worker_note(job, "BadJson", error.text);
    if (err)
        return err;
    err = bgmq_job_respond(job, type, text, len);
    free(text);
    return err;
}
