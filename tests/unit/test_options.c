/* test_options.c - every default, every limit, and every refusal of the options. */
#include "options.h"

#include "harness.h"

#include <limits.h>
#include <string.h>

#define SERVICE(...) (&(struct bgmq_options){__VA_ARGS__})
#define TYPE(...)    (&(struct bgmq_type_options){__VA_ARGS__})
#define MESSAGE(...) (&(struct bgmq_message_options){__VA_ARGS__})

#define HUNDRED_YEARS_MS INT64_C(3155760000000)

/* ---- service ----------------------------------------------------------------------- */

static struct service_config service_of(const struct bgmq_options *o)
{
    struct service_config c;
    struct bgmq_error error = {"-"};
    int err = bgmqi_options_service(&c, o, &error);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return c;
}

START_TEST(service_defaults)
{
    struct service_config c = service_of(_i ? SERVICE(0) : NULL);
    ck_assert_ptr_null(c.database);
    ck_assert(!c.persistent && !c.share_database && !c.no_responses);
    ck_assert_int_eq(c.durability, BGMQ_MEMORY);
    ck_assert_uint_eq(c.flush_interval_ms, 10);
    ck_assert_uint_eq(c.flush_batch, 4096);
    ck_assert_uint_eq(c.publish_timeout_ms, 30000);
    ck_assert_uint_eq(c.stop_grace_ms, 10000);
    ck_assert_uint_eq(c.max_body, 1 << 20);
    ck_assert_uint_eq(c.max_bytes, 64 << 20);
    ck_assert_uint_eq(c.stack_size, 1 << 20);
    ck_assert_uint_eq(c.history_keep, 100000);
    ck_assert_ptr_null(c.response_types);
    ck_assert(!c.log.fn);
    bgmqi_options_fini(&c);
}
END_TEST

START_TEST(service_with_a_database_is_safe_by_default)
{
    struct service_config c = service_of(SERVICE(.database = "x.db"));
    ck_assert(c.persistent);
    ck_assert_str_eq(c.database, "x.db");
    ck_assert_int_eq(c.durability, BGMQ_DISK);
    bgmqi_options_fini(&c);
}
END_TEST

START_TEST(service_takes_what_it_is_given)
{
    static int ctx;
    struct service_config c = service_of(
        SERVICE(.database = "d", .share_database = 7, .durability = BGMQ_BEHIND,
                .flush_interval_ms = 1, .flush_batch = 2, .publish_timeout_ms = 3,
                .stop_grace_ms = 4, .max_body = 5, .max_bytes = 6,
                .stack_size = 256 * 1024, .history_keep = 8, .no_responses = 9,
                .log = harness_log_keep, .log_ctx = &ctx));
    ck_assert(c.share_database && c.no_responses);
    ck_assert_int_eq(c.durability, BGMQ_BEHIND);
    ck_assert_uint_eq(c.flush_interval_ms, 1);
    ck_assert_uint_eq(c.flush_batch, 2);
    ck_assert_uint_eq(c.publish_timeout_ms, 3);
    ck_assert_uint_eq(c.stop_grace_ms, 4);
    ck_assert_uint_eq(c.max_body, 5);
    ck_assert_uint_eq(c.max_bytes, 6);
    ck_assert_uint_eq(c.stack_size, 256 * 1024);
    ck_assert_uint_eq(c.history_keep, 8);
    ck_assert(c.log.fn == harness_log_keep && c.log.ctx == &ctx);
    bgmqi_options_fini(&c);
}
END_TEST

START_TEST(response_types_are_copied)
{
    char name[] = "One";
    const char *types[] = {name, "Two", NULL};
    struct service_config c = service_of(SERVICE(.response_types = types));
    name[0] = 'x';
    types[1] = NULL;
    ck_assert_str_eq(c.response_types[0], "One");
    ck_assert_str_eq(c.response_types[1], "Two");
    ck_assert_ptr_null(c.response_types[2]);
    bgmqi_options_fini(&c);
    ck_assert_ptr_null(c.response_types);
    bgmqi_options_fini(&c);
}
END_TEST

START_TEST(no_response_type_at_all_is_a_list_too)
{
    const char *none[] = {NULL};
    struct service_config c = service_of(SERVICE(.response_types = none));
    ck_assert_ptr_nonnull(c.response_types);
    ck_assert_ptr_null(c.response_types[0]);
    bgmqi_options_fini(&c);
}
END_TEST

static const struct bgmq_options bad_services[] = {
    {.durability = (enum bgmq_durability) - 1},
    {.durability = (enum bgmq_durability)(BGMQ_DISK + 1), .database = "x"},
    {.durability = BGMQ_BEHIND},
    {.durability = BGMQ_COMMIT},
    {.durability = BGMQ_DISK},
    {.database = ""},
    {.database = ":memory:"},
    {.database = "file:x.db"},
    {.max_body = (64 << 20) + 1},
    {.stack_size = 256 * 1024 - 1},
};

START_TEST(service_refuses)
{
    struct service_config c = {.flush_batch = 99};
    struct bgmq_error error = {""};
    ck_assert_int_eq(bgmqi_options_service(&c, &bad_services[_i], &error), BGMQ_EINVAL);
    ck_assert_str_ne(error.text, "");
    ck_assert_uint_eq(c.flush_batch, 99);
    ck_assert_int_eq(bgmqi_options_service(&c, &bad_services[_i], NULL), BGMQ_EINVAL);
}
END_TEST

START_TEST(service_takes_its_limits)
{
    struct service_config c =
        service_of(SERVICE(.max_body = 64 << 20, .stack_size = 256 * 1024));
    ck_assert_uint_eq(c.max_body, 64 << 20);
    bgmqi_options_fini(&c);
}
END_TEST

/* ---- type -------------------------------------------------------------------------- */

static const char *wrong;
static const struct service_config memory = {.durability = BGMQ_MEMORY},
                                   disk = {.durability = BGMQ_DISK, .persistent = true};

START_TEST(type_defaults)
{
    struct type_config c;
    unsigned threads = 0;
    ck_assert_int_eq(bgmqi_options_type(&c, &threads, _i ? TYPE(0) : NULL, &disk, &wrong),
                     0);
    ck_assert_uint_eq(threads, 1);
    ck_assert_uint_eq(c.max_attempts, 5);
    ck_assert_int_eq(c.retry.kind, BGMQ_BACKOFF_EXPONENTIAL);
    ck_assert_int_eq(c.retry.base_ms, 1000);
    ck_assert_int_eq(c.retry.max_ms, 300000);
    ck_assert_int_eq(c.durability, BGMQ_DISK);
    ck_assert_uint_eq(c.window, 1000);
    ck_assert_uint_eq(c.outq_limit, 100);
    ck_assert_uint_eq(c.priority_share, 15);
    ck_assert(!c.no_outq);
    ck_assert_int_eq(c.history, BGMQ_HISTORY_OFF);
    ck_assert(!c.request_filter && !c.response_filter && !c.on_error);
}
END_TEST

static int64_t no_delay(unsigned attempt, void *ctx)
{
    return 0;
}

START_TEST(type_takes_what_it_is_given)
{
    struct type_config c;
    unsigned threads = 0;
    ck_assert_int_eq(
        bgmqi_options_type(
            &c, &threads,
            TYPE(.threads = 1024, .max_attempts = 1000, .backoff = BGMQ_BACKOFF_CALLBACK,
                 .backoff_base_ms = 7, .backoff_max_ms = 8, .backoff_fn = no_delay,
                 .durability = BGMQ_MEMORY, .window = 9, .outq_limit = 10, .no_outq = 1,
                 .priority_share = 11, .history = BGMQ_HISTORY_ALL),
            &disk, &wrong),
        0);
    ck_assert_uint_eq(threads, 1024);
    ck_assert_uint_eq(c.max_attempts, 1000);
    ck_assert_int_eq(c.retry.kind, BGMQ_BACKOFF_CALLBACK);
    ck_assert_int_eq(c.retry.base_ms, 7);
    ck_assert_int_eq(c.retry.max_ms, 8);
    ck_assert(c.retry.fn == no_delay);
    ck_assert_int_eq(c.durability, BGMQ_MEMORY);
    ck_assert_uint_eq(c.window, 9);
    ck_assert_uint_eq(c.outq_limit, 10);
    ck_assert_uint_eq(c.priority_share, 11);
    ck_assert(c.no_outq);
    ck_assert_int_eq(c.history, BGMQ_HISTORY_ALL);
}
END_TEST

static const unsigned table[] = {1};
static const struct {
    struct bgmq_type_options options;
    const char *wrong;
} bad_types[] = {
    {{.threads = 1025}, "threads"},
    {{.max_attempts = 1001}, "max_attempts"},
    {{.backoff = (enum bgmq_backoff) - 1}, "backoff"},
    {{.backoff = (enum bgmq_backoff)(BGMQ_BACKOFF_TABLE + 1)}, "backoff"},
    {{.backoff = BGMQ_BACKOFF_CALLBACK}, "without backoff_fn"},
    {{.backoff_fn = no_delay}, "without BGMQ_BACKOFF_CALLBACK"},
    {{.backoff = BGMQ_BACKOFF_TABLE}, "backoff_table"},
    {{.backoff_table = table, .backoff_table_len = 1}, "without BGMQ_BACKOFF_TABLE"},
    {{.timeout_ms = UINT_MAX}, "timeout_ms"},
    {{.stuck_ms = UINT_MAX}, "stuck_ms"},
    {{.wait_ms = UINT_MAX}, "wait_ms"},
    {{.expire_ms = -1}, "expire_ms"},
    {{.any_channel = 1, .channel = "eu"}, "any_channel"},
    {{.channel = "a b"}, "channel"},
    {{.durability = (enum bgmq_durability) - 1}, "durability"},
    {{.durability = (enum bgmq_durability)(BGMQ_DISK + 1)}, "durability"},
    {{.history = (enum bgmq_history) - 1}, "history"},
    {{.history = (enum bgmq_history)(BGMQ_HISTORY_ALL + 1)}, "history"},
};

START_TEST(type_refuses_and_says_why)
{
    struct type_config c;
    unsigned threads;
    ck_assert_int_eq(
        bgmqi_options_type(&c, &threads, &bad_types[_i].options, &disk, &wrong),
        BGMQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(wrong, bad_types[_i].wrong));
}
END_TEST

START_TEST(type_cannot_be_safer_than_its_service)
{
    struct type_config c;
    unsigned threads;
    for (int level = BGMQ_BEHIND; level <= BGMQ_DISK; level++)
        ck_assert_int_eq(
            bgmqi_options_type(&c, &threads,
                               TYPE(.durability = (enum bgmq_durability)level), &memory,
                               &wrong),
            BGMQ_EINVAL);
    ck_assert_int_eq(bgmqi_options_type(&c, &threads, TYPE(.durability = BGMQ_MEMORY),
                                        &memory, &wrong),
                     0);
}
END_TEST

/* ---- message ----------------------------------------------------------------------- */

enum { NOW = 1000000 };

static int64_t due_of(const struct bgmq_message_options *o)
{
    int64_t due = -1;
    ck_assert_int_eq(bgmqi_options_message(o, NOW, &due), 0);
    return due;
}

START_TEST(message_is_due_when_it_says)
{
    ck_assert_int_eq(due_of(NULL), 0);
    ck_assert_int_eq(due_of(MESSAGE(0)), 0);
    ck_assert_int_eq(due_of(MESSAGE(.delay_ms = 5)), NOW + 5);
    ck_assert_int_eq(due_of(MESSAGE(.delay_ms = -5)), 0);
    ck_assert_int_eq(due_of(MESSAGE(.delay_ms = INT64_MIN)), 0);
    ck_assert_int_eq(due_of(MESSAGE(.run_at_ms = NOW + 7)), NOW + 7);
    ck_assert_int_eq(due_of(MESSAGE(.run_at_ms = NOW)), 0);
    ck_assert_int_eq(due_of(MESSAGE(.run_at_ms = 1)), 0);
    ck_assert_int_eq(due_of(MESSAGE(.delay_ms = HUNDRED_YEARS_MS)),
                     NOW + HUNDRED_YEARS_MS);
    ck_assert_int_eq(due_of(MESSAGE(.priority = 32767, .max_attempts = 1000)), 0);
}
END_TEST

static const struct bgmq_message_options bad_messages[] = {
    {.priority = -1},
    {.priority = 32768},
    {.max_attempts = 1001},
    {.durability = (enum bgmq_durability) - 1},
    {.durability = (enum bgmq_durability)(BGMQ_DISK + 1)},
    {.delay_ms = 1, .run_at_ms = 1},
    {.run_at_ms = -1},
    {.delay_ms = HUNDRED_YEARS_MS + 1},
    {.delay_ms = INT64_MAX},
    {.run_at_ms = INT64_MAX},
};

START_TEST(message_refuses)
{
    int64_t due;
    ck_assert_int_eq(bgmqi_options_message(&bad_messages[_i], NOW, &due), BGMQ_EINVAL);
}
END_TEST

/* Somebody has set the clock to before 1970: then the farthest times are farther than a number. */
START_TEST(message_times_hold_at_any_time)
{
    static const int64_t clocks[] = {-1, -HUNDRED_YEARS_MS, INT64_MAX - 1};
    static const struct bgmq_message_options far = {.run_at_ms = INT64_MAX},
                                             late = {.expire_at_ms = INT64_MAX},
                                             soon = {.delay_ms = 5, .expire_ms = 9};
    int64_t due, now = clocks[_i];
    struct bgmq_message_options final;
    if (now < 0) {
        ck_assert_int_eq(bgmqi_options_message(&far, now, &due), BGMQ_EINVAL);
        ck_assert_int_eq(bgmqi_options_message(&late, now, &due), BGMQ_EINVAL);
    }
    ck_assert_int_eq(bgmqi_options_message(&soon, now, &due), 0);
    ck_assert_int_eq(due, clock_plus(now, 5));
    bgmqi_options_final(&soon, 0, now, &final);
    int64_t end = clock_plus(now, 9);
    ck_assert_int_eq(final.expire_at_ms, end > 1 ? end : 1); /* 0 is never */
}
END_TEST

#define EACH(array) (int)(sizeof(array) / sizeof((array)[0]))

static Suite *suite(void)
{
    Suite *s = suite_create("options");
    TCase *service = harness_case(s, "service");
    tcase_add_loop_test(service, service_defaults, 0, 2);
    tcase_add_test(service, service_with_a_database_is_safe_by_default);
    tcase_add_test(service, service_takes_what_it_is_given);
    tcase_add_test(service, response_types_are_copied);
    tcase_add_test(service, no_response_type_at_all_is_a_list_too);
    tcase_add_loop_test(service, service_refuses, 0, EACH(bad_services));
    tcase_add_test(service, service_takes_its_limits);
    TCase *type = harness_case(s, "type");
    tcase_add_loop_test(type, type_defaults, 0, 2);
    tcase_add_test(type, type_takes_what_it_is_given);
    tcase_add_loop_test(type, type_refuses_and_says_why, 0, EACH(bad_types));
    tcase_add_test(type, type_cannot_be_safer_than_its_service);
    TCase *message = harness_case(s, "message");
    tcase_add_test(message, message_is_due_when_it_says);
    tcase_add_loop_test(message, message_refuses, 0, EACH(bad_messages));
    tcase_add_loop_test(message, message_times_hold_at_any_time, 0, 3);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
