/* bgmq_sqlite.h - bgmq and SQLite transactions of the application; other processes.
 *
 * DB is a connection of the application's own to the very file the service has as its database,
 * in the owning process.  All functions here run on the thread that uses DB, and return what
 * SQLite said at once, without a retry: EBUSY (also a snapshot that is too old: begin anew),
 * EFULL, ESTORE.  After a failure of a function that writes, roll back.
 *
 * One SQLite in the process: DB must come from the very SQLite library that this one is linked to.
 * A second copy (a static one beside the system's, say) cannot use DB, and the two would drop
 * each other's locks on the file, which loses data. */
#ifndef BGMQ_SQLITE_H
#define BGMQ_SQLITE_H

#include "bgmq.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3;

/* ---- publishing in the application's transaction ----------------------------------- */

/* Makes DB ready: after it, plain SQL on DB, INSERT INTO bgmq_inbox(type, body, ...), wakes the
 * workers at the commit, too.  Turns DB's automatic check-points off where the SQLite in use loses
 * data by them (to 3.51.2), and keeps its cache from spilling likewise (to 3.50.1), so that a
 * transaction has to fit into memory; says so in the log.  With the option erase DB overwrites what
 * it deletes (secure_delete), also what is yours.  A wal_hook of your own stays, and must
 * not check-point there.  Takes none of DB's hooks.  Once for each connection; harmless when
 * repeated.  Must not be called in a transaction: EINVAL.  Close DB when you like.  EOTHERFILE;
 * EREADONLY. */
BGMQ_API int bgmq_sqlite_prepare(struct bgmq *mq, struct sqlite3 *db);

/* Publishes within the transaction that is open on DB (none: EINVAL): the message exists exactly
 * if that commits, and if the savepoint around the call is not rolled back; workers get it from
 * the commit itself.  Its durability is that of the commit.  Never waits.  Otherwise like
 * bgmq_publish; BGMQ_CONFLICT_REPLACE is EINVAL.  Connects DB when nobody has; plain SQL
 * into bgmq_inbox needs bgmq_sqlite_prepare all the same.  EOTHERFILE; EREADONLY; EBUSY; EFULL;
 * EEXIST. */
BGMQ_API int bgmq_publish_tx(struct bgmq *mq, struct sqlite3 *db, const char *type,
                             const void *body, size_t len,
                             const struct bgmq_message_options *options,
                             struct bgmq_receipt *receipt);

/* ---- the handler's transaction ----------------------------------------------------- */

/* Ends this attempt as done within the transaction open on DB: what the handler did in it, the
 * end of the message, its cursor and what it published with bgmq_publish_tx commit together or not
 * at all.  After the commit the handler's verdict is not looked at.  After a rollback it counts as
 * if this had not been called.  ELOST: the attempt is not ours any more; roll back.
 * Twice: ELOST. */
BGMQ_API int bgmq_job_complete_tx(struct bgmq_job *job, struct sqlite3 *db);
/* Likewise ends it as failed: BGMQ_RETRY (with the type's back-off, dead when the attempts are used
 * up) or BGMQ_PERMANENT, with code and text as bgmq_job_fail. */
BGMQ_API int bgmq_job_fail_tx(struct bgmq_job *job, struct sqlite3 *db,
                              enum bgmq_verdict verdict, const char *code,
                              const char *text);
/* Saves the cursor within the transaction; memory knows it after the commit. */
BGMQ_API int bgmq_job_save_cursor_tx(struct bgmq_job *job, struct sqlite3 *db,
                                     const void *bytes, size_t len);

/* What bgmq_job_transaction runs; an enum bgmq_verdict, or an error of ours. */
typedef int bgmq_tx_fn(struct bgmq_job *job, struct sqlite3 *db, void *ctx);
/* BEGIN IMMEDIATE, FN, bgmq_job_complete_tx, COMMIT on DB, which must not be in a transaction.
 * Rolls back when FN returns anything but BGMQ_DONE, when the attempt is not ours any more, or when
 * any step fails.  Returns the verdict for the handler to return: FN's, or BGMQ_RETRY with the
 * error noted.  FN that ends the transaction itself, or leaves another: BGMQ_RETRY, code
 * "Transaction". */
BGMQ_API int bgmq_job_transaction(struct bgmq_job *job, struct sqlite3 *db,
                                  bgmq_tx_fn *fn, void *ctx);

/* ---- other processes --------------------------------------------------------------- */

/* A guest: another process that publishes into a database it does not own, and wakes the owner.
 * Any process may do the same by SQL alone (see README); this is quicker to be noticed.  The owner
 * must have been opened with the option guests. */
struct bgmq_guest;

/* DATABASE must have been made by an owner.  ENOENT: it is not there, or has no tables of ours;
 * errors of bgmq_open. */
BGMQ_API int bgmq_guest_open(struct bgmq_guest **ret, const char *database,
                             struct bgmq_error *error);
/* Publishes: committed and synced (BGMQ_COMMIT in OPTIONS: not synced) when it returns.  Waits up
 * to wait_ms (0: 5000) for the database's lock: EBUSY.  RECEIPT gets the id; whether it was a
 * duplicate is found by the owner.  One thread at a time. */
BGMQ_API int bgmq_guest_publish(struct bgmq_guest *guest, const char *type,
                                const void *body, size_t len,
                                const struct bgmq_message_options *options,
                                struct bgmq_receipt *receipt);
/* *RET gets a text to free(): what the database knows of each type, one line each. */
BGMQ_API int bgmq_guest_status(struct bgmq_guest *guest, char **ret);
/* NULL is allowed. */
BGMQ_API void bgmq_guest_close(struct bgmq_guest *guest);

#ifdef __cplusplus
}
#endif

#endif
