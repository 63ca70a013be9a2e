/*
 * routes.c - what the server answers to which request.
 *
 * Runs on the HTTP thread.  Nothing here sends a mail: a request writes to the database,
 * publishes, and is answered.
 */
#include "routes.h"

#include "answer.h"
#include "app.h"
#include "db.h"
#include "forum.h"
#include "mail.h"
#include "notify.h"
#include "web.h"
#include <bgmq.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "techstacks: posts, subscriptions, and mails that are sent in the background.\n"
    "There are two organizations and five users to begin with.  Try:\n"
    "\n"
    "  U=http://127.0.0.1:8080        (or the port the server printed)\n"
    "  curl $U/posts -d '{\"organization_id\":1, \"user_id\":1,\n"
    "    \"type\":\"Announcement\", \"title\":\"Hello\", \"content\":\"To you all.\"}'\n"
    "  curl $U/notifications          how far each mailing has come\n"
    "  curl $U/notifications/1        and who got it\n"
    "  curl $U/organizations -d '{\"name\":\"Bakers\"}'\n"
    "  curl $U/users -d '{\"name\":\"Eve\", \"email\":\"eve@example.org\"}'\n"
    "  curl $U/subscriptions -d '{\"organization_id\":1, \"user_id\":6,\n"
    "    \"types\":[\"Question\"]}'       (without types: every type)\n"
    "  curl $U/posts\n"
    "  curl -X POST $U/posts/1/report          mails the administrators\n"
    "  curl -X POST $U/notifications/retry     publishes all that are pending\n"
    "  curl -X POST $U/notifications/1/replay  tries a failed one again\n"
    "  curl $U/mq/status              queues and workers\n"
    "  curl $U/mq/stats\n"
    "  curl -X POST $U/mq/stop        posts are queued until ...\n"
    "  curl -X POST $U/mq/start\n";

/* ---- what each route does; ID is the number in the path -------------------------- */

static void get_help(struct app *app, const struct web_request *request, int64_t id,
                     struct web_answer *answer)
{
    *answer = (struct web_answer){.status = 200, .text = help};
}

static void post_organization(struct app *app, const struct web_request *request,
                              int64_t id, struct web_answer *answer)
{
    const char *name = field_text(request, "name", 100, answer);
    if (!name)
        return;
    int64_t added = forum_add_organization(app->db, name);
    if (added < 0)
        answer_database_error(answer, added);
    else
        answer_json(answer, 201, json_pack("{s:I}", "id", (json_int_t)added));
}

static void post_user(struct app *app, const struct web_request *request, int64_t id,
                      struct web_answer *answer)
{
    char key[48], text[512];
    const char *name = field_text(request, "name", 100, answer);
    const char *email = name ? field_text(request, "email", 254, answer) : NULL;
    if (!email)
        return;
    if (!mail_address_valid(email)) {
        answer_error(answer, 400, "\"email\" must be like name@host");
        return;
    }
    int is_admin = json_is_true(json_object_get(request->body, "admin"));
    int64_t added = forum_add_user(app->db, name, email, is_admin);
    if (added < 0) {
        answer_database_error(answer, added);
        return;
    }
    snprintf(key, sizeof(key), "user:%" PRId64, added);
    snprintf(text, sizeof(text), "New user %" PRId64 ": %s <%s>", added, name, email);
    notify_system_email(app, key, "New user", text);
    answer_json(answer, 201, json_pack("{s:I}", "id", (json_int_t)added));
}

/* 1 when TYPES is absent, or an array of short strings. */
static int types_valid(const json_t *types)
{
    size_t i;
    json_t *type;
    if (types && (!json_is_array(types) || json_array_size(types) == 0))
        return 0;
    json_array_foreach(types, i, type)
    {
        const char *text = json_string_value(type);
        if (!text || !*text || strlen(text) > 50)
            return 0;
    }
    return 1;
}

static void post_subscription(struct app *app, const struct web_request *request,
                              int64_t id, struct web_answer *answer)
{
    const json_t *types = json_object_get(request->body, "types");
    int64_t organization = field_id(request, "organization_id", answer);
    int64_t user = organization ? field_id(request, "user_id", answer) : 0;
    if (!user)
        return;
    if (!types_valid(types)) {
        answer_error(answer, 400, "\"types\" must be a list of strings, or not be there");
        return;
    }
    int err = forum_subscribe(app->db, organization, user, types);
    if (err)
        answer_database_error(answer, err);
    else
        answer_json(answer, 201, json_pack("{s:b}", "subscribed", 1));
}

/* Publishes a notification that has been stored.  When that fails it stays pending, and
 * is published by the next retry: the request has succeeded all the same. */
static void answer_notified(struct app *app, int64_t notification, json_t *json,
                            struct web_answer *answer)
{
    int duplicate;
    int queued = notify_publish(app, notification, &duplicate) == 0;
    if (json &&
        (json_object_set_new(json, "notification_id", json_integer(notification)) ||
         json_object_set_new(json, "queued", json_boolean(queued)))) {
        json_decref(json);
        json = NULL;
    }
    answer_json(answer, 201, json);
}

static void post_post(struct app *app, const struct web_request *request, int64_t id,
                      struct web_answer *answer)
{
    struct forum_post post = {.user = 0};
    int64_t notification;
    if (!(post.organization = field_id(request, "organization_id", answer)) ||
        !(post.user = field_id(request, "user_id", answer)) ||
        !(post.type = field_text(request, "type", 50, answer)) ||
        !(post.title = field_text(request, "title", 200, answer)) ||
        !(post.content = field_text(request, "content", 50000, answer)))
        return;
    int64_t added = forum_add_post(app->db, &post, &notification);
    if (added < 0)
        answer_database_error(answer, added);
    else
        answer_notified(app, notification, json_pack("{s:I}", "id", (json_int_t)added),
                        answer);
}

static void post_report(struct app *app, const struct web_request *request, int64_t id,
                        struct web_answer *answer)
{
    int64_t notification = forum_report_post(app->db, id);
    if (notification < 0)
        answer_database_error(answer, notification);
    else
        answer_notified(app, notification, json_object(), answer);
}

static void get_posts(struct app *app, const struct web_request *request, int64_t id,
                      struct web_answer *answer)
{
    json_t *rows;
    int err = forum_posts(app->db, &rows);
    if (err)
        answer_database_error(answer, err);
    else
        answer_json(answer, 200, rows);
}

static void get_notifications(struct app *app, const struct web_request *request,
                              int64_t id, struct web_answer *answer)
{
    json_t *rows;
    int err = forum_notifications(app->db, &rows);
    if (err)
        answer_database_error(answer, err);
    else
        answer_json(answer, 200, rows);
}

static void get_notification(struct app *app, const struct web_request *request,
                             int64_t id, struct web_answer *answer)
{
    json_t *row;
    int found = forum_notification(app->db, id, &row);
    if (found <= 0)
        answer_database_error(answer, found == 0 ? (int)DB_NOREF : found);
    else
        answer_json(answer, 200, row);
}

static void post_retry(struct app *app, const struct web_request *request, int64_t id,
                       struct web_answer *answer)
{
    json_t *ids;
    if (notify_retry_pending(app, &ids))
        answer_error(answer, 503, "not all could be published; see the server's log");
    else
        answer_json(answer, 200, ids);
}

static void post_replay(struct app *app, const struct web_request *request, int64_t id,
                        struct web_answer *answer)
{
    switch (notify_replay(app, id)) {
    case REPLAY_DONE:
        answer_json(answer, 200, json_pack("{s:[I]}", "resent_ids", (json_int_t)id));
        return;
    case REPLAY_NOT_FAILED:
        answer_error(answer, 409, "there is none, or it has not failed");
        return;
    case REPLAY_BUSY:
        answer_error(answer, 409, "its last attempt is just ending; once more, please");
        return;
    case REPLAY_ERROR:
        break;
    }
    answer_error(answer, 503, "it could not be published; see the server's log");
}

/* ---- which route ------------------------------------------------------------------ */

typedef void route_fn(struct app *app, const struct web_request *request, int64_t id,
                      struct web_answer *answer);

static const struct route {
    const char *method;
    const char *path; /* '#' stands for a positive number */
    route_fn *run;
} routes[] = {
    {"GET", "/", get_help},
    {"POST", "/organizations", post_organization},
    {"POST", "/users", post_user},
    {"POST", "/subscriptions", post_subscription},
    {"GET", "/posts", get_posts},
    {"POST", "/posts", post_post},
    {"POST", "/posts/#/report", post_report},
    {"GET", "/notifications", get_notifications},
    {"GET", "/notifications/#", get_notification},
    {"POST", "/notifications/retry", post_retry},
    {"POST", "/notifications/#/replay", post_replay},
};

/* 1 when PATH is like PATTERN; *ID gets the number. */
static int matches(const char *pattern, const char *path, int64_t *id)
{
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*path++ != *pattern)
                return 0;
            continue;
        }
        size_t digits = strspn(path, "0123456789");
        if (digits == 0 || digits > 18 || *path == '0')
            return 0;
        *id = strtoll(path, NULL, 10);
        path += digits;
    }
    return *path == '\0';
}

void routes_answer(struct app *app, const struct web_request *request,
                   struct web_answer *answer)
{
    const char *allow = NULL;
    int both = 0;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        int64_t id = 0;
        if (!matches(routes[i].path, request->path, &id))
            continue;
        if (strcmp(routes[i].method, request->method) == 0) {
            routes[i].run(app, request, id, answer);
            return;
        }
        both = allow != NULL;
        allow = routes[i].method;
    }
    answer_error(answer, allow ? 405 : 404,
                 allow ? "not a method of this path" : "no such path");
    answer->allow = both ? "GET, POST" : allow;
}
