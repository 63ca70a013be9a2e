/* message.h - one message: the record that is stored, and what only memory knows of it.
 *
 * Ownership.  A message is reference-counted: its place (a queue, a worker, a taker) holds one
 * reference, each entry of the journal that still needs the body another, each peeker another.
 * Everything under "set once" is immutable and may be read by any holder of a reference;
 * the rest belongs to the lock of the type or custom queue the message is in.
 *
 * Size.  Millions of messages may wait in memory, and most of them have no options, have not
 * failed and are in a list.  So what only the others need stands apart, in a struct message_extra
 * that is made when it is first wanted and stays as long as the message: 40 bytes that a plain
 * message does not have.  Who makes it: a publisher or a load before anybody else knows the
 * message (the setters below), and later who settles, picks or runs it, under the type's lock
 * (bgmqi_type_extend, which charges it).  One that has options has its extra in the allocation of
 * those.  Readers use the functions below, which cost a plain message one load and one test. */
#ifndef BGMQI_MESSAGE_H
#define BGMQI_MESSAGE_H

#include <assert.h>
#include <bgmq.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "lock.h"
#include "mem.h"

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

/* What a message that plainly waits does not have.  One that has a priority or a time, has an
 * option of struct message_ext, has failed, or has kept something has one of these. */
struct message_extra {
    struct message_ext
        *ext; /* set once, before others know the message; NULL: nothing of it */
    /* protected by the lock of its type or queue */
    struct message *child;     /* in a heap: the first of those below it */
    struct failure *failure;   /* NULL: no attempt failed */
    struct progress *progress; /* NULL: nothing was saved */
    int64_t due_ms;            /* in delayed: when; else 0 */
};

enum { META_MAX = 4096 }; /* bytes of the meta of one message, packed */

/* The options that most messages do not have.  One allocation with its strings, and with the extra
 * of its message; all else is immutable. */
struct message_ext {
    struct message_extra extra;
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
    uint64_t id;
    /* set once, then read only */
    int64_t created_ms;
    /* Changed once at most, from NULL, under the lock of its type when others know the message;
     * read by any holder of a reference, with the lock or without. */
    _Atomic(struct message_extra *) extra;
    /* protected by the lock of its type or queue */
    uint64_t seq; /* order of acceptance within its lane */
    _Atomic uint32_t refs;
    uint32_t len;          /* set once */
    uint32_t run;          /* starts so far, in all lives; only grows: the fence */
    int16_t priority;      /* set once */
    uint16_t attempt;      /* starts of this life that counted */
    uint16_t max_attempts; /* set once; 0: the type's */
    uint8_t crashes;       /* starts that ended with the process */
    uint8_t flags;         /* set once */
    uint8_t place;         /* enum place */
    uint8_t row;           /* enum row */
    uint8_t level;         /* enum bgmq_durability; set once */
    uint8_t corrupt;       /* its body is not what was published: for the dlq only */
    uint8_t quiet;         /* ended well, and has no place in outq */
    uint8_t kept;          /* rows of bgmq_progress or bgmq_error may be there */
    uint8_t unkeyed;       /* its unique key was given up at its first start */
    uint8_t heaped; /* a load may meet its row while it is in memory (type_load.c) */
    uint8_t hauled; /* a load brought it to the list it is in */
    /* The journal's thread changes it: apart from what a compiler may read along with others. */
    _Atomic uint8_t insert; /* enum insert_state */
    char body[];            /* LEN bytes and a NUL */
};

/* Bytes of one with LEN bytes of body.  Never less than the struct: a compiler may read its padding
 * along with the fields before. */
static inline size_t message_size(size_t len)
{
    size_t size = offsetof(struct message, body) + len + 1;
    return size > sizeof(struct message) ? size : sizeof(struct message);
}

static inline struct message_extra *message_extra(const struct message *m)
{
    return atomic_load_explicit(&m->extra, memory_order_acquire);
}

/* Bytes that one with LEN bytes of body and nothing else occupies. */
static inline size_t message_cost_of(size_t len)
{
    return mem_cost(message_size(len));
}

/* Bytes that M occupies with its extra, for the bound on memory.  They grow when it gets one, and
 * never else: who gives one to a message that is charged charges bgmqi_message_extra_cost, too. */
static inline size_t message_cost(const struct message *m)
{
    return message_cost_of(m->len) +
           (message_extra(m) ? mem_cost(sizeof(struct message_extra)) : 0);
}

/* NULL: nothing of it. */
static inline const struct message_ext *message_ext(const struct message *m)
{
    const struct message_extra *x = message_extra(m);
    return x ? x->ext : NULL;
}

/* NULL: none. */
static inline const char *message_unique_key(const struct message *m)
{
    const struct message_ext *ext = message_ext(m);
    return ext ? ext->unique_key : NULL;
}

/* 0: never. */
static inline int64_t message_expires_ms(const struct message *m)
{
    const struct message_ext *ext = message_ext(m);
    return ext ? ext->expires_ms : 0;
}

/* NULL: no attempt failed. */
static inline struct failure *message_failure(const struct message *m)
{
    const struct message_extra *x = message_extra(m);
    return x ? x->failure : NULL;
}

/* NULL: nothing was saved. */
static inline struct progress *message_progress(const struct message *m)
{
    const struct message_extra *x = message_extra(m);
    return x ? x->progress : NULL;
}

/* In delayed: when; else 0. */
static inline int64_t message_due_ms(const struct message *m)
{
    const struct message_extra *x = message_extra(m);
    return x ? x->due_ms : 0;
}

/* M, which has an extra when MS is not 0, is due at MS. */
static inline void message_put_due_ms(struct message *m, int64_t ms)
{
    struct message_extra *x = message_extra(m);
    assert(x || ms == 0);
    if (x)
        x->due_ms = ms;
}

/* Puts F, taken, into M, which has an extra when F is not NULL.  Returns what was there. */
static inline struct failure *message_put_failure(struct message *m, struct failure *f)
{
    struct message_extra *x = message_extra(m);
    assert(x || !f);
    struct failure *old = x ? x->failure : NULL;
    if (x)
        x->failure = f;
    return old;
}

/* Likewise. */
static inline struct progress *message_put_progress(struct message *m, struct progress *p)
{
    struct message_extra *x = message_extra(m);
    assert(x || !p);
    struct progress *old = x ? x->progress : NULL;
    if (x)
        x->progress = p;
    return old;
}

/* Makes a message with one reference, its body copied, place NONE.  NULL: out of memory. */
struct message *bgmqi_message_new(const void *body, size_t len);
/* Gives EXT, taken, to M, which nobody else knows yet and which has no extra; NULL is allowed. */
void bgmqi_message_set_ext(struct message *m, struct message_ext *ext);
/* Likewise for M that nobody else knows.  The first sees to it that it has an extra, and so do the
 * others where it needs one.  ENOMEM. */
int bgmqi_message_extend(struct message *m);
int bgmqi_message_set_priority(struct message *m, int priority);
int bgmqi_message_set_due_ms(struct message *m, int64_t due_ms);
/* An empty extra; NULL: out of memory. */
struct message_extra *bgmqi_message_extra_new(void);
/* Gives X to M, whose lock is held when others know it.  False: M has one, and X is freed. */
bool bgmqi_message_attach(struct message *m, struct message_extra *x);
/* Frees X, which no message has, with what it has.  NULL is allowed. */
void bgmqi_message_extra_free(struct message_extra *x);
void bgmqi_message_ref(struct message *m);
/* Gives back a reference; the last frees the message and all that it has.  NULL is allowed. */
void bgmqi_message_unref(struct message *m);
/* Bytes of an extra. */
size_t bgmqi_message_extra_cost(void);

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
/* The entry that was on its way did not arrive: the next save sends another.  Any thread. */
void bgmqi_progress_missed(struct progress *p);
/* A copy of LEN bytes with a NUL behind them; NULL: out of memory. */
void *bgmqi_progress_bytes(const void *bytes, size_t len);

struct failure *bgmqi_failure_ref(struct failure *f);
void bgmqi_failure_unref(struct failure *f);

#endif
