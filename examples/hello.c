/*
 * hello.c - a job published as JSON, kept in a database, run in the background.
 *
 * Usage: hello [DATABASE].  The handler greet() runs on one of the library's threads;
 * main() waits for the finished message, prints the status page and ends.
 */
#include <bgmq.h>
#include <stdio.h>
#include <stdlib.h>

static int greet(struct bgmq_job *job, void *ctx)
{
    const char *name;
    int err = bgmq_job_unpack(job, "{s:s}", "name", &name);
    if (err)
        return err; /* not our JSON: to the dlq, with the position of the fault */
    printf("Hello, %s!\n", name);
    return BGMQ_DONE;
}

static int run(struct bgmq *mq)
{
    struct bgmq_receipt receipt;
    struct bgmq_message *done;
    char *page;
    if (bgmq_register(mq, "Greet", greet, NULL,
                      &(struct bgmq_type_options){.threads = 4}))
        return 1;
    if (bgmq_start(mq))
        return 1;
    if (bgmq_publish_json(mq, "Greet", NULL, &receipt, "{s:s}", "name", "world"))
        return 1; /* refused: it will never run */

    /* From here on the message survives a crash of the process and a loss of power. */
    if (bgmq_get(mq, "mq:Greet.outq", 10000, &done))
        return 1; /* nothing ended well within ten seconds */
    bgmq_ack(done);
    bgmq_message_free(done);

    if (bgmq_status_text(mq, &page))
        return 1;
    fputs(page, stdout);
    free(page);
    return 0;
}

int main(int argc, char **argv)
{
    struct bgmq_options options = {.database = argc > 1 ? argv[1] : "hello.db"};
    struct bgmq_error error;
    struct bgmq *mq;
    if (bgmq_open(&mq, &options, &error)) {
        fprintf(stderr, "hello: %s\n", error.text);
        return 1;
    }
    int failed = run(mq);
    bgmq_free(mq); /* stops, writes everything out, ends all threads */
    return failed;
}
