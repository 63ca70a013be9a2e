/* test_progress.c - what a handler keeps between its attempts: cursor, progress and result; and
 * the errors of its attempts in the database.  On the test kit, so that attempts follow each other
 * as told; the races on threads. */
#include "flow.h"

#include <bgmq_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORK      "Work"
#define COUNT(of) flow_sql("SELECT count(*) FROM " of)

enum { CURSOR_MAX = 64 << 10, RESULT_MAX = 1 << 20 };

static struct bgmq *mq;
static struct bgmq_options options;
static int64_t now_ms; /* when the next is opened */

static void open_kit(int durable)
{
    options.database = durable ? flow_database() : NULL;
    struct bgmq_error error = {""};
    int err = bgmq_test_open(&mq, &options, now_ms, &error);
    ck_assert_msg(err == 0, "bgmq_test_open: %s: %s", bgmq_errname(err), error.text);
}

/* At the same time. */
static void reopen(void)
{
    now_ms = bgmq_test_now(mq);
    flow_close(mq);
    open_kit(1);
}

/* A handler that does as SCRIPT says: one letter an attempt. */
struct script {
    const char *letters; /* r: retry, z: snooze, p: permanent, d: done, x: discard */
    int durability;      /* of its saves */
    unsigned at;
    char seen[64]; /* cursor found by each attempt, '-' for none */
};

static int verdict_of(struct bgmq_job *job, char letter)
{
    switch (letter) {
    case 'r':
        return bgmq_job_fail(job, BGMQ_RETRY, "Again", "attempt %u",
                             bgmq_job_attempt(job));
    case 'z':
        return bgmq_job_snooze(job, 1000);
    case 'p':
        return bgmq_job_fail(job, BGMQ_PERMANENT, "Never", "attempt %u",
                             bgmq_job_attempt(job));
    case 'x':
        return BGMQ_DISCARD;
    default:
        return BGMQ_DONE;
    }
}

/* Saves "a", "ab", ...: what it found, and one more letter. */
static int follow(struct bgmq_job *job, void *ctx)
{
    struct script *s = ctx;
    size_t len = 0;
    const char *cursor = bgmq_job_cursor(job, &len);
    char text[32];
    if (cursor)
        ck_assert_uint_eq(len, strlen(cursor));
    snprintf(text, sizeof(text), "%s%c", cursor ? cursor : "", 'a' + (char)s->at);
    strcat(strcat(s->seen, cursor ? cursor : "-"), " ");
    OK(bgmq_job_save_cursor(job, text, strlen(text),
                            (enum bgmq_durability)s->durability));
    OK(bgmq_job_progress(job, s->at + 1, text));
    ck_assert_str_eq(bgmq_job_cursor(job, NULL), text);
    return verdict_of(job, s->letters[s->at++]);
}

static const struct bgmq_type_options at_once = {.backoff = BGMQ_BACKOFF_NONE,
                                                 .max_attempts = 100};

static void expect_steps(int n)
{
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(bgmq_test_step(mq, WORK), 1);
        OK(bgmq_test_advance(mq, 1000));
    }
}

/* ---- cursors ------------------------------------------------------------------------- */

START_TEST(every_later_attempt_gets_the_cursor_back)
{
    struct script s = {.letters = "rzrd"};
    open_kit(_i);
    OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    flow_publish(mq, WORK, "w");
    expect_steps(4);
    ck_assert_str_eq(s.seen, "- a ab abc ");
    /* The next message has none of it. */
    s.letters = "rzrdd";
    flow_publish(mq, WORK, "w");
    expect_steps(1);
    ck_assert_str_eq(s.seen, "- a ab abc - ");
    flow_close(mq);
}
END_TEST

START_TEST(a_cursor_survives_a_reopen)
{
    static const enum bgmq_durability levels[] = {BGMQ_DEFAULT, BGMQ_BEHIND, BGMQ_COMMIT,
                                                  BGMQ_DISK};
    struct script s = {.letters = "rzrd", .durability = levels[_i]};
    open_kit(1);
    flow_publish(mq, WORK, "w");
    for (int i = 0; i < 4; i++) {
        OK(bgmq_register(mq, WORK, follow, &s, &at_once));
        expect_steps(1);
        if (i < 3)
            reopen();
    }
    ck_assert_str_eq(s.seen, "- a ab abc ");
    flow_close(mq);
    ck_assert_int_eq(COUNT("bgmq_progress"), 0);
    ck_assert_int_eq(COUNT("bgmq_error"), 0);
}
END_TEST

START_TEST(a_dead_message_in_a_new_life_has_its_cursor)
{
    struct script s = {.letters = "pd"};
    open_kit(_i);
    OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    uint64_t id = flow_publish(mq, WORK, "w");
    expect_steps(1);
    if (_i) {
        reopen();
        OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    }
    ck_assert_int_eq(bgmq_retry_dead(mq, WORK, id), 1);
    expect_steps(1);
    ck_assert_str_eq(s.seen, "- a ");
    flow_close(mq);
}
END_TEST

/* ---- the process dies in a handler ----------------------------------------------------- */

static int save_and_die(struct bgmq_job *job, void *ctx)
{
    OK(bgmq_job_save_cursor(job, "old", 3, BGMQ_BEHIND));
    OK(bgmq_flush(bgmq_job_service(job)));
    OK(bgmq_job_save_cursor(job, "new", 3, *(enum bgmq_durability *)ctx));
    _exit(0);
}

/* Runs in a child: its saves at BEHIND wait for a minute. */
static void die_in_handler(enum bgmq_durability level)
{
    options = SERVICE(.flush_interval_ms = 60000);
    open_kit(1);
    OK(bgmq_register(mq, WORK, save_and_die, &level, &at_once));
    flow_publish(mq, WORK, "w");
    bgmq_test_drain(mq, 0);
    _exit(1);
}

static void expect_after_death(enum bgmq_durability level, const char *seen)
{
    int status = -1;
    flow_database(); /* the child's is ours */
    pid_t child = fork();
    if (child == 0)
        die_in_handler(level);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    struct script s = {.letters = "d"};
    open_kit(1);
    OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    expect_steps(1);
    ck_assert_str_eq(s.seen, seen);
    flow_close(mq);
    ck_assert_int_eq(COUNT("bgmq_progress"), 0);
}

START_TEST(a_committed_cursor_survives_the_process)
{
    if (HARNESS_TSAN)
        HARNESS_SKIP("the child of a fork starts threads");
    expect_after_death(_i ? BGMQ_DISK : BGMQ_COMMIT, "new ");
}
END_TEST

START_TEST(what_was_behind_may_be_lost_but_not_what_was_before)
{
    if (HARNESS_TSAN)
        HARNESS_SKIP("the child of a fork starts threads");
    expect_after_death(BGMQ_BEHIND, "old ");
}
END_TEST

/* ---- what may be saved ------------------------------------------------------------------ */

static int try_limits(struct bgmq_job *job, void *ctx)
{
    static char big[CURSOR_MAX + 1];
    size_t len = 77;
    (void)ctx;
    ck_assert_ptr_null(bgmq_job_cursor(job, &len));
    ck_assert_uint_eq(len, 77);
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor(NULL, "x", 1, BGMQ_BEHIND));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor(job, NULL, 1, BGMQ_BEHIND));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor(job, big, CURSOR_MAX + 1, BGMQ_BEHIND));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor(job, "x", 1, BGMQ_MEMORY));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor(job, "x", 1, (enum bgmq_durability)5));
    FAILS(BGMQ_EINVAL, bgmq_job_save_cursor(job, "x", 1, (enum bgmq_durability) - 1));
    FAILS(BGMQ_EINVAL, bgmq_job_progress(NULL, 1, NULL));
    FAILS(BGMQ_EINVAL, bgmq_job_progress(job, 1, "\xff"));
    FAILS(BGMQ_EINVAL, bgmq_job_result(NULL, "x", 1));
    FAILS(BGMQ_EINVAL, bgmq_job_result(job, NULL, 1));
    FAILS(BGMQ_EINVAL, bgmq_job_result(job, big, RESULT_MAX + 1));
    ck_assert_ptr_null(bgmq_job_cursor(job, NULL));
    OK(bgmq_job_save_cursor(job, "", 0, BGMQ_DEFAULT));
    ck_assert_str_eq(bgmq_job_cursor(job, &len), "");
    ck_assert_uint_eq(len, 0);
    OK(bgmq_job_save_cursor(job, NULL, 0, BGMQ_COMMIT));
    ck_assert_ptr_null(bgmq_job_cursor(job, NULL));
    OK(bgmq_job_save_cursor(job, "a\0b", 3, BGMQ_DISK));
    ck_assert_mem_eq(bgmq_job_cursor(job, &len), "a\0b", 4);
    ck_assert_uint_eq(len, 3);
    memset(big, 'z', CURSOR_MAX);
    OK(bgmq_job_save_cursor(job, big, CURSOR_MAX, BGMQ_BEHIND));
    return BGMQ_RETRY;
}

static int expect_big(struct bgmq_job *job, void *ctx)
{
    size_t len;
    (void)ctx;
    const char *cursor = bgmq_job_cursor(job, &len);
    ck_assert_uint_eq(len, CURSOR_MAX);
    ck_assert(cursor[0] == 'z' && cursor[len - 1] == 'z' && cursor[len] == '\0');
    OK(bgmq_job_save_cursor(job, NULL, 0, BGMQ_BEHIND));
    return BGMQ_RETRY;
}

static int expect_none(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    ck_assert_ptr_null(bgmq_job_cursor(job, NULL));
    return BGMQ_DONE;
}

START_TEST(limits_of_a_cursor)
{
    bgmq_handler_fn *steps[] = {try_limits, expect_big, expect_none};
    open_kit(1);
    flow_publish(mq, WORK, "w");
    for (size_t i = 0; i < 3; i++) {
        OK(bgmq_register(mq, WORK, steps[i], NULL, &at_once));
        expect_steps(1);
        reopen();
    }
    ck_assert_uint_eq(flow_collection(mq, WORK).inq, 0);
    flow_close(mq);
}
END_TEST

START_TEST(limits_of_a_cursor_in_memory)
{
    open_kit(0);
    OK(bgmq_register(mq, WORK, try_limits, NULL, &at_once));
    flow_publish(mq, WORK, "w");
    expect_steps(1);
    flow_close(mq);
}
END_TEST

static int progress_of_people(struct bgmq_job *job, void *ctx)
{
    char text[300];
    (void)ctx;
    memset(text, 'x', 199);
    memcpy(text + 199, "\xc3\xa4 and more", 12); /* a character across the 200th byte */
    OK(bgmq_job_progress(job, -5, "soon replaced"));
    OK(bgmq_job_progress(job, INT64_MAX, text));
    OK(bgmq_flush(bgmq_job_service(job)));
    return BGMQ_RETRY;
}

START_TEST(progress_for_people_is_in_the_database)
{
    open_kit(1);
    OK(bgmq_register(mq, WORK, progress_of_people, NULL, &at_once));
    flow_publish(mq, WORK, "w");
    expect_steps(1);
    ck_assert_int_eq(flow_sql("SELECT number FROM bgmq_progress"), INT64_MAX);
    ck_assert_int_eq(flow_sql("SELECT length(text) FROM bgmq_progress"), 199);
    ck_assert_int_eq(flow_sql("SELECT cursor IS NULL FROM bgmq_progress"), 1);
    flow_close(mq);
}
END_TEST

/* ---- many saves -------------------------------------------------------------------------- */

static int save_often(struct bgmq_job *job, void *ctx)
{
    struct bgmq_counters before = flow_counters(mq);
    (void)ctx;
    for (int i = 0; i < 20000; i++)
        OK(bgmq_job_save_cursor(job, &i, sizeof(i), BGMQ_BEHIND));
    ck_assert_uint_le(flow_counters(mq).journal_waiting, 2);
    ck_assert_uint_lt(flow_counters(mq).commits - before.commits, 10000);
    return BGMQ_RETRY;
}

static int expect_last(struct bgmq_job *job, void *ctx)
{
    int i;
    (void)ctx;
    memcpy(&i, bgmq_job_cursor(job, NULL), sizeof(i));
    ck_assert_int_eq(i, 19999);
    return BGMQ_DONE;
}

START_TEST(only_the_last_of_many_saves_is_written)
{
    open_kit(1);
    OK(bgmq_register(mq, WORK, save_often, NULL, &at_once));
    flow_publish(mq, WORK, "w");
    expect_steps(1);
    reopen();
    OK(bgmq_register(mq, WORK, expect_last, NULL, &at_once));
    expect_steps(1);
    flow_close(mq);
}
END_TEST

/* A message at BEHIND whose INSERT is still in the journal when it ends leaves no row behind. */
START_TEST(a_short_message_leaves_nothing)
{
    struct script s = {.letters = "dddddddd"};
    options = SERVICE(.durability = BGMQ_BEHIND, .flush_interval_ms = 60000);
    open_kit(1);
    OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    for (int i = 0; i < 8; i++)
        flow_publish(mq, WORK, "w");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 8);
    flow_close(mq);
    ck_assert_str_eq(s.seen, "- - - - - - - - ");
    ck_assert_int_eq(COUNT("bgmq_progress"), 0);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* The first time: saves its own body and waits for a second.  Then: finds it. */
static int own_body(struct bgmq_job *job, void *ctx)
{
    const char *body = bgmq_job_body(job, NULL), *cursor = bgmq_job_cursor(job, NULL);
    (void)ctx;
    if (!cursor) {
        OK(bgmq_job_save_cursor(job, body, strlen(body), BGMQ_BEHIND));
        return bgmq_job_snooze(job, 1000);
    }
    ck_assert_str_eq(cursor, body);
    return BGMQ_DONE;
}

/* What the window pushes out comes back with its cursor. */
START_TEST(cursors_come_back_from_beyond_the_window)
{
    enum { N = 60 };
    struct bgmq_type_options few = at_once;
    few.window = 4;
    open_kit(1);
    OK(bgmq_register(mq, WORK, own_body, NULL, &few));
    flow_publish_numbers(mq, WORK, N);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), N);
    OK(bgmq_flush(mq));
    ck_assert_int_eq(COUNT("bgmq_progress"), N);
    OK(bgmq_test_advance(mq, 1000));
    ck_assert_int_eq(bgmq_test_drain(mq, 0), N);
    ck_assert_uint_eq(flow_stats(mq, WORK).processed, N);
    flow_close(mq);
    ck_assert_int_eq(COUNT("bgmq_progress"), 0);
}
END_TEST

/* ---- results ------------------------------------------------------------------------------- */

static char yes[] = "yes", no[] = "no";

static int with_result(struct bgmq_job *job, void *ctx)
{
    char text[32];
    OK(bgmq_job_result(job, "replaced", 8));
    snprintf(text, sizeof(text), "result %u", bgmq_job_attempt(job));
    OK(bgmq_job_result(job, text, strlen(text) + 1));
    if (*(const char *)ctx == 'n')
        OK(bgmq_job_result(job, NULL, 0));
    return bgmq_job_attempt(job) < 2 ? BGMQ_RETRY : BGMQ_DONE;
}

START_TEST(a_result_is_in_outq_and_in_the_history)
{
    struct bgmq_type_options kept = at_once;
    kept.history = BGMQ_HISTORY_ALL;
    open_kit(_i);
    OK(bgmq_register(mq, WORK, with_result, yes, &kept));
    flow_publish(mq, WORK, "w");
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 2);
    struct bgmq_message *m = flow_take(mq, "mq:Work.outq");
    size_t len = 0;
    ck_assert_str_eq(bgmq_message_result(m, &len), "result 2");
    ck_assert_uint_eq(len, 9);
    flow_done(m);
    flow_close(mq);
    if (_i)
        ck_assert_int_eq(COUNT("bgmq_history WHERE result = X'726573756C74203200'"), 1);
}
END_TEST

START_TEST(without_a_result_there_is_none)
{
    struct script s = {.letters = "d"};
    open_kit(_i);
    OK(bgmq_register(mq, WORK, with_result, no, &at_once));
    OK(bgmq_register(mq, "Plain", follow, &s, &at_once));
    flow_publish(mq, WORK, "w");
    flow_publish(mq, "Plain", "w");
    struct bgmq_message *m = flow_take(mq, "mq:Work.inq");
    ck_assert_ptr_null(bgmq_message_result(m, NULL));
    OK(bgmq_nak(m, 1));
    bgmq_message_free(m);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 3);
    m = flow_take(mq, "mq:Work.outq");
    ck_assert_ptr_null(bgmq_message_result(m, NULL));
    flow_done(m);
    m = flow_take(mq, "mq:Plain.outq");
    ck_assert_ptr_null(bgmq_message_result(m, NULL));
    flow_done(m);
    flow_close(mq);
}
END_TEST

START_TEST(the_history_has_the_body_when_asked_for)
{
    struct script s = {.letters = "dxp"};
    struct bgmq_type_options kept = at_once;
    kept.history = BGMQ_HISTORY_ALL;
    kept.history_body = _i;
    open_kit(1);
    OK(bgmq_register(mq, WORK, follow, &s, &kept));
    flow_publish_numbers(mq, WORK, 3);
    ck_assert_int_eq(bgmq_test_drain(mq, 0), 3);
    flow_close(mq);
    ck_assert_int_eq(COUNT("bgmq_history"), 3);
    ck_assert_int_eq(COUNT("bgmq_history WHERE body IS NOT NULL"), _i ? 3 : 0);
}
END_TEST

/* ---- errors of attempts ---------------------------------------------------------------------- */

START_TEST(each_failed_attempt_leaves_its_error_until_the_message_is_done)
{
    struct script s = {.letters = "rrzrpd"};
    open_kit(1);
    OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    uint64_t id = flow_publish(mq, WORK, "w");
    expect_steps(3);
    OK(bgmq_flush(mq));
    ck_assert_int_eq(COUNT("bgmq_error"), 2);
    expect_steps(2);
    reopen();
    ck_assert_int_eq(COUNT("bgmq_error"), 4);
    ck_assert_int_eq(COUNT("bgmq_error WHERE code = 'Again' AND text = 'attempt 1'"), 1);
    ck_assert_int_eq(COUNT("bgmq_error WHERE code = 'Never'"), 1);
    OK(bgmq_register(mq, WORK, follow, &s, &at_once));
    ck_assert_int_eq(bgmq_retry_dead(mq, WORK, id), 1);
    expect_steps(1);
    flow_close(mq);
    ck_assert_int_eq(COUNT("bgmq_error"), 0);
    ck_assert_int_eq(COUNT("bgmq_progress"), 0);
}
END_TEST

START_TEST(with_history_the_errors_stay)
{
    struct script s = {.letters = "rd"};
    struct bgmq_type_options kept = at_once;
    kept.history = BGMQ_HISTORY_ALL;
    open_kit(1);
    OK(bgmq_register(mq, WORK, follow, &s, &kept));
    flow_publish(mq, WORK, "w");
    expect_steps(2);
    flow_close(mq);
    ck_assert_int_eq(COUNT("bgmq_error"), 1);
    ck_assert_int_eq(COUNT("bgmq_progress"), 0);
}
END_TEST

/* ---- eight at once --------------------------------------------------------------------------- */

/* Saves at all levels; checks that what it finds is its own. */
static int crowd(struct bgmq_job *job, void *ctx)
{
    uint64_t id = bgmq_job_id(job), mine[2];
    unsigned attempt = bgmq_job_attempt(job);
    (void)ctx;
    const void *cursor = bgmq_job_cursor(job, NULL);
    ck_assert_int_eq(cursor != NULL, attempt > 1);
    if (cursor) {
        memcpy(mine, cursor, sizeof(mine));
        ck_assert_uint_eq(mine[0], id);
        ck_assert_uint_eq(mine[1], attempt - 1);
    }
    for (int i = 0; i < 50; i++) {
        mine[0] = 0;
        OK(bgmq_job_save_cursor(job, mine, sizeof(mine), BGMQ_BEHIND));
        OK(bgmq_job_progress(job, i, "on the way"));
    }
    mine[0] = id;
    mine[1] = attempt;
    OK(bgmq_job_save_cursor(job, mine, sizeof(mine),
                            attempt % 2 ? BGMQ_COMMIT : BGMQ_BEHIND));
    OK(bgmq_job_result(job, mine, sizeof(mine)));
    return attempt < 4 ? BGMQ_RETRY : BGMQ_DONE;
}

START_TEST(eight_jobs_at_once_keep_to_themselves)
{
    enum { N = 40 };
    struct bgmq_type_options eight = at_once;
    eight.threads = 8;
    eight.outq_limit = N;
    mq = flow_open_with(_i, SERVICE(.durability = _i ? BGMQ_BEHIND : BGMQ_MEMORY));
    OK(bgmq_register(mq, WORK, crowd, NULL, &eight));
    flow_publish_numbers(mq, WORK, N);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, WORK, 4 * N);
    for (int i = 0; i < N; i++) {
        struct bgmq_message *m = flow_take(mq, "mq:Work.outq");
        uint64_t mine[2];
        memcpy(mine, bgmq_message_result(m, NULL), sizeof(mine));
        ck_assert_uint_eq(mine[0], bgmq_message_id(m));
        ck_assert_uint_eq(mine[1], 4);
        flow_done(m);
    }
    flow_close(mq);
    if (_i) {
        ck_assert_int_eq(COUNT("bgmq_progress"), 0);
        ck_assert_int_eq(COUNT("bgmq_error"), 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("progress");
    TCase *cursor = flow_case(s, "cursor");
    flow_add_both(cursor, every_later_attempt_gets_the_cursor_back);
    tcase_add_loop_test(cursor, a_cursor_survives_a_reopen, 0, 4);
    flow_add_both(cursor, a_dead_message_in_a_new_life_has_its_cursor);
    flow_add_both(cursor, a_committed_cursor_survives_the_process);
    tcase_add_test(cursor, what_was_behind_may_be_lost_but_not_what_was_before);
    tcase_add_test(cursor, limits_of_a_cursor);
    tcase_add_test(cursor, limits_of_a_cursor_in_memory);
    tcase_add_test(cursor, progress_for_people_is_in_the_database);
    tcase_add_test(cursor, only_the_last_of_many_saves_is_written);
    tcase_add_test(cursor, a_short_message_leaves_nothing);
    tcase_add_test(cursor, cursors_come_back_from_beyond_the_window);
    TCase *result = flow_case(s, "result");
    flow_add_both(result, a_result_is_in_outq_and_in_the_history);
    flow_add_both(result, without_a_result_there_is_none);
    tcase_add_loop_test(result, the_history_has_the_body_when_asked_for, 0, 2);
    TCase *errors = flow_case(s, "errors");
    tcase_add_test(errors,
                   each_failed_attempt_leaves_its_error_until_the_message_is_done);
    tcase_add_test(errors, with_history_the_errors_stay);
    TCase *threads = flow_case(s, "threads");
    flow_add_both(threads, eight_jobs_at_once_keep_to_themselves);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
