/* http_config.c - checks and copies the options of the admin, in one place.
 *
 * Called by http.c on the thread that starts or mounts the admin; afterwards the copy
 * is read only.  It must never write the token anywhere, an error text included. */
#include "http_config.h"

#include "err.h"
#include "http_token.h"

#include <stdlib.h>
#include <string.h>

enum { HOST_MAX = 255 };

/* 1 when TEXT can be a host: visible ASCII characters, which a header value carries
 * unchanged. */
static int is_host(const char *text)
{
    size_t len = 0;
    for (; text[len]; len++)
        if (len == HOST_MAX || (unsigned char)text[len] <= ' ' ||
            (unsigned char)text[len] >= 0x7f)
            return 0;
    return len >= 1;
}

static int check(const struct bgmq_http_options *o, struct bgmq_error *error)
{
    if (o->port > 65535)
        return bgmqi_err_set(error, BGMQ_EINVAL, "no such port: %u", o->port);
    if (o->port && o->unix_socket)
        return bgmqi_err_set(error, BGMQ_EINVAL,
                             "a port and a unix socket: give one of them");
    if (o->unix_socket && !*o->unix_socket)
        return bgmqi_err_set(error, BGMQ_EINVAL, "the path of the socket is empty");
    for (size_t i = 0; o->hosts && o->hosts[i]; i++)
        if (!is_host(o->hosts[i]))
            return bgmqi_err_set(error, BGMQ_EINVAL,
                                 "host %zu of the list is not a host name", i + 1);
    return BGMQ_OK;
}

static int copy_hosts(struct http_config *config, const char *const *hosts)
{
    size_t n = 0;
    while (hosts[n])
        n++;
    config->hosts = calloc(n + 1, sizeof(*config->hosts));
    if (!config->hosts)
        return BGMQ_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        config->hosts[i] = strdup(hosts[i]);
        if (!config->hosts[i])
            return BGMQ_ENOMEM;
    }
    return BGMQ_OK;
}

static int copy(struct http_config *config, const struct bgmq_http_options *o,
                struct bgmq_error *error)
{
    int r = bgmqi_http_token_load(&config->token, o, error);
    if (r < 0)
        return r;
    config->token_len = config->token ? strlen(config->token) : 0;
    config->port = o->port;
    config->strict = o->strict != 0;
    if (o->unix_socket && !(config->unix_socket = strdup(o->unix_socket)))
        r = BGMQ_ENOMEM;
    if (r == 0 && o->hosts)
        r = copy_hosts(config, o->hosts);
    if (r == 0)
        return BGMQ_OK;
    return bgmqi_err_set(error, r, "%s", bgmq_strerror(r));
}

int bgmqi_http_config_init(struct http_config *config,
                           const struct bgmq_http_options *options,
                           struct bgmq_error *error)
{
    static const struct bgmq_http_options defaults;
    const struct bgmq_http_options *o = options ? options : &defaults;
    int r = check(o, error);
    if (r < 0)
        return r;
    r = copy(config, o, error);
    if (r < 0)
        bgmqi_http_config_fini(config);
    return r;
}

void bgmqi_http_config_fini(struct http_config *config)
{
    bgmqi_http_token_free(config->token);
    free(config->unix_socket);
    for (size_t i = 0; config->hosts && config->hosts[i]; i++)
        free(config->hosts[i]);
    free(config->hosts);
    *config = (struct http_config){0};
}
