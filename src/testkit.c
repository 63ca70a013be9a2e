/* testkit.c - a service whose clock and workers obey a test (see bgmq_test.h).
 *
 * Handlers run on the thread that calls, one at a time: who comes while one runs waits for its
 * end, or is told EDEADLK when it is the handler itself.  A database keeps its own thread, so
 * before each message this file waits until the journal holds nothing back and all loads are
 * done: then what runs next depends on the calls of the test alone.  No lock is held while a
 * handler runs. */
#include <bgmq_test.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service.h"

#define MS               INT64_C(1000000)
#define START_DEFAULT_MS INT64_C(1893456000000) /* 2030-01-01 */

enum { DRAIN_MAX = 100000, SETTLE_ROUNDS = 10000 };

/* One publish. */
struct record {
    struct message *m; /* a reference */
    char *name;        /* of the type or queue */
    int64_t due_ms;
};

struct testkit {
    struct kit kit; /* first: what the library sees of it */
    struct clock clock;
    struct bgmq *mq;         /* set once */
    _Atomic int64_t past_ms; /* since START_MS */
    int64_t start_ms;        /* set once */
    _Atomic bool inside;     /* handlers run in bgmq_publish */

    struct monitor idle; /* changes when nobody runs any more */
    /* protected by idle */
    bool busy, ended;
    pthread_t runner; /* while busy */
    struct record *records;
    size_t n, cap;
    bool forgot; /* a record could not be made */
    char *text;  /* lent by bgmq_test_missing */
};

/* ---- the clock --------------------------------------------------------------------- */

static int64_t wall_ms(void *ctx)
{
    struct testkit *k = ctx;
    return k->start_ms + atomic_load(&k->past_ms);
}

static int64_t mono_ns(void *ctx)
{
    struct testkit *k = ctx;
    return (1000 + atomic_load(&k->past_ms)) * MS;
}

/* ---- who runs ---------------------------------------------------------------------- */

static bool is_runner(struct testkit *k)
{
    bgmqi_monitor_enter(&k->idle);
    bool yes = k->busy && pthread_equal(k->runner, pthread_self());
    bgmqi_monitor_leave(&k->idle);
    return yes;
}

/* Waits until nobody runs. */
static void wait_idle(struct testkit *k) REQUIRES(k->idle)
{
    while (k->busy)
        bgmqi_monitor_wait(&k->idle, INT64_MAX);
}

/* From here to leave() this thread alone runs handlers.  ECLOSED; EDEADLK: it does already. */
static int enter(struct testkit *k)
{
    if (is_runner(k))
        return BGMQ_EDEADLK;
    bgmqi_monitor_enter(&k->idle);
    wait_idle(k);
    int err = k->ended ? BGMQ_ECLOSED : 0;
    k->busy = !err;
    k->runner = pthread_self();
    bgmqi_monitor_leave(&k->idle);
    return err;
}

static void leave(struct testkit *k)
{
    bgmqi_monitor_enter(&k->idle);
    k->busy = false;
    bgmqi_monitor_change(&k->idle);
    bgmqi_monitor_leave(&k->idle);
}

/* ---- one message ------------------------------------------------------------------- */

static int add_moves(void *ctx, struct type *t)
{
    *(bool *)ctx |= bgmqi_type_moves(t);
    return 0;
}

static void nothing(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
}

/* Makes due what is due, and waits until everything is where it belongs.  EBUSY, EFULL, ESTORE: the
 * database does not do its part. */
static int settle(struct testkit *k)
{
    struct bgmq *mq = k->mq;
    bool moves = true;
    for (unsigned i = 0; i < SETTLE_ROUNDS; i++) {
        bool moved = moves; /* what came in since the look may be due */
        moves = false;
        bgmqi_ticker_turn(mq->ticker);
        if (!mq->journal)
            return 0;
        bgmqi_registry_each(mq->registry, false, add_moves, &moves);
        if (!moves && !moved)
            return 0;
        /* Also when nothing seems to move: a load may be at work. */
        int err = bgmqi_journal_run(mq->journal, nothing, NULL,
                                    mq->config.publish_timeout_ms * MS);
        if (err)
            return err;
    }
    return BGMQ_EBUSY;
}

struct search {
    struct testkit *k;
    const char *name; /* NULL: any */
};

/* The worker of T; NULL: it was not registered yet. */
static struct worker *worker_of(struct bgmq *mq, const struct type *t)
{
    struct worker *w = NULL;
    lock_take(&mq->life);
    for (struct crew *c = mq->crews; c && !w; c = c->next)
        if (c->type == t)
            w = bgmqi_pool_first(c->pool);
    lock_drop(&mq->life);
    return w;
}

/* 1: a message of T ran. */
static int step_type(void *ctx, struct type *t)
{
    struct search *s = ctx;
    if (s->name && strcmp(s->name, bgmqi_type_name(t)) != 0)
        return 0;
    struct worker *w = worker_of(s->k->mq, t);
    return w && bgmqi_worker_step(w);
}

/* Between enter() and leave(). */
static int step(struct testkit *k, const char *name)
{
    struct search s = {.k = k, .name = name};
    int err = settle(k);
    return err ? err : bgmqi_registry_each(k->mq->registry, true, step_type, &s);
}

static int drain(struct testkit *k, unsigned max)
{
    int n = 0, ran = 1;
    while ((unsigned)n < max && (ran = step(k, NULL)) > 0)
        n += ran;
    return ran < 0 ? ran : n;
}

/* ---- what the library tells -------------------------------------------------------- */

static void on_published(struct kit *kit, const char *name, struct message *m,
                         int64_t due_ms)
{
    struct testkit *k = (struct testkit *)kit;
    char *copy = strdup(name);
    bgmqi_monitor_enter(&k->idle);
    if (copy && k->n == k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 64;
        struct record *more = reallocarray(k->records, cap, sizeof(*more));
        if (more) {
            k->records = more;
            k->cap = cap;
        }
    }
    if (copy && k->n < k->cap) {
        bgmqi_message_ref(m);
        k->records[k->n++] = (struct record){.m = m, .name = copy, .due_ms = due_ms};
        copy = NULL;
    } else {
        k->forgot = true;
    }
    bgmqi_monitor_leave(&k->idle);
    free(copy);
}

static void on_run(struct kit *kit)
{
    struct testkit *k = (struct testkit *)kit;
    /* In a handler the message waits: whoever runs the handler goes on with it. */
    if (!atomic_load(&k->inside) || bgmqi_handle_in_handler(k->mq) || enter(k) != 0)
        return;
    int n = drain(k, DRAIN_MAX);
    leave(k);
    if (n < 0)
        bgmqi_log(&k->mq->config.log, BGMQ_LOG_ERROR,
                  "test service: the database does not answer: %s", bgmq_strerror(n));
}

static void on_end(struct kit *kit)
{
    struct testkit *k = (struct testkit *)kit;
    bgmqi_monitor_enter(&k->idle);
    wait_idle(k);
    k->ended = true;
    bgmqi_monitor_leave(&k->idle);
}

static void forget(struct testkit *k)
{
    for (size_t i = 0; i < k->n; i++) {
        bgmqi_message_unref(k->records[i].m);
        free(k->records[i].name);
    }
    k->n = 0;
    k->forgot = false;
}

static void on_free(struct kit *kit)
{
    struct testkit *k = (struct testkit *)kit;
    forget(k);
    free(k->records);
    free(k->text);
    bgmqi_monitor_fini(&k->idle);
    free(k);
}

/* ---- public: time and messages ------------------------------------------------------ */

/* 0, with the kit of MQ in *RET. */
static int kit_of(struct bgmq *mq, struct testkit **ret)
{
    int err = bgmqi_handle_enter(mq);
    if (!err && !mq->kit)
        err = BGMQ_EINVAL;
    if (!err)
        *ret = (struct testkit *)mq->kit;
    return err;
}

static struct testkit *kit_new(int64_t start_ms)
{
    struct testkit *k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    bgmqi_monitor_init(&k->idle, RANK_KIT);
    k->kit = (struct kit){on_published, on_run, on_end, on_free};
    k->clock = (struct clock){
        .wall_ms = wall_ms, .mono_ns = mono_ns, .rough_ms = wall_ms, .ctx = k};
    k->start_ms = start_ms ? start_ms : START_DEFAULT_MS;
    return k;
}

int bgmq_test_open(struct bgmq **ret, const struct bgmq_options *options,
                   int64_t start_ms, struct bgmq_error *error)
{
    if (!ret || start_ms < 0)
        return BGMQ_EINVAL;
    struct testkit *k = kit_new(start_ms);
    if (!k)
        return BGMQ_ENOMEM;
    struct bgmq *mq;
    int err = bgmqi_service_open_kit(&mq, options, &k->clock, &k->kit, error);
    if (err) {
        on_free(&k->kit);
        return err;
    }
    k->mq = mq;
    err = bgmq_start(mq);
    if (err)
        bgmq_free(mq);
    else
        *ret = mq;
    return err;
}

int bgmq_test_inline(struct bgmq *mq, int on)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (!err)
        atomic_store(&k->inside, on != 0);
    return err;
}

int bgmq_test_advance(struct bgmq *mq, int64_t ms)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (err)
        return err;
    if (ms < 0)
        return BGMQ_EINVAL;
    atomic_fetch_add(&k->past_ms, ms);
    return settle(k);
}

int64_t bgmq_test_now(struct bgmq *mq)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    return err ? err : wall_ms(k);
}

int bgmq_test_step(struct bgmq *mq, const char *type)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (!err && type && !bgmqi_registry_names(type))
        err = BGMQ_EINVAL;
    if (!err)
        err = enter(k);
    if (err)
        return err;
    int n = step(k, type);
    if (n > 0 && atomic_load(&k->inside)) {
        err = drain(k, DRAIN_MAX); /* what the handler published */
        n = err < 0 ? err : n;
    }
    leave(k);
    return n;
}

int bgmq_test_drain(struct bgmq *mq, unsigned max)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (!err && max > INT32_MAX)
        err = BGMQ_EINVAL;
    if (!err)
        err = enter(k);
    if (err)
        return err;
    int n = drain(k, max ? max : DRAIN_MAX);
    leave(k);
    return n;
}

/* ---- public: what was published ------------------------------------------------------ */

static bool matches(const struct record *r, const char *type, const void *body,
                    size_t len)
{
    return (!type || strcmp(r->name, type) == 0) &&
           (!body || (r->m->len == len && memcmp(r->m->body, body, len) == 0));
}

/* REQUIRES(k->idle). */
static int count(const struct testkit *k, const char *type, const void *body, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < k->n; i++)
        n += matches(&k->records[i], type, body, len);
    return k->forgot ? BGMQ_ENOMEM : n;
}

int bgmq_test_published(struct bgmq *mq, const char *type, const void *body, size_t len)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (!err && !body && len)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    bgmqi_monitor_enter(&k->idle);
    int n = count(k, type, body, len);
    bgmqi_monitor_leave(&k->idle);
    return n;
}

int bgmq_test_record(struct bgmq *mq, size_t n, struct bgmq_test_record *ret)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (!err && !ret)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    bgmqi_monitor_enter(&k->idle);
    if (n >= k->n) {
        err = k->forgot ? BGMQ_ENOMEM : BGMQ_ENOENT;
    } else {
        const struct record *r = &k->records[n];
        const struct message_ext *x = message_ext(r->m);
        *ret = (struct bgmq_test_record){.id = r->m->id,
                                         .type = r->name,
                                         .body = r->m->body,
                                         .len = r->m->len,
                                         .priority = r->m->priority,
                                         .due_ms = r->due_ms,
                                         .tag = x ? x->tag : NULL,
                                         .unique_key = x ? x->unique_key : NULL};
    }
    bgmqi_monitor_leave(&k->idle);
    return err;
}

int bgmq_test_forget(struct bgmq *mq)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (err)
        return err;
    bgmqi_monitor_enter(&k->idle);
    forget(k);
    bgmqi_monitor_leave(&k->idle);
    return 0;
}

/* ---- the text of a failed assert ----------------------------------------------------- */

enum { SHOWN_BYTES = 100, SHOWN_RECORDS = 20 };

/* Adds TYPE "BODY" to F, with what is not printable as \xHH. */
static void show(FILE *f, const char *type, const void *body, size_t len)
{
    const unsigned char *p = body;
    fprintf(f, "%s \"", type);
    for (size_t i = 0; i < len && i < SHOWN_BYTES; i++)
        if (p[i] >= ' ' && p[i] <= '~' && p[i] != '"' && p[i] != '\\')
            fputc(p[i], f);
        else
            fprintf(f, "\\x%02x", p[i]);
    fputs(len > SHOWN_BYTES ? "\"..." : "\"", f);
}

/* REQUIRES(k->idle).  What was wanted and what there is, to be freed; NULL: no memory. */
static char *explain(const struct testkit *k, const char *type, const void *body,
                     size_t len)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    fputs("nothing was published for ", f);
    if (body)
        show(f, type ? type : "any type, body", body, len);
    else
        fputs(type ? type : "any type", f);
    fputs(k->n ? "; published:" : "; nothing at all was", f);
    for (size_t i = 0; i < k->n && i < SHOWN_RECORDS; i++) {
        fputs(i ? ", " : " ", f);
        show(f, k->records[i].name, k->records[i].m->body, k->records[i].m->len);
    }
    if (k->n > SHOWN_RECORDS)
        fprintf(f, ", and %zu more", k->n - SHOWN_RECORDS);
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

const char *bgmq_test_missing(struct bgmq *mq, const char *type, const void *body,
                              size_t len)
{
    struct testkit *k;
    int err = kit_of(mq, &k);
    if (!err && !body && len)
        err = BGMQ_EINVAL;
    if (err)
        return bgmq_strerror(err);
    bgmqi_monitor_enter(&k->idle);
    int n = count(k, type, body, len);
    char *text = n == 0 ? explain(k, type, body, len) : NULL;
    if (text) {
        free(k->text);
        k->text = text;
    }
    bgmqi_monitor_leave(&k->idle);
    if (n > 0)
        return NULL;
    return text ? text : bgmq_strerror(BGMQ_ENOMEM);
}
