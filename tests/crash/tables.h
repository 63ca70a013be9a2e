/* tables.h - what a test asks of a database after the last process has ended. */
#ifndef BGMQ_TEST_TABLES_H
#define BGMQ_TEST_TABLES_H

#include <sqlite3.h>

/* Opens the database at PATH, to be read only, or fails the test. */
sqlite3 *tables_open(const char *path);
/* Fails the test unless the first answer to SQL is WANT. */
void tables_expect(sqlite3 *db, const char *sql, const char *want);
/* The first number of the answer. */
long tables_number(sqlite3 *db, const char *sql);
/* Appends a line of LETTER and what SQL answers to the history at PATH, for each row. */
void tables_tell(sqlite3 *db, const char *sql, char letter, const char *path);

#endif
