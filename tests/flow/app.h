/* app.h - the application's side: its own connections to the database of the test. */
#ifndef BGMQ_TEST_APP_H
#define BGMQ_TEST_APP_H

#include "flow.h"

#include <bgmq_sqlite.h>
#include <sqlite3.h>

/* Opens a connection to the database of this test, which the service has made, with patience
 * for locks and the table effect(id, n). */
sqlite3 *app_open(void);
/* Likewise, to PATH, with FLAGS of sqlite3_open_v2 and neither. */
sqlite3 *app_open_at(const char *path, int flags);
void app_close(sqlite3 *db);

/* SQL has to succeed; or has to fail with RC, which may be an extended code. */
#define app_sql(db, sql)           app_sql_at((db), (sql), SQLITE_OK, __FILE__, __LINE__)
#define app_sql_fails(db, rc, sql) app_sql_at((db), (sql), (rc), __FILE__, __LINE__)
void app_sql_at(sqlite3 *db, const char *sql, int rc, const char *file, int line);
/* The number that SQL yields. */
long app_number(sqlite3 *db, const char *sql);

/* Publishes the bytes of TEXT in the transaction of DB; has to succeed.  Returns the id. */
uint64_t app_publish(struct bgmq *mq, sqlite3 *db, const char *type, const char *text);
uint64_t app_publish_with(struct bgmq *mq, sqlite3 *db, const char *type,
                          const char *text, struct bgmq_message_options options);

#endif
