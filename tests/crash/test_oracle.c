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
    /* given back: the number stays */
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nH f 7 9 .\nS f 7 1 9 .\nD f 7 .\n",
    /* accepted, lost by the crash before it was written */
    "O 1 work .\nT p 2 0 .\nP p 7 .\nO 2 work .\n",
    /* rolled back, refused, replaced, deleted: never seen again */
    "T x 4 0 .\nN x .\n",
    "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nR l 7 .\n"
    "A l 8 6 .\nS l 8 1 7 .\nD l 8 .\nh 7 6 .\n",
    "T p 4 0 .\nA p 7 .\nV p .\nU p .\nh 7 6 .\n",
    /* the one that takes the place runs before its publisher can tell */
    "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nS l 8 1 7 .\n"
    "D l 8 .\nR l 7 .\nA l 8 6 .\nh 7 6 .\n",
    /* ... and before it is told who that was */
    "T k 4 0 .\nQ k w1 w 0 5 0 .\nT l 4 0 .\nQ l w1 w 0 6 1 .\nR l 7 .\nA l 8 6 .\nA k 7 "
    "5 .\n"
    "S l 8 1 7 .\nD l 8 .\nh 7 6 .\n",
    /* ... and leaves the key to a third one, or has lost its own place already */
    "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nS l 8 1 7 .\n"
    "D l 8 .\nT m 4 0 .\nQ m u1 u 0 6 0 .\nA m 9 7 .\nR l 7 .\nA l 8 6 .\nS m 9 1 8 .\nD "
    "m 9 .\n"
    "h 7 6 .\n",
    "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nT m 4 0 .\n"
    "Q m u1 u 0 6 1 .\nS m 9 1 7 .\nD m 9 .\nR m 8 .\nA m 9 7 .\nR l 7 .\nA l 8 6 .\nh 7 "
    "6 .\n"
    "h 8 6 .\n",
    /* expired into nothing */
    "T v 4 0 .\nY v 9 1 .\nA v 7 .\nh 7 9 .\n",
    /* replaced by one that the kill interrupted */
    "O 1 work .\nT k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\n"
    "O 2 work .\nS l 8 1 7 .\nD l 8 .\nh 7 6 .\n",
    /* ... that had begun before it came */
    "O 1 work .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nT k 4 0 .\nQ k u1 u 0 6 0 .\nA k 7 6 .\n"
    "O 2 work .\nS l 8 1 7 .\nD l 8 .\nT m 4 0 .\nQ m u1 u 0 8 0 .\nA m 9 8 .\nS m 9 1 8 "
    ".\n"
    "D m 9 .\nh 7 6 .\n",
    /* one key, one after the other */
    "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nS k 7 1 6 .\nD k 7 .\nT l 4 0 .\n"
    "Q l u1 u 0 6 0 .\nA l 8 7 .\nS l 8 1 7 .\nD l 8 .\n",
    /* a key for a period, and anew after it */
    "T k 4 0 .\nQ k p1 p 10 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l p1 p 10 15 0 .\nA l 8 15 .\n"
    "S k 7 1 16 .\nD k 7 .\nS l 8 1 17 .\nD l 8 .\n",
    /* the dead: expired, cancelled, killed in the handler; and with a new life */
    "T e 4 0 .\nY e 9 .\nA e 7 .\nX e 7 expired .\n",
    "T p 4 0 .\nA p 7 .\nC p .\nX p 7 cancelled .\n",
    "O 1 work .\nT p 4 0 .\nA p 7 .\nS p 7 1 5 .\nO 2 work .\nS p 7 2 5 .\nK p 7 .\n"
    "O 3 work .\nX p 7 crash .\n",
    "T f 4 0 .\nA f 7 .\nS f 7 1 5 .\nK f 7 .\nW .\nS f 7 1 6 .\nD f 7 .\n",
    /* put off, and run then */
    "T p 4 0 .\nA p 7 .\nm p 9 .\nM p 9 .\nS p 7 1 9 .\nD p 7 .\n",
    /* put off while it was given back; and while it runs; no change of what runs */
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nH f 7 9 .\nm f 7 .\nM f 7 .\nS f 7 1 7 "
    ".\n"
    "D f 7 .\n",
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nm f 8 .\nH f 7 9 .\nS f 7 1 8 .\nM f 8 "
    ".\n"
    "D f 7 .\n",
    "T p 4 5 .\nA p 7 .\nS p 7 1 5 .\nm p 9 .\nm p -1 .\nD p 7 .\n",
    /* hurried, also while that goes on, and by one who was killed then */
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nH f 7 9 .\nw 1 .\nw 0 .\nS f 7 1 8 .\n"
    "D f 7 .\n",
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nw 1 .\nH f 7 9 .\nw 0 .\nS f 7 1 8 .\n"
    "D f 7 .\n",
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nw 1 .\nm f 9 .\nM f 9 .\nO 2 work .\n"
    "S f 7 2 8 .\nD f 7 .\n",
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nw 1 .\nH f 7 9 .\nS f 7 1 8 .\nw 0 .\n"
    "D f 7 .\n",
    /* put off, hurried, and given back for a shorter time */
    "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nF f 7 .\nm f 30 .\nM f 30 .\nw 1 .\nw "
    "0 "
    ".\n"
    "S f 7 2 6 .\nH f 7 9 .\nS f 7 2 9 .\nD f 7 .\n",
    /* cancelled for good, and raised; it had expired long before */
    "T f 4 0 .\nA f 7 .\nC f .\nk f .\nW .\nS f 7 1 6 .\nD f 7 .\n",
    "T e 4 0 .\nY e 9 .\nA e 7 .\nW .\nS e 7 1 5010 .\nD e 7 .\n",
    "T f 4 9 .\nA f 7 .\nC f .\nk f .\nW .\nS f 7 1 6 .\nF f 7 .\nS f 7 2 6 .\nD f 7 .\n",
    /* an effect, with what it published; and one that died without */
    "T t1.1.1 tx 0 .\nA t1.1.1 7 .\nS t1.1.1 7 1 5 .\nT n-t1.1.1 tx 0 .\nZ t1.1.1 7 .\n"
    "S n-t1.1.1 8 1 6 .\nZ n-t1.1.1 8 .\nc t1.1.1 .\nG t1.1.1 .\nG n-t1.1.1 .\n",
    "T t1.1.1 tx 0 .\nA t1.1.1 7 .\nS t1.1.1 7 1 5 .\nK t1.1.1 7 .\nX t1.1.1 7 Mixed .\n"
    "c t1.1.1 .\n",
    /* a walk that goes on where its cursor was, or a little before what it began */
    "O 1 work .\nT w 4 0 .\nA w 7 .\nS w 7 1 5 .\nI w 0 .\nJ w 0 .\nL w 1 .\nJ w 1 .\n"
    "O 2 work .\nS w 7 2 6 .\nI w 1 .\nJ w 1 .\nD w 7 .\n",
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
    {offsetof(struct verdict, lost), "T x1.1.1 tx 0 .\nc x1.1.1 .\n"},
    {offsetof(struct verdict, lost),
     "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nN l .\n"},
    /* what took its place was refused, and that was told, though in an earlier round */
    {offsetof(struct verdict, lost),
     "O 1 work .\nT k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\n"
     "N l .\nO 2 work .\nh 7 6 .\n"},
    /* replaced or deleted, and nothing of it in the library's history */
    {offsetof(struct verdict, lost),
     "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nR l 7 .\n"
     "A l 8 6 .\nS l 8 1 7 .\nD l 8 .\n"},
    {offsetof(struct verdict, lost), "T p 4 0 .\nA p 7 .\nV p .\nU p .\n"},
    /* expired into nothing: too early; without leave; not written down */
    {offsetof(struct verdict, lost), "T v 4 0 .\nY v 9 1 .\nA v 7 .\nh 7 8 .\n"},
    {offsetof(struct verdict, lost), "T v 4 0 .\nY v 9 0 .\nA v 7 .\nh 7 9 .\n"},
    {offsetof(struct verdict, lost), "T v 4 0 .\nY v 9 1 .\nA v 7 .\n"},
    /* discarded, and nobody knows why */
    {offsetof(struct verdict, lost), "T p 4 0 .\nA p 7 .\nh 7 9 .\n"},
    {offsetof(struct verdict, phantom), "T p 4 0 .\nN p .\nS p 7 1 5 .\nD p 7 .\n"},
    {offsetof(struct verdict, phantom),
     "T x1.1.1 tx 0 .\nS x1.1.1 7 1 5 .\nD x1.1.1 7 .\n"},
    {offsetof(struct verdict, phantom),
     "T p 4 0 .\nA p 7 .\nV p .\nU p .\nS p 7 1 5 .\nD p 7 .\n"},
    {offsetof(struct verdict, phantom),
     "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nR l 7 .\n"
     "A l 8 6 .\nS l 8 1 7 .\nD l 8 .\nS k 7 1 8 .\nD k 7 .\n"},
    {offsetof(struct verdict, phantom),
     "T t1.1.1 tx 0 .\nS t1.1.1 7 1 5 .\nZ t1.1.1 7 .\nS t1.1.1 7 2 5 .\nc t1.1.1 .\n"},
    {offsetof(struct verdict, early),
     "T p 4 0 .\nA p 7 .\nm p 9 .\nM p 9 .\nS p 7 1 8 .\nD p 7 .\n"},
    {offsetof(struct verdict, early),
     "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nH f 7 9 .\nS f 7 1 8 .\nD f 7 .\n"},
    {offsetof(struct verdict, early),
     "T p 4 10 .\nA p 7 .\nm p 9 .\nm p -1 .\nS p 7 1 9 .\nD p 7 .\n"},
    {offsetof(struct verdict, early),
     "T p 4 10 .\nA p 7 .\nm p 9 .\nS p 7 1 8 .\nM p 9 .\nD p 7 .\n"},
    {offsetof(struct verdict, early),
     "T p 4 10 .\nA p 7 .\nw 1 .\nw 0 .\nS p 7 1 9 .\nD p 7 .\n"},
    {offsetof(struct verdict, early),
     "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nw 1 .\nw 0 .\nH f 7 9 .\nS f 7 1 8 .\n"
     "D f 7 .\n"},
    {offsetof(struct verdict, phantom),
     "T p 4 0 .\nA p 7 .\nC p .\nk p .\nS p 7 1 5 .\nD p 7 .\n"},
    {offsetof(struct verdict, lost), "T p 4 0 .\nA p 7 .\nu p .\nS p 7 1 5 .\nD p 7 .\n"},
    {offsetof(struct verdict, stale),
     "T e 4 0 .\nY e 9 .\nA e 7 .\nS e 7 1 5010 .\nD e 7 .\n"},
    {offsetof(struct verdict, uncounted),
     "O 1 work .\nT f 4 0 .\nA f 7 .\nS f 7 1 5 .\nF f 7 .\nS f 7 1 6 .\nD f 7 .\n"},
    {offsetof(struct verdict, effects),
     "T t1.1.1 tx 0 .\nS t1.1.1 7 1 5 .\nZ t1.1.1 7 .\n"},
    {offsetof(struct verdict, effects),
     "T t1.1.1 tx 0 .\nA t1.1.1 7 .\nc t1.1.1 .\nG t1.1.1 .\nG t1.1.1 .\n"},
    {offsetof(struct verdict, effects),
     "T t1.1.1 tx 0 .\nA t1.1.1 7 .\nS t1.1.1 7 1 5 .\nc t1.1.1 .\nG t1.1.1 .\n"
     "X t1.1.1 7 Mixed .\n"},
    {offsetof(struct verdict, two_keys),
     "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 0 .\nA l 8 7 .\n"},
    {offsetof(struct verdict, two_keys),
     "T k 4 0 .\nQ k d1 d 0 5 0 .\nA k 7 5 .\nS k 7 1 5 .\nK k 7 .\nT l 4 0 .\n"
     "Q l d1 d 0 6 0 .\nA l 8 7 .\n"},
    {offsetof(struct verdict, two_keys), "T k 4 0 .\nQ k p1 p 10 5 0 .\nA k 7 5 .\nT l 4 "
                                         "0 .\nQ l p1 p 10 9 0 .\nA l 8 9 .\n"},
    /* ran while another had its key: that one is not the one it names, */
    {offsetof(struct verdict, two_keys),
     "T k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nS l 8 1 7 .\n"
     "D l 8 .\nA l 8 6 .\nS k 7 1 8 .\nD k 7 .\n"},
    {offsetof(struct verdict, two_keys),
     "T j 4 0 .\nA j 6 .\nT k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\n"
     "Q l u1 u 0 6 1 .\nS l 8 1 7 .\nD l 8 .\nR l 6 .\nA l 8 6 .\nh 6 6 .\nS k 7 1 8 .\n"
     "D k 7 .\n"},
    /* ... or it runs again, whoever was killed meanwhile */
    {offsetof(struct verdict, two_keys),
     "O 1 work .\nT k 4 0 .\nQ k u1 u 0 5 0 .\nA k 7 5 .\nT l 4 0 .\nQ l u1 u 0 6 1 .\n"
     "S l 8 1 7 .\nD l 8 .\nO 2 work .\nS k 7 1 8 .\nD k 7 .\n"},
    {offsetof(struct verdict, cursors),
     "T w 4 0 .\nA w 7 .\nS w 7 1 5 .\nI w 0 .\nJ w 0 .\nL w 1 .\nF w 7 .\nS w 7 2 6 .\n"
     "I w 0 .\n"},
    {offsetof(struct verdict, cursors), "T w 4 0 .\nA w 7 .\nS w 7 1 5 .\nI w 1 .\n"},
    {offsetof(struct verdict, wrongly_dead), "T p 4 0 .\nA p 7 .\nX p 7 expired .\n"},
    {offsetof(struct verdict, wrongly_dead), "T p 4 0 .\nA p 7 .\nX p 7 cancelled .\n"},
    {offsetof(struct verdict, wrongly_dead), "T p 4 0 .\nA p 7 .\nX p 7 crash .\n"},
    {offsetof(struct verdict, wrongly_dead),
     "O 1 work .\nT p 4 0 .\nA p 7 .\nS p 7 1 5 .\nO 2 work .\nX p 7 crash .\n"},
    /* the one that was interrupted had died before this one came */
    {offsetof(struct verdict, two_keys),
     "O 1 work .\nT l 4 0 .\nQ l u1 u 0 6 1 .\nO 2 work .\nT k 4 0 .\nQ k u1 u 0 6 0 .\n"
     "A k 7 6 .\nS l 8 1 7 .\nD l 8 .\nS k 7 1 8 .\nD k 7 .\n"},
    {offsetof(struct verdict, wrongly_dead), "T p 4 0 .\nA p 7 .\nX p 7 Mixed .\n"},
    {offsetof(struct verdict, orphans),
     "T t1.1.1 tx 0 .\nA t1.1.1 7 .\nS t1.1.1 7 1 5 .\nZ t1.1.1 7 .\nc t1.1.1 .\n"
     "G t1.1.1 .\n"},
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
