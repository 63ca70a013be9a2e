/* test_store_conform.c - one contract for all stores: what a plain table in memory makes of
 * changes by the words of store.h, the SQLite store makes of them, too.
 *
 * A seed decides on batches; after each, results, rows, their order and counts are the same in
 * both.  A store that is written later is held to this by another line in the table at the end. */
#include "fixture.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096, KEYS = 6, BATCH = 12 };

/* ---- the table in memory ------------------------------------------------------------- */

enum table { NOWHERE, IN_JOB, IN_BACKLOG };

struct model_row {
    enum table table;
    uint64_t id, seq;
    int64_t key;
    enum lane lane;
    int priority;
    unsigned attempt;
    char unique[8]; /* empty: none, or given up */
};

/* Rows stand at their ids. */
struct model {
    struct store store;
    struct model_row rows[ROWS];
};

static struct model_row *row_in(struct model *m, uint64_t id, enum table table)
{
    ck_assert_uint_lt(id, ROWS);
    return m->rows[id].table == table ? &m->rows[id] : NULL;
}

static struct model_row *holder(struct model *m, const char *unique)
{
    for (size_t i = 0; unique && i < ROWS; i++)
        if (m->rows[i].table != NOWHERE && strcmp(m->rows[i].unique, unique) == 0)
            return &m->rows[i];
    return NULL;
}

static void place(struct model_row *row, const struct store_op *op)
{
    row->table = IN_BACKLOG;
    row->lane = op->lane;
    row->key = op->key;
    row->seq = op->seq;
    row->attempt = op->attempt;
    if (row->lane == LANE_DLQ)
        row->unique[0] = '\0'; /* the dead give their key up */
}

static void model_add(struct model *m, struct store_op *op)
{
    const char *unique = message_unique_key(op->msg);
    const struct model_row *other = holder(m, unique);
    if (other) {
        op->result = BGMQ_EEXIST;
        op->id = other->id;
        return;
    }
    struct model_row *row = &m->rows[op->id];
    *row = (struct model_row){.table = IN_JOB,
                              .id = op->id,
                              .seq = op->seq,
                              .attempt = op->attempt,
                              .priority = op->msg->priority};
    snprintf(row->unique, sizeof(row->unique), "%s", unique ? unique : "");
    if (op->kind == STORE_SPILL)
        place(row, op);
}

static void model_one(struct model *m, struct store_op *op)
{
    bool from_job = op->kind == STORE_MOVE || op->kind == STORE_DELETE_JOB;
    op->result = 0;
    if (op->kind == STORE_INSERT || op->kind == STORE_SPILL) {
        model_add(m, op);
        return;
    }
    struct model_row *row = row_in(m, op->id, from_job ? IN_JOB : IN_BACKLOG);
    if (!row)
        op->result = BGMQ_ELOST;
    else if (op->kind == STORE_MOVE || op->kind == STORE_UPDATE)
        place(row, op);
    else
        row->table = NOWHERE;
}

static int model_apply(struct store *s, struct store_op *ops, size_t n,
                       enum store_sync sync, struct bgmq_error *text)
{
    (void)sync, (void)text;
    for (size_t i = 0; i < n; i++)
        model_one((struct model *)s, &ops[i]);
    return STORE_FAIL_NONE;
}

static int compare(const void *a, const void *b)
{
    const struct model_row *x = *(struct model_row *const *)a;
    const struct model_row *y = *(struct model_row *const *)b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int model_load(struct store *s, uint32_t type, enum lane lane, int64_t key,
                      uint64_t seq, size_t limit, size_t max_bytes, store_row_fn *fn,
                      void *ctx)
{
    struct model *m = (struct model *)s;
    static struct model_row *found[ROWS];
    size_t n = 0, bytes = 0, given = 0;
    (void)type;
    for (size_t i = 0; i < ROWS; i++) {
        struct model_row *r = &m->rows[i];
        if (r->table == IN_BACKLOG && r->lane == lane &&
            (r->key > key || (r->key == key && r->seq >= seq)))
            found[n++] = r;
    }
    qsort(found, n, sizeof(*found), compare);
    for (; given < n && given < limit && (!given || bytes < max_bytes); given++) {
        struct store_row row = {.type = 1,
                                .lane = lane,
                                .id = found[given]->id,
                                .seq = found[given]->seq,
                                .key = found[given]->key,
                                .attempt = found[given]->attempt};
        char body[32];
        row.len =
            (size_t)snprintf(body, sizeof(body), "body-%llu", (unsigned long long)row.id);
        row.body = body;
        if (given && bytes + row.len > max_bytes)
            break;
        bytes += row.len;
        ck_assert_int_eq(fn(ctx, &row), 0);
    }
    return (int)given;
}

static int model_recover(struct store *s, const struct store_boot *boot,
                         struct store_booted *ret)
{
    struct model *m = (struct model *)s;
    (void)boot;
    *ret = (struct store_booted){.unfinished = 0};
    for (size_t i = 0; i < ROWS; i++) {
        struct model_row *r = &m->rows[i];
        if (r->table == IN_JOB) {
            r->table = IN_BACKLOG;
            r->lane = r->priority ? LANE_PRIORITYQ : LANE_INQ;
            r->key = -r->priority;
        }
        ret->unfinished += r->table == IN_BACKLOG && r->lane != LANE_DLQ;
    }
    return 0;
}

static struct model model = {
    .store.ops = &(const struct store_ops){
        .apply = model_apply, .load = model_load, .recover = model_recover}};

/* ---- the plan ------------------------------------------------------------------------ */

static uint64_t state;

static unsigned pick(unsigned n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % n);
}

struct plan {
    enum store_op_kind kind;
    uint64_t id, seq;
    enum lane lane;
    int64_t key;
    int priority;
    unsigned attempt, unique;
};

static uint64_t next_id = 1, next_seq = 1;

static struct plan decide(void)
{
    static const enum store_op_kind kinds[] = {
        STORE_INSERT, STORE_INSERT, STORE_SPILL,      STORE_MOVE,
        STORE_UPDATE, STORE_MOVE,   STORE_DELETE_JOB, STORE_DELETE_BACKLOG};
    struct plan p = {.kind = kinds[pick(8)], .lane = pick(LANES), .seq = next_seq++};
    if (p.kind == STORE_SPILL) /* nothing begins dead */
        p.lane = pick(LANE_DLQ);
    bool adds = p.kind == STORE_INSERT || p.kind == STORE_SPILL;
    /* What was never added is never named: a store may gather inserts before deletes. */
    if (next_id == 1)
        p.kind = STORE_INSERT, adds = true;
    p.id = adds ? next_id++ : 1 + pick((unsigned)next_id - 1);
    p.key = p.lane == LANE_DELAYED     ? (int64_t)pick(1000)
            : p.lane == LANE_PRIORITYQ ? -1
                                       : INT64_C(0);
    p.priority = p.kind == STORE_INSERT ? (int)pick(3) : 0;
    p.attempt = pick(5);
    p.unique = adds && pick(3) == 0 ? 1 + pick(KEYS) : 0;
    return p;
}

/* The same ops, each time anew: a store writes its results into them. */
static struct batch_of *batch_by(const struct plan *plans, size_t n, const unsigned *keys)
{
    struct batch_of *b = batch_new();
    for (size_t i = 0; i < n; i++) {
        const struct plan *p = &plans[i];
        struct store_op *op = batch_add(b, p->kind, p->id);
        op->lane = (uint8_t)p->lane;
        op->key = p->key;
        op->seq = p->seq;
        op->attempt = (uint16_t)p->attempt;
        op->msg->priority = (int16_t)p->priority;
        if (keys[p->id]) {
            char key[16];
            snprintf(key, sizeof(key), "k%u", keys[p->id]);
            batch_carry(op, &(struct bgmq_message_options){.unique_key = key});
        }
    }
    return b;
}

static void same_results(struct store *real, const struct plan *plans, size_t n,
                         const unsigned *keys)
{
    struct batch_of *mine = batch_by(plans, n, keys), *theirs = batch_by(plans, n, keys);
    ck_assert_int_eq(batch_try(&model.store, mine, STORE_SYNC_NORMAL, NULL), 0);
    ck_assert_int_eq(batch_try(real, theirs, STORE_SYNC_NORMAL, NULL), 0);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(mine->ops[i].result == theirs->ops[i].result &&
                          mine->ops[i].id == theirs->ops[i].id,
                      "op %zu, kind %d, id %llu: %d %llu, not %d %llu", i, plans[i].kind,
                      (unsigned long long)plans[i].id, theirs->ops[i].result,
                      (unsigned long long)theirs->ops[i].id, mine->ops[i].result,
                      (unsigned long long)mine->ops[i].id);
    batch_free(mine);
    batch_free(theirs);
}

/* Each lane from a place of its own, to a bound in rows or bytes. */
static void same_rows(struct store *real)
{
    static struct seen want, got;
    for (enum lane lane = 0; lane < LANES; lane++) {
        int64_t key = pick(2) ? INT64_MIN : (int64_t)pick(500);
        uint64_t seq = pick((unsigned)next_seq);
        size_t limit = 1 + pick(64), bytes = pick(2) ? SIZE_MAX : 1 + pick(100);
        int n = seen_load(&model.store, &want, lane, key, seq, limit, bytes);
        ck_assert_int_eq(seen_load(real, &got, lane, key, seq, limit, bytes), n);
        for (int i = 0; i < n; i++) {
            ck_assert_uint_eq(got.rows[i].id, want.rows[i].id);
            ck_assert_uint_eq(got.rows[i].seq, want.rows[i].seq);
            ck_assert_int_eq(got.rows[i].key, want.rows[i].key);
            ck_assert_uint_eq(got.rows[i].attempt, want.rows[i].attempt);
            ck_assert_str_eq(got.bodies[i], want.bodies[i]);
        }
    }
}

START_TEST(changes_have_the_same_effect_on_every_store)
{
    static unsigned keys[ROWS];
    state = harness_seed(1) * 1000 + (uint64_t)_i;
    struct store *real = fixture_open();
    for (int step = 0; step < 250; step++) {
        struct plan plans[BATCH];
        size_t n = 1 + pick(BATCH);
        for (size_t i = 0; i < n; i++) {
            plans[i] = decide();
            if (plans[i].unique)
                keys[plans[i].id] = plans[i].unique;
        }
        same_results(real, plans, n, keys);
        same_rows(real);
        if (pick(25) == 0) { /* the owner dies, and another opens */
            fixture_close(real);
            real = fixture_open();
            int64_t unfinished = recover(&model.store, NULL, NULL, 0);
            ck_assert_int_eq(recover(real, NULL, NULL, 0), unfinished);
            same_rows(real);
        }
    }
    fixture_close(real);
    check_sound();
    harness_figure("checks", 250);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_conform");
    TCase *tc = harness_case(s, "conform");
    tcase_add_loop_test(tc, changes_have_the_same_effect_on_every_store, 0,
                        harness_full() ? 40 : 2);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
