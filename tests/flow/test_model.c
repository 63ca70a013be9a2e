/* test_model.c - random operations on the test kit, each compared with a simple model.
 *
 * The model is an array of messages: what each call should do to them is written down once
 * more, in the plainest way (model.h).  In memory the order of the handlers is known exactly.  With
 * a database whose window is small, a message that was delayed may overtake rows that are still in
 * the database, so there the order is checked among those that never were (see "firm").
 * BGMQ_SEED and BGMQ_STEPS choose another run; the seed is printed. */
#include "model.h"

#include <bgmq_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned setting(const char *name, unsigned otherwise)
{
    const char *value = getenv(name);
    return value ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

/* ---- operations -------------------------------------------------------------------------- */

static void publish(void)
{
    static const enum bgmq_durability levels[] = {BGMQ_BEHIND, BGMQ_BEHIND, BGMQ_COMMIT,
                                                  BGMQ_MEMORY};
    char key[16], body[16], tag[16];
    int type = (int)model_below(TYPES),
        unique = model_below(4) ? 0 : 1 + (int)model_below(KEYS);
    snprintf(key, sizeof(key), "key %d", unique);
    snprintf(body, sizeof(body), "%zu", model.n);
    int tagged = (int)model_below(TAGS + 1);
    snprintf(tag, sizeof(tag), "tag %d", tagged);
    struct bgmq_message_options o = {
        .tag = tagged ? tag : NULL,
        .channel = strchr(model_names[type], '@') ? "eu" : NULL,
        .expire_ms = model_below(5) ? 0 : 1 + model_below(4000),
        .priority = model_below(3) ? 0 : 1 + (int)model_below(3),
        .delay_ms = model_below(3) ? 0 : 1 + model_below(3000),
        .unique_key = unique ? key : NULL,
        .durability = model.durable ? levels[model_below(4)] : BGMQ_MEMORY,
    };
    struct bgmq_receipt r;
    struct model_message *holder = model_holder_of(type, unique);
    /* A handler's message may be refused by the key of the one that runs. */
    if (!holder && model.ran && model.ran->key && model.ran->key == unique &&
        model.ran->type == type)
        holder = model.ran;
    ck_assert_uint_lt(model.n, MOST);
    OK(bgmq_publish(model.mq, o.channel ? "Later" : model_names[type], body, strlen(body),
                    &o, &r));
    ck_assert_int_eq(r.duplicate, holder != NULL);
    if (holder) {
        ck_assert_uint_eq(r.id, holder->id);
        return;
    }
    struct model_message *m = &model.messages[model.n++];
    *m =
        (struct model_message){.id = r.id,
                               .type = type,
                               .priority = o.priority,
                               .key = unique,
                               .tag = tagged,
                               .created_ms = model.now_ms,
                               .expires_ms = o.expire_ms ? model.now_ms + o.expire_ms : 0,
                               .lasting = r.level > BGMQ_MEMORY};
    model_enter(m, o.delay_ms ? model.now_ms + o.delay_ms : 0);
}

/* More than the window holds. */
static void burst(void)
{
    for (int i = 0; i < 3 * WINDOW; i++)
        publish();
}

/* What the plan says; the model follows when it has returned. */
static int handle(struct bgmq_job *job, void *ctx)
{
    int saved = 0;
    struct model_message *m = model_by_id(bgmq_job_id(job));
    (void)ctx;
    ck_assert_ptr_null(model.ran);
    model_check_turn(m);
    ck_assert_str_eq(bgmq_job_type(job), m->type == 1 ? "AtOnce" : "Later");
    ck_assert_int_eq(bgmq_job_channel(job) != NULL, m->type == 2);
    model.ran = m;
    m->state = GONE; /* it waits no longer */
    ck_assert_uint_eq(bgmq_job_attempt(job), ++m->attempt);
    const void *cursor = bgmq_job_cursor(job, NULL);
    if (cursor)
        memcpy(&saved, cursor, sizeof(saved));
    ck_assert_int_eq(saved, m->cursor);
    if (model_below(2)) {
        m->cursor = 1 + (int)model_below(1000);
        OK(bgmq_job_save_cursor(job, &m->cursor, sizeof(m->cursor), BGMQ_BEHIND));
    }
    if (model.publishes)
        publish();
    return model.verdict == BGMQ_SNOOZE ? bgmq_job_snooze(job, model.snooze_ms)
                                        : model.verdict;
}

static void step(void)
{
    static const int verdicts[] = {BGMQ_DONE,   BGMQ_DONE,    BGMQ_DONE,     BGMQ_DONE,
                                   BGMQ_RETRY,  BGMQ_RETRY,   BGMQ_RETRY,    BGMQ_SNOOZE,
                                   BGMQ_SNOOZE, BGMQ_DISCARD, BGMQ_PERMANENT};
    model.type = (int)model_below(TYPES);
    model.verdict = verdicts[model_below(sizeof(verdicts) / sizeof(*verdicts))];
    model.snooze_ms = model_below(3) ? 1 + model_below(2000) : 0;
    model.publishes = !model_below(5);
    int waits = model.started && model_count(model.type, WAITING, -1) > 0;
    ck_assert_int_eq(bgmq_test_step(model.mq, model_names[model.type]), waits);
    ck_assert_int_eq(model.ran != NULL, waits);
    if (model.ran)
        model_settle(model.ran, model.verdict);
    model.ran = NULL;
}

/* What has not been started in time is dead: in memory at once, in the database within a second. */
static void expire(void)
{
    for (size_t i = 0; i < model.n; i++) {
        struct model_message *m = &model.messages[i];
        struct bgmq_info info;
        if ((m->state != WAITING && m->state != DELAYED) || !m->expires_ms ||
            m->expires_ms > model.now_ms)
            continue;
        OK(bgmq_find(model.mq, model_names[m->type], m->id, &info));
        if (info.state == BGMQ_STATE_DEAD)
            model_dies(m, "expired");
        else
            ck_assert(model.durable &&
                      model.now_ms < (m->expires_ms > m->entered_ms ? m->expires_ms
                                                                    : m->entered_ms) +
                                         1000);
    }
}

static void advance(void)
{
    int64_t ms = model_below(1500);
    model.now_ms += ms;
    OK(bgmq_test_advance(model.mq, ms));
    ck_assert_int_eq(bgmq_test_now(model.mq), model.now_ms);
    expire();
    model_make_due();
}

static void retry_one(void)
{
    int type = (int)model_below(TYPES);
    struct model_message *m = model_any(type, DEAD);
    if (!m) {
        ck_assert_int_eq(bgmq_retry_dead(model.mq, model_names[type], 0), 0);
        return;
    }
    ck_assert_int_eq(bgmq_retry_dead(model.mq, model_names[type], m->id), 1);
    m->attempt = 0;
    model_enter(m, 0);
}

/* Takes the head of inq by hand. */
static void take(void)
{
    int type = (int)model_below(TYPES);
    char queue[32];
    struct bgmq_message *h = NULL;
    snprintf(queue, sizeof(queue), "mq:%s.inq", model_names[type]);
    int err = bgmq_get(model.mq, queue, 0, &h);
    ck_assert_int_eq(err, model_count(type, WAITING, 0) ? 0 : BGMQ_ETIMEOUT);
    if (err)
        return;
    struct model_message *m = model_by_id(bgmq_message_id(h));
    ck_assert_int_eq(m->state, WAITING);
    if (m->firm)
        ck_assert_uint_eq(m->id, model_first(type, 0, 1)->id);
    ck_assert_uint_eq(bgmq_message_attempts(h), m->attempt);
    switch (model_below(3)) {
    case 0:
        OK(bgmq_ack(h));
        m->state = GONE;
        break;
    case 1:
        OK(bgmq_nak(h, 1));
        model_enter(m, 0);
        break;
    default:
        OK(bgmq_nak(h, 0));
        model_dies(m, NULL);
    }
    bgmq_message_free(h);
}

/* ---- what operators do ------------------------------------------------------------------- */

static struct model_message *resting(int type)
{
    struct model_message *m = model_any(type, model_below(2) ? WAITING : DELAYED);
    return m ? m : model_any(type, WAITING);
}

/* A selection of some, and what the model says they are; returns how many. */
static unsigned choose(int type, int dead_too, struct bgmq_select *which, char tag[16],
                       struct model_message **ret)
{
    unsigned n = 0;
    int tagged = 1 + (int)model_below(TAGS);
    snprintf(tag, 16, "tag %d", tagged);
    *which = (struct bgmq_select){.tag = tag, .max = model_below(4)};
    if (model_below(3) == 0)
        which->before_ms = model.now_ms - model_below(3000);
    for (size_t i = 0; i < model.n && (!which->max || n < which->max); i++) {
        struct model_message *m = &model.messages[i]; /* the oldest first */
        if (m->type == type && m->tag == tagged &&
            (m->state == WAITING || m->state == DELAYED ||
             (m->state == DEAD && dead_too)) &&
            (!which->before_ms || m->created_ms < which->before_ms))
            ret[n++] = m;
    }
    return n;
}

static struct model_message *chosen[MOST];

static void cancel(void)
{
    int type = (int)model_below(TYPES);
    char tag[16];
    struct bgmq_select which;
    struct model_message *m = resting(type);
    if (m && model_below(2)) {
        ck_assert_int_eq(bgmq_cancel(model.mq, model_names[type],
                                     &(struct bgmq_select){.id = m->id}, "by the model"),
                         1);
        model_dies(m, "cancelled");
        return;
    }
    unsigned n = choose(type, 0, &which, tag, chosen);
    ck_assert_int_eq(bgmq_cancel(model.mq, model_names[type], &which, NULL), n);
    while (n)
        model_dies(chosen[--n], "cancelled");
}

static void discard(void)
{
    int type = (int)model_below(TYPES);
    char tag[16];
    struct bgmq_select which;
    unsigned n = choose(type, 1, &which, tag, chosen);
    ck_assert_int_eq(bgmq_discard(model.mq, model_names[type], &which), n);
    while (n) {
        chosen[--n]->state = GONE;
        chosen[n]->key = 0;
    }
}

static void change(void)
{
    int type = (int)model_below(TYPES);
    struct model_message *m = resting(type);
    struct bgmq_change c = {.set_time = model_below(2) != 0,
                            .priority = (int)model_below(4)};
    c.set_priority = !c.set_time || model_below(2);
    c.run_at_ms = model_below(3) ? model.now_ms + 1 + model_below(3000) : model.now_ms;
    if (!m) {
        m = model_any(type, DEAD);
        if (m)
            FAILS(BGMQ_ENOENT, bgmq_change(model.mq, model_names[type], m->id, &c));
        return;
    }
    OK(bgmq_change(model.mq, model_names[type], m->id, &c));
    if (c.set_priority)
        m->priority = c.priority;
    if (c.set_time)
        m->due_ms = c.run_at_ms > model.now_ms ? c.run_at_ms : 0;
    model_enter(m, m->state == WAITING && !c.set_time ? 0 : m->due_ms);
}

static void find(void)
{
    struct bgmq_info info;
    if (!model.n)
        return;
    const struct model_message *m = &model.messages[model_below((unsigned)model.n)];
    int err = bgmq_find(model.mq, model_names[m->type], m->id, &info);
    if (m->state == GONE) {
        ck_assert(err == BGMQ_ENOENT || (!err && info.state == BGMQ_STATE_DONE));
        return;
    }
    OK(err);
    ck_assert_uint_eq(info.id, m->id);
    ck_assert_int_eq(info.priority, m->priority);
    ck_assert_uint_eq(info.attempt, m->attempt);
    ck_assert_int_eq(info.created_ms, m->created_ms);
    ck_assert_int_eq(info.expires_ms, m->expires_ms);
    if (m->state == DEAD || info.state == BGMQ_STATE_DEAD)
        ck_assert(m->state == DEAD && info.state == BGMQ_STATE_DEAD);
    else if (!model_crowded(m->type))
        ck_assert_int_eq(info.state,
                         m->state == DELAYED ? BGMQ_STATE_DELAYED : BGMQ_STATE_WAITING);
    if (m->state == DEAD && m->code)
        ck_assert_str_eq(info.error_code, m->code);
    if (m->state == DELAYED)
        ck_assert_int_eq(info.due_ms, m->due_ms);
}

static void stop_or_start(void)
{
    if (model.started)
        OK(bgmq_stop(model.mq, 0));
    else
        OK(bgmq_start(model.mq));
    model.started = !model.started;
    ck_assert_int_eq(bgmq_started(model.mq), model.started);
}

static void open_kit(void)
{
    struct bgmq_options o = {.database = model.durable ? flow_database() : NULL};
    struct bgmq_error error = {""};
    int err = bgmq_test_open(&model.mq, &o, model.now_ms, &error);
    ck_assert_msg(err == 0, "bgmq_test_open: %s: %s", bgmq_errname(err), error.text);
    struct bgmq_type_options t = {.window = WINDOW,
                                  .priority_share = SHARE,
                                  .outq_limit = OUTQ,
                                  .max_attempts = ATTEMPTS,
                                  .backoff = BGMQ_BACKOFF_FIXED,
                                  .backoff_base_ms = 1000};
    OK(bgmq_register(model.mq, model_names[0], handle, NULL, &t));
    t.backoff = BGMQ_BACKOFF_NONE;
    OK(bgmq_register(model.mq, model_names[1], handle, NULL, &t));
    t.channel = "eu";
    OK(bgmq_register(model.mq, "Later", handle, NULL, &t));
    model.started = 1;
}

static void reopen(void)
{
    if (!model.durable || model_below(4))
        return;
    flow_close(model.mq);
    for (size_t i = 0; i < model.n; i++)
        if (!model.messages[i].lasting)
            model.messages[i].state = GONE;
    memset(model.streak, 0, sizeof(model.streak));
    memset(model.outq, 0, sizeof(model.outq));
    open_kit();
}

/* ---- the comparison ---------------------------------------------------------------------- */

static void compare(void)
{
    OK(bgmq_test_advance(model.mq, 0)); /* all is where it belongs */
    expire();
    for (int t = 0; t < TYPES; t++) {
        struct bgmq_collection c = flow_collection(model.mq, model_names[t]);
        ck_assert_uint_eq(c.dlq, model_count(t, DEAD, -1));
        ck_assert_uint_eq(c.outq, model.outq[t]);
        ck_assert_uint_eq(c.running, 0);
        ck_assert_uint_eq(c.inq + c.priorityq + c.delayed,
                          model_count(t, WAITING, -1) + model_count(t, DELAYED, -1));
        if (model_crowded(t))
            continue;
        ck_assert_uint_eq(c.inq, model_count(t, WAITING, 0));
        ck_assert_uint_eq(c.priorityq, model_count(t, WAITING, 1));
        ck_assert_uint_eq(c.delayed, model_count(t, DELAYED, -1));
    }
}

static void run_steps(unsigned seed, unsigned steps)
{
    static const struct {
        unsigned weight;
        void (*run)(void);
    } operations[] = {{30, publish}, {40, step},         {12, advance}, {4, retry_one},
                      {6, take},     {2, stop_or_start}, {3, reopen},   {1, burst},
                      {3, cancel},   {2, discard},       {6, change},   {8, find}};
    printf("# BGMQ_SEED=%u BGMQ_STEPS=%u, %s\n", seed, steps,
           model.durable ? "with a database" : "in memory");
    fflush(stdout);
    model.random = UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
    for (unsigned i = 0; i < steps; i++) {
        unsigned chance = model_below(117), o = 0;
        for (; chance >= operations[o].weight; o++)
            chance -= operations[o].weight;
        operations[o].run();
        compare();
    }
}

/* At the end everything is run to its end, and nothing is left behind. */
static void finish(void)
{
    if (!model.started)
        stop_or_start();
    for (int t = 0; t < TYPES; t++)
        while (model_count(t, WAITING, -1) + model_count(t, DELAYED, -1) > 0) {
            model.now_ms += 5000;
            OK(bgmq_test_advance(model.mq, 5000));
            expire();
            model_make_due();
            model.type = t;
            model.verdict = BGMQ_DONE;
            model.publishes = 0;
            while (model_count(t, WAITING, -1)) {
                ck_assert_int_eq(bgmq_test_step(model.mq, model_names[t]), 1);
                model_settle(model.ran, BGMQ_DONE);
                model.ran = NULL;
            }
        }
    compare();
    unsigned dead = 0;
    for (size_t i = 0; i < model.n; i++)
        dead += model.messages[i].state == DEAD && model.messages[i].lasting;
    flow_close(model.mq);
    if (!model.durable)
        return;
    ck_assert_int_eq(flow_rows(), dead);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_progress WHERE id NOT IN"
                              " (SELECT id FROM bgmq_backlog)"),
                     0);
}

START_TEST(random_operations_do_what_the_model_says)
{
    model.durable = _i % 2;
    model.now_ms = INT64_C(1900000000000);
    open_kit();
    unsigned steps = model.durable ? 1500 : 4000;
    run_steps(setting("BGMQ_SEED", 1 + (unsigned)_i / 2), setting("BGMQ_STEPS", steps));
    finish();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("model");
    TCase *tc = flow_case(s, "model");
    tcase_add_loop_test(tc, random_operations_do_what_the_model_says, 0, 6);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
