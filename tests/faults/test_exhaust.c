/* test_exhaust.c - T18: too few threads, too little memory, no descriptors, no room: each limit is
 * lowered until a start fails, then raised, and set again while the service runs.  What is refused
 * is refused cleanly, and all works again without a restart.
 *
 * Each test is a process of its own, so that limits end with it. */
#include "../harness/harness.h"

#include "../harness/shim_vfs.h"

#include <bgmq_sqlite.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS = 4 };

static char database[600];
static _Atomic int runs;
static _Atomic int signals;

static int count_run(struct bgmq_job *job, void *ctx)
{
    (void)job;
    if (ctx)
        gate_wait((struct gate *)ctx);
    runs++;
    return BGMQ_DONE;
}

static void ignore_log(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

static struct bgmq_error error;

/* Asserts nothing: Check writes down where it is, and would meet the limit. */
static int try_open(struct bgmq **ret)
{
    struct bgmq_options options = {.database = database,
                                   .publish_timeout_ms = 100 * harness_scale(),
                                   .log = ignore_log};
    return bgmq_open(ret, &options, &error);
}

static int register_type(struct bgmq *mq, void *gate)
{
    return bgmq_register(mq, "T", count_run, gate,
                         &(struct bgmq_type_options){.threads = THREADS});
}

static int publish(struct bgmq *mq)
{
    char body[1000] = "x";
    return bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL);
}

static void close_service(struct bgmq *mq)
{
    ck_assert_int_eq(bgmq_close(mq), 0);
    bgmq_free(mq);
}

static int is_idle(struct bgmq *mq)
{
    struct bgmq_collection c;
    struct bgmq_counters all;
    ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
    ck_assert_int_eq(bgmq_service_counters(mq, &all), 0);
    return c.inq + c.running + all.journal_waiting == 0;
}

/* Publishes, runs and ends a message. */
static void expect_works(struct bgmq *mq)
{
    int before;
    WAIT_UNTIL(is_idle(mq));
    before = runs;
    WAIT_UNTIL(publish(mq) == 0);
    WAIT_UNTIL(runs == before + 1 && is_idle(mq));
}

static void set_limit(int what, rlim_t n)
{
    struct rlimit r = {.rlim_cur = 0};
    int err = getrlimit(what, &r);
    r.rlim_cur = n < r.rlim_max ? n : r.rlim_max;
    if (err == 0)
        err = setrlimit(what, &r);
    ck_assert_int_eq(err, 0);
}

static void begin(void)
{
    snprintf(database, sizeof(database), "%s", harness_path("exhaust.db"));
}

/* Opens, registers and starts; asserts nothing, either. */
static int start_service(struct bgmq **ret)
{
    struct bgmq *mq = NULL;
    int err = try_open(&mq);
    if (err)
        return err;
    err = register_type(mq, NULL);
    if (!err)
        err = bgmq_start(mq);
    if (err) {
        snprintf(error.text, sizeof(error.text), "it opened");
        bgmq_close(mq);
        bgmq_free(mq);
    } else {
        *ret = mq;
    }
    return err;
}

static struct bgmq *started_service(void)
{
    struct bgmq *mq = NULL;
    int err = start_service(&mq);
    ck_assert_msg(err == 0, "%s: %s", bgmq_errname(err), error.text);
    return mq;
}

/* ERR is one of KNOWN, and came with words. */
static void expect_known(int err, const int *known, size_t n)
{
    while (n > 0 && known[n - 1] != err)
        n--;
    ck_assert_msg(n > 0, "%s: %s", bgmq_errname(err), error.text);
    ck_assert_msg(error.text[0], "%s without words", bgmq_errname(err));
}

/* WHAT goes up from FROM in steps of BY until a start succeeds; each failure is one of KNOWN. */
static void raise_until_it_starts(int what, rlim_t from, rlim_t by, const int *known,
                                  size_t n)
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
        err = start_service(&mq);
        setrlimit(what, &was);
        if (err == 0)
            break;
        expect_known(err, known, n);
        failures++;
        harness_leaks_end(&leaks);
    }
    ck_assert_int_gt(failures, 0);
    expect_works(mq);
    close_service(mq);
    harness_figure("refused", failures);
}

/* ---- threads ------------------------------------------------------------------------------ */

static _Atomic int creations, creation_fails; /* the n-th from now on; 0: none */

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    if (++creations == creation_fails)
        return EAGAIN;
    return __real_pthread_create(ret, attr, fn, arg);
}

/* P4. */
START_TEST(thread_that_cannot_be_made_leaves_none_and_the_next_start_works)
{
    static const int known[] = {BGMQ_ETHREAD};
    begin();
    int err = 1, k = 0;
    struct harness_leaks leaks;
    harness_leaks_begin(&leaks);
    while (err != 0) {
        struct bgmq *mq = NULL;
        creations = 0;
        creation_fails = ++k;
        ck_assert_int_lt(k, 100);
        err = start_service(&mq);
        creation_fails = 0;
        if (err == 0) {
            close_service(mq);
        } else {
            expect_known(err, known, 1);
            harness_leaks_end(&leaks);
        }
        mq = started_service(); /* and now they can be made */
        expect_works(mq);
        close_service(mq);
    }
    ck_assert_int_gt(k, THREADS);
    harness_figure("refused", k - 1);
}
END_TEST

START_TEST(set_threads_is_all_or_none)
{
    struct bgmq_collection c;
    begin();
    struct bgmq *mq = started_service();
    for (int k = 1; k <= 3; k++) {
        int threads = harness_count_threads();
        creations = 0;
        creation_fails = k;
        ck_assert_int_eq(bgmq_set_threads(mq, "T", THREADS + 3), BGMQ_ETHREAD);
        creation_fails = 0;
        ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
        ck_assert_uint_eq(c.threads, THREADS);
        WAIT_UNTIL(harness_count_threads() == threads);
    }
    ck_assert_int_eq(bgmq_set_threads(mq, "T", THREADS + 3), 0);
    expect_works(mq);
    close_service(mq);
}
END_TEST

/* The folder that PATH is in may be passed by everybody. */
static void open_way(const char *path)
{
    char folder[600];
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = '\0';
    if (strstr(folder, "bgmq-test"))
        ck_assert_int_eq(chmod(folder, 0711), 0);
}

START_TEST(too_few_processes_for_the_user)
{
    static const int known[] = {BGMQ_ETHREAD};
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the checker has threads of its own");
    if (geteuid() != 0)
        HARNESS_SKIP("needs a user of its own, which only root can become");
    begin();
    uid_t nobody = 100000 + (uid_t)getpid() % 100000;
    ck_assert_int_eq(chown(harness_tmpdir(), nobody, nobody), 0);
    ck_assert_int_eq(setresgid(nobody, nobody, nobody), 0);
    open_way(harness_tmpdir());
    if (setresuid(nobody, nobody, nobody) != 0 || access(harness_tmpdir(), W_OK) != 0)
        HARNESS_SKIP("no other user may write here");
    raise_until_it_starts(RLIMIT_NPROC, 1, 1, known, 1);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------- */

static long address_space(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

START_TEST(too_little_address_space)
{
    static const int known[] = {BGMQ_ENOMEM, BGMQ_ETHREAD, BGMQ_EOPEN};
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the checker needs all of it");
    begin();
    raise_until_it_starts(RLIMIT_AS, (rlim_t)address_space(),
                          harness_full() ? 64 << 10 : 512 << 10, known, 3);
}
END_TEST

START_TEST(too_little_address_space_while_it_runs)
{
    struct bgmq *mq = NULL;
    if (HARNESS_ASAN || HARNESS_TSAN)
        HARNESS_SKIP("the checker needs all of it");
    begin();
    mq = started_service();
    set_limit(RLIMIT_AS, (rlim_t)address_space());
    size_t size = 1 << 20;
    char *body = calloc(1, size), *held[64];
    int n = 0, err = 0, accepted = 0;
    if (body)
        while (n < 64 && (held[n] = malloc(128 << 10)) != NULL)
            n++;
    for (int i = 0; body && i < 100 && err == 0; i++) {
        err = bgmq_publish(mq, "T", body, size, NULL, NULL);
        accepted += err == 0;
    }
    ck_assert_msg(!body || err == 0 || err == BGMQ_ENOMEM || err == BGMQ_EFULL, "%s",
                  bgmq_errname(err));
    while (n > 0)
        free(held[--n]);
    free(body);
    set_limit(RLIMIT_AS, RLIM_INFINITY);
    WAIT_UNTIL(runs >= accepted);
    expect_works(mq);
    close_service(mq);
}
END_TEST

/* A thread's stack is of the size that was asked for, whatever the shell says. */
START_TEST(small_stack)
{
    struct bgmq *mq = NULL;
    begin();
    set_limit(RLIMIT_STACK, 256 << 10);
    mq = started_service();
    expect_works(mq);
    close_service(mq);
}
END_TEST

/* ---- descriptors --------------------------------------------------------------------------- */

START_TEST(too_few_descriptors)
{
    static const int known[] = {BGMQ_EOPEN};
    if (HARNESS_TSAN)
        HARNESS_SKIP("the checker opens files where it reports threads");
    begin();
    raise_until_it_starts(RLIMIT_NOFILE, 3, 1, known, 1);
}
END_TEST

/* P6: the store has its own, and needs no more. */
START_TEST(descriptors_stolen_while_it_runs)
{
    enum { LIMIT = 64 };
    struct bgmq *mq = NULL;
    int stolen[LIMIT], n = 0;
    begin();
    mq = started_service();
    set_limit(RLIMIT_NOFILE, LIMIT);
    while (n < LIMIT && (stolen[n] = dup(STDERR_FILENO)) >= 0)
        n++;
    ck_assert_int_gt(n, 3);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(publish(mq), 0);
    WAIT_UNTIL(runs == 20 && is_idle(mq));
    ck_assert_int_eq(bgmq_flush(mq), 0);
    close_service(mq); /* also without */
    ck_assert_int_eq(start_service(&mq), BGMQ_EOPEN);
    while (n > 0)
        close(stolen[--n]);
    mq = started_service();
    expect_works(mq);
    close_service(mq);
}
END_TEST

/* ---- room ----------------------------------------------------------------------------------- */

static void note_signal(int signal)
{
    (void)signal;
    signals++;
}

/* P12.  A file may not grow: writes fail, and the signal that comes with it reaches nobody. */
START_TEST(files_that_may_not_grow)
{
    static const int known[] = {BGMQ_EOPEN, BGMQ_ESTORE};
    begin();
    signal(SIGXFSZ, note_signal);
    signal(SIGPIPE, note_signal);
    raise_until_it_starts(RLIMIT_FSIZE, 0, 32 << 10, known, 2);
    ck_assert_int_eq(signals, 0);
}
END_TEST

/* Publishes until it is refused; returns how many were accepted. */
static int fill(struct bgmq *mq)
{
    int n = 0, err;
    while ((err = publish(mq)) == 0)
        ck_assert_int_lt(++n, 100000);
    ck_assert_int_eq(err, BGMQ_EFULL);
    return n;
}

/* A service whose THREADS handlers run, and are held by GATE. */
static struct bgmq *held_service(struct gate *gate)
{
    struct bgmq *mq = NULL;
    gate_init(gate);
    ck_assert_int_eq(try_open(&mq), 0);
    ck_assert_int_eq(register_type(mq, gate), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    for (int i = 0; i < THREADS; i++)
        WAIT_UNTIL(publish(mq) == 0);
    WAIT_UNTIL(bgmq_running(mq) == THREADS);
    return mq;
}

/* What ran when the room ended ends, and its end is kept; then there is room again. */
static void expect_recovers(struct bgmq *mq, struct gate *gate, int accepted,
                            void (*give_room)(void))
{
    struct bgmq_counters c;
    gate_open(gate);
    WAIT_UNTIL(runs >= THREADS);
    ck_assert_int_eq(publish(mq), BGMQ_EFULL);
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    ck_assert_int_eq(c.store_state, 2);
    give_room();
    WAIT_UNTIL(runs == accepted && is_idle(mq));
    expect_works(mq);
    close_service(mq);
    ck_assert_int_eq(try_open(&mq), 0);
    ck_assert_int_eq(bgmq_service_counters(mq, &c), 0);
    ck_assert_uint_eq(c.replayed, 0); /* the ends were not lost */
    close_service(mq);
    gate_fini(gate);
}

static void lift_file_limit(void)
{
    set_limit(RLIMIT_FSIZE, RLIM_INFINITY);
}

/* P12, S13. */
START_TEST(files_that_may_not_grow_while_it_runs)
{
    struct gate gate;
    struct stat st;
    char log[650];
    begin();
    signal(SIGXFSZ, note_signal);
    struct bgmq *mq = held_service(&gate);
    snprintf(log, sizeof(log), "%s-wal", database);
    ck_assert_int_eq(stat(log, &st), 0);
    set_limit(RLIMIT_FSIZE, (rlim_t)st.st_size + (64 << 10));
    int accepted = THREADS + fill(mq);
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
    begin();
    signal(SIGXFSZ, note_signal);
    struct bgmq_options options = {.database = database, .guests = 1, .log = ignore_log};
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(register_type(mq, NULL), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_guest_open(&guest, database, NULL), 0);
    snprintf(log, sizeof(log), "%s-wal", database);
    ck_assert_int_eq(stat(log, &st), 0);
    set_limit(RLIMIT_FSIZE, (rlim_t)st.st_size + (64 << 10));
    for (; err == 0 && accepted < 1000; accepted += err == 0)
        err = bgmq_guest_publish(guest, "T", body, sizeof(body), NULL, NULL);
    ck_assert_int_eq(err, BGMQ_EFULL);
    ck_assert_int_eq(signals, 0);
    lift_file_limit();
    WAIT_UNTIL(bgmq_guest_publish(guest, "T", body, sizeof(body), NULL, NULL) == 0);
    WAIT_UNTIL(runs == accepted + 1);
    bgmq_guest_close(guest);
    close_service(mq);
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
    begin();
    const char *at = harness_path("small");
    if (!mount_small_disk(at))
        HARNESS_SKIP("mounting is not allowed here");
    snprintf(database, sizeof(database), "%s/exhaust.db", at);
    snprintf(ballast, sizeof(ballast), "%s/ballast", at);
    take_room(0);
    for (off_t room = 0; room < 640 << 10; room += 64 << 10) {
        int err = try_open(&mq); /* with so much, it is not to be had */
        if (err == 0) {
            close_service(mq);
            break;
        }
        ck_assert_msg(err == BGMQ_EOPEN || err == BGMQ_ESTORE, "%s", bgmq_errname(err));
        drop_ballast();
        take_room(room);
    }
    drop_ballast();
    mq = held_service(&gate);
    take_room(32 << 10);
    int accepted = THREADS + fill(mq);
    expect_recovers(mq, &gate, accepted, drop_ballast);
    umount2(at, MNT_DETACH);
}
END_TEST

/* A quota that is used up is a write that fails with EDQUOT. */
START_TEST(quota_that_is_used_up)
{
    struct gate gate;
    begin();
    shim_vfs_install();
    struct bgmq *mq = held_service(&gate);
    shim_vfs_arm(&(struct shim_fault){.calls = SHIM_WRITE,
                                      .files = SHIM_ANY,
                                      .kind = SHIM_NOSPACE,
                                      .nth = 1,
                                      .errno_ = EDQUOT});
    int accepted = THREADS + fill(mq);
    expect_recovers(mq, &gate, accepted, shim_vfs_disarm);
    shim_vfs_remove();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("exhaust");
    TCase *tc = harness_case(s, "threads");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, thread_that_cannot_be_made_leaves_none_and_the_next_start_works);
    tcase_add_test(tc, set_threads_is_all_or_none);
    tcase_add_test(tc, too_few_processes_for_the_user);
    tc = harness_case(s, "memory");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, too_little_address_space);
    tcase_add_test(tc, too_little_address_space_while_it_runs);
    tcase_add_test(tc, small_stack);
    tc = harness_case(s, "descriptors");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, too_few_descriptors);
    tcase_add_test(tc, descriptors_stolen_while_it_runs);
    tc = harness_case(s, "room");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, files_that_may_not_grow);
    tcase_add_test(tc, files_that_may_not_grow_while_it_runs);
    tcase_add_test(tc, files_that_may_not_grow_for_a_guest);
    tcase_add_test(tc, disk_that_fills_and_empties);
    tcase_add_test(tc, quota_that_is_used_up);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
