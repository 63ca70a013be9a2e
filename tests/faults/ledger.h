/* ledger.h - what was promised of each message, by the changes of a recording, and whether a
 * database keeps it.
 *
 * A message's life is a row of steps.  A step begins with the call that may make it, and is a
 * promise from the change on at which that call, or a flush, had returned.  At any instant a
 * message is where its last promise says, or where a step that has begun since would put it. */
#ifndef BGMQ_TEST_LEDGER_H
#define BGMQ_TEST_LEDGER_H

#include "recorder.h"

enum whereabouts { NOWHERE, WAITING, DEAD, DONE };

/* No promise yet. */
#define LEDGER_NEVER SIZE_MAX

struct step {
    size_t from, until; /* changes */
    enum whereabouts place;
};

struct promise {
    uint64_t id;
    unsigned group; /* of those made in one commit; 0: alone */
    int effect;     /* 1: table effect has its id exactly while it is not NOWHERE */
    int finish;     /* 1: table finish has its id exactly when it is DONE */
    char body[64];
    size_t len;
    int no_body; /* it is not kept */
    struct step steps[8];
    unsigned n;
};

struct ledger {
    struct promise *all;
    size_t n, cap;
};

void ledger_fini(struct ledger *l);
/* Adds message ID; valid until the next one is added. */
struct promise *ledger_add(struct ledger *l, uint64_t id, const char *body);
void ledger_step(struct promise *p, size_t from, size_t until, enum whereabouts place);
/* Every step that has begun is a promise from change UNTIL on. */
void ledger_keep(struct ledger *l, size_t until);
/* A number for what may be where at the instant after N changes. */
uint64_t ledger_state(const struct ledger *l, size_t n);

/* What was found; zero but for the first line, or the text says what was first. */
struct verdict {
    long states;
    long lost; /* promised, and nowhere */
    long back; /* ended, as promised, and there again */
    long
        phantom; /* never published, or before it was, or in a transaction that was undone */
    long half;    /* of one commit some and others not */
    long mangled; /* another body, twice there, or a number that may be given again */
    long corrupt; /* the file does not open, or is damaged */
    char text[400];
};
/* 1 when nothing was found. */
int verdict_is_clean(const struct verdict *v);

/* Opens the database at PATH as an owner would, recovers, and compares with what the ledger says
 * of the instant after N changes.  WHAT: of which disk this is, for the text. */
void ledger_judge(const struct ledger *l, size_t n, const char *path, const char *what,
                  struct verdict *v);

#endif
