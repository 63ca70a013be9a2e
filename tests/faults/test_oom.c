/* test_oom.c - every allocation fails in its turn, and every start of a thread: once, and from
 * there on for good; those of the caller, and those of all threads.
 *
 * One counter goes through the memory of the library (malloc and its kin by the linker, the blocks
 * of mem.c by their hook, slabs by mmap), of SQLite and of jansson.  Each point is met in a service
 * of its own, on a thread of its own, so that no magazine is warm. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "oom.h"
#include "scarce.h"

/* ---- the counter ------------------------------------------------------------------- */

enum who { NOBODY, CALLER, ANYBODY };
enum what { MEMORY, THREADS };

static struct {
    _Atomic int who;
    _Atomic int what;
    _Atomic long at; /* the first to be refused; 0: only counts */
    _Atomic int for_good;
    _Atomic long met, refused;
} point;
static _Thread_local int is_caller;

static bool refuse(enum what what)
{
    int who = atomic_load(&point.who);
    if (who == NOBODY || (int)what != atomic_load(&point.what) ||
        (who == CALLER && !is_caller))
        return false;
    long n = atomic_fetch_add(&point.met, 1) + 1;
    long at = atomic_load(&point.at);
    if (!at || n < at || (n > at && !atomic_load(&point.for_good)))
        return false;
    atomic_fetch_add(&point.refused, 1);
    return true;
}

static long refused(void)
{
    return atomic_load(&point.refused);
}

static void arm(enum who who, enum what what, long at, int for_good)
{
    atomic_store(&point.what, (int)what);
    atomic_store(&point.at, at);
    atomic_store(&point.for_good, for_good);
    atomic_store(&point.met, 0);
    atomic_store(&point.refused, 0);
    atomic_store(&point.who, who);
}

static void disarm(void)
{
    atomic_store(&point.who, NOBODY);
}

static bool refuse_memory(void)
{
    return refuse(MEMORY);
}

/* ---- where memory comes from, apart from scarce.c ---------------------------------- */

SCARCE_WRAP(void *, aligned_alloc, (size_t align, size_t size), (align, size))
SCARCE_WRAP(char *, strndup, (const char *text, size_t n), (text, n))

int __real_posix_memalign(void **ret, size_t align, size_t size);
int __wrap_posix_memalign(void **ret, size_t align, size_t size);
int __wrap_posix_memalign(void **ret, size_t align, size_t size)
{
    return scarce_refuses() ? ENOMEM : __real_posix_memalign(ret, align, size);
}

void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (fd == -1 && scarce_refuses())
        return MAP_FAILED;
    return __real_mmap(at, len, prot, flags, fd, offset);
}

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    return refuse(THREADS) ? EAGAIN : __real_pthread_create(ret, attr, fn, arg);
}

static void setup(void)
{
    oom_refused = refused;
    scarce_setup(refuse_memory);
    scarce_sqlite(refuse_memory);
}

/* Check may have what it needs for its words. */
void __real__ck_assert_failed(const char *file, int line, const char *expr,
                              const char *message, ...) CK_ATTRIBUTE_NORETURN;
void __wrap__ck_assert_failed(const char *file, int line, const char *expr,
                              const char *message, ...) CK_ATTRIBUTE_NORETURN
    CK_ATTRIBUTE_FORMAT(printf, 4, 5);
void __wrap__ck_assert_failed(const char *file, int line, const char *expr,
                              const char *message, ...)
{
    char text[1024] = "";
    va_list args;
    disarm();
    va_start(args, message);
    if (message)
        vsnprintf(text, sizeof(text), message, args);
    va_end(args);
    __real__ck_assert_failed(file, line, expr, message ? "%s" : NULL, text);
}

/* ---- a scene at one point ---------------------------------------------------------- */

struct play {
    const struct oom_scene *scene;
    enum who who;
    enum what what;
    int durable, for_good;
};

static struct oom_world world;
static long waits; /* shortages that were ended so that somebody goes on */

struct part {
    const struct play *play;
    enum who who;
    long at;
    _Atomic int over;
};

/* What is accepted is not given up: the library waits for memory to end it or to move it, so that
 * a shortage for good must come to an end for whoever waits so. */
enum { SHORTAGE_MS = 40 };

/* Only what is done here is refused, not what made the thread. */
static void *act(void *arg)
{
    struct part *p = arg;
    is_caller = 1;
    arm(p->who, p->play->what, p->at, p->play->for_good);
    p->play->scene->act(&world);
    disarm();
    atomic_store(&p->over, 1);
    return NULL;
}

static void act_on_a_thread(const struct play *p, enum who who, long at)
{
    struct part part = {.play = p, .who = who, .at = at};
    world.failures = world.first = 0;
    world.who = "nothing";
    pthread_t actor = harness_thread(act, &part);
    int64_t end = harness_now() + SHORTAGE_MS * INT64_C(1000000);
    while (p->for_good && who != NOBODY && !atomic_load(&part.over) &&
           harness_now() < end)
        poll(NULL, 0, 1);
    if (p->for_good && who != NOBODY && !atomic_load(&part.over)) {
        disarm();
        waits++;
    }
    harness_join(actor);
}

static int is_allowed(const struct play *p, int err)
{
    if (p->what == THREADS)
        return err == BGMQ_ETHREAD;
    if (err == BGMQ_ENOMEM)
        return 1;
    for (size_t i = 0; i < sizeof(p->scene->allowed) / sizeof(p->scene->allowed[0]); i++)
        if (p->scene->allowed[i] && p->scene->allowed[i] == err)
            return 1;
    /* The store could not be written, and says how that looks to the caller. */
    int store = err == BGMQ_EFULL || err == BGMQ_EBUSY || err == BGMQ_EUNCERTAIN ||
                err == BGMQ_ESTORE;
    return p->durable && p->who == ANYBODY && store;
}

/* Where a test stands, for the message when it fails. */
static const char *place(const struct play *p, long at)
{
    static char text[160];
    snprintf(text, sizeof(text), "%s of %s, %s, %s, %s %ld", p->scene->name,
             p->who == CALLER ? "the caller" : "anybody",
             p->durable ? "durable" : "memory", p->for_good ? "for good from" : "once at",
             p->what == THREADS ? "thread" : "allocation", at);
    return text;
}

/* The next call works: the scene does, as soon as a store that tried again has got through. */
static void act_again(const struct play *p, long at)
{
    int64_t deadline = harness_deadline();
    world.hasty = 0;
    for (;;) {
        act_on_a_thread(p, NOBODY, 0);
        if (!world.failures || oom_store_failed(&world))
            return;
        if (harness_now() > deadline || !p->for_good || p->who == CALLER)
            ck_abort_msg("%s: with memory again, %s is %s", place(p, at), world.who,
                         bgmq_errname(world.first));
        harness_pause(deadline + 1000000000, "the scene", __FILE__, __LINE__);
    }
}

/* Plays the scene with the allocation AT refused (0: none); returns how many were met, and in
 * *RET_REFUSED how many of them were refused. */
static long play_at(const struct play *p, long at, long *ret_refused)
{
    oom_where = place(p, at);
    struct harness_leaks leaks;
    harness_leaks_begin(&leaks);
    oom_begin(&world, p->durable, p->for_good && p->who == ANYBODY);
    p->scene->ready(&world);
    act_on_a_thread(p, p->who, at);
    long met = atomic_load(&point.met), hit = refused();
    int bad = world.failures && (!hit || !is_allowed(p, world.first));
    ck_assert_msg(!bad, "%s: %s is %s", place(p, at), world.who,
                  bgmq_errname(world.first));
    int most = p->scene->remembers ? 3 : 1;
    ck_assert_msg(p->for_good || p->who != CALLER || world.failures <= most,
                  "%s: %d calls failed", place(p, at), world.failures);
    if (hit && (!world.mq || !oom_store_failed(&world)))
        act_again(p, at);
    oom_settle(&world);
    oom_end(&world);
    harness_leaks_end(&leaks);
    ck_assert_msg(sqlite3_memory_used() == 0, "%s: SQLite has %lld bytes", place(p, at),
                  (long long)sqlite3_memory_used());
    *ret_refused = hit;
    return met;
}

enum { QUICK_POINTS = 2 };

/* In full every one, until the scene is over before it; else a few, evenly, from a place that the
 * seed decides. */
static void sweep(const struct play *p)
{
    long hit, points = 0, total = play_at(p, 0, &hit);
    int whole = harness_full() || p->what == THREADS;
    long step = whole || total < QUICK_POINTS ? 1 : total / QUICK_POINTS;
    long from = 1 + (whole ? 0 : (long)(harness_seed(7) % (uint64_t)step));
    long last = whole ? 3 * total + 100 : total;
    for (long at = from; at <= last; at += step) {
        play_at(p, at, &hit);
        if (!hit)
            break;
        points++;
    }
    ck_assert_msg(!whole || !hit, "%s: it never ends", place(p, last));
    harness_figure(p->what == MEMORY ? "points" : "threads", points);
    harness_figure("waits", waits);
}

/* ---- the tests --------------------------------------------------------------------- */

enum { WAYS = 8 };

/* P5. */
START_TEST(lack_of_memory_is_told_and_loses_nothing)
{
    struct play p = {.scene = &oom_scenes[_i / WAYS],
                     .who = _i & 1 ? ANYBODY : CALLER,
                     .for_good = (_i >> 1) & 1,
                     .durable = (_i >> 2) & 1};
    if (!p.durable && p.scene->needs_database)
        return;
    /* Who counts lines needs each allocation to fail once (tests/faults/coverage). */
    if (p.for_good && getenv("BGMQ_ONCE"))
        return;
    /* The quick form plays each scene either once or for good. */
    if (!harness_full() && ((_i >> 1) ^ (_i / WAYS) ^ (int)harness_seed(7)) & 1)
        return;
    sweep(&p);
}
END_TEST

/* P4: all or none. */
START_TEST(lack_of_threads_is_told_and_leaves_none_behind)
{
    static const char *const names[] = {"open", "register", "http"};
    struct play p = {.what = THREADS, .who = CALLER, .for_good = _i & 1};
    p.durable = (_i >> 1) & 1;
    for (size_t i = 0; i < oom_n_scenes; i++)
        if (strcmp(oom_scenes[i].name, names[_i >> 2]) == 0)
            p.scene = &oom_scenes[i];
    ck_assert_ptr_nonnull(p.scene);
    sweep(&p);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("oom");
    TCase *tc = harness_case(s, "memory");
    tcase_set_timeout(tc, harness_full() ? 3600 : 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, lack_of_memory_is_told_and_loses_nothing, 0,
                        WAYS * (int)oom_n_scenes);
    tc = harness_case(s, "threads");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, lack_of_threads_is_told_and_leaves_none_behind, 0, 12);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
