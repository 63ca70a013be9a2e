/* store_tables.c - every table, index and view of ours, how older ones become today's, and
 * whether they are still what was made.
 *
 * Called by store_schema.c, on the thread that opens the service.  The texts are compared with
 * those in the database, so that each has to read as SQLite keeps it: a migration adds columns
 * at the end of the others, and the text of a new table has them there, too.  A text that has
 * been released must never be changed but together with a migration. */
#include "store_tables.h"

#include <stdbool.h>
#include <string.h>

#include "err.h"

/* What bgmq_job and bgmq_backlog have in common, in the order of version 1 and behind it. */
#define MESSAGE                                                                          \
    " priority INTEGER NOT NULL,"                                                        \
    " attempt INTEGER NOT NULL,"      /* starts that count */                            \
    " max_attempts INTEGER NOT NULL," /* 0: the type's */                                \
    " run INTEGER NOT NULL,"          /* starts in all lives */                          \
    " crashes INTEGER NOT NULL,"      /* starts that ended with the process */           \
    " flags INTEGER NOT NULL,"                                                           \
    " created INTEGER NOT NULL,"
#define MESSAGE_EXT                                                                      \
    " reply_to TEXT, reply_id INTEGER, tag TEXT, traceparent TEXT, unique_key TEXT,"     \
    " body_type TEXT, meta TEXT," /* a JSON object of strings */                         \
    " crc INTEGER NOT NULL,"      /* CRC-32C of body */                                  \
    " body BLOB NOT NULL,"                                                               \
    " channel TEXT, expires INTEGER, timeout INTEGER,"                                   \
    " unique_scope INTEGER, unique_until INTEGER) STRICT"

/* For people: a time, a type by its name. */
#define TIME(column) "strftime('%Y-%m-%dT%H:%M:%fZ', " column " / 1000.0, 'unixepoch')"
#define NAME_OF(table)                                                                   \
    "coalesce((SELECT name FROM bgmq_type WHERE id = " table                             \
    ".type), 'unknown.' || " table ".type)"
#define MESSAGE_VIEW(table, state, due, error)                                           \
    "SELECT m.id AS id, " NAME_OF(                                                       \
        "m") " AS type, " state " AS state,"                                             \
             " m.priority AS priority, m.attempt AS attempt, " TIME(                     \
                 "m.created") " AS created, " due                                        \
                              " AS due, " TIME(                                          \
                                  "m.expires") " AS expires, " error ", m.tag AS tag,"   \
                                               " m.unique_key AS unique_key, "           \
                                               "length(m.body) AS body_length,"          \
                                               " p.number AS progress, p.text AS "       \
                                               "progress_text"                           \
                                               " FROM " table                            \
                                               " m LEFT JOIN bgmq_progress p ON p.id = " \
                                               "m.id"
#define FAILED "m.error_code AS error_code, m.error_text AS error_text"

enum { TABLE, INDEX, VIEW };
static const char *const kinds[] = {"table", "index", "view"};

/* Times are milliseconds since 1970 UTC.  A message is in bgmq_job while it is in the
 * memory of the process that owns the file, and in bgmq_backlog while it waits in the
 * file only, is delayed, or dead; at open everything in bgmq_job moves to bgmq_backlog.
 * Whoever is not the owner writes to bgmq_inbox alone, and reads the views. */
static const struct object {
    int kind, since; /* the version that made it */
    const char *name, *sql;
} objects[] = {
    {TABLE, 1, "bgmq_meta",
     "CREATE TABLE bgmq_meta("
     " key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID"},
    {TABLE, 1, "bgmq_type", /* a channel of a type: type@channel */
     "CREATE TABLE bgmq_type("
     " id INTEGER PRIMARY KEY,"
     " name TEXT NOT NULL UNIQUE) STRICT"},
    {TABLE, 1, "bgmq_job",
     "CREATE TABLE bgmq_job("
     " id INTEGER PRIMARY KEY,"
     " type INTEGER NOT NULL," /* bgmq_type.id */
     " seq INTEGER NOT NULL," /* order of acceptance */ MESSAGE MESSAGE_EXT},
    {TABLE, 1, "bgmq_backlog",
     "CREATE TABLE bgmq_backlog("
     " id INTEGER PRIMARY KEY,"
     " type INTEGER NOT NULL,"
     " lane INTEGER NOT NULL," /* 0 inq, 1 priorityq, 2 delayed, 3 dlq */
     " key INTEGER NOT NULL,"  /* 0, -priority, time when due, 0 */
     " seq INTEGER NOT NULL," MESSAGE " error_code TEXT, error_text TEXT, error_at "
     "INTEGER," /* of the last failed attempt */
     MESSAGE_EXT},
    {INDEX, 1, "bgmq_backlog_order",
     "CREATE INDEX bgmq_backlog_order ON bgmq_backlog(type, lane, key, seq)"},
    {TABLE, 1, "bgmq_unique",
     "CREATE TABLE bgmq_unique("
     " type INTEGER NOT NULL,"
     " key TEXT NOT NULL,"
     " id INTEGER NOT NULL,"              /* the message that took the key last */
     " scope INTEGER NOT NULL DEFAULT 0," /* enum bgmq_unique */
     " until INTEGER,"                    /* with a period: its end */
     " PRIMARY KEY(type, key)) STRICT, WITHOUT ROWID"},
    {TABLE, 1, "bgmq_history",
     "CREATE TABLE bgmq_history("
     " seq INTEGER PRIMARY KEY," /* order of ending */
     " id INTEGER NOT NULL,"
     " type INTEGER NOT NULL,"
     " outcome TEXT NOT NULL," /* done, dead, discarded */
     " priority INTEGER NOT NULL,"
     " attempts INTEGER NOT NULL,"
     " created INTEGER NOT NULL,"
     " finished INTEGER NOT NULL,"
     " error_code TEXT, error_text TEXT,"
     " started INTEGER," /* of the last attempt */
     " crashes INTEGER, tag TEXT, unique_key TEXT, result BLOB, body BLOB) STRICT"},
    {INDEX, 2, "bgmq_history_id", "CREATE INDEX bgmq_history_id ON bgmq_history(id)"},
    {INDEX, 2, "bgmq_backlog_expires",
     "CREATE INDEX bgmq_backlog_expires ON bgmq_backlog(type, expires)"
     " WHERE expires IS NOT NULL"},
    {INDEX, 2, "bgmq_unique_until",
     "CREATE INDEX bgmq_unique_until ON bgmq_unique(until) WHERE until IS NOT NULL"},
    {TABLE, 2, "bgmq_progress", /* what handlers keep between attempts */
     "CREATE TABLE bgmq_progress("
     " id INTEGER PRIMARY KEY, cursor BLOB, number INTEGER, text TEXT) STRICT"},
    {TABLE, 2,
     "bgmq_error", /* each failed attempt of a message; run numbers the starts */
     "CREATE TABLE bgmq_error("
     " id INTEGER NOT NULL, run INTEGER NOT NULL, attempt INTEGER NOT NULL,"
     " at INTEGER NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL,"
     " PRIMARY KEY(id, run)) STRICT, WITHOUT ROWID"},
    {TABLE, 2,
     "bgmq_inbox", /* of other processes, and of plain SQL: the owner takes over */
     "CREATE TABLE bgmq_inbox("
     " id INTEGER PRIMARY KEY AUTOINCREMENT,"
     " type TEXT NOT NULL CHECK(length(type) BETWEEN 1 AND 200"
     "  AND type NOT GLOB '*[^A-Za-z0-9_.-]*'),"
     " body ANY NOT NULL CHECK(typeof(body) IN ('blob', 'text')),"
     " priority INTEGER NOT NULL DEFAULT 0 CHECK(priority BETWEEN 0 AND 32767),"
     " run_at INTEGER," /* milliseconds since 1970; NULL: at once */
     " expires INTEGER, unique_key TEXT, unique_scope INTEGER NOT NULL DEFAULT 0"
     "  CHECK(unique_scope BETWEEN 0 AND 3), unique_period INTEGER,"
     " reply_to TEXT, reply_id INTEGER, tag TEXT, traceparent TEXT,"
     " meta TEXT, channel TEXT,"
     " max_attempts INTEGER NOT NULL DEFAULT 0 CHECK(max_attempts BETWEEN 0 AND 1000),"
     " timeout INTEGER CHECK(timeout IS NULL OR timeout >= 0),"
     " created INTEGER NOT NULL DEFAULT"
     "  (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),"
     " refused TEXT) STRICT"}, /* why the owner could not take it over */
    {VIEW, 2, "bgmq_messages",
     "CREATE VIEW bgmq_messages AS " MESSAGE_VIEW(
         "bgmq_job", "'waiting'", "NULL",
         "NULL AS error_code, NULL AS error_text") " UNION ALL " MESSAGE_VIEW("bgmq_"
                                                                              "backlo"
                                                                              "g",
                                                                              "CASE "
                                                                              "m.lane "
                                                                              "WHEN 2 "
                                                                              "THEN "
                                                                              "'delaye"
                                                                              "d' "
                                                                              "WHEN 3 "
                                                                              "THEN "
                                                                              "'dead' "
                                                                              "ELSE "
                                                                              "'waitin"
                                                                              "g' END",
                                                                              "CASE "
                                                                              "m.lane "
                                                                              "WHEN 2 "
                                                                              "THEN"
                                                                              " " TIME(
                                                                                  "m."
                                                                                  "ke"
                                                                                  "y") " "
                                                                                       "E"
                                                                                       "N"
                                                                                       "D",
                                                                              FAILED)},
    {VIEW, 2, "bgmq_dead",
     "CREATE VIEW bgmq_dead AS SELECT m.id AS id, " NAME_OF(
         "m") " AS type,"
              " m.priority AS priority, m.attempt AS attempt, " TIME(
                  "m.created") " AS created, " TIME("m.error_at") " AS failed, " FAILED
                                                                  ", m.tag AS tag, "
                                                                  "m.unique_key AS "
                                                                  "unique_key,"
                                                                  " length(m.body) AS "
                                                                  "body_length FROM "
                                                                  "bgmq_backlog m WHERE "
                                                                  "m.lane = 3"},
    {VIEW, 2, "bgmq_finished",
     "CREATE VIEW bgmq_finished AS SELECT m.seq AS seq, m.id AS id, " NAME_OF(
         "m") " AS type,"
              " m.outcome AS outcome, m.priority AS priority, m.attempts AS attempts,"
              " m.crashes AS crashes, " TIME("m.created") " AS created, " TIME(
                  "m.started") " AS started, " TIME("m.finished") " AS finished, " FAILED
                                                                  ", m.tag AS tag, "
                                                                  "m.unique_key AS "
                                                                  "unique_key, m.result "
                                                                  "AS result, m.body AS "
                                                                  "body"
                                                                  " FROM bgmq_history m"},
    {VIEW, 2, "bgmq_status",
     "CREATE VIEW bgmq_status AS SELECT type, sum(w) AS waiting, sum(d) AS delayed,"
     " sum(x) AS dead, sum(i) AS inbox, sum(r) AS refused FROM ("
     "SELECT name AS type, 0 AS w, 0 AS d, 0 AS x, 0 AS i, 0 AS r FROM bgmq_type"
     " UNION ALL SELECT " NAME_OF(
         "m") ", count(*), 0, 0, 0, 0 FROM bgmq_job m"
              " GROUP BY m.type"
              " UNION ALL SELECT " NAME_OF(
                  "m") ", sum(m.lane < 2), sum(m.lane = 2),"
                       " sum(m.lane = 3), 0, 0 FROM bgmq_backlog m GROUP BY m.type"
                       " UNION ALL SELECT m.type || coalesce('@' || m.channel, ''), 0, "
                       "0, 0,"
                       " sum(m.refused IS NULL), sum(m.refused IS NOT NULL) FROM "
                       "bgmq_inbox m GROUP BY 1"
                       ") GROUP BY type"},
};
enum { OBJECTS = sizeof(objects) / sizeof(objects[0]) };

/* Columns that version 2 added, in the order of the texts above. */
static const char second[] =
    "ALTER TABLE main.bgmq_job ADD COLUMN channel TEXT;"
    "ALTER TABLE main.bgmq_job ADD COLUMN expires INTEGER;"
    "ALTER TABLE main.bgmq_job ADD COLUMN timeout INTEGER;"
    "ALTER TABLE main.bgmq_job ADD COLUMN unique_scope INTEGER;"
    "ALTER TABLE main.bgmq_job ADD COLUMN unique_until INTEGER;"
    "ALTER TABLE main.bgmq_backlog ADD COLUMN channel TEXT;"
    "ALTER TABLE main.bgmq_backlog ADD COLUMN expires INTEGER;"
    "ALTER TABLE main.bgmq_backlog ADD COLUMN timeout INTEGER;"
    "ALTER TABLE main.bgmq_backlog ADD COLUMN unique_scope INTEGER;"
    "ALTER TABLE main.bgmq_backlog ADD COLUMN unique_until INTEGER;"
    "ALTER TABLE main.bgmq_unique ADD COLUMN scope INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE main.bgmq_unique ADD COLUMN until INTEGER;"
    "ALTER TABLE main.bgmq_history ADD COLUMN started INTEGER;"
    "ALTER TABLE main.bgmq_history ADD COLUMN crashes INTEGER;"
    "ALTER TABLE main.bgmq_history ADD COLUMN tag TEXT;"
    "ALTER TABLE main.bgmq_history ADD COLUMN unique_key TEXT;"
    "ALTER TABLE main.bgmq_history ADD COLUMN result BLOB;"
    "ALTER TABLE main.bgmq_history ADD COLUMN body BLOB;";

/* Ids of the inbox begin at 2^52, where the owner's never come. */
static const char first_rows[] =
    "INSERT INTO main.bgmq_meta(key, value) VALUES('schema', 2), ('next_id', 1);";
static const char inbox_ids[] =
    "INSERT INTO main.sqlite_sequence(name, seq) VALUES('bgmq_inbox', 4503599627370495);";

/* ---- making ------------------------------------------------------------------------ */

static int make_since(sqlite3 *db, int since)
{
    int rc = SQLITE_OK;
    for (int i = 0; i < OBJECTS && rc == SQLITE_OK; i++)
        if (objects[i].since >= since)
            rc = sqlite3_exec(db, objects[i].sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, inbox_ids, NULL, NULL, NULL);
    return rc;
}

int bgmqi_store_tables_make(sqlite3 *db)
{
    int rc = make_since(db, 1);
    return rc == SQLITE_OK ? sqlite3_exec(db, first_rows, NULL, NULL, NULL) : rc;
}

int bgmqi_store_tables_migrate(sqlite3 *db, int64_t from)
{
    if (from >= SCHEMA_VERSION)
        return SQLITE_OK;
    int rc = sqlite3_exec(db, second, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = make_since(db, 2);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, "UPDATE main.bgmq_meta SET value = 2 WHERE key = 'schema'",
                          NULL, NULL, NULL);
    return rc;
}

/* ---- the look at what is there ----------------------------------------------------- */

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t\r\n");
}

/* The same text but for blanks: SQLite and its tools set them as they like. */
static bool same_text(const char *a, const char *b)
{
    for (;; a++, b++) {
        a = skip_blanks(a);
        b = skip_blanks(b);
        if (*a != *b)
            return false;
        if (*a == '\0')
            return true;
    }
}

/* The number of what is NAME; OBJECTS: nothing of ours. */
static int find(const char *name)
{
    int i = 0;
    while (i < OBJECTS && sqlite3_stricmp(objects[i].name, name) != 0)
        i++;
    return i;
}

/* What is wrong with a row of sqlite_schema, or NULL; what it is of ours goes to FOUND. */
static const char *look_at(sqlite3_stmt *q, bool found[OBJECTS])
{
    const char *kind = (const char *)sqlite3_column_text(q, 0);
    const char *name = (const char *)sqlite3_column_text(q, 1);
    const char *table = (const char *)sqlite3_column_text(q, 2);
    const char *sql = (const char *)sqlite3_column_text(q, 3);
    if (!kind || !name || !table)
        return "is not readable";
    int i = find(name);
    if (i == OBJECTS) {
        if (find(table) == OBJECTS)
            return NULL; /* others' */
        return sql ? "was added to a table of ours"
                   : NULL; /* the index of a PRIMARY KEY */
    }
    found[i] = true;
    if (strcmp(kind, kinds[objects[i].kind]) != 0)
        return "is not of the kind it has to be";
    return sql && same_text(sql, objects[i].sql) ? NULL
                                                 : "is not as this library made it";
}

static int missing(const bool found[OBJECTS], const char *path, struct bgmq_error *error)
{
    for (int i = 0; i < OBJECTS; i++)
        if (!found[i])
            return bgmqi_err_set(error, BGMQ_ESCHEMA,
                                 "%s: its tables: the %s %s is missing", path,
                                 kinds[objects[i].kind], objects[i].name);
    return 0;
}

int bgmqi_store_tables_check(sqlite3 *db, const char *path, struct bgmq_error *error)
{
    bool found[OBJECTS] = {false};
    sqlite3_stmt *q = NULL;
    int err = 0;
    int rc = sqlite3_prepare_v2(
        db, "SELECT type, name, tbl_name, sql FROM main.sqlite_schema", -1, &q, NULL);
    while (rc == SQLITE_OK && err == 0 && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *wrong = look_at(q, found);
        if (wrong)
            err = bgmqi_err_set(error, BGMQ_ESCHEMA, "%s: its tables: the %s %s %s", path,
                                (const char *)sqlite3_column_text(q, 0),
                                (const char *)sqlite3_column_text(q, 1), wrong);
        rc = SQLITE_OK;
    }
    bool no_memory = sqlite3_errcode(db) == SQLITE_NOMEM;
    sqlite3_finalize(q);
    if (no_memory || (rc & 0xff) == SQLITE_NOMEM)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "%s: looking at its tables: no memory",
                             path);
    if (err == 0 && rc != SQLITE_DONE)
        return bgmqi_err_set(
            error, (rc & 0xff) == SQLITE_CORRUPT ? BGMQ_ECORRUPT : BGMQ_EOPEN,
            "%s: looking at its tables: %s (%d)", path, sqlite3_errstr(rc), rc);
    return err ? err : missing(found, path, error);
}
