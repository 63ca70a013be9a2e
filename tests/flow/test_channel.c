/* test_channel.c - channels: a second row of queues of a type, served by who registered for it. */
#include "flow.h"

#include <stdio.h>
#include <string.h>

/* Writes down type, channel and body of what it runs. */
struct seen {
    char text[128];
    struct counter n;
};

static int see(struct bgmq_job *job, void *ctx)
{
    struct seen *s = ctx;
    const char *channel = bgmq_job_channel(job);
    snprintf(s->text, sizeof(s->text), "%s|%s|%s", bgmq_job_type(job),
             channel ? channel : "-", (const char *)bgmq_job_body(job, NULL));
    counter_add(&s->n, 1);
    return BGMQ_DONE;
}

static void expect_seen(struct seen *s, const char *text)
{
    counter_wait(&s->n, 1);
    ck_assert_str_eq(s->text, text);
}

START_TEST(each_channel_has_queues_and_workers_of_its_own)
{
    struct seen plain = {.text = ""}, eu = {.text = ""};
    counter_init(&plain.n);
    counter_init(&eu.n);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", see, &plain, NULL));
    OK(bgmq_register(mq, "T", see, &eu, &TYPE(.channel = "eu", .threads = 2)));
    FAILS(BGMQ_EEXIST, bgmq_register(mq, "T", see, &eu, &TYPE(.channel = "eu")));
    flow_publish_with(mq, "T", "a", MESSAGE(.channel = "eu"));
    flow_publish(mq, "T", "b");
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    ck_assert_uint_eq(flow_collection(mq, "T@eu").inq, 1);
    ck_assert_uint_eq(flow_collection(mq, "T@eu").threads, 2);
    OK(bgmq_set_threads(mq, "T@eu", 3));
    OK(bgmq_pause(mq, "T@eu"));
    OK(bgmq_start(mq));
    expect_seen(&plain, "T|-|b");
    ck_assert_uint_eq(flow_collection(mq, "T@eu").inq, 1);
    OK(bgmq_resume(mq, "T@eu"));
    expect_seen(&eu, "T|eu|a");
    flow_wait_ended(mq, "T@eu", 1);
    flow_expect(mq, "mq:T@eu.outq", "a");
    flow_close(mq);
    counter_fini(&plain.n);
    counter_fini(&eu.n);
}
END_TEST

START_TEST(a_channel_nobody_registered_is_parked_and_shown)
{
    struct seen eu = {.text = ""};
    counter_init(&eu.n);
    struct bgmq *mq = flow_open(_i);
    uint64_t id = flow_publish_with(mq, "T", "a", MESSAGE(.channel = "eu", .tag = "t"));
    ck_assert_int_eq(flow_collection(mq, "T@eu").registered, 0);
    ck_assert_uint_eq(flow_collection(mq, "T@eu").inq, 1);
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
        ck_assert_uint_eq(flow_collection(mq, "T@eu").inq, 1);
    }
    ck_assert_int_eq(bgmq_cancel(mq, "T@eu", &(struct bgmq_select){.tag = "t"}, NULL), 1);
    ck_assert_int_eq(bgmq_retry_dead(mq, "T@eu", id), 1);
    OK(bgmq_register(mq, "T", see, &eu, &TYPE(.channel = "eu")));
    OK(bgmq_start(mq));
    expect_seen(&eu, "T|eu|a");
    flow_close(mq);
    counter_fini(&eu.n);
}
END_TEST

START_TEST(any_channel_takes_what_nobody_registered)
{
    struct seen any = {.text = ""}, eu = {.text = ""};
    counter_init(&any.n);
    counter_init(&eu.n);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", see, &any, &TYPE(.any_channel = 1)));
    OK(bgmq_register(mq, "T", see, &eu, &TYPE(.channel = "eu")));
    flow_publish_with(mq, "T", "a", MESSAGE(.channel = "us"));
    flow_publish_with(mq, "T", "b", MESSAGE(.channel = "eu"));
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
        OK(bgmq_register(mq, "T", see, &any, &TYPE(.any_channel = 1)));
        OK(bgmq_register(mq, "T", see, &eu, &TYPE(.channel = "eu")));
    }
    OK(bgmq_start(mq));
    expect_seen(&any, "T|us|a");
    expect_seen(&eu, "T|eu|b");
    flow_close(mq);
    counter_fini(&any.n);
    counter_fini(&eu.n);
}
END_TEST

START_TEST(queues_of_a_channel_go_by_their_name)
{
    struct bgmq *mq = flow_open(_i);
    flow_publish_with(mq, "T", "a", MESSAGE(.channel = "eu"));
    OK(bgmq_publish_to(mq, "mq:T@eu.inq", "b", 1, NULL, NULL));
    OK(bgmq_publish_to(mq, "mq:T.inq", "c", 1, &MESSAGE(.channel = "eu"), NULL));
    struct bgmq_message *m = flow_take(mq, "mq:T@eu.inq");
    ck_assert_str_eq(bgmq_message_type(m), "T");
    flow_expect_body(m, "a");
    flow_done(m);
    flow_expect(mq, "mq:T@eu.inq", "b");
    flow_expect(mq, "mq:T@eu.inq", "c");
    flow_close(mq);
}
END_TEST

START_TEST(names_with_a_channel_are_not_for_publish_and_register)
{
    char name[160], channel[60];
    memset(name, 'n', sizeof(name) - 1);
    memset(channel, 'c', sizeof(channel) - 1);
    name[sizeof(name) - 1] = channel[sizeof(channel) - 1] = '\0';
    struct seen s = {.text = ""};
    struct bgmq *mq = flow_open(_i);
    flow_publish_with(mq, "T", "a", MESSAGE(.channel = "eu"));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T@eu", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T@us", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "T@eu", see, &s, NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "T", see, &s, &TYPE(.channel = "")));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "T", see, &s, &TYPE(.channel = "a", .any_channel = 1)));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T", "x", 1, &MESSAGE(.channel = "a b"), NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "a b", "x", 1, &MESSAGE(.channel = "a"), NULL));
    FAILS(BGMQ_EINVAL, bgmq_register(mq, "a b", see, &s, &TYPE(.channel = "a")));
    FAILS(BGMQ_EINVAL,
          bgmq_publish(mq, name, "x", 1, &MESSAGE(.channel = channel), NULL));
    FAILS(BGMQ_EINVAL,
          bgmq_publish_to(mq, "custom", "x", 1, &MESSAGE(.channel = "eu"), NULL));
    struct bgmq_collection c;
    FAILS(BGMQ_EINVAL, bgmq_type_collection(mq, "T@", &c));
    FAILS(BGMQ_EINVAL, bgmq_type_collection(mq, "@eu", &c));
    FAILS(BGMQ_EINVAL, bgmq_type_collection(mq, "T@e@u", &c));
    FAILS(BGMQ_ENOENT, bgmq_type_collection(mq, "T@us", &c));
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("channel");
    TCase *tc = flow_case(s, "channels");
    flow_add_both(tc, each_channel_has_queues_and_workers_of_its_own);
    flow_add_both(tc, a_channel_nobody_registered_is_parked_and_shown);
    flow_add_both(tc, any_channel_takes_what_nobody_registered);
    flow_add_both(tc, queues_of_a_channel_go_by_their_name);
    flow_add_both(tc, names_with_a_channel_are_not_for_publish_and_register);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
