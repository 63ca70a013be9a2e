/* type.h - one message type: its queues, its lock, its counters, and the mover.
 *
 * A message of a type is in exactly one place: inq, priorityq, delayed, dlq, outq, out (claimed
 * by a worker, or taken by bgmq_get), in the journal on its way to one of them, or in the
 * database only.  What changes its place, the counters that go with it and the entry in the
 * journal are one step under the type's lock, and only the files type*.c do it.
 *
 *            publish                        due                claim, take
 *   (none) ----------> delayed ---------------------> inq,    -----------> out
 *      `------------------------------------------> priorityq               | done --> outq, gone
 *                          ^                           ^                    | retry
 *                          `------- back-off ----------+----- at once ------+
 *                                                      |                    | dead
 *                                                      `---- retry_dead -- dlq
 *
 * The window.  Of each lane (inq, priorityq, delayed, dlq) memory holds a prefix: everything
 * that comes before the lane's frontier.  Rows from the frontier on are in the database only
 * ("stored") and loaded when the prefix runs low.  A lane without frontier is wholly in memory.
 * Every row on its way into the BACKLOG is held by its journal entry, and finds its side of the
 * frontier when it is committed (bgmqi_type_committed): this one rule is why no row can be
 * missed, whatever happens to the frontier meanwhile. */
#ifndef BGMQI_TYPE_H
#define BGMQI_TYPE_H

#include "agenda.h"
#include "clock.h"
#include "flight.h"
#include "journal.h"
#include "lock.h"
#include "mem.h"
#include "retry.h"
#include "store.h"
#include "timing.h"

struct type;
struct desk;
struct key;
struct getter;

/* Who may claim, of all types. */
enum gate_state {
    GATE_SHUT, /* stopped */
    GATE_OPEN, /* started */
    GATE_SOLO  /* started, and suspects are run one at a time: only type_env.solo may */
};

/* What all types of a service share.  Set once. */
struct type_env {
    const struct clock *clock;
    const struct log *log;
    struct journal *journal; /* NULL: memory only */
    struct flight *flight;   /* likewise */
    struct budget *budget;
    CACHE_GAP(gap_ids); /* every publish writes the next, every thread reads the others */
    _Atomic uint64_t ids;  /* the next id, without a journal */
    _Atomic uint64_t lost; /* outcomes refused */
    CACHE_GAP(gap_lost);
    _Atomic int started;         /* enum gate_state */
    _Atomic bool closed;         /* nothing is let in any more */
    _Atomic(struct type *) solo; /* may start one suspect, and takes itself away then */
    _Atomic uint64_t suspects;   /* that wait, of all types */
    unsigned
        max_crashes; /* deaths of the process in its handler until a message is dead */
    bool timing;     /* handlers are timed for the metrics */
    bool together;   /* suspects are run like others: a test service */
    /* The ticker has to look at T by DUE_MS, or at its attempts by the monotonic MONO_NS. */
    void (*due)(void *ctx, struct type *t, int64_t due_ms);
    void (*deadline)(void *ctx, struct type *t, int64_t mono_ns);
    /* The budget has not BYTES left: gives up the oldest of what lies in the outqs.  True: there
     * may be room now.  No lock is held. */
    bool (*room)(void *ctx, size_t bytes);
    /* A worker has ended what it had claimed. */
    void (*idle)(void *ctx);
    void *ctx;
};

/* Final values of struct bgmq_type_options. */
struct type_config {
    unsigned max_attempts;
    struct retry_policy retry;
    enum bgmq_durability durability;
    unsigned window, outq_limit, priority_share;
    unsigned timeout_ms, stuck_ms;    /* 0: no time-out */
    int64_t expire_ms;                /* 0: never */
    uint64_t max_messages, max_bytes; /* 0: no bound */
    unsigned wait_ms;
    bool discard_expired, any_channel, history_body;
    bool no_outq;
    enum bgmq_history history;
    bgmq_handler_fn *handler, *request_filter, *response_filter, *on_error;
    void *handler_ctx;
};

struct type *bgmqi_type_new(const char *name, uint32_t number, struct type_env *env,
                            const struct type_config *config);
void bgmqi_type_free(struct type *t);
const char *bgmqi_type_name(const struct type *t);
/* Its name without the channel; and that, NULL: none. */
const char *bgmqi_type_plain(const struct type *t);
const char *bgmqi_type_channel(const struct type *t);
uint32_t bgmqi_type_number(const struct type *t);
/* Gives T its handler.  EEXIST: it has one. */
int bgmqi_type_configure(struct type *t, const struct type_config *config);
bool bgmqi_type_registered(const struct type *t);
/* Lends; good once registered. */
const struct type_config *bgmqi_type_config(const struct type *t);
/* What an open database holds of T. */
void bgmqi_type_restore(struct type *t, const uint64_t counts[LANES]);

/* Gives up the oldest of outq until the service has BYTES of memory left; false: there was none. */
bool bgmqi_type_outq_shed(struct type *t, size_t bytes);

/* ---- publishing (type_publish.c) --------------------------------------------------- */

/* One message on its way in.  The caller makes M and, when it is to have a row, ENTRY; on
 * success both are the type's. */
struct admission {
    struct message *m; /* level, priority, due_ms, ext, flags set */
    struct journal_entry *entry;
    struct ticket *ticket; /* NULL: placed at once, else once committed */
    uint32_t slot;         /* its row in the ticket */
    bool
        chained; /* one of several: not placed before bgmqi_type_confirm, and with an ENTRY
                     (and a ticket) added to the journal by the caller */
    struct key *key;          /* room for its unique key, when it has one and no ENTRY */
    struct message *replaces; /* it takes over the key of this one, and its room */
    struct getter *waiter;    /* it has waited for room, and its turn may have come */
    bool overtakes;           /* a handler's: those who wait for room are no concern */
    bool no_memory; /* out: EFULL, because all messages together are too many bytes */
    uint64_t
        inbox_id;   /* not 0: the message is this row of the inbox, which goes in the same
                          commit; that is its id, and it is placed once committed */
    uint64_t id;    /* out: of the message, or of the one with the same key */
    bool duplicate; /* out: without a row; M is gone then */
};

/* Lets a message in.  EFULL: no memory left, or no id.  ECLOSED.  After a failure M and ENTRY
 * are the caller's still. */
int bgmqi_type_admit(struct type *t, struct admission *a);
/* The short way in, for a message at level MEMORY that has nothing but a body (type_arrive.c).
 * Takes COST from T's credit; false: nothing was taken, and it has to go the long way. */
bool bgmqi_type_pay(struct type *t, size_t cost);
/* Gives that back. */
void bgmqi_type_unpay(struct type *t, size_t cost);
/* Takes M, which was paid for.  Its id; 0: none was to be had, and M is still the caller's. */
uint64_t bgmqi_type_push(struct type *t, struct message *m);
/* Likewise; after EFULL waits up to WAIT_MS for room, first come, first served. */
int bgmqi_type_admit_patiently(struct type *t, struct admission *a, unsigned wait_ms);
/* Room for a unique key, to free(); NULL: out of memory. */
struct key *bgmqi_type_key_new(void);
/* Begins and ends an operation on T: one at a time. */
void bgmqi_type_operate(struct type *t);
void bgmqi_type_operated(struct type *t);
/* A, which has an ENTRY and a ticket for TYPE_REPLACE_CHANGES, or neither, takes the place of
 * message ID, when that one waits and has A's key: both in one commit.  WAIT waits for the ticket
 * and returns what became of it; it may be called twice.  EBUSY: that one is at work; ENOENT: it
 * is not there, or has the key no longer; errors of bgmqi_type_admit and WAIT.  After a failure M
 * and ENTRY are the caller's still when A->m is set.  Within an operation. */
enum { TYPE_REPLACE_CHANGES = 3 };
typedef int bgmqi_type_wait_fn(void *ctx, struct ticket *ticket);
int bgmqi_type_replace(struct type *t, uint64_t id, struct admission *a,
                       bgmqi_type_wait_fn *wait, void *ctx);
/* Ends a chained admission: without a row the message gets its place now. */
void bgmqi_type_confirm(struct type *t, struct admission *a);
/* Undoes a chained admission whose entry was not added; M and ENTRY are the caller's again. */
void bgmqi_type_dismiss(struct type *t, struct admission *a);

/* M, about to start for the first time, gives up a key it holds while it waits only. */
void bgmqi_type_unkey(struct type *t, struct message *m);

/* Upcalls of the journal, on its thread.  Not TOLD: only because the row was gone. */
void bgmqi_type_committed(struct type *t, struct store_op *op, bool told);
void bgmqi_type_dropped(struct type *t, struct store_op *op, int err);
void bgmqi_type_load(struct type *t);

/* True while messages of T are on their way: held by the journal, or about to be loaded. */
bool bgmqi_type_moves(struct type *t);

/* ---- workers (type_desk.c) --------------------------------------------------------- */

enum { DESK_CLAIM_MAX = 32 };

/* A worker's share of its type. */
struct desk *bgmqi_desk_new(struct type *t); /* NULL: out of memory */
/* The worker of D is about to go: what it had claimed goes back to the front, its counts stay
 * in the sums. */
void bgmqi_desk_leave(struct desk *d);
struct type *bgmqi_desk_type(struct desk *d);

enum desk_turn { DESK_MESSAGE, DESK_QUIT };
/* Waits for the next message and starts it: attempt and run are counted when its fate is to run;
 * the message is the worker's until bgmqi_desk_settle. */
enum desk_turn bgmqi_desk_next(struct desk *d, struct message **ret);
/* What is to be done with it. */
enum fate {
    FATE_RUN,
    FATE_CRASH,  /* it killed the process too often, or in its last attempt: dead */
    FATE_EXPIRED /* its time was over before it started */
};
enum fate bgmqi_desk_fate(const struct desk *d);
/* Its number; the message, should it be given up, has that of the next. */
unsigned bgmqi_desk_attempt(const struct desk *d);
/* Monotonic time at which the attempt's time is over; INT64_MAX: never. */
int64_t bgmqi_desk_deadline(const struct desk *d);
/* Likewise, but one message at a time and without waiting; false: there is none. */
bool bgmqi_desk_try(struct desk *d, struct message **ret);
/* After that has been settled. */
void bgmqi_desk_tried(struct desk *d);
/* Asks the worker of D to end after what it runs. */
void bgmqi_desk_quit(struct desk *d);
/* Why the handler at D is asked to end: bits of enum cancel; 0: it is not. */
enum cancel { CANCEL_STOP = 1, CANCEL_TIME = 2, CANCEL_OPERATOR = 4 };
unsigned bgmqi_desk_cancelled(const struct desk *d);

/* The fence.  An attempt is its worker's until it ends, or until the ticker gives it up because
 * its time is over; whoever is first has it.  The next four are for the worker's thread only. */

/* False: the attempt was given up; what it does is nobody's business any more. */
bool bgmqi_desk_owns(const struct desk *d);
/* The attempt cannot be given up before as many unholds, or its end.  False: it was (ELOST). */
bool bgmqi_desk_hold(struct desk *d);
void bgmqi_desk_unhold(struct desk *d);
/* The handler has returned: from here on only the caller may settle.  False: the attempt was given
 * up and is settled; the caller has a reference to its message, to be given back. */
bool bgmqi_desk_end(struct desk *d);

enum settle {
    SETTLE_DONE,
    SETTLE_RETRY,
    SETTLE_SNOOZE,
    SETTLE_DEAD,
    SETTLE_DISCARD,
    SETTLE_BACK /* to the front of its queue, as if it had not started: interrupted by a stop */
};
struct settlement {
    enum settle how;
    int64_t due_ms;          /* RETRY, SNOOZE: 0 is at once */
    struct failure *failure; /* given to the message; NULL: none, or on DONE */
    bool no_outq;
    bool failed; /* counts as a failed attempt */
    /* A transaction of the application's has seen to the row: DONE, no row any more; RETRY and
     * DEAD, it stands in BACKLOG at SEQ, among the delayed or the dead. */
    bool elsewhere;
    uint64_t seq;
};
/* bgmqi_desk_end, and settles M as done, with nothing to say of it. */
bool bgmqi_desk_end_bare(struct desk *d, struct message *m);
/* Ends the attempt that bgmqi_desk_next began; the caller had true from bgmqi_desk_end. */
void bgmqi_desk_settle(struct desk *d, struct message *m, struct settlement *s);
/* In its place, after a false: nothing is settled, M's reference is given back, and the worker is
 * to leave. */
void bgmqi_desk_abandon(struct desk *d, struct message *m);

/* An attempt that was given up: its message is the ticker's until bgmqi_type_settle_given_up. */
struct given_up {
    struct message *m;
    int64_t timeout_ms;
    int64_t started_ms;
    struct flight_slot *slot;
};
/* Looks at T's attempts at NOW_NS: asks those to end whose time is over, and gives those up, at
 * most MAX, that did not end in stuck_ms more.  Returns when to look again; INT64_MAX: no need. */
int64_t bgmqi_type_overdue(struct type *t, int64_t now_ns, struct given_up *ret,
                           size_t max, size_t *ret_n);
void bgmqi_type_settle_given_up(struct type *t, const struct given_up *g,
                                struct settlement *s);

/* ---- what an attempt keeps (type_keep.c); the thread of its worker ------------------ */

/* A reference to the progress of M, whose next attempt begins: a copy of its own, so that an
 * attempt that was given up disturbs nobody.  Waits while memory is short. */
struct progress *bgmqi_type_renew_progress(struct type *t, struct message *m);
/* Makes P the progress of M, whose attempt is held.  ENOMEM, never when M had one before. */
int bgmqi_type_set_progress(struct type *t, struct message *m, struct progress *p);
/* Tells the journal to write P for M, which has a row and whose attempt is held, by ENTRY.  Takes
 * ENTRY. */
void bgmqi_type_keep(struct type *t, struct message *m, struct progress *p,
                     struct journal_entry *entry, enum bgmq_durability level,
                     struct ticket *ticket);

/* Wakes every parked worker of T, to look again at what it may do.  Whoever changed ENV before
 * knows after it that everybody under T's lock has seen the change. */
void bgmqi_type_rouse(struct type *t);
/* Asks every handler of T that runs to end because of a stop, or takes that back. */
void bgmqi_type_cancel(struct type *t, bool cancel);
/* Asks those to end whose message MATCHes, because an operator wants it: one that then returns
 * BGMQ_RETRY is dead, code "cancelled".  Returns how many.  MATCH is called under locks. */
size_t bgmqi_type_cancel_if(struct type *t,
                            bool (*match)(void *ctx, const struct message *m), void *ctx);
/* Handlers of T that run now, those that were given up too. */
size_t bgmqi_type_running(struct type *t);
/* T's messages are not claimed while it is paused. */
void bgmqi_type_pause(struct type *t, bool paused);
bool bgmqi_type_paused(const struct type *t);
/* Suspects of T that could start now: it is registered, not paused, and one of its workers is
 * free. */
size_t bgmqi_type_suspects(struct type *t);

/* ---- time (type_time.c) ------------------------------------------------------------ */

/* Does what is due at NOW_MS; returns when to come again, INT64_MAX: not before env.due says so.
 * The ticker calls it. */
int64_t bgmqi_type_tick(struct type *t, int64_t now_ms);
/* T in the two agendas of the ticker: by the wall clock, and by the time-outs of attempts. */
struct agenda_item *bgmqi_type_due_item(struct type *t);
struct agenda_item *bgmqi_type_attempts_item(struct type *t);

/* ---- consuming (type_take.c) ------------------------------------------------------- */

/* Takes the next message of the queue at PLACE (inq, priorityq, outq, dlq), waiting up to
 * TIMEOUT_NS.  ETIMEOUT, ECLOSED. */
int bgmqi_type_take(struct type *t, enum place place, int64_t timeout_ns,
                    struct message **ret);
enum taken_end { TAKEN_ACK, TAKEN_REQUEUE, TAKEN_DEAD };
/* Ends what bgmqi_type_take began, and its reference. */
void bgmqi_type_settle_taken(struct type *t, struct message *m, enum place from,
                             enum taken_end how, struct failure *failure);
/* References to up to MAX messages of a queue, in order; returns their number. */
size_t bgmqi_type_peek(struct type *t, enum place place, struct message **ret,
                       struct failure **failures, uint16_t *attempts, size_t max);
/* Getters of T go home with ECLOSED; later ones too. */
void bgmqi_type_end_getters(struct type *t);

/* ---- operations on messages that rest (type_search.c, type_find.c) ------------------ */

/* Each returns how many, ENOENT as in bgmq_operate.h, or an error of the journal.
 * Gives the dead a new life. */
int bgmqi_type_retry(struct type *t, const struct bgmq_select *which);
/* What waits or is delayed is dead for WHY.  EBUSY: the one that is named runs, or is taken. */
int bgmqi_type_abandon(struct type *t, const struct bgmq_select *which,
                       struct failure *why);
int bgmqi_type_discard(struct type *t, const struct bgmq_select *which);
/* 0, EBUSY, ENOENT. */
int bgmqi_type_change(struct type *t, uint64_t id, const struct bgmq_change *c);
int bgmqi_type_find(struct type *t, uint64_t id, struct bgmq_info *ret);
/* Makes those that wait out a back-off run now.  FN gets their ids, in portions, before anything
 * moves: a portion it refuses, by an error, stays where it is, and that is the end.  Returns how
 * many were moved, or, if none was, FN's error. */
typedef int bgmqi_type_id_fn(void *ctx, const uint64_t *ids, size_t n);
int bgmqi_type_retry_pending(struct type *t, bgmqi_type_id_fn *fn, void *ctx);

/* ---- one message, wherever it rests (type_pick.c) -------------------------------- */

/* Takes message ID out of a lane (one of the bits 1 << lane of LANES), from memory or database:
 * nobody else can start or move it until it is sent on by bgmqi_type_unpick or the mover.  It is on
 * type.out, place TAKEN.  Within an operation.  May wait for the journal; no lock is held.
 * ENOENT; EBUSY: it runs, or is taken.  Errors of bgmqi_journal_run. */
int bgmqi_type_pick(struct type *t, uint64_t id, unsigned lanes, struct message **ret,
                    enum lane *from);
/* Puts it back where it was: to the front of its lane. */
void bgmqi_type_unpick(struct type *t, struct message *m, enum lane from);

/* ---- rows that the application wrote (type_tx.c) ------------------------------------ */

/* M, new, is about to get a row by a transaction of the application's that is not committed yet:
 * in JOB, or, when it is due later, in BACKLOG among the delayed at (its time, M->seq).  Charges
 * it, gives it its id, and says M->row.  EFULL, ECLOSED. */
int bgmqi_type_expect(struct type *t, struct message *m);
/* That transaction is undone: M is the caller's again. */
void bgmqi_type_forget(struct type *t, struct message *m);
/* That transaction has just been committed.  Takes M and ENTRY; M gets its place.  The committing
 * thread; cannot fail. */
void bgmqi_type_adopt(struct type *t, struct message *m, struct journal_entry *entry);
/* The INSERT of M, which was taken back, is to be written after all.  Takes ENTRY. */
void bgmqi_type_reinsert(struct type *t, struct message *m, struct journal_entry *entry);
/* Fills what OP, about the end HOW of the attempt at D, says for the history. */
void bgmqi_desk_describe(const struct desk *d, enum outcome how, struct store_op *op);
/* A new number for the place of a message in a lane of T. */
uint64_t bgmqi_type_draw(struct type *t);

/* ---- looking (type_stats.c) -------------------------------------------------------- */

/* Handlers that run now. */
struct run_counts {
    size_t running; /* those given up apart */
    size_t stuck;   /* given up, and not returned */
    size_t overdue; /* of those running: beyond their time-out */
};
/* Adds T's to SUM. */
void bgmqi_type_run_counts(struct type *t, int64_t now_ns, struct run_counts *sum);
/* Lists up to MAX of T's handlers that run, without the type's name; returns how many. */
struct bgmq_run;
size_t bgmqi_type_runs(struct type *t, int64_t now_ns, struct bgmq_run *ret, size_t max);
/* Moves the times of T's handlers since the last call to SUM. */
void bgmqi_type_take_timing(struct type *t, struct timing *sum);
/* When the oldest message at the head of T's queues was accepted; INT64_MAX: none waits. */
int64_t bgmqi_type_oldest_ms(struct type *t);

void bgmqi_type_collection(struct type *t, struct bgmq_collection *ret);
/* Sum over all workers, those that left too. */
void bgmqi_type_stats(struct type *t, struct bgmq_stats *ret);
/* Stats of up to MAX workers; returns how many there are. */
size_t bgmqi_type_workers(struct type *t, struct bgmq_stats *ret, size_t max);

#endif
