/* disk_read.c - what the simulated disk is asked: rows of a lane in their order, rows by what is in
 * them, types, and what guests have written (see disk.h). */
#include "disk_impl.h"

#include <string.h>

static int hand_out(const struct disk_row *r, store_row_fn *fn, void *ctx)
{
    struct message_ext ext = r->ext;
    ext.reply_to = ext.reply_to ? r->reply_to : NULL; /* rows move */
    ext.tag = ext.tag ? r->tag : NULL;
    ext.unique_key = ext.unique_key ? r->unique_key : NULL;
    ext.channel = ext.channel ? r->channel : NULL;
    struct store_row row = {.type = r->type,
                            .lane = r->lane,
                            .id = r->id,
                            .seq = r->seq,
                            .key = r->key,
                            .created_ms = r->created_ms,
                            .priority = r->priority,
                            .attempt = r->attempt,
                            .max_attempts = r->max_attempts,
                            .run = r->run,
                            .crashes = r->crashes,
                            .flags = r->flags,
                            .ext = r->has_ext ? &ext : NULL,
                            .error_code = r->failed ? r->code : NULL,
                            .error_text = r->failed ? r->text : NULL,
                            .error_ms = r->failed_ms,
                            .cursor = r->has_cursor ? r->cursor : NULL,
                            .cursor_len = r->has_cursor ? r->cursor_len : 0,
                            .kept = r->has_cursor,
                            .body = r->body,
                            .len = r->len};
    return fn(ctx, &row);
}

/* True: A is handed out before B. */
static bool is_before(const struct disk_row *a, int64_t key, uint64_t seq)
{
    return a->key != key ? a->key < key : a->seq < seq;
}

/* The first row of TYPE's LANE from (KEY, SEQ) on; NULL: none. */
static struct disk_row *first_from(uint32_t type, enum lane lane, int64_t key,
                                   uint64_t seq)
{
    struct disk_row *best = NULL;
    for (struct disk_row *r = disk.rows; r < disk.rows + disk.n_rows; r++)
        if (!r->job && r->type == type && r->lane == lane && !is_before(r, key, seq) &&
            (!best || is_before(r, best->key, best->seq)))
            best = r;
    return best;
}

/* ESTORE, when a read is to fail. */
static int read_error(const struct disk_store *s)
{
    disk_take_time();
    return s->dead || disk_happens(disk_faults.read_in) ? BGMQ_ESTORE : 0;
}

int disk_load(struct store *s, uint32_t type, enum lane lane, int64_t key, uint64_t seq,
              size_t limit, size_t max_bytes, store_row_fn *fn, void *ctx)
{
    int n = 0, err = read_error((struct disk_store *)s);
    size_t bytes = 0;
    struct disk_row *r;
    while (!err && (size_t)n < limit && (n == 0 || bytes < max_bytes) &&
           (r = first_from(type, lane, key, seq)) != NULL) {
        key = r->key;
        seq = r->seq + 1;
        bytes += r->len;
        err = hand_out(r, fn, ctx);
        n += !err;
    }
    return err ? err : n;
}

static bool is_meant(const struct disk_row *r, const struct store_search *w,
                     uint64_t after)
{
    return !r->job && r->id > after && (!w->id || r->id == w->id) &&
           (!w->type || r->type == w->type) && (!w->lanes || w->lanes >> r->lane & 1) &&
           (!w->tag || (r->has_ext && r->ext.tag && strcmp(r->tag, w->tag) == 0)) &&
           (!w->error_code || (r->failed && strcmp(r->code, w->error_code) == 0)) &&
           (!w->before_ms || r->created_ms < w->before_ms) &&
           (!w->expired_ms ||
            (r->has_ext && r->ext.expires_ms && r->ext.expires_ms <= w->expired_ms));
}

int disk_search(struct store *s, const struct store_search *what, store_row_fn *fn,
                void *ctx)
{
    int n = 0, err = read_error((struct disk_store *)s);
    uint64_t after = what->after_id;
    while (!err && (!what->limit || (size_t)n < what->limit)) {
        struct disk_row *best = NULL;
        for (struct disk_row *r = disk.rows; r < disk.rows + disk.n_rows; r++)
            if (is_meant(r, what, after) && (!best || r->id < best->id))
                best = r;
        if (!best)
            break;
        after = best->id;
        err = hand_out(best, fn, ctx);
        n += !err;
    }
    return err ? err : n;
}

int disk_types(struct store *s, store_type_fn *fn, void *ctx)
{
    int n = 0, err = read_error((struct disk_store *)s);
    for (uint32_t t = 0; !err && t < DISK_TYPES; t++) {
        uint64_t counts[LANES] = {0};
        if (!disk.types[t][0])
            continue;
        for (size_t i = 0; i < disk.n_rows; i++)
            counts[disk.rows[i].lane] += disk.rows[i].type == t && !disk.rows[i].job;
        err = fn(ctx, t, disk.types[t], counts);
        n += !err;
    }
    return err ? err : n;
}

int disk_ended(struct store *s, uint64_t id, store_ended_fn *fn, void *ctx)
{
    return read_error((struct disk_store *)s);
}

int disk_errors(struct store *s, uint64_t id, store_error_fn *fn, void *ctx)
{
    return read_error((struct disk_store *)s);
}

int disk_inbox(struct store *s, uint64_t after, size_t limit, store_inbox_fn *fn,
               void *ctx)
{
    int n = 0, err = read_error((struct disk_store *)s);
    for (size_t i = 0; !err && i < disk.n_guests && (size_t)n < limit; i++) {
        const struct disk_guest *g = &disk.guests[i];
        if (g->id <= after || g->refused)
            continue;
        struct store_inbox_row row = {.id = g->id,
                                      .type = g->type,
                                      .body = g->body,
                                      .len = strlen(g->body),
                                      .options = g->options,
                                      .created_ms = 1};
        err = fn(ctx, &row);
        n += !err;
    }
    return err ? err : n;
}
