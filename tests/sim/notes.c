/* notes.c - the oracle of the simulator (see notes.h). */
#include "notes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct note notes[NOTES];
unsigned notes_n;
struct notes_life notes_life;

enum { JUMPS = 256, SOON = 500 };

static uint64_t events;
static int64_t peaks[JUMPS];  /* the wall clock before each jump */
static uint64_t jumps[JUMPS]; /* steps */
static unsigned n_peaks;
static uint64_t replaced[NOTES];
static unsigned n_replaced;
static int hurries; /* somebody hurries all that waits */

#define SLACK_MS INT64_C(100)

void notes_reset(void)
{
    notes_n = n_peaks = n_replaced = 0;
    hurries = 0;
    events = 0;
    notes_life = (struct notes_life){0};
}

uint64_t notes_now(void)
{
    return ++events;
}

unsigned notes_number(const struct note *n)
{
    return (unsigned)(n - notes);
}

struct note *notes_new(unsigned type)
{
    if (notes_n == NOTES)
        return NULL;
    struct note *n = &notes[notes_n++];
    *n = (struct note){.type = type,
                       .began = notes_now(),
                       .peak = n_peaks,
                       .due_from = sim_steps,
                       .first_step = sim_steps,
                       .least = 1,
                       .most = 1};
    return n;
}

struct note *notes_of(const void *body, size_t len)
{
    char text[16] = "";
    if (len < sizeof(text))
        memcpy(text, body, len);
    char *end;
    unsigned long k = strtoul(text, &end, 10);
    if (end == text || *end || k >= notes_n)
        sim_fail("phantom: nobody has published \"%s\"", text);
    return &notes[k];
}

struct note *notes_by_id(uint64_t id)
{
    for (unsigned i = 0; i < notes_n; i++)
        if (notes[i].id == id && !notes[i].gone)
            return &notes[i];
    return NULL;
}

/* ---- publishing --------------------------------------------------------------------- */

static bool holds_key(const struct note *n)
{
    return n->publish == ACCEPTED && n->key && n->end == ALIVE && !n->unsure &&
           !n->gone && !n->revived && !n->contested && !n->expires_ms && !n->crashes &&
           !n->cancelled && !notes_life.give_up_ms[n->type];
}

/* Whoever had the key before this publish began, and has it still. */
static void expect_key(const struct note *n)
{
    for (unsigned i = 0; holds_key(n) && i < notes_n; i++) {
        const struct note *o = &notes[i];
        if (o != n && o->key == n->key && o->type == n->type && o->began < n->began &&
            o->level && holds_key(o))
            sim_fail("two keys: %u has key %u and so has %u", i, n->key, notes_number(n));
    }
}

/* ID is no more, though its publisher may not even know yet that it was. */
static void replace(uint64_t id)
{
    struct note *n = notes_by_id(id);
    if (n)
        n->gone = true;
    replaced[n_replaced++ % NOTES] = id;
}

static bool is_replaced(uint64_t id)
{
    for (unsigned i = 0; i < n_replaced && i < NOTES; i++)
        if (replaced[i] == id)
            return true;
    return false;
}

void notes_published(struct note *n, int err, const struct bgmq_receipt *r)
{
    sim_say("publish of %u (type %u, key %u, level %d): %s id %llu%s, in place of %llu",
            notes_number(n), n->type, n->key, err ? 0 : r->level, bgmq_errname(err),
            (unsigned long long)(err ? 0 : r->id),
            !err && r->duplicate ? " duplicate" : "",
            (unsigned long long)(err ? 0 : r->replaced));
    if (!n->due_to)
        n->due_to = sim_steps;
    if (err == BGMQ_EUNCERTAIN) {
        n->publish = UNCERTAIN;
        n->unsure = true;
        return;
    }
    if (err || r->duplicate) {
        if (n->starts)
            sim_fail("phantom: %u has started, and was refused: %s", notes_number(n),
                     err ? bgmq_errname(err) : "a duplicate");
        n->publish = REFUSED;
        return;
    }
    if (n->id && n->id != r->id)
        sim_fail("%u has two ids", notes_number(n));
    n->publish = ACCEPTED;
    n->accepted = notes_now();
    n->id = r->id;
    n->level = r->level;
    if (r->replaced)
        replace(r->replaced);
    n->gone = is_replaced(n->id);
    expect_key(n);
}

void notes_contest(const struct note *n, int change)
{
    for (unsigned i = 0; n->key && i < notes_n; i++)
        if (&notes[i] != n && notes[i].key == n->key && notes[i].type == n->type)
            notes[i].contested += change;
}

void notes_flushed(uint64_t before)
{
    for (unsigned i = 0; i < notes_n; i++)
        notes[i].flushed |= notes[i].accepted && notes[i].accepted < before &&
                            notes[i].level >= BGMQ_BEHIND;
}

void notes_jump(void)
{
    if (n_peaks == JUMPS)
        sim_fail("the clock was set too often");
    jumps[n_peaks] = sim_steps;
    peaks[n_peaks++] = sim_wall_ms();
}

/* ---- running ------------------------------------------------------------------------ */

/* Whether the clock was set between those steps, or soon after. */
static bool has_jumped(uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < n_peaks; i++)
        if (jumps[i] >= from && jumps[i] <= to + SOON)
            return true;
    return false;
}

static void expect_due(const struct note *n, unsigned attempt)
{
    int64_t latest = sim_wall_ms();
    for (unsigned i = n->peak; i < n_peaks; i++)
        latest = peaks[i] > latest ? peaks[i] : latest;
    uint64_t from = n->due_from > SOON ? n->due_from - SOON : 0;
    bool vague = has_jumped(from, n->due_to ? n->due_to : sim_steps);
    if (n->due_ms && n->due_ms > latest && !vague && !n->meddled && !hurries)
        sim_fail("early: %u is due in %lld ms", notes_number(n),
                 (long long)(n->due_ms - latest));
    if (attempt && n->expires_ms && n->publish == ACCEPTED &&
        sim_wall_ms() > n->expires_ms + SLACK_MS && !n->revived &&
        !has_jumped(n->first_step, n->first_step) &&
        !has_jumped(sim_steps > SOON ? sim_steps - SOON : 0, sim_steps))
        sim_fail("%u has expired %lld ms ago", notes_number(n),
                 (long long)(sim_wall_ms() - n->expires_ms));
}

/* True when what runs now may have been given up. */
static bool may_be_lost(const struct note *n)
{
    int64_t give_up_ms = notes_life.give_up_ms[n->type];
    return give_up_ms && sim_mono_ns() - n->began_ns >= (give_up_ms - SLACK_MS) * SIM_MS;
}

uint64_t notes_start(struct note *n, uint64_t id, unsigned attempt)
{
    unsigned k = notes_number(n);
    sim_say("start of %u, attempt %u", k, attempt);
    if (n->publish == REFUSED)
        sim_fail("phantom: %u was refused", k);
    if (n->gone)
        sim_fail("phantom: %u is no more", k);
    if (n->id && n->id != id)
        sim_fail("%u has two ids", k);
    if (n->end != ALIVE && !n->unsure)
        sim_fail("double: %u has ended before (%d)", k, n->end);
    if (n->running && !may_be_lost(n))
        sim_fail("double: %u runs already", k);
    expect_due(n, attempt);
    if (attempt && (attempt < n->least || attempt > n->most))
        sim_fail("attempts: %u begins its attempt %u, not %u to %u", k, attempt, n->least,
                 n->most);
    n->id = id;
    if (attempt) {
        n->attempt = attempt;
        n->highest = n->highest > attempt ? n->highest : attempt;
        n->least = n->most = attempt + 1; /* should it be given up */
    }
    n->end = ALIVE;
    n->unsure = false;
    n->running = true;
    n->by_hand = attempt == 0;
    n->began_ns = sim_mono_ns();
    return ++n->starts;
}

/* It was asked to end because of a stop, or by an operator; what its RETRY means is then up to the
 * library. */
static void settle_asked(struct note *n)
{
    n->least = n->attempt;
    n->most = n->attempt + 1;
    n->due_ms = 0;
    n->unsure |= n->cancelled || n->attempt >= notes_life.max_attempts[n->type];
}

void notes_settle(struct note *n, uint64_t start, int verdict, int64_t due_ms, bool asked)
{
    bool lost = may_be_lost(n);
    sim_say("end of %u: %d%s%s", notes_number(n), verdict,
            lost ? ", perhaps too late" : "", asked ? ", as it was asked to" : "");
    if (start != n->starts)
        return; /* it was given up, and runs again */
    n->running = false;
    n->effects += verdict == BGMQ_DONE;
    notes_life.processed += verdict == BGMQ_DONE && !lost;
    notes_life.unsure_processed += verdict == BGMQ_DONE && lost;
    n->peak = n_peaks;
    n->due_ms = lost ? 0 : due_ms;
    n->due_from = n->due_to = sim_steps;
    n->unsure = lost;
    if (verdict == BGMQ_RETRY && asked) {
        settle_asked(n);
    } else if (verdict == BGMQ_RETRY || lost) {
        n->exhausted = n->attempt >= notes_life.max_attempts[n->type];
        n->end = n->exhausted ? DEAD : ALIVE;
        n->least = !lost ? n->attempt + 1 : n->revived ? 1 : n->attempt;
        n->most = n->attempt + 1;
    } else if (verdict == BGMQ_SNOOZE) {
        n->least = n->most = n->attempt;
    } else {
        n->end = verdict == BGMQ_DONE ? DONE : verdict == BGMQ_DISCARD ? DELETED : DEAD;
    }
}

void notes_give_back(struct note *n, enum note_end end)
{
    n->running = false;
    n->end = end;
    n->unsure = false;
    n->due_ms = 0;
}

/* ---- operators ---------------------------------------------------------------------- */

struct notes_operation notes_operate(struct note *n)
{
    struct notes_operation o = {.n = n, .starts = n->starts, .ran = n->running};
    n->unsure = true;
    return o;
}

void notes_operated(const struct notes_operation *o, enum note_end end)
{
    bool sure = !o->ran && o->starts == o->n->starts;
    o->n->cancelled |= end == DEAD;
    if (sure && end != ALIVE)
        o->n->end = end;
    o->n->unsure = !sure;
}

void notes_hurry(int change)
{
    hurries += change;
    for (unsigned i = 0; i < notes_n; i++)
        if (notes[i].attempt)
            notes[i].due_ms = 0;
}

void notes_revive(unsigned type)
{
    for (unsigned i = 0; i < notes_n; i++) {
        struct note *n = &notes[i];
        bool may_run = n->running && !may_be_lost(n);
        bool may_be_dead = n->end == DEAD || n->unsure || n->expires_ms || n->crashes ||
                           n->cancelled || n->running;
        if (n->type != type || n->gone || n->publish == REFUSED || may_run ||
            !may_be_dead)
            continue;
        n->unsure = n->revived = true;
        n->least = 1;
        n->due_ms = 0;
    }
}

/* ---- from life to life --------------------------------------------------------------- */

static bool is_safe(const struct note *n)
{
    if (n->publish != ACCEPTED || n->end != ALIVE || n->unsure || n->gone || n->contested)
        return false;
    if (n->guest || n->level >= BGMQ_COMMIT)
        return true;
    if (n->level != BGMQ_BEHIND || notes_life.broken || notes_life.refused)
        return false;
    return n->flushed || !notes_life.died;
}

static bool is_refused(const struct note *n)
{
    for (size_t i = 0; n->guest && i < disk.n_guests; i++)
        if (disk.guests[i].id == n->id)
            return disk.guests[i].refused;
    return false;
}

static bool waits_in_inbox(const struct note *n)
{
    for (size_t i = 0; n->guest && i < disk.n_guests; i++)
        if (disk.guests[i].id == n->id)
            return !disk.guests[i].refused;
    return false;
}

static void go_on(struct note *n, const struct disk_row *r)
{
    bool ran = n->running && !n->by_hand;
    n->end = r->lane == LANE_DLQ && !r->job ? DEAD : ALIVE;
    n->unsure = false;
    n->due_ms = !r->job && r->lane == LANE_DELAYED ? r->key : 0;
    n->due_from = n->due_to = sim_steps;
    n->peak = n_peaks;
    if (n->attempt) {
        n->least = n->revived ? 1 : ran && notes_life.died ? n->attempt + 1 : n->attempt;
        n->most = n->most > n->attempt + 1 ? n->most : n->attempt + 1;
    }
    /* It may have been about to start when the process died. */
    n->most = n->most > n->highest ? n->most : n->highest + 1;
    n->most += notes_life.died;
    n->highest = 0;
    if (notes_life.refused)
        n->least = 1; /* it was counted, and that was not written */
    if (n->publish == TRYING && n->expires_ms)
        n->expires_ms = INT64_MAX / 2; /* not known, but not before that */
    n->crashes += notes_life.died;
    n->id = r->id;
    n->publish = ACCEPTED; /* whatever its publisher was told */
    n->level = BGMQ_COMMIT;
}

static const struct disk_row *rows[NOTES];

void notes_next_life(void)
{
    sim_say("the owner has gone%s%s", notes_life.died ? ", killed" : "",
            notes_life.broken ? ", with a broken store" : "");
    memset(rows, 0, sizeof(rows));
    for (size_t i = 0; i < disk.n_rows; i++) {
        struct note *n = notes_of(disk.rows[i].body, disk.rows[i].len);
        if (rows[notes_number(n)])
            sim_fail("%u has two rows", notes_number(n));
        rows[notes_number(n)] = &disk.rows[i];
    }
    for (unsigned i = 0; i < notes_n; i++) {
        struct note *n = &notes[i];
        if (rows[i] && n->publish == REFUSED)
            sim_fail("phantom: %u was refused, and has a row", i);
        if (rows[i])
            go_on(n, rows[i]);
        else if (!waits_in_inbox(n)) {
            if (is_safe(n) && !is_refused(n))
                sim_fail("lost: %u, accepted at level %d, has no row", i, n->level);
            n->gone = true;
        }
        n->running = false;
        n->contested = n->meddled = 0;
    }
    n_replaced = 0;
    hurries = 0;
    notes_life.processed = notes_life.unsure_processed = 0;
    notes_life.broken = notes_life.refused = notes_life.died = false;
}

/* ---- the end ------------------------------------------------------------------------ */

/* True: N may be dead for that reason. */
static bool may_be_dead(const struct note *n, const char *code)
{
    unsigned most = notes_life.max_attempts[n->type];
    if (n->end == DEAD || n->unsure)
        return true;
    if (strcmp(code, "expired") == 0)
        return n->expires_ms;
    if (strcmp(code, "cancelled") == 0)
        return n->cancelled;
    if (strcmp(code, "crash") == 0)
        return n->crashes >= 3 || (n->crashes && n->most > most);
    return n->exhausted || (notes_life.give_up_ms[n->type] && n->most > most);
}

static void judge(struct bgmq *mq, const struct note *n, const char *name)
{
    struct bgmq_info info;
    unsigned k = notes_number(n);
    int err = n->id ? bgmq_find(mq, name, n->id, &info) : BGMQ_ENOENT;
    if (err && err != BGMQ_ENOENT)
        sim_fail("%u cannot be found: %s", k, bgmq_errname(err));
    bool rests =
        !err && info.state != BGMQ_STATE_DONE && info.state != BGMQ_STATE_DISCARDED;
    if (rests && n->publish == REFUSED)
        sim_fail("phantom: %u was refused, and is there", k);
    if (rests && info.state != BGMQ_STATE_DEAD)
        sim_fail("liveness: %u is in state %d still", k, info.state);
    if (rests && (n->gone || (n->end != DEAD && !n->unsure && n->end != ALIVE)))
        sim_fail("%u has ended (%d), and is dead (%s)", k, n->end, info.error_code);
    if (rests && info.state == BGMQ_STATE_DEAD && !may_be_dead(n, info.error_code))
        sim_fail("%u is dead for no reason: %s %s", k, info.error_code, info.error_text);
    if (!rests && !n->gone && !n->unsure && !n->contested && n->publish == ACCEPTED &&
        n->end == ALIVE && !is_refused(n))
        sim_fail("lost: %u has not ended, and is not there", k);
    if (!rests && !n->gone && !n->unsure && !n->contested && n->end == DEAD)
        sim_fail("lost: %u was dead, and is not there", k);
}

void notes_judge(struct bgmq *mq, const char *const names[NOTE_TYPES])
{
    uint64_t dead = 0, rows_dead = 0;
    for (unsigned i = 0; i < notes_n; i++)
        judge(mq, &notes[i], names[notes[i].type]);
    for (unsigned t = 0; t < NOTE_TYPES; t++) {
        struct bgmq_collection c;
        int err = bgmq_type_collection(mq, names[t], &c);
        if (err == BGMQ_ENOENT)
            continue;
        if (err || c.inq || c.priorityq || c.delayed || c.running || c.suspects)
            sim_fail("sums: %s has %llu + %llu + %llu + %llu + %llu left", names[t],
                     (unsigned long long)c.inq, (unsigned long long)c.priorityq,
                     (unsigned long long)c.delayed, (unsigned long long)c.running,
                     (unsigned long long)c.suspects);
        dead += c.dlq;
    }
    for (size_t i = 0; i < disk.n_rows; i++)
        rows_dead += disk.rows[i].lane == LANE_DLQ && !disk.rows[i].job;
    if (notes_life.durable && (dead != rows_dead || rows_dead != disk.n_rows))
        sim_fail("sums: %llu are dead, with %llu rows of %zu", (unsigned long long)dead,
                 (unsigned long long)rows_dead, disk.n_rows);
    struct bgmq_stats all;
    if (bgmq_total_stats(mq, &all) || all.processed < notes_life.processed ||
        all.processed > notes_life.processed + notes_life.unsure_processed)
        sim_fail("sums: %llu processed, of %llu", (unsigned long long)all.processed,
                 (unsigned long long)notes_life.processed);
}
