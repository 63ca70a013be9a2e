/* scenes_wait.c - who waits for room, for a message, for an answer, or for time. */
#include <poll.h>
#include <string.h>

#include "scenes.h"

/* ---- room ---------------------------------------------------------------------------- */

static const struct bgmq_type_options narrow = {.max_messages = 1, .wait_ms = 10000};

static void *send_two_patiently(void *arg)
{
    for (unsigned i = 0; i < 2; i++) {
        int err = stage_send(2 * NUMBER_OF(arg) + i, NULL);
        HOLDS(err == 0 || (err == BGMQ_EFULL && schedule_is_hasty()));
    }
    return NULL;
}

/* A8, A9. publishers wait their turn for room, and a handler never does */
static int send_and_handle(struct bgmq_job *job, void *ctx)
{
    unsigned n = stage_number(job);
    if (n < 4) {
        int err = stage_send(n + 8, NULL);
        HOLDS(err == 0 || err == BGMQ_EFULL);
    }
    return stage_handle(job, ctx);
}

static void publishers_that_wait_for_room(void)
{
    stage_open_with(NULL, send_and_handle, &narrow);
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t t[3];
    for (unsigned i = 0; i < 3; i++)
        t[i] = scene_thread(send_two_patiently, NUMBER(i));
    for (unsigned i = 0; i < 3; i++)
        scene_join(t[i]);
    schedule_until(&stage.handled, stage.accepted);
    stage_close();
    HOLDS(stage.handled == stage.accepted);
}

/* Who gives up while its turn comes passes it on. */
static void *send_without_patience(void *arg)
{
    int err = stage_send(NUMBER_OF(arg), &(struct bgmq_message_options){.wait_ms = 1});
    HOLDS(err == 0 || err == BGMQ_EFULL);
    return NULL;
}

static void *take_two(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        struct bgmq_message *m;
        OK(bgmq_get(stage.mq, "mq:T.inq", 100000, &m));
        OK(bgmq_ack(m));
        bgmq_message_free(m);
        add(&stage.handled);
    }
    return NULL;
}

static void room_that_comes_when_a_publisher_gives_up(void)
{
    stage_open(&narrow);
    OK(stage_send(0, NULL));
    schedule_from_here();
    pthread_t a = scene_thread(send_without_patience, NUMBER(1)),
              b = scene_thread(send_two_patiently, NUMBER(1));
    poll(NULL, 0, 1);
    take_two(NULL);
    scene_join(a);
    if (stage.accepted == 4)
        take_two(NULL);
    else
        OK(bgmq_start(stage.mq));
    scene_join(b);
    stage_close();
}

/* ---- a message ----------------------------------------------------------------------- */

static void *send_two(void *arg)
{
    for (unsigned i = 0; i < 2; i++)
        OK(stage_send(2 * NUMBER_OF(arg) + i, NULL));
    return NULL;
}

static void getters_and_arrivals(void)
{
    stage_open(NULL);
    schedule_from_here();
    pthread_t t[4];
    for (unsigned i = 0; i < 2; i++)
        t[i] = scene_thread(take_two, NULL);
    for (unsigned i = 0; i < 2; i++)
        t[2 + i] = scene_thread(send_two, NUMBER(i));
    for (unsigned i = 0; i < 4; i++)
        scene_join(t[i]);
    HOLDS(stage.handled == 4 && stage_look().inq == 0);
    stage_close();
}

static void *take_or_be_sent_home(void *arg)
{
    struct bgmq_message *m;
    int err = bgmq_get(stage.mq, arg, 100000, &m);
    if (err == 0) {
        add(&stage.handled);
        bgmq_ack(m); /* ECLOSED, perhaps */
        bgmq_message_free(m);
    }
    HOLDS(err == 0 || err == BGMQ_ECLOSED || err == BGMQ_ENOENT);
    return NULL;
}

static char inq[] = "mq:T.inq";

static void getters_and_a_close(void)
{
    stage_open(NULL);
    schedule_from_here();
    pthread_t a = scene_thread(take_or_be_sent_home, inq),
              b = scene_thread(take_or_be_sent_home, inq);
    OK(stage_send(0, NULL));
    OK(bgmq_close(stage.mq));
    scene_join(a);
    scene_join(b);
    HOLDS(stage.handled <= 1);
    bgmq_free(stage.mq);
}

static void *send_to(void *arg)
{
    int err = bgmq_publish_to(stage.mq, arg, "x", 1, NULL, NULL);
    HOLDS(err == 0 || err == BGMQ_ENOENT);
    return NULL;
}

static char queue[40];

/* The name is free again once it is dropped: who comes late may make and wait for a new one. */
static void a_queue_that_is_dropped(void)
{
    stage_open(NULL);
    OK(bgmq_temp_queue(stage.mq, queue));
    schedule_from_here();
    pthread_t a = scene_thread(take_or_be_sent_home, queue),
              b = scene_thread(send_to, queue);
    OK(bgmq_drop_queue(stage.mq, queue));
    scene_join(a);
    scene_join(b);
    HOLDS(stage.handled <= 1);
    stage_close();
}

static int answer(struct bgmq_job *job, void *ctx)
{
    size_t len;
    const void *body = bgmq_job_body(job, &len);
    OK(bgmq_job_respond(job, "Answer", body, len));
    return stage_handle(job, ctx);
}

static void *ask_twice(void *arg)
{
    for (unsigned i = 0; i < 2; i++) {
        unsigned char body = (unsigned char)(2 * NUMBER_OF(arg) + i);
        struct bgmq_message *m;
        size_t len;
        OK(bgmq_request(stage.mq, "T", &body, 1, NULL, 100000, &m));
        const unsigned char *got = bgmq_message_body(m, &len);
        HOLDS(len == 1 && *got == body);
        bgmq_message_free(m);
    }
    return NULL;
}

static void requests_and_replies(void)
{
    stage_open_with(NULL, answer, &(struct bgmq_type_options){.threads = 2});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t a = scene_thread(ask_twice, NUMBER(0));
    ask_twice(NUMBER(1));
    scene_join(a);
    stage_once_each(4);
    stage_close();
}

/* ---- time ---------------------------------------------------------------------------- */

/* Takes as long as it may, to the millisecond, the first time. */
static int be_late(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    unsigned n = stage_number(job);
    add(&s->runs[n]);
    if (bgmq_job_attempt(job) == 1)
        poll(NULL, 0, 10);
    add(&s->handled);
    return BGMQ_DONE;
}

/* A12, A18. an attempt is given up as it ends: one of the two has it, and the message ends once */
static void attempts_that_are_given_up(void)
{
    stage_open_with(
        NULL, be_late,
        &(struct bgmq_type_options){
            .threads = 2, .timeout_ms = 5, .stuck_ms = 5, .backoff = BGMQ_BACKOFF_NONE});
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    OK(stage_send(0, NULL));
    OK(stage_send(1, NULL));
    schedule_until(&stage.handled, 2);
    OK(bgmq_drain(stage.mq, 1000));
    struct bgmq_collection c = stage_look();
    HOLDS(c.outq_added == 2 && c.dlq_added == 0);
    /* One may be given up before its handler has begun. */
    HOLDS(c.timeouts + 2 >= (uint64_t)(stage.runs[0] + stage.runs[1]));
    HOLDS(stage.runs[0] >= 1 && stage.runs[1] >= 1);
    stage_close();
}

static void *send_later(void *arg)
{
    unsigned n = NUMBER_OF(arg);
    OK(stage_send(n, &(struct bgmq_message_options){.delay_ms = 2 + n}));
    return NULL;
}

/* An earlier time comes while the ticker goes to sleep towards a later one. */
static void delayed_messages_and_the_ticker(void)
{
    stage_open(NULL);
    OK(bgmq_start(stage.mq));
    schedule_from_here();
    pthread_t t[3];
    for (unsigned i = 0; i < 3; i++)
        t[i] = scene_thread(send_later, NUMBER(2 - i));
    for (unsigned i = 0; i < 3; i++)
        scene_join(t[i]);
    schedule_until(&stage.handled, 3);
    stage_once_each(3);
    stage_close();
}

const struct scene scenes_wait[] = {
    {SCENE(publishers_that_wait_for_room), .hasty = true},
    {SCENE(room_that_comes_when_a_publisher_gives_up), .may_take_ms = 4},
    {SCENE(getters_and_arrivals)},
    {SCENE(getters_and_a_close)},
    {SCENE(a_queue_that_is_dropped)},
    {SCENE(requests_and_replies)},
    {SCENE(attempts_that_are_given_up), .may_take_ms = 40, .hasty = true},
    {SCENE(delayed_messages_and_the_ticker), .may_take_ms = 7},
    {.name = NULL},
};
