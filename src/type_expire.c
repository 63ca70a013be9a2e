/* type_expire.c - messages that were not started in time.
 *
 * In memory they are found by the ticker's thread, at the millisecond; in the database only, by
 * the journal's, at most once a second and only when some row there has an expiry that may be
 * over.  Both keep a bound that may be early and is never late, so that nobody looks without
 * need. */
#include "type_impl.h"

enum {
    LANES_THAT_WAIT = 1 << LANE_INQ | 1 << LANE_PRIORITYQ | 1 << LANE_DELAYED,
    LOOK_EVERY_MS = 1000,
    ROUNDS = 4 /* portions of one turn: the journal has others to serve */
};

void bgmqi_type_note_expiry(struct type *t, const struct message *m)
{
    int64_t expires_ms = message_expires_ms(m);
    if (!expires_ms || expires_ms >= t->next_expiry)
        return;
    t->next_expiry = expires_ms;
    if (t->next_expiry < t->due_hint)
        t->due_hint = t->next_expiry;
}

void bgmqi_type_note_stored_expiry(struct type *t, const struct message *m)
{
    int64_t expires_ms = message_expires_ms(m);
    if (!expires_ms || expires_ms >= t->stored_expiry)
        return;
    t->stored_expiry = expires_ms;
    if (t->stored_expiry < t->due_hint)
        t->due_hint = t->stored_expiry;
}

/* A type that nobody registered may be about to say that its expired messages are discarded. */
static bool may_expire(const struct type *t)
{
    return bgmqi_type_registered(t) || atomic_load(&t->env->started);
}

int64_t bgmqi_type_expires(const struct type *t)
{
    return may_expire(t) ? t->next_expiry : INT64_MAX;
}

static void expire(struct type *t, struct picked *picks, size_t n, struct failure *why)
{
    bool discard = bgmqi_type_registered(t) && t->config.discard_expired;
    for (size_t i = 0; i < n; i++)
        if (discard)
            bgmqi_type_delete(t, picks[i].m);
        else
            bgmqi_type_bury(t, picks[i].m, why);
    bgmqi_type_lock(t);
    t->expired += n;
    bgmqi_type_unlock(t);
}

/* ---- in memory --------------------------------------------------------------------- */

static int64_t earlier(int64_t ms, const struct message *m)
{
    int64_t expires_ms = message_expires_ms(m);
    return expires_ms && expires_ms < ms ? expires_ms : ms;
}

/* True: there is one that has expired by NOW_MS. */
static bool look_for_next(struct type *t, int64_t now_ms)
{
    int64_t next = INT64_MAX;
    bgmqi_type_lock(t);
    for (const struct message *m = t->inq.head; m; m = m->next)
        next = earlier(next, m);
    for (int lane = LANE_INQ; lane <= LANE_PRIORITYQ; lane++)
        for (const struct message *m = t->suspects[lane].head; m; m = m->next)
            next = earlier(next, m);
    for (struct message *m = NULL; (m = bgmqi_heap_walk(&t->priorityq, m)) != NULL;)
        next = earlier(next, m);
    for (struct message *m = NULL; (m = bgmqi_heap_walk(&t->delayed, m)) != NULL;)
        next = earlier(next, m);
    t->next_expiry = next;
    bgmqi_type_unlock(t);
    return next <= now_ms;
}

/* What has expired by NOW_MS.  In a choice 0 is any time, and nothing expires at 0. */
static struct choice expired_by(int64_t now_ms)
{
    return (struct choice){.lanes = LANES_THAT_WAIT, .expired_ms = now_ms ? now_ms : -1};
}

void bgmqi_type_expire(struct type *t, int64_t now_ms)
{
    struct choice c = expired_by(now_ms);
    struct picked picks[PICK_MAX];
    bgmqi_type_lock(t);
    bool due = t->next_expiry <= now_ms && may_expire(t);
    bgmqi_type_unlock(t);
    struct failure *why =
        due ? bgmqi_failure_new("expired", "was not started in time", now_ms) : NULL;
    if (!why)
        return; /* without memory: at the next tick */
    size_t n;
    do { /* some may come while others are sent on, and nobody is told of those */
        n = bgmqi_type_pick_memory(t, &c, picks, PICK_MAX);
        expire(t, picks, n, why);
    } while (n == PICK_MAX || (look_for_next(t, now_ms) && n > 0));
    bgmqi_failure_unref(why);
}

/* ---- in the database --------------------------------------------------------------- */

int64_t bgmqi_type_ask_expiry(struct type *t, int64_t now_ms)
{
    uint64_t rows = 0;
    for (int lane = 0; lane < LANE_DLQ; lane++)
        rows += t->lanes[lane].stored;
    if (rows == 0)
        t->stored_expiry =
            INT64_MAX; /* the next that comes is noted, however late it expires */
    if (!t->env->journal || t->stored_expiry == INT64_MAX || !may_expire(t))
        return INT64_MAX;
    int64_t since = now_ms - t->expiry_look_ms;
    if (since < 0 || since >= LOOK_EVERY_MS) { /* negative: the clock was set back */
        if (t->stored_expiry > now_ms)
            return t->stored_expiry;
        t->expiry_look_ms = now_ms;
        t->expiry_wanted = true;
        bgmqi_journal_ask_load(t->env->journal, &t->load);
        return now_ms + LOOK_EVERY_MS; /* should it not come to that */
    }
    int64_t again = t->expiry_look_ms + LOOK_EVERY_MS;
    return t->stored_expiry > again ? t->stored_expiry : again;
}

/* Picks and expires some of LANE; true: there may be more. */
static bool expire_lane(struct type *t, struct store *s, enum lane lane, int64_t now_ms,
                        struct failure *why)
{
    struct choice c = expired_by(now_ms);
    struct cursor at = {.lane = lane};
    struct picked picks[PICK_MAX];
    for (int i = 0; i < ROUNDS && !at.over; i++) {
        int n = bgmqi_type_pick_rows(t, s, &c, &at, picks, PICK_MAX);
        if (n > 0)
            expire(t, picks, (size_t)n, why);
    }
    return !at.over;
}

/* The first expiry after NOW_MS among some rows. */
struct first_expiry {
    int64_t now_ms, ms;
    size_t n;
};

static int see_expiry(void *ctx, const struct store_row *row)
{
    struct first_expiry *f = ctx;
    f->n++;
    if (row->ext && row->ext->expires_ms > f->now_ms && row->ext->expires_ms < f->ms)
        f->ms = row->ext->expires_ms;
    return 0;
}

/* When the next row expires, or earlier.  The index tells whether there is one by some time, not
 * which is the first; so the horizon is moved on until there is one. */
static int64_t next_of_rows(const struct type *t, struct store *s, int64_t now_ms)
{
    static const int64_t horizons[] = {60000, 3600000, 86400000, INT64_C(100000000000),
                                       INT64_C(7000000000000)};
    int64_t known = now_ms + LOOK_EVERY_MS;
    for (size_t i = 0; i < sizeof(horizons) / sizeof(horizons[0]); i++) {
        struct first_expiry f = {.now_ms = now_ms, .ms = INT64_MAX};
        struct store_search search = {.type = t->number,
                                      .lanes = LANES_THAT_WAIT,
                                      .expired_ms = now_ms + horizons[i],
                                      .limit = PICK_MAX,
                                      .max_bytes = SIZE_MAX};
        int n = s->ops->search(s, &search, see_expiry, &f);
        if (n < 0)
            return now_ms;
        if (f.n == PICK_MAX)
            return known; /* not all were seen */
        if (f.ms != INT64_MAX)
            return f.ms; /* others have expired, and their end is on its way */
        known = now_ms + horizons[i];
    }
    return INT64_MAX;
}

void bgmqi_type_expire_rows(struct type *t)
{
    bgmqi_type_lock(t);
    bool wanted = t->expiry_wanted;
    bgmqi_type_unlock(t);
    if (!wanted)
        return;
    int64_t now_ms = clock_wall_ms(t->env->clock);
    struct store *s = bgmqi_journal_store(t->env->journal);
    struct failure *why = bgmqi_failure_new("expired", "was not started in time", now_ms);
    bool more = why == NULL;
    for (int lane = 0; why && lane < LANE_DLQ; lane++)
        more |= expire_lane(t, s, (enum lane)lane, now_ms, why);
    bgmqi_failure_unref(why);
    int64_t next = more ? now_ms : next_of_rows(t, s, now_ms);
    bgmqi_type_lock(t);
    t->expiry_wanted = false; /* not before: bgmqi_type_moves */
    t->stored_expiry = next;  /* rows arrive on this thread only */
    if (next < t->due_hint)
        t->due_hint = next;
    bgmqi_type_unlock(t);
}
