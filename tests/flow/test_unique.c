/* test_unique.c - unique keys: while one message of a type with the key is unfinished there is
 * no second, whoever asks. */
#include "flow.h"

#include <string.h>

static struct bgmq_receipt publish_key(struct bgmq *mq, const char *type, const char *key)
{
    struct bgmq_receipt receipt = {0};
    OK(bgmq_publish(mq, type, "x", 1, &MESSAGE(.unique_key = key), &receipt));
    ck_assert_uint_ne(receipt.id, 0);
    return receipt;
}

START_TEST(second_with_the_key_is_the_first)
{
    struct bgmq *mq = flow_open(_i);
    struct bgmq_receipt first = publish_key(mq, "T", "k");
    ck_assert_int_eq(first.duplicate, 0);
    struct bgmq_receipt second = publish_key(mq, "T", "k");
    ck_assert_int_eq(second.duplicate, 1);
    ck_assert_uint_eq(second.id, first.id);
    ck_assert_int_eq(publish_key(mq, "T", "K").duplicate, 0);
    ck_assert_int_eq(publish_key(mq, "Other", "k").duplicate, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 2);
    ck_assert_uint_eq(flow_collection(mq, "Other").inq, 1);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 3);
}
END_TEST

struct rival {
    struct bgmq *mq;
    struct barrier *start;
    struct bgmq_receipt receipts[20];
};

static void *publish_same_keys(void *arg)
{
    struct rival *r = arg;
    for (int i = 0; i < 20; i++) {
        char key[2] = {(char)('a' + i), '\0'};
        barrier_wait(r->start);
        r->receipts[i] = publish_key(r->mq, "T", key);
    }
    return NULL;
}

/* A6, twenty times. */
START_TEST(eight_threads_with_one_key_make_one_message)
{
    enum { N = 8 };
    struct barrier start;
    barrier_init(&start, N);
    struct bgmq *mq = flow_open(_i);
    struct rival rivals[N];
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        rivals[i] = (struct rival){.mq = mq, .start = &start};
        threads[i] = harness_thread(publish_same_keys, &rivals[i]);
    }
    for (int i = 0; i < N; i++)
        harness_join(threads[i]);
    for (int k = 0; k < 20; k++) {
        int duplicates = 0;
        for (int i = 0; i < N; i++) {
            duplicates += rivals[i].receipts[k].duplicate;
            ck_assert_uint_eq(rivals[i].receipts[k].id, rivals[0].receipts[k].id);
        }
        ck_assert_int_eq(duplicates, N - 1);
    }
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 20);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 20);
    barrier_fini(&start);
}
END_TEST

START_TEST(key_is_held_while_delayed_taken_or_running_and_free_after)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    struct bgmq_receipt receipt;
    OK(bgmq_publish(mq, "T", "x", 1,
                    &MESSAGE(.unique_key = "later", .delay_ms = 3600 * 1000), &receipt));
    ck_assert_uint_eq(publish_key(mq, "T", "later").id, receipt.id);
    uint64_t id = publish_key(mq, "T", "k").id;
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    ck_assert_uint_eq(publish_key(mq, "T", "k").id, id);
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    counter_wait(&r.begun, 1);
    ck_assert_uint_eq(publish_key(mq, "T", "k").id, id);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 1);
    struct bgmq_receipt next = publish_key(mq, "T", "k");
    ck_assert_int_eq(next.duplicate, 0);
    ck_assert_uint_ne(next.id, id);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(the_acknowledged_give_their_key_back)
{
    struct bgmq *mq = flow_open(_i);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(publish_key(mq, "T", "k").duplicate, 0);
        flow_expect(mq, "mq:T.inq", "x");
    }
    flow_close(mq);
}
END_TEST

START_TEST(the_dead_give_their_key_back)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    publish_key(mq, "T", "k");
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    ck_assert_int_eq(publish_key(mq, "T", "k").duplicate, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(the_discarded_give_their_key_back)
{
    struct recorder r;
    recorder_init(&r);
    r.verdict = BGMQ_DISCARD;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    for (uint64_t i = 1; i <= 3; i++) {
        ck_assert_int_eq(publish_key(mq, "T", "k").duplicate, 0);
        flow_wait_ended(mq, "T", i);
    }
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(key_is_held_across_a_restart)
{
    struct bgmq *mq = flow_open(1);
    uint64_t id = publish_key(mq, "T", "k").id;
    flow_close(mq);
    mq = flow_open(1);
    struct bgmq_receipt again = publish_key(mq, "T", "k");
    ck_assert_uint_eq(again.id, id);
    ck_assert_int_eq(again.duplicate, 1);
    flow_expect(mq, "mq:T.inq", "x");
    ck_assert_int_eq(publish_key(mq, "T", "k").duplicate, 0);
    flow_close(mq);
}
END_TEST

START_TEST(one_key_twice_in_one_commit)
{
    struct bgmq_message_options options = {.unique_key = "k"};
    struct bgmq_item items[3] = {
        {.type = "T", .body = "1", .len = 1, .options = &options},
        {.type = "T", .body = "2", .len = 1, .options = &options},
        {.type = "T", .body = "3", .len = 1},
    };
    struct bgmq_receipt receipts[3];
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_publish_many(mq, items, 3, receipts));
    ck_assert_int_eq(receipts[0].duplicate, 0);
    ck_assert_int_eq(receipts[1].duplicate, 1);
    ck_assert_uint_eq(receipts[1].id, receipts[0].id);
    ck_assert_int_eq(receipts[2].duplicate, 0);
    flow_expect(mq, "mq:T.inq", "1");
    flow_expect(mq, "mq:T.inq", "3");
    flow_expect_empty(mq, "mq:T.inq");
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("unique");
    TCase *tc = flow_case(s, "unique keys");
    flow_add_both(tc, second_with_the_key_is_the_first);
    flow_add_both(tc, eight_threads_with_one_key_make_one_message);
    flow_add_both(tc, key_is_held_while_delayed_taken_or_running_and_free_after);
    flow_add_both(tc, the_acknowledged_give_their_key_back);
    flow_add_both(tc, the_dead_give_their_key_back);
    flow_add_both(tc, the_discarded_give_their_key_back);
    tcase_add_test(tc, key_is_held_across_a_restart);
    flow_add_both(tc, one_key_twice_in_one_commit);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
