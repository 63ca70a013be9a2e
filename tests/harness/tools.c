/* tools.c - the clock that stands still, the gates, counters and barriers, and the log
 * keeper of harness.h.  Called from any thread of a test.  Every wait has a deadline,
 * after which the test fails: none may hang. */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int result, const char *what)
{
    ck_assert_msg(result == 0, "%s: %s", what, strerror(result));
}

static void take(pthread_mutex_t *lock)
{
    must(pthread_mutex_lock(lock), "pthread_mutex_lock");
}

static void drop(pthread_mutex_t *lock)
{
    must(pthread_mutex_unlock(lock), "pthread_mutex_unlock");
}

static void pair_init(pthread_mutex_t *lock, pthread_cond_t *changed)
{
    pthread_condattr_t attr;
    must(pthread_mutex_init(lock, NULL), "pthread_mutex_init");
    must(pthread_condattr_init(&attr), "pthread_condattr_init");
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "pthread_condattr_setclock");
    must(pthread_cond_init(changed, &attr), "pthread_cond_init");
    pthread_condattr_destroy(&attr);
}

static void pair_fini(pthread_mutex_t *lock, pthread_cond_t *changed)
{
    must(pthread_cond_destroy(changed), "pthread_cond_destroy");
    must(pthread_mutex_destroy(lock), "pthread_mutex_destroy");
}

int64_t harness_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t harness_deadline(void)
{
    return harness_now() + (int64_t)10000000000 * harness_scale();
}

static struct timespec to_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* Waits on CHANGED until DEADLINE at most, and fails the test then. */
static void wait_changed(pthread_mutex_t *lock, pthread_cond_t *changed, int64_t deadline,
                         const char *what, const char *file, int line)
{
    struct timespec until = to_timespec(deadline);
    int r = pthread_cond_timedwait(changed, lock, &until);
    if (r == ETIMEDOUT)
        _ck_assert_failed(file, line, "deadline", "nothing came in time: %s", what);
    must(r, "pthread_cond_timedwait");
}

void harness_pause(int64_t deadline, const char *what, const char *file, int line)
{
    if (harness_now() >= deadline)
        _ck_assert_failed(file, line, "deadline", "did not come true in time: %s", what);
    poll(NULL, 0, 1);
}

/* ---- the clock that stands still -------------------------------------------------- */

int64_t fake_clock_wall(struct fake_clock *f)
{
    take(&f->lock);
    int64_t t = f->wall_ms;
    drop(&f->lock);
    return t;
}

int64_t fake_clock_mono(struct fake_clock *f)
{
    take(&f->lock);
    int64_t t = f->mono_ns;
    drop(&f->lock);
    return t;
}

static int64_t read_wall(void *ctx)
{
    return fake_clock_wall(ctx);
}

static int64_t read_mono(void *ctx)
{
    return fake_clock_mono(ctx);
}

void fake_clock_init(struct fake_clock *f, int64_t wall_ms)
{
    *f = (struct fake_clock){
        .clock = {.wall_ms = read_wall,
                  .mono_ns = read_mono,
                  .rough_ms = read_wall,
                  .ctx = f},
        .wall_ms = wall_ms,
        .mono_ns = 1000000000,
    };
    must(pthread_mutex_init(&f->lock, NULL), "pthread_mutex_init");
}

void fake_clock_fini(struct fake_clock *f)
{
    must(pthread_mutex_destroy(&f->lock), "pthread_mutex_destroy");
}

void fake_clock_advance(struct fake_clock *f, int64_t ms)
{
    take(&f->lock);
    f->wall_ms += ms;
    f->mono_ns += ms * 1000000;
    drop(&f->lock);
}

void fake_clock_set_wall(struct fake_clock *f, int64_t wall_ms)
{
    take(&f->lock);
    f->wall_ms = wall_ms;
    drop(&f->lock);
}

void fake_clock_set_mono(struct fake_clock *f, int64_t mono_ns)
{
    take(&f->lock);
    f->mono_ns = mono_ns;
    drop(&f->lock);
}

/* ---- gate ------------------------------------------------------------------------- */

void gate_init(struct gate *g)
{
    g->open = 0;
    pair_init(&g->lock, &g->changed);
}

void gate_fini(struct gate *g)
{
    pair_fini(&g->lock, &g->changed);
}

static void gate_set(struct gate *g, int open)
{
    take(&g->lock);
    g->open = open;
    must(pthread_cond_broadcast(&g->changed), "pthread_cond_broadcast");
    drop(&g->lock);
}

void gate_open(struct gate *g)
{
    gate_set(g, 1);
}

void gate_shut(struct gate *g)
{
    gate_set(g, 0);
}

int gate_is_open(struct gate *g)
{
    take(&g->lock);
    int open = g->open;
    drop(&g->lock);
    return open;
}

void harness_gate_wait(struct gate *g, const char *file, int line)
{
    int64_t deadline = harness_deadline();
    take(&g->lock);
    while (!g->open)
        wait_changed(&g->lock, &g->changed, deadline, "a gate stayed shut", file, line);
    drop(&g->lock);
}

/* ---- counter ---------------------------------------------------------------------- */

void counter_init(struct counter *c)
{
    c->value = 0;
    pair_init(&c->lock, &c->changed);
}

void counter_fini(struct counter *c)
{
    pair_fini(&c->lock, &c->changed);
}

long counter_add(struct counter *c, long n)
{
    take(&c->lock);
    long value = c->value += n;
    must(pthread_cond_broadcast(&c->changed), "pthread_cond_broadcast");
    drop(&c->lock);
    return value;
}

void counter_set(struct counter *c, long n)
{
    take(&c->lock);
    c->value = n;
    must(pthread_cond_broadcast(&c->changed), "pthread_cond_broadcast");
    drop(&c->lock);
}

long counter_value(struct counter *c)
{
    take(&c->lock);
    long value = c->value;
    drop(&c->lock);
    return value;
}

long harness_counter_wait(struct counter *c, long n, const char *file, int line)
{
    int64_t deadline = harness_deadline();
    take(&c->lock);
    while (c->value < n) {
        char what[96];
        snprintf(what, sizeof what, "a counter stands at %ld of %ld", c->value, n);
        wait_changed(&c->lock, &c->changed, deadline, what, file, line);
    }
    long value = c->value;
    drop(&c->lock);
    return value;
}

/* ---- barrier ---------------------------------------------------------------------- */

void barrier_init(struct barrier *b, unsigned n)
{
    b->n = n;
    b->arrived = 0;
    b->round = 0;
    pair_init(&b->lock, &b->changed);
}

void barrier_fini(struct barrier *b)
{
    pair_fini(&b->lock, &b->changed);
}

void harness_barrier_wait(struct barrier *b, const char *file, int line)
{
    int64_t deadline = harness_deadline();
    take(&b->lock);
    unsigned round = b->round;
    if (++b->arrived == b->n) {
        b->arrived = 0;
        b->round++;
        must(pthread_cond_broadcast(&b->changed), "pthread_cond_broadcast");
    }
    while (b->round == round)
        wait_changed(&b->lock, &b->changed, deadline, "not all came to a barrier", file,
                     line);
    drop(&b->lock);
}

/* ---- threads ---------------------------------------------------------------------- */

pthread_t harness_thread(void *(*run)(void *), void *arg)
{
    pthread_t t;
    must(pthread_create(&t, NULL, run, arg), "pthread_create");
    return t;
}

void *harness_join_at(pthread_t t, const char *file, int line)
{
    /* glibc's timed join knows only the wall clock; a jump of it costs no more than a
     * wrong failure of one test. */
    struct timespec until;
    void *result = NULL;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10 * (time_t)harness_scale();
    int r = pthread_timedjoin_np(t, &result, &until);
    if (r == ETIMEDOUT)
        _ck_assert_failed(file, line, "deadline", "a thread did not end");
    must(r, "pthread_timedjoin_np");
    return result;
}

/* ---- log -------------------------------------------------------------------------- */

void harness_log_init(struct harness_log *l)
{
    memset(l, 0, sizeof *l);
    must(pthread_mutex_init(&l->lock, NULL), "pthread_mutex_init");
}

void harness_log_fini(struct harness_log *l)
{
    must(pthread_mutex_destroy(&l->lock), "pthread_mutex_destroy");
}

void harness_log_keep(void *ctx, enum bgmq_level level, const char *text)
{
    struct harness_log *l = ctx;
    size_t len = strlen(text);
    if (getenv("HARNESS_LOG"))
        fprintf(stderr, "# log %d: %s\n", (int)level, text);
    take(&l->lock);
    l->lines[level]++;
    if (len + 2 <= sizeof l->text - l->len) {
        memcpy(l->text + l->len, text, len);
        l->len += len;
        l->text[l->len++] = '\n';
        l->text[l->len] = '\0';
    }
    drop(&l->lock);
}

long harness_log_count(struct harness_log *l, enum bgmq_level level)
{
    take(&l->lock);
    long n = l->lines[level];
    drop(&l->lock);
    return n;
}

int harness_log_has(struct harness_log *l, const char *text)
{
    take(&l->lock);
    int found = strstr(l->text, text) != NULL;
    drop(&l->lock);
    return found;
}
