/* test_pause.c - less than a close: a type that rests, a service that drains, handlers that a stop
 * interrupts, and handlers that an operator asks to end. */
#include "flow.h"

#include "handle.h"

#include <stdlib.h>
#include <string.h>

/* A handler that runs until it is asked to end. */
struct patient {
    struct counter begun;
    int verdict;
    _Atomic unsigned attempt; /* of the last call */
};
static struct patient patient;

/* How long a stop waits before it asks, and then again. */
static unsigned grace(void)
{
    return 100 * harness_scale();
}

static int patient_handler(struct bgmq_job *job, void *ctx)
{
    patient.attempt = bgmq_job_attempt(job);
    counter_add(&patient.begun, 1);
    int64_t deadline = harness_deadline();
    while (!bgmq_job_cancelled(job))
        harness_pause(deadline, "to be cancelled", __FILE__, __LINE__);
    return patient.verdict;
}

static struct bgmq *open_patient(int durable)
{
    struct bgmq *mq = flow_open(durable);
    counter_init(&patient.begun);
    patient.verdict = BGMQ_RETRY;
    OK(bgmq_register(mq, "T", patient_handler, NULL, &TYPE(.max_attempts = 1)));
    OK(bgmq_start(mq));
    return mq;
}

/* ---- interrupted by a stop ----------------------------------------------------------- */

START_TEST(interrupted_by_a_stop_it_is_first_again_and_uses_no_attempt)
{
    struct bgmq *mq = open_patient(_i);
    char bodies[64];
    flow_publish_with(mq, "T", "low", MESSAGE(.priority = 0));
    counter_wait(&patient.begun, 1);
    flow_publish(mq, "T", "next");
    OK(bgmq_stop(mq, grace()));
    ck_assert_str_eq(flow_bodies(mq, "mq:T.inq", bodies, sizeof(bodies)), "low next ");
    ck_assert_uint_eq(flow_stats(mq, "T").failed, 0);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 0);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    OK(bgmq_start(mq));
    counter_wait(&patient.begun, 2);
    ck_assert_uint_eq(patient.attempt, 1); /* of one: it would be dead otherwise */
    OK(bgmq_stop(mq, grace()));
    if (_i) {
        flow_close(mq);
        ck_assert_int_eq(flow_rows(), 2);
        ck_assert_int_eq(flow_sql("SELECT sum(attempt) + sum(crashes) FROM bgmq_backlog"),
                         0);
        mq = flow_open(1);
        flow_expect(mq, "mq:T.inq", "low");
        flow_expect(mq, "mq:T.inq", "next");
    }
    flow_close(mq);
    counter_fini(&patient.begun);
}
END_TEST

START_TEST(other_verdicts_of_an_interrupted_handler_count)
{
    static const int verdicts[] = {BGMQ_DONE, BGMQ_PERMANENT, BGMQ_DISCARD};
    struct bgmq *mq = open_patient(_i & 1);
    patient.verdict = verdicts[_i / 2];
    flow_publish(mq, "T", "x");
    counter_wait(&patient.begun, 1);
    OK(bgmq_stop(mq, grace()));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, patient.verdict == BGMQ_DONE);
    ck_assert_uint_eq(flow_stats(mq, "T").failed, patient.verdict != BGMQ_DONE);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, patient.verdict == BGMQ_PERMANENT);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    flow_close(mq);
    counter_fini(&patient.begun);
}
END_TEST

/* A12: it is told of with its age, and the stop returns in time. */
START_TEST(what_would_not_end_is_listed)
{
    struct recorder r;
    struct gate gate;
    struct bgmq_run run[2];
    char *json = NULL;
    recorder_init(&r);
    gate_init(&gate);
    r.gate = &gate;
    struct bgmq *mq = flow_open(0);
    ck_assert_int_eq(bgmq_runs(mq, NULL, 0), 0);
    FAILS(BGMQ_EINVAL, bgmq_runs(mq, NULL, 1));
    flow_register_with(mq, "T", &r, TYPE(.threads = 2));
    flow_register(mq, "U", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "a");
    counter_wait(&r.begun, 1);
    flow_publish(mq, "T", "b");
    flow_publish(mq, "U", "c");
    counter_wait(&r.begun, 3);
    int64_t begin = harness_now();
    FAILS(BGMQ_EBUSY, bgmq_stop(mq, 1));
    ck_assert_int_lt(harness_now() - begin, INT64_C(1000000000) * harness_scale());
    WAIT_UNTIL(flow_collection(mq, "T").longest_ms > 0);
    ck_assert_uint_eq(flow_collection(mq, "T").running, 2);
    OK(bgmq_status_json(mq, &json));
    ck_assert_ptr_nonnull(strstr(json, "\"longest_ms\":"));
    free(json);
    ck_assert_int_eq(bgmq_runs(mq, NULL, 0), 3);
    ck_assert_int_eq(bgmq_runs(mq, run, 2), 3);
    ck_assert_int_ge(run[0].running_ms, run[1].running_ms);
    ck_assert_int_eq(run[0].cancelled, 1);
    ck_assert_int_eq(run[0].stuck, 0);
    gate_open(&gate);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

/* ---- asked by an operator ------------------------------------------------------------ */

static bool has_id(void *ctx, const struct message *m)
{
    return m->id == *(uint64_t *)ctx;
}

START_TEST(cancelled_by_an_operator_it_is_dead_and_others_run_on)
{
    struct bgmq *mq = flow_open(_i);
    counter_init(&patient.begun);
    patient.verdict = BGMQ_RETRY;
    OK(bgmq_register(mq, "T", patient_handler, NULL, &TYPE(.threads = 2)));
    OK(bgmq_start(mq));
    uint64_t a = flow_publish(mq, "T", "a"), none = 0;
    flow_publish(mq, "T", "b");
    counter_wait(&patient.begun, 2);
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    ck_assert_uint_eq(bgmqi_type_cancel_if(t, has_id, &none), 0);
    ck_assert_uint_eq(bgmqi_type_cancel_if(t, has_id, &a), 1);
    flow_wait_ended(mq, "T", 1);
    struct bgmq_message *m = flow_take(mq, "mq:T.dlq");
    ck_assert_uint_eq(bgmq_message_id(m), a);
    ck_assert_str_eq(bgmq_message_error_code(m), "cancelled");
    flow_done(m);
    ck_assert_int_eq(bgmq_running(mq), 1);
    OK(bgmq_stop(mq, grace()));
    ck_assert_uint_eq(flow_collection(mq, "T").inq,
                      1); /* the other: a stop is no cancel */
    flow_close(mq);
    counter_fini(&patient.begun);
}
END_TEST

/* ---- paused -------------------------------------------------------------------------- */

START_TEST(paused_type_rests_while_others_go_on)
{
    struct recorder r;
    recorder_init(&r);
    char bodies[64], *json = NULL;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    flow_register(mq, "U", &r);
    OK(bgmq_start(mq));
    OK(bgmq_pause(mq, "T"));
    OK(bgmq_pause(mq, "T"));
    flow_publish(mq, "T", "a");
    flow_publish_with(mq, "T", "b", MESSAGE(.priority = 1));
    flow_publish(mq, "U", "u");
    flow_wait_ended(mq, "U", 1);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_int_eq(c.paused, 1);
    ck_assert_uint_eq(c.inq + c.priorityq, 2);
    ck_assert_uint_eq(c.threads, 1);
    OK(bgmq_status_json(mq, &json));
    ck_assert_ptr_nonnull(strstr(json, "\"paused\":true"));
    free(json);
    flow_expect(mq, "mq:T.inq", "a"); /* a getter is no worker */
    OK(bgmq_resume(mq, "T"));
    flow_wait_ended(mq, "T", 1);
    ck_assert_str_eq(recorder_bodies(&r, bodies, sizeof(bodies)), "u b ");
    ck_assert_int_eq(flow_collection(mq, "T").paused, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(pause_sends_back_what_was_claimed)
{
    struct recorder r;
    struct gate gate;
    recorder_init(&r);
    gate_init(&gate);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    flow_publish_numbers(mq, "T", 200);
    OK(bgmq_start(mq));
    counter_wait(&r.begun, 1);
    OK(bgmq_pause(mq, "T"));
    gate_open(&gate);
    flow_wait_ended(mq, "T", 1); /* what ran goes on, and is the last */
    WAIT_UNTIL(bgmq_running(mq) == 0);
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 199);
    ck_assert_int_eq(counter_value(&r.begun), 1);
    OK(bgmq_resume(mq, "T"));
    flow_wait_ended(mq, "T", 200);
    for (unsigned i = 0; i < 200; i++)
        ck_assert_int_eq(atoi(recorder_call(&r, i).body), (int)i);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(pause_says_what_is_wrong)
{
    struct bgmq *mq = flow_open(0);
    FAILS(BGMQ_ENOENT, bgmq_pause(mq, "T"));
    FAILS(BGMQ_ENOENT, bgmq_resume(mq, "T"));
    FAILS(BGMQ_EINVAL, bgmq_pause(mq, NULL));
    FAILS(BGMQ_EINVAL, bgmq_pause(mq, "a b"));
    FAILS(BGMQ_EINVAL, bgmq_pause(NULL, "T"));
    flow_publish(mq, "T", "x");
    OK(bgmq_pause(mq, "T")); /* before it has a handler */
    flow_close(mq);
}
END_TEST

/* ---- draining ------------------------------------------------------------------------ */

static int passing_on(struct bgmq_job *job, void *ctx)
{
    struct gate *gate = ctx;
    gate_wait(gate);
    return bgmq_publish(bgmq_job_service(job), "U", "u", 1, NULL, NULL);
}

static int draining(struct bgmq_job *job, void *ctx)
{
    *(int *)ctx = bgmq_drain(bgmq_job_service(job), 0);
    return BGMQ_DONE;
}

START_TEST(drain_finishes_what_is_there_and_takes_nothing_new)
{
    struct recorder r;
    struct gate gate;
    struct bgmq_item item = {.type = "U", .body = "x", .len = 1};
    recorder_init(&r);
    gate_init(&gate);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", passing_on, &gate, NULL));
    flow_register(mq, "U", &r);
    OK(bgmq_start(mq));
    OK(bgmq_drain(mq, 0)); /* nothing is there */
    OK(bgmq_start(mq));    /* ... and that ends it */
    flow_publish(mq, "T", "a");
    flow_publish(mq, "T", "b");
    flow_publish_with(mq, "T", "later", MESSAGE(.delay_ms = 3600000));
    flow_publish(mq, "Parked", "x");
    FAILS(BGMQ_EBUSY, bgmq_drain(mq, 1));
    ck_assert_int_eq(flow_counters(mq).draining, 1);
    FAILS(BGMQ_EDRAINING, bgmq_publish(mq, "U", "x", 1, NULL, NULL));
    FAILS(BGMQ_EDRAINING, bgmq_publish_to(mq, "mq:U.inq", "x", 1, NULL, NULL));
    FAILS(BGMQ_EDRAINING, bgmq_publish_many(mq, &item, 1, NULL));
    gate_open(&gate);
    OK(bgmq_drain(mq, flow_patience()));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 2);
    ck_assert_uint_eq(flow_stats(mq, "U").processed, 2); /* handlers may publish */
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, 1);
    OK(bgmq_start(mq));
    ck_assert_int_eq(flow_counters(mq).draining, 0);
    flow_publish(mq, "U", "x");
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

START_TEST(drain_in_a_handler_only_begins)
{
    int seen = 0;
    struct bgmq *mq = flow_open(0);
    FAILS(BGMQ_EINVAL, bgmq_drain(NULL, 0));
    OK(bgmq_register(mq, "T", draining, &seen, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(seen, BGMQ_EINPROGRESS);
    FAILS(BGMQ_EDRAINING, bgmq_publish(mq, "T", "x", 1, NULL, NULL));
    flow_close(mq);
    FAILS(BGMQ_EINVAL, bgmq_health(NULL, NULL));
}
END_TEST

START_TEST(health_tells_of_age_and_of_parked_types)
{
    struct bgmq_health h;
    struct bgmq *mq = flow_open(_i);
    FAILS(BGMQ_EINVAL, bgmq_health(mq, NULL));
    OK(bgmq_health(mq, &h));
    ck_assert_int_eq(h.ok, 1);
    ck_assert_int_eq(h.oldest_ms, 0);
    ck_assert_int_eq(strncmp(h.text, "ok", 2), 0); /* on a slow disk, more */
    flow_publish(mq, "Parked", "x");
    WAIT_UNTIL(bgmq_health(mq, &h) == 0 && h.parked == 1);
    ck_assert_int_eq(h.ok, 1);
    ck_assert_int_eq(h.oldest_ms, 0); /* nobody serves it */
    OK(bgmq_register(mq, "Parked", patient_handler, NULL, NULL));
    WAIT_UNTIL(bgmq_health(mq, &h) == 0 && h.oldest_ms > 0);
    ck_assert_uint_eq(h.parked, 0);
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pause");
    TCase *stop = flow_case(s, "stop");
    flow_add_both(stop, interrupted_by_a_stop_it_is_first_again_and_uses_no_attempt);
    tcase_add_loop_test(stop, other_verdicts_of_an_interrupted_handler_count, 0, 6);
    tcase_add_test(stop, what_would_not_end_is_listed);
    flow_add_both(stop, cancelled_by_an_operator_it_is_dead_and_others_run_on);
    TCase *pause = flow_case(s, "pause");
    flow_add_both(pause, paused_type_rests_while_others_go_on);
    flow_add_both(pause, pause_sends_back_what_was_claimed);
    tcase_add_test(pause, pause_says_what_is_wrong);
    TCase *drain = flow_case(s, "drain");
    flow_add_both(drain, drain_finishes_what_is_there_and_takes_nothing_new);
    tcase_add_test(drain, drain_in_a_handler_only_begins);
    flow_add_both(drain, health_tells_of_age_and_of_parked_types);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
