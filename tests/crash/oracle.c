/* oracle.c - judges a history: was anything lost, invented, mangled, run early or run again
 * without a reason?  Called by the crash tests after the last process has drained the database;
 * it knows nothing of the library. */
#include "oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void history_write(int fd, const char *format, ...)
{
    char line[160];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof(line) - 4, format, args);
    va_end(args);
    memcpy(line + len, " .\n", 3);
    if (write(fd, line, (size_t)len + 3) != len + 3)
        abort();
}

struct entry {
    char key[KEY_SIZE];
    uint64_t id; /* 0: not known yet */
    int64_t not_before_ms;
    long starts, dones;
    int attempted, acked, refused, dead;
    /* of the process that runs now */
    long round, starts_of_round, fails_of_round;
    /* of the last start: what it was, and whether its handler came to an end */
    unsigned last_attempt;
    int open;
};

/* Keys, by their hash, and ids lead to an entry: open addressing, doubled when half full. */
struct node {
    uint64_t number;
    struct entry *e; /* NULL: free */
};

struct table {
    struct node *nodes;
    size_t cap, len;
};

struct oracle {
    struct table keys, ids;
    struct verdict *v;
    long round;
};

static uint64_t hash_text(const char *text)
{
    uint64_t h = 1469598103934665603u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

/* The node of NUMBER and KEY (NULL: whatever it is), or the free one where it would be. */
static struct node *seek(const struct table *t, uint64_t number, const char *key)
{
    size_t at = (size_t)((number * 11400714819323198485u) >> 20);
    for (;; at++) {
        struct node *n = &t->nodes[at & (t->cap - 1)];
        if (!n->e || (n->number == number && (!key || !strcmp(n->e->key, key))))
            return n;
    }
}

static void put(struct table *t, uint64_t number, struct entry *e)
{
    if (2 * (t->len + 1) > t->cap) {
        struct table old = *t;
        t->cap = old.cap ? 2 * old.cap : 1024;
        t->nodes = calloc(t->cap, sizeof(*t->nodes));
        for (size_t i = 0; i < old.cap; i++)
            if (old.nodes[i].e)
                *seek(t, old.nodes[i].number, old.nodes[i].e->key) = old.nodes[i];
        free(old.nodes);
    }
    *seek(t, number, e->key) = (struct node){.number = number, .e = e};
    t->len++;
}

static struct entry *find_key(struct oracle *o, const char *key)
{
    return o->keys.cap ? seek(&o->keys, hash_text(key), key)->e : NULL;
}

static struct entry *find_id(struct oracle *o, uint64_t id)
{
    return o->ids.cap ? seek(&o->ids, id, NULL)->e : NULL;
}

static int is_response(const struct entry *e)
{
    return !strncmp(e->key, "R-", 2);
}

static void blame(struct oracle *o, long *count, const char *what, const char *key)
{
    if (!o->v->first[0])
        snprintf(o->v->first, sizeof(o->v->first), "%s: %s, in round %ld", what, key,
                 o->round);
    ++*count;
}

/* The entry of KEY; one that nobody announced is a phantom. */
static struct entry *entry_of(struct oracle *o, const char *key, int announced)
{
    struct entry *e = find_key(o, key);
    if (e)
        return e;
    e = calloc(1, sizeof(*e));
    snprintf(e->key, sizeof(e->key), "%s", key);
    put(&o->keys, hash_text(key), e);
    if (!announced)
        blame(o, &o->v->phantom, "handled, never published", key);
    return e;
}

/* E has ID: the same each time, and nobody else's.  A response may be published more than once,
 * each time with an id of its own. */
static void know_id(struct oracle *o, struct entry *e, uint64_t id)
{
    struct entry *owner = find_id(o, id);
    if (owner && owner != e)
        blame(o, &o->v->reused_ids, "id of another", e->key);
    if (e->id && e->id != id && !is_response(e))
        blame(o, &o->v->mangled, "another id than before", e->key);
    if (owner)
        return;
    e->id = id;
    put(&o->ids, id, e);
}

/* In one process a message runs once, and once more for each time it failed. */
static void judge_start(struct oracle *o, struct entry *e, unsigned attempt, int64_t ms)
{
    o->v->started++;
    if (ms < e->not_before_ms)
        blame(o, &o->v->early, "before its time", e->key);
    if (e->round != o->round) {
        e->round = o->round;
        e->starts_of_round = e->fails_of_round = 0;
        if (e->open && attempt <= e->last_attempt && !is_response(e))
            blame(o, &o->v->uncounted, "the attempt that died was not counted", e->key);
    }
    if (!is_response(e) && e->starts_of_round > e->fails_of_round)
        blame(o, &o->v->repeated, "ran again without a reason", e->key);
    e->starts_of_round++;
    e->starts++;
    e->open = 1;
    e->last_attempt = attempt;
}

static void judge_line(struct oracle *o, const char *line)
{
    char key[KEY_SIZE], rest[64];
    uint64_t id = 0;
    unsigned attempt = 0;
    int64_t ms = 0;
    struct entry *e;
    if (sscanf(line, "O %ld %63s", &o->round, rest) == 2) {
        o->v->rounds++;
    } else if (sscanf(line, "T %31s %63s %" SCNd64, key, rest, &ms) == 3) {
        e = entry_of(o, key, 1);
        if (!e->attempted++)
            o->v->attempted++;
        e->not_before_ms = ms;
    } else if (sscanf(line, "A %31s %" SCNu64, key, &id) == 2) {
        e = entry_of(o, key, 0);
        know_id(o, e, id);
        e->acked = 1;
        o->v->acked++;
    } else if (sscanf(line, "E %31s %63s", key, rest) == 2) {
        entry_of(o, key, 0)->refused = strcmp(rest, "BGMQ_EUNCERTAIN") != 0;
        if (!o->v->failed_publishes++)
            snprintf(o->v->refusal, sizeof(o->v->refusal), "%s: %s, in round %ld", key,
                     rest, o->round);
    } else if (sscanf(line, "S %31s %" SCNu64 " %u %" SCNd64, key, &id, &attempt, &ms) ==
               4) {
        e = entry_of(o, key, 0);
        know_id(o, e, id);
        judge_start(o, e, attempt, ms);
    } else if (sscanf(line, "F %31s", key) == 1) {
        e = entry_of(o, key, 0);
        e->open = 0;
        e->fails_of_round++;
    } else if (sscanf(line, "D %31s", key) == 1) {
        e = entry_of(o, key, 0);
        e->open = 0;
        o->v->done += e->dones == 0;
        o->v->twice += e->dones == 1 && !is_response(e);
        e->dones++;
    } else if (sscanf(line, "X %31s", key) == 1) {
        e = entry_of(o, key, 0);
        e->dead = 1;
        o->v->dead++;
    } else if (sscanf(line, "B %31s", key) == 1) {
        blame(o, &o->v->mangled, "another body than published", key);
    }
}

/* KEY belongs to a batch, "b3.1.17.2": was its first member, "b3.1.17.0", ever seen? */
static struct entry *first_of_batch(struct oracle *o, const struct entry *e)
{
    char key[KEY_SIZE];
    snprintf(key, sizeof(key), "%s", e->key);
    char *dot = strrchr(key, '.');
    if (e->key[0] != 'b' || !dot)
        return NULL;
    snprintf(dot, sizeof(key) - (size_t)(dot - key), ".0");
    return find_key(o, key);
}

/* C keys ("c" after the last dot) are requests: each that was done has its response. */
static int response_missing(struct oracle *o, const struct entry *e)
{
    const char *dot = strrchr(e->key, '.');
    if (is_response(e) || !dot || dot[1] != 'c' || !e->dones || e->dead)
        return 0;
    char key[KEY_SIZE + 2];
    snprintf(key, sizeof(key), "R-%s", e->key);
    struct entry *response = find_key(o, key);
    return !response || !(response->dones || response->dead);
}

static void judge_end(struct oracle *o, const struct entry *e)
{
    int seen = e->dones || e->dead;
    if (e->acked && !seen)
        blame(o, &o->v->lost, "lost", e->key);
    if (e->starts && !e->attempted)
        blame(o, &o->v->phantom, "handled, never published", e->key);
    if (e->refused && e->starts)
        blame(o, &o->v->phantom, "handled, though its publish failed", e->key);
    struct entry *first = first_of_batch(o, e);
    if (first && seen != (first->dones || first->dead))
        blame(o, &o->v->torn_batches, "half a batch", e->key);
    if (response_missing(o, e))
        blame(o, &o->v->orphans, "its response is missing", e->key);
}

static int whole(const char *line)
{
    size_t len = strlen(line);
    return len > 3 && !strcmp(line + len - 3, " .\n");
}

int oracle_judge(const char *path, struct verdict *ret)
{
    *ret = (struct verdict){0};
    struct oracle o = {.v = ret};
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    char line[256];
    while (fgets(line, sizeof(line), f))
        if (whole(line))
            judge_line(&o, line);
    fclose(f);
    for (size_t i = 0; i < o.keys.cap; i++)
        if (o.keys.nodes[i].e)
            judge_end(&o, o.keys.nodes[i].e);
    for (size_t i = 0; i < o.keys.cap; i++)
        free(o.keys.nodes[i].e);
    free(o.keys.nodes);
    free(o.ids.nodes);
    return ret->lost || ret->phantom || ret->early || ret->mangled || ret->reused_ids ||
           ret->torn_batches || ret->repeated || ret->uncounted || ret->orphans;
}
