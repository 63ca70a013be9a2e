/* test_http_secret.c - where the token comes from: how strong it has to be, a file that only we
 * may read, the environment, and where it is never to be found. */
#include "http_token.h"

#include "admin.h"

#include <bgmq.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN "Zm9vYmFyYmF6cXV4MDEyMw"
#define HEX   "00112233445566778899aabbccddeeff"

static struct bgmq_error error;

/* Loads by OPTIONS; returns the error. */
static int load(struct bgmq_http_options options, char **ret)
{
    error.text[0] = '\0';
    int r = bgmqi_http_token_load(ret, &options, &error);
    ck_assert_int_eq(r < 0, error.text[0] != '\0');
    ck_assert_ptr_null(strstr(error.text, TOKEN));
    return r;
}

static int given(const char *token)
{
    char *kept;
    int r = load((struct bgmq_http_options){.token = token}, &kept);
    ck_assert_int_eq(r == 0, kept != NULL);
    bgmqi_http_token_free(kept);
    return r;
}

START_TEST(token_holds_128_bits)
{
    char longest[1026];
    memset(longest, 'x', sizeof longest - 1);
    longest[1025] = '\0';
    ck_assert_int_eq(given(TOKEN), 0); /* 22 of base64 */
    ck_assert_int_eq(given(&TOKEN[1]), BGMQ_EINVAL);
    ck_assert_int_eq(given(HEX), 0);
    ck_assert_int_eq(given(&HEX[1]), BGMQ_EINVAL);
    ck_assert_int_eq(given(longest), BGMQ_EINVAL);
    ck_assert_int_eq(given(longest + 1), 0);
}
END_TEST

/* Writes TEXT to a file of MODE and loads it; returns the error. */
static int from_file(const char *text, size_t len, mode_t mode, const char *wanted)
{
    const char *path = harness_path("token");
    char *kept;
    harness_write_file(path, text, len);
    ck_assert_int_eq(chmod(path, mode), 0);
    int r = load((struct bgmq_http_options){.token_file = path}, &kept);
    if (wanted)
        ck_assert_str_eq(kept, wanted);
    bgmqi_http_token_free(kept);
    return r;
}

START_TEST(token_of_a_file_is_its_line)
{
    ck_assert_int_eq(from_file(TOKEN, 22, 0600, TOKEN), 0);
    ck_assert_int_eq(from_file(TOKEN "\n", 23, 0600, TOKEN), 0);
    ck_assert_int_eq(from_file(TOKEN "\r\n", 24, 0400, TOKEN), 0);
    ck_assert_int_eq(from_file(TOKEN "\n\n", 24, 0600, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(from_file(TOKEN "\0more", 27, 0600, NULL), BGMQ_EINVAL);
    ck_assert_int_eq(from_file("", 0, 0600, NULL), BGMQ_EINVAL);
}
END_TEST

START_TEST(token_file_is_ours_alone)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0606, 0644, 0610, 0601, 0777};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        ck_assert_int_eq(from_file(TOKEN, 22, modes[i], NULL), BGMQ_EHTTP);
        ck_assert_ptr_nonnull(strstr(error.text, "chmod 600"));
        ck_assert_ptr_nonnull(strstr(error.text, harness_path("token")));
    }
}
END_TEST

static int from_path(const char *path)
{
    char *kept;
    return load((struct bgmq_http_options){.token_file = path}, &kept);
}

START_TEST(token_file_is_a_file)
{
    const char *link = harness_path("link"), *fifo = harness_path("fifo");
    ck_assert_int_eq(from_file(TOKEN, 22, 0600, TOKEN), 0);
    ck_assert_int_eq(symlink(harness_path("token"), link), 0);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(from_path(link), BGMQ_EHTTP);
    ck_assert_int_eq(from_path(fifo), BGMQ_EHTTP); /* and nobody waits for its writer */
    ck_assert_int_eq(from_path(harness_tmpdir()), BGMQ_EHTTP);
    ck_assert_int_eq(from_path(harness_path("none")), BGMQ_EHTTP);
    ck_assert_ptr_nonnull(strstr(error.text, "No such file"));
    ck_assert_int_eq(from_path("/dev/zero"), BGMQ_EHTTP);
    /* A file of our own that only we may read, and nobody can: nothing is at its beginning. */
    ck_assert_int_eq(from_path("/proc/self/mem"), BGMQ_EHTTP);
    ck_assert_ptr_nonnull(strstr(error.text, strerror(EIO)));
}
END_TEST

START_TEST(token_file_of_another_user_is_refused)
{
    if (geteuid() != 0)
        HARNESS_SKIP("only root can give a file away");
    const char *path = harness_path("theirs");
    harness_write_file(path, TOKEN, 22);
    ck_assert_int_eq(chmod(path, 0600), 0);
    ck_assert_int_eq(chown(path, 65534, 65534), 0);
    ck_assert_int_eq(from_path(path), BGMQ_EHTTP);
    ck_assert_ptr_nonnull(strstr(error.text, "another user"));
}
END_TEST

START_TEST(token_leaves_the_environment)
{
    struct bgmq_http_options options = {.token_env = "BGMQ_TEST_TOKEN"};
    struct admin a;
    setenv("BGMQ_TEST_TOKEN", TOKEN, 1);
    admin_start(&a, &options, NULL);
    ck_assert_ptr_null(getenv("BGMQ_TEST_TOKEN"));
    ck_assert_int_eq(client_status(a.port, "POST", "/mq/start", ""), 401);
    ck_assert_int_eq(
        client_status(a.port, "POST", "/mq/start", "Authorization: Bearer " TOKEN "\r\n"),
        200);
    admin_stop(&a);
}
END_TEST

START_TEST(token_stays_for_the_next_try)
{
    struct bgmq_http_options options = {.token_env = "BGMQ_TEST_TOKEN",
                                        .unix_socket = "no/such/directory/s"};
    struct bgmq *mq = admin_service();
    struct bgmq_http *http = NULL;
    ck_assert_int_eq(bgmq_http_start(&http, mq, &options, &error), BGMQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "BGMQ_TEST_TOKEN"));
    setenv("BGMQ_TEST_TOKEN", TOKEN, 1);
    ck_assert_int_eq(bgmq_http_start(&http, mq, &options, &error), BGMQ_EHTTP);
    ck_assert_str_eq(getenv("BGMQ_TEST_TOKEN"), TOKEN);
    setenv("BGMQ_TEST_TOKEN", "weak", 1);
    ck_assert_int_eq(bgmq_http_mount(&http, mq, &options, &error), BGMQ_EINVAL);
    setenv("BGMQ_TEST_TOKEN", TOKEN, 1);
    ck_assert_int_eq(bgmq_http_mount(&http, mq, &options, &error), 0);
    ck_assert_ptr_null(getenv("BGMQ_TEST_TOKEN"));
    bgmq_http_stop(http);
    bgmq_free(mq);
}
END_TEST

/* The flags of the mapping that holds P, as /proc/self/smaps has them. */
static void flags_of(const void *p, char *ret, size_t size)
{
    char line[512];
    unsigned long from, to;
    int inside = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(f);
    ret[0] = '\0';
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (unsigned long)p >= from && (unsigned long)p < to;
        if (inside && !strncmp(line, "VmFlags:", 8))
            snprintf(ret, size, "%s", line);
    }
    fclose(f);
}

START_TEST(token_is_in_no_core_file)
{
    char *kept, flags[512];
    ck_assert_int_eq(load((struct bgmq_http_options){.token = TOKEN}, &kept), 0);
    flags_of(kept, flags, sizeof flags);
    ck_assert_msg(strstr(flags, " dd") != NULL, "%s", flags);
    bgmqi_http_token_free(kept);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_secret");
    TCase *tc = harness_case(s, "token");
    tcase_add_test(tc, token_holds_128_bits);
    tcase_add_test(tc, token_of_a_file_is_its_line);
    tcase_add_test(tc, token_file_is_ours_alone);
    tcase_add_test(tc, token_file_is_a_file);
    tcase_add_test(tc, token_file_of_another_user_is_refused);
    tcase_add_test(tc, token_leaves_the_environment);
    tcase_add_test(tc, token_stays_for_the_next_try);
    tcase_add_test(tc, token_is_in_no_core_file);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
