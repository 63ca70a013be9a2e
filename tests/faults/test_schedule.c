/* test_schedule.c - T11: the real code, one thread at a time, in an order that a seed decides. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../harness/harness.h"
#include "../schedule/scenes.h"

enum { FULL = 6000, QUICK = 640 };

static const struct scene *const lists[] = {scenes_lock, scenes_work, scenes_life, scenes_wait,
                                          scenes_journal};

static unsigned count(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct scene *s = lists[i]; s->name; s++)
            n++;
    return n;
}

static const struct scene *scene_at(unsigned at)
{
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct scene *s = lists[i]; s->name; s++)
            if (at-- == 0)
                return s;
    return NULL;
}

START_TEST(every_order_ends_as_it_should)
{
    unsigned n = (harness_full() ? FULL : QUICK / harness_scale()) / count() + 1;
    if (HARNESS_TSAN)
        HARNESS_SKIP("one thread runs at a time: there are no races to be seen");
    const char *only = getenv("SCENE");
    if (only && strcmp(only, scene_at((unsigned)_i)->name)) return;
    if (getenv("N")) n = (unsigned)atoi(getenv("N"));
    int64_t b = harness_now();
    schedule_explore(scene_at((unsigned)_i), harness_seed(1), n);
    fprintf(stderr, "%s %u: %.3f s\n", scene_at((unsigned)_i)->name, n, (double)(harness_now()-b)/1e9);
    harness_figure("schedules", n);
}
END_TEST

START_TEST(the_same_seed_is_the_same_order)
{
    const struct scene *s = scene_at((unsigned)_i);
    uint64_t seed = harness_seed(1), digest[8];
    if (HARNESS_TSAN)
        HARNESS_SKIP("one thread runs at a time: there are no races to be seen");
    for (unsigned i = 0; i < 8; i++)
        digest[i] = schedule_play(s, seed + i);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_msg(schedule_play(s, seed + i) == digest[i], "%s: seed %llu", s->name,
                      (unsigned long long)seed + i);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("schedule");
    TCase *tc = harness_case(s, "explore");
    tcase_set_timeout(tc, harness_full() ? 600 : 60);
    tcase_add_loop_test(tc, every_order_ends_as_it_should, 0, (int)count());
    tcase_add_loop_test(tc, the_same_seed_is_the_same_order, 0, (int)count());
    return s;
}

int main(void)
{
    return harness_run(suite());
}
