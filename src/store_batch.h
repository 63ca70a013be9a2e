/* store_batch.h - the batch that is being written, and the rows of it that are gathered. */
#ifndef BGMQI_STORE_BATCH_H
#define BGMQI_STORE_BATCH_H

#include "store_sqlite.h"

/* Not a code of SQLite: a run found fewer rows than it has ids. */
enum { NOT_ALL_THERE = -1 };

enum batch_table { JOB, BACKLOG };

struct duplicate {
    size_t op;
    uint64_t owner;
};

/* Memory for a batch of room_ops ops; kept from batch to batch. */
struct batch_room {
    struct duplicate *duplicates;
    uint64_t *deletes[2]; /* by enum batch_table */
};

/* For store_batch.c and store_write.c. */
struct batch {
    struct sqlite_store *s;
    struct store_op *ops;
    size_t n, at; /* AT: the op at work */
    bool gather;  /* false: one op at a time, for an exact result */
    size_t n_inserts, n_history, n_duplicates, n_deletes[2];
    bool unsorted[2];
    const struct store_op *inserts[MANY_ROWS], *history[MANY_ROWS];
    int64_t history_first, history_last; /* of S, once this batch is committed */
};

/* Room for N ops in S->room; false: out of memory. */
bool bgmqi_store_batch_make_room(struct sqlite_store *s, size_t n);
void bgmqi_store_batch_free_room(struct sqlite_store *s);

/* Each SQLITE_OK, a code of SQLite, or NOT_ALL_THERE. */
int bgmqi_store_batch_insert(struct batch *b, const struct store_op *op);
int bgmqi_store_batch_delete(struct batch *b, const struct store_op *op,
                             enum batch_table table);
/* Nothing when the op asks for no history. */
int bgmqi_store_batch_history(struct batch *b, const struct store_op *op);
/* Writes what is gathered: rows of JOB and BACKLOG, and rows of the history, which nothing in
 * a batch reads. */
int bgmqi_store_batch_flush(struct batch *b);
int bgmqi_store_batch_flush_history(struct batch *b);
/* store_keys.c.  Takes the key of OP, or sets OP->result to EEXIST: somebody else has it. */
int bgmqi_store_keys_take(struct batch *b, struct store_op *op);
/* At the message's death or end: gives up the key, unless its scope holds it longer. */
int bgmqi_store_keys_drop_dead(struct batch *b, const struct store_op *op);
int bgmqi_store_keys_drop_ended(struct batch *b, const struct store_op *op);
int bgmqi_store_keys_drop(struct batch *b, const struct store_op *op);
/* Lends the key of OP's message, or NULL. */
const char *bgmqi_store_keys_of(const struct store_op *op);

/* store_kept.c.  Writes the progress as it is now. */
int bgmqi_store_kept_progress(struct batch *b, const struct store_op *op);
/* Notes OP's failure, as that of an attempt. */
int bgmqi_store_kept_error(struct batch *b, const struct store_op *op);
/* At the end: progress goes, and errors that no row of the history names. */
int bgmqi_store_kept_drop(struct batch *b, const struct store_op *op);

/* Deletes the oldest rows of the history beyond what is kept, not many more than came. */
int bgmqi_store_batch_prune(struct batch *b);

#endif
