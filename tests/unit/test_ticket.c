/* test_ticket.c - every state of a publisher's wait, from both sides. */
#include "ticket.h"

#include "harness.h"

#define MS      INT64_C(1000000)
#define FOREVER (60000 * MS)

START_TEST(ended_before_the_wait)
{
    struct ticket *t = bgmqi_ticket_new(2);
    ck_assert(bgmqi_ticket_begin(t));
    bgmqi_ticket_set(t, 0, 11, 0);
    bgmqi_ticket_set(t, 1, 22, BGMQ_EEXIST);
    bgmqi_ticket_finish(t, 0);
    ck_assert_int_eq(bgmqi_ticket_wait(t, FOREVER), 0);
    uint64_t id = 0;
    ck_assert_int_eq(bgmqi_ticket_result(t, 0, &id), 0);
    ck_assert_uint_eq(id, 11);
    ck_assert_int_eq(bgmqi_ticket_result(t, 1, &id), BGMQ_EEXIST);
    ck_assert_uint_eq(id, 22);
    bgmqi_ticket_release(t);
}
END_TEST

START_TEST(ended_without_a_time_to_wait)
{
    struct ticket *t = bgmqi_ticket_new(1);
    ck_assert(bgmqi_ticket_begin(t));
    bgmqi_ticket_finish(t, 0);
    ck_assert_int_eq(bgmqi_ticket_wait(t, 0), 0);
    bgmqi_ticket_release(t);
}
END_TEST

START_TEST(rows_are_empty_at_first)
{
    struct ticket *t = bgmqi_ticket_new(3);
    ck_assert(bgmqi_ticket_begin(t));
    bgmqi_ticket_finish(t, 0);
    for (size_t i = 0; i < 3; i++) {
        uint64_t id = 5;
        ck_assert_int_eq(bgmqi_ticket_result(t, i, &id), 0);
        ck_assert_uint_eq(id, 0);
    }
    bgmqi_ticket_release(t);
}
END_TEST

START_TEST(error_is_handed_over)
{
    struct ticket *t = bgmqi_ticket_new(1);
    bgmqi_ticket_finish(t, BGMQ_ESTORE); /* refused before it was ever written */
    ck_assert_int_eq(bgmqi_ticket_wait(t, FOREVER), BGMQ_ESTORE);
    bgmqi_ticket_release(t);
}
END_TEST

START_TEST(out_of_time_takes_back)
{
    struct ticket *t = bgmqi_ticket_new(1);
    ck_assert_int_eq(bgmqi_ticket_wait(t, 5 * MS), BGMQ_ETIMEOUT);
    ck_assert(!bgmqi_ticket_begin(t));
    bgmqi_ticket_release(t);
    bgmqi_ticket_finish(t, BGMQ_EBUSY);
}
END_TEST

START_TEST(out_of_time_while_writing_is_uncertain)
{
    struct ticket *t = bgmqi_ticket_new(1);
    ck_assert(bgmqi_ticket_begin(t));
    int64_t begin = harness_now();
    ck_assert_int_eq(bgmqi_ticket_wait(t, 5 * MS), BGMQ_EUNCERTAIN);
    ck_assert_int_ge(harness_now() - begin, 250 * MS); /* it had patience first */
    bgmqi_ticket_release(t);
    bgmqi_ticket_finish(t, 0);
}
END_TEST

START_TEST(a_second_try_can_be_taken_back)
{
    struct ticket *t = bgmqi_ticket_new(1);
    ck_assert(bgmqi_ticket_begin(t));
    bgmqi_ticket_again(t);
    ck_assert(bgmqi_ticket_begin(t));
    bgmqi_ticket_again(t);
    ck_assert_int_eq(bgmqi_ticket_wait(t, MS), BGMQ_ETIMEOUT);
    ck_assert(!bgmqi_ticket_begin(t));
    bgmqi_ticket_finish(t, BGMQ_EBUSY);
    bgmqi_ticket_release(t);
}
END_TEST

START_TEST(begins_once)
{
    struct ticket *t = bgmqi_ticket_new(1);
    ck_assert(bgmqi_ticket_begin(t));
    ck_assert(!bgmqi_ticket_begin(t));
    bgmqi_ticket_finish(t, 0);
    bgmqi_ticket_release(t);
}
END_TEST

START_TEST(never_handed_over_is_discarded)
{
    bgmqi_ticket_discard(bgmqi_ticket_new(4096));
    bgmqi_ticket_discard(NULL);
    bgmqi_ticket_release(NULL);
}
END_TEST

/* ---- with a writer ----------------------------------------------------------------- */

struct writer {
    struct ticket *ticket;
    struct gate go;
    int times; /* so many tries are in vain */
};

static void *write_out(void *arg)
{
    struct writer *w = arg;
    gate_wait(&w->go);
    for (int i = 0; i < w->times; i++) {
        ck_assert(bgmqi_ticket_begin(w->ticket));
        bgmqi_ticket_again(w->ticket);
    }
    ck_assert(bgmqi_ticket_begin(w->ticket));
    bgmqi_ticket_set(w->ticket, 0, 42, 0);
    bgmqi_ticket_finish(w->ticket, 0);
    return NULL;
}

static void *open_up(void *gate)
{
    gate_open(gate);
    return NULL;
}

/* _i: tries in vain before. */
START_TEST(publisher_is_woken_by_the_end)
{
    for (int i = 0; i < 200; i++) {
        struct writer w = {.ticket = bgmqi_ticket_new(1), .times = _i};
        gate_init(&w.go);
        pthread_t writer = harness_thread(write_out, &w);
        pthread_t opener = harness_thread(open_up, &w.go);
        ck_assert_int_eq(bgmqi_ticket_wait(w.ticket, FOREVER), 0);
        uint64_t id;
        ck_assert_int_eq(bgmqi_ticket_result(w.ticket, 0, &id), 0);
        ck_assert_uint_eq(id, 42);
        bgmqi_ticket_release(w.ticket);
        harness_join(writer);
        harness_join(opener);
        gate_fini(&w.go);
    }
}
END_TEST

static void *begin_late(void *arg)
{
    struct writer *w = arg;
    gate_wait(&w->go);
    bool begun = bgmqi_ticket_begin(w->ticket);
    bgmqi_ticket_finish(w->ticket, begun ? 0 : BGMQ_EBUSY);
    return begun ? w : NULL;
}

/* The last moment: either the publisher has it back, or it was written; never both. */
START_TEST(both_sides_agree_on_a_close_call)
{
    for (int i = 0; i < 300; i++) {
        struct writer w = {.ticket = bgmqi_ticket_new(1)};
        gate_init(&w.go);
        pthread_t writer = harness_thread(begin_late, &w);
        gate_open(&w.go);
        int err = bgmqi_ticket_wait(w.ticket, i % 3 * 20000);
        bgmqi_ticket_release(w.ticket);
        bool written = harness_join(writer) != NULL;
        ck_assert_int_eq(err, written ? 0 : BGMQ_ETIMEOUT);
        gate_fini(&w.go);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ticket");
    TCase *states = harness_case(s, "states");
    tcase_add_test(states, ended_before_the_wait);
    tcase_add_test(states, ended_without_a_time_to_wait);
    tcase_add_test(states, rows_are_empty_at_first);
    tcase_add_test(states, error_is_handed_over);
    tcase_add_test(states, out_of_time_takes_back);
    tcase_add_test(states, out_of_time_while_writing_is_uncertain);
    tcase_add_test(states, a_second_try_can_be_taken_back);
    tcase_add_test(states, begins_once);
    tcase_add_test(states, never_handed_over_is_discarded);
    TCase *two = harness_case(s, "two threads");
    tcase_add_loop_test(two, publisher_is_woken_by_the_end, 0, 3);
    tcase_add_test(two, both_sides_agree_on_a_close_call);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
