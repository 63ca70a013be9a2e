/* mixer_impl.h - what the parts of the mixer share. */
#ifndef BGMQ_TEST_MIXER_IMPL_H
#define BGMQ_TEST_MIXER_IMPL_H

#include "cargo.h"

#include <bgmq.h>
#include <pthread.h>
#include <stdatomic.h>

enum { RECENT = 128, CONNECTIONS = 8 };

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
    long end;       /* says which start ends the process, and how: loop_end_if_due */
    long publishes; /* of each publisher */
    _Atomic long starts;
    _Atomic uint64_t random; /* for the handlers */
    pthread_mutex_t lock;
    struct recent recent[RECENT]; /* protected by lock */
    size_t recents;
    struct sqlite3 *connections[CONNECTIONS]; /* protected by lock */
    int idle;                                 /* of those, likewise */
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
/* Tells that JOB is about to fail. */
void mixer_fail(struct mixer *x, struct bgmq_job *job, const char *key, int verdict);
/* What a message of KEY carries beside its body, in OPTIONS; META is room for it. */
void mixer_load(const char *key, const char *meta[3],
                struct bgmq_message_options *options);

/* The threads: each publishes or operates for a time. */
void *mixer_publish(void *part);
void *mixer_publish_tx(void *part);
void *mixer_operate(void *part);

/* Handlers that end in a transaction of the application. */
bgmq_handler_fn mixer_handle_tx, mixer_handle_sink;
/* A connection of the application's, and back: no transaction may be open on it. */
struct sqlite3 *mixer_connect(struct mixer *x);
void mixer_disconnect(struct mixer *x, struct sqlite3 *db);

void mixer_remember(struct mixer *x, const char *key, const char *type, uint64_t id);

#endif
