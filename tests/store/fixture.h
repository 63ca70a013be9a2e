/* fixture.h - what the tests of the store share: a store on a file of the test, short ways to
 * make changes, and looks into the file past the store. */
#ifndef BGMQ_TEST_STORE_FIXTURE_H
#define BGMQ_TEST_STORE_FIXTURE_H

#include "harness.h"

#include <sqlite3.h>

#include "store.h"

/* ---- a store ------------------------------------------------------------------------- */

/* Lends the path of the database of this test. */
const char *fixture_path(void);
struct store_options fixture_options(void);
/* Opens it, or fails the test. */
struct store *fixture_open(void);
struct store *fixture_open_with(struct store_options options);
void fixture_close(struct store *s);
/* The error of an open that has to fail; what it says is in *ERROR. */
int fixture_open_fails(struct store_options options, struct bgmq_error *error);

/* ---- changes ------------------------------------------------------------------------- */

/* A batch that owns the messages and failures of its ops. */
struct batch_of {
    struct store_op ops[8192];
    size_t n;
};
struct batch_of *batch_new(void);
void batch_free(struct batch_of *b);
/* Adds an op of KIND for message ID of type 1, body "body-ID", seq ID; the caller changes what
 * it wants otherwise.  Good until the next one is added. */
struct store_op *batch_add(struct batch_of *b, enum store_op_kind kind, uint64_t id);
struct store_op *batch_insert(struct batch_of *b, uint64_t id);
struct store_op *batch_spill(struct batch_of *b, uint64_t id, enum lane lane,
                             int64_t key);
/* Gives the message of OP the options of OPTIONS that it carries along. */
void batch_carry(struct store_op *op, const struct bgmq_message_options *options);
void batch_fail(struct store_op *op, const char *code, const char *text, int64_t at_ms);
/* Gives OP a progress; strings may be NULL.  It is freed with the batch. */
struct progress *batch_save(struct store_op *op, const char *cursor, int64_t number,
                            const char *text, const char *result);
/* Applies, fails the test when the store does, and frees the batch. */
void batch_apply(struct store *s, struct batch_of *b);
/* Applies and returns what the store said; the batch is kept. */
int batch_try(struct store *s, struct batch_of *b, enum store_sync sync,
              struct bgmq_error *text);

/* ---- looks --------------------------------------------------------------------------- */

/* What load() brought. */
struct seen {
    struct store_row rows[64]; /* strings and bodies are copies */
    char keys[64][64], tags[64][64], metas[64][64], bodies[64][64], errors[64][64];
    size_t n;
    size_t stop_at; /* not 0: the callback refuses the row of this number */
};
int seen_load(struct store *s, struct seen *seen, enum lane lane, int64_t key,
              uint64_t seq, size_t limit, size_t max_bytes);
/* The ids of all rows of LANE, "1 2 3", to RET. */
const char *seen_ids(struct store *s, enum lane lane, char *ret, size_t size);

/* Recovers as after a death with N in flight, all of them running; the number of unfinished
 * messages, or an error. */
int64_t recover(struct store *s, const uint64_t *ids, const uint32_t *attempts, size_t n);

/* The number that SQL yields on a connection of its own to the file of the test. */
int64_t look(const char *sql);
/* The text that SQL yields, in a buffer that the next look reuses. */
const char *look_text(const char *sql);
/* Runs SQL on the file PATH, as another program would. */
void meddle(const char *path, const char *sql);
/* Rows wherever they are, in a file that is sound, or the test fails. */
void check_sound(void);

#endif
