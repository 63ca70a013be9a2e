/* test_store_site.c - what a database stands on: file systems over a network, folders that others
 * may write, and a second SQLite in the process. */
#include "fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store_site.h"

int __real_statfs64(const char *path, struct statfs *ret);
int __wrap_statfs64(const char *path, struct statfs *ret);

/* The build asks for large files, so that statfs goes by this name. */
static uint32_t magic; /* what all files lie on; 0: what they do lie on */

int __wrap_statfs64(const char *path, struct statfs *ret)
{
    int result = __real_statfs64(path, ret);
    if (magic)
        ret->f_type = (__typeof__(ret->f_type))magic;
    return result;
}

static struct harness_log kept;
static const struct log to_kept = {.fn = harness_log_keep, .ctx = &kept};

static void setup(void)
{
    magic = 0;
    harness_log_init(&kept);
}

static void teardown(void)
{
    harness_log_fini(&kept);
}

static struct store_options logged(void)
{
    struct store_options o = fixture_options();
    o.log = &to_kept;
    return o;
}

/* ---- S21 ----------------------------------------------------------------------------- */

static const struct {
    uint32_t magic;
    const char *name;
} networks[] = {{0x6969, "nfs"},    {0xff534d42, "cifs"}, {0xfe534d42, "smb"},
                {0x01021997, "9p"}, {0x00c36400, "ceph"}, {0x0bd00bd0, "lustre"}};
enum { NETWORKS = sizeof(networks) / sizeof(networks[0]) };

/* S21. */
START_TEST(file_system_over_a_network_is_refused)
{
    struct bgmq_error error = {.text = ""};
    fixture_close(fixture_open());
    magic = networks[_i].magic;
    ck_assert_int_eq(fixture_open_fails(logged(), &error), BGMQ_EUNSAFE);
    ck_assert_msg(strstr(error.text, networks[_i].name) != NULL, "%s", error.text);
    ck_assert_ptr_nonnull(strstr(error.text, fixture_path()));
    magic = 0;
    fixture_close(fixture_open());
}
END_TEST

/* S21.  No file is left on one, either. */
START_TEST(new_file_on_a_network_is_not_made)
{
    magic = 0x6969;
    ck_assert_int_eq(fixture_open_fails(logged(), NULL), BGMQ_EUNSAFE);
    ck_assert_int_ne(access(fixture_path(), F_OK), 0);
}
END_TEST

/* S21. */
START_TEST(file_system_in_user_space_is_a_warning)
{
    magic = 0x65735546;
    fixture_close(fixture_open_with(logged()));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 1);
    ck_assert(harness_log_has(&kept, "fuse"));
    ck_assert(harness_log_has(&kept, fixture_path()));
}
END_TEST

/* ---- folders ------------------------------------------------------------------------- */

START_TEST(private_folder_is_no_reason_for_a_word)
{
    fixture_close(fixture_open_with(logged()));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 0);
}
END_TEST

/* Of the folder itself (_i 0) or one above it. */
START_TEST(folder_that_others_may_write_is_named)
{
    struct store_options o = logged();
    mkdir(harness_path("outer"), 0700);
    mkdir(harness_path("outer/inner"), 0700);
    const char *open_one = harness_path(_i ? "outer" : "outer/inner");
    o.path = harness_path("outer/inner/store.db");
    ck_assert_int_eq(chmod(open_one, 0720), 0);
    fixture_close(fixture_open_with(o));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 1);
    ck_assert(harness_log_has(&kept, "can be written by others"));
    ck_assert(harness_log_has(&kept, open_one));
    ck_assert_int_eq(chmod(open_one, 01777), 0); /* only its owner removes an entry */
    fixture_close(fixture_open_with(o));
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 1);
}
END_TEST

START_TEST(folder_of_another_user_is_named)
{
    if (geteuid() != 0)
        HARNESS_SKIP("only root can give folders away");
    struct store_options o = logged();
    mkdir(harness_path("theirs"), 0755);
    ck_assert_int_eq(chown(harness_path("theirs"), 12345, (gid_t)-1), 0);
    o.path = harness_path("theirs/store.db");
    fixture_close(fixture_open_with(o));
    ck_assert(harness_log_has(&kept, "belongs to another user"));
}
END_TEST

/* ---- S20 ----------------------------------------------------------------------------- */

/* S20.  A copy of the library itself is a second one, with locks of its own. */
START_TEST(second_sqlite_in_the_process_is_named)
{
    Dl_info info;
    char *bytes;
    const char *copy = harness_path("libother.so");
    const char *text =
        sqlite3_sourceid(); /* in the library, wherever its functions are */
    if (!dladdr(text, &info) || !strstr(info.dli_fname, "sqlite"))
        HARNESS_SKIP("SQLite is linked in");
    bgmqi_store_site_look_for_twin(&to_kept);
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 0);
    size_t len = harness_read_file(info.dli_fname, &bytes);
    harness_write_file(copy, bytes, len);
    free(bytes);
    void *twin = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(twin != NULL, "%s", dlerror());
    bgmqi_store_site_look_again(&to_kept); /* something was loaded */
    bgmqi_store_site_look_again(&to_kept); /* nothing was, and it was told */
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 1);
    ck_assert(harness_log_has(&kept, "second SQLite"));
    ck_assert(harness_log_has(&kept, "libother.so"));
    fixture_close(
        fixture_open_with(logged())); /* said at each open, which it does not stop */
    ck_assert_int_eq(harness_log_count(&kept, BGMQ_LOG_WARNING), 2);
    dlclose(twin);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store_site");
    TCase *c = harness_case(s, "site");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, file_system_over_a_network_is_refused, 0, NETWORKS);
    tcase_add_test(c, new_file_on_a_network_is_not_made);
    tcase_add_test(c, file_system_in_user_space_is_a_warning);
    tcase_add_test(c, private_folder_is_no_reason_for_a_word);
    tcase_add_loop_test(c, folder_that_others_may_write_is_named, 0, 2);
    tcase_add_test(c, folder_of_another_user_is_named);
    tcase_add_test(c, second_sqlite_in_the_process_is_named);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
