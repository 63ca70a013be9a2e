/* oracle.c - judges a history: was anything lost, invented, mangled, run early or run again
 * without a reason?  Called by the crash tests after the last process has drained the database;
 * it knows nothing of the library. */
#include "oracle_impl.h"

#include "../harness/harness.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A message that starts so long after it has expired was forgotten, not overtaken. */
enum { STALE_MS = 5000 };

void history_write(int fd, const char *format, ...)
{
    char line[160] = "\n"; /* who was killed may have left half a line */
    va_list args;
    va_start(args, format);
    int len = 1 + vsnprintf(line + 1, sizeof(line) - 5, format, args);
    va_end(args);
    memcpy(line + len, " .\n", 3);
    if (write(fd, line, (size_t)len + 3) != len + 3)
        abort();
}

static int is_response(const struct entry *e)
{
    return !strncmp(e->key, "R-", 2);
}

/* A message that a message publishes in the transaction in which it ends. */
static int is_follower(const struct entry *e)
{
    return !strncmp(e->key, "n-", 2);
}

/* It ends in a transaction of the application, with one effect. */
static int has_effect(const struct entry *e)
{
    return e->key[0] == 't' || e->key[0] == 'o' || is_follower(e);
}

void oracle_blame(struct oracle *o, long *count, const char *what, const char *key)
{
    if (!o->v->first[0])
        snprintf(o->v->first, sizeof(o->v->first), "%s: %s, in round %ld", what, key,
                 o->round);
    ++*count;
}

static struct entry *find_key(const struct oracle *o, const char *key)
{
    return table_find(&o->keys, table_hash(key), key);
}

/* The entry of KEY; one that nobody announced is a phantom. */
static struct entry *entry_of(struct oracle *o, const char *key, int announced)
{
    struct entry *e = find_key(o, key);
    if (e)
        return e;
    e = calloc(1, sizeof(*e));
    if (!e)
        abort();
    snprintf(e->key, sizeof(e->key), "%s", key);
    table_put(&o->keys, table_hash(key), e);
    if (!announced)
        oracle_blame(o, &o->v->phantom, "handled, never published", key);
    return e;
}

/* E has ID: the same each time, and nobody else's.  A response, and what is published by an
 * attempt that is rolled back, may be published more than once, each time with an id of its
 * own. */
static void know_id(struct oracle *o, struct entry *e, uint64_t id)
{
    struct entry *owner = table_find(&o->ids, id, NULL);
    if (owner && owner != e)
        oracle_blame(o, &o->v->reused_ids, "id of another", e->key);
    if (e->id && e->id != id && !is_response(e))
        oracle_blame(o, &o->v->mangled, "another id than before", e->key);
    if (owner)
        return;
    e->id = id;
    e->gone |= table_find(&o->replaced, id, NULL) != NULL;
    table_put(&o->ids, id, e);
}

/* ---- starts and ends ------------------------------------------------------------ */

/* The number of an attempt grows from start to start of one life, except where the message was
 * given back.  Of attempts whose end was not committed when the process died the library keeps
 * the last of each thread only: they are counted apart. */
static void judge_attempt(struct oracle *o, struct entry *e, unsigned attempt)
{
    if (is_response(e) || !e->starts || e->life != o->lives)
        return;
    int grows = attempt > e->last_attempt;
    if (e->last == 'H' && attempt == e->last_attempt)
        grows = 1;
    if (grows)
        return;
    if (e->open || e->round == o->round)
        oracle_blame(o, &o->v->uncounted, "an attempt was not counted", e->key);
    else
        o->v->forgotten++;
}

/* One that was tried before runs at once when an operator wants it. */
static int is_early(const struct oracle *o, const struct entry *e, int64_t ms)
{
    int hurried = e->starts && (o->hurrying || e->timed != o->hurries);
    int64_t due = e->not_before_ms;
    if (e->held_round == o->round && e->held_ms > due)
        due = e->held_ms;
    if (e->changing_ms && e->changing_ms < due)
        due = e->changing_ms;
    return !hurried && ms < due;
}

/* In one process a message runs once, and once more for each time it failed. */
static void judge_start(struct oracle *o, struct entry *e, unsigned attempt, int64_t ms)
{
    o->v->started++;
    /* One of a new life, after it had been dead before its time, runs at once. */
    int revived = e->life != o->lives && (e->may_cancel || e->expires_ms);
    if (revived)
        e->not_before_ms = 0;
    if (is_early(o, e, ms))
        oracle_blame(o, &o->v->early, "before its time", e->key);
    e->not_before_ms = 0; /* that was for this start */
    if (e->expires_ms && !e->starts && !revived && ms > e->expires_ms + STALE_MS)
        oracle_blame(o, &o->v->stale, "after it had expired", e->key);
    if (e->gone || e->committed || e->stopped_life == o->lives + 1)
        oracle_blame(o, &o->v->phantom, "handled, though it was there no more", e->key);
    judge_attempt(o, e, attempt);
    if (e->round != o->round) {
        e->round = o->round;
        e->starts_of_round = e->fails_of_round = 0;
        e->deaths += e->open;
        e->rounds++;
    }
    if (!is_response(e) && e->starts_of_round > e->fails_of_round)
        oracle_blame(o, &o->v->repeated, "ran again without a reason", e->key);
    if (e->life != o->lives && (e->failed || e->deaths || e->rounds >= LEAST_DEATHS))
        e->keyless = 1;
    e->starts_of_round++;
    e->starts++;
    e->open = 1;
    e->last = 'S';
    e->failed = 0;
    e->last_attempt = attempt;
    e->life = o->lives;
    if (e->keyed)
        oracle_unique_run(o, e);
}

static void judge_failure(struct oracle *o, struct entry *e, char letter, int64_t ms)
{
    if (letter == 'H') {
        e->held_round = o->round;
        e->held_ms = ms;
        e->timed = o->hurries;
    }
    e->open = 0;
    e->last = letter;
    e->failed = letter == 'K';
    e->fails_of_round++;
    o->v->given_back += letter == 'H';
}

static void judge_done(struct oracle *o, struct entry *e)
{
    e->open = 0;
    e->last = 'D';
    o->v->done += e->dones == 0;
    o->v->twice += e->dones == 1 && !is_response(e);
    e->dones++;
}

static void judge_death(struct oracle *o, struct entry *e, const char *code)
{
    int right = 1;
    if (!strcmp(code, "expired"))
        right = e->expires_ms != 0;
    else if (!strcmp(code, "cancelled"))
        right = e->may_cancel;
    else if (!strcmp(code, "crash"))
        right = e->rounds >= LEAST_DEATHS;
    else if (code[0])
        right = e->starts > 0;
    if (!right)
        oracle_blame(o, &o->v->wrongly_dead, code, e->key);
    o->v->expired += !strcmp(code, "expired");
    o->v->cancelled += !strcmp(code, "cancelled");
    o->v->crashed += !strcmp(code, "crash");
    o->v->dead += !e->dead;
    e->dead = 1;
}

/* A walk goes on where its cursor says: not before what is on disk, not after what was begun. */
static void judge_walk(struct oracle *o, struct entry *e, char letter, long item)
{
    if (letter == 'I') {
        o->v->walks++;
        if (item < e->saved)
            oracle_blame(o, &o->v->cursors, "its cursor was lost", e->key);
        if (item > e->begun)
            oracle_blame(o, &o->v->cursors, "goes on after what was begun", e->key);
    } else if (letter == 'J') {
        e->begun = item + 1 > e->begun ? item + 1 : e->begun;
    } else {
        e->saved = item > e->saved ? item : e->saved;
    }
}

/* ---- lines ---------------------------------------------------------------------- */

static void judge_publish(struct oracle *o, const char *line)
{
    char key[KEY_SIZE], rest[64], scope[16];
    uint64_t id = 0;
    int64_t ms = 0, now = 0;
    int replaces = 0, fades = 0;
    struct entry *e;
    if (sscanf(line, "T %31s %63s %" SCNd64, key, rest, &ms) == 3) {
        e = entry_of(o, key, 1);
        if (!e->attempted++)
            o->v->attempted++;
        e->not_before_ms = ms;
        e->timed = o->hurries;
        e->life = o->lives;
    } else if (sscanf(line, "Y %31s %" SCNd64 " %d", key, &ms, &fades) >= 2) {
        e = entry_of(o, key, 0);
        e->expires_ms = ms;
        e->fades = fades;
    } else if (sscanf(line, "Q %31s %63s %15s %" SCNd64 " %" SCNd64 " %d", key, rest,
                      scope, &ms, &now, &replaces) == 6) {
        e = entry_of(o, key, 0);
        e->scope = scope[0];
        e->period_ms = ms;
        e->tried_ms = now;
        e->replaces = replaces;
        oracle_unique_try(o, e, rest);
    } else if (sscanf(line, "A %31s %" SCNu64 " %" SCNd64, key, &id, &ms) >= 2) {
        e = entry_of(o, key, 0);
        know_id(o, e, id);
        e->acked = 1;
        o->v->acked++;
        if (e->keyed)
            oracle_unique_accept(o, e, ms);
    } else if (sscanf(line, "P %31s %" SCNu64, key, &id) == 2) {
        e = entry_of(o, key, 0);
        know_id(o, e, id);
        e->accepted_round = o->round;
    } else if (sscanf(line, "E %31s %63s", key, rest) == 2) {
        entry_of(o, key, 0)->refused = strcmp(rest, "BGMQ_EUNCERTAIN") != 0;
        if (!o->v->failed_publishes++)
            snprintf(o->v->refusal, sizeof(o->v->refusal), "%s: %s, in round %ld", key,
                     rest, o->round);
    } else if (sscanf(line, "N %31s", key) == 1) {
        entry_of(o, key, 0)->never = 1;
    } else if (sscanf(line, "R %31s %" SCNu64, key, &id) == 2) {
        e = table_find(&o->ids, id, NULL);
        if (e)
            e->gone = 1;
        else
            table_put(&o->replaced, id, entry_of(o, key, 0));
        o->v->replaced++;
    }
}

static void judge_run(struct oracle *o, const char *line)
{
    char key[KEY_SIZE];
    uint64_t id = 0;
    unsigned attempt = 0;
    int64_t ms = 0;
    long item = 0;
    struct entry *e;
    if (sscanf(line, "S %31s %" SCNu64 " %u %" SCNd64, key, &id, &attempt, &ms) == 4) {
        e = entry_of(o, key, 0);
        know_id(o, e, id);
        judge_start(o, e, attempt, ms);
    } else if (strchr("FHK", line[0]) &&
               sscanf(line + 1, "%31s %*u %" SCNd64, key, &ms) >= 1) {
        judge_failure(o, entry_of(o, key, 0), line[0], ms);
    } else if (sscanf(line, "D %31s", key) == 1) {
        judge_done(o, entry_of(o, key, 0));
    } else if (sscanf(line, "Z %31s", key) == 1) {
        e = entry_of(o, key, 0);
        judge_done(o, e);
        e->committed = 1;
    } else if (strchr("IJL", line[0]) && sscanf(line + 1, "%31s %ld", key, &item) == 2) {
        judge_walk(o, entry_of(o, key, 0), line[0], item);
    } else if (sscanf(line, "B %31s", key) == 1) {
        oracle_blame(o, &o->v->mangled, "another body than published", key);
    }
}

/* Until it is said how it ended, a change may take effect at any time. */
static void judge_change(const struct oracle *o, struct entry *e, char letter, int64_t ms)
{
    e->changing_ms = letter == 'm' && ms > 0 ? ms : 0;
    if (letter == 'm')
        return;
    e->not_before_ms = ms;
    e->held_round = 0;
    e->timed = o->hurries;
}

static void judge_operator(struct oracle *o, const char *line)
{
    char key[KEY_SIZE];
    int64_t ms = 0;
    int begins = 0;
    if (sscanf(line, "V %31s", key) == 1) {
        entry_of(o, key, 0)->may_vanish = 1;
    } else if (sscanf(line, "U %31s", key) == 1) {
        entry_of(o, key, 0)->gone = 1;
        o->v->deleted++;
    } else if (sscanf(line, "C %31s", key) == 1) {
        entry_of(o, key, 0)->may_cancel = 1;
    } else if (strchr("mM", line[0]) &&
               sscanf(line + 1, "%31s %" SCNd64, key, &ms) == 2) {
        judge_change(o, entry_of(o, key, 0), line[0], ms);
    } else if (sscanf(line, "k %31s", key) == 1) {
        entry_of(o, key, 0)->stopped_life = o->lives + 1;
    } else if (sscanf(line, "u %31s", key) == 1) {
        oracle_blame(o, &o->v->lost, "an operator does not find it where it has to be",
                     key);
    } else if (sscanf(line, "w %d", &begins) == 1) {
        o->hurries++;
        o->hurrying = begins;
    } else if (line[0] == 'W') {
        o->lives++;
    }
}

static void judge_line(struct oracle *o, const char *line)
{
    char key[KEY_SIZE], code[64] = "";
    uint64_t id = 0;
    int64_t ms = 0;
    long round = 0;
    if (sscanf(line, "O %ld", &round) == 1) {
        o->round = round;
        o->v->rounds++;
        o->hurries += o->hurrying; /* its end was not said */
        o->hurrying = 0;
    } else if (sscanf(line, "X %31s %*u %63s", key, code) >= 1) {
        judge_death(o, entry_of(o, key, 0), strcmp(code, ".") ? code : "");
    } else if (sscanf(line, "G %31s", key) == 1) {
        entry_of(o, key, 0)->effects++;
    } else if (sscanf(line, "h %" SCNu64 " %" SCNd64, &id, &ms) == 2) {
        struct entry *e = table_find(&o->ids, id, NULL);
        if (e)
            e->discarded_ms = ms;
    } else if (sscanf(line, "c %31s", key) == 1) {
        entry_of(o, key, 0)->booked++;
    } else if (strchr("TYQAPENR", line[0])) {
        judge_publish(o, line);
    } else if (strchr("SFHKDZIJLB", line[0])) {
        judge_run(o, line);
    } else {
        judge_operator(o, line);
    }
}

/* ---- the end -------------------------------------------------------------------- */

static int was_seen(const struct entry *e)
{
    return e && (e->dones || e->dead || e->effects);
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
    return !was_seen(find_key(o, key));
}

/* What ended in a transaction has exactly one effect, and its follower is there; what died has
 * neither. */
static void judge_effects(struct oracle *o, const struct entry *e)
{
    if (!has_effect(e))
        return;
    long want = !e->dead && (e->acked || e->booked || e->starts || e->effects);
    if (e->acked || e->booked || e->starts ? e->effects != want : e->effects > 1)
        oracle_blame(o, &o->v->effects,
                     e->effects > want ? "an effect too many" : "its effect is missing",
                     e->key);
    if (e->committed && !e->effects)
        oracle_blame(o, &o->v->effects, "committed, yet without effect", e->key);
    if (e->key[0] != 't')
        return;
    char key[KEY_SIZE + 2];
    snprintf(key, sizeof(key), "n-%s", e->key);
    if (was_seen(find_key(o, key)) != (e->effects > 0))
        oracle_blame(o, &o->v->orphans, "what it published does not go with its end",
                     e->key);
}

/* It and a row of the application are published in one transaction. */
static int is_booked(const struct entry *e)
{
    return strchr("txgo", e->key[0]) != NULL;
}

/* Somebody has made an end of it, or its time is over. */
static int may_be_discarded(const struct oracle *o, const struct entry *e)
{
    int faded = e->fades && e->discarded_ms >= e->expires_ms;
    return faded || e->gone || e->may_vanish || oracle_unique_may_be_replaced(o, e);
}

/* Nothing vanishes but with a reason, and the library's history knows of it. */
static void judge_end(struct oracle *o, const struct entry *e)
{
    int may = may_be_discarded(o, e), excused = may && e->discarded_ms;
    if (is_booked(e) && was_seen(e) && e->booked != 1)
        oracle_blame(o, &o->v->phantom, "there, though its transaction is not", e->key);
    if ((e->acked || e->booked) && !was_seen(e) && !excused)
        oracle_blame(o, &o->v->lost, "lost", e->key);
    if (e->discarded_ms && !may && !e->dones)
        oracle_blame(o, &o->v->lost, "discarded without a reason", e->key);
    if (e->starts && !e->attempted)
        oracle_blame(o, &o->v->phantom, "handled, never published", e->key);
    if ((e->refused || e->never) && (e->starts || e->dead || e->effects))
        oracle_blame(o, &o->v->phantom, "there, though its publish failed", e->key);
    struct entry *first = first_of_batch(o, e);
    if (first && was_seen(e) != was_seen(first))
        oracle_blame(o, &o->v->torn_batches, "half a batch", e->key);
    if (response_missing(o, e))
        oracle_blame(o, &o->v->orphans, "its response is missing", e->key);
    judge_effects(o, e);
    oracle_unique_end(o, e);
}

static int whole(const char *line)
{
    size_t len = strlen(line);
    return len > 3 && !strcmp(line + len - 3, " .\n");
}

static int guilty(struct verdict *v)
{
    snprintf(v->text, sizeof(v->text),
             "lost %ld, phantom %ld, early %ld, stale %ld, mangled %ld, reused ids %ld, "
             "torn batches %ld, repeated %ld, uncounted %ld, orphans %ld, effects %ld, "
             "two with one key %ld, cursors %ld, wrongly dead %ld; first: %s",
             v->lost, v->phantom, v->early, v->stale, v->mangled, v->reused_ids,
             v->torn_batches, v->repeated, v->uncounted, v->orphans, v->effects,
             v->two_keys, v->cursors, v->wrongly_dead, v->first);
    return v->first[0] != '\0';
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
    for (size_t i = 0; i < o.uniques.cap; i++)
        free(o.uniques.nodes[i].e);
    free(o.keys.nodes);
    free(o.ids.nodes);
    free(o.replaced.nodes);
    free(o.uniques.nodes);
    return guilty(ret);
}

void oracle_figures(const struct verdict *v, long kills)
{
    harness_figure("kills", kills);
    harness_figure("messages", v->attempted);
    harness_figure("lost", v->lost);
    harness_figure("phantom", v->phantom);
    harness_figure("effects", v->effects);
}
