/* message.h - one message: the record that is stored, and what only memory knows of it.
 *
 * Ownership.  A message is reference-counted: its place (a queue, a worker, a taker) holds one
 * reference, each entry of the journal that still needs the body another, each peeker another.
 * Everything under "set once" is immutable and may be read by any holder of a reference;
 * the rest belongs to the lock of the type or custom queue the message is in. */
#ifndef BGMQI_MESSAGE_H
#define BGMQI_MESSAGE_H

#include <bgmq.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "lock.h"

/* Where a message is.  One function moves it: bgmqi_type_* in type.c. */
enum place {
    PLACE_NONE, /* being published, or spilled: the body is in the database only */
    PLACE_INQ,
    PLACE_PRIORITYQ,
    PLACE_DELAYED,
    PLACE_RUNNING, /* claimed by a worker */
    PLACE_TAKEN,   /* by bgmq_get */
    PLACE_OUTQ,
    PLACE_DLQ,
    PLACE_SUSPECT /* waits to be run alone */
};

/* Which table holds its row. */
enum row { ROW_NONE, ROW_JOB, ROW_BACKLOG };

/* Where the INSERT of its row stands (atomic; journal.c tells). */
enum insert_state {
    INSERT_NONE,
    INSERT_QUEUED,
    INSERT_SPILLED, /* likewise, as a row of BACKLOG: the body goes from memory then */
    INSERT_WRITING,
    INSERT_PASSED, /* a SPILL that was being written when its message was wanted in memory */
    INSERT_CANCELLED
};

/* The error of the last failed attempt: immutable, reference-counted. */
struct failure {
    _Atomic unsigned refs;
    int64_t at_ms;
    const char *code; /* both inside this allocation, never NULL */
    const char *text;
};

/* What most messages do not have.  One allocation with its strings; immutable. */
struct message_ext {
    uint64_t reply_id;    /* 0: none */
    const char *reply_to; /* each NULL when absent */
    const char *tag;
    const char *traceparent;
    const char *unique_key;
    const char *type; /* type of the body, in a custom queue */
    const char *channel;
    const char *meta; /* key NUL value NUL ... */
    size_t meta_len;
    int64_t expires_ms;      /* 0: never */
    int64_t unique_until_ms; /* with BGMQ_UNIQUE_PERIOD; else 0 */
    uint32_t timeout_ms;     /* 0: the type's */
    uint8_t unique;          /* enum bgmq_unique */
};

/* What a handler keeps of its work between attempts.  Shared, by reference, by the message and by
 * entries of the journal; the writer reads what is newest when it comes to it. */
struct progress {
    _Atomic unsigned refs;
    struct lock lock;
    /* protected by lock */
    void *cursor; /* CURSOR_LEN bytes and a NUL; NULL: none */
    size_t cursor_len;
    char *text; /* or NULL */
    int64_t number;
    void *result; /* or NULL */
    size_t result_len;
    struct budget *budget; /* set once: of the service, which outlives it */
    size_t charged;        /* bytes of cursor and result; changed by the worker only */
    bool queued; /* an entry of the journal is on its way, and will write this */
    unsigned
        held; /* open transactions of the handler's that have a newer cursor: not written */
    bool skipped; /* ... and an entry came by in the meantime */
};

enum {
    MESSAGE_NO_OUTQ = 1 /* other bits are kept as stored */
};

struct message {
    struct message *next, *prev; /* of the list or heap it is in */
    struct message *child;       /* in a heap: the first of those below it */
    uint64_t id;
    /* set once, then read only */
    int64_t created_ms;
    struct message_ext *ext; /* NULL: nothing of it */
    /* protected by the lock of its type or queue */
    struct failure *failure;   /* NULL: no attempt failed */
    struct progress *progress; /* NULL: nothing was saved */
    int64_t due_ms;            /* in delayed: when; else 0 */
    uint64_t seq;              /* order of acceptance within its lane */
    _Atomic uint32_t refs;
    uint32_t len;           /* set once */
    uint32_t run;           /* starts so far, in all lives; only grows: the fence */
    int16_t priority;       /* set once */
    uint16_t attempt;       /* starts of this life that counted */
    uint16_t max_attempts;  /* set once; 0: the type's */
    uint8_t crashes;        /* starts that ended with the process */
    uint8_t flags;          /* set once */
    uint8_t place;          /* enum place */
    uint8_t row;            /* enum row */
    uint8_t level;          /* enum bgmq_durability; set once */
    _Atomic uint8_t insert; /* enum insert_state */
    uint8_t corrupt;        /* its body is not what was published: for the dlq only */
    uint8_t quiet;          /* ended well, and has no place in outq */
    uint8_t kept;           /* rows of bgmq_progress or bgmq_error may be there */
    uint8_t unkeyed;        /* its unique key was given up at its first start */
    uint8_t heaped; /* a load may meet its row while it is in memory (type_load.c) */
    uint8_t hauled; /* a load brought it to the list it is in */
    char body[];    /* LEN bytes and a NUL */
};

/* Makes a message with one reference, its body copied, place NONE.  NULL: out of memory. */
struct message *bgmqi_message_new(const void *body, size_t len);
void bgmqi_message_ref(struct message *m);
/* Gives back a reference; the last frees the message, its ext and failure.  NULL is allowed. */
void bgmqi_message_unref(struct message *m);
/* Bytes it occupies, for the bound on memory. */
size_t bgmqi_message_cost(const struct message *m);

/* Builds the ext of OPTIONS in *RET; NULL when there is nothing to keep.  TYPE may be NULL.
 * Of OPTIONS, expire_at_ms and (with BGMQ_UNIQUE_PERIOD) unique_period_ms are points in time here.
 * META_PACKED, when not NULL, replaces OPTIONS->meta.  EINVAL: a string too long or not UTF-8,
 * meta odd or over 4 KiB.  ENOMEM. */
int bgmqi_message_ext_new(const struct bgmq_message_options *options, const char *type,
                          const char *meta_packed, size_t meta_len,
                          struct message_ext **ret);
/* A copy of X.  ENOMEM. */
int bgmqi_message_ext_copy(const struct message_ext *x, struct message_ext **ret);
void bgmqi_message_ext_free(struct message_ext *ext);
/* Lends the value of KEY, or NULL. */
const char *bgmqi_message_meta(const struct message *m, const char *key);

/* CODE is cut at 64 bytes, TEXT at 1 KiB, both on a UTF-8 border.  NULL: out of memory. */
struct failure *bgmqi_failure_new(const char *code, const char *text, int64_t at_ms);
/* An empty progress with one reference; NULL: out of memory. */
struct progress *bgmqi_progress_new(struct budget *budget);
struct progress *bgmqi_progress_ref(struct progress *p); /* NULL is allowed */
void bgmqi_progress_unref(struct progress *p);           /* likewise */
/* A new one with what P keeps between attempts, all but the result, and with CURSOR (taken) in
 * place of its cursor when REPLACE.  NULL: out of memory, CURSOR is not taken. */
struct progress *bgmqi_progress_copy(struct progress *p, bool replace, void *cursor,
                                     size_t len);
/* Charges what P holds by now, TAKEN bytes of which were taken from the budget before: what is
 * missing is taken in any case, what is left over goes back.  P's lock is held, or P is new. */
void bgmqi_progress_charge(struct progress *p, size_t taken);
/* A copy of LEN bytes with a NUL behind them; NULL: out of memory. */
void *bgmqi_progress_bytes(const void *bytes, size_t len);

struct failure *bgmqi_failure_ref(struct failure *f);
void bgmqi_failure_unref(struct failure *f);

#endif
