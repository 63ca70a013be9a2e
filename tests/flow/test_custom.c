/* test_custom.c - queues that no type owns: made on first use, temporary ones, dropped ones,
 * and publishing to a queue by its name. */
#include "flow.h"

#include <stdio.h>
#include <string.h>

static void publish_to(struct bgmq *mq, const char *queue, const char *text)
{
    OK(bgmq_publish_to(mq, queue, text, strlen(text), NULL, NULL));
}

START_TEST(custom_queue_is_made_on_first_use)
{
    char order[64];
    struct bgmq *mq = flow_open(_i);
    publish_to(mq, "audit", "1");
    publish_to(mq, "audit", "2");
    publish_to(mq, "another queue, with spaces", "3");
    ck_assert_str_eq(flow_bodies(mq, "audit", order, sizeof(order)), "1 2 ");
    struct bgmq_message *m = flow_take(mq, "audit");
    flow_expect_body(m, "1");
    ck_assert_ptr_null(bgmq_message_type(m));
    ck_assert_uint_eq(bgmq_message_reply_id(m), 0);
    flow_done(m);
    flow_expect(mq, "audit", "2");
    flow_expect_empty(mq, "audit");
    flow_expect(mq, "another queue, with spaces", "3");
    flow_close(mq);
}
END_TEST

START_TEST(custom_queue_takes_back)
{
    char order[64];
    struct bgmq *mq = flow_open(_i);
    publish_to(mq, "audit", "1");
    publish_to(mq, "audit", "2");
    struct bgmq_message *m = flow_take(mq, "audit");
    FAILS(BGMQ_EINVAL, bgmq_nak(m, 0)); /* there is no dlq */
    OK(bgmq_nak(m, 1));
    FAILS(BGMQ_ELOST, bgmq_ack(m));
    bgmq_message_free(m);
    ck_assert_str_eq(flow_bodies(mq, "audit", order, sizeof(order)), "2 1 ");
    bgmq_message_free(flow_take(mq, "audit"));
    ck_assert_str_eq(flow_bodies(mq, "audit", order, sizeof(order)), "1 2 ");
    flow_close(mq);
}
END_TEST

START_TEST(custom_queue_carries_what_options_say)
{
    static const char *const meta[] = {"k", "v", NULL};
    struct bgmq *mq = flow_open(0);
    struct bgmq_message_options options = {
        .tag = "t", .meta = meta, .reply_id = 77, .reply_to = "back"};
    struct bgmq_receipt receipt = {0};
    OK(bgmq_publish_to(mq, "audit", "x", 1, &options, &receipt));
    struct bgmq_message *m = flow_take(mq, "audit");
    ck_assert_uint_eq(bgmq_message_id(m), receipt.id);
    ck_assert_str_eq(bgmq_message_tag(m), "t");
    ck_assert_str_eq(bgmq_message_meta(m, "k"), "v");
    ck_assert_str_eq(bgmq_message_reply_to(m), "back");
    ck_assert_uint_eq(bgmq_message_reply_id(m), 77);
    flow_done(m);
    flow_close(mq);
}
END_TEST

START_TEST(custom_queue_is_within_the_memory_of_the_service)
{
    static const char body[100000];
    struct bgmq *mq = flow_open_with(_i, SERVICE(.max_bytes = 1 << 20));
    int n = 0, err;
    while ((err = bgmq_publish_to(mq, "audit", body, sizeof(body), NULL, NULL)) == 0)
        n++;
    ck_assert_int_eq(err, BGMQ_EFULL);
    ck_assert_int_ge(n, 1);
    ck_assert_int_le(n, 10);
    flow_done(flow_take(mq, "audit"));
    OK(bgmq_publish_to(mq, "audit", body, sizeof(body), NULL, NULL));
    flow_close(mq);
}
END_TEST

START_TEST(what_no_publisher_may_have_is_refused)
{
    struct bgmq *mq = flow_open(0);
    FAILS(BGMQ_EINVAL,
          bgmq_publish(mq, "T", "x", 1, &MESSAGE(.durability = BGMQ_DISK), NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, "mq:T.dlq", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, "mq:T.outq", "x", 1, NULL, NULL));
    flow_close(mq);
}
END_TEST

START_TEST(queue_names_are_checked)
{
    char name[257];
    memset(name, 'q', 256);
    name[256] = '\0';
    struct bgmq *mq = flow_open(0);
    struct bgmq_message *m = NULL;
    FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, NULL, "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, "", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, "line\nend", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, name, "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_get(mq, NULL, 0, &m));
    FAILS(BGMQ_EINVAL, bgmq_get(mq, "", 0, &m));
    FAILS(BGMQ_EINVAL, bgmq_get(mq, "audit", 0, NULL));
    OK(bgmq_publish_to(mq, name + 1, "x", 1, NULL, NULL));
    flow_expect(mq, name + 1, "x");
    flow_close(mq);
}
END_TEST

START_TEST(queues_of_a_type_by_name)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    publish_to(mq, "mq:T.inq", "in");
    publish_to(mq, "mq:T.priorityq", "first");
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    ck_assert_uint_eq(flow_collection(mq, "T").priorityq, 1);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 2);
    char order[64];
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "first in ");
    struct bgmq_stats s = flow_stats(mq, "T");
    ck_assert_uint_eq(s.priority_received, 1);
    ck_assert_uint_eq(s.normal_received, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(temp_queues_have_names_of_their_own)
{
    char names[20][40];
    struct bgmq *mq = flow_open(0);
    for (int i = 0; i < 20; i++) {
        OK(bgmq_temp_queue(mq, names[i]));
        ck_assert_uint_eq(strlen(names[i]), 39);
        ck_assert_int_eq(strncmp(names[i], "mq:tmp:", 7), 0);
        ck_assert_uint_eq(strspn(names[i] + 7, "0123456789abcdef"), 32);
        for (int k = 0; k < i; k++)
            ck_assert_str_ne(names[i], names[k]);
    }
    flow_close(mq);
}
END_TEST

START_TEST(dropped_temp_queue_takes_nothing)
{
    char queue[40];
    struct bgmq *mq = flow_open(0);
    OK(bgmq_temp_queue(mq, queue));
    publish_to(mq, queue, "lost with it");
    OK(bgmq_drop_queue(mq, queue));
    FAILS(BGMQ_ENOENT, bgmq_publish_to(mq, queue, "x", 1, NULL, NULL));
    FAILS(BGMQ_ENOENT, bgmq_drop_queue(mq, queue));
    struct bgmq_message *m = NULL;
    FAILS(BGMQ_ENOENT, bgmq_get(mq, queue, 0, &m));
    flow_close(mq);
}
END_TEST

START_TEST(dropped_custom_queue_is_empty_when_used_again)
{
    struct bgmq *mq = flow_open(0);
    publish_to(mq, "audit", "1");
    OK(bgmq_drop_queue(mq, "audit"));
    publish_to(mq, "audit", "2");
    flow_expect(mq, "audit", "2");
    flow_expect_empty(mq, "audit");
    FAILS(BGMQ_ENOENT, bgmq_drop_queue(mq, "never used"));
    flow_close(mq);
}
END_TEST

START_TEST(message_taken_from_a_dropped_queue_can_be_settled)
{
    char queue[40];
    struct bgmq *mq = flow_open(0);
    OK(bgmq_temp_queue(mq, queue));
    publish_to(mq, queue, "1");
    publish_to(mq, queue, "2");
    struct bgmq_message *one = flow_take(mq, queue), *two = flow_take(mq, queue);
    OK(bgmq_drop_queue(mq, queue));
    flow_expect_body(one, "1");
    bgmq_ack(one); /* 0 or ELOST: either is true */
    bgmq_message_free(one);
    bgmq_message_free(two);
    flow_close(mq);
}
END_TEST

START_TEST(reply_to_a_dropped_queue_is_dropped_and_counted)
{
    char queue[40];
    struct recorder r;
    recorder_init(&r);
    r.response = "Answer";
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Ask", &r);
    OK(bgmq_temp_queue(mq, queue));
    flow_publish_with(mq, "Ask", "x", MESSAGE(.reply_to = queue));
    OK(bgmq_drop_queue(mq, queue));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "Ask", 1);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(flow_counters(mq).replies_dropped, 1);
    ck_assert_uint_eq(flow_stats(mq, "Ask").processed, 1);
    ck_assert_uint_eq(r.n, 1);
    flow_expect_empty(mq, "mq:Answer.inq");
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* A reply may be work for another type. */
START_TEST(reply_to_the_inq_of_a_type_is_handled_there)
{
    struct recorder ask, next;
    recorder_init(&ask);
    recorder_init(&next);
    ask.response = "Answer";
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Ask", &ask);
    flow_register(mq, "Next", &next);
    OK(bgmq_start(mq));
    flow_publish_with(mq, "Ask", "x", MESSAGE(.reply_to = "mq:Next.inq"));
    flow_expect(mq, "mq:Next.outq", "re:x");
    flow_close(mq);
    recorder_fini(&ask);
    recorder_fini(&next);
}
END_TEST

/* What begins like a type's queue is one, or a mistake. */
START_TEST(a_misspelt_queue_of_a_type_is_refused)
{
    static const char *const odd[] = {"mq:",     "mq:T",      "mq:T.ing",
                                      "mq:.inq", "mq:T.inq ", "mq:tm"};
    struct bgmq *mq = flow_open(_i);
    struct bgmq_message *m = NULL;
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        FAILS(BGMQ_EINVAL, bgmq_publish_to(mq, odd[i], "x", 1, NULL, NULL));
        FAILS(BGMQ_EINVAL, bgmq_get(mq, odd[i], 0, &m));
    }
    FAILS(BGMQ_ENOENT, bgmq_publish_to(mq, "mq:tmp:gone", "x", 1, NULL, NULL));
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("custom");
    TCase *tc = flow_case(s, "custom queues");
    flow_add_both(tc, custom_queue_is_made_on_first_use);
    flow_add_both(tc, custom_queue_takes_back);
    tcase_add_test(tc, custom_queue_carries_what_options_say);
    flow_add_both(tc, custom_queue_is_within_the_memory_of_the_service);
    tcase_add_test(tc, what_no_publisher_may_have_is_refused);
    tcase_add_test(tc, queue_names_are_checked);
    flow_add_both(tc, queues_of_a_type_by_name);
    tc = flow_case(s, "temporary queues");
    tcase_add_test(tc, temp_queues_have_names_of_their_own);
    tcase_add_test(tc, dropped_temp_queue_takes_nothing);
    tcase_add_test(tc, dropped_custom_queue_is_empty_when_used_again);
    tcase_add_test(tc, message_taken_from_a_dropped_queue_can_be_settled);
    flow_add_both(tc, reply_to_a_dropped_queue_is_dropped_and_counted);
    flow_add_both(tc, reply_to_the_inq_of_a_type_is_handled_there);
    flow_add_both(tc, a_misspelt_queue_of_a_type_is_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
