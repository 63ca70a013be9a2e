/* type_desk.c - how workers come by their messages, and what becomes of those.
 *
 * Finishing.  A message that ended well needs nothing but a place in outq, so it stays on the
 * desk until its worker comes to the type's lock again; who wants to look collects it first
 * (bgmqi_type_collect).  The journal is told at once.
 *
 * Waking.  A parked worker is woken when a message comes, but only one at a time: the next is
 * woken by the one that woke up, if there is more.  So a burst costs one futex call, not one a
 * message, and a message is never waiting while a worker sleeps and no wake is under way. */
#include <stdlib.h>

#include "thread.h"
#include "type_impl.h"

struct desk *bgmqi_desk_new(struct type *t)
{
    bgmqi_type_lock(t);
    struct desk *d = t->spare;
    if (d)
        t->spare = d->next;
    bgmqi_type_unlock(t);
    if (!d && !(d = calloc(1, sizeof(*d))))
        return NULL;
    if (!d->type)
        lock_init(&d->lock, RANK_DESK);
    d->type = t;
    d->ring = bgmqi_flight_take(t->env->flight);
    bgmqi_type_lock(t);
    d->next = NULL;
    d->parked = d->quit = false;
    d->holds = 0;
    atomic_store(&d->turn, TURN_IDLE);
    atomic_store(&d->cancelled, 0);
    /* At the end: workers are shown in the order they came. */
    struct desk **last = &t->desks;
    while (*last)
        last = &(*last)->next;
    *last = d;
    t->workers++;
    bgmqi_type_unlock(t);
    return d;
}

struct type *bgmqi_desk_type(struct desk *d)
{
    return d->type;
}

/* ---- waking ------------------------------------------------------------------------ */

bool bgmqi_type_may_claim(const struct type *t)
{
    return atomic_load_explicit(&t->env->started, memory_order_relaxed) == GATE_OPEN &&
           atomic_load_explicit(&t->registered, memory_order_relaxed) &&
           !atomic_load_explicit(&t->paused, memory_order_relaxed);
}

static struct desk *unpark(struct type *t)
{
    struct desk *d = t->parked;
    if (d) {
        t->parked = d->next_parked;
        d->parked = false;
    }
    return d;
}

/* A parked worker rests until it is woken, for ever if need be: 10,000 of them that looked about
 * once a second took a tenth of a processor.  What makes that safe is one rule: whatever would let
 * a parked worker do something is done under the type's lock, or before it is taken, and is
 * followed by
 *   - bgmqi_type_wake_one, when a message becomes ready (bgmqi_type_place and place_back), when a
 *     worker leaves others behind it, on its desk too (bgmqi_desk_fill), and when one that may have
 *     been woken for a message does not take it (claim, bgmqi_desk_leave);
 *   - bgmqi_type_rouse, when the gate, the pause, the registration or the suspect's turn changes;
 *   - bgmqi_desk_quit, of the one worker.
 * WAKING, which keeps wake_one from waking a second, is taken back by the woken one under the lock,
 * unless it has just noted the wake of another there, for what has arrived.  There is a case for
 * each in tests/flow/test_wakeup.c. */
void bgmqi_type_wake_one(struct type *t)
{
    if (t->waking || !t->parked || !bgmqi_type_may_claim(t))
        return;
    assert(!t->wake);
    t->wake = unpark(t);
    t->waking = true;
}

/* One who may have been woken has come to the lock.  To take it brings in what has arrived, which
 * may have noted the wake of another: that one is on its way, and its note is not overwritten. */
static void has_come(struct type *t)
{
    t->waking = t->wake != NULL;
}

void bgmqi_type_rouse(struct type *t)
{
    bgmqi_type_lock(t);
    /* Under the lock: without it one whose patience is over may park again meanwhile, and take
     * the rest of the list with it. */
    for (struct desk *d; (d = unpark(t)) != NULL;)
        bgmqi_park_wake(&d->park);
    bgmqi_type_unlock(t);
}

/* ---- the desk under the type's lock ------------------------------------------------ */

void bgmqi_desk_clear(struct desk *d, bool claims)
{
    struct message *done[DESK_CLAIM_MAX], *back[DESK_CLAIM_MAX];
    unsigned n_done = 0, n_back = 0;
    lock_take(&d->lock);
    while (n_done < d->n_finished) {
        done[n_done] = d->finished[n_done];
        n_done++;
    }
    d->n_finished = 0;
    if (claims) {
        while (d->n > d->first)
            back[n_back++] = d->claimed[--d->n];
        d->first = d->n = 0;
        d->alone = false;
    }
    lock_drop(&d->lock);
    bgmqi_type_retire(d->type, done, n_done);
    for (unsigned i = 0; i < n_back; i++)
        bgmqi_type_place_back(d->type, back[i]);
}

void bgmqi_type_collect(struct type *t)
{
    for (struct desk *d = t->desks; d; d = d->next)
        bgmqi_desk_clear(d, false);
}

void bgmqi_type_unclaim(struct type *t)
{
    for (struct desk *d = t->desks; d; d = d->next)
        bgmqi_desk_clear(d, true);
}

static void leave_parked(struct desk *d)
{
    for (struct desk **p = &d->type->parked; *p; p = &(*p)->next_parked)
        if (*p == d) {
            *p = d->next_parked;
            break;
        }
    d->parked = false;
}

/* After a pause the clocks are read anew; a busy worker goes on from the end of its last
 * handler, and looks at the wall once a second. */
static void read_clocks(struct desk *d, bool paused)
{
    const struct clock *c = d->type->env->clock;
    if (!paused && d->batch_mono_ns && d->mark_ns - d->batch_mono_ns < 1000000000)
        return;
    d->batch_wall_ms = clock_wall_ms(c);
    d->batch_mono_ns = d->mark_ns = clock_mono_ns(c);
    d->rough_ms = clock_rough_ms(c);
    d->unmeasured = 0;
}

/* Whatever the handlers did to the signal mask is put right: before the next one, unless they are
 * so quick that the system call would cost more than they do. */
static void shield(struct desk *d)
{
    enum { EVERY = 64 };
    if (d->mean_ns < DESK_QUICK_NS && d->claims++ % EVERY != 0)
        return;
    bgmqi_thread_shield();
}

/* Who has enough before him does not look at what comes behind that, and leaves the cache line
 * where it is to the publishers. */
static void lock_for_claim(struct type *t) LOCK_ATTR(acquire_capability(t->lock))
    LOCK_ATTR(no_thread_safety_analysis)
{
    lock_take(&t->lock);
    if (t->inq.len < 2 * (size_t)DESK_CLAIM_MAX * t->workers)
        bgmqi_type_absorb(t);
}

/* Comes to the type's lock, leaves what is finished, and waits for something to do; false: it
 * is to quit. */
static bool claim(struct desk *d)
{
    struct type *t = d->type;
    bool woken = false, go = false;
    shield(d);
    for (;;) {
        lock_for_claim(t);
        if (d->parked)
            leave_parked(d); /* nobody woke it: the wait was over */
        else if (woken)
            has_come(t);
        bgmqi_desk_clear(d, true);
        if (d->quit ||
            (bgmqi_type_may_claim(t) && (go = bgmqi_desk_fill(d, bgmqi_desk_batch(d)))) ||
            (go = bgmqi_desk_fill_alone(d)))
            break;
        d->parked = true;
        d->next_parked = t->parked;
        t->parked = d;
        bgmqi_type_unlock(t);
        d->claims = 0; /* nobody is in a hurry now */
        shield(d);
        bgmqi_park_rest(&d->park);
        woken = true;
    }
    if (!go)
        bgmqi_type_wake_one(
            t); /* the wake that ends this one may have been for a message */
    bgmqi_type_unlock(t);
    if (go)
        read_clocks(d, woken);
    return go;
}

/* ---- what the worker calls --------------------------------------------------------- */

static enum fate fate_of(const struct type *t, const struct message *m)
{
    unsigned most = m->max_attempts ? m->max_attempts : t->config.max_attempts;
    if (m->crashes && (m->crashes >= t->env->max_crashes || m->attempt >= most))
        return FATE_CRASH;
    int64_t expires_ms = message_expires_ms(m);
    if (expires_ms && clock_wall_ms(t->env->clock) >= expires_ms)
        return FATE_EXPIRED;
    return FATE_RUN;
}

/* Gives the attempt at D its time-out, if there is one. */
static void set_deadline(struct desk *d, const struct message *m)
{
    const struct type_config *c = &d->type->config;
    const struct message_ext *x = message_ext(m);
    unsigned timeout_ms = x && x->timeout_ms ? x->timeout_ms : c->timeout_ms;
    if (!timeout_ms)
        return;
    d->start_ns = d->mark_ns = clock_mono_ns(d->type->env->clock);
    d->unmeasured = 0;
    d->deadline_ns = d->start_ns + timeout_ms * INT64_C(1000000);
    d->stuck_ns = d->deadline_ns + c->stuck_ms * INT64_C(1000000);
}

/* The number of attempts is kept in a record: it stays at the most that this can hold. */
static uint16_t one_more(uint16_t attempts)
{
    return attempts < UINT16_MAX ? (uint16_t)(attempts + 1) : attempts;
}

/* What most attempts have nothing of, apart so that those need no room for it. */
__attribute__((noinline)) static void begin_specially(struct desk *d, struct message *m)
{
    d->fate = (uint8_t)fate_of(d->type, m);
    set_deadline(d, m);
    if (m->row != ROW_NONE && d->fate == FATE_RUN)
        d->slot = flight_begin(d->ring, m->id, one_more(m->attempt));
}

/* M starts at D, whose lock is held. */
static void begin(struct desk *d, struct message *m)
{
    d->current = m;
    d->fate = FATE_RUN;
    d->slot = NULL;
    d->start_ns = d->mark_ns;
    d->deadline_ns = d->stuck_ns = INT64_MAX;
    if (m->row != ROW_NONE || m->crashes || message_extra(m) ||
        d->type->config.timeout_ms)
        begin_specially(d, m);
    atomic_store_explicit(&d->turn, TURN_RUNNING, memory_order_relaxed);
    d->attempt = m->attempt;
    if (d->fate != FATE_RUN)
        return;
    if (m->priority > 0)
        d->stats.priority_received++;
    else
        d->stats.normal_received++;
    m->attempt = one_more(m->attempt);
    m->run++;
    d->attempt = m->attempt;
}

/* May what D has claimed start now?  D's lock is held. */
static bool may_begin(const struct desk *d)
{
    const struct type *t = d->type;
    int gate = atomic_load_explicit(&t->env->started, memory_order_acquire);
    if (gate == GATE_SOLO)
        return d->alone;
    return gate == GATE_OPEN && !atomic_load_explicit(&t->paused, memory_order_relaxed) &&
           (d->n == 1 || !atomic_load_explicit(&t->urgent, memory_order_acquire));
}

/* Ends what its worker has done well, and starts the next of what D has claimed; NULL: it has to
 * come to the type's lock. */
static struct message *start(struct desk *d)
{
    struct message *m = NULL;
    lock_take(&d->lock);
    bgmqi_desk_done(d);
    if (d->first < d->n && may_begin(d)) {
        m = d->claimed[d->first++];
        begin(d, m);
    }
    lock_drop(&d->lock);
    if (m && d->deadline_ns != INT64_MAX)
        d->type->env->deadline(d->type->env->ctx, d->type, d->deadline_ns);
    return m;
}

enum desk_turn bgmqi_desk_next(struct desk *d, struct message **ret)
{
    const struct type_env *env = d->type->env;
    while (!(*ret = start(d))) {
        env->idle(env->ctx);
        if (!claim(d))
            return DESK_QUIT;
    }
    return DESK_MESSAGE;
}

bool bgmqi_desk_try(struct desk *d, struct message **ret)
{
    bgmqi_type_lock(d->type);
    bgmqi_desk_clear(d, true);
    bool go = !d->quit && ((bgmqi_type_may_claim(d->type) && bgmqi_desk_fill(d, 1)) ||
                           bgmqi_desk_fill_alone(d));
    bgmqi_type_unlock(d->type);
    if (!go)
        return false;
    read_clocks(d, true);
    return (*ret = start(d)) != NULL; /* NULL: stopped meanwhile */
}

void bgmqi_desk_tried(struct desk *d)
{
    lock_take(&d->lock);
    bgmqi_desk_done(d);
    lock_drop(&d->lock);
    d->type->env->idle(d->type->env->ctx);
}

enum fate bgmqi_desk_fate(const struct desk *d)
{
    return (enum fate)d->fate;
}

unsigned bgmqi_desk_attempt(const struct desk *d)
{
    return d->attempt;
}

int64_t bgmqi_desk_deadline(const struct desk *d)
{
    return d->deadline_ns;
}

void bgmqi_desk_quit(struct desk *d)
{
    bgmqi_type_lock(d->type);
    if (!d->quit)
        d->type->workers--; /* it counts no more, though it may run on for a while */
    d->quit = true;
    if (d->parked)
        leave_parked(d);
    bgmqi_type_unlock(d->type);
    bgmqi_park_wake(&d->park);
}

void bgmqi_desk_leave(struct desk *d)
{
    struct type *t = d->type;
    struct flight_ring *ring = d->ring;
    bgmqi_type_lock(t);
    lock_take(&d->lock);
    bgmqi_desk_done(d);
    lock_drop(&d->lock);
    has_come(t); /* the wake may have been meant for this one */
    bgmqi_desk_clear(d, true);
    if (!d->quit)
        t->workers--;
    d->quit = true;
    for (struct desk **p = &t->desks; *p; p = &(*p)->next)
        if (*p == d) {
            *p = d->next;
            break;
        }
    lock_take(&d->lock);
    bgmqi_type_add_stats(&t->past, &d->stats);
    bgmqi_timing_move(&t->past_timing, &d->timing);
    d->stats = (struct bgmq_stats){.last_ms = 0};
    lock_drop(&d->lock);
    d->mean_ns = d->batch_mono_ns = 0;
    d->next = t->spare; /* kept: somebody may be about to wake it */
    t->spare = d;
    bgmqi_type_wake_one(t);
    bgmqi_type_unlock(t);
    bgmqi_flight_release(t->env->flight, ring);
    t->env->idle(t->env->ctx);
}

void bgmqi_type_pause(struct type *t, bool paused)
{
    bgmqi_type_lock(t);
    atomic_store(&t->paused, paused);
    if (!paused && (t->suspects[LANE_INQ].len || t->suspects[LANE_PRIORITYQ].len))
        t->due_hint = INT64_MIN;
    bgmqi_type_unlock(t);
    bgmqi_type_rouse(t);
}

bool bgmqi_type_paused(const struct type *t)
{
    return atomic_load(&t->paused);
}

size_t bgmqi_type_suspects(struct type *t)
{
    if (!bgmqi_type_registered(t) || bgmqi_type_paused(t))
        return 0;
    bgmqi_type_lock(t);
    size_t n = t->suspects[LANE_INQ].len + t->suspects[LANE_PRIORITYQ].len;
    bool hands = false;
    for (struct desk *d = t->desks; d && n && !hands; d = d->next) {
        lock_take(&d->lock);
        hands = !d->quit && !d->current;
        lock_drop(&d->lock);
    }
    bgmqi_type_unlock(t);
    return hands ? n : 0;
}
