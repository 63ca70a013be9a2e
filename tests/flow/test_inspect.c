/* test_inspect.c - what a service says of itself: statistics, collections, descriptions, pages,
 * versions and error names. */
#include "flow.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(version_is_the_headers)
{
    char version[32];
    snprintf(version, sizeof(version), "%d.%d.%d", BGMQ_VERSION_MAJOR, BGMQ_VERSION_MINOR,
             BGMQ_VERSION_PATCH);
    ck_assert_str_eq(bgmq_version(), version);
}
END_TEST

START_TEST(errors_have_names_and_texts)
{
    ck_assert_str_eq(bgmq_errname(BGMQ_OK), "BGMQ_OK");
    ck_assert_str_eq(bgmq_errname(BGMQ_EINVAL), "BGMQ_EINVAL");
    ck_assert_str_eq(bgmq_errname(BGMQ_EHTTP), "BGMQ_EHTTP");
    ck_assert_str_eq(bgmq_errname(-1000), "BGMQ_E?");
    ck_assert_str_eq(bgmq_errname(1), "BGMQ_E?");
    for (int err = 0; err >= BGMQ_EHTTP; err--) {
        ck_assert_str_ne(bgmq_errname(err), "BGMQ_E?");
        ck_assert_uint_gt(strlen(bgmq_strerror(err)), 5);
        for (int other = 0; other > err; other--)
            ck_assert_str_ne(bgmq_strerror(err), bgmq_strerror(other));
    }
    ck_assert_ptr_nonnull(bgmq_strerror(-1000));
}
END_TEST

START_TEST(combine_sums_and_keeps_the_later_date)
{
    struct bgmq_stats stats[3] = {
        {.name = "One", 1, 2, 3, 4, 5, 600},
        {.name = "Two", 10, 20, 30, 40, 50, 900},
        {.name = "Three", 100, 200, 300, 400, 500, 700},
    };
    struct bgmq_stats sum = {.name = "untouched"};
    FAILS(BGMQ_EINVAL, bgmq_stats_combine(stats, 0, &sum));
    FAILS(BGMQ_EINVAL, bgmq_stats_combine(NULL, 1, &sum));
    FAILS(BGMQ_EINVAL, bgmq_stats_combine(stats, 3, NULL));
    ck_assert_str_eq(sum.name, "untouched");
    OK(bgmq_stats_combine(stats, 3, &sum));
    ck_assert_str_eq(sum.name, "One");
    ck_assert_uint_eq(sum.normal_received, 111);
    ck_assert_uint_eq(sum.priority_received, 222);
    ck_assert_uint_eq(sum.processed, 333);
    ck_assert_uint_eq(sum.failed, 444);
    ck_assert_uint_eq(sum.retries, 555);
    ck_assert_int_eq(sum.last_ms, 900);
    OK(bgmq_stats_combine(stats, 1, &sum));
    ck_assert_uint_eq(sum.failed, 4);
    ck_assert_int_eq(sum.last_ms, 600);
}
END_TEST

START_TEST(fresh_service_has_done_nothing)
{
    struct bgmq *mq = flow_open(_i);
    struct bgmq_stats s;
    OK(bgmq_total_stats(mq, &s));
    ck_assert_str_eq(s.name, "ALL WORKERS");
    ck_assert_uint_eq(s.normal_received + s.priority_received + s.processed + s.failed,
                      0);
    ck_assert_int_eq(s.last_ms, 0);
    struct bgmq_counters c = flow_counters(mq);
    ck_assert_uint_eq(c.replayed + c.replies_dropped + c.lost + c.journal_waiting, 0);
    ck_assert_int_eq(c.store_state, _i ? 1 : 0);
    struct bgmq_collection k;
    FAILS(BGMQ_ENOENT, bgmq_type_collection(mq, "T", &k));
    FAILS(BGMQ_ENOENT, bgmq_type_stats(mq, "T", &s));
    flow_close(mq);
}
END_TEST

START_TEST(service_totals_are_the_sum_of_types)
{
    struct recorder good, bad;
    recorder_init(&good);
    recorder_init(&bad);
    bad.failures = 1;
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "Good", &good, TYPE(.threads = 2));
    flow_register_with(mq, "Bad", &bad, TYPE(.backoff = BGMQ_BACKOFF_NONE));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Good", 10);
    flow_publish_numbers(mq, "Bad", 3);
    flow_publish_with(mq, "Good", "p", MESSAGE(.priority = 1));
    flow_wait_ended(mq, "Good", 11);
    flow_wait_ended(mq, "Bad", 6);
    OK(bgmq_stop(mq, 0));
    struct bgmq_stats s;
    OK(bgmq_total_stats(mq, &s));
    ck_assert_uint_eq(s.normal_received, 16);
    ck_assert_uint_eq(s.priority_received, 1);
    ck_assert_uint_eq(s.processed, 14);
    ck_assert_uint_eq(s.failed, 3);
    ck_assert_uint_eq(s.retries, 3);
    ck_assert_int_gt(s.last_ms, 0);
    flow_close(mq);
    recorder_fini(&good);
    recorder_fini(&bad);
}
END_TEST

START_TEST(workers_of_a_queue)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(0);
    flow_register_with(mq, "T", &r, TYPE(.threads = 3));
    flow_register(mq, "Other", &r);
    OK(bgmq_start(mq));
    struct bgmq_stats workers[4];
    memset(workers, 'x', sizeof(workers));
    int n = bgmq_workers(mq, "mq:T.inq", workers, 2);
    ck_assert_msg(n == 2 || n == 3, "%d workers", n);
    ck_assert_int_eq(workers[2].name[0], 'x');
    ck_assert_int_eq(bgmq_workers(mq, "mq:T.inq", workers, 4), 3);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(workers[i].name, "T");
    ck_assert_int_eq(bgmq_workers(mq, "mq:Other.inq", workers, 4), 1);
    FAILS(BGMQ_ENOENT, bgmq_workers(mq, "mq:Nobody.inq", workers, 4));
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* Each place a message can be in, at one moment. */
START_TEST(collection_counts_every_place)
{
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    r.verdict = BGMQ_PERMANENT;
    flow_register_with(mq, "T", &r, TYPE(.max_attempts = 9));
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", 2);
    flow_wait_ended(mq, "T", 2);
    r.verdict = BGMQ_DONE;
    flow_publish(mq, "T", "good");
    flow_wait_ended(mq, "T", 3);
    r.gate = &gate;
    flow_publish(mq, "T", "runs");
    counter_wait(&r.begun, 4);
    flow_publish_numbers(mq, "T", 5);
    for (int i = 0; i < 4; i++)
        flow_publish_with(mq, "T", "p", MESSAGE(.priority = 1));
    for (int i = 0; i < 3; i++)
        flow_publish_with(mq, "T", "d", MESSAGE(.delay_ms = 3600 * 1000));
    struct bgmq_message *m = flow_take(mq, "mq:T.inq");
    struct bgmq_collection c = flow_collection(mq, "T");
    ck_assert_str_eq(c.name, "T");
    ck_assert_int_eq(c.registered, 1);
    ck_assert_uint_eq(c.threads, 1);
    ck_assert_uint_eq(c.inq, 4);
    ck_assert_uint_eq(c.priorityq, 4);
    ck_assert_uint_eq(c.delayed, 3);
    ck_assert_uint_eq(c.running, 1);
    ck_assert_uint_eq(c.dlq, 2);
    ck_assert_uint_eq(c.outq, 1);
    ck_assert_uint_eq(c.taken, 1);
    ck_assert_uint_eq(c.dlq_added, 2);
    ck_assert_uint_eq(c.outq_added, 1);
    ck_assert_uint_eq(c.added, 2 + 1 + 1 + 5 + 4);
    flow_done(m);
    gate_open(&gate);
    flow_close(mq);
    if (_i) /* five of inq less the one taken, four, three, and two dead: some may have run */
        ck_assert_int_ge(flow_rows(), 5);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

/* ---- pages ---------------------------------------------------------------------- */

static void expect_line(const char *page, const char *line)
{
    ck_assert_msg(strstr(page, line) != NULL, "\"%s\" is not in:\n%s", line, page);
}

static struct bgmq *busy_service(int durable, struct recorder *r)
{
    recorder_init(r);
    struct bgmq *mq = flow_open(durable);
    flow_register_with(mq, "Mail", r, TYPE(.threads = 2));
    flow_register(mq, "ATypeWithARatherLongName", r);
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "Mail", 27);
    flow_wait_ended(mq, "Mail", 27);
    return mq;
}

START_TEST(status_page_says_what_happened)
{
    struct recorder r;
    struct bgmq *mq = busy_service(_i, &r);
    char *page = NULL;
    OK(bgmq_status_text(mq, &page));
    expect_line(page, "\nLISTENING ON: \n  mq:Mail.inq\n  mq:Mail.inq\n"
                      "  mq:ATypeWithARatherLongName.inq\n\n---");
    expect_line(page, "\n  Thread Count:         2\n  Total Messages Added: 27\n"
                      "  Total Messages Taken: 0\n  Total .outq Messages: 27\n"
                      "  Total .dlq Messages:  0\n");
    expect_line(page, "\n  mq:Mail.outq:                   27 message(s)\n");
    expect_line(page, "\n  mq:ATypeWithARatherLongName.priorityq: 0 message(s)\n");
    expect_line(page, "\n  mq:ATypeWithARatherLongName.inq:       0 message(s)\n");
    expect_line(page, "\nWORKER 3 on mq:ATypeWithARatherLongName.inq \n"
                      "STATS for ATypeWithARatherLongName:\n\n");
    free(page);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(stats_page_is_one_block_for_all)
{
    struct recorder r;
    struct bgmq *mq = busy_service(_i, &r);
    char *page = NULL;
    OK(bgmq_stats_text(mq, &page));
    expect_line(page, "STATS for ALL WORKERS:\n\n"
                      "  TotalNormalMessagesReceived:    27\n"
                      "  TotalPriorityMessagesReceived:  0\n"
                      "  TotalProcessed:                 27\n"
                      "  TotalRetries:                   0\n"
                      "  TotalFailed:                    0\n"
                      "  LastMessageProcessed:           ");
    free(page);
    OK(bgmq_description_text(mq, "Mail", &page));
    expect_line(page, "mq:Mail.priorityq");
    free(page);
    FAILS(BGMQ_ENOENT, bgmq_description_text(mq, "Male", &page));
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(json_pages_are_json)
{
    struct recorder r;
    struct bgmq *mq = busy_service(_i, &r);
    char *page = NULL;
    OK(bgmq_status_json(mq, &page));
    json_t *json = json_loads(page, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(json_is_object(json), "not JSON: %s", page);
    json_decref(json);
    free(page);
    OK(bgmq_stats_json(mq, &page));
    json = json_loads(page, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(json_is_object(json), "not JSON: %s", page);
    json_decref(json);
    free(page);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("inspect");
    TCase *tc = flow_case(s, "numbers");
    tcase_add_test(tc, version_is_the_headers);
    tcase_add_test(tc, errors_have_names_and_texts);
    tcase_add_test(tc, combine_sums_and_keeps_the_later_date);
    flow_add_both(tc, fresh_service_has_done_nothing);
    flow_add_both(tc, service_totals_are_the_sum_of_types);
    tcase_add_test(tc, workers_of_a_queue);
    flow_add_both(tc, collection_counts_every_place);
    tc = flow_case(s, "pages");
    flow_add_both(tc, status_page_says_what_happened);
    flow_add_both(tc, stats_page_is_one_block_for_all);
    flow_add_both(tc, json_pages_are_json);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
