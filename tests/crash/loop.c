/* loop.c - starts one process after the other on one database, and kills it.  Runs on the one
 * thread of the test; the processes are this program again. */
#include "loop.h"

#include "../harness/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

long loop_setting(const char *variable, long otherwise)
{
    const char *text = getenv(variable);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

void loop_begin(struct loop *l, const char *word, const struct loop_kills *kills)
{
    long n = harness_full() ? kills->full : kills->quick;
    n = harness_scale() > 1 ? kills->slow : n;
    const char *dir = getenv("BGMQ_CRASH_DIR");
    dir = dir && *dir ? dir : harness_tmpdir();
    *l = (struct loop){
        .word = word,
        .seed = harness_seed((uint64_t)time(NULL) % 1000000),
        .kills = loop_setting("BGMQ_KILLS", n),
    };
    snprintf(l->db, sizeof(l->db), "%s/kill.db", dir);
    snprintf(l->history, sizeof(l->history), "%s/history", dir);
    l->random = l->seed * 0x9e3779b97f4a7c15u + 1;
}

uint64_t loop_random(struct loop *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random;
}

int loop_patience(void)
{
    return 20000 * (int)harness_scale();
}

/* ---- one process ---------------------------------------------------------------- */

static void become(const struct loop *l, int fd, const char *word, const char *what,
                   long extra)
{
    char round[24], seed[24], at[24];
    snprintf(round, sizeof(round), "%ld", l->round);
    snprintf(seed, sizeof(seed), "%llu",
             (unsigned long long)(l->seed + (uint64_t)l->round));
    snprintf(at, sizeof(at), "%ld", extra);
    if (dup2(fd, LOOP_READY_FD) < 0)
        _exit(97);
    execl("/proc/self/exe", "crash", word, l->db, l->history, round, seed, at, what,
          (char *)NULL);
    _exit(98);
}

static struct process spawn(struct loop *l, const char *word, const char *what,
                            long extra)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    struct process p = {.pid = fork(), .fd = ends[0]};
    ck_assert_int_ge(p.pid, 0);
    if (p.pid == 0)
        become(l, ends[1], word, what, extra);
    close(ends[1]);
    return p;
}

struct process loop_start(struct loop *l, const char *what, long extra)
{
    l->round++;
    return spawn(l, l->word, what, extra);
}

struct process loop_start_beside(struct loop *l, const char *word, long extra)
{
    return spawn(l, word, "beside", extra);
}

int process_hear(struct process p, int ms)
{
    struct pollfd fd = {.fd = p.fd, .events = POLLIN};
    int r;
    do
        r = poll(&fd, 1, ms);
    while (r < 0 && errno == EINTR);
    char byte;
    return r == 0 ? -1 : (int)read(p.fd, &byte, 1);
}

int process_reap(struct process p)
{
    int status = 0;
    ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
    close(p.fd);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void loop_expect_death(struct loop *l, struct process p, int status)
{
    kill(p.pid, SIGKILL);
    int got = process_reap(p);
    l->deaths++;
    ck_assert_msg(got == status || got == -SIGKILL,
                  "round %ld ended by itself with %d; " LOOP_REPLAY, l->round, got,
                  (unsigned long long)l->seed);
}

void loop_kill_now(struct loop *l, struct process p)
{
    kill(p.pid, SIGKILL);
    int status = process_reap(p);
    l->deaths += status != 0;
    ck_assert_msg(status == 0 || status == -SIGKILL,
                  "round %ld ended by itself with %d; " LOOP_REPLAY, l->round, status,
                  (unsigned long long)l->seed);
}

void loop_wait_ready(struct loop *l, struct process p)
{
    int heard = process_hear(p, loop_patience());
    if (heard == 1)
        return;
    kill(p.pid, SIGKILL);
    int status = process_reap(p);
    ck_abort_msg("round %ld did not begin: %s, %d; " LOOP_REPLAY, l->round,
                 heard ? "silent" : "dead", status, (unsigned long long)l->seed);
}

void loop_expect_end(struct loop *l, struct process p, int ms)
{
    int heard;
    while ((heard = process_hear(p, ms)) == 1) {
        /* It goes on with its work. */
    }
    if (heard)
        kill(p.pid, SIGKILL);
    int status = process_reap(p);
    ck_assert_msg(status == 0, "round %ld did not end well: %d; " LOOP_REPLAY, l->round,
                  status, (unsigned long long)l->seed);
}

/* ---- rounds --------------------------------------------------------------------- */

void loop_kill_early(struct loop *l, const char *what)
{
    l->early++;
    struct process p = loop_start(l, what, 0);
    process_hear(p, (int)(loop_random(l) % 12));
    loop_expect_death(l, p, -SIGKILL);
}

void loop_kill_at_random(struct loop *l, const char *what)
{
    struct process p = loop_start(l, what, 0);
    loop_wait_ready(l, p);
    process_hear(p, (1 + (int)(loop_random(l) % 60)) * (harness_scale() > 1 ? 3 : 1));
    loop_expect_death(l, p, -SIGKILL);
}

void loop_kill_unless_ended(struct loop *l, const char *what)
{
    struct process p = loop_start(l, what, 0);
    loop_wait_ready(l, p);
    process_hear(p, (int)(loop_random(l) % 40) * (harness_scale() > 1 ? 3 : 1));
    loop_kill_now(l, p);
}

/* ---- ends in a handler ---------------------------------------------------------- */

enum { BY_ABORT, BY_ACCESS, BY_EXIT, WAYS, EXIT_STATUS = 77, STARTS = 60 };

void loop_end_if_due(long extra, long n)
{
    volatile long *volatile nowhere = (volatile long *)(uintptr_t)64;
    if (extra / WAYS != n)
        return;
    switch (extra % WAYS) {
    case BY_ACCESS:
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would make a report of it */
        *nowhere = n;
        break;
    case BY_EXIT:
        _exit(EXIT_STATUS);
    default:
        abort();
    }
}

static void end_in_handler(struct loop *l, const char *what, int way, int status)
{
    long start = 1 + (long)(loop_random(l) % STARTS);
    struct process p = loop_start(l, what, start * WAYS + way);
    while (process_hear(p, loop_patience()) == 1) {
        /* It has begun; the replayed may have started, and ended it, even before. */
    }
    loop_expect_death(l, p, status);
}

void loop_crash_in_handler(struct loop *l, const char *what)
{
    int by_access = loop_random(l) % 2 == 0;
    l->crashes++;
    end_in_handler(l, what, by_access ? BY_ACCESS : BY_ABORT,
                   by_access ? -SIGSEGV : -SIGABRT);
}

void loop_exit_in_handler(struct loop *l, const char *what)
{
    l->exits++;
    end_in_handler(l, what, BY_EXIT, EXIT_STATUS);
}
