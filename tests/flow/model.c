/* model.c - the simple model of a service (see model.h). */
#include "model.h"

#include <stdlib.h>
#include <string.h>

const char *const model_names[TYPES] = {"Later", "AtOnce", "Later@eu"};

struct model model;

unsigned model_below(unsigned n)
{
    model.random ^= model.random << 13;
    model.random ^= model.random >> 7;
    model.random ^= model.random << 17;
    return (unsigned)((model.random >> 20) % n);
}

struct model_message *model_by_id(uint64_t id)
{
    for (size_t i = model.n; i-- > 0;)
        if (model.messages[i].id == id)
            return &model.messages[i];
    ck_abort_msg("no message has id %llu", (unsigned long long)id);
    return NULL;
}

struct model_message *model_holder_of(int type, int key)
{
    for (size_t i = 0; key && i < model.n; i++) {
        struct model_message *m = &model.messages[i];
        if (m->type == type && m->key == key &&
            (m->state == WAITING || m->state == DELAYED))
            return m;
    }
    return NULL;
}

void model_enter(struct model_message *m, int64_t due_ms)
{
    m->seq = m->pos = ++model.numbers;
    m->due_ms = due_ms;
    m->entered_ms = model.now_ms;
    m->state = due_ms ? DELAYED : WAITING;
    m->firm = !due_ms && (m->lasting || !model.durable);
}

static int goes_first(const struct model_message *a, const struct model_message *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

void model_make_due(void)
{
    for (;;) {
        struct model_message *next = NULL;
        for (size_t i = 0; i < model.n; i++) {
            struct model_message *m = &model.messages[i];
            if (m->state == DELAYED && m->due_ms <= model.now_ms &&
                (!next || goes_first(m, next)))
                next = m;
        }
        if (!next)
            return;
        next->state = WAITING;
        next->pos = ++model.numbers;
        next->firm = !model.durable;
    }
}

unsigned model_count(int type, enum model_state state, int prior)
{
    unsigned n = 0;
    for (size_t i = 0; i < model.n; i++) {
        const struct model_message *m = &model.messages[i];
        n += m->type == type && m->state == state &&
             (prior < 0 || prior == (m->priority > 0));
    }
    return n;
}

int model_crowded(int type)
{
    return model.durable && model_count(type, WAITING, -1) > WINDOW;
}

static int before(const struct model_message *a, const struct model_message *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->priority > 0 ? a->seq < b->seq : a->pos < b->pos;
}

struct model_message *model_first(int type, int prior, int firm)
{
    struct model_message *best = NULL;
    for (size_t i = 0; i < model.n; i++) {
        struct model_message *m = &model.messages[i];
        if (m->type == type && m->state == WAITING && (m->priority > 0) == prior &&
            (m->firm || !firm) && (!best || before(m, best)))
            best = m;
    }
    return best;
}

static int all_firm(int type)
{
    for (size_t i = 0; i < model.n; i++)
        if (model.messages[i].type == type && model.messages[i].state == WAITING &&
            !model.messages[i].firm)
            return 0;
    return 1;
}

void model_check_turn(const struct model_message *m)
{
    ck_assert_int_eq(m->type, model.type);
    ck_assert_msg(m->state == WAITING, "message %llu ran in state %d",
                  (unsigned long long)m->id, m->state);
    ck_assert(!m->expires_ms || m->expires_ms > model.now_ms);
    int prior = m->priority > 0;
    if (all_firm(m->type)) {
        int from_inq = model_first(m->type, 0, 0) &&
                       (!model_first(m->type, 1, 0) || model.streak[m->type] >= SHARE);
        ck_assert_int_eq(prior, !from_inq);
    }
    if (m->firm)
        ck_assert_uint_eq(m->id, model_first(m->type, prior, 1)->id);
    model.streak[m->type] = prior ? model.streak[m->type] + 1 : 0;
}

void model_dies(struct model_message *m, const char *code)
{
    m->state = DEAD;
    m->key = 0;
    m->code = code;
}

void model_settle(struct model_message *m, int verdict)
{
    switch (verdict) {
    case BGMQ_DONE:
        m->state = GONE;
        model.outq[m->type] += model.outq[m->type] < OUTQ;
        break;
    case BGMQ_DISCARD:
        m->state = GONE;
        break;
    case BGMQ_SNOOZE:
        m->attempt--;
        model_enter(m, model.snooze_ms ? model.now_ms + model.snooze_ms : 0);
        break;
    case BGMQ_RETRY:
        if (m->attempt < ATTEMPTS) {
            model_enter(m, m->type == 0 ? model.now_ms + 1000 : 0);
            break;
        }
        model_dies(m, NULL);
        break;
    default:
        model_dies(m, NULL);
    }
}

struct model_message *model_any(int type, enum model_state state)
{
    unsigned n = model_count(type, state, -1), nth = n ? model_below(n) : 0;
    for (size_t i = 0; n && i < model.n; i++)
        if (model.messages[i].type == type && model.messages[i].state == state &&
            nth-- == 0)
            return &model.messages[i];
    return NULL;
}
