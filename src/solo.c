/* solo.c - the gate while suspects are run (see solo.h).  The ticker's thread, no lock held; a
 * stop may shut the gate at any time, and wins. */
#include "solo.h"

#define PATIENCE_NS INT64_C(10000000000)

static int rouse_type(void *ctx, struct type *t)
{
    (void)ctx;
    bgmqi_type_rouse(t);
    return 0;
}

/* The first type with a suspect that could start now. */
static int find_suspects(void *ctx, struct type *t)
{
    struct type **found = ctx;
    if (!bgmqi_type_suspects(t))
        return 0;
    *found = t;
    return 1;
}

struct census {
    int64_t now_ns;
    struct run_counts counts;
};

static int count_type(void *ctx, struct type *t)
{
    struct census *c = ctx;
    bgmqi_type_run_counts(t, c->now_ns, &c->counts);
    return 0;
}

/* Turns the gate, unless a stop was quicker. */
static bool turn_gate(struct type_env *env, struct registry *r, int from, int to)
{
    if (!atomic_compare_exchange_strong(&env->started, &from, to))
        return false;
    bgmqi_registry_each(r, false, rouse_type, NULL);
    return true;
}

/* How many handlers have to end before the next suspect; those stuck are not waited for. */
static size_t in_the_way(struct solo *s, struct registry *r, int64_t now_ns)
{
    struct census c = {.now_ns = now_ns};
    bgmqi_registry_each(r, true, count_type, &c);
    size_t n = c.counts.running;
    if (n < s->tolerated)
        s->tolerated = n;
    if (n > s->tolerated && now_ns - s->since_ns >= PATIENCE_NS)
        s->tolerated = n;
    return n - s->tolerated;
}

static int64_t close_gate(struct solo *s, struct type_env *env, struct registry *r,
                          int64_t now_ns)
{
    atomic_store(&env->solo, NULL); /* one that was let through and never came */
    if (!turn_gate(env, r, GATE_OPEN, GATE_SOLO))
        return INT64_MAX;
    s->since_ns = now_ns;
    s->tolerated = 0;
    bgmqi_log(env->log, BGMQ_LOG_INFO,
              "%llu messages that ran when the process died are run one at a time",
              (unsigned long long)atomic_load(&env->suspects));
    return now_ns;
}

static int64_t open_gate(struct solo *s, struct type_env *env, struct registry *r)
{
    s->since_ns = 0;
    if (turn_gate(env, r, GATE_SOLO, GATE_OPEN))
        bgmqi_log(env->log, BGMQ_LOG_INFO, "messages are run side by side again");
    return INT64_MAX;
}

int64_t bgmqi_solo_tick(struct solo *s, struct type_env *env, struct registry *r,
                        int64_t now_ns)
{
    int gate = atomic_load(&env->started);
    struct type *next = NULL, *may = atomic_load(&env->solo);
    if (gate == GATE_SHUT) {
        s->since_ns = 0;
        atomic_store(&env->solo, NULL);
        return INT64_MAX;
    }
    if (atomic_load(&env->suspects))
        bgmqi_registry_each(r, true, find_suspects, &next);
    if (gate == GATE_OPEN)
        return next ? close_gate(s, env, r, now_ns) : INT64_MAX;
    if (s->since_ns == 0)
        s->since_ns = now_ns; /* a start found suspects */
    if (may && may == next)
        return s->since_ns + PATIENCE_NS; /* its worker is about to come */
    if (in_the_way(s, r, now_ns))
        return s->since_ns + PATIENCE_NS;
    if (!next)
        return open_gate(s, env, r);
    s->since_ns = now_ns;
    atomic_store(&env->solo, next);
    bgmqi_type_rouse(next);
    return s->since_ns + PATIENCE_NS;
}
