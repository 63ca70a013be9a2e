/* fake_store.h - a store that keeps nothing but a record of what was asked of it, and fails as
 * it is told; and a journal that writes to it.
 *
 * The record is text, so that a test says what it expects in one line: "[1 2]" is a transaction
 * with the ops of ids 1 and 2, "[3]!" one that was synced, "(a)" a load of the owner "a",
 * "R" a reservation of ids, "X" the end.  Ops that were not applied leave no trace. */
#ifndef BGMQ_TEST_FAKE_STORE_H
#define BGMQ_TEST_FAKE_STORE_H

#include "journal.h"

#include "harness.h"

enum { FAKE_TEXT = 512 * 1024 };

struct fake_store {
    struct store store;
    struct gate gate;      /* each transaction waits here; open at first */
    struct counter begun;  /* transactions that came to the gate */
    struct counter failed; /* ... and ended with a failure */
    struct counter closed;
    _Atomic int held;   /* what a check-point returns */
    _Atomic int checks; /* that is its own check of the file */
    _Atomic int old;    /* chunks that upkeep finds too old */
    _Atomic int gone;   /* the file has been taken away */
    _Atomic int warn;   /* so many looks have a word to say */
    pthread_mutex_t lock;
    /* protected by lock */
    int failure, failures; /* of the next transactions; < 0: of all */
    uint64_t guilty;       /* an op with this id fails each transaction it is in */
    uint64_t lost;         /* the row of this id is not there: ELOST */
    int no_ids;            /* reservations fail */
    uint64_t next_id, returned;
    size_t largest; /* transaction */
    size_t len;
    char text[FAKE_TEXT];
};

/* The next N transactions end with FAILURE (N < 0: all, 0: none). */
void fake_fail(struct fake_store *f, int failure, int n);
/* The op with ID cannot be applied. */
void fake_blame(struct fake_store *f, uint64_t id);
/* There is no row for the op with ID. */
void fake_lose(struct fake_store *f, uint64_t id);
/* Reservations of ids fail, or not. */
void fake_refuse_ids(struct fake_store *f, int refuse);

/* ---- a journal on a fake store ------------------------------------------------------- */

struct rig {
    struct fake_store store;
    struct journal *journal;
    struct journal_load *again; /* a load of it asks for this one, once */
    bool hurried;               /* what the last load was told; read when it has run */
    struct harness_log log;
    struct log logger;
    struct counter committed, dropped, loads, failed; /* upcalls */
    pthread_mutex_t lock;
    /* protected by lock: "3 " for a commit, "3:lost " when there was no row, and
     * "4:BGMQ_EBUSY " for a drop */
    char events[8192];
};

enum { NEVER_MS = 3600 * 1000 };

/* A rig is large: make it static. */
void rig_open(struct rig *r, unsigned interval_ms, unsigned batch);
/* Opens with an interval and a batch so large that nothing is written of itself. */
void rig_open_lazy(struct rig *r);
/* Ends the journal, which also shows that it can be ended, and frees all. */
void rig_close(struct rig *r);

/* An entry that inserts ID at LEVEL, and tells of its fate. */
struct journal_entry *rig_entry(uint64_t id, enum bgmq_durability level);
/* Adds a group of its own that nobody waits for. */
void rig_add(struct rig *r, uint64_t id, enum bgmq_durability level);
/* Adds a group with ids FIRST .. FIRST + N - 1, and returns what its publisher waits with. */
struct ticket *rig_publish(struct rig *r, uint64_t first, size_t n);
/* Waits for its end and releases it; returns the result. */
int rig_await(struct ticket *t);
/* Likewise, but gives up at once. */
int rig_give_up(struct ticket *t);
/* Adds an insert of M (level BEHIND), which can be taken back. */
void rig_add_message(struct rig *r, struct message *m);
struct message *rig_message(uint64_t id);
/* Adds ID and holds the writer in its transaction, until the gate of the store is opened. */
void rig_hold(struct rig *r, uint64_t id);

/* Waits until all that was added is written. */
void rig_flush(struct rig *r);
enum journal_state rig_state(struct rig *r);
uint64_t rig_waiting(struct rig *r);
/* True when the store was asked for something. */
bool rig_recorded(struct rig *r);
/* The record of the store is TEXT; of the upcalls likewise. */
#define rig_expect(r, text) rig_expect_at((r), (text), __FILE__, __LINE__)
void rig_expect_at(struct rig *r, const char *text, const char *file, int line);
#define rig_expect_events(r, text) rig_expect_events_at((r), (text), __FILE__, __LINE__)
void rig_expect_events_at(struct rig *r, const char *text, const char *file, int line);

#endif
