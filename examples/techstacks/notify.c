/*
 * notify.c - notifications as background jobs: publishing, retrying, replaying.
 *
 * Called by main() at the start, by the HTTP thread, and by the SendNotification handler
 * for its system mails.  The table `notification` says what is to be done, the message
 * only that somebody should do it now: publishing once more is always safe.  The key
 * "notification:ID" sees to it that no two workers ever have the same notification.
 */
#include "notify.h"

#include "app.h"
#include "db.h"
#include "notification.h"
#include "say.h"
#include <bgmq.h>
#include <inttypes.h>
#include <stdio.h>

int notify_register(struct app *app)
{
    struct bgmq_type_options notification = {.threads = 4,
                                             .max_attempts = 10,
                                             .backoff_base_ms = app->retry_ms,
                                             .backoff_max_ms = 60000};
    struct bgmq_type_options system = notification;
    system.threads = 1;
    if (app->retry_ms == 0)
        notification.backoff = system.backoff = BGMQ_BACKOFF_NONE;
    int err =
        bgmq_register(app->mq, SEND_NOTIFICATION, send_notification, app, &notification);
    return err ? err
               : bgmq_register(app->mq, SEND_SYSTEM_EMAIL, send_system_email, app,
                               &system);
}

int notify_publish(struct app *app, int64_t id, int *ret_duplicate)
{
    char key[48];
    struct bgmq_message_options options = {.unique_key = key};
    struct bgmq_receipt receipt;
    snprintf(key, sizeof(key), "notification:%" PRId64, id);
    int err = bgmq_publish_json(app->mq, SEND_NOTIFICATION, &options, &receipt, "{s:I}",
                                "id", (json_int_t)id);
    if (err)
        say("notification %" PRId64 " stays pending: %s", id, bgmq_strerror(err));
    else
        *ret_duplicate = receipt.duplicate;
    return err;
}

int notify_system_email(struct app *app, const char *key, const char *subject,
                        const char *text)
{
    struct bgmq_message_options options = {.unique_key = key};
    int err = bgmq_publish_json(app->mq, SEND_SYSTEM_EMAIL, &options, NULL, "{s:s, s:s}",
                                "subject", subject, "text", text);
    if (err)
        say("system mail '%s' is lost: %s", subject, bgmq_strerror(err));
    return err;
}

static int publish_all(struct app *app, const json_t *rows, json_t *resent,
                       json_t *queued)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        int duplicate;
        int64_t id = row_number(row, "id");
        if (notify_publish(app, id, &duplicate))
            return -1;
        if (json_array_append_new(duplicate ? queued : resent, json_integer(id)))
            return -1;
    }
    return 0;
}

int notify_retry_pending(struct app *app, json_t **ret)
{
    json_t *rows;
    if (notification_pending(app->db, &rows))
        return -1;
    json_t *resent = json_array(), *queued = json_array();
    int err = !resent || !queued ? -1 : publish_all(app, rows, resent, queued);
    json_decref(rows);
    json_t *answer =
        json_pack("{s:o, s:o}", "resent_ids", resent, "already_queued_ids", queued);
    if (err || !answer) {
        json_decref(answer);
        return -1;
    }
    *ret = answer;
    return 0;
}

enum replay notify_replay(struct app *app, int64_t id)
{
    int64_t message;
    int duplicate;
    int changed = notification_reset(app->db, id, &message);
    if (changed <= 0)
        return changed == 0 ? REPLAY_NOT_FAILED : REPLAY_ERROR;
    if (bgmq_retry_dead(app->mq, SEND_NOTIFICATION, (uint64_t)message) == 1)
        return REPLAY_DONE;
    /* Not in the dlq: the operator took it out, or it is not there yet. */
    if (notify_publish(app, id, &duplicate))
        return REPLAY_ERROR;
    if (!duplicate)
        return REPLAY_DONE;
    /* The worker that has just recorded the failure still holds the message, and will put
     * it into the dlq: nobody would run it again.  Back to failed, for another try. */
    notification_fail(app->db, id, "its last attempt has not ended yet", message);
    return REPLAY_BUSY;
}
