/* test_midway.c - stops and closes in the middle of something: while publishers wait for room,
 * while the log is synced, while a check-point writes. */
#include "../harness/harness.h"
#include "../harness/shim_vfs.h"

#include <bgmq.h>
#include <poll.h>

enum { PATIENCE_S = 5 /* of a call */ };

static int handle(struct bgmq_job *job, void *ctx)
{
    return BGMQ_DONE;
}

/* Waits for room in a queue that nobody empties, until the service is closed. */
static void *wait_for_room(void *arg)
{
    struct bgmq_message_options options = {.wait_ms = 3600000};
    int err = 0;
    while (!err)
        err = bgmq_publish(arg, "Full", "x", 1, &options, NULL);
    while (err == BGMQ_EDRAINING) { /* nobody waits for room then */
        poll(NULL, 0, 1);
        err = bgmq_publish(arg, "Full", "x", 1, &options, NULL);
    }
    return (void *)(intptr_t)err;
}

enum { WAITERS = 4 };

/* A stop leaves those who wait for room waiting, as publishing goes on; a close sends them away. */
START_TEST(stop_and_close_with_a_full_queue_and_publishers_who_wait)
{
    struct bgmq *mq = NULL;
    struct bgmq_collection c;
    pthread_t waiters[WAITERS];
    struct bgmq_options options = {.database = _i ? harness_path("full.db") : NULL};
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_register(mq, "Full", handle, NULL,
                                   &(struct bgmq_type_options){.max_messages = 3}),
                     0);
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = harness_thread(wait_for_room, mq);
    WAIT_UNTIL(bgmq_type_collection(mq, "Full", &c) == 0 && c.inq == 3);
    int64_t begin = harness_now();
    ck_assert_int_eq(bgmq_stop(mq, 0), 0);
    ck_assert_int_eq(bgmq_type_collection(mq, "Full", &c), 0);
    ck_assert_uint_eq(c.inq, 3);
    ck_assert_int_eq(bgmq_close(mq), 0);
    ck_assert_int_lt(harness_now() - begin,
                     PATIENCE_S * INT64_C(1000000000) * harness_scale());
    for (int i = 0; i < WAITERS; i++)
        ck_assert_int_eq((int)(intptr_t)harness_join(waiters[i]), BGMQ_ECLOSED);
    bgmq_free(mq);
}
END_TEST

/* Holds the writer's thread at a call of the file system. */
struct hold {
    _Atomic int armed;
    struct gate gate;
    struct counter held;
};

static void hold(void *ctx)
{
    struct hold *h = ctx;
    if (!atomic_load(&h->armed) || gate_is_open(&h->gate))
        return;
    counter_add(&h->held, 1);
    gate_wait(&h->gate);
}

static void *close_thread(void *arg)
{
    return (void *)(intptr_t)bgmq_close(arg);
}

static void *flush_thread(void *arg)
{
    return (void *)(intptr_t)bgmq_flush(arg);
}

/* _i 0: while the log is synced for a flush; 1: while a check-point writes to the file.  A stop
 * waits for neither, a close for both. */
START_TEST(stop_and_close_during_a_flush_and_a_check_point)
{
    struct hold h;
    struct bgmq *mq = NULL;
    static char body[1 << 20];
    struct bgmq_options options = {.database = harness_path("held.db"),
                                   .durability = BGMQ_BEHIND};
    gate_init(&h.gate);
    counter_init(&h.held);
    atomic_init(&h.armed, 0);
    shim_vfs_install();
    shim_vfs_hook(_i ? SHIM_WRITE : SHIM_SYNC, _i ? SHIM_DB : SHIM_WAL, hold, &h);
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    atomic_store(&h.armed, 1);
    for (int i = 0; i < 5; i++) /* more pages than the log has before a check-point */
        ck_assert_int_eq(bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL), 0);
    pthread_t flusher = harness_thread(flush_thread, mq);
    counter_wait(&h.held, 1);
    ck_assert_int_eq(bgmq_stop(mq, 0), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    pthread_t closer = harness_thread(close_thread, mq);
    WAIT_UNTIL(bgmq_started(mq) == BGMQ_ECLOSED);
    gate_open(&h.gate);
    ck_assert_int_eq((int)(intptr_t)harness_join(closer), 0);
    int err = (int)(intptr_t)harness_join(flusher);
    ck_assert_int_eq(err, 0);
    bgmq_free(mq);
    shim_vfs_hook(0, 0, NULL, NULL);
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    struct bgmq_collection c;
    ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
    ck_assert_uint_eq(c.inq, 5);
    bgmq_free(mq);
    shim_vfs_remove();
    counter_fini(&h.held);
    gate_fini(&h.gate);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("midway");
    TCase *tc = harness_case(s, "in the middle");
    tcase_add_loop_test(tc, stop_and_close_with_a_full_queue_and_publishers_who_wait, 0,
                        2);
    tcase_add_loop_test(tc, stop_and_close_during_a_flush_and_a_check_point, 0, 2);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
