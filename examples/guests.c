/*
 * guests.c - messages that other programs write into the database with plain SQL.
 *
 * Usage: guests [DATABASE [N]].  Owns DATABASE and prints the bodies of the N messages of type
 * "Note" that others insert, for instance
 *
 *     sqlite3 DATABASE "PRAGMA wal_autocheckpoint = 0;
 *                       INSERT INTO bgmq_inbox(type, body) VALUES('Note', 'from the shell')"
 *
 * Without arguments the other program is this one: it opens the file as any other would.
 */
#include <bgmq.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static int print_note(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const char *body = bgmq_job_body(job, &len);
    const char *tag = bgmq_job_tag(job);
    (void)ctx;
    printf("%.*s%s%s\n", (int)len, body, tag ? ", tag " : "", tag ? tag : "");
    fflush(stdout);
    return BGMQ_DONE;
}

/* What a program in any language does that can use SQLite. */
static int insert_notes(const char *path)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(db, 5000);
        sqlite3_wal_autocheckpoint(db, 0); /* the owner does that */
        rc = sqlite3_exec(db,
                          "BEGIN IMMEDIATE;"
                          "INSERT INTO bgmq_inbox(type, body) VALUES('Note', 'one');"
                          "INSERT INTO bgmq_inbox(type, body, tag)"
                          " VALUES('Note', 'two', 'urgent');"
                          "COMMIT",
                          NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK)
        fprintf(stderr, "guests: %s\n", sqlite3_errmsg(db));
    sqlite3_close(db);
    return rc != SQLITE_OK;
}

/* Waits for N messages to end well. */
static int wait_for(struct bgmq *mq, int n)
{
    for (int i = 0; i < n; i++) {
        struct bgmq_message *done;
        if (bgmq_get(mq, "mq:Note.outq", 60000, &done))
            return 1;
        bgmq_ack(done);
        bgmq_message_free(done);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct bgmq_options options = {.database = argc > 1 ? argv[1] : "guests.db",
                                   .guests = 1};
    int n = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 2;
    struct bgmq_error error;
    struct bgmq *mq;
    if (bgmq_open(&mq, &options, &error)) {
        fprintf(stderr, "guests: %s\n", error.text);
        return 1;
    }
    struct bgmq_type_options type = {.outq_limit = (unsigned)n}; /* none is forgotten */
    int failed = bgmq_register(mq, "Note", print_note, NULL, &type);
    puts("ready");
    fflush(stdout);
    if (!failed)
        failed = bgmq_start(mq);
    if (!failed && argc <= 2)
        failed = insert_notes(options.database);
    if (!failed)
        failed = wait_for(mq, n);
    bgmq_free(mq);
    return failed;
}
