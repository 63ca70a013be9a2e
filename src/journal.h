/* journal.h - the writer: the one thread that changes the store.
 *
 * Changes come as entries, in the order in which types make them (under the type's lock, so that
 * memory and journal agree), and reach the store in that order, many in one transaction.  While
 * one batch syncs the next one fills: that is the whole of group commit.
 *
 * Who waits.  A publisher at level COMMIT or DISK waits for its group of entries; the message
 * becomes visible to workers only after the commit.  A BEHIND change waits for nobody: it is
 * committed within flush_interval_ms, or when flush_batch changes wait, or together with
 * whatever is committed for a waiter.  A BEHIND message that ends before its INSERT was written
 * takes the INSERT back (bgmqi_journal_take_back): neither reaches the store.  One that found no
 * room in memory and is wanted there before its SPILL was written is taken straight from the
 * journal (bgmqi_journal_recall), and may then be taken back likewise.
 *
 * When the store fails.  Busy or full: nothing was changed; the batch is kept and tried again,
 * first after 10 ms, at most every second; publishers that run out of time take their entries
 * back.  A statement refused: the batch is tried again group by group, so that one bad entry
 * harms nobody else.  A failed commit: nobody can know what is in the store (the answer is
 * EUNCERTAIN), syncing again would lie, so the journal takes nothing more until the database is
 * opened anew. */
#ifndef BGMQI_JOURNAL_H
#define BGMQI_JOURNAL_H

#include <stdbool.h>

#include "log.h"
#include "store.h"
#include "ticket.h"

struct journal;

struct journal_entry {
    struct journal_entry *next;
    struct journal_entry *sibling; /* for the owner: type.leaving */
    struct store_op op;
    bool group_ends; /* the last of its group: groups are never split */
    bool tell;       /* events.committed or events.dropped is wanted */
};

/* A loader's place in the queue of loads; embedded in its owner, zero-initialised. */
struct journal_load {
    struct journal_load *next;
    bool queued; /* protected by the journal's lock */
    void *owner;
};

/* Upcalls, all made by the writer thread with no lock held. */
struct journal_events {
    /* OP is committed (op->result 0, EEXIST or ELOST); TOLD as its entry's tell: without it, only
     * an ELOST is reported. */
    void (*committed)(void *ctx, struct store_op *op, bool told);
    /* OP will never be: taken back by its publisher, refused by the store, or the store failed
     * (ERR says which: EBUSY, ESTORE, EUNCERTAIN). */
    void (*dropped)(void *ctx, struct store_op *op, int err);
    /* The load asked for by bgmqi_journal_ask_load. */
    void (*load)(void *ctx, void *owner);
    /* The store failed for good. */
    void (*failed)(void *ctx);
    void *ctx;
};

struct journal_options {
    unsigned flush_interval_ms, flush_batch;
    size_t stack_size;
    unsigned
        reader_limit_ms; /* a reader that holds the log so long is reported; 0: 30 s */
    const struct clock *clock; /* says what is too old; NULL: the system's */
    const struct log *log;
    struct journal_events events;
};

enum journal_state { JOURNAL_GOOD = 1, JOURNAL_RETRYING = 2, JOURNAL_FAILED = 3 };

/* Takes STORE.  FIRST_ID..: reserves ids.  ESTORE, ETHREAD, ENOMEM: STORE is still the caller's. */
int bgmqi_journal_open(struct journal **ret, struct store *store,
                       const struct journal_options *options);
/* Writes out everything, ends the thread and closes the store.  Groups that are added later end
 * with ECLOSED. */
void bgmqi_journal_end(struct journal *j);
/* Ends and frees J.  NULL is allowed. */
void bgmqi_journal_free(struct journal *j);

/* A cleared entry; NULL: out of memory.  Freed by the journal once added, else by _entry_free. */
struct journal_entry *bgmqi_journal_entry_new(void);
/* Also gives back the references of its op. */
void bgmqi_journal_entry_free(struct journal_entry *e);

/* The next id, never given before; 0 when the store has not been able to reserve more. */
uint64_t bgmqi_journal_next_id(struct journal *j);

/* Adds a chain of entries, one group: all of them name the same ticket, or none.  Takes them.
 * Cannot fail: after a failed store the writer drops them at once.  May be called under a
 * type's lock. */
void bgmqi_journal_add(struct journal *j, struct journal_entry *first,
                       struct journal_entry *last);

/* Takes back the INSERT of M when it has not been written; true: M never had a row. */
bool bgmqi_journal_take_back(struct message *m);
/* Undoes that.  True: the entry is still in the journal, and will be written; false: it is gone,
 * and a new one has to be added. */
bool bgmqi_journal_give_back(struct message *m);

/* Claims M, whose SPILL has not been written, for memory: its row will be one of JOB, and nothing
 * is told of it.  False: it is on its way to BACKLOG.  M->insert has to be
 * SPILLED when its entry is added, which names no ticket and no row of INBOX. */
bool bgmqi_journal_recall(struct message *m);

/* Asks for events.load(load->owner) on the writer's thread.  Cheap; may be called under a lock. */
void bgmqi_journal_ask_load(struct journal *j, struct journal_load *load);
/* True when the store has failed for good. */
bool bgmqi_journal_failed(struct journal *j);
/* Runs FN on the writer's thread, with the store, once everything added before is written, and
 * returns when it has run.  Not under a lock.  ESTORE: the store has failed; EBUSY, EFULL: it did
 * not answer within TIMEOUT_NS; ECLOSED.  FN then never runs. */
typedef void bgmqi_journal_fn(void *ctx, struct store *s);
int bgmqi_journal_run(struct journal *j, bgmqi_journal_fn *fn, void *ctx,
                      int64_t timeout_ns);

/* The store, for use inside events.load only. */
struct store *bgmqi_journal_store(struct journal *j);

/* True when somebody waited for the last commit: others may wait for the next.  For use inside
 * events.load only. */
bool bgmqi_journal_hurried(const struct journal *j);

/* Returns when everything added before is committed.  ESTORE, EUNCERTAIN, ENOMEM; EFULL or
 * EBUSY after TIMEOUT_NS. */
int bgmqi_journal_flush(struct journal *j, int64_t timeout_ns);

/* What a timed-out wait for the store means now: EFULL when the disk is, else EBUSY. */
int bgmqi_journal_timeout_err(struct journal *j);
/* True when so much waits that a publisher at BEHIND has to wait with the others. */
bool bgmqi_journal_crowded(struct journal *j);
/* For how long the transaction that runs has done so, or how long the last one took if it was a
 * slow one within the last minute; nanoseconds, 0: the store is not slow. */
int64_t bgmqi_journal_slow_ns(struct journal *j);
void bgmqi_journal_counts(struct journal *j, uint64_t *commits, uint64_t *waiting,
                          enum journal_state *state);

#endif
