/* test_retry.c - attempts: how many there are, in what order, what they remember, and how
 * the dead and the waiting come back. */
#include "flow.h"

START_TEST(retry_without_back_off_joins_the_tail)
{
    char order[64];
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.backoff = BGMQ_BACKOFF_NONE));
    flow_publish(mq, "T", "a");
    flow_publish(mq, "T", "b");
    flow_publish(mq, "T", "c");
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 6);
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "a b c a b c ");
    ck_assert_str_eq(flow_bodies(mq, "mq:T.outq", order, sizeof(order)), "a b c ");
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.added, 6);
    ck_assert_uint_eq(c.outq_added, 3);
    ck_assert_uint_eq(c.dlq_added, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static int fail_then_wait(struct bgmq_job *job, void *ctx)
{
    size_t len = 0;
    const char *body = bgmq_job_body(job, &len);
    if (body[0] == 'f' && bgmq_job_attempt(job) == 1)
        return BGMQ_RETRY;
    if (body[0] == 'w')
        gate_wait((struct gate *)ctx);
    return BGMQ_DONE;
}

START_TEST(retry_without_back_off_is_queued_at_once)
{
    struct gate gate;
    gate_init(&gate);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", fail_then_wait, &gate,
                     &TYPE(.backoff = BGMQ_BACKOFF_NONE)));
    flow_publish(mq, "T", "fails");
    flow_publish(mq, "T", "waits");
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_stats(mq, "T").normal_received == 2);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.delayed, 0);
    ck_assert_uint_eq(c.inq, 1);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 3);
    flow_close(mq);
    gate_fini(&gate);
}
END_TEST

START_TEST(success_after_failure_carries_no_error)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 2;
    r.code = "Twice";
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.backoff = BGMQ_BACKOFF_NONE));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    struct bgmq_message *m = flow_take(mq, "mq:T.outq");
    ck_assert_ptr_null(bgmq_message_error_code(m));
    ck_assert_ptr_null(bgmq_message_error_text(m));
    ck_assert_int_eq(bgmq_message_error_ms(m), 0);
    ck_assert_uint_eq(bgmq_message_attempts(m), 3);
    flow_done(m);
    struct bgmq_stats s = flow_stats(mq, "T");
    ck_assert_uint_eq(s.failed, 2);
    ck_assert_uint_eq(s.retries, 2);
    ck_assert_uint_eq(s.processed, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(max_attempts_of_a_message_overrides_its_type)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 100;
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r,
                       TYPE(.max_attempts = 2, .backoff = BGMQ_BACKOFF_NONE));
    OK(bgmq_start(mq));
    flow_publish_with(mq, "T", "four", MESSAGE(.max_attempts = 4));
    flow_wait_ended(mq, "T", 4);
    flow_expect(mq, "mq:T.dlq", "four");
    flow_publish_with(mq, "T", "one", MESSAGE(.max_attempts = 1));
    flow_expect(mq, "mq:T.dlq", "one");
    flow_publish(mq, "T", "two");
    flow_expect(mq, "mq:T.dlq", "two");
    OK(bgmq_stop(mq, 0));
    char order[64];
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)),
                     "four four four four one two two ");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(default_is_five_attempts)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 100;
    struct bgmq *mq = flow_open(0);
    flow_register_with(mq, "T", &r, TYPE(.backoff_base_ms = 1, .backoff_max_ms = 2));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_expect(mq, "mq:T.dlq", "x");
    ck_assert_int_eq(counter_value(&r.begun), 5);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

struct delays {
    struct recorder recorder; /* first: the handler's ctx is the callback's too */
    unsigned asked[8];
    struct counter n;
};

static int64_t note_attempt(unsigned attempt, void *ctx)
{
    struct delays *d = ctx;
    d->asked[counter_add(&d->n, 1) - 1] = attempt;
    return attempt == 1 ? 0 : 2;
}

START_TEST(back_off_callback_is_told_how_many_failed)
{
    struct delays d;
    recorder_init(&d.recorder);
    counter_init(&d.n);
    d.recorder.failures = 3;
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(
        mq, "T", recorder_handler, &d,
        &TYPE(.backoff = BGMQ_BACKOFF_CALLBACK, .backoff_fn = note_attempt)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_expect(mq, "mq:T.outq", "x");
    ck_assert_int_eq(counter_value(&d.n), 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(d.asked[i], i + 1);
    flow_close(mq);
    recorder_fini(&d.recorder);
    counter_fini(&d.n);
}
END_TEST

static int64_t next_year(unsigned attempt, void *ctx)
{
    return (int64_t)365 * 24 * 3600 * 1000;
}

static void register_for_next_year(struct bgmq *mq, struct recorder *r)
{
    r->failures = 1;
    r->code = "Wait";
    flow_register_with(mq, "T", r,
                       TYPE(.backoff = BGMQ_BACKOFF_CALLBACK, .backoff_fn = next_year));
}

START_TEST(waiting_for_back_off_is_counted_as_delayed)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    register_for_next_year(mq, &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 3);
    flow_wait_ended(mq, "T", 3);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.delayed, 3);
    ck_assert_uint_eq(c.inq + c.running + c.dlq + c.outq, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static int snooze_twice(struct bgmq_job *job, void *ctx)
{
    struct recorder *r = ctx;
    recorder_handler(job, ctx);
    return counter_value(&r->begun) <= 2 ? bgmq_job_snooze(job, 1) : BGMQ_DONE;
}

START_TEST(snooze_uses_no_attempt)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", snooze_twice, &r, &TYPE(.max_attempts = 1)));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_expect(mq, "mq:T.outq", "x");
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(r.calls[i].attempt, 1);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 0);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(discard_goes_nowhere_and_counts_as_failed)
{
    struct recorder r;
    recorder_init(&r);
    r.verdict = BGMQ_DISCARD;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 1);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.outq_added + c.dlq_added, 0);
    ck_assert_uint_eq(c.inq + c.priorityq + c.outq + c.dlq + c.delayed + c.running, 0);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 0);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

/* Whatever fails for good waits for an operator, however many they are. */
START_TEST(the_dead_are_all_kept)
{
    enum { DEAD = 500 };
    struct recorder r;
    recorder_init(&r);
    r.verdict = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    for (int i = 0; i < DEAD; i++)
        flow_publish_with(mq, "T", "x", MESSAGE(.durability = _i ? BGMQ_BEHIND : 0));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", DEAD);
    WAIT_UNTIL(flow_collection(mq, "T").dlq == DEAD);
    for (int i = 0; i < DEAD; i++)
        flow_expect(mq, "mq:T.dlq", "x");
    flow_expect_empty(mq, "mq:T.dlq");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("retry");
    TCase *tc = flow_case(s, "attempts");
    flow_add_both(tc, retry_without_back_off_joins_the_tail);
    flow_add_both(tc, retry_without_back_off_is_queued_at_once);
    flow_add_both(tc, success_after_failure_carries_no_error);
    flow_add_both(tc, max_attempts_of_a_message_overrides_its_type);
    tcase_add_test(tc, default_is_five_attempts);
    flow_add_both(tc, back_off_callback_is_told_how_many_failed);
    flow_add_both(tc, waiting_for_back_off_is_counted_as_delayed);
    flow_add_both(tc, snooze_uses_no_attempt);
    flow_add_both(tc, discard_goes_nowhere_and_counts_as_failed);
    flow_add_both(tc, the_dead_are_all_kept);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
