/* files.h - what the fuzzers of the database share: a folder, a service on a file in it, and a look
 * at the file by plain SQLite. */
#ifndef BGMQ_FUZZ_FILES_H
#define BGMQ_FUZZ_FILES_H

#include <bgmq_test.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "target.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

static char files_folder[64], files_path[96], files_log[96];

static void files_forget(void)
{
    static const char *const ends[] = {"",        "-wal",  "-shm",
                                       "-flight", "-lock", "-journal"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        char path[112];
        snprintf(path, sizeof(path), "%s%s", files_path, ends[i]);
        unlink(path);
    }
}

static void files_end(void)
{
    files_forget();
    rmdir(files_folder);
}

static void files_begin(void)
{
    snprintf(files_folder, sizeof(files_folder), "/dev/shm/bgmq-fuzz-XXXXXX");
    if (!mkdtemp(files_folder)) {
        snprintf(files_folder, sizeof(files_folder), "/tmp/bgmq-fuzz-XXXXXX");
        CHECK(mkdtemp(files_folder));
    }
    snprintf(files_path, sizeof(files_path), "%s/f.db", files_folder);
    snprintf(files_log, sizeof(files_log), "%s-wal", files_path);
    atexit(files_end);
}

static char *files_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    CHECK(f && fstat(fileno(f), &st) == 0);
    char *bytes = malloc((size_t)st.st_size + 1);
    *len = (size_t)st.st_size;
    CHECK(bytes && fread(bytes, 1, *len, f) == *len);
    fclose(f);
    return bytes;
}

/* With the mode that a file of ours has. */
static void files_write(const char *path, const char *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fchmod(fileno(f), 0600) == 0);
    CHECK(fwrite(bytes, 1, len, f) == len);
    CHECK(fclose(f) == 0);
}

static void files_ignore(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx;
    (void)level;
    CHECK(text && strlen(text) < 4096);
}

/* A test service on the file, or NULL: it was refused, with a reason. */
static struct bgmq *files_open(int *ret_err)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    struct bgmq_options o = {.database = files_path,
                             .publish_timeout_ms = 500,
                             .boot_breaker = 1000,
                             .log = files_ignore};
    int err = bgmq_test_open(&mq, &o, INT64_C(1900000000000), &error);
    if (ret_err)
        *ret_err = err;
    CHECK(err <= 0);
    if (getenv("FUZZ_SAY"))
        fprintf(stderr, "open: %s\n", error.text);
    if (err == 0)
        return mq;
    CHECK(error.text[0] && memchr(error.text, 0, sizeof(error.text)));
    CHECK(err != BGMQ_EINVAL && err != BGMQ_ENOMEM);
    return NULL;
}

/* What an operator would look at. */
static inline void files_look(struct bgmq *mq)
{
    char *text = NULL;
    struct bgmq_health h;
    struct bgmq_info info;
    CHECK(bgmq_health(mq, &h) == 0);
    if (bgmq_status_text(mq, &text) == 0)
        free(text);
    if (bgmq_status_json(mq, &text) == 0)
        free(text);
    for (uint64_t id = 1; id < 8; id++)
        bgmq_find(mq, id % 2 ? "Odd" : "Even", id, &info);
}

/* ---- rows, as plain SQLite sees them ------------------------------------------------- */

enum { ROWS_MAX = 512 };

struct rows {
    int64_t ids[ROWS_MAX];
    size_t n;
};

static bool rows_of(sqlite3 *db, const char *sql, struct rows *ret)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(q);
        if (rc == SQLITE_ROW && ret->n < ROWS_MAX)
            ret->ids[ret->n++] = sqlite3_column_int64(q, 0);
    }
    sqlite3_finalize(q);
    return rc == SQLITE_DONE;
}

static bool is_whole(sqlite3 *db)
{
    sqlite3_stmt *q = NULL;
    bool yes =
        sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW &&
        strcmp((const char *)sqlite3_column_text(q, 0), "ok") == 0;
    sqlite3_finalize(q);
    return yes;
}

/* The ids of all messages; false: they cannot be read, or (WHOLE) the file is damaged. */
static inline bool rows_read(struct rows *ret, bool whole)
{
    sqlite3 *db = NULL;
    ret->n = 0;
    bool good = sqlite3_open(files_path, &db) == SQLITE_OK && (!whole || is_whole(db)) &&
                rows_of(db, "SELECT id FROM bgmq_job", ret) &&
                rows_of(db, "SELECT id FROM bgmq_backlog", ret);
    sqlite3_close(db);
    return good;
}

static inline bool rows_has(const struct rows *r, int64_t id)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->ids[i] == id)
            return true;
    return false;
}

#endif
