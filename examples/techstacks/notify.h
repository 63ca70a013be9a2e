/* notify.h - notifications as background jobs: publishing, retrying, replaying. */
#ifndef TECHSTACKS_NOTIFY_H
#define TECHSTACKS_NOTIFY_H

#include <jansson.h>
#include <stdint.h>

struct app;
struct bgmq_job;

#define SEND_NOTIFICATION "SendNotification"
#define SEND_SYSTEM_EMAIL "SendSystemEmail"

/* Registers SendNotification with 4 workers and SendSystemEmail with 1.  0 or a negative
 * enum bgmq_err. */
int notify_register(struct app *app);

/* Publishes SendNotification for ID, unless a message for it is unfinished:
 * *RET_DUPLICATE is then 1.  0 or a negative enum bgmq_err. */
int notify_publish(struct app *app, int64_t id, int *ret_duplicate);

/* Publishes SendSystemEmail; KEY keeps a second one out while the first is unfinished. */
int notify_system_email(struct app *app, const char *key, const char *subject,
                        const char *text);

/* Publishes every notification that is pending.  *RET gets the ids of those published,
 * and of those whose message was there already.  0, or -1 with the reason on stderr. */
int notify_retry_pending(struct app *app, json_t **ret);

enum replay { REPLAY_ERROR = -1, REPLAY_DONE, REPLAY_NOT_FAILED, REPLAY_BUSY };

/* Makes a failed notification pending, and publishes it again. */
enum replay notify_replay(struct app *app, int64_t id);

/* The handlers; the context is the app. */
int send_notification(struct bgmq_job *job, void *ctx);
int send_system_email(struct bgmq_job *job, void *ctx);

#endif
