/* test_agenda.c - what is to be looked at, by time: order, words that move up, and no word lost
 * between those who tell and the one who looks. */
#include "agenda.h"

#include "harness.h"

enum { N = 200 };

static struct agenda agenda;
static struct agenda_item items[N];

static void setup(void)
{
    bgmqi_agenda_init(&agenda);
    for (int i = 0; i < N; i++)
        bgmqi_agenda_item_init(&items[i], &items[i]);
}

static void teardown(void)
{
    bgmqi_agenda_fini(&agenda);
}

START_TEST(empty_one_has_no_next)
{
    ck_assert_int_eq(bgmqi_agenda_next(&agenda), INT64_MAX);
    ck_assert_ptr_null(bgmqi_agenda_take(&agenda, INT64_MAX - 1));
}
END_TEST

START_TEST(what_is_due_is_taken_and_nothing_else)
{
    ck_assert(bgmqi_agenda_tell(&agenda, &items[0], 30));
    ck_assert(bgmqi_agenda_tell(&agenda, &items[1], 10));
    ck_assert(!bgmqi_agenda_tell(&agenda, &items[2], 20));
    ck_assert_int_eq(bgmqi_agenda_next(&agenda), 10);
    ck_assert_ptr_null(bgmqi_agenda_take(&agenda, 9));
    struct agenda_item *due = bgmqi_agenda_take(&agenda, 20);
    ck_assert_ptr_eq(due, &items[1]);
    ck_assert_ptr_eq(due->also, &items[2]);
    ck_assert_ptr_null(items[2].also);
    ck_assert_int_eq(bgmqi_agenda_next(&agenda), 30);
}
END_TEST

START_TEST(an_earlier_word_moves_it_up_and_a_later_one_changes_nothing)
{
    bgmqi_agenda_tell(&agenda, &items[0], 10);
    bgmqi_agenda_tell(&agenda, &items[1], 20);
    bgmqi_agenda_tell(&agenda, &items[2], 30);
    ck_assert(!bgmqi_agenda_tell(&agenda, &items[1], 25));
    ck_assert(!bgmqi_agenda_tell(&agenda, &items[1], 20));
    ck_assert(!bgmqi_agenda_tell(&agenda, &items[1], 15));
    ck_assert(bgmqi_agenda_tell(&agenda, &items[2], INT64_MIN));
    struct agenda_item *due = bgmqi_agenda_take(&agenda, 14);
    ck_assert_ptr_eq(due, &items[2]);
    ck_assert_ptr_eq(due->also, &items[0]);
    ck_assert_ptr_null(items[0].also);
    ck_assert_int_eq(bgmqi_agenda_next(&agenda), 15);
}
END_TEST

/* The list of times that the agenda has to agree with. */
static void expect_taken(int64_t *times, int64_t now)
{
    int64_t last = INT64_MIN;
    int n = 0, wanted = 0;
    for (int i = 0; i < N; i++)
        wanted += times[i] <= now;
    for (struct agenda_item *due = bgmqi_agenda_take(&agenda, now), *next; due;
         due = next) {
        next = due->also;
        int64_t at = times[due - items];
        ck_assert_int_le(at, now);
        ck_assert_int_ge(at, last);
        last = at;
        times[due - items] = INT64_MAX;
        n++;
    }
    ck_assert_int_eq(n, wanted);
}

START_TEST(any_order_of_words_is_kept)
{
    enum { STEPS = 20000 };
    int64_t times[N];
    uint32_t random = 1;
    for (int i = 0; i < N; i++)
        times[i] = INT64_MAX;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525 + 1013904223;
        int i = (int)(random >> 8) % N;
        int64_t at = step + (int64_t)(random >> 16) % 300;
        bgmqi_agenda_tell(&agenda, &items[i], at);
        times[i] = at < times[i] ? at : times[i];
        if (random % 7 == 0)
            expect_taken(times, step);
    }
    expect_taken(times, INT64_MAX - 1);
    ck_assert_int_eq(bgmqi_agenda_next(&agenda), INT64_MAX);
}
END_TEST

/* ---- several threads ----------------------------------------------------------------- */

enum { TELLERS = 3, THINGS = 5, WORDS = 30000 };

/* As a type: what is to be done stands under a lock of its own. */
static struct lock locks[THINGS];
static long to_do[THINGS];

static void *tell(void *arg)
{
    for (int i = 0; i < WORDS; i++) {
        int thing = i % THINGS;
        lock_take(&locks[thing]);
        to_do[thing]++;
        lock_drop(&locks[thing]);
        bgmqi_agenda_tell(&agenda, &items[thing], i % 3);
    }
    return arg;
}

static long do_all(void)
{
    long done = 0;
    for (struct agenda_item *due = bgmqi_agenda_take(&agenda, 2), *next; due;
         due = next) {
        next = due->also;
        long thing = due - items;
        lock_take(&locks[thing]);
        done += to_do[thing];
        to_do[thing] = 0;
        lock_drop(&locks[thing]);
    }
    return done;
}

START_TEST(no_word_is_lost)
{
    pthread_t tellers[TELLERS];
    long done = 0;
    for (int i = 0; i < THINGS; i++)
        lock_init(&locks[i], RANK_JOURNAL);
    for (int i = 0; i < TELLERS; i++)
        tellers[i] = harness_thread(tell, NULL);
    for (int i = 0; i < WORDS; i++)
        done += do_all();
    for (int i = 0; i < TELLERS; i++)
        harness_join(tellers[i]);
    done += do_all(); /* what is not in the agenda now will never be done */
    ck_assert_int_eq(done, (long)TELLERS * WORDS);
    for (int i = 0; i < THINGS; i++)
        lock_fini(&locks[i]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("agenda");
    TCase *tc = harness_case(s, "agenda");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, empty_one_has_no_next);
    tcase_add_test(tc, what_is_due_is_taken_and_nothing_else);
    tcase_add_test(tc, an_earlier_word_moves_it_up_and_a_later_one_changes_nothing);
    tcase_add_test(tc, any_order_of_words_is_kept);
    tcase_add_test(tc, no_word_is_lost);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
