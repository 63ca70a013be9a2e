/* test_report.c - the pages of the admin: the text byte for byte as in tests/golden, the JSON
 * as JSON. */
#include "report.h"

#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A golden file; free() it. */
static char *golden(const char *name)
{
    const char *root = getenv("BGMQ_SOURCE");
    char path[1024], *text;
    snprintf(path, sizeof(path), "%s/tests/golden/%s", root ? root : ".", name);
    harness_read_file(path, &text);
    return text;
}

/* Takes TEXT. */
static void expect_golden(char *text, const char *name)
{
    char *want = golden(name);
    ck_assert_ptr_nonnull(text);
    ck_assert_str_eq(text, want);
    free(want);
    free(text);
}

/* ---- the service of the golden page ------------------------------------------------ */

/* 2018-04-09, UTC. */
#define AT(h, m, s) (INT64_C(1523232000000) + ((h)*3600 + (m)*60 + (s)) * 1000)

static struct bgmq_collection collections[] = {
    {.name = "SendNotification",
     .registered = 1,
     .threads = 4,
     .added = 27,
     .outq_added = 27,
     .outq = 27},
    {.name = "SendSystemEmail",
     .registered = 1,
     .threads = 1,
     .added = 1,
     .outq_added = 1,
     .outq = 1},
};

#define WORKER(type, n, at)                                                              \
    {                                                                                    \
        .queue = "mq:" type ".inq", .stats = {                                           \
            .name = type,                                                                \
            .normal_received = n,                                                        \
            .processed = n,                                                              \
            .last_ms = at                                                                \
        }                                                                                \
    }

static struct report_worker workers[] = {
    WORKER("SendNotification", 7, AT(19, 44, 49)),
    WORKER("SendNotification", 7, AT(19, 49, 17)),
    WORKER("SendNotification", 7, AT(20, 28, 59)),
    WORKER("SendNotification", 6, AT(19, 41, 18)),
    WORKER("SendSystemEmail", 1, AT(19, 44, 47)),
};

static const struct report techstacks = {
    .started = true,
    .collections = collections,
    .n_collections = 2,
    .workers = workers,
    .n_workers = 5,
    .total = {.name = "ALL WORKERS",
              .normal_received = 28,
              .processed = 28,
              .last_ms = AT(20, 28, 59)},
};

/* ---- text -------------------------------------------------------------------------- */

START_TEST(page_of_a_started_service)
{
    expect_golden(bgmqi_report_status_text(&techstacks), "status-techstacks.txt");
}
END_TEST

START_TEST(page_of_a_stopped_service)
{
    struct report r = techstacks;
    r.started = false;
    expect_golden(bgmqi_report_status_text(&r), "status-stopped.txt");
}
END_TEST

START_TEST(page_without_types)
{
    struct report r = {.started = true};
    char *text = bgmqi_report_status_text(&r);
    ck_assert_str_eq(text, "# MQ SERVER STATS:\n\nSTATUS: Started\n\nLISTENING ON: \n\n"
                           "------------------------------\n\n# COLLECTIONS:\n\n"
                           "------------------------------\n\n# WORKERS:\n\n"
                           "------------------------------\n");
    free(text);
}
END_TEST

START_TEST(stats_of_all_workers)
{
    char *text = bgmqi_report_stats_text(&techstacks.total);
    ck_assert_str_eq(text, "STATS for ALL WORKERS:\n\n"
                           "  TotalNormalMessagesReceived:    28\n"
                           "  TotalPriorityMessagesReceived:  0\n"
                           "  TotalProcessed:                 28\n"
                           "  TotalRetries:                   0\n"
                           "  TotalFailed:                    0\n"
                           "  LastMessageProcessed:           4/9/18 8:28:59 PM\n"
                           "------------------------------\n");
    free(text);
}
END_TEST

START_TEST(stats_without_a_date)
{
    struct bgmq_stats s = {.name = "T",
                           .priority_received = 1,
                           .retries = 2,
                           .failed = 18446744073709551615u};
    char *text = bgmqi_report_stats_text(&s);
    ck_assert_ptr_nonnull(strstr(text, "  TotalPriorityMessagesReceived:  1\n"));
    ck_assert_ptr_nonnull(strstr(text, "  TotalRetries:                   2\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "  TotalFailed:                    18446744073709551615\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n  LastMessageProcessed:           \n---"));
    free(text);
}
END_TEST

START_TEST(description_of_a_type)
{
    struct bgmq_collection c = {.name = "T",
                                .threads = 2,
                                .added = 10,
                                .taken = 3,
                                .outq_added = 4,
                                .dlq_added = 5,
                                .inq = 6,
                                .priorityq = 7,
                                .dlq = 8,
                                .outq = 9};
    char *text = bgmqi_report_description_text(&c);
    ck_assert_str_eq(text, "INFO T:\n\nSTATS:\n"
                           "  Thread Count:         2\n"
                           "  Total Messages Added: 10\n"
                           "  Total Messages Taken: 3\n"
                           "  Total .outq Messages: 4\n"
                           "  Total .dlq Messages:  5\n"
                           "QUEUES:\n"
                           "  mq:T.inq:                       6 message(s)\n"
                           "  mq:T.priorityq:                 7 message(s)\n"
                           "  mq:T.dlq:                       8 message(s)\n"
                           "  mq:T.outq:                      9 message(s)\n"
                           "------------------------------\n");
    free(text);
}
END_TEST

/* Where the digit of the line of QUEUE stands, in the description of a type of LEN letters. */
static size_t column(size_t len, const char *queue)
{
    struct bgmq_collection c = {.threads = 1};
    memset(c.name, 'n', len);
    char *text = bgmqi_report_description_text(&c), mark[16];
    snprintf(mark, sizeof(mark), ".%s:", queue);
    char *at = strstr(text, mark);
    ck_assert_ptr_nonnull(at);
    char *line = at;
    while (line[-1] != '\n')
        line--;
    at = strchr(at, ' ');
    while (*at == ' ')
        at++;
    size_t col = (size_t)(at - line);
    ck_assert_str_eq(strtok(at, "\n"), "0 message(s)");
    free(text);
    return col;
}

/* 2 blanks, W = max(longest name + colon, 31), a blank. */
START_TEST(values_stand_in_one_column)
{
    static const char *const queues[] = {"inq", "priorityq", "dlq", "outq"};
    for (size_t len = 1; len <= 200; len += 199) {
        size_t longest = 3 + len + strlen(".priorityq:");
        size_t width = longest > 31 ? longest : 31;
        for (int i = 0; i < 4; i++)
            ck_assert_uint_eq(column(len, queues[i]), 2 + width + 1);
    }
    ck_assert_uint_eq(column(17, "inq"),
                      34); /* the longest that the seed's width holds */
    ck_assert_uint_eq(column(18, "inq"), 35);
}
END_TEST

START_TEST(map_has_its_keys_in_order)
{
    static const char *const keys[] = {"ThreadCount",
                                       "TotalMessagesAdded",
                                       "TotalMessagesTaken",
                                       "TotalOutQMessagesAdded",
                                       "TotalDlQMessagesAdded",
                                       "mq:T.inq",
                                       "mq:T.priorityq",
                                       "mq:T.dlq",
                                       "mq:T.outq"};
    struct bgmq_collection c = {.name = "T",
                                .threads = 1,
                                .added = 2,
                                .taken = 3,
                                .outq_added = 4,
                                .dlq_added = 5,
                                .inq = 6,
                                .priorityq = 7,
                                .dlq = 8,
                                .outq = 9};
    struct bgmq_entry map[9];
    bgmqi_report_map(&c, map);
    for (int i = 0; i < 9; i++) {
        ck_assert_str_eq(map[i].key, keys[i]);
        ck_assert_int_eq(map[i].value, i + 1);
    }
}
END_TEST

/* ---- JSON -------------------------------------------------------------------------- */

/* Takes TEXT. */
static json_t *parsed(char *text)
{
    ck_assert_ptr_nonnull(text);
    for (const char *p = text; *p; p++)
        ck_assert_msg(*p >= 0x20 && *p < 0x7f, "byte %#x in %s", (unsigned)*p, text);
    json_error_t why;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    ck_assert_msg(root != NULL, "%s: %s", why.text, text);
    free(text);
    return root;
}

static json_int_t number(const json_t *root, const char *key)
{
    json_t *value = json_object_get(root, key);
    ck_assert_msg(json_is_integer(value), "%s is no integer", key);
    return json_integer_value(value);
}

static const char *string(const json_t *root, const char *key)
{
    json_t *value = json_object_get(root, key);
    ck_assert_msg(json_is_string(value), "%s is no string", key);
    return json_string_value(value);
}

START_TEST(status_json_says_what_the_page_says)
{
    json_t *root = parsed(bgmqi_report_status_json(&techstacks));
    ck_assert_str_eq(string(root, "status"), "Started");
    ck_assert_str_eq(string(root, "store"), "none");
    const json_t *list = json_object_get(root, "collections");
    ck_assert_uint_eq(json_array_size(list), 2);
    const json_t *first = json_array_get(list, 0);
    ck_assert_str_eq(string(first, "name"), "SendNotification");
    ck_assert_int_eq(number(first, "threads"), 4);
    ck_assert_int_eq(number(first, "added"), 27);
    ck_assert_int_eq(number(json_object_get(first, "queues"), "outq"), 27);
    ck_assert_int_eq(number(json_object_get(first, "queues"), "delayed"), 0);
    list = json_object_get(root, "workers");
    ck_assert_uint_eq(json_array_size(list), 5);
    const json_t *fourth = json_array_get(list, 3);
    ck_assert_str_eq(string(fourth, "queue"), "mq:SendNotification.inq");
    ck_assert_int_eq(number(fourth, "processed"), 6);
    ck_assert_str_eq(string(fourth, "last_processed"), "2018-04-09T19:41:18.000Z");
    json_decref(root);
}
END_TEST

START_TEST(stats_json_has_totals_and_counters)
{
    static const char *const states[] = {"none", "good", "retrying", "failed"};
    struct report r = techstacks;
    r.started = false;
    r.total.last_ms = 0;
    r.counters = (struct bgmq_counters){.replayed = 1,
                                        .replies_dropped = 2,
                                        .lost = 3,
                                        .commits = 4,
                                        .journal_waiting = 5};
    for (int i = 0; i < 4; i++) {
        r.counters.store_state = i;
        json_t *root = parsed(bgmqi_report_stats_json(&r));
        ck_assert_str_eq(string(root, "status"), "Stopped");
        ck_assert_str_eq(string(root, "store"), states[i]);
        ck_assert_int_eq(number(root, "replayed"), 1);
        ck_assert_int_eq(number(root, "replies_dropped"), 2);
        ck_assert_int_eq(number(root, "lost"), 3);
        ck_assert_int_eq(number(root, "commits"), 4);
        ck_assert_int_eq(number(root, "journal_waiting"), 5);
        const json_t *total = json_object_get(root, "totals");
        ck_assert_str_eq(string(total, "name"), "ALL WORKERS");
        ck_assert_int_eq(number(total, "normal_received"), 28);
        ck_assert(json_is_null(json_object_get(total, "last_processed")));
        json_decref(root);
    }
}
END_TEST

/* Names of types are ASCII; should anything else get in, it must not get out. */
START_TEST(json_is_ascii_whatever_the_name)
{
    struct bgmq_collection c = {.name = "caf\xc3\xa9 \"\\<\x01"};
    struct report r = {.started = true, .collections = &c, .n_collections = 1};
    json_t *root = parsed(bgmqi_report_status_json(&r));
    const json_t *first = json_array_get(json_object_get(root, "collections"), 0);
    ck_assert_str_eq(string(first, "name"), c.name);
    json_decref(root);
}
END_TEST

/* A text that is not UTF-8 cannot be JSON: no page, but no crash and no leak either. */
START_TEST(json_that_cannot_be_is_null)
{
    struct bgmq_collection c = {.name = "\xff"};
    struct report r = {.started = true, .collections = &c, .n_collections = 1};
    ck_assert_ptr_null(bgmqi_report_status_json(&r));
    struct report_worker w = {.queue = "\xff", .stats = {.name = "\xff"}};
    r = (struct report){.started = true, .workers = &w, .n_workers = 1};
    ck_assert_ptr_null(bgmqi_report_status_json(&r));
    r = (struct report){.total = {.name = "\xff"}};
    ck_assert_ptr_null(bgmqi_report_stats_json(&r));
    ck_assert_ptr_null(bgmqi_report_status_json(&r));
}
END_TEST

START_TEST(fini_frees_and_takes_empty)
{
    struct report r = {.collections = calloc(1, sizeof(*r.collections)),
                       .n_collections = 1,
                       .workers = calloc(1, sizeof(*r.workers)),
                       .n_workers = 1};
    bgmqi_report_fini(&r);
    ck_assert_uint_eq(r.n_collections + r.n_workers, 0);
    bgmqi_report_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("report");
    TCase *text = harness_case(s, "text");
    tcase_add_test(text, page_of_a_started_service);
    tcase_add_test(text, page_of_a_stopped_service);
    tcase_add_test(text, page_without_types);
    tcase_add_test(text, stats_of_all_workers);
    tcase_add_test(text, stats_without_a_date);
    tcase_add_test(text, description_of_a_type);
    tcase_add_test(text, values_stand_in_one_column);
    tcase_add_test(text, map_has_its_keys_in_order);
    TCase *json = harness_case(s, "json");
    tcase_add_test(json, status_json_says_what_the_page_says);
    tcase_add_test(json, stats_json_has_totals_and_counters);
    tcase_add_test(json, json_is_ascii_whatever_the_name);
    tcase_add_test(json, json_that_cannot_be_is_null);
    tcase_add_test(json, fini_frees_and_takes_empty);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
