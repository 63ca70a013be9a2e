/* type_impl.h - the body of struct type.  Only type*.c include this. */
#ifndef BGMQI_TYPE_IMPL_H
#define BGMQI_TYPE_IMPL_H

#include "getter.h"
#include "lock.h"
#include "map.h"
#include "queue.h"
#include "type.h"

/* One lane: what memory holds is everything before the frontier. */
struct lane_state {
    uint64_t stored;     /* committed rows from the frontier on */
    uint64_t in_journal; /* rows on their way to BACKLOG */
    size_t crowd;    /* of a heap: messages in memory at which it is looked at again */
    size_t reserved; /* places kept for messages that wait for their commit */
    size_t hauled; /* of a list: messages that loads brought, and that are in it still */
    bool bounded;  /* there is a frontier: the first (key, seq) that is not in memory */
    int64_t key;
    uint64_t seq;
};

/* Messages on their way in, and what their publishers look at (type_arrive.c). */
struct arrivals {
    CACHE_GAP(gap_before);
    _Atomic(struct message *) newest; /* a stack by NEXT; taken as a whole, under lock */
    _Atomic int64_t credit; /* bytes that are charged to memory, for messages to come */
    _Atomic bool watched;   /* who pushes has to come to the lock; written under lock */
    _Atomic bool open;      /* there is a short way in; set once, with REGISTERED */
    CACHE_GAP(gap_after);
};

struct type {
    /* set once, then read only */
    char *name;
    char *plain;   /* the name without the channel */
    char *channel; /* ... and that; or NULL */
    uint32_t number;
    struct type_env *env;

    _Atomic bool registered;
    struct type_config config;        /* set once, before REGISTERED */
    struct agenda_item due, attempts; /* the agendas' */
    /* Workers have to come to the lock before their next message: something goes before what
     * they have claimed.  Written under lock, read by workers without. */
    CACHE_GAP(gap_config);
    _Atomic bool urgent;
    _Atomic bool paused;

    struct arrivals arrivals;

    /* One operation on resting messages at a time: those it has picked are met by no other. */
    struct lock operating;

    struct lock lock;
    /* protected by lock */
    struct queue inq, dlq, outq;
    struct heap priorityq, delayed;
    struct queue out; /* running and taken */
    struct queue
        suspects[2];    /* they would be in inq, priorityq but for what they may do */
    struct queue limbo; /* held by the journal, on their way to a place */
    /* Likewise, those of inq beyond its frontier that nobody waits for, in order: until they are
     * written they can be recalled (type_load.c). */
    struct queue spilled;
    /* Their rows stand in open transactions of the application's, among the delayed: these may end
     * after the service, so the list has references of its own (type_tx.c). */
    struct queue expected;
    /* Ends of messages that were heaped, in the journal and not committed yet, in order: their
     * rows must not be taken for waiting ones by a load. */
    struct journal_entry *leaving, *leaving_last;
    struct lane_state lanes[LANES];
    struct getters getters[LANES + 1]; /* by lane; the last of outq */
    bool getters_ended;
    struct allowance memory;
    size_t outq_bytes;    /* of it, held by outq; not known without max_bytes */
    size_t credit_limit;  /* what arrivals.credit is filled up to */
    bool watched;         /* as arrivals.watched, whose cache line is the publishers' */
    struct map keys;      /* key -> struct key, of messages without a row (type_keys.c) */
    struct getters rooms; /* publishers that wait for room, in the order they came */
    uint64_t added, taken, outq_added, dlq_added;
    uint64_t expired, timeouts;
    unsigned streak; /* starts from priorityq since the last from inq */
    int64_t last_tick_ms;
    struct desk *desks;     /* in the order their workers came */
    struct desk *spare;     /* of workers that left, to be used again */
    struct bgmq_stats past; /* of workers that left */
    struct timing past_timing;
    struct desk *parked; /* the last to park is the first to be woken */
    bool waking;         /* a woken worker has not come to the lock yet */
    bool batching;       /* some desk may hold claimed messages that did not start */
    unsigned workers;
    unsigned unsettled; /* attempts given up whose message has not gone on yet */
    struct journal_load load;
    bool strays;    /* rows beyond inq's frontier are in memory: type_pick.c took them */
    uint64_t hauls; /* loads that brought rows into memory */
    int64_t next_expiry;    /* the first in memory, or earlier */
    int64_t stored_expiry;  /* ... and in the database only; INT64_MIN: not known */
    int64_t expiry_look_ms; /* the last look for those */
    bool expiry_wanted;     /* the next load looks for what has expired */
    int64_t key_expiry;     /* the first key held for a period that is over, or earlier */
    /* what bgmqi_type_unlock does after the lock is free */
    struct desk *wake;
    struct queue garbage;
    int64_t due_hint;
};

enum { GETTERS_OUTQ = LANES };

/* The longest an operation waits for the journal. */
#define TYPE_PATIENCE_NS INT64_C(30000000000)

/* Whose the attempt at a desk is. */
enum turn {
    TURN_IDLE,
    TURN_RUNNING, /* the handler's; the ticker may give it up */
    TURN_HELD,    /* the handler's, whatever the time */
    TURN_ENDING,  /* the worker settles it */
    TURN_LOST     /* given up: the ticker settles it, or has */
};

/* What the end of an attempt carries to the journal. */
struct attempt_end {
    int64_t started_ms;       /* for the history */
    struct flight_slot *slot; /* free once the end is committed; or NULL */
};

struct desk {
    /* set once, then read only */
    struct type *type;
    struct park park;
    _Atomic unsigned cancelled; /* bits of enum cancel */
    _Atomic int turn;           /* enum turn; IDLE and RUNNING are set under lock */
    CACHE_GAP(gap_cancelled);
    struct flight_ring *ring; /* or NULL */

    /* protected by type.lock */
    struct desk *next;        /* of all desks, or of the spare ones */
    struct desk *next_parked; /* of those parked */
    bool parked, quit;
    CACHE_GAP(gap_parked);

    struct lock lock;
    /* protected by lock */
    struct message *claimed[DESK_CLAIM_MAX];
    unsigned first, n; /* claimed[first..n) has not started */
    struct message *finished[DESK_CLAIM_MAX];
    unsigned n_finished; /* done well, still on type.out */
    struct message *current;
    struct bgmq_stats stats;
    struct timing timing;
    bool alone; /* what it has claimed is a suspect, to be run with nothing beside it */
    /* of the current attempt; its worker may read them without the lock */
    uint8_t fate; /* enum fate */
    unsigned attempt;
    struct flight_slot *slot;      /* NULL: none */
    int64_t start_ns;              /* monotonic, as the next two */
    int64_t deadline_ns, stuck_ns; /* INT64_MAX: it has no time-out */

    /* used by the worker only */
    unsigned holds;       /* calls of hold not taken back */
    unsigned claims;      /* since the signal mask was put right */
    unsigned unmeasured;  /* attempts that ended since mark_ns */
    struct message *done; /* ended well, and not counted yet; or NULL */
    int64_t rough_ms;     /* the coarse clock at mark_ns */
    int64_t mean_ns;      /* of the handler, exponentially weighted; 0: not known */
    int64_t
        mark_ns; /* when the clock was read: the current handler started then, or after */
    int64_t batch_mono_ns, batch_wall_ms; /* both clocks, read together */
};

/* Brings in what has arrived (type_arrive.c).  The lock is held in these. */
void bgmqi_type_absorb(struct type *t);
/* Says whether publishers have to tell of what they push; what was pushed before is brought in. */
void bgmqi_type_watch(struct type *t);
/* A publisher goes the long way: perhaps for want of credit. */
void bgmqi_type_run_out(struct type *t);
/* Takes the credit back; false: there was none. */
bool bgmqi_type_revoke(struct type *t);

static inline void bgmqi_type_lock(struct type *t) LOCK_ATTR(acquire_capability(t->lock))
    LOCK_ATTR(no_thread_safety_analysis)
{
    lock_take(&t->lock);
    bgmqi_type_absorb(t);
}

/* Drops the lock, then wakes, frees and tells what was noted under it. */
void bgmqi_type_unlock(struct type *t) LOCK_ATTR(release_capability(t->lock));

/* True when a worker has to come to the lock before its next message, so that more than one is not
 * to be claimed.  The lock is held. */
bool bgmqi_type_urgent(const struct type *t);

/* ---- the mover's primitives (type.c); the lock is held in all of them -------------- */

enum lane bgmqi_type_ready_lane(const struct message *m);
int64_t bgmqi_type_key(const struct message *m, enum lane lane);
bool bgmqi_type_before_frontier(const struct lane_state *l, int64_t key, uint64_t seq);
/* Gives LANE, a list with LEN messages, a frontier at (key, seq) when it is full.  The place
 * must be behind everything in it: only a number just drawn is. */
void bgmqi_type_bound(struct type *t, enum lane lane, int64_t key, uint64_t seq,
                      size_t len);
/* Whether the next message of LANE, at (KEY, SEQ), may go straight into memory.  When not, LANE
 * gets a frontier, so that whatever comes after the ones in memory waits behind them. */
bool bgmqi_type_has_room(struct type *t, enum lane lane, int64_t key, uint64_t seq);
/* True when LANE needs a load: little is before its frontier, or nothing (messages without a row,
 * or that were delayed, stand beyond it). */
bool bgmqi_type_runs_low(const struct type *t, enum lane lane);
/* M has left the list of LANE (inq, dlq). */
static inline void bgmqi_type_unlisted(struct type *t, struct message *m, enum lane lane)
{
    t->lanes[lane].hauled -= m->hauled;
    m->hauled = 0;
}
/* Messages of LANE in memory. */
size_t bgmqi_type_lane_len(const struct type *t, enum lane lane);
/* A number greater than all before: id, or order in a lane.  0: none to be had. */
uint64_t bgmqi_type_next_number(struct type *t);
/* Puts M, with the reference held by its place, into LANE in memory, or hands it to a getter. */
void bgmqi_type_place(struct type *t, struct message *m, enum lane lane);
/* Puts M, which was handed out and did not start, back to the front of its queue, or hands it to
 * a getter. */
void bgmqi_type_place_back(struct type *t, struct message *m);
/* Takes M off type.out. */
void bgmqi_type_leave_out(struct type *t, struct message *m);
/* Sends M to LANE: at once when it has no row, else by way of the journal and ENTRY.  SEQ is
 * drawn anew.  True: ENTRY was used. */
bool bgmqi_type_send(struct type *t, struct message *m, enum lane lane,
                     struct journal_entry *entry, enum outcome history);
/* A dead message, out of its queue, starts anew; ENTRY as bgmqi_type_send (type_take.c). */
bool bgmqi_type_revive(struct type *t, struct message *m, struct journal_entry *entry);
/* M, which is in no list, is for a getter, who has it by now. */
void bgmqi_type_hand_out(struct type *t, struct message *m);
/* N messages, out, have ended well: to outq, or away (type_outq.c). */
void bgmqi_type_retire(struct type *t, struct message *const *done, unsigned n);
/* M holds its unique key no longer, if it did, and not for a period (type_keys.c). */
void bgmqi_type_drop_key(struct type *t, const struct message *m);
/* Likewise, even if it did for a period. */
void bgmqi_type_forget_key(struct type *t, const struct message *m);
/* 0, with A->duplicate when another has the key, or takes it, from A->replaces too; ENOMEM. */
int bgmqi_type_take_key(struct type *t, struct admission *a);
/* Forgets keys whose period is over. */
void bgmqi_type_sweep_keys(struct type *t, int64_t now_ms);
void bgmqi_type_free_keys(struct type *t);
/* outq (type_outq.c): M to its end; its oldest, NULL: none. */
void bgmqi_type_outq_push(struct type *t, struct message *m);
struct message *bgmqi_type_outq_pop(struct type *t);
/* Drops the oldest while there are more than MOST, or while T uses more than BYTES of memory. */
void bgmqi_type_outq_limit(struct type *t, size_t most, size_t bytes);
/* True when a message of COST bytes is within the bounds of T, once outq has made room
 * (type_publish.c). */
bool bgmqi_type_in_bounds(const struct type *t, size_t cost);
/* Likewise, and what lies finished on the desks of workers goes to outq before it is in the way. */
bool bgmqi_type_fits(struct type *t, size_t cost);
/* Charges COST to T, whose outq makes room first; -1: the service has not so much left. */
int bgmqi_type_charge(struct type *t, size_t cost);
/* Then, without a lock: the outqs of others are asked.  True: it is worth another try. */
bool bgmqi_type_room(const struct type *t, size_t cost);
/* M leaves memory: its bytes and reference are given back. */
void bgmqi_type_release(struct type *t, struct message *m);
/* An extra for M; NULL when it has one.  Waits until there is memory for it; no lock is held
 * (type_keep.c). */
struct message_extra *bgmqi_type_extra(const struct message *m);
/* Gives X to M, which T has charged, and charges it, too.  X may be NULL; it is freed when M has
 * one by now. */
void bgmqi_type_extend(struct type *t, struct message *m, struct message_extra *x);
/* Fills ENTRY's op with what is true of M now. */
void bgmqi_type_fill(const struct type *t, struct journal_entry *e,
                     enum store_op_kind kind, struct message *m, enum outcome history,
                     int64_t now_ms);
/* What the history option says about an end. */
enum outcome bgmqi_type_history(const struct type *t, enum outcome how);
/* Asks for a load, or recalls, when the prefix of LANE runs low; forgets a frontier with nothing
 * behind. */
void bgmqi_type_check_lane(struct type *t, enum lane lane);
/* Takes what inq needs and the journal has not written back from it (type_load.c). */
void bgmqi_type_recall(struct type *t);
/* Moves half of a crowded heap's memory to the journal's care (type_load.c). */
void bgmqi_type_evict(struct type *t, enum lane lane);
/* Adds S to SUM (type_stats.c). */
void bgmqi_type_add_stats(struct bgmq_stats *sum, const struct bgmq_stats *s);
/* Moves what DESKs of T have finished to outq (type_desk.c). */
void bgmqi_type_collect(struct type *t);
/* ---- claiming (type_claim.c); the lock is held, and D is empty --------------------- */

enum { DESK_QUICK_NS = 20000 }; /* a batch is to take no longer */

/* How many D is to claim at once. */
unsigned bgmqi_desk_batch(const struct desk *d);
/* Fills D with up to MOST; false: there was nothing. */
bool bgmqi_desk_fill(struct desk *d, unsigned most);
/* Gives D the one suspect that T may start now; false: it may not, or has none. */
bool bgmqi_desk_fill_alone(struct desk *d);

/* Counts what D's worker has done well, and keeps it for outq.  D's lock is held. */
void bgmqi_desk_done(struct desk *d);
/* Takes what D holds: what is finished, to outq; and when CLAIMS, what it has claimed and not
 * started, back to the front in its order. */
void bgmqi_desk_clear(struct desk *d, bool claims);
/* True when T's workers may claim what is no suspect. */
bool bgmqi_type_may_claim(const struct type *t);
/* The first suspect of LANE (inq, priorityq), or of both; NULL: none. */
struct message *bgmqi_type_pop_suspect(struct type *t, enum lane lane);
struct message *bgmqi_type_next_suspect(struct type *t);
/* ---- loading (type_load.c, type_expire.c); the journal's thread -------------------- */

/* A message made of ROW, place NONE; NULL: out of memory. */
struct message *bgmqi_type_message_of(const struct type *t, const struct store_row *row);
/* Drops from LOADED what T has in memory already; returns how many.  SORTED has room for all.
 * The lock is held. */
size_t bgmqi_type_drop_known(struct type *t, struct queue *loaded,
                             struct message **sorted);
/* Looks for what has expired among the rows that are in the database only. */
void bgmqi_type_expire_rows(struct type *t);

/* ---- picking (type_pick.c); type.operating is held --------------------------------- */

/* Which messages of a type; all that is given must hold. */
struct choice {
    unsigned lanes;      /* bits 1 << enum lane */
    uint64_t id;         /* 0: any */
    uint64_t up_to_id;   /* 0: any */
    uint64_t before_seq; /* came to its lane before this number was drawn; 0: any */
    const char *tag, *error_code;
    int64_t before_ms, expired_ms; /* 0: any */
    bool failed;                   /* only what has failed before */
    bool sound;                    /* not what has a damaged body */
};
struct picked {
    struct message *m;
    enum lane from;
    bool stored; /* it was in the database only */
};
enum { PICK_MAX = 256 };
/* A walk over the rows of a lane that are in the database only. */
struct cursor {
    enum lane lane;
    uint64_t after;
    bool over;
    bool missed; /* a row that fits belongs to a message that is around somewhere */
};
bool bgmqi_choice_fits(const struct choice *c, const struct message *m);
bool bgmqi_choice_has(const struct choice *c, enum lane lane);
/* Up to MAX from memory; returns how many. */
size_t bgmqi_type_pick_memory(struct type *t, const struct choice *c,
                              struct picked *picks, size_t max);
/* The next up to MAX of PICK_MAX rows from AT on.  S: the store, on the journal's thread; NULL:
 * waits for the journal.  Their number, or an error. */
int bgmqi_type_pick_rows(struct type *t, struct store *s, const struct choice *c,
                         struct cursor *at, struct picked *picks, size_t max);
/* The one message that C names by id.  As bgmqi_type_pick. */
int bgmqi_type_pick_one(struct type *t, const struct choice *c, struct picked *ret);
/* True when rows of LANE are in the database only, or on their way there. */
bool bgmqi_type_has_rows(struct type *t, enum lane lane);
/* Returns when what was in limbo has arrived; an error of bgmqi_journal_run. */
int bgmqi_type_settle_down(struct type *t);
/* Sends N picked messages on; an error ends the sweep, when all N are sent on or put back. */
typedef int bgmqi_type_act_fn(void *ctx, struct type *t, struct picked *picks, size_t n);
/* Picks all that fit, up to MAX, and has ACT send them on.  Returns how many, or an error when
 * it was none. */
int bgmqi_type_sweep(struct type *t, const struct choice *c, size_t max,
                     bgmqi_type_act_fn *act, void *ctx);
/* A picked message is dead for WHY, or goes for good. */
void bgmqi_type_bury(struct type *t, struct message *m, struct failure *why);
void bgmqi_type_delete(struct type *t, struct message *m);

/* ---- expiry (type_expire.c) -------------------------------------------------------- */

/* M waits in memory, or its row does in the database only.  The lock is held in these and the
 * next: when there is something to expire in the database, INT64_MAX: nothing, or it was asked
 * for. */
void bgmqi_type_note_expiry(struct type *t, const struct message *m);
void bgmqi_type_note_stored_expiry(struct type *t, const struct message *m);
int64_t bgmqi_type_ask_expiry(struct type *t, int64_t now_ms);
/* When something in memory expires, or earlier; INT64_MAX: nothing, or not before T is registered
 * or the service started, and both tell the ticker. */
int64_t bgmqi_type_expires(const struct type *t);
/* Expires what waits in memory.  The ticker's thread. */
void bgmqi_type_expire(struct type *t, int64_t now_ms);

/* What desks have claimed and not started, back to the front of its queue (type_desk.c). */
void bgmqi_type_unclaim(struct type *t);

/* Puts M, which was delayed, into inq or priorityq (type_time.c). */
void bgmqi_type_ready(struct type *t, struct message *m);
/* Notes a parked worker to be woken at unlock, if one is of use (type_desk.c). */
void bgmqi_type_wake_one(struct type *t);

/* Tells the journal that M, which is the caller's and has a row, is at its end; then it has
 * none.  END: of an attempt, else NULL.  The lock is not held. */
void bgmqi_type_end_row(struct type *t, struct message *m, enum outcome how,
                        const struct attempt_end *end);
/* Likewise, but its row went in a transaction of the application's.  END may not be NULL. */
void bgmqi_type_end_elsewhere(struct type *t, struct message *m,
                              const struct attempt_end *end);
/* M, off type.out, has a row in BACKLOG at (LANE, key, M->seq) by such a transaction: it finds its
 * place there.  The lock is held.  True: ENTRY was used. */
bool bgmqi_type_place_elsewhere(struct type *t, struct message *m, enum lane lane,
                                struct journal_entry *entry);
/* An entry, whatever it takes: waits while memory is short.  No lock is held. */
struct journal_entry *bgmqi_type_entry(void);

#endif
