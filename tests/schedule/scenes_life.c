/* scenes_life.c - start, stop, drain and close, whatever is going on. */
#include <poll.h>
#include <string.h>

#include "scenes.h"

static void *send_three(void *arg)
{
    for (unsigned i = 0; i < 3; i++)
        OK(stage_send(3 * NUMBER_OF(arg) + i, NULL));
    return NULL;
}

static void *stop_and_start(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        OK(bgmq_stop(stage.mq, 1000));
        HOLDS(bgmq_running(stage.mq) == 0);
        OK(bgmq_start(stage.mq));
    }
    return NULL;
}

static void stops_and_starts_while_messages_come(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(send_three, NUMBER(0)),
              b = scene_thread(stop_and_start, NULL);
    send_three(NUMBER(1));
    scene_join(a);
    scene_join(b);
    schedule_until(&stage.handled, 6);
    stage_once_each(6);
    stage_close();
}

static void *start_it(void *arg)
{
    (void)arg;
    OK(bgmq_start(stage.mq));
    return NULL;
}

/* Two who stop and start at once: each call has a definite end, and so has the service. */
static void two_who_stop_and_start(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(send_three, NUMBER(0)), b;
    b = scene_thread(start_it, NULL);
    OK(bgmq_stop(stage.mq, 1000));
    OK(bgmq_start(stage.mq));
    scene_join(a);
    scene_join(b);
    schedule_until(&stage.handled, 3);
    stage_once_each(3);
    stage_close();
}

static void *send_until_closed(void *arg)
{
    for (unsigned i = 0; i < 4; i++) {
        int err = stage_send(4 * NUMBER_OF(arg) + i, NULL);
        HOLDS(err == 0 || err == BGMQ_ECLOSED);
    }
    return NULL;
}

static void never_twice(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        HOLDS(stage.runs[i] <= 1);
    HOLDS(stage.handled <= stage.accepted);
}

/* A4. publishing meets a close: let in, or ECLOSED, and the close ends */
static void a_close_while_messages_come(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(send_until_closed, NUMBER(0)),
              b = scene_thread(send_until_closed, NUMBER(1));
    OK(bgmq_close(stage.mq));
    scene_join(a);
    scene_join(b);
    never_twice(8);
    bgmq_free(stage.mq);
}

static void *close_it(void *arg)
{
    (void)arg;
    OK(bgmq_close(stage.mq));
    return NULL;
}

/* H16. stop, start and close at the same instant: each is over, and says how */
static void all_close_at_once(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    for (unsigned i = 0; i < 4; i++)
        OK(stage_send(i, NULL));
    schedule_from_here();
    OK(bgmq_start(stage.mq));
    pthread_t a = scene_thread(close_it, NULL), b = scene_thread(close_it, NULL);
    int err = bgmq_stop(stage.mq, 1000);
    HOLDS(err == 0 || err == BGMQ_ECLOSED);
    err = bgmq_start(stage.mq);
    HOLDS(err == 0 || err == BGMQ_ECLOSED);
    OK(bgmq_close(stage.mq));
    scene_join(a);
    scene_join(b);
    never_twice(4);
    bgmq_free(stage.mq);
}

static void *send_until_drained(void *arg)
{
    for (unsigned i = 0; i < 4; i++) {
        int err = stage_send(4 * NUMBER_OF(arg) + i, NULL);
        HOLDS(err == 0 || err == BGMQ_EDRAINING);
    }
    return NULL;
}

static void a_drain_while_messages_come(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(send_until_drained, NUMBER(0)),
              b = scene_thread(send_until_drained, NUMBER(1));
    OK(bgmq_drain(stage.mq, 10000));
    scene_join(a);
    scene_join(b);
    schedule_until(&stage.handled, stage.accepted);
    never_twice(8);
    HOLDS(stage.handled == stage.accepted);
    stage_close();
}

/* A11. a handler that stops only asks for it, and the rest is handled after the next start */
static int stop_and_handle(struct bgmq_job *job, void *ctx)
{
    if (stage_number(job) == 1)
        HOLDS(bgmq_stop(stage.mq, 0) == BGMQ_EINPROGRESS);
    if (stage_number(job) == 2)
        HOLDS(bgmq_close(stage.mq) == BGMQ_EDEADLK);
    return stage_handle(job, ctx);
}

static void a_stop_from_a_handler(void)
{
    stage_open_with(NULL, stop_and_handle, &(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(send_three, NUMBER(0)),
              b = scene_thread(send_three, NUMBER(1));
    schedule_until(&stage.runs[1], 1);
    OK(bgmq_stop(stage.mq, 1000));
    HOLDS(bgmq_running(stage.mq) == 0);
    OK(bgmq_start(stage.mq));
    scene_join(a);
    scene_join(b);
    schedule_until(&stage.handled, 6);
    stage_once_each(6);
    stage_close();
}

/* Fails the first time; then it waits for its turn by the ticker. */
static int fail_first(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    if (bgmq_job_attempt(job) > 1)
        return stage_handle(job, ctx);
    add(&s->most);
    return BGMQ_RETRY;
}

static void retries_and_stops(void)
{
    stage_open_with(NULL, fail_first,
                    &(struct bgmq_type_options){.threads = 2,
                                                .backoff = BGMQ_BACKOFF_FIXED,
                                                .backoff_base_ms = 5});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(send_three, NUMBER(0)),
              b = scene_thread(stop_and_start, NULL);
    scene_join(a);
    scene_join(b);
    schedule_until(&stage.handled, 3);
    stage_once_each(3);
    HOLDS(stage.most == 3);
    stage_close();
}

/* Ends when it is asked to, and is handled after the next start. */
static int end_when_asked(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    add(&s->inside);
    if (s->inside > 2)
        return stage_handle(job, ctx);
    while (!bgmq_job_cancelled(job))
        poll(NULL, 0, 1);
    return BGMQ_RETRY;
}

static void handlers_that_a_stop_interrupts(void)
{
    stage_open_with(NULL, end_when_asked, &(struct bgmq_type_options){.threads = 2});
    OK(stage_send(0, NULL));
    OK(stage_send(1, NULL));
    OK(bgmq_start(stage.mq));
    schedule_until(&stage.inside, 2);
    schedule_from_here();
    OK(bgmq_stop(stage.mq, 3));
    struct bgmq_collection c = stage_look();
    HOLDS(c.inq == 2 && c.running == 0);
    OK(bgmq_start(stage.mq));
    schedule_until(&stage.handled, 2);
    stage_once_each(2);
    stage_close();
}

enum { GRACE_MS = 3 };

static void *stop_soon(void *arg)
{
    (void)arg;
    int err = bgmq_stop(stage.mq, GRACE_MS);
    HOLDS(err == 0 || err == BGMQ_EBUSY);
    return NULL;
}

/* The first is there before the stop and ends after the start; the second comes with the start, and
 * nobody has asked it to end. */
static int outlast_the_stop(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    if (stage_number(job) == 0) {
        add(&s->inside);
        while (__atomic_load_n(&s->most, __ATOMIC_SEQ_CST) < 1)
            poll(NULL, 0, 1);
    } else {
        for (int i = 0; i < 4; i++) {
            HOLDS(!bgmq_job_cancelled(job));
            poll(NULL, 0, 0);
        }
        add(&s->most);
    }
    return stage_handle(job, ctx);
}

/* H16. the grace of a stop ends as the service is started again: the new run is not stopped */
static void a_start_as_the_grace_of_a_stop_ends(void)
{
    stage_open_with(NULL, outlast_the_stop, &(struct bgmq_type_options){.threads = 2});
    OK(stage_send(0, NULL));
    OK(bgmq_start(stage.mq));
    schedule_until(&stage.inside, 1);
    schedule_from_here();
    pthread_t a = scene_thread(stop_soon, NULL);
    while (bgmq_started(stage.mq))
        poll(NULL, 0, 0);
    OK(stage_send(1, NULL));
    poll(NULL, 0, GRACE_MS);
    OK(bgmq_start(stage.mq));
    scene_join(a);
    schedule_until(&stage.handled, 2);
    stage_once_each(2);
    stage_close();
}

const struct scene scenes_life[] = {
    {SCENE(stops_and_starts_while_messages_come)},
    {SCENE(two_who_stop_and_start)},
    {SCENE(a_close_while_messages_come)},
    {SCENE(all_close_at_once)},
    {SCENE(a_drain_while_messages_come)},
    {SCENE(a_stop_from_a_handler)},
    {SCENE(retries_and_stops), .may_take_ms = 8},
    {SCENE(handlers_that_a_stop_interrupts), .may_take_ms = 12},
    {SCENE(a_start_as_the_grace_of_a_stop_ends), .may_take_ms = 12},
    {.name = NULL},
};
