/* test_room.c - T18: no room: files that may not grow, a disk that is full, a quota that is used
 * up.  Publishers are refused, what runs ends and its end is kept, and all goes on by itself when
 * there is room again.
 *
 * Each test is a process of its own, so that limits end with it. */
#include "limits.h"

#include "../harness/shim_vfs.h"

#include <bgmq_sqlite.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic int signals;

static void note_signal(int signal)
{
    (void)signal;
    signals++;
}

/* P12.  A file may not grow: writes fail, and the signal that comes with it reaches nobody. */
START_TEST(files_that_may_not_grow)
{
    static const int known[] = {BGMQ_EOPEN, BGMQ_ESTORE};
    limits_begin();
    signal(SIGXFSZ, note_signal);
    signal(SIGPIPE, note_signal);
    limits_raise(RLIMIT_FSIZE, 0, 32 << 10, known, 2);
    ck_assert_int_eq(signals, 0);
}
END_TEST

/* Publishes until it is refused; returns how many were accepted. */
static int fill(struct bgmq *mq)
{
    int n = 0, err;
    while ((err = limits_publish(mq)) == 0)
        ck_assert_int_lt(++n, 100000);
    ck_assert_int_eq(err, BGMQ_EFULL);
    return n;
}

/* A service whose LIMITS_THREADS handlers run, and are held by GATE. */
static struct bgmq *held_service(struct gate *gate)
{
    struct bgmq *mq = NULL;
    gate_init(gate);
    ck_assert_int_eq(limits_open(&mq), 0);
    ck_assert_int_eq(limits_register(mq, gate), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    for (int i = 0; i < LIMITS_THREADS; i++)
        WAIT_UNTIL(limits_publish(mq) == 0);
    WAIT_UNTIL(bgmq_running(mq) == LIMITS_THREADS);
    return mq;
}

/* What ran when the room ended ends, and its end is kept; then there is room again. */
static void expect_recovers(struct bgmq *mq, struct gate *gate, int accepted,
                            void (*give_room)(void))
{
    struct bgmq_counters c;
    gate_open(gate);
    WAIT_UNTIL(limits_runs >= LIMITS_THREADS);
    ck_assert_int_eq(limits_publish(mq), BGMQ_EFULL);
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    ck_assert_int_eq(c.store_state, 2);
    give_room();
    WAIT_UNTIL(limits_runs == accepted && limits_idle(mq));
    limits_expect_works(mq);
    limits_close(mq);
    ck_assert_int_eq(limits_open(&mq), 0);
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    ck_assert_uint_eq(c.replayed, 0); /* the ends were not lost */
    limits_close(mq);
    gate_fini(gate);
}

static void lift_file_limit(void)
{
    limits_set(RLIMIT_FSIZE, RLIM_INFINITY);
}

/* P12, S13. */
START_TEST(files_that_may_not_grow_while_it_runs)
{
    struct gate gate;
    struct stat st;
    char log[650];
    limits_begin();
    signal(SIGXFSZ, note_signal);
    struct bgmq *mq = held_service(&gate);
    snprintf(log, sizeof(log), "%s-wal", limits_database);
    ck_assert_int_eq(stat(log, &st), 0);
    limits_set(RLIMIT_FSIZE, (rlim_t)st.st_size + (64 << 10));
    int accepted = LIMITS_THREADS + fill(mq);
    expect_recovers(mq, &gate, accepted, lift_file_limit);
    ck_assert_int_eq(signals, 0);
}
END_TEST

/* P12.  A guest writes on the host's own thread. */
START_TEST(files_that_may_not_grow_for_a_guest)
{
    struct bgmq *mq = NULL;
    struct bgmq_guest *guest = NULL;
    struct stat st;
    char log[650], body[4000] = "";
    int err = 0, accepted = 0;
    limits_begin();
    signal(SIGXFSZ, note_signal);
    struct bgmq_options options = {
        .database = limits_database, .guests = 1, .log = limits_ignore_log};
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(limits_register(mq, NULL), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_guest_open(&guest, limits_database, NULL), 0);
    snprintf(log, sizeof(log), "%s-wal", limits_database);
    ck_assert_int_eq(stat(log, &st), 0);
    limits_set(RLIMIT_FSIZE, (rlim_t)st.st_size + (64 << 10));
    for (; err == 0 && accepted < 1000; accepted += err == 0)
        err = bgmq_guest_publish(guest, "T", body, sizeof(body), NULL, NULL);
    ck_assert_int_eq(err, BGMQ_EFULL);
    ck_assert_int_eq(signals, 0);
    lift_file_limit();
    WAIT_UNTIL(bgmq_guest_publish(guest, "T", body, sizeof(body), NULL, NULL) == 0);
    WAIT_UNTIL(limits_runs == accepted + 1);
    bgmq_guest_close(guest);
    limits_close(mq);
}
END_TEST

static char copy[650];

/* A copy has failed for want of room, with words, and nothing is left of it. */
static void expect_no_copy(int err, const struct bgmq_error *error)
{
    char journal[670];
    snprintf(journal, sizeof(journal), "%s-journal", copy);
    ck_assert_msg(err == BGMQ_EFULL, "%s: %s", bgmq_errname(err), error->text);
    ck_assert_ptr_nonnull(strstr(error->text, copy));
    ck_assert_int_ne(access(copy, F_OK), 0);
    ck_assert_int_ne(access(journal, F_OK), 0);
}

/* A service with something to copy. */
static struct bgmq *service_to_copy(void)
{
    struct bgmq *mq = NULL;
    limits_begin();
    ck_assert_int_eq(limits_open(&mq), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(limits_publish(mq), 0);
    snprintf(copy, sizeof(copy), "%s.copy", limits_database);
    return mq;
}

/* P12.  A copy is written on the host's own thread.  _i: where in it the limit is met. */
START_TEST(files_that_may_not_grow_for_a_copy)
{
    struct bgmq_error error = {.text = ""};
    struct bgmq *mq = service_to_copy();
    signal(SIGXFSZ, note_signal);
    limits_set(RLIMIT_FSIZE, (rlim_t)((1 + _i) * 25000));
    int err = bgmq_backup(mq, copy, &error);
    lift_file_limit();
    ck_assert_int_eq(signals, 0);
    expect_no_copy(err, &error);
    ck_assert_int_eq(bgmq_backup(mq, copy, NULL), 0);
    limits_close(mq);
}
END_TEST

/* _i: the quota ends at this write of the copy, and its journal's. */
START_TEST(quota_that_is_used_up_by_a_copy)
{
    struct bgmq_error error = {.text = ""};
    shim_vfs_install();
    struct bgmq *mq = service_to_copy();
    ck_assert_int_eq(bgmq_flush(mq), 0);
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_WRITE,
                                      .files = SHIM_DB | SHIM_JOURNAL,
                                      .kind = SHIM_NOSPACE,
                                      .nth = 1 + _i,
                                      .errno_ = EDQUOT});
    int err = bgmq_backup(mq, copy, &error);
    shim_vfs_disarm();
    expect_no_copy(err, &error);
    ck_assert_int_eq(bgmq_backup(mq, copy, NULL), 0);
    limits_close(mq);
    shim_vfs_remove();
}
END_TEST

static char ballast[650];

static void drop_ballast(void)
{
    ck_assert_int_eq(unlink(ballast), 0);
}

/* Takes what room is left on the disk of the ballast, but LEAVE bytes. */
static void take_room(off_t leave)
{
    static const char block[4096] = "";
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t size = 0;
    ck_assert_int_ge(fd, 0);
    while (write(fd, block, sizeof(block)) == (ssize_t)sizeof(block))
        size += (off_t)sizeof(block);
    ck_assert_int_eq(errno, ENOSPC);
    if (leave)
        ck_assert_int_eq(ftruncate(fd, size > leave ? size - leave : 0), 0);
    close(fd);
}

/* A disk of our own, of 1 MiB; false where that is not allowed. */
static int mount_small_disk(const char *at)
{
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return 0;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mkdir(at, 0700) != 0 ||
        mount("none", at, "tmpfs", 0, "size=1m,mode=700") != 0)
        return 0;
    return 1;
}

/* S13, S14. */
START_TEST(disk_that_fills_and_empties)
{
    struct gate gate;
    struct bgmq *mq = NULL;
    limits_begin();
    const char *at = harness_path("small");
    if (!mount_small_disk(at))
        HARNESS_SKIP("mounting is not allowed here");
    snprintf(limits_database, sizeof(limits_database), "%s/exhaust.db", at);
    snprintf(ballast, sizeof(ballast), "%s/ballast", at);
    take_room(0);
    for (off_t room = 0; room < 640 << 10; room += 64 << 10) {
        int err = limits_open(&mq); /* with so much, it is not to be had */
        if (err == 0) {
            limits_close(mq);
            break;
        }
        ck_assert_msg(err == BGMQ_EOPEN || err == BGMQ_ESTORE, "%s", bgmq_errname(err));
        drop_ballast();
        take_room(room);
    }
    drop_ballast();
    mq = held_service(&gate);
    take_room(32 << 10);
    int accepted = LIMITS_THREADS + fill(mq);
    expect_recovers(mq, &gate, accepted, drop_ballast);
    umount2(at, MNT_DETACH);
}
END_TEST

/* A quota that is used up is a write that fails with EDQUOT. */
START_TEST(quota_that_is_used_up)
{
    struct gate gate;
    limits_begin();
    shim_vfs_install();
    struct bgmq *mq = held_service(&gate);
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_WRITE,
                                      .files = SHIM_ANY,
                                      .kind = SHIM_NOSPACE,
                                      .nth = 1,
                                      .errno_ = EDQUOT});
    int accepted = LIMITS_THREADS + fill(mq);
    expect_recovers(mq, &gate, accepted, shim_vfs_disarm);
    shim_vfs_remove();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("room");
    TCase *tc = harness_case(s, "room");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, files_that_may_not_grow);
    tcase_add_test(tc, files_that_may_not_grow_while_it_runs);
    tcase_add_test(tc, files_that_may_not_grow_for_a_guest);
    tcase_add_loop_test(tc, files_that_may_not_grow_for_a_copy, 0, 4);
    tcase_add_loop_test(tc, quota_that_is_used_up_by_a_copy, 0, 4);
    tcase_add_test(tc, disk_that_fills_and_empties);
    tcase_add_test(tc, quota_that_is_used_up);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
