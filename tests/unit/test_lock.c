/* test_lock.c - the lock: one holder at a time, nobody left asleep, misuse seen. */
#include "lock.h"

#include "harness.h"

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
    lock_init(&s.lock);
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
    lock_init(&s.lock);
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
    lock_init(&l);
    lock_take(&l);
    lock_assert_held(&l);
    lock_take(&l);
}
END_TEST

START_TEST(to_drop_what_is_free_aborts)
{
    struct lock l;
    lock_init(&l);
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
    lock_init(&l);
    lock_take(&l);
    harness_join(harness_thread(drop_it, &l));
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
    return s;
}

int main(void)
{
    return harness_run(suite());
}
