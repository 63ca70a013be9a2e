/* scenes_work.c - messages come to workers, whatever these are about to do. */
#include "scenes.h"

/* Publishes three, from its number times three on. */
static void *send_three(void *arg)
{
    for (unsigned i = 0; i < 3; i++)
        OK(stage_send(3 * NUMBER_OF(arg) + i, NULL));
    return NULL;
}

static void *send_one(void *arg)
{
    OK(stage_send(NUMBER_OF(arg), NULL));
    return NULL;
}

static void play_senders(void *(*fn)(void *), unsigned n)
{
    pthread_t t[STAGE_MESSAGES];
    for (unsigned i = 0; i < n; i++)
        t[i] = scene_thread(fn, NUMBER(i));
    for (unsigned i = 0; i < n; i++)
        scene_join(t[i]);
}

/* Plain messages come without a lock while the only worker goes to rest, again and again. */
static void arrivals_and_a_worker_that_goes_to_rest(void)
{
    stage_open(NULL);
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    play_senders(send_one, 3);
    schedule_until(&stage.handled, 3);
    OK(stage_send(3, NULL));
    schedule_until(&stage.handled, 4);
    stage_once_each(4);
    stage_close();
}

static void arrivals_and_three_workers(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 3});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    play_senders(send_three, 2);
    schedule_until(&stage.handled, 6);
    stage_once_each(6);
    stage_close();
}

/* Those from 12 on that are divisible by six wait until all others have been handled. */
static int some_are_slow(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    unsigned n = stage_number(job);
    add(&s->runs[n]);
    if (n < 12 || n % 6)
        add(&s->most);
    else
        schedule_until(&s->most, 22);
    add(&s->handled);
    return BGMQ_DONE;
}

/* Quick ones first, so that workers claim several at once; then what one of them has claimed behind
 * a slow one is stolen by the others. */
static void bursts_that_are_claimed_and_stolen(void)
{
    stage_open_with(NULL, some_are_slow, &(struct bgmq_type_options){.threads = 3});
    for (unsigned i = 0; i < 12; i++)
        OK(stage_send(i, NULL));
    OK(bgmq_start(stage.mq));
    schedule_until(&stage.handled, 12);
    schedule_from_here();
    pthread_t a = scene_thread(send_three, NUMBER(4)),
              b = scene_thread(send_three, NUMBER(5));
    for (unsigned i = 18; i < 24; i++)
        OK(stage_send(i, NULL));
    scene_join(a);
    scene_join(b);
    schedule_until(&stage.handled, 24);
    stage_once_each(24);
    stage_close();
}

/* All rest; the first that is woken notes the wake of the next when it comes to the lock. */
static void arrivals_and_four_who_rest(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 4});
    OK(bgmq_start(stage.mq));
    OK(stage_send(0, NULL));
    schedule_until(&stage.handled, 1);
    schedule_from_here();
    scene_three(send_three);
    schedule_until(&stage.handled, 10);
    HOLDS(stage.runs[1] == 0 && stage.runs[2] == 0);
    stage_close();
}

static int handle_and_send(struct bgmq_job *job, void *ctx)
{
    unsigned n = stage_number(job);
    if (n < 4)
        OK(stage_send(n + 4, NULL));
    return stage_handle(job, ctx);
}

static void handlers_that_publish(void)
{
    stage_open_with(NULL, handle_and_send, &(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    play_senders(send_one, 4);
    schedule_until(&stage.handled, 8);
    stage_once_each(8);
    stage_close();
}

static void *send_first(void *arg)
{
    OK(stage_send(NUMBER_OF(arg), &(struct bgmq_message_options){.priority = 3}));
    return NULL;
}

static void priority_messages_beside_plain_ones(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t t = scene_thread(send_first, NUMBER(6));
    play_senders(send_three, 2);
    scene_join(t);
    schedule_until(&stage.handled, 7);
    stage_once_each(7);
    stage_close();
}

static void *pause_and_resume(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        OK(bgmq_pause(stage.mq, "T"));
        OK(bgmq_resume(stage.mq, "T"));
    }
    return NULL;
}

static void pauses_while_messages_come(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 4});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t t = scene_thread(pause_and_resume, NULL);
    play_senders(send_three, 2);
    scene_join(t);
    schedule_until(&stage.handled, 6);
    stage_once_each(6);
    stage_close();
}

static void *fewer_and_more(void *arg)
{
    (void)arg;
    OK(bgmq_set_threads(stage.mq, "T", 1));
    OK(bgmq_set_threads(stage.mq, "T", 3));
    OK(bgmq_set_threads(stage.mq, "T", 1));
    return NULL;
}

/* A worker that leaves may have been the one that was woken. */
static void workers_leave_while_messages_come(void)
{
    stage_open(&(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t t = scene_thread(fewer_and_more, NULL);
    play_senders(send_three, 2);
    scene_join(t);
    schedule_until(&stage.handled, 6);
    stage_once_each(6);
    stage_close();
}

static void *register_late(void *arg)
{
    OK(bgmq_register(stage.mq, "T", stage_handle, &stage, arg));
    return NULL;
}

static void a_handler_that_is_registered_late(void)
{
    stage_open_with(NULL, NULL, NULL);
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t t = scene_thread(register_late, &(struct bgmq_type_options){.threads = 2});
    play_senders(send_three, 2);
    scene_join(t);
    schedule_until(&stage.handled, 6);
    stage_once_each(6);
    stage_close();
}

/* A6. there is never a second message of a key, and all others are told of the first */
static void *send_keyed(void *arg)
{
    struct bgmq_receipt r;
    unsigned char body = (unsigned char)NUMBER_OF(arg);
    OK(bgmq_publish(stage.mq, "T", &body, 1,
                    &(struct bgmq_message_options){.unique_key = "k"}, &r));
    add(r.duplicate ? &stage.refused : &stage.accepted);
    return NULL;
}

static int handle_alone(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    add(&s->inside);
    schedule_point();
    HOLDS(s->inside == 1);
    schedule_point();
    __atomic_fetch_sub(&s->inside, 1, __ATOMIC_SEQ_CST);
    return stage_handle(job, ctx);
}

static void one_key_is_one_message(void)
{
    stage_open_with(NULL, handle_alone, &(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    play_senders(send_keyed, 3);
    HOLDS(stage.accepted >= 1 && stage.accepted + stage.refused == 3);
    schedule_until(&stage.handled, stage.accepted);
    stage_close();
    HOLDS(stage.handled == stage.accepted);
}

const struct scene scenes_work[] = {
    {SCENE(arrivals_and_a_worker_that_goes_to_rest)},
    {SCENE(arrivals_and_three_workers)},
    {SCENE(bursts_that_are_claimed_and_stolen)},
    {SCENE(arrivals_and_four_who_rest)},
    {SCENE(handlers_that_publish)},
    {SCENE(priority_messages_beside_plain_ones)},
    {SCENE(pauses_while_messages_come)},
    {SCENE(workers_leave_while_messages_come)},
    {SCENE(a_handler_that_is_registered_late)},
    {SCENE(one_key_is_one_message)},
    {.name = NULL},
};
