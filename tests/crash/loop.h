/* loop.h - what the loops of kill -9 have in common: a plan that follows from a seed, and
 * processes that are started, heard of, killed and buried.
 *
 *     ./tests/faults/run kill --seed 7
 *
 * replays the plan of seed 7; the moments of the kills depend on the machine as well.  A program
 * by itself obeys BGMQ_SEED, BGMQ_KILLS (how many) and BGMQ_CRASH_DIR, where it leaves database and
 * history. */
#ifndef BGMQ_TEST_LOOP_H
#define BGMQ_TEST_LOOP_H

#include <stdint.h>
#include <sys/types.h>

/* File descriptor on which a process of the loop says "!" when it is about to begin. */
enum { LOOP_READY_FD = 3 };

struct loop {
    const char *word; /* the first argument of its processes, "--victim" */
    char db[512], history[512];
    uint64_t seed, random;
    long kills, round;
    long deaths;                /* processes that did not end by themselves and well */
    long crashes, exits, early; /* how many of the kills were of which kind */
};

/* How many kills: in the quick form, under a slow checker, and in full. */
struct loop_kills {
    long quick, slow, full;
};

/* What the loops say of a failure: how to see it again. */
#define LOOP_REPLAY "replay: ./tests/faults/run kill --seed %llu"

struct process {
    pid_t pid;
    int fd; /* "!" when it begins, end of file when it is dead */
};

/* The value of an environment VARIABLE. */
long loop_setting(const char *variable, long otherwise);
/* Takes seed, number of kills and directory from the environment. */
void loop_begin(struct loop *l, const char *word, const struct loop_kills *kills);
uint64_t loop_random(struct loop *l);
/* Milliseconds that a process may take for what should not take long. */
int loop_patience(void);

/* Starts the next round: this program with the arguments WORD, database, history, round, seed of
 * the round, EXTRA, WHAT. */
struct process loop_start(struct loop *l, const char *what, long extra);
/* Starts another process in the round that runs, or before the first. */
struct process loop_start_beside(struct loop *l, const char *word, long extra);
/* 1: it said "!"; 0: it is dead; -1: neither within MS. */
int process_hear(struct process p, int ms);
/* Its exit status, or minus the signal that ended it. */
int process_reap(struct process p);
/* Ends P and fails the test unless it was ended by that, or with STATUS (process_reap). */
void loop_expect_death(struct loop *l, struct process p, int status);
/* Ends P, which may have ended well before. */
void loop_kill_now(struct loop *l, struct process p);
/* Fails the test unless P says that it begins. */
void loop_wait_ready(struct loop *l, struct process p);
/* Fails the test unless P, which has begun, ends well, and is never silent for MS until then. */
void loop_expect_end(struct loop *l, struct process p, int ms);

/* Killed while it opens and recovers, or soon after. */
void loop_kill_early(struct loop *l, const char *what);
void loop_kill_at_random(struct loop *l, const char *what);
/* The same of one that ends by itself: well, if it is not killed before. */
void loop_kill_unless_ended(struct loop *l, const char *what);
/* A handler ends its process, by an abort or a bad access, or by _exit; which one it is follows
 * from the plan. */
void loop_crash_in_handler(struct loop *l, const char *what);
void loop_exit_in_handler(struct loop *l, const char *what);
/* In the process: start number N begins.  Ends the process when EXTRA, its argument, wants so. */
void loop_end_if_due(long extra, long n);

#endif
