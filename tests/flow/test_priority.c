/* test_priority.c - which message is next: priority before order of acceptance, and a share
 * for inq. */
#include "flow.h"

/* Runs what is queued for T with one worker until N attempts have ended, then stops. */
static void drain(struct bgmq *mq, struct recorder *r, long n)
{
    OK(bgmq_start(mq));
    counter_wait(&r->begun, n);
    flow_wait_ended(mq, "T", (uint64_t)n);
    OK(bgmq_stop(mq, 0));
    ck_assert_uint_eq(r->n, (size_t)n);
}

START_TEST(priority_comes_first_and_higher_first)
{
    char order[64];
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    flow_publish(mq, "T", "n1");
    flow_publish_with(mq, "T", "p1", MESSAGE(.priority = 1));
    flow_publish_with(mq, "T", "p9a", MESSAGE(.priority = 9));
    flow_publish(mq, "T", "n2");
    flow_publish_with(mq, "T", "p9b", MESSAGE(.priority = 9));
    flow_publish_with(mq, "T", "p5", MESSAGE(.priority = 5));
    drain(mq, &r, 6);
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "p9a p9b p5 p1 n1 n2 ");
    struct bgmq_stats s = flow_stats(mq, "T");
    ck_assert_uint_eq(s.priority_received, 4);
    ck_assert_uint_eq(s.normal_received, 2);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(priority_overtakes_what_waits_behind_a_busy_worker)
{
    char order[64];
    struct gate gate;
    gate_init(&gate);
    struct recorder r;
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(_i);
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    flow_publish(mq, "T", "busy");
    counter_wait(&r.begun, 1);
    flow_publish(mq, "T", "a");
    flow_publish(mq, "T", "b");
    flow_publish_with(mq, "T", "p", MESSAGE(.priority = 1));
    gate_open(&gate);
    drain(mq, &r, 4);
    ck_assert_str_eq(recorder_bodies(&r, order, sizeof(order)), "busy p a b ");
    flow_close(mq);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

/* While both wait, after SHARE starts from priorityq at most comes one from inq, and never two
 * from inq in a row. */
static void expect_share(struct recorder *r, int normals, unsigned share)
{
    unsigned in_a_row = 0;
    int previous_normal = 0;
    for (size_t i = 0; i < r->n && normals > 0; i++) {
        int normal = r->calls[i].body[0] == 'n';
        ck_assert_msg(!normal || !previous_normal, "two of inq before start %zu", i);
        in_a_row = normal ? 0 : in_a_row + 1;
        ck_assert_msg(in_a_row <= share, "inq starved at start %zu", i);
        normals -= normal;
        previous_normal = normal;
    }
    ck_assert_int_eq(normals, 0);
}

START_TEST(flood_of_priority_leaves_inq_its_share)
{
    static const unsigned shares[] = {1, 3, 15};
    unsigned share = shares[_i / 2];
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i % 2);
    flow_register_with(mq, "T", &r, TYPE(.priority_share = share == 15 ? 0 : share));
    struct bgmq_item items[105];
    struct bgmq_message_options high = {.priority = 1};
    for (int i = 0; i < 105; i++)
        items[i] = (struct bgmq_item){.type = "T",
                                      .body = i < 5 ? "n" : "p",
                                      .len = 1,
                                      .options = i < 5 ? NULL : &high};
    OK(bgmq_publish_many(mq, items, 105, NULL));
    drain(mq, &r, 105);
    expect_share(&r, 5, share);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("priority");
    TCase *tc = flow_case(s, "priority");
    flow_add_both(tc, priority_comes_first_and_higher_first);
    flow_add_both(tc, priority_overtakes_what_waits_behind_a_busy_worker);
    tcase_add_loop_test(tc, flood_of_priority_leaves_inq_its_share, 0, 6);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
