/* limits.c - a small service, and limits (see limits.h).  The test's thread; the handler is run by
 * the library's workers. */
#include "limits.h"

#include <stdio.h>

char limits_database[600];
_Atomic int limits_runs;
struct bgmq_error limits_error;

static int count_run(struct bgmq_job *job, void *ctx)
{
    (void)job;
    if (ctx)
        gate_wait((struct gate *)ctx);
    limits_runs++;
    return BGMQ_DONE;
}

void limits_ignore_log(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

int limits_open(struct bgmq **ret)
{
    struct bgmq_options options = {.database = limits_database,
                                   .publish_timeout_ms = 100 * harness_scale(),
                                   .log = limits_ignore_log};
    return bgmq_open(ret, &options, &limits_error);
}

int limits_register(struct bgmq *mq, struct gate *gate)
{
    return bgmq_register(mq, "T", count_run, gate,
                         &(struct bgmq_type_options){.threads = LIMITS_THREADS});
}

int limits_publish(struct bgmq *mq)
{
    char body[1000] = "x";
    return bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL);
}

void limits_close(struct bgmq *mq)
{
    ck_assert_int_eq(bgmq_close(mq), 0);
    bgmq_free(mq);
}

int limits_idle(struct bgmq *mq)
{
    struct bgmq_collection c;
    struct bgmq_counters all;
    ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
    ck_assert_int_eq(bgmq_service_counters(mq, &all), 0);
    return c.inq + c.running + all.journal_waiting == 0;
}

void limits_expect_works(struct bgmq *mq)
{
    WAIT_UNTIL(limits_idle(mq));
    int before = limits_runs;
    WAIT_UNTIL(limits_publish(mq) == 0);
    WAIT_UNTIL(limits_runs == before + 1 && limits_idle(mq));
}

void limits_set(int what, rlim_t n)
{
    struct rlimit r = {.rlim_cur = 0};
    int err = getrlimit(what, &r);
    r.rlim_cur = n < r.rlim_max ? n : r.rlim_max;
    if (err == 0)
        err = setrlimit(what, &r);
    ck_assert_int_eq(err, 0);
}

void limits_begin(void)
{
    snprintf(limits_database, sizeof(limits_database), "%s", harness_path("exhaust.db"));
}

int limits_start(struct bgmq **ret)
{
    struct bgmq *mq = NULL;
    int err = limits_open(&mq);
    if (err)
        return err;
    err = limits_register(mq, NULL);
    if (!err)
        err = bgmq_start(mq);
    if (err) {
        snprintf(limits_error.text, sizeof(limits_error.text), "it opened");
        bgmq_close(mq);
        bgmq_free(mq);
    } else {
        *ret = mq;
    }
    return err;
}

struct bgmq *limits_started(void)
{
    struct bgmq *mq = NULL;
    int err = limits_start(&mq);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), limits_error.text);
    return mq;
}

void limits_expect_known(int err, const int *known, size_t n)
{
    while (n > 0 && known[n - 1] != err)
        n--;
    ck_assert_msg(n > 0, "%s: %s", bgmq_errname(err), limits_error.text);
    ck_assert_msg(limits_error.text[0], "%s without words", bgmq_errname(err));
}

void limits_raise(int what, rlim_t from, rlim_t by, const int *known, size_t n)
{
    struct bgmq *mq = NULL;
    struct rlimit was;
    struct harness_leaks leaks;
    int failures = 0, err = 1;
    ck_assert_int_eq(getrlimit(what, &was), 0);
    harness_leaks_begin(&leaks);
    for (rlim_t limit = from; err != 0; limit += by) {
        struct rlimit low = {.rlim_cur = limit, .rlim_max = was.rlim_max};
        ck_assert_int_lt(failures, 2000);
        setrlimit(what, &low);
        err = limits_start(&mq);
        setrlimit(what, &was);
        if (err == 0)
            break;
        limits_expect_known(err, known, n);
        failures++;
        harness_leaks_end(&leaks);
    }
    ck_assert_int_gt(failures, 0);
    limits_expect_works(mq);
    limits_close(mq);
    harness_figure("refused", failures);
}
