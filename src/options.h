/* options.h - from the user's options to final values; the one place where defaults live. */
#ifndef BGMQI_OPTIONS_H
#define BGMQI_OPTIONS_H

#include "type.h"

/* struct bgmq_options with every default filled in. */
struct service_config {
    const char *database; /* lent for the time of bgmq_open */
    bool persistent;      /* there is a database */
    bool share_database;
    enum bgmq_durability durability;
    unsigned flush_interval_ms, flush_batch, publish_timeout_ms, stop_grace_ms;
    size_t max_body, max_bytes, stack_size;
    uint64_t history_keep;
    int erase;
    int64_t history_max_age_ms; /* 0: for ever */
    unsigned standby_ms, max_crashes, boot_breaker;
    unsigned metrics_interval_ms; /* 0: none */
    bool guests;
    bool no_responses;
    char **response_types; /* a copy, NULL-ended; NULL: all */
    struct log log;
};

/* EINVAL with ERROR, ENOMEM. */
int bgmqi_options_service(struct service_config *ret, const struct bgmq_options *options,
                          struct bgmq_error *error);
void bgmqi_options_fini(struct service_config *c);

/* THREADS apart.  EINVAL, with what is wrong in *RET_WRONG, else NULL. */
int bgmqi_options_type(struct type_config *ret, unsigned *ret_threads,
                       const struct bgmq_type_options *options,
                       const struct service_config *service, const char **ret_wrong);

/* *RET is O, which may be NULL and is checked, as the message keeps it: expiry and the end of a
 * period are points in time.  TYPE_EXPIRE_MS: of a message that says nothing; 0: never. */
void bgmqi_options_final(const struct bgmq_message_options *o, int64_t type_expire_ms,
                         int64_t now_ms, struct bgmq_message_options *ret);
/* Checks OPTIONS of a message and says when it is due (0: at once).  EINVAL. */
int bgmqi_options_message(const struct bgmq_message_options *options, int64_t now_ms,
                          int64_t *ret_due_ms);

#endif
