/* model.h - the simple model that test_model.c compares the library with: an array of messages, and
 * what each call should do to them, in the plainest way. */
#ifndef BGMQ_TEST_MODEL_H
#define BGMQ_TEST_MODEL_H

#include "flow.h"

enum {
    TYPES = 3,
    TAGS = 4,
    MOST = 40000,
    KEYS = 6,
    WINDOW = 8,
    SHARE = 3,
    OUTQ = 20,
    ATTEMPTS = 3
};

enum model_state { WAITING, DELAYED, DEAD, GONE };

struct model_message {
    uint64_t id;
    int type;
    enum model_state state;
    int priority;
    unsigned attempt;
    int64_t due_ms, created_ms;
    int64_t entered_ms; /* its queue */
    int64_t expires_ms; /* 0: never */
    int tag;            /* 0: none */
    const char *code;   /* of its death; NULL: some other */
    uint64_t seq;       /* of its last way into a queue */
    uint64_t pos;       /* its place in inq */
    int key;            /* 0: none */
    int cursor;         /* 0: none was saved */
    int firm;           /* its place does not depend on when it became due */
    int lasting;        /* it has a row */
};

/* The last is a channel of the first. */
extern const char *const model_names[TYPES];

struct model {
    struct bgmq *mq;
    int durable;
    int64_t now_ms;
    uint64_t random, numbers;
    struct model_message messages[MOST];
    size_t n;
    unsigned streak[TYPES];
    unsigned outq[TYPES];
    int started;
    /* the handler's */
    int verdict;
    int64_t snooze_ms;
    int publishes;
    struct model_message *ran;
    int type;
};

extern struct model model;

/* A random number below N. */
unsigned model_below(unsigned n);

struct model_message *model_by_id(uint64_t id);
/* Who has KEY of TYPE; NULL: nobody. */
struct model_message *model_holder_of(int type, int key);
/* M enters a queue: delayed until DUE_MS, or (0) at the tail of where it belongs. */
void model_enter(struct model_message *m, int64_t due_ms);
/* What is due by now waits. */
void model_make_due(void);
/* PRIOR: 0 or 1, of inq or priorityq; negative: both. */
unsigned model_count(int type, enum model_state state, int prior);
/* True when memory may not hold all that waits, and what is due may not have its place yet. */
int model_crowded(int type);
/* The first that waits in inq or (PRIOR) priorityq; FIRM: of those alone.  NULL: none. */
struct model_message *model_first(int type, int prior, int firm);
/* M has started: was it its turn? */
void model_check_turn(const struct model_message *m);
/* CODE may be NULL: some other. */
void model_dies(struct model_message *m, const char *code);
/* The attempt of M ends with VERDICT. */
void model_settle(struct model_message *m, int verdict);
/* Any message in STATE; NULL: there is none. */
struct model_message *model_any(int type, enum model_state state);

#endif
