/* disk.c - the store of the simulated world (see disk.h). */
#include "disk_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

struct disk disk;
struct disk_faults disk_faults;
int64_t disk_busy_until_ns;
void (*disk_left)(void);

void disk_format(void)
{
    disk.n_rows = disk.n_keys = disk.n_guests = 0;
    disk.next_guest = UINT64_C(1) << 52;
    memset(disk.types, 0, sizeof(disk.types));
    disk.next_id = 1;
    disk.flight_charged = 0;
    disk.opened_ms = 0;
    disk.clean = true;
    disk.deaths = disk.owner = 0;
    disk.commits = 0;
    disk_busy_until_ns = 0;
    disk_flight_format();
    disk_faults = (struct disk_faults){0};
}

bool disk_own(unsigned process)
{
    if (disk.owner)
        return false;
    disk.owner = process + 1;
    return true;
}

void disk_disown(unsigned process)
{
    if (disk.owner != process + 1)
        return;
    disk.owner = 0;
    if (disk_left)
        disk_left();
}

/* ---- rows --------------------------------------------------------------------------- */

struct disk_row *disk_find(uint64_t id)
{
    for (size_t i = disk.n_rows; i-- > 0;)
        if (disk.rows[i].id == id)
            return &disk.rows[i];
    return NULL;
}

static struct disk_row *find_in(uint64_t id, bool job)
{
    struct disk_row *r = disk_find(id);
    return r && r->job == job ? r : NULL;
}

static void drop_row(struct disk_row *r)
{
    *r = disk.rows[--disk.n_rows];
}

static const char *copy(char *to, size_t size, const char *from)
{
    if (!from)
        return NULL;
    if (strlen(from) >= size)
        sim_fail("the disk has no room for \"%s\"", from);
    return strcpy(to, from);
}

static void set_failure(struct disk_row *r, const struct failure *f)
{
    r->failed = f != NULL;
    if (!f)
        return;
    snprintf(r->code, sizeof(r->code), "%s", f->code);
    snprintf(r->text, sizeof(r->text), "%s", f->text);
    r->failed_ms = f->at_ms;
}

static struct disk_row *add_row(const struct store_op *op)
{
    if (disk.n_rows == DISK_ROWS || disk_find(op->id))
        sim_fail("no room on the disk, or message %llu is there already",
                 (unsigned long long)op->id);
    struct disk_row *r = &disk.rows[disk.n_rows++];
    const struct message *m = op->msg;
    const struct message_ext *ext = message_ext(m);
    *r = (struct disk_row){.id = op->id,
                           .type = op->type,
                           .job = op->kind == STORE_INSERT,
                           .lane = op->lane,
                           .key = op->key,
                           .seq = op->seq,
                           .priority = m->priority,
                           .attempt = op->attempt,
                           .max_attempts = m->max_attempts,
                           .run = op->run,
                           .crashes = op->crashes,
                           .flags = m->flags,
                           .created_ms = m->created_ms,
                           .len = m->len,
                           .has_ext = ext != NULL};
    if (m->len > sizeof(r->body))
        sim_fail("a body of %u bytes", m->len);
    memcpy(r->body, m->body, m->len);
    if (ext)
        r->ext = (struct message_ext){
            .reply_id = ext->reply_id,
            .reply_to = copy(r->reply_to, sizeof(r->reply_to), ext->reply_to),
            .tag = copy(r->tag, sizeof(r->tag), ext->tag),
            .unique_key = copy(r->unique_key, sizeof(r->unique_key), ext->unique_key),
            .channel = copy(r->channel, sizeof(r->channel), ext->channel),
            .expires_ms = ext->expires_ms,
            .unique_until_ms = ext->unique_until_ms,
            .timeout_ms = ext->timeout_ms,
            .unique = ext->unique};
    set_failure(r, op->failure);
    return r;
}

/* ---- unique keys --------------------------------------------------------------------- */

static struct disk_key *find_key(uint32_t type, const char *key)
{
    for (size_t i = 0; i < disk.n_keys; i++)
        if (disk.keys[i].type == type && strcmp(disk.keys[i].key, key) == 0)
            return &disk.keys[i];
    return NULL;
}

static bool is_kept(const struct disk_key *k, int64_t at_ms)
{
    const struct disk_row *r = disk_find(k->id);
    if (k->scope == BGMQ_UNIQUE_PERIOD)
        return k->until_ms > at_ms;
    return r && (r->job || r->lane != LANE_DLQ || k->scope == BGMQ_UNIQUE_DONE);
}

/* False: somebody has it, and OP says who. */
static bool take_key(struct store_op *op)
{
    const char *key = message_unique_key(op->msg);
    if (!key)
        return true;
    struct disk_key *k = find_key(op->type, key);
    if (k && is_kept(k, op->at_ms ? op->at_ms : op->msg->created_ms)) {
        op->result = BGMQ_EEXIST;
        op->id = k->id;
        return false;
    }
    if (!k)
        k = &disk.keys[disk.n_keys++];
    *k = (struct disk_key){.type = op->type,
                           .id = op->id,
                           .scope = message_ext(op->msg)->unique,
                           .until_ms = message_ext(op->msg)->unique_until_ms};
    copy(k->key, sizeof(k->key), key);
    return true;
}

/* True: it had it. */
static bool drop_key(const struct store_op *op)
{
    const char *key = op->msg ? message_unique_key(op->msg) : NULL;
    struct disk_key *k = key ? find_key(op->type, key) : NULL;
    if (!k || k->id != op->id)
        return false;
    *k = disk.keys[--disk.n_keys];
    return true;
}

static void drop_key_at_end(const struct store_op *op, bool dead)
{
    uint8_t scope = op->msg && message_ext(op->msg) ? message_ext(op->msg)->unique : 0;
    if (scope != BGMQ_UNIQUE_PERIOD && !(dead && scope == BGMQ_UNIQUE_DONE))
        drop_key(op);
}

/* ---- apply -------------------------------------------------------------------------- */

static bool take_guest(struct store_op *op)
{
    for (size_t i = 0; i < disk.n_guests; i++)
        if (disk.guests[i].id == op->id) {
            memmove(&disk.guests[i], &disk.guests[i + 1],
                    (--disk.n_guests - i) * sizeof(disk.guests[i]));
            return true;
        }
    op->result = BGMQ_ELOST;
    return false;
}

static void refuse_guest(struct store_op *op)
{
    op->result = BGMQ_ELOST;
    for (size_t i = 0; i < disk.n_guests; i++)
        if (disk.guests[i].id == op->id) {
            disk.guests[i].refused = true;
            op->result = 0;
            sim_say("%s is refused: %s", disk.guests[i].body, op->text);
        }
}

static void insert(struct store_op *op)
{
    if ((!(op->flags & OP_INBOX) || take_guest(op)) && take_key(op))
        add_row(op);
}

static void place(struct disk_row *r, const struct store_op *op)
{
    r->job = false;
    r->lane = op->lane;
    r->key = op->key;
    r->seq = op->seq;
    r->attempt = op->attempt;
    r->run = op->run;
    r->crashes = op->crashes;
    r->priority = op->msg->priority;
    if (message_ext(op->msg))
        r->ext.expires_ms = message_expires_ms(op->msg);
    set_failure(r, op->failure);
    if (op->lane == LANE_DLQ)
        drop_key_at_end(op, true);
}

static void progress(const struct store_op *op)
{
    struct progress *p = op->progress;
    struct disk_row *r = disk_find(op->id);
    lock_take(&p->lock);
    p->queued = false;
    bool fits = p->cursor && p->cursor_len <= DISK_CURSOR;
    if (r && fits) {
        memcpy(r->cursor, p->cursor, p->cursor_len);
        r->cursor_len = p->cursor_len;
    }
    if (r)
        r->has_cursor = fits;
    lock_drop(&p->lock);
}

static bool is_idle(const struct store_op *all, size_t i)
{
    if (!(all[i].flags & OP_IF_KEYED) || all[i].kind == STORE_UNKEY)
        return false;
    while (all[i].kind != STORE_UNKEY)
        i--;
    return all[i].result != 0;
}

static void do_op(struct store_op *all, size_t i)
{
    struct store_op *op = &all[i];
    struct disk_row *r;
    op->result = 0;
    if (is_idle(all, i)) {
        op->result = BGMQ_EEXIST;
        return;
    }
    switch ((enum store_op_kind)op->kind) {
    case STORE_NOP:
    case STORE_HISTORY:
        return;
    case STORE_TYPE:
        if (op->type >= DISK_TYPES)
            sim_fail("type %u", op->type);
        copy(disk.types[op->type], sizeof(disk.types[op->type]), op->text);
        return;
    case STORE_INSERT:
    case STORE_SPILL:
        insert(op);
        return;
    case STORE_MOVE:
    case STORE_UPDATE:
        r = find_in(op->id, op->kind == STORE_MOVE);
        if (r)
            place(r, op);
        else
            op->result = BGMQ_ELOST;
        return;
    case STORE_DELETE_JOB:
    case STORE_DELETE_BACKLOG:
        r = find_in(op->id, op->kind == STORE_DELETE_JOB);
        if (r) {
            drop_row(r);
            drop_key_at_end(op, false);
        } else {
            op->result = BGMQ_ELOST;
        }
        return;
    case STORE_PROGRESS:
        progress(op);
        return;
    case STORE_UNKEY:
        if (!drop_key(op) && op->flags & OP_IF_KEYED)
            op->result = BGMQ_EEXIST;
        return;
    case STORE_REFUSE:
        refuse_guest(op);
        return;
    }
}

void disk_take_time(void)
{
    if (disk_happens(disk_faults.slow_in))
        sim_sleep(1 + sim_below(2000));
    else
        sim_maybe_yield();
}

static int apply(struct store *store, struct store_op *ops, size_t n,
                 enum store_sync sync, struct bgmq_error *text)
{
    struct disk_store *s = (struct disk_store *)store;
    (void)sync;
    disk_take_time();
    bgmqi_err_set(text, 0, "as told");
    if (disk.owner != sim_process() + 1)
        sim_fail("process %u writes, and is not the owner", sim_process());
    if (s->dead)
        return STORE_FAIL_DEAD;
    if (sim_mono_ns() < disk_busy_until_ns || disk_happens(disk_faults.busy_in))
        return STORE_FAIL_BUSY;
    if (disk_happens(disk_faults.full_in))
        return STORE_FAIL_FULL;
    if (disk_happens(disk_faults.refuse_in)) {
        for (size_t i = 0, guilty = sim_below((unsigned)n); i < n; i++)
            ops[i].result = i == guilty ? BGMQ_ESTORE : 0;
        return STORE_FAIL_OP;
    }
    s->dead = disk_happens(disk_faults.dead_in);
    if (s->dead && sim_chance(1, 2))
        return STORE_FAIL_DEAD;
    for (size_t i = 0; i < n; i++)
        do_op(ops, i);
    disk.commits++;
    sim_say("commit of %zu: %zu rows", n, disk.n_rows);
    disk_take_time();
    return s->dead ? STORE_FAIL_DEAD : STORE_FAIL_NONE;
}

/* ---- open and close ------------------------------------------------------------------ */

static void charge(const struct store_boot *boot, size_t i)
{
    struct disk_row *r = disk_find(boot->ids[i]);
    if (!r || (!r->job && r->lane == LANE_DLQ))
        return;
    unsigned was = r->attempt;
    r->crashes += r->crashes < 255 && boot->running[i];
    r->attempt = was > boot->attempts[i] ? was : boot->attempts[i];
    r->run = r->run > was ? r->run : was;
    r->run = r->run > boot->attempts[i] ? r->run : boot->attempts[i];
}

static int recover(struct store *s, const struct store_boot *boot,
                   struct store_booted *ret)
{
    disk_take_time();
    if (disk_happens(disk_faults.open_in))
        return BGMQ_ESTORE;
    for (size_t i = 0; boot->flight != disk.flight_charged && i < boot->n; i++)
        charge(boot, i);
    disk.flight_charged = boot->flight;
    int64_t lived_ms = boot->now_ms - disk.opened_ms;
    bool soon = disk.opened_ms && !disk.clean && lived_ms >= 0 && lived_ms < 60000;
    ret->deaths = disk.deaths = soon ? disk.deaths + 1 : 0;
    disk.opened_ms = boot->now_ms;
    disk.clean = false;
    ret->unfinished = 0;
    for (struct disk_row *r = disk.rows; r < disk.rows + disk.n_rows; r++) {
        if (r->job) {
            r->job = false;
            r->lane = r->priority > 0 ? LANE_PRIORITYQ : LANE_INQ;
            r->key = -r->priority;
        }
        ret->unfinished += r->lane != LANE_DLQ;
    }
    disk.commits++;
    disk_take_time();
    return 0;
}

static int reserve_ids(struct store *s, uint64_t n, uint64_t *first)
{
    disk_take_time();
    if (((struct disk_store *)s)->dead || disk_happens(disk_faults.ids_in))
        return BGMQ_ESTORE;
    *first = disk.next_id;
    disk.next_id += n;
    disk_take_time();
    return 0;
}

static int leave(struct store *s, uint64_t next)
{
    if (((struct disk_store *)s)->dead)
        return BGMQ_ESTORE;
    disk_take_time();
    if (next < disk.next_id)
        disk.next_id = next;
    disk.clean = true;
    return 0;
}

static int upkeep(struct store *s, int64_t now_ms)
{
    (void)s;
    for (size_t i = 0; i < disk.n_keys; i++)
        if (disk.keys[i].scope == BGMQ_UNIQUE_PERIOD && disk.keys[i].until_ms <= now_ms) {
            disk.keys[i] = disk.keys[--disk.n_keys];
            return 1;
        }
    return 0;
}

static uint64_t log_bytes(struct store *s)
{
    (void)s;
    return 0;
}

static int look(struct store *s, struct bgmq_error *text)
{
    struct disk_store *mine = (struct disk_store *)s;
    mine->dead |= disk_happens(disk_faults.gone_in);
    return mine->dead ? bgmqi_err_set(text, BGMQ_ESTORE, "the file is gone, as told") : 0;
}

static int checkpoint(struct store *s, int force)
{
    (void)s;
    (void)force;
    sim_maybe_yield();
    return 0;
}

static int purge(struct store *s)
{
    return ((struct disk_store *)s)->dead ? BGMQ_ESTORE : 0;
}

static void close_store(struct store *s)
{
    free(s);
}

void __wrap_bgmqi_store_sqlite_want(struct store *store, _Atomic uint32_t *wanted);

/* Nobody else locks it. */
void __wrap_bgmqi_store_sqlite_want(struct store *store, _Atomic uint32_t *wanted)
{
    (void)store;
    (void)wanted;
}

int __wrap_bgmqi_store_sqlite_open(struct store **ret,
                                   const struct store_options *options,
                                   struct bgmq_error *error);

int __wrap_bgmqi_store_sqlite_open(struct store **ret,
                                   const struct store_options *options,
                                   struct bgmq_error *error)
{
    static const struct store_ops ops = {.apply = apply,
                                         .load = disk_load,
                                         .types = disk_types,
                                         .recover = recover,
                                         .reserve_ids = reserve_ids,
                                         .leave = leave,
                                         .search = disk_search,
                                         .ended = disk_ended,
                                         .errors = disk_errors,
                                         .inbox = disk_inbox,
                                         .upkeep = upkeep,
                                         .log_bytes = log_bytes,
                                         .checks = NULL, /* nothing holds the log */
                                         .look = look,
                                         .checkpoint = checkpoint,
                                         .purge = purge,
                                         .close = close_store};
    (void)options;
    disk_take_time();
    if (disk_happens(disk_faults.open_in))
        return bgmqi_err_set(error, BGMQ_EOPEN, "as told");
    struct disk_store *s = calloc(1, sizeof(*s));
    s->base.ops = &ops;
    *ret = &s->base;
    return 0;
}
