/* store_check.c - looks for damage in a database that was not closed (see store_check.h).
 *
 * The opener's thread, or one of its own with a connection of its own, which only reads.  It tells
 * and never mends: what is there stays as it is, for whoever can read it better.  Rows that hold
 * what they should not are no damage here: recovery puts them aside one by one. */
#include "store_check.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "park.h"
#include "store_authorize.h"
#include "store_open.h"
#include "store_schema.h"
#include "thread.h"

enum { STACK_SIZE = 1 << 20, AGAIN_NS = 5000000 };

struct store_check {
    pthread_t thread;
    struct sqlite_store visit;
    struct park end; /* woken once it has ended */
    _Atomic bool quit, ended, damaged, given_up;
    struct bgmq_error why; /* set before damaged or given_up is */
    bool given_up_told;    /* used by the store's thread only */
};

/* Whether LINE of quick_check is about the value in a row. */
static bool is_value(const char *line)
{
    return strstr(line, " value in ") || strncmp(line, "CHECK constraint", 16) == 0;
}

/* The code of SQLite when the first line of TEXT says that a page was not read; else 0.  What other
 * lines say then, of pages that nothing leads to, is no damage.  Of a page on a list there is no
 * code, and it may have been for want of memory. */
static int not_read(const char *text)
{
    static const char get[] = "unable to get the page. error code=";
    const char *end = strchrnul(text, '\n'), *at = strstr(text, get);
    if (!at || at > end) {
        at = strstr(text, "failed to get page ");
        return at && at < end ? SQLITE_IOERR : SQLITE_OK;
    }
    int rc = (int)strtol(at + strlen(get), NULL, 10);
    if (rc == SQLITE_IOERR_SHORT_READ || rc == SQLITE_IOERR_DATA ||
        rc == SQLITE_IOERR_CORRUPTFS)
        return SQLITE_OK; /* what is there is wrong */
    bool sound = bgmqi_store_sqlite_no_memory(rc) || (rc & 0xff) == SQLITE_IOERR;
    return sound ? rc : SQLITE_OK;
}

/* WHY gets the first line that tells of damage; true: there is one.  RC: a code of SQLite. */
static bool look(sqlite3 *db, struct bgmq_error *why, int *rc)
{
    sqlite3_stmt *q = NULL;
    bool damaged = false;
    int unread = SQLITE_OK;
    bgmqi_store_authorize_all(db); /* it may ask about an application's virtual tables */
    *rc = sqlite3_prepare_v2(db, "PRAGMA main.quick_check(100)", -1, &q, NULL);
    while (*rc == SQLITE_OK && !damaged && sqlite3_step(q) == SQLITE_ROW) {
        const char *line = (const char *)sqlite3_column_text(q, 0);
        if (!line || strcmp(line, "ok") == 0 || is_value(line))
            continue;
        const char *tree = strchr(line, '\n'); /* behind "*** in database main ***" */
        const char *first = tree ? tree + 1 : line;
        unread = not_read(first);
        if (unread != SQLITE_OK)
            break;
        bgmqi_err_set(why, 0, "%.160s", first);
        damaged = true;
    }
    int end = sqlite3_finalize(q);
    bgmqi_store_authorize(db);
    if (*rc == SQLITE_OK && !damaged)
        *rc = end != SQLITE_OK ? end : unread;
    return damaged;
}

static int is_clean(sqlite3 *db, bool *ret)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(
        db, "SELECT value = 1 FROM main.bgmq_meta WHERE key = 'clean'", -1, &q, NULL);
    *ret = rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW && sqlite3_column_int(q, 0);
    int end = sqlite3_finalize(q);
    return rc == SQLITE_OK ? end : rc;
}

static int size_of(sqlite3 *db, uint64_t *ret)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(
        db, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", -1,
        &q, NULL);
    *ret = rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW
               ? (uint64_t)sqlite3_column_int64(q, 0)
               : 0;
    int end = sqlite3_finalize(q);
    return rc == SQLITE_OK ? end : rc;
}

int bgmqi_store_check_now(struct sqlite_store *s, uint64_t at_once, bool *later,
                          struct bgmq_error *error)
{
    struct bgmq_error why = {.text = ""};
    bool clean = false;
    uint64_t size = 0;
    int rc = is_clean(s->w, &clean);
    if (rc == SQLITE_OK && !clean)
        rc = size_of(s->w, &size);
    *later = !clean && size >= at_once;
    if (rc == SQLITE_OK && !clean && !*later && look(s->w, &why, &rc))
        return bgmqi_err_set(error, BGMQ_ECORRUPT, "%s: it is damaged: %s" STORE_RECIPE,
                             s->path, why.text);
    return rc == SQLITE_OK
               ? 0
               : bgmqi_store_schema_error(s->w, rc, s->path, "looking for damage", error);
}

/* ---- beside the service ------------------------------------------------------------ */

static void *run(void *arg)
{
    struct store_check *c = arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    int rc = SQLITE_OK;
    bool damaged = !atomic_load(&c->quit) && look(c->visit.w, &c->why, &rc);
    if (!damaged && (rc & 0xff) == SQLITE_CORRUPT) {
        bgmqi_err_set(&c->why, 0, "%s", sqlite3_errmsg(c->visit.w));
        damaged = true;
    }
    /* An interrupted look takes what it has not come to for damage. */
    if (atomic_load(&c->quit)) {
        bgmqi_err_set(&c->why, 0, "the log grows while it reads");
        atomic_store(&c->given_up, true);
    } else if (damaged) {
        atomic_store(&c->damaged, true);
    } else if (rc != SQLITE_OK) {
        bgmqi_err_set(&c->why, 0, "%s (%d)", sqlite3_errstr(rc), rc);
        atomic_store(&c->given_up, true);
    }
    atomic_store(&c->ended, true);
    bgmqi_park_wake(&c->end);
    return NULL;
}

/* SQLite 3.40 asks for nothing else while it looks at a tree.  To be repeated until it has ended:
 * an interrupt that comes before the statement begins is lost. */
static void interrupt(struct store_check *c)
{
    atomic_store(&c->quit, true);
    sqlite3_interrupt(c->visit.w);
}

int bgmqi_store_check_beside(struct sqlite_store *s, struct bgmq_error *error)
{
    struct store_check *c = calloc(1, sizeof(*c));
    if (!c)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "%s: no memory", s->path);
    int err = bgmqi_store_open_visit(&c->visit, s->path, error);
    if (!err && bgmqi_thread_start(&c->thread, "bgmq-check", STACK_SIZE, run, c) != 0)
        err = bgmqi_err_set(error, BGMQ_ETHREAD, "%s: no thread to check it", s->path);
    if (err) {
        bgmqi_store_open_leave(&c->visit);
        free(c);
        return err;
    }
    s->check = c;
    return 0;
}

int bgmqi_store_check_found(struct sqlite_store *s, struct bgmq_error *why)
{
    if (!s->check || !atomic_load(&s->check->damaged))
        return 0;
    return bgmqi_err_set(why, BGMQ_ECORRUPT, "%s", s->check->why.text);
}

bool bgmqi_store_check_runs(const struct sqlite_store *s)
{
    return s->check && !atomic_load(&s->check->ended);
}

void bgmqi_store_check_give_up(struct sqlite_store *s)
{
    if (bgmqi_store_check_runs(s))
        interrupt(s->check);
}

int bgmqi_store_check_given_up(struct sqlite_store *s, struct bgmq_error *text)
{
    struct store_check *c = s->check;
    if (!c || !atomic_load(&c->given_up) || c->given_up_told)
        return 0;
    c->given_up_told = true;
    bgmqi_err_set(text, 0,
                  "our own check of the file is given up: %s: "
                  "it is made when the file is next opened after a crash: %s",
                  c->why.text, s->path);
    return 1;
}

void bgmqi_store_check_end(struct sqlite_store *s)
{
    struct store_check *c = s->check;
    if (!c)
        return;
    while (!atomic_load(&c->ended)) {
        interrupt(c);
        bgmqi_park_wait(&c->end, AGAIN_NS);
    }
    PTHREAD_OK(pthread_join(c->thread, NULL));
    bgmqi_store_open_leave(&c->visit);
    free(c);
    s->check = NULL;
}
