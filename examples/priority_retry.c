/*
 * priority_retry.c - what runs first, and what happens to work that fails.
 *
 * Publishes before the start, so that the order of the starts shows the priorities; lets
 * one message fail twice before it succeeds, and one fail for good, which ends in the dlq
 * and is then given a new life.  Everything in memory.  Exits 0 when all of it was so.
 */
#include <bgmq.h>
#include <stdio.h>
#include <string.h>

/* One worker runs a type's handler, and main() reads only after bgmq_get has handed it
 * the finished message: nobody looks while somebody writes, so there is no lock. */
struct diary {
    char order[64];
    int repaired;
};

static int note(struct bgmq_job *job, void *ctx)
{
    struct diary *diary = ctx;
    const char *body = bgmq_job_body(job, NULL);
    size_t used = strlen(diary->order);
    snprintf(diary->order + used, sizeof(diary->order) - used, "%s%s", used ? " " : "",
             body);
    printf("  %-8s priority %d\n", body, bgmq_job_priority(job));
    return BGMQ_DONE;
}

static int flaky(struct bgmq_job *job, void *ctx)
{
    unsigned attempt = bgmq_job_attempt(job);
    printf("  attempt %u of %u\n", attempt, bgmq_job_max_attempts(job));
    if (attempt < 3)
        return bgmq_job_fail(job, BGMQ_RETRY, "Busy", "the other side said 'later'");
    return BGMQ_DONE;
}

static int broken(struct bgmq_job *job, void *ctx)
{
    struct diary *diary = ctx;
    if (!diary->repaired)
        return bgmq_job_fail(job, BGMQ_PERMANENT, "BadAddress", "no such user: %s",
                             (const char *)bgmq_job_body(job, NULL));
    printf("  ran well after the repair\n");
    return BGMQ_DONE;
}

/* Waits for the next message of QUEUE, prints it, and says whether it came. */
static int take(struct bgmq *mq, const char *queue, int ack)
{
    struct bgmq_message *message;
    int err = bgmq_get(mq, queue, 10000, &message);
    if (err) {
        fprintf(stderr, "%s: %s\n", queue, bgmq_strerror(err));
        return 0;
    }
    if (bgmq_message_error_code(message))
        printf("  in %s: %s (%s)\n", queue, bgmq_message_error_code(message),
               bgmq_message_error_text(message));
    err = ack ? bgmq_ack(message) : bgmq_nak(message, 1);
    bgmq_message_free(message);
    return err == 0;
}

static int publish(struct bgmq *mq, const char *type, const char *body, int priority)
{
    struct bgmq_message_options options = {.priority = priority};
    return bgmq_publish(mq, type, body, strlen(body), &options, NULL) == 0;
}

static int show_priority(struct bgmq *mq, struct diary *diary)
{
    printf("Three to inq, then two to priorityq, then the start:\n");
    if (bgmq_register(mq, "Note", note, diary, NULL) ||
        !publish(mq, "Note", "first", 0) || !publish(mq, "Note", "second", 0) ||
        !publish(mq, "Note", "third", 0) || !publish(mq, "Note", "soon", 1) ||
        !publish(mq, "Note", "urgent", 9) || bgmq_start(mq))
        return 0;
    for (int i = 0; i < 5; i++) {
        if (!take(mq, "mq:Note.outq", 1))
            return 0;
    }
    return strcmp(diary->order, "urgent soon first second third") == 0;
}

static int show_retry(struct bgmq *mq)
{
    struct bgmq_type_options options = {
        .max_attempts = 5, .backoff = BGMQ_BACKOFF_FIXED, .backoff_base_ms = 20};
    struct bgmq_stats stats;
    printf("Fails twice, tried again 20 ms later each time:\n");
    if (bgmq_register(mq, "Flaky", flaky, NULL, &options) ||
        !publish(mq, "Flaky", "work", 0) || !take(mq, "mq:Flaky.outq", 1) ||
        bgmq_type_stats(mq, "Flaky", &stats))
        return 0;
    return stats.failed == 2 && stats.retries == 2 && stats.processed == 1;
}

static int show_dead(struct bgmq *mq, struct diary *diary)
{
    printf("Fails for good:\n");
    if (bgmq_register(mq, "Broken", broken, diary, NULL) ||
        !publish(mq, "Broken", "nobody@example.org", 0) || !take(mq, "mq:Broken.dlq", 0))
        return 0;
    diary->repaired = 1; /* before the retry makes the handler run again */
    if (bgmq_retry_dead(mq, "Broken", 0) != 1)
        return 0;
    return take(mq, "mq:Broken.outq", 1);
}

int main(void)
{
    struct diary diary = {.repaired = 0};
    struct bgmq *mq;
    if (bgmq_open(&mq, NULL, NULL))
        return 1;
    int ok = show_priority(mq, &diary) && show_retry(mq) && show_dead(mq, &diary);
    bgmq_free(mq);
    puts(ok ? "all as it should be" : "NOT as it should be");
    return ok ? 0 : 1;
}
