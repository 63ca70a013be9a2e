/* fuzz_file.c - a database whose bytes are not as they were: opened, replayed, looked at.
 *
 * The file and its log are those of an owner that died with messages in every lane.  The input
 * says which of their bytes are changed: 8 bytes each, where (4), how long a run (1), by what (2)
 * and how (1).  Whatever stands there, the library neither crashes nor makes the file anew, and
 * rows that SQLite could read before are there afterwards. */
#include "files.h"

enum { MESSAGES = 24, CHANGES_MAX = 64 };

static char *file, *log_file;
static size_t file_len, log_len;

static void publish(struct bgmq *mq, int i)
{
    char body[200];
    int len = snprintf(body, sizeof(body), "message %d %0*d", i, i % 5 ? 1 : 150, i);
    struct bgmq_message_options o = {.priority = i % 3 == 1,
                                     .delay_ms = i % 3 == 2 ? 1000 * i : 0,
                                     .tag = i % 4 ? NULL : "tag",
                                     .durability = BGMQ_DISK};
    CHECK(bgmq_publish(mq, i % 2 ? "Odd" : "Even", body, (size_t)len, &o, NULL) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    files_begin();
    struct bgmq *mq = files_open(NULL);
    CHECK(mq);
    for (int i = 0; i < MESSAGES; i++)
        publish(mq, i);
    CHECK(bgmq_cancel(mq, "Odd", &(struct bgmq_select){.max = 3}, "for the dlq") == 3);
    file = files_read(files_path, &file_len);
    log_file = files_read(files_log, &log_len);
    bgmq_free(mq);
    return 0;
}

static void change(char *bytes, size_t len, const uint8_t *how)
{
    size_t at = (how[0] | (size_t)how[1] << 8 | (size_t)how[2] << 16) % len;
    for (size_t i = 0, run = 1 + how[3] % 64; i < run && at + i < len; i++) {
        uint8_t by = how[4 + i % 2];
        if (how[6] % 3 == 0)
            bytes[at + i] = (char)by;
        else if (how[6] % 3 == 1)
            bytes[at + i] ^= (char)(by ? by : 1);
        else
            bytes[at + i] = (char)(bytes[at + i] + by);
    }
}

/* Writes the files as DATA says. */
static void make(const uint8_t *data, size_t size)
{
    char *f = malloc(file_len), *l = malloc(log_len);
    CHECK(f && l);
    memcpy(f, file, file_len);
    memcpy(l, log_file, log_len);
    size_t whole = file_len, whole_log = log_len;
    for (size_t i = 0; i + 8 <= size && i < 8 * CHANGES_MAX; i += 8) {
        const uint8_t *how = data + i;
        if (how[7] == 255)
            whole = 1 + (how[0] | (size_t)how[1] << 8) % file_len;
        else if (how[7] == 254)
            whole_log = (how[0] | (size_t)how[1] << 8) % log_len;
        else if (how[7] % 2)
            change(l, log_len, how);
        else
            change(f, file_len, how);
    }
    files_write(files_path, f, whole);
    files_write(files_log, l, whole_log);
    free(f);
    free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rows before, after;
    struct stat st, now;
    files_forget();
    make(data, size);
    bool readable = rows_read(&before, true);
    files_forget();
    make(data, size);
    CHECK(stat(files_path, &st) == 0);
    struct bgmq *mq = files_open(NULL);
    if (mq) {
        files_look(mq);
        bgmq_free(mq);
    }
    CHECK(stat(files_path, &now) == 0);
    CHECK(now.st_ino == st.st_ino && now.st_size > 0);
    if (readable && rows_read(&after, false))
        for (size_t i = 0; i < before.n; i++)
            CHECK(rows_has(&after, before.ids[i]));
    return 0;
}
