/* test_arrive.c - the short way in: plain messages in memory, which come without a lock, are in
 * order with all others, are found by whoever sleeps or looks, and keep the bound. */
#include "flow.h"

#include "handle.h"
#include "type_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- order ------------------------------------------------------------------------- */

/* By the short way, by the long one (it has options), one by one. */
static void publish_mixed(struct bgmq *mq, int from, int n)
{
    char text[16];
    for (int i = from; i < from + n; i++) {
        snprintf(text, sizeof(text), "%d", i);
        if (i % 3 == 0)
            flow_publish_with(mq, "T", text, MESSAGE(.tag = "long"));
        else
            flow_publish(mq, "T", text);
    }
}

START_TEST(both_ways_in_keep_one_order)
{
    enum { N = 600 };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(0);
    flow_register_with(mq, "T", &r, TYPE(.threads = 1));
    publish_mixed(mq, 0, N);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, N);
    flow_expect(mq, "mq:T.inq", "0");
    OK(bgmq_start(mq));
    publish_mixed(mq, N, N);
    flow_wait_ended(mq, "T", 2 * N - 1);
    for (int i = 1; i < 2 * N; i++)
        ck_assert_int_eq(atoi(recorder_call(&r, (size_t)i - 1).body), i);
    ck_assert_uint_eq(flow_collection(mq, "T").added, 2 * N);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

enum { PUBLISHERS = 4, EACH = 20000 };

struct race {
    struct bgmq *mq;
    int next[PUBLISHERS]; /* the only worker's */
    _Atomic int misplaced;
    _Atomic uint64_t ran;
};

struct stamp {
    int publisher, number;
};

static int check_order(struct bgmq_job *job, void *ctx)
{
    struct race *race = ctx;
    struct stamp s;
    memcpy(&s, bgmq_job_body(job, NULL), sizeof(s));
    if (race->next[s.publisher]++ != s.number)
        atomic_fetch_add(&race->misplaced, 1);
    atomic_fetch_add(&race->ran, 1);
    return BGMQ_DONE;
}

struct publisher {
    struct race *race;
    int number;
};

static void *publish_stamps(void *arg)
{
    struct publisher *p = arg;
    for (int i = 0; i < EACH; i++) {
        struct stamp s = {.publisher = p->number, .number = i};
        OK(bgmq_publish(p->race->mq, "T", &s, sizeof(s), NULL, NULL));
    }
    return NULL;
}

START_TEST(the_messages_of_each_publisher_stay_in_order)
{
    struct race race = {.mq = flow_open(0)};
    struct publisher all[PUBLISHERS];
    pthread_t threads[PUBLISHERS];
    OK(bgmq_register(race.mq, "T", check_order, &race, &TYPE(.threads = 1)));
    OK(bgmq_start(race.mq));
    for (int i = 0; i < PUBLISHERS; i++) {
        all[i] = (struct publisher){.race = &race, .number = i};
        threads[i] = harness_thread(publish_stamps, &all[i]);
    }
    for (int i = 0; i < PUBLISHERS; i++)
        harness_join(threads[i]);
    flow_wait_ended(race.mq, "T", PUBLISHERS * EACH);
    ck_assert_int_eq(race.misplaced, 0);
    ck_assert_uint_eq(race.ran, PUBLISHERS * EACH);
    flow_close(race.mq);
}
END_TEST

/* ---- who sleeps -------------------------------------------------------------------- */

struct table {
    struct bgmq *mq;
    struct counter ran;
};

static int bounce(struct bgmq_job *job, void *ctx)
{
    (void)job;
    struct table *t = ctx;
    counter_add(&t->ran, 1);
    return BGMQ_DONE;
}

/* A message that has been published waits, a worker of T sleeps, and nobody is on the way to wake
 * it.  The lock is taken as it is: bgmqi_type_lock would bring the message in. */
static bool sleeps_beside_a_message(struct type *t)
{
    lock_take(&t->lock);
    bool waits = t->inq.len || atomic_load(&t->arrivals.newest);
    bool sleeps = waits && t->parked && !t->waking;
    lock_drop(&t->lock);
    return sleeps;
}

/* Each message is published when all workers are about to park, or have. */
START_TEST(no_worker_sleeps_beside_a_message)
{
    enum { ROUNDS = 3000 };
    struct table t = {.mq = flow_open(0)};
    counter_init(&t.ran);
    OK(bgmq_register(t.mq, "T", bounce, &t, &TYPE(.threads = 3)));
    OK(bgmq_start(t.mq));
    struct type *type = bgmqi_registry_find(t.mq->registry, "T");
    long published = 0;
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k <= i % 3; k++) {
            OK(bgmq_publish(t.mq, "T", "x", 1, NULL, NULL));
            published++;
            ck_assert(!sleeps_beside_a_message(type));
        }
        counter_wait(&t.ran, published);
    }
    flow_close(t.mq);
    counter_fini(&t.ran);
}
END_TEST

static void *get_all(void *arg)
{
    struct table *t = arg;
    for (;;) {
        struct bgmq_message *m;
        OK(bgmq_get(t->mq, "mq:T.inq", flow_patience(), &m));
        size_t len;
        bool last = *(const char *)bgmq_message_body(m, &len) == 'z';
        flow_done(m);
        counter_add(&t->ran, 1);
        if (last)
            return NULL;
    }
}

START_TEST(a_getter_is_handed_what_arrives)
{
    enum { N = 2000, GETTERS = 3 };
    struct table t = {.mq = flow_open(0)};
    pthread_t threads[GETTERS];
    counter_init(&t.ran);
    OK(bgmq_register(t.mq, "T", bounce, &t, NULL)); /* and not started */
    for (int i = 0; i < GETTERS; i++)
        threads[i] = harness_thread(get_all, &t);
    for (int i = 0; i < N; i++) {
        OK(bgmq_publish(t.mq, "T", "a", 1, NULL, NULL));
        if (i % 10 == 0)
            counter_wait(&t.ran, i + 1); /* they all sleep, or are about to */
    }
    for (int i = 0; i < GETTERS; i++)
        OK(bgmq_publish(t.mq, "T", "z", 1, NULL, NULL));
    for (int i = 0; i < GETTERS; i++)
        harness_join(threads[i]);
    flow_expect_empty(t.mq, "mq:T.inq");
    flow_close(t.mq);
    counter_fini(&t.ran);
}
END_TEST

/* ---- the bound --------------------------------------------------------------------- */

/* How many plain messages T takes until it is full. */
static int fill(struct bgmq *mq, const char *type)
{
    static const char body[100];
    int n = 0, err;
    while ((err = bgmq_publish(mq, type, body, sizeof(body), NULL, NULL)) == 0)
        n++;
    ck_assert_int_eq(err, BGMQ_EFULL);
    return n;
}

START_TEST(credit_that_nobody_uses_is_there_for_others)
{
    enum {
        BOUND = 200000,
        PER = 150,
        CHANGE = 8 /* what types have reserved by the way */
    };
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(0, SERVICE(.max_bytes = BOUND));
    for (int i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof(name), "T%d", i);
        flow_register_with(mq, name, &r, TYPE(.no_outq = 1));
        for (int k = 0; k < 60; k++) /* has credit now */
            flow_publish(mq, name, "x");
    }
    OK(bgmq_start(mq));
    for (int i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof(name), "T%d", i);
        flow_wait_ended(mq, name, 60);
    }
    OK(bgmq_stop(mq, flow_patience()));
    int first = fill(mq, "T0");
    ck_assert_int_ge(first, BOUND / (PER + 100));
    ck_assert_int_le(first, BOUND / 100);
    ck_assert_int_le(fill(mq, "T1"), CHANGE);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T0", 60 + (uint64_t)first);
    OK(bgmq_stop(mq, flow_patience()));
    ck_assert_int_ge(fill(mq, "T1"), first - CHANGE);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static void *fill_type(void *arg)
{
    struct table *t = arg;
    counter_add(&t->ran, fill(t->mq, "T"));
    return NULL;
}

START_TEST(many_publishers_fill_it_to_the_same_bound)
{
    enum { THREADS = 4 };
    int alone = 0;
    for (int round = 0; round < 2; round++) {
        struct table t = {.mq = flow_open_with(0, SERVICE(.max_bytes = 300000))};
        counter_init(&t.ran);
        OK(bgmq_register(t.mq, "T", bounce, &t, NULL));
        pthread_t threads[THREADS];
        int n = round ? THREADS : 1;
        for (int i = 0; i < n; i++)
            threads[i] = harness_thread(fill_type, &t);
        for (int i = 0; i < n; i++)
            harness_join(threads[i]);
        int all = (int)flow_collection(t.mq, "T").inq;
        ck_assert_int_ge(all + THREADS, alone); /* one may have seen another's payment */
        ck_assert(round == 0 || all <= alone);
        alone = all;
        flow_close(t.mq);
        counter_fini(&t.ran);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("arrive");
    TCase *order = flow_case(s, "order");
    tcase_add_test(order, both_ways_in_keep_one_order);
    tcase_add_test(order, the_messages_of_each_publisher_stay_in_order);
    TCase *sleep = flow_case(s, "sleep");
    tcase_add_test(sleep, no_worker_sleeps_beside_a_message);
    tcase_add_test(sleep, a_getter_is_handed_what_arrives);
    TCase *bound = flow_case(s, "bound");
    tcase_add_test(bound, credit_that_nobody_uses_is_there_for_others);
    tcase_add_test(bound, many_publishers_fill_it_to_the_same_bound);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
