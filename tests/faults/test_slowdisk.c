/* test_slowdisk.c - T19: a disk that takes its time: every sync, one sync for very long, and some
 * reads.  Publishers are told in time, the service says that its store is slow, memory stays within
 * its bound, and nobody's attempt is taken for over because its end is not written yet.
 *
 * The VFS makes the delays; they are shorter in the quick form. */
#include "../harness/harness.h"

#include "../harness/shim_vfs.h"

#include <bgmq_operate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS INT64_C(1000000)

static struct harness_log kept;
static _Atomic int runs[4096];

static struct bgmq *open_service(struct bgmq_options options)
{
    struct bgmq *mq = NULL;
    options.database = harness_path("slow.db");
    options.log = harness_log_keep;
    options.log_ctx = &kept;
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    return mq;
}

static void close_service(struct bgmq *mq)
{
    ck_assert_int_eq(bgmq_close(mq), 0);
    bgmq_free(mq);
}

static void begin(void)
{
    harness_log_init(&kept);
    shim_vfs_install();
}

static void end(void)
{
    shim_vfs_disarm();
    shim_vfs_remove();
    harness_log_fini(&kept);
}

static int publish_at(struct bgmq *mq, int n, enum bgmq_durability level)
{
    char body[1024] = "";
    snprintf(body, sizeof(body), "%d", n);
    return bgmq_publish(mq, "T", body, sizeof(body),
                        &(struct bgmq_message_options){.durability = level}, NULL);
}

static int count_run(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    runs[atoi(bgmq_job_body(job, NULL))]++;
    return BGMQ_DONE;
}

static void register_and_start(struct bgmq *mq, struct bgmq_type_options options)
{
    ck_assert_int_eq(bgmq_register(mq, "T", count_run, NULL, &options), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
}

static struct bgmq_counters counters(struct bgmq *mq)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    return c;
}

static struct bgmq_collection collection(struct bgmq *mq)
{
    struct bgmq_collection c;
    ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
    return c;
}

static uint64_t processed(struct bgmq *mq)
{
    struct bgmq_stats s;
    ck_assert_int_eq(bgmq_type_stats(mq, "T", &s), 0);
    return s.processed;
}

static void expect_said_slow(struct bgmq *mq)
{
    struct bgmq_health h;
    char *json = NULL;
    ck_assert_uint_ge(counters(mq).slow_ms, 100);
    ck_assert_int_eq(bgmq_health(mq, &h), 0);
    ck_assert_int_eq(h.ok, 1);
    ck_assert_ptr_nonnull(strstr(h.text, "the store is slow"));
    ck_assert_int_eq(bgmq_status_json(mq, &json), 0);
    ck_assert_ptr_nonnull(strstr(json, "\"slow_ms\":"));
    ck_assert_ptr_null(strstr(json, "\"slow_ms\":0,"));
    free(json);
}

static void slow_syncs(unsigned delay_ms, long times)
{
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_SYNC,
                                      .files = SHIM_WAL,
                                      .kind = SHIM_SLOW,
                                      .nth = 1,
                                      .times = times,
                                      .delay_ms = delay_ms});
}

/* Every sync takes longer than an attempt may. */
START_TEST(slow_syncs_make_nobody_lose_an_attempt)
{
    enum { N = 40, SHORT = 4 };
    int n = harness_full() ? N : SHORT;
    unsigned scale = harness_scale() < 3 ? harness_scale() : 3;
    begin();
    struct bgmq *mq = open_service((struct bgmq_options){0});
    slow_syncs(300 * scale, 0);
    register_and_start(mq, (struct bgmq_type_options){.threads = 2,
                                                      .timeout_ms = 120 * scale,
                                                      .stuck_ms = 120 * scale});
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(publish_at(mq, i, i % 2 ? BGMQ_DISK : BGMQ_COMMIT), 0);
    WAIT_UNTIL(processed(mq) == (uint64_t)n);
    ck_assert_int_eq(bgmq_flush(mq), 0);
    expect_said_slow(mq);
    ck_assert_uint_eq(counters(mq).lost, 0);
    ck_assert_uint_eq(collection(mq).timeouts, 0);
    ck_assert_uint_eq(collection(mq).stuck, 0);
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(runs[i], 1);
    close_service(mq);
    end();
    harness_figure("slow_syncs", shim_vfs_fired());
}
END_TEST

/* How late, in nanoseconds, a publish that has to be given up comes back with ERR. */
static int64_t lateness(struct bgmq *mq, int n, unsigned timeout_ms, int err)
{
    int64_t begun = harness_now();
    ck_assert_int_eq(publish_at(mq, n, BGMQ_DISK), err);
    int64_t late = harness_now() - begun - timeout_ms * MS;
    ck_assert_int_ge(late, 0);
    return late;
}

static int64_t least_lateness(struct bgmq *mq, int first, int tries, unsigned timeout_ms)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < tries; i++) {
        int64_t late = lateness(mq, first + i, timeout_ms, BGMQ_EBUSY);
        least = late < least ? late : least;
    }
    return least;
}

/* One sync takes very long.  Who waits for it is told that nobody knows, who comes later that it is
 * not done; when the disk is back, it goes on. */
START_TEST(one_sync_that_takes_very_long)
{
    enum { TIMEOUT = 150, TRIES = 5, LONG = 120000 };
    begin();
    struct bgmq *mq = open_service((struct bgmq_options){.publish_timeout_ms = TIMEOUT});
    register_and_start(mq, (struct bgmq_type_options){.threads = 1});
    slow_syncs(LONG, 1);
    lateness(mq, 0, TIMEOUT, BGMQ_EUNCERTAIN);
    int64_t late = least_lateness(mq, 1, TRIES, TIMEOUT);
    ck_assert_msg(late <= 50 * MS * harness_scale(), "%lld ms late",
                  (long long)(late / MS));
    ck_assert_int_eq(publish_at(mq, 1 + TRIES, BGMQ_BEHIND), 0);
    expect_said_slow(mq);
    WAIT_UNTIL(processed(mq) == 1); /* it is in memory, and waits for nothing */
    ck_assert_int_eq(runs[1 + TRIES], 1);
    uint64_t most = harness_full() ? 20000 : 1000;
    for (uint64_t ms = 1000; ms <= most; ms += 1000)
        WAIT_UNTIL(counters(mq).slow_ms > ms);
    shim_vfs_disarm();
    WAIT_UNTIL(processed(mq) == 2);
    ck_assert_int_eq(runs[0], 1);
    for (int i = 1; i <= TRIES; i++)
        ck_assert_int_eq(runs[i], 0);
    ck_assert_int_eq(bgmq_flush(mq), 0);
    ck_assert(harness_log_has(&kept, "the store is slow: a commit took"));
    ck_assert_int_eq(publish_at(mq, 2 + TRIES, BGMQ_DISK), 0);
    close_service(mq);
    end();
    harness_figure("late_ms", late / MS);
}
END_TEST

/* What cannot be written meanwhile waits in memory, up to its bound. */
START_TEST(memory_stays_within_its_bound_while_nothing_is_written)
{
    enum { BOUND = 4 << 20, MANY = 100000, SLACK = 8 << 20, LONG = 120000 };
    begin();
    struct bgmq *mq =
        open_service((struct bgmq_options){.publish_timeout_ms = 50, .max_bytes = BOUND});
    ck_assert_int_eq(publish_at(mq, 0, BGMQ_DISK), 0);
    slow_syncs(LONG, 1);
    ck_assert_int_eq(publish_at(mq, 0, BGMQ_DISK), BGMQ_EUNCERTAIN);
    long before = harness_resident_bytes();
    int n = 0, err = 0;
    while (n < MANY && (err = publish_at(mq, n % 4096, BGMQ_BEHIND)) == 0)
        n++;
    ck_assert_int_eq(err, BGMQ_EFULL);
    ck_assert_int_gt(n, 1000);
    ck_assert_int_le((int64_t)n * 1024, BOUND);
    long grown = harness_resident_bytes() - before;
    if (!HARNESS_ASAN && !HARNESS_TSAN)
        ck_assert_msg(grown <= BOUND + SLACK, "%ld bytes", grown);
    shim_vfs_disarm();
    WAIT_UNTIL(bgmq_flush(mq) == 0);
    register_and_start(mq, (struct bgmq_type_options){.threads = 1});
    WAIT_UNTIL(processed(mq) == (uint64_t)n + 2);
    close_service(mq);
    end();
    harness_figure("held", n);
}
END_TEST

/* Every few reads of the file are slow while the backlog is read. */
START_TEST(slow_reads_delay_and_nothing_else)
{
    enum { N = 3000, WINDOW = 50, STEP = 100 };
    begin();
    struct bgmq *mq = open_service((struct bgmq_options){0});
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(publish_at(mq, i, BGMQ_BEHIND), 0);
    close_service(mq);
    mq = open_service((struct bgmq_options){0});
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_READ,
                                      .files = SHIM_ANY,
                                      .kind = SHIM_SLOW,
                                      .nth = 1,
                                      .every = 100,
                                      .delay_ms = harness_full() ? 1000 : 100});
    register_and_start(
        mq, (struct bgmq_type_options){
                .threads = 2, .window = WINDOW, .timeout_ms = 1000, .stuck_ms = 1000});
    ck_assert_int_eq(publish_at(mq, N, BGMQ_DISK), 0);
    for (uint64_t n = 0; n <= N; n += STEP) /* each step in its time */
        WAIT_UNTIL(processed(mq) > n);
    for (int i = 0; i <= N; i++)
        ck_assert_int_eq(runs[i], 1);
    ck_assert_uint_eq(collection(mq).timeouts, 0);
    ck_assert_uint_eq(counters(mq).lost, 0);
    ck_assert_int_gt(shim_vfs_fired(), 2);
    harness_figure("slow_reads", shim_vfs_fired());
    close_service(mq);
    end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("slowdisk");
    TCase *tc = harness_case(s, "slow");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, slow_syncs_make_nobody_lose_an_attempt);
    tcase_add_test(tc, one_sync_that_takes_very_long);
    tcase_add_test(tc, memory_stays_within_its_bound_while_nothing_is_written);
    tcase_add_test(tc, slow_reads_delay_and_nothing_else);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
