/* test_park.c - parking: a token kept, a time-out, one waker and one waiter, nothing lost. */
#include "park.h"

#include "harness.h"

#include <signal.h>

#define MS INT64_C(1000000)

START_TEST(wake_before_the_wait_is_kept)
{
    struct park p = {.word = 0};
    bgmqi_park_wake(&p);
    ck_assert(bgmqi_park_wait(&p, PARK_MAX_NS));
}
END_TEST

START_TEST(tokens_do_not_add_up)
{
    struct park p = {.word = 0};
    bgmqi_park_wake(&p);
    bgmqi_park_wake(&p);
    ck_assert(bgmqi_park_wait(&p, PARK_MAX_NS));
    ck_assert(!bgmqi_park_wait(&p, MS));
}
END_TEST

START_TEST(nobody_wakes_the_time_is_over)
{
    struct park p = {.word = 0};
    int64_t begin = harness_now();
    while (harness_now() - begin < 20 * MS) /* a signal may end a wait before its time */
        ck_assert(!bgmqi_park_wait(&p, 20 * MS));
    ck_assert(!bgmqi_park_wait(&p, 0));
    ck_assert(!bgmqi_park_wait(&p, -1));
}
END_TEST

/* P13.  A second at most, whatever was asked for. */
START_TEST(wait_is_never_without_bound)
{
    struct park p = {.word = 0};
    int64_t begin = harness_now();
    ck_assert(!bgmqi_park_wait(&p, INT64_MAX));
    ck_assert_int_lt(harness_now() - begin, 9000 * MS);
}
END_TEST

START_TEST(no_token_is_left_by_a_time_out)
{
    struct park p = {.word = 0};
    ck_assert(!bgmqi_park_wait(&p, MS));
    bgmqi_park_wake(&p);
    ck_assert(bgmqi_park_wait(&p, MS));
    ck_assert(!bgmqi_park_wait(&p, MS));
}
END_TEST

START_TEST(wake_before_the_rest_is_kept)
{
    struct park p = {.word = 0};
    for (int i = 0; i < 3; i++) {
        bgmqi_park_wake(&p);
        bgmqi_park_rest(&p);
        ck_assert(!bgmqi_park_wait(&p, 0)); /* and no token is left */
    }
}
END_TEST

/* ---- two threads ------------------------------------------------------------------- */

enum { ROUNDS = 50000 };

struct pair {
    struct park ping, pong;
    _Atomic long sent, echoed;
};

/* Waits until *WORD is N; a wake may be early, never missing. */
static void await(struct park *p, _Atomic long *word, long n)
{
    int64_t deadline = harness_deadline();
    while (atomic_load(word) < n) {
        bgmqi_park_wait(p, PARK_MAX_NS);
        ck_assert_int_lt(harness_now(), deadline);
    }
}

static void *echo(void *arg)
{
    struct pair *p = arg;
    for (long i = 1; i <= ROUNDS; i++) {
        await(&p->ping, &p->sent, i);
        atomic_store(&p->echoed, i);
        bgmqi_park_wake(&p->pong);
    }
    return NULL;
}

/* Were one wake in fifty thousand lost, a second would pass until the waiter looks again. */
START_TEST(no_wake_is_lost)
{
    struct pair p = {.sent = 0};
    pthread_t t = harness_thread(echo, &p);
    int64_t longest = 0;
    for (long i = 1; i <= ROUNDS; i++) {
        int64_t begin = harness_now();
        atomic_store(&p.sent, i);
        bgmqi_park_wake(&p.ping);
        await(&p.pong, &p.echoed, i);
        if (harness_now() - begin > longest)
            longest = harness_now() - begin;
    }
    harness_join(t);
    ck_assert_int_lt(longest, 900 * MS * harness_scale());
}
END_TEST

struct resting {
    struct park ping, pong;
    _Atomic long sent, echoed;
};

static void *echo_resting(void *arg)
{
    struct resting *r = arg;
    for (long i = 1; i <= ROUNDS; i++) {
        while (atomic_load(&r->sent) < i)
            bgmqi_park_rest(&r->ping);
        atomic_store(&r->echoed, i);
        bgmqi_park_wake(&r->pong);
    }
    return NULL;
}

/* Nobody looks again by himself: were one wake lost, this would not end. */
START_TEST(no_wake_of_one_who_rests_is_lost)
{
    struct resting r = {.sent = 0};
    pthread_t t = harness_thread(echo_resting, &r);
    for (long i = 1; i <= ROUNDS; i++) {
        atomic_store(&r.sent, i);
        bgmqi_park_wake(&r.ping);
        while (atomic_load(&r.echoed) < i)
            bgmqi_park_rest(&r.pong);
    }
    harness_join(t);
}
END_TEST

static void *wake(void *park)
{
    bgmqi_park_wake(park);
    return NULL;
}

START_TEST(one_waker_is_enough)
{
    for (int i = 0; i < 50; i++) {
        struct park p = {.word = 0};
        pthread_t t = harness_thread(wake, &p);
        int64_t deadline = harness_deadline();
        while (!bgmqi_park_wait(&p, PARK_MAX_NS))
            ck_assert_int_lt(harness_now(), deadline);
        harness_join(t);
        ck_assert(!bgmqi_park_wait(&p, 0));
    }
}
END_TEST

static _Atomic int signals; /* that have come */

static void count_signal(int number)
{
    atomic_fetch_add(&signals, 1);
}

struct sleeper {
    struct park park;
    struct gate enough;
    _Atomic bool up;
};

static void *sleep_well(void *arg)
{
    struct sleeper *s = arg;
    bgmqi_park_rest(&s->park);
    atomic_store(&s->up, true);
    gate_wait(&s->enough); /* signals need a thread to come to */
    return NULL;
}

/* EINTR: the kernel ends the wait, and nobody has woken anybody. */
START_TEST(rest_goes_on_after_a_signal)
{
    enum { SIGNALS = 50 };
    struct sleeper s = {.up = false};
    struct sigaction interrupt = {.sa_handler = count_signal}; /* no SA_RESTART */
    gate_init(&s.enough);
    ck_assert_int_eq(sigaction(SIGUSR1, &interrupt, NULL), 0);
    pthread_t t = harness_thread(sleep_well, &s);
    for (int i = 0; i < SIGNALS; i++) {
        ck_assert_int_eq(pthread_kill(t, SIGUSR1), 0);
        WAIT_UNTIL(atomic_load(&signals) > i);
        ck_assert(!atomic_load(&s.up));
    }
    bgmqi_park_wake(&s.park);
    WAIT_UNTIL(atomic_load(&s.up));
    gate_open(&s.enough);
    harness_join(t);
    gate_fini(&s.enough);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("park");
    TCase *alone = harness_case(s, "alone");
    tcase_add_test(alone, wake_before_the_wait_is_kept);
    tcase_add_test(alone, tokens_do_not_add_up);
    tcase_add_test(alone, nobody_wakes_the_time_is_over);
    tcase_add_test(alone, wait_is_never_without_bound);
    tcase_add_test(alone, no_token_is_left_by_a_time_out);
    tcase_add_test(alone, wake_before_the_rest_is_kept);
    TCase *two = harness_case(s, "two threads");
    tcase_add_test(two, no_wake_is_lost);
    tcase_add_test(two, no_wake_of_one_who_rests_is_lost);
    tcase_add_test(two, one_waker_is_enough);
    tcase_add_test(two, rest_goes_on_after_a_signal);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
