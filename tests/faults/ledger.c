/* ledger.c - see ledger.h.  On the thread of the test. */
#include "ledger.h"

#include "../harness/harness.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_sqlite.h"

/* ---- promises ------------------------------------------------------------------------ */

void ledger_fini(struct ledger *l)
{
    free(l->all);
}

struct promise *ledger_add(struct ledger *l, uint64_t id, const char *body)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->all = realloc(l->all, l->cap * sizeof(*l->all));
        ck_assert_ptr_nonnull(l->all);
    }
    struct promise *p = &l->all[l->n++];
    *p = (struct promise){.id = id, .len = strlen(body)};
    snprintf(p->body, sizeof(p->body), "%s", body);
    return p;
}

void ledger_step(struct promise *p, size_t from, size_t until, enum whereabouts place)
{
    ck_assert_uint_lt(p->n, sizeof(p->steps) / sizeof(p->steps[0]));
    p->steps[p->n++] = (struct step){from, until, place};
}

void ledger_keep(struct ledger *l, size_t until)
{
    for (size_t i = 0; i < l->n; i++)
        for (unsigned k = 0; k < l->all[i].n; k++)
            if (l->all[i].steps[k].until == LEDGER_NEVER)
                l->all[i].steps[k].until = until;
}

/* Bits 1 << enum whereabouts of where P may be. */
static unsigned may_be(const struct promise *p, size_t n)
{
    unsigned places = 1 << NOWHERE;
    for (unsigned k = 0; k < p->n; k++) {
        if (p->steps[k].until <= n)
            places = 1U << p->steps[k].place;
        else if (p->steps[k].from < n)
            places |= 1U << p->steps[k].place;
    }
    return places;
}

static int has_begun(const struct promise *p, size_t n)
{
    return p->n > 0 && p->steps[0].from < n;
}

uint64_t ledger_state(const struct ledger *l, size_t n)
{
    uint64_t sum = 1469598103934665603U;
    for (size_t i = 0; i < l->n; i++)
        sum = (sum ^ may_be(&l->all[i], n)) * 1099511628211U;
    return sum;
}

/* ---- what is there ------------------------------------------------------------------- */

struct found {
    enum whereabouts place;
    int times, effect, finish, same_body;
};

struct look {
    const struct ledger *ledger;
    size_t n;
    const char *what;
    struct verdict *v;
    struct found *found; /* by the place in the ledger */
};

__attribute__((format(printf, 3, 4))) static void complain(struct look *k, long *count,
                                                           const char *format, ...)
{
    ++*count;
    if (k->v->text[0])
        return;
    int len = snprintf(k->v->text, sizeof(k->v->text), "%s: ", k->what);
    va_list args;
    va_start(args, format);
    vsnprintf(k->v->text + len, sizeof(k->v->text) - (size_t)len, format, args);
    va_end(args);
}

static struct found *find(struct look *k, uint64_t id)
{
    for (size_t i = 0; i < k->ledger->n; i++)
        if (k->ledger->all[i].id == id)
            return &k->found[i];
    complain(k, &k->v->phantom, "message %llu was never published",
             (unsigned long long)id);
    return NULL;
}

static int same_body(struct look *k, const struct found *f, sqlite3_stmt *q)
{
    const struct promise *p = &k->ledger->all[f - k->found];
    int len = sqlite3_column_bytes(q, 2);
    return p->no_body || (len == (int)p->len &&
                          memcmp(sqlite3_column_blob(q, 2), p->body, p->len) == 0);
}

static void see_messages(struct look *k, sqlite3 *db)
{
    static const char sql[] =
        "SELECT id, 1, body FROM bgmq_job UNION ALL"
        " SELECT id, CASE lane WHEN 3 THEN 2 ELSE 1 END, body FROM bgmq_backlog UNION ALL"
        " SELECT id, 1, CAST(body AS BLOB) FROM bgmq_inbox UNION ALL"
        " SELECT id, 3, body FROM bgmq_history WHERE outcome = 'done'";
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    while (rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW) {
        struct found *f = find(k, (uint64_t)sqlite3_column_int64(q, 0));
        if (!f)
            continue;
        f->times++;
        f->place = (enum whereabouts)sqlite3_column_int(q, 1);
        f->same_body = same_body(k, f, q);
    }
    if (rc == SQLITE_OK)
        rc = sqlite3_reset(q);
    if (rc != SQLITE_OK)
        complain(k, &k->v->corrupt, "messages: %s", sqlite3_errmsg(db));
    sqlite3_finalize(q);
}

/* The application's tables are there once their making was. */
static void see_effects(struct look *k, sqlite3 *db, const char *sql, int finish)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
        return;
    while (sqlite3_step(q) == SQLITE_ROW) {
        struct found *f = find(k, (uint64_t)sqlite3_column_int64(q, 0));
        if (f)
            *(finish ? &f->finish : &f->effect) = 1;
    }
    sqlite3_finalize(q);
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        value = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return value;
}

/* ---- the comparison ------------------------------------------------------------------ */

static const char *const names[] = {"nowhere", "waiting", "dead", "done"};

static void judge_place(struct look *k, const struct promise *p, const struct found *f)
{
    unsigned may = may_be(p, k->n);
    struct verdict *v = k->v;
    long *count = f->place == NOWHERE    ? &v->lost
                  : !has_begun(p, k->n)  ? &v->phantom
                  : may == 1U << NOWHERE ? &v->phantom
                  : f->place == WAITING  ? &v->back
                                         : &v->mangled;
    if (!(may >> f->place & 1))
        complain(k, count, "message %llu (%.20s) is %s, and may be of %#x",
                 (unsigned long long)p->id, p->body, names[f->place], may);
    if (f->times > 1)
        complain(k, &v->mangled, "message %llu is there %d times",
                 (unsigned long long)p->id, f->times);
    if (f->times > 0 && !f->same_body)
        complain(k, &v->mangled, "message %llu has another body",
                 (unsigned long long)p->id);
    if (p->effect && f->effect != (f->place != NOWHERE))
        complain(k, &v->half, "message %llu is %s, and its effect is %sthere",
                 (unsigned long long)p->id, names[f->place], f->effect ? "" : "not ");
    if (p->finish && f->finish != (f->place == DONE))
        complain(k, &v->half, "message %llu is %s, and what its handler did is %sthere",
                 (unsigned long long)p->id, names[f->place], f->finish ? "" : "not ");
}

static void judge_groups(struct look *k)
{
    const struct ledger *l = k->ledger;
    for (size_t i = 1; i < l->n; i++)
        if (l->all[i].group && l->all[i].group == l->all[i - 1].group &&
            (k->found[i].place == NOWHERE) != (k->found[i - 1].place == NOWHERE))
            complain(k, &k->v->half, "messages %llu and %llu were of one commit",
                     (unsigned long long)l->all[i - 1].id,
                     (unsigned long long)l->all[i].id);
}

/* No number that was given may be given again. */
static void judge_numbers(struct look *k, sqlite3 *db)
{
    uint64_t most = 0;
    for (size_t i = 0; i < k->ledger->n; i++) {
        const struct promise *p = &k->ledger->all[i];
        int was_there = may_be(p, k->n) != 1U << NOWHERE || has_begun(p, k->n);
        if (p->id < UINT64_C(1) << 52 && was_there && p->id > most)
            most = p->id;
    }
    int64_t next = number(db, "SELECT value FROM bgmq_meta WHERE key = 'next_id'");
    if (next <= (int64_t)most)
        complain(k, &k->v->mangled, "the next number is %lld, and %llu was given",
                 (long long)next, (unsigned long long)most);
}

static void judge_store(struct look *k, struct store *store)
{
    sqlite3 *db = ((struct sqlite_store *)store)->w;
    sqlite3_set_authorizer(db, NULL, NULL); /* the store asks for less */
    struct store_boot boot = {.flight = 1, .now_ms = 1};
    struct store_booted booted;
    int err = store->ops->recover(store, &boot, &booted);
    if (err)
        complain(k, &k->v->corrupt, "recovery: %s", bgmq_errname(err));
    sqlite3_stmt *q = NULL;
    int sound = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &q, NULL) == 0 &&
                sqlite3_step(q) == SQLITE_ROW &&
                strcmp((const char *)sqlite3_column_text(q, 0), "ok") == 0;
    if (!sound)
        complain(k, &k->v->corrupt, "integrity_check: %.100s", sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    see_messages(k, db);
    see_effects(k, db, "SELECT id FROM effect", 0);
    see_effects(k, db, "SELECT id FROM finish", 1);
    for (size_t i = 0; i < k->ledger->n; i++)
        judge_place(k, &k->ledger->all[i], &k->found[i]);
    judge_groups(k);
    judge_numbers(k, db);
}

void ledger_judge(const struct ledger *l, size_t n, const char *path, const char *what,
                  struct verdict *v)
{
    struct look k = {.ledger = l, .n = n, .what = what, .v = v};
    struct store_options options = {.path = path, .share = 1, .max_body = 1 << 20};
    struct bgmq_error error = {.text = ""};
    struct store *store = NULL;
    v->states++;
    int err = bgmqi_store_sqlite_open(&store, &options, &error);
    if (err) {
        complain(&k, &v->corrupt, "%s", error.text);
        return;
    }
    k.found = calloc(l->n + 1, sizeof(*k.found));
    ck_assert_ptr_nonnull(k.found);
    judge_store(&k, store);
    free(k.found);
    store->ops->close(store);
}

int verdict_is_clean(const struct verdict *v)
{
    return v->lost + v->back + v->phantom + v->half + v->mangled + v->corrupt == 0;
}
