/* worker.c - the thread of a worker: one turn is take, run, settle (see worker.h).
 *
 * Everything here runs on the worker's own thread with no lock held; the user's functions are
 * called from nowhere else. */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "retry.h"
#include "thread.h"

struct worker {
    struct desk *desk;
    const struct worker_env *env;
    pthread_t thread;
    _Atomic bool ended;
    uint64_t random; /* used by the worker only */
};

static _Thread_local struct bgmq_job *current;

struct bgmq_job *bgmqi_worker_job(void)
{
    return current;
}

void bgmqi_worker_note(struct bgmq_job *job, const char *code, const char *text)
{
    struct failure *f = bgmqi_failure_new(code, text, clock_wall_ms(job->env->clock));
    bgmqi_failure_unref(job->failure);
    job->failure = f;
}

/* ---- what the user's functions decide ---------------------------------------------- */

/* Turns what a handler returned into a verdict, with an error noted when it failed. */
static enum bgmq_verdict verdict_of(struct bgmq_job *job, int returned)
{
    char text[128];
    if (returned >= BGMQ_DONE && returned <= BGMQ_DISCARD) {
        if (!job->failure && (returned == BGMQ_RETRY || returned == BGMQ_PERMANENT))
            bgmqi_worker_note(job, "Failed", "the handler gave no reason");
        return (enum bgmq_verdict)returned;
    }
    if (returned < 0 && strcmp(bgmq_errname(returned), "BGMQ_E?") != 0) {
        if (!job->failure)
            bgmqi_worker_note(job, bgmq_errname(returned), bgmq_strerror(returned));
        return returned == BGMQ_EJSON ? BGMQ_PERMANENT : BGMQ_RETRY;
    }
    snprintf(text, sizeof(text), "the handler returned %d, which is no verdict",
             returned);
    bgmqi_log(job->env->log, BGMQ_LOG_ERROR, "%s: message %llu: %s",
              bgmqi_type_name(job->type), (unsigned long long)job->message->id, text);
    bgmqi_worker_note(job, "BadVerdict", text);
    return BGMQ_RETRY;
}

static enum bgmq_verdict run(struct bgmq_job *job, const struct type_config *c)
{
    bgmq_handler_fn *before =
        c->request_filter ? c->request_filter : job->env->request_filter;
    bgmq_handler_fn *after =
        c->response_filter ? c->response_filter : job->env->response_filter;
    enum bgmq_verdict verdict = BGMQ_DONE;
    if (before)
        verdict = verdict_of(job, before(job, c->handler_ctx));
    if (verdict == BGMQ_DONE)
        verdict = verdict_of(job, c->handler(job, c->handler_ctx));
    if (verdict == BGMQ_DONE && after)
        verdict = verdict_of(job, after(job, c->handler_ctx));
    return verdict;
}

static unsigned most_attempts(const struct bgmq_job *job)
{
    unsigned most = job->message->max_attempts;
    return most ? most : bgmqi_type_config(job->type)->max_attempts;
}

/* The rules, or the type's on_error in their place: what becomes of a failed attempt. */
static enum settle decide(struct bgmq_job *job, const struct type_config *c,
                          enum bgmq_verdict verdict)
{
    if (c->on_error) {
        switch (c->on_error(job, c->handler_ctx)) {
        case BGMQ_RETRY:
            return SETTLE_RETRY;
        case BGMQ_SNOOZE:
            return SETTLE_SNOOZE;
        case BGMQ_DISCARD:
            return SETTLE_DISCARD;
        default:
            return SETTLE_DEAD;
        }
    }
    return verdict == BGMQ_PERMANENT || job->message->attempt >= most_attempts(job)
               ? SETTLE_DEAD
               : SETTLE_RETRY;
}

/* ---- one turn ---------------------------------------------------------------------- */

static int64_t due_in(const struct bgmq_job *job, int64_t delay_ms)
{
    return delay_ms > 0 ? clock_wall_ms(job->env->clock) + delay_ms : 0;
}

static void settle(struct worker *w, struct bgmq_job *job, enum bgmq_verdict verdict)
{
    const struct type_config *c = bgmqi_type_config(job->type);
    struct settlement s = {.how = SETTLE_DONE};
    bool has_error = false;
    switch (verdict) {
    case BGMQ_DONE:
        if (job->response_type || (job->message->ext && job->message->ext->reply_to))
            s.no_outq = job->env->reply(job->env->ctx, job, false);
        break;
    case BGMQ_SNOOZE:
        s.how = SETTLE_SNOOZE;
        break;
    case BGMQ_DISCARD:
        s.how = SETTLE_DISCARD;
        s.failed = true;
        break;
    default:
        s.how = decide(job, c, verdict);
        s.failed = has_error = true;
    }
    if (s.how == SETTLE_RETRY)
        s.due_ms = due_in(job, bgmqi_retry_delay(&c->retry, job->message->attempt,
                                                 bgmqi_random_next(&w->random)));
    if (s.how == SETTLE_SNOOZE)
        s.due_ms = due_in(job, job->snooze_ms);
    if (s.how == SETTLE_DEAD && job->message->ext && job->message->ext->reply_to)
        job->env->reply(job->env->ctx, job, true);
    if (has_error && s.how != SETTLE_DISCARD) {
        s.failure = job->failure;
        job->failure = NULL;
    }
    bgmqi_desk_settle(w->desk, job->message, &s);
}

static void turn(struct worker *w, struct message *m)
{
    struct type *t = bgmqi_desk_type(w->desk);
    struct bgmq_job job = {.env = w->env, .type = t, .desk = w->desk, .message = m};
    current = &job;
    enum bgmq_verdict verdict = BGMQ_PERMANENT;
    if (m->crashes && m->attempt > most_attempts(&job)) {
        /* The last attempt it had ended with the process. */
        m->attempt--;
        bgmqi_worker_note(&job, "Crash", "the process died during the last attempt");
    } else {
        verdict = run(&job, bgmqi_type_config(t));
    }
    if (bgmqi_desk_end(w->desk))
        settle(w, &job, verdict);
    current = NULL;
    bgmqi_failure_unref(job.failure);
    if (job.json)
        json_decref(job.json);
    bgmqi_message_ext_free(job.reply_ext);
    free(job.response_type);
    free(job.response);
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    struct message *m;
    while (bgmqi_desk_next(w->desk, &m) == DESK_MESSAGE) {
        turn(w, m);
        w->env->idle(w->env->ctx);
    }
    bgmqi_desk_leave(w->desk);
    atomic_store(&w->ended, true);
    return NULL;
}

int bgmqi_worker_start(struct worker **ret, struct type *t, const struct worker_env *env)
{
    struct worker *w = calloc(1, sizeof(*w));
    struct desk *d = w ? bgmqi_desk_new(t) : NULL;
    if (!d) {
        free(w);
        return BGMQ_ENOMEM;
    }
    w->desk = d;
    w->env = env;
    w->random = (uint64_t)clock_mono_ns(&bgmqi_clock_system) ^ (uint64_t)(uintptr_t)w;
    char name[16];
    snprintf(name, sizeof(name), "mq:%.12s", bgmqi_type_name(t));
    if (bgmqi_thread_start(&w->thread, name, env->stack_size, run_worker, w) != 0) {
        bgmqi_desk_leave(d);
        free(w);
        return BGMQ_ETHREAD;
    }
    *ret = w;
    return 0;
}

void bgmqi_worker_quit(struct worker *w)
{
    bgmqi_desk_quit(w->desk);
}

bool bgmqi_worker_ended(const struct worker *w)
{
    return atomic_load(&w->ended);
}

void bgmqi_worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
    free(w);
}
