/* test_review.c - what a second review found: messages that nobody was told of, a queue that came
 * into memory whole, a key's place taken from who had it no more.  Each test is one such fault. */
#include "app.h"

#include "service.h"
#include "tx_hub.h"
#include "type_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A thread that holds a lock; the test's own does things that nobody may do who holds one. */
struct holder {
    struct lock *lock;
    struct gate held, enough;
    pthread_t thread;
};

static void *hold_it(void *arg)
{
    struct holder *h = arg;
    lock_take(h->lock);
    gate_open(&h->held);
    gate_wait(&h->enough);
    lock_drop(h->lock);
    return NULL;
}

static void hold(struct holder *h, struct lock *lock)
{
    h->lock = lock;
    gate_init(&h->held);
    gate_init(&h->enough);
    h->thread = harness_thread(hold_it, h);
    gate_wait(&h->held);
}

static void let_go(struct holder *h)
{
    gate_open(&h->enough);
    harness_join(h->thread);
    gate_fini(&h->held);
    gate_fini(&h->enough);
}

/* ---- who waits in bgmq_get --------------------------------------------------------- */

static void *get(void *mq)
{
    return flow_take(mq, "mq:T.inq");
}

/* Somebody waits, or has come and gone: then T's workers have to look. */
static bool is_urgent(struct bgmq *mq)
{
    return atomic_load(&bgmqi_registry_find(mq->registry, "T")->urgent);
}

static int run_until_cancelled(struct bgmq_job *job, void *ctx)
{
    counter_add(ctx, 1);
    WAIT_UNTIL(bgmq_job_cancelled(job));
    return BGMQ_RETRY;
}

/* A message that a stop puts back to the front of its queue is for who waits there. */
START_TEST(a_message_that_a_stop_puts_back_is_for_who_waits)
{
    struct counter begun;
    counter_init(&begun);
    struct bgmq *mq = flow_open(_i);
    OK(bgmq_register(mq, "T", run_until_cancelled, &begun, NULL));
    OK(bgmq_start(mq));
    uint64_t id = flow_publish(mq, "T", "x");
    counter_wait(&begun, 1);
    pthread_t t = harness_thread(get, mq);
    WAIT_UNTIL(is_urgent(mq));
    OK(bgmq_stop(mq, 20 * harness_scale()));
    struct bgmq_message *m = harness_join(t);
    ck_assert_uint_eq(bgmq_message_id(m), id);
    flow_done(m);
    flow_close(mq);
    counter_fini(&begun);
}
END_TEST

/* ---- who sleeps -------------------------------------------------------------------- */

enum { THREADS = 3 };

static struct barrier all_there;
static struct counter begun;
static struct gate others, exits;
static _Atomic bool primed;

/* Once each worker has been quick: the first call ends its thread. */
static int quick_then_exit(struct bgmq_job *job, void *ctx)
{
    if (!atomic_load(&primed)) {
        barrier_wait(&all_there);
        return BGMQ_DONE;
    }
    bool first = counter_add(&begun, 1) == 1;
    gate_wait(first ? &exits : &others);
    if (first)
        pthread_exit(NULL);
    return BGMQ_DONE;
}

static unsigned sleepers(struct type *t)
{
    unsigned n = 0;
    bgmqi_type_lock(t);
    for (struct desk *d = t->parked; d; d = d->next_parked)
        n++;
    bgmqi_type_unlock(t);
    return n;
}

/* A worker whose handler ends its thread leaves claimed messages, at the moment between "they may
 * claim again" and the wake of all. */
START_TEST(one_that_leaves_wakes_one)
{
    enum { N = 60 };
    struct fake_clock fake;
    struct bgmq *mq = NULL;
    barrier_init(&all_there, THREADS);
    counter_init(&begun);
    gate_init(&others);
    gate_init(&exits);
    fake_clock_init(&fake, INT64_C(1523303089000)); /* stands: all are quick */
    OK(bgmqi_service_open(&mq, &SERVICE(.database = NULL), &fake.clock, NULL));
    OK(bgmq_register(mq, "T", quick_then_exit, NULL, &TYPE(.threads = THREADS)));
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    OK(bgmq_start(mq));
    flow_publish_numbers(mq, "T", THREADS);
    flow_wait_ended(mq, "T", THREADS);
    OK(bgmq_pause(mq, "T"));
    atomic_store(&primed, true);
    flow_publish_numbers(mq, "T", N);
    OK(bgmq_resume(mq, "T"));
    counter_wait(&begun, THREADS);
    OK(bgmq_pause(mq, "T"));
    gate_open(&others);
    WAIT_UNTIL(sleepers(t) == THREADS - 1);
    atomic_store(&t->paused, false); /* what bgmq_resume does first */
    gate_open(&exits);
    flow_wait_ended(mq, "T", THREADS + N);
    OK(bgmq_resume(mq, "T"));
    ck_assert_uint_eq(flow_stats(mq, "T").processed, THREADS + N - 1);
    flow_close(mq);
    fake_clock_fini(&fake);
}
END_TEST

/* ---- a backlog --------------------------------------------------------------------- */

/* What was delayed stands at the head, beyond all that is in the database only. */
START_TEST(one_from_beyond_the_frontier_does_not_bring_all_into_memory)
{
    enum { N = 400 };
    struct fake_clock fake;
    struct bgmq *mq = NULL;
    char bodies[8 * 1024];
    fake_clock_init(&fake, INT64_C(1523303089000));
    OK(bgmqi_service_open(&mq, &SERVICE(.database = flow_database()), &fake.clock, NULL));
    struct recorder r;
    recorder_init(&r);
    flow_register_with(mq, "T", &r, TYPE(.window = 4));
    flow_publish_numbers(mq, "T", N);
    flow_publish_with(mq, "T", "late", MESSAGE(.delay_ms = 1));
    OK(bgmq_flush(mq));
    fake_clock_advance(&fake, 1);
    WAIT_UNTIL(flow_collection(mq, "T").delayed == 0);
    for (int i = 0; i < 4; i++) {
        char text[12];
        snprintf(text, sizeof(text), "%d", i);
        flow_expect(mq, "mq:T.inq", text);
    }
    for (int i = 0; i < 50; i++) /* a turn of the journal's each, and of its loads */
        OK(bgmq_flush(mq));
    flow_bodies(mq, "mq:T.inq", bodies, sizeof(bodies));
    ck_assert_msg(strncmp(bodies, "late ", 5) == 0, "%s", bodies);
    int held = 0;
    for (char *p = bodies; *p; p++)
        held += *p == ' ';
    ck_assert_msg(held <= 12, "%d bodies in memory", held);
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", N + 1 - 4);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
    fake_clock_fini(&fake);
}
END_TEST

enum { SNOOZES = 200000, WAITING_MAX = 80000 };

static int snooze_often(struct bgmq_job *job, void *mq)
{
    static unsigned calls; /* there is one thread */
    if (++calls % 1000 == 0)
        ck_assert_uint_le(flow_counters(mq).journal_waiting, WAITING_MAX);
    return calls < SNOOZES ? bgmq_job_snooze(job, 0) : BGMQ_DONE;
}

/* Each time is a change for the database, which is slower. */
START_TEST(one_that_comes_back_at_once_does_not_outrun_the_journal)
{
    struct bgmq *mq = flow_open(1);
    OK(bgmq_register(mq, "T", snooze_often, mq, NULL));
    flow_publish_numbers(mq, "T", 1);
    OK(bgmq_start(mq));
    WAIT_UNTIL(flow_stats(mq, "T").processed == 1);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
}
END_TEST

/* ---- the oldest -------------------------------------------------------------------- */

/* The row of one that runs is no message that waits. */
START_TEST(the_oldest_of_those_that_wait_is_not_one_that_runs)
{
    struct gate gate;
    struct recorder r;
    gate_init(&gate);
    recorder_init(&r);
    r.gate = &gate;
    struct bgmq *mq = flow_open(1);
    flow_publish_numbers(mq, "T", 3);
    flow_close(mq);
    mq = flow_open(1); /* their rows are in the backlog now */
    flow_register(mq, "T", &r);
    OK(bgmq_start(mq));
    counter_wait(&r.begun, 1);
    ck_assert_int_eq(bgmq_discard(mq, "T", &(struct bgmq_select){.max = 1}), 1);
    gate_open(&gate);
    flow_wait_ended(mq, "T", 2);
    char bodies[64];
    ck_assert_str_eq(recorder_bodies(&r, bodies, sizeof(bodies)), "0 2 ");
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 0);
    recorder_fini(&r);
    gate_fini(&gate);
}
END_TEST

/* ---- a key ------------------------------------------------------------------------- */

struct replacement {
    struct bgmq *mq;
    struct bgmq_receipt receipt;
};

static void *replace(void *arg)
{
    struct replacement *p = arg;
    OK(bgmq_publish(p->mq, "T", "r", 1,
                    &MESSAGE(.unique_key = "k", .unique = BGMQ_UNIQUE_WAITING,
                             .on_conflict = BGMQ_CONFLICT_REPLACE,
                             .durability = BGMQ_COMMIT),
                    &p->receipt));
    return NULL;
}

/* While the publisher waits for its turn, the holder starts, which ends its claim to the key,
 * fails, and goes to where only the database knows it; somebody else takes the key. */
START_TEST(who_has_given_up_its_key_is_not_replaced)
{
    enum { HOUR = 3600 * 1000 };
    struct recorder r;
    recorder_init(&r);
    r.failures = 1;
    r.failure = BGMQ_RETRY;
    struct bgmq *mq = flow_open(1);
    flow_register_with(
        mq, "T", &r,
        TYPE(.window = 4, .backoff_base_ms = 10 * HOUR, .backoff_max_ms = 20 * HOUR));
    for (int i = 0; i < 20; i++)
        flow_publish_with(mq, "T", "delayed", MESSAGE(.delay_ms = HOUR + i));
    struct bgmq_message_options keyed =
        MESSAGE(.unique_key = "k", .unique = BGMQ_UNIQUE_WAITING,
                .durability = BGMQ_COMMIT);
    uint64_t first = flow_publish_with(mq, "T", "first", keyed);
    do
        OK(bgmq_flush(mq)); /* what was moved out of memory, too */
    while (flow_counters(mq).journal_waiting);
    struct replacement p = {.mq = mq};
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    struct holder operation;
    hold(&operation, &t->operating);
    uint64_t commits = flow_counters(mq).commits;
    pthread_t thread = harness_thread(replace, &p);
    WAIT_UNTIL(flow_counters(mq).commits > commits); /* it knows the holder */
    OK(bgmq_start(mq));
    flow_wait_ended(mq, "T", 1);
    OK(bgmq_stop(mq, 0));
    OK(bgmq_flush(mq));
    uint64_t second = flow_publish_with(mq, "T", "second", keyed);
    ck_assert_uint_ne(second, first);
    let_go(&operation);
    harness_join(thread);
    struct bgmq_info info;
    OK(bgmq_find(mq, "T", first, &info));
    ck_assert_int_eq(info.state, BGMQ_STATE_DELAYED);
    OK(bgmq_find(mq, "T", p.receipt.id, &info));
    ck_assert_uint_eq(p.receipt.replaced, second);
    flow_close(mq);
    ck_assert_int_eq(flow_rows(), 22);
    recorder_fini(&r);
}
END_TEST

/* ---- a transaction that outlives the service --------------------------------------- */

static void *close_service(void *mq)
{
    OK(bgmq_close(mq));
    return NULL;
}

static bool is_shut(struct bgmq *mq)
{
    if (!bgmqi_tx_hub_enter(mq->hub))
        return true;
    bgmqi_tx_hub_leave(mq->hub);
    return false;
}

/* The service is closed while a transaction has a delayed message, and the journal another one
 * that waits for that transaction's lock. */
START_TEST(a_transaction_that_ends_while_the_service_is_closed_takes_only_its_own)
{
    struct bgmq *mq = flow_open(1);
    sqlite3 *db = app_open();
    OK(bgmq_sqlite_prepare(mq, db));
    flow_publish(mq, "T", "type");
    OK(bgmq_flush(mq));
    app_sql(db, "BEGIN IMMEDIATE");
    app_publish_with(mq, db, "T", "a", MESSAGE(.delay_ms = 3600 * 1000));
    flow_publish_with(mq, "T", "b",
                      MESSAGE(.delay_ms = 3600 * 1000, .durability = BGMQ_BEHIND));
    pthread_t t = harness_thread(close_service, mq);
    WAIT_UNTIL(is_shut(mq));
    app_sql(db, "ROLLBACK");
    harness_join(t);
    bgmq_free(mq);
    app_close(db);
    ck_assert_int_eq(flow_rows(), 2);
}
END_TEST

/* ---- what has ended well, and lies on a desk ----------------------------------------- */

struct desk_work {
    struct gate gate;
    struct counter held;
};

static int wait_if_slow(struct bgmq_job *job, void *ctx)
{
    struct desk_work *w = ctx;
    if (*(const char *)bgmq_job_body(job, NULL) == 's') {
        counter_add(&w->held, 1);
        gate_wait(&w->gate);
    }
    return BGMQ_DONE;
}

/* Has T's only worker learn that its handler is quick, so that it claims in batches. */
static void learn_quickness(struct bgmq *mq, uint64_t *ended)
{
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    int64_t mean_ns = 0, deadline = harness_deadline();
    while (mean_ns == 0 || mean_ns > 8000) {
        ck_assert_int_lt(harness_now(), deadline);
        flow_publish_numbers(mq, "T", 100);
        flow_wait_ended(mq, "T", *ended += 100);
        bgmqi_type_lock(t);
        lock_take(&t->desks->lock);
        mean_ns = t->desks->mean_ns;
        lock_drop(&t->desks->lock);
        bgmqi_type_unlock(t);
    }
}

/* The first of a batch, with BODY and KEY, has ended, and lies finished behind the second, which
 * takes long.  Publishes another like it. */
static void publish_behind(struct bgmq_type_options options, const char *body, size_t len,
                           const char *key)
{
    struct desk_work w;
    struct bgmq *mq = flow_open(0);
    struct bgmq_receipt first, again;
    uint64_t ended = 0;
    gate_init(&w.gate);
    counter_init(&w.held);
    OK(bgmq_register(mq, "T", wait_if_slow, &w, &options));
    OK(bgmq_start(mq));
    learn_quickness(mq, &ended);
    OK(bgmq_pause(mq, "T"));
    OK(bgmq_publish(mq, "T", body, len, &MESSAGE(.unique_key = key), &first));
    for (int i = 0; i < 3; i++) /* four: a batch of two */
        flow_publish(mq, "T", "slow");
    OK(bgmq_resume(mq, "T"));
    counter_wait(&w.held, 1);
    OK(bgmq_publish(mq, "T", body, len, &MESSAGE(.unique_key = key), &again));
    ck_assert_int_eq(again.duplicate, 0);
    ck_assert_uint_ne(again.id, first.id);
    gate_open(&w.gate);
    flow_wait_ended(mq, "T", ended + 5);
    flow_close(mq);
    gate_fini(&w.gate);
    counter_fini(&w.held);
}

START_TEST(key_of_what_lies_finished_on_a_desk_is_free)
{
    publish_behind(TYPE(.threads = 1), "k", 1, "k");
}
END_TEST

START_TEST(bytes_of_what_lies_finished_on_a_desk_are_free)
{
    static const char body[60000];
    publish_behind(TYPE(.threads = 1, .max_bytes = 100000), body, sizeof(body), NULL);
}
END_TEST

/* ---- what an attempt begins with ------------------------------------------------------ */

struct keeper {
    struct gate gate;
    struct progress *kept; /* by the first attempt */
    _Atomic int third;     /* the third found that */
};

static int keep_and_wait(struct bgmq_job *job, void *ctx)
{
    struct keeper *k = ctx;
    size_t len = 0;
    switch (job->message->run) {
    case 1:
        OK(bgmq_job_save_cursor(job, "1", 1, BGMQ_BEHIND));
        k->kept = bgmqi_progress_ref(message_progress(job->message));
        return bgmq_job_snooze(job, 1);
    case 2:
        gate_wait(&k->gate);
        return BGMQ_DONE;
    default:
        atomic_store(&k->third, *(const char *)bgmq_job_cursor(job, &len) == '1');
        return BGMQ_DONE;
    }
}

/* Has the ticker come MS later, and look at attempts. */
static void let_it_look(struct bgmq *mq, struct fake_clock *fake, int64_t ms)
{
    fake_clock_advance(fake, ms);
    for (int i = 0; i < 2; i++) { /* when the second is here, the first turn is over */
        flow_publish_with(mq, "Tick", "", MESSAGE(.delay_ms = 1));
        fake_clock_advance(fake, 1);
        flow_done(flow_take(mq, "mq:Tick.inq"));
    }
}

/* An attempt takes over what the last one kept.  It is not given up in the middle of that, when the
 * next one would do so, too, and one of them find what the other has put away. */
START_TEST(attempt_is_not_given_up_before_it_has_what_was_kept)
{
    struct keeper k = {.kept = NULL};
    struct fake_clock fake;
    struct bgmq *mq;
    gate_init(&k.gate);
    fake_clock_init(&fake, INT64_C(1523303089000));
    OK(bgmqi_service_open(&mq, NULL, &fake.clock, NULL));
    OK(bgmq_register(mq, "T", keep_and_wait, &k,
                     &TYPE(.threads = 2, .timeout_ms = 100, .stuck_ms = 50,
                           .backoff = BGMQ_BACKOFF_NONE)));
    OK(bgmq_start(mq));
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    flow_publish(mq, "T", "x");
    WAIT_UNTIL(flow_collection(mq, "T").delayed == 1);
    struct holder second;
    hold(&second, &k.kept->lock); /* so that the second comes no further */
    fake_clock_advance(&fake, 1);
    let_it_look(mq, &fake, 0);
    WAIT_UNTIL(bgmqi_type_running(t) == 1);
    let_it_look(mq, &fake, 200);
    ck_assert_uint_eq(flow_collection(mq, "T").timeouts, 0);
    let_go(&second);
    WAIT_UNTIL(flow_collection(mq, "T").timeouts == 1);
    WAIT_UNTIL(flow_stats(mq, "T").processed == 1);
    ck_assert(atomic_load(&k.third));
    gate_open(&k.gate);
    bgmqi_progress_unref(k.kept);
    flow_close(mq);
    gate_fini(&k.gate);
    fake_clock_fini(&fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("review");
    TCase *tc = flow_case(s, "get");
    flow_add_both(tc, a_message_that_a_stop_puts_back_is_for_who_waits);
    tc = flow_case(s, "wake");
    tcase_add_test(tc, one_that_leaves_wakes_one);
    tc = flow_case(s, "backlog");
    tcase_add_test(tc, one_from_beyond_the_frontier_does_not_bring_all_into_memory);
    tcase_add_test(tc, one_that_comes_back_at_once_does_not_outrun_the_journal);
    tcase_add_test(tc, the_oldest_of_those_that_wait_is_not_one_that_runs);
    tc = flow_case(s, "key");
    tcase_add_test(tc, who_has_given_up_its_key_is_not_replaced);
    tcase_add_test(tc, key_of_what_lies_finished_on_a_desk_is_free);
    tcase_add_test(tc, bytes_of_what_lies_finished_on_a_desk_are_free);
    tc = flow_case(s, "kept");
    tcase_add_test(tc, attempt_is_not_given_up_before_it_has_what_was_kept);
    tc = flow_case(s, "tx");
    tcase_add_test(
        tc, a_transaction_that_ends_while_the_service_is_closed_takes_only_its_own);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
