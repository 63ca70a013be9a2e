/* test_fault_calls.c - what can only go wrong between two steps of one call: an attempt that is
 * given up, a store that fails, ids that run out, a key that changes hands.
 *
 * The linker puts functions in the place of the library's that say so on order, to the thread that
 * ordered it. */
#include "app.h"

#include "journal.h"
#include "service.h"
#include "type.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

/* ---- what says no ---------------------------------------------------------------------- */

enum doubt { HOLD, FAILED, NEXT_ID, TAKE_BACK, RANDOM, DOUBTS };

static _Thread_local int refused_at[DOUBTS]; /* 0: none; 1: the next one */

static int refuses(enum doubt doubt)
{
    return refused_at[doubt] && --refused_at[doubt] == 0;
}

static void (*_Atomic before_hold)(void); /* once */

bool __real_bgmqi_desk_hold(struct desk *d);
bool __wrap_bgmqi_desk_hold(struct desk *d);
bool __wrap_bgmqi_desk_hold(struct desk *d)
{
    void (*fn)(void) = atomic_exchange(&before_hold, NULL);
    if (fn)
        fn();
    return !refuses(HOLD) && __real_bgmqi_desk_hold(d);
}

bool __real_bgmqi_journal_failed(struct journal *j);
bool __wrap_bgmqi_journal_failed(struct journal *j);
bool __wrap_bgmqi_journal_failed(struct journal *j)
{
    return refuses(FAILED) || __real_bgmqi_journal_failed(j);
}

uint64_t __real_bgmqi_journal_next_id(struct journal *j);
uint64_t __wrap_bgmqi_journal_next_id(struct journal *j);
uint64_t __wrap_bgmqi_journal_next_id(struct journal *j)
{
    return refuses(NEXT_ID) ? 0 : __real_bgmqi_journal_next_id(j);
}

static void (*before_admit)(void); /* once */

int __real_bgmqi_type_admit(struct type *t, struct admission *a);
int __wrap_bgmqi_type_admit(struct type *t, struct admission *a);
int __wrap_bgmqi_type_admit(struct type *t, struct admission *a)
{
    void (*fn)(void) = before_admit;
    before_admit = NULL;
    if (fn)
        fn();
    return __real_bgmqi_type_admit(t, a);
}

static _Thread_local int
    writing; /* the journal writes the row, as often as it is asked */

bool __real_bgmqi_journal_take_back(struct message *m);
bool __wrap_bgmqi_journal_take_back(struct message *m);
bool __wrap_bgmqi_journal_take_back(struct message *m)
{
    if (writing) {
        atomic_store(&m->insert, INSERT_WRITING);
        return false;
    }
    if (atomic_load(&m->insert) == INSERT_WRITING)
        atomic_store(&m->insert, INSERT_QUEUED); /* it never was */
    return !refuses(TAKE_BACK) && __real_bgmqi_journal_take_back(m);
}

ssize_t __real_getrandom(void *ret, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *ret, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *ret, size_t n, unsigned flags)
{
    if (!refuses(RANDOM))
        return __real_getrandom(ret, n, flags);
    errno = ENOSYS;
    return -1;
}

/* CALL fails with ERR when the N-th question of KIND gets a no. */
#define FAILS_AT(err, kind, n, call)                                                     \
    do {                                                                                 \
        refused_at[kind] = (n);                                                          \
        FAILS((err), (call));                                                            \
        ck_assert_int_eq(refused_at[kind], 0);                                           \
    } while (0)

/* ---- outside of handlers --------------------------------------------------------------- */

START_TEST(name_that_cannot_be_drawn_is_none)
{
    char name[40] = "as it was";
    struct bgmq *mq = flow_open(_i);
    FAILS_AT(BGMQ_EBUSY, RANDOM, 1, bgmq_temp_queue(mq, name));
    ck_assert_str_eq(name, "as it was");
    OK(bgmq_temp_queue(mq, name));
    flow_close(mq);
}
END_TEST

/* Ids are reserved in the store: when that has no room for long, they run out. */
START_TEST(without_an_id_nothing_is_accepted)
{
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    sqlite3 *db = app_open();
    FAILS_AT(BGMQ_EFULL, NEXT_ID, 1, bgmq_publish(mq, "T", "x", 1, NULL, NULL));
    app_sql(db, "BEGIN");
    FAILS_AT(BGMQ_EFULL, NEXT_ID, 1, bgmq_publish_tx(mq, db, "T", "x", 1, NULL, NULL));
    app_sql(db, "COMMIT");
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 0);
    flow_publish(mq, "T", "y");
    flow_expect(mq, "mq:T.inq", "y");
    app_close(db);
    flow_close(mq);
}
END_TEST

START_TEST(store_that_fails_on_the_way_is_told)
{
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    sqlite3 *db = app_open();
    FAILS_AT(BGMQ_ESTORE, FAILED, 2, bgmq_start(mq));
    ck_assert_int_eq(bgmq_started(mq), 0);
    OK(bgmq_start(mq));
    app_sql(db, "BEGIN");
    FAILS_AT(BGMQ_ESTORE, FAILED, 1, bgmq_publish_tx(mq, db, "T", "x", 1, NULL, NULL));
    app_sql(db, "COMMIT");
    ck_assert_int_eq(flow_rows(), 0);
    app_close(db);
    flow_close(mq);
}
END_TEST

/* ---- a key whose period ends ----------------------------------------------------------- */

static struct bgmq *kept;
static struct fake_clock fake;

static const struct bgmq_message_options for_a_second = {.unique_key = "k",
                                                         .unique = BGMQ_UNIQUE_PERIOD,
                                                         .unique_period_ms = 1000,
                                                         .on_conflict =
                                                             BGMQ_CONFLICT_REPLACE};

static void let_another_have_it(void)
{
    fake_clock_advance(&fake, 2000);
    flow_publish_with(kept, "T", "another", for_a_second);
}

/* Who is about to replace the holder of a key finds that its period ends and somebody else gets
 * it: that one is replaced, and the first stays. */
START_TEST(key_that_changes_hands_is_taken_from_its_last_holder)
{
    fake_clock_init(&fake, 1000000);
    OK(bgmqi_service_open(&kept, &SERVICE(0), &fake.clock, NULL));
    flow_publish_with(kept, "T", "first", for_a_second);
    before_admit = let_another_have_it;
    flow_publish_with(kept, "T", "last", for_a_second);
    ck_assert(before_admit == NULL);
    flow_expect(kept, "mq:T.inq", "first");
    flow_expect(kept, "mq:T.inq", "last");
    flow_expect_empty(kept, "mq:T.inq");
    flow_close(kept);
    fake_clock_fini(&fake);
}
END_TEST

/* ---- in a handler ---------------------------------------------------------------------- */

static sqlite3 *app;

static int save(struct bgmq_job *job, void *ctx)
{
    const char *cursor;
    size_t len;
    (void)ctx;
    OK(bgmq_job_save_cursor(job, "one", 3, BGMQ_COMMIT));
    FAILS_AT(BGMQ_ESTORE, FAILED, 1, bgmq_job_save_cursor(job, "two", 3, BGMQ_COMMIT));
    FAILS_AT(BGMQ_ELOST, HOLD, 1, bgmq_job_save_cursor(job, "two", 3, BGMQ_COMMIT));
    FAILS_AT(BGMQ_ELOST, HOLD, 1, bgmq_job_progress(job, 1, "half"));
    FAILS_AT(BGMQ_ELOST, HOLD, 1, bgmq_job_result(job, "r", 1));
    FAILS_AT(BGMQ_ELOST, HOLD, 2, bgmq_job_save_cursor(job, "two", 3, BGMQ_COMMIT));
    cursor = bgmq_job_cursor(job, &len);
    ck_assert_uint_eq(len, 3);
    ck_assert_int_eq(memcmp(cursor, "one", 3), 0);
    return BGMQ_DONE;
}

static int end(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    app_sql(app, "BEGIN");
    FAILS_AT(BGMQ_ELOST, HOLD, 1, bgmq_job_save_cursor_tx(job, app, "one", 3));
    FAILS_AT(BGMQ_ELOST, HOLD, 1, bgmq_job_complete_tx(job, app));
    FAILS_AT(BGMQ_ELOST, HOLD, 1,
             bgmq_job_fail_tx(job, app, BGMQ_PERMANENT, "code", "text"));
    FAILS_AT(BGMQ_EFULL, NEXT_ID, 1,
             bgmq_job_fail_tx(job, app, BGMQ_PERMANENT, "code", "text"));
    OK(bgmq_job_complete_tx(job, app));
    app_sql(app, "COMMIT");
    return BGMQ_DONE;
}

/* The row is not written yet, and somebody else has it: the journal, or nobody knows who. */
static int end_behind(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    app_sql(app, "BEGIN");
    FAILS_AT(BGMQ_ELOST, TAKE_BACK, 1, bgmq_job_complete_tx(job, app));
    writing = 1;
    FAILS(BGMQ_EBUSY, bgmq_job_complete_tx(job, app));
    writing = 0;
    OK(bgmq_job_complete_tx(job, app));
    app_sql(app, "COMMIT");
    return BGMQ_DONE;
}

/* Runs one message with HANDLER to its good end. */
static void run_as(bgmq_handler_fn *handler, struct bgmq_options options)
{
    options.share_database = 1;
    struct bgmq *mq = flow_open_with(1, options);
    app = app_open();
    OK(bgmq_register(mq, "T", handler, NULL, NULL));
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 1);
    ck_assert_uint_eq(flow_stats(mq, "T").processed, 1);
    app_close(app);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
}

static void run(bgmq_handler_fn *handler)
{
    run_as(handler, SERVICE(0));
}

static struct counter attempts;

static int look_who_runs(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    ck_assert_uint_eq(bgmq_job_attempt(job), 2);
    counter_add(&attempts, 1);
    return BGMQ_DONE;
}

/* The worker's own thread: it had no time between its first step and its second. */
static void let_it_be_given_up(void)
{
    fake_clock_advance(&fake, 2000);
    bgmqi_ticker_poke(kept->ticker);
    counter_wait(&attempts, 1);
}

START_TEST(attempt_given_up_before_its_handler_runs_is_made_again)
{
    fake_clock_init(&fake, 1000000);
    counter_init(&attempts);
    OK(bgmqi_service_open(&kept, &SERVICE(.database = flow_database()), &fake.clock,
                          NULL));
    OK(bgmq_register(
        kept, "T", look_who_runs, NULL,
        &TYPE(.timeout_ms = 1000, .stuck_ms = 1000, .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_start(kept));
    atomic_store(&before_hold, let_it_be_given_up);
    flow_publish_with(kept, "T", "x", MESSAGE(.tag = "tag"));
    flow_wait_ended(kept, "T", 2);
    ck_assert_int_eq(counter_value(&attempts), 1);
    ck_assert_uint_eq(flow_stats(kept, "T").processed, 1);
    ck_assert_uint_eq(flow_stats(kept, "T").retries, 1);
    flow_close(kept);
    ck_assert_int_eq(flow_rows(), 0);
    counter_fini(&attempts);
    fake_clock_fini(&fake);
}
END_TEST

START_TEST(attempt_given_up_on_the_way_saves_nothing)
{
    run(save);
}
END_TEST

START_TEST(attempt_given_up_on_the_way_ends_nothing)
{
    run(end);
}
END_TEST

START_TEST(row_that_somebody_else_has_is_not_ended)
{
    run_as(end_behind, SERVICE(.durability = BGMQ_BEHIND, .flush_interval_ms = 3600000,
                               .flush_batch = 4096));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_calls");
    TCase *tc = flow_case(s, "outside");
    flow_add_both(tc, name_that_cannot_be_drawn_is_none);
    tcase_add_test(tc, without_an_id_nothing_is_accepted);
    tcase_add_test(tc, store_that_fails_on_the_way_is_told);
    tcase_add_test(tc, key_that_changes_hands_is_taken_from_its_last_holder);
    tc = flow_case(s, "inside");
    tcase_add_test(tc, attempt_given_up_before_its_handler_runs_is_made_again);
    tcase_add_test(tc, attempt_given_up_on_the_way_saves_nothing);
    tcase_add_test(tc, attempt_given_up_on_the_way_ends_nothing);
    tcase_add_test(tc, row_that_somebody_else_has_is_not_ended);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
