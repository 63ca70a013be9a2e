/* life.c - a service that is opened, used and closed (see life.h): fibers of its process. */
#include "life.h"

#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const life_names[NOTE_TYPES] = {"Plain", "Timed", "Later", "Bound", "Parked"};

enum { PLAIN, TIMED, LATER, BOUND, PARKED };

/* ---- handlers ----------------------------------------------------------------------- */

static struct life *life_of(void *ctx)
{
    return ctx;
}

/* What it saved is its own. */
static void use_cursor(struct bgmq_job *job, const struct note *n)
{
    unsigned k = notes_number(n), saved;
    size_t len;
    const void *cursor = bgmq_job_cursor(job, &len);
    if (cursor && len != sizeof(saved))
        sim_fail("the cursor of %u has %zu bytes", k, len);
    if (cursor && (memcpy(&saved, cursor, sizeof(saved)), saved != k))
        sim_fail("the cursor of %u is that of %u", k, saved);
    if (sim_chance(1, 6))
        bgmq_job_save_cursor(job, &k, sizeof(k), BGMQ_BEHIND);
}

static int verdict_of(struct bgmq_job *job, struct note *n, int64_t *due_ms)
{
    static const int verdicts[] = {BGMQ_DONE,    BGMQ_DONE,     BGMQ_DONE,   BGMQ_DONE,
                                   BGMQ_RETRY,   BGMQ_RETRY,    BGMQ_SNOOZE, BGMQ_SNOOZE,
                                   BGMQ_DISCARD, BGMQ_PERMANENT};
    int verdict = verdicts[sim_below(sizeof(verdicts) / sizeof(*verdicts))];
    *due_ms = 0;
    if (verdict == BGMQ_RETRY && n->type == TIMED)
        *due_ms = sim_wall_ms() + 50;
    if (verdict == BGMQ_SNOOZE) {
        int64_t ms = sim_below(3) ? 1 + sim_below(1000) : 0;
        *due_ms = ms ? sim_wall_ms() + ms : 0;
        bgmq_job_snooze(job, ms);
    }
    return verdict;
}

static void linger(struct bgmq_job *job)
{
    int64_t ms = sim_chance(1, 3) ? 1 + sim_below(20) : 0;
    if (sim_chance(1, 12))
        ms = 100 + sim_below(1500);
    while (ms > 0) {
        int64_t part = ms < 50 ? ms : 50;
        sim_sleep(part);
        ms -= part;
        if (bgmq_job_cancelled(job) && sim_chance(1, 2))
            return;
    }
}

static int handle(struct bgmq_job *job, void *ctx)
{
    struct life *l = life_of(ctx);
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    struct note *n = notes_of(body, len);
    int64_t due_ms = 0;
    int verdict = BGMQ_DONE;
    sim_steps++;
    uint64_t start = notes_start(n, bgmq_job_id(job), bgmq_job_attempt(job));
    use_cursor(job, n);
    if (!l->plan.calm) {
        linger(job);
        if (sim_chance(1, 10))
            client_publish(l);
        verdict = verdict_of(job, n, &due_ms);
    }
    bool asked = bgmq_job_cancelled(job);
    notes_settle(n, start, verdict, due_ms, asked);
    return verdict;
}

/* ---- a service ---------------------------------------------------------------------- */

static void log_line(void *ctx, enum bgmq_level level, const char *text)
{
    struct life *l = life_of(ctx);
    sim_say("log %d: %s", level, text);
    if (strstr(text, "refused a change"))
        notes_life.refused = true;
    if (strstr(text, "the store failed"))
        notes_life.broken = true;
    if (l->plan.calm && level == BGMQ_LOG_ERROR && !strstr(text, "is dead"))
        sim_fail("an error in calm weather: %s", text);
}

static int add_types(struct life *l)
{
    struct bgmq_type_options o = {.threads = l->plan.threads,
                                  .window = l->plan.window,
                                  .max_attempts = 4,
                                  .priority_share = 3,
                                  .outq_limit = 5,
                                  .backoff = BGMQ_BACKOFF_NONE};
    int err = bgmq_register(l->mq, life_names[PLAIN], handle, l, &o);
    o.backoff = BGMQ_BACKOFF_FIXED;
    o.backoff_base_ms = 50;
    o.timeout_ms = 200;
    o.stuck_ms = 300;
    if (!err)
        err = bgmq_register(l->mq, life_names[TIMED], handle, l, &o);
    o.timeout_ms = o.stuck_ms = 0;
    o.backoff = BGMQ_BACKOFF_EXPONENTIAL;
    o.backoff_base_ms = 100;
    o.backoff_max_ms = 2000;
    if (!err)
        err = bgmq_register(l->mq, life_names[LATER], handle, l, &o);
    o.max_messages = 12;
    o.wait_ms = 50;
    if (!err)
        err = bgmq_register(l->mq, life_names[BOUND], handle, l, &o);
    o.max_messages = 0;
    if (!err && l->plan.calm)
        err = bgmq_register(l->mq, life_names[PARKED], handle, l, &o);
    for (unsigned t = 0; t < NOTE_TYPES; t++) {
        notes_life.max_attempts[t] = 4;
        notes_life.give_up_ms[t] = t == TIMED ? 500 : 0;
    }
    return err;
}

static int open_service(struct life *l)
{
    struct bgmq_error error = {""};
    struct bgmq_options o = {.database = l->plan.durable ? "simulated" : NULL,
                             .flush_interval_ms = l->plan.interval_ms,
                             .publish_timeout_ms = 5000,
                             .stop_grace_ms = 500,
                             .boot_breaker = 1000,
                             .standby_ms = l->plan.standby_ms,
                             .log = log_line,
                             .log_ctx = l};
    int err = bgmq_open(&l->mq, &o, &error);
    sim_say("open: %s %s", bgmq_errname(err), error.text);
    if (err && (l->plan.calm || (err != BGMQ_EOPEN && err != BGMQ_ESTORE)))
        sim_fail("bgmq_open: %s: %s", bgmq_errname(err), error.text);
    if (err) {
        l->mq = NULL;
        return err;
    }
    notes_life.durable = l->plan.durable;
    err = add_types(l);
    if (!err)
        err = bgmq_start(l->mq);
    if (err && (err != BGMQ_ESTORE || l->plan.calm))
        sim_fail("bgmq_start: %s", bgmq_errname(err));
    return 0;
}

static void *client(void *arg)
{
    struct life *l = arg;
    for (unsigned i = 0; i < l->plan.operations && !notes_life.broken; i++) {
        client_operate(l);
        if (sim_chance(1, 5))
            sim_sleep(1 + sim_below(sim_chance(1, 8) ? 1500 : 30));
    }
    l->clients_left--;
    sim_wake(l);
    return NULL;
}

/* Until nothing waits any more, for an hour at most. */
static void drain(struct life *l)
{
    int64_t until_ns = sim_mono_ns() + INT64_C(3600000) * SIM_MS;
    uint64_t left;
    do {
        left = 0;
        for (size_t i = 0; i < disk.n_guests; i++)
            left += !disk.guests[i].refused;
        for (unsigned t = 0; t < NOTE_TYPES; t++) {
            struct bgmq_collection c;
            int err = bgmq_type_collection(l->mq, life_names[t], &c);
            if (!err)
                left += c.inq + c.priorityq + c.delayed + c.running + c.suspects;
        }
        if (left)
            sim_sleep(100);
        if (sim_mono_ns() > until_ns)
            sim_fail("liveness: %llu messages do not end", (unsigned long long)left);
    } while (left);
    int err = bgmq_flush(l->mq);
    if (err)
        sim_fail("bgmq_flush in calm weather: %s", bgmq_errname(err));
    notes_judge(l->mq, life_names);
}

static void close_service(struct life *l)
{
    int err;
    while ((err = bgmq_close(l->mq)) == BGMQ_EBUSY)
        sim_say("close: BGMQ_EBUSY");
    if (err)
        sim_fail("bgmq_close: %s", bgmq_errname(err));
    bgmq_free(l->mq);
    sim_say("closed");
}

static void *live(void *arg)
{
    struct life *l = arg;
    if (open_service(l) == 0) {
        l->opened = true;
        l->clients_left = l->plan.clients;
        struct sim_fiber *clients[8];
        for (unsigned i = 0; i < l->plan.clients; i++)
            clients[i] = sim_start(l->process, client, l);
        for (unsigned i = 0; i < l->plan.clients; i++)
            sim_join(clients[i]);
        if (l->plan.calm)
            drain(l);
        while (!l->plan.closes)
            sim_sleep(1000); /* until it is killed */
        close_service(l);
    }
    l->over = true;
    return NULL;
}

void life_begin(struct life *l, unsigned process, const struct plan *plan)
{
    *l = (struct life){.plan = *plan, .process = process};
    sim_say("life begins in process %u", process);
    sim_start(process, live, l);
}
