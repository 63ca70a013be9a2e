/* disk.h - the disk of the simulated world: a store that keeps its rows when processes die, fails
 * as it is told, and shows the oracle what it has; with the flight file and the owner's lock.
 *
 * It is the plainest store that keeps to store.h: arrays that are searched from end to end.  All
 * changes of one apply come at one instant, before or after which the process may die. */
#ifndef BGMQ_TEST_DISK_H
#define BGMQ_TEST_DISK_H

#include "store.h"

#include "sim.h"

enum {
    DISK_ROWS = 4096,
    DISK_BODY = 24,
    DISK_TEXT = 40,
    DISK_TYPES = 16,
    DISK_CURSOR = 16
};

struct disk_row {
    uint64_t id;
    uint32_t type;
    bool job; /* in JOB; else in BACKLOG, at */
    enum lane lane;
    int64_t key;
    uint64_t seq;
    int priority;
    unsigned attempt, max_attempts, run, crashes, flags;
    int64_t created_ms;
    char body[DISK_BODY];
    size_t len;
    bool has_ext;
    struct message_ext ext; /* its strings are */
    char reply_to[DISK_TEXT], tag[DISK_TEXT], unique_key[DISK_TEXT], channel[DISK_TEXT];
    bool failed;
    char code[DISK_TEXT], text[DISK_TEXT];
    int64_t failed_ms;
    bool has_cursor;
    char cursor[DISK_CURSOR];
    size_t cursor_len;
};

struct disk_key {
    uint32_t type;
    char key[DISK_TEXT];
    uint64_t id;
    uint8_t scope;
    int64_t until_ms;
};

/* A message that a guest wrote. */
struct disk_guest {
    uint64_t id;
    const char *type; /* lasts */
    char body[DISK_BODY];
    struct bgmq_message_options options;
    bool refused;
};

struct disk {
    struct disk_row rows[DISK_ROWS];
    size_t n_rows;
    struct disk_key keys[DISK_ROWS];
    size_t n_keys;
    struct disk_guest guests[DISK_ROWS];
    size_t n_guests;
    uint64_t next_guest;
    char types[DISK_TYPES][DISK_TEXT]; /* by number */
    uint64_t next_id, flight_charged;
    int64_t opened_ms;
    bool clean;
    unsigned deaths;
    unsigned owner; /* process + 1; 0: nobody */
    uint64_t commits;
};
extern struct disk disk;

/* One call in so many fails so; 0: none. */
struct disk_faults {
    unsigned busy_in, full_in, refuse_in, dead_in;
    unsigned slow_in; /* takes up to 2 s */
    unsigned read_in; /* a load or a search fails */
    unsigned ids_in;  /* no ids can be reserved */
    unsigned open_in; /* opening or recovering fails */
    unsigned gone_in; /* somebody has taken the file away: the store is dead */
};
extern struct disk_faults disk_faults;
/* Until this time every apply is busy. */
extern int64_t disk_busy_until_ns;

/* An empty disk that nobody owns. */
void disk_format(void);
void disk_flight_format(void);
/* The row of ID, or NULL. */
struct disk_row *disk_find(uint64_t id);

bool disk_own(unsigned process);
/* Calls disk_left, when PROCESS owned it. */
void disk_disown(unsigned process);
/* What happens when the disk has lost its owner. */
extern void (*disk_left)(void);

#endif
