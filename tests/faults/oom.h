/* oom.h - what the test of lacking memory shares: a service with a ledger of what was accepted,
 * and the scenes that are played while memory is short.
 *
 * A scene acts on a thread of its own, goes on after a call that failed, and tells each error by
 * oom_say.  It can be played again on the same service. */
#ifndef BGMQ_TEST_OOM_H
#define BGMQ_TEST_OOM_H

#include "harness.h"

#include <sqlite3.h>

enum { OOM_NUMBERS = 2048, OOM_PUT = 8 };

/* What became of the message with a number. */
enum oom_fate {
    OOM_NONE,
    OOM_REFUSED,   /* a call said that it was not accepted: it never runs */
    OOM_UNCERTAIN, /* it is there or it is not */
    OOM_ACCEPTED,  /* it ends well once, sooner or later */
    OOM_GONE       /* accepted, and then ended by somebody else than the handler */
};

struct oom_note {
    enum oom_fate fate;
    uint64_t id;
    _Atomic int starts, ends;
};

struct oom_world {
    struct bgmq *mq; /* NULL: not open */
    struct bgmq_http *http;
    struct bgmq_guest *guest;
    sqlite3 *db;      /* of the application */
    const char *path; /* of the database */
    int durable;
    int short_of_time;     /* options: a publish waits for the store for a moment only */
    int hasty;             /* nothing that needs other threads is waited for to its end */
    uint64_t put[OOM_PUT]; /* ids of what was put first */
    int n_put;
    int failures;    /* calls that failed */
    int first;       /* what the first of them said; 0: none did */
    const char *who; /* the call it was */
    _Atomic int forgiving;
    struct harness_log log;
    int numbers;
    struct oom_note notes[OOM_NUMBERS];
};

struct oom_scene {
    const char *name;
    void (*ready)(struct oom_world *w); /* while there is memory */
    void (*act)(struct oom_world *w);
    int needs_database;
    int remembers;  /* later calls say that an earlier one lacked memory */
    int allowed[4]; /* errors besides those of memory and store */
};

extern const struct oom_scene oom_scenes[];
extern const size_t oom_n_scenes;

/* ---- the world --------------------------------------------------------------------- */

/* Makes W, with nothing open; HASTY is for memory that stays short for other threads, too. */
void oom_begin(struct oom_world *w, int durable, int hasty);
/* The options of every service here. */
struct bgmq_options oom_options(struct oom_world *w);
/* Opens W's service and registers its types, which has to succeed. */
void oom_open(struct oom_world *w);
/* Lets all that was accepted end, and fails the test when the ledger is not right.  A store that
 * has failed is opened anew before; messages may then have been run again. */
void oom_settle(struct oom_world *w);
int oom_store_failed(struct oom_world *w);
/* Ends what W has open, and forgets its files. */
void oom_end(struct oom_world *w);

/* Notes the result of CALL; negative is a failure. */
#define oom_say(w, call) oom_say_at((w), (call), #call)
int oom_say_at(struct oom_world *w, int result, const char *call);

/* A number for the next message, with its text in TEXT. */
int oom_number(struct oom_world *w, char text[16]);
/* What a publish of NUMBER returned. */
void oom_published(struct oom_world *w, int number, int err, uint64_t id);
/* Publishes a number for T, again until it is accepted. */
void oom_put(struct oom_world *w, const struct bgmq_message_options *options);

/* The handler of T: a number, which ends well; does whatever a handler can do on the way. */
bgmq_handler_fn oom_handle;
/* 1 when the scene has waited long enough for other threads. */
int oom_waited(struct oom_world *w);
/* Allocations refused so far, in the program that refuses some. */
extern long (*oom_refused)(void);
/* Where a test stands, for its messages. */
extern const char *oom_where;

#endif
