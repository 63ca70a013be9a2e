/* contract.h - what the tests of the contract share: a service, what calls write to, and how many
 * checks there were. */
#ifndef BGMQ_TEST_CONTRACT_H
#define BGMQ_TEST_CONTRACT_H

#include <bgmq_test.h>
#include <sqlite3.h>

#include "harness.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

extern long contract_checks;

/* What calls write to: filled with a pattern before, and looked at after a failure. */
struct outs {
    struct bgmq *mq;
    struct bgmq_http *http;
    struct bgmq_receipt receipts[2];
    struct bgmq_message *message;
    char name[40];
    struct bgmq_stats stats[2];
    struct bgmq_collection collection;
    struct bgmq_entry entries[9];
    struct bgmq_counters counters;
    char *text;
    uint64_t *ids;
    struct bgmq_info info;
    void *bytes;
    size_t len;
    struct bgmq_run runs[2];
    struct bgmq_health health;
    struct bgmq_test_record record;
};

/* A stopped service with the type T; its log goes nowhere.  Closing it has to succeed. */
struct bgmq *contract_open(int durable);
void contract_close(struct bgmq *mq);
/* A handler that does nothing. */
bgmq_handler_fn contract_handle;
/* T has never had a message. */
void contract_expect_nothing(struct bgmq *mq);

#endif
