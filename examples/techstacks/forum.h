/* forum.h - organizations, users, subscriptions, posts: rows in, rows out. */
#ifndef TECHSTACKS_FORUM_H
#define TECHSTACKS_FORUM_H

#include <jansson.h>
#include <stdint.h>

struct db;

/* Each returns the new id, or an enum db_err. */
int64_t forum_add_organization(struct db *db, const char *name);
int64_t forum_add_user(struct db *db, const char *name, const char *email, int is_admin);
/* TYPES is an array of strings, or NULL for every type.  0 or an enum db_err. */
int forum_subscribe(struct db *db, int64_t organization, int64_t user,
                    const json_t *types);

struct forum_post {
    int64_t organization, user;
    const char *type, *title, *content;
};

/* Adds a post and, in the same transaction, the notification of it. */
int64_t forum_add_post(struct db *db, const struct forum_post *post,
                       int64_t *ret_notification);
/* Adds the notification that somebody reported POST.  Returns its id. */
int64_t forum_report_post(struct db *db, int64_t post);

/* *RET gets the newest 100 first.  0 or an enum db_err. */
int forum_posts(struct db *db, json_t **ret);
/* Likewise, with how far each has come. */
int forum_notifications(struct db *db, json_t **ret);
/* *RET gets one of them, with its recipients.  1, 0: there is none, or an enum db_err. */
int forum_notification(struct db *db, int64_t id, json_t **ret);

#endif
