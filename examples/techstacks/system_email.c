/*
 * system_email.c - the handler that mails the operator.
 *
 * Runs on one worker.  Here the message is the only record there is: it is in the queue
 * until the mail is out.
 */
#include "app.h"
#include "mail.h"
#include "notify.h"
#include "template.h"
#include <bgmq.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char layout[] = "<!DOCTYPE html>\n"
                             "<html><head><meta charset=\"utf-8\"></head>\n"
                             "<body><p>{{text}}</p></body></html>\n";

static enum mail_result send_html(struct app *app, uint64_t id, const char *subject,
                                  const char *html, struct mail_error *error)
{
    char key[48];
    snprintf(key, sizeof(key), "system-%" PRIu64, id);
    struct mail_message message = {.key = key,
                                   .from_name = "techstacks",
                                   .to_name = "",
                                   .to = MAIL_SYSTEM_ADDRESS,
                                   .subject = subject,
                                   .html = html};
    struct mail_way *way = mail_open(app->mail);
    enum mail_result result = MAIL_DOWN;
    snprintf(error->text, sizeof(error->text), "out of memory");
    if (way)
        result = mail_send(app->mail, way, &message, error);
    mail_close(app->mail, way);
    return result;
}

int send_system_email(struct bgmq_job *job, void *ctx)
{
    const char *subject, *text;
    json_t *values;
    struct mail_error error;
    int err = bgmq_job_unpack(job, "{s:s, s:s}", "subject", &subject, "text", &text);
    if (!err)
        err = bgmq_job_json(job, &values);
    if (err)
        return err;
    char *html = template_render(layout, values);
    if (!html)
        return BGMQ_ENOMEM;
    enum mail_result result = send_html(ctx, bgmq_job_id(job), subject, html, &error);
    free(html);
    if (result == MAIL_SENT)
        return BGMQ_DONE;
    return bgmq_job_fail(job, result == MAIL_REFUSED ? BGMQ_PERMANENT : BGMQ_RETRY,
                         "MailServer", "%s", error.text);
}
