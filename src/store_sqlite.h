/* store_sqlite.h - what the files of the SQLite store share: the object, its statements,
 * and the one way in which transactions begin, end and fail.
 *
 *   store_file.c    the file from outside: its name, whether it is safe
 *   store_open.c    the connections: checks, recipe
 *   store_site.c    what the file stands on, and who else may get at it
 *   store_check.c   whether a file that was not closed is sound
 *   store_backup.c  a copy of a file in use
 *   store_schema.c  the tables: whose they are, creation, migration
 *   store_tables.c  what the tables are, and whether they still are
 *   store_statement.c the statements
 *   store_sqlite.c  transactions and their failures, the table of functions
 *   store_bind.c    parameters of statements
 *   store_write.c   apply
 *   store_batch.c   gathers rows of a batch
 *   store_keys.c    unique keys
 *   store_kept.c    progress, and the errors of attempts
 *   store_prune.c   what has become too old
 *   store_purge.c   a log without what is gone
 *   store_upkeep.c  ids, check-points
 *   store_row.c     rows as they are read
 *   store_meta.c    their meta
 *   store_load.c    load, types
 *   store_search.c  search, ended, errors
 *   store_inbox.c   inbox
 *   store_recover.c recover
 *
 * Two connections: W writes and reads, C only copies the log into the file. */
#ifndef BGMQI_STORE_SQLITE_H
#define BGMQI_STORE_SQLITE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <sys/types.h>

#include "store.h"
#include "store_bind.h"

/* Every statement of the store, prepared once.  Text: store_statement.c. */
enum statement {
    Q_BEGIN,
    Q_COMMIT,
    Q_ROLLBACK,
    Q_JOB_INSERT,      /* a message without ext; the next two follow it (store_batch.c) */
    Q_JOB_INSERT_SOME, /* SOME_ROWS of them */
    Q_JOB_INSERT_MANY, /* MANY_ROWS */
    Q_JOB_INSERT_EXT,
    Q_JOB_DELETE,
    Q_JOB_DELETE_RUN,
    Q_BACKLOG_INSERT,
    Q_BACKLOG_UPDATE,
    Q_BACKLOG_DELETE,
    Q_BACKLOG_DELETE_RUN,
    Q_UNIQUE_TAKE,
    Q_UNIQUE_OWNER,
    Q_UNIQUE_GIVE,
    Q_UNIQUE_DROP,
    Q_UNIQUE_EXPIRED,
    Q_UNIQUE_PRUNE,
    Q_TYPE_INSERT,
    Q_HISTORY_INSERT, /* likewise */
    Q_HISTORY_INSERT_SOME,
    Q_HISTORY_INSERT_MANY,
    Q_HISTORY_PRUNE,
    Q_HISTORY_AGED,
    Q_HISTORY_LAST,
    Q_PROGRESS_SET,
    Q_PROGRESS_GET,
    Q_PROGRESS_DROP,
    Q_PROGRESS_STRAY,
    Q_KEPT_ANY,
    Q_ERROR_INSERT,
    Q_ERROR_CUT,
    Q_ERROR_HAS,
    Q_ERROR_LIST,
    Q_ERROR_DROP,
    Q_ERROR_PRUNE,
    Q_INBOX_LIST,
    Q_INBOX_DELETE,
    Q_INBOX_REFUSE,
    Q_SEARCH_LANES,
    Q_SEARCH_EXPIRED,
    Q_SEARCH,
    Q_LOAD,
    Q_TYPES,
    Q_IDS_RESERVE,
    Q_IDS_RETURN,
    Q_CHARGE_JOB,
    Q_CHARGE_BACKLOG,
    Q_RECOVER_SCAN,
    Q_RECOVER_MOVE,
    Q_RECOVER_SALVAGE,
    Q_RECOVER_CLEAR,
    Q_UNFINISHED,
    Q_MEND_TYPE,
    Q_MEND_PLACE,
    Q_MEND_UNKNOWN,
    Q_HISTORY_BOUNDS,
    Q_META_GET,
    Q_META_SET,
    STATEMENTS
};

/* What is left to do about a damaged file; nothing of it happens by itself. */
#define STORE_RECIPE                                                                     \
    "; stop, copy the file and its -wal, then: sqlite3 COPY .recover | sqlite3 NEW"

/* Bytes to which a log that was greater is cut when it begins anew. */
#define STORE_LOG_LIMIT "67108864"

/* How long W waits for a lock that somebody else holds. */
enum {
    OPEN_PATIENCE_MS = 10000, /* at open and at the end, which are not tried again */
    APPLY_PATIENCE_MS = 100   /* the journal tries again, and knows when to give up */
};

/* SOME: of what one commit brings when publishers wait for it. */
enum { SOME_ROWS = 8, MANY_ROWS = 32 };

/* Parameters of Q_JOB_INSERT and Q_HISTORY_INSERT: one row of their longer forms. */
enum { JOB_PARAMS = 12, EXT_PARAMS = 12, HISTORY_PARAMS = 15 };

struct file_identity {
    bool there;
    dev_t device;
    ino_t inode;
};

struct sqlite_store {
    struct store base;
    sqlite3 *w, *c;
    sqlite3_stmt *q[STATEMENTS];
    struct bound
        *bound[STATEMENTS]; /* of those that run for many rows of a batch; or NULL */
    char *path;             /* absolute */
    struct file_identity file, log; /* as they were opened */
    uint64_t history_keep;
    int64_t history_max_age_ms; /* 0: for ever */
    size_t max_body;            /* of what INBOX may bring; 0: no bound */
    uint64_t log_hard;          /* bytes of log beyond which nothing is inserted */
    /* seq of the oldest and the newest row of the history; last < first: it has none */
    int64_t history_first, history_last;
    int sync;      /* enum store_sync W is set to; -1: not known */
    bool logged;   /* the last commit had something to write */
    bool unsynced; /* something was committed that no sync has covered */
    bool dead;     /* the file cannot be trusted any more: nothing is written, for ever */
    int dead_err;  /* of every later call: ESTORE, ECORRUPT */
    struct bgmq_error why_dead;

    /* waiting for a lock that somebody else holds */
    unsigned patience_ms;
    int64_t give_up_ns;
    uint32_t jitter;
    _Atomic uint32_t *wanted; /* +1 each time the lock is found taken; may be NULL */

    /* check-points */
    uint32_t page_size;
    int wal_pages;             /* in the log after the last commit */
    int checkpoint_at;         /* pages that make the next one worth its while */
    bool log_used;             /* something may be in the log that is not in the file */
    struct store_check *check; /* of a file too great to be checked before; or NULL */
    bool stranger; /* somebody else check-points: the log began anew too early */
    bool stranger_told;
    int log_held; /* 1 + the place in it where a reader was met; 0: none was */

    /* room for one batch; see store_batch.h */
    struct batch_room *room;
    size_t room_ops;
    char meta[META_MAX]; /* of one row, packed, until the next is read */
    char *saved;         /* a cursor and a text as they are written; see store_kept.c */
    size_t saved_size;
};

static inline struct params store_params(const struct sqlite_store *s, enum statement q)
{
    return (struct params){.q = s->q[q], .bound = s->bound[q]};
}

/* Prepares S->q.  SQLITE_OK or a code. */
int bgmqi_store_statement_prepare(struct sqlite_store *s);

/* ---- transactions ------------------------------------------------------------------ */

enum stage { STAGE_BEGIN, STAGE_BODY, STAGE_COMMIT };

/* Runs a statement that returns no row, and resets it.  SQLITE_OK or an extended code. */
int bgmqi_store_sqlite_run(struct sqlite_store *s, enum statement q);
/* A transaction that takes the write lock at once, with SYNC in force. */
int bgmqi_store_sqlite_begin(struct sqlite_store *s, enum store_sync sync);
/* After a commit with STORE_SYNC_FULL all that was committed before is synced, too. */
int bgmqi_store_sqlite_commit(struct sqlite_store *s);
/* Whether the disk only lacked room for a write of DB's that SQLite calls an I/O error RC.  W
 * writes the log only (LOG), C the file only. */
bool bgmqi_store_sqlite_no_room(sqlite3 *db, int rc, bool log);
/* True: RC is for want of memory. */
bool bgmqi_store_sqlite_no_memory(int rc);
/* Rolls back whatever is open after RC came at STAGE, and says how bad it is: an enum
 * store_failure, never NONE.  DEAD sticks to S.  TEXT may be NULL. */
int bgmqi_store_sqlite_fail(struct sqlite_store *s, int rc, enum stage stage,
                            struct bgmq_error *text);
/* The negative enum bgmq_err of an enum store_failure. */
int bgmqi_store_sqlite_err(const struct sqlite_store *s, int failure);
/* Both, of a transaction without which there is no store: ENOMEM, even if it is dead now. */
int bgmqi_store_sqlite_failed(struct sqlite_store *s, int rc, enum stage stage);
/* The negative enum bgmq_err of RC, a code of SQLite that a connection of one call's own came upon;
 * 0 for OK and DONE.  Changes nothing. */
int bgmqi_store_sqlite_code(int rc);
/* A check-point by C ended with RC, not OK: the error to return.  After a failed sync the
 * next one may succeed without the data, so that is the end. */
int bgmqi_store_sqlite_checkpoint_failed(struct sqlite_store *s, int rc);
/* The file is damaged, WHY says where: S is dead. */
void bgmqi_store_sqlite_damaged(struct sqlite_store *s, const char *why);
/* A read on W ended with RC, not OK: the error to return. */
int bgmqi_store_sqlite_read_failed(struct sqlite_store *s, int rc);

/* Sets S->history_first and _last to what is there.  SQLITE_OK or a code. */
int bgmqi_store_prune_look(struct sqlite_store *s);
/* Deletes the rows FIRST .. LAST of the history, and the errors they alone kept. */
int bgmqi_store_prune_history(struct sqlite_store *s, int64_t first, int64_t last);

/* ---- the functions of the table ---------------------------------------------------- */

int bgmqi_store_write_apply(struct store *store, struct store_op *ops, size_t n,
                            enum store_sync sync, struct bgmq_error *text);
int bgmqi_store_load_rows(struct store *store, uint32_t type, enum lane lane, int64_t key,
                          uint64_t seq, size_t limit, size_t max_bytes, store_row_fn *fn,
                          void *ctx);
int bgmqi_store_load_types(struct store *store, store_type_fn *fn, void *ctx);
int bgmqi_store_recover_all(struct store *store, const struct store_boot *boot,
                            struct store_booted *ret);
int bgmqi_store_upkeep_reserve_ids(struct store *store, uint64_t n, uint64_t *first);
int bgmqi_store_upkeep_leave(struct store *store, uint64_t next);
int bgmqi_store_upkeep_checkpoint(struct store *store, int force);
int bgmqi_store_upkeep_look(struct store *store, struct bgmq_error *text);
uint64_t bgmqi_store_upkeep_log_bytes(struct store *store);
bool bgmqi_store_upkeep_checks(struct store *store);
int bgmqi_store_search_rows(struct store *store, const struct store_search *what,
                            store_row_fn *fn, void *ctx);
int bgmqi_store_search_ended(struct store *store, uint64_t id, store_ended_fn *fn,
                             void *ctx);
int bgmqi_store_search_errors(struct store *store, uint64_t id, store_error_fn *fn,
                              void *ctx);
int bgmqi_store_inbox_rows(struct store *store, uint64_t after, size_t limit,
                           store_inbox_fn *fn, void *ctx);
int bgmqi_store_prune_upkeep(struct store *store, int64_t now_ms);
int bgmqi_store_purge(struct store *store);
/* Begins to count the pages of the log. */
void bgmqi_store_upkeep_begin(struct sqlite_store *s);

#endif
