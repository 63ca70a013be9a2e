/* test_storm.c - start, stop, pause, resume, drain, publish and close, by chance, from many
 * threads, from handlers and over HTTP, under a hail of signals: every call comes back in time
 * with a code that is documented, no signal lands on a thread of the library, nothing is left
 * behind, and what was accepted is handled. */
#include "../harness/harness.h"
#include "../http/admin.h"

#include <bgmq_http.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SAILORS = 6,
    SAILORS_CHECKED = 8,
    TYPES = 20,
    CALLS = 10, /* of one sequence */
    SEQUENCES = 2000,
    SEQUENCES_QUICK = 500,
    SEQUENCES_CHECKED = 100,
    SIGNALS = 500,
    MESSAGES = 1 << 18,
    PATIENCE_S = 5 /* of a call */
};

enum { ACCEPTED = 1, HANDLED = 2 };

struct storm;

/* A thread that calls. */
struct sailor {
    struct storm *s;
    pthread_t thread;
    uint64_t random;
    /* for the watchdog */
    _Atomic(const char *) doing; /* NULL: nothing */
    _Atomic int64_t since;
};

struct storm {
    struct bgmq *mq;
    unsigned port;
    int sailors, durable;
    _Atomic long sequences, calls, lives;
    _Atomic int over; /* of this life */
    _Atomic int ended;
    _Atomic uint32_t messages;
    _Atomic unsigned char state[MESSAGES]; /* of those that go to the database */
    struct sailor sailor[SAILORS_CHECKED];
    uint64_t seed;
};

static struct storm storm;

static uint64_t roll(uint64_t *random, uint64_t n)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (*random >> 11) % n;
}

/* ---- signals ---------------------------------------------------------------------- */

static _Thread_local int is_host;
static _Atomic long caught, misplaced;

static void catch_signal(int number)
{
    (void)number;
    atomic_fetch_add(&caught, 1);
    if (!is_host)
        atomic_fetch_add(&misplaced, 1);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGALRM};
    struct sigaction act = {.sa_handler = catch_signal, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        ck_assert_int_eq(sigaction(numbers[i], &act, NULL), 0);
}

/* A thread of the test begins with all signals blocked, until it is known as one. */
static pthread_t start_host(void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_t t = harness_thread(run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return t;
}

static void take_signals(void)
{
    sigset_t none;
    is_host = 1;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* Any thread of the process, the library's too, where it stays pending. */
static void hit_a_thread(uint64_t *random, int number)
{
    long tids[256];
    size_t n = 0;
    DIR *d = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < 256;)
        if (e->d_name[0] != '.')
            tids[n++] = strtol(e->d_name, NULL, 10);
    closedir(d);
    ck_assert_uint_gt(n, 0);
    /* It may have ended meanwhile. */
    syscall(SYS_tgkill, getpid(), tids[roll(random, n)], number);
}

static void *hail(void *arg)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGALRM};
    struct storm *s = arg;
    uint64_t random = s->seed + 77;
    long sent = 0;
    while (!atomic_load(&s->ended) || sent < SIGNALS) {
        int number = numbers[roll(&random, 4)];
        if (roll(&random, 2))
            hit_a_thread(&random, number);
        else
            kill(getpid(), number);
        sent++;
        poll(NULL, 0, atomic_load(&s->ended) ? 0 : 1);
    }
    harness_figure("signals", sent);
    return NULL;
}

/* ---- the watchdog ------------------------------------------------------------------- */

static void enter(struct sailor *a, const char *doing)
{
    atomic_store(&a->since, harness_now());
    atomic_store(&a->doing, doing);
}

static void leave(struct sailor *a)
{
    atomic_store(&a->doing, NULL);
    atomic_fetch_add(&a->s->calls, 1);
}

static void *watch(void *arg)
{
    struct storm *s = arg;
    int64_t patience = PATIENCE_S * INT64_C(1000000000) * harness_scale();
    while (!atomic_load(&s->ended)) {
        for (int i = 0; i < s->sailors; i++) {
            struct sailor *a = &s->sailor[i];
            int64_t since = atomic_load(&a->since);
            const char *doing = atomic_load(&a->doing);
            ck_assert_msg(!doing || since != atomic_load(&a->since) ||
                              harness_now() - since < patience,
                          "%s has not come back; replay: ./tests/faults/run storm --seed"
                          " %" PRIu64,
                          doing, s->seed);
        }
        poll(NULL, 0, 20);
    }
    return NULL;
}

/* ---- calls --------------------------------------------------------------------------- */

/* Fails the test unless ERR is one of ALLOWED, which 1 ends. */
static void expect(const struct storm *s, const char *what, int err, const int *allowed)
{
    for (; *allowed != 1; allowed++)
        if (err == *allowed)
            return;
    ck_abort_msg("%s: %s; replay: ./tests/faults/run storm --seed %" PRIu64, what,
                 bgmq_errname(err), s->seed);
}
#define EXPECT(s, what, err, ...)                                                        \
    expect((s), (what), (err), (const int[]){__VA_ARGS__, 1})

static void type_name(uint64_t *random, char name[8])
{
    snprintf(name, 8, "T%d", (int)roll(random, TYPES));
}

/* Publishes one; in a handler it never waits. */
static void publish(struct storm *s, uint64_t *random)
{
    static const enum bgmq_durability levels[] = {BGMQ_BEHIND, BGMQ_COMMIT};
    char name[8], body[24];
    struct bgmq_message_options options = {.priority = (int)roll(random, 3)};
    uint32_t number = 0;
    if (s->durable) {
        number = atomic_fetch_add(&s->messages, 1);
        if (number >= MESSAGES)
            return;
        options.durability = levels[roll(random, 2)];
    }
    if (roll(random, 8) == 0)
        options.delay_ms = 1 + (int64_t)roll(random, 3);
    type_name(random, name);
    snprintf(body, sizeof(body), "%" PRIu32, number);
    int err = bgmq_publish(s->mq, name, body, strlen(body), &options, NULL);
    EXPECT(s, "publish", err, 0, BGMQ_ECLOSED, BGMQ_EDRAINING);
    if (!err && s->durable)
        atomic_fetch_or(&s->state[number], ACCEPTED);
}

static int handle(struct bgmq_job *job, void *ctx)
{
    struct storm *s = ctx;
    struct bgmq *mq = bgmq_job_service(job);
    const char *body = bgmq_job_body(job, NULL);
    uint64_t random = bgmq_job_id(job) * 0x9e3779b97f4a7c15u + bgmq_job_attempt(job);
    char name[8];
    if (s->durable)
        atomic_fetch_or(&s->state[strtoul(body, NULL, 10)], HANDLED);
    type_name(&random, name);
    switch (roll(&random, 16)) {
    case 0:
        EXPECT(s, "start in a handler", bgmq_start(mq), BGMQ_EBUSY, BGMQ_ECLOSED);
        break;
    case 1:
        EXPECT(s, "stop in a handler", bgmq_stop(mq, 1), BGMQ_EINPROGRESS, BGMQ_ECLOSED);
        break;
    case 2:
        EXPECT(s, "close in a handler", bgmq_close(mq), BGMQ_EDEADLK);
        break;
    case 3:
        EXPECT(s, "pause", bgmq_pause(mq, name), 0, BGMQ_ECLOSED);
        break;
    case 4:
        EXPECT(s, "resume", bgmq_resume(mq, name), 0, BGMQ_ECLOSED);
        break;
    case 5:
        publish(s, &random);
        break;
    case 6:
        return BGMQ_RETRY;
    case 7:
        poll(NULL, 0, 1);
        break;
    default:
        break;
    }
    return BGMQ_DONE;
}

static void look(struct storm *s)
{
    char *text = NULL;
    int err = bgmq_status_json(s->mq, &text);
    EXPECT(s, "status", err, 0, BGMQ_ECLOSED);
    if (!err)
        free(text);
}

static void retry_pending(struct storm *s)
{
    uint64_t *ids = NULL;
    int n = bgmq_retry_pending(s->mq, &ids);
    if (n < 0)
        EXPECT(s, "retry_pending", n, BGMQ_ECLOSED);
    free(ids);
}

/* The others come to an end too: what they call meets the close, and what comes after it. */
static void close_it(struct storm *s)
{
    int err;
    atomic_store(&s->over, 1);
    do {
        err = bgmq_close(s->mq);
        EXPECT(s, "close", err, 0, BGMQ_EBUSY);
    } while (err);
}

/* One call, of those that any thread may make at any time. */
static void call(struct sailor *a)
{
    struct storm *s = a->s;
    struct bgmq *mq = s->mq;
    char name[8];
    unsigned ms = 1 + (unsigned)roll(&a->random, 5);
    type_name(&a->random, name);
    uint64_t kind = roll(&a->random, 200);
    if (kind < 40) {
        enter(a, "start");
        EXPECT(s, "start", bgmq_start(mq), 0, BGMQ_ECLOSED);
    } else if (kind < 60) {
        enter(a, "stop");
        EXPECT(s, "stop", bgmq_stop(mq, ms), 0, BGMQ_EBUSY, BGMQ_ECLOSED);
    } else if (kind < 66) {
        enter(a, "request_stop");
        EXPECT(s, "request_stop", bgmq_request_stop(mq), 0, BGMQ_EINPROGRESS,
               BGMQ_ECLOSED);
    } else if (kind < 80) {
        enter(a, "pause");
        EXPECT(s, "pause", bgmq_pause(mq, name), 0, BGMQ_ECLOSED);
    } else if (kind < 105) {
        enter(a, "resume");
        EXPECT(s, "resume", bgmq_resume(mq, name), 0, BGMQ_ECLOSED);
    } else if (kind < 115) {
        enter(a, "set_threads");
        EXPECT(s, "set_threads",
               bgmq_set_threads(mq, name, 1 + (unsigned)roll(&a->random, 3)), 0,
               BGMQ_ECLOSED);
    } else if (kind < 120) {
        enter(a, "flush");
        EXPECT(s, "flush", bgmq_flush(mq), 0, BGMQ_ECLOSED);
    } else if (kind < 124) {
        enter(a, "drain");
        EXPECT(s, "drain", bgmq_drain(mq, ms), 0, BGMQ_EBUSY, BGMQ_ECLOSED);
    } else if (kind < 130) {
        enter(a, "status");
        look(s);
    } else if (kind < 134) {
        enter(a, "retry_pending");
        retry_pending(s);
    } else if (kind < 135) {
        enter(a, "close");
        close_it(s);
    } else {
        enter(a, "publish");
        publish(s, &a->random);
    }
    leave(a);
}

static void *sail(void *arg)
{
    struct sailor *a = arg;
    take_signals();
    while (!atomic_load(&a->s->over) && atomic_fetch_sub(&a->s->sequences, 1) > 0)
        for (int i = 0; i < CALLS; i++)
            call(a);
    return NULL;
}

/* An operator with curl.  It takes no signals: what it uses of the system may not go on. */
static void *operate(void *arg)
{
    static const char *const paths[] = {"/mq/start", "/mq/stop", "/mq/status",
                                        "/mq/stats"};
    struct storm *s = arg;
    uint64_t random = s->seed + 5;
    while (!atomic_load(&s->over) && atomic_load(&s->sequences) > 0) {
        uint64_t which = roll(&random, 4);
        int status = client_status(s->port, which < 2 ? "POST" : "GET", paths[which], "");
        ck_assert_msg(status == 200 || status == 202 || status == 503,
                      "%s answered %d; replay: ./tests/faults/run storm --seed %" PRIu64,
                      paths[which], status, s->seed);
        poll(NULL, 0, 2);
    }
    return NULL;
}

/* ---- lives --------------------------------------------------------------------------- */

static struct bgmq *open_one(struct storm *s)
{
    struct bgmq *mq = NULL;
    struct bgmq_error error = {""};
    struct bgmq_options options = {
        .database = s->durable ? harness_path("storm.db") : NULL, .stop_grace_ms = 20};
    int err = bgmq_open(&mq, &options, &error);
    ck_assert_msg(err == 0, "open: %s: %s", bgmq_errname(err), error.text);
    struct bgmq_type_options type = {.max_attempts = 1000,
                                     .backoff = BGMQ_BACKOFF_FIXED,
                                     .backoff_base_ms = 1,
                                     .window = 20};
    for (int i = 0; i < TYPES; i++) {
        char name[8];
        snprintf(name, sizeof(name), "T%d", i);
        type.threads = 1 + (unsigned)i % 2;
        ck_assert_int_eq(bgmq_register(mq, name, handle, s, &type), 0);
    }
    return mq;
}

static void live(struct storm *s)
{
    struct bgmq_http *http = NULL;
    pthread_t operator;
    atomic_fetch_add(&s->lives, 1);
    s->durable = s->lives % 2;
    atomic_store(&s->over, 0);
    s->mq = open_one(s);
    ck_assert_int_eq(bgmq_http_start(&http, s->mq, NULL, NULL), 0);
    s->port = bgmq_http_port(http);
    operator= start_host(operate, s);
    for (int i = 0; i < s->sailors; i++) {
        struct sailor *a = &s->sailor[i];
        a->s = s;
        a->random =
            (s->seed + (uint64_t)s->lives * 64 + (uint64_t)i) * 0x9e3779b97f4a7c15u + 1;
        a->thread = start_host(sail, a);
    }
    for (int i = 0; i < s->sailors; i++)
        harness_join(s->sailor[i].thread);
    harness_join(operator);
    bgmq_http_stop(http);
    bgmq_free(s->mq);
}

/* Everything that was accepted into the database is handled in the end. */
static void drain(struct storm *s)
{
    struct bgmq_stats stats;
    s->durable = 1;
    s->mq = open_one(s);
    for (;;) {
        uint64_t left = 0;
        for (int i = 0; i < TYPES; i++) {
            char name[8];
            struct bgmq_collection c;
            snprintf(name, sizeof(name), "T%d", i);
            ck_assert_int_eq(bgmq_resume(s->mq, name), 0);
            ck_assert_int_eq(bgmq_start(s->mq), 0); /* a handler may have stopped it */
            ck_assert_int_eq(bgmq_type_collection(s->mq, name, &c), 0);
            left += c.inq + c.priorityq + c.delayed + c.running;
        }
        if (!left)
            break;
        poll(NULL, 0, 1);
    }
    ck_assert_int_eq(bgmq_total_stats(s->mq, &stats), 0);
    bgmq_free(s->mq);
    long lost = 0, accepted = 0;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        unsigned char state = atomic_load(&s->state[i]);
        accepted += (state & ACCEPTED) != 0;
        lost += (state & ACCEPTED) && !(state & HANDLED);
    }
    harness_figure("messages", accepted);
    harness_figure("lost", lost);
    ck_assert_msg(!lost,
                  "%ld of %ld are lost; replay: ./tests/faults/run storm --seed %" PRIu64,
                  lost, accepted, s->seed);
}

/* P11, A11. */
START_TEST(storm_of_calls_and_signals)
{
    struct storm *s = &storm;
    long sequences = harness_full()        ? SEQUENCES
                     : harness_scale() > 1 ? SEQUENCES_CHECKED
                                           : SEQUENCES_QUICK;
    s->seed = harness_seed(1);
    s->sailors = HARNESS_ASAN || HARNESS_TSAN ? SAILORS_CHECKED : SAILORS;
    atomic_store(&s->sequences, sequences);
    is_host = 1;
    catch_signals();
    pthread_t watchdog = start_host(watch, s), sender = start_host(hail, s);
    while (atomic_load(&s->sequences) > 0)
        live(s);
    drain(s);
    atomic_store(&s->ended, 1);
    harness_join(watchdog);
    harness_join(sender);
    harness_figure("sequences", sequences);
    harness_figure("misplaced", atomic_load(&misplaced));
    printf("# %ld calls in %ld lives, %ld signals were taken\n", atomic_load(&s->calls),
           atomic_load(&s->lives), atomic_load(&caught));
    ck_assert_int_eq(atomic_load(&misplaced), 0);
    ck_assert_int_gt(atomic_load(&caught), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("storm");
    TCase *tc = harness_case(s, "storm");
    tcase_set_timeout(tc, harness_full() ? 600 : 120);
    tcase_add_test(tc, storm_of_calls_and_signals);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
