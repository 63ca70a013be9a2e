/* store.h - the interface to a store: what the journal and recovery ask of one.
 *
 * A store keeps the rows of unfinished messages.  It is used by one thread at a time: by the
 * opener before the journal's thread starts, by that thread afterwards.
 *
 * Two tables.  A message that went straight into memory has a row in JOB: narrow, appended,
 * short-lived, never searched while the process lives.  Every other row is in BACKLOG, where
 * it has a place (lane, key, seq) and is found by it.  At open all rows of JOB move to BACKLOG,
 * so whatever was in memory is waiting in its lane again.
 *
 * Lanes of a type, each in order of (key, seq): inq (key 0), priorityq (key -priority), delayed
 * (key = due time), dlq (key 0). */
#ifndef BGMQI_STORE_H
#define BGMQI_STORE_H

#include "message.h"

enum lane { LANE_INQ, LANE_PRIORITYQ, LANE_DELAYED, LANE_DLQ, LANES };

enum store_op_kind {
    STORE_NOP,
    STORE_TYPE,   /* name (op.text) gets number op.type */
    STORE_INSERT, /* new row in JOB; with a unique key, see op.result */
    STORE_SPILL,  /* new row in BACKLOG at (lane, key, seq); likewise */
    STORE_MOVE,   /* row leaves JOB, and stands in BACKLOG at (lane, key, seq) */
    STORE_UPDATE, /* row of BACKLOG goes to (lane, key, seq), with attempt, run, failure */
    STORE_DELETE_JOB,     /* row of JOB goes, and its unique key */
    STORE_DELETE_BACKLOG, /* likewise of BACKLOG */
    STORE_HISTORY /* nothing but a history row: a message that came and went unwritten */
};

/* How a message ended, for the history. */
enum outcome { OUTCOME_NONE, OUTCOME_DONE, OUTCOME_DEAD, OUTCOME_DISCARDED };

struct ticket;

/* One change.  MSG is referenced by whoever made the op, for as long as the op lives; the store
 * reads of it only what is set once.  Everything that changes is copied here, so that the op
 * says what was true when it was made. */
struct store_op {
    uint8_t kind;  /* enum store_op_kind */
    uint8_t lane;  /* enum lane: SPILL MOVE UPDATE */
    uint8_t level; /* enum bgmq_durability it has to reach */
    uint8_t
        history; /* enum outcome: DELETE_* and HISTORY write a history row when not NONE;
                        so does MOVE/UPDATE to LANE_DLQ */
    uint8_t crashes;
    uint16_t attempt;
    uint32_t run;
    uint32_t type; /* number of the type */
    int32_t
        result; /* set by apply: 0; BGMQ_EEXIST: the unique key is taken, nothing written,
                       ID is now the id of the message that has it; BGMQ_ELOST: no such row */
    uint64_t id;
    int64_t key;
    uint64_t seq;
    int64_t at_ms;           /* now, for the history */
    struct message *msg;     /* INSERT SPILL MOVE UPDATE DELETE_* HISTORY */
    struct failure *failure; /* a reference of its own, or NULL */
    /* for the journal and its callers; the store does not look */
    char *text;            /* STORE_TYPE: the name; freed with the op */
    void *owner;           /* the type */
    struct ticket *ticket; /* of the publisher that waits, or NULL */
    uint32_t slot;         /* its row in the ticket */
};

/* A row on its way from BACKLOG to memory.  Pointers are lent for the call. */
struct store_row {
    uint32_t type;
    enum lane lane;
    uint64_t id, seq;
    int64_t key, created_ms;
    int priority;
    unsigned attempt, max_attempts, run, crashes, flags;
    const struct message_ext *ext;       /* by value of its strings; NULL when none */
    const char *error_code, *error_text; /* NULL when no attempt failed */
    int64_t error_ms;
    const void *body;
    size_t len;
    int corrupt; /* the checksum of the body does not match */
};
/* Nonzero ends the load with that value. */
typedef int store_row_fn(void *ctx, const struct store_row *row);
/* COUNTS by lane. */
typedef int store_type_fn(void *ctx, uint32_t type, const char *name,
                          const uint64_t counts[LANES]);

enum store_sync { STORE_SYNC_NORMAL, STORE_SYNC_FULL };

/* How a failed apply ended. */
enum store_failure {
    STORE_FAIL_NONE,
    STORE_FAIL_BUSY, /* somebody else writes: nothing was changed, try again */
    STORE_FAIL_FULL, /* no room: nothing was changed, try again later */
    STORE_FAIL_OP,   /* a statement failed and was rolled back: nothing was changed */
    STORE_FAIL_DEAD /* the commit failed, or the file is damaged or gone: unknown what was
                         changed; the store takes nothing more */
};

struct store;

struct store_ops {
    /* Applies N ops in one transaction, in order, each with its result.  Returns an enum
     * store_failure; TEXT then gets the reason. */
    int (*apply)(struct store *s, struct store_op *ops, size_t n, enum store_sync sync,
                 struct bgmq_error *text);
    /* Calls FN for up to LIMIT rows of TYPE's LANE from (KEY, SEQ) on, in order, until their
     * bodies sum up to MAX_BYTES (one row at least).  Returns their number, FN's negative
     * value, or BGMQ_ESTORE. */
    int (*load)(struct store *s, uint32_t type, enum lane lane, int64_t key, uint64_t seq,
                size_t limit, size_t max_bytes, store_row_fn *fn, void *ctx);
    /* Calls FN for each type known, in order of number. */
    int (*types)(struct store *s, store_type_fn *fn, void *ctx);
    /* Charges the messages that were in flight when the last owner died: crashes + 1, and
     * attempt and run at least what IN_FLIGHT says.  Then moves all of JOB to BACKLOG.  Returns
     * the number of unfinished messages (without the dead). */
    int64_t (*recover)(struct store *s, const uint64_t *ids, const uint32_t *attempts,
                       size_t n);
    /* Reserves ids: *FIRST .. *FIRST + n - 1 are nobody's and will not be given again. */
    int (*reserve_ids)(struct store *s, uint64_t n, uint64_t *first);
    /* Gives back the reserved ids from NEXT on (clean close). */
    int (*return_ids)(struct store *s, uint64_t next);
    /* Check-points when enough has been written, or when FORCE.  Never waits for others. */
    int (*checkpoint)(struct store *s, int force);
    void (*close)(struct store *s);
};

struct store {
    const struct store_ops *ops;
};

struct store_options {
    const char *path;
    int share; /* the file may hold tables that are not ours */
    size_t max_body;
    uint64_t max_pages; /* 0: 16 GiB worth */
    uint64_t history_keep;
};

/* Opens or creates a SQLite database by the recipe in store_open.c.  The errors of bgmq_open,
 * with the path and the reason in ERROR. */
int bgmqi_store_sqlite_open(struct store **ret, const struct store_options *options,
                            struct bgmq_error *error);

#endif
