/* test_powerloss.c - the power goes at every change that the library, and the application beside
 * it, make of the disk.  T4 of the fault programme.
 *
 * A scenario of the whole library is recorded once.  Then the disk is rebuilt as it may be at each
 * instant, and opened as the next owner would: what was promised by then has to be there. */
#include "life.h"
#include "release.h"

#include "../harness/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) ck_assert_int_eq((call), BGMQ_OK)

/* ---- the judgement ------------------------------------------------------------------- */

static void record(int rounds, int lies)
{
    recorder_begin(&life.recording, harness_path("power.db"), lies);
    life_live(rounds);
    recorder_end();
}

enum { PLANS = 8 };
static uint64_t seed, chance;
static struct verdict verdict;

/* Disks that were judged, by their checksum and by what was promised then. */
static struct {
    uint64_t *sums;
    size_t n, cap;
} judged;

/* 1 when SUM is new. */
static int is_new(uint64_t sum)
{
    if (judged.n * 2 >= judged.cap) {
        uint64_t *old = judged.sums;
        size_t cap = judged.cap;
        judged.cap = cap ? cap * 2 : 4096;
        judged.sums = calloc(judged.cap, sizeof(uint64_t));
        ck_assert_ptr_nonnull(judged.sums);
        judged.n = 0;
        for (size_t i = 0; i < cap; i++)
            if (old[i])
                is_new(old[i]);
        free(old);
    }
    sum |= 1;
    size_t i = (sum >> 8) & (judged.cap - 1);
    for (; judged.sums[i]; i = (i + 1) & (judged.cap - 1))
        if (judged.sums[i] == sum)
            return 0;
    judged.sums[i] = sum;
    judged.n++;
    return 1;
}

/* Judges what is left of D by LOSS, as at change PROMISED of the ledger.  1: nobody had seen it. */
static int judge(const struct disk *d, enum disk_loss loss, size_t promised)
{
    char what[160];
    const char *path = harness_path("after.db");
    uint64_t sum = disk_write(d, loss, &chance, path);
    if (!is_new(sum ^ ledger_state(&life.ledger, promised)))
        return 0;
    snprintf(what, sizeof(what),
             "change %zu of %zu, loss %d, promises of %zu"
             " (replay: ./tests/faults/run powerloss --seed %llu)",
             d->at, d->recording->n, loss, promised, (unsigned long long)seed);
    ledger_judge(&life.ledger, promised, path, what, &verdict);
    return 1;
}

/* The power goes a second time, anywhere in the recovery from the first. */
static void judge_recovery(const struct disk *d)
{
    const char *path = harness_path("again.db");
    struct recording r;
    struct disk second;
    size_t promised = d->at;
    disk_write(d, DISK_KEEPS_SOME, &chance, path);
    recorder_begin(&r, path, 0);
    ledger_judge(&life.ledger, promised, path, "before a second loss", &verdict);
    recorder_end();
    disk_init(&second, &r);
    for (size_t n = 0; n <= r.n; n++) {
        disk_advance(&second, n);
        judge(&second, DISK_KEEPS_LEAST, promised);
        judge(&second, DISK_KEEPS_SOME, promised);
    }
    disk_fini(&second);
    recording_fini(&r);
}

/* Judges TIMES disks at every change, or at one of EVERY, picked at random. */
static void judge_all(unsigned every, int times, unsigned recoveries)
{
    struct disk d;
    disk_init(&d, &life.recording);
    for (size_t n = 0; n <= life.recording.n; n++) {
        if (every > 1 && random_next(&chance) % every != 0)
            continue;
        disk_advance(&d, n);
        judge(&d, DISK_KEEPS_ALL, n);
        if (disk_open_changes(&d) == 0)
            continue; /* there is nothing to lose */
        judge(&d, DISK_KEEPS_LEAST, n);
        /* Few changes are lost in few ways. */
        int ways = disk_open_changes(&d) < 3 ? 4 : times;
        for (int i = 0; i < times && i < ways; i++)
            judge(&d, DISK_KEEPS_SOME, n);
        if (recoveries && random_next(&chance) % recoveries == 0)
            judge_recovery(&d);
    }
    disk_fini(&d);
}

static void begin(void)
{
    memset(&life, 0, sizeof(life));
    memset(&verdict, 0, sizeof(verdict));
    seed = chance = harness_seed(1);
    recorder_install();
}

static void end(void)
{
    free(judged.sums);
    memset(&judged, 0, sizeof(judged));
    recording_fini(&life.recording);
    ledger_fini(&life.ledger);
    recorder_remove();
}

static void expect_clean(void)
{
    harness_figure("states", verdict.states);
    harness_figure("lost", verdict.lost + verdict.back);
    harness_figure("corrupt", verdict.corrupt);
    harness_figure("half", verdict.half + verdict.mangled + verdict.phantom);
    ck_assert_msg(verdict_is_clean(&verdict),
                  "lost %ld, back %ld, phantom %ld, half %ld, mangled %ld, corrupt %ld"
                  " of %ld: %s",
                  verdict.lost, verdict.back, verdict.phantom, verdict.half,
                  verdict.mangled, verdict.corrupt, verdict.states, verdict.text);
}

/* In full there are PLANS of it, of seeds that follow each other. */
START_TEST(what_was_promised_is_there_whenever_the_power_goes)
{
    enum { STATES = 100000 };
    begin();
    seed += (uint64_t)_i;
    chance = seed;
    record(harness_full() ? 9 : 3, 0);
    printf("# %zu changes, %zu messages\n", life.recording.n, life.ledger.n);
    if (harness_full())
        for (long target = STATES / PLANS + 1; verdict.states < target;)
            judge_all(1, 12, 50);
    else
        judge_all(2 * harness_scale(), 2, 300);
    expect_clean();
    end();
}
END_TEST

/* The disk as it was while tables of version 1 became today's, and the first use of them. */
START_TEST(tables_of_an_older_version_are_not_lost_on_their_way)
{
    static const struct {
        uint64_t id;
        const char *body;
        enum whereabouts place;
    } old[] = {{1, "one", WAITING},   {2, "two", WAITING},    {3, "first", WAITING},
               {4, "later", WAITING}, {5, "unique", WAITING}, {7, "dead", DEAD}};
    begin();
    release_unpack(_i ? "schema-1-killed" : "schema-1", harness_path("power.db"));
    recorder_begin(&life.recording, harness_path("power.db"), 0);
    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
        ledger_step(ledger_add(&life.ledger, old[i].id, old[i].body), 0, 0, old[i].place);
    struct promise *p = ledger_add(&life.ledger, 6, "");
    memcpy(p->body, "\0\xff\n", p->len = 3);
    ledger_step(p, 0, 0, WAITING);
    p = ledger_add(&life.ledger, 8, "done");
    p->no_body = 1; /* nobody asked for it to be kept */
    ledger_step(p, 0, 0, DONE);
    life_open();
    life_publish();
    life_close();
    recorder_end();
    judge_all(harness_full() ? 1 : 3 * harness_scale(), harness_full() ? 20 : 2,
              harness_full() ? 20 : 0);
    expect_clean();
    end();
}
END_TEST

/* COMMIT survives the process, not the power: its newest messages may be missing, and that is
 * all.  A judge that took it for DISK has to find them missing. */
START_TEST(commit_promises_less_than_disk)
{
    begin();
    life.too_much = 1;
    record(1, 0);
    /* Closer and closer: how far apart syncs are is up to threads. */
    for (unsigned every = 2 * harness_scale(); every > 0 && !verdict.lost; every /= 2)
        judge_all(every, 2, 0);
    printf("# COMMIT taken for DISK: lost %ld of %ld\n", verdict.lost, verdict.states);
    ck_assert_int_gt(verdict.lost, 0);
    ck_assert_int_eq(verdict.corrupt + verdict.half + verdict.mangled + verdict.phantom,
                     0);
    end();
}
END_TEST

/* ---- the whole service --------------------------------------------------------------- */

struct heard {
    pthread_mutex_t lock;
    uint64_t ids[512];
    size_t n;
};

static int hear(struct bgmq_job *job, void *ctx)
{
    struct heard *h = ctx;
    uint64_t id = bgmq_job_id(job);
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->n; i++)
        ck_assert_msg(h->ids[i] != id, "message %llu ran twice", (unsigned long long)id);
    ck_assert_uint_lt(h->n, 512);
    h->ids[h->n++] = id;
    pthread_mutex_unlock(&h->lock);
    return BGMQ_DONE;
}

/* A service opens what is left, runs what it finds, once, and takes a new message. */
static void serve(const char *path)
{
    struct heard h = {.n = 0};
    struct bgmq *mq = NULL;
    struct bgmq_collection c;
    struct bgmq_options options = {
        .database = path, .share_database = 1, .boot_breaker = 1000};
    struct bgmq_error error = {.text = ""};
    pthread_mutex_init(&h.lock, NULL);
    int err = bgmq_open(&mq, &options, &error);
    ck_assert_msg(err == 0, "%s", error.text);
    OK(bgmq_register(mq, "T", hear, &h, NULL));
    OK(bgmq_publish(mq, "T", "new", 3, NULL, NULL));
    OK(bgmq_type_collection(mq, "T", &c));
    uint64_t found = c.inq + c.priorityq;
    OK(bgmq_start(mq));
    WAIT_UNTIL(bgmq_type_collection(mq, "T", &c) == 0 && c.inq + c.priorityq == 0);
    OK(bgmq_close(mq));
    ck_assert_uint_ge(h.n, found); /* and what was in the inbox */
    bgmq_free(mq);
    pthread_mutex_destroy(&h.lock);
}

START_TEST(a_service_goes_on_with_what_is_left)
{
    struct disk d;
    const char *path = harness_path("after.db");
    long served = 0, target = harness_full() ? 2000 : 40 / harness_scale() + 4;
    begin();
    record(1, 0);
    disk_init(&d, &life.recording);
    for (size_t n = 0; n <= life.recording.n; n++) {
        if (random_next(&chance) % life.recording.n >= (uint64_t)target)
            continue;
        disk_advance(&d, n);
        disk_write(&d, DISK_KEEPS_SOME, &chance, path);
        serve(path);
        served++;
    }
    disk_fini(&d);
    harness_figure("served", served);
    ck_assert_int_gt(served, 0);
    end();
}
END_TEST

/* The same on a disk that says it has synced, and has not: the judge has to see that. */
START_TEST(a_disk_that_lies_is_found_out)
{
    begin();
    record(1, 1);
    for (unsigned every = 10 * harness_scale();
         every > 0 && !verdict.lost && !verdict.corrupt; every /= 2)
        judge_all(every, 2, 0);
    printf("# %ld states on a disk that lies: lost %ld, corrupt %ld\n", verdict.states,
           verdict.lost, verdict.corrupt);
    ck_assert_int_gt(verdict.lost + verdict.corrupt, 0);
    end();
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("powerloss");
    TCase *tc = harness_case(suite, "power");
    tcase_set_timeout(tc, harness_full() ? 3000 : 120);
    tcase_add_loop_test(tc, what_was_promised_is_there_whenever_the_power_goes, 0,
                        harness_full() ? PLANS : 1);
    tcase_add_loop_test(tc, tables_of_an_older_version_are_not_lost_on_their_way, 0, 2);
    tcase_add_test(tc, commit_promises_less_than_disk);
    tcase_add_test(tc, a_service_goes_on_with_what_is_left);
    tcase_add_test(tc, a_disk_that_lies_is_found_out);
    return suite;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
