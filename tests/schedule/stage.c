/* stage.c - the service that most scenes play with, and its handler (see scenes.h). */
#include <string.h>

#include "scenes.h"

struct stage stage;

static void say_nothing(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

void stage_open_with(const struct bgmq_options *service, bgmq_handler_fn *handler,
                     const struct bgmq_type_options *options)
{
    struct bgmq_options o = {.log = say_nothing};
    if (service) {
        o = *service;
        o.log = say_nothing;
    }
    memset(&stage, 0, sizeof(stage));
    OK(bgmq_open(&stage.mq, &o, NULL));
    if (handler)
        OK(bgmq_register(stage.mq, "T", handler, &stage, options));
}

void stage_open(const struct bgmq_type_options *options)
{
    stage_open_with(NULL, stage_handle, options);
}

unsigned stage_number(struct bgmq_job *job)
{
    size_t len;
    const unsigned char *body = bgmq_job_body(job, &len);
    HOLDS(len == 1 && body[0] < STAGE_MESSAGES);
    return body[0];
}

int stage_handle(struct bgmq_job *job, void *ctx)
{
    struct stage *s = ctx;
    add(&s->runs[stage_number(job)]);
    schedule_point();
    add(&s->handled);
    return BGMQ_DONE;
}

void stage_close(void)
{
    OK(bgmq_close(stage.mq));
    bgmq_free(stage.mq);
}

int stage_send(unsigned n, const struct bgmq_message_options *options)
{
    unsigned char body = (unsigned char)n;
    int err = bgmq_publish(stage.mq, "T", &body, 1, options, NULL);
    add(err ? &stage.refused : &stage.accepted);
    return err;
}

void stage_once_each(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (stage.runs[i] != 1)
            schedule_fault("message %u was handled %ld times", i, stage.runs[i]);
}

struct bgmq_collection stage_look(void)
{
    struct bgmq_collection c;
    OK(bgmq_type_collection(stage.mq, "T", &c));
    return c;
}

pthread_t scene_thread(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    HOLDS(pthread_create(&t, NULL, fn, arg) == 0);
    return t;
}

void scene_join(pthread_t t)
{
    HOLDS(pthread_join(t, NULL) == 0);
}

void scene_three(void *(*fn)(void *))
{
    pthread_t a = scene_thread(fn, NUMBER(1)), b = scene_thread(fn, NUMBER(2));
    fn(NUMBER(3));
    scene_join(a);
    scene_join(b);
}
