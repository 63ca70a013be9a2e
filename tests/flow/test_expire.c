/* test_expire.c - messages that are not started in time: in memory at the millisecond, in the
 * database only within a second, after a reopening, and discarded when the type says so. */
#include "flow.h"

#include "service.h"

#include <string.h>

#define THEN_MS INT64_C(1523303089000)

enum { HOUR = 3600 * 1000, N = 40 };

static struct fake_clock fake;
static struct recorder recorder;

static struct bgmq *open_with(int durable, struct bgmq_type_options options)
{
    struct bgmq *mq = NULL;
    OK(bgmqi_service_open(&mq, &SERVICE(.database = durable ? flow_database() : NULL),
                          &fake.clock, NULL));
    flow_register_with(mq, "T", &recorder, options);
    return mq;
}

static struct bgmq *begin(int durable, struct bgmq_type_options options)
{
    fake_clock_init(&fake, THEN_MS);
    recorder_init(&recorder);
    return open_with(durable, options);
}

static void end(struct bgmq *mq)
{
    flow_close(mq);
    recorder_fini(&recorder);
    fake_clock_fini(&fake);
}

static struct bgmq_info find(struct bgmq *mq, uint64_t id)
{
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", id, &info));
    return info;
}

static uint64_t expired(struct bgmq *mq)
{
    return flow_collection(mq, "T").expired;
}

START_TEST(what_is_not_started_in_time_is_dead)
{
    struct bgmq *mq = begin(_i, TYPE(.threads = 1));
    uint64_t now = flow_publish_with(mq, "T", "w", MESSAGE(.expire_ms = 1000));
    uint64_t urgent =
        flow_publish_with(mq, "T", "p", MESSAGE(.expire_ms = 1000, .priority = 1));
    uint64_t delayed = flow_publish_with(
        mq, "T", "d", MESSAGE(.expire_at_ms = THEN_MS + 1000, .delay_ms = HOUR));
    uint64_t later = flow_publish_with(mq, "T", "l", MESSAGE(.expire_ms = 1001));
    uint64_t never = flow_publish(mq, "T", "n");
    ck_assert_int_eq(find(mq, delayed).expires_ms, THEN_MS + 1000);
    fake_clock_advance(&fake, 999);
    flow_publish_with(mq, "T", "tick", MESSAGE(.delay_ms = HOUR));
    ck_assert_uint_eq(expired(mq), 0);
    fake_clock_advance(&fake, 1);
    WAIT_UNTIL(expired(mq) == 3);
    ck_assert_int_eq(find(mq, now).state, BGMQ_STATE_DEAD);
    ck_assert_str_eq(find(mq, now).error_code, "expired");
    ck_assert_int_eq(find(mq, urgent).state, BGMQ_STATE_DEAD);
    ck_assert_int_eq(find(mq, delayed).state, BGMQ_STATE_DEAD);
    ck_assert_int_eq(find(mq, later).state, BGMQ_STATE_WAITING);
    ck_assert_int_eq(find(mq, never).state, BGMQ_STATE_WAITING);
    fake_clock_advance(&fake, 1);
    WAIT_UNTIL(expired(mq) == 4);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 4);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 1);
    ck_assert_uint_eq(recorder_call(&recorder, 0).id, never);
    end(mq);
    if (_i)
        ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_backlog WHERE lane = 3 AND"
                                  " error_code = 'expired'"),
                         4);
}
END_TEST

START_TEST(the_types_expiry_is_that_of_messages_that_say_nothing)
{
    struct bgmq *mq = begin(_i, TYPE(.expire_ms = 500, .discard_expired = 1));
    uint64_t id = flow_publish(mq, "T", "a");
    uint64_t own = flow_publish_with(mq, "T", "b", MESSAGE(.expire_ms = 2000));
    struct bgmq_receipt receipts[2];
    struct bgmq_item items[2] = {{"T", "c", 1, NULL}, {"T", "d", 1, NULL}};
    OK(bgmq_publish_many(mq, items, 2, receipts));
    ck_assert_int_eq(find(mq, id).expires_ms, THEN_MS + 500);
    ck_assert_int_eq(find(mq, receipts[1].id).expires_ms, THEN_MS + 500);
    ck_assert_int_eq(find(mq, own).expires_ms, THEN_MS + 2000);
    fake_clock_advance(&fake, 500);
    WAIT_UNTIL(expired(mq) == 3);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    struct bgmq_info info;
    FAILS(BGMQ_ENOENT, bgmq_find(mq, "T", id, &info));
    end(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 1);
}
END_TEST

/* Most are in the database only; some of them expire a minute after the others. */
START_TEST(rows_beyond_the_window_expire_too)
{
    struct bgmq *mq = begin(1, TYPE(.window = 4));
    for (int i = 0; i < N; i++) {
        int64_t ms = i % 2 ? 1000 : 60000;
        flow_publish_with(mq, "T", "w", MESSAGE(.expire_ms = ms));
        flow_publish_with(mq, "T", "d", MESSAGE(.expire_ms = ms, .delay_ms = HOUR + i));
        flow_publish_with(mq, "T", "n", MESSAGE(.delay_ms = HOUR + i));
    }
    fake_clock_advance(&fake, 1000);
    WAIT_UNTIL(expired(mq) == N);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, N);
    fake_clock_advance(&fake, 59000);
    WAIT_UNTIL(expired(mq) == 2 * N);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.dlq, 2 * N);
    ck_assert_uint_eq(c.inq, 0);
    ck_assert_uint_eq(c.delayed, N);
    end(mq);
}
END_TEST

START_TEST(what_expired_while_nobody_looked_is_dead_after_the_reopening)
{
    struct bgmq *mq = begin(1, TYPE(.window = 4));
    for (int i = 0; i < N; i++)
        flow_publish_with(mq, "T", "w", MESSAGE(.expire_ms = 1000 + i % 2 * HOUR));
    flow_close(mq);
    fake_clock_advance(&fake, 5000);
    mq = open_with(1, TYPE(.window = 4));
    WAIT_UNTIL(expired(mq) == N / 2);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N / 2);
    fake_clock_advance(&fake, HOUR);
    WAIT_UNTIL(expired(mq) == N);
    ck_assert_uint_eq(recorder.n, 0);
    end(mq);
}
END_TEST

/* Those in the window live, so that no load brings the others into memory.  Before its type is
 * registered the window is the default one. */
START_TEST(what_expired_beyond_the_window_is_dead_after_the_reopening)
{
    enum { WINDOW = 1000, BEYOND = 50 };
    struct bgmq *mq = begin(1, TYPE(.threads = 1));
    for (int i = 0; i < WINDOW + 2 * BEYOND; i++)
        flow_publish_with(mq, "T", "w",
                          MESSAGE(.expire_ms = i < WINDOW + BEYOND ? HOUR : 1000,
                                  .durability = BGMQ_BEHIND));
    flow_close(mq);
    fake_clock_advance(&fake, 5000);
    mq = open_with(1, TYPE(.threads = 1));
    WAIT_UNTIL(expired(mq) == BEYOND);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, WINDOW + BEYOND);
    end(mq);
}
END_TEST

/* In memory, in the database only, and after a reopening: it runs, and does not expire anew. */
START_TEST(who_is_raised_from_the_dead_has_no_expiry_that_is_over)
{
    struct bgmq *mq = begin(_i, TYPE(.window = 4));
    for (int i = 0; i < N; i++)
        flow_publish_with(mq, "T", "e", MESSAGE(.expire_ms = 1000));
    uint64_t own = flow_publish_with(mq, "T", "l", MESSAGE(.expire_ms = HOUR));
    fake_clock_advance(&fake, 1000);
    WAIT_UNTIL(expired(mq) == N);
    OK(bgmq_cancel(mq, "T", &(struct bgmq_select){.id = own}, NULL) - 1);
    ck_assert_int_eq(bgmq_retry(mq, "T", NULL), N + 1);
    ck_assert_int_eq(find(mq, own).expires_ms, THEN_MS + HOUR);
    if (_i) {
        OK(bgmq_flush(mq));
        ck_assert_int_eq(
            flow_sql("SELECT count(*) FROM bgmq_backlog WHERE expires IS NOT NULL"), 1);
        flow_close(mq);
        fake_clock_advance(&fake, 5000);
        mq = open_with(1, TYPE(.window = 4));
    }
    fake_clock_advance(&fake, 5000);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", N + 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, N + 1);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    end(mq);
}
END_TEST

static const struct bgmq_message_options wrong[] = {
    {.expire_ms = -1},        {.expire_ms = 1, .expire_at_ms = THEN_MS + 1},
    {.expire_ms = INT64_MAX}, {.expire_at_ms = INT64_MAX},
    {.expire_at_ms = -1},
};

START_TEST(wrong_expiries_are_refused)
{
    struct bgmq *mq = begin(0, TYPE(.threads = 1));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T", "x", 1, &wrong[i], NULL));
    FAILS(BGMQ_EINVAL,
          bgmq_register(mq, "U", recorder_handler, &recorder, &TYPE(.expire_ms = -1)));
    FAILS(BGMQ_EINVAL,
          bgmq_publish_to(mq, "custom", "x", 1, &MESSAGE(.expire_ms = 1), NULL));
    end(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("expire");
    TCase *tc = flow_case(s, "expiry");
    flow_add_both(tc, what_is_not_started_in_time_is_dead);
    flow_add_both(tc, the_types_expiry_is_that_of_messages_that_say_nothing);
    tcase_add_test(tc, rows_beyond_the_window_expire_too);
    flow_add_both(tc, who_is_raised_from_the_dead_has_no_expiry_that_is_over);
    tcase_add_test(tc, what_expired_while_nobody_looked_is_dead_after_the_reopening);
    tcase_add_test(tc, what_expired_beyond_the_window_is_dead_after_the_reopening);
    tcase_add_test(tc, wrong_expiries_are_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
