/* test_model.c - random operations on the test kit, each compared with a simple model.
 *
 * The model is an array of messages: what each call should do to them is written down here once
 * more, in the plainest way.  In memory the order of the handlers is known exactly.  With a database
 * whose window is small, a message that was delayed may overtake rows that are still in the
 * database, so there the order is checked among those that never were (see "firm").
 * BGMQ_SEED and BGMQ_STEPS choose another run; the seed is printed. */
#include "flow.h"

#include <bgmq_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TYPES = 2,
    MOST = 40000,
    KEYS = 6,
    WINDOW = 8,
    SHARE = 3,
    OUTQ = 20,
    ATTEMPTS = 3
};

enum state { WAITING, DELAYED, DEAD, GONE };

struct model_message {
    uint64_t id;
    int type;
    enum state state;
    int priority;
    unsigned attempt;
    int64_t due_ms;
    uint64_t seq; /* of its last way into a queue */
    uint64_t pos; /* its place in inq */
    int key;      /* 0: none */
    int cursor;   /* 0: none was saved */
    int firm;     /* its place does not depend on when it became due */
    int lasting;  /* it has a row */
};

static const char *const names[TYPES] = {"Later", "AtOnce"};

static struct {
    struct bgmq *mq;
    int durable;
    int64_t now_ms;
    uint64_t random, numbers;
    struct model_message messages[MOST];
    size_t n;
    unsigned streak[TYPES];
    unsigned outq[TYPES];
    int started;
    /* the handler's */
    int verdict;
    int64_t snooze_ms;
    int publishes;
    struct model_message *ran;
    int type;
} w;

/* ---- chance ------------------------------------------------------------------------------ */

static unsigned below(unsigned n)
{
    w.random ^= w.random << 13;
    w.random ^= w.random >> 7;
    w.random ^= w.random << 17;
    return (unsigned)((w.random >> 20) % n);
}

static unsigned setting(const char *name, unsigned otherwise)
{
    const char *value = getenv(name);
    return value ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

/* ---- the model --------------------------------------------------------------------------- */

static struct model_message *by_id(uint64_t id)
{
    for (size_t i = w.n; i-- > 0;)
        if (w.messages[i].id == id)
            return &w.messages[i];
    ck_abort_msg("no message has id %llu", (unsigned long long)id);
    return NULL;
}

static struct model_message *holder_of(int type, int key)
{
    for (size_t i = 0; key && i < w.n; i++) {
        struct model_message *m = &w.messages[i];
        if (m->type == type && m->key == key &&
            (m->state == WAITING || m->state == DELAYED))
            return m;
    }
    return NULL;
}

/* M enters a queue: delayed until DUE_MS, or (0) at the tail of where it belongs. */
static void enter(struct model_message *m, int64_t due_ms)
{
    m->seq = m->pos = ++w.numbers;
    m->due_ms = due_ms;
    m->state = due_ms ? DELAYED : WAITING;
    m->firm = !due_ms && (m->lasting || !w.durable);
}

static int goes_first(const struct model_message *a, const struct model_message *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void make_due(void)
{
    for (;;) {
        struct model_message *next = NULL;
        for (size_t i = 0; i < w.n; i++) {
            struct model_message *m = &w.messages[i];
            if (m->state == DELAYED && m->due_ms <= w.now_ms &&
                (!next || goes_first(m, next)))
                next = m;
        }
        if (!next)
            return;
        next->state = WAITING;
        next->pos = ++w.numbers;
        next->firm = !w.durable;
    }
}

static unsigned count(int type, enum state state, int prior)
{
    unsigned n = 0;
    for (size_t i = 0; i < w.n; i++) {
        const struct model_message *m = &w.messages[i];
        n += m->type == type && m->state == state &&
             (prior < 0 || prior == (m->priority > 0));
    }
    return n;
}

/* True when memory may not hold all that waits, and what is due may not have its place yet. */
static int crowded(int type)
{
    return w.durable && count(type, WAITING, -1) > WINDOW;
}

static int before(const struct model_message *a, const struct model_message *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->priority > 0 ? a->seq < b->seq : a->pos < b->pos;
}

/* The first that waits in inq or (PRIOR) priorityq; FIRM: of those alone.  NULL: none. */
static struct model_message *first(int type, int prior, int firm)
{
    struct model_message *best = NULL;
    for (size_t i = 0; i < w.n; i++) {
        struct model_message *m = &w.messages[i];
        if (m->type == type && m->state == WAITING && (m->priority > 0) == prior &&
            (m->firm || !firm) && (!best || before(m, best)))
            best = m;
    }
    return best;
}

static int all_firm(int type)
{
    for (size_t i = 0; i < w.n; i++)
        if (w.messages[i].type == type && w.messages[i].state == WAITING &&
            !w.messages[i].firm)
            return 0;
    return 1;
}

/* M has started: was it its turn? */
static void check_turn(const struct model_message *m)
{
    ck_assert_int_eq(m->type, w.type);
    ck_assert_msg(m->state == WAITING, "message %llu ran in state %d",
                  (unsigned long long)m->id, m->state);
    int prior = m->priority > 0;
    if (all_firm(m->type)) {
        int from_inq =
            first(m->type, 0, 0) && (!first(m->type, 1, 0) || w.streak[m->type] >= SHARE);
        ck_assert_int_eq(prior, !from_inq);
    }
    if (m->firm)
        ck_assert_uint_eq(m->id, first(m->type, prior, 1)->id);
    w.streak[m->type] = prior ? w.streak[m->type] + 1 : 0;
}

static void dies(struct model_message *m)
{
    m->state = DEAD;
    m->key = 0;
}

/* The attempt of M ends with VERDICT. */
static void settle(struct model_message *m, int verdict)
{
    switch (verdict) {
    case BGMQ_DONE:
        m->state = GONE;
        w.outq[m->type] += w.outq[m->type] < OUTQ;
        break;
    case BGMQ_DISCARD:
        m->state = GONE;
        break;
    case BGMQ_SNOOZE:
        m->attempt--;
        enter(m, w.snooze_ms ? w.now_ms + w.snooze_ms : 0);
        break;
    case BGMQ_RETRY:
        if (m->attempt < ATTEMPTS) {
            enter(m, m->type == 0 ? w.now_ms + 1000 : 0);
            break;
        }
        dies(m);
        break;
    default:
        dies(m);
    }
}

/* ---- operations -------------------------------------------------------------------------- */

static void publish(void)
{
    static const enum bgmq_durability levels[] = {BGMQ_BEHIND, BGMQ_BEHIND, BGMQ_COMMIT,
                                                  BGMQ_MEMORY};
    char key[16], body[16];
    int type = (int)below(TYPES), unique = below(4) ? 0 : 1 + (int)below(KEYS);
    snprintf(key, sizeof(key), "key %d", unique);
    snprintf(body, sizeof(body), "%zu", w.n);
    struct bgmq_message_options o = {
        .priority = below(3) ? 0 : 1 + (int)below(3),
        .delay_ms = below(3) ? 0 : 1 + below(3000),
        .unique_key = unique ? key : NULL,
        .durability = w.durable ? levels[below(4)] : BGMQ_MEMORY,
    };
    struct bgmq_receipt r;
    struct model_message *holder = holder_of(type, unique);
    /* A handler's message may be refused by the key of the one that runs. */
    if (!holder && w.ran && w.ran->key && w.ran->key == unique && w.ran->type == type)
        holder = w.ran;
    ck_assert_uint_lt(w.n, MOST);
    OK(bgmq_publish(w.mq, names[type], body, strlen(body), &o, &r));
    ck_assert_int_eq(r.duplicate, holder != NULL);
    if (holder) {
        ck_assert_uint_eq(r.id, holder->id);
        return;
    }
    struct model_message *m = &w.messages[w.n++];
    *m = (struct model_message){.id = r.id,
                                .type = type,
                                .priority = o.priority,
                                .key = unique,
                                .lasting = r.level > BGMQ_MEMORY};
    enter(m, o.delay_ms ? w.now_ms + o.delay_ms : 0);
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
    struct model_message *m = by_id(bgmq_job_id(job));
    (void)ctx;
    ck_assert_ptr_null(w.ran);
    check_turn(m);
    w.ran = m;
    m->state = GONE; /* it waits no longer */
    ck_assert_uint_eq(bgmq_job_attempt(job), ++m->attempt);
    const void *cursor = bgmq_job_cursor(job, NULL);
    if (cursor)
        memcpy(&saved, cursor, sizeof(saved));
    ck_assert_int_eq(saved, m->cursor);
    if (below(2)) {
        m->cursor = 1 + (int)below(1000);
        OK(bgmq_job_save_cursor(job, &m->cursor, sizeof(m->cursor), BGMQ_BEHIND));
    }
    if (w.publishes)
        publish();
    return w.verdict == BGMQ_SNOOZE ? bgmq_job_snooze(job, w.snooze_ms) : w.verdict;
}

static void step(void)
{
    static const int verdicts[] = {BGMQ_DONE,   BGMQ_DONE,    BGMQ_DONE,     BGMQ_DONE,
                                   BGMQ_RETRY,  BGMQ_RETRY,   BGMQ_RETRY,    BGMQ_SNOOZE,
                                   BGMQ_SNOOZE, BGMQ_DISCARD, BGMQ_PERMANENT};
    w.type = (int)below(TYPES);
    w.verdict = verdicts[below(sizeof(verdicts) / sizeof(*verdicts))];
    w.snooze_ms = below(3) ? 1 + below(2000) : 0;
    w.publishes = !below(5);
    int waits = w.started && count(w.type, WAITING, -1) > 0;
    ck_assert_int_eq(bgmq_test_step(w.mq, names[w.type]), waits);
    ck_assert_int_eq(w.ran != NULL, waits);
    if (w.ran)
        settle(w.ran, w.verdict);
    w.ran = NULL;
}

static void advance(void)
{
    int64_t ms = below(1500);
    w.now_ms += ms;
    OK(bgmq_test_advance(w.mq, ms));
    ck_assert_int_eq(bgmq_test_now(w.mq), w.now_ms);
    make_due();
}

static struct model_message *any(int type, enum state state)
{
    unsigned n = count(type, state, -1), nth = n ? below(n) : 0;
    for (size_t i = 0; n && i < w.n; i++)
        if (w.messages[i].type == type && w.messages[i].state == state && nth-- == 0)
            return &w.messages[i];
    return NULL;
}

static void retry_one(void)
{
    int type = (int)below(TYPES);
    struct model_message *m = any(type, DEAD);
    if (!m) {
        ck_assert_int_eq(bgmq_retry_dead(w.mq, names[type], 0), 0);
        return;
    }
    ck_assert_int_eq(bgmq_retry_dead(w.mq, names[type], m->id), 1);
    m->attempt = 0;
    enter(m, 0);
}

/* Takes the head of inq by hand. */
static void take(void)
{
    int type = (int)below(TYPES);
    char queue[32];
    struct bgmq_message *h = NULL;
    snprintf(queue, sizeof(queue), "mq:%s.inq", names[type]);
    int err = bgmq_get(w.mq, queue, 0, &h);
    ck_assert_int_eq(err, count(type, WAITING, 0) ? 0 : BGMQ_ETIMEOUT);
    if (err)
        return;
    struct model_message *m = by_id(bgmq_message_id(h));
    ck_assert_int_eq(m->state, WAITING);
    if (m->firm)
        ck_assert_uint_eq(m->id, first(type, 0, 1)->id);
    ck_assert_uint_eq(bgmq_message_attempts(h), m->attempt);
    switch (below(3)) {
    case 0:
        OK(bgmq_ack(h));
        m->state = GONE;
        break;
    case 1:
        OK(bgmq_nak(h, 1));
        enter(m, 0);
        break;
    default:
        OK(bgmq_nak(h, 0));
        dies(m);
    }
    bgmq_message_free(h);
}

static void stop_or_start(void)
{
    if (w.started)
        OK(bgmq_stop(w.mq, 0));
    else
        OK(bgmq_start(w.mq));
    w.started = !w.started;
    ck_assert_int_eq(bgmq_started(w.mq), w.started);
}

static void open_kit(void)
{
    struct bgmq_options o = {.database = w.durable ? flow_database() : NULL};
    struct bgmq_error error = {""};
    int err = bgmq_test_open(&w.mq, &o, w.now_ms, &error);
    ck_assert_msg(err == 0, "bgmq_test_open: %s: %s", bgmq_errname(err), error.text);
    struct bgmq_type_options t = {.window = WINDOW,
                                  .priority_share = SHARE,
                                  .outq_limit = OUTQ,
                                  .max_attempts = ATTEMPTS,
                                  .backoff = BGMQ_BACKOFF_FIXED,
                                  .backoff_base_ms = 1000};
    OK(bgmq_register(w.mq, names[0], handle, NULL, &t));
    t.backoff = BGMQ_BACKOFF_NONE;
    OK(bgmq_register(w.mq, names[1], handle, NULL, &t));
    w.started = 1;
}

static void reopen(void)
{
    if (!w.durable || below(4))
        return;
    flow_close(w.mq);
    for (size_t i = 0; i < w.n; i++)
        if (!w.messages[i].lasting)
            w.messages[i].state = GONE;
    memset(w.streak, 0, sizeof(w.streak));
    memset(w.outq, 0, sizeof(w.outq));
    open_kit();
}

/* ---- the comparison ---------------------------------------------------------------------- */

static void compare(void)
{
    OK(bgmq_test_advance(w.mq, 0)); /* all is where it belongs */
    for (int t = 0; t < TYPES; t++) {
        struct bgmq_collection c = flow_collection(w.mq, names[t]);
        ck_assert_uint_eq(c.dlq, count(t, DEAD, -1));
        ck_assert_uint_eq(c.outq, w.outq[t]);
        ck_assert_uint_eq(c.running, 0);
        ck_assert_uint_eq(c.inq + c.priorityq + c.delayed,
                          count(t, WAITING, -1) + count(t, DELAYED, -1));
        if (crowded(t))
            continue;
        ck_assert_uint_eq(c.inq, count(t, WAITING, 0));
        ck_assert_uint_eq(c.priorityq, count(t, WAITING, 1));
        ck_assert_uint_eq(c.delayed, count(t, DELAYED, -1));
    }
}

static void run_steps(unsigned seed, unsigned steps)
{
    static const struct {
        unsigned weight;
        void (*run)(void);
    } operations[] = {{30, publish}, {40, step},         {12, advance}, {4, retry_one},
                      {6, take},     {2, stop_or_start}, {3, reopen},   {1, burst}};
    printf("# BGMQ_SEED=%u BGMQ_STEPS=%u, %s\n", seed, steps,
           w.durable ? "with a database" : "in memory");
    fflush(stdout);
    w.random = UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
    for (unsigned i = 0; i < steps; i++) {
        unsigned chance = below(98), o = 0;
        for (; chance >= operations[o].weight; o++)
            chance -= operations[o].weight;
        operations[o].run();
        compare();
    }
}

/* At the end everything is run to its end, and nothing is left behind. */
static void finish(void)
{
    if (!w.started)
        stop_or_start();
    for (int t = 0; t < TYPES; t++)
        while (count(t, WAITING, -1) + count(t, DELAYED, -1) > 0) {
            w.now_ms += 5000;
            OK(bgmq_test_advance(w.mq, 5000));
            make_due();
            w.type = t;
            w.verdict = BGMQ_DONE;
            w.publishes = 0;
            while (count(t, WAITING, -1)) {
                ck_assert_int_eq(bgmq_test_step(w.mq, names[t]), 1);
                settle(w.ran, BGMQ_DONE);
                w.ran = NULL;
            }
        }
    compare();
    unsigned dead = 0;
    for (size_t i = 0; i < w.n; i++)
        dead += w.messages[i].state == DEAD && w.messages[i].lasting;
    flow_close(w.mq);
    if (!w.durable)
        return;
    ck_assert_int_eq(flow_rows(), dead);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_unique"), 0);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_progress WHERE id NOT IN"
                              " (SELECT id FROM bgmq_backlog)"),
                     0);
}

START_TEST(random_operations_do_what_the_model_says)
{
    w.durable = _i % 2;
    w.now_ms = INT64_C(1900000000000);
    open_kit();
    unsigned steps = w.durable ? 1500 : 4000;
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
