/* notes.h - the oracle of the simulator: what was said about each message, by whom, and when; and
 * what may therefore never be seen.
 *
 * One note for each publish; the body of the message is its number.  A note is written before the
 * act and after it, so that at any instant at which the process dies it says what was promised.
 *
 * What it watches over: what was accepted is never lost; nobody else starts, and nobody twice at
 * once; nothing starts early, or when its time is over, or after its end; attempts are counted;
 * a key has one holder. */
#ifndef BGMQ_TEST_NOTES_H
#define BGMQ_TEST_NOTES_H

#include <bgmq.h>

#include "disk.h"

enum { NOTES = 1024, NOTE_TYPES = 5, NOTE_KEYS = 5 };

enum note_end { ALIVE, DONE, DEAD, DELETED };

struct note {
    /* the publish */
    unsigned type;
    uint64_t id; /* 0: not known yet */
    enum { TRYING, ACCEPTED, REFUSED, UNCERTAIN } publish;
    enum bgmq_durability level;
    bool flushed; /* a flush after its acceptance has succeeded */
    bool guest;
    unsigned key;             /* 0: none */
    int contested;            /* so many are about to take its place, or perhaps have */
    uint64_t began, accepted; /* order of events; 0: not yet */
    int64_t expires_ms;

    /* its life */
    enum note_end end;
    bool unsure; /* whether END has come, or has gone again, is not known */
    bool gone;   /* it is nowhere any more: it may not start */
    int64_t due_ms;
    unsigned peak; /* since this jump of the wall clock DUE_MS is its time */
    uint64_t first_step, due_from,
        due_to; /* it was reckoned between these steps; 0: or later */
    bool running, by_hand;
    int64_t began_ns; /* the last start */
    uint64_t starts;
    unsigned attempt, least, most; /* the last one; and what the next may be */
    unsigned highest;              /* attempt of this life */
    unsigned crashes, effects;
    bool revived, cancelled, exhausted;
    int meddled; /* so many change when it is due */
};

extern struct note notes[NOTES];
extern unsigned notes_n;

/* What is true of the present life. */
struct notes_life {
    bool durable;
    bool
        broken; /* the store has failed, or was not told: only what was committed is safe */
    bool
        refused; /* it has refused changes: those that nobody waited for may be missing */
    bool died;
    unsigned max_attempts[NOTE_TYPES];
    int64_t give_up_ms[NOTE_TYPES];       /* time-out and patience; 0: none */
    uint64_t processed, unsure_processed; /* handlers that returned DONE */
};
extern struct notes_life notes_life;

void notes_reset(void);
/* A new note, about to be published, or NULL: there are enough. */
struct note *notes_new(unsigned type);
unsigned notes_number(const struct note *n);
/* The note of a BODY; fails the test when there is none. */
struct note *notes_of(const void *body, size_t len);
struct note *notes_by_id(uint64_t id);

/* What the publish returned. */
void notes_published(struct note *n, int err, const struct bgmq_receipt *r);
/* CHANGE 1: N is about to take the place of whoever has its key; -1: what became of it is known. */
void notes_contest(const struct note *n, int change);
/* Everything accepted before BEFORE (notes_now) is written. */
uint64_t notes_now(void);
void notes_flushed(uint64_t before);
/* Somebody is about to set the wall clock. */
void notes_jump(void);

/* N begins with ATTEMPT (0: taken by hand): may it?  Returns which start of it that is. */
uint64_t notes_start(struct note *n, uint64_t id, unsigned attempt);
/* That ends, as the handler says, at DUE_MS again if it is to. */
void notes_settle(struct note *n, uint64_t start, int verdict, int64_t due_ms,
                  bool asked_to_end);
/* Taken by hand, and ended so; ALIVE: put back. */
void notes_give_back(struct note *n, enum note_end end);

/* What an operator does to N; between the two it may start or not. */
struct notes_operation {
    struct note *n;
    uint64_t starts;
    bool ran;
};
struct notes_operation notes_operate(struct note *n);
/* It said that N is at END now. */
void notes_operated(const struct notes_operation *o, enum note_end end);
/* The dead of TYPE have, or may have, a new life. */
void notes_revive(unsigned type);

/* Somebody begins (1), or has ended (-1), to let run what waits to be tried again. */
void notes_hurry(int change);

/* The owner has gone: what is on the disk is what there is. */
void notes_next_life(void);
/* All has been drained: everything accepted has ended as it may. */
void notes_judge(struct bgmq *mq, const char *const names[NOTE_TYPES]);

#endif
