/* test_bare.c - no lock of the library is held while code of the application runs, and none of it
 * comes back in through the log callback. */
#include "flow.h"

#include <bgmq_operate.h>
#include <bgmq_sqlite.h>
#include <sqlite3.h>

#include "lock.h"

/* Which of its callbacks the library has called; each fails the test when a lock is held. */
struct callbacks {
    _Atomic int handler, request, response, error, backoff, log, peek, told, transaction;
};

static void note(_Atomic int *calls)
{
    ck_assert_uint_eq(bgmqi_lock_ranks, 0);
    atomic_fetch_add(calls, 1);
}

static int handle(struct bgmq_job *job, void *ctx)
{
    struct callbacks *c = ctx;
    note(&c->handler);
    return bgmq_job_attempt(job) == 1 ? bgmq_job_fail(job, BGMQ_RETRY, "First", "of two")
                                      : 77; /* which is no verdict, and logged */
}

static int ask(struct bgmq_job *job, void *ctx)
{
    note(&((struct callbacks *)ctx)->request);
    return BGMQ_DONE;
}

static int answer(struct bgmq_job *job, void *ctx)
{
    note(&((struct callbacks *)ctx)->response);
    return BGMQ_DONE;
}

static int on_error(struct bgmq_job *job, void *ctx)
{
    note(&((struct callbacks *)ctx)->error);
    return bgmq_job_attempt(job) < 3 ? BGMQ_RETRY : BGMQ_PERMANENT;
}

static struct callbacks
    *delays; /* a back-off has the handler's context in none of its words */

static int64_t back_off(unsigned attempt, void *ctx)
{
    note(&delays->backoff);
    return 0;
}

static void log_line(void *ctx, enum bgmq_level level, const char *text)
{
    note(&((struct callbacks *)ctx)->log);
}

static int peek(void *ctx, const struct bgmq_message *message)
{
    note(&((struct callbacks *)ctx)->peek);
    return 0;
}

static int tell(void *ctx, const struct bgmq_attempt_error *error)
{
    note(&((struct callbacks *)ctx)->told);
    return 0;
}

static int write_along(struct bgmq_job *job, struct sqlite3 *db, void *ctx)
{
    note(&((struct callbacks *)ctx)->transaction);
    return BGMQ_DONE;
}

static int in_transaction(struct bgmq_job *job, void *ctx)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    int verdict = bgmq_job_transaction(job, db, write_along, ctx);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    return verdict;
}

START_TEST(no_lock_is_held_around_code_of_the_application)
{
    struct callbacks c = {0};
    delays = &c;
    struct bgmq *mq = flow_open_with(1, SERVICE(.log = log_line, .log_ctx = &c));
    OK(bgmq_register(mq, "T", handle, &c,
                     &TYPE(.request_filter = ask, .response_filter = answer,
                           .on_error = on_error, .backoff = BGMQ_BACKOFF_CALLBACK,
                           .backoff_fn = back_off)));
    OK(bgmq_register(mq, "Well", in_transaction, &c, &TYPE(.response_filter = answer)));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish(mq, "T", "x");
    flow_publish(mq, "Well", "x");
    WAIT_UNTIL(flow_collection(mq, "T").dlq == 1);
    flow_wait_ended(mq, "Well", 1);
    OK(bgmq_flush(mq));
    ck_assert_int_eq(bgmq_peek(mq, "mq:T.dlq", 10, peek, &c), 1);
    ck_assert_int_eq(bgmq_errors(mq, id, tell, &c), 3);
    flow_close(mq);
    ck_assert_int_eq(c.handler, 3);
    ck_assert_int_eq(c.request, 3);
    ck_assert_int_eq(c.response, 1);
    ck_assert_int_eq(c.error, 3);
    ck_assert_int_eq(c.backoff, 2);
    ck_assert_int_ge(c.log, 4); /* started, two odd verdicts, stopped */
    ck_assert_int_eq(c.peek, 1);
    ck_assert_int_eq(c.told, 3);
    ck_assert_int_eq(c.transaction, 1);
}
END_TEST

/* ---- no way back in ---------------------------------------------------------------- */

struct intruder {
    struct bgmq *mq;
    _Atomic int calls;
};

static void come_in(void *ctx, enum bgmq_level level, const char *text)
{
    struct intruder *in = ctx;
    struct bgmq_message *m;
    struct bgmq_stats stats;
    uint64_t *ids;
    atomic_fetch_add(&in->calls, 1);
    if (!in->mq)
        return;
    FAILS(BGMQ_EDEADLK, bgmq_publish(in->mq, "T", "x", 1, NULL, NULL));
    FAILS(BGMQ_EDEADLK, bgmq_get(in->mq, "mq:T.inq", 1000, &m));
    FAILS(BGMQ_EDEADLK, bgmq_register(in->mq, "U", handle, NULL, NULL));
    FAILS(BGMQ_EDEADLK, bgmq_start(in->mq));
    FAILS(BGMQ_EDEADLK, bgmq_stop(in->mq, 1000));
    FAILS(BGMQ_EDEADLK, bgmq_request_stop(in->mq));
    FAILS(BGMQ_EDEADLK, bgmq_drain(in->mq, 1000));
    FAILS(BGMQ_EDEADLK, bgmq_flush(in->mq));
    FAILS(BGMQ_EDEADLK, bgmq_type_stats(in->mq, "T", &stats));
    FAILS(BGMQ_EDEADLK, bgmq_retry_pending(in->mq, &ids));
    FAILS(BGMQ_EDEADLK, bgmq_close(in->mq));
}

START_TEST(who_comes_back_through_the_log_is_refused)
{
    struct intruder in = {.mq = NULL};
    struct bgmq *mq = flow_open_with(_i, SERVICE(.log = come_in, .log_ctx = &in));
    in.mq = mq;
    OK(bgmq_start(mq));
    ck_assert_int_ge(in.calls, 1);
    ck_assert_int_eq(bgmq_started(mq), 1);
    flow_publish(mq, "T", "x");
    OK(bgmq_stop(mq, 0));
    ck_assert_int_ge(in.calls, 2);
    flow_expect(mq, "mq:T.inq", "x");
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bare");
    TCase *tc = flow_case(s, "callbacks");
    tcase_add_test(tc, no_lock_is_held_around_code_of_the_application);
    flow_add_both(tc, who_comes_back_through_the_log_is_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
