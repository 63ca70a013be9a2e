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

#include "log.h"
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
    STORE_HISTORY, /* nothing but a history row: a message that came and went unwritten */
    STORE_PROGRESS, /* op.progress, as it is when it is written, is kept for message ID */
    STORE_UNKEY,    /* message ID gives up its unique key, the one in MSG's ext */
    STORE_REFUSE    /* row ID of INBOX cannot be a message: op.text says why */
};

/* Bits of op.flags. */
enum {
    OP_INBOX =
        1, /* INSERT, SPILL: row ID of INBOX goes in the same transaction, also when the
                     key is taken; if it is not there any more nothing is written: ELOST */
    OP_ERROR = 2, /* MOVE, UPDATE: the failure is an attempt's, and noted in bgmq_error */
    OP_KEPT =
        4, /* the end of a message: its rows of bgmq_progress and bgmq_error go, too (the
                     latter not when it gets a row in the history) */
    OP_BODY = 8, /* history: with the body */
    OP_IF_KEYED =
        16 /* nothing is done, and the result is EEXIST, when the message of the group's
                     UNKEY has not the key: another may have taken it.  For that one, too */
};

/* How a message ended, for the history. */
enum outcome { OUTCOME_NONE, OUTCOME_DONE, OUTCOME_DEAD, OUTCOME_DISCARDED };

struct ticket;
struct flight_slot;

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
    uint8_t flags; /* OP_* */
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
    int64_t at_ms;             /* now, for the history and for keys held for a period */
    int64_t started_ms;        /* of the last attempt, for the history; 0: none */
    struct message *msg;       /* INSERT SPILL MOVE UPDATE DELETE_* HISTORY UNKEY */
    struct failure *failure;   /* a reference of its own, or NULL */
    struct progress *progress; /* likewise: PROGRESS; ends: its result, for the history */
    /* for the journal and its callers; the store does not look */
    char *text;            /* STORE_TYPE: the name, REFUSE: why; freed with the op */
    void *owner;           /* the type */
    struct ticket *ticket; /* of the publisher that waits, or NULL */
    struct flight_slot
        *slot_held; /* cleared once this is committed (flight.h); or NULL */
    uint32_t slot;  /* its row in the ticket */
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
    const void *cursor, *progress_text; /* NULL when nothing was saved */
    size_t cursor_len;
    int64_t progress;
    int kept; /* rows of bgmq_progress or bgmq_error are there */
    const void *body;
    size_t len;
    int corrupt; /* the checksum of the body does not match */
};
/* Nonzero ends the load with that value. */
typedef int store_row_fn(void *ctx, const struct store_row *row);

/* Which rows of BACKLOG; what is zero or NULL does not matter. */
struct store_search {
    uint32_t type;
    unsigned lanes; /* bits 1 << enum lane */
    uint64_t id;
    const char *tag, *error_code;
    int64_t before_ms;  /* accepted before */
    int64_t expired_ms; /* expires no later than this */
    uint64_t after_id;
    size_t limit, max_bytes;
};

/* A message that has ended, from the history. */
struct store_ended {
    enum outcome outcome;
    unsigned attempts, crashes;
    int priority;
    int64_t created_ms, finished_ms,
        started_ms;                      /* STARTED_MS: of the last attempt, or 0 */
    const char *error_code, *error_text; /* lent for the call */
    const void *result;
    size_t result_len;
};
typedef int store_ended_fn(void *ctx, const struct store_ended *ended);
typedef int store_error_fn(void *ctx, unsigned attempt, int64_t at_ms, const char *code,
                           const char *text);

/* A row of INBOX: a message that somebody else wrote.  Lent for the call. */
struct store_inbox_row {
    uint64_t id; /* of the message, too; from 2^52 on */
    const char *type;
    const void *body;
    size_t len;
    struct bgmq_message_options options; /* times as in message.h; META apart */
    const char *meta;                    /* packed */
    size_t meta_len;
    int64_t created_ms;
    const char *refused; /* why it cannot be a message; NULL: it can */
};
typedef int store_inbox_fn(void *ctx, const struct store_inbox_row *row);

/* What an opener knows of the last owner. */
struct store_boot {
    const uint64_t *ids; /* in flight when it ended */
    const uint32_t *attempts;
    const uint8_t
        *running; /* 1: in its handler; 0: ended, and the end perhaps not written */
    size_t n;
    uint64_t flight; /* number of the flight file's contents: each is charged once */
    int64_t now_ms;
};
struct store_booted {
    uint64_t unfinished; /* messages, without the dead */
    unsigned
        deaths; /* in a row, each within 60 s of its opening, the last one included */
};

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
    /* Charges the messages that were in flight when the last owner died: attempt and run at least
     * what BOOT says, and crashes + 1 for those in their handlers.  Then moves all of JOB to
     * BACKLOG, and notes that this owner has opened. */
    int (*recover)(struct store *s, const struct store_boot *boot,
                   struct store_booted *ret);
    /* Reserves ids: *FIRST .. *FIRST + n - 1 are nobody's and will not be given again. */
    int (*reserve_ids)(struct store *s, uint64_t n, uint64_t *first);
    /* A clean close: gives back the reserved ids from NEXT on, and notes that nobody died. */
    int (*leave)(struct store *s, uint64_t next);
    /* Calls FN for the rows of BACKLOG that WHAT names, in order of id.  Results as load. */
    int (*search)(struct store *s, const struct store_search *what, store_row_fn *fn,
                  void *ctx);
    /* Calls FN with the newest row of the history of ID; 1, 0: there is none, or an error. */
    int (*ended)(struct store *s, uint64_t id, store_ended_fn *fn, void *ctx);
    /* Calls FN for each noted error of ID, in order. */
    int (*errors)(struct store *s, uint64_t id, store_error_fn *fn, void *ctx);
    /* Calls FN for up to LIMIT rows of INBOX beyond AFTER, in order, those refused apart. */
    int (*inbox)(struct store *s, uint64_t after, size_t limit, store_inbox_fn *fn,
                 void *ctx);
    /* Forgets what has become too old (history, keys held for a period), some of it in one
     * transaction; 1: there is more.  Cheap when there is nothing. */
    int (*upkeep)(struct store *s, int64_t now_ms);
    /* Bytes of the log that are not in the file, or cannot be used anew, for a reader's sake. */
    uint64_t (*log_bytes)(struct store *s);
    /* True: its own check of the file runs, and may be that reader. */
    bool (*checks)(struct store *s);
    /* Takes what is gone out of the log, too.  EBUSY: somebody reads it; errors of apply. */
    int (*purge)(struct store *s);
    /* Whether the file is still the one that was opened, and the store alive: 0, or its error with
     * the reason in TEXT; 1: TEXT is a warning to be passed on, told once.  Cheap. */
    int (*look)(struct store *s, struct bgmq_error *text);
    /* Check-points when enough has been written, or when FORCE.  Never waits for others.  0; a
     * positive number: a reader of an old state holds the rest of the log back, at that place; or
     * an error. */
    int (*checkpoint)(struct store *s, int force);
    void (*close)(struct store *s);
};

struct store {
    const struct store_ops *ops;
};

struct store_options {
    const char *path;
    int erase; /* what is deleted is overwritten */
    int share; /* the file may hold tables that are not ours */
    size_t max_body;
    uint64_t max_pages; /* 0: 16 GiB worth */
    uint64_t history_keep;
    int64_t history_max_age_ms; /* 0: for ever */
    const struct log *log;      /* for warnings at open; may be NULL */
    uint64_t check_at_once; /* a file that was not closed, and is as great, is checked for
                               damage beside the service, not before it; 0: 1 GiB */
    uint64_t log_hard_bytes; /* beyond it, what inserts is refused as FULL; 0: 512 MiB */
};

/* Opens or creates a SQLite database by the recipe in store_open.c.  The errors of bgmq_open,
 * with the path and the reason in ERROR. */
int bgmqi_store_sqlite_open(struct store **ret, const struct store_options *options,
                            struct bgmq_error *error);
/* From now on *WANTED, lent until STORE is closed, counts how often its database is found
 * locked. */
void bgmqi_store_sqlite_want(struct store *store, _Atomic uint32_t *wanted);

#endif
