/* guest.c - publishing into a database that another process owns (see bgmq_sqlite.h).
 *
 * On the caller's thread, one at a time.  A guest writes to bgmq_inbox and to nothing else; the
 * owner takes over from there, and decides on everything but the form.  It must never check-point,
 * never make a file, and never open the database but through SQLite (store_open.c says why). */
#include <bgmq_sqlite.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "err.h"
#include "handle.h"
#include "park.h"
#include "store_meta.h"
#include "store_open.h"
#include "store_sqlite.h"
#include "thread.h"

enum {
    WAIT_MS = 5000,
    BODY_MAX = 64 << 20,
    WAY_NS = 4000000, /* in which one of several who wait looks again; and no longer than
                         twice the time the lock was held */
    LATELY_NS = 20000000
};

struct bgmq_guest {
    struct bgmq_guest *next; /* protected by mutex */
    /* set once, then read only */
    unsigned generation; /* of fork */
    /* used by the caller's thread only */
    struct sqlite_store visit;
    sqlite3_stmt *insert;
    struct flight_bell *bell; /* NULL: no owner has made one yet */
    uint32_t wanted;          /* its count when we got the lock last, */
    int64_t taken_ns;         /* ... when that was, */
    int64_t left_ns;          /* ... and when we let it go; 0: never */
    bool synced;              /* commits are */
    bool failed; /* a sync failed: the next one may succeed without the data */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct bgmq_guest *guests; /* protected by mutex: all of this process */

/* ---- open and close ---------------------------------------------------------------- */

/* True when DATABASE was open when this process was forked. */
static bool is_inherited(const char *database, unsigned generation)
{
    struct stat st;
    bool yes = bgmqi_owner_inherited(database);
    if (stat(database, &st) != 0)
        return yes;
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    for (const struct bgmq_guest *g = guests; g && !yes; g = g->next)
        yes = g->generation != generation && g->visit.file.device == st.st_dev &&
              g->visit.file.inode == st.st_ino;
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
    return yes;
}

static void fini(struct bgmq_guest *g)
{
    sqlite3_finalize(g->insert);
    bgmqi_store_open_leave(&g->visit);
    bgmqi_flight_leave(g->bell);
    free(g);
}

static void find_bell(struct bgmq_guest *g)
{
    if (!g->bell)
        g->bell = bgmqi_flight_visit(g->visit.path);
    g->visit.wanted = g->bell ? &g->bell->wanted : NULL;
}

static int open_guest(struct bgmq_guest *g, const char *database,
                      struct bgmq_error *error)
{
    static const char insert[] =
        "INSERT INTO main.bgmq_inbox(type, body, priority, run_at, expires, unique_key,"
        " unique_scope, unique_period, reply_to, reply_id, tag, traceparent, meta, "
        "channel,"
        " max_attempts, timeout, created)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, "
        "?17)";
    int err = bgmqi_store_open_visit(&g->visit, database, error);
    if (err)
        return err;
    if (sqlite3_db_readonly(g->visit.w, "main") == 1)
        return bgmqi_err_set(error, BGMQ_EREADONLY, "%s: can only be read",
                             g->visit.path);
    int rc = sqlite3_db_config(g->visit.w, SQLITE_DBCONFIG_ENABLE_VIEW, 1, NULL);
    if (rc == SQLITE_OK) /* the view is for bgmq_guest_status */
        rc = sqlite3_prepare_v3(g->visit.w, insert, -1, SQLITE_PREPARE_PERSISTENT,
                                &g->insert, NULL);
    if (rc != SQLITE_OK)
        return bgmqi_err_set(error, rc == SQLITE_NOMEM ? BGMQ_ENOMEM : BGMQ_ESCHEMA,
                             "%s: %s", g->visit.path, sqlite3_errmsg(g->visit.w));
    g->synced = true; /* as the connection was set up */
    find_bell(g);
    return 0;
}

int bgmq_guest_open(struct bgmq_guest **ret, const char *database,
                    struct bgmq_error *error)
{
    if (error)
        error->text[0] = '\0';
    if (!ret || !database)
        return BGMQ_EINVAL;
    unsigned generation = bgmqi_handle_generation();
    if (is_inherited(database, generation))
        return bgmqi_err_set(error, BGMQ_EFORKED,
                             "%s: was open when this process was forked: fork before it"
                             " is opened, or exec",
                             database);
    struct bgmq_guest *g = calloc(1, sizeof(*g));
    if (!g)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    g->generation = generation;
    struct thread_calm calm;
    bgmqi_thread_calm(&calm);
    int err = open_guest(g, database, error);
    bgmqi_thread_uncalm(&calm);
    if (err) {
        fini(g);
        return err;
    }
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    g->next = guests;
    guests = g;
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
    *ret = g;
    return 0;
}

void bgmq_guest_close(struct bgmq_guest *g)
{
    if (!g || g->generation != bgmqi_handle_generation())
        return; /* a child of fork: locks and files are its parent's */
    PTHREAD_OK(pthread_mutex_lock(&mutex));
    struct bgmq_guest **p = &guests;
    while (*p != g)
        p = &(*p)->next;
    *p = g->next;
    PTHREAD_OK(pthread_mutex_unlock(&mutex));
    fini(g);
}

static int enter(const struct bgmq_guest *g)
{
    if (!g)
        return BGMQ_EINVAL;
    if (g->generation != bgmqi_handle_generation())
        return BGMQ_EFORKED;
    return g->failed ? BGMQ_ESTORE : 0;
}

/* ---- publish ----------------------------------------------------------------------- */

/* What the owner would refuse for its form is refused here.  *RET_META gets its meta as text, to
 * free(), when it has any. */
static int check(const char *type, const void *body, size_t len,
                 const struct bgmq_message_options *o, int64_t now_ms,
                 int64_t *ret_due_ms, char **ret_meta)
{
    if (!body || !bgmqi_registry_valid(type) ||
        (o->channel && !bgmqi_registry_valid(o->channel)))
        return BGMQ_EINVAL;
    if (len > BODY_MAX)
        return BGMQ_ETOOBIG;
    /* Only the owner could tell a guest what became of the other message. */
    if (o->on_conflict != BGMQ_CONFLICT_KEEP || o->no_outq || o->unique < 0 ||
        o->unique > BGMQ_UNIQUE_PERIOD || o->expire_ms < 0 || o->expire_at_ms < 0 ||
        (o->expire_ms && o->expire_at_ms) || o->expire_ms > INT64_MAX / 2 ||
        (o->unique == BGMQ_UNIQUE_PERIOD && (!o->unique_key || o->unique_period_ms <= 0)))
        return BGMQ_EINVAL;
    int err = bgmqi_options_message(o, now_ms, ret_due_ms);
    struct message_ext *ext = NULL;
    if (!err)
        err = bgmqi_message_ext_new(o, NULL, NULL, 0, &ext);
    if (!err && ext && ext->meta_len &&
        !(*ret_meta = bgmqi_store_meta_text(ext->meta, ext->meta_len, NULL)))
        err = BGMQ_ENOMEM;
    bgmqi_message_ext_free(ext);
    return err;
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

/* 0 is NULL in the table. */
static void bind_number(sqlite3_stmt *q, int at, int64_t number)
{
    if (number)
        sqlite3_bind_int64(q, at, number);
    else
        sqlite3_bind_null(q, at);
}

static void bind(sqlite3_stmt *q, const char *type, const void *body, size_t len,
                 const struct bgmq_message_options *o, int64_t now_ms, int64_t due_ms)
{
    bind_text(q, 1, type);
    sqlite3_bind_blob64(q, 2, body, len, SQLITE_STATIC);
    sqlite3_bind_int(q, 3, o->priority);
    bind_number(q, 4, due_ms);
    bind_number(q, 5, o->expire_ms ? clock_plus(now_ms, o->expire_ms) : o->expire_at_ms);
    bind_text(q, 6, o->unique_key);
    sqlite3_bind_int(q, 7, (int)o->unique);
    bind_number(q, 8, o->unique == BGMQ_UNIQUE_PERIOD ? o->unique_period_ms : 0);
    bind_text(q, 9, o->reply_to);
    bind_number(q, 10, (int64_t)o->reply_id);
    bind_text(q, 11, o->tag);
    bind_text(q, 12, o->traceparent);
    bind_text(q, 14, o->channel);
    sqlite3_bind_int64(q, 15, o->max_attempts);
    bind_number(q, 16, o->timeout_ms);
    sqlite3_bind_int64(q, 17, now_ms);
}

/* Sets whether commits are synced. */
static int set_sync(struct bgmq_guest *g, bool synced)
{
    if (g->synced == synced)
        return SQLITE_OK;
    int rc = sqlite3_exec(g->visit.w,
                          synced ? "PRAGMA main.synchronous = FULL"
                                 : "PRAGMA main.synchronous = NORMAL",
                          NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        g->synced = synced;
    return rc;
}

/* Whoever finds the database locked looks again after some milliseconds, and would find it locked
 * again and again by one that publishes without a pause: with eight of them on a disk where a sync
 * takes 17 ms one waited 5.7 s, as did the owner.  So who has just had the lock lets others go
 * first, if there are any. */
static void give_way(struct bgmq_guest *g)
{
    if (!g->bell || !g->left_ns || atomic_load(&g->bell->wanted) == g->wanted)
        return;
    if (clock_mono_ns(&bgmqi_clock_system) - g->left_ns > LATELY_NS)
        return;
    int64_t held_ns = g->left_ns - g->taken_ns;
    int64_t way_ns = held_ns < WAY_NS / 2 ? 2 * held_ns : WAY_NS;
    struct park nobody = {0}; /* nobody tells that another has had its turn */
    bgmqi_park_wait(&nobody, way_ns);
}

/* We have the lock: those who want it from now on come after us. */
static void take_turn(struct bgmq_guest *g)
{
    if (g->bell)
        g->wanted = atomic_load(&g->bell->wanted);
    g->taken_ns = clock_mono_ns(&bgmqi_clock_system);
}

/* One transaction with the one row.  *RET_ID gets its id. */
static int write_row(struct bgmq_guest *g, uint64_t *ret_id)
{
    sqlite3 *db = g->visit.w;
    give_way(g);
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return bgmqi_store_sqlite_code(rc);
    take_turn(g);
    rc = sqlite3_step(g->insert);
    sqlite3_reset(g->insert);
    bool inserted = rc == SQLITE_DONE;
    if (inserted) {
        *ret_id = (uint64_t)sqlite3_last_insert_rowid(db);
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK)
        return 0;
    /* A COMMIT that SQLite has ended itself may be in the log. */
    bool begun = inserted && sqlite3_get_autocommit(db);
    int err = bgmqi_store_sqlite_no_room(db, rc, true) ? BGMQ_EFULL
                                                       : bgmqi_store_sqlite_code(rc);
    bgmqi_store_open_roll_back(db);
    if (inserted && (err == BGMQ_ESTORE || (begun && err == BGMQ_ENOMEM))) {
        g->failed = true; /* as the journal after a failed commit */
        return BGMQ_EUNCERTAIN;
    }
    return err;
}

/* The owner may have come since. */
static void ring(struct bgmq_guest *g)
{
    find_bell(g);
    if (g->bell)
        bgmqi_flight_ring(g->bell);
    g->left_ns = clock_mono_ns(&bgmqi_clock_system);
}

int bgmq_guest_publish(struct bgmq_guest *g, const char *type, const void *body,
                       size_t len, const struct bgmq_message_options *options,
                       struct bgmq_receipt *receipt)
{
    static const struct bgmq_message_options none;
    const struct bgmq_message_options *o = options ? options : &none;
    int64_t now_ms = clock_wall_ms(&bgmqi_clock_system), due_ms = 0;
    char *meta = NULL;
    int err = enter(g);
    if (!err)
        err = check(type, body, len, o, now_ms, &due_ms, &meta);
    if (err)
        return err;
    if (!bgmqi_store_open_is_same(&g->visit)) {
        g->failed = true; /* what is written would be in a file that is gone */
        free(meta);
        return BGMQ_ESTORE;
    }
    bool synced = o->durability == BGMQ_DEFAULT || o->durability == BGMQ_DISK;
    g->visit.patience_ms = o->wait_ms ? o->wait_ms : WAIT_MS;
    struct bgmq_receipt r = {.level = synced ? BGMQ_DISK : BGMQ_COMMIT};
    bind(g->insert, type, body, len, o, now_ms, due_ms);
    bind_text(g->insert, 13, meta);
    struct thread_calm calm;
    bgmqi_thread_calm(&calm);
    err = bgmqi_store_sqlite_code(set_sync(g, synced));
    if (!err)
        err = write_row(g, &r.id);
    bgmqi_thread_uncalm(&calm);
    sqlite3_clear_bindings(g->insert); /* nothing of the caller's is kept */
    free(meta);
    if (err)
        return err;
    ring(g);
    if (receipt)
        *receipt = r;
    return 0;
}

/* ---- status ------------------------------------------------------------------------ */

static int write_status(sqlite3_stmt *q, FILE *f)
{
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *type = (const char *)sqlite3_column_text(q, 0);
        if (!type && sqlite3_errcode(sqlite3_db_handle(q)) == SQLITE_NOMEM)
            return SQLITE_NOMEM;
        fprintf(
            f,
            "%s: %lld waiting, %lld delayed, %lld dead, %lld in the inbox, %lld"
            " refused\n",
            type ? type : "", (long long)sqlite3_column_int64(q, 1),
            (long long)sqlite3_column_int64(q, 2), (long long)sqlite3_column_int64(q, 3),
            (long long)sqlite3_column_int64(q, 4), (long long)sqlite3_column_int64(q, 5));
    }
    return rc;
}

int bgmq_guest_status(struct bgmq_guest *g, char **ret)
{
    static const char sql[] = "SELECT type, waiting, delayed, dead, inbox, refused"
                              " FROM main.bgmq_status ORDER BY type";
    int err = enter(g);
    if (!err && !ret)
        err = BGMQ_EINVAL;
    if (err)
        return err;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return BGMQ_ENOMEM;
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(g->visit.w, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = write_status(q, f);
    sqlite3_finalize(q);
    err = bgmqi_store_sqlite_code(rc);
    if (fclose(f) != 0 && !err)
        err = BGMQ_ENOMEM;
    if (err)
        free(text);
    else
        *ret = text;
    return err;
}
