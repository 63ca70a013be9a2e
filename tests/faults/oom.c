/* oom.c - the service and the ledger of the test of lacking memory.  Called on the test's thread,
 * but oom_say and its kin on that of the scene, and oom_handle by workers.  Takes no memory
 * itself. */
#include "oom.h"

#include <bgmq_sqlite.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

long (*oom_refused)(void);
const char *oom_where = "";

/* ---- the ledger -------------------------------------------------------------------- */

int oom_say_at(struct oom_world *w, int result, const char *call)
{
    if (result >= 0)
        return result;
    if (w->failures++ == 0) {
        w->first = result;
        w->who = call;
    }
    return result;
}

int oom_number(struct oom_world *w, char text[16])
{
    ck_assert_int_lt(w->numbers, OOM_NUMBERS);
    snprintf(text, 16, "%d", w->numbers);
    return w->numbers++;
}

void oom_published(struct oom_world *w, int number, int err, uint64_t id)
{
    struct oom_note *n = &w->notes[number];
    n->fate = err == 0                 ? OOM_ACCEPTED
              : err == BGMQ_EUNCERTAIN ? OOM_UNCERTAIN
                                       : OOM_REFUSED;
    n->id = id;
}

void oom_put(struct oom_world *w, const struct bgmq_message_options *options)
{
    int err = BGMQ_EBUSY;
    struct bgmq_receipt receipt = {.id = 0};
    for (int64_t deadline = harness_deadline(); err;) {
        char text[16];
        int number = oom_number(w, text);
        err = bgmq_publish(w->mq, "T", text, strlen(text), options, &receipt);
        oom_published(w, number, err, receipt.id);
        ck_assert_msg(!err || err == BGMQ_EBUSY, "put: %s", bgmq_errname(err));
        ck_assert_int_lt(harness_now(), deadline);
    }
    if (w->n_put < OOM_PUT)
        w->put[w->n_put++] = receipt.id;
}

static int number_of(struct bgmq_job *job)
{
    size_t len;
    const char *body = bgmq_job_body(job, &len);
    int number = atoi(body);
    ck_assert_int_ge(number, 0);
    ck_assert_int_lt(number, OOM_NUMBERS);
    return number;
}

/* Whatever fails is tried again with the message.  Six of seven numbers end at once, one after two
 * failures; one is given up until the world forgives. */
static int do_all(struct oom_world *w, struct bgmq_job *job, int number, int starts)
{
    static const char *const meta[] = {"k", "v", NULL};
    struct bgmq_message_options more = {.tag = "answer", .meta = meta};
    struct json_t *json;
    int parsed;
    if (bgmq_job_json(job, &json) < 0 || bgmq_job_unpack(job, "i", &parsed) < 0 ||
        bgmq_job_progress(job, number, "going") < 0 ||
        bgmq_job_save_cursor(job, "cursor", 6, BGMQ_DEFAULT) < 0 ||
        bgmq_job_result(job, "result", 6) < 0 ||
        bgmq_job_respond(job, "Answer", "a", 1) < 0 ||
        bgmq_job_reply_options(job, &more) < 0 ||
        bgmq_job_respond_json(job, "Answer", "{s:i}", "n", number) < 0)
        return BGMQ_RETRY;
    ck_assert_int_eq(parsed, number);
    if (number % 7 == 3 && starts < 3)
        return bgmq_job_fail(job, BGMQ_RETRY, "Again", "the %d. time", starts);
    if (number % 7 == 5 && !atomic_load(&w->forgiving))
        return bgmq_job_fail(job, BGMQ_PERMANENT, "Never", "it is %d", number);
    return BGMQ_DONE;
}

int oom_handle(struct bgmq_job *job, void *ctx)
{
    struct oom_world *w = ctx;
    int number = number_of(job);
    int starts = atomic_fetch_add(&w->notes[number].starts, 1) + 1;
    int verdict = do_all(w, job, number, starts);
    if (verdict == BGMQ_DONE) {
        atomic_fetch_add(&w->notes[number].ends, 1);
    }
    return verdict;
}

/* ---- the world --------------------------------------------------------------------- */

void oom_begin(struct oom_world *w, int durable, int hasty)
{
    memset(w, 0, sizeof(*w));
    w->path = harness_path("oom.db");
    w->durable = durable;
    w->hasty = w->short_of_time = hasty;
    harness_log_init(&w->log);
}

struct bgmq_options oom_options(struct oom_world *w)
{
    static const char *const responses[] = {"Answer", NULL};
    return (struct bgmq_options){
        .database = w->durable ? w->path : NULL,
        .share_database = w->durable,
        .publish_timeout_ms = w->short_of_time ? 30 : 20000,
        .response_types = responses,
        .guests = w->durable,
        .history_keep = 1000,
        .log = harness_log_keep,
        .log_ctx = &w->log,
    };
}

static void open_service(struct oom_world *w)
{
    struct bgmq_options options = oom_options(w);
    struct bgmq_error error = {""};
    int err = bgmq_open(&w->mq, &options, &error);
    ck_assert_msg(err == 0, "open: %s %s", bgmq_errname(err), error.text);
}

static void register_type(struct oom_world *w)
{
    struct bgmq_type_options options = {.threads = 2,
                                        .max_attempts = 1000,
                                        .backoff = BGMQ_BACKOFF_FIXED,
                                        .backoff_base_ms = 1,
                                        .history = BGMQ_HISTORY_ALL,
                                        .history_body = 1};
    int err = bgmq_register(w->mq, "T", oom_handle, w, &options);
    ck_assert_msg(err == 0 || err == BGMQ_EEXIST, "register: %s", bgmq_errname(err));
}

void oom_open(struct oom_world *w)
{
    open_service(w);
    register_type(w);
}

/* 1 when all that was accepted has ended. */
static int all_ended(struct oom_world *w)
{
    for (int i = 0; i < w->numbers; i++)
        if (w->notes[i].fate == OOM_ACCEPTED && !atomic_load(&w->notes[i].ends))
            return 0;
    return 1;
}

int oom_store_failed(struct oom_world *w)
{
    struct bgmq_counters c;
    ck_assert_int_eq(bgmq_service_counters(w->mq, &c), 0);
    return c.store_state == 3;
}

int oom_waited(struct oom_world *w)
{
    return all_ended(w) || oom_store_failed(w) || (w->hasty && oom_refused() >= 3);
}

static void close_service(struct oom_world *w)
{
    int err = bgmq_close(w->mq);
    ck_assert_msg(err == 0 || err == BGMQ_ESTORE, "close: %s", bgmq_errname(err));
    bgmq_free(w->mq);
    w->mq = NULL;
}

/* 1 when nothing waits or runs; the dead get a new life, and who is delayed may run. */
static int is_calm(struct oom_world *w)
{
    struct bgmq_collection c;
    bgmq_retry_dead(w->mq, "T", 0);
    for (int i = 0; i < w->numbers; i++)
        if (w->notes[i].fate == OOM_ACCEPTED && !atomic_load(&w->notes[i].ends))
            bgmq_change(w->mq, "T", w->notes[i].id, &(struct bgmq_change){.set_time = 1});
    ck_assert_int_eq(bgmq_type_collection(w->mq, "T", &c), 0);
    return all_ended(w) && c.inq + c.priorityq + c.delayed + c.running + c.dlq == 0;
}

static void judge(struct oom_world *w, int again)
{
    static const char *const fates[] = {"none", "refused", "uncertain", "accepted",
                                        "gone"};
    for (int i = 0; i < w->numbers; i++) {
        struct oom_note *n = &w->notes[i];
        int starts = atomic_load(&n->starts), ends = atomic_load(&n->ends);
        int good = n->fate == OOM_REFUSED     ? starts == 0
                   : n->fate == OOM_ACCEPTED  ? ends == 1 || (again && ends > 1)
                   : n->fate == OOM_UNCERTAIN ? ends <= 1 || again
                                              : 1;
        ck_assert_msg(good, "%s: number %d, %s: %d starts, %d ends%s", oom_where, i,
                      fates[n->fate], starts, ends,
                      again ? ", the store was opened anew" : "");
    }
}

void oom_settle(struct oom_world *w)
{
    int again = 0;
    atomic_store(&w->forgiving, 1);
    if (w->mq && oom_store_failed(w)) {
        close_service(w);
        again = 1;
    }
    if (!w->mq)
        open_service(w);
    register_type(w);
    ck_assert_int_eq(bgmq_start(w->mq), 0);
    int64_t deadline = harness_deadline();
    while (!is_calm(w) && harness_now() < deadline)
        harness_pause(deadline + 1000000000, "calm", __FILE__, __LINE__);
    judge(w, again);
    ck_assert_msg(is_calm(w), "%s: not calm in time", oom_where);
    ck_assert(!oom_store_failed(w));
}

void oom_end(struct oom_world *w)
{
    static const char *const files[] = {"oom.db",        "oom.db-wal",  "oom.db-shm",
                                        "oom.db-flight", "oom.db-lock", "oom.db-bell"};
    bgmq_http_stop(w->http);
    bgmq_guest_close(w->guest);
    if (w->mq)
        close_service(w);
    ck_assert_int_eq(sqlite3_close(w->db), SQLITE_OK);
    harness_log_fini(&w->log);
    for (size_t i = 0; w->durable && i < sizeof(files) / sizeof(files[0]); i++)
        unlink(harness_path(files[i]));
}
