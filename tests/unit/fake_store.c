/* fake_store.c - see fake_store.h.  The operations of the store run on the journal's thread, and
 * on the test's at open and close. */
#include "fake_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the store ----------------------------------------------------------------------- */

static struct fake_store *fake_of(struct store *s)
{
    return (struct fake_store *)s;
}

/* The lock is held. */
static void put(struct fake_store *f, const char *word)
{
    size_t n = strlen(word);
    ck_assert_uint_lt(f->len + n + 1, sizeof(f->text));
    memcpy(f->text + f->len, word, n + 1);
    f->len += n;
}

static void note(struct fake_store *f, const char *word)
{
    pthread_mutex_lock(&f->lock);
    put(f, word);
    pthread_mutex_unlock(&f->lock);
}

/* The lock is held.  How the transaction that is made now ends. */
static int decide(struct fake_store *f, const struct store_op *ops, size_t n)
{
    if (f->failures) {
        f->failures -= f->failures > 0;
        return f->failure;
    }
    for (size_t i = 0; f->guilty && i < n; i++)
        if (ops[i].id == f->guilty)
            return STORE_FAIL_OP;
    return STORE_FAIL_NONE;
}

/* The lock is held. */
static void record(struct fake_store *f, struct store_op *ops, size_t n,
                   enum store_sync sync)
{
    char word[32] = "[";
    for (size_t i = 0; i < n; i++) {
        ops[i].result = ops[i].id == f->lost ? BGMQ_ELOST : 0;
        snprintf(word, sizeof(word), "%s%s%llu", i ? " " : "[",
                 ops[i].kind == STORE_SPILL ? "spill " : "",
                 (unsigned long long)ops[i].id);
        put(f, word);
    }
    put(f, sync == STORE_SYNC_FULL ? "]!" : "]");
    f->largest = n > f->largest ? n : f->largest;
}

static int apply(struct store *s, struct store_op *ops, size_t n, enum store_sync sync,
                 struct bgmq_error *text)
{
    struct fake_store *f = fake_of(s);
    counter_add(&f->begun, 1);
    gate_wait(&f->gate);
    pthread_mutex_lock(&f->lock);
    int failure = decide(f, ops, n);
    if (failure == STORE_FAIL_NONE)
        record(f, ops, n, sync);
    pthread_mutex_unlock(&f->lock);
    if (failure != STORE_FAIL_NONE) {
        snprintf(text->text, sizeof(text->text), "the fake store says %d", failure);
        counter_add(&f->failed, 1);
    }
    return failure;
}

static int reserve_ids(struct store *s, uint64_t n, uint64_t *first)
{
    struct fake_store *f = fake_of(s);
    pthread_mutex_lock(&f->lock);
    int no = f->no_ids;
    if (!no) {
        *first = f->next_id;
        f->next_id += n;
        put(f, "R");
    }
    pthread_mutex_unlock(&f->lock);
    return no ? BGMQ_ESTORE : 0;
}

static int leave(struct store *s, uint64_t next)
{
    struct fake_store *f = fake_of(s);
    pthread_mutex_lock(&f->lock);
    f->returned = next;
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static int checkpoint(struct store *s, int force)
{
    return atomic_load(&fake_of(s)->held);
}

static int upkeep(struct store *s, int64_t now_ms)
{
    struct fake_store *f = fake_of(s);
    return atomic_fetch_sub(&f->old, atomic_load(&f->old) > 0) > 0;
}

static uint64_t log_bytes(struct store *s)
{
    return 4711;
}

static bool checks(struct store *s)
{
    return atomic_load(&fake_of(s)->checks);
}

static int look(struct store *s, struct bgmq_error *text)
{
    struct fake_store *f = fake_of(s);
    int gone = atomic_load(&f->gone), warn = atomic_load(&f->warn);
    if (gone || warn)
        snprintf(text->text, sizeof(text->text), "the fake file is %s",
                 gone ? "gone" : "odd");
    atomic_store(&f->warn, warn > 0 ? warn - 1 : 0);
    return gone ? BGMQ_ESTORE : warn > 0;
}

static void store_close(struct store *s)
{
    note(fake_of(s), "X");
    counter_add(&fake_of(s)->closed, 1);
}

static const struct store_ops fake_ops = {.apply = apply,
                                          .reserve_ids = reserve_ids,
                                          .leave = leave,
                                          .upkeep = upkeep,
                                          .log_bytes = log_bytes,
                                          .checks = checks,
                                          .purge = NULL, /* nobody asks */
                                          .look = look,
                                          .checkpoint = checkpoint,
                                          .close = store_close};

void fake_fail(struct fake_store *f, int failure, int n)
{
    pthread_mutex_lock(&f->lock);
    f->failure = failure;
    f->failures = n;
    pthread_mutex_unlock(&f->lock);
}

void fake_blame(struct fake_store *f, uint64_t id)
{
    pthread_mutex_lock(&f->lock);
    f->guilty = id;
    pthread_mutex_unlock(&f->lock);
}

void fake_lose(struct fake_store *f, uint64_t id)
{
    pthread_mutex_lock(&f->lock);
    f->lost = id;
    pthread_mutex_unlock(&f->lock);
}

void fake_refuse_ids(struct fake_store *f, int refuse)
{
    pthread_mutex_lock(&f->lock);
    f->no_ids = refuse;
    pthread_mutex_unlock(&f->lock);
}

static void fake_init(struct fake_store *f)
{
    *f = (struct fake_store){.store.ops = &fake_ops, .next_id = 1};
    gate_init(&f->gate);
    gate_open(&f->gate);
    counter_init(&f->begun);
    counter_init(&f->failed);
    counter_init(&f->closed);
    ck_assert_int_eq(pthread_mutex_init(&f->lock, NULL), 0);
}

static void fake_fini(struct fake_store *f)
{
    gate_fini(&f->gate);
    counter_fini(&f->begun);
    counter_fini(&f->failed);
    counter_fini(&f->closed);
    pthread_mutex_destroy(&f->lock);
}

/* ---- upcalls ------------------------------------------------------------------------- */

static void tell(struct rig *r, uint64_t id, const char *what)
{
    pthread_mutex_lock(&r->lock);
    size_t len = strlen(r->events);
    snprintf(r->events + len, sizeof(r->events) - len, "%llu%s ", (unsigned long long)id,
             what);
    pthread_mutex_unlock(&r->lock);
}

static void on_committed(void *ctx, struct store_op *op, bool told)
{
    tell(ctx, op->id, op->result == BGMQ_ELOST ? (told ? ":lost" : ":lost untold") : "");
    counter_add(&((struct rig *)ctx)->committed, 1);
}

static void on_dropped(void *ctx, struct store_op *op, int err)
{
    char what[40];
    snprintf(what, sizeof(what), ":%s", bgmq_errname(err));
    tell(ctx, op->id, what);
    counter_add(&((struct rig *)ctx)->dropped, 1);
}

static void on_load(void *ctx, void *owner)
{
    struct rig *r = ctx;
    char word[32];
    snprintf(word, sizeof(word), "(%s)", (const char *)owner);
    note(&r->store, word);
    r->hurried = bgmqi_journal_hurried(r->journal);
    struct journal_load *again = r->again;
    r->again = NULL;
    if (again)
        bgmqi_journal_ask_load(r->journal, again);
    counter_add(&r->loads, 1);
}

static void on_failed(void *ctx)
{
    counter_add(&((struct rig *)ctx)->failed, 1);
}

/* ---- the journal --------------------------------------------------------------------- */

void rig_open(struct rig *r, unsigned interval_ms, unsigned batch)
{
    fake_init(&r->store);
    harness_log_init(&r->log);
    r->logger = (struct log){harness_log_keep, &r->log};
    r->again = NULL;
    r->events[0] = '\0';
    counter_init(&r->committed);
    counter_init(&r->dropped);
    counter_init(&r->loads);
    counter_init(&r->failed);
    ck_assert_int_eq(pthread_mutex_init(&r->lock, NULL), 0);
    struct journal_options o = {
        .flush_interval_ms = interval_ms,
        .flush_batch = batch,
        .stack_size = 1 << 20,
        .reader_limit_ms = 1,
        .log = &r->logger,
        .events = {on_committed, on_dropped, on_load, on_failed, r}};
    ck_assert_int_eq(bgmqi_journal_open(&r->journal, &r->store.store, &o), 0);
    rig_expect(r, "R");
    r->store.text[r->store.len = 0] = '\0';
}

void rig_open_lazy(struct rig *r)
{
    rig_open(r, NEVER_MS, 1000000);
}

void rig_close(struct rig *r)
{
    bgmqi_journal_free(r->journal);
    ck_assert_int_eq(counter_value(&r->store.closed), 1);
    fake_fini(&r->store);
    harness_log_fini(&r->log);
    counter_fini(&r->committed);
    counter_fini(&r->dropped);
    counter_fini(&r->loads);
    counter_fini(&r->failed);
    pthread_mutex_destroy(&r->lock);
}

struct journal_entry *rig_entry(uint64_t id, enum bgmq_durability level)
{
    struct journal_entry *e = bgmqi_journal_entry_new();
    ck_assert_ptr_nonnull(e);
    e->op.kind = STORE_INSERT;
    e->op.level = (uint8_t)level;
    e->op.id = id;
    e->tell = true;
    return e;
}

void rig_add(struct rig *r, uint64_t id, enum bgmq_durability level)
{
    struct journal_entry *e = rig_entry(id, level);
    bgmqi_journal_add(r->journal, e, e);
}

struct ticket *rig_publish(struct rig *r, uint64_t first, size_t n)
{
    struct ticket *t = bgmqi_ticket_new(n);
    ck_assert_ptr_nonnull(t);
    struct journal_entry *head = NULL, *last = NULL;
    for (size_t i = 0; i < n; i++) {
        struct journal_entry *e = rig_entry(first + i, BGMQ_DISK);
        e->op.ticket = t;
        e->op.slot = (uint32_t)i;
        if (last)
            last->next = e;
        else
            head = e;
        last = e;
    }
    bgmqi_journal_add(r->journal, head, last);
    return t;
}

int rig_await(struct ticket *t)
{
    int err = bgmqi_ticket_wait(t, harness_deadline() - harness_now());
    bgmqi_ticket_release(t);
    return err;
}

int rig_give_up(struct ticket *t)
{
    int err = bgmqi_ticket_wait(t, 1);
    bgmqi_ticket_release(t);
    return err;
}

struct message *rig_message(uint64_t id)
{
    struct message *m = bgmqi_message_new("x", 1);
    ck_assert_ptr_nonnull(m);
    m->id = id;
    atomic_store(&m->insert, INSERT_QUEUED);
    return m;
}

void rig_add_message(struct rig *r, struct message *m)
{
    struct journal_entry *e = rig_entry(m->id, BGMQ_BEHIND);
    e->op.msg = m;
    bgmqi_message_ref(m);
    bgmqi_journal_add(r->journal, e, e);
}

void rig_hold(struct rig *r, uint64_t id)
{
    long n = counter_value(&r->store.begun);
    gate_shut(&r->store.gate);
    struct ticket *t = rig_publish(r, id, 1);
    bgmqi_ticket_release(t); /* nobody will ask */
    counter_wait(&r->store.begun, n + 1);
}

void rig_flush(struct rig *r)
{
    ck_assert_int_eq(bgmqi_journal_flush(r->journal, harness_deadline() - harness_now()),
                     0);
}

enum journal_state rig_state(struct rig *r)
{
    uint64_t commits, waiting;
    enum journal_state state;
    bgmqi_journal_counts(r->journal, &commits, &waiting, &state);
    return state;
}

uint64_t rig_waiting(struct rig *r)
{
    uint64_t commits, waiting;
    enum journal_state state;
    bgmqi_journal_counts(r->journal, &commits, &waiting, &state);
    return waiting;
}

bool rig_recorded(struct rig *r)
{
    pthread_mutex_lock(&r->store.lock);
    bool yes = r->store.len > 0;
    pthread_mutex_unlock(&r->store.lock);
    return yes;
}

static void same(pthread_mutex_t *lock, const char *text, const char *want,
                 const char *file, int line)
{
    pthread_mutex_lock(lock);
    char *copy = strdup(text);
    pthread_mutex_unlock(lock);
    if (strcmp(copy, want) != 0)
        _ck_assert_failed(file, line, "record", "it is \"%.400s\", not \"%.400s\"", copy,
                          want);
    free(copy);
}

void rig_expect_at(struct rig *r, const char *text, const char *file, int line)
{
    same(&r->store.lock, r->store.text, text, file, line);
}

void rig_expect_events_at(struct rig *r, const char *text, const char *file, int line)
{
    same(&r->lock, r->events, text, file, line);
}
