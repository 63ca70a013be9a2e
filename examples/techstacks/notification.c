/*
 * notification.c - the record of each background job, in the application's database.
 *
 * Called by the HTTP threads and the workers.  Every step of a job is one short
 * transaction here, committed before the next step begins: a process that dies anywhere
 * leaves a record that says where to go on.  Each function takes the connection itself.
 */
#include "notification.h"

#include "db.h"
#include "events.h"

int64_t notification_add(sqlite3 *sq, const char *event, const char *ref_type,
                         int64_t ref_id)
{
    return db_insert(sq,
                     "INSERT INTO notification(event, ref_type, ref_id, ref_urn, created)"
                     " VALUES(?1, ?2, ?3, 'urn:'||?2||':'||?3, " NOW ")",
                     "ssi", event, ref_type, ref_id);
}

static int find(sqlite3 *sq, int64_t id, json_t **ret)
{
    return db_row(sq, ret,
                  "SELECT id, event, ref_id, email_template_id, completed, failed"
                  " FROM notification WHERE id=?1",
                  "i", id);
}

int notification_find(struct db *db, int64_t id, json_t **ret)
{
    sqlite3 *sq = db_take(db);
    int found = find(sq, id, ret);
    db_drop(db);
    return found;
}

/* In a transaction. */
static int prepare(sqlite3 *sq, int64_t id)
{
    json_t *row;
    int found = find(sq, id, &row);
    if (found <= 0)
        return found == 0 ? (int)EVENT_GONE : found;
    int err = 0;
    if (row_number(row, "email_template_id") == 0)
        err = event_render(sq, row_text(row, "event"), row_number(row, "ref_id"), id);
    json_decref(row);
    return err;
}

int notification_prepare(struct db *db, int64_t id)
{
    sqlite3 *sq = db_take(db);
    int err = db_begin(sq);
    if (!err)
        err = (int)db_end(sq, prepare(sq, id));
    db_drop(db);
    return err;
}

int notification_template(struct db *db, int64_t id, json_t **ret)
{
    sqlite3 *sq = db_take(db);
    int found = db_row(sq, ret,
                       "SELECT from_name, subject, html FROM email_template"
                       " WHERE notification_id=?1",
                       "i", id);
    db_drop(db);
    return found;
}

int recipients_left(struct db *db, int64_t id, int64_t after, json_t **ret)
{
    sqlite3 *sq = db_take(db);
    int err =
        db_rows(sq, ret,
                "SELECT user_id, name, email FROM email_recipient"
                " WHERE notification_id=?1 AND user_id>?2"
                " AND sent_at IS NULL AND refused_at IS NULL ORDER BY user_id LIMIT 100",
                "ii", id, after);
    db_drop(db);
    return err;
}

int recipient_record(struct db *db, int64_t id, int64_t user, const char *error)
{
    sqlite3 *sq = db_take(db);
    int err = db_change(sq,
                        "UPDATE email_recipient SET error=?3,"
                        " sent_at=CASE WHEN ?3 IS NULL THEN " NOW " END,"
                        " refused_at=CASE WHEN ?3 IS NULL THEN NULL ELSE " NOW " END"
                        " WHERE notification_id=?1 AND user_id=?2",
                        "iis", id, user, error);
    db_drop(db);
    return err < 0 ? err : 0;
}

int notification_progress(struct db *db, int64_t id, struct progress *ret)
{
    json_t *row;
    sqlite3 *sq = db_take(db);
    int found = db_row(sq, &row,
                       "SELECT count(*) AS total, count(sent_at) AS sent,"
                       " count(refused_at) AS refused FROM email_recipient"
                       " WHERE notification_id=?1",
                       "i", id);
    db_drop(db);
    if (found <= 0)
        return DB_ERROR;
    *ret = (struct progress){.total = row_number(row, "total"),
                             .sent = row_number(row, "sent"),
                             .refused = row_number(row, "refused")};
    json_decref(row);
    return 0;
}

int notification_complete(struct db *db, int64_t id)
{
    sqlite3 *sq = db_take(db);
    int changed = db_change(sq,
                            "UPDATE notification SET completed=" NOW " WHERE id=?1"
                            " AND completed IS NULL AND failed IS NULL",
                            "i", id);
    db_drop(db);
    return changed < 0 ? changed : 0;
}

int notification_fail(struct db *db, int64_t id, const char *error, int64_t message)
{
    sqlite3 *sq = db_take(db);
    int changed = db_change(sq,
                            "UPDATE notification SET failed=" NOW ", error=?2,"
                            " dead_message=?3 WHERE id=?1"
                            " AND completed IS NULL AND failed IS NULL",
                            "isi", id, error, message);
    db_drop(db);
    return changed < 0 ? changed : 0;
}

/* In a transaction. */
static int reset(sqlite3 *sq, int64_t id, int64_t *ret_message)
{
    json_t *row;
    int found = db_row(sq, &row,
                       "SELECT dead_message FROM notification"
                       " WHERE id=?1 AND failed IS NOT NULL",
                       "i", id);
    if (found <= 0)
        return found;
    int64_t message = row_number(row, "dead_message");
    json_decref(row);
    int err = db_change(sq,
                        "UPDATE notification SET failed=NULL, error=NULL,"
                        " dead_message=NULL WHERE id=?1",
                        "i", id);
    if (err >= 0)
        err = db_change(sq,
                        "UPDATE email_recipient SET refused_at=NULL, error=NULL"
                        " WHERE notification_id=?1 AND refused_at IS NOT NULL",
                        "i", id);
    if (err < 0)
        return err;
    *ret_message = message;
    return 1;
}

int notification_reset(struct db *db, int64_t id, int64_t *ret_message)
{
    sqlite3 *sq = db_take(db);
    int result = db_begin(sq);
    if (!result)
        result = (int)db_end(sq, reset(sq, id, ret_message));
    db_drop(db);
    return result;
}

int notification_pending(struct db *db, json_t **ret)
{
    sqlite3 *sq = db_take(db);
    int err = db_rows(sq, ret,
                      "SELECT id FROM notification WHERE completed IS NULL"
                      " AND failed IS NULL ORDER BY id",
                      "");
    db_drop(db);
    return err;
}
