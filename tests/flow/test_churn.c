/* test_churn.c - everything that moves messages, all at once, on a type of which memory holds few:
 * when all is quiet again the books of the type are at zero. */
#include "app.h"

#include "service.h"
#include "type_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS = 512 };

static struct bgmq *mq;
static int with_db;
static _Atomic bool over;
static _Atomic uint64_t ids[IDS];
static _Atomic unsigned n_ids;

static unsigned draw(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

static uint64_t some_id(unsigned *seed)
{
    return atomic_load(&ids[draw(seed, IDS)]);
}

static int handle(struct bgmq_job *job, void *ctx)
{
    static _Atomic unsigned calls; /* one that snoozes has to wake up some time */
    unsigned seed =
        (unsigned)bgmq_job_id(job) * 2654435761u + atomic_fetch_add(&calls, 1);
    switch (draw(&seed, 12)) {
    case 0:
    case 1:
        return BGMQ_RETRY;
    case 2:
        return BGMQ_PERMANENT;
    case 3:
        return BGMQ_DISCARD;
    case 4:
        return bgmq_job_snooze(job, draw(&seed, 5));
    case 5:
        bgmq_job_save_cursor(job, "cursor", 6, BGMQ_BEHIND);
        return BGMQ_RETRY;
    default:
        return BGMQ_DONE;
    }
}

static struct bgmq_message_options some_options(unsigned *seed, char key[16])
{
    static const enum bgmq_durability levels[] = {BGMQ_MEMORY, BGMQ_BEHIND, BGMQ_BEHIND,
                                                  BGMQ_COMMIT};
    struct bgmq_message_options o = {.durability = levels[draw(seed, 4)]};
    if (!with_db)
        o.durability = BGMQ_MEMORY;
    if (draw(seed, 3) == 0)
        o.priority = 1 + (int)draw(seed, 3);
    if (draw(seed, 3) == 0)
        o.delay_ms = draw(seed, 30);
    if (draw(seed, 6) == 0)
        o.expire_ms = 1 + draw(seed, 40);
    if (draw(seed, 4) == 0) {
        snprintf(key, 16, "k%u", draw(seed, 6));
        o.unique_key = key;
        o.unique = (enum bgmq_unique)draw(seed, 4);
        if (o.unique == BGMQ_UNIQUE_PERIOD)
            o.unique_period_ms = 1 + draw(seed, 30);
        o.on_conflict = draw(seed, 2) ? BGMQ_CONFLICT_REPLACE : BGMQ_CONFLICT_KEEP;
    }
    return o;
}

static void *publisher(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        char key[16];
        struct bgmq_message_options o = some_options(&seed, key);
        struct bgmq_receipt r = {.id = 0};
        int err = bgmq_publish(mq, "T", "body", 4, &o, &r);
        ck_assert_msg(err == 0 || err == BGMQ_EFULL || err == BGMQ_EBUSY, "%s",
                      bgmq_errname(err));
        if (!err)
            atomic_store(&ids[atomic_fetch_add(&n_ids, 1) % IDS], r.id);
    }
    return NULL;
}

static void publish_tx(sqlite3 *db, unsigned delay_ms)
{
    int err = bgmq_publish_tx(mq, db, "T", "tx", 2, &MESSAGE(.delay_ms = delay_ms), NULL);
    ck_assert_msg(err == 0 || err == BGMQ_EFULL, "%s", bgmq_errname(err));
}

static void *tx_publisher(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    sqlite3 *db = app_open();
    OK(bgmq_sqlite_prepare(mq, db));
    while (!atomic_load(&over)) {
        app_sql(db, "BEGIN IMMEDIATE");
        for (unsigned i = draw(&seed, 4); i-- > 0;)
            publish_tx(db, draw(&seed, 20));
        app_sql(db, draw(&seed, 3) ? "COMMIT" : "ROLLBACK");
    }
    app_close(db);
    return NULL;
}

static void *operator(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        struct bgmq_info info;
        int err = 0;
        switch (draw(&seed, 10)) {
        case 0:
            err = bgmq_retry(mq, "T", NULL);
            break;
        case 1:
            err = bgmq_retry(mq, "T", &(struct bgmq_select){.max = 1 + draw(&seed, 9)});
            break;
        case 2:
            err = bgmq_discard(mq, "T", &(struct bgmq_select){.max = 1 + draw(&seed, 9)});
            break;
        case 3:
            err = bgmq_discard(mq, "T", &(struct bgmq_select){.id = some_id(&seed)});
            break;
        case 4:
            err = bgmq_cancel(mq, "T", &(struct bgmq_select){.max = 1 + draw(&seed, 9)},
                              "churn");
            break;
        case 5:
            err = bgmq_retry_pending(mq, NULL);
            break;
        case 6:
        case 7:
            err = bgmq_change(mq, "T", some_id(&seed),
                              &(struct bgmq_change){.set_priority = 1,
                                                    .priority = (int)draw(&seed, 3)});
            break;
        case 8:
            err = bgmq_find(mq, "T", some_id(&seed), &info);
            break;
        default:
            OK(bgmq_pause(mq, "T"));
            OK(bgmq_resume(mq, "T"));
        }
        ck_assert_msg(err >= 0 || err == BGMQ_ENOENT || err == BGMQ_EBUSY ||
                          err == BGMQ_EINVAL || err == BGMQ_EFULL,
                      "%s", bgmq_errname(err));
    }
    return NULL;
}

static void *taker(void *arg)
{
    static const char *const queues[] = {"mq:T.inq", "mq:T.priorityq", "mq:T.dlq",
                                         "mq:T.outq"};
    unsigned seed = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        struct bgmq_message *m;
        int err = bgmq_get(mq, queues[draw(&seed, 4)], draw(&seed, 3), &m);
        if (err == BGMQ_ETIMEOUT)
            continue;
        OK(err);
        if (draw(&seed, 2))
            OK(bgmq_ack(m));
        else
            OK(bgmq_nak(m, (int)draw(&seed, 2)));
        bgmq_message_free(m);
    }
    return NULL;
}

static void *stopper(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        OK(bgmq_stop(mq, 0));
        OK(bgmq_start(mq));
        OK(bgmq_set_threads(mq, "T", 1 + draw(&seed, 5)));
        for (int i = 0; i < 20 && !atomic_load(&over); i++)
            flow_collection(mq, "T");
    }
    return NULL;
}

static bool is_quiet(struct type *t)
{
    struct bgmq_collection c = flow_collection(mq, "T");
    if (c.inq + c.priorityq + c.delayed + c.dlq + c.running == 0) {
        bgmqi_type_lock(t);
        bool moves = t->limbo.len || t->leaving || t->out.len;
        bgmqi_type_unlock(t);
        if (!moves)
            return true;
    }
    OK(bgmq_flush(mq));
    bgmq_discard(mq, "T", NULL);
    return false;
}

static void check_books(struct type *t)
{
    OK(bgmq_flush(mq));
    bgmqi_type_lock(t);
    bgmqi_type_outq_limit(t, 0, SIZE_MAX);
    for (int lane = 0; lane < LANES; lane++) {
        const struct lane_state *l = &t->lanes[lane];
        ck_assert_uint_eq(l->stored, 0);
        ck_assert_uint_eq(l->in_journal, 0);
        ck_assert_uint_eq(l->reserved, 0);
        ck_assert_uint_eq(l->hauled, 0);
    }
    ck_assert_uint_eq(t->limbo.len, 0);
    ck_assert_uint_eq(t->expected.len, 0);
    ck_assert_uint_eq(t->out.len, 0);
    ck_assert_ptr_null(t->leaving);
    ck_assert_uint_eq(t->memory.used, 0);
    ck_assert_uint_eq(t->outq_bytes, 0);
    bgmqi_type_unlock(t);
}

START_TEST(after_all_kinds_of_moves_the_books_are_at_zero)
{
    enum { MILLISECONDS = 1000 };
    pthread_t threads[9];
    size_t n = 0;
    with_db = _i;
    mq = flow_open(_i);
    OK(bgmq_register(mq, "T", handle, NULL,
                     &TYPE(.threads = 3, .window = 8, .outq_limit = 20, .max_attempts = 4,
                           .backoff_base_ms = 3, .backoff_max_ms = 20,
                           .max_messages = 500, .wait_ms = 5)));
    struct type *t = bgmqi_registry_find(mq->registry, "T");
    OK(bgmq_start(mq));
    for (uintptr_t i = 1; i <= 2; i++) {
        threads[n++] = harness_thread(publisher, (void *)(i * 7919));
        threads[n++] = harness_thread(operator, (void *)(i * 104729));
        threads[n++] = harness_thread(taker, (void *)(i * 1299709));
    }
    threads[n++] = harness_thread(stopper, (void *)15485863);
    if (_i)
        threads[n++] = harness_thread(tx_publisher, (void *)32452843);
    int64_t until = harness_now() + MILLISECONDS * INT64_C(1000000);
    WAIT_UNTIL(harness_now() >= until);
    atomic_store(&over, true);
    for (size_t i = 0; i < n; i++)
        harness_join(threads[i]);
    WAIT_UNTIL(is_quiet(t));
    check_books(t);
    flow_close(mq);
    if (_i) {
        ck_assert_int_eq(flow_rows(), 0);
        ck_assert_int_eq(flow_sql("SELECT count(*) FROM bgmq_progress"), 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("churn");
    TCase *tc = flow_case(s, "books");
    flow_add_both(tc, after_all_kinds_of_moves_the_books_are_at_zero);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
