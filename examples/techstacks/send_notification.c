/*
 * send_notification.c - the handler that mails a notification to everybody it is for.
 *
 * Runs on four workers.  Each step is recorded before the next: the mail is rendered once
 * and kept, each recipient is recorded right after the mail to it.  A run that ends
 * anywhere, by kill -9 too, is gone on with by the next one, which mails only the rest.
 * The one mail that was out but not yet recorded is sent twice: at most one for each
 * worker that was busy.
 */
#include "app.h"
#include "db.h"
#include "events.h"
#include "mail.h"
#include "notification.h"
#include "notify.h"
#include "pause.h"
#include "say.h"
#include <bgmq.h>
#include <inttypes.h>
#include <stdio.h>

/* One run of the handler. */
struct run {
    struct app *app;
    struct bgmq_job *job;
    int64_t id;
    struct mail_way *way;
    json_t *mail;            /* the rendered mail */
    unsigned postponed;      /* recipients the server would not take now */
    int down;                /* nothing can be sent now */
    int interrupted;         /* asked to end */
    struct mail_error error; /* the last */
};

static int database_failed(struct bgmq_job *job)
{
    return bgmq_job_fail(job, BGMQ_RETRY, "Database",
                         "the application's database failed");
}

/* Records the failure for good, tells the operator, and lets the message die. */
static int give_up(struct run *run, const char *code, const char *text)
{
    char key[48], subject[64];
    if (notification_fail(run->app->db, run->id, text, (int64_t)bgmq_job_id(run->job)))
        return database_failed(run->job);
    snprintf(key, sizeof(key), "failed:%" PRId64, run->id);
    snprintf(subject, sizeof(subject), "Notification %" PRId64 " failed", run->id);
    notify_system_email(run->app, key, subject, text);
    return bgmq_job_fail(run->job, BGMQ_PERMANENT, code, "%s", text);
}

/* Sends the mail to one recipient and records what became of it.  0, or an enum db_err.
 */
static int send_one(struct run *run, const json_t *user)
{
    char key[64];
    int64_t user_id = row_number(user, "user_id");
    snprintf(key, sizeof(key), "%" PRId64 "-%" PRId64, run->id, user_id);
    struct mail_message message = {.key = key,
                                   .from_name = row_text(run->mail, "from_name"),
                                   .to_name = row_text(user, "name"),
                                   .to = row_text(user, "email"),
                                   .subject = row_text(run->mail, "subject"),
                                   .html = row_text(run->mail, "html")};
    switch (mail_send(run->app->mail, run->way, &message, &run->error)) {
    case MAIL_SENT:
        return recipient_record(run->app->db, run->id, user_id, NULL);
    case MAIL_REFUSED:
        say("notification %" PRId64 ", user %" PRId64 ": %s", run->id, user_id,
            run->error.text);
        return recipient_record(run->app->db, run->id, user_id, run->error.text);
    case MAIL_LATER:
        run->postponed++;
        return 0;
    case MAIL_DOWN:
        break;
    }
    run->down = 1;
    return 0;
}

static int asked_to_end(struct run *run)
{
    run->interrupted = bgmq_job_cancelled(run->job) ||
                       pause_wait(run->app->pause, run->app->send_delay_ms);
    return run->interrupted;
}

static int send_some(struct run *run, const json_t *users)
{
    size_t i;
    json_t *user;
    json_array_foreach(users, i, user)
    {
        if (run->down || asked_to_end(run))
            return 0;
        int err = send_one(run, user);
        if (err)
            return err;
    }
    return 0;
}

/* Goes through the recipients that are left, in order.  0, or an enum db_err. */
static int send_all(struct run *run)
{
    int64_t after = 0;
    while (!run->down && !run->interrupted) {
        json_t *users;
        int err = recipients_left(run->app->db, run->id, after, &users);
        if (err)
            return err;
        size_t n = json_array_size(users);
        if (n > 0)
            after = row_number(json_array_get(users, n - 1), "user_id");
        err = send_some(run, users);
        json_decref(users);
        if (err || n == 0)
            return err;
    }
    return 0;
}

/* What the run as a whole came to. */
static int verdict(struct run *run)
{
    struct progress progress;
    if (run->interrupted)
        return bgmq_job_snooze(run->job, 0);
    if (run->down || run->postponed > 0) {
        if (bgmq_job_attempt(run->job) < bgmq_job_max_attempts(run->job))
            return bgmq_job_fail(run->job, BGMQ_RETRY, "MailServer", "%s",
                                 run->error.text);
        return give_up(run, "MailServer", run->error.text);
    }
    if (notification_progress(run->app->db, run->id, &progress))
        return database_failed(run->job);
    if (progress.total > 0 && progress.refused == progress.total)
        return give_up(run, "Refused", "every recipient was refused by the mail server");
    if (notification_complete(run->app->db, run->id))
        return database_failed(run->job);
    return BGMQ_DONE;
}

static int deliver(struct run *run)
{
    if (notification_template(run->app->db, run->id, &run->mail) <= 0)
        return database_failed(run->job);
    run->way = mail_open(run->app->mail);
    int result = !run->way || send_all(run) ? database_failed(run->job) : verdict(run);
    mail_close(run->app->mail, run->way);
    json_decref(run->mail);
    return result;
}

int send_notification(struct bgmq_job *job, void *ctx)
{
    struct run run = {.app = ctx, .job = job};
    json_int_t id;
    json_t *row;
    int err = bgmq_job_unpack(job, "{s:I}", "id", &id);
    if (err)
        return err;
    run.id = id;
    int found = notification_find(run.app->db, run.id, &row);
    if (found < 0)
        return database_failed(job);
    if (found == 0)
        return bgmq_job_fail(job, BGMQ_PERMANENT, "NoNotification",
                             "there is no notification %" PRId64, run.id);
    int over = *row_text(row, "completed") || *row_text(row, "failed");
    json_decref(row);
    if (over) /* it was published once more while the worker before us was ending it */
        return BGMQ_DONE;
    err = notification_prepare(run.app->db, run.id);
    if (err == EVENT_UNKNOWN)
        return give_up(&run, "UnknownEvent", "no mail is made for its kind of event");
    if (err == EVENT_GONE)
        return give_up(&run, "Gone", "what it is about is not there any more");
    return err ? database_failed(job) : deliver(&run);
}
