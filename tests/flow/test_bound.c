/* test_bound.c - bounds on what waits: who publishes beyond one waits for room, or is told, and a
 * handler is told at once. */
#include "flow.h"

#include "handle.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int publish(struct bgmq *mq, const char *text, unsigned wait_ms)
{
    return bgmq_publish(mq, "T", text, strlen(text), &MESSAGE(.wait_ms = wait_ms), NULL);
}

static int64_t ms_since(int64_t begin_ns)
{
    return (harness_now() - begin_ns) / 1000000;
}

/* A8. */
START_TEST(a_full_type_refuses_at_once_or_after_the_wait)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.max_messages = 3, .window = 2));
    OK(publish(mq, "a", 0));
    OK(bgmq_publish(mq, "T", "b", 1, &MESSAGE(.priority = 1), NULL));
    OK(bgmq_publish(mq, "T", "c", 1, &MESSAGE(.delay_ms = 3600000), NULL));
    int64_t begin = harness_now();
    FAILS(BGMQ_EFULL, publish(mq, "d", 0));
    ck_assert_int_lt(ms_since(begin), 1000 * harness_scale());
    int64_t best = INT64_MAX; /* of several, as the machine may be busy */
    for (int i = 0; i < 5; i++) {
        begin = harness_now();
        FAILS(BGMQ_EFULL, publish(mq, "d", 50));
        int64_t took = ms_since(begin);
        ck_assert_int_ge(took, 50);
        best = took < best ? took : best;
    }
    ck_assert_int_le(best, 60 * harness_scale());
    struct bgmq_item items[2] = {{"T", "x", 1, NULL}, {"Other", "y", 1, NULL}};
    FAILS(BGMQ_EFULL, bgmq_publish_many(mq, items, 2, NULL));
    flow_expect(mq, "mq:T.inq", "a");
    OK(publish(mq, "e", 0));
    FAILS(BGMQ_EFULL, publish(mq, "f", 0));
    ck_assert_uint_eq(flow_collection(mq, "T").inq, 1);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(the_bound_on_bytes_holds)
{
    static char body[10000];
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.max_bytes = 35000, .no_outq = 1));
    for (int i = 0; i < 3; i++)
        OK(bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL));
    FAILS(BGMQ_EFULL, bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL));
    OK(publish(mq, "small", 0));
    OK(bgmq_start(mq));
    OK(bgmq_publish(mq, "T", body, sizeof(body), &MESSAGE(.wait_ms = 10000), NULL));
    flow_wait_ended(mq, "T", 5);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

struct publisher {
    struct bgmq *mq;
    char text[8];
    _Atomic pid_t tid;
    int err;
};

static void *publish_patiently(void *arg)
{
    struct publisher *p = arg;
    atomic_store(&p->tid, (pid_t)syscall(SYS_gettid));
    p->err = publish(p->mq, p->text, 1000 * flow_patience());
    return NULL;
}

/* True when the thread with the number TID sleeps. */
static int sleeps(pid_t tid)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
    fclose(f);
    const char *end = strrchr(text, ')');
    return end && end[2] == 'S';
}

/* They join the row one after the other: each sleeps in it before the next one comes. */
START_TEST(who_waits_gets_in_in_the_order_they_came)
{
    enum { WAITERS = 5 };
    struct recorder r;
    struct publisher p[WAITERS];
    pthread_t t[WAITERS];
    char text[64];
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.max_messages = 1));
    OK(publish(mq, "0", 0));
    for (int i = 0; i < WAITERS; i++) {
        p[i] = (struct publisher){.mq = mq};
        snprintf(p[i].text, sizeof(p[i].text), "%d", i + 1);
        t[i] = harness_thread(publish_patiently, &p[i]);
        WAIT_UNTIL(atomic_load(&p[i].tid) && sleeps(atomic_load(&p[i].tid)));
    }
    OK(bgmq_start(mq));
    for (int i = 0; i < WAITERS; i++) {
        harness_join(t[i]);
        OK(p[i].err);
    }
    flow_wait_ended(mq, "T", WAITERS + 1);
    ck_assert_str_eq(recorder_bodies(&r, text, sizeof(text)), "0 1 2 3 4 5 ");
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

START_TEST(who_waits_at_close_is_told)
{
    struct recorder r;
    struct publisher p;
    recorder_init(&r);
    struct bgmq *mq = flow_open(_i);
    flow_register_with(mq, "T", &r, TYPE(.max_messages = 1));
    OK(publish(mq, "0", 0));
    p = (struct publisher){.mq = mq, .text = "1"};
    pthread_t t = harness_thread(publish_patiently, &p);
    OK(bgmq_close(mq));
    harness_join(t);
    FAILS(BGMQ_ECLOSED, p.err);
    bgmq_free(mq);
    recorder_fini(&r);
}
END_TEST

/* ---- in a handler ------------------------------------------------------------------ */

struct self {
    int err;
    struct counter done;
    int64_t took_ms;
};

static int publish_to_itself(struct bgmq_job *job, void *ctx)
{
    struct self *s = ctx;
    int64_t begin = harness_now();
    for (int i = 0; i < 100 && !s->err; i++)
        s->err = publish(bgmq_job_service(job), "more", 60000);
    s->took_ms = ms_since(begin);
    counter_add(&s->done, 1);
    return BGMQ_DONE;
}

/* A9. */
START_TEST(a_handler_never_waits_for_room)
{
    struct self s = {.err = 0};
    counter_init(&s.done);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", publish_to_itself, &s,
                     &TYPE(.max_messages = 5, .wait_ms = 60000)));
    OK(publish(mq, "first", 0));
    OK(bgmq_start(mq));
    counter_wait(&s.done, 1);
    FAILS(BGMQ_EFULL, s.err);
    flow_close(mq);
    counter_fini(&s.done);
}
END_TEST

static int breed(struct bgmq_job *job, void *ctx)
{
    static char body[20000];
    while (bgmq_publish(bgmq_job_service(job), "T", body, sizeof(body), NULL, NULL) == 0)
        ;
    return BGMQ_DONE;
}

/* A10. */
START_TEST(who_publishes_to_itself_for_ever_harms_no_other_type)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(_i, SERVICE(.durability = BGMQ_MEMORY));
    OK(bgmq_register(mq, "T", breed, NULL, &TYPE(.max_messages = 50, .no_outq = 1)));
    flow_register(mq, "Other", &r);
    OK(bgmq_start(mq));
    OK(publish(mq, "first", 0));
    for (int i = 0; i < 100; i++)
        flow_publish(mq, "Other", "x");
    flow_wait_ended(mq, "Other", 100);
    ck_assert_uint_le(flow_collection(mq, "T").inq, 50);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* A10.  Without a bound of its own it meets that of the service, or goes to the database; the
 * memory of the service stays within its bound, and the others' messages run. */
START_TEST(who_breeds_without_a_bound_stays_within_the_memory)
{
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(
        _i, SERVICE(.max_bytes = 1 << 20, .durability = _i ? BGMQ_BEHIND : BGMQ_MEMORY));
    OK(bgmq_register(mq, "T", breed, NULL, &TYPE(.no_outq = 1, .window = 10)));
    flow_register_with(mq, "Other", &r, TYPE(.no_outq = 1));
    for (int i = 0; i < 100; i++)
        flow_publish(mq, "Other", "x");
    OK(publish(mq, "first", 0));
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "Other", 100);
    for (int i = 0; i < 20; i++) { /* there is room again and again */
        int err;
        do
            err = bgmq_publish(mq, "Other", "x", 1, &MESSAGE(.wait_ms = 1000), NULL);
        while (err == BGMQ_EFULL);
        OK(err);
    }
    flow_wait_ended(mq, "Other", 120);
    ck_assert_uint_le(mq->budget.used, mq->budget.max);
    OK(bgmq_pause(mq, "T"));
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

static int publish_safely(struct bgmq_job *job, void *ctx)
{
    struct self *s = ctx;
    int64_t begin = harness_now();
    s->err = bgmq_publish(bgmq_job_service(job), "Out", "x", 1,
                          &MESSAGE(.durability = BGMQ_DISK), NULL);
    s->took_ms = ms_since(begin);
    counter_add(&s->done, 1);
    return BGMQ_DONE;
}

/* Somebody else has the database; a handler does not wait the 30 s that others would. */
START_TEST(a_handler_does_not_wait_for_a_busy_store)
{
    struct self s = {.err = 0};
    sqlite3 *db;
    counter_init(&s.done);
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", publish_safely, &s, NULL));
    OK(bgmq_publish(mq, "T", "x", 1, NULL, NULL));
    ck_assert_int_eq(sqlite3_open(flow_database(), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, (int)flow_patience());
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    OK(bgmq_start(mq));
    counter_wait(&s.done, 1);
    ck_assert_int_eq(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    FAILS(BGMQ_EBUSY, s.err);
    flow_close(mq);
    counter_fini(&s.done);
}
END_TEST

/* The bound of the service: another type's messages go, and nobody tells the one that waits. */
START_TEST(room_in_the_memory_of_the_service_is_noticed)
{
    static char body[200 * 1024];
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq =
        flow_open_with(_i, SERVICE(.max_bytes = 1 << 20, .durability = BGMQ_MEMORY));
    flow_register_with(mq, "Other", &r, TYPE(.no_outq = 1));
    int err = 0, n = 0;
    while ((err = bgmq_publish(mq, "Other", body, sizeof(body), NULL, NULL)) == 0)
        n++;
    FAILS(BGMQ_EFULL, err);
    FAILS(BGMQ_EFULL,
          bgmq_publish(mq, "T", body, sizeof(body), &MESSAGE(.wait_ms = 20), NULL));
    OK(bgmq_start(mq));
    OK(bgmq_publish(mq, "T", body, sizeof(body),
                    &MESSAGE(.wait_ms = 1000 * flow_patience()), NULL));
    flow_wait_ended(mq, "Other", (uint64_t)n);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

/* ---- what else takes memory ---------------------------------------------------------- */

static char large[100 * 1024];

static int publish_large(struct bgmq *mq, const char *type, unsigned wait_ms)
{
    return bgmq_publish(mq, type, large, sizeof(large), &MESSAGE(.wait_ms = wait_ms),
                        NULL);
}

/* What has ended well is kept for who wants to see it, but holds nobody up.  The bound is that of
 * the service, then that of the type. */
START_TEST(outq_gives_way_to_what_comes_in)
{
    int of_type = _i / 2;
    struct recorder r;
    recorder_init(&r);
    struct bgmq *mq = flow_open_with(
        _i % 2, SERVICE(.max_bytes = of_type ? 0 : 1 << 20, .durability = BGMQ_MEMORY));
    flow_register_with(mq, "A", &r, TYPE(.max_bytes = of_type ? 1 << 20 : 0));
    flow_register(mq, "B", &r);
    OK(bgmq_start(mq));
    for (unsigned i = 1; i <= 30; i++) {
        OK(publish_large(mq, "A", 0));
        flow_wait_ended(mq, "A", i);
    }
    uint64_t kept = flow_collection(mq, "A").outq;
    ck_assert_uint_ge(kept, 5);
    ck_assert_uint_le(kept, 11);
    OK(publish_large(mq, "A", 0));
    flow_wait_ended(mq, "A", 31);
    for (unsigned i = 1; i <= 10 && !of_type; i++) { /* another type's, too */
        OK(publish_large(mq, "B", 0));
        flow_wait_ended(mq, "B", i);
    }
    OK(bgmq_stop(mq, 0));
    int n = 0;
    while (publish_large(mq, "A", 0) == 0)
        n++;
    ck_assert_int_ge(n, 8); /* what waits does not give way */
    ck_assert_int_le(n, 11);
    ck_assert_uint_eq(flow_collection(mq, "A").outq, 0);
    ck_assert_uint_eq(flow_collection(mq, "A").inq, (unsigned)n);
    flow_close(mq);
    recorder_fini(&r);
}
END_TEST

struct keeper {
    struct counter done;
    int err; /* of the last call */
    int result;
};

/* Keeps as much as it may, and is tried again in an hour. */
static int keep_much(struct bgmq_job *job, void *ctx)
{
    struct keeper *k = ctx;
    k->err = k->result ? bgmq_job_result(job, large, sizeof(large))
                       : bgmq_job_save_cursor(job, large, 64 << 10, BGMQ_BEHIND);
    counter_add(&k->done, 1);
    return k->result ? BGMQ_DONE : bgmq_job_snooze(job, 3600000);
}

/* _i / 2: cursors; results. */
START_TEST(cursors_and_results_are_within_the_bound)
{
    struct keeper k = {.result = _i / 2};
    counter_init(&k.done);
    struct bgmq *mq = flow_open_with(_i % 2, SERVICE(.max_bytes = 1 << 20));
    OK(bgmq_register(mq, "T", keep_much, &k, &TYPE(.outq_limit = 1000)));
    OK(bgmq_start(mq));
    int n = 0;
    while (!k.err && n < 40) {
        OK(publish(mq, "x", 0));
        counter_wait(&k.done, ++n);
    }
    if (k.result) { /* the oldest have gone for the newest */
        OK(k.err);
        flow_wait_ended(mq, "T", 40);
        ck_assert_uint_lt(flow_collection(mq, "T").outq, 12);
        ck_assert_uint_ge(flow_collection(mq, "T").outq, 5);
    } else {
        FAILS(BGMQ_EFULL, k.err);
        ck_assert_int_ge(n, 10);
        ck_assert_int_le(n, 17);
        FAILS(BGMQ_EFULL, publish_large(mq, "Other", 0));
        WAIT_UNTIL(flow_collection(mq, "T").delayed == (unsigned)n);
        OK(bgmq_flush(mq));
        ck_assert_int_eq(bgmq_discard(mq, "T", NULL), n); /* and all is given back */
        OK(bgmq_flush(mq));
    }
    OK(bgmq_stop(mq, 0));
    n = 0;
    while (publish_large(mq, "Other", 0) == 0)
        n++;
    ck_assert_int_ge(n, 8);
    flow_close(mq);
    counter_fini(&k.done);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bound");
    TCase *tc = flow_case(s, "outside");
    flow_add_both(tc, a_full_type_refuses_at_once_or_after_the_wait);
    flow_add_both(tc, the_bound_on_bytes_holds);
    flow_add_both(tc, who_waits_gets_in_in_the_order_they_came);
    flow_add_both(tc, who_waits_at_close_is_told);
    flow_add_both(tc, room_in_the_memory_of_the_service_is_noticed);
    tcase_add_loop_test(tc, outq_gives_way_to_what_comes_in, 0, 4);
    tcase_add_loop_test(tc, cursors_and_results_are_within_the_bound, 0, 4);
    tc = flow_case(s, "inside");
    flow_add_both(tc, a_handler_never_waits_for_room);
    flow_add_both(tc, who_publishes_to_itself_for_ever_harms_no_other_type);
    flow_add_both(tc, who_breeds_without_a_bound_stays_within_the_memory);
    tcase_add_test(tc, a_handler_does_not_wait_for_a_busy_store);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
