/* store_open.c - the connections to the database file.
 *
 * Called by store_sqlite.c on the thread that opens the service.  The order matters: the
 * file is looked at from outside (store_file.c), then through a connection that has changed
 * nothing, and only then written to.  The file is never opened but by SQLite: closing any
 * other descriptor of it would drop the locks that SQLite holds for the whole process.
 * The one exception is the moment of its making, when nobody can hold a lock on it.
 *
 * Why the settings.  No connection check-points by itself, because the SQLite of many
 * systems loses committed rows when a check-point meets a commit that restarts the log
 * (3.7.0 to 3.51.2): bgmqi_store_sqlite check-points under the write lock.  The cache
 * never spills, because a rollback after a spill leaves frames without a valid checksum
 * (up to 3.50.1).  The log outlives its last connection, because another process may be
 * wrong about being last. */
#include "store_open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "err.h"
#include "park.h"
#include "store_authorize.h"
#include "store_check.h"
#include "store_file.h"
#include "store_schema.h"
#include "store_site.h"

enum {
    CACHE_KIB = 16384,
    CHECK_AT_ONCE = 1 << 30,
    PAGES_MOST = 0x3ffffffe, /* SQLite's own bound, less a little */
    BODY_MOST = 64 << 20     /* the bound of bgmq_options.max_body */
};
#define BYTES_MOST  (INT64_C(16) << 30)
#define SHORTAGE_NS INT64_C(10000000)

bool bgmqi_store_open_is_same(const struct sqlite_store *s)
{
    struct file_identity file, log;
    bgmqi_store_file_identify(s->path, "", &file);
    bgmqi_store_file_identify(s->path, "-wal", &log);
    return bgmqi_store_file_same(&file, &s->file) && bgmqi_store_file_same(&log, &s->log);
}

/* ---- connections ------------------------------------------------------------------- */

/* W's busy handler: waits a little, never longer in all than S->patience_ms. */
static int wait_for_lock(void *ctx, int tries)
{
    struct sqlite_store *s = ctx;
    int64_t now = clock_mono_ns(&bgmqi_clock_system);
    if (s->wanted)
        atomic_fetch_add_explicit(s->wanted, 1, memory_order_relaxed);
    if (tries == 0)
        s->give_up_ns = now + (int64_t)s->patience_ms * 1000000;
    if (now >= s->give_up_ns)
        return 0;
    s->jitter = s->jitter * 1664525 + 1013904223;
    uint32_t ms = 1 + (s->jitter >> 16) % (uint32_t)(tries < 15 ? tries + 1 : 16);
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
    return 1;
}

/* MUTEX: SQLITE_OPEN_NOMUTEX where one thread at a time is there anyway, as with W and C: a lock
 * for each value that is bound was a seventh of a batch's instructions. */
static int connect_to(const char *path, int mutex, sqlite3 **ret)
{
    int rc = sqlite3_open_v2(path, ret,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW |
                                 SQLITE_OPEN_EXRESCODE | mutex | SQLITE_OPEN_PRIVATECACHE,
                             NULL);
    if (rc != SQLITE_OK)
        return rc;
    static const struct {
        int option, value;
    } settings[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
        {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
        {SQLITE_DBCONFIG_DQS_DML, 0},
        {SQLITE_DBCONFIG_DQS_DDL, 0},
        {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        rc = sqlite3_db_config(*ret, settings[i].option, settings[i].value, NULL);
        if (rc != SQLITE_OK)
            return rc;
    }
    sqlite3_limit(*ret, SQLITE_LIMIT_ATTACHED, 0);
    /* The bound of all bodies, not of this service's: what was stored with a greater
     * max_body has to be readable with a smaller one. */
    sqlite3_limit(*ret, SQLITE_LIMIT_LENGTH, BODY_MOST + (64 << 10));
    sqlite3_wal_autocheckpoint(*ret, 0);
    bgmqi_store_authorize(*ret);
    return SQLITE_OK;
}

/* From here on a close of DB leaves the log alone. */
static int keep_log(sqlite3 *db)
{
    int on = 1;
    int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    return rc;
}

/* Runs SQL and compares the text of its first column with WANT (NULL: any). */
static int set(sqlite3 *db, const char *sql, const char *want)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        const char *got = (const char *)sqlite3_column_text(q, 0);
        rc = !want || (got && strcmp(got, want) == 0) ? SQLITE_OK : SQLITE_CANTOPEN;
    } else if (rc == SQLITE_DONE) {
        rc = want ? SQLITE_CANTOPEN : SQLITE_OK;
    }
    sqlite3_finalize(q);
    return rc;
}

static int set_up(sqlite3 *db, const struct store_options *options, uint32_t *ret_page)
{
    static const struct {
        const char *sql, *want;
    } settings[] = {
        {"PRAGMA main.journal_mode = WAL", "wal"},
        {"PRAGMA main.synchronous = FULL", NULL},
        {"PRAGMA cache_spill = OFF", NULL},
        {"PRAGMA cache_spill", "0"},
        {"PRAGMA main.mmap_size = 0", NULL},
        {"PRAGMA temp_store = MEMORY", NULL},
        {"PRAGMA cell_size_check = ON", NULL},
        {"PRAGMA recursive_triggers = OFF", NULL},
    };
    int rc = keep_log(db);
    for (size_t i = 0; rc == SQLITE_OK && i < sizeof(settings) / sizeof(settings[0]); i++)
        rc = set(db, settings[i].sql, settings[i].want);
    sqlite3_stmt *q = NULL;
    int64_t page_size = 4096;
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "PRAGMA main.page_size", -1, &q, NULL);
    if (rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        page_size = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    *ret_page = (uint32_t)page_size;
    /* How large a shared file may get is not for us to say, unless we are told. */
    uint64_t pages = options->max_pages;
    if (pages == 0 || pages > PAGES_MOST)
        pages = options->share ? PAGES_MOST : (uint64_t)(BYTES_MOST / page_size);
    char sql[160];
    snprintf(sql, sizeof(sql),
             "PRAGMA main.max_page_count = %llu; PRAGMA main.cache_size = -%d;"
             " PRAGMA main.journal_size_limit = " STORE_LOG_LIMIT,
             (unsigned long long)pages, CACHE_KIB);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    /* What SQLite was built with stays in a file that is shared, unless we are told. */
    if (rc == SQLITE_OK && (options->erase || !options->share))
        rc = sqlite3_exec(db,
                          options->erase ? "PRAGMA main.secure_delete = ON"
                                         : "PRAGMA main.secure_delete = OFF",
                          NULL, NULL, NULL);
    return rc;
}

static int refuse(int state, const struct store_options *options, const char *path,
                  struct bgmq_error *error)
{
    if (state < 0)
        return state; /* said already */
    if (state == SCHEMA_EMPTY || state == SCHEMA_OURS || options->share)
        return 0;
    return bgmqi_err_set(error, BGMQ_ENOTOURS,
                         state == SCHEMA_FOREIGN
                             ? "%s: has tables of others, and is not opened as shared"
                             : "%s: is marked as another application's",
                         path);
}

/* W, its checks, and the tables.  *LATER: it has to be checked for damage. */
static int open_writer(struct sqlite_store *s, const struct store_options *options,
                       bool *later, struct bgmq_error *error)
{
    struct file_identity log;
    bgmqi_store_file_identify(s->path, "-wal", &log);
    int rc = connect_to(s->path, SQLITE_OPEN_NOMUTEX, &s->w);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(s->w, rc, s->path, "opening it", error);
    sqlite3_busy_handler(s->w, wait_for_lock, s);
    s->patience_ms = OPEN_PATIENCE_MS;
    /* A log that was there is somebody's data; one that this look makes goes again. */
    if (log.there && (rc = keep_log(s->w)) != SQLITE_OK)
        return bgmqi_store_schema_error(s->w, rc, s->path, "setting it up", error);
    int state = bgmqi_store_schema_look(s->w, s->path, error);
    int err = refuse(state, options, s->path, error);
    if (err)
        return err;
    if (state == SCHEMA_OURS || state == SCHEMA_MARKED_OURS)
        err = bgmqi_store_check_now(
            s, options->check_at_once ? options->check_at_once : CHECK_AT_ONCE, later,
            error);
    if (err)
        return err;
    if (sqlite3_db_readonly(s->w, "main") == 1)
        return bgmqi_err_set(error, BGMQ_EOPEN, "%s: can only be read", s->path);
    rc = set_up(s->w, options, &s->page_size);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(s->w, rc, s->path, "setting it up", error);
    return bgmqi_store_schema_make(s->w, s->path, !options->share, error);
}

static int open_checkpointer(struct sqlite_store *s, const struct store_options *options,
                             struct bgmq_error *error)
{
    int rc = connect_to(s->path, SQLITE_OPEN_NOMUTEX, &s->c);
    if (rc == SQLITE_OK)
        rc = set_up(s->c, options, &s->page_size);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(s->c, rc, s->path, "opening it again", error);
    return 0;
}

int bgmqi_store_open_file(struct sqlite_store *s, const struct store_options *options,
                          struct bgmq_error *error)
{
    bool later = false;
    int err = bgmqi_store_file_find(&s->path, options->path, error);
    if (err == 0)
        err = bgmqi_store_file_check(s->path, options->log, error);
    if (err == 0)
        err = open_writer(s, options, &later, error);
    if (err == 0)
        err = open_checkpointer(s, options, error);
    if (err == 0 && later)
        err = bgmqi_store_check_beside(s, error);
    if (err)
        return err;
    bgmqi_store_file_identify(s->path, "", &s->file);
    bgmqi_store_file_identify(s->path, "-wal", &s->log);
    return 0;
}

/* Releases in which a check-point by another connection may lose what is in the log: to 3.51.2,
 * but for the two lines that were mended. */
bool bgmqi_store_open_loses_data(void)
{
    int version = sqlite3_libversion_number();
    return version < 3051003 && !(version >= 3050007 && version < 3051000) &&
           !(version >= 3044006 && version < 3045000);
}

bool bgmqi_store_open_loses_spilled(void)
{
    return sqlite3_libversion_number() < 3050002;
}

/* ---- visitors ---------------------------------------------------------------------- */

static int set_up_visitor(sqlite3 *db)
{
    static const struct {
        const char *sql, *want;
    } settings[] = {
        {"PRAGMA main.journal_mode", "wal"},   {"PRAGMA main.synchronous = FULL", NULL},
        {"PRAGMA cache_spill = OFF", NULL},    {"PRAGMA cache_spill", "0"},
        {"PRAGMA main.mmap_size = 0", NULL},   {"PRAGMA temp_store = MEMORY", NULL},
        {"PRAGMA cell_size_check = ON", NULL},
    };
    int rc = SQLITE_OK;
    for (size_t i = 0; rc == SQLITE_OK && i < sizeof(settings) / sizeof(settings[0]); i++)
        rc = set(db, settings[i].sql, settings[i].want);
    return rc;
}

/* Whether the tables are there, and of this version. */
static int check_tables(struct sqlite_store *s, struct bgmq_error *error)
{
    int state = bgmqi_store_schema_look(s->w, s->path, error);
    if (state < 0)
        return state;
    if (state != SCHEMA_OURS && state != SCHEMA_MARKED_OURS)
        return bgmqi_err_set(error, BGMQ_ENOENT, "%s: has no tables of a queue", s->path);
    int rc = set(s->w,
                 "SELECT 'yes' FROM main.sqlite_schema"
                 " WHERE type = 'table' AND name = 'bgmq_inbox'",
                 "yes");
    if (rc == SQLITE_CANTOPEN)
        return bgmqi_err_set(error, BGMQ_ENOENT,
                             "%s: is of an older version until its owner opens it",
                             s->path);
    return rc == SQLITE_OK
               ? 0
               : bgmqi_store_schema_error(s->w, rc, s->path, "looking at it", error);
}

int bgmqi_store_open_visit(struct sqlite_store *s, const char *path,
                           struct bgmq_error *error)
{
    int err = bgmqi_store_file_find(&s->path, path, error);
    if (err == 0)
        err = bgmqi_store_file_check_there(s->path, error);
    if (err)
        return err;
    bgmqi_store_file_identify(s->path, "-wal", &s->log);
    int rc = connect_to(s->path, SQLITE_OPEN_FULLMUTEX, &s->w);
    if (rc == SQLITE_OK && s->log.there) /* as in open_writer */
        rc = keep_log(s->w);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(s->w, rc, s->path, "opening it", error);
    sqlite3_busy_handler(s->w, wait_for_lock, s);
    s->patience_ms = OPEN_PATIENCE_MS;
    err = check_tables(s, error);
    if (err)
        return err;
    rc = keep_log(s->w);
    if (rc == SQLITE_OK)
        rc = set_up_visitor(s->w);
    if (rc != SQLITE_OK)
        return bgmqi_store_schema_error(s->w, rc, s->path, "setting it up", error);
    bgmqi_store_file_identify(s->path, "", &s->file);
    bgmqi_store_file_identify(s->path, "-wal", &s->log);
    return 0;
}

void bgmqi_store_open_leave(struct sqlite_store *s)
{
    bgmqi_store_open_close(&s->w);
    free(s->path);
    s->path = NULL;
}

void bgmqi_store_open_close(sqlite3 **db)
{
    if (!*db)
        return;
    int rc = sqlite3_close(*db);
    (void)rc; /* not OK only when a statement was forgotten, which tests look for */
    *db = NULL;
}

void bgmqi_store_open_roll_back(sqlite3 *db)
{
    while (!sqlite3_get_autocommit(db) &&
           (sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) & 0xff) == SQLITE_NOMEM) {
        struct park nobody = {0};
        bgmqi_park_wait(&nobody, SHORTAGE_NS);
    }
}
