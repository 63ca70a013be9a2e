/*
 * prefork.c - a pre-fork server: worker processes that publish, one process that does the work.
 *
 * Usage: prefork [DATABASE [WORKERS [REQUESTS]]].  Each worker answers REQUESTS requests, of which
 * nothing is seen here but the job that it leaves behind: it publishes that as a guest.  The parent
 * owns the database and runs the jobs.
 *
 * The order matters: the workers are forked before the parent opens the database.  A child of a
 * process that has a SQLite file open must not open that file.
 */
#include <bgmq_sqlite.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS_MAX = 64 };

static int run_job(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const char *body = bgmq_job_body(job, &len);
    (void)ctx;
    printf("job of %.*s\n", (int)len, body);
    return BGMQ_DONE;
}

/* A worker process, from the moment when the parent says that the database is there. */
static int serve(const char *database, int number, int requests)
{
    struct bgmq_error error;
    struct bgmq_guest *guest;
    if (bgmq_guest_open(&guest, database, &error)) {
        fprintf(stderr, "prefork: worker %d: %s\n", number, error.text);
        return 1;
    }
    int err = 0;
    for (int i = 0; i < requests && !err; i++) {
        char body[64];
        int len = snprintf(body, sizeof(body), "request %d of worker %d", i, number);
        /* When this returns the job will be done, whatever happens to any of the processes. */
        err = bgmq_guest_publish(guest, "Job", body, (size_t)len, NULL, NULL);
    }
    if (err)
        fprintf(stderr, "prefork: worker %d: %s\n", number, bgmq_strerror(err));
    bgmq_guest_close(guest);
    return err != 0;
}

/* Forks a worker that waits until the other end of READY is closed. */
static pid_t start_worker(const char *database, int number, int requests,
                          const int ready[2])
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    char c;
    close(ready[1]);
    if (read(ready[0], &c, 1) != 0)
        _exit(1);
    _exit(serve(database, number, requests));
}

static int run(struct bgmq *mq, int jobs)
{
    struct bgmq_type_options type = {.outq_limit =
                                         (unsigned)jobs}; /* none is forgotten */
    int err = bgmq_register(mq, "Job", run_job, NULL, &type);
    if (!err)
        err = bgmq_start(mq);
    for (int i = 0; i < jobs && !err; i++) {
        struct bgmq_message *done;
        err = bgmq_get(mq, "mq:Job.outq", 60000, &done);
        if (!err)
            err = bgmq_ack(done);
        if (!err)
            bgmq_message_free(done);
    }
    return err;
}

int main(int argc, char **argv)
{
    const char *database = argc > 1 ? argv[1] : "prefork.db";
    int workers = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 4;
    int requests = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
    int ready[2], status, failed = 0;
    pid_t pids[WORKERS_MAX];
    if (workers < 1 || workers > WORKERS_MAX || pipe(ready) != 0)
        return 2;
    for (int i = 0; i < workers; i++)
        pids[i] = start_worker(database, i, requests, ready);
    close(ready[0]);

    struct bgmq_error error;
    struct bgmq *mq;
    struct bgmq_options options = {.database = database, .guests = 1};
    if (bgmq_open(&mq, &options, &error)) {
        fprintf(stderr, "prefork: %s\n", error.text);
        return 1;
    }
    close(ready[1]); /* the database is there */
    failed = run(mq, workers * requests) != 0;
    for (int i = 0; i < workers; i++)
        if (pids[i] < 0 || waitpid(pids[i], &status, 0) < 0 || status != 0)
            failed = 1;
    bgmq_free(mq);
    return failed;
}
