/*
 * events.c - which mail an event makes, and who gets it.
 *
 * Called by the SendNotification handler, once in the life of a notification, in one
 * transaction: the mail and the list of its recipients are a snapshot.  However often the
 * job is run again, and whatever becomes of the post meanwhile, everybody gets the same
 * mail.
 */
#include "events.h"

#include "db.h"
#include "template.h"
#include <stdlib.h>
#include <string.h>

/* One event.  VALUES gives one row for the reference ?1: the names in the template, among
 * them subject, from_name and cc_name.  RECIPIENTS gives rows (user id, name, email) for
 * it. */
struct event {
    const char *name;
    const char *values;
    const char *recipients;
    const char *body;
};

static const char layout[] =
    "<!DOCTYPE html>\n"
    "<html><head><meta charset=\"utf-8\"><title>{{subject}}</title></head>\n"
    "<body style=\"font-family: sans-serif; max-width: 40em\">\n"
    "{{{body}}}\n"
    "<hr>\n"
    "<p><small>{{cc_name}}</small></p>\n"
    "</body></html>\n";

static const struct event events[] = {
    {.name = "CreatePost",
     .values = "SELECT '['||p.type||'] '||p.title AS subject, u.name AS from_name,"
               "  o.name||' Subscribed' AS cc_name, o.name AS organization, p.id AS post,"
               "  p.type AS type, p.title AS title, p.content AS content"
               " FROM post p JOIN user u ON u.id=p.user_id"
               " JOIN organization o ON o.id=p.organization_id WHERE p.id=?1",
     .recipients = "SELECT DISTINCT u.id, u.name, u.email FROM post p"
                   " JOIN subscription s ON s.organization_id=p.organization_id"
                   "  AND s.post_type IN (p.type, '*')"
                   " JOIN user u ON u.id=s.user_id WHERE p.id=?1",
     .body = "<h2>{{title}}</h2>\n"
             "<p>{{from_name}} wrote in <b>{{organization}}</b> ({{type}}, no. "
             "{{post}}):</p>\n"
             "<p>{{content}}</p>"},
    {.name = "UserPostReport",
     .values = "SELECT 'Reported: '||p.title AS subject, '' AS from_name,"
               "  'Administrators' AS cc_name, o.name AS organization, p.id AS post,"
               "  p.title AS title, p.content AS content, u.name AS author"
               " FROM post p JOIN user u ON u.id=p.user_id"
               " JOIN organization o ON o.id=p.organization_id WHERE p.id=?1",
     .recipients = "SELECT id, name, email FROM user WHERE is_admin AND ?1 IS NOT NULL",
     .body = "<h2>A reader reported post no. {{post}}</h2>\n"
             "<p>\"{{title}}\" by {{author}} in <b>{{organization}}</b>:</p>\n"
             "<p>{{content}}</p>"},
};

static const struct event *find(const char *name)
{
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (strcmp(events[i].name, name) == 0)
            return &events[i];
    }
    return NULL;
}

/* NULL: out of memory. */
static char *render(const struct event *event, json_t *values)
{
    char *body = template_render(event->body, values);
    char *html = NULL;
    if (body && json_object_set_new(values, "body", json_string(body)) == 0)
        html = template_render(layout, values);
    free(body);
    return html;
}

static int store(sqlite3 *sq, const struct event *event, const json_t *values,
                 const char *html, int64_t ref_id, int64_t notification)
{
    int64_t id =
        db_insert(sq,
                  "INSERT INTO email_template(notification_id, from_name, cc_name,"
                  " subject, html, created) VALUES(?1, ?2, ?3, ?4, ?5, " NOW ")",
                  "issss", notification, row_text(values, "from_name"),
                  row_text(values, "cc_name"), row_text(values, "subject"), html);
    if (id < 0)
        return (int)id;
    int err = db_change(sq, "UPDATE notification SET email_template_id=?1 WHERE id=?2",
                        "ii", id, notification);
    if (err < 0)
        return err;
    json_t *people;
    err = db_rows(sq, &people, event->recipients, "i", ref_id);
    if (err)
        return err;
    size_t i;
    json_t *user;
    json_array_foreach(people, i, user)
    {
        err =
            db_change(sq,
                      "INSERT INTO email_recipient(notification_id, user_id, name, email)"
                      " VALUES(?1, ?2, ?3, ?4)",
                      "iiss", notification, row_number(user, "id"),
                      row_text(user, "name"), row_text(user, "email"));
        if (err < 0)
            break;
    }
    json_decref(people);
    return err < 0 ? err : 0;
}

int event_render(sqlite3 *sq, const char *name, int64_t ref_id, int64_t notification)
{
    const struct event *event = find(name);
    json_t *values;
    if (!event)
        return EVENT_UNKNOWN;
    int found = db_row(sq, &values, event->values, "i", ref_id);
    if (found <= 0)
        return found == 0 ? EVENT_GONE : found;
    char *html = render(event, values);
    int err = html ? store(sq, event, values, html, ref_id, notification) : (int)DB_ERROR;
    free(html);
    json_decref(values);
    return err;
}
