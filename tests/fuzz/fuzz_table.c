/* fuzz_table.c - a sound SQLite file whose tables hold values that nobody of ours has put there.
 *
 * S7, S8.  The file is that of an owner that died.  Each 12 bytes of the input are one change: in
 * which table (1) which row (1) gets in which column (1) a value of which kind (1), out of 8
 * bytes.  Those rows may be dead, and say why, and never crash anybody; all others run once, as
 * they were published. */
#include "files.h"

enum { MESSAGES = 12, CHANGES_MAX = 8 };

static char *file, *log_file;
static size_t file_len, log_len;

static const char *const names[] = {"Even", "Odd"};

static void body_of(char body[48], int i)
{
    snprintf(body, 48, "message %d of the fuzzer", i);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    files_begin();
    struct bgmq *mq = files_open(NULL);
    CHECK(mq);
    for (int i = 1; i <= MESSAGES; i++) {
        char body[48], key[16];
        body_of(body, i);
        snprintf(key, sizeof(key), "key %d", i);
        struct bgmq_message_options o = {.priority = i % 4 == 1 ? 2 : 0,
                                         .delay_ms = i % 4 == 2 ? 1000 : 0,
                                         .unique_key = i % 4 == 3 ? key : NULL,
                                         .expire_ms = i % 5 ? 0 : 10000000,
                                         .durability = BGMQ_DISK};
        struct bgmq_receipt r;
        CHECK(bgmq_publish(mq, names[i % 2], body, strlen(body), &o, &r) == 0);
        CHECK(r.id == (uint64_t)i);
    }
    file = files_read(files_path, &file_len);
    log_file = files_read(files_log, &log_len);
    bgmq_free(mq);
    return 0;
}

/* ---- hostile values ------------------------------------------------------------------ */

static bool hit[MESSAGES + 1]; /* a row of it was changed */
static bool hit_all;           /* something that many rows depend on was */

static void use(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fprintf(stderr, "%s: %s\n", sql, why);
    CHECK(!why);
}

static void bind(sqlite3_stmt *q, uint8_t kind, const uint8_t *bytes)
{
    static const int64_t numbers[] = {INT64_MIN,        INT64_MAX, -1,    0,
                                      INT64_C(1) << 53, 4,         65536, 2147483648};
    int64_t n;
    double real;
    memcpy(&n, bytes, 8);
    memcpy(&real, bytes, 8);
    switch (kind % 8) {
    case 0:
        sqlite3_bind_null(q, 1);
        break;
    case 1:
        sqlite3_bind_int64(q, 1, n);
        break;
    case 2:
        sqlite3_bind_int64(q, 1, numbers[bytes[0] % 8]);
        break;
    case 3:
        sqlite3_bind_int64(q, 1, (int8_t)bytes[0]);
        break;
    case 4:
        sqlite3_bind_double(q, 1, real);
        break;
    case 5:
        sqlite3_bind_text(q, 1, (const char *)bytes, 8, SQLITE_TRANSIENT);
        break;
    case 6:
        sqlite3_bind_blob(q, 1, bytes, 8, SQLITE_TRANSIENT);
        break;
    default:
        sqlite3_bind_zeroblob(q, 1, 3 << 20); /* longer than a body may be */
    }
}

static const char *const tables[] = {"bgmq_job",     "bgmq_job",     "bgmq_backlog",
                                     "bgmq_backlog", "bgmq_type",    "bgmq_unique",
                                     "bgmq_history", "bgmq_meta",    "bgmq_error",
                                     "bgmq_inbox",   "bgmq_progress"};

/* The name of column NTH of TABLE. */
static bool column_of(sqlite3 *db, const char *table, uint8_t nth, char ret[64])
{
    char sql[128];
    sqlite3_stmt *q = NULL;
    int n = 0;
    snprintf(sql, sizeof(sql), "SELECT name FROM pragma_table_info('%s')", table);
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
        return false;
    while (sqlite3_step(q) == SQLITE_ROW)
        n++;
    sqlite3_reset(q);
    for (int i = 0; n && i <= nth % n; i++)
        if (sqlite3_step(q) == SQLITE_ROW)
            snprintf(ret, 64, "%s", (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    return n > 0;
}

static void change(sqlite3 *db, const uint8_t *how)
{
    const char *table = tables[how[0] % (sizeof(tables) / sizeof(*tables))];
    char column[64], sql[192];
    sqlite3_stmt *q = NULL;
    int row = 1 + how[1] % MESSAGES;
    bool job = strcmp(table, "bgmq_job") == 0 || strcmp(table, "bgmq_backlog") == 0;
    if (!column_of(db, table, how[2], column))
        return;
    if (job && strcmp(column, "id") == 0)
        return; /* another message, then */
    snprintf(sql, sizeof(sql), "UPDATE %s SET %s = ?1 WHERE rowid = %d", table, column,
             row);
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK) {
        bind(q, how[3], how + 4);
        sqlite3_step(q);
    }
    sqlite3_finalize(q);
    if (sqlite3_changes(db) == 0)
        return;
    if (getenv("FUZZ_SAY"))
        fprintf(stderr, "%s: %s of %d, kind %d\n", table, column, row, how[3] % 8);
    hit[row] |= job;
    hit_all |= strcmp(table, "bgmq_type") == 0 || strcmp(table, "bgmq_meta") == 0;
}

/* The rows are changed as a flipped bit may: while the tables are not STRICT. */
static void meddle(const uint8_t *data, size_t size)
{
    sqlite3 *db = NULL;
    CHECK(sqlite3_open(files_path, &db) == SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
    use(db, "CREATE TEMP TABLE kept AS SELECT name, sql FROM sqlite_schema;"
            "PRAGMA writable_schema = ON; PRAGMA ignore_check_constraints = ON;"
            "UPDATE sqlite_schema SET sql = replace(replace(replace(sql, ') STRICT,', "
            "')'), ') STRICT', ')'),"
            " ' NOT NULL', '') WHERE name LIKE 'bgmq%' AND type = 'table';"
            "PRAGMA writable_schema = RESET;");
    for (size_t i = 0; i + 12 <= size && i < 12 * CHANGES_MAX; i += 12)
        change(db, data + i);
    use(db, "PRAGMA writable_schema = ON;"
            "UPDATE sqlite_schema AS s SET sql = (SELECT k.sql FROM temp.kept k WHERE"
            " k.name = s.name) WHERE name LIKE 'bgmq%' AND type = 'table';"
            "PRAGMA writable_schema = RESET;");
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* ---- what comes of it ---------------------------------------------------------------- */

static int runs[MESSAGES + 1];

static int handle(struct bgmq_job *job, void *ctx)
{
    uint64_t id = bgmq_job_id(job);
    size_t len;
    char body[48];
    (void)ctx;
    const char *got = bgmq_job_body(job, &len);
    CHECK(bgmq_job_attempt(job) >= 1);
    if (id < 1 || id > MESSAGES)
        return BGMQ_DONE; /* of the inbox */
    runs[id]++;
    body_of(body, (int)id);
    CHECK(len == strlen(body) && memcmp(got, body, len) == 0);
    return BGMQ_DONE;
}

/* It has run, unless its row was changed; then it may be dead, and says why. */
static void expect(struct bgmq *mq, int n)
{
    struct bgmq_info info;
    int err = bgmq_find(mq, names[n % 2], (uint64_t)n, &info);
    CHECK(runs[n] <= 1);
    if (getenv("FUZZ_SAY") && !runs[n])
        fprintf(stderr, "%d has not run: %s, state %d, %s: %s\n", n, bgmq_errname(err),
                err ? 0 : info.state, err ? "" : info.error_code,
                err ? "" : info.error_text);
    if (runs[n])
        CHECK(err == BGMQ_ENOENT || info.state == BGMQ_STATE_DONE);
    else
        CHECK(hit[n] || hit_all);
    if (!err && info.state == BGMQ_STATE_DEAD)
        CHECK(info.error_code[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rows before, after;
    memset(hit, 0, sizeof(hit));
    memset(runs, 0, sizeof(runs));
    hit_all = false;
    files_forget();
    files_write(files_path, file, file_len);
    files_write(files_log, log_file, log_len);
    meddle(data, size);
    CHECK(rows_read(&before, false));
    int err;
    struct bgmq *mq = files_open(&err);
    if (!mq) {
        CHECK(hit_all || err == BGMQ_ECORRUPT);
        CHECK(rows_read(&after, false) && after.n == before.n);
        return 0;
    }
    struct bgmq_type_options o = {.window = 3};
    for (int t = 0; t < 2; t++)
        CHECK(bgmq_register(mq, names[t], handle, NULL, &o) == 0);
    files_look(mq);
    for (int i = 0; i < 3; i++) {
        CHECK(bgmq_test_advance(mq, 1000) == 0);
        CHECK(bgmq_test_drain(mq, 0) >= 0);
    }
    CHECK(bgmq_flush(mq) == 0);
    for (int n = 1; n <= MESSAGES; n++)
        expect(mq, n);
    bgmq_free(mq);
    /* What did not run is there still. */
    CHECK(rows_read(&after, false));
    for (int n = 1; n <= MESSAGES; n++)
        CHECK(runs[n] || rows_has(&after, n));
    return 0;
}
