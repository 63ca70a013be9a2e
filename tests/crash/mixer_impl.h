/* mixer_impl.h - what the parts of the mixer share. */
#ifndef BGMQ_TEST_MIXER_IMPL_H
#define BGMQ_TEST_MIXER_IMPL_H

#include "cargo.h"

#include <bgmq.h>
#include <pthread.h>
#include <stdatomic.h>

enum { RECENT = 128 };

/* A message that was published not long ago. */
struct recent {
    char key[KEY_SIZE];
    const char *type;
    uint64_t id;
};

struct mixer {
    struct bgmq *mq;
    const char *db, *what;
    int history;
    long round;
    uint64_t seed;
    long abort_at;  /* this start aborts; 0: none */
    long publishes; /* of each publisher */
    _Atomic long starts;
    _Atomic uint64_t random; /* for the handlers */
    pthread_mutex_t lock;
    struct recent recent[RECENT]; /* protected by lock */
    size_t recents;
};

/* One of the threads that publish or operate. */
struct part {
    struct mixer *x;
    int number;
    uint64_t random;
    long n;
};

/* Gives every type its handler. */
int mixer_register(struct mixer *x);
/* Ends when nothing is left; the parent's patience is the bound. */
int mixer_finish(struct mixer *x);

/* Writes to KEY which message JOB is, and tells of its start; may abort. */
void mixer_begin(struct mixer *x, struct bgmq_job *job, char key[KEY_SIZE]);
/* What a message of KEY carries beside its body, in OPTIONS; META is room for it. */
void mixer_load(const char *key, const char *meta[3],
                struct bgmq_message_options *options);

/* The threads: each publishes or operates for a time. */
void *mixer_publish(void *part);

void mixer_remember(struct mixer *x, const char *key, const char *type, uint64_t id);

#endif
