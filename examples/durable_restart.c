/*
 * durable_restart.c - what survives kill -9.
 *
 * Usage: durable_restart.  Makes a scratch directory and runs itself again as a second
 * program ("work DATABASE FD") that publishes twenty messages and starts to run them.  When
 * seven have run and the eighth is in the middle of its work, the first program kills the
 * second with SIGKILL, opens the same database itself, and runs what was left.  Exits 0
 * when every message ran, and none that had ended ran again.
 */
#include <bgmq.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MESSAGES = 20, BEFORE = 7 };

/* ---- the program that will be killed ---- */

/* One worker.  The effect of a run is its number, written to the pipe CTX points to. */
static int work_until_killed(struct bgmq_job *job, void *ctx)
{
    const int *fd = ctx;
    int number;
    int err = bgmq_job_unpack(job, "{s:i}", "number", &number);
    if (err)
        return err;
    unsigned char byte = (unsigned char)number;
    if (number > BEFORE) {
        /* Outcomes are written in the background, a few milliseconds later: what ended in
         * the last of them would be run again.  Waiting for them makes the example exact. */
        byte = 0; /* "in the middle of one" */
        if (bgmq_flush(bgmq_job_service(job)) || write(*fd, &byte, 1) != 1)
            return BGMQ_RETRY;
        /* SIGKILL ends this, or the end of the other program, which closes the pipe. */
        poll(&(struct pollfd){.fd = *fd}, 1, -1);
        _exit(1);
    }
    return write(*fd, &byte, 1) == 1 ? BGMQ_DONE : BGMQ_RETRY;
}

static int be_killed(const char *database, int fd)
{
    struct bgmq *mq;
    struct bgmq_error error;
    if (bgmq_open(&mq, &(struct bgmq_options){.database = database}, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    if (bgmq_register(mq, "Work", work_until_killed, &fd, NULL))
        return 1;
    for (int i = 1; i <= MESSAGES; i++) {
        if (bgmq_publish_json(mq, "Work", NULL, NULL, "{s:i}", "number", i))
            return 1;
    }
    if (bgmq_start(mq))
        return 1;
    for (;;)
        pause();
}

/* ---- the program that goes on ---- */

/* Written by the handler's one thread, read by main() when bgmq_get has given it the last
 * message. */
struct tally {
    int runs[MESSAGES + 1];
    unsigned attempt[MESSAGES + 1];
};

static int work(struct bgmq_job *job, void *ctx)
{
    struct tally *tally = ctx;
    int number;
    int err = bgmq_job_unpack(job, "{s:i}", "number", &number);
    if (err)
        return err;
    if (number < 1 || number > MESSAGES)
        return BGMQ_PERMANENT;
    tally->runs[number]++;
    tally->attempt[number] = bgmq_job_attempt(job);
    return BGMQ_DONE;
}

/* Starts this program again as the one to be killed; returns its id, or -1. */
static pid_t spawn(const char *self, const char *database, int pipe_fds[2])
{
    char fd[16];
    if (pipe(pipe_fds))
        return -1;
    snprintf(fd, sizeof(fd), "%d", pipe_fds[1]);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipe_fds[0]);
        execl(self, self, "work", database, fd, (char *)NULL);
        _exit(127);
    }
    close(pipe_fds[1]);
    return pid;
}

/* Reads what the other program did until it is in the middle of a message, and kills it.
 * Returns 1 when it came that far. */
static int kill_half_way(pid_t pid, int fd, struct tally *tally)
{
    unsigned char byte = 255;
    int ran = 0;
    while (read(fd, &byte, 1) == 1 && byte != 0) {
        tally->runs[byte <= MESSAGES ? byte : 0]++;
        ran++;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(fd);
    printf("killed -9 after %d of %d messages, in the middle of the next\n", ran,
           MESSAGES);
    return byte == 0 && ran == BEFORE;
}

static int go_on(const char *database, struct tally *tally)
{
    struct bgmq *mq;
    struct bgmq_error error;
    struct bgmq_counters counters;
    if (bgmq_open(&mq, &(struct bgmq_options){.database = database}, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 0;
    }
    int ok = bgmq_service_counters(mq, &counters) == 0 &&
             bgmq_register(mq, "Work", work, tally, NULL) == 0 && bgmq_start(mq) == 0;
    if (ok)
        printf("opened again: %d unfinished messages found\n", (int)counters.replayed);
    for (uint64_t i = 0; ok && i < counters.replayed; i++) {
        struct bgmq_message *done;
        ok = bgmq_get(mq, "mq:Work.outq", 10000, &done) == 0;
        if (ok) {
            bgmq_ack(done);
            bgmq_message_free(done);
        }
    }
    bgmq_free(mq);
    return ok && counters.replayed == MESSAGES - BEFORE;
}

static int judge(const struct tally *tally)
{
    int missing = 0, twice = 0;
    for (int i = 1; i <= MESSAGES; i++) {
        missing += tally->runs[i] == 0;
        twice += tally->runs[i] > 1;
    }
    printf("ran: %d of %d, twice: %d; the one cut short ran as attempt %u\n",
           MESSAGES - missing, MESSAGES, twice, tally->attempt[BEFORE + 1]);
    return missing == 0 && twice == 0 && tally->attempt[BEFORE + 1] == 2;
}

static void remove_files(const char *directory, const char *database)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-lock", "-flight", NULL};
    for (int i = 0; suffixes[i]; i++) {
        char path[160];
        snprintf(path, sizeof(path), "%s%s", database, suffixes[i]);
        unlink(path);
    }
    rmdir(directory);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "work") == 0)
        return be_killed(argv[2], (int)strtol(argv[3], NULL, 10));

    char directory[] = "/tmp/durable_restart.XXXXXX";
    char database[64];
    int fds[2];
    struct tally tally = {.runs = {0}};
    if (!mkdtemp(directory))
        return 1;
    snprintf(database, sizeof(database), "%s/queue.db", directory);
    pid_t pid = spawn("/proc/self/exe", database, fds);
    if (pid < 0)
        return 1;
    int ok =
        kill_half_way(pid, fds[0], &tally) && go_on(database, &tally) && judge(&tally);
    remove_files(directory, database);
    puts(ok ? "all as it should be" : "NOT as it should be");
    return ok ? 0 : 1;
}
