/* report.h - the pages of the admin, written from a snapshot.  Pure: no clock, no lock. */
#ifndef BGMQI_REPORT_H
#define BGMQI_REPORT_H

#include <bgmq.h>
#include <stdbool.h>

struct report_worker {
    char queue[216];
    struct bgmq_stats stats;
};

/* One consistent look at a service. */
struct report {
    bool started;
    struct bgmq_collection *collections; /* in the order they are shown */
    size_t n_collections;
    struct report_worker *workers;
    size_t n_workers;
    struct bgmq_stats total;
    struct bgmq_counters counters;
};

/* Frees what the arrays hold. */
void bgmqi_report_fini(struct report *r);

/* Each gives a new string to free(), or NULL when memory is short. */
char *bgmqi_report_status_text(const struct report *r);
char *bgmqi_report_status_json(const struct report *r);
char *bgmqi_report_stats_text(const struct bgmq_stats *s);
char *bgmqi_report_stats_json(const struct report *r);
char *bgmqi_report_description_text(const struct bgmq_collection *c);
/* The map of a collection, in its order. */
void bgmqi_report_map(const struct bgmq_collection *c, struct bgmq_entry ret[9]);

#endif
