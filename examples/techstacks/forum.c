/*
 * forum.c - organizations, users, subscriptions, posts: rows in, rows out.
 *
 * Called by the routes, on the HTTP thread.  What belongs together is one transaction: a
 * post is never there without the notification of it.
 */
#include "forum.h"

#include "db.h"
#include "notification.h"

int64_t forum_add_organization(struct db *db, const char *name)
{
    sqlite3 *sq = db_take(db);
    int64_t id = db_insert(
        sq, "INSERT INTO organization(name, created) VALUES(?1, " NOW ")", "s", name);
    db_drop(db);
    return id;
}

int64_t forum_add_user(struct db *db, const char *name, const char *email, int is_admin)
{
    sqlite3 *sq = db_take(db);
    int64_t id = db_insert(sq,
                           "INSERT INTO user(name, email, is_admin, created)"
                           " VALUES(?1, ?2, ?3, " NOW ")",
                           "ssi", name, email, (int64_t)is_admin);
    db_drop(db);
    return id;
}

/* Twice is as once. */
static int subscribe(sqlite3 *sq, int64_t organization, int64_t user, const char *type)
{
    int changed =
        db_change(sq,
                  "INSERT INTO subscription(organization_id, user_id, post_type)"
                  " VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING",
                  "iis", organization, user, type);
    return changed < 0 ? changed : 0;
}

int forum_subscribe(struct db *db, int64_t organization, int64_t user,
                    const json_t *types)
{
    size_t i;
    json_t *type;
    sqlite3 *sq = db_take(db);
    int err = db_begin(sq);
    if (!err) {
        if (!types)
            err = subscribe(sq, organization, user, "*");
        for (i = 0; !err && (type = json_array_get(types, i)); i++)
            err = subscribe(sq, organization, user, json_string_value(type));
        err = (int)db_end(sq, err);
    }
    db_drop(db);
    return err;
}

/* In a transaction. */
static int64_t add_post(sqlite3 *sq, const struct forum_post *post,
                        int64_t *ret_notification)
{
    int64_t id = db_insert(
        sq,
        "INSERT INTO post(organization_id, user_id, type, title, content,"
        " created) VALUES(?1, ?2, ?3, ?4, ?5, " NOW ")",
        "iisss", post->organization, post->user, post->type, post->title, post->content);
    if (id < 0)
        return id;
    int64_t notification = notification_add(sq, "CreatePost", "Post", id);
    if (notification < 0)
        return notification;
    *ret_notification = notification;
    return id;
}

int64_t forum_add_post(struct db *db, const struct forum_post *post,
                       int64_t *ret_notification)
{
    sqlite3 *sq = db_take(db);
    int64_t id = db_begin(sq);
    if (!id)
        id = db_end(sq, add_post(sq, post, ret_notification));
    db_drop(db);
    return id;
}

/* In a transaction. */
static int64_t report_post(sqlite3 *sq, int64_t post)
{
    json_t *row;
    int found = db_row(sq, &row, "SELECT id FROM post WHERE id=?1", "i", post);
    if (found <= 0)
        return found == 0 ? (int)DB_NOREF : found;
    json_decref(row);
    return notification_add(sq, "UserPostReport", "Post", post);
}

int64_t forum_report_post(struct db *db, int64_t post)
{
    sqlite3 *sq = db_take(db);
    int64_t id = db_begin(sq);
    if (!id)
        id = db_end(sq, report_post(sq, post));
    db_drop(db);
    return id;
}

int forum_posts(struct db *db, json_t **ret)
{
    sqlite3 *sq = db_take(db);
    int err = db_rows(sq, ret, "SELECT * FROM post ORDER BY id DESC LIMIT 100", "");
    db_drop(db);
    return err;
}

#define PROGRESS                                                                         \
    "SELECT n.id, n.event, n.ref_urn, n.created, count(r.sent_at) AS sent,"              \
    " count(r.refused_at) AS refused, count(r.user_id) AS total,"                        \
    " n.completed, n.failed, n.error FROM notification n"                                \
    " LEFT JOIN email_recipient r ON r.notification_id=n.id"

int forum_notifications(struct db *db, json_t **ret)
{
    sqlite3 *sq = db_take(db);
    int err =
        db_rows(sq, ret, PROGRESS " GROUP BY n.id ORDER BY n.id DESC LIMIT 100", "");
    db_drop(db);
    return err;
}

int forum_notification(struct db *db, int64_t id, json_t **ret)
{
    json_t *row, *people;
    sqlite3 *sq = db_take(db);
    int found = db_row(sq, &row, PROGRESS " WHERE n.id=?1 GROUP BY n.id", "i", id);
    if (found > 0) {
        int err =
            db_rows(sq, &people,
                    "SELECT user_id, email, sent_at, refused_at, error"
                    " FROM email_recipient WHERE notification_id=?1 ORDER BY user_id",
                    "i", id);
        if (!err && json_object_set_new(row, "recipients", people))
            err = DB_ERROR;
        if (err) {
            json_decref(row);
            found = err;
        }
    }
    db_drop(db);
    if (found > 0)
        *ret = row;
    return found;
}
