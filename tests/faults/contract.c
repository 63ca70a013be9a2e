/* contract.c - what the tests of the contract share.  The test's thread. */
#include "contract.h"

long contract_checks;

int contract_handle(struct bgmq_job *job, void *ctx)
{
    (void)job, (void)ctx;
    return BGMQ_DONE;
}

static void swallow(void *ctx, enum bgmq_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

struct bgmq *contract_open(int durable)
{
    struct bgmq_options options = {.database = durable ? harness_path("c.db") : NULL,
                                   .log = swallow};
    struct bgmq *mq;
    ck_assert_int_eq(bgmq_open(&mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_register(mq, "T", contract_handle, NULL, NULL), 0);
    return mq;
}

void contract_close(struct bgmq *mq)
{
    ck_assert_int_eq(bgmq_close(mq), 0);
    bgmq_free(mq);
}

void contract_expect_nothing(struct bgmq *mq)
{
    struct bgmq_collection c;
    struct bgmq_counters n;
    ck_assert_int_eq(bgmq_flush(mq), 0);
    ck_assert_int_eq(bgmq_type_collection(mq, "T", &c), 0);
    ck_assert_uint_eq(c.inq + c.priorityq + c.delayed + c.dlq + c.outq + c.added, 0);
    ck_assert_int_eq(bgmq_service_counters(mq, &n), 0);
    ck_assert_uint_eq(n.journal_waiting, 0);
    contract_checks += 2;
}
