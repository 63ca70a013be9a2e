/* harness.c - the main of every test program: runs the suite, keeps its temporary files,
 * and counts what a test leaves behind.  Called by tests, on their main thread, except
 * where harness.h says any thread.  Must never make a failed test look like a passed
 * one. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char base[512];   /* holds the directories of all tests of this program */
static char tmpdir[640]; /* of the test that runs; "" until asked for */
static struct harness_leaks before;

/* The paths lent by harness_path(), kept reachable so that no checker calls them lost. */
struct path {
    struct path *next;
    char text[];
};
static struct path *paths;

/* ---- running ---------------------------------------------------------------------- */

unsigned harness_scale(void)
{
    const char *text = getenv("CK_TIMEOUT_MULTIPLIER");
    double scale = text ? strtod(text, NULL) : 1;
    return scale > 1 && scale < 1000 ? (unsigned)scale : 1;
}

int harness_full(void)
{
    const char *text = getenv("BGMQ_FULL");
    return text && *text && strcmp(text, "0") != 0;
}

uint64_t harness_seed(uint64_t otherwise)
{
    const char *text = getenv("BGMQ_SEED");
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* One write, so that the line stays whole beside what the runner prints. */
__attribute__((format(printf, 1, 2))) static void print_line(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n >= (int)sizeof line)
        n = (int)sizeof line - 1;
    ck_assert_int_eq(write(STDOUT_FILENO, line, (size_t)n), n);
}

void harness_figure(const char *name, long long value)
{
    print_line("# figure: %s %lld\n", name, value);
}

long harness_step(void)
{
    return harness_scale() > 1 ? 3 : 1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void harness_needs_no_disk(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
}

static void make_base(void)
{
    const char *parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = "/tmp";
    snprintf(base, sizeof base, "%s/bgmq-test-XXXXXX", parent);
    if (!mkdtemp(base)) {
        fprintf(stderr, "%s: %s\n", base, strerror(errno));
        exit(2);
    }
}

int harness_run(Suite *suite)
{
    /* Check's own 4 s are too short for a machine that builds at the same time. */
    make_base();
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, getenv("CK_TAP_LOG_FILE_NAME") ? CK_SILENT : CK_ENV);
    int failed = srunner_ntests_failed(runner);
    int run = srunner_ntests_run(runner);
    srunner_free(runner);
    nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    while (paths) {
        struct path *next = paths->next;
        free(paths);
        paths = next;
    }
    if (!run)
        fprintf(stderr, "no test was run\n");
    return failed || !run ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void *nothing(void *arg)
{
    return arg;
}

static void case_setup(void)
{
    tmpdir[0] = '\0';
    /* ThreadSanitizer starts a thread of its own beside the first of ours. */
    harness_join(harness_thread(nothing, NULL));
    harness_leaks_begin(&before);
}

static void case_teardown(void)
{
    harness_leaks_end(&before);
}

TCase *harness_case(Suite *suite, const char *name)
{
    setenv("CK_DEFAULT_TIMEOUT", "30", 0); /* read when a case is made */
    TCase *tc = tcase_create(name);
    tcase_add_checked_fixture(tc, case_setup, case_teardown);
    suite_add_tcase(suite, tc);
    return tc;
}

void harness_skipped(const char *function, const char *reason)
{
    /* Check names a test's function with "_fn" behind. */
    size_t len = strlen(function);
    if (len > 3 && strcmp(function + len - 3, "_fn") == 0)
        len -= 3;
    print_line("# skipped: %.*s: %s\n", (int)len, function, reason);
}

/* ---- leaks ------------------------------------------------------------------------ */

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    int n = 0;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

int harness_count_fds(void)
{
    return count_entries("/proc/self/fd") - 1; /* the directory's own */
}

int harness_count_threads(void)
{
    return count_entries("/proc/self/task");
}

long harness_resident_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%*s %ld", &pages), 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

void harness_leaks_begin(struct harness_leaks *l)
{
    l->fds = harness_count_fds();
    l->threads = harness_count_threads();
}

/* Writes what each open descriptor is to stderr, to show which one was left. */
static void show_fds(void)
{
    for (int fd = 0; fd < 256; fd++) {
        char link[64], target[256];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n > 0)
            fprintf(stderr, "# fd %d: %.*s\n", fd, (int)n, target);
    }
}

void harness_leaks_check(const struct harness_leaks *l, const char *file, int line)
{
    /* A thread is listed for a moment after it was joined. */
    int64_t deadline = harness_deadline();
    while (harness_count_threads() > l->threads && harness_now() < deadline)
        poll(NULL, 0, 1);
    int threads = harness_count_threads();
    if (threads > l->threads)
        _ck_assert_failed(file, line, "threads", "%d threads left, were %d", threads,
                          l->threads);
    int fds = harness_count_fds();
    if (fds != l->fds) {
        show_fds();
        _ck_assert_failed(file, line, "fds", "%d file descriptors left, were %d", fds,
                          l->fds);
    }
}

/* ---- files ------------------------------------------------------------------------ */

void harness_part(void)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    char path[32], name[256];
    for (int fd = 3; fd < 256 && nowhere >= 0; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, name, sizeof name - 1);
        name[len > 0 ? len : 0] = '\0';
        if (strstr(name, "(deleted)")) /* no other file has lost its name by now */
            dup2(nowhere, fd);
    }
}

const char *harness_tmpdir(void)
{
    if (!tmpdir[0]) {
        snprintf(tmpdir, sizeof tmpdir, "%s/XXXXXX", base);
        ck_assert_msg(mkdtemp(tmpdir) != NULL, "%s: %s", tmpdir, strerror(errno));
    }
    return tmpdir;
}

const char *harness_path(const char *name)
{
    const char *dir = harness_tmpdir();
    size_t size = strlen(dir) + 1 + strlen(name) + 1;
    struct path *p = malloc(sizeof *p + size);
    ck_assert_ptr_nonnull(p);
    snprintf(p->text, size, "%s/%s", dir, name);
    p->next = paths;
    paths = p;
    return p->text;
}

size_t harness_read_file(const char *path, char **ret)
{
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
    struct stat st;
    ck_assert_int_eq(fstat(fileno(f), &st), 0);
    char *bytes = malloc((size_t)st.st_size + 1);
    ck_assert_ptr_nonnull(bytes);
    size_t len = fread(bytes, 1, (size_t)st.st_size, f);
    ck_assert_int_eq(ferror(f), 0);
    fclose(f);
    bytes[len] = '\0';
    *ret = bytes;
    return len;
}

void harness_write_file(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
    ck_assert_uint_eq(len ? fwrite(bytes, 1, len, f) : 0, len);
    ck_assert_int_eq(fclose(f), 0);
}
