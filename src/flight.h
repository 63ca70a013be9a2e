/* flight.h - what runs now, written where it survives the death of the process.
 *
 * A file of slots beside the database, mapped shared: storing to it costs no system call, and
 * the kernel keeps what was stored when the process is killed.  (It is not synced: after a loss
 * of power it may say nothing, which is no worse than not having it.)  So an attempt is
 * counted before its handler starts, whatever ends it. */
#ifndef BGMQI_FLIGHT_H
#define BGMQI_FLIGHT_H

#include <bgmq.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct flight;

enum flight_state { FLIGHT_RUNNING = 1, FLIGHT_ENDED = 2 };

/* One started message whose end the database does not know yet.  Its worker writes it when the
 * handler starts and when it ends (ID last); the journal clears it once the end is committed. */
struct flight_slot {
    _Atomic uint64_t id; /* 0: free */
    _Atomic uint32_t attempt;
    _Atomic uint32_t state; /* enum flight_state */
};

/* What was in flight when the last owner ended. */
struct flight_log {
    uint64_t *ids;
    uint32_t *attempts;
    uint8_t *running; /* 1: in its handler */
    size_t n;
    uint64_t number; /* of these contents: +1 at each bgmqi_flight_clear */
};

/* Opens or makes PATH-flight and copies what it says to *LOG (bgmqi_flight_log_fini); nothing is
 * changed before bgmqi_flight_clear.  The caller owns the database.  EOPEN, EUNSAFE, ENOMEM. */
int bgmqi_flight_open(struct flight **ret, const char *path, struct flight_log *log,
                      struct bgmq_error *error);
void bgmqi_flight_log_fini(struct flight_log *log);
/* Forgets what was in flight; it has been charged. */
void bgmqi_flight_clear(struct flight *f);
/* NULL is allowed. */
void bgmqi_flight_free(struct flight *f);

/* The words by which guests wake the owner: in the same file, so that every process maps them. */
struct flight_bell {
    _Atomic uint32_t rung;    /* +1 at each ring: a futex */
    _Atomic uint32_t waiting; /* 1: the owner may be asleep on it */
    _Atomic uint32_t wanted;  /* +1 each time anybody of us finds the database locked */
};
struct flight_bell *bgmqi_flight_bell(struct flight *f);
/* The bell of the owner of the database at PATH, in whatever process it is; NULL: there is no
 * flight file, or none that is safe to use.  Nothing is made.  bgmqi_flight_leave gives it back. */
struct flight_bell *bgmqi_flight_visit(const char *path);
/* NULL is allowed. */
void bgmqi_flight_leave(struct flight_bell *bell);
/* Wakes whoever waits at BELL, in any process. */
void bgmqi_flight_ring(struct flight_bell *bell);
/* Waits until BELL has been rung since it was at *SEEN, at most TIMEOUT_NS; true: it was, and *SEEN
 * is its count now.  One thread of the owner's. */
bool bgmqi_flight_hear(struct flight_bell *bell, uint32_t *seen, int64_t timeout_ns);

/* A worker's slots, used in turn: an attempt keeps its slot until its end is committed, while the
 * worker goes on with the next.  When all are in use the oldest is taken over: what it says is
 * then forgotten, and a death of the process would not be charged to that message. */
enum { FLIGHT_RING = 32 };
struct flight_ring {
    struct flight_slot *slots; /* FLIGHT_RING of them */
    unsigned next;
    bool taken; /* protected by the flight's lock */
};

/* A ring of one's own; NULL when all are taken.  F may be NULL.  Any thread. */
struct flight_ring *bgmqi_flight_take(struct flight *f);
/* Slots whose ends are not committed yet stay as they are.  NULL is allowed. */
void bgmqi_flight_release(struct flight *f, struct flight_ring *ring);

/* The next slot of R (NULL: none) says that attempt ATTEMPT of ID runs. */
static inline struct flight_slot *flight_begin(struct flight_ring *r, uint64_t id,
                                               uint32_t attempt)
{
    if (!r)
        return NULL;
    struct flight_slot *s = &r->slots[r->next++ % FLIGHT_RING];
    atomic_store_explicit(&s->id, 0, memory_order_relaxed);
    atomic_store_explicit(&s->attempt, attempt, memory_order_relaxed);
    atomic_store_explicit(&s->state, FLIGHT_RUNNING, memory_order_relaxed);
    atomic_store_explicit(&s->id, id, memory_order_release);
    return s;
}

/* The handler has ended, its end is not committed. */
static inline void flight_ended(struct flight_slot *s)
{
    atomic_store_explicit(&s->state, FLIGHT_ENDED, memory_order_release);
}

static inline void flight_end(struct flight_slot *s)
{
    atomic_store_explicit(&s->id, 0, memory_order_release);
}

/* The end of ID is committed: S is free, unless it was taken over. */
static inline void flight_committed(struct flight_slot *s, uint64_t id)
{
    if (atomic_load_explicit(&s->id, memory_order_relaxed) == id)
        atomic_compare_exchange_strong(&s->id, &id, 0);
}

#endif
