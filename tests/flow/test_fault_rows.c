/* test_fault_rows.c - the journal's thread has no memory for what it reads from the store, or
 * writes to it: a row that is not found now is found later, whole, and none is taken for a corrupt
 * one. */
#include "app.h"
#include "refuse.h"

#include "handle.h"
#include "service.h"
#include "type_impl.h"

#include <bgmq_operate.h>
#include <bgmq_sqlite.h>
#include <stdlib.h>
#include <string.h>

static const char *const meta[] = {"first", "a value of more than a few bytes", "second",
                                   "", NULL};

/* ---- what is kept ------- */

static int keep_something(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    OK(bgmq_job_save_cursor(job, "cursor", 6, BGMQ_BEHIND));
    OK(bgmq_job_progress(job, 1, "half"));
    OK(bgmq_job_result(job, "result", 6));
    return bgmq_job_attempt(job) == 1 ? bgmq_job_fail(job, BGMQ_RETRY, "code", "text")
                                      : BGMQ_DONE;
}

static int count_error(void *ctx, const struct bgmq_attempt_error *e)
{
    (void)e;
    ++*(int *)ctx;
    return 0;
}

START_TEST(what_is_read_without_memory_is_read_again)
{
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", keep_something, NULL,
                     &TYPE(.backoff = BGMQ_BACKOFF_NONE, .history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish(mq, "T", "x");
    flow_wait_ended(mq, "T", 2);
    OK(bgmq_flush(mq));
    for (long n = 1, refused = 1; refused; n++) {
        int errors = 0;
        refuse_order(mq, n);
        int err = bgmq_errors(mq, id, count_error, &errors);
        refused = refuse_order(mq, 0);
        ck_assert(err == BGMQ_ENOMEM || errors == 1);
    }
    for (long n = 1, refused = 1; refused; n++) {
        void *result = NULL;
        size_t len = 0;
        refuse_order(mq, n);
        int err = bgmq_result(mq, id, &result, &len);
        refused = refuse_order(mq, 0);
        ck_assert(err == BGMQ_ENOMEM || len == 6);
        free(result);
    }
    flow_close(mq);
}
END_TEST

/* What a handler left is written with one allocation refused: it is written all the same.  Room
 * that the store has made for one it has for the next, so each has its turn more than once. */
START_TEST(what_finds_no_memory_is_written_later)
{
    struct bgmq *mq = flow_open(1);
    uint64_t runs = 0;
    OK(bgmq_register(mq, "T", keep_something, NULL,
                     &TYPE(.backoff = BGMQ_BACKOFF_NONE, .history = BGMQ_HISTORY_ALL)));
    OK(bgmq_start(mq));
    long refused = 0;
    for (long i = 0; i < 12; i++) {
        refuse_order(mq, 1 + i % 4);
        flow_publish(mq, "T", "x");
        flow_wait_ended(mq, "T", runs += 2);
        OK(bgmq_flush(mq));
        refused += refuse_order(mq, 0);
    }
    ck_assert_int_ge(refused, 3);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- rows ---- */

enum { MANY = 8, HOUR_MS = 3600000 };

static struct fake_clock fake;

static struct bgmq *open_with_a_clock(void)
{
    struct bgmq *mq = NULL;
    fake_clock_init(&fake, INT64_C(1523303089000));
    OK(bgmqi_service_open(&mq, &SERVICE(.database = flow_database()), &fake.clock, NULL));
    return mq;
}

/* What a message has got is there in its second attempt. */
static int fail_once(struct bgmq_job *job, void *ctx)
{
    size_t len = 0;
    counter_add(ctx, 1);
    ck_assert_str_eq(bgmq_job_meta(job, "first"), meta[1]);
    ck_assert_str_eq(bgmq_job_meta(job, "second"), "");
    ck_assert_str_eq(bgmq_job_tag(job), "tag");
    if (bgmq_job_attempt(job) == 1) {
        OK(bgmq_job_save_cursor(job, "cursor", 6, BGMQ_BEHIND));
        OK(bgmq_job_progress(job, 1, "half"));
        return bgmq_job_fail(job, BGMQ_RETRY, "code", "text");
    }
    const char *cursor = bgmq_job_cursor(job, &len);
    ck_assert_uint_eq(len, 6);
    ck_assert_int_eq(memcmp(cursor, "cursor", 6), 0);
    return BGMQ_DONE;
}

/* With a window of two most rows are in the store only. */
static void handle_with(struct bgmq *mq, struct counter *starts)
{
    OK(bgmq_register(mq, "T", fail_once, starts,
                     &TYPE(.window = 2, .backoff = BGMQ_BACKOFF_FIXED,
                           .backoff_base_ms = HOUR_MS, .max_attempts = 2)));
}

static uint64_t publish_many(struct bgmq *mq)
{
    uint64_t id = 0;
    for (int i = 0; i < MANY; i++)
        id = flow_publish_with(mq, "T", "x", MESSAGE(.meta = meta, .tag = "tag"));
    OK(bgmq_flush(mq));
    return id;
}

/* What the journal's thread makes of each row that the store finds, when it lacks the N-th of what
 * it asks for. */
struct maker {
    struct bgmq *mq;
    long n;
    int whole, lacking;
};

static void expect_whole(const struct message *m)
{
    const struct failure *f = message_failure(m);
    struct progress *p = message_progress(m);
    ck_assert_str_eq(bgmqi_message_meta(m, "first"), meta[1]);
    ck_assert_str_eq(message_ext(m)->tag, "tag");
    ck_assert_str_eq(f->code, "code");
    ck_assert_str_eq(p->text, "half");
    ck_assert_uint_eq(p->cursor_len, 6);
    ck_assert_int_eq(memcmp(p->cursor, "cursor", 6), 0);
    ck_assert_int_eq(m->corrupt, 0);
}

static int make_one(void *ctx, const struct store_row *row)
{
    struct maker *k = ctx;
    struct type *t = bgmqi_registry_find(k->mq->registry, "T");
    size_t before = atomic_load(&k->mq->budget.used);
    refuse_left = k->n;
    refuse_hits = 0;
    struct message *m = bgmqi_type_message_of(t, row);
    refuse_left = 0;
    if (m)
        expect_whole(m);
    ck_assert_int_eq(m == NULL, refuse_hits);
    k->whole += m != NULL;
    k->lacking += m == NULL;
    bgmqi_message_unref(m);
    ck_assert_uint_eq(atomic_load(&k->mq->budget.used), before);
    return 0;
}

static void make(void *ctx, struct store *s)
{
    struct maker *k = ctx;
    ck_assert_int_eq(s->ops->search(s, &(struct store_search){.limit = 1}, make_one, k),
                     1);
}

START_TEST(message_is_made_of_a_row_whole_or_not_at_all)
{
    struct counter starts;
    counter_init(&starts);
    struct bgmq *mq = open_with_a_clock();
    handle_with(mq, &starts);
    OK(bgmq_start(mq));
    publish_many(mq);
    flow_wait_ended(mq, "T", MANY);
    OK(bgmq_flush(mq));
    int lacking = 0;
    for (long n = 1, whole = 0; !whole; n++) {
        struct maker k = {.mq = mq, .n = n};
        OK(bgmqi_journal_run(mq->journal, make, &k, INT64_C(10000000000)));
        whole = k.whole;
        lacking += k.lacking;
    }
    ck_assert_int_ge(lacking, 6);
    flow_close(mq);
    counter_fini(&starts);
}
END_TEST

/* The last of the rows is nowhere but in the store. */
START_TEST(row_that_finds_no_memory_is_discarded_later)
{
    struct counter starts;
    counter_init(&starts);
    struct bgmq *mq = flow_open(1);
    handle_with(mq, &starts);
    struct bgmq_select which = {.id = publish_many(mq)};
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", which.id, &info));
    int found = BGMQ_ENOMEM;
    for (long n = 1; found != 1; n++) {
        refuse_order(mq, n);
        found = bgmq_discard(mq, "T", &which);
        ck_assert_int_eq(refuse_order(mq, 0), found != 1);
        if (found == 1)
            ck_assert_int_ge(n, 3);
        else
            FAILS(BGMQ_ENOMEM, found);
        ck_assert_uint_eq(flow_collection(mq, "T").inq, found == 1 ? MANY - 1 : MANY);
    }
    FAILS(BGMQ_ENOENT, bgmq_discard(mq, "T", &which));
    ck_assert_uint_eq(flow_collection(mq, "T").inq, MANY - 1);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), MANY - 1);
    counter_fini(&starts);
}
END_TEST

START_TEST(rows_that_find_no_memory_are_found_later)
{
    struct counter starts;
    counter_init(&starts);
    struct bgmq *mq = flow_open(1);
    handle_with(mq, &starts);
    publish_many(mq);
    struct bgmq_select which = {.tag = "tag"};
    int total = 0;
    for (long n = 1; total < MANY; n++) {
        refuse_order(mq, n);
        int found = bgmq_discard(mq, "T", &which);
        long refused = refuse_order(mq, 0);
        ck_assert_msg(found >= 0 || (refused && found == BGMQ_ENOMEM), "%s",
                      bgmq_errname(found));
        total += found > 0 ? found : 0;
    }
    ck_assert_int_eq(total, MANY);
    ck_assert_int_eq(bgmq_discard(mq, "T", &which), 0);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    counter_fini(&starts);
}
END_TEST

/* The linker puts this in the place of the library's.  One load in which there is so much lacks one
 * of what it asks for. */
static _Atomic long load_lacks, loads_without;

void __real_bgmqi_type_load(struct type *t);
void __wrap_bgmqi_type_load(struct type *t);
void __wrap_bgmqi_type_load(struct type *t)
{
    refuse_left = atomic_load(&load_lacks);
    refuse_hits = 0;
    __real_bgmqi_type_load(t);
    refuse_left = 0;
    if (refuse_hits)
        atomic_store(&load_lacks, 0);
    atomic_fetch_add(&loads_without, refuse_hits);
}

/* A load that failed is tried again when the ticker comes; it comes for what is soon due. */
static int look(struct bgmq_job *job, void *ctx)
{
    (void)job, (void)ctx;
    return BGMQ_DONE;
}

static void wait_for_starts(struct bgmq *mq, struct counter *starts, long n)
{
    while (counter_value(starts) < n) {
        uint64_t looks = flow_stats(mq, "Look").processed;
        flow_publish_with(mq, "Look", "look", MESSAGE(.delay_ms = 1));
        fake_clock_advance(&fake, HOUR_MS);
        flow_wait_ended(mq, "Look", looks + 1);
    }
}

START_TEST(rows_that_find_no_memory_are_loaded_later)
{
    struct counter starts;
    struct bgmq *mq = open_with_a_clock();
    long round = 0;
    counter_init(&starts);
    handle_with(mq, &starts);
    OK(bgmq_register(mq, "Look", look, NULL, NULL));
    while (atomic_load(&loads_without) == round) {
        long before = 2 * MANY * round;
        OK(bgmq_stop(mq, 10000));
        publish_many(mq);
        atomic_store(&load_lacks, ++round);
        OK(bgmq_start(mq));
        wait_for_starts(mq, &starts, before + 2 * MANY);
        flow_wait_ended(mq, "T", (uint64_t)(before + 2 * MANY));
    }
    ck_assert_int_ge(round, 4); /* a list, a message and what it has, at least */
    ck_assert_uint_eq(flow_stats(mq, "T").processed, (uint64_t)(MANY * round));
    ck_assert_uint_eq(flow_collection(mq, "T").dlq, 0);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    counter_fini(&starts);
}
END_TEST

/* ---- the inbox ---- */

static void insert_wrong_row(sqlite3 *db)
{
    app_sql(db, "INSERT INTO bgmq_inbox(type, body, run_at) VALUES('T', 'x', -1)");
}

START_TEST(row_that_no_memory_refuses_is_refused_later)
{
    struct bgmq *mq = flow_open_with(1, SERVICE(.share_database = 1));
    sqlite3 *db = app_open();
    OK(bgmq_sqlite_prepare(mq, db));
    long n = 0, lacking = 0;
    for (long refused = 1; refused; lacking += refused) {
        refuse_order(mq, ++n);
        insert_wrong_row(db);
        WAIT_UNTIL(
            flow_sql("SELECT count(*) FROM bgmq_inbox WHERE refused IS NOT NULL") == n);
        refused = refuse_order(mq, 0);
    }
    ck_assert_int_ge(lacking, 2);
    ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_inbox WHERE refused = "
                              "'run_at is not a time'"),
                     n);
    app_close(db);
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fault_rows");
    TCase *tc = flow_case(s, "kept");
    tcase_add_checked_fixture(tc, refuse_setup, NULL);
    tcase_add_test(tc, what_is_read_without_memory_is_read_again);
    tcase_add_test(tc, what_finds_no_memory_is_written_later);
    tc = flow_case(s, "rows");
    tcase_add_checked_fixture(tc, refuse_setup, NULL);
    tcase_add_test(tc, message_is_made_of_a_row_whole_or_not_at_all);
    tcase_add_test(tc, row_that_finds_no_memory_is_discarded_later);
    tcase_add_test(tc, rows_that_find_no_memory_are_found_later);
    tcase_add_test(tc, rows_that_find_no_memory_are_loaded_later);
    tc = flow_case(s, "inbox");
    tcase_add_checked_fixture(tc, refuse_setup, NULL);
    tcase_add_test(tc, row_that_no_memory_refuses_is_refused_later);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
