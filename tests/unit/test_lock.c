/* test_lock.c - the lock: one holder at a time, nobody left asleep, misuse and a wrong order are
 * seen. */
#include "lock.h"

#include "fork.h"
#include "harness.h"
#include "log.h"
#include "monitor.h"
#include "park.h"
#include "retry.h"

#include <sched.h>
#include <signal.h>

/* Some tests misuse a lock, and a compiler that follows them sees that. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif

enum { THREADS = 4, ROUNDS = 20000 };

struct shared {
    struct lock lock;
    long inside; /* not atomic: who is inside is alone */
    long total;
};

static void *go_in_and_out(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < ROUNDS; i++) {
        lock_take(&s->lock);
        ck_assert_int_eq(++s->inside, 1);
        s->total++;
        if (i % 64 == 0)
            sched_yield(); /* the others come, spin, and sleep */
        s->inside--;
        lock_drop(&s->lock);
    }
    return NULL;
}

START_TEST(one_is_inside_at_a_time_and_all_come_through)
{
    struct shared s = {.total = 0};
    pthread_t threads[THREADS];
    lock_init(&s.lock, RANK_QUEUE);
    for (int i = 0; i < THREADS; i++)
        threads[i] = harness_thread(go_in_and_out, &s);
    for (int i = 0; i < THREADS; i++)
        harness_join(threads[i]);
    ck_assert_int_eq(s.total, THREADS * ROUNDS);
    lock_fini(&s.lock);
}
END_TEST

static void *take_once(void *arg)
{
    struct shared *s = arg;
    lock_take(&s->lock);
    s->total++;
    lock_drop(&s->lock);
    return NULL;
}

/* All of them sleep on it, and each drop wakes one. */
START_TEST(those_who_sleep_are_woken_one_after_the_other)
{
    struct shared s = {.total = 0};
    pthread_t threads[THREADS];
    lock_init(&s.lock, RANK_QUEUE);
    lock_take(&s.lock);
    for (int i = 0; i < THREADS; i++)
        threads[i] = harness_thread(take_once, &s);
    WAIT_UNTIL(atomic_load(&s.lock.word) == LOCK_AWAITED);
    ck_assert_int_eq(s.total, 0);
    lock_drop(&s.lock);
    for (int i = 0; i < THREADS; i++)
        harness_join(threads[i]);
    ck_assert_int_eq(s.total, THREADS);
    ck_assert_uint_eq(atomic_load(&s.lock.word), LOCK_FREE);
    lock_fini(&s.lock);
}
END_TEST

START_TEST(to_take_it_twice_aborts)
{
    struct lock l;
    lock_init(&l, RANK_QUEUE);
    lock_take(&l);
    lock_assert_held(&l);
    lock_take(&l);
}
END_TEST

START_TEST(to_drop_what_is_free_aborts)
{
    struct lock l;
    lock_init(&l, RANK_QUEUE);
    lock_drop(&l);
}
END_TEST

static void *drop_it(void *arg)
{
    lock_drop(arg);
    return NULL;
}

START_TEST(to_drop_what_another_holds_aborts)
{
    struct lock l;
    lock_init(&l, RANK_QUEUE);
    lock_take(&l);
    harness_join(harness_thread(drop_it, &l));
}
END_TEST

/* ---- the order ---------------------------------------------------------------------- */

static void none(void *ctx, enum bgmq_level level, const char *text)
{
}

START_TEST(in_their_order_all_can_be_taken_and_dropped_in_any)
{
    struct lock l[RANKS];
    for (int i = 0; i < RANKS; i++)
        lock_init(&l[i], (enum lock_rank)i);
    for (int i = 0; i < RANKS; i++)
        lock_take(&l[i]);
    for (int i = 0; i < RANKS; i += 2)
        lock_drop(&l[i]);
    for (int i = 1; i < RANKS; i += 2)
        lock_drop(&l[i]);
    ck_assert_uint_eq(bgmqi_lock_ranks, 0);
    lock_assert_none();
    lock_take(&l[0]); /* as if nothing had been */
    lock_drop(&l[0]);
    for (int i = 0; i < RANKS; i++)
        lock_fini(&l[i]);
}
END_TEST

/* What is wrong: the ranks of two, the second taken within the first. */
static const enum lock_rank wrong[][2] = {
    {RANK_DESK, RANK_QUEUE},       {RANK_QUEUE, RANK_REGISTRY}, {RANK_QUEUE, RANK_QUEUE},
    {RANK_JOURNAL, RANK_PROGRESS}, {RANK_DEPOT, RANK_JOURNAL},  {RANK_FORK, RANK_LIFE},
};

START_TEST(out_of_their_order_aborts)
{
    struct lock first, second;
    lock_init(&first, wrong[_i][0]);
    lock_init(&second, wrong[_i][1]);
    lock_take(&first);
    lock_take(&second);
}
END_TEST

/* A monitor has a rank as a lock has. */
START_TEST(monitor_out_of_its_order_aborts)
{
    struct lock type;
    struct monitor idle;
    lock_init(&type, RANK_QUEUE);
    bgmqi_monitor_init(&idle, RANK_IDLE);
    bgmqi_monitor_enter(&idle);
    lock_take(&type);
    lock_drop(&type);
    bgmqi_monitor_leave(&idle);
    ck_assert_uint_eq(bgmqi_lock_ranks, 0);
    lock_take(&type);
    bgmqi_monitor_enter(&idle);
}
END_TEST

START_TEST(another_thread_has_an_order_of_its_own)
{
    struct lock desk;
    struct shared s = {.total = 0};
    lock_init(&desk, RANK_DESK);
    lock_init(&s.lock, RANK_QUEUE);
    lock_take(&desk);
    harness_join(harness_thread(take_once, &s));
    lock_drop(&desk);
    ck_assert_int_eq(s.total, 1);
}
END_TEST

static int64_t at_once(unsigned attempt, void *ctx)
{
    return 0;
}

/* What must not be done with a lock held; the last two may, under those that are held for long. */
static void do_it(int what)
{
    static struct park park;
    struct log log = {none, NULL};
    struct retry_policy policy = {.kind = BGMQ_BACKOFF_CALLBACK, .fn = at_once};
    switch (what) {
    case 0:
        bgmqi_log(&log, BGMQ_LOG_INFO, "line");
        break;
    case 1:
        bgmqi_retry_delay(&policy, 1, 0);
        break;
    case 2:
        bgmqi_fork_enter();
        bgmqi_fork_leave();
        break;
    case 3:
        bgmqi_park_wait(&park, 1);
        break;
    default:
        bgmqi_park_wake(&park);
        bgmqi_park_rest(&park);
        break;
    }
}

START_TEST(without_a_lock_all_may_be_done)
{
    for (int i = 0; i < 5; i++)
        do_it(i);
    for (int i = 3; i < 5; i++) {
        struct lock operating;
        lock_init(&operating, RANK_OPERATING);
        lock_take(&operating);
        do_it(i);
        lock_drop(&operating);
    }
}
END_TEST

START_TEST(to_wait_or_to_call_the_application_with_a_lock_held_aborts)
{
    struct lock l;
    lock_init(&l, RANK_QUEUE);
    lock_take(&l);
    do_it(_i);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lock");
    TCase *tc = harness_case(s, "held");
    tcase_add_test(tc, one_is_inside_at_a_time_and_all_come_through);
    tcase_add_test(tc, those_who_sleep_are_woken_one_after_the_other);
    tcase_add_test_raise_signal(tc, to_take_it_twice_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, to_drop_what_is_free_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, to_drop_what_another_holds_aborts, SIGABRT);
    tc = harness_case(s, "order");
    tcase_add_test(tc, in_their_order_all_can_be_taken_and_dropped_in_any);
    tcase_add_test(tc, another_thread_has_an_order_of_its_own);
    tcase_add_test(tc, without_a_lock_all_may_be_done);
    tcase_add_loop_test_raise_signal(tc, out_of_their_order_aborts, SIGABRT, 0,
                                     sizeof(wrong) / sizeof(wrong[0]));
    tcase_add_test_raise_signal(tc, monitor_out_of_its_order_aborts, SIGABRT);
    tcase_add_loop_test_raise_signal(
        tc, to_wait_or_to_call_the_application_with_a_lock_held_aborts, SIGABRT, 0, 5);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
