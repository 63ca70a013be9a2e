/* test_wakeup.c - parked workers rest until they are woken, and are woken by whatever lets them do
 * something; types with nothing to do are not looked at.
 *
 * Nobody looks about by himself, so a wake that were missing would not be late: these tests would
 * fail by their deadline. */
#include "flow.h"

#include <bgmq_test.h>

#include "handle.h"
#include "service.h"
#include "type_impl.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct type *type_of(struct bgmq *mq, const char *name)
{
    return bgmqi_registry_find(mq->registry, name);
}

/* True when N workers of T are parked, and none of them has been woken. */
static bool parked(struct type *t, unsigned n)
{
    unsigned found = 0;
    bgmqi_type_lock(t);
    for (struct desk *d = t->parked; d; d = d->next_parked)
        found++;
    bool waking = t->waking;
    bgmqi_type_unlock(t);
    return found == n && !waking;
}

static unsigned long long switches_of(const char *thread)
{
    char path[64], line[256];
    unsigned long long n = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", thread);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static int note_thread(struct bgmq_job *job, void *ctx)
{
    snprintf(ctx, 32, "%d", (int)syscall(SYS_gettid));
    return BGMQ_DONE;
}

/* P13.  It parks on a word of its own by a futex call of its own, which no fault of a condition
 * variable reaches; and as nobody can miss it, it need not look about. */
START_TEST(parked_worker_rests_until_it_is_woken)
{
    char thread[32] = "";
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", note_thread, thread, NULL));
    OK(bgmq_start(mq));
    struct type *t = type_of(mq, "T");
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    WAIT_UNTIL(parked(t, 1));
    unsigned long long before = switches_of(thread);
    ck_assert_uint_gt(before, 0);
    poll(NULL, 0, 2500); /* what is measured is rest */
    /* One: on the list, it may not have been asleep yet. */
    ck_assert_uint_le(switches_of(thread) - before, 1);
    flow_publish(mq, "T", "y");
    flow_wait_ended(mq, "T", 2);
    flow_close(mq);
}
END_TEST

/* ---- what wakes ---------------------------------------------------------------------- */

struct scene {
    struct bgmq *mq;
    struct recorder r;
    struct type *t;
    unsigned ended;
};

static void expect_another(struct scene *s)
{
    flow_wait_ended(s->mq, "T", ++s->ended);
    WAIT_UNTIL(parked(s->t, 2));
}

static void by_gate(struct scene *s)
{
    OK(bgmq_stop(s->mq, 1000));
    WAIT_UNTIL(parked(s->t, 2));
    flow_publish(s->mq, "T", "stopped");
    OK(bgmq_start(s->mq));
    expect_another(s);
}

static void by_pause(struct scene *s)
{
    OK(bgmq_pause(s->mq, "T"));
    WAIT_UNTIL(parked(s->t, 2));
    flow_publish(s->mq, "T", "paused");
    OK(bgmq_resume(s->mq, "T"));
    expect_another(s);
}

static void by_time(struct scene *s)
{
    flow_publish_with(s->mq, "T", "later", MESSAGE(.delay_ms = 20));
    expect_another(s);
}

static void by_priority(struct scene *s)
{
    flow_publish_with(s->mq, "T", "urgent", MESSAGE(.priority = 5));
    expect_another(s);
}

static void by_hand_back(struct scene *s)
{
    struct bgmq_message *m;
    OK(bgmq_pause(s->mq, "T"));
    flow_publish(s->mq, "T", "taken");
    m = flow_take(s->mq, "mq:T.inq");
    OK(bgmq_resume(s->mq, "T"));
    WAIT_UNTIL(parked(s->t, 2));
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    expect_another(s);
}

static void by_fewer_and_more(struct scene *s)
{
    OK(bgmq_set_threads(s->mq, "T", 1));
    WAIT_UNTIL(parked(s->t, 1));
    OK(bgmq_set_threads(s->mq, "T", 2));
    WAIT_UNTIL(parked(s->t, 2));
    flow_publish(s->mq, "T", "resized");
    expect_another(s);
}

START_TEST(whatever_lets_a_parked_worker_start_wakes_it)
{
    static void (*const ways[])(struct scene *) = {
        by_gate, by_pause, by_time, by_priority, by_hand_back, by_fewer_and_more};
    struct scene s = {.mq = flow_open(_i)};
    recorder_init(&s.r);
    flow_register_with(s.mq, "T", &s.r, TYPE(.threads = 2));
    s.t = type_of(s.mq, "T");
    OK(bgmq_start(s.mq));
    WAIT_UNTIL(parked(s.t, 2));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        ways[i](&s);
    flow_close(s.mq);
    recorder_fini(&s.r);
}
END_TEST

START_TEST(what_waited_for_its_handler_starts_when_it_is_registered)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_register(mq, "T", &r);
    flow_wait_ended(mq, "T", 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* ---- what lies on the desks of others ------------------------------------------------ */

static struct gate slow;
static _Atomic int held;

static int some_are_slow(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    if (len == 4 && memcmp(body, "slow", 4) == 0) {
        atomic_fetch_add(&held, 1);
        gate_wait(&slow);
    }
    return BGMQ_DONE;
}

/* Two parked desks, the first of a worker that claims in batches; false: there is none yet. */
static bool find_quick(struct type *t, struct desk **quick, struct desk **other)
{
    *quick = *other = NULL;
    bgmqi_type_lock(t);
    for (struct desk *d = t->parked; d; d = d->next_parked)
        if (!*quick && d->mean_ns > 0 && d->mean_ns < 5000)
            *quick = d;
        else
            *other = d;
    bgmqi_type_unlock(t);
    return *quick != NULL;
}

/* Takes one but those two out of the row, as if it had been woken and were on its way. */
static struct desk *on_its_way(struct type *t, const struct desk *a, const struct desk *b)
{
    bgmqi_type_lock(t);
    struct desk **p = &t->parked;
    while (*p == a || *p == b)
        p = &(*p)->next_parked;
    struct desk *d = *p;
    *p = d->next_parked;
    d->parked = false;
    t->waking = true;
    bgmqi_type_unlock(t);
    return d;
}

/* Four workers.  The first claims three messages at once and is held by the first of them; the
 * second does all the rest and is held by the last; meanwhile the third has been woken and comes
 * late, and is held by what it steals.  The last message lies on the desk of the first, nobody
 * publishes any more, and the fourth is parked: who steals wakes it. */
START_TEST(what_is_claimed_behind_slow_ones_is_stolen_by_one_who_was_parked)
{
    enum { WORKERS = 4, N = 25 };
    struct bgmq *mq = flow_open(0);
    struct desk *first, *second, *third;
    unsigned ended = 0;
    gate_init(&slow);
    atomic_store(&held, 0);
    OK(bgmq_register(mq, "T", some_are_slow, NULL, &TYPE(.threads = WORKERS)));
    OK(bgmq_start(mq));
    struct type *t = type_of(mq, "T");
    int64_t deadline = harness_deadline();
    do {
        ck_assert_int_lt(harness_now(), deadline);
        flow_publish_numbers(mq, "T", 100);
        flow_wait_ended(mq, "T", ended += 100);
        WAIT_UNTIL(parked(t, WORKERS));
    } while (!find_quick(t, &first, &second));
    third = on_its_way(t, first, second);
    for (int i = 0; i < N; i++)
        flow_publish(mq, "T", i < 2 || i == N - 1 ? "slow" : "fast");
    bgmqi_park_wake(&first->park);
    WAIT_UNTIL(atomic_load(&held) == 1);
    bgmqi_park_wake(&second->park);
    WAIT_UNTIL(atomic_load(&held) == 2);
    flow_wait_ended(mq, "T", ended + N - 4);
    bgmqi_park_wake(&third->park);
    flow_wait_ended(mq, "T", ended + N - 3);
    ck_assert_int_eq(atomic_load(&held), 3);
    gate_open(&slow);
    flow_wait_ended(mq, "T", ended + N);
    flow_close(mq);
    gate_fini(&slow);
}
END_TEST

/* ---- whose wake it is ---------------------------------------------------------------- */

/* Puts a message where a publisher has it between its push and its look at WATCHED, which would
 * bring it to the lock.  T's lock is held. */
static void half_push(struct type *t)
{
    struct message *m = bgmqi_message_new("x", 1);
    ck_assert_ptr_nonnull(m);
    bgmqi_mem_charge_always(&t->memory, message_cost(m));
    m->id = m->seq = bgmqi_type_next_number(t);
    m->next = atomic_load(&t->arrivals.newest);
    atomic_store(&t->arrivals.newest, m);
}

/* A type whose N workers are all parked. */
static struct type *park_all(struct scene *s, unsigned n)
{
    s->mq = flow_open(0);
    recorder_init(&s->r);
    flow_register_with(s->mq, "T", &s->r, TYPE(.threads = n));
    OK(bgmq_start(s->mq));
    s->t = type_of(s->mq, "T");
    WAIT_UNTIL(parked(s->t, n));
    return s->t;
}

static void close_scene(struct scene *s)
{
    flow_close(s->mq);
    recorder_fini(&s->r);
}

/* One of three was roused and comes to the lock when two messages lie on the stack: to bring them
 * in wakes a second, and that wake must not be taken for its own. */
START_TEST(a_wake_noted_by_who_comes_late_is_not_overwritten)
{
    struct scene s = {.ended = 0};
    struct type *t = park_all(&s, 3);
    lock_take(&t->lock); /* as it is: nothing is brought in */
    struct desk *late = t->parked;
    t->parked = late->next_parked;
    late->parked = false;
    bgmqi_park_wake(&late->park);
    half_push(t);
    half_push(t);
    lock_drop(&t->lock);
    WAIT_UNTIL(
        !atomic_load(&t->arrivals.newest)); /* without the lock: it is LATE who comes */
    flow_wait_ended(s.mq, "T", 2);
    WAIT_UNTIL(parked(t, 3));
    close_scene(&s);
}
END_TEST

/* Likewise one that leaves. */
START_TEST(a_wake_noted_by_who_leaves_is_not_overwritten)
{
    struct scene s = {.ended = 0};
    struct type *t = park_all(&s, 3);
    struct desk *d = bgmqi_desk_new(t);
    ck_assert_ptr_nonnull(d);
    lock_take(&t->lock);
    half_push(t);
    lock_drop(&t->lock);
    bgmqi_desk_leave(d);
    flow_wait_ended(s.mq, "T", 1);
    WAIT_UNTIL(parked(t, 3));
    close_scene(&s);
}
END_TEST

/* ---- the ticker ---------------------------------------------------------------------- */

static int64_t visited_ms(struct bgmq *mq, const char *name)
{
    struct type *t = type_of(mq, name);
    bgmqi_type_lock(t);
    int64_t ms = t->last_tick_ms;
    bgmqi_type_unlock(t);
    return ms;
}

/* Has the ticker come to type "Due". */
static void let_it_come(struct bgmq *mq, struct fake_clock *fake)
{
    uint64_t n = flow_stats(mq, "Due").processed;
    flow_publish_with(mq, "Due", "x", MESSAGE(.delay_ms = 1));
    fake_clock_advance(fake, 1);
    flow_wait_ended(mq, "Due", n + 1);
}

START_TEST(types_with_nothing_to_do_are_not_visited)
{
    const int64_t then = INT64_C(1523303089000);
    struct fake_clock fake;
    struct recorder r;
    struct bgmq *mq = NULL;
    recorder_init(&r);
    fake_clock_init(&fake, then);
    OK(bgmqi_service_open(&mq, &SERVICE(.database = _i ? flow_database() : NULL),
                          &fake.clock, NULL));
    flow_register(mq, "Quiet", &r);
    flow_register(mq, "Due", &r);
    OK(bgmq_start(mq));
    let_it_come(mq, &fake); /* what a start asks for is over */
    int64_t before = visited_ms(mq, "Quiet");
    flow_publish(mq, "Quiet", "x"); /* to run is no affair of the ticker's */
    flow_wait_ended(mq, "Quiet", 1);
    for (int i = 0; i < 5; i++)
        let_it_come(mq, &fake);
    ck_assert_int_eq(visited_ms(mq, "Due"), then + 6);
    ck_assert_int_eq(visited_ms(mq, "Quiet"), before);
    /* Something to do: it is visited for that, and then no more. */
    flow_publish_with(mq, "Quiet", "y", MESSAGE(.delay_ms = 3));
    for (int i = 0; i < 5; i++)
        let_it_come(mq, &fake);
    flow_wait_ended(mq, "Quiet", 2);
    ck_assert_int_eq(visited_ms(mq, "Quiet"), then + 9);
    flow_close(mq);
    recorder_fini(&r);
    fake_clock_fini(&fake);
}
END_TEST

/* P7. */
START_TEST(all_types_are_visited_when_the_clock_was_set_back)
{
    const int64_t then = INT64_C(1523303089000), hour = 3600 * 1000;
    struct fake_clock fake;
    struct recorder r;
    struct bgmq *mq = NULL;
    recorder_init(&r);
    fake_clock_init(&fake, then);
    OK(bgmqi_service_open(&mq, NULL, &fake.clock, NULL));
    flow_register(mq, "Quiet", &r);
    flow_register(mq, "Due", &r);
    OK(bgmq_start(mq));
    let_it_come(mq, &fake);
    fake_clock_set_wall(&fake, then - hour);
    flow_publish_with(mq, "Due", "x", MESSAGE(.delay_ms = 1));
    WAIT_UNTIL(visited_ms(mq, "Quiet") == then - hour);
    flow_close(mq);
    recorder_fini(&r);
    fake_clock_fini(&fake);
}
END_TEST

/* A turn for all types takes what is due out of the agenda, and leaves it to the walk over types:
 * this one has just been configured, and is not in the order of registration yet. */
START_TEST(what_is_due_is_not_lost_to_a_turn_for_all)
{
    struct bgmq *mq;
    OK(bgmq_test_open(&mq, NULL, 0, NULL));
    OK(bgmq_test_advance(mq, 1)); /* the first turn is for all */
    flow_publish_with(mq, "T", "x", MESSAGE(.delay_ms = 10));
    struct type *t = type_of(mq, "T");
    struct type_config config = *bgmqi_type_config(t);
    OK(bgmqi_type_configure(t, &config)); /* ... and not ordered yet */
    bgmqi_ticker_all(mq->ticker);
    OK(bgmq_test_advance(mq, 10));
    bgmqi_registry_ordered(mq->registry, t);
    OK(bgmq_test_advance(mq, 1000));
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("wakeup");
    TCase *tc = flow_case(s, "workers");
    flow_add_both(tc, parked_worker_rests_until_it_is_woken);
    flow_add_both(tc, whatever_lets_a_parked_worker_start_wakes_it);
    flow_add_both(tc, what_waited_for_its_handler_starts_when_it_is_registered);
    tcase_add_test(tc, what_is_claimed_behind_slow_ones_is_stolen_by_one_who_was_parked);
    TCase *wakes = flow_case(s, "wakes");
    tcase_add_test(wakes, a_wake_noted_by_who_comes_late_is_not_overwritten);
    tcase_add_test(wakes, a_wake_noted_by_who_leaves_is_not_overwritten);
    TCase *ticker = flow_case(s, "ticker");
    flow_add_both(ticker, types_with_nothing_to_do_are_not_visited);
    tcase_add_test(ticker, all_types_are_visited_when_the_clock_was_set_back);
    tcase_add_test(ticker, what_is_due_is_not_lost_to_a_turn_for_all);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
