/* http_token.c - the bearer token: where it comes from, and where it is kept.
 *
 * Called on the thread that starts, mounts or stops the admin.  It must never write the token
 * anywhere, an error text included, nor leave a copy of it behind. */
#include "http_token.h"

#include "err.h"
#include "http_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BITS_MIN = 128, TOKEN_MAX = 1024, ROOM = 4096 };

/* A page of its own, neither swapped out, where the limits allow it, nor in a core file. */
static char *keep(const char *text)
{
    char *page =
        mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    mlock(page, ROOM);
    madvise(page, ROOM, MADV_DONTDUMP);
    memcpy(page, text, strlen(text));
    return page;
}

void bgmqi_http_token_free(char *token)
{
    if (!token)
        return;
    explicit_bzero(token, ROOM);
    munmap(token, ROOM);
}

/* How many bits TEXT can hold at most: 4 a character of hexadecimal digits, else 6, as in
 * base64; 0 when it is too long or not what a header value carries unchanged. */
static size_t bits(const char *text)
{
    size_t len = strlen(text), digits = strspn(text, "0123456789abcdefABCDEF");
    if (len > TOKEN_MAX)
        return 0;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f)
            return 0;
    return len * (digits == len ? 4 : 6);
}

static int check(char **ret, const char *text, struct bgmq_error *error)
{
    if (bits(text) < BITS_MIN)
        return bgmqi_err_set(
            error, BGMQ_EINVAL,
            "the token is not 22..%d visible ASCII characters, 32 if hexadecimal",
            TOKEN_MAX);
    *ret = keep(text);
    return *ret ? BGMQ_OK
                : bgmqi_err_set(error, BGMQ_ENOMEM, "%s", bgmq_strerror(BGMQ_ENOMEM));
}

static int fail(struct bgmq_error *error, const char *path, const char *why)
{
    return bgmqi_err_set(error, BGMQ_EHTTP, "the token file %.150s: %s", path, why);
}

/* Why the file behind FD is no place for a secret; NULL: it is. */
static const char *unsafe(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return "not a regular file";
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return "it belongs to another user";
    return st.st_mode & 077 ? "others may read it: chmod 600" : NULL;
}

/* Reads the first line of FD into BUF; returns its length, or -1. */
static ssize_t read_line(int fd, char *buf, size_t size)
{
    size_t len = 0;
    ssize_t n;
    while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) != 0) {
        if (n < 0 && errno != EINTR)
            return -1;
        len += n > 0 ? (size_t)n : 0;
    }
    buf[len] = '\0';
    if (strlen(buf) < len)
        buf[0] = '\0'; /* a NUL byte: what is behind it would not count */
    if (len > 0 && buf[len - 1] == '\n')
        buf[--len] = '\0';
    if (len > 0 && buf[len - 1] == '\r')
        buf[--len] = '\0';
    return (ssize_t)len;
}

static int from_file(char **ret, const char *path, struct bgmq_error *error)
{
    char buf[TOKEN_MAX + 8], words[128];
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fail(error, path, strerror_r(errno, words, sizeof(words)));
    const char *why = unsafe(fd);
    ssize_t len = why ? -1 : read_line(fd, buf, sizeof(buf));
    if (!why && len < 0)
        why = strerror_r(errno, words, sizeof(words));
    close(fd);
    if (why)
        return fail(error, path, why);
    int r = check(ret, buf, error);
    explicit_bzero(buf, sizeof(buf));
    return r;
}

int bgmqi_http_token_load(char **ret, const struct bgmq_http_options *o,
                          struct bgmq_error *error)
{
    *ret = NULL;
    if ((o->token != NULL) + (o->token_file != NULL) + (o->token_env != NULL) > 1)
        return bgmqi_err_set(error, BGMQ_EINVAL, "more than one token: give one of them");
    if (o->token)
        return check(ret, o->token, error);
    if (o->token_file)
        return from_file(ret, o->token_file, error);
    if (!o->token_env)
        return BGMQ_OK;
    const char *value = getenv(o->token_env);
    if (!value)
        return bgmqi_err_set(error, BGMQ_EINVAL,
                             "no token: %.150s is not in the environment", o->token_env);
    return check(ret, value, error);
}

void bgmqi_http_token_hide(const struct bgmq_http_options *o)
{
    if (o && o->token_env)
        unsetenv(o->token_env);
}
