/* test_service.c - the cases to pass of the message flow, 13 to 20: threads, refusals,
 * pages and counters.  (1 to 12 are in test_flow.c.) */
#include "flow.h"

#include <stdlib.h>
#include <string.h>

static int meet(struct bgmq_job *job, void *ctx)
{
    barrier_wait((struct barrier *)ctx);
    return BGMQ_DONE;
}

/* Were there fewer than N handlers at once, the barrier would hold them for ever. */
START_TEST(case13_n_threads_run_n_handlers_at_once)
{
    enum { N = 8 };
    struct barrier together;
    barrier_init(&together, N);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "Meet", meet, &together, &TYPE(.threads = N)));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Meet", 3 * N);
    flow_wait_ended(mq, "Meet", 3 * N);
    ck_assert_uint_eq(flow_stats(mq, "Meet").processed, 3 * N);
    flow_close(mq);
    barrier_fini(&together);
}
END_TEST

START_TEST(case14_permanent_failure_is_called_once)
{
    struct recorder r;
    recorder_init(&r);
    r.failures = 100;
    r.failure = BGMQ_PERMANENT;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Void", &r);
    OK(bgmq_start(mq));
    uint64_t id = flow_publish(mq, "Void", "x");
    ck_assert_uint_eq(flow_expect(mq, "mq:Void.dlq", "x"), id);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 1);
    struct bgmq_stats s = flow_stats(mq, "Void");
    ck_assert_uint_eq(s.failed, 1);
    ck_assert_uint_eq(s.retries, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case15_outq_off_for_a_type)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "Quiet", &r, TYPE(.no_outq = 1));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Quiet", 3);
    flow_wait_ended(mq, "Quiet", 3);
    flow_expect_empty(mq, "mq:Quiet.outq");
    ck_assert_uint_eq(flow_stats(mq, "Quiet").processed, 3);
    struct bgmq_collection c = flow_collection(mq, "Quiet");
    ck_assert_uint_eq(c.outq, 0);
    ck_assert_uint_eq(c.outq_added, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case15_outq_off_for_one_message)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Loud", &r);
    OK(bgmq_start(mq));
    flow_publish_with(mq, "Loud", "hidden", MESSAGE(.no_outq = 1));
    flow_publish(mq, "Loud", "shown");
    flow_wait_ended(mq, "Loud", 2);
    flow_expect(mq, "mq:Loud.outq", "shown");
    flow_expect_empty(mq, "mq:Loud.outq");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case16_second_registration_is_refused)
{
    struct recorder first, second;
    recorder_init(&first);
    recorder_init(&second);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Once", &first);
    FAILS(BGMQ_EEXIST, bgmq_register(mq, "Once", recorder_handler, &second, NULL));
    OK(bgmq_start(mq));
    FAILS(BGMQ_EEXIST, bgmq_register(mq, "Once", recorder_handler, &second, NULL));
    flow_publish(mq, "Once", "x");
    flow_expect(mq, "mq:Once.outq", "x");
    ck_assert_int_eq(counter_value(&first.begun), 1);
    ck_assert_int_eq(counter_value(&second.begun), 0);
    flow_close(mq);
    recorder_fini(&first);
    recorder_fini(&second);
}
END_TEST

START_TEST(case17_bad_publishes_have_their_own_errors)
{
    char long_name[202];
    memset(long_name, 'x', 201);
    long_name[201] = '\0';
    struct bgmq *mq = flow_open_with(_i, SERVICE(.max_body = 100));
    char body[101] = {0};
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T", NULL, 0, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "T", NULL, 5, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, NULL, "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "no spaces", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "no:colon", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, "n\303\266", "x", 1, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(mq, long_name, "x", 1, NULL, NULL));
    FAILS(BGMQ_ETOOBIG, bgmq_publish(mq, "T", body, 101, NULL, NULL));
    FAILS(BGMQ_EINVAL, bgmq_publish(NULL, "T", "x", 1, NULL, NULL));
    struct bgmq_stats s;
    ck_assert_int_eq(bgmq_type_stats(mq, "T", &s), BGMQ_ENOENT);
    OK(bgmq_publish(mq, "T", body, 100, NULL, NULL));
    OK(bgmq_publish(mq, "T", "", 0, NULL, NULL));
    OK(bgmq_publish(mq, long_name + 1, "x", 1, NULL, NULL));
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 2);
    OK(bgmq_close(mq));
    FAILS(BGMQ_ECLOSED, bgmq_publish(mq, "T", "x", 1, NULL, NULL));
    bgmq_free(mq);
    if (_i)
        ck_assert_int_eq(flow_rows(), 3);
}
END_TEST

START_TEST(case18_stopped_page)
{
    struct bgmq *mq = flow_open(0);
    char *page = NULL;
    OK(bgmq_status_text(mq, &page));
    ck_assert_str_eq(page, "# MQ SERVER STATS:\n\nSTATUS: Stopped\n\n");
    free(page);
    flow_close(mq);
}
END_TEST

/* The page of a type that has done nothing yet: no date in it, hence the same each time.
 */
static const char idle_page[] = "# MQ SERVER STATS:\n"
                                "\n"
                                "STATUS: Started\n"
                                "\n"
                                "LISTENING ON: \n"
                                "  mq:Hello.inq\n"
                                "\n"
                                "------------------------------\n"
                                "\n"
                                "# COLLECTIONS:\n"
                                "\n"
                                "------------------------------\n"
                                "INFO Hello:\n"
                                "\n"
                                "STATS:\n"
                                "  Thread Count:         1\n"
                                "  Total Messages Added: 0\n"
                                "  Total Messages Taken: 0\n"
                                "  Total .outq Messages: 0\n"
                                "  Total .dlq Messages:  0\n"
                                "QUEUES:\n"
                                "  mq:Hello.inq:                   0 message(s)\n"
                                "  mq:Hello.priorityq:             0 message(s)\n"
                                "  mq:Hello.dlq:                   0 message(s)\n"
                                "  mq:Hello.outq:                  0 message(s)\n"
                                "------------------------------\n"
                                "\n"
                                "# WORKERS:\n"
                                "\n"
                                "------------------------------\n"
                                "WORKER 1 on mq:Hello.inq \n"
                                "STATS for Hello:\n"
                                "\n"
                                "  TotalNormalMessagesReceived:    0\n"
                                "  TotalPriorityMessagesReceived:  0\n"
                                "  TotalProcessed:                 0\n"
                                "  TotalRetries:                   0\n"
                                "  TotalFailed:                    0\n"
                                "  LastMessageProcessed:           \n"
                                "------------------------------\n";

START_TEST(case18_idle_page)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(0);
    flow_register(mq, "Hello", &r);
    OK(bgmq_start(mq));
    char *page = NULL;
    OK(bgmq_status_text(mq, &page));
    ck_assert_str_eq(page, idle_page);
    free(page);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case18_description_map)
{
    static const char *const keys[9] = {
        "ThreadCount",           "TotalMessagesAdded",
        "TotalMessagesTaken",    "TotalOutQMessagesAdded",
        "TotalDlQMessagesAdded", "mq:Mail.inq",
        "mq:Mail.priorityq",     "mq:Mail.dlq",
        "mq:Mail.outq",
    };
    static const int64_t values[9] = {3, 5, 1, 0, 0, 2, 2, 0, 0};
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "Mail", &r, TYPE(.threads = 3));
    flow_publish_numbers(mq, "Mail", 3);
    flow_publish_with(mq, "Mail", "p", MESSAGE(.priority = 1));
    flow_publish_with(mq, "Mail", "q", MESSAGE(.priority = 9));
    flow_expect(mq, "mq:Mail.inq", "0");
    struct bgmq_entry map[9];
    OK(bgmq_description_map(mq, "Mail", map));
    for (int i = 0; i < 9; i++) {
        ck_assert_str_eq(map[i].key, keys[i]);
        ck_assert_msg(map[i].value == values[i], "%s is %lld, not %lld", keys[i],
                      (long long)map[i].value, (long long)values[i]);
    }
    FAILS(BGMQ_ENOENT, bgmq_description_map(mq, "Male", map));
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case19_workers_of_a_queue_combine_to_its_totals)
{
    enum { N = 4 };
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "Job", &r, TYPE(.threads = N, .backoff = BGMQ_BACKOFF_NONE));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Job", 50);
    flow_publish_with(mq, "Job", "p", MESSAGE(.priority = 1));
    flow_wait_ended(mq, "Job", 102);
    OK(bgmq_stop(mq, 0));
    struct bgmq_stats workers[N + 2], sum, all, total = flow_stats(mq, "Job");
    ck_assert_int_eq(bgmq_workers(mq, "mq:Job.inq", workers, N + 2), N);
    OK(bgmq_stats_combine(workers, N, &sum));
    ck_assert_str_eq(workers[0].name, "Job");
    ck_assert_str_eq(sum.name, "Job");
    ck_assert_str_eq(total.name, "Job");
    ck_assert_uint_eq(total.normal_received, 100);
    ck_assert_uint_eq(total.priority_received, 2);
    ck_assert_uint_eq(total.processed, 51);
    ck_assert_uint_eq(total.failed, 51);
    ck_assert_uint_eq(total.retries, 51);
    ck_assert_int_gt(total.last_ms, 0);
    OK(bgmq_total_stats(mq, &all));
    ck_assert_str_eq(all.name, "ALL WORKERS");
    struct bgmq_stats same[3] = {sum, total, all};
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(same[i].normal_received, total.normal_received);
        ck_assert_uint_eq(same[i].priority_received, total.priority_received);
        ck_assert_uint_eq(same[i].processed, total.processed);
        ck_assert_uint_eq(same[i].failed, total.failed);
        ck_assert_uint_eq(same[i].retries, total.retries);
        ck_assert_int_eq(same[i].last_ms, total.last_ms);
    }
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(case20_stop_and_start_keep_messages_and_counters)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "Keep", &r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Keep", 5);
    flow_wait_ended(mq, "Keep", 5);
    OK(bgmq_stop(mq, 0));
    ck_assert_int_eq(bgmq_started(mq), 0);
    flow_publish_numbers(mq, "Keep", 7);
    ck_assert_uint_eq(flow_collection(mq, "Keep").inq, 7);
    ck_assert_uint_eq(flow_stats(mq, "Keep").processed, 5);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "Keep", 12);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r.n, 12);
    ck_assert_uint_eq(flow_stats(mq, "Keep").processed, 12);
    struct bgmq_collection c = flow_collection(mq, "Keep");
    ck_assert_uint_eq(c.added, 12);
    ck_assert_uint_eq(c.outq, 12);
    ck_assert_uint_eq(c.inq, 0);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* A stack that no address space has room for.  What was opened before is given back. */
START_TEST(thread_that_cannot_start_opens_nothing)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    struct bgmq_options o =
        SERVICE(.database = _i ? flow_database() : NULL, .stack_size = (size_t)1 << 47);
    FAILS(BGMQ_ETHREAD, bgmq_open(&mq, &o, &error));
    ck_assert_ptr_null(mq);
    ck_assert_str_ne(error.text, "");
    mq = flow_open(_i); /* nobody owns it */
    flow_close(mq);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("service");
    TCase *tc = flow_case(s, "cases 13 to 20");
    flow_add_both(tc, case13_n_threads_run_n_handlers_at_once);
    flow_add_both(tc, case14_permanent_failure_is_called_once);
    flow_add_both(tc, case15_outq_off_for_a_type);
    flow_add_both(tc, case15_outq_off_for_one_message);
    flow_add_both(tc, case16_second_registration_is_refused);
    flow_add_both(tc, case17_bad_publishes_have_their_own_errors);
    tcase_add_test(tc, case18_stopped_page);
    tcase_add_test(tc, case18_idle_page);
    flow_add_both(tc, case18_description_map);
    flow_add_both(tc, case19_workers_of_a_queue_combine_to_its_totals);
    flow_add_both(tc, case20_stop_and_start_keep_messages_and_counters);
    flow_add_both(tc, thread_that_cannot_start_opens_nothing);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
