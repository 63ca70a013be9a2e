/* http_token.h - the bearer token: where it comes from, and where it is kept. */
#ifndef BGMQI_HTTP_TOKEN_H
#define BGMQI_HTTP_TOKEN_H

#include <bgmq.h>

/* *RET gets the token that OPTIONS name, NULL when they name none: given, in a file, or in the
 * environment.  EINVAL: too weak, or no token; EHTTP: the file may not or cannot be read; ENOMEM.
 * ERROR, which may be NULL, says why. */
int bgmqi_http_token_load(char **ret, const struct bgmq_http_options *options,
                          struct bgmq_error *error);
/* Takes it out of the environment, if it came from there. */
void bgmqi_http_token_hide(const struct bgmq_http_options *options);
/* Wipes and frees it; NULL is allowed. */
void bgmqi_http_token_free(char *token);

#endif
