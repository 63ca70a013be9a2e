/*
 * main.c - techstacks: a small app server whose mails are sent in the background.
 *
 * People post; everybody who subscribed gets a mail.  A request stores what is to be
 * done, publishes a message and is answered at once; workers do it.  This file puts the
 * parts together, waits for a signal on the first thread, and takes the parts down again.
 */
#include "app.h"
#include "db.h"
#include "mail.h"
#include "notify.h"
#include "options.h"
#include "pause.h"
#include "say.h"
#include "web.h"
#include <bgmq.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    say("%s: %s", path, strerror(errno));
    return -1;
}

/* PATH below the data folder; -1 when it is too long. */
static int path_in(char *ret, size_t size, const char *folder, const char *name)
{
    if ((size_t)snprintf(ret, size, "%s/%s", folder, name) < size)
        return 0;
    say("the name of the data folder is too long");
    return -1;
}

/* The queue's database first: it has one owner, so a second server on the same folder
 * ends here, before it touches anything else. */
static int open_queue(struct app *app, const struct options *options)
{
    char path[400];
    struct bgmq_error error;
    if (path_in(path, sizeof(path), options->data, "bgmq.db"))
        return -1;
    struct bgmq_options queue = {
        .database = path, .publish_timeout_ms = 5000, .stop_grace_ms = 5000};
    if (bgmq_open(&app->mq, &queue, &error)) {
        say("queue: %s", error.text);
        return -1;
    }
    return 0;
}

static int open_mail(struct app *app, const struct options *options)
{
    char outbox[400];
    if (path_in(outbox, sizeof(outbox), options->data, "outbox") || make_folder(outbox))
        return -1;
    app->mail = options->smtp ? mail_new(&mail_smtp, options->smtp)
                              : mail_new(&mail_outbox, outbox);
    if (!app->mail)
        say("out of memory");
    return app->mail ? 0 : -1;
}

static int open_all(struct app *app, const struct options *options)
{
    char path[400];
    if (make_folder(options->data) || open_queue(app, options) ||
        path_in(path, sizeof(path), options->data, "techstacks.db") ||
        db_open(&app->db, path) || open_mail(app, options))
        return -1;
    app->pause = pause_new();
    int err = app->pause ? notify_register(app) : BGMQ_ENOMEM;
    if (!err)
        err = bgmq_start(app->mq);
    if (err)
        say("%s", bgmq_strerror(err));
    return err ? -1 : 0;
}

static void close_all(struct app *app)
{
    bgmq_free(app->mq); /* first: its handlers use all the rest */
    pause_free(app->pause);
    mail_free(app->mail);
    db_close(app->db);
}

/* What the queue replays by itself is found "already queued"; published anew is what was
 * stored by a process that died before it could publish. */
static void retry_pending(struct app *app)
{
    json_t *ids;
    if (notify_retry_pending(app, &ids)) {
        say("not all pending notifications could be published");
        return;
    }
    char *text = json_dumps(ids, JSON_COMPACT);
    say("pending notifications: %s", text ? text : "?");
    free(text);
    json_decref(ids);
}

/* Waits for SIGINT or SIGTERM, which all threads block.  A second one ends the process.
 */
static void wait_for_signal(const sigset_t *signals)
{
    int got;
    while (sigwait(signals, &got))
        continue;
    say("%s: ending", strsignal(got));
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

static int serve(struct app *app, const struct options *options, const sigset_t *signals)
{
    struct web *web;
    retry_pending(app);
    if (web_start(&web, app, options->port))
        return -1;
    printf("listening on http://127.0.0.1:%u\n", web_port(web));
    fflush(stdout);
    wait_for_signal(signals);
    pause_end(app->pause);
    int err = bgmq_stop(app->mq, 0);
    if (err)
        say("%s (%d handlers)", bgmq_strerror(err), bgmq_running(app->mq));
    web_stop(web);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options;
    sigset_t signals;
    int parsed = options_parse(&options, argc, argv);
    if (parsed)
        return parsed > 0 ? 0 : 2;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* a mail server that goes away is an error, not the end */
    curl_global_init(CURL_GLOBAL_DEFAULT);

    struct app app = {.send_delay_ms = options.send_delay_ms,
                      .retry_ms = options.retry_ms};
    int err = open_all(&app, &options);
    if (!err)
        err = serve(&app, &options, &signals);
    close_all(&app);
    curl_global_cleanup();
    return err ? 1 : 0;
}
