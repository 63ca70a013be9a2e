/* http_config.h - the options of the admin, checked and copied. */
#ifndef BGMQI_HTTP_CONFIG_H
#define BGMQI_HTTP_CONFIG_H

#include <bgmq.h>

/* Set once by init, then read only: any number of threads may look. */
struct http_config {
    unsigned port;     /* 0: any free one */
    char *unix_socket; /* NULL: TCP */
    char *token;       /* NULL: none */
    size_t token_len;
    char **hosts; /* NULL-ended; NULL: none */
    int strict;
};

/* Copies OPTIONS, which may be NULL, to the zeroed CONFIG. EINVAL, EHTTP (the token file),
 * ENOMEM: ERROR, which may be NULL, says why. */
int bgmqi_http_config_init(struct http_config *config,
                           const struct bgmq_http_options *options,
                           struct bgmq_error *error);
/* Wipes the token and frees the copies. */
void bgmqi_http_config_fini(struct http_config *config);

#endif
