/* metrics.c - the line of metrics (see metrics.h).  The ticker's thread; each type is locked for
 * the copy of its counts only.  Rate, mean and percentile are of the interval, the rest is a
 * total. */
#include "metrics.h"

#define MS INT64_C(1000000)

struct sums {
    struct bgmq_stats stats;
    struct bgmq_collection all;
    struct timing timing;
};

static int add_type(void *ctx, struct type *t)
{
    struct sums *s = ctx;
    struct bgmq_stats both[2] = {s->stats};
    struct bgmq_collection c;
    bgmqi_type_stats(t, &both[1]);
    bgmq_stats_combine(both, 2, &s->stats);
    bgmqi_type_collection(t, &c);
    s->all.inq += c.inq + c.priorityq;
    s->all.delayed += c.delayed;
    s->all.dlq += c.dlq;
    s->all.running += c.running;
    s->all.stuck += c.stuck;
    bgmqi_type_take_timing(t, &s->timing);
    return 0;
}

static double ms(int64_t ns)
{
    return (double)ns / (double)MS;
}

static void write_line(struct metrics *m, const struct type_env *env, struct registry *r,
                       int64_t now_ns)
{
    typedef unsigned long long u;
    struct sums s = {.timing = {.n = 0}};
    uint64_t commits = 0, waiting = 0;
    enum journal_state state;
    bgmqi_registry_each(r, false, add_type, &s);
    if (env->journal)
        bgmqi_journal_counts(env->journal, &commits, &waiting, &state);
    uint64_t processed = s.stats.processed + s.stats.failed;
    double minutes = ms(now_ns - m->last_ns) / 60000;
    bgmqi_log(
        env->log, BGMQ_LOG_INFO,
        "metrics: processed=%llu ok=%llu failed=%llu retries=%llu rate=%.1f/min"
        " avg=%.3fms p99=%.3fms waiting=%llu delayed=%llu dead=%llu running=%llu"
        " stuck=%llu journal=%llu commits=%llu",
        (u)processed, (u)s.stats.processed, (u)s.stats.failed, (u)s.stats.retries,
        (double)(processed - m->processed) / minutes, ms(bgmqi_timing_mean_ns(&s.timing)),
        ms(bgmqi_timing_percentile_ns(&s.timing, 99)), (u)s.all.inq, (u)s.all.delayed,
        (u)s.all.dlq, (u)s.all.running, (u)s.all.stuck, (u)waiting, (u)commits);
    m->processed = processed;
}

int64_t bgmqi_metrics_tick(struct metrics *m, const struct type_env *env,
                           struct registry *r, unsigned interval_ms, int64_t now_ns)
{
    if (!interval_ms)
        return INT64_MAX;
    if (now_ns - m->last_ns >= interval_ms * MS) {
        write_line(m, env, r, now_ns);
        m->last_ns = now_ns;
    }
    return m->last_ns + interval_ms * MS;
}
