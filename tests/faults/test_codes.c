/* test_codes.c - each error code of bgmq.h, returned by a call that it is documented for. */
#include <bgmq_sqlite.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contract.h"
#include "mem.h"
#include "shim_vfs.h"

/* Each returns what the library said. */
typedef int provoke_fn(void);

static const char *path(void)
{
    return harness_path("codes.db");
}

static int open_at(struct bgmq **ret, const char *at)
{
    struct bgmq_options options = {.database = at, .publish_timeout_ms = 20000};
    return bgmq_open(ret, &options, NULL);
}

static struct bgmq *open_durable(void)
{
    struct bgmq *mq;
    ck_assert_int_eq(open_at(&mq, path()), 0);
    return mq;
}

/* What an open says that has to fail. */
static int opening(const char *at)
{
    struct bgmq *mq;
    int err = open_at(&mq, at);
    ck_assert_int_ne(err, 0);
    return err;
}

static void sql(const char *text)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(path(), &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static int publish(struct bgmq *mq)
{
    return bgmq_publish(mq, "T", "x", 1, NULL, NULL);
}

/* ---- arguments and states ------------------------------------------------------------ */

static int provoke_ok(void)
{
    struct bgmq *mq = contract_open(0);
    int err = publish(mq);
    contract_close(mq);
    return err;
}

static int provoke_inval(void)
{
    return publish(NULL);
}

static bool refuse(size_t size)
{
    (void)size;
    return true;
}

static int provoke_nomem(void)
{
    struct bgmq *mq = contract_open(0);
    atomic_store(&bgmqi_mem_refuses, refuse);
    int err = publish(mq);
    atomic_store(&bgmqi_mem_refuses, NULL);
    contract_close(mq);
    return err;
}

static int provoke_closed(void)
{
    struct bgmq *mq = contract_open(0);
    ck_assert_int_eq(bgmq_close(mq), 0);
    int err = publish(mq);
    bgmq_free(mq);
    return err;
}

/* The code, by way of a child's status. */
static int wait_for(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static int provoke_forked(void)
{
    struct bgmq *mq = contract_open(0);
    pid_t child = fork();
    if (child == 0)
        _exit(-bgmq_started(mq));
    int err = wait_for(child);
    contract_close(mq);
    return err;
}

static int provoke_exist(void)
{
    struct bgmq *mq = contract_open(0);
    int err = bgmq_register(mq, "T", contract_handle, NULL, NULL);
    contract_close(mq);
    return err;
}

static int provoke_noent(void)
{
    struct bgmq *mq = contract_open(0);
    int err = bgmq_pause(mq, "Nobody");
    contract_close(mq);
    return err;
}

static int provoke_toobig(void)
{
    static char body[(1 << 20) + 1];
    struct bgmq *mq = contract_open(0);
    int err = bgmq_publish(mq, "T", body, sizeof(body), NULL, NULL);
    contract_close(mq);
    return err;
}

static int provoke_full(void)
{
    struct bgmq *mq = contract_open(0);
    struct bgmq_type_options one = {.max_messages = 1};
    ck_assert_int_eq(bgmq_register(mq, "One", contract_handle, NULL, &one), 0);
    ck_assert_int_eq(bgmq_publish(mq, "One", "x", 1, NULL, NULL), 0);
    int err = bgmq_publish(mq, "One", "x", 1, NULL, NULL);
    contract_close(mq);
    return err;
}

/* ---- in a handler -------------------------------------------------------------------- */

static int said;
static struct counter asked;
static struct gate go_on;

static int ask_to_stop(struct bgmq_job *job, void *ctx)
{
    int how = *(int *)ctx;
    struct bgmq *mq = bgmq_job_service(job);
    said = how == 0 ? bgmq_start(mq) : how == 1 ? bgmq_stop(mq, 1) : bgmq_close(mq);
    counter_add(&asked, 1);
    gate_wait(&go_on);
    return BGMQ_DONE;
}

static int ask(int how)
{
    struct bgmq *mq = contract_open(0);
    counter_init(&asked);
    gate_init(&go_on);
    gate_open(&go_on);
    ck_assert_int_eq(bgmq_register(mq, "Ask", ask_to_stop, &how, NULL), 0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_publish(mq, "Ask", "x", 1, NULL, NULL), 0);
    counter_wait(&asked, 1);
    contract_close(mq);
    counter_fini(&asked);
    gate_fini(&go_on);
    return said;
}

static int provoke_busy(void)
{
    return ask(0);
}

static int provoke_inprogress(void)
{
    return ask(1);
}

static int provoke_deadlk(void)
{
    return ask(2);
}

/* ---- messages ------------------------------------------------------------------------ */

static int provoke_timeout(void)
{
    struct bgmq *mq = contract_open(0);
    struct bgmq_message *m;
    int err = bgmq_get(mq, "Q", 1, &m);
    contract_close(mq);
    return err;
}

static int provoke_lost(void)
{
    struct bgmq *mq = contract_open(0);
    struct bgmq_message *m;
    ck_assert_int_eq(bgmq_publish_to(mq, "Q", "x", 1, NULL, NULL), 0);
    ck_assert_int_eq(bgmq_get(mq, "Q", 0, &m), 0);
    ck_assert_int_eq(bgmq_ack(m), 0);
    int err = bgmq_ack(m);
    bgmq_message_free(m);
    contract_close(mq);
    return err;
}

static int provoke_draining(void)
{
    struct bgmq *mq = contract_open(0);
    ck_assert_int_eq(bgmq_start(mq), 0);
    ck_assert_int_eq(bgmq_drain(mq, 10000), 0);
    int err = publish(mq);
    contract_close(mq);
    return err;
}

static int provoke_json(void)
{
    struct bgmq *mq = contract_open(0);
    int err = bgmq_publish_json(mq, "T", NULL, NULL, "{s:s}", "key", "\xff");
    contract_close(mq);
    return err;
}

/* ---- the store ----------------------------------------------------------------------- */

static _Atomic int broken;

/* The journal's thread alone touches the shim. */
static void obey(void *ctx)
{
    static int armed;
    const struct shim_fault fault = {
        .calls = SHIM_SYNC, .files = SHIM_ANY, .kind = SHIM_IOERR, .nth = 1};
    (void)ctx;
    if (!armed && atomic_load(&broken)) {
        armed = 1;
        shim_vfs_arm(&fault);
    }
}

/* The N-th publish after the disk has broken. */
static int publish_in_vain(int n)
{
    shim_vfs_install();
    shim_vfs_hook(SHIM_ALL, SHIM_ANY, obey, NULL);
    struct bgmq *mq = open_durable();
    atomic_store(&broken, 1);
    int err = 0;
    for (int i = 0; i < n; i++)
        err = publish(mq);
    bgmq_close(mq);
    bgmq_free(mq);
    shim_vfs_hook(0, 0, NULL, NULL);
    shim_vfs_remove();
    return err;
}

static int provoke_uncertain(void)
{
    return publish_in_vain(1);
}

static int provoke_store(void)
{
    return publish_in_vain(2);
}

static int provoke_open(void)
{
    return opening("/nowhere/at/all.db");
}

static int provoke_unsafe(void)
{
    contract_close(open_durable());
    const char *link = harness_path("link.db");
    ck_assert_int_eq(symlink(path(), link), 0);
    return opening(link);
}

static int provoke_notdb(void)
{
    static char noise[8192];
    memset(noise, 'n', sizeof(noise));
    harness_write_file(path(), noise, sizeof(noise));
    return opening(path());
}

static int provoke_notours(void)
{
    sql("CREATE TABLE theirs(a)");
    return opening(path());
}

static int provoke_version(void)
{
    contract_close(open_durable());
    sql("UPDATE bgmq_meta SET value = 1000 WHERE key = 'schema'");
    return opening(path());
}

static int provoke_schema(void)
{
    contract_close(open_durable());
    sql("CREATE TRIGGER strange AFTER INSERT ON bgmq_job BEGIN SELECT 1; END");
    return opening(path());
}

/* The pages of a table are noise.  The first hundred bytes, and what they say, stay. */
static int provoke_corrupt(void)
{
    contract_close(open_durable());
    sql("PRAGMA wal_checkpoint(TRUNCATE)");
    char *bytes;
    size_t len = harness_read_file(path(), &bytes);
    ck_assert_uint_gt(len, 8192);
    memset(bytes + 100, 0xee, 3996);
    harness_write_file(path(), bytes, len);
    free(bytes);
    return opening(path());
}

/* A process that has opened the database and closes it when it is told. */
static int provoke_owned(void)
{
    int ready[2], end[2];
    char byte = 0;
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC) | pipe2(end, O_CLOEXEC), 0);
    const char *at = path();
    pid_t child = fork();
    if (child == 0) {
        struct bgmq *mq;
        int err = open_at(&mq, at);
        close(end[1]);
        if (write(ready[1], &byte, 1) != 1 || read(end[0], &byte, 1) != 0)
            err = -99;
        if (!err)
            bgmq_free(mq);
        _exit(-err);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    int err = opening(at);
    close(end[0]), close(end[1]), close(ready[0]), close(ready[1]);
    ck_assert_int_eq(wait_for(child), 0);
    return err;
}

/* ---- threads, HTTP and connections of others ----------------------------------------- */

static int provoke_thread(void)
{
    struct bgmq *mq;
    struct bgmq_options options = {.stack_size = (size_t)1 << 47};
    return bgmq_open(&mq, &options, NULL);
}

static int provoke_http(void)
{
    struct bgmq *mq = contract_open(0);
    struct bgmq_http *first, *second;
    struct bgmq_http_options options = {.port = 0};
    ck_assert_int_eq(bgmq_http_start(&first, mq, NULL, NULL), 0);
    options.port = bgmq_http_port(first);
    int err = bgmq_http_start(&second, mq, &options, NULL);
    bgmq_http_stop(first);
    contract_close(mq);
    return err;
}

static int publish_on(const char *at, int flags)
{
    struct bgmq *mq = open_durable();
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open_v2(at, &db, flags, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL), SQLITE_OK);
    int err = bgmq_publish_tx(mq, db, "T", "x", 1, NULL, NULL);
    ck_assert_int_eq(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    contract_close(mq);
    return err;
}

static int provoke_readonly(void)
{
    return publish_on(path(), SQLITE_OPEN_READONLY);
}

static int provoke_otherfile(void)
{
    return publish_on(harness_path("other.db"),
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
}

/* ---- the table ----------------------------------------------------------------------- */

static const struct {
    int code;
    provoke_fn *fn;
    int forks;
} codes[] = {
    {BGMQ_OK, provoke_ok, 0},
    {BGMQ_EINVAL, provoke_inval, 0},
    {BGMQ_ENOMEM, provoke_nomem, 0},
    {BGMQ_ECLOSED, provoke_closed, 0},
    {BGMQ_EFORKED, provoke_forked, 1},
    {BGMQ_EEXIST, provoke_exist, 0},
    {BGMQ_ENOENT, provoke_noent, 0},
    {BGMQ_ETOOBIG, provoke_toobig, 0},
    {BGMQ_EFULL, provoke_full, 0},
    {BGMQ_EBUSY, provoke_busy, 0},
    {BGMQ_ETIMEOUT, provoke_timeout, 0},
    {BGMQ_EINPROGRESS, provoke_inprogress, 0},
    {BGMQ_EDEADLK, provoke_deadlk, 0},
    {BGMQ_ELOST, provoke_lost, 0},
    {BGMQ_EUNCERTAIN, provoke_uncertain, 0},
    {BGMQ_ESTORE, provoke_store, 0},
    {BGMQ_EOPEN, provoke_open, 0},
    {BGMQ_EUNSAFE, provoke_unsafe, 0},
    {BGMQ_ENOTDB, provoke_notdb, 0},
    {BGMQ_ENOTOURS, provoke_notours, 0},
    {BGMQ_EVERSION, provoke_version, 0},
    {BGMQ_EOWNED, provoke_owned, 1},
    {BGMQ_ETHREAD, provoke_thread, 0},
    {BGMQ_EJSON, provoke_json, 0},
    {BGMQ_EHTTP, provoke_http, 0},
    {BGMQ_EREADONLY, provoke_readonly, 0},
    {BGMQ_EOTHERFILE, provoke_otherfile, 0},
    {BGMQ_EDRAINING, provoke_draining, 0},
    {BGMQ_ESCHEMA, provoke_schema, 0},
    {BGMQ_ECORRUPT, provoke_corrupt, 0},
};

START_TEST(call_returns_the_code_that_is_documented)
{
    if (codes[_i].forks && (HARNESS_ASAN || HARNESS_TSAN))
        HARNESS_SKIP("a child of fork() with threads has no allocator there");
    int got = codes[_i].fn();
    ck_assert_msg(got == codes[_i].code, "%s, not %s", bgmq_errname(got),
                  bgmq_errname(codes[_i].code));
    harness_figure("codes", 1);
}
END_TEST

/* The table has them all: the first number without a name comes after the last of it. */
START_TEST(every_code_that_has_a_name_is_in_the_table)
{
    for (int code = 0; strcmp(bgmq_errname(code), "BGMQ_E?") != 0; code--) {
        int found = 0;
        for (size_t i = 0; i < COUNT(codes); i++)
            found += codes[i].code == code;
        ck_assert_msg(found == 1, "%s is in the table %d times", bgmq_errname(code),
                      found);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("codes");
    TCase *tc = harness_case(s, "codes");
    tcase_add_loop_test(tc, call_returns_the_code_that_is_documented, 0, COUNT(codes));
    tcase_add_test(tc, every_code_that_has_a_name_is_in_the_table);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
