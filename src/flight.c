/* flight.c - the flight file (see flight.h).  Opened and freed by the service; rings are taken
 * when workers start.  Guests map its head only, and touch nothing but the bell. */
#include "flight.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "lock.h"

/* Rings for the threads of a type at least. */
enum {
    RINGS = 1024,
    SLOTS = RINGS * FLIGHT_RING,
    MAGIC = 0x42474D51,
    LAYOUT = 2,
    HEAD_SIZE = 64
};

/* The file.  A page of head would do; it is 64 bytes, and the slots 512 KiB. */
struct flight_file {
    _Atomic uint32_t magic, layout;
    _Atomic uint64_t number;
    struct flight_bell bell;
    char unused[36];
    struct flight_slot slots[SLOTS];
};
#define SIZE sizeof(struct flight_file)

struct flight {
    struct flight_file *file; /* the mapping */
    struct flight_slot *slots;
    struct lock lock;
    struct flight_ring rings[RINGS];
};

/* A file of our own, as long as it has to be. */
static int check_file(int fd, const char *name, struct bgmq_error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s", name);
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
        return bgmqi_err_set(error, BGMQ_EUNSAFE, "%s: not a file of our own", name);
    /* Room is allocated, not just promised: a store to a hole on a full disk is a SIGBUS. */
    int full = posix_fallocate(fd, 0, SIZE);
    if (full != 0)
        return bgmqi_err_system(error, BGMQ_EOPEN, full, "%s", name);
    return 0;
}

static int map_file(struct flight *f, const char *name, struct bgmq_error *error)
{
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return bgmqi_err_system(error, errno == ELOOP ? BGMQ_EUNSAFE : BGMQ_EOPEN, errno,
                                "%s", name);
    int err = check_file(fd, name, error);
    void *at =
        err ? MAP_FAILED : mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!err && at == MAP_FAILED)
        err = bgmqi_err_system(error, BGMQ_EOPEN, errno, "%s", name);
    close(fd);
    if (err)
        return err;
    f->file = at;
    f->slots = f->file->slots;
    for (size_t i = 0; i < RINGS; i++)
        f->rings[i].slots = f->slots + i * FLIGHT_RING;
    if (atomic_load(&f->file->magic) != MAGIC ||
        atomic_load(&f->file->layout) != LAYOUT) {
        /* New, or of a version that knew neither head nor states: nothing in it can be trusted. */
        memset(at, 0, SIZE);
        atomic_store(&f->file->number, 1);
        atomic_store(&f->file->layout, LAYOUT);
        atomic_store(&f->file->magic, MAGIC);
    }
    return 0;
}

static int read_log(const struct flight *f, struct flight_log *ret)
{
    struct flight_log log = {.ids = calloc(SLOTS, sizeof(*log.ids)),
                             .attempts = calloc(SLOTS, sizeof(*log.attempts)),
                             .running = calloc(SLOTS, sizeof(*log.running)),
                             .number = atomic_load(&f->file->number)};
    if (!log.ids || !log.attempts || !log.running) {
        bgmqi_flight_log_fini(&log);
        return BGMQ_ENOMEM;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        uint64_t id = atomic_load(&f->slots[i].id);
        if (id) {
            log.ids[log.n] = id;
            log.running[log.n] = atomic_load(&f->slots[i].state) != FLIGHT_ENDED;
            log.attempts[log.n++] = atomic_load(&f->slots[i].attempt);
        }
    }
    *ret = log;
    return 0;
}

int bgmqi_flight_open(struct flight **ret, const char *path, struct flight_log *log,
                      struct bgmq_error *error)
{
    size_t size = strlen(path) + sizeof("-flight");
    char *name = malloc(size);
    struct flight *f = calloc(1, sizeof(*f));
    int err = name && f ? 0 : BGMQ_ENOMEM;
    if (!err) {
        lock_init(&f->lock, RANK_FLIGHT);
        snprintf(name, size, "%s-flight", path);
        err = map_file(f, name, error);
        if (!err)
            err = read_log(f, log);
        if (err) {
            bgmqi_flight_free(f);
            f = NULL;
        }
    }
    free(name);
    if (err)
        free(f);
    else
        *ret = f;
    return err;
}

void bgmqi_flight_log_fini(struct flight_log *log)
{
    free(log->ids);
    free(log->attempts);
    free(log->running);
    *log = (struct flight_log){.n = 0};
}

void bgmqi_flight_clear(struct flight *f)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (atomic_load_explicit(&f->slots[i].id, memory_order_relaxed))
            flight_end(&f->slots[i]);
    atomic_fetch_add(&f->file->number, 1);
}

struct flight_bell *bgmqi_flight_bell(struct flight *f)
{
    return &f->file->bell;
}

void bgmqi_flight_free(struct flight *f)
{
    if (!f)
        return;
    if (f->file)
        munmap(f->file, SIZE);
    lock_fini(&f->lock);
    free(f);
}

struct flight_ring *bgmqi_flight_take(struct flight *f)
{
    if (!f)
        return NULL;
    size_t i = 0;
    lock_take(&f->lock);
    while (i < RINGS && f->rings[i].taken)
        i++;
    if (i < RINGS)
        f->rings[i].taken = true;
    lock_drop(&f->lock);
    return i < RINGS ? &f->rings[i] : NULL;
}

void bgmqi_flight_release(struct flight *f, struct flight_ring *ring)
{
    if (!ring)
        return;
    lock_take(&f->lock);
    ring->taken = false;
    lock_drop(&f->lock);
}

/* ---- the bell ---------------------------------------------------------------------- */

static struct flight_file *map_head(const char *name)
{
    int fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    struct stat st;
    bool safe = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
                st.st_nlink == 1 && st.st_size >= (off_t)SIZE;
    void *at = safe ? mmap(NULL, HEAD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                    : MAP_FAILED;
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

struct flight_bell *bgmqi_flight_visit(const char *path)
{
    size_t size = strlen(path) + sizeof("-flight");
    char *name = malloc(size);
    if (!name)
        return NULL;
    snprintf(name, size, "%s-flight", path);
    struct flight_file *file = map_head(name);
    free(name);
    if (file &&
        (atomic_load(&file->magic) != MAGIC || atomic_load(&file->layout) != LAYOUT)) {
        munmap(file, HEAD_SIZE);
        file = NULL;
    }
    return file ? &file->bell : NULL;
}

void bgmqi_flight_leave(struct flight_bell *bell)
{
    if (bell)
        munmap((char *)bell - offsetof(struct flight_file, bell), HEAD_SIZE);
}

/* Between processes: no FUTEX_PRIVATE_FLAG. */
void bgmqi_flight_ring(struct flight_bell *bell)
{
    atomic_fetch_add(&bell->rung, 1);
    if (atomic_load(&bell->waiting))
        syscall(SYS_futex, &bell->rung, FUTEX_WAKE, 1, NULL, NULL, 0);
}

bool bgmqi_flight_hear(struct flight_bell *bell, uint32_t *seen, int64_t timeout_ns)
{
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                         .tv_nsec = (long)(timeout_ns % 1000000000)};
    atomic_store(&bell->waiting, 1);
    /* The kernel looks at the word again: a ring before the wait is not missed. */
    if (atomic_load(&bell->rung) == *seen)
        syscall(SYS_futex, &bell->rung, FUTEX_WAIT, *seen, &t, NULL, 0);
    atomic_store(&bell->waiting, 0);
    uint32_t now = atomic_load(&bell->rung);
    bool rung = now != *seen;
    *seen = now;
    return rung;
}
