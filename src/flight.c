/* flight.c - the flight file (see flight.h).  Opened and freed by the service; slots are taken
 * when workers start. */
#include "flight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "lock.h"

enum { SLOTS = 16384 };
#define SIZE (sizeof(struct flight_slot) * SLOTS)

struct flight {
    struct flight_slot *slots; /* the mapping */
    struct lock lock;
    bool taken[SLOTS]; /* protected by lock */
};

/* A file of our own, as long as it has to be. */
static int check_file(int fd, const char *name, struct bgmq_error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return bgmqi_err_set(error, BGMQ_EOPEN, "%s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1)
        return bgmqi_err_set(error, BGMQ_EUNSAFE, "%s: not a file of our own", name);
    /* Room is allocated, not just promised: a store to a hole on a full disk is a SIGBUS. */
    int full = posix_fallocate(fd, 0, SIZE);
    if (full != 0)
        return bgmqi_err_set(error, BGMQ_EOPEN, "%s: %s", name, strerror(full));
    return 0;
}

static int map_file(struct flight *f, const char *name, struct bgmq_error *error)
{
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return bgmqi_err_set(error, errno == ELOOP ? BGMQ_EUNSAFE : BGMQ_EOPEN, "%s: %s",
                             name, strerror(errno));
    int err = check_file(fd, name, error);
    void *at =
        err ? MAP_FAILED : mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!err && at == MAP_FAILED)
        err = bgmqi_err_set(error, BGMQ_EOPEN, "%s: %s", name, strerror(errno));
    close(fd);
    if (!err)
        f->slots = at;
    return err;
}

static int read_log(const struct flight *f, struct flight_log *ret)
{
    struct flight_log log = {calloc(SLOTS, sizeof(*log.ids)),
                             calloc(SLOTS, sizeof(*log.attempts)), 0};
    if (!log.ids || !log.attempts) {
        bgmqi_flight_log_fini(&log);
        return BGMQ_ENOMEM;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        uint64_t id = atomic_load(&f->slots[i].id);
        if (id) {
            log.ids[log.n] = id;
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
        lock_init(&f->lock);
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
    *log = (struct flight_log){.n = 0};
}

void bgmqi_flight_clear(struct flight *f)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (atomic_load_explicit(&f->slots[i].id, memory_order_relaxed))
            flight_end(&f->slots[i]);
}

void bgmqi_flight_free(struct flight *f)
{
    if (!f)
        return;
    if (f->slots)
        munmap(f->slots, SIZE);
    lock_fini(&f->lock);
    free(f);
}

struct flight_slot *bgmqi_flight_take(struct flight *f)
{
    if (!f)
        return NULL;
    size_t i = 0;
    lock_take(&f->lock);
    while (i < SLOTS && f->taken[i])
        i++;
    if (i < SLOTS)
        f->taken[i] = true;
    lock_drop(&f->lock);
    return i < SLOTS ? &f->slots[i] : NULL;
}

void bgmqi_flight_release(struct flight *f, struct flight_slot *slot)
{
    if (!slot)
        return;
    flight_end(slot);
    lock_take(&f->lock);
    f->taken[slot - f->slots] = false;
    lock_drop(&f->lock);
}
