/* test_operate.c - what operators do with messages that rest: retry by filter, cancel, discard,
 * change, find; in memory, in the database only, after a reopening, and while workers run. */
#include "flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SELECT(...) (&(struct bgmq_select){__VA_ARGS__})

enum { HOUR = 3600 * 1000, N = 30 };

static struct bgmq_info find(struct bgmq *mq, uint64_t id)
{
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", id, &info));
    ck_assert_uint_eq(info.id, id);
    return info;
}

/* A type with a window of 4, so that most of what waits is in the database only. */
static struct bgmq *open_small(int durable, struct recorder *r)
{
    struct bgmq *mq = flow_open(durable);
    recorder_init(r);
    flow_register_with(mq, "T", r,
                       TYPE(.window = 4, .history = BGMQ_HISTORY_ALL, .max_attempts = 1));
    return mq;
}

/* N of each kind: waiting, urgent, delayed; tags "a" and "b" in turn.  IDS: 3 * N. */
static void publish_all_kinds(struct bgmq *mq, uint64_t *ids)
{
    for (int i = 0; i < N; i++) {
        const char *tag = i % 2 ? "b" : "a";
        *ids++ = flow_publish_with(mq, "T", "w", MESSAGE(.tag = tag));
        *ids++ = flow_publish_with(mq, "T", "p", MESSAGE(.tag = tag, .priority = 1 + i));
        *ids++ =
            flow_publish_with(mq, "T", "d", MESSAGE(.tag = tag, .delay_ms = HOUR + i));
    }
}

START_TEST(cancelled_ones_are_dead_and_do_not_run)
{
    struct recorder r;
    uint64_t ids[3 * N];
    struct bgmq *mq = open_small(_i, &r);
    publish_all_kinds(mq, ids);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(
            bgmq_cancel(mq, "T", SELECT(.id = ids[i * 14]), "no longer wanted"), 1);
    for (int i = 0; i < 6; i++) {
        struct bgmq_info info = find(mq, ids[i * 14]);
        ck_assert_int_eq(info.state, BGMQ_STATE_DEAD);
        ck_assert_str_eq(info.error_code, "cancelled");
        ck_assert_str_eq(info.error_text, "no longer wanted");
        FAILS(BGMQ_ENOENT, bgmq_cancel(mq, "T", SELECT(.id = ids[i * 14]), NULL));
    }
    ck_assert_int_eq(bgmq_cancel(mq, "T", SELECT(.tag = "b"), NULL), 3 * N / 2 - 2);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 3 * N / 2 + 4);
    ck_assert_int_eq(bgmq_cancel(mq, "T", SELECT(.tag = "b"), NULL), 0);
    ck_assert_int_eq(bgmq_cancel(mq, "T", NULL, NULL), 3 * N / 2 - 4);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.inq + c.priorityq + c.delayed, 0);
    ck_assert_uint_eq(c.dlq, 3 * N);
    OK(bgmq_start(mq));
    flow_close(mq);
    ck_assert_uint_eq(r.n, 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(the_cancelled_are_dead_after_a_reopening_too)
{
    struct recorder r, again;
    uint64_t ids[3 * N];
    struct bgmq *mq = open_small(1, &r);
    publish_all_kinds(mq, ids);
    flow_close(mq);
    recorder_fini(&r);
    mq = open_small(1, &again);
    ck_assert_int_eq(bgmq_cancel(mq, "T", SELECT(.tag = "a"), NULL), 3 * N / 2);
    flow_close(mq);
    recorder_fini(&again);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_backlog WHERE lane = 3"),
                     3 * N / 2);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_backlog WHERE lane = 3"
                              " AND error_code = 'cancelled' AND tag = 'a'"),
                     3 * N / 2);
    mq = open_small(1, &r);
    ck_assert_int_eq(bgmq_retry(mq, "T", SELECT(.error_code = "cancelled", .max = 7)), 7);
    ck_assert_int_eq(find(mq, ids[0]).state, BGMQ_STATE_WAITING);
    ck_assert_int_eq(bgmq_retry(mq, "T", SELECT(.error_code = "other")), 0);
    ck_assert_int_eq(bgmq_retry(mq, "T", NULL), 3 * N / 2 - 7);
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* With a bound the oldest are chosen, wherever they rest. */
START_TEST(max_takes_the_oldest_first)
{
    struct recorder r;
    uint64_t ids[3 * N];
    struct bgmq *mq = open_small(_i, &r);
    publish_all_kinds(mq, ids);
    ck_assert_int_eq(bgmq_discard(mq, "T", SELECT(.max = 50)), 50);
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_uint_eq(c.inq + c.priorityq + c.delayed, 3 * N - 50);
    for (int i = 50; i < 3 * N; i++)
        find(mq, ids[i]);
    struct bgmq_info info;
    for (int i = 0; i < 50; i++)
        if (_i)
            ck_assert_int_eq(find(mq, ids[i]).state, BGMQ_STATE_DISCARDED);
        else
            FAILS(BGMQ_ENOENT, bgmq_find(mq, "T", ids[i], &info));
    ck_assert_int_eq(bgmq_discard(mq, "T", SELECT(.max = 50)), 3 * N - 50);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(the_discarded_leave_nothing_but_history)
{
    struct recorder r;
    uint64_t ids[3 * N];
    struct bgmq *mq = open_small(1, &r);
    publish_all_kinds(mq, ids);
    ck_assert_int_eq(bgmq_cancel(mq, "T", SELECT(.tag = "a"), NULL), 3 * N / 2);
    ck_assert_int_eq(bgmq_discard(mq, "T", SELECT(.error_code = "cancelled", .max = 5)),
                     5);
    FAILS(BGMQ_ENOENT, bgmq_discard(mq, "T", SELECT(.id = ids[0])));
    ck_assert_int_eq(bgmq_discard(mq, "T", NULL), 3 * N - 5);
    FAILS(BGMQ_ENOENT, bgmq_discard(mq, "T", SELECT(.id = ids[1])));
    ck_assert_int_eq(find(mq, ids[1]).state, BGMQ_STATE_DISCARDED);
    ck_assert_int_gt(find(mq, ids[1]).finished_ms, 0);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
}
END_TEST

START_TEST(before_ms_spares_what_came_later)
{
    struct recorder r;
    struct bgmq *mq = open_small(_i, &r);
    uint64_t id = flow_publish(mq, "T", "old");
    int64_t made = find(mq, id).created_ms;
    ck_assert_int_eq(bgmq_discard(mq, "T", SELECT(.before_ms = made)), 0);
    ck_assert_int_eq(bgmq_discard(mq, "T", SELECT(.before_ms = made + 1)), 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* Time and priority, of one in memory and one in the database only; order afterwards. */
START_TEST(change_moves_a_message_to_where_it_then_belongs)
{
    struct recorder r;
    uint64_t ids[3 * N];
    struct bgmq *mq = open_small(_i, &r);
    publish_all_kinds(mq, ids);
    uint64_t first = ids[0], last = ids[3 * N - 3], delayed = ids[3 * N - 1];
    struct bgmq_change urgent = {.set_priority = 1, .priority = 500};
    OK(bgmq_change(mq, "T", last, &urgent));
    urgent.priority = 400;
    OK(bgmq_change(mq, "T", first, &urgent));
    struct bgmq_change now = {
        .set_time = 1, .run_at_ms = 1, .set_priority = 1, .priority = 300};
    OK(bgmq_change(mq, "T", delayed, &now));
    struct bgmq_change later = {.set_time = 1,
                                .run_at_ms = find(mq, first).created_ms + 2 * HOUR};
    OK(bgmq_change(mq, "T", ids[3], &later));
    ck_assert_int_eq(find(mq, ids[3]).state, BGMQ_STATE_DELAYED);
    ck_assert_int_eq(find(mq, ids[3]).due_ms, later.run_at_ms);
    if (_i) { /* it is so after a reopening, too */
        flow_close(mq);
        recorder_fini(&r);
        mq = open_small(1, &r);
        OK(bgmq_flush(mq)); /* what stands first has been loaded when two have returned */
        OK(bgmq_flush(mq));
    }
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 2 * N);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(recorder_call(&r, 0).id, last);
    ck_assert_int_eq(recorder_call(&r, 0).priority, 500);
    ck_assert_uint_eq(recorder_call(&r, 1).id, first);
    ck_assert_uint_eq(recorder_call(&r, 2).id, delayed);
    ck_assert_uint_eq(flow_collection(mq, "T").delayed, N);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static void expect_wrong(struct bgmq *mq, uint64_t id)
{
    struct bgmq_change c = {.set_priority = 0};
    struct bgmq_info info;
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "T", id, &c));
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "T", id, NULL));
    c = (struct bgmq_change){.set_priority = 1, .priority = -1};
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "T", id, &c));
    c.priority = 32768;
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "T", id, &c));
    c = (struct bgmq_change){.set_time = 1, .run_at_ms = INT64_MAX};
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "T", id, &c));
    c.run_at_ms = -1;
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "T", id, &c));
    c.run_at_ms = 1;
    FAILS(BGMQ_EINVAL, bgmq_change(mq, "no name", id, &c));
    FAILS(BGMQ_ENOENT, bgmq_change(mq, "Nobody", id, &c));
    FAILS(BGMQ_ENOENT, bgmq_change(mq, "T", id + 1000, &c));
    FAILS(BGMQ_EINVAL, bgmq_find(mq, "T", id, NULL));
    FAILS(BGMQ_EINVAL, bgmq_find(mq, "T", 0, &info));
    FAILS(BGMQ_ENOENT, bgmq_find(mq, "T", id + 1000, &info));
    FAILS(BGMQ_ENOENT, bgmq_cancel(mq, "Nobody", NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_discard(mq, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_retry(NULL, "T", NULL));
}

static int count_error(void *ctx, const struct bgmq_attempt_error *error)
{
    ++*(int *)ctx;
    ck_assert_ptr_nonnull(error->code);
    return 0;
}

START_TEST(wrong_arguments_change_nothing)
{
    struct recorder r;
    void *result;
    int n = 0;
    struct bgmq *mq = open_small(_i, &r);
    uint64_t id = flow_publish(mq, "T", "x");
    expect_wrong(mq, id);
    FAILS(BGMQ_EINVAL, bgmq_errors(mq, id, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_result(mq, id, NULL, NULL));
    FAILS(BGMQ_ENOENT, bgmq_result(mq, id, &result, NULL));
    if (_i)
        ck_assert_int_eq(bgmq_errors(mq, id, count_error, &n), 0);
    else
        FAILS(BGMQ_EINVAL, bgmq_errors(mq, id, count_error, &n));
    ck_assert_int_eq(find(mq, id).state, BGMQ_STATE_WAITING);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(what_runs_is_not_changed_or_discarded)
{
    struct recorder r;
    struct gate gate;
    gate_init(&gate);
    struct bgmq *mq = open_small(_i, &r);
    r.gate = &gate;
    uint64_t id = flow_publish(mq, "T", "runs");
    OK(bgmq_start(mq));
    counter_wait(&r.begun, 1);
    struct bgmq_change c = {.set_time = 1, .run_at_ms = 1};
    FAILS(BGMQ_EBUSY, bgmq_change(mq, "T", id, &c));
    FAILS(BGMQ_ENOENT, bgmq_discard(mq, "T", SELECT(.id = id)));
    FAILS(BGMQ_ENOENT, bgmq_retry_dead(mq, "T", id));
    ck_assert_int_eq(find(mq, id).state, BGMQ_STATE_RUNNING);
    ck_assert_int_eq(bgmq_discard(mq, "T", NULL), 0);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(find(mq, id).state, BGMQ_STATE_DONE);
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

/* Asks at each turn whether it is to end, and then wants to be tried again. */
static int until_cancelled(struct bgmq_job *job, void *ctx)
{
    counter_add(ctx, 1);
    WAIT_UNTIL(bgmq_job_cancelled(job));
    return bgmq_job_fail(job, BGMQ_RETRY, "Stopped", "asked to end");
}

START_TEST(a_handler_that_is_cancelled_is_asked_to_end)
{
    struct counter begun;
    counter_init(&begun);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", until_cancelled, &begun, &TYPE(.threads = 2)));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish_with(mq, "T", "x", MESSAGE(.tag = "t"));
    uint64_t other = flow_publish(mq, "T", "y");
    counter_wait(&begun, 2);
    ck_assert_int_eq(bgmq_cancel(mq, "T", SELECT(.id = id), NULL), 1);
    flow_wait_ended(mq, "T", 1);
    ck_assert_int_eq(find(mq, other).state, BGMQ_STATE_RUNNING);
    ck_assert_int_eq(bgmq_cancel(mq, "T", NULL, NULL) >= 1, 1);
    flow_wait_ended(mq, "T", 2);
    flow_close(mq);
    counter_fini(&begun);
}
END_TEST

/* ---- races ------------------------------------------------------------------------- */

enum { CROWD = 400 };

struct crowd {
    struct bgmq *mq;
    _Atomic unsigned ran[CROWD + 1];
    uint64_t ids[CROWD];
    _Atomic int cancelled;
    _Atomic int over;
};

static int note_run(struct bgmq_job *job, void *ctx)
{
    struct crowd *c = ctx;
    unsigned i = (unsigned)atoi(bgmq_job_body(job, NULL));
    atomic_fetch_add(&c->ran[i], 1);
    return BGMQ_DONE;
}

static void *cancel_some(void *arg)
{
    struct crowd *c = arg;
    for (int i = CROWD - 1; i >= 0; i--) {
        int n = bgmq_cancel(c->mq, "T", SELECT(.id = c->ids[i]), NULL);
        ck_assert(n == 1 || n == BGMQ_ENOENT);
        struct bgmq_info info;
        if (n == 1 && bgmq_find(c->mq, "T", c->ids[i], &info) == 0 &&
            info.state == BGMQ_STATE_DEAD)
            atomic_fetch_add(&c->cancelled, 1);
    }
    return NULL;
}

/* Each message is run or dead, never both; and none is lost. */
START_TEST(a_message_is_never_both_cancelled_and_run)
{
    struct crowd *c = calloc(1, sizeof(*c));
    c->mq = flow_open(_i);
    OK(bgmq_register(c->mq, "T", note_run, c,
                     &TYPE(.threads = 3, .window = 20, .no_outq = 1)));
    for (int i = 0; i < CROWD; i++) {
        char body[12];
        snprintf(body, sizeof(body), "%d", i);
        c->ids[i] = flow_publish_with(
            c->mq, "T", body, MESSAGE(.durability = _i ? BGMQ_BEHIND : BGMQ_MEMORY));
    }
    pthread_t t = harness_thread(cancel_some, c);
    OK(bgmq_start(c->mq));
    harness_join(t);
    WAIT_UNTIL(flow_stats(c->mq, "T").processed + flow_collection(c->mq, "T").dlq ==
               CROWD);
    uint64_t dead = flow_collection(c->mq, "T").dlq, ran = 0;
    for (int i = 0; i < CROWD; i++) {
        ck_assert_uint_le(c->ran[i], 1);
        ran += c->ran[i];
    }
    ck_assert_uint_eq(ran + dead, CROWD);
    ck_assert_uint_eq((uint64_t)c->cancelled, dead);
    flow_close(c->mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), (long)dead);
    free(c);
}
END_TEST

static int fail_always(struct bgmq_job *job, void *ctx)
{
    return bgmq_job_fail(job, BGMQ_PERMANENT, "No", "never");
}

static void *retry_until_over(void *arg)
{
    struct crowd *c = arg;
    while (!atomic_load(&c->over)) {
        ck_assert_int_ge(bgmq_retry(c->mq, "T", SELECT(.max = 10)), 0);
        ck_assert_int_ge(bgmq_retry(c->mq, "T", SELECT(.error_code = "No")), 0);
    }
    return NULL;
}

/* Retry, discard and workers at once: what was published is dead or discarded at the end. */
START_TEST(operations_at_once_lose_nothing)
{
    struct crowd *c = calloc(1, sizeof(*c));
    int discarded = 0;
    c->mq = flow_open(_i);
    OK(bgmq_register(c->mq, "T", fail_always, c, &TYPE(.threads = 2, .window = 10)));
    OK(bgmq_start(c->mq));
    pthread_t t = harness_thread(retry_until_over, c);
    for (int i = 0; i < CROWD; i++) {
        c->ids[i] = flow_publish_with(
            c->mq, "T", "x", MESSAGE(.durability = _i ? BGMQ_BEHIND : BGMQ_MEMORY));
        if (i % 20 == 19)
            discarded += bgmq_discard(c->mq, "T", SELECT(.max = 7));
    }
    atomic_store(&c->over, 1);
    harness_join(t);
    WAIT_UNTIL(flow_collection(c->mq, "T").dlq == (uint64_t)(CROWD - discarded));
    discarded += bgmq_discard(c->mq, "T", NULL);
    ck_assert_int_eq(discarded, CROWD);
    ck_assert_uint_eq(flow_collection(c->mq, "T").dlq, 0);
    flow_close(c->mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 0);
    free(c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("operate");
    TCase *tc = flow_case(s, "resting");
    flow_add_both(tc, cancelled_ones_are_dead_and_do_not_run);
    tcase_add_test(tc, the_cancelled_are_dead_after_a_reopening_too);
    flow_add_both(tc, max_takes_the_oldest_first);
    tcase_add_test(tc, the_discarded_leave_nothing_but_history);
    flow_add_both(tc, before_ms_spares_what_came_later);
    flow_add_both(tc, change_moves_a_message_to_where_it_then_belongs);
    flow_add_both(tc, wrong_arguments_change_nothing);
    tc = flow_case(s, "running");
    flow_add_both(tc, what_runs_is_not_changed_or_discarded);
    flow_add_both(tc, a_handler_that_is_cancelled_is_asked_to_end);
    tc = flow_case(s, "races");
    flow_add_both(tc, a_message_is_never_both_cancelled_and_run);
    flow_add_both(tc, operations_at_once_lose_nothing);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
