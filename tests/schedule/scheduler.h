/* scheduler.h - runs the threads of a scene one at a time, in an order that a seed decides.
 *
 * The linker puts what is here in place of the calls by which threads meet: pthread_create, join,
 * mutexes, conditions, futexes, clocks and sleeps (tests/meson.build, wraps).  Within a schedule a
 * thread goes on until one of these calls, or an atomic operation of the library (points.h), lets
 * another go first.  Which one: mostly by PCT (Burckhardt and others, "A Randomized Scheduler with
 * Probabilistic Guarantees of Finding Bugs", 2010), where the thread of the highest priority runs
 * and loses it at 2 to 4 places of the schedule; else by a walk at random.
 *
 * Time is virtual.  It creeps while threads run, and leaps only when all of them wait, to the end
 * of the first wait that has one, and sometimes of those that end at about the same time.  So a
 * wake that was lost is not hidden by a time-out: the leap goes beyond the time that the scene may
 * take, and that is a fault.  In a hasty schedule, which only a scene that allows it gets, time may
 * leap at any wait: then nothing is said about time.
 *
 * A fault ends the test with the seed that plays the schedule again: the same program with the
 * same seed does the same, step by step. */
#ifndef BGMQ_TEST_SCHEDULER_H
#define BGMQ_TEST_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

struct scene {
    const char *name;
    void (*play)(void);  /* the first thread; it has to join all others */
    int64_t may_take_ms; /* virtual; beyond it a wake was lost [1] */
    bool hasty;          /* time-outs may come whenever they like */
};
/* SCENE(fn) is the one that FN plays. */
#define SCENE(fn) .name = #fn, .play = fn

/* Plays S once.  Returns a digest of the order in which its threads ran. */
uint64_t schedule_play(const struct scene *s, uint64_t seed);
/* Plays S with SEED, SEED + 1, ... N times. */
void schedule_explore(const struct scene *s, uint64_t seed, unsigned n);

/* ---- within a scene ------------------------------------------------------------------ */

/* What was set up before was no part of it: from here on the order is of interest. */
void schedule_from_here(void);
/* Waits, without being woken, until *N is WANT or more.  Looked at when nobody else can run, and
 * before time leaps. */
void schedule_until(const long *n, long want);
/* Another thread may go first. */
void schedule_point(void);
/* Waits may end by time, though what they waited for was about to come. */
bool schedule_is_hasty(void);
/* A random number below N, of the seed. */
unsigned schedule_random(unsigned n);

/* The seed, threads and what each waits for go to stderr, and the test ends.  NULL: so it is; else
 * FN is called instead, and does not return. */
void schedule_on_fault(void (*fn)(const char *what));
void schedule_fault(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));

#endif
