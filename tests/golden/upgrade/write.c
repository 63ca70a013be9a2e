/* write.c - writes a database as the library it is built with writes it, for tests/faults/
 * test_upgrade.c: `write FILE` closes it, `write FILE killed` dies with all of it in the log.
 *
 * Not part of any build.  It keeps to what every version of the library can do; for a new version
 * of the tables build it against the last release before it, and add its files:
 *
 *     cc write.c -I INCLUDE -L LIB -lbgmq -o write && ./write schema-N.db
 *     ./write schema-N-killed.db killed && rm schema-N*-shm schema-N*-lock schema-N.db-*
 *     gzip -9n schema-N* */
#include <bgmq.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call)                                                                         \
    do {                                                                                 \
        int err_ = (call);                                                               \
        if (err_ < 0) {                                                                  \
            fprintf(stderr, "%s: %s\n", #call, bgmq_strerror(err_));                     \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

static int fail(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_fail(job, BGMQ_PERMANENT, "Code", "why it failed");
}

static int succeed(struct bgmq_job *job, void *ctx)
{
    (void)job, (void)ctx;
    return BGMQ_DONE;
}

static void publish(struct bgmq *mq, const char *type, const char *body,
                    struct bgmq_message_options options)
{
    OK(bgmq_publish(mq, type, body, strlen(body), &options, NULL));
}

static void publish_all(struct bgmq *mq)
{
    static const char *const meta[] = {"key", "value", NULL};
    publish(mq, "Mail", "one", (struct bgmq_message_options){.priority = 0});
    publish(mq, "Mail", "two", (struct bgmq_message_options){.tag = "tag"});
    publish(mq, "Mail", "first", (struct bgmq_message_options){.priority = 7});
    publish(mq, "Mail", "later",
            (struct bgmq_message_options){.run_at_ms = INT64_C(4102444800000)});
    publish(mq, "Mail", "unique",
            (struct bgmq_message_options){.unique_key = "key",
                                          .meta = meta,
                                          .reply_to = "mq:Answers.inq",
                                          .traceparent = "00-01-02-03",
                                          .max_attempts = 9});
    OK(bgmq_publish(mq, "Mail", "\0\xff\n", 3, NULL, NULL));
    publish(mq, "Bad", "dead", (struct bgmq_message_options){.priority = 0});
    publish(mq, "Good", "done", (struct bgmq_message_options){.priority = 0});
}

int main(int argc, char **argv)
{
    struct bgmq *mq = NULL;
    struct bgmq_type_options options = {.history = BGMQ_HISTORY_ALL};
    OK(bgmq_open(&mq, &(struct bgmq_options){.database = argv[1]}, NULL));
    publish_all(mq);
    OK(bgmq_register(mq, "Bad", fail, NULL, &options));
    OK(bgmq_register(mq, "Good", succeed, NULL, &options));
    OK(bgmq_start(mq));
    struct bgmq_stats stats;
    do {
        sched_yield();
        OK(bgmq_total_stats(mq, &stats));
    } while (stats.processed + stats.failed < 2);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_flush(mq));
    if (argc > 2)
        _exit(0);
    OK(bgmq_close(mq));
    bgmq_free(mq);
    return 0;
}
