/* report.c - the status page, byte for byte as operators know it, and its JSON (see report.h).
 *
 * The text's form is fixed by CONFORMANCE of the message-queue family it comes from: scripts
 * grep it.  tests/unit/test_report.c holds it against golden files. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"

#define RULE "------------------------------\n"

void bgmqi_report_fini(struct report *r)
{
    free(r->collections);
    free(r->workers);
    *r = (struct report){.started = false};
}

/* ---- text -------------------------------------------------------------------------- */

static void put_stats(FILE *f, const struct bgmq_stats *s)
{
    char date[64] = "";
    if (s->last_ms)
        bgmqi_clock_us_date(s->last_ms, date, sizeof(date));
    fprintf(f, "STATS for %s:\n\n", s->name);
    fprintf(f, "  TotalNormalMessagesReceived:    %llu\n",
            (unsigned long long)s->normal_received);
    fprintf(f, "  TotalPriorityMessagesReceived:  %llu\n",
            (unsigned long long)s->priority_received);
    fprintf(f, "  TotalProcessed:                 %llu\n",
            (unsigned long long)s->processed);
    fprintf(f, "  TotalRetries:                   %llu\n",
            (unsigned long long)s->retries);
    fprintf(f, "  TotalFailed:                    %llu\n", (unsigned long long)s->failed);
    fprintf(f, "  LastMessageProcessed:           %s\n" RULE, date);
}

/* The four queues, in the order they are always shown. */
static void put_queues(FILE *f, const struct bgmq_collection *c)
{
    struct bgmq_entry map[9];
    bgmqi_report_map(c, map);
    size_t width = 31;
    for (int i = 5; i < 9; i++)
        if (strlen(map[i].key) + 1 > width)
            width = strlen(map[i].key) + 1;
    for (int i = 5; i < 9; i++) {
        char name[232];
        snprintf(name, sizeof(name), "%s:", map[i].key);
        fprintf(f, "  %-*s %lld message(s)\n", (int)width, name, (long long)map[i].value);
    }
}

static void put_collection(FILE *f, const struct bgmq_collection *c)
{
    fprintf(f, "INFO %s:\n\nSTATS:\n", c->name);
    fprintf(f, "  Thread Count:         %u\n", c->threads);
    fprintf(f, "  Total Messages Added: %llu\n", (unsigned long long)c->added);
    fprintf(f, "  Total Messages Taken: %llu\n", (unsigned long long)c->taken);
    fprintf(f, "  Total .outq Messages: %llu\n", (unsigned long long)c->outq_added);
    fprintf(f, "  Total .dlq Messages:  %llu\n", (unsigned long long)c->dlq_added);
    fprintf(f, "QUEUES:\n");
    put_queues(f, c);
    fprintf(f, RULE);
}

static void put_status(FILE *f, const struct report *r)
{
    fprintf(f, "# MQ SERVER STATS:\n\nSTATUS: %s\n\n",
            r->started ? "Started" : "Stopped");
    if (!r->started)
        return;
    fprintf(f, "LISTENING ON: \n");
    for (size_t i = 0; i < r->n_workers; i++)
        fprintf(f, "  %s\n", r->workers[i].queue);
    fprintf(f, "\n" RULE "\n# COLLECTIONS:\n\n" RULE);
    for (size_t i = 0; i < r->n_collections; i++)
        put_collection(f, &r->collections[i]);
    fprintf(f, "\n# WORKERS:\n\n" RULE);
    for (size_t i = 0; i < r->n_workers; i++) {
        fprintf(f, "WORKER %zu on %s \n", i + 1, r->workers[i].queue);
        put_stats(f, &r->workers[i].stats);
    }
}

/* Runs PUT on a stream in memory; NULL: no memory. */
struct text {
    char *bytes;
    size_t size;
    FILE *f;
};

static FILE *text_open(struct text *t)
{
    return t->f = open_memstream(&t->bytes, &t->size);
}

static char *text_close(struct text *t)
{
    bool failed = ferror(t->f) != 0;
    if (fclose(t->f) != 0 || failed) {
        free(t->bytes);
        return NULL;
    }
    return t->bytes;
}

char *bgmqi_report_status_text(const struct report *r)
{
    struct text t = {NULL, 0, NULL};
    if (!text_open(&t))
        return NULL;
    put_status(t.f, r);
    return text_close(&t);
}

char *bgmqi_report_stats_text(const struct bgmq_stats *s)
{
    struct text t = {NULL, 0, NULL};
    if (!text_open(&t))
        return NULL;
    put_stats(t.f, s);
    return text_close(&t);
}

char *bgmqi_report_description_text(const struct bgmq_collection *c)
{
    struct text t = {NULL, 0, NULL};
    if (!text_open(&t))
        return NULL;
    put_collection(t.f, c);
    return text_close(&t);
}

void bgmqi_report_map(const struct bgmq_collection *c, struct bgmq_entry ret[9])
{
    const struct {
        const char *key;
        const char *queue; /* NULL: the key stands alone */
        uint64_t value;
    } rows[9] = {
        {"ThreadCount", NULL, c->threads},
        {"TotalMessagesAdded", NULL, c->added},
        {"TotalMessagesTaken", NULL, c->taken},
        {"TotalOutQMessagesAdded", NULL, c->outq_added},
        {"TotalDlQMessagesAdded", NULL, c->dlq_added},
        {NULL, "inq", c->inq},
        {NULL, "priorityq", c->priorityq},
        {NULL, "dlq", c->dlq},
        {NULL, "outq", c->outq},
    };
    for (int i = 0; i < 9; i++) {
        if (rows[i].queue)
            snprintf(ret[i].key, sizeof(ret[i].key), "mq:%.200s.%s", c->name,
                     rows[i].queue);
        else
            snprintf(ret[i].key, sizeof(ret[i].key), "%s", rows[i].key);
        ret[i].value = (int64_t)rows[i].value;
    }
}

/* ---- JSON -------------------------------------------------------------------------- */

static json_t *stats_json(const struct bgmq_stats *s)
{
    char date[64];
    bgmqi_clock_rfc3339(s->last_ms, date, sizeof(date));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "name", s->name,
                     "normal_received", (json_int_t)s->normal_received,
                     "priority_received", (json_int_t)s->priority_received, "processed",
                     (json_int_t)s->processed, "retries", (json_int_t)s->retries,
                     "failed", (json_int_t)s->failed, "last_processed",
                     s->last_ms ? json_string(date) : json_null());
}

static json_t *collection_json(const struct bgmq_collection *c)
{
    return json_pack(
        "{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:b, s:I,"
        " s:I, s:I, s:I, s:I}",
        "name", c->name, "registered", c->registered, "threads", (json_int_t)c->threads,
        "running", (json_int_t)c->running, "added", (json_int_t)c->added, "taken",
        (json_int_t)c->taken, "outq_added", (json_int_t)c->outq_added, "dlq_added",
        (json_int_t)c->dlq_added, "queues", "inq", (json_int_t)c->inq, "priorityq",
        (json_int_t)c->priorityq, "dlq", (json_int_t)c->dlq, "outq", (json_int_t)c->outq,
        "delayed", (json_int_t)c->delayed, "paused", c->paused, "suspects",
        (json_int_t)c->suspects, "stuck", (json_int_t)c->stuck, "longest_ms",
        (json_int_t)c->longest_ms, "expired", (json_int_t)c->expired, "timeouts",
        (json_int_t)c->timeouts);
}

static json_t *service_json(const struct report *r)
{
    static const char *const stores[] = {"none", "good", "retrying", "failed"};
    static const char *const admins[] = {"none", "serves", "failed"};
    const struct bgmq_counters *c = &r->counters;
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:I, s:s, s:o}",
        "status", r->started ? "Started" : "Stopped", "store", stores[c->store_state & 3],
        "slow_ms", (json_int_t)c->slow_ms, "replayed", (json_int_t)c->replayed,
        "replies_dropped", (json_int_t)c->replies_dropped, "lost", (json_int_t)c->lost,
        "commits", (json_int_t)c->commits, "journal_waiting",
        (json_int_t)c->journal_waiting, "breaker", c->breaker, "draining", c->draining,
        "solo", c->solo, "inbox", (json_int_t)c->inbox, "admin", admins[c->admin % 3],
        "totals", stats_json(&r->total));
}

static char *dump(json_t *root)
{
    char *text = bgmqi_json_text(root, JSON_ENSURE_ASCII, NULL);
    json_decref(root);
    return text;
}

char *bgmqi_report_stats_json(const struct report *r)
{
    return dump(service_json(r));
}

char *bgmqi_report_status_json(const struct report *r)
{
    json_t *root = service_json(r);
    json_t *collections = json_array(), *workers = json_array();
    int bad = !root || !collections || !workers;
    for (size_t i = 0; i < r->n_collections; i++)
        bad |= json_array_append_new(collections, collection_json(&r->collections[i]));
    for (size_t i = 0; i < r->n_workers; i++) {
        json_t *w = stats_json(&r->workers[i].stats);
        bad |= json_object_set_new(w, "queue", json_string(r->workers[i].queue));
        bad |= json_array_append_new(workers, w);
    }
    bad |= json_object_set_new(root, "collections", collections);
    bad |= json_object_set_new(root, "workers", workers);
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return dump(root);
}
