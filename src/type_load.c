/* type_load.c - the window: rows from the database into memory, and the other way.
 *
 * bgmqi_type_load runs on the journal's thread, which owns the store; so every row that was
 * committed before is seen, and nothing is committed meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "type_impl.h"

enum {
    LOAD_BYTES = 8 << 20,
    /* Rows of a load while publishers wait for commits: for their sake, and because the ends of
     * what it brings go with the commits that follow. */
    HURRIED_ROWS = 128
};

/* What one load brings. */
struct haul {
    struct type *type;
    enum lane lane;
    struct queue messages;
    struct queue corrupt;
    size_t n;
    int64_t key;
    uint64_t seq;
};

static struct progress *progress_of(const struct store_row *row, struct budget *budget)
{
    struct progress *p = bgmqi_progress_new(budget);
    bool whole = p != NULL;
    if (p && row->cursor)
        whole = (p->cursor = bgmqi_progress_bytes(row->cursor, row->cursor_len)) != NULL;
    if (whole && row->progress_text)
        whole = (p->text = strdup(row->progress_text)) != NULL;
    if (!whole) {
        bgmqi_progress_unref(p);
        return NULL;
    }
    p->cursor_len = row->cursor_len;
    p->number = row->progress;
    bgmqi_progress_charge(p, 0);
    return p;
}

/* Gives M what few rows have.  A row of another's making may have an ext that is not fit: it goes
 * without.  ENOMEM. */
static int add_extra(const struct type *t, struct message *m, const struct store_row *row)
{
    struct message_ext *ext = NULL;
    bool heaped = row->lane == LANE_PRIORITYQ || row->lane == LANE_DELAYED;
    bool failed = row->error_code != NULL;
    bool kept = row->cursor || row->progress_text || row->progress;
    if (row->ext && bgmqi_message_ext_copy(row->ext, &ext) == BGMQ_ENOMEM)
        return BGMQ_ENOMEM;
    bgmqi_message_set_ext(m, ext);
    int err = bgmqi_message_set_priority(m, (int)row->priority);
    if (!err && (heaped || failed || kept)) /* whatever its priority says */
        err = bgmqi_message_extend(m);
    if (err)
        return err;
    message_put_due_ms(m, row->lane == LANE_DELAYED ? row->key : 0);
    if (failed)
        message_put_failure(m, bgmqi_failure_new(row->error_code,
                                                 row->error_text ? row->error_text : "",
                                                 row->error_ms));
    if (kept)
        message_put_progress(m, progress_of(row, t->env->budget));
    bool whole = (!failed || message_failure(m)) && (!kept || message_progress(m));
    return whole ? 0 : BGMQ_ENOMEM;
}

struct message *bgmqi_type_message_of(const struct type *t, const struct store_row *row)
{
    struct message *m = bgmqi_message_new(row->body, row->len);
    if (!m)
        return NULL;
    if (add_extra(t, m, row) != 0) {
        bgmqi_message_unref(m);
        return NULL;
    }
    m->kept = row->kept != 0;
    m->id = row->id;
    m->seq = row->seq;
    m->created_ms = row->created_ms;
    m->run = row->run;
    m->attempt = (uint16_t)row->attempt;
    m->max_attempts = (uint16_t)row->max_attempts;
    m->crashes = (uint8_t)row->crashes;
    m->flags = (uint8_t)row->flags;
    m->row = ROW_BACKLOG;
    m->corrupt = row->corrupt != 0;
    m->heaped = row->lane == LANE_PRIORITYQ || row->lane == LANE_DELAYED;
    m->level =
        BGMQ_DISK; /* it is in the store: what it says of the past is true of all levels */
    return m;
}

static int add_row(void *ctx, const struct store_row *row)
{
    struct haul *h = ctx;
    struct message *m = bgmqi_type_message_of(h->type, row);
    if (!m)
        return BGMQ_ENOMEM;
    if (row->corrupt && h->lane != LANE_DLQ)
        bgmqi_queue_push(&h->corrupt, m);
    else
        bgmqi_queue_push(&h->messages, m);
    h->n++;
    h->key = row->key;
    h->seq = row->seq;
    return 0;
}

/* ---- rows that memory has already --------------------------------------------------------------
 * A heap's frontier moves down when memory is crowded, and a search takes rows from beyond it;
 * so a load can meet the row of a message that came from there and is still around: waiting,
 * running, on its way elsewhere, or ended with its end not committed yet.  (In inq, whose
 * frontier only moves up, only when a search did.) */

static int by_id(const void *a, const void *b)
{
    uint64_t x = (*(struct message *const *)a)->id, y = (*(struct message *const *)b)->id;
    return (x > y) - (x < y);
}

struct known {
    struct message **sorted;
    size_t n;
};

static void mark(const struct known *k, struct message *m)
{
    struct message **hit = bsearch(&m, k->sorted, k->n, sizeof(m), by_id);
    if (hit)
        (*hit)->place = PLACE_OUTQ; /* of the copy: it is not wanted */
}

static void mark_queue(const struct known *k, const struct queue *q)
{
    for (struct message *m = q->head; m; m = m->next)
        mark(k, m);
}

static void mark_heap(const struct known *k, const struct heap *h)
{
    for (struct message *m = NULL; (m = bgmqi_heap_walk(h, m)) != NULL;)
        mark(k, m);
}

size_t bgmqi_type_drop_known(struct type *t, struct queue *loaded,
                             struct message **sorted)
{
    struct known k = {.sorted = sorted};
    for (struct message *m = loaded->head; m; m = m->next)
        sorted[k.n++] = m;
    qsort(sorted, k.n, sizeof(*sorted), by_id);
    mark_queue(&k, &t->inq);
    mark_queue(&k, &t->dlq);
    mark_queue(&k, &t->out);
    mark_queue(&k, &t->limbo);
    mark_queue(&k, &t->spilled);
    mark_queue(&k, &t->expected);
    mark_queue(&k, &t->suspects[LANE_INQ]);
    mark_queue(&k, &t->suspects[LANE_PRIORITYQ]);
    mark_heap(&k, &t->priorityq);
    mark_heap(&k, &t->delayed);
    for (struct journal_entry *e = t->leaving; e; e = e->sibling)
        mark(&k, e->op.msg);
    size_t dropped = 0;
    for (struct message *m = loaded->head, *next; m; m = next) {
        next = m->next;
        if (m->place == PLACE_NONE)
            continue;
        m->place = PLACE_NONE;
        bgmqi_queue_remove(loaded, m);
        bgmqi_queue_push(&t->garbage, m);
        dropped++;
    }
    return dropped;
}

/* ---- loading ----------------------------------------------------------------------- */

/* Sends messages whose bytes are not what was written to the dlq. */
static void bury_corrupt(struct type *t, struct haul *h)
{
    for (struct message *m; (m = bgmqi_queue_pop(&h->corrupt)) != NULL;) {
        struct journal_entry *e = bgmqi_type_entry();
        struct message_extra *x = bgmqi_type_extra(m);
        struct failure *f = bgmqi_failure_new(
            "corrupt", "the checksum of the body does not match", m->created_ms);
        bgmqi_type_lock(t);
        bgmqi_mem_charge_always(&t->memory, message_cost(m));
        bgmqi_type_extend(t, m, x);
        bgmqi_failure_unref(message_put_failure(m, f));
        bgmqi_type_send(t, m, LANE_DLQ, e, bgmqi_type_history(t, OUTCOME_DEAD));
        bgmqi_type_unlock(t);
        bgmqi_log(t->env->log, BGMQ_LOG_ERROR, "%s: the body of message %llu is corrupt",
                  t->name, (unsigned long long)m->id);
    }
}

/* Places what a load of LANE brought, when the frontier is where it was. */
static void place_haul(struct type *t, struct haul *h, int64_t key, uint64_t seq,
                       struct message **sorted)
{
    struct lane_state *l = &t->lanes[h->lane];
    bgmqi_type_lock(t);
    if (!l->bounded || l->key != key || l->seq != seq) {
        bgmqi_type_check_lane(t, h->lane);
        bgmqi_type_unlock(t);
        bgmqi_queue_clear(&h->messages);
        bgmqi_queue_clear(&h->corrupt);
        return;
    }
    t->hauls++;
    size_t fresh = h->n;
    if (h->lane != LANE_INQ || t->strays)
        fresh -= bgmqi_type_drop_known(t, &h->messages, sorted);
    if (h->n) {
        l->key = h->key;
        l->seq = h->seq + 1;
        l->stored -= fresh < l->stored ? fresh : l->stored;
    } else {
        l->stored = 0; /* somebody else took rows away */
    }
    for (struct message *m; (m = bgmqi_queue_pop(&h->messages)) != NULL;) {
        bgmqi_mem_charge_always(&t->memory, message_cost(m));
        bgmqi_type_place(t, m, h->lane);
        m->hauled = m->place == PLACE_INQ || m->place == PLACE_DLQ;
        l->hauled += m->hauled;
    }
    bgmqi_type_check_lane(t, h->lane);
    bgmqi_type_unlock(t);
    bury_corrupt(t, h);
}

/* Has the ticker come, which asks for what is still wanted. */
static void try_again(struct type *t)
{
    enum { AGAIN_MS = 1000 };
    int64_t then = clock_wall_ms(t->env->clock) + AGAIN_MS;
    bgmqi_type_lock(t);
    t->due_hint = then < t->due_hint ? then : t->due_hint;
    bgmqi_type_unlock(t);
}

static void load_lane(struct type *t, enum lane lane)
{
    struct lane_state *l = &t->lanes[lane];
    bgmqi_type_lock(t);
    size_t len = bgmqi_type_lane_len(t, lane), window = t->config.window;
    int64_t key = l->key;
    uint64_t seq = l->seq;
    bool wanted = l->bounded && l->stored && bgmqi_type_runs_low(t, lane);
    bgmqi_type_unlock(t);
    if (!wanted)
        return;

    struct haul h = {.type = t, .lane = lane};
    size_t limit = len <= window / 2 ? window - len : window / 2 + 1;
    if (limit > HURRIED_ROWS && bgmqi_journal_hurried(t->env->journal))
        limit = HURRIED_ROWS;
    struct message **sorted = reallocarray(NULL, limit, sizeof(*sorted));
    struct store *s = bgmqi_journal_store(t->env->journal);
    int n = sorted ? s->ops->load(s, t->number, lane, key, seq, limit, LOAD_BYTES,
                                  add_row, &h)
                   : BGMQ_ENOMEM;
    if (n < 0) {
        bgmqi_log(t->env->log, BGMQ_LOG_ERROR, "%s: cannot load from the database: %s",
                  t->name, bgmq_strerror(n));
        bgmqi_queue_clear(&h.messages);
        bgmqi_queue_clear(&h.corrupt);
        try_again(t);
    } else {
        place_haul(t, &h, key, seq, sorted);
    }
    free(sorted);
}

void bgmqi_type_load(struct type *t)
{
    if (bgmqi_journal_failed(t->env->journal)) {
        try_again(t);
        return;
    }
    bgmqi_type_expire_rows(t);
    for (int lane = 0; lane < LANES; lane++)
        load_lane(t, (enum lane)lane);
}

bool bgmqi_type_moves(struct type *t)
{
    bgmqi_type_lock(t);
    bool moves = t->limbo.len > 0 || t->spilled.len > 0 || t->expiry_wanted;
    for (int lane = 0; lane < LANES; lane++) {
        const struct lane_state *l = &t->lanes[lane];
        moves |= l->bounded && l->stored && bgmqi_type_runs_low(t, (enum lane)lane);
    }
    bgmqi_type_unlock(t);
    return moves;
}

/* ---- recalling -----------------------------------------------------------------------
 * A message that came when inq was full waits beyond the frontier, and its body is in memory until
 * the journal has written it.  When inq runs low, nothing stands in BACKLOG beyond the frontier,
 * and nothing but such messages is on its way there, the first of them is the next in order: it
 * goes into inq, as if it had found room at once, and the frontier behind it.  Its entry becomes
 * an INSERT into JOB, that its end may cancel; or, when that is being written already, it is in
 * memory with a row of BACKLOG, and whatever the journal is told of it comes after.  So while
 * workers are as fast as publishers, a queue that is longer than the window costs no load, and
 * the journal, which is behind, mostly no row. */

enum { RECALL_MOST = 512 }; /* at a time: others wait for the lock */

void bgmqi_type_recall(struct type *t)
{
    struct lane_state *l = &t->lanes[LANE_INQ];
    if (l->stored || l->in_journal != t->spilled.len || !bgmqi_type_runs_low(t, LANE_INQ))
        return;
    size_t n = 0;
    struct message *m;
    while (n < RECALL_MOST && t->inq.len < t->config.window &&
           (m = t->spilled.head) != NULL) {
        bgmqi_queue_remove(&t->spilled, m);
        bgmqi_message_ref(m); /* one for its place, one for the entry */
        l->in_journal--;
        l->key = 0;
        l->seq = m->seq + 1;
        m->row = bgmqi_journal_recall(m) ? ROW_JOB : ROW_BACKLOG;
        t->added++;
        bgmqi_type_place(t, m, LANE_INQ);
        n++;
    }
    t->hauls += n > 0;
}

/* ---- the other way ----------------------------------------------------------------- */

void bgmqi_type_evict(struct type *t, enum lane lane)
{
    struct heap *h = lane == LANE_DELAYED ? &t->delayed : &t->priorityq;
    struct lane_state *l = &t->lanes[lane];
    size_t crowd = 2 * (size_t)t->config.window;
    if (!t->env->journal || h->len < (l->crowd > crowd ? l->crowd : crowd))
        return;
    struct queue keep = {.len = 0};
    while (keep.len < t->config.window)
        bgmqi_queue_push(&keep, bgmqi_heap_pop(h));
    int64_t key = bgmqi_type_key(h->top, lane);
    if (bgmqi_type_before_frontier(l, key,
                                   h->top->seq)) { /* down only: rows are beyond */
        l->bounded = true;
        l->key = key;
        l->seq = h->top->seq;
    }
    for (struct message *m; (m = bgmqi_heap_pop(h)) != NULL;) {
        struct journal_entry *e = m->row == ROW_NONE ? NULL : bgmqi_journal_entry_new();
        if (!e) { /* memory only, or no memory: it stays beside the others */
            bgmqi_queue_push(&keep, m);
            continue;
        }
        m->place = PLACE_NONE;
        bgmqi_type_fill(t, e, m->row == ROW_JOB ? STORE_MOVE : STORE_UPDATE, m,
                        OUTCOME_NONE, m->created_ms);
        e->op.level = BGMQ_BEHIND;
        e->op.lane = (uint8_t)lane;
        e->op.key = bgmqi_type_key(m, lane);
        e->tell = true;
        m->row = ROW_BACKLOG;
        l->in_journal++;
        bgmqi_queue_push(&t->limbo, m);
        bgmqi_journal_add(t->env->journal, e, e);
    }
    for (struct message *m; (m = bgmqi_queue_pop(&keep)) != NULL;)
        bgmqi_heap_push(h, m);
    l->crowd = h->len + t->config.window;
}
