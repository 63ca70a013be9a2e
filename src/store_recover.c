/* store_recover.c - after an open: what the last owner had in memory waits again.
 *
 * Called once by the opener, before the journal's thread starts.  A process that dies in
 * the middle has moved some rows and not others; recovering again moves the rest.  The
 * crashes are charged in the last transaction, so that dying before it charges nobody. */
#include "store_sqlite.h"

/* Nothing is written before a commit, so a chunk has to fit into memory. */
enum { CHUNK_ROWS = 50000, CHUNK_BYTES = 32 << 20 };

/* A death so soon after an opening counts for the boot breaker. */
enum { SOON_MS = 60000 };

/* The id up to which the next chunk goes; INT64_MAX: it is the last one. */
static int find_chunk(struct sqlite_store *s, int64_t *up_to)
{
    sqlite3_stmt *q = s->q[Q_RECOVER_SCAN];
    int64_t rows = 0, bytes = 0, id = 0;
    int rc;
    *up_to = INT64_MAX;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        if (rows >= CHUNK_ROWS || bytes >= CHUNK_BYTES) {
            *up_to = id;
            break;
        }
        id = sqlite3_column_int64(q, 0);
        bytes += sqlite3_column_int64(q, 1);
        rows++;
    }
    sqlite3_reset(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* CRASHED: its handler ran when the process died. */
static int charge(struct sqlite_store *s, uint64_t id, uint32_t attempt, bool crashed)
{
    enum statement tables[] = {Q_CHARGE_JOB, Q_CHARGE_BACKLOG};
    for (int i = 0; i < 2; i++) {
        sqlite3_bind_int64(s->q[tables[i]], 1, (int64_t)id);
        sqlite3_bind_int64(s->q[tables[i]], 2, attempt);
        sqlite3_bind_int(s->q[tables[i]], 3, crashed);
        int rc = bgmqi_store_sqlite_run(s, tables[i]);
        if (rc != SQLITE_OK || sqlite3_changes64(s->w) > 0)
            return rc;
    }
    return SQLITE_OK; /* it ended before the process did */
}

static int move(struct sqlite_store *s, int64_t up_to, enum statement how)
{
    sqlite3_bind_int64(s->q[how], 1, up_to);
    int rc = bgmqi_store_sqlite_run(s, how);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(s->q[Q_RECOVER_CLEAR], 1, up_to);
    return bgmqi_store_sqlite_run(s, Q_RECOVER_CLEAR);
}

/* The number that KEY of bgmq_meta holds; 0: none. */
static int read_meta(struct sqlite_store *s, const char *key, int64_t *ret)
{
    sqlite3_stmt *q = s->q[Q_META_GET];
    sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    int rc = sqlite3_step(q);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_reset(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int write_meta(struct sqlite_store *s, const char *key, int64_t value)
{
    sqlite3_bind_text(s->q[Q_META_SET], 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s->q[Q_META_SET], 2, value);
    return bgmqi_store_sqlite_run(s, Q_META_SET);
}

/* Charges what was in flight, once, and counts deaths that came soon after an opening. */
static int note_death(struct sqlite_store *s, const struct store_boot *boot,
                      struct store_booted *ret)
{
    int64_t charged = 0, opened = 0, clean = 0, deaths = 0;
    int rc = read_meta(s, "flight_charged", &charged);
    if (rc == SQLITE_OK)
        rc = read_meta(s, "opened", &opened);
    if (rc == SQLITE_OK)
        rc = read_meta(s, "clean", &clean);
    if (rc == SQLITE_OK)
        rc = read_meta(s, "deaths", &deaths);
    bool due = boot->flight != (uint64_t)charged;
    for (size_t i = 0; due && rc == SQLITE_OK && i < boot->n; i++)
        rc = charge(s, boot->ids[i], boot->attempts[i], boot->running[i] != 0);
    int64_t lived = boot->now_ms - opened;
    deaths = opened && !clean && lived >= 0 && lived < SOON_MS ? deaths + 1 : 0;
    ret->deaths = (unsigned)deaths;
    if (rc == SQLITE_OK)
        rc = write_meta(s, "flight_charged", (int64_t)boot->flight);
    if (rc == SQLITE_OK)
        rc = write_meta(s, "opened", boot->now_ms);
    if (rc == SQLITE_OK)
        rc = write_meta(s, "clean", 0);
    if (rc == SQLITE_OK)
        rc = write_meta(s, "deaths", deaths);
    return rc;
}

/* *ODD: rows that stand at a place that is none of ours. */
static int count(struct sqlite_store *s, struct store_booted *ret, int64_t *odd)
{
    sqlite3_stmt *q = s->q[Q_UNFINISHED];
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        ret->unfinished = (uint64_t)sqlite3_column_int64(q, 0);
        *odd = sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* Once all is in BACKLOG: what stands at a place that is none of ours would never be found.  It
 * goes to the dlq, with where it was as its error; a type that has no name gets one. */
static int mend(struct sqlite_store *s, const struct store_boot *boot,
                struct store_booted *ret)
{
    int64_t odd = 0;
    int rc = count(s, ret, &odd);
    if (rc == SQLITE_OK && odd) {
        rc = bgmqi_store_sqlite_run(s, Q_MEND_TYPE);
        if (rc == SQLITE_OK) {
            sqlite3_bind_int64(s->q[Q_MEND_PLACE], 1, boot->now_ms);
            rc = bgmqi_store_sqlite_run(s, Q_MEND_PLACE);
        }
        if (rc == SQLITE_OK)
            rc = count(s, ret, &odd);
    }
    return rc == SQLITE_OK ? bgmqi_store_sqlite_run(s, Q_MEND_UNKNOWN) : rc;
}

/* The last chunk has all that is done once. */
static int finish(struct sqlite_store *s, const struct store_boot *boot,
                  struct store_booted *ret)
{
    int rc = note_death(s, boot, ret);
    if (rc == SQLITE_OK)
        rc = mend(s, boot, ret);
    return rc == SQLITE_OK ? bgmqi_store_sqlite_run(s, Q_PROGRESS_STRAY) : rc;
}

/* One transaction; *LAST: nothing is left.  *HOW it moves becomes another when a row does not
 * fit; then nothing was changed. */
static int recover_chunk(struct sqlite_store *s, const struct store_boot *boot,
                         struct store_booted *ret, bool *last, enum statement *how)
{
    int64_t up_to = 0;
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_FULL);
    if (rc == SQLITE_OK) {
        stage = STAGE_BODY;
        rc = find_chunk(s, &up_to);
    }
    *last = up_to == INT64_MAX;
    if (rc == SQLITE_OK)
        rc = move(s, up_to, *how);
    if ((rc & 0xff) == SQLITE_CONSTRAINT && *how == Q_RECOVER_MOVE) {
        *how = Q_RECOVER_SALVAGE;
        *last = false;
        bgmqi_store_sqlite_fail(s, rc, stage, NULL);
        return s->dead ? s->dead_err : 0;
    }
    if (*last && rc == SQLITE_OK)
        rc = finish(s, boot, ret);
    if (rc == SQLITE_OK) {
        stage = STAGE_COMMIT;
        rc = bgmqi_store_sqlite_commit(s);
    }
    return rc == SQLITE_OK ? 0 : bgmqi_store_sqlite_failed(s, rc, stage);
}

int bgmqi_store_recover_all(struct store *store, const struct store_boot *boot,
                            struct store_booted *ret)
{
    struct sqlite_store *s = (struct sqlite_store *)store;
    if (s->dead)
        return s->dead_err;
    enum statement how = Q_RECOVER_MOVE;
    for (bool last = false; !last;) {
        int err = recover_chunk(s, boot, ret, &last, &how);
        if (err)
            return err;
        store->ops->checkpoint(store, 0);
    }
    return 0;
}
