/* scenes.h - what the threads of each schedule do (scheduler.h), and what has to be true then.
 *
 * Nobody here sleeps or looks about: who waits is woken by what it waits for, or the schedule is
 * a fault. */
#ifndef BGMQ_TEST_SCENES_H
#define BGMQ_TEST_SCENES_H

#include "scheduler.h"

#include <bgmq.h>
#include <pthread.h>

/* Each list ends with an empty one. */
extern const struct scene scenes_lock[], scenes_work[], scenes_life[], scenes_wait[],
    scenes_journal[], scenes_toy[];

/* EXPR has to be true; CALL has to succeed. */
#define HOLDS(expr)                                                                      \
    do {                                                                                 \
        if (!(expr))                                                                     \
            schedule_fault("%s:%d: not so: %s", __FILE__, __LINE__, #expr);              \
    } while (0)
#define OK(call)                                                                         \
    do {                                                                                 \
        int err_ = (call);                                                               \
        if (err_)                                                                        \
            schedule_fault("%s:%d: %s: %s", __FILE__, __LINE__, #call,                   \
                           bgmq_errname(err_));                                          \
    } while (0)

/* What the threads of a scene share.  Counters are added to by add(). */
enum { STAGE_MESSAGES = 32 };
struct stage {
    struct bgmq *mq;
    long handled;              /* attempts that have ended well */
    long runs[STAGE_MESSAGES]; /* attempts, by the number that is the message's body */
    long accepted, refused;    /* publishes */
    long inside, most;         /* handlers at once */
};
extern struct stage stage;

static inline void add(long *n)
{
    __atomic_fetch_add(n, 1, __ATOMIC_SEQ_CST);
}

/* Opens a service without a database, and registers "T" with OPTIONS and the handler below. */
void stage_open(const struct bgmq_type_options *options);
void stage_open_with(const struct bgmq_options *service, bgmq_handler_fn *handler,
                     const struct bgmq_type_options *options);
/* Counts the attempt, lets others go first, and is done. */
int stage_handle(struct bgmq_job *job, void *ctx);
/* The number in its body. */
unsigned stage_number(struct bgmq_job *job);
/* Closes and frees it. */
void stage_close(void);

/* Publishes N; its result. */
int stage_send(unsigned n, const struct bgmq_message_options *options);
/* Numbers FIRST .. FIRST + n - 1 were handled once each. */
void stage_once_each(unsigned n);
struct bgmq_collection stage_look(void);

pthread_t scene_thread(void *(*fn)(void *), void *arg);
void scene_join(pthread_t t);
/* FN by two threads, which get NUMBER(1) and NUMBER(2), and by the caller with NUMBER(3); returns
 * when all three have ended. */
void scene_three(void *(*fn)(void *));
/* A small number as the argument of a thread, and back. */
#define NUMBER(n)    ((void *)(uintptr_t)(n))
#define NUMBER_OF(p) ((unsigned)(uintptr_t)(p))

#endif
