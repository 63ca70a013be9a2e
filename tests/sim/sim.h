/* sim.h - a world in one thread, for the simulator: threads that are fibers, a clock that moves
 * when the world does, processes that can die at any instant, and a disk that outlives them.
 *
 * The real library runs in it, all of it but SQLite, files and the kernel's threads: where it
 * parks, takes a contended lock, asks for memory or for the time, or starts and joins a thread,
 * the linker puts the functions of sim_wrap.c in its place.  Each of those may hand over to
 * another fiber, and a random number, drawn from the seed, says which: so a seed is one run,
 * always the same. */
#ifndef BGMQ_TEST_SIM_H
#define BGMQ_TEST_SIM_H

#include "../harness/harness.h"

#include <stdbool.h>

enum { SIM_PROCESSES = 2 };

#define SIM_MS INT64_C(1000000)

/* ---- chance ------------------------------------------------------------------------- */

/* Begins the world of SEED: everything that was is gone. */
void sim_begin(uint64_t seed);
uint64_t sim_seed(void);
/* A random number below N. */
unsigned sim_below(unsigned n);
/* True N times in M. */
static inline bool sim_chance(unsigned n, unsigned m)
{
    return sim_below(m) < n;
}
/* Fails the test, with the command that runs this seed again. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A line on what happens, when BGMQ_TRACE is set. */
void sim_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- time --------------------------------------------------------------------------- */

int64_t sim_mono_ns(void);
int64_t sim_wall_ms(void);
/* Somebody sets the wall clock. */
void sim_set_wall(int64_t ms);

/* ---- fibers ------------------------------------------------------------------------- */

struct sim_fiber;

/* Starts FN(ARG) in process P.  NULL: there are too many. */
struct sim_fiber *sim_start(unsigned process, void *(*fn)(void *), void *arg);
/* The fiber that runs; NULL: the world itself. */
struct sim_fiber *sim_current(void);
/* The process of that fiber. */
unsigned sim_process(void);
/* Waits for SIM_WAKE(OBJECT), or until UNTIL_NS; both may come too early. */
void sim_wait(const void *object, int64_t until_ns);
/* Wakes whoever waits for OBJECT. */
void sim_wake(const void *object);
/* Others may go on meanwhile. */
void sim_yield(void);
/* Likewise, or not, as chance will have it. */
void sim_maybe_yield(void);
/* Lets MS pass. */
void sim_sleep(int64_t ms);
/* Waits for the end of F, and frees it. */
void sim_join(struct sim_fiber *f);

/* Runs one slice of one fiber, or lets time pass until one can go on.  False: nobody is left.
 * Fails the test when all wait for each other. */
bool sim_step(void);
/* Slices and operations since the program began, all seeds together. */
extern uint64_t sim_steps;

/* How the world behaves; set by sim_begin to all zero. */
struct sim_weather {
    unsigned yield_in; /* one call in so many hands over; 0: none */
    unsigned
        lose_wake_in; /* one wake in so many is lost: whoever waits finds out in a second */
    unsigned
        spurious_in; /* one slice in so many goes to somebody whom nobody has woken */
};
extern struct sim_weather sim_weather;

/* ---- processes ---------------------------------------------------------------------- */

/* All fibers and all memory of P are gone at this instant.  Not in a fiber of P. */
void sim_kill(unsigned process);
/* Fails the test when P, which has no fibers any more, has left memory behind. */
void sim_expect_clean(unsigned process);

/* ---- memory of a process (sim_memory.c) --------------------------------------------- */

/* Until sim_memory_off, malloc and its like serve the process that runs. */
void sim_memory_on(void);
void sim_memory_off(void);
void sim_memory_drop(unsigned process);
size_t sim_memory_blocks(unsigned process);
/* SIZE bytes of P's memory, all zero. */
void *sim_memory_new(unsigned process, size_t size);
/* False: BLOCK is of no process. */
bool sim_memory_free(void *block);
/* The size of a block of a process; 0: BLOCK is of none. */
size_t sim_memory_size(const void *block);
bool sim_memory_serves(void);

#endif
