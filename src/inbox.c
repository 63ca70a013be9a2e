/* inbox.c - takes over what other processes wrote (see inbox.h).
 *
 * All of the work is on the journal's thread: a look reads a portion of rows and lets each in as a
 * publish would, with an entry that also deletes the row.  It never waits, for room or for anything
 * else: the thread it runs on is the one that makes room.  A row that cannot be let in now is left
 * where it is, and looked at again; one that never can is marked with the reason.
 *
 * A pass goes through the inbox in order of id.  SEEN is how far it is: what is below is on its way
 * through the journal, or was left.  The next pass begins at the start again, once nothing is on
 * its way; passes that find rows they must leave take no more than a tenth of the time. */
#include "inbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"

enum {
    PORTION = 256,         /* rows of one look: the journal writes in between */
    ON_THE_WAY_MAX = 1024, /* rows in the journal; and */
    BYTES_MAX = 8 << 20,   /* ... their bodies */
    FULL_MAX = 64,         /* types that are full, known at once */
    REST = 10,             /* a pass is followed by a rest of so many times its length */
    PRIORITY_MAX = 32767,
    ATTEMPTS_MAX = 1000
};
#define MS               INT64_C(1000000)
#define FIRST_ID         (UINT64_C(1) << 52)
#define LEFT_REST_NS     (50 * MS)   /* least rest when rows were left */
#define DROPPED_REST_NS  (1000 * MS) /* ... when the store refused them */
#define HUNDRED_YEARS_MS INT64_C(3155760000000)

struct inbox {
    /* set once, then read only */
    struct bgmq *mq;
    struct journal_load load;

    _Atomic int64_t again_ns; /* when to look again without being rung; 0: not to */
    _Atomic uint64_t taken;

    /* used by the journal's thread only */
    uint64_t seen;
    size_t on_the_way, bytes;
    bool passing;          /* a pass is not at its end */
    bool whole;            /* it began at the start; else it sees what is new only */
    bool left, stopped;    /* since the last start: rows were left; it cannot go on */
    size_t rows;           /* of this look */
    bool crowded;          /* the look ended because the journal has enough for now */
    int64_t began_ns;      /* the last whole pass */
    int64_t rest_until_ns; /* the next one does not begin before */
    struct type
        *full[FULL_MAX]; /* of their rows the pass takes no more, to keep the order */
    size_t n_full;
};

struct inbox *bgmqi_inbox_new(struct bgmq *mq)
{
    struct inbox *b = calloc(1, sizeof(*b));
    if (!b)
        return NULL;
    b->mq = mq;
    b->load.owner = b;
    return b;
}

void bgmqi_inbox_free(struct inbox *b)
{
    free(b);
}

void bgmqi_inbox_ring(struct bgmq *mq)
{
    if (mq->inbox)
        bgmqi_journal_ask_load(mq->journal, &mq->inbox->load);
}

static int64_t now_ns(const struct inbox *b)
{
    return clock_mono_ns(b->mq->clock);
}

int64_t bgmqi_inbox_due(struct inbox *b)
{
    int64_t again = b ? atomic_load(&b->again_ns) : 0;
    if (again == 0)
        return INT64_MAX;
    int64_t left = again - now_ns(b);
    if (left > 0)
        return left;
    if (atomic_compare_exchange_strong(&b->again_ns, &again, 0))
        bgmqi_inbox_ring(b->mq);
    return INT64_MAX;
}

uint64_t bgmqi_inbox_taken(const struct inbox *b)
{
    return b ? atomic_load(&b->taken) : 0;
}

/* ---- one row ----------------------------------------------------------------------- */

/* Why ROW can never be a message, in TEXT; false: it can. */
static bool is_wrong(const struct inbox *b, const struct store_inbox_row *row,
                     int64_t now_ms, char *text, size_t size)
{
    const struct bgmq_message_options *o = &row->options;
    size_t max_body = b->mq->config.max_body;
    text[0] = '\0';
    if (row->refused)
        snprintf(text, size, "%s", row->refused);
    else if (row->id < FIRST_ID)
        snprintf(text, size, "its id is not one the inbox gives");
    else if (!row->type || !bgmqi_registry_valid(row->type))
        snprintf(text, size, "its type is not the name of a type");
    else if (o->channel && !bgmqi_registry_valid(o->channel))
        snprintf(text, size, "its channel is not the name of a channel");
    else if (row->len > max_body)
        snprintf(text, size, "its body has %zu bytes, more than max_body, %zu", row->len,
                 max_body);
    else if (o->priority < 0 || o->priority > PRIORITY_MAX)
        snprintf(text, size, "its priority is not 0..%d", PRIORITY_MAX);
    else if (o->max_attempts > ATTEMPTS_MAX)
        snprintf(text, size, "its max_attempts are not 0..%d", ATTEMPTS_MAX);
    else if (o->run_at_ms < 0 || o->run_at_ms > clock_plus(now_ms, HUNDRED_YEARS_MS))
        snprintf(text, size, "its run_at is before 1970 or in more than a hundred years");
    return text[0] != '\0';
}

/* The type of ROW, or of its channel; made when it is not there. */
static int find_type(const struct inbox *b, const struct store_inbox_row *row,
                     struct type **ret)
{
    return bgmqi_registry_channel(b->mq->registry, row->type, row->options.channel, false,
                                  ret);
}

/* Gives the row ID to the journal to be marked.  False: out of memory. */
static bool refuse(struct inbox *b, uint64_t id, const char *why)
{
    struct journal_entry *e = bgmqi_journal_entry_new();
    if (!e || !(e->op.text = strdup(why))) {
        bgmqi_journal_entry_free(e);
        return false;
    }
    e->op.kind = STORE_REFUSE;
    e->op.flags = OP_INBOX;
    e->op.level = BGMQ_BEHIND;
    e->op.id = id;
    e->tell = true;
    b->on_the_way++;
    bgmqi_journal_add(b->mq->journal, e, e);
    return true;
}

/* The message of ROW for T.  EINVAL: its strings are not fit; ENOMEM. */
static int make_message(const struct store_inbox_row *row, const struct type *t,
                        int64_t now_ms, struct message **ret)
{
    struct bgmq_message_options o = row->options;
    const struct type_config *c = bgmqi_type_registered(t) ? bgmqi_type_config(t) : NULL;
    if (!o.expire_at_ms && c && c->expire_ms)
        o.expire_at_ms = clock_plus(now_ms, c->expire_ms);
    struct message *m = bgmqi_message_new(row->body, row->len);
    if (!m)
        return BGMQ_ENOMEM;
    struct message_ext *ext;
    int64_t due_ms = o.run_at_ms > now_ms ? o.run_at_ms : 0;
    int err =
        bgmqi_message_ext_new(&o, NULL, row->meta ? row->meta : "", row->meta_len, &ext);
    if (!err) {
        bgmqi_message_set_ext(m, ext);
        err = bgmqi_message_set_due_ms(m, due_ms);
    }
    if (!err)
        err = bgmqi_message_set_priority(m, o.priority);
    if (err) {
        bgmqi_message_unref(m);
        return err;
    }
    m->created_ms = row->created_ms;
    m->max_attempts = (uint16_t)o.max_attempts;
    /* No sync is needed: should this commit be lost, the row is in the inbox again. */
    m->level = BGMQ_BEHIND;
    *ret = m;
    return 0;
}

static int admit(struct inbox *b, const struct store_inbox_row *row, struct type *t,
                 int64_t now_ms)
{
    struct admission a = {.inbox_id = row->id};
    int err = make_message(row, t, now_ms, &a.m);
    if (err)
        return err;
    if (!(a.entry = bgmqi_journal_entry_new()))
        err = BGMQ_ENOMEM;
    else
        err = bgmqi_type_admit(t, &a);
    if (err) {
        if (a.entry)
            a.entry->op.msg = NULL; /* ours still */
        bgmqi_journal_entry_free(a.entry);
        bgmqi_message_unref(a.m);
        return err;
    }
    b->on_the_way++;
    b->bytes += row->len;
    return 0;
}

static bool is_full(const struct inbox *b, const struct type *t)
{
    for (size_t i = 0; i < b->n_full; i++)
        if (b->full[i] == t)
            return true;
    return false;
}

/* A row for T stays in the inbox for now. */
static void leave(struct inbox *b, struct type *t)
{
    b->left = true;
    if (t && is_full(b, t))
        return;
    if (t && b->n_full < FULL_MAX)
        b->full[b->n_full++] = t;
    else
        b->stopped = true; /* no memory, or more of them than we can tell apart */
}

/* Nonzero ends the look. */
static int take(void *ctx, const struct store_inbox_row *row)
{
    struct inbox *b = ctx;
    b->crowded = b->on_the_way >= ON_THE_WAY_MAX || b->bytes >= BYTES_MAX;
    if (b->crowded)
        return 1;
    b->rows++;
    char why[256];
    struct type *t = NULL;
    int64_t now_ms = clock_wall_ms(b->mq->clock);
    bool wrong = is_wrong(b, row, now_ms, why, sizeof(why));
    int err = wrong ? 0 : find_type(b, row, &t);
    if (!wrong && !err)
        err = is_full(b, t) ? BGMQ_EFULL : admit(b, row, t, now_ms);
    if (err == BGMQ_EINVAL)
        snprintf(why, sizeof(why), "a string of it is too long or not UTF-8, or no name");
    if (wrong || err == BGMQ_EINVAL)
        err = refuse(b, row->id, why) ? 0 : BGMQ_ENOMEM;
    if (err)
        leave(b, err == BGMQ_ENOMEM || err == BGMQ_ECLOSED ? NULL : t);
    b->seen = row->id;
    return b->stopped;
}

/* ---- passes ------------------------------------------------------------------------ */

static void call_again(struct inbox *b, int64_t at_ns)
{
    atomic_store(&b->again_ns, at_ns);
    bgmqi_ticker_poke(b->mq->ticker);
}

/* False: there is nothing to be done now. */
static bool begin_pass(struct inbox *b)
{
    if (b->passing)
        return true;
    int64_t now = now_ns(b);
    b->whole = b->on_the_way == 0 && now >= b->rest_until_ns;
    if (b->whole) {
        b->seen = 0;
        b->n_full = 0;
        b->left = b->stopped = false;
        b->began_ns = now;
    } else if (b->on_the_way == 0) {
        /* What is new is beyond SEEN as a rule; all else is found when the rest is over. */
        call_again(b, b->rest_until_ns);
    }
    b->passing = !b->stopped;
    return b->passing;
}

static void end_pass(struct inbox *b)
{
    b->passing = false;
    if (!b->whole)
        return; /* bgmqi_inbox_ended rings, or begin_pass has seen to it */
    int64_t now = now_ns(b), rest = REST * (now - b->began_ns);
    if (b->left && rest < LEFT_REST_NS)
        rest = LEFT_REST_NS;
    b->rest_until_ns = now + rest;
    if (b->left)
        call_again(b, b->rest_until_ns);
}

void bgmqi_inbox_look(struct inbox *b)
{
    struct journal *j = b->mq->journal;
    if (atomic_load(&b->mq->types.closed) || bgmqi_journal_failed(j) || !begin_pass(b))
        return;
    struct store *s = bgmqi_journal_store(j);
    b->rows = 0;
    b->crowded = false;
    int n = s->ops->inbox(s, b->seen, PORTION, take, b);
    if (n < 0 && !b->stopped)
        b->left = b->stopped = true; /* it cannot be read now */
    if (b->crowded)
        return; /* the pass goes on when the journal has written */
    if (b->rows == PORTION && !b->stopped)
        bgmqi_inbox_ring(b->mq);
    else
        end_pass(b);
}

void bgmqi_inbox_ended(struct inbox *b, const struct store_op *op, int err)
{
    struct bgmq *mq = b->mq;
    b->on_the_way--;
    if (op->msg)
        b->bytes -= op->msg->len;
    if (err) {
        b->left = true;
        b->rest_until_ns = now_ns(b) + DROPPED_REST_NS;
        call_again(b, b->rest_until_ns);
    } else if (op->kind == STORE_REFUSE) {
        bgmqi_log(&mq->config.log, BGMQ_LOG_WARNING,
                  "row %llu of bgmq_inbox cannot be a message: %s",
                  (unsigned long long)op->id, op->text);
    } else if (op->result == 0) {
        atomic_fetch_add(&b->taken, 1);
    }
    if (b->on_the_way == 0 || (b->passing && b->on_the_way == ON_THE_WAY_MAX / 2))
        bgmqi_inbox_ring(mq);
}
