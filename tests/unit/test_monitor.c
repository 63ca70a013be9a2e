/* test_monitor.c - the monitor: one inside at a time, all who wait are woken, no wait is for ever,
 * and none is by the wall clock. */
#include "monitor.h"

#include "harness.h"

#include "park.h"

enum { WAITERS = 3 };
#define MS INT64_C(1000000)

struct room {
    struct monitor monitor;
    /* protected by monitor */
    int waiting, woken;
    bool open;
};

/* Without the bound that a wait of the monitor has, so that a wake that does not come is missed. */
static void *wait_for_ever(void *arg)
{
    struct room *r = arg;
    bgmqi_monitor_enter(&r->monitor);
    r->waiting++;
    while (!r->open)
        pthread_cond_wait(&r->monitor.changed, &r->monitor.mutex);
    r->woken++;
    bgmqi_monitor_leave(&r->monitor);
    return NULL;
}

static int waiting(struct room *r)
{
    bgmqi_monitor_enter(&r->monitor);
    int n = r->waiting;
    bgmqi_monitor_leave(&r->monitor);
    return n;
}

START_TEST(all_who_wait_are_woken_by_one_change)
{
    struct room r = {.open = false};
    pthread_t threads[WAITERS];
    bgmqi_monitor_init(&r.monitor, RANK_IDLE);
    for (int i = 0; i < WAITERS; i++)
        threads[i] = harness_thread(wait_for_ever, &r);
    WAIT_UNTIL(waiting(&r) == WAITERS);
    bgmqi_monitor_enter(&r.monitor);
    ck_assert_int_eq(r.woken, 0);
    r.open = true;
    bgmqi_monitor_change(&r.monitor);
    bgmqi_monitor_leave(&r.monitor);
    for (int i = 0; i < WAITERS; i++)
        harness_join(threads[i]);
    ck_assert_int_eq(r.woken, WAITERS);
    bgmqi_monitor_fini(&r.monitor);
}
END_TEST

/* How long a wait takes that nothing ends.  It may end early by chance, but not each time. */
static int64_t longest_wait(int64_t timeout_ns)
{
    struct monitor m;
    int64_t longest = 0;
    bgmqi_monitor_init(&m, RANK_IDLE);
    bgmqi_monitor_enter(&m);
    for (int i = 0; i < 3 && longest < timeout_ns; i++) {
        int64_t begun = clock_mono_ns(&bgmqi_clock_system);
        bgmqi_monitor_wait(&m, timeout_ns);
        int64_t took = clock_mono_ns(&bgmqi_clock_system) - begun;
        longest = took > longest ? took : longest;
    }
    bgmqi_monitor_leave(&m);
    bgmqi_monitor_fini(&m);
    return longest;
}

/* By the wall clock it would be over at once: that is fifty years ahead of the other. */
START_TEST(wait_lasts_as_long_as_it_is_told)
{
    ck_assert_int_ge(longest_wait(50 * MS), 50 * MS);
    ck_assert_int_lt(longest_wait(0), PARK_MAX_NS / 2);
}
END_TEST

START_TEST(no_wait_is_for_ever)
{
    struct monitor m;
    bgmqi_monitor_init(&m, RANK_IDLE);
    bgmqi_monitor_enter(&m);
    bgmqi_monitor_wait(&m, INT64_MAX); /* nobody will say anything */
    bgmqi_monitor_leave(&m);
    bgmqi_monitor_fini(&m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("monitor");
    TCase *tc = harness_case(s, "monitor");
    tcase_add_test(tc, all_who_wait_are_woken_by_one_change);
    tcase_add_test(tc, wait_lasts_as_long_as_it_is_told);
    tcase_add_test(tc, no_wait_is_for_ever);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
