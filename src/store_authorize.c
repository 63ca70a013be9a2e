/* store_authorize.c - the second wall behind the constant SQL: a list of what it touches.
 *
 * SQLite asks while it compiles a statement, on whatever thread does.  A statement that is refused
 * fails as one with a mistake in it does.  Never touches what belongs to the application. */
#include "store_authorize.h"

#include <stdbool.h>
#include <string.h>

#ifndef NDEBUG
static bool is_one_of(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; name && i < n; i++)
        if (sqlite3_stricmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool is_pragma(const char *name)
{
    static const char *const known[] = {
        "application_id",     "cache_size",     "cache_spill",
        "cell_size_check",    "data_version",   "journal_mode",
        "journal_size_limit", "max_page_count", "mmap_size",
        "page_count",         "page_size",      "quick_check",
        "recursive_triggers", "secure_delete",  "synchronous",
        "temp_store",         "user_version",   "wal_autocheckpoint",
        "wal_checkpoint",
    };
    return is_one_of(name, known, sizeof(known) / sizeof(known[0]));
}

/* What reaches out of the database.  Others are SQLite's own business: it calls some by itself, and
 * other ones in each of its versions. */
static bool is_dangerous(const char *function)
{
    static const char *const known[] = {
        "edit", "fts3_tokenizer", "load_extension", "readfile", "writefile",
    };
    return is_one_of(function, known, sizeof(known) / sizeof(known[0]));
}

static bool is_ours(const char *name)
{
    return name && strncmp(name, "bgmq_", 5) == 0;
}

/* Its own tables, the indexes it makes for a key of one of ours, and pragmas as tables. */
static bool is_of_sqlite(const char *name)
{
    return name && (strncmp(name, "sqlite_", 7) == 0 ||
                    (strncmp(name, "pragma_", 7) == 0 && is_pragma(name + 7)));
}

static int ask(void *ctx, int action, const char *one, const char *two, const char *db,
               const char *trigger)
{
    (void)ctx, (void)db, (void)trigger;
    bool fine = false;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
    case SQLITE_RECURSIVE:
        fine = true;
        break;
    case SQLITE_READ:
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
    case SQLITE_CREATE_INDEX:
    case SQLITE_DROP_INDEX:
    case SQLITE_REINDEX: /* as one is made */
    case SQLITE_CREATE_TABLE:
    case SQLITE_DROP_TABLE:
    case SQLITE_CREATE_VIEW:
    case SQLITE_DROP_VIEW:
        fine = is_ours(one) || is_of_sqlite(one);
        break;
    case SQLITE_ALTER_TABLE:
        fine = is_ours(two);
        break;
    case SQLITE_PRAGMA:
        fine = is_pragma(one);
        break;
    case SQLITE_FUNCTION:
        fine = !is_dangerous(two);
        break;
    default:
        break;
    }
    return fine ? SQLITE_OK : SQLITE_DENY;
}
#endif

void bgmqi_store_authorize(sqlite3 *db)
{
#ifndef NDEBUG
    sqlite3_set_authorizer(db, ask, NULL);
#else
    (void)db;
#endif
}

void bgmqi_store_authorize_all(sqlite3 *db)
{
    sqlite3_set_authorizer(db, NULL, NULL);
}
