/* sim_wrap.c - what the linker puts in place of the kernel's threads, of the clocks, of memory and
 * of files, for the library that runs in the simulator (see sim.h).
 *
 * Outside the world each of those that tests use as well does what it always does. */
#include "sim.h"

#include "clock.h"
#include "disk.h"
#include "monitor.h"
#include "owner.h"
#include "park.h"
#include "thread.h"
#include "tx_hub.h"
#include "watch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* ---- memory ------------------------------------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void __real_free(void *block);
char *__real_strdup(const char *text);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_reallocarray(void *block, size_t n, size_t size);
void __wrap_free(void *block);
char *__wrap_strdup(const char *text);
void *__wrap_bgmqi_mem_alloc(size_t size);
void __wrap_bgmqi_mem_free(void *block, size_t size);

static void *new_block(size_t size)
{
    sim_maybe_yield();
    return sim_memory_new(sim_process(), size);
}

void *__wrap_malloc(size_t size)
{
    return sim_memory_serves() ? new_block(size) : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return sim_memory_serves() ? new_block(n * size) : __real_calloc(n, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    size_t before = block ? sim_memory_size(block) : 0;
    if (block ? !before : !sim_memory_serves())
        return __real_realloc(block, size);
    void *more = new_block(size);
    if (block)
        memcpy(more, block, before < size ? before : size);
    __wrap_free(block);
    return more;
}

void *__wrap_reallocarray(void *block, size_t n, size_t size)
{
    return __wrap_realloc(block, n * size);
}

void __wrap_free(void *block)
{
    if (block && !sim_memory_free(block))
        __real_free(block);
}

char *__wrap_strdup(const char *text)
{
    if (!sim_memory_serves())
        return __real_strdup(text);
    size_t size = strlen(text) + 1;
    return memcpy(new_block(size), text, size);
}

void *__wrap_bgmqi_mem_alloc(size_t size)
{
    return __wrap_malloc(size);
}

void __wrap_bgmqi_mem_free(void *block, size_t size)
{
    (void)size;
    __wrap_free(block);
}

/* ---- clocks ------------------------------------------------------------------------- */

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (!sim_current())
        return __real_clock_gettime(clock, ret);
    sim_maybe_yield();
    bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int64_t ms = wall ? sim_wall_ms() : sim_mono_ns() / SIM_MS;
    int64_t rest_ms = ((ms % 1000) + 1000) % 1000;
    ret->tv_sec = (time_t)((ms - rest_ms) / 1000);
    ret->tv_nsec = (long)(rest_ms * SIM_MS + sim_mono_ns() % SIM_MS);
    return 0;
}

/* ---- chance ------------------------------------------------------------------------- */

ssize_t __real_getrandom(void *to, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t size, unsigned flags);

ssize_t __wrap_getrandom(void *to, size_t size, unsigned flags)
{
    if (!sim_current())
        return __real_getrandom(to, size, flags);
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)to)[i] = (unsigned char)sim_below(256);
    return (ssize_t)size;
}

/* ---- threads ------------------------------------------------------------------------ */

pthread_t __real_pthread_self(void);
pthread_t __wrap_pthread_self(void);
int __real_pthread_join(pthread_t thread, void **ret);
int __wrap_pthread_join(pthread_t thread, void **ret);
int __wrap_bgmqi_thread_start(pthread_t *ret, const char *name, size_t stack_size,
                              void *(*fn)(void *), void *arg);

pthread_t __wrap_pthread_self(void)
{
    return sim_current() ? (pthread_t)sim_current() : __real_pthread_self();
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
    if (!sim_current())
        return __real_pthread_join(thread, ret);
    sim_join((struct sim_fiber *)thread); /* NOLINT: a pthread_t is a number */
    return 0;
}

int __wrap_bgmqi_thread_start(pthread_t *ret, const char *name, size_t stack_size,
                              void *(*fn)(void *), void *arg)
{
    (void)name;
    (void)stack_size;
    struct sim_fiber *f = sim_start(sim_process(), fn, arg);
    *ret = (pthread_t)f;
    return f ? 0 : BGMQ_ETHREAD;
}

/* ---- waiting ------------------------------------------------------------------------ */

bool __wrap_bgmqi_park_wait(struct park *p, int64_t timeout_ns);
void __wrap_bgmqi_park_rest(struct park *p);
void __wrap_bgmqi_park_wake(struct park *p);
void __wrap_bgmqi_lock_wait(struct lock *l);
void __wrap_bgmqi_lock_wake(struct lock *l);
void __wrap_bgmqi_monitor_enter(struct monitor *m);
void __wrap_bgmqi_monitor_leave(struct monitor *m);
void __wrap_bgmqi_monitor_wait(struct monitor *m, int64_t timeout_ns);
void __wrap_bgmqi_monitor_change(struct monitor *m);

enum { EMPTY, TOKEN, PARKED, RESTING }; /* as in park.c */

static int64_t until(int64_t timeout_ns)
{
    return sim_mono_ns() + (timeout_ns < PARK_MAX_NS ? timeout_ns : PARK_MAX_NS);
}

bool __wrap_bgmqi_park_wait(struct park *p, int64_t timeout_ns)
{
    sim_maybe_yield();
    if (atomic_load(&p->word) != TOKEN) {
        atomic_store(&p->word, PARKED);
        if (timeout_ns > 0)
            sim_wait(p, until(timeout_ns));
    }
    return atomic_exchange(&p->word, EMPTY) == TOKEN;
}

void __wrap_bgmqi_park_rest(struct park *p)
{
    sim_maybe_yield();
    while (atomic_load(&p->word) != TOKEN) {
        atomic_store(&p->word, RESTING);
        sim_wait(p, INT64_MAX);
    }
    atomic_store(&p->word, EMPTY);
}

void __wrap_bgmqi_park_wake(struct park *p)
{
    uint32_t seen = atomic_exchange(&p->word, TOKEN);
    bool lost = seen == PARKED && sim_weather.lose_wake_in &&
                sim_below(sim_weather.lose_wake_in) == 0;
    if (!lost && (seen == PARKED || seen == RESTING))
        sim_wake(p);
    sim_maybe_yield();
}

void __wrap_bgmqi_lock_wait(struct lock *l)
{
    while (atomic_exchange(&l->word, LOCK_AWAITED) != LOCK_FREE)
        sim_wait(l, INT64_MAX);
}

void __wrap_bgmqi_lock_wake(struct lock *l)
{
    sim_wake(l);
}

void __wrap_bgmqi_monitor_enter(struct monitor *m)
{
    while (pthread_mutex_trylock(&m->mutex) != 0)
        sim_wait(&m->changed, INT64_MAX);
}

void __wrap_bgmqi_monitor_leave(struct monitor *m)
{
    pthread_mutex_unlock(&m->mutex);
    sim_wake(&m->changed);
}

void __wrap_bgmqi_monitor_wait(struct monitor *m, int64_t timeout_ns)
{
    __wrap_bgmqi_monitor_leave(m);
    sim_wait(m, until(timeout_ns));
    __wrap_bgmqi_monitor_enter(m);
}

void __wrap_bgmqi_monitor_change(struct monitor *m)
{
    sim_wake(m);
}

/* ---- files -------------------------------------------------------------------------- */

bool __wrap_bgmqi_owner_inherited(const char *path);
int __wrap_bgmqi_owner_wait(struct owner **ret, const char *path, unsigned wait_ms,
                            struct bgmq_error *error);
void __wrap_bgmqi_owner_release(struct owner *o);
void __wrap_bgmqi_owner_forget(struct owner *o);
int __wrap_bgmqi_watch_open(struct watch **ret, const struct watch_options *options,
                            struct bgmq_error *error);
void __wrap_bgmqi_watch_end(struct watch *w);
int __wrap_bgmqi_tx_hub_new(struct tx_hub **ret, struct bgmq *mq, const char *path);

bool __wrap_bgmqi_owner_inherited(const char *path)
{
    (void)path;
    return false;
}

int __wrap_bgmqi_owner_wait(struct owner **ret, const char *path, unsigned wait_ms,
                            struct bgmq_error *error)
{
    (void)path;
    (void)error;
    int64_t until_ns = sim_mono_ns() + wait_ms * SIM_MS;
    while (!disk_own(sim_process())) {
        if (sim_mono_ns() >= until_ns)
            return BGMQ_EOWNED;
        sim_sleep(1 + sim_below(50));
    }
    *ret = (struct owner *)&disk;
    return 0;
}

void __wrap_bgmqi_owner_release(struct owner *o)
{
    if (o)
        disk_disown(sim_process());
}

void __wrap_bgmqi_owner_forget(struct owner *o)
{
    __wrap_bgmqi_owner_release(o);
}

/* The world itself rings when somebody has written to the inbox. */
int __wrap_bgmqi_watch_open(struct watch **ret, const struct watch_options *options,
                            struct bgmq_error *error)
{
    (void)options;
    (void)error;
    *ret = NULL;
    return 0;
}

void __wrap_bgmqi_watch_end(struct watch *w)
{
    (void)w;
}

/* There is no connection of the application's. */
int __wrap_bgmqi_tx_hub_new(struct tx_hub **ret, struct bgmq *mq, const char *path)
{
    (void)mq;
    (void)path;
    *ret = NULL;
    return 0;
}
