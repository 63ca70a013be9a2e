/* test_ioerr.c - T6: a tour through the library (tour.h) in which every n-th call into the file
 * system fails, n = 1, 2, 3 ... until none does, each once and for good.
 *
 * The calls are those of SQLite's VFS, by kinds, and those that the library makes itself.  The
 * quick form takes some of the points only; BGMQ_SEED=N takes point N of each kind. */
#include "tour.h"

#include "../harness/shim_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { MOST = 20000 };

struct plan {
    const char *name;
    unsigned calls;
    enum shim_kind kind;
    int errno_;
};

static const struct plan plans[] = {
    {"EIO read", SHIM_READ, SHIM_IOERR, 0},
    {"EIO write", SHIM_WRITE, SHIM_IOERR, 0},
    {"EIO sync", SHIM_SYNC, SHIM_IOERR, 0},
    {"EIO truncate", SHIM_TRUNCATE, SHIM_IOERR, 0},
    {"EIO open", SHIM_OPEN, SHIM_IOERR, 0},
    {"EIO delete", SHIM_DELETE, SHIM_IOERR, 0},
    {"EIO fstat", SHIM_SIZE, SHIM_IOERR, 0},
    {"EIO lock", SHIM_LOCK, SHIM_IOERR, 0},
    {"EIO shmmap", SHIM_SHM, SHIM_IOERR, 0},
    {"EIO shmlock", SHIM_SHMLOCK, SHIM_IOERR, 0},
    {"ENOSPC write", SHIM_WRITE, SHIM_FULL, 0},
    {"EDQUOT write", SHIM_WRITE, SHIM_NOSPACE, EDQUOT},
    {"short read", SHIM_READ, SHIM_SHORT, 0},
};
enum { PLANS = sizeof(plans) / sizeof(*plans) };

/* The points that one run takes: all in full; else a few, ever further apart. */
static long first_point(int persistent)
{
    long seed = (long)harness_seed(0);
    return seed ? seed : harness_full() ? 1 : persistent ? 4 : 2;
}

/* 0: none. */
static long next_point(long n)
{
    int apart = HARNESS_TSAN ? 40 : harness_scale() > 1 ? 15 : 5;
    return harness_seed(0) ? 0 : harness_full() ? n + 1 : n * apart;
}

static void go(struct tour *t, const char *name, long n)
{
    char what[160];
    snprintf(what, sizeof(what), "%s %ld%s (replay: ./tests/faults/run ioerr --seed %ld)",
             name, n, t->persistent ? " for good" : "", n);
    if (getenv("HARNESS_LOG"))
        fprintf(stderr, "-- %s\n", what);
    tour_judge(t, what);
}

/* A disk that is full for good has room again after a while: some calls have half a minute of
 * patience with it. */
static long times_of(const struct plan *p, int persistent)
{
    enum { LONG = 7 };
    return !persistent ? 1 : p->kind == SHIM_FULL || p->kind == SHIM_NOSPACE ? LONG : 0;
}

/* One tour; true when the fault was met. */
static int meet(const struct plan *p, long n, int persistent)
{
    static struct tour t;
    t = (struct tour){.persistent = persistent};
    tour_clean();
    shim_vfs_arm(&(struct shim_fault){.calls = p->calls,
                                      .files = SHIM_ANY,
                                      .kind = p->kind,
                                      .nth = n,
                                      .times = times_of(p, persistent),
                                      .errno_ = p->errno_});
    tour_run(&t);
    int met = shim_vfs_fired() > 0;
    shim_vfs_disarm();
    go(&t, p->name, n);
    return met;
}

static void each_point(const struct plan *p, int persistent)
{
    long n = first_point(persistent), done = 0;
    for (; n && n < MOST && meet(p, n, persistent); n = next_point(n))
        done++;
    ck_assert_int_lt(n, MOST);
    harness_figure("points", done);
}

/* _i: the plan; those from PLANS on for good. */
START_TEST(works_after_a_call_of_the_file_system_has_failed)
{
    shim_vfs_install();
    shim_vfs_unsynced(1);
    each_point(&plans[_i % PLANS], _i / PLANS);
    if (_i < PLANS)
        harness_figure("kinds", 1);
    shim_vfs_remove();
}
END_TEST

/* ---- calls of the library's own: the linker puts these in their place ------------------- */

static _Atomic long own_at, own_errno;
static _Atomic int own_persistent;
static _Atomic long own_calls;

static int own_fails(void)
{
    long n = ++own_calls;
    if (!own_at || n < own_at || (n > own_at && !own_persistent))
        return 0;
    errno = (int)own_errno;
    return 1;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return own_fails() ? -1 : __real_open64(path, flags, mode);
}

int __real_fcntl64(int fd, int what, void *arg);
int __wrap_fcntl64(int fd, int what, void *arg);
int __wrap_fcntl64(int fd, int what, void *arg)
{
    return own_fails() ? -1 : __real_fcntl64(fd, what, arg);
}

int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st)
{
    return own_fails() ? -1 : __real_fstat64(fd, st);
}

int __real_lstat64(const char *path, struct stat *st);
int __wrap_lstat64(const char *path, struct stat *st);
int __wrap_lstat64(const char *path, struct stat *st)
{
    return own_fails() ? -1 : __real_lstat64(path, st);
}

int __real_stat64(const char *path, struct stat *st);
int __wrap_stat64(const char *path, struct stat *st);
int __wrap_stat64(const char *path, struct stat *st)
{
    return own_fails() ? -1 : __real_stat64(path, st);
}

int __real_posix_fallocate64(int fd, off_t at, off_t n);
int __wrap_posix_fallocate64(int fd, off_t at, off_t n);
int __wrap_posix_fallocate64(int fd, off_t at, off_t n)
{
    return own_fails() ? errno : __real_posix_fallocate64(fd, at, n);
}

void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t from)
{
    bool is_file = fd != -1; /* test_oom.c refuses memory */
    return is_file && own_fails() ? MAP_FAILED
                                  : __real_mmap64(at, n, prot, flags, fd, from);
}

int __real_statx(int fd, const char *path, int flags, unsigned mask, struct statx *st);
int __wrap_statx(int fd, const char *path, int flags, unsigned mask, struct statx *st);
int __wrap_statx(int fd, const char *path, int flags, unsigned mask, struct statx *st)
{
    return own_fails() ? -1 : __real_statx(fd, path, flags, mask, st);
}

int __real_faccessat(int fd, const char *path, int what, int flags);
int __wrap_faccessat(int fd, const char *path, int what, int flags);
int __wrap_faccessat(int fd, const char *path, int what, int flags)
{
    return own_fails() ? -1 : __real_faccessat(fd, path, what, flags);
}

char *__real_realpath(const char *path, char *ret);
char *__wrap_realpath(const char *path, char *ret);
char *__wrap_realpath(const char *path, char *ret)
{
    return own_fails() ? NULL : __real_realpath(path, ret);
}

static int meet_own(long n, int err, int persistent)
{
    static struct tour t;
    t = (struct tour){.persistent = persistent};
    tour_clean();
    own_at = n;
    own_errno = err;
    own_persistent = persistent;
    own_calls = 0;
    tour_run(&t);
    int met = own_calls >= n;
    own_at = 0;
    go(&t, err == EIO ? "EIO of our own" : "ENOSPC of our own", n);
    return met;
}

/* _i: whether for good, and with which error. */
START_TEST(works_after_a_call_of_its_own_has_failed)
{
    long n = first_point(_i % 2), done = 0;
    shim_vfs_install();
    shim_vfs_unsynced(1);
    for (; n && n < MOST && meet_own(n, _i / 2 ? ENOSPC : EIO, _i % 2); n = next_point(n))
        done++;
    ck_assert_int_lt(n, MOST);
    harness_figure("points", done);
    shim_vfs_remove();
}
END_TEST

/* ---- interruptions ------------------------------------------------------------------------ */

/* Each read and write is interrupted, and then does half of what was asked: nobody notices. */
START_TEST(interrupted_calls_are_nothing)
{
    static struct tour t;
    shim_vfs_interrupt(1 + 3 * (unsigned)_i);
    t = (struct tour){.patient = 1};
    tour_clean();
    tour_run(&t);
    ck_assert_msg(!t.hurt, "%s is refused", t.where);
    ck_assert_int_eq(t.failed, 0);
    go(&t, "EINTR", 1 + 3 * _i);
    shim_vfs_interrupt(0);
    ck_assert_int_gt(shim_vfs_interrupted(), 100);
    harness_figure("interrupted", shim_vfs_interrupted());
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ioerr");
    TCase *tc = harness_case(s, "vfs");
    tcase_set_timeout(tc, harness_full() ? 3000 : 100);
    tcase_add_loop_test(tc, works_after_a_call_of_the_file_system_has_failed, 0,
                        2 * PLANS);
    tc = harness_case(s, "own");
    tcase_set_timeout(tc, harness_full() ? 3000 : 100);
    tcase_add_loop_test(tc, works_after_a_call_of_its_own_has_failed, 0, 4);
    tc = harness_case(s, "interrupted");
    tcase_add_loop_test(tc, interrupted_calls_are_nothing, 0, 2);
    return s;
}

int main(void)
{
    harness_needs_no_disk();
    return harness_run(suite());
}
