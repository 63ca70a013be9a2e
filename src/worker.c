/* worker.c - the thread of a worker: one turn is take, run, settle (see worker.h).
 *
 * Everything here runs on the worker's own thread with no lock held, but for what the ticker does
 * when it gives up a handler; handlers and filters are called from nowhere else.
 *
 * What a handler does to its thread.  pthread_exit unwinds to run_worker, whose clean-up settles
 * the attempt as failed; that is why the job is part of the worker, and not on the stack.
 * Cancellation is off, and is put off again after each handler; the signal mask is put right when
 * the worker comes for more messages (type_desk.c). */
#include "worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "thread.h"
#include "worker_verdict.h"

struct worker {
    struct desk *desk;
    const struct worker_env *env;
    pthread_t thread;
    _Atomic bool ended;
    /* used by the worker only */
    uint64_t random;
    struct bgmq_job job;
    struct bgmq_job *outer; /* a test service may be used in another's handler */
};

static THREAD_LOCAL struct bgmq_job *current;

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

void bgmqi_worker_keep_result(struct bgmq_job *job)
{
    if (!job->result)
        return;
    lock_take(&job->progress->lock);
    void *old = job->progress->result;
    job->progress->result = job->result;
    job->progress->result_len = job->result_len;
    bgmqi_progress_charge(job->progress, job->result_len);
    lock_drop(&job->progress->lock);
    free(old);
    job->result = NULL;
    job->result_len = 0;
}

/* ---- the user's functions ----------------------------------------------------------- */

static inline enum bgmq_verdict verdict_of(struct bgmq_job *job, int returned)
{
    return returned == BGMQ_DONE ? BGMQ_DONE : bgmqi_worker_odd_verdict(job, returned);
}

static enum bgmq_verdict run(struct bgmq_job *job, const struct type_config *c)
{
    bgmq_handler_fn *before =
        c->request_filter ? c->request_filter : job->env->request_filter;
    bgmq_handler_fn *after =
        c->response_filter ? c->response_filter : job->env->response_filter;
    enum bgmq_verdict verdict = BGMQ_DONE;
    lock_assert_none();
    if (before)
        verdict = verdict_of(job, before(job, c->handler_ctx));
    if (verdict == BGMQ_DONE)
        verdict = verdict_of(job, c->handler(job, c->handler_ctx));
    if (verdict == BGMQ_DONE && after)
        verdict = verdict_of(job, after(job, c->handler_ctx));
    return verdict;
}

/* ---- settling ---------------------------------------------------------------------- */

/* Settles W's job, unless it was given up; false: it was. */
static bool settle(struct worker *w, struct settlement *s)
{
    struct bgmq_job *job = &w->job;
    if (bgmqi_desk_end(w->desk)) {
        bgmqi_worker_complete(job, s, &w->random);
        bgmqi_desk_settle(w->desk, job->message, s);
        return true;
    }
    bgmqi_log(w->env->log, BGMQ_LOG_WARNING,
              "%s: message %llu: a handler returned after it was given up: refused",
              bgmqi_type_name(job->type), (unsigned long long)job->message->id);
    bgmqi_desk_abandon(w->desk, job->message);
    return false;
}

void bgmqi_worker_settle_given_up(struct type *t, const struct worker_env *env,
                                  const struct given_up *g)
{
    char text[64];
    struct bgmq_job job = {
        .env = env, .type = t, .message = g->m, .attempt = g->m->attempt};
    uint64_t random = (uint64_t)clock_mono_ns(&bgmqi_clock_system) ^ g->m->id;
    struct bgmq_job *before = current;
    snprintf(text, sizeof(text), "did not complete within %lld ms",
             (long long)g->timeout_ms);
    bgmqi_worker_note(&job, "Timeout", text);
    bgmqi_log(env->log, BGMQ_LOG_ERROR, "%s: message %llu %s, and is given up",
              bgmqi_type_name(t), (unsigned long long)g->m->id, text);
    struct settlement s = {.how = bgmqi_worker_by_the_rules(&job, BGMQ_RETRY),
                           .failed = true};
    current = &job; /* for the time of its reply: it never waits, as in a handler */
    bgmqi_worker_complete(&job, &s, &random);
    bgmqi_type_settle_given_up(t, g, &s);
    current = before;
    bgmqi_failure_unref(job.failure);
}

/* ---- one turn ---------------------------------------------------------------------- */

static void begin(struct worker *w, struct message *m)
{
    w->outer = current;
    w->job.message = m;
    w->job.attempt = bgmqi_desk_attempt(w->desk);
    current = &w->job;
}

/* What M, about to start, has besides its body: what it has kept is given to W's job, and it may
 * give up its key.  Held: were it given up in the middle, the next attempt would do the same to it
 * at the same time.  False: it was given up before. */
static bool prepare(struct worker *w, struct type *t, struct message *m, enum fate fate)
{
    if (!bgmqi_desk_hold(w->desk))
        return false;
    if (message_progress(m))
        w->job.progress = bgmqi_type_renew_progress(t, m);
    if (fate == FATE_RUN)
        bgmqi_type_unkey(t, m);
    bgmqi_desk_unhold(w->desk);
    return true;
}

static void free_notes(struct bgmq_job *job)
{
    bgmqi_failure_unref(job->failure);
    if (job->json)
        json_decref(job->json);
    bgmqi_message_ext_free(job->reply_ext);
    free(job->response_type);
    free(job->response);
    if (job->result)
        bgmqi_mem_give(job->progress->budget, job->result_len);
    free(job->result);
    bgmqi_progress_unref(job->progress);
    job->failure = NULL;
    job->json = NULL;
    job->reply_ext = NULL;
    job->response_type = NULL;
    job->response = NULL;
    job->result = NULL;
    job->progress = NULL;
}

/* Most jobs have nothing but their message. */
static void clean(struct worker *w)
{
    struct bgmq_job *job = &w->job;
    current = w->outer;
    if (job->failure || job->json || job->reply_ext || job->response_type ||
        job->response || job->result || job->progress)
        free_notes(job);
    job->message = NULL;
    job->tx = NULL;
    job->snooze_ms = 0;
    job->response_len = job->result_len = 0;
    job->settled = job->replied = false;
}

/* Most attempts leave nothing but a verdict. */
static bool is_bare(const struct bgmq_job *job)
{
    return !message_ext(job->message) && !job->failure && !job->json && !job->progress &&
           !job->response_type && !job->response && !job->reply_ext && !job->result &&
           !job->tx && !job->snooze_ms && !job->settled && !job->replied;
}

/* The others, apart so that those need no room for it: the user is asked again, and W's job is
 * settled.  False: it was given up. */
__attribute__((noinline)) static bool finish(struct worker *w, enum fate fate,
                                             enum bgmq_verdict verdict)
{
    struct settlement s = fate == FATE_RUN ? bgmqi_worker_plan(&w->job, verdict)
                                           : bgmqi_worker_plan_unrun(&w->job, fate);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    bool ours = settle(w, &s);
    clean(w);
    return ours;
}

/* False: the attempt was given up, and W is to leave. */
static bool turn(struct worker *w, struct message *m)
{
    struct type *t = w->job.type;
    enum fate fate = bgmqi_desk_fate(w->desk);
    begin(w, m);
    if (message_extra(m) && !prepare(w, t, m, fate))
        return finish(w, FATE_RUN, BGMQ_DONE);
    if (fate != FATE_RUN)
        return finish(w, fate, BGMQ_DONE);
    enum bgmq_verdict verdict = run(&w->job, bgmqi_type_config(t));
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    if (verdict != BGMQ_DONE || !is_bare(&w->job) || !bgmqi_desk_end_bare(w->desk, m))
        return finish(w, fate, verdict);
    current = w->outer;
    w->job.message = NULL;
    return true;
}

static void leave(struct worker *w)
{
    bgmqi_desk_leave(w->desk);
    atomic_store(&w->ended, true);
}

/* The handler called pthread_exit. */
static void thread_exits(void *arg)
{
    struct worker *w = arg;
    assert(w->job.message);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    bgmqi_worker_note(&w->job, "ThreadExit", "the handler ended its thread");
    struct settlement s = {.how = bgmqi_worker_by_the_rules(&w->job, BGMQ_RETRY),
                           .failed = true};
    if (w->job.tx)
        w->env->tx_over(&w->job, BGMQ_RETRY);
    if (w->job.settled)
        s = w->job.settlement;
    settle(w, &s);
    clean(w);
    const struct worker_env *env = w->env;
    leave(w);
    env->gone(env->ctx);
}

/* False: W's attempt was given up. */
static bool work(struct worker *w)
{
    struct message *m;
    bool ours = true;
    while (ours && bgmqi_desk_next(w->desk, &m) == DESK_MESSAGE)
        ours = turn(w, m);
    return ours;
}

bool bgmqi_worker_step(struct worker *w)
{
    struct message *m;
    int before;
    if (!bgmqi_desk_try(w->desk, &m))
        return false;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    if (turn(w, m))
        bgmqi_desk_tried(w->desk);
    else
        leave(w); /* and W may be freed */
    pthread_setcancelstate(before, NULL);
    return true;
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    const struct worker_env *env = w->env;
    bool ours;
    pthread_cleanup_push(thread_exits, w);
    ours = work(w);
    pthread_cleanup_pop(0);
    leave(w);
    if (!ours)
        env->gone(env->ctx); /* its pool may have waited for that to be complete again */
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
    w->job.env = env;
    w->job.type = t;
    w->job.desk = d;
    w->random = (uint64_t)clock_mono_ns(&bgmqi_clock_system) ^ (uint64_t)(uintptr_t)w;
    if (env->by_hand) {
        w->random = bgmqi_type_number(t); /* tests repeat */
        *ret = w;
        return 0;
    }
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
    if (w->env->by_hand && !bgmqi_worker_lost(w)) /* the lost leave when they return */
        leave(w);
}

bool bgmqi_worker_ended(const struct worker *w)
{
    return atomic_load(&w->ended);
}

bool bgmqi_worker_lost(const struct worker *w)
{
    return atomic_load(&w->ended) || !bgmqi_desk_owns(w->desk);
}

bool bgmqi_worker_stuck(const struct worker *w)
{
    return !atomic_load(&w->ended) && !bgmqi_desk_owns(w->desk);
}

void bgmqi_worker_join(struct worker *w)
{
    if (!w->env->by_hand)
        pthread_join(w->thread, NULL);
    free(w);
}
