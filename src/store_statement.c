/* store_statement.c - every statement of the store, and its preparation.
 *
 * Called once, on the thread that opens the service.  It must never build SQL from what comes
 * from outside: the text is constant, values are bound, every table is named with its schema, so
 * that no table of the application can take our place. */
#include "store_sqlite.h"

#include <stdio.h>
#include <stdlib.h>

/* A statement that fails rolls its whole transaction back (OR ROLLBACK, and no statement
 * journal): a partial rollback inside a transaction is what some SQLites get wrong. */
#define JOB_ROW     "(" JOB_VALUES ")"
#define EXT_ROW     EXT_VALUES
#define HISTORY_ROW "(" HISTORY_VALUES ")"
#define ROW_COLUMNS JOB_COLUMNS ", " EXT_COLUMNS ", " PLACE_COLUMNS
#define JOB_INSERT  "INSERT OR ROLLBACK INTO main.bgmq_job(" JOB_COLUMNS ") VALUES" JOB_ROW
#define HISTORY_INSERT                                                                   \
    "INSERT OR ROLLBACK INTO main.bgmq_history(" HISTORY_COLUMNS ") VALUES" HISTORY_ROW

static const char *const texts[STATEMENTS] = {
    [Q_BEGIN] = "BEGIN IMMEDIATE",
    [Q_COMMIT] = "COMMIT",
    [Q_ROLLBACK] = "ROLLBACK",
    [Q_JOB_INSERT] = JOB_INSERT,
    [Q_JOB_INSERT_EXT] =
        "INSERT OR ROLLBACK INTO main.bgmq_job(" JOB_COLUMNS ", " EXT_COLUMNS
        ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?, " EXT_ROW ")",
    [Q_JOB_DELETE] = "DELETE FROM main.bgmq_job WHERE id = ?1",
    [Q_JOB_DELETE_RUN] = "DELETE FROM main.bgmq_job WHERE id BETWEEN ?1 AND ?2",
    [Q_BACKLOG_INSERT] =
        "INSERT OR ROLLBACK INTO main.bgmq_backlog(" JOB_COLUMNS ", " EXT_COLUMNS
        ", " PLACE_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?, " EXT_ROW ", ?,?,?,?,?)",
    [Q_BACKLOG_UPDATE] =
        "UPDATE OR ROLLBACK main.bgmq_backlog SET seq = ?2, attempt = ?3, run = ?4,"
        " crashes = ?5, lane = ?6, key = ?7, error_code = ?8, error_text = ?9,"
        " error_at = ?10, priority = ?11, expires = ?12 WHERE id = ?1",
    [Q_BACKLOG_DELETE] = "DELETE FROM main.bgmq_backlog WHERE id = ?1",
    [Q_BACKLOG_DELETE_RUN] = "DELETE FROM main.bgmq_backlog WHERE id BETWEEN ?1 AND ?2",
    [Q_UNIQUE_TAKE] = "INSERT INTO main.bgmq_unique(type, key, id, scope, until)"
                      " VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    /* The holder, while it may keep the key from others. */
    [Q_UNIQUE_OWNER] = "SELECT u.id FROM main.bgmq_unique u WHERE u.type = ?1 AND u.key "
                       "= ?2 AND"
                       " CASE WHEN u.scope = 3 THEN u.until > ?3"
                       " WHEN EXISTS(SELECT 1 FROM main.bgmq_job j WHERE j.id = u.id) "
                       "THEN 1"
                       " ELSE EXISTS(SELECT 1 FROM main.bgmq_backlog b WHERE b.id = u.id"
                       "  AND (b.lane <> 3 OR u.scope = 2)) END",
    [Q_UNIQUE_GIVE] = "UPDATE OR ROLLBACK main.bgmq_unique SET id = ?3, "
                      "scope = ?4, until = ?5"
                      " WHERE type = ?1 AND key = ?2",
    [Q_UNIQUE_DROP] = "DELETE FROM main.bgmq_unique WHERE type = ?1 AND "
                      "key = ?2 AND id = ?3",
    [Q_UNIQUE_EXPIRED] = "SELECT 1 FROM main.bgmq_unique INDEXED BY bgmq_unique_until"
                         " WHERE until IS NOT NULL AND until <= ?1 LIMIT 1",
    [Q_UNIQUE_PRUNE] = "DELETE FROM main.bgmq_unique WHERE (type, key) IN (SELECT type, "
                       "key"
                       " FROM main.bgmq_unique INDEXED BY bgmq_unique_until"
                       " WHERE until IS NOT NULL AND until <= ?1 LIMIT 1000)",
    /* A transaction of the application's may have been faster, with the same name. */
    [Q_TYPE_INSERT] = "INSERT OR ROLLBACK INTO main.bgmq_type(id, name) VALUES(?1, ?2)"
                      " ON CONFLICT(id) DO NOTHING",
    [Q_HISTORY_INSERT] = HISTORY_INSERT,
    [Q_HISTORY_PRUNE] = "DELETE FROM main.bgmq_history WHERE seq BETWEEN ?1 AND ?2",
    /* The first row of ?1 .. ?2 that is not older than ?3: it stays. */
    [Q_HISTORY_AGED] = "SELECT seq FROM main.bgmq_history WHERE seq BETWEEN ?1 AND ?2"
                       " AND finished >= ?3 ORDER BY seq LIMIT 1",
    [Q_HISTORY_LAST] = "SELECT outcome, attempts, crashes, priority, created, finished, "
                       "started,"
                       " error_code, error_text, result FROM main.bgmq_history"
                       " INDEXED BY bgmq_history_id WHERE id = ?1 ORDER BY seq DESC "
                       "LIMIT 1",
    [Q_PROGRESS_SET] = "INSERT INTO main.bgmq_progress(id, cursor, number, text) "
                       "VALUES(?1, ?2, ?3, ?4)"
                       " ON CONFLICT(id) DO UPDATE SET cursor = excluded.cursor,"
                       " number = excluded.number, text = excluded.text",
    [Q_PROGRESS_GET] = "SELECT cursor, number, text FROM "
                       "main.bgmq_progress WHERE id = ?1",
    [Q_PROGRESS_DROP] = "DELETE FROM main.bgmq_progress WHERE id = ?1",
    [Q_PROGRESS_STRAY] = "DELETE FROM main.bgmq_progress WHERE id NOT IN"
                         " (SELECT id FROM main.bgmq_backlog)",
    [Q_KEPT_ANY] = "SELECT EXISTS(SELECT 1 FROM main.bgmq_progress),"
                   " EXISTS(SELECT 1 FROM main.bgmq_error)",
    [Q_ERROR_INSERT] = "INSERT OR REPLACE INTO main.bgmq_error(id, run, "
                       "attempt, at, code, text)"
                       " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    /* All but the last hundred. */
    [Q_ERROR_CUT] = "DELETE FROM main.bgmq_error WHERE id = ?1 AND run <= (SELECT run"
                    " FROM main.bgmq_error WHERE id = ?1 ORDER BY run DESC LIMIT 1 "
                    "OFFSET 100)",
    [Q_ERROR_HAS] = "SELECT 1 FROM main.bgmq_error WHERE id = ?1 LIMIT 1",
    [Q_ERROR_LIST] = "SELECT attempt, at, code, text FROM main.bgmq_error"
                     " WHERE id = ?1 ORDER BY run",
    [Q_ERROR_DROP] = "DELETE FROM main.bgmq_error WHERE id = ?1 AND NOT EXISTS"
                     " (SELECT 1 FROM main.bgmq_history WHERE id = ?1)",
    /* Of messages that ended, when their last row of the history is one of ?1 .. ?2. */
    [Q_ERROR_PRUNE] = "DELETE FROM main.bgmq_error WHERE id IN (SELECT h.id FROM "
                      "main.bgmq_history "
                      "h"
                      "  WHERE h.seq BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM "
                      "main.bgmq_history "
                      "n"
                      "   WHERE n.id = h.id AND n.seq > ?2))"
                      " AND NOT EXISTS (SELECT 1 FROM main.bgmq_job j WHERE j.id = "
                      "bgmq_error.id)"
                      " AND NOT EXISTS (SELECT 1 FROM main.bgmq_backlog b WHERE b.id = "
                      "bgmq_error.id)",
    [Q_INBOX_LIST] = "SELECT id, type, body, priority, run_at, expires, unique_key, "
                     "unique_scope,"
                     " unique_period, reply_to, reply_id, tag, traceparent, meta, "
                     "channel,"
                     " max_attempts, timeout, created FROM main.bgmq_inbox"
                     " WHERE id > ?1 AND refused IS NULL ORDER BY id LIMIT ?2",
    [Q_INBOX_DELETE] = "DELETE FROM main.bgmq_inbox WHERE id = ?1",
    [Q_INBOX_REFUSE] = "UPDATE OR ROLLBACK main.bgmq_inbox SET refused = "
                       "?2 WHERE id = ?1",
    /* The ids of ?1's rows in the lanes ?2 (bits), or of those that expire by ?2. */
    [Q_SEARCH_LANES] = "SELECT id FROM main.bgmq_backlog INDEXED BY bgmq_backlog_order"
                       " WHERE type = ?1 AND lane IN (0, 1, 2, 3) AND (?2 >> lane) & 1"
                       " AND id > ?3 LIMIT ?4",
    [Q_SEARCH_EXPIRED] =
        "SELECT id FROM main.bgmq_backlog INDEXED BY bgmq_backlog_expires"
        " WHERE type = ?1 AND expires IS NOT NULL AND expires <= ?2"
        " AND id > ?3 LIMIT ?4",
    [Q_SEARCH] = "SELECT " ROW_COLUMNS " FROM main.bgmq_backlog"
                 " WHERE id BETWEEN ?1 AND ?2 AND (?3 = 0 OR type = ?3)"
                 " AND (?4 >> lane) & 1 AND (?5 IS NULL OR tag = ?5)"
                 " AND (?6 IS NULL OR error_code = ?6) AND (?7 = 0 OR "
                 "created < ?7)"
                 " AND (?8 = 0 OR expires <= ?8) ORDER BY id",
    [Q_LOAD] =
        "SELECT " ROW_COLUMNS " FROM main.bgmq_backlog INDEXED BY bgmq_backlog_order"
        " WHERE type = ?1 AND lane = ?2 AND (key, seq) >= (?3, ?4)"
        " ORDER BY key, seq LIMIT ?5",
    [Q_TYPES] = "SELECT id, name,"
                " (SELECT count(*) FROM main.bgmq_backlog WHERE type = "
                "t.id AND lane = 0),"
                " (SELECT count(*) FROM main.bgmq_backlog WHERE type = "
                "t.id AND lane = 1),"
                " (SELECT count(*) FROM main.bgmq_backlog WHERE type = "
                "t.id AND lane = 2),"
                " (SELECT count(*) FROM main.bgmq_backlog WHERE type = "
                "t.id AND lane = 3)"
                " FROM main.bgmq_type t ORDER BY id",
    [Q_IDS_RESERVE] = "UPDATE OR ROLLBACK main.bgmq_meta SET value = value + ?1"
                      " WHERE key = 'next_id' RETURNING value - ?1",
    [Q_IDS_RETURN] = "UPDATE OR ROLLBACK main.bgmq_meta SET value = ?1"
                     " WHERE key = 'next_id' AND value > ?1",
    [Q_CHARGE_JOB] =
        "UPDATE OR ROLLBACK main.bgmq_job SET crashes = min(crashes + ?3, 255),"
        " attempt = max(attempt, ?2), run = max(run, attempt, ?2) WHERE id = ?1",
    [Q_CHARGE_BACKLOG] =
        "UPDATE OR ROLLBACK main.bgmq_backlog SET crashes = min(crashes + ?3, 255),"
        " attempt = max(attempt, ?2), run = max(run, attempt, ?2) WHERE id = ?1 AND"
        " lane <> 3",
    [Q_RECOVER_SCAN] = "SELECT id, length(body) FROM main.bgmq_job ORDER BY id",
    [Q_RECOVER_MOVE] =
        "INSERT OR ROLLBACK INTO main.bgmq_backlog(" JOB_COLUMNS ", " EXT_COLUMNS
        ", lane, key) SELECT " JOB_COLUMNS ", " EXT_COLUMNS ", priority > 0,"
        " CASE WHEN priority > 0 THEN -priority ELSE 0 END"
        " FROM main.bgmq_job WHERE id <= ?1 ORDER BY id",
    /* When a row does not fit, being damaged: each value becomes one of its column's kind, and
     * what had to be changed is handed out as corrupt. */
    [Q_RECOVER_SALVAGE] =
        "INSERT OR IGNORE INTO main.bgmq_backlog(" JOB_COLUMNS ", " EXT_COLUMNS
        ", lane, key) SELECT id, ifnull(CAST(type AS INTEGER), 0), ifnull(CAST(seq AS"
        " INTEGER), 0), ifnull(CAST(priority AS INTEGER), 0), ifnull(CAST(attempt AS"
        " INTEGER), 0), ifnull(CAST(max_attempts AS INTEGER), 0), ifnull(CAST(run AS"
        " INTEGER), 0), ifnull(CAST(crashes AS INTEGER), 0), ifnull(CAST(flags AS"
        " INTEGER), 0), ifnull(CAST(created AS INTEGER), 0), CASE WHEN typeof(body) ="
        " 'blob' AND typeof(type) || typeof(seq) || typeof(priority) ||"
        " typeof(attempt) || typeof(max_attempts) || typeof(run) || typeof(crashes)"
        " || typeof(flags) || typeof(created) ="
        " 'integerintegerintegerintegerintegerintegerintegerintegerinteger' THEN"
        " ifnull(CAST(crc AS INTEGER), 0) ELSE -1 END, CAST(ifnull(body, x'') AS"
        " BLOB), CAST(reply_to AS TEXT), CAST(reply_id AS INTEGER), CAST(tag AS"
        " TEXT), CAST(traceparent AS TEXT), CAST(unique_key AS TEXT), CAST(body_type"
        " AS TEXT), CAST(meta AS TEXT), CAST(channel AS TEXT), CAST(expires AS"
        " INTEGER), CAST(timeout AS INTEGER), CAST(unique_scope AS INTEGER),"
        " CAST(unique_until AS INTEGER), ifnull(CAST(priority AS INTEGER), 0) > 0,"
        " CASE WHEN ifnull(CAST(priority AS INTEGER), 0) > 0 THEN"
        " -ifnull(CAST(priority AS INTEGER), 0) ELSE 0 END FROM main.bgmq_job WHERE"
        " id <= ?1 ORDER BY id",
    [Q_RECOVER_CLEAR] = "DELETE FROM main.bgmq_job WHERE id <= ?1",
    [Q_META_GET] = "SELECT value FROM main.bgmq_meta WHERE key = ?1",
    [Q_META_SET] = "INSERT INTO main.bgmq_meta(key, value) VALUES(?1, ?2)"
                   " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    /* The unfinished, and those whose place is none of ours: both from the index alone. */
    [Q_UNFINISHED] =
        "SELECT count(*) FILTER (WHERE lane <> 3), count(*) FILTER (WHERE seq < 0 OR"
        " lane NOT BETWEEN 0 AND 3 OR type NOT BETWEEN 1 AND 2147483647) FROM"
        " main.bgmq_backlog INDEXED BY bgmq_backlog_order",
    [Q_MEND_TYPE] =
        "UPDATE OR ROLLBACK main.bgmq_backlog SET type = 2147483647 WHERE type NOT"
        " BETWEEN 1 AND 2147483647",
    [Q_MEND_PLACE] =
        "UPDATE OR ROLLBACK main.bgmq_backlog SET lane = 3, key = 0, seq = max(seq,"
        " 0), error_code = 'corrupt', error_text = 'it was in lane ' || lane || ', at"
        " ' || seq, error_at = ?1 WHERE seq < 0 OR lane NOT BETWEEN 0 AND 3",
    /* From one number to the next, by the index. */
    [Q_MEND_UNKNOWN] =
        "WITH RECURSIVE number(n) AS (SELECT min(type) FROM main.bgmq_backlog UNION"
        " ALL  SELECT (SELECT min(type) FROM main.bgmq_backlog WHERE type > n) FROM"
        " number  WHERE n IS NOT NULL) INSERT OR ROLLBACK INTO main.bgmq_type(id,"
        " name) SELECT n, CASE WHEN EXISTS(SELECT 1 FROM main.bgmq_type  WHERE name ="
        " 'unknown.' || n) THEN 'unknown.' || n || '.' || n  ELSE 'unknown.' || n END"
        " FROM number WHERE n IS NOT NULL AND n NOT IN (SELECT id FROM"
        " main.bgmq_type)",
    [Q_HISTORY_BOUNDS] = "SELECT coalesce((SELECT min(seq) FROM main.bgmq_history), 1),"
                         " coalesce((SELECT max(seq) FROM main.bgmq_history), 0)",
};

static int prepare_text(struct sqlite_store *s, enum statement q, const char *text)
{
    return sqlite3_prepare_v3(s->w, text, -1, SQLITE_PREPARE_PERSISTENT, &s->q[q], NULL);
}

/* FIRST has one row of values, and gets ROWS - 1 more of ROW. */
static int prepare_rows(struct sqlite_store *s, enum statement q, int rows,
                        const char *first, const char *row)
{
    char text[2048];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s", first);
    for (int i = 1; i < rows; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, ",%s", row);
    return prepare_text(s, q, text);
}

/* Remembers what Q is bound to from here on. */
static int watch(struct sqlite_store *s, enum statement q)
{
    size_t n = (size_t)sqlite3_bind_parameter_count(s->q[q]) + 1;
    s->bound[q] = calloc(n, sizeof(*s->bound[q]));
    return s->bound[q] ? SQLITE_OK : SQLITE_NOMEM;
}

int bgmqi_store_statement_prepare(struct sqlite_store *s)
{
    int rc = prepare_rows(s, Q_JOB_INSERT_SOME, SOME_ROWS, JOB_INSERT, JOB_ROW);
    if (rc == SQLITE_OK)
        rc = prepare_rows(s, Q_JOB_INSERT_MANY, MANY_ROWS, JOB_INSERT, JOB_ROW);
    if (rc == SQLITE_OK)
        rc = prepare_rows(s, Q_HISTORY_INSERT_SOME, SOME_ROWS, HISTORY_INSERT,
                          HISTORY_ROW);
    if (rc == SQLITE_OK)
        rc = prepare_rows(s, Q_HISTORY_INSERT_MANY, MANY_ROWS, HISTORY_INSERT,
                          HISTORY_ROW);
    for (enum statement q = 0; rc == SQLITE_OK && q < STATEMENTS; q++)
        if (texts[q])
            rc = prepare_text(s, q, texts[q]);
    static const enum statement watched[] = {
        Q_JOB_INSERT,      Q_JOB_INSERT_SOME,    Q_HISTORY_INSERT_SOME,
        Q_JOB_INSERT_MANY, Q_JOB_INSERT_EXT,     Q_BACKLOG_INSERT,
        Q_HISTORY_INSERT,  Q_HISTORY_INSERT_MANY};
    for (size_t i = 0; rc == SQLITE_OK && i < sizeof(watched) / sizeof(*watched); i++)
        rc = watch(s, watched[i]);
    return rc;
}
