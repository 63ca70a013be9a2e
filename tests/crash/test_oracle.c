/* test_oracle.c - the oracle of the crash tests can say no: a small history for each fault it
 * has to see, and clean ones it has to let pass. */
#include "../harness/harness.h"
#include "oracle.h"

#include <stddef.h>
#include <string.h>

static struct verdict judge(const char *text)
{
    struct verdict v;
    harness_write_file(harness_path("history"), text, strlen(text));
    int guilty = oracle_judge(harness_path("history"), &v);
    ck_assert_msg(guilty == (v.first[0] != '\0'), "guilty is %d: %s", guilty, v.first);
    return v;
}

static const char *const clean[] = {
    "",
    /* published, handled */
    "O 1 work .\nT r1.0.p1 4 0 .\nA r1.0.p1 7 .\nS r1.0.p1 7 1 5 .\nD r1.0.p1 7 .\n",
    /* handled before the publisher knew */
    "T r1.0.p1 4 0 .\nS r1.0.p1 7 1 5 .\nD r1.0.p1 7 .\nA r1.0.p1 7 .\n",
    /* attempted, killed, never seen again: nobody was told it was there */
    "O 1 work .\nT r1.0.p1 4 0 .\nO 2 work .\n",
    /* never acknowledged, yet there: allowed */
    "O 1 work .\nT r1.0.p1 4 0 .\nO 2 work .\nS r1.0.p1 7 1 5 .\nD r1.0.p1 7 .\n",
    /* died in the handler, run again by the next process with the attempt counted */
    "O 1 work .\nT k 4 0 .\nA k 7 .\nS k 7 1 5 .\nO 2 work .\nS k 7 2 6 .\nD k 7 .\n",
    /* done, but the record of it died: run again, the attempt may be the same */
    "O 1 work .\nT k 4 0 .\nA k 7 .\nS k 7 1 5 .\nD k 7 .\nO 2 work .\nS k 7 1 6 .\nD k "
    "7 .\n",
    /* failed once, run again by the same process */
    "T k 4 0 .\nA k 7 .\nS k 7 1 5 .\nF k 7 .\nS k 7 2 6 .\nD k 7 .\n",
    "T k 4 0 .\nA k 7 .\nX k 7 .\n",
    /* a request and its response */
    "T r1.0.c1 4 0 .\nA r1.0.c1 7 .\nS r1.0.c1 7 1 5 .\nT R-r1.0.c1 response 0 .\n"
    "D r1.0.c1 7 .\nS R-r1.0.c1 8 1 6 .\nD R-r1.0.c1 8 .\n",
    /* a torn line says nothing */
    "T r1.0.p1 4 0 .\nA r1.0.p1 7\nO 2 work .\n",
};

START_TEST(clean_history_passes)
{
    struct verdict v = judge(clean[_i]);
    ck_assert_str_eq(v.first, "");
}
END_TEST

static const struct {
    size_t field;
    const char *history;
} faults[] = {
    {offsetof(struct verdict, lost), "T k 4 0 .\nA k 7 .\n"},
    {offsetof(struct verdict, lost), "T k 4 0 .\nA k 7 .\nS k 7 1 5 .\n"},
    {offsetof(struct verdict, phantom), "S k 7 1 5 .\nD k 7 .\n"},
    {offsetof(struct verdict, phantom),
     "T k 4 0 .\nE k BGMQ_EFULL .\nS k 7 1 5 .\nD k 7 .\n"},
    {offsetof(struct verdict, early), "T k 4 10 .\nA k 7 .\nS k 7 1 9 .\nD k 7 .\n"},
    {offsetof(struct verdict, mangled),
     "T k 4 0 .\nA k 7 .\nS k 7 1 5 .\nB k 7 .\nD k 7 .\n"},
    {offsetof(struct verdict, mangled), "T k 4 0 .\nA k 7 .\nS k 8 1 5 .\nD k 8 .\n"},
    {offsetof(struct verdict, reused_ids),
     "T k 4 0 .\nA k 7 .\nS k 7 1 5 .\nD k 7 .\nT l 4 0 .\nA l 7 .\nX l 7 .\n"},
    {offsetof(struct verdict, torn_batches),
     "T b1.0.1.0 batch 0 .\nT b1.0.1.1 batch 0 .\nS b1.0.1.0 7 1 5 .\nD b1.0.1.0 7 .\n"},
    {offsetof(struct verdict, repeated),
     "O 1 work .\nT k 4 0 .\nA k 7 .\nS k 7 1 5 .\nD k 7 .\nS k 7 2 6 .\nD k 7 .\n"},
    {offsetof(struct verdict, uncounted),
     "O 1 work .\nT k 4 0 .\nA k 7 .\nS k 7 1 5 .\nO 2 work .\nS k 7 1 6 .\nD k 7 .\n"},
    {offsetof(struct verdict, orphans),
     "T r1.0.c1 4 0 .\nA r1.0.c1 7 .\nS r1.0.c1 7 1 5 .\nD r1.0.c1 7 .\n"},
};

START_TEST(fault_is_seen)
{
    struct verdict v = judge(faults[_i].history);
    long found;
    memcpy(&found, (const char *)&v + faults[_i].field, sizeof(found));
    ck_assert_msg(found >= 1, "%ld of its kind; first: %s", found, v.first);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("oracle");
    TCase *tc = harness_case(s, "oracle");
    tcase_add_loop_test(tc, clean_history_passes, 0,
                        (int)(sizeof(clean) / sizeof(clean[0])));
    tcase_add_loop_test(tc, fault_is_seen, 0, (int)(sizeof(faults) / sizeof(faults[0])));
    return s;
}

int main(void)
{
    return harness_run(suite());
}
