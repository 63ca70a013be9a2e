/* test_publish.c - what may be published and what not: bytes, options, keys, delays, many at
 * once, and the bound on memory. */
#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- bytes ---------------------------------------------------------------------- */

static const char bytes[] = "a\0b\377\376\n\"\\\300\200\0";

static int compare_bytes(struct bgmq_job *job, void *ctx)
{
    size_t len = 0;
    const char *body = bgmq_job_body(job, &len);
    int equal = len == sizeof(bytes) && !memcmp(body, bytes, len) && body[len] == '\0';
    return equal ? BGMQ_DONE : BGMQ_PERMANENT;
}

/* A2. */
START_TEST(body_arrives_bit_by_bit)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_publish(mq, "T", bytes, sizeof(bytes), NULL, NULL));
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
    }
    OK(bgmq_register(mq, "T", compare_bytes, NULL, NULL));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 1);
    struct bgmq_message *m = flow_take(mq, "mq:T.outq");
    size_t len = 0;
    const char *body = bgmq_message_body(m, &len);
    ck_assert_uint_eq(len, sizeof(bytes));
    ck_assert_mem_eq(body, bytes, len);
    ck_assert_int_eq(body[len], '\0');
    flow_done(m);
    flow_close(mq);
}
END_TEST

START_TEST(empty_body_is_a_body)
{
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_publish(mq, "T", "", 0, NULL, NULL));
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
    }
    flow_expect(mq, "mq:T.inq", "");
    flow_close(mq);
}
END_TEST

START_TEST(largest_body_passes_and_one_byte_more_does_not)
{
    size_t size = 1024 * 1024;
    char *body = malloc(size + 1);
    ck_assert_ptr_nonnull(body);
    for (size_t i = 0; i <= size; i++)
        body[i] = (char)(i * 31);
    struct bgmq *mq = flow_open(_i);
    FAILS(BGMQ_ETOOBIG, bgmq_publish(mq, "T", body, size + 1, NULL, NULL));
    FAILS(BGMQ_ETOOBIG, bgmq_publish_to(mq, "q", body, size + 1, NULL, NULL));
    OK(bgmq_publish(mq, "T", body, size, NULL, NULL));
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    size_t len = 0;
    ck_assert_mem_eq(bgmq_message_body(m, &len), body, size);
    ck_assert_uint_eq(len, size);
    flow_done(m);
    flow_close(mq);
    free(body);
}
END_TEST

/* ---- options -------------------------------------------------------------------- */

static void refused(struct bgmq *mq, struct bgmq_message_options options)
{
    struct bgmq_receipt receipt = {.id = 99};
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T", "x", 1, &options, &receipt));
    ck_assert_uint_eq(receipt.id, 99);
}

static const int64_t century = (int64_t)36525 * 24 * 3600 * 1000;

START_TEST(options_out_of_range_are_refused)
{
    static const char *const odd[] = {"key", NULL};
    static const char *const not_utf8[] = {"key", "\377", NULL};
    char *long_text = calloc(1, 4098);
    ck_assert_ptr_nonnull(long_text);
    memset(long_text, 'x', 4097);
    const char *const long_meta[] = {"key", long_text, NULL};
    struct bgmq *mq = flow_open(_i);
    refused(mq, MESSAGE(.priority = -1));
    refused(mq, MESSAGE(.priority = 32768));
    refused(mq, MESSAGE(.delay_ms = century + 1));
    refused(mq, MESSAGE(.delay_ms = INT64_MAX));
    refused(mq, MESSAGE(.run_at_ms = INT64_MAX));
    refused(mq, MESSAGE(.delay_ms = 5, .run_at_ms = wall_ms()));
    refused(mq, MESSAGE(.unique_key = ""));
    refused(mq, MESSAGE(.meta = odd));
    refused(mq, MESSAGE(.meta = not_utf8));
    refused(mq, MESSAGE(.meta = long_meta));
    refused(mq, MESSAGE(.max_attempts = 1001));
    refused(mq, MESSAGE(.durability = (enum bgmq_durability)9));
    long_text[256] = '\0';
    refused(mq, MESSAGE(.reply_to = long_text));
    long_text[201] = '\0';
    refused(mq, MESSAGE(.unique_key = long_text));
    refused(mq, MESSAGE(.tag = long_text));
    refused(mq, MESSAGE(.traceparent = long_text));
    struct bgmq_collection c;
    FAILS(BGMQ_ENOENT, bgmq_type_collection(mq, "T", &c));
    long_text[200] = '\0';
    flow_publish_with(mq, "T", "x",
                      MESSAGE(.priority = 32767, .unique_key = long_text,
                              .tag = long_text, .traceparent = long_text,
                              .max_attempts = 1000, .delay_ms = century / 2));
    flow_close(mq);
    free(long_text);
}
END_TEST

/* ---- delays --------------------------------------------------------------------- */

struct clocked {
    struct counter ran;
    int64_t at_ms;
};

static int note_time(struct bgmq_job *job, void *ctx)
{
    struct clocked *c = ctx;
    c->at_ms = wall_ms();
    counter_add(&c->ran, 1);
    return BGMQ_DONE;
}

/* A7.  0: a delay; 1: a point in time. */
START_TEST(delayed_message_does_not_run_early)
{
    struct clocked c = {0};
    counter_init(&c.ran);
    struct bgmq *mq = flow_open(_i & 1);
    OK(bgmq_register(mq, "T", note_time, &c, NULL));
    OK(bgmq_start(mq));
    int64_t due = wall_ms() + 60;
    if (_i & 2)
        flow_publish_with(mq, "T", "x", MESSAGE(.run_at_ms = due));
    else
        flow_publish_with(mq, "T", "x", MESSAGE(.delay_ms = 60));
    struct bgmq_collection k = flow_collection(mq, "T");
    ck_assert_msg(k.delayed == 1 || wall_ms() >= due, "not delayed");
    counter_wait(&c.ran, 1);
    ck_assert_int_ge(c.at_ms, due);
    flow_close(mq);
    counter_fini(&c.ran);
}
END_TEST

START_TEST(past_and_negative_are_now)
{
    struct bgmq *mq = flow_open(_i);
    flow_publish_with(mq, "T", "a", MESSAGE(.delay_ms = -1));
    flow_publish_with(mq, "T", "b", MESSAGE(.delay_ms = INT64_MIN));
    flow_publish_with(mq, "T", "c", MESSAGE(.run_at_ms = 1));
    char order[16];
    WAIT_UNTIL(flow_collection(mq, "T").inq == 3);
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", order, sizeof(order)), "a b c ");
    flow_close(mq);
}
END_TEST

START_TEST(due_messages_come_in_order_of_their_time)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    int64_t now = wall_ms();
    flow_publish_with(mq, "T", "c", MESSAGE(.run_at_ms = now + 90));
    flow_publish_with(mq, "T", "a", MESSAGE(.run_at_ms = now + 30));
    flow_publish_with(mq, "T", "b", MESSAGE(.run_at_ms = now + 60));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 3);
    char order[16];
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "a b c ");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* ---- many ----------------------------------------------------------------------- */

START_TEST(many_are_all_accepted_in_order)
{
    struct bgmq_message_options high = {.priority = 2};
    struct bgmq_item items[4] = {
        {.type = "A", .body = "a", .len = 1},
        {.type = "B", .body = "b", .len = 1},
        {.type = "A", .body = "h", .len = 1, .options = &high},
        {.type = "A", .body = "c", .len = 1},
    };
    struct bgmq_receipt receipts[4] = {{0}};
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_publish_many(mq, items, 4, receipts));
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_ne(receipts[i].id, 0);
        ck_assert_int_eq(receipts[i].duplicate, 0);
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(receipts[i].id, receipts[k].id);
    }
    ck_assert_uint_eq(flow_expect(mq, "mq:A.inq", "a"), receipts[0].id);
    ck_assert_uint_eq(flow_expect(mq, "mq:A.inq", "c"), receipts[3].id);
    ck_assert_uint_eq(flow_expect(mq, "mq:B.inq", "b"), receipts[1].id);
    ck_assert_uint_eq(flow_expect(mq, "mq:A.priorityq", "h"), receipts[2].id);
    flow_close(mq);
}
END_TEST

START_TEST(many_with_one_bad_are_none)
{
    char big[101] = {0};
    struct bgmq_message_options bad = {.priority = -1};
    struct bgmq_item items[3] = {
        {.type = "T", .body = "0", .len = 1},
        {.type = "T", .body = "1", .len = 1},
        {.type = "T", .body = "2", .len = 1},
    };
    struct bgmq *mq = flow_open_with(_i, SERVICE(.max_body = 100));
    items[2].options = &bad;
    FAILS(BGMQ_EINVAL, bgmq_publish_many(mq, items, 3, NULL));
    items[2] = (struct bgmq_item){.type = "T", .body = big, .len = 101};
    FAILS(BGMQ_ETOOBIG, bgmq_publish_many(mq, items, 3, NULL));
    items[2] = (struct bgmq_item){.type = "bad name", .body = "x", .len = 1};
    FAILS(BGMQ_EINVAL, bgmq_publish_many(mq, items, 3, NULL));
    items[2] = (struct bgmq_item){.type = "T"};
    FAILS(BGMQ_EINVAL, bgmq_publish_many(mq, items, 3, NULL));
    flow_expect_empty(mq, "mq:T.inq");
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- the bound on memory -------------------------------------------------------- */

START_TEST(full_memory_refuses_and_loses_nothing)
{
    char body[1024];
    memset(body, 'b', sizeof(body));
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(
        0, SERVICE(.max_body = 1024, .max_bytes = 256 * 1024, .publish_timeout_ms = 20));
    int accepted = 0, err = 0;
    while (!err && accepted < 1000)
        if (!(err = bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL)))
            accepted++;
    ck_assert_int_eq(err, BGMQ_EFULL);
    ck_assert_int_ge(accepted, 100);
    ck_assert_int_le(accepted, 256);
    FAILS(BGMQ_EFULL, bgmq_publish(mq, "Other", body, sizeof(body), NULL, NULL));
    flow_register_with(mq, "T", &r, TYPE(.no_outq = 1));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", (uint64_t)accepted);
    for (int i = 0; i < 1000; i++)
        OK(bgmq_publish(mq, "T", body, sizeof(body) / 16, NULL, NULL));
    flow_wait_ended(mq, "T", (uint64_t)accepted + 1000);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

struct feeder {
    int refused, accepted;
    struct counter done;
};

/* A9: in a handler nothing waits at the bound. */
static int feed_until_full(struct bgmq_job *job, void *ctx)
{
    struct feeder *f = ctx;
    char body[1024] = {0};
    for (int i = 0; i < 1000; i++) {
        int err = bgmq_publish(bgmq_job_service(job), "Parked", body, 1024, NULL, NULL);
        if (err) {
            f->refused = err;
            break;
        }
        f->accepted++;
    }
    counter_add(&f->done, 1);
    return BGMQ_DONE;
}

START_TEST(handler_that_publishes_at_the_bound_does_not_wait)
{
    struct feeder f = {0};
    counter_init(&f.done);
    struct bgmq *mq = flow_open_with(0, SERVICE(.max_body = 1024, .max_bytes = 256 * 1024,
                                                .publish_timeout_ms = 3600 * 1000));
    OK(bgmq_register(mq, "Feed", feed_until_full, &f, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "Feed", "x");
    counter_wait(&f.done, 1);
    ck_assert_int_eq(f.refused, BGMQ_EFULL);
    ck_assert_uint_eq(flow_collection(mq, "Parked").inq, (uint64_t)f.accepted);
    flow_close(mq);
    counter_fini(&f.done);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("publish");
    TCase *tc = flow_case(s, "bytes");
    flow_add_both(tc, body_arrives_bit_by_bit);
    flow_add_both(tc, empty_body_is_a_body);
    flow_add_both(tc, largest_body_passes_and_one_byte_more_does_not);
    tc = flow_case(s, "options");
    flow_add_both(tc, options_out_of_range_are_refused);
    tcase_add_loop_test(tc, delayed_message_does_not_run_early, 0, 4);
    flow_add_both(tc, past_and_negative_are_now);
    flow_add_both(tc, due_messages_come_in_order_of_their_time);
    tc = flow_case(s, "many");
    flow_add_both(tc, many_are_all_accepted_in_order);
    flow_add_both(tc, many_with_one_bad_are_none);
    tc = flow_case(s, "bound");
    tcase_add_test(tc, full_memory_refuses_and_loses_nothing);
    tcase_add_test(tc, handler_that_publishes_at_the_bound_does_not_wait);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
