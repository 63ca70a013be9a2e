/*
 * request_reply.c - asking a handler and waiting for its answer.
 *
 * Three ways: bgmq_request, which waits for the one reply; the same when the handler
 * fails; and reply_to with a queue of one's own, for many answers that come when they
 * come. Exits 0 when all answers were right.
 */
#include <bgmq.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static int divide(struct bgmq_job *job, void *ctx)
{
    json_int_t a, b;
    int err = bgmq_job_unpack(job, "{s:I, s:I}", "a", &a, "b", &b);
    if (err)
        return err;
    if (b == 0)
        return bgmq_job_fail(job, BGMQ_PERMANENT, "DivideByZero", "%lld / 0",
                             (long long)a);
    err = bgmq_job_respond_json(job, "DivideResponse", "{s:I}", "result", a / b);
    return err ? err : BGMQ_DONE;
}

/* The number under "result" in a reply; -1 when there is none. */
static long long result_of(const struct bgmq_message *reply)
{
    size_t len;
    const char *body = bgmq_message_body(reply, &len);
    json_t *json = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *result = json_object_get(json, "result");
    long long value =
        json_is_integer(result) ? (long long)json_integer_value(result) : -1;
    json_decref(json);
    return value;
}

static int ask(struct bgmq *mq)
{
    static const char body[] = "{\"a\": 84, \"b\": 2}";
    struct bgmq_message *reply;
    int err = bgmq_request(mq, "Divide", body, strlen(body), NULL, 10000, &reply);
    if (err) {
        fprintf(stderr, "request: %s\n", bgmq_strerror(err));
        return 0;
    }
    const char *type = bgmq_message_type(reply);
    int ok = result_of(reply) == 42 && type && strcmp(type, "DivideResponse") == 0;
    printf("84 / 2 = %lld (%s)\n", result_of(reply), type ? type : "?");
    bgmq_message_free(reply);
    return ok;
}

static int ask_in_vain(struct bgmq *mq)
{
    static const char body[] = "{\"a\": 84, \"b\": 0}";
    struct bgmq_message *reply;
    if (bgmq_request(mq, "Divide", body, strlen(body), NULL, 10000, &reply))
        return 0;
    const char *code = bgmq_message_error_code(reply);
    const char *text = bgmq_message_error_text(reply);
    int ok = code && strcmp(code, "DivideByZero") == 0;
    printf("84 / 0 failed: %s (%s)\n", code ? code : "?", text ? text : "?");
    bgmq_message_free(reply);
    return ok;
}

/* Collects the N answers to the requests IDS from QUEUE, in whatever order they come. */
static int collect(struct bgmq *mq, const char *queue, const uint64_t *ids, int n)
{
    int right = 0;
    for (int i = 0; i < n; i++) {
        struct bgmq_message *reply;
        if (bgmq_get(mq, queue, 10000, &reply))
            return 0;
        const char *tag = bgmq_message_tag(reply);
        for (int k = 0; k < n; k++) {
            if (bgmq_message_reply_id(reply) != ids[k])
                continue;
            printf("%s = %lld\n", tag ? tag : "?", result_of(reply));
            right += result_of(reply) == 100 / (k + 1);
        }
        bgmq_ack(reply);
        bgmq_message_free(reply);
    }
    return right == n;
}

static int ask_many(struct bgmq *mq)
{
    char queue[40];
    uint64_t ids[3];
    if (bgmq_temp_queue(mq, queue))
        return 0;
    for (int k = 0; k < 3; k++) {
        char tag[32];
        struct bgmq_message_options options = {.reply_to = queue, .tag = tag};
        struct bgmq_receipt receipt;
        snprintf(tag, sizeof(tag), "100 / %d", k + 1);
        if (bgmq_publish_json(mq, "Divide", &options, &receipt, "{s:i, s:i}", "a", 100,
                              "b", k + 1))
            return 0;
        ids[k] = receipt.id;
    }
    int ok = collect(mq, queue, ids, 3);
    bgmq_drop_queue(mq, queue);
    return ok;
}

int main(void)
{
    struct bgmq *mq;
    if (bgmq_open(&mq, NULL, NULL))
        return 1;
    int ok = bgmq_register(mq, "Divide", divide, NULL,
                           &(struct bgmq_type_options){.threads = 2}) == 0 &&
             bgmq_start(mq) == 0 && ask(mq) && ask_in_vain(mq) && ask_many(mq);
    bgmq_free(mq);
    puts(ok ? "all as it should be" : "NOT as it should be");
    return ok ? 0 : 1;
}
