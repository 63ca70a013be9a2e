/* turns.h - what scheduler.c, which says who runs, has for meet.c, which stands in place of the
 * calls by which threads meet. */
#ifndef BGMQ_TEST_TURNS_H
#define BGMQ_TEST_TURNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FOREVER INT64_MAX

enum wait { NOTHING, MUTEX, CONDITION, FUTEX, JOIN, SLEEP, VALUE };

struct thread {
    _Atomic uint32_t turn; /* 1: it is to run */
    pthread_t id;
    unsigned number;
    char name[16];
    long priority;
    bool ended;
    enum wait waits; /* NOTHING: it can run */
    const void *on;
    long want; /* VALUE */
    int64_t until_ns;
    bool late; /* its wait ended by time */
    void *(*fn)(void *);
    void *arg;
};

extern _Thread_local struct thread *turns_self; /* NULL: not in a schedule */

/* The futex call itself. */
long turns_futex(_Atomic uint32_t *word, int what, uint32_t value);
/* A new thread, which can run. */
struct thread *turns_enlist(const char *name);
/* The last that got ID; NULL: none. */
struct thread *turns_find(pthread_t id);
/* A thread's first turn, and its end. */
void turns_begin(struct thread *t);
void turns_end(struct thread *t);
/* Waits for WHAT at ON.  True: woken; false: it is late. */
bool turns_wait(enum wait what, const void *on, long want, int64_t until_ns);
/* Wakes up to N of those that wait for WHAT at ON, in no order; returns how many. */
int turns_wake(enum wait what, const void *on, int n);
/* After somebody was woken: who goes on? */
void turns_look(void);
/* The virtual time, CREEP_NS later. */
int64_t turns_now(int64_t creep_ns);
/* A signal ends the wait that is about to begin. */
bool turns_disturb(void);

#endif
