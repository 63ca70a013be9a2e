/* test_wakeup.c - wake-ups that get lost, as those of a condition variable of glibc 2.36 may: each
 * wait has an end, and what was missed is found then. */
#include "flow.h"

#include "handle.h"
#include "type_impl.h"

/* Takes the next worker of T to be woken out of the row, as if it had been woken; it was not. */
static bool lose_the_wake(struct type *t)
{
    bgmqi_type_lock(t);
    struct desk *d = t->waking ? NULL : t->parked;
    if (d) {
        t->parked = d->next_parked;
        d->parked = false;
        t->waking = true;
    }
    bgmqi_type_unlock(t);
    return d != NULL;
}

/* P13. */
START_TEST(a_lost_wake_of_a_worker_is_noticed_within_a_second)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    for (unsigned i = 1; i <= 2; i++) {
        WAIT_UNTIL(lose_the_wake(t));
        int64_t begin = harness_now();
        flow_publish(mq, "T", "x");
        flow_wait_ended(mq, "T", i);
        ck_assert_int_lt(harness_now() - begin, INT64_C(1500000000) * harness_scale());
    }
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("wakeup");
    TCase *tc = flow_case(s, "lost");
    flow_add_both(tc, a_lost_wake_of_a_worker_is_noticed_within_a_second);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
