/* test_schedule.c - the real code, one thread at a time, in an order that a seed decides.
 *
 * T11 of the fault programme.  With --seed N the first schedule of each scene is the one of
 * seed N. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../harness/harness.h"
#include "scenes.h"

enum { FULL = 40000, QUICK = 4000, TOY = 300, TWICE = 5, FOUND = 42 };

static const struct scene *const lists[] = {scenes_lock, scenes_work, scenes_life,
                                            scenes_wait, scenes_journal};

static const char one_at_a_time[] =
    "one thread runs at a time: there are no races to see";

/* NULL: there are not so many. */
static const struct scene *scene_at(unsigned at)
{
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct scene *s = lists[i]; s->name; s++)
            if (at-- == 0)
                return s;
    return NULL;
}

static unsigned count(void)
{
    unsigned n = 0;
    while (scene_at(n))
        n++;
    return n;
}

START_TEST(every_order_ends_as_it_should)
{
    unsigned n = (harness_full() ? FULL : QUICK / harness_scale()) / count() + 1;
    if (HARNESS_TSAN)
        HARNESS_SKIP(one_at_a_time);
    schedule_explore(scene_at((unsigned)_i), harness_seed(1), n);
    harness_figure("schedules", n);
}
END_TEST

START_TEST(the_same_seed_is_the_same_order)
{
    const struct scene *s = scene_at((unsigned)_i);
    uint64_t seed = harness_seed(1), digest[TWICE];
    if (HARNESS_TSAN)
        HARNESS_SKIP(one_at_a_time);
    for (unsigned i = 0; i < TWICE; i++)
        digest[i] = schedule_play(s, seed + i);
    for (unsigned i = 0; i < TWICE; i++)
        ck_assert_msg(schedule_play(s, seed + i) == digest[i], "%s: seed %llu", s->name,
                      (unsigned long long)seed + i);
}
END_TEST

static void found(const char *what)
{
    (void)what;
    _exit(FOUND);
}

/* What would not find these would find nothing. */
START_TEST(known_faults_are_found)
{
    if (HARNESS_TSAN)
        HARNESS_SKIP(one_at_a_time);
    for (const struct scene *s = scenes_toy; s->name; s++) {
        int status;
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            schedule_on_fault(found);
            schedule_explore(s, harness_seed(1), TOY);
            _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == FOUND, "%s: %x",
                      s->name, (unsigned)status);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("schedule");
    TCase *tc = harness_case(s, "explore");
    tcase_set_timeout(tc, harness_full() ? 3600 : 60 * harness_scale());
    tcase_add_test(tc, known_faults_are_found);
    tcase_add_loop_test(tc, every_order_ends_as_it_should, 0, (int)count());
    tcase_add_loop_test(tc, the_same_seed_is_the_same_order, 0, (int)count());
    return s;
}

int main(void)
{
    return harness_run(suite());
}
