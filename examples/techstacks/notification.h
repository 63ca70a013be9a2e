/* notification.h - the record of each background job, in the application's database. */
#ifndef TECHSTACKS_NOTIFICATION_H
#define TECHSTACKS_NOTIFICATION_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdint.h>

struct db;

/* Adds a pending notification in the caller's transaction; returns its id, or an enum
 * db_err. */
int64_t notification_add(sqlite3 *sq, const char *event, const char *ref_type,
                         int64_t ref_id);

/* *RET gets the row (id, event, ref_id, email_template_id, completed, failed).  1, 0:
 * there is none, or an enum db_err. */
int notification_find(struct db *db, int64_t id, json_t **ret);

/* Renders and stores the mail when that has not been done.  0, an enum db_err or
 * event_err. */
int notification_prepare(struct db *db, int64_t id);
/* *RET gets the rendered mail (from_name, subject, html).  As notification_find. */
int notification_template(struct db *db, int64_t id, json_t **ret);

/* *RET gets the next recipients (user_id, name, email) after user AFTER that have neither
 * got the mail nor been refused: some, none at the end.  0 or an enum db_err. */
int recipients_left(struct db *db, int64_t id, int64_t after, json_t **ret);
/* Records what became of one.  ERROR NULL: sent.  0 or an enum db_err. */
int recipient_record(struct db *db, int64_t id, int64_t user, const char *error);

/* How many recipients there are, and what became of them. */
struct progress {
    int64_t total, sent, refused;
};
int notification_progress(struct db *db, int64_t id, struct progress *ret);

/* Ends a pending notification, well, or with ERROR and the id of the message that is about
 * to die of it.  0 or an enum db_err. */
int notification_complete(struct db *db, int64_t id);
int notification_fail(struct db *db, int64_t id, const char *error, int64_t message);
/* Makes a failed one pending again, those refused to be tried again.  Returns 1, and *RET
 * gets the id of the message that failed; 0 when it has not failed; or an enum db_err. */
int notification_reset(struct db *db, int64_t id, int64_t *ret_message);

/* *RET gets the rows (id) of all that are pending. */
int notification_pending(struct db *db, json_t **ret);

#endif
