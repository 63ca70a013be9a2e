/* test_key.c - for how long a unique key is held, and what a publish does when it is: keep,
 * replace, refuse; in memory and with a database, from many threads, and after a crash. */
#include "flow.h"

#include "service.h"

#include <string.h>

#define THEN_MS  INT64_C(1523303089000)
#define KEY(...) MESSAGE(.unique_key = "k", __VA_ARGS__)

enum { HOUR = 3600 * 1000 };

static struct fake_clock fake;

static struct bgmq *open_at_then(int durable)
{
    struct bgmq *mq = NULL;
    fake_clock_init(&fake, THEN_MS);
    OK(bgmqi_service_open(&mq, &SERVICE(.database = durable ? flow_database() : NULL),
                          &fake.clock, NULL));
    return mq;
}

static struct bgmq_receipt publish(struct bgmq *mq, const char *text,
                                   struct bgmq_message_options options)
{
    struct bgmq_receipt receipt = {0};
    OK(bgmq_publish(mq, "T", text, strlen(text), &options, &receipt));
    return receipt;
}

static int is_held(struct bgmq *mq, struct bgmq_message_options options)
{
    struct bgmq_receipt receipt;
    options.on_conflict = BGMQ_CONFLICT_REFUSE;
    options.delay_ms = HOUR;
    int err = bgmq_publish(mq, "T", "probe", 5, &options, &receipt);
    if (err == BGMQ_EEXIST)
        return 1;
    OK(err);
    ck_assert_int_eq(bgmq_discard(mq, "T", &(struct bgmq_select){.id = receipt.id}), 1);
    return 0;
}

/* ---- scopes ------------------------------------------------------------------------ */

START_TEST(unfinished_holds_until_done_or_dead)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    publish(mq, "a", KEY(0));
    ck_assert(is_held(mq, KEY(0)));
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    ck_assert(!is_held(mq, KEY(0)));
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(waiting_holds_until_the_first_start)
{
    struct bgmq *mq = flow_open(_i);
    struct bgmq_message_options o = KEY(.unique = BGMQ_UNIQUE_WAITING);
    publish(mq, "a", o);
    ck_assert(is_held(mq, o));
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    ck_assert(!is_held(mq, o));
    struct bgmq_receipt second = publish(mq, "b", o);
    ck_assert_int_eq(second.duplicate, 0);
    flow_done(m);
    ck_assert(is_held(mq, o)); /* the end of the first is not that of the second */
    flow_close(mq);
}
END_TEST

START_TEST(done_is_held_by_the_dead_too)
{
    struct bgmq_message_options o = KEY(.unique = BGMQ_UNIQUE_DONE);
    struct bgmq *mq = flow_open(_i);
    uint64_t id = publish(mq, "a", o).id;
    ck_assert_int_eq(bgmq_cancel(mq, "T", NULL, NULL), 1);
    ck_assert(is_held(mq, o));
    ck_assert_uint_eq(publish(mq, "b", o).id, id);
    if (_i) {
        flow_close(mq);
        mq = flow_open(1);
        ck_assert(is_held(mq, o));
    }
    ck_assert_int_eq(bgmq_discard(mq, "T", NULL), 1);
    ck_assert(!is_held(mq, o));
    flow_close(mq);
}
END_TEST

START_TEST(a_period_holds_whatever_becomes_of_the_message)
{
    struct bgmq_message_options o =
        KEY(.unique = BGMQ_UNIQUE_PERIOD, .unique_period_ms = 5000);
    struct bgmq *mq = open_at_then(_i);
    uint64_t id = publish(mq, "a", o).id;
    flow_expect(mq, "mq:T.inq", "a");
    fake_clock_advance(&fake, 4999);
    ck_assert(is_held(mq, o));
    struct bgmq_receipt again = publish(mq, "b", o);
    ck_assert_int_eq(again.duplicate, 1);
    ck_assert_uint_eq(again.id, id);
    fake_clock_advance(&fake, 1);
    again = publish(mq, "c", o);
    ck_assert_int_eq(again.duplicate, 0);
    /* The period of the second is over while it still waits. */
    fake_clock_advance(&fake, 5000);
    ck_assert_int_eq(publish(mq, "d", o).duplicate, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 2);
    flow_close(mq);
    fake_clock_fini(&fake);
}
END_TEST

static const struct bgmq_message_options wrong[] = {
    {.unique_key = "k", .unique = (enum bgmq_unique)9},
    {.unique_key = "k", .unique = BGMQ_UNIQUE_PERIOD},
    {.unique = BGMQ_UNIQUE_PERIOD, .unique_period_ms = 1},
    {.unique_key = "k", .unique_period_ms = 1},
    {.unique_key = "k", .unique = BGMQ_UNIQUE_PERIOD, .unique_period_ms = INT64_MAX},
    {.unique_key = "k", .on_conflict = (enum bgmq_conflict)7},
};

START_TEST(wrong_options_are_refused)
{
    struct bgmq *mq = flow_open(_i);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T", "x", 1, &wrong[i], NULL));
    struct bgmq_message_options o = KEY(.on_conflict = BGMQ_CONFLICT_REPLACE);
    struct bgmq_item item = {"T", "x", 1, &o};
    FAILS(BGMQ_EINVAL, bgmq_publish_many(mq, &item, 1, NULL));
    o.on_conflict = BGMQ_CONFLICT_REFUSE;
    FAILS(BGMQ_EINVAL, bgmq_publish_many(mq, &item, 1, NULL));
    flow_close(mq);
}
END_TEST

/* ---- conflicts --------------------------------------------------------------------- */

START_TEST(replace_puts_the_new_one_in_place_of_the_old)
{
    struct bgmq_message_options o = KEY(.on_conflict = BGMQ_CONFLICT_REPLACE);
    struct bgmq *mq = flow_open(_i);
    struct bgmq_receipt a = publish(mq, "a", o);
    ck_assert_uint_eq(a.replaced, 0);
    struct bgmq_receipt b = publish(mq, "b", o);
    ck_assert_int_eq(b.duplicate, 0);
    ck_assert_uint_eq(b.replaced, a.id);
    ck_assert_uint_ne(b.id, a.id);
    o.delay_ms = HOUR;
    struct bgmq_receipt c = publish(mq, "c", o);
    ck_assert_uint_eq(c.replaced, b.id);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    if (_i) {
        flow_close(mq);
        ck_assert_int_eq(flow_rows(), 1);
        mq = flow_open(1);
    }
    o.delay_ms = 0;
    struct bgmq_receipt d = publish(mq, "d", o);
    ck_assert_uint_eq(d.replaced, c.id);
    flow_expect(mq, "mq:T.inq", "d");
    ck_assert(!is_held(mq, KEY(0)));
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

START_TEST(replace_of_what_is_at_work_or_dead_keeps_it)
{
    struct bgmq_message_options o =
        KEY(.on_conflict = BGMQ_CONFLICT_REPLACE, .unique = BGMQ_UNIQUE_DONE);
    struct bgmq *mq = flow_open(_i);
    uint64_t id = publish(mq, "a", o).id;
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    struct bgmq_receipt b = publish(mq, "b", o);
    ck_assert_int_eq(b.duplicate, 1);
    ck_assert_uint_eq(b.id, id);
    OK(bgmq_nak(m, 0));
    bgmq_message_free(m);
    b = publish(mq, "b", o);
    ck_assert_int_eq(b.duplicate, 1);
    ck_assert_uint_eq(b.id, id);
    ck_assert_uint_eq(b.replaced, 0);
    flow_close(mq);
}
END_TEST

START_TEST(replace_within_a_period_takes_the_key_over)
{
    struct bgmq_message_options o =
        KEY(.on_conflict = BGMQ_CONFLICT_REPLACE, .unique = BGMQ_UNIQUE_PERIOD,
            .unique_period_ms = 5000);
    struct bgmq *mq = open_at_then(_i);
    uint64_t a = publish(mq, "a", o).id;
    fake_clock_advance(&fake, 3000);
    struct bgmq_receipt b = publish(mq, "b", o);
    ck_assert_uint_eq(b.replaced, a);
    fake_clock_advance(&fake, 3000);
    struct bgmq_message_options keep =
        KEY(.unique = BGMQ_UNIQUE_PERIOD, .unique_period_ms = 5000);
    ck_assert_uint_eq(publish(mq, "c", keep).id, b.id);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    flow_close(mq);
    fake_clock_fini(&fake);
}
END_TEST

/* The bound is on what waits, and the new one takes the room of the old. */
START_TEST(replace_needs_no_room_of_its_own)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq_message_options o = KEY(.on_conflict = BGMQ_CONFLICT_REPLACE);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.max_messages = 2));
    publish(mq, "a", o);
    ck_assert_uint_ne(publish(mq, "b", o).replaced, 0);
    ck_assert_uint_ne(publish(mq, "c", o).replaced, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

enum { THREADS = 8, ROUNDS = 15 };

struct rival {
    struct bgmq *mq;
    struct barrier *start;
    int added, replaced;
};

static void *replace_again_and_again(void *arg)
{
    struct rival *r = arg;
    barrier_wait(r->start);
    for (int i = 0; i < ROUNDS; i++) {
        struct bgmq_receipt receipt =
            publish(r->mq, "x", KEY(.on_conflict = BGMQ_CONFLICT_REPLACE));
        r->added += !receipt.duplicate;
        r->replaced += receipt.replaced != 0;
    }
    return NULL;
}

/* Started: workers take some of them meanwhile.  What was added was replaced, or run once. */
static void replace_from_many_threads(int durable, int started)
{
    struct barrier start;
    struct rival rivals[THREADS];
    pthread_t threads[THREADS];
    struct recorder r;
    int added = 0, replaced = 0;
    recorder_init(&r);
    barrier_init(&start, THREADS);
    struct bgmq *mq = flow_open(durable);
    flow_register_with(mq, "T", &r, TYPE(.threads = 2));
    if (started)
        OK(bgmq_start(mq));
    for (int i = 0; i < THREADS; i++) {
        rivals[i] = (struct rival){.mq = mq, .start = &start};
        threads[i] = harness_thread(replace_again_and_again, &rivals[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        harness_join(threads[i]);
        added += rivals[i].added;
        replaced += rivals[i].replaced;
    }
    if (!started) {
        ck_assert_int_eq(added, THREADS * ROUNDS);
        ck_assert_int_eq(added - replaced, 1);
        ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
        OK(bgmq_start(mq));
    }
    flow_wait_ended(mq, "T", (uint64_t)(added - replaced));
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, (size_t)(added - replaced));
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    flow_close(mq);
    if (durable)
        ck_assert_int_eq(flow_rows(), 0);
    barrier_fini(&start);
    recorder_fini(&r);
}

START_TEST(eight_threads_that_replace_leave_one)
{
    replace_from_many_threads(_i, 0);
}
END_TEST

START_TEST(eight_threads_that_replace_race_with_workers)
{
    replace_from_many_threads(_i, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("key");
    TCase *tc = flow_case(s, "scope");
    flow_add_both(tc, unfinished_holds_until_done_or_dead);
    flow_add_both(tc, waiting_holds_until_the_first_start);
    flow_add_both(tc, done_is_held_by_the_dead_too);
    flow_add_both(tc, a_period_holds_whatever_becomes_of_the_message);
    flow_add_both(tc, wrong_options_are_refused);
    tc = flow_case(s, "conflict");
    flow_add_both(tc, replace_puts_the_new_one_in_place_of_the_old);
    flow_add_both(tc, replace_of_what_is_at_work_or_dead_keeps_it);
    flow_add_both(tc, replace_within_a_period_takes_the_key_over);
    flow_add_both(tc, replace_needs_no_room_of_its_own);
    flow_add_both(tc, eight_threads_that_replace_leave_one);
    flow_add_both(tc, eight_threads_that_replace_race_with_workers);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
