/* message.c - makes, counts and frees messages (see message.h).  Any thread; takes no lock. */
#include "message.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "utf8.h"

enum { KEY_MAX = 200, NAME_MAX_BYTES = 255, CODE_MAX = 64, TEXT_MAX = 1024 };

struct message *bgmqi_message_new(const void *body, size_t len)
{
    assert(len <= UINT32_MAX - sizeof(struct message) - 1);
    struct message *m = bgmqi_mem_alloc(message_size(len));
    if (!m)
        return NULL;
    memset(m, 0, offsetof(struct message, body));
    atomic_init(&m->refs, 1);
    m->len = (uint32_t)len;
    if (len)
        memcpy(m->body, body, len);
    m->body[len] = '\0';
    return m;
}

void bgmqi_message_ref(struct message *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
}

void bgmqi_message_unref(struct message *m)
{
    if (!m)
        return;
    /* The only holder needs no atomic read-modify-write: nobody else can add a reference. */
    if (atomic_load_explicit(&m->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct message_extra *x = message_extra(m);
    if (x)
        bgmqi_message_extra_free(x);
    bgmqi_mem_free(m, message_size(m->len));
}

/* ---- the extra --------------------------------------------------------------------- */

size_t bgmqi_message_extra_cost(void)
{
    return mem_cost(sizeof(struct message_extra));
}

struct message_extra *bgmqi_message_extra_new(void)
{
    struct message_extra *x = bgmqi_mem_alloc(sizeof(*x));
    if (x)
        *x = (struct message_extra){.ext = NULL};
    return x;
}

void bgmqi_message_extra_free(struct message_extra *x)
{
    if (!x)
        return;
    bgmqi_failure_unref(x->failure);
    bgmqi_progress_unref(x->progress);
    if (x->ext)
        bgmqi_message_ext_free(x->ext); /* which X is part of */
    else
        bgmqi_mem_free(x, sizeof(*x));
}

bool bgmqi_message_attach(struct message *m, struct message_extra *x)
{
    if (message_extra(m)) {
        bgmqi_message_extra_free(x);
        return false;
    }
    atomic_store_explicit(&m->extra, x, memory_order_release);
    return true;
}

int bgmqi_message_extend(struct message *m)
{
    if (message_extra(m))
        return 0;
    struct message_extra *x = bgmqi_message_extra_new();
    if (!x)
        return BGMQ_ENOMEM;
    bgmqi_message_attach(m, x);
    return 0;
}

/* Who has a priority waits in a heap. */
int bgmqi_message_set_priority(struct message *m, int priority)
{
    m->priority = (int16_t)priority;
    return m->priority > 0 ? bgmqi_message_extend(m) : 0;
}

int bgmqi_message_set_due_ms(struct message *m, int64_t due_ms)
{
    int err = due_ms ? bgmqi_message_extend(m) : 0;
    if (!err)
        message_put_due_ms(m, due_ms);
    return err;
}

void bgmqi_message_set_ext(struct message *m, struct message_ext *ext)
{
    assert(!message_extra(m));
    if (!ext)
        return;
    ext->extra = (struct message_extra){.ext = ext};
    bgmqi_message_attach(m, &ext->extra);
}

/* ---- the options most messages do not have ------------------------------------------ */

/* 0 when S is absent or fit to be kept. */
static int check(const char *s, size_t min, size_t max)
{
    if (!s)
        return 0;
    size_t len = strnlen(s, max + 1);
    return len >= min && len <= max && bgmqi_utf8_valid(s, len) ? 0 : BGMQ_EINVAL;
}

/* Bytes META takes when packed; a key or value may not be missing.  SIZE_MAX: not valid. */
static size_t meta_size(const char *const *meta)
{
    size_t size = 0;
    for (size_t i = 0; meta && meta[i]; i += 2) {
        if (!meta[i + 1] || !meta[i][0])
            return SIZE_MAX;
        for (size_t k = i; k < i + 2; k++) {
            size_t len = strnlen(meta[k], META_MAX + 1);
            if (len > META_MAX || !bgmqi_utf8_valid(meta[k], len))
                return SIZE_MAX;
            size += len + 1;
        }
        if (size > META_MAX)
            return SIZE_MAX;
    }
    return size;
}

static const char *keep(char **at, const char *s)
{
    if (!s)
        return NULL;
    char *copy = *at;
    size_t size = strlen(s) + 1;
    memcpy(copy, s, size);
    *at += size;
    return copy;
}

static size_t need(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

int bgmqi_message_ext_new(const struct bgmq_message_options *o, const char *type,
                          const char *meta_packed, size_t meta_len,
                          struct message_ext **ret)
{
    static const struct bgmq_message_options none;
    if (!o)
        o = &none;
    if (check(o->reply_to, 1, NAME_MAX_BYTES) || check(o->unique_key, 1, KEY_MAX) ||
        check(o->tag, 0, KEY_MAX) || check(o->channel, 1, KEY_MAX) ||
        check(o->traceparent, 0, KEY_MAX))
        return BGMQ_EINVAL;
    if (!meta_packed && (meta_len = meta_size(o->meta)) == SIZE_MAX)
        return BGMQ_EINVAL;
    size_t size = need(o->reply_to) + need(o->unique_key) + need(o->tag) +
                  need(o->traceparent) + need(o->channel) + need(type) + meta_len;
    if (size == 0 && o->reply_id == 0 && !o->expire_at_ms && !o->timeout_ms) {
        *ret = NULL;
        return 0;
    }
    struct message_ext *ext = malloc(sizeof(*ext) + size);
    if (!ext)
        return BGMQ_ENOMEM;
    char *at = (char *)(ext + 1);
    ext->reply_id = o->reply_id;
    ext->reply_to = keep(&at, o->reply_to);
    ext->unique_key = keep(&at, o->unique_key);
    ext->tag = keep(&at, o->tag);
    ext->traceparent = keep(&at, o->traceparent);
    ext->type = keep(&at, type);
    ext->channel = keep(&at, o->channel);
    ext->expires_ms = o->expire_at_ms;
    ext->timeout_ms = o->timeout_ms;
    ext->unique = (uint8_t)o->unique;
    ext->unique_until_ms = o->unique == BGMQ_UNIQUE_PERIOD ? o->unique_period_ms : 0;
    ext->meta = meta_len ? at : NULL;
    ext->meta_len = meta_len;
    if (meta_packed && meta_len)
        memcpy(at, meta_packed, meta_len);
    else
        for (size_t i = 0; o->meta && o->meta[i]; i++)
            keep(&at, o->meta[i]);
    *ret = ext;
    return 0;
}

int bgmqi_message_ext_copy(const struct message_ext *x, struct message_ext **ret)
{
    struct bgmq_message_options o = {
        .reply_to = x->reply_to,
        .reply_id = x->reply_id,
        .tag = x->tag,
        .traceparent = x->traceparent,
        .unique_key = x->unique_key,
        .channel = x->channel,
        .expire_at_ms = x->expires_ms,
        .timeout_ms = x->timeout_ms,
        .unique = (enum bgmq_unique)x->unique,
        .unique_period_ms = x->unique_until_ms,
    };
    return bgmqi_message_ext_new(&o, x->type, x->meta, x->meta_len, ret);
}

void bgmqi_message_ext_free(struct message_ext *ext)
{
    free(ext);
}

const char *bgmqi_message_meta(const struct message *m, const char *key)
{
    const struct message_ext *ext = message_ext(m);
    if (!ext || !ext->meta || !key)
        return NULL;
    const char *end = ext->meta + ext->meta_len;
    for (const char *p = ext->meta; p < end;) {
        const char *value = p + strlen(p) + 1;
        if (strcmp(p, key) == 0)
            return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

/* ---- failures ---------------------------------------------------------------------- */

struct failure *bgmqi_failure_new(const char *code, const char *text, int64_t at_ms)
{
    size_t code_len = bgmqi_utf8_cut(code, strnlen(code, CODE_MAX + 4), CODE_MAX);
    size_t text_len = bgmqi_utf8_cut(text, strnlen(text, TEXT_MAX + 4), TEXT_MAX);
    struct failure *f = malloc(sizeof(*f) + code_len + text_len + 2);
    if (!f)
        return NULL;
    char *c = (char *)(f + 1), *t = c + code_len + 1;
    memcpy(c, code, code_len);
    c[code_len] = '\0';
    bgmqi_utf8_mend(c, code_len);
    memcpy(t, text, text_len);
    t[text_len] = '\0';
    bgmqi_utf8_mend(t, text_len);
    atomic_init(&f->refs, 1);
    f->at_ms = at_ms;
    f->code = c;
    f->text = t;
    return f;
}

struct progress *bgmqi_progress_new(struct budget *budget)
{
    struct progress *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    atomic_init(&p->refs, 1);
    lock_init(&p->lock, RANK_PROGRESS);
    p->budget = budget;
    return p;
}

struct progress *bgmqi_progress_ref(struct progress *p)
{
    if (p)
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void bgmqi_progress_unref(struct progress *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    bgmqi_mem_give(p->budget, p->charged);
    free(p->cursor);
    free(p->text);
    free(p->result);
    lock_fini(&p->lock);
    free(p);
}

void bgmqi_progress_charge(struct progress *p, size_t taken)
{
    size_t want = (p->cursor ? p->cursor_len : 0) + (p->result ? p->result_len : 0);
    size_t have = p->charged + taken;
    if (want > have)
        bgmqi_mem_take_always(p->budget, want - have);
    else
        bgmqi_mem_give(p->budget, have - want);
    p->charged = want;
}

void bgmqi_progress_missed(struct progress *p)
{
    lock_take(&p->lock);
    p->queued = false;
    lock_drop(&p->lock);
}

void *bgmqi_progress_bytes(const void *bytes, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

struct progress *bgmqi_progress_copy(struct progress *p, bool replace, void *cursor,
                                     size_t len)
{
    struct progress *c = bgmqi_progress_new(p->budget);
    bool whole = c != NULL;
    if (c) {
        lock_take(&p->lock);
        c->number = p->number;
        if (p->text)
            whole = (c->text = strdup(p->text)) != NULL;
        if (whole && p->cursor && !replace) {
            whole = (c->cursor = bgmqi_progress_bytes(p->cursor, p->cursor_len)) != NULL;
            c->cursor_len = p->cursor_len;
        }
        lock_drop(&p->lock);
    }
    if (!whole) {
        bgmqi_progress_unref(c);
        return NULL;
    }
    if (replace) {
        c->cursor = cursor;
        c->cursor_len = len;
    }
    bgmqi_progress_charge(c, 0);
    return c;
}

struct failure *bgmqi_failure_ref(struct failure *f)
{
    if (f)
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    return f;
}

void bgmqi_failure_unref(struct failure *f)
{
    if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
        free(f);
}
