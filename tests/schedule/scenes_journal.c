/* scenes_journal.c - publishers and the writer of the journal, on a store that keeps a record
 * (tests/unit/fake_store.h).
 *
 * A result of 0 means that it stands in the record, and an error but EUNCERTAIN that it does not,
 * and never will. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_store.h"
#include "scenes.h"

#define MS INT64_C(1000000)

static struct rig rig;
static int results[64]; /* by id; of those that nobody waits for: 1 */

/* N stands in the record as a word. */
static bool recorded(unsigned n)
{
    char word[16];
    size_t len = (size_t)snprintf(word, sizeof(word), "%u", n);
    for (const char *at = rig.store.text; (at = strstr(at, word)) != NULL; at += len)
        if (strchr("[ ", at[-1]) && strchr("] ", at[len]))
            return true;
    return false;
}

static void begin(unsigned interval_ms)
{
    rig_open(&rig, interval_ms, 1000);
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
        results[i] = 1;
}

/* At the end, when nobody writes any more. */
static void judge(void)
{
    for (unsigned i = 1; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i] == 1 || results[i] == BGMQ_EUNCERTAIN)
            continue;
        if ((results[i] == 0) != recorded(i))
            schedule_fault("%u ended with %s, and the record is %s", i,
                           bgmq_errname(results[i]), rig.store.text);
    }
}

static int publish(unsigned id, int64_t ns)
{
    struct ticket *t = rig_publish(&rig, id, 1);
    results[id] = bgmqi_ticket_wait(t, ns);
    if (results[id] == 0) {
        uint64_t seen;
        HOLDS(bgmqi_ticket_result(t, 0, &seen) == 0 && seen == id);
        HOLDS(recorded(id)); /* before the publisher knows, not after */
    }
    bgmqi_ticket_release(t);
    return results[id];
}

/* Three, one after the other. */
static void *publish_three(void *arg)
{
    for (unsigned i = 0; i < 3; i++)
        publish(1 + 10 * NUMBER_OF(arg) + i, 100000 * MS);
    return NULL;
}

static void tickets_and_commits(void)
{
    begin(NEVER_MS);
    schedule_from_here();
    scene_three(publish_three);
    judge();
    HOLDS(results[11] == 0 && results[33] == 0);
    rig_close(&rig);
}

/* S15. the store fails: nobody is told that it is safe, and nobody waits for ever */
static void tickets_and_a_store_that_dies(void)
{
    begin(NEVER_MS);
    schedule_from_here();
    pthread_t a = scene_thread(publish_three, NUMBER(1)),
              b = scene_thread(publish_three, NUMBER(2));
    fake_fail(&rig.store, STORE_FAIL_DEAD, -1);
    scene_join(a);
    scene_join(b);
    int err = publish(40, 100000 * MS);
    HOLDS(err == BGMQ_ESTORE || err == BGMQ_EUNCERTAIN);
    judge();
    rig_close(&rig);
}

/* One group cannot be written, and harms no other. */
static void tickets_and_a_change_that_is_refused(void)
{
    begin(NEVER_MS);
    fake_blame(&rig.store, 12);
    schedule_from_here();
    scene_three(publish_three);
    judge();
    HOLDS(results[12] == BGMQ_ESTORE && results[11] == 0 && results[13] == 0);
    HOLDS(results[22] == 0 && results[32] == 0);
    rig_close(&rig);
}

static void *publish_hastily(void *arg)
{
    for (unsigned i = 0; i < 2; i++) {
        int err = publish(1 + 10 * NUMBER_OF(arg) + i, 2 * MS);
        HOLDS(err == 0 || err == BGMQ_ETIMEOUT || err == BGMQ_EUNCERTAIN);
    }
    return NULL;
}

/* S17. others write for a while: who has no patience takes his change back, and then it never is */
static void tickets_that_are_taken_back(void)
{
    begin(NEVER_MS);
    fake_fail(&rig.store, STORE_FAIL_BUSY, 2);
    schedule_from_here();
    scene_three(publish_hastily);
    HOLDS(bgmqi_journal_flush(rig.journal, 100000 * MS) == 0);
    judge();
    rig_close(&rig);
}

static void tickets_and_the_end_of_the_journal(void)
{
    begin(NEVER_MS);
    schedule_from_here();
    pthread_t a = scene_thread(publish_three, NUMBER(1)),
              b = scene_thread(publish_three, NUMBER(2));
    bgmqi_journal_end(rig.journal);
    scene_join(a);
    scene_join(b);
    judge();
    HOLDS(results[13] == 0 || results[13] == BGMQ_ECLOSED);
    rig_close(&rig);
}

static long ran;

static void run_once(void *ctx, struct store *s)
{
    (void)s;
    HOLDS(recorded(NUMBER_OF(ctx)));
    add(&ran);
}

static void *add_and_run(void *arg)
{
    unsigned n = 1 + 10 * NUMBER_OF(arg);
    rig_add(&rig, n, BGMQ_BEHIND);
    int err = bgmqi_journal_run(rig.journal, run_once, NUMBER(n), 100000 * MS);
    HOLDS(err == 0 || err == BGMQ_ECLOSED);
    results[n] = err == 0 ? 0 : 1;
    return NULL;
}

/* What is run finds what was added before, or does not run at all. */
static void tasks_and_the_end_of_the_journal(void)
{
    ran = 0;
    begin(NEVER_MS);
    schedule_from_here();
    pthread_t a = scene_thread(add_and_run, NUMBER(1)),
              b = scene_thread(add_and_run, NUMBER(2));
    add_and_run(NUMBER(3));
    bgmqi_journal_end(rig.journal);
    scene_join(a);
    scene_join(b);
    judge();
    HOLDS(ran == (results[11] == 0) + (results[21] == 0) + (results[31] == 0));
    rig_close(&rig);
}

static struct message *lent[4];
static bool back[4];

static void *take_back(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 4; i++)
        back[i] = bgmqi_journal_take_back(lent[i]);
    return NULL;
}

/* What ends before it was written never is; what was being written stays. */
static void inserts_that_are_taken_back(void)
{
    begin(NEVER_MS);
    for (unsigned i = 0; i < 4; i++)
        lent[i] = rig_message(i + 1);
    schedule_from_here();
    rig_add_message(&rig, lent[0]);
    rig_add_message(&rig, lent[1]);
    pthread_t a = scene_thread(take_back, NULL);
    publish(10, 100000 * MS);
    rig_add_message(&rig, lent[2]);
    rig_add_message(&rig, lent[3]);
    HOLDS(bgmqi_journal_flush(rig.journal, 100000 * MS) == 0);
    scene_join(a);
    bgmqi_journal_end(rig.journal);
    for (unsigned i = 0; i < 4; i++) {
        HOLDS(recorded(i + 1) == !back[i]);
        bgmqi_message_unref(lent[i]);
    }
    judge();
    rig_close(&rig);
}

static void *ask_for_loads(void *arg)
{
    struct journal_load *l = arg;
    for (int i = 0; i < 2; i++) {
        bgmqi_journal_ask_load(rig.journal, l);
        schedule_point();
    }
    return NULL;
}

static void nothing(void *ctx, struct store *s)
{
    (void)ctx;
    (void)s;
}

/* A load that is asked for comes, also when the writer is about to sleep. */
static void loads_that_are_asked_for(void)
{
    static char names[] = "a\0b";
    struct journal_load a = {.owner = names}, b = {.owner = names + 2};
    begin(NEVER_MS);
    schedule_from_here();
    pthread_t t = scene_thread(ask_for_loads, &a), u = scene_thread(ask_for_loads, &b);
    scene_join(t);
    scene_join(u);
    OK(bgmqi_journal_run(rig.journal, nothing, NULL, 100000 * MS)); /* behind them */
    HOLDS(strstr(rig.store.text, "(a)") && strstr(rig.store.text, "(b)"));
    rig_close(&rig);
}

const struct scene scenes_journal[] = {
    {SCENE(tickets_and_commits)},
    {SCENE(tickets_and_a_store_that_dies)},
    {SCENE(tickets_and_a_change_that_is_refused)},
    {SCENE(tickets_that_are_taken_back), .may_take_ms = 60, .hasty = true},
    {SCENE(tickets_and_the_end_of_the_journal)},
    {SCENE(tasks_and_the_end_of_the_journal)},
    {SCENE(inserts_that_are_taken_back)},
    {SCENE(loads_that_are_asked_for)},
    {.name = NULL},
};
