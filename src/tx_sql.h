/* tx_sql.h - our SQL on a connection of the application's, in the transaction open there. */
#ifndef BGMQI_TX_SQL_H
#define BGMQI_TX_SQL_H

#include "tx_hub.h"

/* 0 when the main database of DB is the file of H, may be written, and is alone in its
 * transaction: EOTHERFILE, EREADONLY. */
int bgmqi_tx_sql_check(struct tx_hub *h, sqlite3 *db);
/* The error of what SQLite said; 0 for SQLITE_OK. */
int bgmqi_tx_sql_err(int rc);

/* All below return what SQLite said, or 0. */

/* Makes sure that the type is known under its number. */
int bgmqi_tx_sql_type(sqlite3 *db, uint32_t number, const char *name);
/* Takes the unique key of OP; *OWNER, not 0: the message that keeps it from us. */
int bgmqi_tx_sql_key(sqlite3 *db, const struct store_op *op, uint64_t *owner);
/* A new row: in JOB, or (BACKLOG) at OP's place there. */
int bgmqi_tx_sql_insert(sqlite3 *db, const struct store_op *op, bool backlog);
/* The row of OP's message goes from whichever table has it; *FOUND: it was there. */
int bgmqi_tx_sql_remove(sqlite3 *db, const struct store_op *op, bool *found);
/* The end of OP's message: its key goes, what it kept, and, when OP says so, it has its row in the
 * history.  For a message in BACKLOG that is dead, the key only if it is not kept then. */
int bgmqi_tx_sql_end(sqlite3 *db, const struct store_op *op);
/* Notes the failure of OP as that of an attempt. */
int bgmqi_tx_sql_error(sqlite3 *db, const struct store_op *op);

#endif
