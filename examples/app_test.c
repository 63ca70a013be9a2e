/*
 * app_test.c - how an application tests its handlers, with bgmq_test.h.
 *
 * The application: "SignUp" welcomes a new user by a "Mail", and a day later sends a second one;
 * "Import" works through many rows and saves how far it is.  The tests run the handlers on this
 * thread, move the clock over the day, and look at what was published.  Exits 0 when all is well.
 */
#include <bgmq.h>
#include <bgmq_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the application ---------------------------------------------------------------- */

enum { DAY_MS = 24 * 3600 * 1000, ROWS = 10 };

struct app {
    int mail_server_is_down;
    int mails, rows;
};

static int sign_up(struct bgmq_job *job, void *ctx)
{
    struct bgmq *mq = bgmq_job_service(job);
    struct bgmq_message_options tomorrow = {.delay_ms = DAY_MS};
    const char *user;
    int err = bgmq_job_unpack(job, "{s:s}", "user", &user);
    if (!err)
        err = bgmq_publish_json(mq, "Mail", NULL, NULL, "{s:s, s:s}", "to", user, "text",
                                "welcome");
    if (!err)
        err = bgmq_publish_json(mq, "Mail", &tomorrow, NULL, "{s:s, s:s}", "to", user,
                                "text", "how is it going?");
    return err;
}

static int mail(struct bgmq_job *job, void *ctx)
{
    struct app *app = ctx;
    if (app->mail_server_is_down)
        return bgmq_job_fail(job, BGMQ_RETRY, "Refused", "connection refused");
    app->mails++;
    return BGMQ_DONE;
}

/* Goes on where the attempt before came to; breaks off once in the middle. */
static int import(struct bgmq_job *job, void *ctx)
{
    struct app *app = ctx;
    int row = 0;
    const void *cursor = bgmq_job_cursor(job, NULL);
    if (cursor)
        memcpy(&row, cursor, sizeof(row));
    while (row < ROWS) {
        if (row == ROWS / 2 && bgmq_job_attempt(job) == 1)
            return bgmq_job_fail(job, BGMQ_RETRY, "Broken", "the connection broke off");
        app->rows++;
        row++;
        int err = bgmq_job_save_cursor(job, &row, sizeof(row), BGMQ_BEHIND);
        if (err)
            return err;
    }
    return BGMQ_DONE;
}

static void app_register(struct bgmq *mq, struct app *app)
{
    struct bgmq_type_options options = {.backoff = BGMQ_BACKOFF_FIXED,
                                        .backoff_base_ms = 60000};
    bgmq_register(mq, "SignUp", sign_up, app, NULL);
    bgmq_register(mq, "Mail", mail, app, &options);
    bgmq_register(mq, "Import", import, app, &options);
}

/* ---- its tests ---------------------------------------------------------------------- */

static int failures;

static void expect(int ok, const char *what)
{
    printf("%s %s\n", ok ? "ok    " : "NOT OK", what);
    failures += !ok;
}

static struct bgmq *open_for(struct app *app)
{
    struct bgmq *mq;
    if (bgmq_test_open(&mq, NULL, 0, NULL))
        exit(1);
    app_register(mq, app);
    return mq;
}

static void test_a_new_user_gets_two_mails(void)
{
    struct app app = {.mails = 0};
    struct bgmq *mq = open_for(&app);
    bgmq_publish_json(mq, "SignUp", NULL, NULL, "{s:s}", "user", "eve@example.org");
    bgmq_test_drain(mq, 0);
    const char *missing = bgmq_test_missing(mq, "Mail", NULL, 0);
    expect(!missing, missing ? missing : "a mail was published");
    expect(app.mails == 1, "one mail is sent at once");
    bgmq_test_advance(mq, DAY_MS - 1);
    expect(bgmq_test_drain(mq, 0) == 0, "nothing more is sent on the first day");
    bgmq_test_advance(mq, 1);
    expect(bgmq_test_drain(mq, 0) == 1 && app.mails == 2, "the second comes a day later");
    bgmq_free(mq);
}

static void test_a_mail_waits_for_the_server(void)
{
    struct app app = {.mail_server_is_down = 1};
    struct bgmq *mq = open_for(&app);
    struct bgmq_stats stats;
    bgmq_publish(mq, "Mail", "{}", 2, NULL, NULL);
    bgmq_test_drain(mq, 0);
    app.mail_server_is_down = 0;
    expect(bgmq_test_drain(mq, 0) == 0, "a failed mail is not tried at once");
    bgmq_test_advance(mq, 60000);
    expect(bgmq_test_drain(mq, 0) == 1 && app.mails == 1, "it is tried a minute later");
    bgmq_type_stats(mq, "Mail", &stats);
    expect(stats.failed == 1 && stats.processed == 1, "and the statistics say so");
    bgmq_free(mq);
}

static void test_no_row_is_imported_twice(void)
{
    struct app app = {.rows = 0};
    struct bgmq *mq = open_for(&app);
    bgmq_test_inline(mq, 1); /* handlers run inside bgmq_publish */
    bgmq_publish(mq, "Import", "{}", 2, NULL, NULL);
    expect(app.rows == ROWS / 2, "the import broke off in the middle");
    bgmq_test_advance(mq, 60000);
    bgmq_test_drain(mq, 0);
    expect(app.rows == ROWS, "and went on where it was");
    bgmq_free(mq);
}

int main(void)
{
    test_a_new_user_gets_two_mails();
    test_a_mail_waits_for_the_server();
    test_no_row_is_imported_twice();
    return failures ? 1 : 0;
}
