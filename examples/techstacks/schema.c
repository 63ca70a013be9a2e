/*
 * schema.c - the tables, and the demo data of an empty database.
 *
 * Called by db_open before there is a second thread.  One transaction: a process that
 * dies in it leaves an empty file, and the next start begins again.
 */
#include "schema.h"

#include "say.h"
#include <stddef.h>

enum { SCHEMA_VERSION = 1, APPLICATION_ID = 0x54656368 /* "Tech" */ };

static const char tables[] =
    "CREATE TABLE organization(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  name TEXT NOT NULL UNIQUE, created TEXT NOT NULL) STRICT;"
    "CREATE TABLE user(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,"
    "  email TEXT NOT NULL UNIQUE, is_admin INTEGER NOT NULL,"
    "  created TEXT NOT NULL) STRICT;"
    /* One row a type of post; '*' is every type. */
    "CREATE TABLE subscription(organization_id INTEGER NOT NULL REFERENCES organization,"
    "  user_id INTEGER NOT NULL REFERENCES user, post_type TEXT NOT NULL,"
    "  PRIMARY KEY(organization_id, user_id, post_type)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE post(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  organization_id INTEGER NOT NULL REFERENCES organization,"
    "  user_id INTEGER NOT NULL REFERENCES user, type TEXT NOT NULL, title TEXT NOT NULL,"
    "  content TEXT NOT NULL, created TEXT NOT NULL) STRICT;"
    /* The record of one background job, whatever becomes of its message: pending while
     * completed and failed are both NULL. */
    "CREATE TABLE notification(id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL,"
    "  ref_type TEXT NOT NULL, ref_id INTEGER NOT NULL, ref_urn TEXT NOT NULL,"
    "  created TEXT NOT NULL, email_template_id INTEGER REFERENCES email_template,"
    "  completed TEXT, failed TEXT, error TEXT,"
    "  dead_message INTEGER) STRICT;" /* the message that failed */
    "CREATE INDEX notification_pending ON notification(id)"
    "  WHERE completed IS NULL AND failed IS NULL;"
    /* The mail as it was rendered, once. */
    "CREATE TABLE email_template(id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  notification_id INTEGER NOT NULL UNIQUE REFERENCES notification,"
    "  from_name TEXT NOT NULL, cc_name TEXT NOT NULL, subject TEXT NOT NULL,"
    "  html TEXT NOT NULL, created TEXT NOT NULL) STRICT;"
    /* Who is to get it, as found then, and what became of each. */
    "CREATE TABLE email_recipient("
    "  notification_id INTEGER NOT NULL REFERENCES notification,"
    "  user_id INTEGER NOT NULL REFERENCES user, name TEXT NOT NULL, email TEXT NOT NULL,"
    "  sent_at TEXT, refused_at TEXT, error TEXT,"
    "  PRIMARY KEY(notification_id, user_id)) STRICT, WITHOUT ROWID;";

static const char demo[] =
    "INSERT INTO organization VALUES(1,'Toolmakers','2025-01-01T00:00:00.000Z'),"
    "  (2,'Gardeners','2025-01-01T00:00:00.000Z');"
    "INSERT INTO user VALUES"
    "  (1,'Ada','ada@example.org',1,'2025-01-01T00:00:00.000Z'),"
    "  (2,'Ben','ben@example.org',0,'2025-01-01T00:00:00.000Z'),"
    "  (3,'Cleo','cleo@example.org',0,'2025-01-01T00:00:00.000Z'),"
    "  (4,'Dan','dan@example.org',0,'2025-01-01T00:00:00.000Z'),"
    "  (5,'Zoë','zoe@example.org',0,'2025-01-01T00:00:00.000Z');"
    "INSERT INTO subscription VALUES(1,2,'*'),(1,3,'Announcement'),(1,3,'Question'),"
    "  (1,4,'Announcement'),(1,5,'*'),(2,2,'Question'),(2,5,'*');";

static int number(sqlite3 *sq, const char *sql)
{
    sqlite3_stmt *statement;
    int result = -1;
    if (sqlite3_prepare_v2(sq, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        result = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return result;
}

static int make(sqlite3 *sq)
{
    char stamp[96];
    sqlite3_snprintf(sizeof(stamp), stamp,
                     "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION_ID,
                     SCHEMA_VERSION);
    if (sqlite3_exec(sq, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(sq, tables, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(sq, demo, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(sq, stamp, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(sq, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    say("database: %s", sqlite3_errmsg(sq));
    if (!sqlite3_get_autocommit(sq))
        sqlite3_exec(sq, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

int schema_prepare(sqlite3 *sq)
{
    int application = number(sq, "PRAGMA application_id");
    int version = number(sq, "PRAGMA user_version");
    if (application == APPLICATION_ID && version == SCHEMA_VERSION)
        return 0;
    if (application == 0 && version == 0 &&
        number(sq, "SELECT count(*) FROM sqlite_schema") == 0)
        return make(sq);
    say("database: not one of this version of techstacks");
    return -1;
}
