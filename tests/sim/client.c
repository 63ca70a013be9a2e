/* client.c - operations of the simulated clients (see client.h), each noted before and after. */
#include "client.h"

#include "inbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = {NULL, "one", "two", "three", "four"};
_Static_assert(sizeof(keys) / sizeof(*keys) == NOTE_KEYS, "a key for each number");

#define HOUR_MS INT64_C(3600000)
#define YEAR_MS INT64_C(31557600000)

/* ---- publishing --------------------------------------------------------------------- */

/* The options of a new message; its note, or NULL. */
static struct note *draft(struct life *l, struct bgmq_message_options *o, char body[16])
{
    static const enum bgmq_durability levels[] = {BGMQ_DEFAULT, BGMQ_BEHIND, BGMQ_BEHIND,
                                                  BGMQ_COMMIT,  BGMQ_DISK,   BGMQ_MEMORY};
    unsigned type = sim_below(NOTE_TYPES);
    struct note *n = notes_n < l->plan.notes_max ? notes_new(type) : NULL;
    if (!n)
        return NULL;
    n->key = sim_chance(1, 4) ? 1 + sim_below(NOTE_KEYS - 1) : 0;
    *o = (struct bgmq_message_options){
        .priority = sim_chance(1, 3) ? 1 + (int)sim_below(3) : 0,
        .delay_ms = sim_chance(1, 3) ? 1 + sim_below(3000) : 0,
        .expire_ms = sim_chance(1, 8) ? 1 + sim_below(4000) : 0,
        .unique_key = keys[n->key],
        .durability = l->plan.durable ? levels[sim_below(6)] : BGMQ_DEFAULT,
    };
    n->due_ms = o->delay_ms ? sim_wall_ms() + o->delay_ms : 0;
    n->expires_ms = o->expire_ms ? sim_wall_ms() + o->expire_ms : 0;
    snprintf(body, 16, "%u", notes_number(n));
    return n;
}

/* When what is published by now expires at the latest; no time of the library's is before 1970. */
static int64_t latest_expiry(const struct bgmq_message_options *o)
{
    int64_t ms = sim_wall_ms() + o->expire_ms;
    return !o->expire_ms ? 0 : ms > 0 ? ms : 1;
}

/* Whether ERR of a publish is one that may come; what the store has said is remembered. */
static void expect_publish_error(struct life *l, int err)
{
    if (err == BGMQ_EUNCERTAIN || err == BGMQ_ESTORE || err == BGMQ_ECLOSED)
        notes_life.broken |= err != BGMQ_ECLOSED;
    if (err && err != BGMQ_EFULL && err != BGMQ_EBUSY && err != BGMQ_EUNCERTAIN &&
        err != BGMQ_ESTORE && err != BGMQ_EEXIST)
        sim_fail("a publish fails: %s", bgmq_errname(err));
    if (err && l->plan.calm)
        sim_fail("a publish fails in calm weather: %s", bgmq_errname(err));
}

void client_publish(struct life *l)
{
    static const enum bgmq_conflict conflicts[] = {BGMQ_CONFLICT_KEEP, BGMQ_CONFLICT_KEEP,
                                                   BGMQ_CONFLICT_REPLACE,
                                                   BGMQ_CONFLICT_REFUSE};
    struct bgmq_message_options o;
    struct bgmq_receipt r;
    char body[16];
    struct note *n = draft(l, &o, body);
    if (!n)
        return;
    o.on_conflict = conflicts[sim_below(4)];
    bool replaces = o.on_conflict == BGMQ_CONFLICT_REPLACE;
    if (replaces)
        notes_contest(n, 1);
    int err = bgmq_publish(l->mq, life_names[n->type], body, strlen(body), &o, &r);
    if (replaces && err != BGMQ_EUNCERTAIN)
        notes_contest(n, -1);
    expect_publish_error(l, err);
    n->expires_ms = latest_expiry(&o);
    notes_published(n, err, &r);
}

static void publish_many(struct life *l)
{
    enum { MOST = 4 };
    struct bgmq_message_options o[MOST];
    struct bgmq_item items[MOST];
    struct bgmq_receipt r[MOST];
    struct note *all[MOST];
    char bodies[MOST][16];
    size_t n = 0, wanted = 2 + sim_below(MOST - 1);
    while (n < wanted && (all[n] = draft(l, &o[n], bodies[n])) != NULL) {
        items[n] = (struct bgmq_item){.type = life_names[all[n]->type],
                                      .body = bodies[n],
                                      .len = strlen(bodies[n]),
                                      .options = &o[n]};
        n++;
    }
    if (n == 0)
        return;
    int err = bgmq_publish_many(l->mq, items, n, r);
    expect_publish_error(l, err);
    for (size_t i = 0; i < n; i++) {
        all[i]->expires_ms = latest_expiry(&o[i]);
        notes_published(all[i], err, &r[i]);
    }
}

/* Another process writes to the inbox; the watch, which is not there, rings. */
static void publish_as_guest(struct life *l)
{
    struct bgmq_message_options o;
    char body[16];
    struct note *n = l->plan.durable && disk.n_guests < 100 ? draft(l, &o, body) : NULL;
    if (!n)
        return;
    struct disk_guest *g = &disk.guests[disk.n_guests++];
    *g = (struct disk_guest){.id = disk.next_guest++, .type = life_names[n->type]};
    strcpy(g->body, body);
    g->options =
        (struct bgmq_message_options){.priority = o.priority, .run_at_ms = n->due_ms};
    n->guest = true;
    n->key = 0;
    n->expires_ms = 0;
    n->id = g->id;
    n->publish = ACCEPTED;
    n->level = BGMQ_DISK;
    sim_say("a guest publishes %s as %llu", body, (unsigned long long)g->id);
    bgmqi_inbox_ring(l->mq);
}

static void flush(struct life *l)
{
    uint64_t before = notes_now();
    int err = bgmq_flush(l->mq);
    sim_say("flush: %s", bgmq_errname(err));
    if (!err && !notes_life.refused)
        notes_flushed(before);
    else if (err == BGMQ_ESTORE || err == BGMQ_EUNCERTAIN)
        notes_life.broken = true;
}

/* ---- consuming ---------------------------------------------------------------------- */

static void take(struct life *l)
{
    char queue[64];
    struct bgmq_message *m = NULL;
    snprintf(queue, sizeof(queue), "mq:%s.%s", life_names[sim_below(NOTE_TYPES)],
             sim_chance(1, 3) ? "priorityq" : "inq");
    int err = bgmq_get(l->mq, queue, sim_below(3) * 50, &m);
    if (err == BGMQ_ETIMEOUT || err == BGMQ_ENOENT)
        return;
    if (err)
        sim_fail("bgmq_get: %s", bgmq_errname(err));
    size_t len;
    const void *body = bgmq_message_body(m, &len);
    struct note *n = notes_of(body, len);
    notes_start(n, bgmq_message_id(m), 0);
    if (sim_chance(1, 3))
        sim_sleep(1 + sim_below(300));
    unsigned how = sim_below(3);
    notes_give_back(n, how == 0 ? DONE : how == 1 ? ALIVE : DEAD);
    err = how == 0 ? bgmq_ack(m) : bgmq_nak(m, how == 1);
    if (err)
        sim_fail("a message taken is lost: %s", bgmq_errname(err));
    bgmq_message_free(m);
}

/* ---- operators ---------------------------------------------------------------------- */

static struct note *any_note(void)
{
    struct note *n = notes_n ? &notes[sim_below(notes_n)] : NULL;
    return n && n->id && n->publish == ACCEPTED && !n->gone ? n : NULL;
}

/* Whether ERR of an operation may come. */
static void expect_operation(int err)
{
    if (err < 0 && err != BGMQ_ENOENT && err != BGMQ_EBUSY && err != BGMQ_EFULL &&
        err != BGMQ_ESTORE && err != BGMQ_EUNCERTAIN)
        sim_fail("an operation fails: %s", bgmq_errname(err));
}

/* Cancelled is also one that is about to start, and asked to end. */
static bool is_dead(struct life *l, const struct note *n)
{
    struct bgmq_info info;
    int err = bgmq_find(l->mq, life_names[n->type], n->id, &info);
    return !err && info.state == BGMQ_STATE_DEAD;
}

static void cancel_or_discard(struct life *l)
{
    struct note *n = any_note();
    if (!n)
        return;
    struct bgmq_select which = {.id = n->id};
    bool cancels = sim_chance(2, 3);
    struct notes_operation o = notes_operate(n);
    bool was = n->cancelled;
    n->cancelled |= cancels;
    int err = cancels ? bgmq_cancel(l->mq, life_names[n->type], &which, NULL)
                      : bgmq_discard(l->mq, life_names[n->type], &which);
    sim_say("%s %u: %d", cancels ? "cancel" : "discard", notes_number(n), err);
    expect_operation(err);
    if (err == BGMQ_ENOENT)
        n->cancelled = was;
    if (err == 1 && (!cancels || is_dead(l, n)))
        notes_operated(&o, cancels ? DEAD : DELETED);
}

static void change(struct life *l)
{
    struct note *n = any_note();
    if (!n)
        return;
    int64_t due_ms = n->due_ms, at_ms = sim_wall_ms() + sim_below(2000);
    if (at_ms < 0 || sim_chance(1, 3))
        at_ms = 0;
    struct bgmq_change c = {.set_time = 1, .run_at_ms = at_ms};
    if (at_ms == 0 || at_ms < n->due_ms)
        n->due_ms = at_ms;
    n->meddled++;
    int err = bgmq_change(l->mq, life_names[n->type], n->id, &c);
    sim_say("change %u: %d", notes_number(n), err);
    n->meddled--;
    if (!err && (at_ms == 0 || at_ms < n->due_ms))
        n->due_ms = at_ms; /* it may have failed meanwhile */
    expect_operation(err);
    if (err == BGMQ_ENOENT && n->due_ms == at_ms)
        n->due_ms = due_ms;
}

static void retry(struct life *l)
{
    unsigned type = sim_below(NOTE_TYPES);
    notes_revive(type);
    int err = bgmq_retry_dead(l->mq, life_names[type], 0);
    notes_revive(type); /* who died meanwhile */
    sim_say("retry the dead of %s: %d", life_names[type], err);
    expect_operation(err);
}

static void retry_pending(struct life *l)
{
    notes_hurry(1);
    int err = bgmq_retry_pending(l->mq, NULL);
    notes_hurry(-1);
    sim_say("retry what is pending: %d", err);
    expect_operation(err);
}

static void find(struct life *l)
{
    struct bgmq_info info;
    struct note *n = any_note();
    if (!n || sim_chance(1, 4))
        return;
    uint64_t starts = n->starts;
    bool sure = n->end == ALIVE && !n->unsure && !n->gone && !n->running &&
                !n->expires_ms && !n->crashes && !notes_life.give_up_ms[n->type] &&
                !n->revived;
    int err = bgmq_find(l->mq, life_names[n->type], n->id, &info);
    expect_operation(err);
    bool still = n->starts == starts && n->end == ALIVE && !n->unsure && !n->gone;
    if (sure && still && err == BGMQ_ENOENT && !notes_life.refused && !n->guest)
        sim_fail("lost: %u is not found", notes_number(n));
}

static void stop_or_pause(struct life *l)
{
    const char *type = life_names[sim_below(NOTE_TYPES)];
    if (sim_chance(1, 2)) {
        int err = bgmq_pause(l->mq, type);
        sim_sleep(sim_below(500));
        if (!err)
            bgmq_resume(l->mq, type);
        return;
    }
    bool alone = l->clients_left == 1;
    int err = bgmq_stop(l->mq, 1 + sim_below(300));
    sim_say("stop: %s", bgmq_errname(err));
    if (!err && alone && bgmq_running(l->mq) != 0)
        sim_fail("stopped, and handlers run");
    sim_sleep(sim_below(100));
    err = bgmq_start(l->mq);
    if (err && err != BGMQ_ESTORE)
        sim_fail("bgmq_start: %s", bgmq_errname(err));
    notes_life.broken |= err != 0;
}

static void set_threads(struct life *l)
{
    int err =
        bgmq_set_threads(l->mq, life_names[sim_below(NOTE_TYPES)], 1 + sim_below(3));
    if (err && err != BGMQ_ENOENT)
        sim_fail("bgmq_set_threads: %s", bgmq_errname(err));
}

/* ---- the world ---------------------------------------------------------------------- */

static void set_clock(struct life *l)
{
    static const int64_t places[] = {0,
                                     -86400000,
                                     INT64_C(2147483647000),
                                     INT64_C(2147483648000),
                                     INT64_C(1) << 62,
                                     INT64_C(1900000000000)};
    static const int64_t leaps[] = {HOUR_MS,       -HOUR_MS, 10 * YEAR_MS,
                                    -10 * YEAR_MS, 3000,     -3000};
    int64_t to =
        sim_chance(1, 2) ? places[sim_below(6)] : sim_wall_ms() + leaps[sim_below(6)];
    notes_jump();
    sim_say("the wall clock is set to %lld", (long long)to);
    sim_set_wall(to);
}

static void look(struct life *l)
{
    struct bgmq_counters c;
    struct bgmq_health h;
    if (bgmq_service_counters(l->mq, &c) || bgmq_health(l->mq, &h))
        sim_fail("the service does not say how it is");
    notes_life.broken |= c.store_state == 3;
    if (sim_chance(1, 3))
        disk_busy_until_ns =
            sim_mono_ns() + sim_below(3000) * SIM_MS * (disk_faults.busy_in != 0);
}

void client_operate(struct life *l)
{
    static const struct {
        unsigned weight;
        void (*run)(struct life *l);
    } all[] = {{40, client_publish},
               {4, publish_many},
               {5, publish_as_guest},
               {3, flush},
               {6, take},
               {5, cancel_or_discard},
               {4, change},
               {3, retry},
               {2, retry_pending},
               {6, find},
               {3, stop_or_pause},
               {2, set_threads},
               {4, look}};
    enum { SUM = 87 };
    sim_steps++;
    if (l->plan.jumps_in && sim_below(l->plan.jumps_in) == 0) {
        set_clock(l);
        return;
    }
    unsigned chance = sim_below(SUM), i = 0;
    for (; chance >= all[i].weight; i++)
        chance -= all[i].weight;
    sim_say("operation %u", i);
    all[i].run(l);
    sim_say("operation %u is over", i);
}
