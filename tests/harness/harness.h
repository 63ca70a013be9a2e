/* harness.h - what every test program shares: its main, and tools that make threads and
 * time obey.
 *
 * A test program is one Suite, run in fork mode: each test is a process of its own, so
 * that a crash, a hang or a leak is charged to one test.  CK_FORK=no runs all in one
 * process, for a debugger.  CK_RUN_CASE=name runs one case.  With CK_TAP_LOG_FILE_NAME=-
 * (meson sets it) the result is TAP on stdout, else it is for people.
 *
 *     static Suite *suite(void)
 *     {
 *         Suite *s = suite_create("queue");
 *         TCase *tc = harness_case(s, "order");
 *         tcase_add_test(tc, test_first_in_first_out);
 *         return s;
 *     }
 *
 *     int main(void)
 *     {
 *         return harness_run(suite());
 *     }
 *
 * Whatever waits here has a deadline of 10 s times CK_TIMEOUT_MULTIPLIER, and fails the
 * test when it passes.  All may be called from any thread, handlers included. */
#ifndef BGMQ_TEST_HARNESS_H
#define BGMQ_TEST_HARNESS_H

#ifdef NDEBUG
#error "tests are built with asserts"
#endif

#include "../../src/clock.h"

#include <bgmq.h>
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* ---- running ---------------------------------------------------------------------- */

/* Runs all of SUITE and frees it.  Returns the status for main(). */
int harness_run(Suite *suite);

/* Adds a case to SUITE whose tests are each checked for file descriptors and threads left
 * behind.  A plain tcase_create() does without the check. */
TCase *harness_case(Suite *suite, const char *name);

/* Ends a test at once as skipped; to be used in the test function itself. */
#define HARNESS_SKIP(reason)                                                             \
    do {                                                                                 \
        harness_skipped(__func__, (reason));                                             \
        return;                                                                          \
    } while (0)
void harness_skipped(const char *function, const char *reason);

/* 1 in a build with that sanitizer.  Neither lets a child of fork() in a threaded process
 * live on: one starts no threads there, the other may have left its allocator locked. */
#if defined(__SANITIZE_ADDRESS__)
#define HARNESS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HARNESS_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define HARNESS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HARNESS_TSAN 1
#endif
#endif
#if !defined(HARNESS_ASAN)
#define HARNESS_ASAN 0
#endif
#if !defined(HARNESS_TSAN)
#define HARNESS_TSAN 0
#endif

/* 1 when BGMQ_FULL asks for the figures of the fault programme and not for its quick form. */
int harness_full(void);
/* The plan of a random test: BGMQ_SEED, else OTHERWISE. */
uint64_t harness_seed(uint64_t otherwise);
/* Says how much was done, for the report: "# figure: NAME VALUE".  Figures of one NAME add up. */
void harness_figure(const char *name, long long value);

/* CK_TIMEOUT_MULTIPLIER, at least 1: greater when the program runs under a slow
 * checker. */
unsigned harness_scale(void);
/* How many at once, for a test that goes through every n-th call: 1, and 3 under a slow checker. */
long harness_step(void);

/* What the process holds now: call harness_leaks_begin() and, when all should be as
 * before, harness_leaks_end(), which waits for threads that are just ending.
 * harness_case() does this around each test; call them by hand for a part of one. */
struct harness_leaks {
    int fds, threads;
};
void harness_leaks_begin(struct harness_leaks *l);
#define harness_leaks_end(l) harness_leaks_check((l), __FILE__, __LINE__)
void harness_leaks_check(const struct harness_leaks *l, const char *file, int line);

/* Open file descriptors and living threads of this process. */
int harness_count_fds(void);
int harness_count_threads(void);
/* Memory of this process that is in RAM. */
long harness_resident_bytes(void);

/* In a child that is to be killed while its threads run: what it asserts goes nowhere.  All
 * processes of a test write to one file of Check's, and a kill may come in the middle of a line. */
void harness_part(void);

/* ---- files ------------------------------------------------------------------------ */

/* Before harness_run(): the tests' files lie in memory, where there is room for that and $TMPDIR
 * says nothing else.  For tests that do not care what a disk does, or that decide it themselves. */
void harness_needs_no_disk(void);
/* Lends the path of a directory of this test, made at the first call, mode 0700, under
 * $TMPDIR or /tmp, removed with all in it when the program ends, however the test
 * ends. */
const char *harness_tmpdir(void);
/* Lends the path of NAME in that directory, until the process ends.  Makes no file. */
const char *harness_path(const char *name);
/* *RET gets the whole file and a NUL, to free(); returns its length.  Fails the test. */
size_t harness_read_file(const char *path, char **ret);
void harness_write_file(const char *path, const void *bytes, size_t len);

/* ---- time ------------------------------------------------------------------------- */

/* A clock that stands until a test moves it.  Give &f.clock to what is tested. */
struct fake_clock {
    struct clock clock;
    pthread_mutex_t lock;
    int64_t wall_ms, mono_ns;
};
/* Wall time starts at WALL_MS, monotonic time at one second. */
void fake_clock_init(struct fake_clock *f, int64_t wall_ms);
void fake_clock_fini(struct fake_clock *f);
/* Moves both clocks on by MS. */
void fake_clock_advance(struct fake_clock *f, int64_t ms);
/* Somebody sets the system's clock: monotonic time does not move. */
void fake_clock_set_wall(struct fake_clock *f, int64_t wall_ms);
void fake_clock_set_mono(struct fake_clock *f, int64_t mono_ns);
int64_t fake_clock_wall(struct fake_clock *f);
int64_t fake_clock_mono(struct fake_clock *f);

/* ---- threads ---------------------------------------------------------------------- */

/* Shut until somebody opens it; then everybody passes. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int open;
};
void gate_init(struct gate *g);
void gate_fini(struct gate *g);
void gate_open(struct gate *g);
void gate_shut(struct gate *g);
int gate_is_open(struct gate *g);
#define gate_wait(g) harness_gate_wait((g), __FILE__, __LINE__)
void harness_gate_wait(struct gate *g, const char *file, int line);

/* A number that threads add to and the test waits for. */
struct counter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    long value;
};
void counter_init(struct counter *c);
void counter_fini(struct counter *c);
/* Returns the new value. */
long counter_add(struct counter *c, long n);
void counter_set(struct counter *c, long n);
long counter_value(struct counter *c);
/* Waits until the value is N or more, and returns it. */
#define counter_wait(c, n) harness_counter_wait((c), (n), __FILE__, __LINE__)
long harness_counter_wait(struct counter *c, long n, const char *file, int line);

/* Holds each thread until N are there; then all go on, and it starts over. */
struct barrier {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned n, arrived, round;
};
void barrier_init(struct barrier *b, unsigned n);
void barrier_fini(struct barrier *b);
#define barrier_wait(b) harness_barrier_wait((b), __FILE__, __LINE__)
void harness_barrier_wait(struct barrier *b, const char *file, int line);

/* Waits until the expression is true, looking at it every millisecond: for what shows
 * itself in a number only (statistics, a file), never to give a thread "some time". */
#define WAIT_UNTIL(expr)                                                                 \
    do {                                                                                 \
        int64_t deadline_ = harness_deadline();                                          \
        while (!(expr))                                                                  \
            harness_pause(deadline_, #expr, __FILE__, __LINE__);                         \
    } while (0)
/* Monotonic nanoseconds: now, and when a wait that begins now gives up. */
int64_t harness_now(void);
int64_t harness_deadline(void);
void harness_pause(int64_t deadline, const char *what, const char *file, int line);

/* Starts a thread, or fails the test; joins it within the deadline, or fails the test. */
pthread_t harness_thread(void *(*run)(void *), void *arg);
#define harness_join(t) harness_join_at((t), __FILE__, __LINE__)
void *harness_join_at(pthread_t t, const char *file, int line);

/* ---- log -------------------------------------------------------------------------- */

/* Keeps what a service logs: options.log = harness_log_keep, options.log_ctx = &log.
 * Shows it on stderr too when HARNESS_LOG is set in the environment. */
struct harness_log {
    pthread_mutex_t lock;
    long lines[4];        /* by enum bgmq_level */
    char text[64 * 1024]; /* the first lines, each with a line end */
    size_t len;
};
void harness_log_init(struct harness_log *l);
void harness_log_fini(struct harness_log *l);
bgmq_log_fn harness_log_keep;
/* Lines of LEVEL so far. */
long harness_log_count(struct harness_log *l, enum bgmq_level level);
/* 1 when a line kept contains TEXT. */
int harness_log_has(struct harness_log *l, const char *text);

#endif
