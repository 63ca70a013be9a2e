/* test_log.c - what the log callback is given, and that nobody comes in through it. */
#include "log.h"

#include "harness.h"

#include <string.h>

struct seen {
    int calls, level;
    bool inside;
    char text[2048];
};

static void note(void *ctx, enum bgmq_level level, const char *text)
{
    struct seen *s = ctx;
    s->calls++;
    s->level = (int)level;
    s->inside = bgmqi_log_inside();
    ck_assert_uint_lt(strlen(text), sizeof(s->text));
    memcpy(s->text, text, strlen(text) + 1);
}

START_TEST(formats_one_line_of_its_level)
{
    struct seen seen = {.calls = 0};
    struct log log = {note, &seen};
    bgmqi_log(&log, BGMQ_LOG_INFO, "%s has %d", "queue", 7);
    ck_assert_int_eq(seen.calls, 1);
    ck_assert_int_eq(seen.level, BGMQ_LOG_INFO);
    ck_assert_str_eq(seen.text, "queue has 7");
}
END_TEST

START_TEST(escapes_what_is_not_printable)
{
    static const struct {
        const char *raw, *written;
    } lines[] = {
        {"a\nb\r\tc", "a\\x0ab\\x0d\\x09c"},
        {"\x1b[31mred", "\\x1b[31mred"},
        {"caf\xc3\xa9", "caf\\xc3\\xa9"},
        {"\x7f\xff", "\\x7f\\xff"},
        {"~ !", "~ !"},
        {"", ""},
    };
    struct seen seen = {.calls = 0};
    struct log log = {note, &seen};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        bgmqi_log(&log, BGMQ_LOG_ERROR, "%s", lines[i].raw);
        ck_assert_str_eq(seen.text, lines[i].written);
    }
}
END_TEST

/* _i: a letter that is escaped to four bytes, or one that is not. */
START_TEST(cuts_at_one_kibibyte)
{
    char raw[4000];
    memset(raw, _i ? '\n' : 'x', sizeof(raw));
    raw[sizeof(raw) - 1] = '\0';
    struct seen seen = {.calls = 0};
    struct log log = {note, &seen};
    bgmqi_log(&log, BGMQ_LOG_ERROR, "%s", raw);
    size_t len = strlen(seen.text);
    ck_assert_uint_lt(len, 1024);
    ck_assert_uint_gt(len, 1000);
    if (_i)
        ck_assert_str_eq(seen.text + len - 4, "\\x0a"); /* none is cut in two */
}
END_TEST

static struct log *back;
static void come_back(void *ctx, enum bgmq_level level, const char *text)
{
    note(ctx, level, text);
    bgmqi_log(back, level, "from within");
}

START_TEST(a_line_from_within_is_dropped)
{
    struct seen seen = {.calls = 0};
    struct log log = {come_back, &seen};
    back = &log;
    ck_assert(!bgmqi_log_inside());
    bgmqi_log(&log, BGMQ_LOG_WARNING, "first");
    ck_assert_int_eq(seen.calls, 1);
    ck_assert_str_eq(seen.text, "first");
    ck_assert(seen.inside);
    ck_assert(!bgmqi_log_inside());
    bgmqi_log(&log, BGMQ_LOG_WARNING, "second");
    ck_assert_int_eq(seen.calls, 2);
}
END_TEST

struct other {
    struct gate in, out;
    bool inside;
};

static void wait_within(void *ctx, enum bgmq_level level, const char *text)
{
    struct other *o = ctx;
    gate_open(&o->in);
    gate_wait(&o->out);
}

static void *log_and_wait(void *arg)
{
    struct log log = {wait_within, arg};
    bgmqi_log(&log, BGMQ_LOG_ERROR, "long");
    return NULL;
}

START_TEST(another_thread_is_not_inside)
{
    struct other o = {.inside = false};
    gate_init(&o.in);
    gate_init(&o.out);
    pthread_t t = harness_thread(log_and_wait, &o);
    gate_wait(&o.in);
    struct seen seen = {.calls = 0};
    struct log log = {note, &seen};
    ck_assert(!bgmqi_log_inside());
    bgmqi_log(&log, BGMQ_LOG_ERROR, "meanwhile");
    ck_assert_str_eq(seen.text, "meanwhile");
    gate_open(&o.out);
    harness_join(t);
    gate_fini(&o.in);
    gate_fini(&o.out);
}
END_TEST

/* ---- through the service ----------------------------------------------------------- */

static struct bgmq *service;
static int inner;

static void publish_within(void *ctx, enum bgmq_level level, const char *text)
{
    inner = bgmq_publish(service, "T", "x", 1, NULL, NULL);
}

START_TEST(what_the_callback_publishes_is_refused)
{
    inner = 0;
    ck_assert_int_eq(
        bgmq_open(&service, &(struct bgmq_options){.log = publish_within}, NULL), 0);
    struct bgmq_receipt r = {0};
    ck_assert_int_eq(bgmq_publish_json(service, "T", NULL, &r, "{s:", "k"), BGMQ_EJSON);
    ck_assert_int_eq(inner, BGMQ_EDEADLK);
    ck_assert_int_eq(bgmq_get(service, "mq:T.inq", 0, &(struct bgmq_message *){NULL}),
                     BGMQ_ETIMEOUT);
    bgmq_free(service);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("log");
    TCase *line = harness_case(s, "line");
    tcase_add_test(line, formats_one_line_of_its_level);
    tcase_add_test(line, escapes_what_is_not_printable);
    tcase_add_loop_test(line, cuts_at_one_kibibyte, 0, 2);
    TCase *back_in = harness_case(s, "no way back in");
    tcase_add_test(back_in, a_line_from_within_is_dropped);
    tcase_add_test(back_in, another_thread_is_not_inside);
    tcase_add_test(back_in, what_the_callback_publishes_is_refused);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
