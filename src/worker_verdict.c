/* worker_verdict.c - what becomes of a message by what the user's functions returned (see
 * worker_verdict.h).
 *
 * Runs on the worker's own thread, or, for an attempt that was given up, on the ticker's. */
#include "worker_verdict.h"

#include <stdio.h>
#include <string.h>

#include "retry.h"

/* ---- verdicts ---------------------------------------------------------------------- */

static void note_no_reason(struct bgmq_job *job)
{
    if (bgmqi_desk_cancelled(job->desk) & CANCEL_TIME)
        bgmqi_worker_note(job, "Timeout", "ended after its time was over");
    else
        bgmqi_worker_note(job, "Failed", "the handler gave no reason");
}

enum bgmq_verdict bgmqi_worker_odd_verdict(struct bgmq_job *job, int returned)
{
    char text[128];
    if (returned >= BGMQ_DONE && returned <= BGMQ_DISCARD) {
        if (!job->failure && (returned == BGMQ_RETRY || returned == BGMQ_PERMANENT))
            note_no_reason(job);
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

static unsigned most_attempts(const struct bgmq_job *job)
{
    unsigned most = job->message->max_attempts;
    return most ? most : bgmqi_type_config(job->type)->max_attempts;
}

enum settle bgmqi_worker_by_the_rules(const struct bgmq_job *job,
                                      enum bgmq_verdict verdict)
{
    return verdict == BGMQ_PERMANENT || job->attempt >= most_attempts(job) ? SETTLE_DEAD
                                                                           : SETTLE_RETRY;
}

/* The rules, or the type's on_error in their place: what becomes of a failed attempt. */
static enum settle decide(struct bgmq_job *job, const struct type_config *c,
                          enum bgmq_verdict verdict)
{
    if (!c->on_error)
        return bgmqi_worker_by_the_rules(job, verdict);
    lock_assert_none();
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

/* ---- the plan ---------------------------------------------------------------------- */

/* Whether a handler that wants to be tried again was asked to end, and so is not: by an operator it
 * is dead, by a stop it did not start.  True: *S says so. */
static bool asked_to_end(struct bgmq_job *job, struct settlement *s)
{
    unsigned why = bgmqi_desk_cancelled(job->desk);
    if (why & CANCEL_OPERATOR) {
        bgmqi_worker_note(job, "cancelled", "an operator asked it to end");
        *s = (struct settlement){.how = SETTLE_DEAD, .failed = true};
        return true;
    }
    if (why == CANCEL_STOP) {
        *s = (struct settlement){.how = SETTLE_BACK};
        return true;
    }
    return false;
}

struct settlement bgmqi_worker_plan(struct bgmq_job *job, enum bgmq_verdict verdict)
{
    const struct type_config *c = bgmqi_type_config(job->type);
    struct settlement s = {.how = SETTLE_DONE};
    if (job->tx)
        verdict = job->env->tx_over(job, verdict);
    if (job->settled)
        return job->settlement;
    switch (verdict) {
    case BGMQ_DONE:
        break;
    case BGMQ_SNOOZE:
        s.how = SETTLE_SNOOZE;
        break;
    case BGMQ_DISCARD:
        s.how = SETTLE_DISCARD;
        s.failed = true;
        break;
    default:
        if (verdict == BGMQ_RETRY && asked_to_end(job, &s))
            break;
        s.how = decide(job, c, verdict);
        s.failed = true;
    }
    return s;
}

struct settlement bgmqi_worker_plan_unrun(struct bgmq_job *job, enum fate fate)
{
    struct settlement s = {.how = SETTLE_DEAD};
    if (fate == FATE_CRASH) {
        char text[96];
        snprintf(text, sizeof(text), "the process died in its handler, %u times in a row",
                 job->message->crashes);
        bgmqi_worker_note(job, "crash", text);
        bgmqi_log(job->env->log, BGMQ_LOG_ERROR, "%s: message %llu is dead: %s",
                  bgmqi_type_name(job->type), (unsigned long long)job->message->id, text);
        s.failed = true;
    } else if (bgmqi_type_config(job->type)->discard_expired) {
        s.how = SETTLE_DISCARD;
    } else {
        bgmqi_worker_note(job, "expired", "it was not started in time");
    }
    return s;
}

/* ---- what goes with an end --------------------------------------------------------- */

static int64_t due_in(const struct bgmq_job *job, int64_t delay_ms)
{
    return delay_ms > 0 ? clock_plus(clock_wall_ms(job->env->clock), delay_ms) : 0;
}

/* Sends the answer that goes with an end, unless a transaction has; true: it was one. */
static bool answer(struct bgmq_job *job, bool failed)
{
    const struct message_ext *x = message_ext(job->message);
    bool wanted = (!failed && job->response_type) || (x && x->reply_to);
    return wanted && (job->replied || job->env->reply(job->env->ctx, job, failed));
}

void bgmqi_worker_complete(struct bgmq_job *job, struct settlement *s, uint64_t *random)
{
    const struct type_config *c = bgmqi_type_config(job->type);
    if (s->how == SETTLE_DONE) {
        bgmqi_worker_keep_result(job);
        s->no_outq = answer(job, false);
    }
    if (s->how == SETTLE_RETRY && !s->elsewhere)
        s->due_ms = due_in(
            job, bgmqi_retry_delay(&c->retry, job->attempt, bgmqi_random_next(random)));
    if (s->how == SETTLE_SNOOZE)
        s->due_ms = due_in(job, job->snooze_ms);
    if (s->how == SETTLE_DEAD)
        answer(job, true);
    if (!s->elsewhere &&
        (s->how == SETTLE_DEAD || (s->failed && s->how != SETTLE_DISCARD))) {
        s->failure = job->failure;
        job->failure = NULL;
    }
}
